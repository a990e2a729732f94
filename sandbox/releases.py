"""Stands for what runs in the application's pods, so that requests are really answered, and for the network to them.

Each pod with a colour gets a server of this machine, from when it runs until it has been drained. Where there is a
mesh, it is told where they are; the load balancer in front of the cluster leads to them.
"""

import logging
import queue
import secrets
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.naming import PROJECT
from sandbox import edge_ports
from sandbox.admission import IGNORED_BY_MESH, NOT_THE_APPLICATION, SERVICE_OF
from sandbox.answers import LOOPBACK, Answerer, Answerers, Fault
from sandbox.control_plane import MANAGED_NODES, ControlPlane
from sandbox.edge import Address, Edge
from sandbox.errors import SandboxError
from sandbox.faults import faults
from sandbox.kubelet import METADATA_ONLY, Api, ApiError, asked_for, serve_health, uid_of
from sandbox.kubernetes_api import Manifest
from sandbox.pods import Pod
from sandbox.state import State, read_json, write_json
from sandbox.watching import Watch

TICK_SECONDS = 0.25
"""Between two passes when nothing changes."""
DRAIN_SECONDS = 5
"""How long the server of a pod that goes is still there, as the pods' preStop has it."""
SHED_SECONDS = 1
"""By when the load balancer surely leads to where it should."""
EDGE_NODE_PORT = 30080
"""Of the Service behind the load balancer."""
COLOUR = "version"
"""Label of the pods of a release."""
MADE_HERE = "sandbox.pyairtable.io/release"
NOT_THEIRS = ("security.istio.io/tlsMode", "service.istio.io/workload-name")
"""Labels of a pod that would say something of its server that is not so: there is no sidecar before it."""
UNREADY = "ContainersNotReady"
ENTRIES = f"/apis/networking.istio.io/v1/namespaces/{PROJECT}/workloadentries"
PODS = f"/api/v1/namespaces/{PROJECT}/pods"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{PROJECT}/endpointslices"

log = logging.getLogger("releases")

Objects = Mapping[str, Manifest]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the API server has, by name."""

    pods: Objects
    nodes: Objects
    services: Objects
    entries: Objects | None
    """None where there is no such kind."""


class ReleasesApi(Api):
    """What is written."""

    def register(self, entry: Manifest) -> None:
        """Make a WorkloadEntry, or bring it up to date."""
        path = f"{ENTRIES}/{entry['metadata']['name']}?fieldManager={MADE_HERE}&force=true"
        self._ask("PATCH", path, entry, content_type="application/apply-patch+yaml")

    def forget(self, name: str) -> None:
        """Delete a WorkloadEntry."""
        self._ask("DELETE", f"{ENTRIES}/{name}")

    def set_status(self, pod: Pod, status: Mapping[str, Any]) -> None:
        """Change a pod's status, if it is still this pod."""
        patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
        path = f"{PODS}/{pod['metadata']['name']}/status"
        self._ask("PATCH", path, patch, content_type="application/strategic-merge-patch+json")

    def hide_slices(self) -> bool:
        """Let slices be labelled that are older than the policy which does it; whether there are none left."""
        older = [
            found["metadata"]["name"]
            for found in self._list(SLICES, f"{SERVICE_OF},!{IGNORED_BY_MESH}", METADATA_ONLY)
            if found["metadata"]["labels"][SERVICE_OF] not in NOT_THE_APPLICATION
        ]
        for name in older:
            self._ask("PATCH", f"{SLICES}/{name}", {}, content_type="application/merge-patch+json")
        return not older


@dataclass(eq=False, kw_only=True)
class Release:
    """A pod, and what stands for it."""

    pod: Pod
    server: Answerer
    failures: int = 0
    """How often the readiness probe has failed by now."""
    probe_at: float = 0
    is_failing: bool = False
    left_at: float | None = None
    """When its pod was first on its way out."""
    shed_at: float | None = None
    """When clients that came through the load balancer are to come back, since it leads to others now."""


