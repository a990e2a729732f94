"""The spend report's Lambda, against AWS's own models of the services that it asks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from components.cost_foundation.spend_reporter import handler
from components.cost_foundation.spend_reporter.handler import Spend

STACK = "alice-dev"
BUDGET_NAME = "pyairtable-alice-dev-monthly-budget"
ACCOUNT_ID = "123456789012"
FILTER = {"Tags": {"Key": "Stack", "Values": [STACK]}}
NOTHING_SPENT = Spend({}, Decimal(0))

SERVICES = ("ce", "budgets", "cloudwatch")


@dataclass(frozen=True)
class Cloud:
    """Clients that answer only what was agreed on, in order, and hold requests and answers against AWS's models."""

    clients: Mapping[str, Any]
    stubs: Mapping[str, Stubber]

    @property
    def cost_explorer(self) -> Any:
        return self.clients["ce"]


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_PROFILE", raising=False)
        environment.delenv("AWS_DEFAULT_PROFILE", raising=False)
        session = boto3.Session("test", "test", region_name="us-east-1")
        return {service: session.client(service) for service in SERVICES}


@pytest.fixture
def cloud(clients: dict[str, Any]) -> Iterator[Cloud]:
    stubs = {service: Stubber(client) for service, client in clients.items()}
    for stub in stubs.values():
        stub.activate()
    yield Cloud(clients, stubs)
    for stub in stubs.values():
        stub.deactivate()
        stub.assert_no_pending_responses()


def day(start: str, end: str, **amounts: str) -> dict[str, Any]:
    """One day of Cost Explorer's answer."""
    return {
        "TimePeriod": {"Start": start, "End": end},
        "Estimated": True,
        "Total": {},
        "Groups": [
            {"Keys": [service], "Metrics": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}}
            for service, amount in amounts.items()
        ],
    }


def usage_request(start: str, end: str, **more: Any) -> dict[str, Any]:
    return {
        "TimePeriod": {"Start": start, "End": end},
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
        "Filter": FILTER,
        "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
        **more,
    }


def forecast_request(start: str, end: str) -> dict[str, Any]:
    return {
        "TimePeriod": {"Start": start, "End": end},
        "Granularity": "DAILY",
        "Metric": "UNBLENDED_COST",
        "Filter": FILTER,
    }


def forecast_answer(amount: str) -> dict[str, Any]:
    return {"Total": {"Amount": amount, "Unit": "USD"}, "ForecastResultsByTime": []}


def budget_answer(amount: str) -> dict[str, Any]:
    return {
        "Budget": {
            "BudgetName": BUDGET_NAME,
            "BudgetLimit": {"Amount": amount, "Unit": "USD"},
            "TimeUnit": "DAILY",
            "BudgetType": "COST",
        }
    }


