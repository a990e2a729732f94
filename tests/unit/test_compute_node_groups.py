"""Nodes of phase 2: what they are, where they may be, and what their launch template says."""

import base64
import email
from typing import Any

import pytest
import yaml

from components.compute.node_group import MAX_PODS
from components.shared.stores import STORES_LABEL
from cost.instance_types import INSTANCE_TYPES
from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, fullest, platform, varied_prod

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
SUBNET = "aws:ec2/subnet:Subnet"
VOLUME = "aws:ebs/volume:Volume"
SCHEDULE = "aws:autoscaling/schedule:Schedule"
DASHBOARD = "aws:cloudwatch/dashboard:Dashboard"

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def all_graphs() -> list[Graph]:
    return [*map(platform, ENVIRONMENTS), varied_prod()]


def groups(graph: Graph) -> dict[str, Node]:
    """Node groups by the last part of their names."""
    return {node.inputs["nodeGroupName"].rpartition("-")[2]: node for node in graph.of_type(NODE_GROUP)}


def template_of(graph: Graph, group: Node) -> Node:
    template = group.inputs["launchTemplate"]
    (found,) = (node for node in graph.of_type(TEMPLATE) if f"{node.inputs['name']}-id" == template["id"])
    assert template["version"] == str(found.outputs["latestVersion"])
    return found


def hosts_of_stores(graph: Graph) -> Node:
    (group,) = (group for group in graph.of_type(NODE_GROUP) if group.inputs.get("labels") == {STORES_LABEL: "true"})
    return group


def zones(graph: Graph, group: Node) -> list[str]:
    by_id = {f"{subnet.name}-id": subnet.inputs["availabilityZone"] for subnet in graph.of_type(SUBNET)}
    return [by_id[subnet] for subnet in group.inputs["subnetIds"]]


def zone_of(volume: Node) -> str:
    return volume.inputs["availabilityZone"]


def zones_of_volume_objects(graph: Graph) -> list[Any]:
    return [
        term["matchExpressions"]
        for volume in graph.objects("PersistentVolume")
        for term in volume.inputs["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    ]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ("dev", {"general": ("SPOT", 1, 1, 2)}),
        ("staging", {"stores": ("SPOT", 1, 1, 2), "general": ("SPOT", 1, 1, 3)}),
        ("prod", {"stores": ("ON_DEMAND", 1, 1, 2), "general": ("SPOT", 2, 4, 6)}),
    ],
)
def test_the_groups_of_an_environment(stack: str, expected: dict[str, tuple[str, int, int, int]]) -> None:
    assert {
        name: (
            node.inputs["capacityType"],
            *(node.inputs["scalingConfig"][f"{key}Size"] for key in ("min", "desired", "max")),
        )
        for name, node in groups(platform(stack)).items()
    } == expected


@in_every_environment
def test_a_spot_group_has_several_types_to_choose_from(stack: str) -> None:
    spot = [node for node in platform(stack).of_type(NODE_GROUP) if node.inputs["capacityType"] == "SPOT"]
    assert spot
    assert all(len(node.inputs["instanceTypes"]) >= 2 for node in spot)


@in_every_environment
def test_a_groups_name_says_its_stack_and_the_kind_of_its_capacity(stack: str) -> None:
    kinds = {"SPOT": "spot", "ON_DEMAND": "on-demand"}
    for name, node in groups(platform(stack)).items():
        assert node.inputs["nodeGroupName"] == f"pyairtable-{stack}-{kinds[node.inputs['capacityType']]}-{name}"


@in_every_environment
def test_the_dashboard_finds_every_group_by_its_name(stack: str) -> None:
    graph = platform(stack)
    body = graph.only(DASHBOARD).inputs["dashboardBody"]
    for node in graph.of_type(NODE_GROUP):
        assert f"eks-{node.inputs['nodeGroupName'].rpartition('-')[0]}" in body


@in_every_environment
def test_a_group_runs_the_control_planes_version(stack: str) -> None:
    graph = platform(stack)
    version = graph.only("eks:index:Cluster").inputs["version"]
    assert {node.inputs["version"] for node in graph.of_type(NODE_GROUP)} == {version}


