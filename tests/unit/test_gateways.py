"""Where the gateway's Envoys listen, what they start with, and which of them are said to run."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox import gateways
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.gateways import Gateways, Ports, Process, bootstrap, envoy_filter
from sandbox.kubernetes_api import Manifest
from sandbox.pods import PodError
from sandbox.state import read_json

NAMESPACE = "pyairtable"


class Objects:
    """An API server that knows nothing but what is written to it."""

    def __init__(self) -> None:
        self.held: dict[str, Manifest] = {}
        self.has_the_kind = True

    def apply(self, path: str, manifest: Manifest) -> bool:
        if self.has_the_kind:
            self.held[path] = manifest
        return self.has_the_kind

    def delete(self, path: str) -> None:
        self.held.pop(path)


class Envoy:
    """An Envoy's administration."""

    def __init__(self) -> None:
        self.listeners: str | None = ""
        """None while it is too busy to answer."""
        self.asked: list[str] = []
        envoy = self

        class Admin(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                envoy.asked.append(f"{self.command} {self.path}")
                self.send_response(503 if envoy.listeners is None else 200)
                self.end_headers()
                self.wfile.write((envoy.listeners or "").encode())

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Admin)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_address[1]


@pytest.fixture
def envoys(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Envoy]]:
    """Two Envoys, on the ports that are chosen first."""
    made = [Envoy(), Envoy()]
    ports = iter([made[0].port, 1001, made[1].port, 1002])
    monkeypatch.setattr(gateways.services, "free_ports", lambda _, count: [next(ports) for _ in range(count)])
    yield made
    for envoy in made:
        envoy.server.shutdown()
        envoy.server.server_close()


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(cluster="c", folder=tmp_path, ports={"istiod-grpc": 15010})


@pytest.fixture
def objects() -> Objects:
    return Objects()


def process(number: int, pid: int | None = None, *, leaves: bool = False) -> Process:
    return Process(NAMESPACE, f"gateway-{number}", f"uid-{number}", pid, leaves)


def pod(number: int = 1, **metadata: Any) -> Manifest:
    own = {"name": f"gateway-{number}", "namespace": NAMESPACE, "uid": f"uid-{number}", **metadata}
    return {"metadata": own, "spec": {"serviceAccountName": "ingress-gateway"}}


def test_each_gateway_listens_on_a_port_of_its_own_and_all_on_loopback() -> None:
    patches = envoy_filter(NAMESPACE, {"b": 2, "a": 1})["spec"]["configPatches"]
    found = [(p["match"].get("proxy"), p["patch"]["value"]["address"]["socket_address"]) for p in patches]
    assert found == [
        (None, {"address": "127.0.0.1"}),
        ({"metadata": {"SANDBOX_POD": "a"}}, {"address": "127.0.0.1", "port_value": 1}),
        ({"metadata": {"SANDBOX_POD": "b"}}, {"address": "127.0.0.1", "port_value": 2}),
    ]


