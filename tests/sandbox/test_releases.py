"""The application's pods really answer, at the edge and for the mesh, as they come, go, break and are mended."""

import contextlib
import http.client
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from sandbox import admission, edge_ports, nodes, services
from sandbox.cli import main
from sandbox.control_plane import MANAGED_NODES, ControlPlane, ControlPlanes
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.state import State
from tests.sandbox.harness import is_ready, label, name_of, wait_for

NAMESPACE = "pyairtable"
CLUSTER = "pyairtable-dev"
SERVICE = "api-gateway"
PORT = 8000
NODE = nodes.NodeGroup(
    cluster=CLUSTER,
    name="workers",
    capacity_type="SPOT",
    instance_types=("t3.medium",),
    zones=("us-east-1a",),
    desired=1,
)
ENTRY = ("networking.istio.io/v1", "WorkloadEntry")


class Workshop:
    """A control plane with a node, a service in one colour or two, and a load balancer before it."""

    def __init__(self, state: State, plane: ControlPlane) -> None:
        self.state = state
        self.plane = plane
        self.api = KubernetesApi(plane.kubeconfig)
        self.port = edge_ports.chosen(state, "dev")

    def apply(self, kind: str, name: str, api_version: str = "v1", **rest: Any) -> None:
        """Make an object of the namespace as it is given."""
        metadata = {"name": name, "namespace": NAMESPACE, **rest.pop("metadata", {})}
        self.api.apply({"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}, force=True)

    def deploy(self, colour: str, image: str, replicas: int = 2, service: str = SERVICE) -> None:
        """Have a release of a service."""
        labels = {"app": service, "version": colour}
        probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1}
        ports = [{"name": "http", "containerPort": PORT}]
        container = {"name": service, "image": image, "ports": ports, "readinessProbe": probe}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
        self.apply("Deployment", f"{service}-{colour}", "apps/v1", metadata={"labels": labels}, spec=spec)

    def pods(self, colour: str) -> list[Manifest]:
        """Pods of a colour that are not on their way out."""
        found = self.api.list("v1", "Pod", namespace=NAMESPACE, label_selector=f"app={SERVICE},version={colour}")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def is_deployed(self, colour: str, image: str, replicas: int = 2) -> bool:
        """Whether just the pods of a release are there."""
        images = [pod["spec"]["containers"][0]["image"] for pod in self.pods(colour)]
        return images == [image] * replicas and all(is_ready(pod) for pod in self.pods(colour))

    def get(self, path: str = "/") -> dict[str, Any]:
        """What a client is answered at the edge, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return {"status": answer.status, **json.load(answer)}

    def answers(self) -> bool:
        """Whether a client is answered."""
        try:
            return self.get()["status"] == 200
        except (OSError, http.client.HTTPException):
            return False

    def entries(self) -> list[Manifest]:
        """What the mesh is told."""
        return self.api.list(*ENTRY, namespace=NAMESPACE)

    def slices(self, service: str) -> list[Manifest]:
        """The EndpointSlices of a Service."""
        selector = f"kubernetes.io/service-name={service}"
        return self.api.list("discovery.k8s.io/v1", "EndpointSlice", namespace=NAMESPACE, label_selector=selector)

    def sandbox(self, *words: str) -> Result:
        """What the command line says."""
        return CliRunner().invoke(main, [*words, "--stack", "dev", "--state-dir", str(self.state.folder)])

    def ready(self, colour: str) -> list[bool]:
        """Whether each pod of a colour is."""
        return [is_ready(pod) for pod in self.pods(colour)]


class Load:
    """Clients that ask again and again, each over one connection, or a new one every time."""

    def __init__(self, port: int) -> None:
        self.seen: Counter[str] = Counter()
        self._port = port
        self._ended = threading.Event()

    def ask(self, keeps: bool) -> None:
        """Ask until the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        while not self._ended.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                self.seen[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[repr(error)] += 1
            if not keeps:
                connection.close()
            self._ended.wait(0.005)
        connection.close()

    @contextmanager
    def running(self) -> Generator[None]:
        """Ask while the block runs."""
        clients = [threading.Thread(target=self.ask, args=(number % 2 == 0,)) for number in range(4)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._ended.set()
            for client in clients:
                client.join()


def definition() -> Manifest:
    """The kind WorkloadEntry, as far as it matters here."""
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "WorkloadEntry", "plural": "workloadentries", "singular": "workloadentry"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "workloadentries.networking.istio.io"},
        "spec": {"group": "networking.istio.io", "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    state = State(tmp_path_factory.mktemp("state"))
    state.prepare()
    planes = ControlPlanes(state)
    try:
        made = Workshop(state, planes.ensure(CLUSTER))
        nodes.settle(made.api, NODE)
        made.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        http_port = {"name": "http", "port": PORT, "targetPort": "http"}
        made.apply("Service", SERVICE, spec={"selector": {"app": SERVICE}, "ports": [http_port]})
        node_port = {"name": "http", "port": 80, "targetPort": PORT, "nodePort": 30080}
        made.apply("Service", "edge", spec={"type": "NodePort", "selector": {"app": SERVICE}, "ports": [node_port]})
        edge_ports.note(state, f"{CLUSTER}-edge", made.port)
        made.deploy("blue", "first")
        wait_for(lambda: made.is_deployed("blue", "first") and made.answers(), "the service at the edge")
        yield made
    finally:
        planes.stop()


@pytest.fixture
def with_green(workshop: Workshop) -> Iterator[None]:
    """A release in green besides."""
    workshop.deploy("green", "first", replicas=1)
    wait_for(lambda: workshop.is_deployed("green", "first", replicas=1), "green")
    yield
    workshop.sandbox("mend", SERVICE, "--colour", "green")
    workshop.deploy("green", "first", replicas=0)
    wait_for(lambda: not workshop.pods("green"), "the end of green")


def is_stable(now: Callable[[], object], seconds: float) -> bool:
    """Whether something does not change for a while."""
    first, deadline = now(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if now() != first:
            return False
        time.sleep(0.1)
    return True


def test_a_client_at_the_edge_meets_a_pod(workshop: Workshop) -> None:
    answer = workshop.get("/tables")
    assert answer["pod"] in {name_of(pod) for pod in workshop.pods("blue")}
    assert answer == {
        "status": 200,
        "service": SERVICE,
        "colour": "blue",
        "pod": answer["pod"],
        "path": "/tables",
    }


def test_a_rolling_update_loses_no_request(workshop: Workshop) -> None:
    load = Load(workshop.port)
    with load.running():
        for image in ("second", "third"):
            workshop.deploy("blue", image)
            wait_for(lambda image=image: workshop.is_deployed("blue", image), "the update")
        log = workshop.state.logs / f"{CLUSTER}-releases.log"
        wait_for(lambda: log.read_text().count("is gone") >= 4, "the end of the old pods' servers")
    assert load.seen.keys() == {"200"}
    assert load.seen["200"] > 500


def test_istiod_is_kept_from_slices_of_pods_that_cannot_be_reached(workshop: Workshop) -> None:
    (of_service,), (of_edge,) = workshop.slices(SERVICE), workshop.slices("edge")
    assert label(of_service, admission.IGNORED_BY_MESH) == SERVICE
    assert not label(of_edge, admission.IGNORED_BY_MESH)
    assert is_stable(lambda: workshop.slices(SERVICE)[0]["metadata"]["resourceVersion"], 3), "nobody fights over it"


def test_slices_that_are_older_than_the_policy_are_seen_to(workshop: Workshop) -> None:
    workshop.api.delete("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", admission.POLICY)

    def is_labelled(service: str) -> bool:
        return bool(label(workshop.slices(service)[0], admission.IGNORED_BY_MESH))

    def makes_unlabelled(number: int) -> bool:
        service, port = f"old-{number}", {"name": "http", "port": PORT}
        workshop.apply("Service", service, spec={"selector": {"app": SERVICE}, "ports": [port]})
        wait_for(lambda: bool(workshop.slices(service)), "the slice")
        return not is_labelled(service)

    numbers = iter(range(100))  # it takes the API server a moment to forget the policy
    old = next(number for number in numbers if makes_unlabelled(number))
    restart(workshop)
    wait_for(lambda: is_labelled(f"old-{old}"), "the slice to be labelled", seconds=30)


def restart(workshop: Workshop) -> None:
    """Kill what answers, and bring it back."""
    service = services.recorded(workshop.state)[workshop.plane.services["releases"]]
    process = service.process
    assert process
    children = process.children(recursive=True)
    assert [child.name() for child in children] == ["envoy"]
    process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([process, *children], timeout=15)
    assert not alive, "nothing outlives it"
    ControlPlanes(workshop.state).ensure(CLUSTER)


def test_the_mesh_is_told_of_the_pods_once_there_is_one(workshop: Workshop) -> None:
    workshop.api.apply(definition())
    wait_for(lambda: workshop.api.serves(*ENTRY), "the kind")

    def is_right() -> bool:
        return {name_of(entry) for entry in workshop.entries()} == {name_of(pod) for pod in workshop.pods("blue")}

    wait_for(lambda: len(workshop.entries()) == 2 and is_right(), "the entries", seconds=15)
    entry = workshop.entries()[0]
    assert (label(entry, "app"), label(entry, "version")) == (SERVICE, "blue")
    connection = http.client.HTTPConnection(entry["spec"]["address"], entry["spec"]["ports"]["http"], timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert json.load(connection.getresponse())["pod"] == name_of(entry)
    workshop.deploy("blue", "fourth", replicas=3)
    wait_for(lambda: workshop.is_deployed("blue", "fourth", replicas=3) and is_right(), "the entries of the new pods")
    workshop.deploy("blue", "fourth")
    wait_for(lambda: workshop.is_deployed("blue", "fourth") and is_right(), "the entries of those that are left")


@pytest.mark.usefixtures("with_green")
def test_a_colour_that_crashes_is_left_out_until_it_is_mended(workshop: Workshop) -> None:
    done = workshop.sandbox("break", SERVICE, "--colour", "green", "--how", "crash")
    assert done.exit_code == 0, done.output
    wait_for(lambda: workshop.ready("green") == [False], "green to be unready", seconds=15)
    load = Load(workshop.port)
    with load.running():
        wait_for(lambda: load.seen["200"] > 100, "answers")
    assert load.seen.keys() == {"200"}
    assert (
        "green is broken: crash"
        in CliRunner().invoke(main, ["status", "--state-dir", str(workshop.state.folder)]).output
    )
    restart(workshop)
    wait_for(workshop.answers, "the edge")
    assert workshop.ready("green") == [False], "a fault outlives a restart"
    assert workshop.sandbox("mend", SERVICE, "--colour", "green").exit_code == 0
    wait_for(lambda: workshop.ready("green") == [True], "green to be ready again", seconds=15)
    wait_for(lambda: workshop.get()["colour"] == "green", "green's answers", seconds=15)


@pytest.mark.usefixtures("with_green")
def test_pods_of_a_node_that_comes_back_are_ready_again_but_for_broken_ones(workshop: Workshop) -> None:
    (node,) = workshop.api.list("v1", "Node")
    key, _, value = MANAGED_NODES.partition("=")

    def label_node(value: str | None) -> None:
        workshop.api.patch("v1", "Node", name_of(node), {"metadata": {"labels": {key: value}}})

    assert workshop.sandbox("break", SERVICE, "--colour", "green", "--how", "crash").exit_code == 0
    wait_for(lambda: workshop.ready("green") == [False], "green to be unready", seconds=15)
    label_node(None)
    wait_for(lambda: workshop.ready("blue") == [False, False], "Kubernetes to take the node for lost")
    assert is_stable(lambda: workshop.ready("blue"), 5), "nobody is there who could make them ready"
    label_node(value)
    wait_for(lambda: workshop.ready("blue") == [True, True], "blue to be ready again")
    assert is_ready(workshop.api.list("v1", "Node")[0])
    assert workshop.ready("green") == [False]


@pytest.mark.usefixtures("with_green")
def test_errors_are_one_colours(workshop: Workshop) -> None:
    workshop.sandbox("break", SERVICE, "--colour", "green", "--how", "errors")

    def seen() -> set[tuple[str, int]]:
        return {(answer["colour"], answer["status"]) for answer in (workshop.get() for _ in range(20))}

    wait_for(lambda: seen() == {("blue", 200), ("green", 503)}, "green's errors", seconds=15)
    assert workshop.ready("green") == [True]


@pytest.mark.usefixtures("with_green")
def test_slow_is_half_a_second(workshop: Workshop) -> None:
    workshop.sandbox("break", SERVICE, "--colour", "green", "--how", "slow")

    def slowest() -> float:
        took: list[float] = []
        for _ in range(10):
            began = time.monotonic()
            if workshop.get()["colour"] == "green":
                took.append(time.monotonic() - began)
        return min(took, default=0)

    wait_for(lambda: slowest() >= 0.5, "green's slowness", seconds=30)


def test_a_release_that_is_not_there_cannot_be_broken(workshop: Workshop) -> None:
    done = workshop.sandbox("break", "nobody", "--colour", "green", "--how", "slow")
    assert done.exit_code == 2
    assert "breaking nobody green: there is no such release; the cluster has api-gateway blue" in done.output
    done = workshop.sandbox("mend", SERVICE, "--colour", "blue")
    told = f"api-gateway blue of {workshop.plane.cluster}: nothing was wrong with it\n"
    assert (done.exit_code, done.output) == (0, told)


def test_an_edge_without_its_service_does_not_listen(workshop: Workshop) -> None:
    workshop.api.delete("v1", "Service", "edge", NAMESPACE)

    def is_refused() -> bool:
        try:
            workshop.get()
        except ConnectionRefusedError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        return False

    wait_for(is_refused, "the end of the edge", seconds=15)
