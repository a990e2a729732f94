"""Rotation: a new login or key, brought to every service, with an old one that works until all have the new one.

The order is what makes it safe. Whatever fails, and whenever, Secrets Manager, the cluster's Secret and the services
each hold a login that works:

1. the guard: the last rotation has arrived everywhere, since this one takes away what was in use before it
2. PostgreSQL gives the login that nobody uses a new password
3. Secrets Manager is told, External Secrets is told to look, and brings it into the Secret
4. secret-restarter restarts the services that read the Secret, and this waits for it
"""

import json
import secrets
import string
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from components.shared.apps import RESTARTER, ROTATION
from components.shared.stores import CONNECTIONS, DATABASE_NAME
from runbook import restarter
from runbook.aws import AwsError, SecretsManager, connected
from runbook.errors import RunbookError, leaving
from runbook.kubectl import Kubectl, KubectlError, Manifest, Objects
from runbook.later import Later
from runbook.lease import Lease
from runbook.managed import (
    API_KEYS,
    DATABASE,
    REDIS,
    WORKLOADS,
    Managed,
    Readiness,
    as_text,
    force_sync,
    need,
    properties,
    secrets_of_all,
    stored,
    values,
)
from runbook.steps import Steps
from runbook.target import Target
from runbook.wait import wait

LEASE: Final = "runbook-rotate"
LOGINS: Final = ("admin", "admin_2")
GENERATED: Final = {REDIS.name: ("password",), API_KEYS.name: ("jwt_secret", "api_key")}
"""What this makes up; PostgreSQL makes up its own."""
LENGTH: Final = 32
ALPHABET: Final = string.ascii_letters + string.digits
APPLIED_SECONDS: Final = 150.0
"""A kubelet takes up to two minutes to bring a changed Secret into a pod."""
SYNC_SECONDS: Final = 60.0
POD, CONTAINER = "postgres-0", "postgres"
PSQL: Final = (
    "psql",
    "--no-psqlrc",
    "--quiet",
    "--tuples-only",
    "--no-align",
    "--set=VERBOSITY=terse",
    "--username=postgres",
    f"--dbname={DATABASE_NAME}",
)
"""Asked with `--command`, since a question holds nothing secret; the answer may, and comes through a pipe."""

