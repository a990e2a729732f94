"""Nodes of EKS node groups, played by kwok at the size of their instances, and what EKS does with them."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from cost.instance_types import INSTANCE_TYPES, MEMORY_FOR_THE_SYSTEM, InstanceType
from sandbox.control_plane import MANAGED_NODES
from sandbox.errors import BadInputError, SandboxError
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.progress import Progress
from sandbox.tools import TOOLS, wanted_version

GROUP_LABEL = "eks.amazonaws.com/nodegroup"
CAPACITY_LABEL = "eks.amazonaws.com/capacityType"
TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
GROUP_ANNOTATION = "sandbox.pyairtable/node-group"
"""The node's group as JSON: all that is needed to make a replacement."""

READY_SECONDS = 60
NOTICE_SECONDS = 120
"""Time between the interruption notice of a spot instance and its end."""
SILENCE_SECONDS = 180
"""Within which Kubernetes notices a silent node (50 s by default), and takes the pods of a deleted one away (80 s)."""
FORCED_DRAIN_SECONDS = 15
"""How long the nodes of a group that is deleted wait for disruption budgets; EKS waits for quarters of an hour."""
POLL_SECONDS = 0.25

TAINT_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}
"""Kubernetes' words for EKS's."""


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """A managed node group of EKS; `taints` in EKS's words or in Kubernetes'."""

    cluster: str
    name: str
    capacity_type: str
    instance_types: tuple[str, ...]
    zones: tuple[str, ...]
    desired: int
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    taints: tuple[Mapping[str, str], ...] = ()
    max_pods: int = 110
    disk_gib: int = 20

    @classmethod
    def of(cls, node: Manifest) -> Self:
        """The group that a node was made for.

        Raises:
            BadInputError: it is none of a node group's.
        """
        text = node["metadata"].get("annotations", {}).get(GROUP_ANNOTATION)
        if text is None:
            raise BadInputError(f"replacing the node {name_of(node)}: it belongs to no node group of the sandbox")
        return TypeAdapter(cls).validate_json(text)

    @property
    def node_labels(self) -> dict[str, str]:
        """Labels that all of its nodes have."""
        first = INSTANCE_TYPES[self.instance_types[0]]
        return {
            **self.labels,
            GROUP_LABEL: self.name,
            CAPACITY_LABEL: self.capacity_type,
            TYPE_LABEL: first.name,
            "beta.kubernetes.io/instance-type": first.name,
            "kubernetes.io/arch": first.architecture,
            "kubernetes.io/os": "linux",
        }

    @property
    def node_taints(self) -> list[dict[str, str]]:
        """Taints that all of its nodes have, in Kubernetes' words."""
        return [{**taint, "effect": TAINT_EFFECTS.get(taint["effect"], taint["effect"])} for taint in self.taints]

    @property
    def annotation(self) -> str:
        """What its nodes say about it."""
        return TypeAdapter(NodeGroup).dump_json(self).decode()


def name_of(node: Manifest) -> str:
    """A node's or pod's name."""
    return node["metadata"]["name"]


def settle(api: KubernetesApi, group: NodeGroup) -> None:
    """Make the group's nodes what the group says: missing ones join, surplus ones are drained and removed.

    Raises:
        SandboxError: nodes did not become ready, or a disruption budget keeps a surplus one.
    """
    nodes = _nodes(api, group.name)
    for node in nodes:
        if _is_silent(node):  # what a `kill` that was interrupted has left
            api.delete("v1", "Node", name_of(node), propagation="Background")
    nodes = [node for node in nodes if not _is_silent(node)]
    for node in nodes:
        _bring_up_to_date(api, node, group)
    surplus = _surplus(nodes, len(nodes) - group.desired)
    _join(api, group, group.desired - len(nodes), nodes)
    _wait_until_ready(api, group)
    _retire(api, surplus, NOTICE_SECONDS)


def remove_group(api: KubernetesApi, group_name: str) -> None:
    """Drain and remove all nodes of a group; in the end also against disruption budgets, as EKS does."""
    _retire(api, _nodes(api, group_name), FORCED_DRAIN_SECONDS, force=True)


def interrupt(api: KubernetesApi, node_name: str) -> None:
    """Lose a node with notice, the way EKS does it: a replacement joins, the node is cordoned, drained and removed.

    Raises:
        BadInputError: there is no such node.
        SandboxError: the replacement did not become ready, or disruption budgets keep pods where they are.
    """
    node = _node(api, node_name)
    group = NodeGroup.of(node)
    with Progress(f"interrupting {node_name}", f"of the group {group.name}") as progress:
        _replace(api, group, node_name, progress)
        progress.note("cordoning and draining it")
        _retire(api, [node], NOTICE_SECONDS)


