"""Services outlive the command that starts them; several start together or not at all."""

import socket
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from sandbox import services
from sandbox.errors import SandboxError
from sandbox.services import Command, Service
from sandbox.state import State, write_json

LISTENS = "import socket,sys,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
LISTENS_WHERE_TOLD = f"import os,sys; sys.argv[1:] = [os.environ['PORT']]; {LISTENS}"
ENDS = "import sys; sys.exit('no disk left')"


@pytest.fixture
def state(tmp_path: Path) -> Generator[State]:
    state = State(tmp_path)
    state.prepare()
    yield state
    services.stop(state, *services.recorded(state))


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def command(name: str, port: int, program: str = LISTENS) -> Command:
    words = [sys.executable, "-c", program, str(port)]
    return Command(name=name, port=port, command=words, environment={}, is_ready=answers)


def test_services_start_together_and_end_together(state: State) -> None:
    ports = services.free_ports(state.folder, 2)
    started = services.start_together(state, [command("one", ports[0]), command("two", ports[1])])
    assert [service.port for service in started] == ports
    assert all(answers(port) for port in ports)
    assert services.stop(state, "one", "two", "three") == ["one", "two"]
    assert not any(answers(port) for port in ports)
    assert services.recorded(state) == {}


def test_where_one_does_not_start_none_runs(state: State) -> None:
    ports = services.free_ports(state.folder, 2)
    with pytest.raises(SandboxError, match=r"starting two: it has ended: no disk left; its log is .*two\.log"):
        services.start_together(state, [command("one", ports[0]), command("two", ports[1], ENDS)])
    assert services.recorded(state) == {}
    assert not answers(ports[0])


def test_a_service_comes_back_on_its_port(state: State) -> None:
    port = services.free_ports(state.folder, 1)[0]
    first = services.start_together(state, [command("one", port)])[0]
    services.stop(state, "one")
    second = services.start_together(state, [command("one", port)])[0]
    assert second.port == first.port
    assert second.pid != first.pid


def start_anywhere(state: State) -> Service:
    words = [sys.executable, "-c", LISTENS_WHERE_TOLD]
    return services.start(state, "one", words, lambda port: {"PORT": str(port)}, answers)


def test_a_service_without_a_port_of_its_own_comes_back_on_the_one_that_it_had(state: State) -> None:
    first = start_anywhere(state)
    with socket.create_connection(("127.0.0.1", first.port)):  # what a client leaves behind is no hindrance
        services.stop(state, "one")
    assert start_anywhere(state).port == first.port


def test_where_the_port_that_it_had_is_taken_a_service_gets_another_and_keeps_that(state: State) -> None:
    first = start_anywhere(state)
    services.stop(state, "one")
    with socket.create_server(("127.0.0.1", first.port)):
        second = start_anywhere(state)
        assert second.port != first.port
        services.stop(state, "one")
    assert start_anywhere(state).port == second.port


def test_free_ports_are_different_and_not_those_of_outgoing_connections(tmp_path: Path) -> None:
    ports = services.free_ports(tmp_path, 50)
    assert len(set(ports)) == 50
    assert all(20000 <= port < 30000 for port in ports)


def test_free_ports_are_of_the_range_that_a_sandbox_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAIRTABLE_SANDBOX_PORTS", "31000-31039")
    assert {*services.free_ports(tmp_path, 30)} < {*range(31000, 31040)}


def test_a_port_that_a_sandbox_keeps_for_later_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAIRTABLE_SANDBOX_PORTS", "31000-31005")
    for file, kept in (
        ("ports.json", {"ministack": 31000}),
        ("edges/prod.json", {"port": 31001}),
        ("clusters/pyairtable-prod/ports.json", {"istiod-grpc": 31002, "postgres": 31003}),
        ("clusters/pyairtable-prod/gateway-ports.json", {"a-1b": {"port": 31004, "admin": 31005}}),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / file, kept)
    with pytest.raises(SandboxError, match="31000-31005 has 0"):
        services.free_ports(tmp_path, 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("31000-31009", "looking for 30 free ports: 31000-31009 has"),
        ("31009-31000", 'PYAIRTABLE_SANDBOX_PORTS is "31009-31000", which is no range such as 20000-29999'),
        ("80-90", "is no range"),
        ("60000-70000", "is no range"),
        ("", "is no range"),
    ],
)
def test_a_range_without_so_many_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.setenv("PYAIRTABLE_SANDBOX_PORTS", given)
    with pytest.raises(SandboxError, match=told):
        services.free_ports(tmp_path, 30)
