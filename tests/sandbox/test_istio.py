"""Istio in the sandbox: its own charts, istiod injecting pods and refusing mistakes, gateways that route requests."""

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest

from infra.naming import PROJECT
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApiError, Manifest
from sandbox.state import read_json
from tests.program.harness import is_alive, wait_for
from tests.sandbox.harness import processes_of
from tests.sandbox.workshop import Workshop, opened
from tests.sandbox.workshop import istio_release as release

REVISION = "1-31-1"
HOST = f"shop.{PROJECT}.svc.cluster.local"
NETWORKING = "networking.istio.io/v1"
SECCOMP = {"type": "RuntimeDefault"}
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}
PLAIN_LABELS = {"app": "shop"}
MESH_LABELS = {**PLAIN_LABELS, "istio.io/rev": REVISION, "sidecar.istio.io/inject": "true"}
COLOURS = {"blue": "127.1.0.2", "green": "127.1.0.3"}
RELEASES = ("base", "cni", "istiod", "gateway")


def releases(**gateway: Any) -> dict[str, tuple[str, Manifest]]:
    """All of Istio, in the order of its making."""
    sidecar = {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"memory": "128Mi"}}}
    return {
        "base": release("base", "istio-base", "istio-system", defaultRevision=REVISION),
        "cni": release("cni", "istio-cni", "istio-cni", resources=SMALL),
        "istiod": release(
            "istiod",
            f"istiod-{REVISION}",
            "istio-system",
            revision=REVISION,
            autoscaleEnabled=False,
            resources=SMALL,
            seccompProfile=SECCOMP,
            cni={"enabled": True},
            **{"global": {"proxy": sidecar}},
        ),
        "gateway": release(
            "gateway",
            "ingress-gateway",
            PROJECT,
            revision=REVISION,
            labels={"app": "ingress-gateway", "istio": "ingress-gateway"},
            replicaCount=2,
            autoscaling={"enabled": False},
            resources=SMALL,
            securityContext={"seccompProfile": SECCOMP},
            service={"type": "ClusterIP", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            podAnnotations={
                "proxy.istio.io/config": "proxyStatsMatcher:\n  inclusionRegexps: ['cluster\\.outbound.*shop.*']\n"
            },
            **gateway,
        ),
    }


class Mesh:
    """A cluster with Istio and a service of two colours, whose endpoints are servers of the test."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.api = workshop.api
        self.plane = workshop.plane
        for name, level in (("istio-system", "restricted"), ("istio-cni", "privileged"), (PROJECT, "restricted")):
            labels = {"pod-security.kubernetes.io/enforce": level}
            self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        workshop.up("istio", releases())
        # What istiod sees of the program's pods is registered by hand: none of them has an address here.
        self.apply("v1", "Service", "shop", selector={"app": "shop"}, ports=[{"name": "http", "port": 80}])
        for colour, address in COLOURS.items():
            labels = {**PLAIN_LABELS, "version": colour}
            ports = {"http": server_port(address)}
            self.apply(NETWORKING, "WorkloadEntry", colour, address=address, ports=ports, labels=labels)
        subsets = [{"name": colour, "labels": {"version": colour}} for colour in COLOURS]
        self.apply(NETWORKING, "DestinationRule", "shop", host=HOST, subsets=subsets)
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        self.apply(NETWORKING, "Gateway", "ingress-gateway", selector={"istio": "ingress-gateway"}, servers=[server])
        self.route(100)

    def apply(self, api_version: str, kind: str, name: str, **spec: Any) -> Manifest:
        metadata = {"name": name, "namespace": PROJECT}
        return self.api.apply({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})

    def route(self, blue: int, *hosts: str) -> None:
        """Give blue a share of the requests, and green the rest."""
        shares = {"blue": blue, "green": 100 - blue}
        route = [{"destination": {"host": HOST, "subset": colour}, "weight": w} for colour, w in shares.items()]
        self.apply(
            NETWORKING,
            "VirtualService",
            "shop",
            hosts=[*(hosts or (HOST, "127.0.0.1"))],
            gateways=["mesh", f"{PROJECT}/ingress-gateway"],
            http=[{"name": "weighted", "route": route}],
        )

    def gateways(self) -> Mapping[str, Any]:
        """Gateways that run, by pod."""
        return read_json(self.plane.folder / "gateways.json")

    def both_gateways(self) -> Mapping[str, Any]:
        """The same, once there are as many as there are to be."""
        wait_for(lambda: len(self.gateways()) == 2, "both gateways")
        return self.gateways()

    def pods(self, label: str) -> list[Manifest]:
        return self.api.list("v1", "Pod", namespace=PROJECT, label_selector=label)

    def pod(self, name: str, labels: Mapping[str, str]) -> Manifest:
        """Make a pod as restricted as the namespace wants it; what became of it."""
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        spec = {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": SECCOMP},
            "containers": [{"name": "app", "image": "shop:1", "securityContext": security}],
        }
        metadata = {"name": name, "namespace": PROJECT, "labels": dict(labels)}
        return self.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase(self, name: str) -> str:
        live = self.api.get("v1", "Pod", name, PROJECT)
        return (live or {}).get("status", {}).get("phase", "")


_ports: dict[str, int] = {}


def server_port(address: str) -> int:
    """Port of a server of the test."""
    return _ports[address]


@contextmanager
def servers() -> Generator[None]:
    """A server for each colour, which answers with its name."""

    def serve(colour: str, address: str) -> ThreadingHTTPServer:
        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(colour)))
                self.end_headers()
                self.wfile.write(colour.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        made = ThreadingHTTPServer((address, 0), Answer)
        _ports[address] = made.server_address[1]
        threading.Thread(target=made.serve_forever, daemon=True).start()
        return made

    made = [serve(colour, address) for colour, address in COLOURS.items()]
    try:
        yield
    finally:
        for server in made:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with servers(), opened(tmp_path_factory.mktemp("state")) as workshop:
        yield Mesh(workshop)


def answer(gateway: Mapping[str, Any], host: str = "127.0.0.1") -> str:
    """What comes back through a gateway: the colour, or the status."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway["port"], timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": host})
        response = connection.getresponse()
        return response.read().decode() if response.status == HTTPStatus.OK else str(response.status)
    finally:
        connection.close()