def kill(api: KubernetesApi, node_name: str) -> None:
    """Lose a node without notice: it falls silent, Kubernetes finds out, and the group's replacement joins.

    Raises:
        BadInputError: there is no such node.
        SandboxError: a step took too long.
    """
    node = _node(api, node_name)
    group = NodeGroup.of(node)
    key = MANAGED_NODES.partition("=")[0]
    with Progress(f"killing {node_name}", f"of the group {group.name}") as progress:
        api.patch("v1", "Node", node_name, {"metadata": {"labels": {key: None}}})
        progress.note("its heartbeats have stopped; waiting for Kubernetes to notice")
        _wait(
            lambda: not _is_ready(api.get("v1", "Node", node_name)),
            SILENCE_SECONDS,
            lambda: f"killing {node_name}: Kubernetes has not noticed within {SILENCE_SECONDS} s",
        )
        progress.note("it is NotReady, and its instance is gone: deleting it, as AWS's cloud controller does")
        api.delete("v1", "Node", node_name, propagation="Background")
        _replace(api, group, node_name, progress)
        progress.note("waiting for Kubernetes to take away the pods that it ran")
        _wait(
            lambda: not _pods_on(api, [node_name]),
            SILENCE_SECONDS,
            lambda: f"killing {node_name}: its pods are still listed after {SILENCE_SECONDS} s",
        )


def _replace(api: KubernetesApi, group: NodeGroup, leaving: str, progress: Progress) -> None:
    """Let a node join in place of one that leaves, unless that has been done before."""
    others = [node for node in _nodes(api, group.name) if name_of(node) != leaving and not _is_silent(node)]
    made = _join(api, group, min(1, group.desired - len(others)), others)
    for node in made:
        progress.note(f"{name_of(node)} joins in {_zone(node)}")
    _wait_until_ready(api, group)


def _join(api: KubernetesApi, group: NodeGroup, count: int, present: Sequence[Manifest]) -> list[Manifest]:
    """Let nodes join the group, each in the zone that has the fewest of them."""
    taken = {name_of(node) for node in api.list("v1", "Node")}
    zones = Counter(_zone(node) for node in present)
    made: list[Manifest] = []
    for _ in range(count):
        zone = min(group.zones, key=lambda zone: zones[zone])
        zones[zone] += 1
        node = new_node(group, zone, taken)
        taken.add(name_of(node))
        made.append(api.create(node))
    return made


def new_node(group: NodeGroup, zone: str, taken: set[str]) -> Manifest:
    """A node of the group as it registers itself; `taken` are names that it cannot have."""
    region = zone[:-1]
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    subnet = ord(zone[-1]) - ord("a")
    while (name := f"ip-10-0-{subnet}-{4 + secrets.randbelow(250)}.{domain}") in taken:
        pass
    types = [INSTANCE_TYPES[type] for type in group.instance_types]
    managed_key, _, managed_value = MANAGED_NODES.partition("=")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                **group.node_labels,
                ZONE_LABEL: zone,
                "topology.kubernetes.io/region": region,
                "kubernetes.io/hostname": name,
                managed_key: managed_value,
            },
            "annotations": {
                GROUP_ANNOTATION: group.annotation,
                "metrics.k8s.io/resource-metrics-path": f"/metrics/nodes/{name}/metrics/resource",
            },
        },
        "spec": {"providerID": f"aws:///{zone}/i-{secrets.token_hex(9)[1:]}", "taints": group.node_taints},
        "status": {
            "capacity": {
                "cpu": str(types[0].vcpus),
                "memory": f"{int(types[0].memory_mib * (1 - MEMORY_FOR_THE_SYSTEM))}Mi",
                **_room(group),
            },
            "allocatable": {**_allocatable(types), **_room(group)},
            "nodeInfo": {
                "architecture": types[0].architecture,
                "operatingSystem": "linux",
                "osImage": "Amazon Linux 2023, played by kwok",
                "kubeletVersion": "v{}.{}.{}".format(*wanted_version(TOOLS["kube-apiserver"])),
            },
        },
    }


def _allocatable(types: Sequence[InstanceType]) -> dict[str, str]:
    """What the smallest of the group's instance types leaves for pods: what runs has to fit on any of them."""
    return {
        "cpu": f"{min(type.allocatable_cpu_millis for type in types)}m",
        "memory": f"{min(type.allocatable_memory_mib for type in types)}Mi",
    }


def _room(group: NodeGroup) -> dict[str, str]:
    return {"pods": str(group.max_pods), "ephemeral-storage": f"{group.disk_gib}Gi"}


