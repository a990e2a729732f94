"""Policy documents of IAM: who may assume a role, and what a role may do."""

from collections.abc import Mapping, Sequence
from typing import Any


def trust(service: str, *actions: str, conditions: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Trust policy that lets one AWS service assume a role; `sts:AssumeRole` where no action is named."""
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": list(actions) or "sts:AssumeRole",
    }
    return document({**statement, "Condition": conditions} if conditions else statement)


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    """A policy document of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(
    sid: str, actions: Sequence[str], resources: object = "*", conditions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A statement that allows actions on resources; `*` where AWS has no narrower resource for them."""
    statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources}
    return {**statement, "Condition": conditions} if conditions else statement


def put_metrics(sid: str, namespace: str) -> dict[str, Any]:
    """A statement that allows metrics of one namespace, by which alone CloudWatch restricts them."""
    return allow(sid, ["cloudwatch:PutMetricData"], conditions={"StringEquals": {"cloudwatch:namespace": namespace}})