def test_a_groups_image_is_of_its_types_architecture() -> None:
    images = {"amd64": "AL2023_x86_64_STANDARD", "arm64": "AL2023_ARM_64_STANDARD"}
    seen: set[str] = set()
    for graph in all_graphs():
        for node in graph.of_type(NODE_GROUP):
            architectures = {INSTANCE_TYPES[name].architecture for name in node.inputs["instanceTypes"]}
            assert [node.inputs["amiType"]] == [images[architecture] for architecture in architectures]
            seen |= architectures
    assert seen == images.keys()


@in_every_environment
def test_the_number_of_nodes_is_the_autoscalers(stack: str) -> None:
    assert {node.ignored for node in platform(stack).of_type(NODE_GROUP)} == {("scalingConfig.desiredSize",)}


@in_every_environment
def test_nodes_are_replaced_one_at_a_time_and_repaired(stack: str) -> None:
    for node in platform(stack).of_type(NODE_GROUP):
        assert node.inputs["updateConfig"] == {"maxUnavailable": 1}
        assert node.inputs["nodeRepairConfig"] == {"enabled": True}


@in_every_environment
def test_a_node_starts_once_its_role_has_its_policies(stack: str) -> None:
    graph = platform(stack)
    policies = {graph.named(f"compute-node-{policy}").urn for policy in ("worker", "images")}
    for node in graph.of_type(NODE_GROUP):
        assert node.inputs["nodeRoleArn"] == graph.named("compute-node-role").outputs["arn"]
        assert policies <= graph.before(node)


