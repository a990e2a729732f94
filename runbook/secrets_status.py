"""Whether the secrets of phase 3 arrive in the cluster, and which services lack something because they do not."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from runbook.kubectl import Kubectl, Manifest, Objects
from runbook.managed import MANAGED, STALE, WORKLOADS, Managed, Readiness, values

ENTRY: Final = re.compile(r"spec\.data\[(\d+)\]")
NO_SUCH_KEY: Final = re.compile(r"key \S+ does not exist in secret")
FAILED: Final = "UpdateFailed"


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A key without a value, and who reads it."""

    key: str
    in_cluster: bool
    """Whether the cluster still has a value, which pods go on with."""
    needed_by: list[str]
    optional_for: list[str]


@dataclass(frozen=True, kw_only=True)
class Status:
    """One ExternalSecret."""

    name: str
    secret: str
    ready: bool
    reason: str
    message: str
    refreshed: str | None
    read_by: list[str]
    missing: list[Missing]

    @property
    def is_well(self) -> bool:
        """Whether it is ready and nobody lacks a value that they cannot do without."""
        return self.ready and not any(missing.needed_by for missing in self.missing)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def statuses(kubectl: Kubectl) -> list[Status]:
    """How each of the three is."""
    names = [name for m in MANAGED.values() for name in (f"externalsecret/{m.external_secret}", f"secret/{m.secret}")]
    objects = kubectl.read(names, [*WORKLOADS, "cronjob", "event"])
    return [_status(managed, objects) for managed in MANAGED.values()]


def _status(managed: Managed, objects: Objects) -> Status:
    binding = objects.get(f"externalsecret/{managed.external_secret}")
    readers = list(_readers(managed.secret, objects))
    if binding is None:
        readiness = Readiness(ready=False, reason="NotFound", message="there is no such ExternalSecret", refreshed=None)
        told, not_brought = readiness.message, set[str]()
    else:
        readiness = Readiness.of(binding)
        failed = not readiness.ready and readiness.reason != STALE
        told = (_details(binding, objects) if failed else "") or readiness.message
        not_brought = set[str]() if readiness.ready else _not_brought(binding, told)
    held = values(objects.get(f"secret/{managed.secret}", {}))
    keys = sorted({key for _, key, _ in readers if key} | not_brought)
    return Status(
        name=managed.external_secret,
        secret=managed.secret,
        ready=readiness.ready,
        reason=readiness.reason,
        message=told,
        refreshed=readiness.refreshed,
        read_by=sorted({name for name, _, _ in readers}),
        missing=[
            Missing(
                key=key,
                in_cluster=bool(held.get(key)),
                needed_by=sorted({name for name, read, optional in readers if read in (key, "") and not optional}),
                optional_for=sorted({name for name, read, optional in readers if read in (key, "") and optional}),
            )
            for key in keys
            if key in not_brought or not held.get(key)
        ],
    )


def _readers(secret: str, objects: Objects) -> Iterator[tuple[str, str, bool]]:
    """Who reads a Secret: workload, key, and whether they can do without; an empty key means all of them."""
    for workload in objects.values():
        name, pod = workload["metadata"]["name"], _pod(workload)
        for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
            for variable in container.get("env") or []:
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
                if reference.get("name") == secret:
                    yield name, reference["key"], bool(reference.get("optional"))
            for source in container.get("envFrom") or []:
                reference = source.get("secretRef") or {}
                if reference.get("name") == secret:
                    yield name, "", bool(reference.get("optional"))
        for volume in pod.get("volumes") or []:
            reference = volume.get("secret") or {}
            if reference.get("secretName") == secret:
                yield name, "", bool(reference.get("optional"))


def _pod(workload: Manifest) -> Manifest:
    """The pod template's spec of what makes pods; empty for anything else."""
    match workload["kind"]:
        case "Deployment" | "StatefulSet":
            return workload["spec"]["template"]["spec"]
        case "CronJob":
            return workload["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        case _:
            return {}


def _details(binding: Manifest, objects: Objects) -> str:
    """The last failure in the words of its event: the status itself says only that there was one."""
    events = [
        event
        for event in objects.values()
        if event["kind"] == "Event"
        and event.get("reason") == FAILED
        and (event.get("involvedObject") or {}).get("uid") == binding["metadata"]["uid"]
    ]
    return max(events, key=lambda event: event.get("lastTimestamp") or "", default={}).get("message", "")


def _not_brought(binding: Manifest, told: str) -> set[str]:
    """Keys of the Secret that a failure is about: one that is missing at the source, or all of them."""
    entries: list[Manifest] = binding["spec"].get("data") or []
    match = ENTRY.search(told)
    if match and NO_SUCH_KEY.search(told) and int(match[1]) < len(entries):
        return {entries[int(match[1])]["secretKey"]}
    return {entry["secretKey"] for entry in entries}


def render(found: Sequence[Status]) -> str:
    """A few lines for each, for people."""
    return "\n".join(line for status in found for line in _lines(status))


def _lines(status: Status) -> Iterator[str]:
    word = click.style("ready    ", fg="green") if status.ready else click.style("not ready", fg="red", bold=True)
    yield f"{word}  {status.name} fills {status.secret}; last refreshed {status.refreshed or 'never'}"
    if not status.ready:
        yield f"{'':9}  {status.reason}: {' '.join(status.message.split())}"
    yield f"{'':9}  read by {', '.join(status.read_by) or 'nothing'}"
    for missing in status.missing:
        trouble = "does not arrive; pods go on with what the cluster has" if missing.in_cluster else "has no value"
        if missing.needed_by:
            trouble += f"; needed by {', '.join(missing.needed_by)}"
        if missing.optional_for:
            trouble += f"; optional for {', '.join(missing.optional_for)}"
        yield f"{'':9}  {missing.key} {trouble}"
