"""The AWS stand-in behaves as the official provider does where a program could notice."""

import json
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from sandbox.engine import _Command  # pyright: ignore[reportPrivateUsage]
from sandbox.errors import SandboxError
from tests.program.cloud import Cloud, raw


def topic(name: str, **properties: Any) -> Callable[[aws.Provider], object]:
    """A program of one topic."""
    return lambda provider: aws.sns.Topic(
        "topic", name=name, **properties, opts=pulumi.ResourceOptions(provider=provider)
    )


def budget(**changes: Any) -> Callable[[aws.Provider], object]:
    """A program of one budget."""
    properties: dict[str, Any] = {
        "name": "b",
        "budget_type": "COST",
        "time_unit": "MONTHLY",
        "limit_amount": "98",
        "limit_unit": "USD",
        "metrics": "UnblendedCost",
        "filter_expression": {"tags": {"key": "Stack", "values": ["dev"]}},
    } | changes
    return lambda provider: aws.budgets.Budget("budget", **properties, opts=pulumi.ResourceOptions(provider=provider))


REFUSED: dict[str, tuple[Callable[[aws.Provider], object], str]] = {
    "a misspelt property": (
        raw("aws:sns/topic:Topic", {"name": "x", "displayNmae": "y"}),
        "aws:sns/topic:Topic has no property displayNmae; did you mean displayName?",
    ),
    "a misspelt property at depth": (
        budget(filter_expression={"tags": {"kee": "Stack", "values": ["dev"]}}),
        "BudgetFilterExpressionTags has no property kee; did you mean key?",
    ),
    "a value of the wrong type": (
        raw("aws:cloudwatch/logGroup:LogGroup", {"name": "x", "retentionInDays": "thirty"}),
        "must be a int, not 'thirty'",
    ),
    "a value that the API's enum does not have": (budget(time_unit="FORTNIGHTLY"), "'FORTNIGHTLY' is not one of"),
    "a value that breaks the API's pattern": (budget(limit_amount="a lot"), "'a lot' does not match"),
    "a name that is too long": (budget(name="b" * 101), "101 long is more than 100"),
    "a type that nobody implements": (
        raw("aws:sqs/queue:Queue", {"name": "x"}),
        "the sandbox has no stand-in for aws:sqs/queue:Queue; add a handler to sandbox/providers/aws/table.py",
    ),
    "a type that does not exist": (
        raw("aws:sns/topik:Topik", {}),
        "the sandbox has no stand-in for aws:sns/topik:Topik",
    ),
    "a property that the stand-in would drop": (
        raw("aws:sns/topic:Topic", {"name": "x.fifo", "fifoTopic": True}),
        "the sandbox's stand-in for aws:sns/topic:Topic does not do fifoTopic",
    ),
    "a budget that filters by something else": (
        budget(filter_expression={"dimensions": {"key": "SERVICE", "values": ["x"]}}),
        "the stand-in's budgets filter by tags only",
    ),
    "a property that is missing": (
        raw("aws:budgets/budget:Budget", {"name": "x", "budgetType": "COST"}),
        "aws:budgets/budget:Budget needs timeUnit",
    ),
    "a resource without a name": (raw("aws:sns/topic:Topic", {}), "the sandbox wants name given"),
    "an anomaly monitor of a kind that AWS does not have": (
        raw("aws:costexplorer/anomalyMonitor:AnomalyMonitor", {"name": "m", "monitorType": "WEEKLY"}),
        "'WEEKLY' is not one of DIMENSIONAL, CUSTOM",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_preview_refuses(cloud: Cloud, case: str) -> None:
    program, message = REFUSED[case]
    with pytest.raises(SandboxError):
        cloud.preview("refused", program)
    assert message in "\n".join(cloud.lines)


def test_credentials_of_another_account_are_refused_before_anything_is_made(cloud: Cloud) -> None:
    with pytest.raises(SandboxError):
        cloud.up("foreign", topic("foreign"), account_id="999999999999")
    printed = "\n".join(cloud.lines)
    assert "the credentials belong to account 123456789012, the stack is bound to 999999999999" in printed
    assert "updating" not in printed.lower().replace("previewing", "")


def test_a_provider_option_that_the_stand_in_would_ignore_is_refused(cloud: Cloud) -> None:
    def program(_: aws.Provider) -> None:
        aws.Provider("other", region="us-east-1", max_retries=3)

    with pytest.raises(SandboxError):
        cloud.preview("options", program)
    assert "the sandbox's stand-in does not do the provider option maxRetries" in "\n".join(cloud.lines)


def test_functions_are_refused(cloud: Cloud) -> None:
    def program(provider: aws.Provider) -> None:
        pulumi.export(
            "x", aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=provider)).account_id
        )

    with pytest.raises(SandboxError):
        cloud.preview("functions", program)
    assert "the sandbox's stand-in for AWS has no functions" in "\n".join(cloud.lines)


