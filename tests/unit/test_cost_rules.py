"""What depends on how a resource is set up: its rule takes the quantities that AWS bills, or refuses to guess."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as kubernetes
import pytest

from cost import (
    Estimate,
    Resource,
    ResourceRecorder,
    UnknownCostError,
    UnknownTypeError,
    baseline_millis,
    estimate,
    resources_of_deployment,
    spot_share,
)
from cost.catalog import quantities
from cost.external_secrets import seconds
from cost.figures import Figures
from cost.instance_types import INSTANCE_TYPES
from cost.resources import by_type_and_name
from cost.schedule import running_share
from infra.phases import Phase
from tests.unit.graph import run

CLUSTER = "aws:eks/cluster:Cluster"
COMPONENT = "eks:index:Cluster"
EXTERNAL_SECRET = "kubernetes:external-secrets.io/v1:ExternalSecret"  # noqa: S105 - a type
GROUP = "aws:eks/nodeGroup:NodeGroup"
LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
LOAD_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
RELEASE = "kubernetes:helm.sh/v3:Release"
SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105
SCHEDULE = "aws:autoscaling/schedule:Schedule"
SERVICE = "kubernetes:core/v1:Service"
STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
VOLUME = "aws:ebs/volume:Volume"
VPC_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"

HOURS = Decimal(730)
LATER = pulumi.Output.from_input("known after the deployment")


def resource(type_: str, name: str = "one", **inputs: Any) -> Resource:
    return Resource(type=type_, name=name, phase=Phase.COMPUTE, inputs=inputs)


def taken(*resources: Resource) -> Mapping[str, Figures]:
    """What the first of a stack's resources takes."""
    return quantities(resources[0], by_type_and_name(resources))


def expected(*resources: Resource) -> dict[str, Decimal]:
    return {price: figures.expected for price, figures in taken(*resources).items()}


def estimated(*resources: Resource) -> Estimate:
    return estimate(resources, stacks_per_account=3)


def refused(*resources: Resource) -> str:
    with pytest.raises(UnknownCostError) as error:
        taken(*resources)
    message = str(error.value)
    assert f"estimating the monthly cost of {resources[0].type} ({resources[0].name}): " in message
    assert "\n" not in message
    return message


def component(**inputs: Any) -> Resource:
    given: dict[str, Any] = {"skipDefaultNodeGroup": True, "upgradePolicy": {"supportType": "STANDARD"}, **inputs}
    return resource(COMPONENT, **given)


def template(name: str = "spot", *, size: int = 20, **inputs: Any) -> Resource:
    return resource(
        LAUNCH_TEMPLATE,
        f"{name}-launch-template",
        **{
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeType": "gp3", "volumeSize": size}}],
            "creditSpecification": {"cpuCredits": "standard"},
            **inputs,
        },
    )


def group(name: str = "spot", sizes: tuple[int, int, int] = (1, 1, 2), **inputs: Any) -> Resource:
    """A group of the given smallest, desired and largest size."""
    return resource(
        GROUP,
        f"{name}-group",
        **{
            "capacityType": "SPOT",
            "instanceTypes": ["t3.medium", "t3a.medium"],
            "scalingConfig": dict(zip(("minSize", "desiredSize", "maxSize"), sizes, strict=True)),
            "tags": {"PublicAddress": "false"},
            **inputs,
        },
    )


def night(name: str = "spot", **of_stop: Any) -> tuple[Resource, Resource]:
    """A group's schedule: nodes from 6 to 20 o'clock on weekdays."""
    stop = {"recurrence": "0 20 * * MON-FRI", "minSize": 0, "maxSize": 0, "desiredCapacity": 0, **of_stop}
    return (
        resource(SCHEDULE, f"{name}-stop", **stop),
        resource(SCHEDULE, f"{name}-start", recurrence="0 6 * * MON-FRI", desiredCapacity=1),
    )


class TestControlPlane:
    @pytest.mark.parametrize("cluster", [component(), resource(CLUSTER, upgradePolicy={"supportType": "STANDARD"})])
    def test_it_costs_73_dollars_a_month(self, cluster: Resource) -> None:
        assert taken(cluster)["eks_control_plane"] == Figures.fixed(HOURS)
        (line,) = (line for line in estimated(cluster).lines if line.price == "eks_control_plane")
        assert line.usd == 73

    @pytest.mark.parametrize("policy", [None, {}, {"supportType": "EXTENDED"}])
    @pytest.mark.parametrize("make", [component, lambda **inputs: resource(CLUSTER, **inputs)])
    def test_extended_support_is_refused_the_default_included(self, policy: Any, make: Any) -> None:
        assert "set upgradePolicy.supportType to STANDARD" in refused(make(upgradePolicy=policy))

    @pytest.mark.parametrize(
        ("inputs", "what"),
        [
            ({"skipDefaultNodeGroup": False}, "its default node group"),
            ({"skipDefaultNodeGroup": None}, "its default node group"),
            ({"autoMode": {"enabled": True}}, "autoMode"),
            ({"fargate": True}, "fargate"),
        ],
    )
    def test_a_component_that_makes_nodes_of_its_own_is_refused(self, inputs: Any, what: str) -> None:
        assert f"{what} makes nodes that the program does not see" in refused(component(**inputs))


