"""What is wrong with releases on purpose: a file of the plane's folder, so that it outlives whoever acts on it."""

from collections.abc import Mapping
from pathlib import Path

from sandbox.answers import Fault
from sandbox.control_plane import ControlPlane
from sandbox.state import read_json, write_json

COLOURS = ("blue", "green")

Release = tuple[str, str]
"""Service and colour."""


def faults(plane: ControlPlane) -> dict[Release, Fault]:
    """What is wrong with which releases."""
    told = read_json(_file(plane))
    return {(service, colour): Fault(fault) for service, colours in told.items() for colour, fault in colours.items()}


def change(plane: ControlPlane, release: Release, fault: Fault | None) -> bool:
    """Let something be wrong with a release, or nothing; whether that is a change."""
    before = faults(plane)
    after = {**before, release: fault} if fault else {key: value for key, value in before.items() if key != release}
    if after != before:
        write_json(_file(plane), _nested(after))
    return after != before


def _nested(found: Mapping[Release, Fault | None]) -> dict[str, dict[str, str]]:
    nested: dict[str, dict[str, str]] = {}
    for (service, colour), fault in sorted(found.items()):
        nested.setdefault(service, {})[colour] = str(fault)
    return nested


def _file(plane: ControlPlane) -> Path:
    return plane.folder / "faults.json"
