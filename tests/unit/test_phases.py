"""Every environment at every phase that is built has what the phases say, in the right places, and nothing else."""

import json
import re
import runpy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from infra.phases import HIGHEST_BUILT, OUTPUTS, Phase
from infra.settings import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, AWS_PROVIDER, ROOT, Graph, as_engine_passes, config, platform, run

BUILT = [phase for phase in Phase if phase <= HIGHEST_BUILT]
EVERYWHERE = [(stack, phase) for stack in ENVIRONMENTS for phase in BUILT]

every_environment_and_phase = pytest.mark.parametrize(
    ("stack", "phase"), EVERYWHERE, ids=[f"{stack}-phase-{phase:d}" for stack, phase in EVERYWHERE]
)
every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)

TOP_OF_PHASE = {Phase.COST_FOUNDATION: {"pyairtable:cost_foundation:CostFoundation"}}
"""The components of each phase that stand directly below the stack."""

COST_FOUNDATION = {
    "cost-foundation": "pyairtable:cost_foundation:CostFoundation",
    "cost-foundation-alerts": "pyairtable:cost_foundation:AlertTopic",
    "cost-foundation-alerts-topic": "aws:sns/topic:Topic",
    "cost-foundation-alerts-policy": "aws:sns/topicPolicy:TopicPolicy",
    "cost-foundation-alerts-ada@pyairtable.example": "aws:sns/topicSubscription:TopicSubscription",
    "cost-foundation-alerts-grace@pyairtable.example": "aws:sns/topicSubscription:TopicSubscription",
    "cost-foundation-monitoring": "pyairtable:cost_foundation:CostMonitoring",
    "cost-foundation-monitoring-budget": "aws:budgets/budget:Budget",
    "cost-foundation-monitoring-anomalies": "aws:costexplorer/anomalyMonitor:AnomalyMonitor",
    "cost-foundation-monitoring-anomaly-alerts": "aws:costexplorer/anomalySubscription:AnomalySubscription",
    "cost-foundation-monitoring-account-charges": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "cost-foundation-spend-report": "pyairtable:cost_foundation:SpendReport",
    "cost-foundation-spend-report-logs": "aws:cloudwatch/logGroup:LogGroup",
    "cost-foundation-spend-report-role": "aws:iam/role:Role",
    "cost-foundation-spend-report-policy": "aws:iam/rolePolicy:RolePolicy",
    "cost-foundation-spend-report-function": "aws:lambda/function:Function",
    "cost-foundation-spend-report-schedule": "aws:cloudwatch/eventRule:EventRule",
    "cost-foundation-spend-report-permission": "aws:lambda/permission:Permission",
    "cost-foundation-spend-report-target": "aws:cloudwatch/eventTarget:EventTarget",
    "cost-foundation-spend-report-failed": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "cost-foundation-dashboard": "pyairtable:cost_foundation:CostDashboard",
    "cost-foundation-dashboard-dashboard": "aws:cloudwatch/dashboard:Dashboard",
    "cost-foundation-registry": "pyairtable:cost_foundation:ImageRegistry",
}
OWN_KEY = {
    "cost-foundation-alerts-key": "aws:kms/key:Key",
    "cost-foundation-alerts-key-alias": "aws:kms/alias:Alias",
}


def types_by_name(graph: Graph) -> dict[str, str]:
    return {node.name: node.type for node in graph.nodes}


@every_environment
def test_phase_0_makes_only_the_provider(stack: str) -> None:
    assert types_by_name(platform(stack, phase=0)) == {"aws": AWS_PROVIDER}


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_phase_1_makes_the_cost_foundation(stack: str) -> None:
    assert types_by_name(platform(stack, phase=1)) == {"aws": AWS_PROVIDER} | COST_FOUNDATION


def test_phase_1_in_prod_also_makes_a_key_for_the_alerts() -> None:
    assert types_by_name(platform("prod", phase=1)) == {"aws": AWS_PROVIDER} | COST_FOUNDATION | OWN_KEY


@every_environment_and_phase
def test_every_output_is_exported_and_is_null_exactly_below_its_phase(stack: str, phase: Phase) -> None:
    outputs = platform(stack, phase=int(phase)).outputs
    assert {name: value is None for name, value in outputs.items()} == {
        name: first > phase for name, first in OUTPUTS.items()
    }


@every_environment_and_phase
def test_the_outputs_of_the_stack_itself_say_its_phase_and_account(stack: str, phase: Phase) -> None:
    outputs = platform(stack, phase=int(phase)).outputs
    assert (outputs["phase"], outputs["account_id"]) == (phase.value, ACCOUNT_ID)


@every_environment
def test_the_outputs_of_phase_1_are_those_of_its_resources(stack: str) -> None:
    graph = platform(stack, phase=1)
    assert graph.outputs["budget_name"] == f"pyairtable-{stack}-monthly-budget"
    assert graph.outputs["cost_alerts_topic_arn"] == graph.only("aws:sns/topic:Topic").outputs["arn"]
    assert graph.outputs["dashboard_name"] == f"pyairtable-{stack}-cost-optimization"


