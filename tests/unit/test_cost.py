"""The monthly estimate: every type has a price or a reason for none, and the sums are what AWS would charge."""

import tomllib
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import pulumi
import pytest

from cost import (
    Estimate,
    Line,
    OverBudgetError,
    Resource,
    ResourceRecorder,
    UnknownTypeError,
    estimate,
    require_within_budget,
    resources_of_deployment,
    spot_share,
)
from cost.catalog import FIXED, FREE, UNPRICED_PACKAGES, quantities
from cost.instance_types import INSTANCE_TYPES
from cost.prices import price_list, price_list_date
from cost.rules import RULES
from cost.table import render
from infra.environments import ENVIRONMENTS
from infra.phases import Phase
from infra.program import Platform
from infra.settings import Settings
from tests.unit.cost_table import INTERVALS, committed, deployment, refresh_table, refreshed, stack_of, table
from tests.unit.graph import ROOT, Graph, config, platform, run

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
BUDGET = "aws:budgets/budget:Budget"
DASHBOARD = "aws:cloudwatch/dashboard:Dashboard"
FUNCTION = "aws:lambda/function:Function"
KEY = "aws:kms/key:Key"
REPOSITORY = "aws:ecr/repository:Repository"

USAGE: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "cost" / "usage.toml").read_text())
ASKED_FOR_BY_RULES = {
    "eks_control_plane",
    "gp3_iops",
    "gp3_storage",
    "gp3_throughput",
    "network_load_balancer",
    "public_ipv4",
}
PRICE_FILE = tomllib.loads((ROOT / "cost" / "prices.toml").read_text())


MADE_BY_A_REMOTE_COMPONENT = {
    "aws:eks/accessEntry:AccessEntry",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
    "aws:eks/cluster:Cluster",
}
"""Priced for whoever makes one without the component."""
OPTIONAL = {"aws:autoscaling/schedule:Schedule", "aws:route53/record:Record"}
"""Made only where the config asks for it."""


@cache
def everything() -> frozenset[tuple[str, str]]:
    """Type and name of every resource that the program can create and that is no other's business."""
    return frozenset(
        (node.type, node.name)
        for stack in ENVIRONMENTS
        for node in platform(stack, registry={"mirror": "ecr"}).nodes
        if package(node.type) not in UNPRICED_PACKAGES
    )


def package(type_: str) -> str:
    return type_.partition(":")[0]


def priced_types() -> set[str]:
    """Types with a price, without those of packages that have none."""
    return {type_ for type_ in FIXED.keys() | RULES.keys() | USAGE.keys() if package(type_) not in UNPRICED_PACKAGES}


def all_types() -> set[str]:
    return {type_ for type_, _ in everything()}


in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def resource(type_: str, name: str = "one", phase: Phase = Phase.COST_FOUNDATION) -> Resource:
    return Resource(type=type_, name=name, phase=phase)


def alarms(count: int) -> list[Resource]:
    return [resource(ALARM, f"alarm-{number}") for number in range(count)]


def usage_of(type_: str) -> dict[str, Any]:
    """The expected use of a type, whatever the names of its resources: quantities by price."""
    entries: dict[str, Any] = {}
    for name, entry in USAGE.get(type_, {}).items():
        entries |= {name: entry} if "quantity" in entry else entry
    return entries


def lines(*usd: str, phase: Phase = Phase.COST_FOUNDATION) -> tuple[Line, ...]:
    return tuple(
        Line(
            phase=phase,
            resource=f"resource-{number}",
            type=ALARM,
            price=f"price-{number}",
            quantity=Decimal(number),
            unit="hour",
            usd=Decimal(amount),
            minimum_usd=Decimal(amount),
            maximum_usd=Decimal(amount),
            on_demand_usd=Decimal(amount),
            is_compute=False,
        )
        for number, amount in enumerate(usd, start=1)
    )


def estimate_of(*usd: str) -> Estimate:
    return Estimate(lines=lines(*usd), prices_as_of="2026-08-01")