class TestMonthToDate:
    @pytest.mark.parametrize(
        ("today", "start", "end"),
        [
            (date(2026, 8, 1), "2026-08-01", "2026-08-02"),
            (date(2026, 8, 15), "2026-08-01", "2026-08-16"),
            (date(2026, 8, 31), "2026-08-01", "2026-09-01"),
            (date(2026, 12, 31), "2026-12-01", "2027-01-01"),
            (date(2028, 2, 29), "2028-02-01", "2028-03-01"),
        ],
        ids=["first-day", "mid-month", "last-day", "last-day-of-the-year", "leap-day"],
    )
    def test_it_asks_from_the_first_of_the_month_to_the_end_of_today(
        self, cloud: Cloud, today: date, start: str, end: str
    ) -> None:
        cloud.stubs["ce"].add_response("get_cost_and_usage", {"ResultsByTime": []}, usage_request(start, end))
        assert handler.month_to_date(cloud.cost_explorer, STACK, today) == NOTHING_SPENT

    def test_it_adds_up_the_days_of_each_service(self, cloud: Cloud) -> None:
        days = [
            day("2026-08-01", "2026-08-02", EKS="1.10", EC2="2.20"),
            day("2026-08-02", "2026-08-03", EKS="1.15", S3="0.000000012"),
        ]
        cloud.stubs["ce"].add_response("get_cost_and_usage", {"ResultsByTime": days})
        spend = handler.month_to_date(cloud.cost_explorer, STACK, date(2026, 8, 2))
        assert spend.by_service == {"EKS": Decimal("2.25"), "EC2": Decimal("2.20"), "S3": Decimal("0.000000012")}
        assert spend.total == Decimal("4.450000012")

    def test_it_keeps_today_apart_from_the_days_before(self, cloud: Cloud) -> None:
        days = [
            day("2026-08-01", "2026-08-02", EKS="1.00"),
            day("2026-08-02", "2026-08-03", EKS="2.00"),
            day("2026-08-03", "2026-08-04", EKS="4.00"),
        ]
        cloud.stubs["ce"].add_response("get_cost_and_usage", {"ResultsByTime": days})
        assert handler.month_to_date(cloud.cost_explorer, STACK, date(2026, 8, 3)).before_today == Decimal("3.00")

    def test_on_the_first_of_the_month_nothing_was_before_today(self, cloud: Cloud) -> None:
        cloud.stubs["ce"].add_response(
            "get_cost_and_usage", {"ResultsByTime": [day("2026-08-01", "2026-08-02", EKS="1.00")]}
        )
        spend = handler.month_to_date(cloud.cost_explorer, STACK, date(2026, 8, 1))
        assert (spend.total, spend.before_today) == (Decimal("1.00"), Decimal(0))

    def test_it_reads_every_page(self, cloud: Cloud) -> None:
        stub = cloud.stubs["ce"]
        pages = [
            {"ResultsByTime": [day("2026-08-01", "2026-08-02", EKS="1.00")], "NextPageToken": "second"},
            {"ResultsByTime": [day("2026-08-01", "2026-08-02", S3="2.00")], "NextPageToken": "third"},
            {"ResultsByTime": [day("2026-08-02", "2026-08-03", EKS="4.00")]},
        ]
        tokens: list[dict[str, Any]] = [{}, {"NextPageToken": "second"}, {"NextPageToken": "third"}]
        for page, token in zip(pages, tokens, strict=True):
            stub.add_response("get_cost_and_usage", page, usage_request("2026-08-01", "2026-08-03", **token))
        spend = handler.month_to_date(cloud.cost_explorer, STACK, date(2026, 8, 2))
        assert spend == Spend({"EKS": Decimal("5.00"), "S3": Decimal("2.00")}, before_today=Decimal("3.00"))

    def test_a_credit_lowers_the_spend(self, cloud: Cloud) -> None:
        days = [day("2026-08-01", "2026-08-02", EKS="3.00", Credits="-1.00")]
        cloud.stubs["ce"].add_response("get_cost_and_usage", {"ResultsByTime": days})
        assert handler.month_to_date(cloud.cost_explorer, STACK, date(2026, 8, 1)).total == Decimal("2.00")