class TestNodeGroup:
    def test_the_expected_nodes_are_spread_evenly_over_its_types(self) -> None:
        hours = taken(group(sizes=(1, 3, 5)), template())
        assert hours["t3a.medium spot"].expected == hours["t3.medium spot"].expected == 3 * HOURS / 2

    def test_at_the_least_its_smallest_size_runs_on_the_cheapest_type(self) -> None:
        hours = taken(group(sizes=(2, 3, 5)), template())
        assert hours["t3a.medium spot"].minimum == 2 * HOURS
        assert hours["t3.medium spot"].minimum == 0

    def test_at_the_most_its_largest_size_runs_on_the_dearest_type(self) -> None:
        hours = taken(group(sizes=(2, 3, 5)), template())
        assert hours["t3a.medium spot"].maximum == 0
        assert hours["t3.medium spot"].maximum == 5 * HOURS

    def test_one_type_alone_takes_all_three_figures(self) -> None:
        hours = taken(group(sizes=(1, 2, 3), instanceTypes=["t3.medium"]), template())
        assert hours["t3.medium spot"] == Figures(HOURS, 2 * HOURS, 3 * HOURS)

    @pytest.mark.parametrize("capacity_type", ["ON_DEMAND", None])
    def test_on_demand_is_another_price_and_the_default(self, capacity_type: str | None) -> None:
        nodes = group(instanceTypes=["c6a.large"], capacityType=capacity_type)
        assert expected(nodes, template())["c6a.large on-demand"] == HOURS

    def test_which_type_is_cheapest_depends_on_the_capacity_type(self) -> None:
        # On demand t4g.medium is the cheapest of the three, as spot t3a.medium is.
        names = ["t4g.medium", "t3a.medium", "t3.medium"]
        spot = taken(group(instanceTypes=names), template())
        on_demand = taken(group(instanceTypes=names, capacityType="ON_DEMAND"), template())
        assert [price for price, hours in spot.items() if hours.minimum == HOURS] == ["t3a.medium spot"]
        assert [price for price, hours in on_demand.items() if hours.minimum == HOURS] == ["t4g.medium on-demand"]

    def test_each_node_has_the_disk_of_its_launch_template(self) -> None:
        assert taken(group(sizes=(1, 2, 4)), template(size=30))["gp3_storage"] == Figures(
            Decimal(30), Decimal(60), Decimal(120)
        )

    def test_all_of_its_disks_count_with_what_they_have_above_the_free_performance(self) -> None:
        disk = {"volumeType": "gp3", "volumeSize": 20, "iops": 4000, "throughput": 150}
        two = template(blockDeviceMappings=[{"ebs": disk}, {"ebs": {**disk, "volumeSize": 5}}])
        quantities_ = expected(group(), two)
        assert (quantities_["gp3_storage"], quantities_["gp3_iops"], quantities_["gp3_throughput"]) == (25, 2000, 50)

    def test_a_public_address_costs_by_the_hour_of_each_node(self) -> None:
        nodes = group(sizes=(1, 2, 3), tags={"PublicAddress": "true"})
        assert taken(nodes, template())["public_ipv4"] == Figures(HOURS, 2 * HOURS, 3 * HOURS)
        assert "public_ipv4" not in taken(group(), template())

    def test_a_group_that_may_shrink_to_nothing_costs_nothing_at_the_least(self) -> None:
        assert all(figures.minimum == 0 for figures in taken(group(sizes=(0, 1, 2)), template()).values())

    def test_it_finds_its_own_launch_template(self) -> None:
        assert expected(group("a"), template("b", size=99), template("a", size=10))["gp3_storage"] == 10

    @pytest.mark.parametrize("name", ["a-group", "spot"])
    def test_without_its_launch_template_it_is_refused(self, name: str) -> None:
        nodes = Resource(type=GROUP, name=name, phase=Phase.COMPUTE, inputs=group().inputs)
        assert "name them N-group and N-launch-template" in refused(nodes, template())

    @pytest.mark.parametrize(
        ("inputs", "problem"),
        [
            (
                {"instanceTypes": ["m9x.large"]},
                "instanceTypes has m9x.large, which has no price; take one of t3a.medium",
            ),
            ({"instanceTypes": []}, "instanceTypes has nothing, which has no price"),
            ({"instanceTypes": None}, "instanceTypes has nothing, which has no price"),
            ({"capacityType": "CAPACITY_BLOCK"}, "capacityType is not one of those with a price: SPOT, ON_DEMAND"),
            ({"tags": None}, "the tag PublicAddress does not say whether its nodes have public addresses"),
            ({"tags": {"PublicAddress": "yes"}}, "the tag PublicAddress does not say"),
            ({"scalingConfig": {"minSize": 1, "desiredSize": 1}}, "scalingConfig.maxSize is missing"),
            ({"scalingConfig": {"minSize": LATER}}, "scalingConfig.minSize is known only after the deployment"),
            ({"scalingConfig": LATER}, "scalingConfig.minSize is known only after the deployment"),
        ],
    )
    def test_what_decides_about_its_price_must_be_known(self, inputs: Any, problem: str) -> None:
        assert problem in refused(group(**inputs), template())

    @pytest.mark.parametrize(
        ("inputs", "problem"),
        [
            ({"blockDeviceMappings": []}, "blockDeviceMappings is missing; give the size of the root disk"),
            ({"blockDeviceMappings": [{"ebs": {"volumeSize": 20}}]}, "volumeType is not gp3"),
            ({"blockDeviceMappings": [{"ebs": {"volumeType": "gp3"}}]}, "volumeSize is missing"),
            ({"blockDeviceMappings": [{}]}, "volumeType is not gp3"),
            ({"monitoring": {"enabled": True}}, "monitoring.enabled bills seven metrics for each instance"),
            ({"creditSpecification": None}, "t3a.medium bills CPU above its baseline unless"),
            ({"creditSpecification": {"cpuCredits": "unlimited"}}, "t3a.medium bills CPU above its baseline unless"),
        ],
    )
    def test_what_its_launch_template_would_bill_unseen_is_refused(self, inputs: Any, problem: str) -> None:
        with pytest.raises(UnknownCostError) as error:
            taken(group(), template(**inputs))
        assert f"{LAUNCH_TEMPLATE} (spot-launch-template): " in str(error.value)
        assert problem in str(error.value)

    def test_types_that_do_not_burst_need_no_standard_credits(self) -> None:
        assert taken(group(instanceTypes=["c6a.large"]), template(creditSpecification=None))

    def test_without_detailed_monitoring_it_is_not_refused(self) -> None:
        assert taken(group(), template(monitoring={"enabled": False}))


