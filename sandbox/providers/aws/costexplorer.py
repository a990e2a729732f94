"""AWS Cost Explorer, which the emulator lacks: requests are checked against the service's model, then recorded."""

import json
import uuid
from typing import Any, ClassVar

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, pascal
from sandbox.providers.records import Records
from sandbox.providers.wire import Properties


class Recorded(Handler):
    """A type that exists in the provider's own store only; the id is the ARN."""

    service = "ce"
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    noun: ClassVar[str]
    """Kind of resource in the ARN."""

    def __init__(self, aws: Aws, records: Records) -> None:
        super().__init__(aws)
        self.records = records

    def request(self, inputs: Properties) -> None:
        """Send what AWS would be sent to create it; only ever called in a dry run."""
        raise NotImplementedError

    def create(self, inputs: Properties) -> str:
        self.aws.dry_run(lambda: self.request(inputs))
        arn = f"arn:aws:ce::{self.aws.account_id}:{self.noun}/{uuid.uuid4()}"
        self.records.put(self.type, arn, inputs)
        return arn

    def read(self, id: str, inputs: Properties) -> Properties | None:
        recorded = self.records.get(self.type, id)
        return None if recorded is None else {**recorded, "arn": id}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.aws.dry_run(lambda: self.request(new))
        self.records.put(self.type, id, new)

    def delete(self, id: str, state: Properties) -> None:
        self.records.remove(self.type, id)

    def find(self, inputs: Properties) -> str | None:
        for arn, recorded in self.records.of_type(self.type).items():
            if recorded.get("name") == inputs.get("name"):
                return arn
        return None


class AnomalyMonitor(Recorded):
    """aws:costexplorer/anomalyMonitor:AnomalyMonitor."""

    type = "aws:costexplorer/anomalyMonitor:AnomalyMonitor"
    replace_on = frozenset({"monitorType", "monitorDimension", "monitorSpecification"})
    noun = "anomalymonitor"

    def request(self, inputs: Properties) -> None:
        monitor: dict[str, Any] = {"MonitorName": inputs["name"], "MonitorType": inputs["monitorType"]}
        if "monitorDimension" in inputs:
            monitor["MonitorDimension"] = inputs["monitorDimension"]
        if "monitorSpecification" in inputs:
            monitor["MonitorSpecification"] = json.loads(inputs["monitorSpecification"])
        self.client.create_anomaly_monitor(AnomalyMonitor=monitor)


class AnomalySubscription(Recorded):
    """aws:costexplorer/anomalySubscription:AnomalySubscription."""

    type = "aws:costexplorer/anomalySubscription:AnomalySubscription"
    replace_on = frozenset({"accountId", "name"})
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
