"""Every resource that can be tagged says which phase owns it; the provider says the rest."""

import importlib
import inspect
import json
from typing import Any

import pytest

from infra.naming import Names
from infra.phases import HIGHEST_BUILT, Phase
from infra.settings import ENVIRONMENTS
from tests.unit.graph import AWS_PROVIDER, Node, platform

PHASE_OF_TOP = {"pyairtable:cost_foundation:CostFoundation": Phase.COST_FOUNDATION}


def resource_class(type_: str) -> type[Any]:
    """The class of the AWS SDK for a type such as `aws:lambda/function:Function`."""
    _, module, name = type_.split(":")
    package = module.partition("/")[0]
    return getattr(importlib.import_module(f"pulumi_aws.{'lambda_' if package == 'lambda' else package}"), name)


def is_taggable(node: Node) -> bool:
    return "tags" in inspect.signature(resource_class(node.type)._internal_init).parameters


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_taggable_resource_carries_the_phase_that_owns_it_and_nothing_else(stack: str) -> None:
    graph = platform(stack, registry={"mirror": "ecr"})
    taggable = [node for node in graph.aws if is_taggable(node)]
    owners = {node.name: {"Phase": str(PHASE_OF_TOP[graph.top_of(node).type].value)} for node in taggable}
    assert {node.name: node.inputs.get("tags") for node in taggable} == owners


def test_most_types_of_the_program_are_taggable() -> None:
    graph = platform("prod", registry={"mirror": "ecr"})
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
        "Topic",
    }


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase <= HIGHEST_BUILT])
@pytest.mark.parametrize(
    ("stack", "environment"), [("dev", "dev"), ("staging", "staging"), ("prod", "prod"), ("alice-dev", "dev")]
)
def test_the_provider_tags_everything_with_project_stack_environment_manager_and_cost_center(
    stack: str, environment: str, phase: Phase
) -> None:
    provider = platform(stack, phase=int(phase), costCenter="research").only(AWS_PROVIDER)
    assert json.loads(provider.inputs["defaultTags"]) == {
        "tags": {
            "Project": "pyairtable",
            "Stack": stack,
            "Environment": environment,
            "ManagedBy": "pulumi",
            "CostCenter": "research",
        }
    }


def test_the_cost_center_is_the_platforms_unless_set() -> None:
    tags = json.loads(platform("dev").only(AWS_PROVIDER).inputs["defaultTags"])["tags"]
    assert tags["CostCenter"] == "platform"


def test_names_begin_with_project_and_stack() -> None:
    names = Names(stack="alice-dev", environment="dev", cost_center="platform")
    assert names.of("cost-alerts") == "pyairtable-alice-dev-cost-alerts"