class TestNightSchedule:
    def test_a_group_is_billed_for_the_hours_that_it_has_nodes(self) -> None:
        share = Decimal(70) / 168
        nodes = group(sizes=(1, 2, 3), instanceTypes=["t3.medium"], tags={"PublicAddress": "true"})
        always, by_day = taken(nodes, template()), taken(nodes, template(), *night())
        assert by_day.keys() == always.keys() == {"t3.medium spot", "gp3_storage", "public_ipv4"}
        for price, figures in always.items():
            for whole, part in zip(figures, by_day[price], strict=True):
                assert round(part, 9) == round(whole * share, 9)

    def test_that_of_another_group_is_no_concern_of_it(self) -> None:
        assert taken(group("a"), template("a"), *night("b")) == taken(group("a"), template("a"))

    @pytest.mark.parametrize("index", [0, 1])
    def test_it_costs_nothing_itself(self, index: int) -> None:
        assert taken(night()[index], group()) == {}

    def test_half_of_one_is_refused(self) -> None:
        for half in night():
            assert "stopped or started by a schedule, but not both" in refused(group(), template(), half)

    def test_one_that_leaves_nodes_is_refused(self) -> None:
        with pytest.raises(UnknownCostError, match=r"Schedule \(spot-stop\): desiredCapacity is not 0"):
            taken(group(), template(), *night(desiredCapacity=1))

    @pytest.mark.parametrize("recurrence", [None, "0 20 1 * *"])
    def test_one_whose_hours_cannot_be_told_is_refused(self, recurrence: str | None) -> None:
        message = refused(group(), template(), *night(recurrence=recurrence))
        assert "the hours of its schedule cannot be told: " in message
        assert "write it as 0 20 * * MON-FRI" in message

    @pytest.mark.parametrize("name", ["spot-more", "other-stop", "stop"])
    def test_one_that_scales_something_else_is_refused(self, name: str) -> None:
        assert "name it N-stop or N-start after a node group N-group" in refused(resource(SCHEDULE, name), group())


class TestRunningShare:
    @pytest.mark.parametrize(
        ("stop", "start", "hours"),
        [
            ("0 20 * * MON-FRI", "0 6 * * MON-FRI", 70),
            ("0 20 * * 1-5", "0 6 * * 1-5", 70),
            ("0 20 * * mon,tue,wed,thu,fri", "0 6 * * mon-fri", 70),
            ("0 20 * * *", "0 6 * * *", 98),
            ("30 18 * * FRI", "15 7 * * MON", "107.25"),
            ("0 0 * * SUN", "0 12 * * 7", 156),
            ("0 6 * * *", "0 20 * * *", 70),  # at night only
            ("0 */12 * * *", "0 6,18 * * *", 84),
            ("0 6-23/12 * * *", "0 0,12 * * *", 84),
            ("0 3/6 * * *", "0 */6 * * *", 84),
        ],
    )
    def test_it_is_the_part_of_the_week_between_start_and_stop(self, stop: str, start: str, hours: int | str) -> None:
        assert round(running_share(stop, start), 9) == round(Decimal(hours) / 168, 9)

    def test_starting_what_runs_and_stopping_what_does_not_changes_nothing(self) -> None:
        assert running_share("0 20,22 * * *", "0 6,8 * * *") == running_share("0 20 * * *", "0 6 * * *")

    @pytest.mark.parametrize(
        "expression",
        [
            *("", "0 20 * *", "0 20 * * * *", "@daily"),
            *("0 20 1 * *", "0 20 * 12 *"),
            *("60 0 * * *", "0 24 * * *", "0 20 * * 8", "0 8-6 * * *", "0 20 * * FRI-MON"),
            *("x 20 * * *", "0 20, * * *", "0 */0 * * *", "0 20 * * MONDAY"),
        ],
    )
    def test_what_says_something_else_is_an_error(self, expression: str) -> None:
        with pytest.raises(ValueError, match='"'):
            running_share(expression, "0 6 * * *")


