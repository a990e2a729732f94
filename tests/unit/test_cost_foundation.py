"""Phase 1 as the runbook asks for it: budget, alerts, anomaly detection, spend report, dashboard, image registry."""

import json
import re
from decimal import Decimal
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cost_foundation import CostFoundation, Images
from components.cost_foundation.spend_reporter import handler
from infra.environments import ENVIRONMENTS
from infra.program import Platform
from infra.settings import Settings
from tests.unit.graph import ACCOUNT_ID, EMAILS, ROOT, Graph, Node, config, run
from tests.unit.graph import platform as platform_of_any_phase

TOPIC = "aws:sns/topic:Topic"
TOPIC_POLICY = "aws:sns/topicPolicy:TopicPolicy"
SUBSCRIPTION = "aws:sns/topicSubscription:TopicSubscription"
KEY = "aws:kms/key:Key"
KEY_ALIAS = "aws:kms/alias:Alias"
BUDGET = "aws:budgets/budget:Budget"
ANOMALY_MONITOR = "aws:costexplorer/anomalyMonitor:AnomalyMonitor"
ANOMALY_SUBSCRIPTION = "aws:costexplorer/anomalySubscription:AnomalySubscription"
DASHBOARD = "aws:cloudwatch/dashboard:Dashboard"
LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
RULE = "aws:cloudwatch/eventRule:EventRule"
TARGET = "aws:cloudwatch/eventTarget:EventTarget"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
FUNCTION = "aws:lambda/function:Function"
PERMISSION = "aws:lambda/permission:Permission"
REPOSITORY = "aws:ecr/repository:Repository"
LIFECYCLE = "aws:ecr/lifecyclePolicy:LifecyclePolicy"

PUBLISHERS = {"budgets.amazonaws.com", "costalerts.amazonaws.com", "cloudwatch.amazonaws.com"}
ECR = {"mirror": "ecr"}

platform = partial(platform_of_any_phase, phase=1)

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def topic_arn(graph: Graph) -> str:
    return graph.only(TOPIC).outputs["arn"]


def account_alarm(graph: Graph) -> Node:
    return graph.named("cost-foundation-monitoring-account-charges")


def failure_alarm(graph: Graph) -> Node:
    return graph.named("cost-foundation-spend-report-failed")


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    assert policy["Version"] == "2012-10-17"
    return policy["Statement"]


def actions(statement: dict[str, Any]) -> set[str]:
    action = statement["Action"]
    return {action} if isinstance(action, str) else set(action)


class TestBudget:
    @pytest.mark.parametrize(("stack", "limit"), [("dev", "98"), ("staging", "150"), ("prod", "395")])
    def test_it_is_the_stacks_monthly_limit_in_dollars(self, stack: str, limit: str) -> None:
        inputs = platform(stack).only(BUDGET).inputs
        assert inputs["name"] == f"pyairtable-{stack}-monthly-budget"
        assert (inputs["limitAmount"], inputs["limitUnit"]) == (limit, "USD")
        assert (inputs["timeUnit"], inputs["budgetType"]) == ("MONTHLY", "COST")

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_it_counts_what_carries_the_stacks_tag(self, stack: str) -> None:
        assert platform(stack).only(BUDGET).inputs["filterExpression"] == {"tags": {"key": "Stack", "values": [stack]}}

    def test_it_says_its_metric_as_a_budget_with_an_expression_must(self) -> None:
        inputs = platform("dev").only(BUDGET).inputs
        assert inputs["metrics"] == handler.COST_METRIC
        assert not inputs.keys() & {"costFilters", "costTypes"}

    @in_every_environment
    def test_it_alerts_the_topic_at_half_four_fifths_and_all_of_it_and_at_a_forecast_of_all_of_it(
        self, stack: str
    ) -> None:
        graph = platform(stack)
        alerts = graph.only(BUDGET).inputs["notifications"]
        assert [(alert["notificationType"], alert["threshold"]) for alert in alerts] == [
            ("ACTUAL", 50),
            ("ACTUAL", 80),
            ("ACTUAL", 100),
            ("FORECASTED", 100),
        ]
        assert all(alert["thresholdType"] == "PERCENTAGE" for alert in alerts)
        assert all(alert["comparisonOperator"] == "GREATER_THAN" for alert in alerts)
        assert all(alert["subscriberSnsTopicArns"] == [topic_arn(graph)] for alert in alerts)
        assert not any("subscriberEmailAddresses" in alert for alert in alerts)

    def test_another_budget_is_a_change_of_one_resource(self) -> None:
        before, after = platform("dev"), platform("dev", monthlyBudgetUsd=120)
        changed = [old.name for old, new in zip(before.nodes, after.nodes, strict=True) if old.inputs != new.inputs]
        assert changed == ["cost-foundation-monitoring-budget"]


