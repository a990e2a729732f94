"""SpendReport: a small scheduled Lambda that turns the stack's bill into CloudWatch metrics.

CloudWatch has no spend by tag: its EstimatedCharges counts the whole account. So once a day Cost Explorer is asked
about the Stack tag; spend_reporter/handler.py is what runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from components.cost_foundation.spend_reporter.handler import METRIC_NAMESPACE
from components.cost_foundation.tags import TAGS
from components.shared.policies import allow, document, put_metrics, trust
from infra.naming import Names

SCHEDULE = "cron(0 6 * * ? *)"
"""Daily at 06:00 UTC. Cost Explorer refreshes daily and charges $0.01 a request; see cost/usage.toml."""

LOG_RETENTION_DAYS = 30
HANDLER_FILE = Path(__file__).parent / "spend_reporter" / "handler.py"


@dataclass(frozen=True, kw_only=True)
class SpendReportArgs:
    """Whose spend is reported, and who hears when the report fails."""

    names: Names
    account_id: str
    region: str
    budget_name: pulumi.Input[str]
    alert_topic_arn: pulumi.Input[str]


class SpendReport(pulumi.ComponentResource):
    """Lambda, its role and log group, its schedule, and an alarm for when it fails."""

    def __init__(self, name: str, args: SpendReportArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:SpendReport", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        function_name = args.names.of("spend-report")

        log_group = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/lambda/{function_name}",
            retention_in_days=LOG_RETENTION_DAYS,
            tags=TAGS,
            opts=child,
        )
        role = aws.iam.Role(
            f"{name}-role",
            name=function_name,
            description=f"Lets the spend report of {args.names.prefix} read costs and put metrics",
            assume_role_policy=pulumi.Output.json_dumps(trust("lambda.amazonaws.com")),
            tags=TAGS,
            opts=child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            name="read-costs-put-metrics",
            role=role.name,
            policy=pulumi.Output.json_dumps(_permissions(args, log_group.arn)),
            opts=child,
        )
        function = aws.lambda_.Function(
            f"{name}-function",
            name=function_name,
            description=f"Puts the month's spend of {args.names.prefix} into CloudWatch",
            runtime="python3.13",
            architectures=["arm64"],
            handler="handler.handler",
            code=pulumi.AssetArchive({"handler.py": pulumi.FileAsset(str(HANDLER_FILE))}),
            memory_size=128,
            timeout=60,
            role=role.arn,
            environment={"variables": {"STACK": args.names.stack, "BUDGET_NAME": args.budget_name}},
            tags=TAGS,
            # Without them the first run would fail, or make a log group of its own that never expires.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy, log_group]),
        )
        rule = aws.cloudwatch.EventRule(
            f"{name}-schedule",
            name=function_name,
            description=f"Runs the spend report of {args.names.prefix} every day",
            schedule_expression=SCHEDULE,
            tags=TAGS,
            opts=child,
        )
        permission = aws.lambda_.Permission(
            f"{name}-permission",
            statement_id="AllowSchedule",
            action="lambda:InvokeFunction",
            function=function.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=child,
        )
        aws.cloudwatch.EventTarget(
            f"{name}-target",
            rule=rule.name,
            target_id="spend-report",
            arn=function.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-failed",
            name=args.names.of("spend-report-failed"),
            alarm_description=f"The spend report of {args.names.prefix} failed: its dashboard shows old figures.",
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions={"FunctionName": function.name},
            statistic="Sum",
            period=3600,
            evaluation_periods=1,
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            treat_missing_data="notBreaching",
            alarm_actions=[args.alert_topic_arn],
            tags=TAGS,
            opts=child,
        )
        self.register_outputs({})


def _permissions(args: SpendReportArgs, log_group_arn: pulumi.Output[str]) -> dict[str, Any]:
    return document(
        allow("ReadCosts", ["ce:GetCostAndUsage", "ce:GetCostForecast"]),
        allow(
            "ReadBudget",
            ["budgets:ViewBudget"],
            pulumi.Output.concat("arn:aws:budgets::", args.account_id, ":budget/", args.budget_name),
        ),
        put_metrics("PutMetrics", METRIC_NAMESPACE),
        allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], pulumi.Output.concat(log_group_arn, ":*")),
    )
