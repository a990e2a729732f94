"""What each type of resource costs: fixed quantities per type, or free on purpose. An unknown type is an error."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from cost.resources import Resource

FOLDER = Path(__file__).parent

FIXED: Mapping[str, Mapping[str, Decimal]] = {
    "aws:cloudwatch/dashboard:Dashboard": {"cloudwatch_dashboard": Decimal(1)},
    "aws:cloudwatch/metricAlarm:MetricAlarm": {"cloudwatch_alarm": Decimal(1)},
    "aws:kms/key:Key": {"kms_key": Decimal(1)},
}
"""Prices of existing at all: quantity a month of each price, for one resource of the type."""

FREE: Mapping[str, str] = {
    "aws:budgets/budget:Budget": "budgets without actions, and their alerts, are free",
    "aws:cloudwatch/eventRule:EventRule": "scheduled rules on the default bus are free",
    "aws:cloudwatch/eventTarget:EventTarget": "delivery to a Lambda of the same account is free",
    "aws:costexplorer/anomalyMonitor:AnomalyMonitor": "Cost Anomaly Detection is free",
    "aws:costexplorer/anomalySubscription:AnomalySubscription": "Cost Anomaly Detection is free",
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": "a rule, not a thing",
    "aws:iam/role:Role": "IAM is free",
    "aws:iam/rolePolicy:RolePolicy": "IAM is free",
    "aws:kms/alias:Alias": "aliases are free",
    "aws:lambda/permission:Permission": "a policy statement, not a thing",
    "aws:sns/topic:Topic": "billed by message, counted at its subscriptions",
    "aws:sns/topicPolicy:TopicPolicy": "a policy, not a thing",
}
"""Types that cost nothing, with the reason."""

UNPRICED_PACKAGES = frozenset({"pulumi", "pyairtable"})
"""Packages whose resources exist in Pulumi only: the stack, providers, this program's components."""


class UnknownTypeError(LookupError):
    """A type of resource that is neither priced nor listed as free."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """One entry of the price list; `free_per_account` units a month are free in each account."""

    usd: Decimal
    unit: str
    source: str
    free_per_account: Decimal = Decimal(0)


@cache
def price_list() -> Mapping[str, Price]:
    """The price list, by the names that quantities refer to."""
    return {
        name: Price(
            usd=entry["usd"],
            unit=entry["unit"],
            source=entry["source"],
            free_per_account=Decimal(entry.get("free_per_account", 0)),
        )
        for name, entry in _toml("prices.toml")["prices"].items()
    }


@cache
def price_list_date() -> str:
    """The day on which the prices were true, as YYYY-MM-DD."""
    return str(_toml("prices.toml")["as_of"])


def quantities(resource: Resource) -> Mapping[str, Decimal]:
    """How much of each price one resource takes in a month; nothing for what is free.

    Raises:
        UnknownTypeError: nobody has said what the type costs.
    """
    if resource.type.partition(":")[0] in UNPRICED_PACKAGES:
        return {}
    fixed = FIXED.get(resource.type, {})
    used = _usage(resource)
    if not fixed and not used and resource.type not in FREE:
        raise UnknownTypeError(
            f"estimating the monthly cost: nobody has said what {resource.type} ({resource.name}) costs; "
            "add it to FIXED or FREE in cost/catalog.py or to cost/usage.toml"
        )
    return {**fixed, **used}


def _usage(resource: Resource) -> Mapping[str, Decimal]:
    """Expected use of a resource: tables with a quantity belong to the type, tables of such tables to one name."""
    entries = _toml("usage.toml").get(resource.type, {})
    named = entries.get(resource.name, {})
    return {price: Decimal(entry["quantity"]) for price, entry in {**entries, **named}.items() if "quantity" in entry}


@cache
def _toml(file_name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / file_name).read_text(), parse_float=Decimal)
