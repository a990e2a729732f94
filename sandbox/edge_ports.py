"""Ports of the stacks' public entries: one chosen for each, and the one that the load balancer really has."""

from pathlib import Path

from sandbox.services import free_ports
from sandbox.state import State, read_json, write_json


def chosen(state: State, stack: str) -> int:
    """The port of a stack's public entry in this sandbox; a free one, as long as none has been kept."""
    return int(read_json(_entry(state, stack)).get("port") or free_ports(state.folder, 1)[0])


def keep(state: State, stack: str, port: int) -> None:
    """Let a stack's public entry have this port from now on, if it has none."""
    file = _entry(state, stack)
    if not read_json(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(file, {"port": port})


def note(state: State, balancer: str, port: int) -> None:
    """Keep that a load balancer listens on a port, for who really listens there."""
    file = _listener(state, balancer)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(file, {"port": port})


def forget(state: State, balancer: str) -> None:
    """Keep that it no longer does."""
    _listener(state, balancer).unlink(missing_ok=True)


def of_cluster(state: State, cluster: str) -> int | None:
    """The port on which the load balancer in front of a cluster listens; None when it does not."""
    port = read_json(_listener(state, f"{cluster}-edge")).get("port")
    return None if port is None else int(port)


def _entry(state: State, stack: str) -> Path:
    return state.folder / "edges" / f"{stack}.json"


def _listener(state: State, balancer: str) -> Path:
    return state.folder / "listeners" / f"{balancer}.json"
