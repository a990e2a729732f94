"""Nodes of the sandbox: what they look like, and which of them join and leave; the API server is a dictionary."""

import copy
from collections import Counter
from typing import Any, cast

import pytest

from cost.instance_types import INSTANCE_TYPES
from sandbox import nodes
from sandbox.errors import BadInputError, SandboxError
from sandbox.kubernetes_api import KubernetesApi
from sandbox.nodes import NodeGroup

Object = dict[str, Any]

GROUP = NodeGroup(
    cluster="pyairtable-dev",
    name="spot",
    capacity_type="SPOT",
    instance_types=("t3.medium", "t3a.large"),
    zones=("us-east-1a", "us-east-1b"),
    desired=2,
    labels={"team": "platform"},
    taints=({"key": "stores", "value": "yes", "effect": "NO_SCHEDULE"},),
)


def group(**changes: Any) -> NodeGroup:
    return NodeGroup(**{**{name: getattr(GROUP, name) for name in GROUP.__dataclass_fields__}, **changes})


class Cluster:
    """An API server of nodes and pods whose nodes are ready at once."""

    def __init__(self) -> None:
        self.nodes: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.kept: set[str] = set()
        """Pods that a disruption budget keeps."""
        self.calls: list[str] = []

    @property
    def api(self) -> KubernetesApi:
        return cast(KubernetesApi, self)

    def create(self, manifest: Object) -> Object:
        node = copy.deepcopy(manifest)
        node["metadata"]["creationTimestamp"] = str(len(self.calls))
        node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        self.nodes[nodes.name_of(node)] = node
        self.calls.append(f"join {node['metadata']['labels'][nodes.ZONE_LABEL]}")
        return node

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        return self.nodes.get(name)

    def list(self, api_version: str, kind: str, *, label_selector: str = "") -> list[Object]:
        if kind == "Pod":
            return list(self.pods.values())
        key, _, value = label_selector.partition("=")
        found = [n for n in self.nodes.values() if not key or n["metadata"]["labels"].get(key) == value]
        return copy.deepcopy(found)

    def patch(self, api_version: str, kind: str, name: str, patch: Object) -> None:
        node = self.nodes[name]
        for part, values in patch.items():
            for field, value in values.items():
                if isinstance(value, dict):
                    node[part][field] = {k: v for k, v in {**node[part][field], **value}.items() if v is not None}
                else:
                    node[part][field] = value
        if patch == {"spec": {"unschedulable": True}}:
            self.calls.append("cordon")
        if not node["metadata"]["labels"].get("kwok.x-k8s.io/node"):
            node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    def delete(self, api_version: str, kind: str, name: str, *, propagation: str) -> bool:
        self.calls.append("remove")
        self.pods = {pod: p for pod, p in self.pods.items() if p["spec"]["nodeName"] != name}
        return self.nodes.pop(name, None) is not None

    def evict(self, namespace: str, pod: str) -> bool:
        if pod in self.kept:
            return False
        self.calls.append(f"evict {pod}")
        del self.pods[pod]
        return True

    def add_pod(self, name: str, node: str, owner: str = "ReplicaSet") -> None:
        owners = [{"kind": owner, "controller": True}]
        self.pods[name] = {
            "metadata": {"name": name, "namespace": "pyairtable", "ownerReferences": owners},
            "spec": {"nodeName": node},
        }

    def zones(self) -> Counter[str]:
        return Counter(node["metadata"]["labels"][nodes.ZONE_LABEL] for node in self.nodes.values())


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_node_is_as_large_as_the_smallest_instance_type_of_its_group() -> None:
    node = nodes.new_node(GROUP, "us-east-1b", set())
    smallest = INSTANCE_TYPES["t3.medium"]
    assert node["status"]["allocatable"] == {
        "cpu": f"{smallest.allocatable_cpu_millis}m",
        "memory": f"{smallest.allocatable_memory_mib}Mi",
        "pods": "110",
        "ephemeral-storage": "20Gi",
    }


def test_a_node_has_the_labels_that_eks_gives_it_and_the_groups_own() -> None:
    node = nodes.new_node(GROUP, "us-east-1b", set())
    labels = node["metadata"]["labels"]
    assert labels["team"] == "platform"
    assert labels["eks.amazonaws.com/capacityType"] == "SPOT"
    assert labels["eks.amazonaws.com/nodegroup"] == "spot"
    assert labels["node.kubernetes.io/instance-type"] == labels["beta.kubernetes.io/instance-type"] == "t3.medium"
    assert labels["topology.kubernetes.io/zone"] == "us-east-1b"
    assert labels["topology.kubernetes.io/region"] == "us-east-1"
    assert labels["kubernetes.io/arch"] == "amd64"
    assert labels["kubernetes.io/hostname"] == node["metadata"]["name"]
    assert node["metadata"]["name"].startswith("ip-10-0-1-")
    assert node["metadata"]["name"].endswith(".ec2.internal")
    assert node["spec"]["providerID"].startswith("aws:///us-east-1b/i-")
    assert node["spec"]["taints"] == [{"key": "stores", "value": "yes", "effect": "NoSchedule"}]


def test_a_node_knows_the_group_that_it_is_replaced_in() -> None:
    assert NodeGroup.of(nodes.new_node(GROUP, "us-east-1a", set())) == GROUP