class Releases:
    """Keeps servers, WorkloadEntries and the load balancer as the API server has the pods."""

    def __init__(self, state: State, plane: ControlPlane, api: ReleasesApi, servers: Answerers, edge: Edge) -> None:
        self.passed = 0.0
        """When it last went through all of them."""
        self._state = state
        self._plane = plane
        self._api = api
        self._servers = servers
        self._edge = edge
        self.by_uid: dict[str, Release] = {}
        """What stands for each pod, by the pod's uid."""
        self._told: dict[str, str] = {}
        self._slices_are_hidden = False
        self._led_to: AbstractSet[Address] = frozenset()
        self._gateways: set[str] = set()
        """Pods of the gateway that the load balancer has led to, gone or not."""

    def go_through(self, seen: Seen, now: float) -> None:
        """Start, keep up to date and end, once each."""
        if not self._slices_are_hidden:
            self._try("EndpointSlices", self._hide_slices)
        wrong = faults(self._plane)
        here = {uid_of(pod): pod for pod in seen.pods.values() if is_release(pod)}
        for uid, pod in here.items():
            release = self.by_uid.get(uid) or self._begin(uid, pod)
            release.pod = pod
            has_machine = pod["spec"].get("nodeName") in seen.nodes
            self._be(release, wrong.get((release.server.service, release.server.colour)), has_machine=has_machine)
            if has_machine:  # else nobody is there to probe it
                self._probe(release, now)
        for uid in [*self.by_uid.keys() - here.keys()]:
            self._drain(uid, self.by_uid[uid], now)
        self._register(seen.entries)
        self._lead(seen, now)

    def end(self) -> None:
        """End all of it."""
        while self._edge.runs:
            self._edge.end()
            time.sleep(0.02)
        for release in self.by_uid.values():
            self._servers.close(release.server)
        self._servers.stop()

    @property
    def ready(self) -> list[Release]:
        """Those that are to get requests."""
        return [
            release
            for release in self.by_uid.values()
            if release.left_at is None and not release.is_failing and is_ready(release.pod)
        ]

    def _begin(self, uid: str, pod: Pod) -> Release:
        metadata = pod["metadata"]
        labels = metadata["labels"]
        server = Answerer(labels["app"], labels[COLOUR], metadata["name"])
        self.by_uid[uid] = Release(pod=pod, server=server)
        return self.by_uid[uid]

    def _be(self, release: Release, fault: Fault | None, *, has_machine: bool) -> None:
        """Let a release's server be as it should be."""
        server = release.server
        server.fault = fault
        if fault is Fault.CRASH or not has_machine:
            if server.listens:
                self._servers.crash(server)
                self._tell(server.pod, "crashed" if has_machine else "has lost its node")
        elif not server.listens:
            self._servers.open(server)
            self._tell(server.pod, f"answers on {self._servers.address}:{server.port}")

    def _probe(self, release: Release, now: float) -> None:
        """Do what the kubelet does with the readiness probe, as far as the server's being there goes."""
        probe = readiness_probe(release.pod)
        if probe is None or now < release.probe_at:
            return
        threshold = probe.get("failureThreshold", 3)
        is_first = not release.probe_at
        release.probe_at = now + probe.get("periodSeconds", 10)
        if release.server.listens:
            release.failures = 0
        else:
            # One that has never been ready need not become unready.
            release.failures = threshold if is_first else release.failures + 1
        release.is_failing = release.failures >= threshold
        if release.is_failing == is_ready(release.pod) and (release.is_failing or was_made_unready(release.pod)):
            self._try(release.server.pod, lambda: self._set_ready(release.pod, not release.is_failing))

    def _set_ready(self, pod: Pod, ready: bool) -> None:
        self._api.set_status(pod, readiness(pod, ready=ready))
        self._tell(pod["metadata"]["name"], "is ready again" if ready else "is not ready: nothing listens")

    def _drain(self, uid: str, release: Release, now: float) -> None:
        """Let a pod that goes answer for a while yet: not everybody knows at once."""
        if release.left_at is None:
            release.left_at = now
            release.server.leaving = True
        if now - release.left_at >= DRAIN_SECONDS:
            self._servers.close(release.server)
            del self.by_uid[uid]
            self._tell(release.server.pod, "is gone")
            self._told.pop(release.server.pod, None)

    def _register(self, entries: Objects | None) -> None:
        """Tell the mesh, where there is one: first of those that came, then of those that went."""
        if entries is None:
            return
        have = {name: entry for name, entry in entries.items() if MADE_HERE in entry["metadata"].get("labels", {})}
        wanted = {
            release.server.pod: workload_entry(release, self._servers.address)
            for release in self.ready
            if release.server.port
        }
        for name, entry in wanted.items():
            if name not in have or not _same(have[name], entry):
                self._try(f"WorkloadEntry {name}", lambda entry=entry: self._api.register(entry))
        for name in have.keys() - wanted.keys():
            self._try(f"WorkloadEntry {name}", lambda name=name: self._api.forget(name))

    def _hide_slices(self) -> None:
        self._slices_are_hidden = self._api.hide_slices()

    def _lead(self, seen: Seen, now: float) -> None:
        """Let the load balancer lead to what is behind the node port."""
        service = next(filter(is_behind_edge, seen.services.values()), None)
        port = edge_ports.of_cluster(self._state, self._plane.cluster) if service else None
        backends = self._backends(service["spec"].get("selector") or {}, seen.pods) if service else []
        self._shed({*backends}, now)
        if told := self._edge.keep(port, backends):
            self._tell("edge", told)

    def _shed(self, backends: AbstractSet[Address], now: float) -> None:
        """Let clients that have come through the load balancer go where it leads by now.

        An application that ends connections after a while would do that too; the load balancer itself keeps them.
        """
        for release in self.by_uid.values():
            address = self._address(release)
            if address in backends:
                release.shed_at = None
            elif address in self._led_to:
                release.shed_at = now + SHED_SECONDS
            elif release.shed_at and now >= release.shed_at:
                release.shed_at = None
                self._servers.shed(release.server)
        self._led_to = backends

    def _backends(self, selector: Mapping[str, str], found: Objects) -> list[Address]:
        """Where the pods are that a Service selects; where none is ready, those that leave, as kube-proxy has it."""
        gateways = {
            name: (str(entry["address"]), int(entry["port"]))
            for name, entry in read_json(self._plane.folder / "gateways.json").items()
        }
        own = [release for release in self.by_uid.values() if release.server.port and _selects(selector, release.pod)]
        ready = [self._address(release) for release in own if release in self.ready]
        ready_gateways = {
            name
            for name, pod in found.items()
            if name in gateways and is_ready(pod) and not is_release(pod) and _selects(selector, pod)
        }
        if ready or ready_gateways:
            self._gateways = ready_gateways
            return sorted([*ready, *(gateways[name] for name in ready_gateways)])
        leaving = [self._address(release) for release in own if release.left_at is not None]
        return sorted([*leaving, *(gateways[name] for name in self._gateways & gateways.keys())])

    def _address(self, release: Release) -> Address:
        return self._servers.address, release.server.port

    def _try(self, about: str, call: Any) -> None:
        """Do something that the API server may refuse; the next pass tries it again."""
        try:
            call()
        except ApiError as error:
            self._tell(about, str(error))

    def _tell(self, about: str, message: str) -> None:
        """Note something in the log, once for as long as it stays the same."""
        if self._told.get(about) != message:
            self._told[about] = message
            log.info("%s: %s", about, message)


