"""Amazon CloudWatch: dashboards, alarms, log groups; and EventBridge rules, which Pulumi files under it."""

from typing import Any, ClassVar

from sandbox.providers.aws.handler import Handler, TagApi, absent, pascal, without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties


class Dashboard(Handler):
    """aws:cloudwatch/dashboard:Dashboard; the id is the name."""

    type = "aws:cloudwatch/dashboard:Dashboard"
    supported = frozenset({"dashboardName", "dashboardBody"})
    service = "cloudwatch"
    replace_on = frozenset({"dashboardName"})
    computed = ("dashboardArn",)
    name = "dashboardName"

    def create(self, inputs: Properties) -> str:
        self.client.put_dashboard(DashboardName=inputs["dashboardName"], DashboardBody=inputs["dashboardBody"])
        return inputs["dashboardName"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(
            lambda: self.client.get_dashboard(DashboardName=id),
            "ResourceNotFound",
            "DashboardNotFoundError",
        )
        if answer is None:
            return None
        return {
            "dashboardName": id,
            "dashboardBody": answer["DashboardBody"],
            "dashboardArn": answer["DashboardArn"],
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_dashboards(DashboardNames=[id])

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["dashboardName"])


ALARM_PROPERTIES = {
    "alarmDescription": "AlarmDescription",
    "actionsEnabled": "ActionsEnabled",
    "alarmActions": "AlarmActions",
    "okActions": "OKActions",
    "insufficientDataActions": "InsufficientDataActions",
    "metricName": "MetricName",
    "namespace": "Namespace",
    "statistic": "Statistic",
    "period": "Period",
    "evaluationPeriods": "EvaluationPeriods",
    "threshold": "Threshold",
    "comparisonOperator": "ComparisonOperator",
    "treatMissingData": "TreatMissingData",
    "dimensions": "Dimensions",
}


class MetricAlarm(Handler):
    """aws:cloudwatch/metricAlarm:MetricAlarm; the id is the name."""

    type = "aws:cloudwatch/metricAlarm:MetricAlarm"
    supported = frozenset({"name", *ALARM_PROPERTIES})
    service = "cloudwatch"
    defaults: ClassVar[Properties] = {"actionsEnabled": True, "treatMissingData": "missing"}
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    tag_api = TagApi(service="cloudwatch")

    def create(self, inputs: Properties) -> str:
        request: dict[str, Any] = {
            ALARM_PROPERTIES[key]: value for key, value in without(inputs, "name", "tags").items()
        }
        if isinstance(request.get("Dimensions"), dict):
            request["Dimensions"] = [{"Name": k, "Value": v} for k, v in request["Dimensions"].items()]
        self.client.put_metric_alarm(AlarmName=inputs["name"], **request)
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        alarms = self.client.describe_alarms(AlarmNames=[id])["MetricAlarms"]
        if not alarms:
            return None
        alarm = {**alarms[0], "Dimensions": {d["Name"]: d["Value"] for d in alarms[0].get("Dimensions", [])}}
        return {
            "arn": alarm["AlarmArn"],
            "name": id,
            **{key: alarm.get(name) for key, name in ALARM_PROPERTIES.items()},
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_alarms(AlarmNames=[id])

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class LogGroup(Handler):
    """aws:cloudwatch/logGroup:LogGroup; the id is the name."""

    type = "aws:cloudwatch/logGroup:LogGroup"
    supported = frozenset({"name", "retentionInDays"})
    service = "logs"
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    tag_api = TagApi(service="logs", target="resourceArn", tags="tags", keys="tagKeys", form="map")

    def create(self, inputs: Properties) -> str:
        self.client.create_log_group(logGroupName=inputs["name"])
        return inputs["name"]

    def configure(self, id: str, inputs: Properties) -> None:
        if "retentionInDays" in inputs:
            self.client.put_retention_policy(logGroupName=id, retentionInDays=inputs["retentionInDays"])

    def read(self, id: str, inputs: Properties) -> Properties | None:
        for group in self.client.describe_log_groups(logGroupNamePrefix=id)["logGroups"]:
            if group["logGroupName"] == id:
                return {
                    "arn": group["arn"].removesuffix(":*"),
                    "name": id,
                    "retentionInDays": group.get("retentionInDays"),
                }
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        if "retentionInDays" in new:
            self.configure(id, new)
        elif "retentionInDays" in old:
            self.client.delete_retention_policy(logGroupName=id)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_log_group(logGroupName=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class EventRule(Handler):
    """aws:cloudwatch/eventRule:EventRule on the default bus; the id is the name."""

    type = "aws:cloudwatch/eventRule:EventRule"
    supported = frozenset({"name", "description", "scheduleExpression", "eventPattern", "state"})
    service = "events"
    defaults: ClassVar[Properties] = {"state": "ENABLED"}
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    tag_api = TagApi(service="events")

    def create(self, inputs: Properties) -> str:
        self.client.put_rule(**pascal(without(inputs, "tags")))
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        rule = absent(lambda: self.client.describe_rule(Name=id), "ResourceNotFoundException")
        if rule is None:
            return None
        return {
            "arn": rule["Arn"],
            "name": id,
            "description": rule.get("Description"),
            "scheduleExpression": rule.get("ScheduleExpression"),
            "eventPattern": rule.get("EventPattern"),
            "state": rule.get("State"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_rule(Name=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class EventTarget(Handler):
    """aws:cloudwatch/eventTarget:EventTarget on the default bus; the id is `rule-target`."""

    type = "aws:cloudwatch/eventTarget:EventTarget"
    supported = frozenset({"rule", "targetId", "arn"})
    service = "events"
    replace_on = frozenset({"rule", "targetId"})

    def create(self, inputs: Properties) -> str:
        target = pascal(without(inputs, "rule", "targetId"))
        answer = self.client.put_targets(Rule=inputs["rule"], Targets=[{"Id": inputs["targetId"], **target}])
        if answer["FailedEntryCount"]:
            raise ProviderError(f"EventBridge refused the target: {answer['FailedEntries']}")
        return f"{inputs['rule']}-{inputs['targetId']}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        if not inputs:
            raise ProviderError(
                f"the stand-in cannot import the event target {id}: rule and target look alike in its id"
            )
        answer = absent(lambda: self.client.list_targets_by_rule(Rule=inputs["rule"]), "ResourceNotFoundException")
        for target in answer["Targets"] if answer else []:
            if target["Id"] == inputs["targetId"]:
                return {"rule": inputs["rule"], "targetId": target["Id"], "arn": target["Arn"]}
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.remove_targets(Rule=state["rule"], Ids=[state["targetId"]])

    def find(self, inputs: Properties) -> str | None:
        return f"{inputs['rule']}-{inputs['targetId']}" if self.read("", inputs) else None
