"""What becomes of servers, WorkloadEntries and the load balancer as pods come and go."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox import edge_ports, faults
from sandbox.answers import LOOPBACK, Answerer, Answerers, Fault
from sandbox.control_plane import ControlPlane
from sandbox.edge import Address, Edge, bootstrap, endpoints
from sandbox.kubelet import ApiError
from sandbox.kubernetes_api import Manifest
from sandbox.pods import Pod
from sandbox.releases import DRAIN_SECONDS, EDGE_NODE_PORT, MADE_HERE, Release, Releases, ReleasesApi, Seen
from sandbox.state import State, read_json, write_json

CLUSTER = "pyairtable-dev"
NODE = "ip-10-0-0-1.ec2.internal"
PROBE = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5, "failureThreshold": 3}


def pod(name: str = "one", *, colour: str = "blue", **labels: str) -> dict[str, Any]:
    """A pod of the public service that is ready."""
    return {
        "metadata": {
            "name": name,
            "namespace": "pyairtable",
            "uid": f"uid-of-{name}",
            "labels": {"app": "api-gateway", "version": colour, **labels},
        },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": "api-gateway",
            "containers": [{"name": "istio-proxy"}, {"name": "api-gateway", "readinessProbe": PROBE}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "istio-proxy", "ready": True}, {"name": "api-gateway", "ready": True}],
        },
    }


def unready(made: dict[str, Any], reason: str = "") -> dict[str, Any]:
    """A pod that the API server has as not ready."""
    made["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": reason}]
    return made


class FakeApi(ReleasesApi):
    """Notes what is written, and has it as the API server would."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.entries: dict[str, Manifest] | None = None
        self.status: Mapping[str, Any] = {}
        self.refuses = False

    def register(self, entry: Manifest) -> None:
        if self.refuses:
            raise ApiError("PATCH: 500")
        self.did.append(f"register {entry['metadata']['name']}")
        assert self.entries is not None
        self.entries[entry["metadata"]["name"]] = entry

    def forget(self, name: str) -> None:
        self.did.append(f"forget {name}")
        assert self.entries is not None
        del self.entries[name]

    def hide_slices(self) -> bool:
        return True

    def set_status(self, pod: Pod, status: Mapping[str, Any]) -> None:
        self.did.append(f"status of {pod['metadata']['name']}")
        self.status = status


class FakeServers(Answerers):
    """Listens nowhere."""

    address = "127.1.2.3"

    def __init__(self) -> None:
        self.ports = 20000
        self.shedded: list[str] = []

    def open(self, server: Answerer) -> None:
        self.ports += 1
        server.port = server.port or self.ports
        server.listener = object()  # pyright: ignore[reportAttributeAccessIssue]

    def crash(self, server: Answerer) -> None:
        server.listener = None

    def shed(self, server: Answerer) -> None:
        self.shedded.append(server.pod)

    close = crash


class FakeEdge(Edge):
    """Notes what it is to lead to."""

    def __init__(self) -> None:
        self.kept: tuple[int | None, Sequence[Address]] = (0, [])

    def keep(self, port: int | None, backends: Sequence[Address]) -> str:
        self.kept = port, backends
        return ""