def test_names_are_never_given_twice() -> None:
    taken = {f"ip-10-0-0-{n}.eu-west-1.compute.internal" for n in range(256) if n != 77}
    assert nodes.name_of(nodes.new_node(GROUP, "eu-west-1a", taken)) == "ip-10-0-0-77.eu-west-1.compute.internal"


def test_a_new_group_spreads_over_its_zones_and_settling_again_changes_nothing(cluster: Cluster) -> None:
    nodes.settle(cluster.api, group(desired=4))
    assert cluster.zones() == {"us-east-1a": 2, "us-east-1b": 2}
    before = list(cluster.calls)
    nodes.settle(cluster.api, group(desired=4))
    assert cluster.calls == before


def test_a_smaller_group_drains_what_is_too_much_of_the_fullest_zone(cluster: Cluster) -> None:
    nodes.settle(cluster.api, group(desired=3))
    nodes.settle(cluster.api, group(desired=2))
    assert cluster.zones() == {"us-east-1a": 1, "us-east-1b": 1}
    assert cluster.calls[-2:] == ["cordon", "remove"]


def test_a_group_that_sleeps_has_no_nodes(cluster: Cluster) -> None:
    nodes.settle(cluster.api, GROUP)
    nodes.settle(cluster.api, group(desired=0))
    assert cluster.nodes == {}


def test_labels_and_taints_of_a_changed_group_reach_its_nodes_and_leave_kubernetes_own(cluster: Cluster) -> None:
    nodes.settle(cluster.api, group(desired=1))
    (node,) = cluster.nodes.values()
    own = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    node["spec"]["taints"].append(own)
    nodes.settle(cluster.api, group(desired=1, labels={"tier": "web"}, taints=()))
    assert node["metadata"]["labels"]["tier"] == "web"
    assert "team" not in node["metadata"]["labels"]
    assert node["spec"]["taints"] == [own]
    assert NodeGroup.of(node).labels == {"tier": "web"}


def test_an_interrupted_node_is_replaced_before_it_is_drained(cluster: Cluster) -> None:
    nodes.settle(cluster.api, GROUP)
    leaving = next(iter(cluster.nodes))
    cluster.add_pod("web", leaving)
    cluster.add_pod("cni", leaving, owner="DaemonSet")
    cluster.calls.clear()
    nodes.interrupt(cluster.api, leaving)
    assert cluster.calls == ["join us-east-1a", "cordon", "evict web", "remove"]
    assert leaving not in cluster.nodes
    assert len(cluster.nodes) == GROUP.desired


def test_a_replacement_joins_in_a_zone_of_the_group_only(cluster: Cluster) -> None:
    stores = group(zones=("us-east-1b",), desired=1)
    nodes.settle(cluster.api, stores)
    nodes.settle(cluster.api, group(name="other", zones=("us-east-1a",), desired=3))
    for _ in range(3):
        (leaving,) = [n for n in cluster.nodes.values() if n["metadata"]["labels"][nodes.GROUP_LABEL] == "spot"]
        nodes.interrupt(cluster.api, nodes.name_of(leaving))
    assert cluster.zones() == {"us-east-1a": 3, "us-east-1b": 1}


def test_a_budget_that_forbids_a_drain_is_named_and_a_second_try_makes_no_second_replacement(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.settle(cluster.api, GROUP)
    leaving = next(iter(cluster.nodes))
    cluster.add_pod("postgres-0", leaving)
    cluster.kept.add("postgres-0")
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "NOTICE_SECONDS", 0)
        for _ in range(2):
            with pytest.raises(SandboxError, match="postgres-0 could not leave within 0 s, which their PodDisruption"):
                nodes.interrupt(cluster.api, leaving)
    assert len(cluster.nodes) == GROUP.desired + 1
    cluster.kept.clear()
    nodes.interrupt(cluster.api, leaving)
    assert len(cluster.nodes) == GROUP.desired


def test_a_killed_node_goes_without_a_drain_and_is_replaced(cluster: Cluster) -> None:
    nodes.settle(cluster.api, GROUP)
    gone = next(iter(cluster.nodes))
    cluster.add_pod("web", gone)
    cluster.calls.clear()
    nodes.kill(cluster.api, gone)
    assert cluster.calls == ["remove", "join us-east-1a"]


def test_what_an_interrupted_kill_has_left_is_cleared_away(cluster: Cluster) -> None:
    nodes.settle(cluster.api, GROUP)
    silent = next(iter(cluster.nodes))
    cluster.patch("v1", "Node", silent, {"metadata": {"labels": {"kwok.x-k8s.io/node": None}}})
    nodes.settle(cluster.api, GROUP)
    assert silent not in cluster.nodes
    assert cluster.zones() == {"us-east-1a": 1, "us-east-1b": 1}


def test_a_group_is_removed_in_the_end_also_against_budgets(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "FORCED_DRAIN_SECONDS", 0)
    nodes.settle(cluster.api, GROUP)
    cluster.add_pod("postgres-0", next(iter(cluster.nodes)))
    cluster.kept.add("postgres-0")
    nodes.remove_group(cluster.api, GROUP.name)
    assert cluster.nodes == {}


def test_an_unknown_node_is_bad_input_and_the_nodes_are_named(cluster: Cluster) -> None:
    nodes.settle(cluster.api, group(desired=1))
    (name,) = cluster.nodes
    with pytest.raises(BadInputError, match=f"finding the node ip-1: the nodes are {name}"):
        nodes.interrupt(cluster.api, "ip-1")
