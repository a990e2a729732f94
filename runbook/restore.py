"""Puts back into Secrets Manager what the cluster still has: a secret that was spoilt, emptied or marked for deletion.

Nothing is lost by it: what Secrets Manager holds and can be read stays as it is, and a version that is replaced stays
there as the previous one.
"""

import json
from contextlib import ExitStack
from typing import Any

from components.shared.stores import CONNECTIONS
from runbook.aws import AwsError, SecretsManager, connected
from runbook.errors import RunbookError, leaving
from runbook.kubectl import Objects
from runbook.later import Later
from runbook.lease import Lease
from runbook.managed import Managed, Readiness, force_sync, need, properties, stored, values
from runbook.rotate import the_lease
from runbook.steps import Steps
from runbook.target import Target
from runbook.wait import wait

OPTIONAL = ("airtable_token", "gemini_api_key")
"""Keys of outside services, empty where the stack has none."""


class Restoration:
    """Puts one secret back."""

    def __init__(self, target: Target, managed: Managed, steps: Steps, timeout: float) -> None:
        self._target, self._managed, self._steps, self._timeout = target, managed, steps, timeout
        self._kubectl = target.kubectl
        self._path = managed.path(target.stack)
        self._external_secret = f"externalsecret/{managed.external_secret}"

    def run(self) -> dict[str, Any]:
        """Put it back as far as that is needed; what was done."""
        connecting = Later(lambda: connected(self._target.access))
        with ExitStack() as held:
            with self._steps.step("lease", "no rotation is under way"):
                lease = held.enter_context(the_lease(self._kubectl, "putting the secret back", connecting))
            with self._steps.step("read", f"what the cluster has in {self._managed.secret}"):
                objects = self._kubectl.read(
                    [self._external_secret, f"configmap/{CONNECTIONS}", f"secret/{self._managed.secret}"]
                )
                known = self._known(objects)
                manager = connecting.get()
            with self._steps.step("restore", f"{self._path} in Secrets Manager"):
                done = self._put_back(manager, known)
            with (
                self._steps.step("sync", f"External Secrets is content with {self._managed.external_secret}"),
                leaving(f"Secrets Manager is as it should be; see {self._target.command('secrets')}"),
            ):
                self._sync(lease)
        return done

    def _known(self, objects: Objects) -> dict[str, str]:
        """All that belongs into Secrets Manager, as the cluster has it."""
        binding = need(objects, self._external_secret)
        secret = values(need(objects, f"secret/{self._managed.secret}"))
        connections = self._managed.connections_of(objects)
        if lost := [key for key in properties(binding) if not secret.get(key) and key not in OPTIONAL]:
            raise RunbookError(
                f"looking at {self._managed.secret}: the cluster has lost its {' and '.join(lost)}, too; put a version "
                f"of your own into {self._path}: aws secretsmanager put-secret-value"
            )
        return {
            **connections,
            **{name: secret.get(key, "") for key, name in properties(binding).items()},
        }

    def _put_back(self, manager: SecretsManager, known: dict[str, str]) -> dict[str, Any]:
        undeleted = False
        try:
            value = manager.read(self._path)
        except AwsError as error:
            if error.code == "ResourceNotFoundException":
                raise RunbookError(f"{error}; make it anew: {self._target.up}") from None
            if error.code != "InvalidRequestException":
                raise
            manager.restore(self._path)
            undeleted = True
            value = manager.read(self._path)
        there = stored(value.text)
        missing = sorted(known if there is None else known.keys() - there.keys())
        if not missing:
            return {"versionId": value.version, "undeleted": undeleted, "keys": []}
        version = manager.put(self._path, json.dumps({**known, **(there or {})}))
        return {"versionId": version, "undeleted": undeleted, "keys": missing}

    def _sync(self, lease: Lease) -> None:
        def look() -> str:
            readiness = Readiness.of(need(self._kubectl.read([self._external_secret]), self._external_secret))
            told = f"{self._managed.external_secret} says {readiness.reason}: {readiness.message}"
            return "" if readiness.ready else told

        force_sync(self._kubectl, self._managed)
        wait(look, seconds=self._timeout, pause=0.5, lease=lease, steps=self._steps)