class TestVolume:
    def test_it_is_billed_by_size(self) -> None:
        assert taken(resource(VOLUME, size=10, type="gp3")) == {"gp3_storage": Figures.fixed(Decimal(10))}

    def test_performance_above_what_every_disk_has_is_extra(self) -> None:
        disk = resource(VOLUME, size=10, type="gp3", iops=3500, throughput=200)
        assert expected(disk) == {"gp3_storage": 10, "gp3_iops": 500, "gp3_throughput": 75}
        assert estimated(disk).total_usd == Decimal("6.30")

    def test_the_performance_that_every_disk_has_is_free(self) -> None:
        assert expected(resource(VOLUME, size=1, type="gp3", iops=3000, throughput=125)) == {"gp3_storage": 1}

    @pytest.mark.parametrize("type_", [None, "gp2", "io2"])
    def test_other_types_are_refused_aws_default_included(self, type_: str | None) -> None:
        assert "type is not gp3, the only disk with a price here; take gp3" in refused(
            resource(VOLUME, size=10, type=type_)
        )

    def test_one_without_a_size_is_refused(self) -> None:
        assert "size is missing; give it" in refused(resource(VOLUME, type="gp3"))

    def test_one_whose_size_comes_later_is_refused(self) -> None:
        assert "size is known only after the deployment" in refused(resource(VOLUME, type="gp3", size=LATER))


class TestNatGateway:
    def test_its_address_is_billed_once(self) -> None:
        nat = resource("aws:ec2/natGateway:NatGateway", allocationId=LATER)
        address = resource("aws:ec2/eip:Eip", domain="vpc")
        addresses = [line for line in estimated(nat, address).lines if line.price == "public_ipv4"]
        assert [line.usd for line in addresses] == [Decimal("3.65")]

    def test_it_is_billed_by_the_hour_and_by_what_goes_through(self) -> None:
        quantities_ = expected(resource("aws:ec2/natGateway:NatGateway"))
        assert quantities_["nat_gateway"] == HOURS
        assert quantities_["nat_gateway_data"] > 0


class TestLoadBalancer:
    def test_it_is_billed_by_the_hour_by_use_and_by_the_address_in_each_subnet(self) -> None:
        quantities_ = expected(resource(LOAD_BALANCER, loadBalancerType="network", subnets=[LATER, LATER]))
        assert quantities_["network_load_balancer"] == HOURS
        assert quantities_["network_load_balancer_capacity"] > 0
        assert quantities_["public_ipv4"] == 2 * HOURS

    def test_an_internal_one_has_no_public_address(self) -> None:
        internal = resource(LOAD_BALANCER, loadBalancerType="network", internal=True, subnets=["a", "b"])
        assert "public_ipv4" not in taken(internal)

    @pytest.mark.parametrize(
        ("inputs", "problem"),
        [
            ({}, "only load balancers of type network have a price here"),
            ({"loadBalancerType": "application"}, "only load balancers of type network have a price here"),
            ({"loadBalancerType": "network", "subnets": LATER}, "subnets is known only after the deployment"),
            ({"loadBalancerType": "network", "subnetMappings": [{}]}, "the addresses of subnetMappings cannot be told"),
        ],
    )
    def test_others_are_refused(self, inputs: Any, problem: str) -> None:
        assert problem in refused(resource(LOAD_BALANCER, **inputs))


class TestVpcEndpoint:
    @pytest.mark.parametrize("inputs", [{}, {"vpcEndpointType": "Gateway"}])
    def test_a_gateway_endpoint_is_free(self, inputs: Any) -> None:
        assert taken(resource(VPC_ENDPOINT, **inputs)) == {}

    def test_others_are_refused(self) -> None:
        assert "only gateway endpoints are free" in refused(resource(VPC_ENDPOINT, vpcEndpointType="Interface"))


def secret(key: str = "pyairtable/dev/database", **inputs: Any) -> Resource:
    return Resource(type=SECRET, name=f"of {key}", phase=Phase.SECRETS, inputs={"name": key, **inputs})


def external(*keys: str, interval: Any = "15s", **spec: Any) -> Resource:
    """An ExternalSecret that takes one property of each key, and each key whole."""
    references = [{"key": key, "property": "password"} for key in keys or ("pyairtable/dev/database",)]
    return resource(
        EXTERNAL_SECRET,
        spec={
            "refreshInterval": interval,
            "data": [{"secretKey": "password", "remoteRef": reference} for reference in references],
            "dataFrom": [{"extract": {"key": reference["key"]}} for reference in references],
            **spec,
        },
    )