class TestCatalog:
    def test_every_type_that_the_program_creates_is_priced_or_free_on_purpose(self) -> None:
        assert all_types() - (priced_types() | FREE.keys()) == set()

    def test_no_type_is_both_priced_and_free(self) -> None:
        assert priced_types() & FREE.keys() == set()

    @in_every_environment
    def test_every_resource_that_the_program_creates_can_be_estimated(self, stack: str) -> None:
        graph = platform(stack, registry={"mirror": "ecr"})
        assert estimate(resources_of_deployment(deployment(graph)), stacks_per_account=3).lines

    def test_it_knows_no_type_that_the_program_cannot_create(self) -> None:
        assert priced_types() | FREE.keys() == all_types() | MADE_BY_A_REMOTE_COMPONENT | OPTIONAL

    def test_what_it_expects_of_one_resource_is_expected_of_one_that_exists(self) -> None:
        named = {
            (type_, name) for type_, entries in USAGE.items() for name, e in entries.items() if "quantity" not in e
        }
        assert named - everything() == set()

    def test_an_unknown_type_is_an_error_that_names_it_and_says_where_to_add_it(self) -> None:
        with pytest.raises(UnknownTypeError) as error:
            quantities(resource("aws:rds/instance:Instance", "orders"), {})
        assert "aws:rds/instance:Instance (orders)" in str(error.value)
        assert "cost/catalog.py" in str(error.value)
        assert "cost/usage.toml" in str(error.value)

    def test_a_resource_whose_use_nobody_has_estimated_is_an_error_though_its_type_is_known(self) -> None:
        with pytest.raises(UnknownTypeError, match=r"Function \(another\)"):
            quantities(resource(FUNCTION, "another"), {})

    @pytest.mark.parametrize(
        "type_",
        [
            "pulumi:pulumi:Stack",
            "pulumi:providers:aws",
            "pyairtable:cost_foundation:CostFoundation",
            "random:index/randomPassword:RandomPassword",
            "tls:index/privateKey:PrivateKey",
            "kubernetes:apps/v1:Deployment",
        ],
    )
    def test_what_exists_in_pulumi_or_on_the_nodes_only_costs_nothing(self, type_: str) -> None:
        assert quantities(resource(type_), {}) == {}

    def test_a_type_may_have_a_fixed_price_and_be_used(self) -> None:
        assert quantities(resource(KEY), {}).keys() == {"kms_key", "kms_request"}

    def test_every_free_type_says_why(self) -> None:
        assert all(len(reason) > 5 for reason in (*FREE.values(), *UNPRICED_PACKAGES.values()))

    def test_every_expected_use_says_why(self) -> None:
        assert all(entry["why"] for type_ in USAGE for entry in usage_of(type_).values())


class TestPriceList:
    def test_it_has_every_price_that_is_asked_for_and_no_other(self) -> None:
        fixed = {price for prices in FIXED.values() for price in prices}
        used = {price for type_ in USAGE for price in usage_of(type_)}
        instances = {f"{name} {lifecycle}" for name in INSTANCE_TYPES for lifecycle in ("spot", "on-demand")}
        assert fixed | used | ASKED_FOR_BY_RULES | instances == price_list().keys()

    @pytest.mark.parametrize("name", price_list())
    def test_a_price_is_positive_and_has_a_unit_and_a_source_on_the_web(self, name: str) -> None:
        price = price_list()[name]
        assert price.usd > 0
        assert price.unit
        assert price.source.startswith("https://aws.amazon.com/")
        assert price.free_per_account >= 0

    def test_it_is_dated(self) -> None:
        assert isinstance(PRICE_FILE["as_of"], date)
        assert price_list_date() == PRICE_FILE["as_of"].isoformat()

    def test_those_of_instances_are_of_the_same_day(self) -> None:
        assert tomllib.loads((ROOT / "cost" / "instance_types.toml").read_text())["as_of"] == PRICE_FILE["as_of"]

    def test_an_hour_of_an_instance_says_what_it_costs_on_demand(self) -> None:
        spot, on_demand = price_list()["t3.medium spot"], price_list()["t3.medium on-demand"]
        assert (spot.usd, on_demand.usd) == (Decimal("0.0183"), Decimal("0.0416"))
        assert spot.on_demand_usd == on_demand.on_demand_usd == on_demand.usd
        assert price_list()["eks_control_plane"].on_demand_usd is None

    def test_prices_are_exact(self) -> None:
        assert price_list()["lambda_arm64"].usd == Decimal("0.0000133334")