def is_release(pod: Pod) -> bool:
    """Whether a pod is one of the application's, has been started, and is not on its way out."""
    metadata = pod["metadata"]
    return (
        {"app", COLOUR} <= metadata.get("labels", {}).keys()
        and pod.get("status", {}).get("phase") == "Running"
        and "deletionTimestamp" not in metadata
    )


def is_ready(pod: Pod) -> bool:
    """Whether a pod that runs is ready, and not on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and _ready_condition(pod).get("status") == "True"


def was_made_unready(pod: Pod) -> bool:
    """Whether its probe is why it is not ready: a node that is silent is another reason."""
    return _ready_condition(pod).get("reason") == UNREADY


def is_behind_edge(service: Manifest) -> bool:
    """Whether the load balancer's connections go to a Service."""
    return any(port.get("nodePort") == EDGE_NODE_PORT for port in service["spec"].get("ports", []))


def readiness_probe(pod: Pod) -> Mapping[str, Any] | None:
    """The readiness probe of the pod's own container: an injected one comes with a name of its own."""
    own = pod["metadata"]["labels"]["app"]
    containers = [container for container in pod["spec"]["containers"] if container["name"] == own]
    return (containers or pod["spec"]["containers"])[0].get("readinessProbe")


def readiness(pod: Pod, *, ready: bool) -> Mapping[str, Any]:
    """What the kubelet makes of a pod's status when it becomes ready, or is no longer."""
    own = pod["metadata"]["labels"]["app"]
    status: dict[str, Any] = {"status": "True", "reason": None, "message": None}
    if not ready:
        message = f"containers with unready status: [{own}]"
        status = {"status": "False", "reason": UNREADY, "message": message}
    status["lastTransitionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    containers = [
        {**container, "ready": ready} if container["name"] == own else container
        for container in pod["status"].get("containerStatuses", [])
    ]
    conditions = [{"type": kind, **status} for kind in ("Ready", "ContainersReady")]
    return {"conditions": conditions, "containerStatuses": containers}


