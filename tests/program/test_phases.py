"""A stack walks up and down its phases, and the emulator shows it."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra.phases import OUTPUTS, Phase
from tests.program.harness import Sandbox, Step

PHASE_1_TYPES = Counter(
    {
        "aws:budgets/budget:Budget": 1,
        "aws:cloudwatch/dashboard:Dashboard": 1,
        "aws:cloudwatch/eventRule:EventRule": 1,
        "aws:cloudwatch/eventTarget:EventTarget": 1,
        "aws:cloudwatch/logGroup:LogGroup": 1,
        "aws:cloudwatch/metricAlarm:MetricAlarm": 2,
        "aws:costexplorer/anomalyMonitor:AnomalyMonitor": 1,
        "aws:costexplorer/anomalySubscription:AnomalySubscription": 1,
        "aws:iam/role:Role": 1,
        "aws:iam/rolePolicy:RolePolicy": 1,
        "aws:lambda/function:Function": 1,
        "aws:lambda/permission:Permission": 1,
        "aws:sns/topic:Topic": 1,
        "aws:sns/topicPolicy:TopicPolicy": 1,
        "aws:sns/topicSubscription:TopicSubscription": 1,
    }
)


@pytest.fixture(scope="module")
def plan(sandbox: Sandbox) -> set[Step]:
    """What the preview of a new dev stack announces."""
    return sandbox.plan("--stack", "dev", "--phase", "1")


@pytest.fixture(scope="module")
def deployed(sandbox: Sandbox, plan: set[Step]) -> str:  # noqa: ARG001 — the preview comes before the up
    """What the up that follows the preview prints."""
    return sandbox.run("up", "--stack", "dev", "--phase", "1").stdout


def test_a_preview_changes_nothing(fresh_sandbox: Sandbox) -> None:
    assert fresh_sandbox.plan("--stack", "dev", "--phase", "1")
    assert not any(fresh_sandbox.inventory().values())


def test_the_up_does_what_the_preview_announced(sandbox: Sandbox, plan: set[Step], deployed: str) -> None:
    assert f"+ {len(plan)} created" in deployed
    states = json.loads((sandbox.state / "backend/.pulumi/stacks/pyairtable/dev.json").read_text())
    made = {(r["type"], r["urn"].rpartition("::")[2]) for r in states["checkpoint"]["latest"]["resources"]}
    assert {(step.type, step.name) for step in plan} == made
    assert {step.operation for step in plan} == {"create"}


def test_phase_1_makes_exactly_its_resources(plan: set[Step]) -> None:
    assert Counter(step.type for step in plan if step.type.startswith("aws:")) == PHASE_1_TYPES


def test_the_up_prints_outputs_and_estimate(deployed: str) -> None:
    assert re.search(r"budget_name +pyairtable-dev-monthly-budget\n", deployed)
    assert "of 98 USD" in deployed
    assert "phase 1: 0.62" in deployed


@pytest.mark.usefixtures("deployed")
class TestDeployed:
    """The dev stack at phase 1, as it stands after the up."""

    def test_outputs_are_those_of_the_phase(self, sandbox: Sandbox) -> None:
        outputs = sandbox.outputs()
        of_this_phase = {name for name, first in OUTPUTS.items() if first <= Phase.COST_FOUNDATION}
        assert outputs.keys() == OUTPUTS.keys()
        assert {name for name, value in outputs.items() if value is not None} == of_this_phase
        assert {name: value for name, value in outputs.items() if isinstance(value, str | int)} == {
            "account_id": "123456789012",
            "budget_name": "pyairtable-dev-monthly-budget",
            "cost_alerts_topic_arn": "arn:aws:sns:us-east-1:123456789012:pyairtable-dev-cost-alerts",
            "dashboard_name": "pyairtable-dev-cost-optimization",
            "phase": 1,
        }
        assert 0 < outputs["estimated_monthly_cost_usd"] <= 5

    def test_the_runbooks_validation_commands_work_as_written(self, sandbox: Sandbox) -> None:
        answer = sandbox.shell("""