class TestFreeAllowances:
    def test_a_stack_alone_in_its_account_has_them_whole(self) -> None:
        assert [line.usd for line in estimate(alarms(12), stacks_per_account=1).lines] == [
            *[Decimal(0)] * 10,
            Decimal("0.10"),
            Decimal("0.10"),
        ]

    def test_stacks_of_one_account_share_them(self) -> None:
        amounts = [line.usd for line in estimate(alarms(5), stacks_per_account=3).lines]
        assert amounts[:3] == [0, 0, 0]
        assert round(amounts[3], 4) == round(Decimal("0.20") / 3, 4)
        assert amounts[4] == Decimal("0.10")

    def test_the_estimates_of_all_stacks_are_the_accounts_bill(self) -> None:
        of_one_stack = sum(line.usd for line in estimate(alarms(12), stacks_per_account=3).lines)
        of_the_account = sum(line.usd for line in estimate(alarms(36), stacks_per_account=1).lines)
        assert round(3 * of_one_stack, 6) == round(of_the_account, 6)

    def test_what_is_left_of_them_is_not_paid_out(self) -> None:
        result = estimate([resource(DASHBOARD)], stacks_per_account=1)
        assert [line.usd for line in result.lines] == [0]

    def test_one_price_does_not_use_up_the_allowance_of_another(self) -> None:
        result = estimate([*alarms(30), resource(DASHBOARD)], stacks_per_account=1)
        assert result.lines[-1].usd == 0

    def test_what_is_free_still_says_how_much_of_it_there_is(self) -> None:
        (line,) = estimate([resource(DASHBOARD)], stacks_per_account=1).lines
        assert (line.quantity, line.unit, line.price) == (1, "dashboard-month", "cloudwatch_dashboard")

    def test_each_estimate_starts_with_all_of_them(self) -> None:
        assert estimate(alarms(10), stacks_per_account=1) == estimate(alarms(10), stacks_per_account=1)

    @pytest.mark.parametrize("stacks", [1, 2, 3, 100])
    def test_no_line_is_ever_negative(self, stacks: int) -> None:
        resources = resources_of_deployment(deployment(platform("prod", registry={"mirror": "ecr"})))
        assert all(line.usd >= 0 for line in estimate(resources, stacks_per_account=stacks).lines)

    def test_prices_without_one_are_paid_from_the_first(self) -> None:
        (line,) = estimate([resource(REPOSITORY)], stacks_per_account=1).lines
        assert line.usd == Decimal("0.5") * Decimal("0.10")


class TestEstimate:
    def test_a_total_is_rounded_to_cents_once(self) -> None:
        assert estimate_of("0.004", "0.004", "0.004").total_usd == Decimal("0.01")

    def test_of_nothing_is_zero(self) -> None:
        assert estimate([], stacks_per_account=3).total_usd == Decimal("0.00")

    def test_what_is_free_has_no_line(self) -> None:
        assert estimate([resource(BUDGET)], stacks_per_account=3).lines == ()

    def test_the_sums_by_phase_are_in_order_and_make_the_total(self) -> None:
        result = Estimate(
            lines=lines("1.50", phase=Phase.SECRETS) + lines("2.25", "1", phase=Phase.COST_FOUNDATION),
            prices_as_of="2026-08-01",
        )
        assert list(result.by_phase.items()) == [
            (Phase.COST_FOUNDATION, Decimal("3.25")),
            (Phase.SECRETS, Decimal("1.50")),
        ]
        assert sum(result.by_phase.values()) == result.total_usd

    def test_a_phase_whose_resources_cost_nothing_has_a_sum_too(self) -> None:
        resources = [resource(BUDGET, phase=Phase.BLUE_GREEN), resource(BUDGET, phase=Phase.NOTHING)]
        assert estimate(resources, stacks_per_account=3).by_phase == {Phase.BLUE_GREEN: Decimal("0.00")}

    @pytest.mark.parametrize("phase", [phase for phase in Phase if phase])
    def test_a_stack_has_a_sum_for_each_phase_up_to_its_own(self, phase: Phase) -> None:
        deployed = resources_of_deployment(deployment(platform("prod", phase=phase)))
        assert list(estimate(deployed, stacks_per_account=3).by_phase) == list(Phase)[1 : phase + 1]

    def test_the_largest_lines_come_first(self) -> None:
        assert [line.usd for line in estimate_of("1", "3", "2", "4").largest(3)] == [4, 3, 2]

    def test_it_says_when_its_prices_were_true(self) -> None:
        assert estimate([], stacks_per_account=3).prices_as_of == price_list_date()

    def test_an_unknown_type_stops_it(self) -> None:
        with pytest.raises(UnknownTypeError):
            estimate([resource(ALARM), resource("aws:ec2/instance:Instance")], stacks_per_account=3)

    @in_every_environment
    @pytest.mark.parametrize("stacks", [1, 3])
    @pytest.mark.parametrize("mirror", ["none", "ecr"])
    def test_phase_1_costs_five_dollars_or_less(self, stack: str, stacks: int, mirror: str) -> None:
        graph = platform(stack, phase=1, registry={"mirror": mirror}, cost={"stacksPerAccount": stacks})
        assert 0 < graph.outputs["estimated_monthly_cost_usd"] <= 5

    def test_the_stack_file_says_how_many_stacks_share_the_allowances(self) -> None:
        usd = [
            platform("dev", phase=1, cost={"stacksPerAccount": stacks}).outputs["estimated_monthly_cost_usd"]
            for stacks in (1, 3, 100)
        ]
        assert usd[0] <= usd[1] < usd[2]

    @in_every_environment
    def test_phase_0_costs_nothing(self, stack: str) -> None:
        assert platform(stack, phase=0).outputs["estimated_monthly_cost_usd"] == 0

    def test_prods_key_costs_a_dollar_more(self) -> None:
        usd = [platform(stack, phase=1).outputs["estimated_monthly_cost_usd"] for stack in ("dev", "prod")]
        assert usd[1] - usd[0] == pytest.approx(1.00)

    @pytest.mark.parametrize(("stack", "usd"), [("dev", 0.62), ("staging", 0.62), ("prod", 1.62)])
    def test_what_phase_1_costs(self, stack: str, usd: float) -> None:
        assert platform(stack, phase=1).outputs["estimated_monthly_cost_usd"] == usd

    @in_every_environment
    def test_all_of_phase_1_is_in_phase_1(self, stack: str) -> None:
        result = estimate(resources_of_deployment(deployment(platform(stack, phase=1))), stacks_per_account=3)
        assert result.by_phase == {Phase.COST_FOUNDATION: result.total_usd}

    def test_the_price_of_asking_cost_explorer_is_in_it(self) -> None:
        result = estimate(resources_of_deployment(deployment(platform("dev"))), stacks_per_account=3)
        (line,) = (line for line in result.lines if line.price == "cost_explorer_request")
        assert line.usd == Decimal("0.62")