@every_environment_and_phase
def test_every_parent_chain_begins_at_a_component_of_a_phase_that_exists(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase))
    tops = {graph.top_of(node).type for node in graph.nodes}
    assert tops == {AWS_PROVIDER}.union(*(TOP_OF_PHASE[below] for below in TOP_OF_PHASE if below <= phase))


@every_environment_and_phase
def test_every_aws_resource_is_a_child_of_a_component(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase))
    components = {node.urn for node in graph.components}
    assert [node.name for node in graph.aws if node.parent not in components] == []


@every_environment_and_phase
def test_children_are_named_after_their_component(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase))
    below = [node for node in graph.nodes if graph.top_of(node) != node]
    assert [node.name for node in below if not node.name.startswith(f"{graph.at(node.parent).name}-")] == []


@every_environment_and_phase
def test_every_component_registers_its_outputs(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase))
    assert [node.name for node in graph.components if node.urn not in graph.finished] == []


@every_environment_and_phase
def test_every_aws_resource_uses_the_explicit_provider(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase), registry={"mirror": "ecr"})
    provider = graph.only(AWS_PROVIDER).urn
    assert {node.name: node.provider for node in graph.aws} == dict.fromkeys((n.name for n in graph.aws), provider)


@every_environment_and_phase
def test_no_logical_name_is_used_twice(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase), registry={"mirror": "ecr"})
    assert [name for name, times in Counter(node.name for node in graph.nodes).items() if times > 1] == []


@every_environment_and_phase
def test_no_name_on_aws_is_used_twice_for_a_type(stack: str, phase: Phase) -> None:
    graph = platform(stack, phase=int(phase), registry={"mirror": "ecr"})
    names = Counter((node.type, node.inputs["name"]) for node in graph.aws if "name" in node.inputs)
    assert [name for name, times in names.items() if times > 1] == []


@every_environment_and_phase
def test_every_name_on_aws_carries_the_stack(stack: str, phase: Phase) -> None:
    graph = platform(f"alice-{stack}", phase=int(phase), registry={"mirror": "ecr"})
    of_one_parent = {"aws:iam/rolePolicy:RolePolicy"}
    names = [node.inputs["name"] for node in graph.aws if "name" in node.inputs and node.type not in of_one_parent]
    assert [name for name in names if f"pyairtable-alice-{stack}" not in name] == []


@every_environment
def test_the_provider_is_bound_to_the_stacks_account_and_region(stack: str) -> None:
    provider = platform(stack, phase=0).only(AWS_PROVIDER)
    assert json.loads(provider.inputs["allowedAccountIds"]) == [ACCOUNT_ID]
    assert provider.inputs["region"] == "us-east-1"


@every_environment_and_phase
def test_a_move_between_phases_changes_nothing_of_what_both_have(stack: str, phase: Phase) -> None:
    after = {node.urn: node.inputs for node in platform(stack, phase=int(HIGHEST_BUILT)).nodes}
    before = {node.urn: node.inputs for node in platform(stack, phase=int(phase)).nodes}
    assert before == {urn: after[urn] for urn in before}


def inputs_without_the_stacks_name(stack: str) -> dict[str, Mapping[str, Any]]:
    """Inputs of AWS resources by logical name, with the stack's name replaced wherever it is a word of its own."""
    return {
        node.name: json.loads(re.sub(rf"\b{stack}\b", "STACK", json.dumps(node.inputs)))
        for node in platform(stack).nodes
    }


def differences(one: str, other: str) -> dict[str, set[str]]:
    """Which inputs of which resources differ between two stacks; all of them where only one has the resource."""
    left, right = inputs_without_the_stacks_name(one), inputs_without_the_stacks_name(other)
    found: dict[str, set[str]] = {}
    for name in left.keys() | right.keys():
        mine, yours = left.get(name, {}), right.get(name, {})
        changed = {key for key in mine.keys() | yours.keys() if mine.get(key) != yours.get(key)}
        if changed:
            found[name] = changed
    return found


def test_dev_and_staging_differ_only_in_the_budgets_limit() -> None:
    assert differences("dev", "staging") == {"cost-foundation-monitoring-budget": {"limitAmount"}}


def test_prod_differs_only_in_the_budgets_limit_and_in_the_key_of_its_topic() -> None:
    found = differences("dev", "prod")
    assert found.keys() - OWN_KEY.keys() == {"cost-foundation-monitoring-budget", "cost-foundation-alerts-topic"}
    assert found["cost-foundation-monitoring-budget"] == {"limitAmount"}
    assert found["cost-foundation-alerts-topic"] == {"kmsMasterKeyId"}


def test_a_personal_stack_of_prods_has_prods_key() -> None:
    assert OWN_KEY.items() <= types_by_name(platform("alice-prod")).items()


def test_the_entry_point_builds_the_platform_that_the_stacks_config_asks_for() -> None:
    graph = run(
        lambda: runpy.run_path(str(ROOT / "infra"), run_name="__main__"), "prod", as_engine_passes(config("prod"))
    )
    assert graph.text == platform("prod").text
    assert graph.outputs == platform("prod").outputs
