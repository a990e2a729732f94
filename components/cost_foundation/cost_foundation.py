"""CostFoundation: the whole of phase 1 (runbook section 1)."""

from dataclasses import dataclass
from decimal import Decimal

import pulumi

from components.cost_foundation.alert_topic import AlertTopic, AlertTopicArgs
from components.cost_foundation.cost_dashboard import CostDashboard, CostDashboardArgs
from components.cost_foundation.cost_monitoring import CostMonitoring, CostMonitoringArgs
from components.cost_foundation.image_registry import ImageRegistry, Images, RegistryArgs
from components.cost_foundation.spend_report import SpendReport, SpendReportArgs
from infra.naming import Names


@dataclass(frozen=True, kw_only=True)
class CostFoundationArgs:
    """What phase 1 needs to know about its stack."""

    names: Names
    account_id: str
    region: str
    monthly_limit_usd: Decimal
    account_wide_limit_usd: Decimal
    alert_emails: tuple[str, ...]
    encrypt_alerts_with_own_key: bool
    registry: RegistryArgs


class CostFoundation(pulumi.ComponentResource):
    """Budget, alerts, anomaly detection, spend report, dashboard and image registry of one stack."""

    budget_name: pulumi.Output[str]
    alert_topic_arn: pulumi.Output[str]
    dashboard_name: pulumi.Output[str]
    images: Images

    def __init__(self, name: str, args: CostFoundationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:CostFoundation", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        alerts = AlertTopic(
            f"{name}-alerts",
            AlertTopicArgs(
                names=args.names,
                account_id=args.account_id,
                region=args.region,
                emails=args.alert_emails,
                own_key=args.encrypt_alerts_with_own_key,
            ),
            child,
        )
        monitoring = CostMonitoring(
            f"{name}-monitoring",
            CostMonitoringArgs(
                names=args.names,
                monthly_limit_usd=args.monthly_limit_usd,
                account_wide_limit_usd=args.account_wide_limit_usd,
                alert_topic_arn=alerts.arn,
            ),
            child,
        )
        SpendReport(
            f"{name}-spend-report",
            SpendReportArgs(
                names=args.names,
                account_id=args.account_id,
                region=args.region,
                budget_name=monitoring.budget_name,
                alert_topic_arn=alerts.arn,
            ),
            child,
        )
        dashboard = CostDashboard(f"{name}-dashboard", CostDashboardArgs(names=args.names, region=args.region), child)
        registry = ImageRegistry(f"{name}-registry", args.registry, child)

        self.budget_name = monitoring.budget_name
        self.alert_topic_arn = alerts.arn
        self.dashboard_name = dashboard.dashboard_name
        self.images = registry.images
        self.register_outputs(
            {
                "budget_name": self.budget_name,
                "alert_topic_arn": self.alert_topic_arn,
                "dashboard_name": self.dashboard_name,
            }
        )
