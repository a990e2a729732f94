"""What must be so before traffic moves towards green; each check has a name, and says on one line what is missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from components.shared.apps import BACKUP
from components.shared.mesh import RUNBOOK
from runbook import gateways, traffic
from runbook.errors import RunbookError
from runbook.kubectl import Manifest, Objects
from runbook.lease import Lease
from runbook.migrations import condition, migrations
from runbook.rollback import WEIGHT, write
from runbook.statistics import Statistics
from runbook.steps import Steps
from runbook.target import Target
from runbook.wait import wait

DUMP: Final = f"{BACKUP}-before-shift"
FRESH: Final = timedelta(hours=1)
"""A dump that is no older need not be taken again."""
DUMP_SECONDS: Final = 3600.0
"""The Job's own deadline."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How things stand before anything is touched."""

    traffic: traffic.Traffic
    objects: Objects
    gateways: Mapping[str, Statistics | None]


def check(target: Target, steps: Steps, lease: Lease, now: Callable[[], datetime]) -> Seen:
    """Look at everything that a shift depends on; before the first one, PostgreSQL is dumped.

    Raises:
        RunbookError: something is not as it has to be; names each. Nothing has been touched.
    """
    with steps.step("mesh", "the mesh splits the traffic as the program has it"):
        seen = Seen(
            traffic=traffic.read(target.kubectl),
            objects=target.kubectl.read([], ["deployment", "job", "cronjob"]),
            gateways=gateways.statistics(target),
        )
        if seen.traffic.weight is None:
            raise RunbookError(
                f"looking at the VirtualService {traffic.SERVICE}: it is not as the program makes it; {target.up}"
            )
    # Under traffic an autoscaler may be about to add a pod, which is no reason to stop.
    green = is_available if seen.traffic.weight else _is_complete
    checks: list[tuple[str, str, Callable[[], str]]] = [
        ("in-step", "annotation, config and mesh are in step", lambda: _in_step(target, seen)),
        (traffic.BLUE, "blue is there to go back to", lambda: _available(seen.objects, traffic.BLUE, is_available)),
        (traffic.GREEN, "every green Deployment is available", lambda: _available(seen.objects, traffic.GREEN, green)),
        ("migrations", "the expanding migrations are complete", lambda: _migrated(seen.objects)),
        ("gateways", "the gateways hear of istiod", lambda: _connected(seen.gateways)),
    ]
    failures = [f"{name}: {told}" for name, title, look in checks if (told := _checked(steps, name, title, look))]
    if failures:
        raise RunbookError(f"checking {target.stack} before the shift: {'; '.join(failures)}; nothing has been touched")
    if seen.traffic.weight == 0:
        with steps.step("dump", "there is a dump of PostgreSQL of within the hour"):
            _dump(target, seen.objects, steps, lease, now)
    return seen


def is_available(deployment: Manifest) -> bool:
    """Whether a Deployment has at least one pod that serves."""
    return bool((deployment.get("status") or {}).get("availableReplicas"))


def of_colour(objects: Objects, colour: str) -> dict[str, Manifest]:
    """The Deployments of one colour, by name."""
    return {
        found["metadata"]["name"]: found
        for found in objects.values()
        if found["kind"] == "Deployment"
        and (found["spec"]["template"]["metadata"].get("labels") or {}).get("version") == colour
    }


def _checked(steps: Steps, name: str, title: str, look: Callable[[], str]) -> str:
    try:
        with steps.step(name, title):
            if told := look():
                raise RunbookError(told)
    except RunbookError as error:
        click.echo(f"{'':18}{error}", err=True)
        return str(error)
    return ""


def _in_step(target: Target, seen: Seen) -> str:
    """A shift that died may have left this checkout's config behind; what somebody else has changed is theirs."""
    deployed, config = target.outputs.get("green_weight"), target.config.get(WEIGHT, 0)
    now = seen.traffic
    if now.is_in_step(deployed=deployed, config=config):
        return ""
    if now.is_noted and now.changed_by == RUNBOOK:
        write(target, now.weight or 0)
        return ""
    return (
        f"the mesh has {now.weight}, the annotation {now.annotation}, {target.config.name} {config}, deployed was "
        f"{deployed}; see {target.command('traffic')}, and make it one with {target.command('rollback')}"
    )


def _available(objects: Objects, colour: str, is_well: Callable[[Manifest], bool]) -> str:
    found = of_colour(objects, colour)
    if not found:
        return f"there is no Deployment with version {colour}; deploy with blueGreen.enabled"
    late = sorted(name for name, deployment in found.items() if not is_well(deployment))
    return f"not available: {', '.join(late)}; see kubectl -n pyairtable get pods -l version={colour}" if late else ""


def _is_complete(deployment: Manifest) -> bool:
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0) and min(
        status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    ) >= max(wanted, 1)


def _migrated(objects: Objects) -> str:
    late = sorted(name for name, job in migrations(objects, "expand").items() if not condition(job, "Complete"))
    return f"not complete: {', '.join(late)}; see kubectl -n pyairtable logs job/{late[0]}" if late else ""


def _connected(found: Mapping[str, Statistics | None]) -> str:
    if not found:
        return f"there is no gateway; see kubectl -n pyairtable get pods -l {gateways.LABELS}"
    if silent := sorted(name for name, counted in found.items() if counted is None):
        return f"{', '.join(silent)} does not show its statistics"
    if lost := gateways.unconnected(found):
        return f"{', '.join(lost)} hears nothing of istiod; see kubectl -n istio-system get pods"
    return ""


def _dump(target: Target, objects: Objects, steps: Steps, lease: Lease, now: Callable[[], datetime]) -> None:
    source = objects.get(f"cronjob/{BACKUP}")
    if source is None:
        raise RunbookError(f"dumping PostgreSQL: there is no CronJob {BACKUP}; {target.up}")
    taken = [(source.get("status") or {}).get("lastSuccessfulTime")]
    taken += [
        (job.get("status") or {}).get("completionTime")
        for name, job in objects.items()
        if name.startswith(f"job/{DUMP}") and condition(job, "Complete")
    ]
    if any(now() - datetime.fromisoformat(time) < FRESH for time in taken if time):
        return
    name = f"job/{target.kubectl.create(_job(source, now()))['metadata']['name']}"

    def look() -> str:
        job = target.kubectl.read([name]).get(name, {})
        if condition(job, "Failed"):
            raise RunbookError(f"dumping PostgreSQL: {name} has failed; see kubectl -n pyairtable logs {name}")
        return "" if condition(job, "Complete") else f"{name} is not complete yet"

    wait(look, seconds=DUMP_SECONDS, pause=1, lease=lease, steps=steps)


def _job(source: Manifest, now: datetime) -> Manifest:
    """A Job like those that the CronJob makes; its history keeps it, and takes it away again."""
    template, owner = source["spec"]["jobTemplate"], source["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **(template.get("metadata") or {}),
            "name": f"{DUMP}-{now.astimezone(UTC):%Y%m%d%H%M%S}",
            "namespace": owner["namespace"],
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": owner["name"],
                    "uid": owner["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }
