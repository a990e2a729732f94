"""Processes that outlive a command: started once, found again by the next command, ended by `sandbox stop`."""

import contextlib
import os
import random
import re
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
PORT_RANGE = "PYAIRTABLE_SANDBOX_PORTS"
PORTS = "20000-29999"
"""Where that variable does not say otherwise."""
KEPT = ("ports.json", "edges/*.json", "clusters/*/ports.json", "clusters/*/gateway-ports.json")
"""Files of a sandbox that keep ports, some of which are listened on much later."""


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


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a service is started on its port, and how it tells that it is ready."""

    name: str
    port: int
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[int], bool]


def start(
    state: State,
    name: str,
    command: Sequence[str],
    environment: Callable[[int], Mapping[str, str]],
    is_ready: Callable[[int], bool],
) -> Service:
    """Start a service on its loopback port and wait until it answers. The caller holds the state's lock.

    `environment` and `is_ready` are given the port.

    Raises:
        SandboxError: it ended, or did not answer in time; names its log.
    """
    port = _kept_port(state, name)
    wanted = Command(name=name, port=port, command=command, environment=environment(port), is_ready=is_ready)
    return start_together(state, [wanted])[0]


def start_together(state: State, commands: Sequence[Command]) -> list[Service]:
    """Start several services at once and wait until each answers: all of them run then, or none.

    The caller holds the state's lock.

    Raises:
        SandboxError: one ended, or did not answer in time; names its log.
    """
    started: list[Service] = []
    try:
        for command in commands:
            started.append(_launch(state, command))  # noqa: PERF401 — what has been started when one fails is ended
        for command, service in zip(commands, started, strict=True):
            wait_until_ready(service, command.is_ready)
    except BaseException:
        stop(state, *(service.name for service in started))
        raise
    return started


def _launch(state: State, wanted: Command) -> Service:
    log = state.logs / f"{wanted.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            wanted.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **wanted.environment},
            cwd=state.folder,
            start_new_session=True,  # Ctrl-C in the terminal is for the command, not for its services
        )
    try:
        created = psutil.Process(process.pid).create_time()
        service = Service(name=wanted.name, pid=process.pid, created=created, port=wanted.port, log=log)
        _record(state, {**recorded(state), wanted.name: service})
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = 0  # it outlives this command on purpose; without this Python warns that it still runs
    return service


def wait_until_ready(service: Service, is_ready: Callable[[int], bool]) -> None:
    """Wait until a service answers.

    Raises:
        SandboxError: it ended, or did not answer in time; names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(service.port):
        if service.process is None:
            raise SandboxError(
                f"starting {service.name}: it has ended{_last_words(service.log)}; its log is {service.log}"
            )
        if time.monotonic() > deadline:
            raise SandboxError(
                f"starting {service.name}: no answer within {START_SECONDS} s; its log is {service.log}; "
                "end it with: sandbox stop"
            )
        time.sleep(0.05)


def _last_words(log: Path) -> str:
    """The last line of a log, as far as it is short enough to be read."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1].strip()[:200]}" if lines else ""


def stop(state: State, *names: str) -> list[str]:
    """Stop services at once, giving them time to save what they hold; which of them were running.

    The caller holds the state's lock.
    """
    services = recorded(state)
    running = {name: p for name in names if name in services and (p := services[name].process)}
    _end(list(running.values()))
    _record(state, {name: service for name, service in services.items() if name not in names})
    return list(running)


def _kept_port(state: State, name: str) -> int:
    """The port that a service had before; a free one, which it keeps, where something else has taken that."""
    kept = read_json(state.ports)
    if name not in kept or not _is_free(kept[name]):
        kept[name] = free_ports(state.folder, 1)[0]
        write_json(state.ports, kept)
    return int(kept[name])


def free_ports(folder: Path, count: int) -> list[int]:
    """Loopback ports that nothing listens on, and that the sandbox in this folder keeps for nothing else.

    They lie below those that systems hand out for outgoing connections, so that a port which is kept for a later start
    is likely to be free then; several sandboxes that start and stop side by side are each given a range of their own.

    Raises:
        SandboxError: the range is none, or has not so many.
    """
    first, last = _range()
    found: list[int] = []
    kept = _kept(folder)
    for port in random.SystemRandom().sample(range(first, last + 1), last + 1 - first):
        if len(found) == count:
            break
        if port not in kept and _is_free(port):
            found.append(port)
    if len(found) < count:
        raise SandboxError(f"looking for {count} free ports: {first}-{last} has {len(found)}; widen {PORT_RANGE}")
    return found


def _kept(folder: Path) -> set[int]:
    files = [file for pattern in KEPT for file in folder.glob(pattern)]
    return {int(number) for file in files for number in re.findall(r": (\d+)", file.read_text())}


def _range() -> tuple[int, int]:
    given = os.environ.get(PORT_RANGE, PORTS)
    match = re.fullmatch(r"(\d{4,5})-(\d{4,5})", given)
    if match is None or not 1024 <= int(match[1]) <= int(match[2]) < 2**16:  # noqa: PLR2004 - the system's
        raise SandboxError(f'looking for free ports: {PORT_RANGE} is "{given}", which is no range such as {PORTS}')
    return int(match[1]), int(match[2])


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do it: connections that a server has left behind are no hindrance to the next one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return True
    return False


def _end(processes: Sequence[psutil.Process]) -> None:
    """End processes and their children, politely first."""
    family: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [process, *process.children(recursive=True)]
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for survivor in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _record(state: State, services: Mapping[str, Service]) -> None:
    entries = {
        name: {"pid": s.pid, "created": s.created, "port": s.port, "log": str(s.log)} for name, s in services.items()
    }
    write_json(state.services, entries)
