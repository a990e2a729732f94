"""AWS Cost Explorer, which the emulator lacks."""

import json
import uuid
from typing import Any, ClassVar

from sandbox.providers.aws.handler import pascal
from sandbox.providers.aws.recorded import Recorded
from sandbox.providers.wire import Properties


class _CostExplorer(Recorded):
    """The id is the ARN."""

    service = "ce"
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    noun: ClassVar[str]
    """Kind of resource in the ARN."""

    def new_id(self, inputs: Properties) -> str:
        return f"arn:aws:ce::{self.aws.account_id}:{self.noun}/{uuid.uuid4()}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        recorded = super().read(id, inputs)
        return None if recorded is None else {**recorded, "arn": id}


class AnomalyMonitor(_CostExplorer):
    """aws:costexplorer/anomalyMonitor:AnomalyMonitor."""

    type = "aws:costexplorer/anomalyMonitor:AnomalyMonitor"
    supported = frozenset({"name", "monitorType", "monitorDimension", "monitorSpecification"})
    replace_on = frozenset({"monitorType", "monitorDimension", "monitorSpecification"})
    noun = "anomalymonitor"

    def request(self, inputs: Properties) -> None:
        monitor: dict[str, Any] = {"MonitorName": inputs["name"], "MonitorType": inputs["monitorType"]}
        if "monitorDimension" in inputs:
            monitor["MonitorDimension"] = inputs["monitorDimension"]
        if "monitorSpecification" in inputs:
            monitor["MonitorSpecification"] = _without_nulls(json.loads(inputs["monitorSpecification"]))
        self.client.create_anomaly_monitor(AnomalyMonitor=monitor)

    def read(self, id: str, inputs: Properties) -> Properties | None:
        """With the specification in AWS's own words, in which the official provider sees every other as a change."""
        monitor = super().read(id, inputs)
        if monitor and "monitorSpecification" in monitor:
            monitor["monitorSpecification"] = json.dumps(_in_full(json.loads(monitor["monitorSpecification"])))
        return monitor


class AnomalySubscription(_CostExplorer):
    """aws:costexplorer/anomalySubscription:AnomalySubscription."""

    type = "aws:costexplorer/anomalySubscription:AnomalySubscription"
    supported = frozenset({"name", "frequency", "monitorArnLists", "subscribers", "thresholdExpression"})
    replace_on = frozenset({"name"})
    noun = "anomalysubscription"

    def request(self, inputs: Properties) -> None:
        self.client.create_anomaly_subscription(
            AnomalySubscription={
                "SubscriptionName": inputs["name"],
                "Frequency": inputs["frequency"],
                "MonitorArnList": inputs["monitorArnLists"],
                "Subscribers": [pascal(subscriber) for subscriber in inputs["subscribers"]],
                "ThresholdExpression": _expression(inputs["thresholdExpression"]),
            }
        )


def _without_nulls(expression: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_nulls(v) if isinstance(v, dict) else v for k, v in expression.items() if v is not None}


def _in_full(expression: dict[str, Any]) -> dict[str, Any]:
    """An expression with every operator that it does not use as null."""
    filled: dict[str, Any] = dict.fromkeys(("And", "CostCategories", "Dimensions", "Not", "Or", "Tags"))
    for key, value in expression.items():
        match key:
            case "And" | "Or" if value is not None:
                filled[key] = [_in_full(part) for part in value]
            case "Not" if value is not None:
                filled[key] = _in_full(value)
            case "CostCategories" | "Dimensions" | "Tags" if value is not None:
                filled[key] = {"MatchOptions": None, **value}
            case _:
                filled[key] = value
    return filled


def _expression(expression: Properties) -> dict[str, Any]:
    """A threshold expression in Cost Explorer's spelling."""
    spelled: dict[str, Any] = {}
    for key, value in expression.items():
        match key:
            case "ands" | "ors":
                spelled[key[:-1].capitalize()] = [_expression(part) for part in value]
            case "not":
                spelled["Not"] = _expression(value)
            case "dimension":
                spelled["Dimensions"] = pascal(value)
            case _:
                spelled[{"costCategory": "CostCategories"}.get(key, key.capitalize())] = pascal(value)
    return spelled
