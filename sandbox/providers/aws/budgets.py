"""AWS Budgets."""

from typing import Any

from sandbox.providers.aws.handler import Handler, TagApi, absent
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties


class Budget(Handler):
    """aws:budgets/budget:Budget; the id is `account:name`."""

    type = "aws:budgets/budget:Budget"
    supported = frozenset(
        {
            "accountId",
            "name",
            "budgetType",
            "timeUnit",
            "limitAmount",
            "limitUnit",
            "metrics",
            "filterExpression",
            "notifications",
        }
    )
    service = "budgets"
    replace_on = frozenset({"accountId", "name"})
    computed = ("accountId", "arn", "timePeriodStart", "timePeriodEnd")
    name = "name"
    tag_api = TagApi(service="budgets", tags="ResourceTags", keys="ResourceTagKeys")

    def create(self, inputs: Properties) -> str:
        account_id = inputs.get("accountId") or self.aws.account_id
        self.client.create_budget(
            AccountId=account_id,
            Budget=_budget(inputs),
            NotificationsWithSubscribers=[
                {"Notification": _notification(n), "Subscribers": _subscribers(n)}
                for n in inputs.get("notifications", [])
            ],
        )
        return f"{account_id}:{inputs['name']}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        account_id, name = id.split(":")
        client = self.client
        answer = absent(lambda: client.describe_budget(AccountId=account_id, BudgetName=name), "NotFoundException")
        if answer is None:
            return None
        budget = answer["Budget"]
        notifications = client.describe_notifications_for_budget(AccountId=account_id, BudgetName=name)["Notifications"]
        expression = budget.get("FilterExpression", {}).get("Tags")
        return {
            "accountId": account_id,
            "arn": f"arn:aws:budgets::{account_id}:budget/{name}",
            "name": name,
            "budgetType": budget["BudgetType"],
            "timeUnit": budget["TimeUnit"],
            "limitAmount": budget["BudgetLimit"]["Amount"],
            "limitUnit": budget["BudgetLimit"]["Unit"],
            "timePeriodStart": f"{budget['TimePeriod']['Start']:%Y-%m-%d_%H:%M}",
            "timePeriodEnd": f"{budget['TimePeriod']['End']:%Y-%m-%d_%H:%M}",
            "notifications": [self._read_notification(account_id, name, n) for n in notifications],
            # The emulator does not keep what a budget filters on; AWS does.
            "filterExpression": _camel_tags(expression) or inputs.get("filterExpression"),
            "metrics": next(iter(budget.get("Metrics", [])), None) or inputs.get("metrics"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        account_id, name = id.split(":")
        client = self.client
        client.update_budget(AccountId=account_id, NewBudget=_budget(new))
        if old.get("notifications") != new.get("notifications"):
            current = client.describe_notifications_for_budget(AccountId=account_id, BudgetName=name)["Notifications"]
            for notification in current:
                client.delete_notification(
                    AccountId=account_id, BudgetName=name, Notification=_without_state(notification)
                )
            for notification in new.get("notifications", []):
                client.create_notification(
                    AccountId=account_id,
                    BudgetName=name,
                    Notification=_notification(notification),
                    Subscribers=_subscribers(notification),
                )

    def delete(self, id: str, state: Properties) -> None:
        account_id, name = id.split(":")
        self.client.delete_budget(AccountId=account_id, BudgetName=name)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(f"{inputs.get('accountId') or self.aws.account_id}:{inputs['name']}")

    def _read_notification(self, account_id: str, name: str, notification: dict[str, Any]) -> Properties:
        subscribers = self.client.describe_subscribers_for_notification(
            AccountId=account_id, BudgetName=name, Notification=_without_state(notification)
        )["Subscribers"]
        by_type = {
            kind: [s["Address"] for s in subscribers if s["SubscriptionType"] == kind] for kind in ("SNS", "EMAIL")
        }
        return {
            "notificationType": notification["NotificationType"],
            "comparisonOperator": notification["ComparisonOperator"],
            "threshold": notification["Threshold"],
            "thresholdType": notification["ThresholdType"],
            **({"subscriberSnsTopicArns": by_type["SNS"]} if by_type["SNS"] else {}),
            **({"subscriberEmailAddresses": by_type["EMAIL"]} if by_type["EMAIL"] else {}),
        }


def _budget(inputs: Properties) -> dict[str, Any]:
    budget: dict[str, Any] = {
        "BudgetName": inputs["name"],
        "BudgetType": inputs["budgetType"],
        "TimeUnit": inputs["timeUnit"],
        "BudgetLimit": {"Amount": inputs["limitAmount"], "Unit": inputs["limitUnit"]},
    }
    if "filterExpression" in inputs:
        tags = inputs["filterExpression"].get("tags")
        if tags is None:
            raise ProviderError("the stand-in's budgets filter by tags only")
        budget["FilterExpression"] = {"Tags": {"Key": tags["key"], "Values": tags["values"]}}
        budget["Metrics"] = [inputs["metrics"]]
    return budget


def _camel_tags(tags: dict[str, Any] | None) -> Properties | None:
    return {"tags": {"key": tags["Key"], "values": tags["Values"]}} if tags else None


def _notification(notification: Properties) -> dict[str, Any]:
    return {
        "NotificationType": notification["notificationType"],
        "ComparisonOperator": notification["comparisonOperator"],
        "Threshold": notification["threshold"],
        "ThresholdType": notification["thresholdType"],
    }


def _without_state(notification: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in notification.items() if key != "NotificationState"}


def _subscribers(notification: Properties) -> list[dict[str, str]]:
    return [
        {"SubscriptionType": kind, "Address": address}
        for kind, key in (("SNS", "subscriberSnsTopicArns"), ("EMAIL", "subscriberEmailAddresses"))
        for address in notification.get(key, [])
    ]