class TestSecret:
    def test_it_costs_40_cents_a_month_and_next_to_nothing_for_the_rotation_job(self) -> None:
        cost = estimated(secret())
        assert [line.usd for line in cost.lines if line.price == "secrets_manager_secret"] == [Decimal("0.40")]
        assert cost.total_usd == Decimal("0.40")

    @pytest.mark.parametrize("type_", ["secretVersion:SecretVersion", "secretPolicy:SecretPolicy"])
    def test_its_versions_and_its_policy_are_part_of_it(self, type_: str) -> None:
        assert taken(resource(f"aws:secretsmanager/{type_}")) == {}

    def test_what_reads_it_in_the_cluster_costs_nothing_but_an_external_secret(self) -> None:
        for type_ in (
            "core/v1:Secret",
            "core/v1:Namespace",
            "external-secrets.io/v1:SecretStore",
            "apps/v1:Deployment",
        ):
            assert taken(resource(f"kubernetes:{type_}")) == {}


class TestExternalSecret:
    def test_it_asks_for_its_key_once_at_every_refresh(self) -> None:
        assert taken(external(), secret()) == {"secrets_manager_request": Figures.fixed(730 * 3600 / Decimal(15))}

    def test_every_15_seconds_that_is_88_cents_a_month(self) -> None:
        (line,) = (line for line in estimated(external(), secret()).lines if line.type == EXTERNAL_SECRET)
        assert (line.quantity, line.usd) == (175_200, Decimal("0.876"))

    @pytest.mark.parametrize(
        ("interval", "calls"),
        [("5s", 525_600), ("1m", 43_800), ("1m30s", 29_200), ("5m0s", 8_760), ("1h", 730), (None, 730)],
    )
    def test_the_interval_says_how_often_an_hour_where_it_does_not(self, interval: Any, calls: int) -> None:
        assert expected(external(interval=interval), secret()) == {"secrets_manager_request": calls}

    @pytest.mark.parametrize("interval", ["0", "0s", "0h0m0s"])
    def test_without_an_interval_it_never_asks_again(self, interval: str) -> None:
        assert taken(external(interval=interval), secret(kmsKeyId=LATER)) == {}

    @pytest.mark.parametrize(("policy", "asks"), [("Periodic", True), ("OnChange", False), ("CreatedOnce", False)])
    def test_it_asks_again_where_its_policy_says_so(self, policy: str, asks: bool) -> None:
        assert bool(taken(external(refreshPolicy=policy), secret())) == asks

    @pytest.mark.parametrize("interval", ["", "15", "15 s", "15sec", "1d", "-15s", 15])
    def test_another_interval_is_refused(self, interval: Any) -> None:
        message = refused(external(interval=interval), secret())
        assert f'spec.refreshInterval "{interval}" is no duration; write it as 15s or 1m30s' in message

    def test_an_interval_that_comes_later_is_refused(self) -> None:
        message = refused(external(interval=LATER), secret())
        assert "spec.refreshInterval is known only after the deployment" in message

    def test_it_asks_for_each_of_its_keys(self) -> None:
        keys = ("pyairtable/dev/database", "pyairtable/dev/redis")
        assert expected(external(*keys), *map(secret, keys)) == {"secrets_manager_request": 2 * 175_200}

    def test_another_version_of_a_key_is_another_call(self) -> None:
        key = {"key": "pyairtable/dev/database"}
        data = [{"remoteRef": key}, {"remoteRef": {**key, "version": "AWSPREVIOUS"}}]
        assert expected(external(data=data), secret()) == {"secrets_manager_request": 2 * 175_200}

    @pytest.mark.parametrize("key_id", ["arn:aws:kms:us-east-1:123456789012:key/1", LATER])
    def test_a_secret_with_a_key_of_its_own_is_decrypted_at_every_call(self, key_id: Any) -> None:
        keys = ("pyairtable/dev/database", "pyairtable/dev/redis")
        stack = (external(*keys), secret(keys[0]), secret(keys[1], kmsKeyId=key_id))
        assert expected(*stack) == {"secrets_manager_request": 350_400, "kms_request": 175_200}

    def test_of_the_decryptions_the_account_has_20000_free(self) -> None:
        stack = (external(), secret(kmsKeyId=LATER))
        for stacks_per_account in (1, 3):
            cost = estimate(stack, stacks_per_account=stacks_per_account)
            (line,) = (line for line in cost.lines if line.price == "kms_request")
            paid = 175_200 - Decimal(20_000) / stacks_per_account
            assert round(line.usd, 9) == round(paid * Decimal("0.000003"), 9)

    @pytest.mark.parametrize(
        ("spec", "problem"),
        [
            ({"dataFrom": [{"find": {"name": {"regexp": ".*"}}}]}, "what it reads cannot be told"),
            ({"dataFrom": [{"sourceRef": {"generatorRef": {"name": "x"}}}]}, "what it reads cannot be told"),
            ({"data": [{"secretKey": "password"}]}, "give each key in data or in dataFrom.extract"),
            ({"data": [{"remoteRef": {"key": LATER}}]}, "key is known only after the deployment"),
        ],
    )
    def test_one_whose_keys_cannot_be_told_is_refused(self, spec: Any, problem: str) -> None:
        assert problem in refused(external(**spec), secret())

    def test_one_that_reads_no_secret_of_the_stack_is_refused(self) -> None:
        message = refused(external("pyairtable/staging/database"), secret())
        assert "it reads pyairtable/staging/database, which is no secret of this stack" in message


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "length"),
        [
            ("15s", 15),
            ("1m30s", 90),
            ("1h", 3600),
            ("1.5h", 5400),
            ("500ms", "0.5"),
            (".5s", "0.5"),
            ("1us1µs", "2e-6"),
        ],
    )
    def test_it_is_read_as_go_reads_it(self, text: str, length: Any) -> None:
        assert seconds(text) == Decimal(length)


