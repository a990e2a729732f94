"""The Lambda of the spend report: asks Cost Explorer about one Stack tag and puts the answer into CloudWatch.

Metrics, all in US dollars: `MonthToDateSpend` (dimension Stack, and again by Stack and Service), `ForecastSpend`
(the whole month) and `MonthlyBudget` (read from the budget itself, so that the dashboard follows it).
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

METRIC_NAMESPACE = "PyAirtable/Cost"
COST_METRIC = "UnblendedCost"


@dataclass(frozen=True)
class Spend:
    """One month's spend of a stack, US dollars."""

    by_service: Mapping[str, Decimal]
    before_today: Decimal
    """The part that Cost Explorer's forecast, which begins today, does not count again."""

    @property
    def total(self) -> Decimal:
        """Month to date, today's part included."""
        return sum(self.by_service.values(), Decimal(0))


def handler(_event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Entry point. Raises what AWS raises: a failed run counts in the Errors metric and sets off the alarm."""
    import boto3  # part of the Lambda runtime; deploying the platform does not need it

    stack = os.environ["STACK"]
    account_id = context.invoked_function_arn.split(":")[4]
    today = datetime.now(UTC).date()
    cost_explorer = boto3.client("ce")

    spend = month_to_date(cost_explorer, stack, today)
    figures = {
        "MonthToDateSpend": spend.total,
        "ForecastSpend": forecast(cost_explorer, stack, today, spend),
        "MonthlyBudget": budget_limit(boto3.client("budgets"), account_id, os.environ["BUDGET_NAME"]),
    }
    boto3.client("cloudwatch").put_metric_data(
        Namespace=METRIC_NAMESPACE, MetricData=metric_data(stack, figures, spend.by_service)
    )
    report = {
        "stack": stack,
        **{name: None if value is None else float(value) for name, value in figures.items()},
        "by_service": {service: float(amount) for service, amount in spend.by_service.items()},
    }
    print(json.dumps(report))
    return report


def month_to_date(cost_explorer: Any, stack: str, today: date) -> Spend:
    """What the stack has cost this month so far, by AWS service."""
    by_service: defaultdict[str, Decimal] = defaultdict(Decimal)
    before_today = Decimal(0)
    request: dict[str, Any] = {
        "TimePeriod": {"Start": today.replace(day=1).isoformat(), "End": (today + timedelta(days=1)).isoformat()},
        "Granularity": "DAILY",
        "Metrics": [COST_METRIC],
        "Filter": _by_stack(stack),
        "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
    }
    while True:
        page = cost_explorer.get_cost_and_usage(**request)
        for day in page["ResultsByTime"]:
            for group in day["Groups"]:
                amount = Decimal(group["Metrics"][COST_METRIC]["Amount"])
                by_service[group["Keys"][0]] += amount
                if day["TimePeriod"]["Start"] < today.isoformat():
                    before_today += amount
        if "NextPageToken" not in page:
            return Spend(dict(by_service), before_today)
        request["NextPageToken"] = page["NextPageToken"]


def forecast(cost_explorer: Any, stack: str, today: date, spend: Spend) -> Decimal | None:
    """What the whole month will have cost, or None while AWS has too little history to say."""
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    try:
        answer = cost_explorer.get_cost_forecast(
            TimePeriod={"Start": today.isoformat(), "End": next_month.isoformat()},
            Granularity="DAILY",
            Metric="UNBLENDED_COST",
            Filter=_by_stack(stack),
        )
    except cost_explorer.exceptions.DataUnavailableException:
        return None
    return spend.before_today + Decimal(answer["Total"]["Amount"])


def budget_limit(budgets: Any, account_id: str, budget_name: str) -> Decimal:
    """The limit that the stack's budget has right now."""
    answer = budgets.describe_budget(AccountId=account_id, BudgetName=budget_name)
    return Decimal(answer["Budget"]["BudgetLimit"]["Amount"])


def metric_data(
    stack: str, figures: Mapping[str, Decimal | None], by_service: Mapping[str, Decimal]
) -> list[dict[str, Any]]:
    """CloudWatch's form of the figures; one that is not known is left out rather than shown as zero."""
    of_stack = [{"Name": "Stack", "Value": stack}]
    return [
        {"MetricName": name, "Dimensions": of_stack, "Value": float(value), "Unit": "None"}
        for name, value in figures.items()
        if value is not None
    ] + [
        {
            "MetricName": "MonthToDateSpend",
            "Dimensions": [*of_stack, {"Name": "Service", "Value": service}],
            "Value": float(amount),
            "Unit": "None",
        }
        for service, amount in by_service.items()
    ]


def _by_stack(stack: str) -> dict[str, Any]:
    return {"Tags": {"Key": "Stack", "Values": [stack]}}