AIMS = {"dev": 96, "staging": 140, "prod": 340}
"""What a committed stack should cost at the most as it is expected to run, US dollars a month; budgets are above."""


class TestEnvironments:
    @pytest.mark.parametrize(("stack", "usd"), AIMS.items())
    def test_it_costs_no_more_than_it_should(self, stack: str, usd: int) -> None:
        assert stack_of(stack)[1].total_usd <= usd

    @in_every_environment
    def test_what_it_is_expected_to_cost_is_between_its_bounds(self, stack: str) -> None:
        _, result = stack_of(stack)
        assert result.minimum_usd <= result.total_usd <= result.maximum_usd

    @pytest.mark.parametrize("stack", ["dev", "staging"])
    def test_spot_saves_60_percent_of_its_compute(self, stack: str) -> None:
        assert stack_of(stack)[1].compute_saving >= Decimal("0.60")

    @pytest.mark.parametrize(("stack", "share"), [("dev", 100), ("staging", 100), ("prod", 80)])
    def test_its_share_of_spot_nodes(self, stack: str, share: int) -> None:
        assert spot_share(stack_of(stack)[0]) == share

    def test_the_documentation_has_the_figures_of_all(self) -> None:
        assert table() in (ROOT / "docs" / "cost.md").read_text()


class TestRefreshInterval:
    def test_the_decision_has_the_figures_of_all_intervals(self) -> None:
        (decision,) = (ROOT / "docs" / "adr").glob("0022-*.md")
        assert refresh_table() in decision.read_text()

    @in_every_environment
    def test_the_stacks_are_committed_with_the_one_that_was_decided(self, stack: str) -> None:
        assert refreshed(stack, "15s") == stack_of(stack)[1]

    @pytest.mark.parametrize(("stack", "interval"), [("staging", "5s"), ("prod", "5s"), ("dev", "15s")])
    def test_the_budgets_have_room_for_it(self, stack: str, interval: str) -> None:
        assert refreshed(stack, interval).total_usd < committed(stack)["monthlyBudgetUsd"]

    def test_devs_has_none_for_the_shortest(self) -> None:
        assert INTERVALS[0] == "5s"
        assert refreshed("dev", "5s").total_usd > committed("dev")["monthlyBudgetUsd"]