class TestStoresGroup:
    @pytest.mark.parametrize("graph", [*ENVIRONMENTS, "varied"])
    def test_a_replacement_in_the_wrong_zone_is_impossible(self, graph: str) -> None:
        made = varied_prod() if graph == "varied" else platform(graph)
        (zone,) = {zone_of(volume) for volume in made.of_type(VOLUME)}
        assert zones(made, hosts_of_stores(made)) == [zone]
        assert (
            zones_of_volume_objects(made)
            == [[{"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]] * 2
        )

    def test_its_zone_is_the_configs(self) -> None:
        assert {zone_of(volume) for volume in platform("prod").of_type(VOLUME)} == {"us-east-1a"}
        assert {zone_of(volume) for volume in varied_prod().of_type(VOLUME)} == {"us-east-1b"}

    @in_every_environment
    def test_it_has_room_for_one_node_more(self, stack: str) -> None:
        scaling = hosts_of_stores(platform(stack)).inputs["scalingConfig"]
        assert scaling["maxSize"] > scaling["desiredSize"] >= 1

    @in_every_environment
    def test_the_stores_their_backup_and_the_rotation_run_nowhere_else(self, stack: str) -> None:
        graph = platform(stack)
        templates = [node.inputs["spec"]["template"] for node in graph.objects("StatefulSet")]
        templates += [node.inputs["spec"]["jobTemplate"]["spec"]["template"] for node in graph.objects("CronJob")]
        assert {template["metadata"]["labels"]["app"]: template["spec"]["nodeSelector"] for template in templates} == {
            app: {STORES_LABEL: "true"} for app in ("postgres", "redis", "postgres-backup", "database-rotation")
        }

    @pytest.mark.parametrize("stack", ["staging", "prod"])
    def test_other_groups_span_the_zones(self, stack: str) -> None:
        assert set(zones(platform(stack), groups(platform(stack))["general"])) == {"us-east-1a", "us-east-1b"}

    def test_in_prod_it_is_on_demand(self) -> None:
        assert hosts_of_stores(platform("prod")).inputs["capacityType"] == "ON_DEMAND"


class TestLaunchTemplate:
    @in_every_environment
    def test_every_group_has_its_own(self, stack: str) -> None:
        graph = platform(stack)
        assert {template_of(graph, node).inputs["name"] for node in graph.of_type(NODE_GROUP)} == {
            node.inputs["nodeGroupName"] for node in graph.of_type(NODE_GROUP)
        }

    @in_every_environment
    def test_containers_cannot_take_the_nodes_identity(self, stack: str) -> None:
        for template in platform(stack).of_type(TEMPLATE):
            assert template.inputs["metadataOptions"] == {
                "httpEndpoint": "enabled",
                "httpTokens": "required",
                "httpPutResponseHopLimit": 1,
            }

    @in_every_environment
    def test_the_root_disk_is_encrypted_gp3_and_goes_with_its_node(self, stack: str) -> None:
        for template in platform(stack).of_type(TEMPLATE):
            (disk,) = template.inputs["blockDeviceMappings"]
            assert disk["deviceName"] == "/dev/xvda"
            assert disk["ebs"].items() >= {
                ("volumeType", "gp3"),
                ("encrypted", "true"),
                ("deleteOnTermination", "true"),
            }

    def test_types_that_burst_do_so_on_standard_credits_and_the_others_have_none(self) -> None:
        seen: set[bool] = set()
        for graph in all_graphs():
            for node in graph.of_type(NODE_GROUP):
                (bursts,) = {INSTANCE_TYPES[name].baseline is not None for name in node.inputs["instanceTypes"]}
                credits = template_of(graph, node).inputs.get("creditSpecification")
                assert credits == ({"cpuCredits": "standard"} if bursts else None)
                seen.add(bursts)
        assert seen == {True, False}

    @in_every_environment
    def test_its_user_data_is_a_node_config_with_the_number_of_pods(self, stack: str) -> None:
        for template in platform(stack).of_type(TEMPLATE):
            message: Any = email.message_from_bytes(base64.b64decode(template.inputs["userData"]))
            (part,) = message.get_payload()
            assert part.get_content_type() == "application/node.eks.aws"
            assert yaml.safe_load(part.get_payload()) == {
                "apiVersion": "node.eks.aws/v1alpha1",
                "kind": "NodeConfig",
                "spec": {"kubelet": {"config": {"maxPods": MAX_PODS}}},
            }

    @in_every_environment
    def test_a_new_version_is_the_default(self, stack: str) -> None:
        assert {node.inputs["updateDefaultVersion"] for node in platform(stack).of_type(TEMPLATE)} == {True}

    @in_every_environment
    def test_what_eks_sets_itself_is_not_in_it(self, stack: str) -> None:
        for template in platform(stack).of_type(TEMPLATE):
            assert not template.inputs.keys() & {
                "imageId",
                "instanceType",
                "instanceMarketOptions",
                "iamInstanceProfile",
                "networkInterfaces",
            }


class TestNightSchedule:
    @in_every_environment
    def test_there_is_none_unless_the_config_has_one(self, stack: str) -> None:
        assert platform(stack).of_type(SCHEDULE) == ()

    @in_every_environment
    def test_it_stops_and_starts_every_group(self, stack: str) -> None:
        graph = fullest(stack)
        found = {
            (node.inputs["autoscalingGroupName"], node.inputs["recurrence"], node.inputs["timeZone"])
            for node in graph.of_type(SCHEDULE)
        }
        assert found == {
            (f"eks-{group.inputs['nodeGroupName']}-0123", cron, "Europe/Berlin")
            for group in graph.of_type(NODE_GROUP)
            for cron in ("0 20 * * MON-FRI", "0 6 * * MON-FRI")
        }

    @in_every_environment
    def test_at_night_not_even_the_autoscaler_brings_a_node(self, stack: str) -> None:
        stops = [node.inputs for node in fullest(stack).of_type(SCHEDULE) if node.name.endswith("-stop")]
        assert {(stop["minSize"], stop["desiredCapacity"], stop["maxSize"]) for stop in stops} == {(0, 0, 0)}

    @in_every_environment
    def test_in_the_morning_a_group_is_as_large_as_it_was_made(self, stack: str) -> None:
        graph = fullest(stack)
        for name, group in groups(graph).items():
            start = graph.named(f"compute-nodes-{name}-start").inputs
            assert group.inputs["scalingConfig"] == {
                "minSize": start["minSize"],
                "desiredSize": start["desiredCapacity"],
                "maxSize": start["maxSize"],
            }