def test_the_release_is_there_when_its_gateways_are(mesh: Mesh) -> None:
    assert len(mesh.pods("istio=ingress-gateway")) == 2
    assert mesh.both_gateways().keys() == {pod["metadata"]["name"] for pod in mesh.pods("istio=ingress-gateway")}
    assert "4 unchanged" not in mesh.workshop.preview("istio", releases(terminationGracePeriodSeconds=20))
    assert "1 to update" in mesh.workshop.printed


def test_both_gateways_route_by_weight_and_by_host(mesh: Mesh) -> None:
    gateways = mesh.both_gateways().values()
    for blue, colours in ((100, {"blue"}), (0, {"green"}), (50, {"blue", "green"})):
        mesh.route(blue)
        for gateway in gateways:
            wait_for(lambda g=gateway, c=colours: {answer(g) for _ in range(20)} == c, f"answers of {colours}")
    (first, *_) = gateways
    assert answer(first, "127.0.0.1:8443") in COLOURS
    assert answer(first, "elsewhere.example.com") == "404"
    mesh.route(100)


def test_statistics_have_the_names_that_istios_agent_gives_them(mesh: Mesh) -> None:
    (gateway, *_) = mesh.both_gateways().values()
    mesh.route(100)
    wait_for(lambda: answer(gateway) == "blue", "an answer of blue's")
    cluster = f'cluster_name="outbound|80|blue|{HOST}"'
    assert has_statistic(gateway, f'envoy_cluster_upstream_rq{{{cluster},response_code_class="2xx"}}')
    bucket = f"envoy_cluster_upstream_rq_time_bucket{{{cluster},le="
    wait_for(lambda: has_statistic(gateway, bucket), "the times, which Envoy brings every five seconds")
    # The pod does not ask for this one, and Istio's agent would not keep it.
    assert not has_statistic(gateway, "envoy_control_plane_connected_state")


