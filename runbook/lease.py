"""A Lease in the cluster lets one command at a time do what two must not do at once, whoever starts them where."""

import contextlib
import getpass
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from runbook.errors import RunbookError
from runbook.kubectl import Kubectl, KubectlError, Manifest

SECONDS: Final = 60
"""After that much silence of its holder a lease may be taken over: the longest that a rerun after a crash waits."""
TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class Lease:
    """A lease that is held within a `with`; `keep` holds on to it for longer.

    Raises:
        RunbookError: somebody else holds it; says who and since when.
    """

    def __init__(self, kubectl: Kubectl, name: str, what: str, now: Callable[[], datetime] = now) -> None:
        self._kubectl = kubectl
        self._name = name
        self._what = what
        self._now = now
        self._lease: Manifest = {}

    def __enter__(self) -> Self:
        self._lease = self._acquired()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it. Where that fails it ends by itself, and a failure of the command's is worth more to tell."""
        with contextlib.suppress(KubectlError):
            path = self._kubectl.path(f"lease/{self._name}")
            self._kubectl.delete(path, self._lease["metadata"]["resourceVersion"])

    def keep(self) -> None:
        """Call it before each step and while waiting: the lease is renewed when a third of its time is over.

        Raises:
            RunbookError: it is lost, since this command was silent for too long.
        """
        if (self._now() - _held_since(self._lease)).total_seconds() < SECONDS / 3:
            return
        renewed = {**self._lease, "spec": {**self._lease["spec"], "renewTime": self._now().strftime(TIME)}}
        try:
            self._lease = self._kubectl.replace(renewed)
        except KubectlError as error:
            if error.reason != "Conflict":
                raise
            raise RunbookError(f"{self._what}: another command has taken over, since this one stood still") from None

    def _acquired(self) -> Manifest:
        time = self._now().strftime(TIME)
        wanted: Manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._kubectl.namespace},
            "spec": {
                "holderIdentity": f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}",
                "leaseDurationSeconds": SECONDS,
                "acquireTime": time,
                "renewTime": time,
            },
        }
        try:
            return self._kubectl.create(wanted)
        except KubectlError as error:
            if error.reason != "AlreadyExists":
                raise
        found = self._kubectl.read([f"lease/{self._name}"]).get(f"lease/{self._name}")
        if found is not None:
            self._refuse_if_alive(found)
            wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        try:
            return self._kubectl.replace(wanted) if found else self._kubectl.create(wanted)
        except KubectlError as error:
            if error.reason not in ("Conflict", "AlreadyExists"):
                raise
            raise RunbookError(f"{self._what}: another command has just begun; wait for its end") from None

    def _refuse_if_alive(self, found: Manifest) -> None:
        spec = found.get("spec", {})
        silent = (self._now() - _held_since(found)).total_seconds()
        left = spec.get("leaseDurationSeconds", SECONDS) - silent
        if spec.get("holderIdentity") and left > 0:
            raise RunbookError(
                f"{self._what}: {spec['holderIdentity']} is at it since {spec.get('acquireTime', '?')}; wait for its "
                f"end; if it has died, this can begin in {left:.0f} s"
            )


def _held_since(lease: Manifest) -> datetime:
    """When its holder was heard of last; long ago where that cannot be read."""
    spec: dict[str, Any] = lease.get("spec", {})
    try:
        return datetime.fromisoformat(spec.get("renewTime") or spec["acquireTime"])
    except (KeyError, TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)