aws budgets describe-budgets --account-id $(aws sts get-caller-identity --query Account --output text)
aws sns list-topics | grep cost-alerts
aws cloudwatch get-dashboard --dashboard-name pyairtable-dev-cost-optimization
""").stdout
        assert '"BudgetName": "pyairtable-dev-monthly-budget"' in answer
        assert '"Amount": "98"' in answer
        assert '"TopicArn": "arn:aws:sns:us-east-1:123456789012:pyairtable-dev-cost-alerts"' in answer
        assert "Spent, % of budget" in answer

    def test_the_budget_alerts_the_topic_at_each_threshold(self, sandbox: Sandbox) -> None:
        budgets = sandbox.aws("budgets")
        of_budget = {"AccountId": "123456789012", "BudgetName": "pyairtable-dev-monthly-budget"}
        alerts = budgets.describe_notifications_for_budget(**of_budget)["Notifications"]
        assert {(alert["NotificationType"], alert["Threshold"]) for alert in alerts} == {
            ("ACTUAL", 50),
            ("ACTUAL", 80),
            ("ACTUAL", 100),
            ("FORECASTED", 100),
        }
        for alert in alerts:
            alert.pop("NotificationState")
            subscribers = budgets.describe_subscribers_for_notification(**of_budget, Notification=alert)["Subscribers"]
            assert [s["Address"] for s in subscribers] == [sandbox.outputs()["cost_alerts_topic_arn"]]

    def test_resources_carry_the_default_tags_and_their_phase(self, sandbox: Sandbox) -> None:
        arn = sandbox.outputs()["cost_alerts_topic_arn"]
        tags = sandbox.aws("sns").list_tags_for_resource(ResourceArn=arn)["Tags"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {
            "Project": "pyairtable",
            "Stack": "dev",
            "Environment": "dev",
            "ManagedBy": "pulumi",
            "CostCenter": "platform",
            "Phase": "1",
        }

    def test_the_deployed_function_is_the_tested_code(self, sandbox: Sandbox) -> None:
        found = sandbox.aws("lambda").get_function(FunctionName="pyairtable-dev-spend-report")["Configuration"]
        assert found["Handler"] == "handler.handler"
        assert found["Environment"]["Variables"] == {"STACK": "dev", "BUDGET_NAME": "pyairtable-dev-monthly-budget"}

    def test_a_second_up_changes_nothing(self, sandbox: Sandbox) -> None:
        before = sandbox.inventory()
        assert sandbox.plan("--stack", "dev", "--phase", "1") == set()
        done = sandbox.run("up", "--stack", "dev", "--phase", "1").stdout
        assert done.count("24 unchanged") == 2
        assert "created" not in done
        assert sandbox.inventory() == before

    def test_another_budget_is_a_change_of_one_resource(self, sandbox: Sandbox) -> None:
        sandbox.run("config", "set", "monthlyBudgetUsd", "120", "--stack", "dev")
        try:
            assert sandbox.plan("--stack", "dev", "--phase", "1") == {
                Step("update", "aws:budgets/budget:Budget", "cost-foundation-monitoring-budget")
            }
        finally:
            sandbox.run("config", "reset", "--stack", "dev")

    def test_the_emulator_forgets_nothing_when_the_sandbox_is_stopped(self, sandbox: Sandbox) -> None:
        before = sandbox.inventory()
        sandbox.run("stop")
        assert sandbox.processes() == []
        assert "24 unchanged" in sandbox.run("up", "--stack", "dev", "--phase", "1").stdout
        assert sandbox.inventory() == before

    def test_phase_0_takes_all_of_it_away(self, sandbox: Sandbox) -> None:
        done = sandbox.run("up", "--stack", "dev", "--phase", "0").stdout
        assert "error" not in done
        assert {kind: names for kind, names in sandbox.inventory().items() if names} == {}
        assert sandbox.outputs()["budget_name"] is None
        assert sandbox.outputs()["estimated_monthly_cost_usd"] == 0


def test_computed_values_are_unknown_in_a_preview_and_given_ones_are_known(fresh_sandbox: Sandbox) -> None:
    outputs = {
        event["resOutputsEvent"]["metadata"]["urn"].rpartition("::")[2]: event["resOutputsEvent"]["metadata"]["new"]
        for event in fresh_sandbox.events("--stack", "prod", "--phase", "1")
        if "resOutputsEvent" in event
    }
    topic = outputs["cost-foundation-alerts-topic"]["outputs"]
    assert topic["arn"] == UNKNOWN
    assert topic["name"] == "pyairtable-prod-cost-alerts"
    assert topic["kmsMasterKeyId"] == UNKNOWN
    assert outputs["pyairtable-prod"]["outputs"]["cost_alerts_topic_arn"] == UNKNOWN


def test_the_stacks_differ_only_where_they_should(fresh_sandbox: Sandbox) -> None:
    plans = {stack: fresh_sandbox.plan("--stack", stack, "--phase", "1") for stack in ("dev", "staging", "prod")}
    of_all = {stack: {s for s in plan if s.type != "pulumi:pulumi:Stack"} for stack, plan in plans.items()}
    assert of_all["dev"] == of_all["staging"]
    assert of_all["prod"] - of_all["dev"] == {
        Step("create", "aws:kms/key:Key", "cost-foundation-alerts-key"),
        Step("create", "aws:kms/alias:Alias", "cost-foundation-alerts-key-alias"),
    }
    assert of_all["dev"] <= of_all["prod"]


def test_prod_with_a_mirror_goes_up_and_away(fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.run("config", "set", "registry.mirror", "ecr", "--stack", "prod")
    fresh_sandbox.run("up", "--stack", "prod", "--phase", "1")
    ecr = fresh_sandbox.aws("ecr")
    repositories = ecr.describe_repositories()["repositories"]
    assert len(repositories) == 11
    assert {r["imageTagMutability"] for r in repositories} == {"IMMUTABLE"}
    assert fresh_sandbox.inventory()["aliases"] == ["alias/pyairtable-prod-cost-alerts"]
    fresh_sandbox.run("destroy", "--stack", "prod")
    assert {kind: names for kind, names in fresh_sandbox.inventory().items() if names} == {}


def test_an_edit_of_the_stack_file_is_what_the_next_up_does_and_no_file_is_touched(
    copied_checkout: Path, tmp_path: Path
) -> None:
    def content() -> dict[Path, bytes]:
        files = (path for path in copied_checkout.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path: path.read_bytes() for path in files}

    stack_file = copied_checkout / "Pulumi.dev.yaml"
    with Sandbox(copied_checkout, tmp_path / "state").stopping() as sandbox:
        before = content()
        sandbox.run("config", "set", "monthlyBudgetUsd", "120", "--stack", "dev")
        sandbox.run("up", "--stack", "dev")
        assert sandbox.outputs()["phase"] == 1
        assert content() == before
        stack_file.write_text(stack_file.read_text().replace("pyairtable:phase: 1", "pyairtable:phase: 0"))
        sandbox.run("up", "--stack", "dev")
        assert sandbox.outputs()["phase"] == 0
        assert {kind: names for kind, names in sandbox.inventory().items() if names} == {}


def test_a_personal_stack_lives_beside_dev(copied_checkout: Path, tmp_path: Path) -> None:
    shutil.copy(copied_checkout / "Pulumi.dev.yaml", copied_checkout / "Pulumi.alice-dev.yaml")
    with Sandbox(copied_checkout, tmp_path / "state").stopping() as sandbox:
        for stack in ("dev", "alice-dev"):
            sandbox.run("up", "--stack", stack)
        assert sandbox.inventory()["budgets"] == [
            "pyairtable-alice-dev-monthly-budget",
            "pyairtable-dev-monthly-budget",
        ]
        sandbox.run("destroy", "--stack", "alice-dev")
        assert sandbox.inventory()["budgets"] == ["pyairtable-dev-monthly-budget"]
