"""Add-ons of phase 2: which, at which version, and in which order with the nodes."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from components.compute.addons import AUTOSCALER_IMAGE_TAG, VERSIONS
from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, platform, varied_prod

ADDON = "aws:eks/addon:Addon"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
AUTOSCALER = "compute-addons-autoscaler"
ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation"

BEFORE_NODES = {"eks-pod-identity-agent", "vpc-cni"}
AFTER_NODES = {"coredns", "aws-ebs-csi-driver", "metrics-server"}

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def addons(graph: Graph) -> dict[str, Node]:
    return {node.inputs["addonName"]: node for node in graph.of_type(ADDON)}


def configuration(node: Node) -> Any:
    return json.loads(node.inputs.get("configurationValues", "{}"))


def urns(nodes: Iterable[Node]) -> set[str]:
    return {node.urn for node in nodes}


@in_every_environment
def test_every_add_on_is_at_its_pinned_version(stack: str) -> None:
    found = addons(platform(stack))
    assert found.keys() == BEFORE_NODES | AFTER_NODES
    assert {name: node.inputs["addonVersion"] for name, node in found.items()} == VERSIONS


@in_every_environment
def test_the_cni_and_the_agent_come_before_the_nodes(stack: str) -> None:
    graph = platform(stack)
    first = urns(addons(graph)[name] for name in BEFORE_NODES)
    for group in graph.of_type(NODE_GROUP):
        assert first <= graph.before(group)
    assert not any(urns(graph.of_type(NODE_GROUP)) & graph.before(graph.at(urn)) for urn in first)


@in_every_environment
def test_the_other_add_ons_come_after_the_nodes(stack: str) -> None:
    graph = platform(stack)
    nodes = urns(graph.of_type(NODE_GROUP))
    for node in (*(addons(graph)[name] for name in AFTER_NODES), graph.named(AUTOSCALER)):
        assert nodes <= graph.before(node)


@in_every_environment
def test_every_add_on_comes_after_the_cluster(stack: str) -> None:
    graph = platform(stack)
    cluster = graph.only("eks:index:Cluster").urn
    assert [node.name for node in graph.of_type(ADDON) if cluster not in graph.before(node)] == []


@in_every_environment
def test_pods_with_an_identity_come_after_it(stack: str) -> None:
    """It is injected when a pod is admitted."""
    graph = platform(stack)
    by_account = {node.inputs["serviceAccount"]: node.urn for node in graph.of_type(ASSOCIATION)}
    assert by_account["cluster-autoscaler"] in graph.before(graph.named(AUTOSCALER))
    assert by_account["postgres-backup"] in graph.before(graph.object("CronJob", "postgres-backup"))


@in_every_environment
def test_the_cni_gives_out_prefixes_and_enforces_network_policies(stack: str) -> None:
    values = configuration(addons(platform(stack))["vpc-cni"])
    assert values["enableNetworkPolicy"] == "true"
    assert values["env"]["ENABLE_PREFIX_DELEGATION"] == "true"


@pytest.mark.parametrize(("stack", "replicas"), [("dev", 1), ("staging", 2), ("prod", 2)])
def test_dns_and_the_disk_controller_have_a_second_replica_where_there_is_a_second_node(
    stack: str, replicas: int
) -> None:
    found = addons(platform(stack))
    assert configuration(found["coredns"])["replicaCount"] == replicas
    assert configuration(found["aws-ebs-csi-driver"])["controller"]["replicaCount"] == replicas


def test_a_prod_stack_of_one_node_has_one_replica_of_them() -> None:
    assert configuration(addons(varied_prod())["coredns"])["replicaCount"] == 1


@in_every_environment
def test_what_somebody_changed_by_hand_is_put_right(stack: str) -> None:
    for node in platform(stack).of_type(ADDON):
        assert node.inputs["resolveConflictsOnCreate"] == node.inputs["resolveConflictsOnUpdate"] == "OVERWRITE"


class TestAutoscaler:
    @in_every_environment
    def test_its_chart_is_pinned_and_its_image_is_of_the_clusters_minor_version(self, stack: str) -> None:
        release = platform(stack).named(AUTOSCALER).inputs
        assert platform(stack).named(AUTOSCALER).type == "kubernetes:helm.sh/v3:Release"
        assert release["chart"] == release["name"] == "cluster-autoscaler"
        assert release["version"].count(".") == 2
        assert release["values"]["image"] == {"tag": AUTOSCALER_IMAGE_TAG}
        version = platform(stack).only("eks:index:Cluster").inputs["version"]
        assert AUTOSCALER_IMAGE_TAG.startswith(f"v{version}.")

    @in_every_environment
    def test_it_looks_after_this_clusters_groups_as_its_own_service_account(self, stack: str) -> None:
        values = platform(stack).named(AUTOSCALER).inputs["values"]
        assert values["autoDiscovery"] == {"clusterName": f"pyairtable-{stack}"}
        assert values["awsRegion"] == "us-east-1"
        assert values["rbac"]["serviceAccount"]["name"] == "cluster-autoscaler"

    @in_every_environment
    def test_its_memory_is_not_overcommitted(self, stack: str) -> None:
        resources = platform(stack).named(AUTOSCALER).inputs["values"]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