class TestWhatExpectedUseDependsOnTheName:
    @pytest.mark.parametrize("type_", ["aws:cloudwatch/logGroup:LogGroup", "aws:s3/bucket:Bucket"])
    def test_what_nobody_has_estimated_is_an_error(self, type_: str) -> None:
        with pytest.raises(UnknownTypeError, match=r"\(another\)"):
            taken(resource(type_, "another"))


class TestCluster:
    """Resources of Kubernetes run on the nodes; what would make AWS create something beside them is refused."""

    @pytest.mark.parametrize("type_", [None, "ClusterIP", "NodePort"])
    def test_a_service_inside_costs_nothing(self, type_: str | None) -> None:
        assert taken(resource(SERVICE, spec={"type": type_})) == {}

    def test_a_service_of_type_load_balancer_is_refused(self) -> None:
        assert "take a NodePort behind a load balancer of the program's" in refused(
            resource(SERVICE, spec={"type": "LoadBalancer"})
        )

    @pytest.mark.parametrize(
        "values", [{}, {"service": {"type": "ClusterIP"}, "list": [1, {"type": "x"}], "later": LATER}]
    )
    def test_a_release_inside_costs_nothing(self, values: Any) -> None:
        assert taken(resource(RELEASE, values=values)) == {}
        assert taken(resource(RELEASE)) == {}

    @pytest.mark.parametrize(
        "values", [{"service": {"type": "LoadBalancer"}}, {"a": [{"b": {"type": "LoadBalancer", "c": 1}}]}]
    )
    def test_a_release_with_a_service_of_type_load_balancer_is_refused(self, values: Any) -> None:
        assert "type LoadBalancer among its values" in refused(resource(RELEASE, values=values))

    @pytest.mark.parametrize("spec", [{"storageClassName": ""}, {"volumeName": "postgres"}])
    def test_a_claim_on_a_volume_of_the_program_costs_nothing(self, spec: Any) -> None:
        assert taken(resource(CLAIM, spec=spec)) == {}
        assert taken(resource(STATEFUL_SET, spec={"volumeClaimTemplates": [{"spec": spec}]})) == {}

    def test_a_stateful_set_without_claims_costs_nothing(self) -> None:
        assert taken(resource(STATEFUL_SET, spec={"serviceName": "redis"})) == {}

    @pytest.mark.parametrize("spec", [{}, {"storageClassName": "gp3"}])
    def test_a_claim_that_makes_a_disk_is_refused(self, spec: Any) -> None:
        for claim in (
            resource(CLAIM, spec=spec),
            resource(STATEFUL_SET, spec={"volumeClaimTemplates": [{"spec": spec}]}),
        ):
            assert 'bind it to a volume, with storageClassName ""' in refused(claim)


DEV = (
    component(),
    group(tags={"PublicAddress": "true"}),
    template(),
    resource(VOLUME, "postgres", size=10, type="gp3"),
    resource(VOLUME, "redis", size=1, type="gp3"),
)
STORES = (group("stores", (1, 1, 2), capacityType="ON_DEMAND", instanceTypes=["c6a.large"]), template("stores"))
PROD = (*STORES, group(sizes=(2, 4, 6)), template())