class TestForecast:
    @pytest.mark.parametrize(
        ("today", "start", "end"),
        [
            (date(2026, 8, 1), "2026-08-01", "2026-09-01"),
            (date(2026, 8, 31), "2026-08-31", "2026-09-01"),
            (date(2026, 12, 1), "2026-12-01", "2027-01-01"),
            (date(2026, 12, 31), "2026-12-31", "2027-01-01"),
            (date(2027, 1, 31), "2027-01-31", "2027-02-01"),
            (date(2027, 2, 28), "2027-02-28", "2027-03-01"),
        ],
        ids=["first-day", "last-day", "december", "last-day-of-the-year", "before-february", "last-of-february"],
    )
    def test_it_asks_from_today_to_the_end_of_the_month(self, cloud: Cloud, today: date, start: str, end: str) -> None:
        cloud.stubs["ce"].add_response("get_cost_forecast", forecast_answer("10"), forecast_request(start, end))
        assert handler.forecast(cloud.cost_explorer, STACK, today, NOTHING_SPENT) == Decimal(10)

    def test_it_adds_what_was_spent_before_today_and_counts_today_once(self, cloud: Cloud) -> None:
        cloud.stubs["ce"].add_response("get_cost_forecast", forecast_answer("60.5"))
        spend = Spend({"EKS": Decimal(34)}, before_today=Decimal(30))
        assert handler.forecast(cloud.cost_explorer, STACK, date(2026, 8, 10), spend) == Decimal("90.5")

    def test_without_enough_history_there_is_none(self, cloud: Cloud) -> None:
        cloud.stubs["ce"].add_client_error("get_cost_forecast", "DataUnavailableException")
        assert handler.forecast(cloud.cost_explorer, STACK, date(2026, 8, 1), NOTHING_SPENT) is None

    @pytest.mark.parametrize("code", ["LimitExceededException", "AccessDeniedException", "ValidationException"])
    def test_any_other_error_is_a_failure(self, cloud: Cloud, code: str) -> None:
        cloud.stubs["ce"].add_client_error("get_cost_forecast", code)
        with pytest.raises(ClientError, match=code):
            handler.forecast(cloud.cost_explorer, STACK, date(2026, 8, 1), NOTHING_SPENT)


def test_the_budget_is_the_one_that_aws_holds_now(cloud: Cloud) -> None:
    cloud.stubs["budgets"].add_response(
        "describe_budget", budget_answer("98.0"), {"AccountId": ACCOUNT_ID, "BudgetName": BUDGET_NAME}
    )
    assert handler.budget_limit(cloud.clients["budgets"], ACCOUNT_ID, BUDGET_NAME) == Decimal(98)


class TestMetricData:
    def test_a_figure_is_a_metric_of_the_stack(self) -> None:
        assert handler.metric_data(STACK, {"MonthlyBudget": Decimal("98.5")}, {}) == [
            {
                "MetricName": "MonthlyBudget",
                "Dimensions": [{"Name": "Stack", "Value": STACK}],
                "Value": 98.5,
                "Unit": "None",
            }
        ]

    def test_a_services_spend_is_a_metric_of_the_stack_and_the_service(self) -> None:
        assert handler.metric_data(STACK, {}, {"Amazon Elastic Container Service": Decimal("1.5")}) == [
            {
                "MetricName": "MonthToDateSpend",
                "Dimensions": [
                    {"Name": "Stack", "Value": STACK},
                    {"Name": "Service", "Value": "Amazon Elastic Container Service"},
                ],
                "Value": 1.5,
                "Unit": "None",
            }
        ]

    def test_a_figure_that_is_not_known_is_left_out(self) -> None:
        data = handler.metric_data(STACK, {"MonthToDateSpend": Decimal(1), "ForecastSpend": None}, {})
        assert [metric["MetricName"] for metric in data] == ["MonthToDateSpend"]

    def test_a_figure_of_zero_is_not_left_out(self) -> None:
        (metric,) = handler.metric_data(STACK, {"MonthToDateSpend": Decimal(0)}, {})
        assert metric["Value"] == 0