UNTOUCHED: Final = "nothing has been touched"
AGAIN: Final = "run it again"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The consequences of stopping, which differ: PostgreSQL has two logins, Redis one password."""

    new: str
    """What the rotation makes."""
    before_sync: str
    after_sync: str


KEPT: Final[Mapping[str, Kept]] = {
    DATABASE.name: Kept(
        new="new password for the login that nobody uses",
        before_sync="the old login goes on working, and so does the new one",
        after_sync="the old login goes on working until the next rotation",
    ),
    REDIS.name: Kept(
        new="new password",
        before_sync="Redis and the services go on with the old password",
        after_sync="what has not been restarted has the old password, and Redis takes the one it was started with",
    ),
    API_KEYS.name: Kept(
        new="new keys",
        before_sync="the services go on with the old keys",
        after_sync="services that have not been restarted go on with the old keys",
    ),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class _Seen:
    """How things stood before anything was touched."""

    external_secret: Manifest
    stored: Mapping[str, Any]
    secret: Mapping[str, str]
    connections: Mapping[str, str]


@contextmanager
def the_lease(kubectl: Kubectl, what: str, connecting: Later[SecretsManager]) -> Generator[Lease]:
    """Hold the lease of whoever changes the secrets. Where the cluster lets nobody in, AWS may say better why."""
    with ExitStack() as held:
        try:
            lease = held.enter_context(Lease(kubectl, LEASE, what))
        except KubectlError:
            connecting.get()
            raise
        yield lease


class Rotation:
    """One rotation of one secret."""

    def __init__(self, target: Target, managed: Managed, steps: Steps, timeout: float) -> None:
        self._target, self._managed, self._steps, self._timeout = target, managed, steps, timeout
        self._kubectl = target.kubectl
        self._path = managed.path(target.stack)
        self._script = restarter.load()
        self._kept = KEPT[managed.name]

    def run(self) -> dict[str, Any]:
        """Rotate; what is told about it, without the secret.

        Raises:
            RunbookError: it was refused, or failed; says how it leaves things.
        """
        connecting = Later(lambda: connected(self._target.access))
        with ExitStack() as held:
            with self._steps.step("lease", "no other rotation is under way"), leaving(UNTOUCHED):
                lease = held.enter_context(the_lease(self._kubectl, "beginning the rotation", connecting))
            return self._rotate(lease, connecting)

    def _rotate(self, lease: Lease, connecting: Later[SecretsManager]) -> dict[str, Any]:
        with (
            self._steps.step("guard", "the last rotation has arrived everywhere"),
            leaving(UNTOUCHED),
        ):
            seen = self._guard(connecting)
            manager = connecting.get()
        lease.keep()
        with self._steps.step("generate", self._kept.new):
            new = self._new(seen)
        wanted = {**seen.stored, **seen.connections, **new}
        lease.keep()
        with (
            self._steps.step("store", f"{self._path} in Secrets Manager"),
            leaving(f"{self._kept.before_sync}; {AGAIN}"),
        ):
            version = manager.put(self._path, json.dumps(wanted))
        expected = {key: as_text(wanted[name]) for key, name in properties(seen.external_secret).items()}
        with (
            self._steps.step("sync", f"External Secrets brings it into {self._managed.secret}"),
            leaving(
                f"Secrets Manager has it, and External Secrets will bring it when it can; {self._kept.before_sync}"
            ),
        ):
            self._sync(lease, expected)
        with (
            self._steps.step("restart", f"{RESTARTER} restarts what reads it"),
            leaving(f"the Secret has it; {RESTARTER} will restart the rest when it can; {self._kept.after_sync}"),
        ):
            restarted = self._wait_for_restarts(lease)
        if self._managed is not DATABASE:
            return {"versionId": version, "restarted": restarted}
        with (
            self._steps.step("apply", f"{POD} has read it, too"),
            leaving("every service has the new login, which works; the next rotation has to wait for this"),
        ):
            self._wait_until_applied(lease, new["username"])
        return {"versionId": version, "username": new["username"], "restarted": restarted}

    def _guard(self, connecting: Later[SecretsManager]) -> _Seen:
        external_secret = f"externalsecret/{self._managed.external_secret}"
        objects = self._kubectl.read(
            [external_secret, f"configmap/{CONNECTIONS}", *secrets_of_all()], [*WORKLOADS, "job"]
        )
        binding = need(objects, external_secret)
        readiness = Readiness.of(binding)
        found = self._stored(connecting, properties(binding))
        if not readiness.ready:
            raise RunbookError(
                f"looking at {self._managed.external_secret}: it is not ready ({readiness.reason}: "
                f"{readiness.message}); see {self._target.command('secrets')}"
            )
        secret = values(need(objects, f"secret/{self._managed.secret}"))
        self._refuse_unless_synced(binding, found, secret)
        self._refuse_unless_restarted(objects)
        self._refuse_during_the_scheduled_one(objects)
        if self._managed is DATABASE and secret.get("username") not in LOGINS:
            raise RunbookError(
                f"looking at {self._managed.secret}: its username is neither {' nor '.join(LOGINS)}; put one of them, "
                f"with its password, into {self._path}"
            )
        return _Seen(
            external_secret=binding,
            stored=found,
            secret=secret,
            connections=self._managed.connections_of(objects),
        )

    def _stored(self, connecting: Later[SecretsManager], wanted: Mapping[str, str]) -> dict[str, Any]:
        """What Secrets Manager holds; all that the cluster takes of it must be there."""
        mend = f"put back what the cluster has: {self._target.command(f'restore-secret {self._managed.name}')}"
        try:
            found = stored(connecting.get().read(self._path).text)
        except AwsError as error:
            if error.code == "ResourceNotFoundException":
                raise RunbookError(f"{error}; make it anew: {self._target.up}") from None
            if error.code == "InvalidRequestException":  # marked for deletion
                raise RunbookError(f"{error}; {mend}") from None
            raise
        if found is None:
            raise RunbookError(f"reading {self._path}: it is no JSON object; {mend}")
        if missing := [name for name in wanted.values() if name not in found]:
            raise RunbookError(f"reading {self._path}: it has no {' and no '.join(missing)}; {mend}")
        return found

    def _refuse_unless_synced(self, binding: Manifest, found: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        different = [key for key, name in properties(binding).items() if as_text(found[name]) != secret.get(key, "")]
        if different:
            raise RunbookError(
                f"comparing {self._managed.secret} with {self._path}: {' and '.join(different)} differ; wait until "
                f"External Secrets has brought what Secrets Manager has; see {self._target.command('secrets')}"
            )

    def _refuse_unless_restarted(self, objects: Objects) -> None:
        own = objects.get(f"deployment/{RESTARTER}")
        if own is None or not (own.get("status") or {}).get("availableReplicas"):
            raise RunbookError(
                f"looking at {RESTARTER}: it does not run, so that no service would get the new value; see "
                f"kubectl -n {self._kubectl.namespace} describe deployment {RESTARTER}"
            )
        late = self._not_restarted(objects)
        if late:
            raise RunbookError(
                f"looking at what reads {self._managed.secret}: {', '.join(late)} may still use what this rotation "
                f"would take away; wait for its restart; see kubectl -n {self._kubectl.namespace} logs deployment/"
                f"{RESTARTER}"
            )

    def _refuse_during_the_scheduled_one(self, objects: Objects) -> None:
        for name, job in objects.items():
            owners = job["metadata"].get("ownerReferences") or []
            if (
                self._managed is DATABASE
                and name.startswith("job/")
                and any(owner["name"] == ROTATION for owner in owners)
                and (job.get("status") or {}).get("active")
            ):
                raise RunbookError(f"looking at {job['metadata']['name']}: the scheduled rotation is under way; wait")

    def _new(self, seen: _Seen) -> dict[str, str]:
        if self._managed is not DATABASE:
            return {
                key: "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for key in GENERATED[self._managed.name]
            }
        with leaving(f"nothing that is in use has been touched; {AGAIN}"):
            return self._next_login(seen.secret["username"])

    def _next_login(self, used: str) -> dict[str, str]:
        """Let PostgreSQL give the other login a new password."""
        query = f"SELECT row_to_json(next) FROM credentials.rotate('{used}') AS next;"  # noqa: S608 — one of LOGINS
        answer = stored(self._ask_postgres(f"preparing the next login in {POD}", query)) or {}
        username, password = answer.get("username"), answer.get("password")
        if username not in LOGINS or username == used or not isinstance(password, str) or not password:
            raise RunbookError(f"preparing the next login in {POD}: credentials.rotate has not answered with one")
        return {"username": username, "password": password}

    def _ask_postgres(self, what: str, query: str) -> str:
        try:
            return self._kubectl.exec(POD, CONTAINER, [*PSQL, f"--command={query}"]).strip()
        except KubectlError as error:
            # PostgreSQL's own words.
            told = str(error).partition("ERROR:")[2].strip() or str(error)
            raise KubectlError(f"{what}: {told}") from None

    def _sync(self, lease: Lease, expected: Mapping[str, str]) -> None:
        name, own = f"externalsecret/{self._managed.external_secret}", f"secret/{self._managed.secret}"

        def look() -> str:
            objects = self._kubectl.read([own, name])
            if expected.items() <= values(need(objects, own)).items():
                return ""
            readiness = Readiness.of(need(objects, name))
            told = "nothing is wrong; does the controller run?"
            return (
                f"{self._managed.secret} has not got it yet; {self._managed.external_secret} says "
                f"{told if readiness.ready else f'{readiness.reason}: {readiness.message}'}"
            )

        force_sync(self._kubectl, self._managed)
        wait(look, seconds=min(SYNC_SECONDS, self._timeout), pause=0.05, lease=lease, steps=self._steps)

    def _wait_for_restarts(self, lease: Lease) -> list[str]:
        readers: list[str] = []

        def look() -> str:
            objects = self._kubectl.read(secrets_of_all(), WORKLOADS)
            readers[:] = self._readers(objects)
            late = self._not_restarted(objects)
            return f"{len(late)} of {len(readers)} not restarted yet: {', '.join(late)}" if late else ""

        wait(look, seconds=self._timeout, pause=1, lease=lease, steps=self._steps)
        return readers

    def _wait_until_applied(self, lease: Lease, username: str) -> None:
        def look() -> str:
            applied = self._ask_postgres(f"looking into {POD}", "SELECT username FROM credentials.applied;")
            return "" if applied == username else f"{POD} still goes by {applied}; see its container `credentials`"

        wait(look, seconds=min(APPLIED_SECONDS, self._timeout), pause=1, lease=lease, steps=self._steps)

    def _readers(self, objects: Objects) -> dict[str, Manifest]:
        """What reads the secret, by name."""
        return {
            workload["metadata"]["name"]: workload
            for workload in objects.values()
            if workload["kind"] in ("Deployment", "StatefulSet")
            and self._managed.secret in self._script.secrets_of(workload)
        }

    def _not_restarted(self, objects: Objects) -> list[str]:
        """What reads the secret and has pods that did not start with what the cluster's Secrets hold now."""
        return [name for name, workload in self._readers(objects).items() if not self._is_up_to_date(workload, objects)]

    def _is_up_to_date(self, workload: Manifest, objects: Objects) -> bool:
        read = {
            name: objects[f"secret/{name}"] for name in self._script.secrets_of(workload) if f"secret/{name}" in objects
        }
        noted = self._script.annotations(workload).get(self._script.NOTE)
        return noted == self._script.digest(read) and self._script.is_rolled_out(workload)