class TestBudgetCheck:
    def test_an_estimate_within_the_budget_passes(self) -> None:
        require_within_budget(estimate_of("98"), Decimal(98), enforce=True)

    def test_an_estimate_above_the_budget_fails_and_names_the_three_largest_lines(self) -> None:
        with pytest.raises(OverBudgetError) as error:
            require_within_budget(estimate_of("1", "40.005", "30", "50"), Decimal(98), enforce=True)
        assert "the estimate of 121.00 USD a month exceeds the budget of 98 USD" in str(error.value)
        assert "largest: resource-4 price-4 50.00, resource-2 price-2 40.00, resource-3 price-3 30.00;" in str(
            error.value
        )
        assert "resource-1" not in str(error.value)

    def test_the_failure_says_how_to_mend_it(self) -> None:
        with pytest.raises(OverBudgetError, match=r"raise pyairtable:monthlyBudgetUsd, or .*pyairtable:cost\.enforce"):
            require_within_budget(estimate_of("2"), Decimal(1), enforce=True)

    def test_the_failure_is_one_that_pulumi_prints_without_a_traceback(self) -> None:
        assert issubclass(OverBudgetError, pulumi.RunError)

    def test_a_program_above_its_budget_fails(self) -> None:
        with pytest.raises(OverBudgetError, match=r"cost-foundation-alerts-key kms_key 1\.00, "):
            platform("prod", phase=1, monthlyBudgetUsd=1)

    def test_a_program_that_does_not_enforce_its_budget_warns_only(self) -> None:
        graph = platform("prod", phase=1, monthlyBudgetUsd=1, cost={"enforce": False})
        (warning,) = graph.warnings
        assert "exceeds the budget of 1 USD; largest: cost-foundation-alerts-key kms_key 1.00, " in warning
        assert graph.outputs["budget_name"] == "pyairtable-prod-monthly-budget"

    @in_every_environment
    def test_a_program_within_its_budget_does_not_warn(self, stack: str) -> None:
        assert platform(stack, phase=3).warnings == ()


def recorded(stack: str, program: Any) -> tuple[Graph, tuple[Resource, ...]]:
    """The graph of a program, and what a recorder in it sees."""
    recorder = ResourceRecorder()

    def with_recorder() -> None:
        pulumi.runtime.register_stack_transformation(recorder.record)
        program()

    return run(with_recorder, stack), recorder.resources


def facts(resources: Iterable[Resource]) -> list[tuple[str, str, Phase]]:
    return sorted((seen.type, seen.name, seen.phase) for seen in resources if seen.type != "pulumi:pulumi:Stack")


class TestResources:
    @in_every_environment
    def test_the_running_program_and_its_deployment_are_the_same_resources(self, stack: str) -> None:
        settings = Settings.from_config(stack, config(stack, registry={"mirror": "ecr"}))
        graph, resources = recorded(stack, lambda: Platform(settings))
        assert facts(resources) == facts(resources_of_deployment(deployment(graph)))

    @in_every_environment
    @pytest.mark.parametrize("mirror", ["none", "ecr"])
    def test_the_estimate_of_a_deployment_is_the_one_that_the_program_exported(self, stack: str, mirror: str) -> None:
        graph = platform(stack, registry={"mirror": mirror})
        result = estimate(resources_of_deployment(deployment(graph)), stacks_per_account=3)
        assert float(result.total_usd) == graph.outputs["estimated_monthly_cost_usd"]

    def test_a_running_programs_inputs_have_the_names_of_a_deployments(self) -> None:
        settings = Settings.from_config("prod", config("prod"))
        graph, resources = recorded("prod", lambda: Platform(settings))
        assert {seen.name: seen.inputs.keys() for seen in resources if seen.type == KEY} == {
            node.name: node.inputs.keys() for node in graph.of_type(KEY)
        }

    def test_what_waits_for_its_deletion_does_not_count(self) -> None:
        exported = deployment(platform("dev"))
        replaced = [{**state, "delete": True} for state in exported["resources"] if state["type"] == ALARM]
        counted = resources_of_deployment({**exported, "resources": exported["resources"] + replaced})
        assert counted == resources_of_deployment(exported)

    def test_a_stack_without_resources_has_none(self) -> None:
        assert resources_of_deployment({"manifest": {}}) == ()

    def test_what_belongs_to_no_component_belongs_to_no_phase(self) -> None:
        _, resources = recorded("dev", lambda: pulumi.ProviderResource("aws", "aws"))
        assert [(seen.name, seen.phase) for seen in resources] == [("aws", Phase.NOTHING)]

    @pytest.mark.parametrize(
        ("package", "phase"),
        [
            ("cost_foundation", Phase.COST_FOUNDATION),
            ("compute", Phase.COMPUTE),
            ("secrets", Phase.SECRETS),
            ("blue_green", Phase.BLUE_GREEN),
            ("elsewhere", Phase.NOTHING),
        ],
    )
    def test_what_is_below_a_component_belongs_to_the_phase_of_its_package(self, package: str, phase: Phase) -> None:
        graph, resources = recorded("dev", lambda: nested(f"pyairtable:{package}:Outer"))
        assert facts(resources) == [("aws:none/leaf:Leaf", "leaf", phase), (f"pyairtable:{package}:Outer", "1", phase)]
        assert facts(resources) == facts(resources_of_deployment(deployment(graph)))

    def test_a_component_of_one_phase_inside_that_of_another_is_counted_alike_in_program_and_deployment(self) -> None:
        graph, resources = recorded("dev", lambda: nested("pyairtable:blue_green:Outer", "pyairtable:compute:Inner"))
        assert facts(resources) == facts(resources_of_deployment(deployment(graph)))

    def test_the_packages_of_others_are_no_phases(self) -> None:
        graph, resources = recorded("dev", lambda: nested("eks:compute:Cluster"))
        assert {seen.phase for seen in resources} == {Phase.NOTHING}
        assert {seen.phase for seen in resources_of_deployment(deployment(graph))} == {Phase.NOTHING}