def _bring_up_to_date(api: KubernetesApi, node: Manifest, group: NodeGroup) -> None:
    """Give a node the labels and taints that its group has now."""
    before = NodeGroup.of(node)
    if before == group:
        return
    gone = dict.fromkeys(set(before.labels) - set(group.labels))
    metadata = {"labels": {**gone, **group.node_labels}, "annotations": {GROUP_ANNOTATION: group.annotation}}
    patch: dict[str, Any] = {"metadata": metadata}
    if before.node_taints != group.node_taints:
        theirs = [(taint["key"], taint["effect"]) for taint in before.node_taints]
        kubernetes = [t for t in node["spec"].get("taints", []) if (t["key"], t["effect"]) not in theirs]
        patch["spec"] = {"taints": [*kubernetes, *group.node_taints]}
    api.patch("v1", "Node", name_of(node), patch)


def _surplus(nodes: Sequence[Manifest], count: int) -> list[Manifest]:
    """The nodes that leave first: cordoned ones, then the newest of the zone that has most."""
    left = list(nodes)
    chosen: list[Manifest] = []
    for _ in range(count):
        zones = Counter(_zone(node) for node in left)
        chosen.append(
            max(left, key=lambda n: (_is_cordoned(n), zones[_zone(n)], n["metadata"].get("creationTimestamp", "")))
        )
        left.remove(chosen[-1])
    return chosen


def _retire(api: KubernetesApi, nodes: Sequence[Manifest], seconds: float, *, force: bool = False) -> None:
    """Cordon nodes, drain them through the Eviction API, and remove them; pods of DaemonSets stay to the end."""
    names = [name_of(node) for node in nodes]
    for name in names:
        api.patch("v1", "Node", name, {"spec": {"unschedulable": True}})
    try:
        _drain(api, names, seconds)
    except SandboxError:
        if not force:
            raise
    for name in names:
        api.delete("v1", "Node", name, propagation="Background")


def _drain(api: KubernetesApi, names: Sequence[str], seconds: float) -> None:
    """Evict until nothing but DaemonSets' pods is left; a pod that its budget keeps is tried again."""
    left: list[Manifest] = []

    def is_empty() -> bool:
        left[:] = [pod for pod in _pods_on(api, names) if not _stays(pod)]
        for pod in left:
            if "deletionTimestamp" not in pod["metadata"]:
                api.evict(pod["metadata"]["namespace"], name_of(pod))
        return not left

    _wait(
        is_empty,
        seconds,
        lambda: (
            f"draining {', '.join(names)}: {', '.join(map(name_of, left))} could not leave within {seconds:.0f} s, "
            "which their PodDisruptionBudgets forbid or they do not end; see kubectl get pdb -A, then try again"
        ),
    )


def _stays(pod: Manifest) -> bool:
    """Whether a drain leaves a pod on its node."""
    owners = pod["metadata"].get("ownerReferences", [])
    return any(owner["kind"] == "DaemonSet" and owner.get("controller") for owner in owners)


def _wait_until_ready(api: KubernetesApi, group: NodeGroup) -> None:
    def late() -> list[str]:
        return [name_of(n) for n in _nodes(api, group.name) if not _is_silent(n) and not _is_ready(n)]

    _wait(
        lambda: not late(),
        READY_SECONDS,
        lambda: f"waiting for the nodes of {group.name}: {', '.join(late())} not Ready within {READY_SECONDS} s",
    )


def _wait(condition: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SandboxError(complaint())
        time.sleep(POLL_SECONDS)


def _node(api: KubernetesApi, name: str) -> Manifest:
    node = api.get("v1", "Node", name)
    if node is None:
        names = sorted(name_of(node) for node in api.list("v1", "Node"))
        raise BadInputError(f"finding the node {name}: the nodes are {', '.join(names) or 'none'}")
    return node


def _nodes(api: KubernetesApi, group_name: str) -> list[Manifest]:
    return api.list("v1", "Node", label_selector=f"{GROUP_LABEL}={group_name}")


def _pods_on(api: KubernetesApi, names: Sequence[str]) -> list[Manifest]:
    return [pod for pod in api.list("v1", "Pod") if pod["spec"].get("nodeName") in names]


def _zone(node: Manifest) -> str:
    return node["metadata"]["labels"][ZONE_LABEL]


def _is_ready(node: Manifest | None) -> bool:
    conditions = node.get("status", {}).get("conditions", []) if node else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_cordoned(node: Manifest) -> bool:
    return bool(node.get("spec", {}).get("unschedulable"))


def _is_silent(node: Manifest) -> bool:
    """Whether nothing plays the node any more: it was killed."""
    return MANAGED_NODES.partition("=")[0] not in node["metadata"]["labels"]


def describe(node: Manifest) -> dict[str, str]:
    """What `sandbox status` tells about a node."""
    labels = node["metadata"]["labels"]
    return {
        "name": name_of(node),
        "group": labels.get(GROUP_LABEL, ""),
        "capacity_type": labels.get(CAPACITY_LABEL, ""),
        "instance_type": labels.get(TYPE_LABEL, ""),
        "zone": labels.get(ZONE_LABEL, ""),
        "status": ("Ready" if _is_ready(node) else "NotReady") + (", cordoned" if _is_cordoned(node) else ""),
    }
