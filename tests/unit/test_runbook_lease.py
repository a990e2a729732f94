"""The lease: one at a time, and nobody waits for the dead for long."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import RunbookError
from runbook.kubectl import Kubectl, KubectlError
from runbook.lease import SECONDS, Lease
from tests.unit.runbook_world import World

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
NAME = "lease/runbook-rotate"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    with World(tmp_path) as world:
        monkeypatch.setenv("PATH", str(world.kubectl.parent))
        yield world


@contextmanager
def lease(now: Callable[[], datetime] = lambda: NOON) -> Generator[Lease]:
    with (
        Kubectl(Path("/nonexistent"), "pyairtable") as kubectl,
        Lease(kubectl, "runbook-rotate", "beginning", now) as it,
    ):
        yield it


def is_held(world: World, holder: str = "ann@laptop:1", **spec: Any) -> None:
    """Let somebody hold it."""
    with world.changed() as now:
        now["objects"][NAME] = {
            "kind": "Lease",
            "metadata": {"name": "runbook-rotate", "resourceVersion": "7"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 60, **spec},
        }


def test_it_is_there_with_its_holder_while_it_is_held(world: World) -> None:
    with lease():
        found = world.now["objects"][NAME]
        assert re.fullmatch(r".+@.+:\d+", found["spec"]["holderIdentity"])
        assert found["spec"]["acquireTime"] == found["spec"]["renewTime"] == "2026-08-01T12:00:00.000000Z"
        assert found["spec"]["leaseDurationSeconds"] == SECONDS
        assert found["metadata"]["namespace"] == "pyairtable"
    assert NAME not in world.now["objects"]


def test_it_is_given_back_after_a_failure(world: World) -> None:
    with pytest.raises(ValueError, match="x"), lease():
        raise ValueError("x")
    assert NAME not in world.now["objects"]


def test_who_holds_it_is_told(world: World) -> None:
    is_held(world, acquireTime="2026-08-01T11:00:00Z", renewTime="2026-08-01T11:59:50Z")
    with pytest.raises(RunbookError) as refused, lease():
        pass
    assert str(refused.value) == (
        "beginning: ann@laptop:1 is at it since 2026-08-01T11:00:00Z; wait for its end; if it has died, this can begin "
        "in 50 s"
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"renewTime": "2026-08-01T11:58:59Z"},
        {"acquireTime": "2026-08-01T11:58:59Z"},
        {"renewTime": "2026-08-01T11:59:59Z", "holder": ""},
        {"renewTime": "yesterday"},
        {},
    ],
)
def test_a_stale_one_is_taken_over(world: World, spec: dict[str, str]) -> None:
    is_held(world, **spec)
    with lease():
        found = world.now["objects"][NAME]
        assert found["spec"]["holderIdentity"] != "ann@laptop:1"


def test_of_two_that_take_over_one_is_refused(world: World) -> None:
    is_held(world)
    world.fails("replace", "the object has been modified", "Conflict")
    with pytest.raises(RunbookError, match="another command has just begun; wait for its end"), lease():
        pass


def test_one_that_is_given_back_meanwhile_is_taken(world: World) -> None:
    world.fails("create", "it exists", "AlreadyExists", times=1)
    with lease():
        assert NAME in world.now["objects"]


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_another_trouble_is_told_as_it_is(world: World, verb: str) -> None:
    is_held(world)
    world.fails(verb, "leases is forbidden", "Forbidden")
    with pytest.raises(KubectlError, match="leases is forbidden"), lease():
        pass


def test_it_is_renewed_when_a_third_of_its_time_is_over(world: World) -> None:
    now = NOON
    with lease(lambda: now) as held:
        now = NOON + timedelta(seconds=19)
        held.keep()
        assert world.now["objects"][NAME]["spec"]["renewTime"] == "2026-08-01T12:00:00.000000Z"
        now = NOON + timedelta(seconds=21)
        held.keep()
        assert world.now["objects"][NAME]["spec"]["renewTime"] == "2026-08-01T12:00:21.000000Z"
        now = NOON + timedelta(seconds=42)
        held.keep()
    assert NAME not in world.now["objects"]


def test_one_that_was_taken_over_is_lost_and_stays_the_others(world: World) -> None:
    now = NOON
    with lease(lambda: now) as held:
        is_held(world)
        now = NOON + timedelta(seconds=100)
        with pytest.raises(RunbookError, match="another command has taken over, since this one stood still"):
            held.keep()
    assert world.now["objects"][NAME]["spec"]["holderIdentity"] == "ann@laptop:1"


def test_a_renewal_that_fails_is_told_as_it_is(world: World) -> None:
    now = NOON
    with lease(lambda: now) as held:
        world.fails("replace", "connection refused")
        now = NOON + timedelta(seconds=30)
        with pytest.raises(KubectlError, match="refused"):
            held.keep()
