"""Watches: what the API server sends becomes what there is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.control_plane import ControlPlane
from sandbox.watching import ALL_SENT, Watch


class Told:
    """How often something was said to have changed."""

    times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told, tmp_path: Path) -> Watch:
    return Watch(ControlPlane(cluster="c", folder=tmp_path, ports={}), "/api/v1/nodes", told)


def lines(*events: tuple[str, Any]) -> Iterator[bytes]:
    for kind, what in events:
        thing = {"metadata": {"name": what}} if isinstance(what, str) else what
        yield json.dumps({"type": kind, "object": thing}).encode() + b"\n"


COMPLETE = ("BOOKMARK", {"metadata": {"annotations": {ALL_SENT: "true"}}})


def test_nothing_counts_before_all_of_it_is_known(watch: Watch, told: Told) -> None:
    watch.follow(lines(("ADDED", "a"), ("ADDED", "b")))
    assert not watch.synced
    assert watch.objects is None
    assert told.times == 0


def test_what_comes_changes_and_goes_is_followed(watch: Watch, told: Told) -> None:
    changed = {"metadata": {"name": "a"}, "spec": 2}
    watch.follow(lines(("ADDED", "a"), ("ADDED", "b"), COMPLETE, ("MODIFIED", changed), ("DELETED", "b")))
    assert watch.synced
    assert watch.objects == {"a": changed}
    assert told.times == 3


def test_what_is_known_already_is_not_told_again(watch: Watch, told: Told) -> None:
    watch.follow(lines(("ADDED", "a"), COMPLETE, ("BOOKMARK", {"metadata": {}})))
    watch.follow(lines(("ADDED", "a"), COMPLETE))
    assert told.times == 1


def test_what_went_between_two_requests_is_gone(watch: Watch) -> None:
    watch.follow(lines(("ADDED", "a"), ("ADDED", "b"), COMPLETE))
    watch.follow(lines(("ADDED", "b")))
    assert watch.objects
    assert {*watch.objects} == {"a", "b"}
    watch.follow(lines(("ADDED", "b"), COMPLETE))
    assert {*watch.objects} == {"b"}


def test_an_error_ends_a_request_and_forgets_nothing(watch: Watch) -> None:
    watch.follow(lines(("ADDED", "a"), COMPLETE, ("ERROR", {"code": 410}), ("DELETED", "a")))
    assert watch.objects
    assert {*watch.objects} == {"a"}