def service_of(statement: dict[str, Any]) -> str:
    """The service that a statement admits."""
    return statement["Principal"]["Service"]


class TestAlertTopic:
    @in_every_environment
    def test_it_is_named_after_the_stack(self, stack: str) -> None:
        assert platform(stack).only(TOPIC).inputs["name"] == f"pyairtable-{stack}-cost-alerts"

    def test_the_policy_is_the_topics(self) -> None:
        graph = platform("dev")
        assert graph.only(TOPIC_POLICY).inputs["arn"] == topic_arn(graph)

    @in_every_environment
    def test_the_policy_admits_exactly_budgets_anomaly_detection_and_alarms(self, stack: str) -> None:
        principals = [s["Principal"] for s in statements(platform(stack).only(TOPIC_POLICY).json())]
        assert all(principal.keys() == {"Service"} for principal in principals)
        assert sorted(principal["Service"] for principal in principals) == sorted(PUBLISHERS)

    def test_the_policy_allows_publishing_to_this_topic_and_nothing_else(self) -> None:
        graph = platform("dev")
        for statement in statements(graph.only(TOPIC_POLICY).json()):
            assert statement["Effect"] == "Allow"
            assert actions(statement) == {"sns:Publish"}
            assert statement["Resource"] == topic_arn(graph)

    def test_the_policy_admits_a_service_only_on_behalf_of_this_account(self) -> None:
        sources = {
            "budgets.amazonaws.com": f"arn:aws:budgets::{ACCOUNT_ID}:*",
            "cloudwatch.amazonaws.com": f"arn:aws:cloudwatch:us-east-1:{ACCOUNT_ID}:alarm:*",
        }
        for statement in statements(platform("dev").only(TOPIC_POLICY).json()):
            assert statement["Condition"] == {
                "StringEquals": {"aws:SourceAccount": ACCOUNT_ID},
                # AWS sends no source ARN for Cost Anomaly Detection, and refuses what asks for one.
                **({"ArnLike": {"aws:SourceArn": source}} if (source := sources.get(service_of(statement))) else {}),
            }

    def test_whatever_alerts_through_it_comes_after_its_policy(self) -> None:
        graph = platform("dev")
        policy = graph.only(TOPIC_POLICY).urn
        alerting = [graph.only(BUDGET), graph.only(ANOMALY_SUBSCRIPTION), account_alarm(graph), failure_alarm(graph)]
        assert [node.name for node in alerting if policy not in node.dependencies] == []

    def test_every_address_has_one_subscription(self) -> None:
        graph = platform("dev")
        subscriptions = [node.inputs for node in graph.of_type(SUBSCRIPTION)]
        assert sorted(inputs["endpoint"] for inputs in subscriptions) == sorted(EMAILS)
        assert all(inputs["protocol"] == "email" for inputs in subscriptions)
        assert all(inputs["topic"] == topic_arn(graph) for inputs in subscriptions)

    def test_another_address_leaves_the_other_subscriptions_alone(self) -> None:
        before = {node.urn: node.inputs for node in platform("dev").nodes}
        after = {node.urn: node.inputs for node in platform("dev", alertEmails=["new@b.example", *EMAILS]).nodes}
        assert {urn.rpartition("-")[2] for urn in after.keys() - before.keys()} == {"new@b.example"}
        assert before == {urn: after[urn] for urn in before}