class TestHandler:
    class Context:
        """What Lambda tells a function about itself, as far as it is read."""

        invoked_function_arn = f"arn:aws:lambda:us-east-1:{ACCOUNT_ID}:function:pyairtable-alice-dev-spend-report"

    @pytest.fixture(autouse=True)
    def _lambda(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment of the function on 10 August 2026, where it is already the 11th further east."""

        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Clock":
                return cls(2026, 8, 10 if tz == UTC else 11, 23, 30, tzinfo=tz)

        monkeypatch.setenv("STACK", STACK)
        monkeypatch.setenv("BUDGET_NAME", BUDGET_NAME)
        monkeypatch.setattr(handler, "datetime", Clock)
        monkeypatch.setattr(boto3, "client", cloud.clients.__getitem__)

    @staticmethod
    def agree_on_spend(cloud: Cloud) -> None:
        days = [
            day("2026-08-09", "2026-08-10", EKS="20", EC2="10"),
            day("2026-08-10", "2026-08-11", EKS="4"),
        ]
        cloud.stubs["ce"].add_response(
            "get_cost_and_usage", {"ResultsByTime": days}, usage_request("2026-08-01", "2026-08-11")
        )

    @staticmethod
    def agree_on_budget(cloud: Cloud) -> None:
        cloud.stubs["budgets"].add_response("describe_budget", budget_answer("98"))

    @staticmethod
    def expect_metrics(cloud: Cloud, figures: Mapping[str, float]) -> None:
        stack = {"Name": "Stack", "Value": STACK}
        data = [
            {"MetricName": name, "Dimensions": [stack], "Value": value, "Unit": "None"}
            for name, value in figures.items()
        ] + [
            {
                "MetricName": "MonthToDateSpend",
                "Dimensions": [stack, {"Name": "Service", "Value": service}],
                "Value": value,
                "Unit": "None",
            }
            for service, value in {"EKS": 24.0, "EC2": 10.0}.items()
        ]
        cloud.stubs["cloudwatch"].add_response(
            "put_metric_data", {}, {"Namespace": "PyAirtable/Cost", "MetricData": data}
        )

    def test_it_puts_spend_forecast_and_budget(self, cloud: Cloud) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_response(
            "get_cost_forecast", forecast_answer("61"), forecast_request("2026-08-10", "2026-09-01")
        )
        self.agree_on_budget(cloud)
        self.expect_metrics(cloud, {"MonthToDateSpend": 34.0, "ForecastSpend": 91.0, "MonthlyBudget": 98.0})
        assert handler.handler({}, self.Context()) == {
            "stack": STACK,
            "MonthToDateSpend": 34.0,
            "ForecastSpend": 91.0,
            "MonthlyBudget": 98.0,
            "by_service": {"EKS": 24.0, "EC2": 10.0},
        }

    def test_without_a_forecast_it_puts_the_rest(self, cloud: Cloud) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_client_error("get_cost_forecast", "DataUnavailableException")
        self.agree_on_budget(cloud)
        self.expect_metrics(cloud, {"MonthToDateSpend": 34.0, "MonthlyBudget": 98.0})
        assert handler.handler({}, self.Context())["ForecastSpend"] is None

    def test_its_log_is_its_report(self, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_response("get_cost_forecast", forecast_answer("61"))
        self.agree_on_budget(cloud)
        cloud.stubs["cloudwatch"].add_response("put_metric_data", {})
        report = handler.handler({}, self.Context())
        assert json.loads(capsys.readouterr().out) == report

    def test_it_fails_with_cost_explorer_and_puts_nothing(self, cloud: Cloud) -> None:
        cloud.stubs["ce"].add_client_error("get_cost_and_usage", "LimitExceededException")
        with pytest.raises(ClientError, match="LimitExceededException"):
            handler.handler({}, self.Context())

    def test_it_fails_with_budgets_and_puts_nothing(self, cloud: Cloud) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_response("get_cost_forecast", forecast_answer("61"))
        cloud.stubs["budgets"].add_client_error("describe_budget", "NotFoundException")
        with pytest.raises(ClientError, match="NotFoundException"):
            handler.handler({}, self.Context())

    def test_it_fails_with_cloudwatch(self, cloud: Cloud) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_response("get_cost_forecast", forecast_answer("61"))
        self.agree_on_budget(cloud)
        cloud.stubs["cloudwatch"].add_client_error("put_metric_data", "InternalServiceFault")
        with pytest.raises(ClientError, match="InternalServiceFault"):
            handler.handler({}, self.Context())

    def test_its_answer_is_json(self, cloud: Cloud) -> None:
        self.agree_on_spend(cloud)
        cloud.stubs["ce"].add_client_error("get_cost_forecast", "DataUnavailableException")
        self.agree_on_budget(cloud)
        cloud.stubs["cloudwatch"].add_response("put_metric_data", {})
        report = handler.handler({}, self.Context())
        assert json.loads(json.dumps(report)) == report
