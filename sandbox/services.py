"""Processes that outlive a command: started once, found again by the next command, ended by `sandbox stop`."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from sandbox.errors import SandboxError
from sandbox.state import State, read_json, write_json

START_SECONDS = 60
STOP_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service. Process ids are reused, so the time of creation goes with it."""

    name: str
    pid: int
    created: float
    port: int
    log: Path

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it is still the one that was started."""
        try:
            process = psutil.Process(self.pid)
            alive = process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
            return process if alive else None
        except (psutil.NoSuchProcess, ValueError):
            return None


def recorded(state: State) -> dict[str, Service]:
    """Services that were started and not stopped, running or not."""
    try:
        return {
            name: Service(
                name=name,
                pid=int(entry["pid"]),
                created=float(entry["created"]),
                port=int(entry["port"]),
                log=Path(entry["log"]),
            )
            for name, entry in read_json(state.services).items()
        }
    except (KeyError, TypeError, ValueError):
        raise SandboxError(f"reading {state.services}: it is damaged; delete the file") from None


def running(state: State, name: str) -> Service | None:
    """The service, if it runs."""
    service = recorded(state).get(name)
    return service if service and service.process else None


def start(
    state: State,
    name: str,
    command: Sequence[str],
    environment: Callable[[int], Mapping[str, str]],
    is_ready: Callable[[int], bool],
) -> Service:
    """Start a service on a free loopback port and wait until it answers. The caller holds the state's lock.

    `environment` and `is_ready` are given the port.

    Raises:
        SandboxError: it ended, or did not answer in time; names its log.
    """
    log = state.logs / f"{name}.log"
    port = _free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment(port)},
            cwd=state.folder,
            start_new_session=True,  # Ctrl-C in the terminal is for the command, not for its services
        )
    try:
        service = Service(
            name=name, pid=process.pid, created=psutil.Process(process.pid).create_time(), port=port, log=log
        )
        _record(state, {**recorded(state), name: service})
        wait_until_ready(service, is_ready)
        process.returncode = 0  # it outlives this command on purpose; without this Python warns that it still runs
        return service
    except BaseException:
        _end(psutil.Process(process.pid)) if process.poll() is None else None
        _record(state, {other: s for other, s in recorded(state).items() if other != name})
        raise


def wait_until_ready(service: Service, is_ready: Callable[[int], bool]) -> None:
    """Wait until a service answers.

    Raises:
        SandboxError: it ended, or did not answer in time; names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(service.port):
        if service.process is None:
            raise SandboxError(f"starting {service.name}: it has ended; its log is {service.log}")
        if time.monotonic() > deadline:
            raise SandboxError(
                f"starting {service.name}: no answer within {START_SECONDS} s; its log is {service.log}; "
                "end it with: sandbox stop"
            )
        time.sleep(0.05)


def stop(state: State, name: str) -> bool:
    """Stop a service, giving it time to save what it holds; whether it was running. The caller holds the lock."""
    services = recorded(state)
    service = services.pop(name, None)
    process = service.process if service else None
    if process:
        _end(process)
    if service:
        _record(state, services)
    return process is not None


def _end(process: psutil.Process) -> None:
    """End a process and its children, politely first."""
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for survivor in alive:
            survivor.kill()
        psutil.wait_procs(alive, timeout=STOP_SECONDS)
    except psutil.NoSuchProcess:
        pass


def _record(state: State, services: Mapping[str, Service]) -> None:
    entries = {
        name: {"pid": s.pid, "created": s.created, "port": s.port, "log": str(s.log)} for name, s in services.items()
    }
    write_json(state.services, entries)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