def nested(*types: str) -> None:
    """A resource below a chain of components."""
    parent: pulumi.Resource | None = None
    for depth, type_ in enumerate(types, start=1):
        parent = pulumi.ComponentResource(type_, str(depth), None, pulumi.ResourceOptions(parent=parent))
    pulumi.CustomResource("aws:none/leaf:Leaf", "leaf", {}, pulumi.ResourceOptions(parent=parent))


class TestTable:
    def test_it_begins_with_the_total_the_budget_and_the_date_of_the_prices(self) -> None:
        first, *_ = render(estimate_of("1.234", "2"), budget_usd=98).splitlines()
        assert first == "Estimated monthly cost: 3.23 of 98 USD (prices of 2026-08-01)"

    def test_it_has_a_sum_for_each_phase(self) -> None:
        result = Estimate(lines=lines("1") + lines("2.5", phase=Phase.COMPUTE), prices_as_of="2026-08-01")
        assert render(result, budget_usd=98).splitlines()[1:3] == ["  phase 1: 1.00", "  phase 2: 2.50"]

    def test_it_has_the_lines_that_cost_a_cent_and_leaves_out_those_that_do_not(self) -> None:
        rows = render(estimate_of("1.5", "0.004", "0.01"), budget_usd=98).splitlines()[2:]
        assert rows == ["  resource-1  1 hour of price-1  1.50", "  resource-3  3 hour of price-3  0.01"]

    def test_without_nodes_it_has_neither_bounds_nor_savings(self) -> None:
        assert render(estimate_of("1"), budget_usd=98).splitlines()[1] == "  phase 1: 1.00"

    def test_with_nodes_it_has_the_bounds_and_what_spot_saves(self) -> None:
        (control_plane, node) = lines("73", "11.06", phase=Phase.COMPUTE)
        node = replace(
            node,
            minimum_usd=Decimal("8.76"),
            maximum_usd=Decimal("26.72"),
            on_demand_usd=Decimal("28.91"),
            is_compute=True,
        )
        result = Estimate(lines=(control_plane, node), prices_as_of="2026-08-01")
        assert render(result, budget_usd=98).splitlines()[:5] == [
            "Estimated monthly cost: 84.06 of 98 USD (prices of 2026-08-01)",
            "  from 81.76 to 99.72 as the nodes scale",
            "  101.91 at on-demand prices",
            "  nodes 11.06, 61.7% below the 28.91 of on-demand ones",
            "  phase 2: 84.06",
        ]

    def test_quantities_are_plain_numbers(self) -> None:
        (line,) = lines("10")
        hundred = Estimate(lines=(replace(line, quantity=Decimal("1E+2")),), prices_as_of="2026-08-01")
        assert "  100 hour of price-1  10.00" in render(hundred, budget_usd=98)
        third = Estimate(lines=(replace(line, quantity=Decimal(730) / 3),), prices_as_of="2026-08-01")
        assert "  243.333 hour of price-1  10.00" in render(third, budget_usd=98)

    def test_of_nothing_it_is_one_line(self) -> None:
        assert render(estimate([], stacks_per_account=3), budget_usd=Decimal(98)).splitlines() == [
            f"Estimated monthly cost: 0.00 of 98 USD (prices of {price_list_date()})"
        ]