class TestKey:
    @pytest.mark.parametrize("stack", ["dev", "staging"])
    def test_dev_and_staging_do_without(self, stack: str) -> None:
        graph = platform(stack)
        assert graph.of_type(KEY) == graph.of_type(KEY_ALIAS) == ()
        assert "kmsMasterKeyId" not in graph.only(TOPIC).inputs

    def test_prods_topic_is_encrypted_with_it(self) -> None:
        graph = platform("prod")
        assert graph.only(TOPIC).inputs["kmsMasterKeyId"] == graph.only(KEY).outputs["arn"]

    def test_it_rotates(self) -> None:
        assert platform("prod").only(KEY).inputs["enableKeyRotation"] is True

    def test_it_is_found_by_the_topics_name(self) -> None:
        graph = platform("prod")
        alias = graph.only(KEY_ALIAS).inputs
        assert alias["name"] == "alias/pyairtable-prod-cost-alerts"
        assert alias["targetKeyId"] == graph.only(KEY).outputs["keyId"]

    def test_the_services_that_publish_may_use_it(self) -> None:
        of_services = [s for s in statements(platform("prod").only(KEY).json()) if "Service" in s["Principal"]]
        assert {s["Principal"]["Service"] for s in of_services} == PUBLISHERS
        assert all(actions(s) == {"kms:Decrypt", "kms:GenerateDataKey*"} for s in of_services)
        assert all(s["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT_ID} for s in of_services)

    def test_besides_them_only_the_account_itself_may(self) -> None:
        others = [s for s in statements(platform("prod").only(KEY).json()) if "Service" not in s["Principal"]]
        assert [s["Principal"] for s in others] == [{"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}]


@in_every_environment
def test_no_policy_admits_everyone(stack: str) -> None:
    graph = platform(stack)
    policies = [node.json() for node in graph.nodes if "policy" in node.inputs]
    principals = [s["Principal"] for policy in policies for s in statements(policy) if "Principal" in s]
    assert principals
    assert [p for p in principals if p == "*" or "*" in p.values()] == []


class TestAnomalyDetection:
    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_the_monitor_watches_what_carries_the_stacks_tag(self, stack: str) -> None:
        monitor = platform(stack).only(ANOMALY_MONITOR)
        assert monitor.inputs["monitorType"] == "CUSTOM"
        assert monitor.json("monitorSpecification") == {
            "And": None,
            "CostCategories": None,
            "Dimensions": None,
            "Not": None,
            "Or": None,
            "Tags": {"Key": "Stack", "MatchOptions": None, "Values": [stack]},
        }

    def test_the_topic_hears_of_each_anomaly_at_once(self) -> None:
        graph = platform("dev")
        inputs = graph.only(ANOMALY_SUBSCRIPTION).inputs
        assert inputs["subscribers"] == [{"type": "SNS", "address": topic_arn(graph)}]
        assert inputs["frequency"] == "IMMEDIATE"
        assert inputs["monitorArnLists"] == [graph.only(ANOMALY_MONITOR).outputs["arn"]]

    def test_small_change_is_not_worth_a_message(self) -> None:
        assert platform("dev").only(ANOMALY_SUBSCRIPTION).inputs["thresholdExpression"] == {
            "dimension": {
                "key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
                "values": ["5"],
                "matchOptions": ["GREATER_THAN_OR_EQUAL"],
            }
        }


class TestAccountWideAlarm:
    def test_it_watches_the_charges_of_the_whole_account(self) -> None:
        inputs = account_alarm(platform("dev")).inputs
        assert (inputs["namespace"], inputs["metricName"]) == ("AWS/Billing", "EstimatedCharges")
        assert inputs["dimensions"] == {"Currency": "USD"}

    def test_it_says_that_it_is_account_wide(self) -> None:
        inputs = account_alarm(platform("dev")).inputs
        assert "account-wide" in inputs["name"]
        assert inputs["alarmDescription"].startswith("ACCOUNT-WIDE: ")

    def test_it_goes_off_above_the_accounts_limit_whatever_the_stacks_budget(self) -> None:
        inputs = account_alarm(platform("dev", accountWideLimitUsd=1000, monthlyBudgetUsd=50)).inputs
        assert inputs["threshold"] == 1000
        assert inputs["comparisonOperator"] == "GreaterThanThreshold"
        assert "exceed 1000 USD" in inputs["alarmDescription"]

    def test_its_period_is_how_often_aws_publishes_the_metric(self) -> None:
        assert account_alarm(platform("dev")).inputs["period"] == 6 * 3600

    def test_it_alerts_the_topic(self) -> None:
        graph = platform("dev")
        assert account_alarm(graph).inputs["alarmActions"] == [topic_arn(graph)]


class TestSpendReport:
    def test_it_runs_the_handler_that_these_tests_cover(self) -> None:
        inputs = platform("dev").only(FUNCTION).inputs
        (name, asset), *others = inputs["code"]["archive"].items()
        module, function = inputs["handler"].split(".")
        assert others == []
        assert name == f"{module}.py"
        assert ROOT / asset["file"] == Path(handler.__file__)
        assert callable(getattr(handler, function))

    def test_it_runs_on_arm_with_little_memory(self) -> None:
        inputs = platform("dev").only(FUNCTION).inputs
        assert inputs["architectures"] == ["arm64"]
        assert inputs["memorySize"] == 128
        assert inputs["runtime"].startswith("python3.")

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_it_is_told_its_stack_and_its_budget(self, stack: str) -> None:
        graph = platform(stack)
        assert graph.only(FUNCTION).inputs["environment"] == {
            "variables": {"STACK": stack, "BUDGET_NAME": graph.only(BUDGET).outputs["name"]}
        }

    def test_it_runs_as_a_role_that_only_lambda_may_assume(self) -> None:
        graph = platform("dev")
        (statement,) = statements(graph.only(ROLE).json("assumeRolePolicy"))
        assert graph.only(FUNCTION).inputs["role"] == graph.only(ROLE).outputs["arn"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert actions(statement) == {"sts:AssumeRole"}

    def test_its_role_may_do_what_the_handler_does_and_no_more(self) -> None:
        graph = platform("dev")
        policy = graph.only(ROLE_POLICY)
        assert policy.inputs["role"] == graph.only(ROLE).outputs["name"]
        assert set().union(*(actions(statement) for statement in statements(policy.json()))) == {
            "ce:GetCostAndUsage",
            "ce:GetCostForecast",
            "budgets:ViewBudget",
            "cloudwatch:PutMetricData",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        }

    def test_its_role_has_no_other_policies(self) -> None:
        inputs = platform("dev").only(ROLE).inputs
        assert not inputs.keys() & {"managedPolicyArns", "inlinePolicies"}

    def test_it_puts_metrics_into_its_own_namespace_only(self) -> None:
        by_action = {frozenset(actions(s)): s for s in statements(platform("dev").only(ROLE_POLICY).json())}
        assert by_action[frozenset({"cloudwatch:PutMetricData"})]["Condition"] == {
            "StringEquals": {"cloudwatch:namespace": handler.METRIC_NAMESPACE}
        }

    def test_only_what_aws_cannot_narrow_is_allowed_on_every_resource(self) -> None:
        everywhere = [s for s in statements(platform("dev").only(ROLE_POLICY).json()) if s["Resource"] == "*"]
        assert set().union(*(actions(statement) for statement in everywhere)) == {
            "ce:GetCostAndUsage",
            "ce:GetCostForecast",
            "cloudwatch:PutMetricData",
        }

    def test_it_reads_this_stacks_budget_only(self) -> None:
        by_action = {frozenset(actions(s)): s for s in statements(platform("dev").only(ROLE_POLICY).json())}
        assert (
            by_action[frozenset({"budgets:ViewBudget"})]["Resource"]
            == f"arn:aws:budgets::{ACCOUNT_ID}:budget/pyairtable-dev-monthly-budget"
        )

    def test_it_logs_to_its_own_group_only(self) -> None:
        graph = platform("dev")
        by_action = {frozenset(actions(s)): s for s in statements(graph.only(ROLE_POLICY).json())}
        logs = by_action[frozenset({"logs:CreateLogStream", "logs:PutLogEvents"})]
        assert logs["Resource"] == f"{graph.only(LOG_GROUP).outputs['arn']}:*"

    def test_its_log_group_is_the_one_that_lambda_writes_to_and_forgets(self) -> None:
        graph = platform("dev")
        group = graph.only(LOG_GROUP).inputs
        assert group["name"] == f"/aws/lambda/{graph.only(FUNCTION).inputs['name']}"
        assert group["retentionInDays"] == 30

    def test_it_exists_only_after_its_permissions_and_its_log_group(self) -> None:
        graph = platform("dev")
        assert {graph.only(ROLE_POLICY).urn, graph.only(LOG_GROUP).urn} <= graph.only(FUNCTION).dependencies

    def test_its_schedule_targets_it_every_day_once_it_may(self) -> None:
        graph = platform("dev")
        rule, target = graph.only(RULE), graph.only(TARGET)
        assert rule.inputs["scheduleExpression"] == "cron(0 6 * * ? *)"
        assert target.inputs["rule"] == rule.outputs["name"]
        assert target.inputs["arn"] == graph.only(FUNCTION).outputs["arn"]
        assert graph.only(PERMISSION).urn in target.dependencies

    def test_its_schedule_alone_may_invoke_it(self) -> None:
        graph = platform("dev")
        permission = graph.only(PERMISSION).inputs
        assert permission["principal"] == "events.amazonaws.com"
        assert permission["sourceArn"] == graph.only(RULE).outputs["arn"]
        assert permission["action"] == "lambda:InvokeFunction"
        assert permission["function"] == graph.only(FUNCTION).outputs["name"]

    def test_the_topic_hears_of_its_first_failure(self) -> None:
        graph = platform("dev")
        inputs = failure_alarm(graph).inputs
        assert (inputs["namespace"], inputs["metricName"]) == ("AWS/Lambda", "Errors")
        assert inputs["dimensions"] == {"FunctionName": graph.only(FUNCTION).outputs["name"]}
        assert (inputs["statistic"], inputs["comparisonOperator"], inputs["threshold"]) == (
            "Sum",
            "GreaterThanThreshold",
            0,
        )
        assert inputs["alarmActions"] == [topic_arn(graph)]

    def test_the_hours_without_a_run_are_no_failure(self) -> None:
        assert failure_alarm(platform("dev")).inputs["treatMissingData"] == "notBreaching"


class TestDashboard:
    @staticmethod
    def widgets(stack: str = "dev", **settings: object) -> list[dict[str, Any]]:
        return platform(stack, **settings).only(DASHBOARD).json("dashboardBody")["widgets"]

    @classmethod
    def metrics(cls, stack: str = "dev") -> dict[str, list[tuple[Any, ...]]]:
        """The metrics that each widget draws, by its title: names and dimensions, or an expression."""
        return {
            widget["properties"]["title"]: [
                tuple(metric[:-1]) or (metric[-1]["expression"],)
                for metric in widget["properties"]["metrics"]
                if metric[-1]["visible"]
            ]
            for widget in cls.widgets(stack)
            if widget["type"] == "metric"
        }

    @in_every_environment
    def test_it_is_named_after_the_stack(self, stack: str) -> None:
        assert platform(stack).only(DASHBOARD).inputs["dashboardName"] == f"pyairtable-{stack}-cost-optimization"

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_it_shows_the_stacks_spend_budget_and_forecast_as_numbers(self, stack: str) -> None:
        assert set(self.metrics(stack)["This month, USD"]) == {
            ("PyAirtable/Cost", "MonthToDateSpend", "Stack", stack),
            ("PyAirtable/Cost", "MonthlyBudget", "Stack", stack),
            ("PyAirtable/Cost", "ForecastSpend", "Stack", stack),
        }

    def test_it_shows_how_much_of_the_budget_is_spent(self) -> None:
        assert self.metrics()["Spent, % of budget"] == [("100 * spend / budget",)]

    def test_what_an_expression_refers_to_is_in_its_widget(self) -> None:
        for widget in self.widgets():
            metrics = [metric[-1] for metric in widget["properties"].get("metrics", [])]
            sums = [metric["expression"] for metric in metrics if "SEARCH" not in metric.get("expression", "SEARCH")]
            referred = {name for expression in sums for name in re.findall(r"[a-z]\w*", expression)}
            assert referred <= {metric.get("id") for metric in metrics}

    def test_the_gauge_of_the_budget_takes_spend_and_budget(self) -> None:
        (gauge,) = (w["properties"] for w in self.widgets() if w["properties"].get("title") == "Spent, % of budget")
        by_id = {metric[-1]["id"]: metric[1] for metric in gauge["metrics"] if len(metric) > 1}
        assert by_id == {"spend": "MonthToDateSpend", "budget": "MonthlyBudget"}

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_it_counts_the_nodes_of_the_stacks_own_groups(self, stack: str) -> None:
        searched = dict(zip(("all", "spot"), self.metrics(stack)["Nodes in service"], strict=True))
        groups = {kind: set(re.findall(r"eks-[\w-]+", search)) for kind, (search,) in searched.items()}
        assert groups["spot"] == {f"eks-pyairtable-{stack}-spot"}
        assert groups["all"] == {f"eks-pyairtable-{stack}-spot", f"eks-pyairtable-{stack}-on-demand"}

    def test_it_searches_groups_by_the_beginning_of_their_names_which_quotes_would_not(self) -> None:
        ((search,), _) = self.metrics()["Nodes in service"]
        assert 'MetricName="GroupInServiceInstances"' in search
        assert '"eks-' not in search

    def test_it_shows_the_share_of_spot_nodes(self) -> None:
        assert self.metrics()["Spot share of the nodes, %"] == [("100 * spot / nodes",)]

    def test_it_shows_spend_against_budget_over_time(self) -> None:
        drawn = {metric[1] for metric in self.metrics()["Spend against budget, USD"]}
        assert drawn >= {"MonthToDateSpend", "MonthlyBudget"}

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_it_shows_the_stacks_spend_by_service(self, stack: str) -> None:
        ((search,),) = self.metrics(stack)["Spend by AWS service this month, USD"]
        assert search == (
            f"""SEARCH('{{PyAirtable/Cost,Service,Stack}} MetricName="MonthToDateSpend" Stack="{stack}"', 'Maximum')"""
        )

    def test_only_the_widget_of_the_accounts_charges_is_account_wide_and_says_so(self) -> None:
        account_wide = {title for title, drawn in self.metrics().items() if any("AWS/Billing" in m for m in drawn)}
        labelled = {title for title in self.metrics() if title.startswith("ACCOUNT-WIDE")}
        assert len(account_wide) == 1
        assert account_wide == labelled

    def test_it_shows_the_metrics_that_the_spend_report_puts(self) -> None:
        put = {
            (handler.METRIC_NAMESPACE, data["MetricName"], *(part for d in data["Dimensions"] for part in d.values()))
            for data in handler.metric_data(
                "dev", dict.fromkeys(["MonthToDateSpend", "ForecastSpend", "MonthlyBudget"], Decimal(1)), {}
            )
        }
        shown = {metric for drawn in self.metrics().values() for metric in drawn if metric[0] == "PyAirtable/Cost"}
        assert shown == put

    def test_ids_are_unique_within_a_widget(self) -> None:
        for widget in self.widgets():
            ids = [metric[-1]["id"] for metric in widget["properties"].get("metrics", []) if "id" in metric[-1]]
            assert len(ids) == len(set(ids))

    def test_every_widget_is_of_the_stacks_region(self) -> None:
        assert {w["properties"]["region"] for w in self.widgets() if w["type"] == "metric"} == {"us-east-1"}

    def test_widgets_lie_within_the_grid(self) -> None:
        assert all(w["x"] >= 0 and w["width"] > 0 and w["x"] + w["width"] <= 24 for w in self.widgets())

    def test_widgets_do_not_overlap(self) -> None:
        def apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
            return (
                one["x"] + one["width"] <= other["x"]
                or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"]
                or other["y"] + other["height"] <= one["y"]
            )

        assert all(apart(one, other) for one, other in combinations(self.widgets(), 2))

    def test_the_amount_of_the_budget_is_not_in_its_body(self) -> None:
        assert "54321" not in json.dumps(self.widgets(monthlyBudgetUsd=54321))


class ImagesOf(Protocol):
    """The image references of the dev stack whose registry is set like this."""

    def __call__(self, **registry: object) -> Images: ...


@pytest.fixture
def images_of(monkeypatch: pytest.MonkeyPatch) -> ImagesOf:
    """Keeps hold of the component that the platform makes: later phases get their images from it."""
    made: list[CostFoundation] = []

    class Kept(CostFoundation):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("components.cost_foundation.CostFoundation", Kept)

    def images_of(**registry: object) -> Images:
        settings = Settings.from_config("dev", config("dev", phase=1, services=[], registry=registry))
        run(lambda: Platform(settings), "dev")
        return made[-1].images

    return images_of


class TestImageRegistry:
    @in_every_environment
    def test_without_a_mirror_there_is_no_ecr(self, stack: str) -> None:
        graph = platform(stack)
        assert graph.of_type(REPOSITORY) == graph.of_type(LIFECYCLE) == ()

    @pytest.mark.parametrize(
        ("group", "service", "tag"), [("legacy", "api-gateway", "v1.0.0"), ("microservices", "auth-service", "v2.0.0")]
    )
    def test_without_a_mirror_images_come_from_ghcr(
        self, images_of: ImagesOf, group: Any, service: str, tag: str
    ) -> None:
        reference = images_of().reference(group, service, tag)
        assert reference == f"ghcr.io/pyairtable-org/{group}/{service}:{tag}"

    def test_images_come_from_the_host_and_organization_that_are_set(self, images_of: ImagesOf) -> None:
        images = images_of(host="registry.example", organization="acme")
        assert images.reference("legacy", "mcp-server", "v1") == "registry.example/acme/legacy/mcp-server:v1"

    def test_with_a_mirror_images_come_from_the_accounts_ecr(self, images_of: ImagesOf) -> None:
        assert images_of(**ECR).reference("legacy", "mcp-server", "v1") == (
            f"{ACCOUNT_ID}.dkr.ecr.us-east-1.amazonaws.com/pyairtable-dev/legacy/mcp-server:v1"
        )

    def test_the_mirrors_references_lead_to_its_repositories(self, images_of: ImagesOf) -> None:
        host = f"{ACCOUNT_ID}.dkr.ecr.us-east-1.amazonaws.com"
        images = images_of(**ECR)
        assert {
            images.reference(group, service, "v1") for group, names in images.repositories.items() for service in names
        } == {f"{host}/{node.inputs['name']}:v1" for node in platform("dev", registry=ECR).of_type(REPOSITORY)}

    @pytest.mark.parametrize(("group", "service"), [("legacy", "auth-service"), ("microservices", "mcp-server")])
    def test_an_unknown_repository_is_an_error_that_names_it(
        self, images_of: ImagesOf, group: Any, service: str
    ) -> None:
        with pytest.raises(KeyError, match=f"no repository {group}/{service}; add it to pyairtable:registry"):
            images_of().reference(group, service, "v1")

    def test_a_group_without_repositories_has_none(self, images_of: ImagesOf) -> None:
        with pytest.raises(KeyError, match="microservices/auth-service"):
            images_of(repositories={"legacy": ["api-gateway"]}).reference("microservices", "auth-service", "v1")

    @pytest.mark.parametrize("stack", [*ENVIRONMENTS, "alice-dev"])
    def test_with_a_mirror_every_repository_has_one_in_ecr(self, stack: str) -> None:
        repositories = Settings.from_config(stack, config(stack)).registry.repositories
        assert sorted(node.inputs["name"] for node in platform(stack, registry=ECR).of_type(REPOSITORY)) == sorted(
            f"pyairtable-{stack}/{group}/{service}" for group, names in repositories.items() for service in names
        )

    def test_a_mirrored_tag_never_moves(self) -> None:
        repositories = platform("dev", registry=ECR).of_type(REPOSITORY)
        assert {node.inputs["imageTagMutability"] for node in repositories} == {"IMMUTABLE"}

    def test_a_mirrored_image_is_scanned_when_it_is_pushed(self) -> None:
        repositories = platform("dev", registry=ECR).of_type(REPOSITORY)
        assert all(node.inputs["imageScanningConfiguration"] == {"scanOnPush": True} for node in repositories)

    def test_a_mirror_goes_away_with_its_images(self) -> None:
        assert all(node.inputs["forceDelete"] is True for node in platform("dev", registry=ECR).of_type(REPOSITORY))

    def test_every_repository_of_the_mirror_has_a_lifecycle(self) -> None:
        graph = platform("dev", registry=ECR)
        assert sorted(node.inputs["repository"] for node in graph.of_type(LIFECYCLE)) == sorted(
            node.outputs["name"] for node in graph.of_type(REPOSITORY)
        )

    def test_untagged_images_go_after_a_day_and_of_the_others_the_last_ten_stay(self) -> None:
        for node in platform("dev", registry=ECR).of_type(LIFECYCLE):
            rules = node.json()["rules"]
            assert [(rule["rulePriority"], rule["selection"], rule["action"]["type"]) for rule in rules] == [
                (
                    1,
                    {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1},
                    "expire",
                ),
                (2, {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}, "expire"),
            ]