def has_statistic(gateway: Mapping[str, Any], beginning: str) -> bool:
    """Whether a gateway shows a line that begins so."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway["admin"], timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/stats/prometheus")
        return any(line.startswith(beginning) for line in connection.getresponse().read().decode().splitlines())


def test_a_pod_that_asks_for_it_is_injected_and_runs_and_another_is_left_alone(mesh: Mesh) -> None:
    injected, plain = mesh.pod("injected", MESH_LABELS), mesh.pod("plain", PLAIN_LABELS)
    first, sidecar = injected["spec"]["initContainers"]
    assert (first["name"], sidecar["name"], sidecar["restartPolicy"]) == ("istio-validation", "istio-proxy", "Always")
    assert sidecar["image"] == "registry.istio.io/release/proxyv2:1.31.1"
    assert sidecar["resources"]["requests"] == {"cpu": "10m", "memory": "40Mi"}
    assert "initContainers" not in plain["spec"]
    wait_for(lambda: mesh.phase("injected") == mesh.phase("plain") == "Running", "both to run")


def test_without_istiod_a_pod_that_asks_for_its_sidecar_is_refused(mesh: Mesh) -> None:
    def replicas(count: int) -> None:
        patch = {"spec": {"replicas": count}}
        mesh.api.patch("apps/v1", "Deployment", f"istiod-{REVISION}", patch, namespace="istio-system")

    (istiod,) = processes_of(mesh.plane, "discovery")
    replicas(0)
    wait_for(lambda: not is_alive(istiod), "the end of istiod")
    with pytest.raises(KubernetesApiError, match=r'failed calling webhook "rev.object.sidecar-injector.istio.io"'):
        mesh.pod("early", MESH_LABELS)
    # The gateways go on with what they know.
    assert {answer(gateway) for gateway in mesh.gateways().values()} == {"blue"}
    replicas(1)
    wait_for(lambda: _accepts(mesh), "istiod to answer")


def _accepts(mesh: Mesh) -> bool:
    try:
        return bool(mesh.pod("late", MESH_LABELS))
    except KubernetesApiError:
        return False


def test_when_a_changed_istiod_is_there_its_new_process_answers(mesh: Mesh) -> None:
    (before,) = processes_of(mesh.plane, "discovery")
    changed = releases()
    changed["istiod"][1]["values"]["env"] = {"PILOT_SEND_UNHEALTHY_ENDPOINTS": "false"}
    assert "1 updated" in mesh.workshop.up("istio", changed)
    (after,) = processes_of(mesh.plane, "discovery")
    assert after != before
    assert after.environ()["PILOT_SEND_UNHEALTHY_ENDPOINTS"] == "false"
    mesh.route(100)  # is validated by it
    mesh.workshop.up("istio", releases())


def test_mistakes_are_refused_by_istiod(mesh: Mesh) -> None:
    with pytest.raises(KubernetesApiError, match=r"denied the request.*wildcard host \* is not allowed"):
        mesh.route(100, "*")


def test_everything_listens_on_loopback_only(mesh: Mesh) -> None:
    mesh.both_gateways()
    running = processes_of(mesh.plane)
    assert len(running) == 3
    listening = [c.laddr.ip for p in running for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    assert {ip.rpartition(":")[2].split(".")[0] for ip in listening} == {"127"}


def test_gateways_are_replaced_without_a_lost_request(mesh: Mesh) -> None:
    before, answers = {*mesh.both_gateways()}, Counter[str]()
    processes = processes_of(mesh.plane, "istio-proxy")
    restarted = {"spec": {"template": {"metadata": {"annotations": {"restarted": str(time.time_ns())}}}}}
    mesh.api.patch("apps/v1", "Deployment", "ingress-gateway", restarted, namespace=PROJECT)

    def replaced() -> bool:
        answers.update(answer(gateway) for gateway in mesh.gateways().values() for _ in range(5))
        return len(mesh.gateways()) == 2 and not before & mesh.gateways().keys()

    wait_for(replaced, "other gateways")
    assert set(answers) == {"blue"}
    wait_for(lambda: not any(map(is_alive, processes)), "the end of those before")


def test_a_value_that_no_chart_has_is_refused_before_anything_is_changed(mesh: Mesh) -> None:
    with pytest.raises(SandboxError, match="the chart gateway has no value replicas"):
        mesh.workshop.preview("istio", releases(replicas=3))


def test_all_of_it_goes_but_for_the_definitions(mesh: Mesh) -> None:
    processes = processes_of(mesh.plane)
    assert len(processes) == 3
    mesh.workshop.destroy("istio")
    wait_for(lambda: not any(map(is_alive, processes)), "their end")
    wait_for(lambda: mesh.gateways() == {}, "the end of the gateways")
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert not mesh.api.list("admissionregistration.k8s.io/v1", kind)
    assert definitions(mesh)
    assert mesh.api.get(NETWORKING, "VirtualService", "shop", PROJECT), "objects go with their definition"
    mesh.pod("afterwards", MESH_LABELS)


def test_it_is_installed_again_over_what_was_kept(mesh: Mesh) -> None:
    kept = definitions(mesh)
    again = {name: releases()[name] for name in ("base", "cni", "istiod")}
    assert "5 created" in mesh.workshop.up("istio", again)  # the stack and its provider among them
    assert definitions(mesh) == kept
    mesh.route(100)  # is validated


def definitions(mesh: Mesh) -> dict[str, str]:
    """Uids of Istio's definitions."""
    found = mesh.api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    return {
        item["metadata"]["name"]: item["metadata"]["uid"]
        for item in found
        if item["metadata"]["name"].endswith("istio.io")
    }
