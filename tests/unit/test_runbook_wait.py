"""Waiting: patient with the API server, silent about what does not take long."""

import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from runbook.errors import RunbookError
from runbook.kubectl import KubectlError
from runbook.lease import Lease
from runbook.steps import Steps
from runbook.wait import wait


class Quiet:
    """A lease and steps that take no notice, but note."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.kept = 0

    def keep(self) -> None:
        self.kept += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that sleeping adds to."""
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


def looks(*told: str | Exception) -> Callable[[], str]:
    """A look that tells these, one after the other."""
    left: Iterator[str | Exception] = iter(told)

    def look() -> str:
        now = next(left)
        if isinstance(now, Exception):
            raise now
        return now

    return look


def waiting(look: Callable[[], str], quiet: Quiet, *, seconds: float = 10, pause: float = 1) -> None:
    wait(look, seconds=seconds, pause=pause, lease=cast("Lease", quiet), steps=cast("Steps", quiet))


@pytest.mark.usefixtures("clock")
def test_what_takes_long_is_told_and_the_lease_is_kept() -> None:
    quiet = Quiet()
    waiting(looks("a", "b", "c", "d", "e", ""), quiet)
    assert quiet.notes == ["d", "e"]
    assert quiet.kept == 5


@pytest.mark.usefixtures("clock")
def test_when_the_time_is_over_the_last_look_is_the_error() -> None:
    with pytest.raises(RunbookError, match=r"^c; waited 2 s$"):
        waiting(looks("a", "b", "b", "c"), Quiet(), seconds=2)


@pytest.mark.usefixtures("clock")
def test_an_api_server_that_is_away_only_takes_time() -> None:
    waiting(looks(KubectlError("refused"), ""), Quiet())


@pytest.mark.usefixtures("clock")
def test_what_cannot_get_better_ends_the_wait() -> None:
    with pytest.raises(RunbookError, match="there is no secret"):
        waiting(looks(RunbookError("there is no secret"), ""), Quiet())
