"""CostMonitoring: the budget, the anomaly monitor and the alarm on the account's charges (runbook step 1.2)."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pulumi
import pulumi_aws as aws

from components.cost_foundation.tags import TAGS
from infra.naming import Names

BUDGET_ALERTS = (("ACTUAL", 50), ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
"""When the budget speaks up: kind of spend and percent of the limit."""

ANOMALY_IMPACT_USD = 5
"""Smallest anomaly worth a message, US dollars: 5 % of the smallest budget."""

SIX_HOURS = 21_600
"""AWS publishes EstimatedCharges every six hours; a shorter period sees gaps."""


@dataclass(frozen=True, kw_only=True)
class CostMonitoringArgs:
    """What the monthly spend of one stack, and of its account, is held against."""

    names: Names
    monthly_limit_usd: Decimal
    account_wide_limit_usd: Decimal
    alert_topic_arn: pulumi.Input[str]


class CostMonitoring(pulumi.ComponentResource):
    """Budget and anomaly detection by the Stack tag, plus one alarm that is account-wide and says so."""

    budget_name: pulumi.Output[str]

    def __init__(self, name: str, args: CostMonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:CostMonitoring", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        budget = aws.budgets.Budget(
            f"{name}-budget",
            name=args.names.of("monthly-budget"),
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(args.monthly_limit_usd),
            limit_unit="USD",
            # A budget that filters by expression must name its metric; the dashboard's figures use the same one.
            metrics="UnblendedCost",
            filter_expression={"tags": {"key": "Stack", "values": [args.names.stack]}},
            notifications=[
                {
                    "notification_type": kind,
                    "threshold": percent,
                    "threshold_type": "PERCENTAGE",
                    "comparison_operator": "GREATER_THAN",
                    "subscriber_sns_topic_arns": [args.alert_topic_arn],
                }
                for kind, percent in BUDGET_ALERTS
            ],
            tags=TAGS,
            opts=child,
        )
        # One monitor per AWS service is all an account may have; by tag every stack has its own.
        monitor = aws.costexplorer.AnomalyMonitor(
            f"{name}-anomalies",
            name=args.names.of("cost-anomalies"),
            monitor_type="CUSTOM",
            monitor_specification=json.dumps(_of_stack(args.names.stack)),
            tags=TAGS,
            opts=child,
        )
        aws.costexplorer.AnomalySubscription(
            f"{name}-anomaly-alerts",
            name=args.names.of("cost-anomaly-alerts"),
            frequency="IMMEDIATE",  # the only frequency that SNS subscribers may have
            monitor_arn_lists=[monitor.arn],
            subscribers=[{"type": "SNS", "address": args.alert_topic_arn}],
            threshold_expression={
                "dimension": {
                    "key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
                    "values": [str(ANOMALY_IMPACT_USD)],
                    "match_options": ["GREATER_THAN_OR_EQUAL"],
                }
            },
            tags=TAGS,
            opts=child,
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-account-charges",
            name=args.names.of("account-wide-estimated-charges"),
            alarm_description=(
                "ACCOUNT-WIDE: this month's charges of the whole AWS account, every stack together, exceed "
                f"{args.account_wide_limit_usd} USD. The budget {args.names.of('monthly-budget')} is this stack's own."
            ),
            namespace="AWS/Billing",
            metric_name="EstimatedCharges",
            dimensions={"Currency": "USD"},
            statistic="Maximum",
            period=SIX_HOURS,
            evaluation_periods=1,
            comparison_operator="GreaterThanThreshold",
            threshold=float(args.account_wide_limit_usd),
            treat_missing_data="missing",
            alarm_actions=[args.alert_topic_arn],
            tags=TAGS,
            opts=child,
        )

        self.budget_name = budget.name
        self.register_outputs({"budget_name": self.budget_name})


def _of_stack(stack: str) -> dict[str, Any]:
    """The expression in the words in which AWS gives it back, every null spelled out.

    The provider compares it as text with what AWS says, and cannot change a monitor: an expression without the nulls
    would replace the monitor, and lose what it has learnt, with every update.
    """
    return {
        "And": None,
        "CostCategories": None,
        "Dimensions": None,
        "Not": None,
        "Or": None,
        "Tags": {"Key": "Stack", "MatchOptions": None, "Values": [stack]},
    }