class TestFigures:
    def test_the_expected_cost_of_a_development_stack(self) -> None:
        by_price = {line.price: line.usd for line in estimated(*DEV).lines if line.price != "gp3_storage"}
        disks = sum((line.usd for line in estimated(*DEV).lines if line.price == "gp3_storage"), Decimal(0))
        assert by_price["eks_control_plane"] == Decimal("73.00")
        assert by_price["t3a.medium spot"] + by_price["t3.medium spot"] == Decimal("0.01515") * 730
        assert by_price["public_ipv4"] == Decimal("3.65")
        assert disks == Decimal("1.60") + Decimal("0.88")
        assert estimated(*DEV).total_usd == sum(by_price.values(), disks).quantize(Decimal("0.01"))

    @pytest.mark.parametrize("stack", [DEV, PROD])
    def test_they_are_in_order(self, stack: tuple[Resource, ...]) -> None:
        result = estimated(*stack)
        assert result.minimum_usd < result.total_usd < result.maximum_usd

    def test_the_least_is_the_smallest_size_of_the_cheapest_type(self) -> None:
        disks, address = Decimal("1.60") + Decimal("0.88"), Decimal("3.65")
        rest = estimated(component()).total_usd + disks + address
        assert estimated(*DEV).minimum_usd == rest + Decimal("0.0120") * 730

    def test_the_most_is_the_largest_size_of_the_dearest_type(self) -> None:
        disks, addresses = 2 * Decimal("1.60") + Decimal("0.88"), 2 * Decimal("3.65")
        rest = estimated(component()).total_usd + disks + addresses
        assert estimated(*DEV).maximum_usd == (rest + 2 * Decimal("0.0183") * 730).quantize(Decimal("0.01"))

    def test_on_demand_the_same_nodes_cost_more_and_the_rest_the_same(self) -> None:
        result = estimated(*DEV)
        assert result.on_demand_usd - result.total_usd == result.compute_on_demand_usd - result.compute_usd
        assert result.compute_on_demand_usd == (Decimal("0.0396") * 730).quantize(Decimal("0.01"))

    def test_compute_is_the_hours_of_nodes_only(self) -> None:
        assert estimated(*DEV).compute_usd == (Decimal("0.01515") * 730).quantize(Decimal("0.01"))
        of_prod = [line.usd for line in estimated(*PROD).lines if line.price.endswith((" spot", " on-demand"))]
        assert estimated(*PROD).compute_usd == sum(of_prod, Decimal(0)).quantize(Decimal("0.01"))

    def test_the_saving_is_the_share_of_the_on_demand_price_that_is_not_paid(self) -> None:
        assert estimated(*DEV).compute_saving == (1 - Decimal("0.01515") / Decimal("0.0396")).quantize(Decimal("0.001"))

    def test_on_demand_groups_save_nothing(self) -> None:
        result = estimated(*STORES)
        assert result.compute_saving == 0
        assert result.on_demand_usd == result.total_usd

    def test_without_nodes_nothing_is_saved(self) -> None:
        assert estimated(component()).compute_saving == 0
        assert estimated(component()).compute_usd == 0

    def test_without_nodes_the_three_are_one(self) -> None:
        result = estimated(component())
        assert result.minimum_usd == result.total_usd == result.maximum_usd == result.on_demand_usd


class TestSpotShare:
    @pytest.mark.parametrize(
        ("stack", "share"),
        [
            (DEV, "100.0"),
            (PROD, "80.0"),
            (STORES, "0.0"),
            ((), "0.0"),
            ((*STORES, group(sizes=(1, 2, 2)), template()), "66.7"),
            ((group(sizes=(0, 0, 2)), template()), "0.0"),
        ],
    )
    def test_it_is_the_percentage_of_the_expected_nodes(self, stack: tuple[Resource, ...], share: str) -> None:
        assert str(spot_share(stack)) == share


class TestBaseline:
    def test_a_t3_medium_sustains_a_fifth_of_each_of_its_two_cpus(self) -> None:
        assert baseline_millis((group(instanceTypes=["t3.medium"]), template())) == 400

    def test_types_that_do_not_burst_sustain_all_they_have(self) -> None:
        assert baseline_millis(STORES) == 2000

    def test_the_expected_nodes_of_all_groups_count(self) -> None:
        assert baseline_millis(PROD) == 2000 + 4 * 400

    def test_the_weakest_type_of_a_group_counts(self) -> None:
        assert INSTANCE_TYPES["t3.large"].baseline == Decimal("0.30")
        assert baseline_millis((group(instanceTypes=["t3.large", "t3.medium"]), template())) == 400

    def test_without_nodes_it_is_nothing(self) -> None:
        assert baseline_millis(()) == 0


class TestInstanceTypes:
    def test_what_a_t3_medium_leaves_for_pods(self) -> None:
        medium = INSTANCE_TYPES["t3.medium"]
        assert (medium.allocatable_cpu_millis, medium.allocatable_memory_mib) == (1930, 3308)

    @pytest.mark.parametrize("name", INSTANCE_TYPES)
    def test_spot_is_cheaper_than_on_demand(self, name: str) -> None:
        assert 0 < INSTANCE_TYPES[name].spot_usd_per_hour < INSTANCE_TYPES[name].on_demand_usd_per_hour


def program() -> None:
    """A control plane and a group with a schedule, written with the SDK's Args classes."""
    above = pulumi.ComponentResource("pyairtable:compute:Compute", "compute")
    child = pulumi.ResourceOptions(parent=above)
    cluster = eks.Cluster(
        "compute-cluster",
        name="pyairtable-dev",
        skip_default_node_group=True,
        upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
        opts=child,
    )
    launch_template = aws.ec2.LaunchTemplate(
        "spot-launch-template",
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name="/dev/xvda",
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(volume_type="gp3", volume_size=20),
            )
        ],
        credit_specification={"cpu_credits": "standard"},
        opts=child,
    )
    nodes = aws.eks.NodeGroup(
        "spot-group",
        cluster_name="pyairtable-dev",
        node_role_arn=cluster.urn,
        subnet_ids=[cluster.urn],
        capacity_type="SPOT",
        instance_types=["t3.medium", "t3a.medium"],
        scaling_config=aws.eks.NodeGroupScalingConfigArgs(min_size=1, desired_size=1, max_size=2),
        launch_template={"id": launch_template.id, "version": "1"},
        tags={"PublicAddress": "true"},
        opts=child,
    )
    for action, hour, desired in (("stop", 20, 0), ("start", 6, 1)):
        aws.autoscaling.Schedule(
            f"spot-{action}",
            autoscaling_group_name=nodes.arn,
            scheduled_action_name=action,
            recurrence=f"0 {hour} * * MON-FRI",
            desired_capacity=desired,
            opts=child,
        )


