"""Requests to AWS are held against botocore's service models, and properties against the SDK's classes."""

import subprocess
import sys
from typing import Any

import botocore.session
import pytest
from pulumi.runtime.rpc import UNKNOWN

from sandbox.providers import schema
from sandbox.providers.aws.client import Aws, constraint_problems
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import from_struct, to_struct


def shape(service: str, operation: str) -> Any:
    """The input shape of an operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"AccountId": "12"}, "AccountId: '12' does not match"),
        ({"Budget": {"TimeUnit": "HOURLY"}}, "Budget.TimeUnit: 'HOURLY' is not one of DAILY, MONTHLY"),
        ({"Budget": {"BudgetName": ""}}, "Budget.BudgetName: 0 long is less than 1"),
        ({"NotificationsWithSubscribers": [{}] * 11}, "NotificationsWithSubscribers: 11 long is more than 10"),
        (
            {"NotificationsWithSubscribers": [{"Notification": {"Threshold": -1}}]},
            "NotificationsWithSubscribers[0].Notification.Threshold: -1 is less than 0",
        ),
    ],
)
def test_what_breaks_the_model_is_found_at_its_place(request_: dict[str, Any], problem: str) -> None:
    found = list(constraint_problems(request_, shape("budgets", "CreateBudget"), ""))
    assert [text for text in found if text.startswith(problem)]


def test_values_that_aws_has_yet_to_compute_count_as_right() -> None:
    request = {"AccountId": UNKNOWN, "Budget": {"TimeUnit": UNKNOWN, "BudgetName": f"x{UNKNOWN}"}}
    assert list(constraint_problems(request, shape("budgets", "CreateBudget"), "")) == []


def test_a_dry_run_checks_the_request_and_sends_nothing() -> None:
    aws = Aws("http://127.0.0.1:1", "123456789012", "us-east-1")  # nothing listens there
    sns = aws.client("sns")
    aws.dry_run(lambda: sns.create_topic(Name="fine"))
    with pytest.raises(ProviderError, match="SNS CreateTopic would refuse"):
        aws.dry_run(lambda: sns.create_topic(Name=3))


def test_a_dry_run_within_a_dry_run_is_one() -> None:
    aws = Aws("http://127.0.0.1:1", "123456789012", "us-east-1")
    reached: list[str] = []

    def outer() -> None:
        aws.dry_run(lambda: aws.client("sns").create_topic(Name="fine"))
        reached.append("what comes after the first request")

    aws.dry_run(outer)
    assert reached == []


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"nmae": "x"}, ("nmae", "aws:sns/topic:Topic has no property nmae; did you mean name?")),
        ({"name": 3}, ("name", "must be a str, not 3")),
        ({"tags": ["a"]}, ("tags", "must be a map, not ['a']")),
        ({"fifoTopic": "yes"}, ("fifoTopic", "must be a bool, not 'yes'")),
        ({"firehoseSuccessFeedbackSampleRate": True}, ("firehoseSuccessFeedbackSampleRate", "must be a int, not True")),
    ],
)
def test_properties_are_held_against_the_sdks_class(inputs: dict[str, Any], problem: tuple[str, str]) -> None:
    assert schema.problems("aws:sns/topic:Topic", inputs) == [problem]


def test_properties_at_depth_are_named_by_their_path() -> None:
    inputs = {
        "budgetType": "COST",
        "timeUnit": "MONTHLY",
        "notifications": [{"threshold": "much"}],
        "filterExpression": {"tags": {"key": "Stack", "values": "dev"}},
    }
    assert schema.problems("aws:budgets/budget:Budget", inputs) == [
        ("notifications[0].threshold", "must be a float, not 'much'"),
        ("filterExpression.tags.values", "must be a list, not 'dev'"),
    ]


def test_right_and_unknown_properties_pass() -> None:
    assert schema.problems("aws:sns/topic:Topic", {"name": UNKNOWN, "tags": {"a": "b"}, "fifoTopic": False}) == []


def test_a_type_that_the_sdk_does_not_have_is_named() -> None:
    with pytest.raises(ProviderError, match="the SDK has no resource aws:sns/topik:Topik"):
        schema.problems("aws:sns/topik:Topik", {})


def test_several_threads_may_be_the_first_to_ask_for_a_class() -> None:
    """The SDK's modules import each other, and a thread that met one half-imported found no class in it."""
    script = """
import threading
from sandbox.providers.schema import input_types

tokens = ["cloudwatch/dashboard:Dashboard", "cloudwatch/logGroup:LogGroup", "sns/topic:Topic", "iam/role:Role"] * 4
start = threading.Barrier(len(tokens))
wrong = []

def ask(token):
    start.wait()
    try:
        input_types("aws:" + token)
    except Exception as error:
        wrong.append(repr(error))

threads = [threading.Thread(target=ask, args=(token,)) for token in tokens]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not wrong, wrong
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_properties_survive_the_wire() -> None:
    values = {"text": "a", "whole": 3, "part": 0.5, "flag": False, "list": [1, {"x": [2]}], "map": {"k": "v"}}
    assert from_struct(to_struct({**values, "nothing": None})) == values


def test_whole_numbers_come_back_as_ints_at_any_depth() -> None:
    back = from_struct(to_struct({"n": 30.0, "deep": [{"n": 1.0}]}))
    assert (type(back["n"]), type(back["deep"][0]["n"])) == (int, int)