def test_a_change_that_aws_cannot_make_in_place_replaces(cloud: Cloud) -> None:
    cloud.up("replace", topic("replace-1"))
    printed = cloud.up("replace", topic("replace-2"))
    assert "1 replaced" in printed
    assert cloud.resource("replace", "topic")["id"].endswith(":replace-2")


def test_a_change_that_aws_can_make_in_place_updates(cloud: Cloud) -> None:
    cloud.up("update", topic("update", display_name="one"))
    before = cloud.resource("update", "topic")
    assert "1 updated" in cloud.up("update", topic("update", display_name="two"))
    after = cloud.resource("update", "topic")
    assert after["id"] == before["id"]
    assert after["outputs"]["displayName"] == "two"


def test_default_tags_are_merged_and_a_change_of_them_is_an_update(cloud: Cloud) -> None:
    cloud.up("tags", topic("tags", tags={"Phase": "1"}))
    state = cloud.resource("tags", "topic")["outputs"]
    assert state["tags"] == {"Phase": "1"}
    assert state["tagsAll"] == {"Phase": "1", "Stack": "tags"}
    assert "1 updated" in cloud.up("tags", topic("tags", tags={"Phase": "2"}))
    assert cloud.resource("tags", "topic")["outputs"]["tagsAll"] == {"Phase": "2", "Stack": "tags"}


def test_secrets_stay_marked_in_the_state(cloud: Cloud) -> None:
    def program(provider: aws.Provider) -> None:
        topic("secret", display_name=pulumi.Output.secret("hidden words"))(provider)

    cloud.up("secret", program)
    assert "hidden words" not in json.dumps(cloud.engine("secret", lambda _: None).deployment())
    assert "hidden words" not in "\n".join(cloud.lines)


def test_an_expression_that_is_not_in_awss_own_words_would_replace_its_monitor(cloud: Cloud) -> None:
    """As on AWS, where a refresh brings back every null and a monitor cannot be changed."""
    short = '{"Tags": {"Key": "Stack", "Values": ["dev"]}}'
    program = raw(
        "aws:costexplorer/anomalyMonitor:AnomalyMonitor",
        {"name": "m", "monitorType": "CUSTOM", "monitorSpecification": short},
    )
    cloud.up("monitor", program)
    cloud.refresh("monitor", program)
    assert "1 to replace" in cloud.preview("monitor", program)


def test_a_change_by_hand_is_found_by_a_refresh_and_put_right_by_the_next_up(cloud: Cloud) -> None:
    program = topic("drift", display_name="ours")
    cloud.up("drift", program)
    arn = cloud.resource("drift", "topic")["id"]
    client = cloud.client("sns")
    client.set_topic_attributes(TopicArn=arn, AttributeName="DisplayName", AttributeValue="theirs")
    assert "1 updated" in cloud.refresh("drift", program)
    assert "1 updated" in cloud.up("drift", program)
    assert client.get_topic_attributes(TopicArn=arn)["Attributes"]["DisplayName"] == "ours"


def test_a_resource_that_is_half_made_is_taken_back(cloud: Cloud) -> None:
    # AWS keeps logs for certain numbers of days only, and two is none of them.
    retention = raw("aws:cloudwatch/logGroup:LogGroup", {"name": "half", "retentionInDays": 2})
    with pytest.raises(SandboxError):
        cloud.up("half", retention)
    assert cloud.client("logs").describe_log_groups(logGroupNamePrefix="half")["logGroups"] == []


def test_errors_name_the_resource_and_the_logs(cloud: Cloud) -> None:
    permission = {"statementId": "s", "action": "lambda:InvokeFunction", "function": "no-such", "principal": "x.aws"}
    program = raw("aws:lambda/permission:Permission", permission)
    with pytest.raises(SandboxError):
        cloud.up("errors", program)
    assert "creating aws:lambda/permission:Permission raw: " in "\n".join(cloud.lines)
    assert "(logs)" in "\n".join(cloud.lines)
    assert "creating aws:lambda/permission:Permission raw" in (cloud.state.logs / "providers.log").read_text()


def test_for_a_stack_that_is_there_a_command_starts_the_engine_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.up("once", topic("once"))
    started: list[str] = []
    run = _Command.run

    def noted(self: _Command, args: list[str], *rest: Any) -> Any:
        started.append(args[0])
        return run(self, args, *rest)

    monkeypatch.setattr(_Command, "run", noted)
    cloud.preview("once", topic("once"))
    assert started == ["preview"]