def test_a_gateway_starts_when_istiod_knows_where_it_listens(
    plane: ControlPlane, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Gateways(plane, objects)
    objects.has_the_kind = False
    made.keep([process(1)])
    with pytest.raises(PodError, match="the cluster has no EnvoyFilter yet"):
        made.launch(pod(), tmp_path)
    objects.has_the_kind = True
    made.keep([process(1)])
    with pytest.raises(PodError, match="istiod is being told"):
        made.launch(pod(), tmp_path)
    monkeypatch.setattr(gateways, "SETTLE_SECONDS", 0)
    other = Gateways(plane, objects)
    other.keep([process(1)])
    words = other.launch(pod(), tmp_path)
    assert words[1:3] == ["--config-path", str(tmp_path / "envoy.json")]
    started = json.loads((tmp_path / "envoy.json").read_text())
    # Another kubelet, after a `sandbox stop`: the ports are those that they were.
    port = read_json(plane.folder / "gateway-ports.json")["uid-1"]["admin"]
    assert started["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": port}


def test_ports_stay_for_as_long_as_there_is_the_pod(plane: ControlPlane, objects: Objects) -> None:
    def ports() -> dict[str, Any]:
        return read_json(plane.folder / "gateway-ports.json")

    made = Gateways(plane, objects)
    made.keep([process(1)])
    first = ports()
    made.keep([process(1), process(2)])
    assert ports()["uid-1"] == first["uid-1"]
    Gateways(plane, objects).keep([process(2)])
    assert list(ports()) == ["uid-2"]


def test_the_filter_goes_with_the_last_gateway(plane: ControlPlane, objects: Objects) -> None:
    made = Gateways(plane, objects)
    made.keep([process(1)])
    (path,) = objects.held
    assert path == "/apis/networking.istio.io/v1alpha3/namespaces/pyairtable/envoyfilters/sandbox-gateways"
    made.keep([])
    assert not objects.held


def test_a_gateway_is_listed_once_it_listens_and_no_more_when_it_leaves(
    plane: ControlPlane, objects: Objects, envoys: list[Envoy]
) -> None:
    made = Gateways(plane, objects)
    made.keep([process(1, 11), process(2, 22)])
    assert read_json(made.listed) == {}
    envoys[0].listeners, envoys[1].listeners = "0.0.0.0_8080::127.0.0.1:1001\n", "0.0.0.0_8080::127.0.0.1:1002\n"
    made.keep([process(1, 11), process(2, 22)])
    assert read_json(made.listed) == {
        "gateway-1": {"admin": envoys[0].port, "address": "127.0.0.1", "port": 1001},
        "gateway-2": {"admin": envoys[1].port, "address": "127.0.0.1", "port": 1002},
    }
    envoys[1].listeners = None
    for _ in range(2):
        made.keep([process(1, 11, leaves=True), process(2, 22)])
    assert list(read_json(made.listed)) == ["gateway-2"]
    assert envoys[0].asked.count("POST /drain_listeners?graceful") == 1
    # With its successor gone as well, the one that drains is better than none.
    made.keep([process(1, 11, leaves=True), process(2)])
    assert list(read_json(made.listed)) == ["gateway-1"]
    made.forget()
    assert not made.listed.exists()


def test_without_istiod_it_is_still_noted_which_gateways_run(
    plane: ControlPlane, objects: Objects, envoys: list[Envoy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise SandboxError("500 Internal Server Error")

    made = Gateways(plane, objects)
    envoys[0].listeners = "0.0.0.0_8080::127.0.0.1:1001\n"
    monkeypatch.setattr(objects, "apply", refuse)
    with pytest.raises(SandboxError):
        made.keep([process(1, 11)])
    assert list(read_json(made.listed)) == ["gateway-1"]


def test_pods_lack_something_until_all_of_their_envoys_are_ready(
    plane: ControlPlane, objects: Objects, envoys: list[Envoy]
) -> None:
    assert gateways.lacking(plane, [pod(1)]) == "not yet told by istiod what to do: gateway-1"
    Gateways(plane, objects).keep([process(1, 11), process(2, 22)])
    envoys[0].listeners = None
    assert gateways.lacking(plane, [pod(1), pod(2)]) == "not yet told by istiod what to do: gateway-1"
    envoys[0].listeners = ""
    assert gateways.lacking(plane, [pod(1), pod(2)]) == ""


def test_a_gateway_says_who_it_is_and_keeps_the_statistics_that_its_pod_asks_for(plane: ControlPlane) -> None:
    asked = "proxyStatsMatcher:\n  inclusionPrefixes: [a]\n  inclusionSuffixes: [b]\n  inclusionRegexps: [c]\n"
    labels = {"app": "ingress-gateway", "istio": "ingress-gateway"}
    made = bootstrap(plane, pod(labels=labels, annotations={"proxy.istio.io/config": asked}), Ports(1, 2))
    node = made["node"]
    assert node["id"] == "router~127.0.0.1~gateway-1.pyairtable~pyairtable.svc.cluster.local"
    assert node["metadata"]["LABELS"] == labels
    assert node["metadata"]["SANDBOX_POD"] == "gateway-1"
    patterns = made["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert {"prefix": "a"} in patterns
    assert {"suffix": "b"} in patterns
    assert {"safe_regex": {"regex": "c"}} in patterns
    without = bootstrap(plane, pod(), Ports(1, 2))["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert len(without) == len(patterns) - 3
