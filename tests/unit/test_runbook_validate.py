"""Validation: health and load, held against the runbook's success metrics."""

import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runbook.validate import Load
from sandbox import tools
from sandbox.errors import SandboxError
from tests.unit.traffic_world import Traffic, TrafficWorld

HEADER = "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset"


class Edge:
    """What answers at the edge, and a hey that reports what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broken: dict[str, int] = {}
        self.url = ""

    def measures(self, *rows: tuple[float, int]) -> None:
        """Let hey measure these milliseconds and status codes."""
        lines = [f"{ms / 1000:.4f},0,0,0,0,0,{status},{i * 0.01}" for i, (ms, status) in enumerate(rows)]
        (self.folder / "measured").write_text("\n".join([HEADER, *lines]) + "\n")
        self.plays(f'printf "%s " "$@" > {self.folder}/asked; cat {self.folder}/measured')

    def plays(self, script: str) -> None:
        (self.folder / "hey").write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / "hey").chmod(0o755)

    def status(self, path: str) -> int:
        return self.broken.get(path, 200)


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Edge]:
    edge = Edge(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(edge.status(self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        edge.url = f"http://127.0.0.1:{server.server_port}"
        edge.measures(*[(10.0, 200)] * 1000)
        yield edge
        server.shutdown()
        thread.join()


@pytest.fixture
def traffic(edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic(TrafficWorld(), tmp_path, monkeypatch)
    traffic.outputs["api_gateway_url"] = f"{edge.url}/"
    return traffic


def validated(traffic: Traffic, *more: str, expect: int = 0) -> dict[str, Any]:
    return json.loads(traffic.run("validate", "--json", *more, expect=expect).stdout)


def test_the_edge_is_asked_as_the_runbook_does(traffic: Traffic, edge: Edge) -> None:
    done = validated(traffic)
    assert (edge.folder / "asked").read_text() == f"-n 1000 -c 10 -o csv {edge.url}/health "
    assert [found["path"] for found in done["health"]] == ["/health", "/api/v1/auth/health", "/api/v1/users/health"]
    assert done["kept"] == {"health": True, "error_rate": True, "p95": True}


def test_percentiles_are_those_of_the_answers(traffic: Traffic, edge: Edge) -> None:
    edge.measures(*((float(ms), 200) for ms in range(1, 1001)))
    done = validated(traffic, expect=3)
    assert done["percentiles_ms"] == {"p50": 500, "p90": 900, "p95": 950, "p99": 990}
    assert done["requests_per_second"] == pytest.approx(1000 / 10.99, abs=0.1)
    assert done["kept"] == {"health": True, "error_rate": True, "p95": False}


def test_what_got_no_answer_has_failed(traffic: Traffic, edge: Edge) -> None:
    edge.measures(*[(10.0, 200)] * 998, (10.0, 503))
    done = validated(traffic, expect=3)
    assert (done["failed"], done["error_rate"]) == (2, 0.002)
    assert not done["kept"]["error_rate"]


def test_where_nothing_answers_nothing_is_kept(traffic: Traffic, edge: Edge) -> None:
    edge.measures()
    traffic.outputs["api_gateway_url"] = "http://127.0.0.1:1"
    done = validated(traffic, expect=3)
    assert done["kept"] == {"health": False, "error_rate": False, "p95": False}
    assert done["percentiles_ms"] == {}
    assert "Connection refused" in done["health"][0]["told"]
    assert "FAILED  p95, below 200 ms" in traffic.run("validate", expect=3).stdout


def test_an_endpoint_that_is_not_well_is_told(traffic: Traffic, edge: Edge) -> None:
    edge.broken["/api/v1/users/health"] = 503
    shown = traffic.run("validate", expect=3).stdout.splitlines()
    assert shown[3] == "FAILED  /api/v1/users/health     503"


def test_people_get_a_table(traffic: Traffic, edge: Edge) -> None:
    assert traffic.run("validate").stdout.splitlines() == [
        edge.url,
        "ok      /health                  200",
        "ok      /api/v1/auth/health      200",
        "ok      /api/v1/users/health     200",
        "ok      failed of 1000           0 (0.00%)",
        "ok      p95, below 200 ms        10.0 ms",
        "        p50                      10.0 ms",
        "        p90                      10.0 ms",
        "        p99                      10.0 ms",
    ]


def test_what_hey_rounds_away_has_not_failed(traffic: Traffic, edge: Edge) -> None:
    edge.measures(*[(10.0, 200)] * 1001)
    assert validated(traffic, "--requests", "1004", "--connections", "7")["requests"] == 1001


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "ftp://x"], '"ftp://x" is no URL'),
        (["--url", "api.example.com"], '"api.example.com" is no URL'),
        (["--requests", "5"], "5 requests are too few for 10 connections"),
        (
            ["--url", "http://api.example.com", "--sandbox"],
            "api.example.com is not of the sandbox, which is on 127.0.0.1",
        ),
        (["--requests", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_asks_nobody(traffic: Traffic, edge: Edge, arguments: list[str], told: str) -> None:
    assert told in traffic.run("validate", *arguments, expect=2).stderr
    assert not (edge.folder / "asked").exists()


def test_a_stack_without_an_edge_is_told(traffic: Traffic) -> None:
    traffic.outputs["api_gateway_url"] = None
    assert "validating prod: it has no edge; give --url" in traffic.run("validate", expect=2).stderr


def test_without_hey_that_is_told(traffic: Traffic, edge: Edge) -> None:
    (edge.folder / "hey").unlink()
    assert "hey, which makes the load, is not on PATH; go install" in traffic.run("validate", expect=2).stderr


def test_in_the_sandbox_hey_is_built(traffic: Traffic, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    built = (edge.folder / "hey").rename(edge.folder / "built")
    monkeypatch.setitem(tools.TOOLS, "hey", tools.TOOLS["kwok"])
    monkeypatch.setattr(tools, "find", lambda _: built)
    assert validated(traffic, "--sandbox")["kept"]["health"]


def test_a_hey_that_cannot_be_built_is_told(traffic: Traffic, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> Any:
        raise SandboxError("building hey: there is no go")

    (edge.folder / "hey").unlink()
    monkeypatch.setitem(tools.TOOLS, "hey", tools.TOOLS["kwok"])
    monkeypatch.setattr(tools, "find", fails)
    assert "building hey: there is no go" in traffic.run("validate", "--sandbox", expect=1).stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'bad flag' >&2; exit 1", "hey says: bad flag"),
        ("exit 7", "hey says: exit code 7"),
        ("echo x,y; echo 1,2", "hey's answer is no CSV that is known here"),
        ("exec sleep 60", "hey has not ended within 0 s"),
    ],
)
def test_a_load_test_that_does_not_run_is_told(
    traffic: Traffic, edge: Edge, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    monkeypatch.setattr("runbook.validate.LOAD_SECONDS", 0.3)
    edge.plays(script)
    assert told in traffic.run("validate", expect=1).stderr


@pytest.mark.parametrize(("count", "share", "expected"), [(1, 0.5, 1), (2, 0.95, 2), (20, 0.95, 19), (100, 0.99, 99)])
def test_a_percentile_is_an_answer_that_there_was(count: int, share: float, expected: float) -> None:
    load = Load(requests=count, failed=0, seconds=1, milliseconds=[float(i + 1) for i in range(count)])
    assert load.percentile(share) == expected