def workload_entry(release: Release, address: str) -> Manifest:
    """How the mesh is told of a pod."""
    metadata = release.pod["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key not in NOT_THEIRS}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels, MADE_HERE: release.server.colour},
        },
        "spec": {
            "address": address,
            "ports": {"http": release.server.port},
            "serviceAccount": release.pod["spec"].get("serviceAccountName", "default"),
        },
    }


def address_of(plane: ControlPlane) -> str:
    """The loopback address of the plane's servers: one of its own where the system has more than one.

    Sandboxes then keep out of each other's way, and istiod takes nobody who is at 127.0.0.1 for one of these pods.
    """
    if sys.platform != "linux":
        return LOOPBACK
    file = plane.folder / "releases.json"
    noted = read_json(file)
    if not noted:
        parts = (str(secrets.randbelow(254) + 1) for _ in range(3))
        noted = {"address": f"127.{'.'.join(parts)}"}
        write_json(file, noted)
    return str(noted["address"])


def _same(have: Manifest, wanted: Manifest) -> bool:
    return have.get("spec") == wanted["spec"] and have["metadata"]["labels"] == wanted["metadata"]["labels"]


def _selects(selector: Mapping[str, str], pod: Pod) -> bool:
    labels = pod["metadata"].get("labels", {})
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _ready_condition(pod: Pod) -> Mapping[str, Any]:
    conditions: Iterable[Mapping[str, Any]] = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Ready"), {})


def run(releases: Releases, watches: Mapping[str, Watch], signals: "queue.SimpleQueue[bool]") -> None:
    """Go through them whenever something changes, and four times a second; until there is a True among the signals."""
    for watch in watches.values():
        watch.start()
    while True:
        if all(watch.synced for watch in watches.values()):
            found = {name: watch.objects for name, watch in watches.items()}
            entries = found.pop("entries")
            known = {name: objects or {} for name, objects in found.items()}
            try:
                releases.go_through(Seen(**known, entries=entries), time.monotonic())
            except (SandboxError, OSError) as error:  # what answers goes on
                log.info("releases: %s", error)
        releases.passed = time.monotonic()
        try:
            ends = signals.get(timeout=TICK_SECONDS)
            while not ends:
                ends = signals.get_nowait()
            return
        except queue.Empty:
            pass


def main(arguments: Sequence[str]) -> None:
    """`python -m sandbox.releases`: run until it is asked to end.

    Raises:
        SandboxError: there is no such control plane.
    """
    state, plane, listen = asked_for("releases", arguments)
    signals: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signals.put(True))

    def watch(path: str, label: str = "", *, names_only: bool = False) -> Watch:
        return Watch(plane, path, lambda: signals.put(False), label=label, names_only=names_only)

    watches = {
        "pods": watch(PODS),
        "nodes": watch("/api/v1/nodes", MANAGED_NODES, names_only=True),
        "services": watch(f"/api/v1/namespaces/{PROJECT}/services"),
        "entries": watch(ENTRIES),
    }
    edge = Edge(plane.folder / "edge", state.logs / f"{plane.cluster}-edge.log")
    releases = Releases(state, plane, ReleasesApi(plane), Answerers(address_of(plane)), edge)
    serve_health(plane, listen, lambda: releases.passed)
    try:
        run(releases, watches, signals)
    finally:
        releases.end()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SandboxError as failure:
        sys.exit(f"error: {failure}")
