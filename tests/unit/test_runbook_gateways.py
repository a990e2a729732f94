"""The gateways: through the API server on AWS, on this machine's own ports in the sandbox."""

import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from runbook import gateways
from runbook.errors import RunbookError
from runbook.target import Place
from tests.unit.traffic_world import Envoy, TrafficWorld


class _Admin(BaseHTTPRequestHandler):
    """Envoy's admin port."""

    def do_GET(self) -> None:
        envoy = Envoy()
        envoy.serve("green", 7)
        self.send_response(200 if self.path == "/stats/prometheus" else 404)
        self.end_headers()
        self.wfile.write(envoy.text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Generator[int]:
    with HTTPServer(("127.0.0.1", 0), _Admin) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def sandboxs(folder: Path, content: str) -> Place:
    file = folder / "clusters" / "pyairtable-prod" / "gateways.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    return Place(stack="prod", kubectl=TrafficWorld(), state_folder=folder)


def test_in_the_sandbox_their_admin_ports_are_asked(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    pods = {"a": {"admin": port, "address": "127.0.0.1", "port": 1}, "b": {"admin": 1}}
    found = gateways.statistics(sandboxs(tmp_path, json.dumps(pods)))
    assert found["b"] is None
    assert found["a"]
    assert (found["a"].colours["green"].requests, found["a"].connected) == (7, True)


@pytest.mark.parametrize("content", ["{", '{"a": {}}', "[]", '{"a": 1}'])
def test_a_list_of_them_that_is_damaged_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(RunbookError, match=r"looking for the sandbox's gateways in .*gateways\.json: "):
        gateways.statistics(sandboxs(tmp_path, content))


def test_on_aws_a_pod_that_is_ending_is_left_out() -> None:
    world = TrafficWorld()
    get = world.get
    ending = {"metadata": {"name": "gateway-0", "deletionTimestamp": "2026-08-01T12:00:00Z"}}
    world.get = lambda path: {"items": [ending, *(get(path) or {})["items"]]}
    assert list(gateways.statistics(Place(stack="prod", kubectl=world))) == ["gateway-1", "gateway-2"]
