"""CostDashboard: where the month's money stands, at a glance (runbook step 1.2)."""

from dataclasses import dataclass, replace

import pulumi
import pulumi_aws as aws

from components.cost_foundation.dashboard_body import Metric, MetricWidget, Row, TextWidget, dashboard_body
from components.cost_foundation.spend_reporter.handler import METRIC_NAMESPACE
from infra.naming import Names


@dataclass(frozen=True, kw_only=True)
class CostDashboardArgs:
    """Whose figures are shown."""

    names: Names
    region: str


class CostDashboard(pulumi.ComponentResource):
    """Dashboard `pyairtable-{stack}-cost-optimization`: spend against budget, forecast, spend by service."""

    dashboard_name: pulumi.Output[str]

    def __init__(self, name: str, args: CostDashboardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:CostDashboard", name, None, opts)
        dashboard = aws.cloudwatch.Dashboard(
            f"{name}-dashboard",
            dashboard_name=args.names.of("cost-optimization"),
            dashboard_body=dashboard_body(_rows(args)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.dashboard_name = dashboard.dashboard_name
        self.register_outputs({"dashboard_name": self.dashboard_name})


def _rows(args: CostDashboardArgs) -> list[Row]:
    stack = args.names.stack
    # The budget is a metric, not a number in this body: changing it then changes the budget and nothing else.
    spend = _figure(stack, "MonthToDateSpend", "Spend this month", "spend")
    budget = _figure(stack, "MonthlyBudget", "Budget", "budget")
    forecast = _figure(stack, "ForecastSpend", "Forecast for the month", "forecast")
    hidden = [_hidden(spend), _hidden(budget)]
    return [
        Row(
            height=2,
            widgets=[
                TextWidget(
                    markdown=f"## {args.names.prefix}: spend of this stack, US dollars, month to date\n"
                    "Resources tagged with the Stack tag, from Cost Explorer, once a day. "
                    "The last row is **account-wide**."
                )
            ],
        ),
        Row(
            height=6,
            widgets=[
                MetricWidget(
                    title="This month, USD", view="singleValue", metrics=[spend, budget, forecast], region=args.region
                ),
                MetricWidget(
                    title="Spent, % of budget",
                    view="gauge",
                    metrics=[Metric(label="% of budget", expression="100 * spend / budget", id="percent"), *hidden],
                    region=args.region,
                    thresholds={"half": 50, "close": 80, "over": 100},
                    y_axis=(0, 120),
                ),
            ],
        ),
        Row(
            height=6,
            widgets=[
                MetricWidget(
                    title="Spend against budget, USD",
                    view="timeSeries",
                    metrics=[spend, forecast, budget],
                    region=args.region,
                ),
                MetricWidget(
                    title="Spend by AWS service this month, USD",
                    view="bar",
                    metrics=[
                        Metric(
                            label="",
                            expression=(
                                f"SEARCH('{{{METRIC_NAMESPACE},Service,Stack}} "
                                f'MetricName="MonthToDateSpend" Stack="{stack}"\', \'Maximum\')'
                            ),
                            id="services",
                        )
                    ],
                    region=args.region,
                ),
            ],
        ),
        Row(height=6, widgets=_node_widgets(args)),
        Row(
            height=6,
            widgets=[
                MetricWidget(
                    title="ACCOUNT-WIDE: estimated charges of every stack together, USD",
                    view="timeSeries",
                    metrics=[
                        Metric(
                            label="EstimatedCharges (whole account)",
                            namespace="AWS/Billing",
                            name="EstimatedCharges",
                            dimensions={"Currency": "USD"},
                        )
                    ],
                    region=args.region,
                )
            ],
        ),
    ]


def _node_widgets(args: CostDashboardArgs) -> list[MetricWidget]:
    """How many nodes there are, and how many of them are spot: empty until phase 2, so that the move changes nothing.

    EKS names a node group's Auto Scaling group after it, and switches these metrics on.
    """

    def nodes(id: str, label: str, *capacities: str) -> Metric:
        # Without quotes, which would ask for the whole name: EKS ends it with a random part.
        groups = " OR ".join(f"eks-{args.names.prefix}-{capacity}" for capacity in capacities)
        query = f'{{AWS/AutoScaling,AutoScalingGroupName}} MetricName="GroupInServiceInstances" ({groups})'
        return Metric(label=label, expression=f"SUM(SEARCH('{query}', 'Average'))", id=id)

    spot, total = nodes("spot", "Spot", "spot"), nodes("nodes", "All", "spot", "on-demand")
    return [
        MetricWidget(title="Nodes in service", view="timeSeries", metrics=[total, spot], region=args.region),
        MetricWidget(
            title="Spot share of the nodes, %",
            view="gauge",
            metrics=[
                Metric(label="% spot", expression="100 * spot / nodes", id="share"),
                _hidden(spot),
                _hidden(total),
            ],
            region=args.region,
            y_axis=(0, 100),
        ),
    ]


def _figure(stack: str, name: str, label: str, id: str) -> Metric:
    return Metric(label=label, namespace=METRIC_NAMESPACE, name=name, dimensions={"Stack": stack}, id=id)


def _hidden(metric: Metric) -> Metric:
    """The metric as input of an expression, not drawn itself."""
    return replace(metric, visible=False)
