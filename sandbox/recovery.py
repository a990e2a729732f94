"""Brings a stack back to where an up can go on, after a crash of the one before or a loss of the emulator's memory."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sandbox.deployments import package_of
from sandbox.engine import Engine, Target
from sandbox.errors import SandboxError
from sandbox.providers.provider import name_of
from sandbox.state import read_json

LOCK_SECONDS = 15
"""How long an engine whose command was killed may take to notice and end."""


def recover(engine: Engine, target: Target) -> None:
    """Release a dead update's lock, import what it was creating, and refresh where state and backends may differ.

    Raises:
        SandboxError: an engine that is not this sandbox's command holds the stack.
    """
    for lock in engine.locks():
        _wait_for_its_end(lock)
    cut_off = bool(engine.locks())
    if cut_off:
        engine.say("an update of this stack was cut off: releasing its lock")
        engine.cancel(target)
    deployment = engine.deployment()
    pending = deployment.get("pending_operations", [])
    if pending:
        engine.settle_pending(target, _finder(engine, target))
    # An emulator that was killed has forgotten; so has one that another command has started again since.
    elsewhere = bool(deployment.get("resources")) and engine.deployed_into() != target.backends.emulator
    if cut_off or pending or elsewhere:
        why = "the emulator was started again" if elsewhere else "the last update was cut off"
        engine.say(f"refreshing, since {why}")
        engine.refresh(target)


def _finder(engine: Engine, target: Target) -> Callable[[Mapping[str, Any]], str | None]:
    """Tells whether a create was carried out before the crash: the id of what it made."""
    providers = engine.providers(target)

    def find(resource: Mapping[str, Any]) -> str | None:
        provider = providers.get(package_of(resource["type"]))  # components and providers are nobody's
        id = provider.find(resource["urn"], resource.get("inputs", {})) if provider and resource["custom"] else None
        if id is not None:
            engine.say(f"importing {name_of(resource['urn'])}: it was made, and the update died before noting it")
        return id

    return find


def _wait_for_its_end(lock: Path) -> None:
    """Wait for the update that holds a lock to end, or find that it has."""
    holder = read_json(lock)
    deadline = time.monotonic() + LOCK_SECONDS
    while _is_engine(holder.get("pid", 0)) and lock.exists():
        if time.monotonic() > deadline:
            raise SandboxError(
                f"deploying: process {holder['pid']} is updating this stack; wait for it, or end it and try again"
            )
        time.sleep(0.1)


def _is_engine(pid: int) -> bool:
    try:
        return "pulumi" in psutil.Process(pid).name() and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