def program_with_secrets() -> None:
    """A secret with a key of its own that the cluster reads, and a Secret of the cluster that the program reads."""
    above = pulumi.ComponentResource("pyairtable:secrets:ManagedSecrets", "secrets")
    child = pulumi.ResourceOptions(parent=above)
    key = aws.kms.Key("key", opts=child)
    aws.secretsmanager.Secret("database", name="pyairtable/dev/database", kms_key_id=key.arn, opts=child)
    kubernetes.apiextensions.CustomResource(
        "database-secret",
        api_version="external-secrets.io/v1",
        kind="ExternalSecret",
        metadata={"name": "database-secret"},
        spec={"refreshInterval": "15s", "dataFrom": [{"extract": {"key": "pyairtable/dev/database"}}]},
        opts=child,
    )
    kubernetes.core.v1.Secret.get("redis-credentials-live", "pyairtable/redis-credentials", opts=child)
    aws.ec2.Eip.get("elsewhere", "eipalloc-1", opts=child)


@cache
def seen() -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """What a recorder in the program sees, and what the engine has deployed: the component's children too."""
    recorder = ResourceRecorder()

    def with_recorder() -> None:
        pulumi.runtime.register_stack_transformation(recorder.record)
        program()

    graph = run(with_recorder)
    above = graph.only(COMPONENT).urn.removesuffix("::compute-cluster")
    children = [
        (CLUSTER, "eksCluster", {"upgradePolicy": {"supportType": "STANDARD"}}),
        ("aws:iam/role:Role", "eksRole-role", {}),
        ("aws:eks/addon:Addon", "kube-proxy", {}),
    ]
    states = [
        *({"urn": n.urn, "custom": n.type != COMPONENT, "inputs": dict(n.inputs)} for n in graph.nodes),
        *({"urn": f"{above}${type_}::c-{name}", "inputs": inputs} for type_, name, inputs in children),
    ]
    return recorder.resources, resources_of_deployment({"resources": states})


def priced(cost: Estimate) -> Counter[tuple[str, Decimal]]:
    """What is billed, whatever the resource is called."""
    return Counter((line.price, line.usd) for line in cost.lines)


class TestProgramAndDeployment:
    def test_both_are_estimated_alike(self) -> None:
        recorded, deployed = (estimated(*resources) for resources in seen())
        assert priced(recorded) == priced(deployed)
        assert recorded.total_usd == deployed.total_usd

    def test_the_control_plane_is_priced_exactly_once_in_each(self) -> None:
        for resources, type_ in zip(seen(), (COMPONENT, CLUSTER), strict=True):
            planes = [line for line in estimated(*resources).lines if line.price == "eks_control_plane"]
            assert [(line.type, line.usd) for line in planes] == [(type_, Decimal("73.00"))]

    def test_what_a_program_reads_only_is_not_its_own(self) -> None:
        recorder = ResourceRecorder()

        def with_recorder() -> None:
            pulumi.runtime.register_stack_transformation(recorder.record)
            program_with_secrets()

        graph = run(with_recorder)
        states = [{"urn": node.urn, "inputs": node.inputs} for node in graph.nodes]
        external = {"urn": "urn:pulumi:dev::pyairtable::aws:ec2/eip:Eip::elsewhere", "external": True}
        recorded = recorder.resources
        deployed = resources_of_deployment({"resources": [*states, external]})
        for resources in (recorded, deployed):
            assert {seen.name for seen in resources} == {"secrets", "key", "database", "database-secret"}
            assert all(seen.phase == Phase.SECRETS for seen in resources)
        assert priced(estimated(*recorded)) == priced(estimated(*deployed))

    def test_an_external_secret_is_counted_with_the_key_of_the_secret_that_it_reads(self) -> None:
        graph = run(program_with_secrets)
        cost = estimated(
            *resources_of_deployment({"resources": [{"urn": n.urn, "inputs": n.inputs} for n in graph.nodes]})
        )
        of_it = {line.price: line.quantity for line in cost.lines if line.type == EXTERNAL_SECRET}
        assert of_it == {"secrets_manager_request": 175_200, "kms_request": 175_200}

    def test_what_the_program_wrote_with_classes_is_priced_as_its_plain_values(self) -> None:
        plain = (group(tags={"PublicAddress": "true"}), template(), *night(), component())
        for resources in seen():
            assert estimated(*resources).total_usd == estimated(*plain).total_usd
            assert spot_share(resources) == 100
            assert baseline_millis(resources) == 400
