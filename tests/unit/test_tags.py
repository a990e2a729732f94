"""Every resource that can be tagged says which phase owns it; the provider says the rest."""

import importlib
import inspect
import json
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from infra.naming import Names
from infra.phases import HIGHEST_BUILT, Phase
from tests.unit.graph import AWS_PROVIDER, Node, fullest, platform

PHASE_OF_TOP = {
    "pyairtable:cost_foundation:CostFoundation": Phase.COST_FOUNDATION,
    "pyairtable:compute:Compute": Phase.COMPUTE,
    "pyairtable:secrets:ManagedSecrets": Phase.SECRETS,
}
OWN_TAGS = {"Name", "Phase", "PublicAddress"}
"""Tags that a resource may have of its own: what its console shows it as, its phase, and what the estimate reads."""


def resource_class(type_: str) -> type[Any]:
    """The class of the AWS SDK for a type such as `aws:lambda/function:Function`."""
    _, module, name = type_.split(":")
    package = module.partition("/")[0]
    return getattr(importlib.import_module(f"pulumi_aws.{'lambda_' if package == 'lambda' else package}"), name)


def is_taggable(node: Node) -> bool:
    return "tags" in inspect.signature(resource_class(node.type)._internal_init).parameters


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_taggable_resource_carries_the_phase_that_owns_it(stack: str) -> None:
    graph = fullest(stack)
    taggable = [node for node in graph.aws if is_taggable(node)]
    owners = {node.name: str(PHASE_OF_TOP[graph.top_of(node).type].value) for node in taggable}
    assert {node.name: node.inputs.get("tags", {}).get("Phase") for node in taggable} == owners


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_no_resource_says_again_what_the_provider_says(stack: str) -> None:
    graph = fullest(stack)
    assert set().union(*(node.inputs.get("tags", {}).keys() for node in graph.aws)) <= OWN_TAGS


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_what_a_console_shows_begins_with_the_stacks_prefix(stack: str) -> None:
    names = [tags["Name"] for node in platform(stack).aws if "Name" in (tags := node.inputs.get("tags", {}))]
    assert names
    assert [name for name in names if not name.startswith(f"pyairtable-{stack}")] == []


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_cluster_itself_is_told_all_tags(stack: str) -> None:
    graph = fullest(stack)
    defaults = json.loads(graph.only(AWS_PROVIDER).inputs["defaultTags"])["tags"]
    assert graph.only("eks:index:Cluster").inputs["tags"] == {**defaults, "Phase": "2"}


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_instances_and_their_disks_get_all_tags_from_the_launch_template(stack: str) -> None:
    graph = fullest(stack)
    defaults = json.loads(graph.only(AWS_PROVIDER).inputs["defaultTags"])["tags"]
    for template in graph.of_type("aws:ec2/launchTemplate:LaunchTemplate"):
        tags = {**defaults, "Phase": "2", "Name": template.inputs["name"]}
        assert {entry["resourceType"]: entry["tags"] for entry in template.inputs["tagSpecifications"]} == {
            "instance": tags,
            "volume": tags,
        }


def test_most_types_of_the_program_are_taggable() -> None:
    graph = fullest("prod")
    assert {node.type.rpartition(":")[2] for node in graph.aws if is_taggable(node)} >= {
        "AnomalyMonitor",
        "AnomalySubscription",
        "Budget",
        "EventRule",
        "Function",
        "Key",
        "LogGroup",
        "MetricAlarm",
        "Repository",
        "Role",
        "Secret",
        "Topic",
    }


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase <= HIGHEST_BUILT])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_provider_tags_everything_with_project_stack_environment_manager_and_cost_center(
    environment: str, phase: Phase
) -> None:
    provider = fullest(environment, phase).only(AWS_PROVIDER)
    assert json.loads(provider.inputs["defaultTags"]) == {
        "tags": {
            "Project": "pyairtable",
            "Stack": f"alice-{environment}",
            "Environment": environment,
            "ManagedBy": "pulumi",
            "CostCenter": "research",
        }
    }


def test_the_cost_center_is_the_platforms_unless_set() -> None:
    tags = json.loads(platform("dev", phase=0).only(AWS_PROVIDER).inputs["defaultTags"])["tags"]
    assert tags["CostCenter"] == "platform"


def test_names_begin_with_project_and_stack() -> None:
    names = Names(stack="alice-dev", environment="dev", cost_center="platform")
    assert names.of("cost-alerts") == "pyairtable-alice-dev-cost-alerts"
