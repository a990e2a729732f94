"""Properties and AWS's structures: names, tags, numbers in text; and values at depth."""

from typing import Any

import botocore.session
import pytest
from pulumi.runtime.rpc import UNKNOWN

from sandbox.providers.aws.client import SURROGATES, constraint_problems
from sandbox.providers.aws.paths import at, drop, merged, told
from sandbox.providers.aws.spelling import to_properties, to_request
from sandbox.providers.aws.table import SERVICES
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import is_unknown

TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"


def shape(service: str, operation: str) -> Any:
    """The input shape of an operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape


def test_names_are_matched_whatever_their_case() -> None:
    asked = {"nodegroupname": "n", "clusterName": "c", "nodeRole": "r", "subnets": ["s"], "nodeGroupName": None}
    assert to_request(shape("eks", "CreateNodegroup"), asked, "create") == {
        "nodegroupName": "n",
        "clusterName": "c",
        "nodeRole": "r",
        "subnets": ["s"],
    }


def test_what_reads_the_same_in_text_is_translated_to_what_aws_takes_and_back() -> None:
    properties = {
        "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"encrypted": "true", "volumeSize": 20}}],
        "tagSpecifications": [{"resourceType": "volume", "tags": {"Name": "n"}}],
    }
    data = {
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeSize": 20}}],
        "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "n"}]}],
    }
    request = to_request(shape("ec2", "CreateLaunchTemplate"), {"launchTemplateData": properties}, "create")
    assert request == {"LaunchTemplateData": data}
    assert to_properties(TEMPLATE, data) == properties


def test_a_name_that_aws_does_not_have_is_refused_with_its_path() -> None:
    with pytest.raises(ProviderError, match=r"create\.resourcesVpcConfig of AWS has no subnets"):
        to_request(shape("eks", "CreateCluster"), {"resourcesVpcConfig": {"subnets": []}}, "create")


def test_unknown_values_stay_unknown_at_any_depth() -> None:
    asked = {"scalingConfig": {"minSize": UNKNOWN}, "subnets": UNKNOWN, "labels": {"a": UNKNOWN}}
    assert is_unknown(to_request(shape("eks", "CreateNodegroup"), asked, "create"))


def test_what_has_another_form_in_the_sdk_is_left_to_the_handler() -> None:
    cluster = {"encryptionConfig": [{"resources": ["secrets"]}], "version": "1.36"}
    assert to_properties("aws:eks/cluster:Cluster", cluster) == {"version": "1.36"}


def test_every_pattern_of_the_services_in_use_can_be_read() -> None:
    session = botocore.session.get_session()
    for service in SERVICES:
        model: Any = session.get_service_model(service)
        for name in model.shape_names:
            found = model.shape_for(name)
            if found.metadata.get("pattern"):
                list(constraint_problems("x", found, name))
    assert (
        SURROGATES[0] in shape("autoscaling", "PutScheduledUpdateGroupAction").members["Recurrence"].metadata["pattern"]
    )


def test_values_at_depth_are_read_and_removed_by_their_path() -> None:
    properties: dict[str, Any] = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert (at(properties, "a.b"), at(properties, "a.x"), at(properties, "d.x")) == (1, None, None)
    drop(properties, "a.b")
    drop(properties, "x.y")
    assert properties == {"a": {"c": 2}, "d": [1]}


def test_defaults_fill_what_is_missing_and_go_without_saying() -> None:
    defaults = {"a": {"b": True, "c": 1}, "d": "x"}
    assert merged(defaults, {"a": {"c": 2}}) == {"a": {"b": True, "c": 2}, "d": "x"}
    assert told({"a": {"b": True, "c": 2}, "d": "x", "e": []}, {}, defaults) == {"a": {"c": 2}}
    assert told({"a": {"b": True, "c": 2}, "d": "x"}, {"a": {"b": True}, "d": "x"}, defaults) == {
        "a": {"b": True, "c": 2},
        "d": "x",
    }
    assert told({"list": [{"a": "", "b": 1}]}, {"list": [{"a": ""}]}, {}) == {"list": [{"a": "", "b": 1}]}