class World:
    """Releases over a cluster as a test has it."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder / "state")
        self.plane = ControlPlane(cluster=CLUSTER, folder=folder, ports={})
        self.api, self.edge = FakeApi(), FakeEdge()
        self.pods: list[dict[str, Any]] = [pod()]
        self.nodes = [NODE]
        self.services: list[dict[str, Any]] = []
        self.servers = FakeServers()
        self.releases = Releases(self.state, self.plane, self.api, self.servers, self.edge)
        self.now = 100.0

    def passes(self, seconds: float = 0) -> None:
        """Let time pass, and the releases go through everything."""
        self.now += seconds
        named = [{made["metadata"]["name"]: made for made in found} for found in (self.pods, self.services)]
        entries = None if self.api.entries is None else dict(self.api.entries)
        seen = Seen(pods=named[0], nodes={node: {} for node in self.nodes}, services=named[1], entries=entries)
        self.releases.go_through(seen, self.now)

    def break_it(self, how: Fault | None, colour: str = "blue") -> None:
        faults.change(self.plane, ("api-gateway", colour), how)

    def with_edge(self, **selector: str) -> None:
        """Have the Service behind the load balancer, which listens on port 25000."""
        edge_ports.note(self.state, f"{CLUSTER}-edge", 25000)
        ports = [{"name": "http", "port": 80, "nodePort": EDGE_NODE_PORT}]
        self.services = [{"metadata": {"name": "edge"}, "spec": {"selector": selector, "ports": ports}}]

    def __getitem__(self, name: str) -> Release:
        """What stands for a pod."""
        return self.releases.by_uid[f"uid-of-{name}"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_running_pod_with_a_colour_gets_a_server(world: World) -> None:
    world.passes()
    server = world["one"].server
    assert (server.service, server.colour, server.pod) == ("api-gateway", "blue", "one")
    assert server.listens


@pytest.mark.parametrize("reason", ["pending", "no colour", "on its way out"])
def test_other_pods_get_none(world: World, reason: str) -> None:
    match reason:
        case "pending":
            world.pods[0]["status"]["phase"] = "Pending"
        case "no colour":
            del world.pods[0]["metadata"]["labels"]["version"]
        case _:
            world.pods[0]["metadata"]["deletionTimestamp"] = "now"
    world.passes()
    assert not world.releases.by_uid


def test_the_mesh_is_told_of_ready_pods_as_soon_as_there_is_one(world: World) -> None:
    world.passes()
    assert world.api.did == []
    world.api.entries = {}
    world.pods[0]["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    world.passes()
    entry = world.api.entries["one"]
    assert entry["metadata"]["labels"] == {"app": "api-gateway", "version": "blue", MADE_HERE: "blue"}
    assert entry["spec"] == {"address": "127.1.2.3", "ports": {"http": 20001}, "serviceAccount": "api-gateway"}
    world.passes()
    assert world.api.did == ["register one"]


def test_the_mesh_hears_of_new_pods_before_it_hears_of_those_that_go(world: World) -> None:
    world.api.entries = {}
    world.passes()
    world.pods = [pod("two")]
    world.passes()
    assert world.api.did == ["register one", "register two", "forget one"]


def test_entries_of_others_are_left_alone(world: World) -> None:
    world.api.entries = {"machine": {"metadata": {"name": "machine", "labels": {"app": "api-gateway"}}}}
    world.pods = []
    world.passes()
    assert world.api.did == []


def test_an_entry_that_is_no_longer_right_is_mended(world: World) -> None:
    world.api.entries = {}
    world.passes()
    world.api.entries["one"]["spec"] = {"address": "127.9.9.9"}
    world.passes()
    assert world.api.entries["one"]["spec"]["address"] == "127.1.2.3"


def test_what_the_api_server_refuses_is_tried_again(world: World) -> None:
    world.api.entries, world.api.refuses = {}, True
    world.passes()
    world.api.refuses = False
    world.passes()
    assert world.api.did == ["register one"]


def test_a_pod_that_goes_is_forgotten_at_once_and_answers_for_a_while_yet(world: World) -> None:
    world.api.entries = {}
    world.passes()
    server = world["one"].server
    world.pods[0]["metadata"]["deletionTimestamp"] = "now"
    world.passes()
    assert world.api.entries == {}
    assert server.listens
    assert server.leaving
    world.pods = []
    world.passes(DRAIN_SECONDS - 0.1)
    assert server.listens
    world.passes(0.2)
    assert not server.listens
    assert not world.releases.by_uid


def test_a_crash_makes_a_pod_unready_after_as_many_failures_as_its_probe_allows(world: World) -> None:
    world.api.entries = {}
    world.passes()
    world.break_it(Fault.CRASH)
    world.passes(1)
    assert not world["one"].server.listens
    for _ in range(2):
        world.passes(5)
        assert world.api.did == ["register one"]
    world.passes(5)
    assert world.api.did == ["register one", "status of one", "forget one"]
    ready, containers = world.api.status["conditions"]
    assert (ready["type"], ready["status"], containers["type"]) == ("Ready", "False", "ContainersReady")
    assert [container["ready"] for container in world.api.status["containerStatuses"]] == [True, False]


def test_a_pod_that_crashes_from_the_start_is_never_ready(world: World) -> None:
    world.api.entries = {}
    world.break_it(Fault.CRASH)
    world.passes()
    assert world.api.did == ["status of one"]


def test_a_mended_pod_is_ready_again_after_its_next_probe(world: World) -> None:
    world.api.entries = {}
    world.break_it(Fault.CRASH)
    world.passes()
    unready(world.pods[0], "ContainersNotReady")
    world.break_it(None)
    world.passes(1)
    assert world["one"].server.listens
    assert world.api.did == ["status of one"]
    world.passes(5)
    assert world.api.did == ["status of one", "status of one"]
    assert world.api.status["conditions"][0]["status"] == "True"


def test_a_pod_that_others_have_made_unready_stays_so(world: World) -> None:
    world.api.entries = {}
    unready(world.pods[0])
    world.passes(10)
    assert world.api.did == []


def test_a_pod_without_a_probe_is_never_made_unready(world: World) -> None:
    del world.pods[0]["spec"]["containers"][1]["readinessProbe"]
    world.passes()
    world.break_it(Fault.CRASH)
    for _ in range(5):
        world.passes(10)
    assert world.api.did == []


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.ERRORS, Fault.HANG])
def test_who_is_slow_or_wrong_still_listens_and_stays_ready(world: World, fault: Fault) -> None:
    world.break_it(fault)
    for _ in range(5):
        world.passes(10)
    assert world["one"].server.fault is fault
    assert world["one"].server.listens
    assert world.api.did == []


def test_a_fault_is_one_colours(world: World) -> None:
    world.pods.append(pod("two", colour="green"))
    world.break_it(Fault.ERRORS, "green")
    world.passes()
    assert (world["one"].server.fault, world["two"].server.fault) == (None, Fault.ERRORS)


def test_a_pod_whose_node_has_gone_silent_answers_no_more_and_nobody_is_told(world: World) -> None:
    world.api.entries = {}
    world.passes()
    world.nodes = []
    for _ in range(5):
        world.passes(10)
    assert not world["one"].server.listens
    assert world.api.did == ["register one"]


def test_the_load_balancer_leads_to_the_ready_pods_behind_the_node_port(world: World) -> None:
    world.with_edge(app="api-gateway")
    world.pods += [pod("two"), unready(pod("three")), pod("other", app="auth-service")]
    world.passes()
    assert world.edge.kept == (25000, [("127.1.2.3", 20001), ("127.1.2.3", 20002)])


def test_it_leads_to_the_gateways_once_the_node_port_does(world: World) -> None:
    world.with_edge(istio="ingress-gateway")
    gateways = [pod("gateway-1", istio="ingress-gateway"), pod("gateway-2", istio="ingress-gateway")]
    for gateway in gateways:
        del gateway["metadata"]["labels"]["version"]
    world.pods += [gateways[0], unready(gateways[1])]
    place = {"admin": 15000, "address": LOOPBACK}
    write_json(
        world.plane.folder / "gateways.json",
        {"gateway-1": {**place, "port": 26001}, "gateway-2": {**place, "port": 26002}},
    )
    world.passes()
    assert world.edge.kept == (25000, [(LOOPBACK, 26001)])


def test_clients_follow_the_load_balancer_to_where_it_leads_by_now(world: World) -> None:
    world.with_edge(app="api-gateway")
    world.pods.append(pod("other", app="auth-service"))
    world.passes()
    assert world.servers.shedded == []
    world.with_edge(istio="ingress-gateway")
    world.passes()
    assert world.servers.shedded == [], "they might come back to the same pod"
    world.passes(1)
    world.passes(1)
    assert world.servers.shedded == ["one"]


def test_it_rather_leads_to_who_leaves_than_to_nobody(world: World) -> None:
    world.with_edge(app="api-gateway")
    world.passes()
    gone = world.pods.pop()
    world.passes()
    assert world.edge.kept[1] == [("127.1.2.3", 20001)]
    world.passes(DRAIN_SECONDS)
    assert world.edge.kept[1] == []
    world.pods = [gone, pod("two")]
    world.passes()
    world.pods.remove(gone)
    world.passes()
    assert len(world.edge.kept[1]) == 1, "there is another"


def test_it_leads_to_a_gateway_that_leaves_until_there_is_another_that_listens(world: World) -> None:
    world.with_edge(istio="ingress-gateway")
    file = world.plane.folder / "gateways.json"
    first, second = ({"admin": 15000, "address": LOOPBACK, "port": port} for port in (26001, 26002))

    def gateway(name: str) -> dict[str, Any]:
        made = pod(name, istio="ingress-gateway")
        del made["metadata"]["labels"]["version"]
        return made

    world.pods = [gateway("first")]
    write_json(file, {"first": first})
    world.passes()
    world.pods = [gateway("second")]
    world.passes()
    assert world.edge.kept[1] == [(LOOPBACK, 26001)]
    write_json(file, {"first": first, "second": second})
    world.passes()
    assert world.edge.kept[1] == [(LOOPBACK, 26002)]
    world.pods = []
    write_json(file, {})
    world.passes()
    assert world.edge.kept[1] == []


def test_there_is_no_load_balancer_without_the_service_or_without_its_listener(world: World) -> None:
    world.passes()
    assert world.edge.kept == (None, [])
    world.with_edge(app="api-gateway")
    edge_ports.forget(world.state, f"{CLUSTER}-edge")
    world.passes()
    assert world.edge.kept[0] is None


def test_faults_are_kept_and_taken_back(world: World) -> None:
    release = ("api-gateway", "green")
    assert faults.change(world.plane, release, Fault.SLOW)
    assert not faults.change(world.plane, release, Fault.SLOW)
    assert faults.faults(world.plane) == {release: Fault.SLOW}
    assert faults.change(world.plane, release, None)
    assert faults.faults(world.plane) == {}


def test_a_stacks_port_is_kept_once(world: World) -> None:
    edge_ports.keep(world.state, "dev", 20001)
    edge_ports.keep(world.state, "dev", 20002)
    edge_ports.keep(world.state, "prod", 20003)
    assert [edge_ports.chosen(world.state, stack) for stack in ("dev", "prod")] == [20001, 20003]


def test_envoy_passes_connections_on_to_what_is_in_a_file(tmp_path: Path) -> None:
    config = json.dumps(bootstrap(25000, tmp_path / "endpoints.json"))
    assert str(tmp_path / "endpoints.json") in config
    assert '"port_value": 25000' in config
    (assignment,) = endpoints([("127.1.2.3", 20001)], 7)["resources"]
    (group,) = assignment["endpoints"]
    assert [found["endpoint"]["address"]["socket_address"]["port_value"] for found in group["lb_endpoints"]] == [20001]


def test_the_edge_listens_follows_and_ends(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "edge", tmp_path / "edge.log")
    assert edge.keep(None, []) == ""
    assert not edge.runs
    assert not read_json(tmp_path / "edge" / "endpoints.json")
