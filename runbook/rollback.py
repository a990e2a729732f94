"""Rollback: all traffic goes to blue, now. The patch comes first, everything else later.

It needs no Pulumi run, no healthy green and no lease: it has to work in the middle of a shift, which notices and stops.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from components.shared.mesh import FULL_WEIGHT
from runbook import gateways, traffic
from runbook.errors import RunbookError, StoppedError
from runbook.kubectl import Kubectl, KubectlError, Objects
from runbook.migrations import contracted
from runbook.steps import Steps
from runbook.target import Place

SPLIT: Final = f"virtualservice/{traffic.SERVICE}"
BLUE: Final = f"deployment/{traffic.SERVICE}"
JOB: Final = "job"
WEIGHT: Final = "blueGreen.greenWeight"
STOPPED: Final = "blueGreen.stopped"
SECONDS: Final = 30.0
"""For so long the patch is tried where the API server does not answer as it should."""
PAUSE_SECONDS: Final = 0.5
NOTE_SECONDS: Final = 5
"""Between two lines about a patch that is still refused."""
WEBHOOK: Final = "failed calling webhook"
"""Istio's own checks each VirtualService, and istiod answers it: without istiod the API server takes none."""
REFUSALS: Final = ("BadRequest", "Forbidden", "Invalid", "NotFound", "Unauthorized")
"""What the API server says no second time otherwise."""


class NoWayBackError(RunbookError):
    """Blue could not serve what it would get."""


@dataclass(kw_only=True)
class RolledBack:
    """What a rollback has done."""

    before: int | None
    """Green's weight before it."""
    patched_at: float
    """Seconds since the command began until the cluster had taken the patch."""
    gateways: list[str] = field(default_factory=list[str])
    unconfirmed: list[str] = field(default_factory=list[str])
    """Gateways that do not hear of istiod, and go on as they were."""
    config: str = ""
    trouble: list[str] = field(default_factory=list[str])
    """What is not as it should be although the mesh is."""


def roll_back(place: Place, steps: Steps, *, force: bool = False, waits: bool = True) -> RolledBack:
    """Send all traffic to blue, then bring the config in line, and look whether the gateways have heard.

    A patch that fails is tried again, and the config is brought in line meanwhile: without istiod until it is back,
    if this `waits`; else for half a minute.

    Raises:
        RunbookError: the traffic could not be moved; says what has been changed, if anything.
    """
    with steps.step("patch", "all traffic to blue"):
        before = _moved(place, steps, force=force, waits=waits)
    done = RolledBack(before=before.weight, patched_at=steps.seconds)
    _confirm(place, done)
    try:
        with steps.step("config", f"greenWeight 0 in {place.config.name}"):
            write(place, 0)
        done.config = place.config.name
    except RunbookError as error:
        done.trouble.append(
            f"the mesh and its annotation are at 0, {place.config.name} is not: {error}; set "
            f"blueGreen.greenWeight to 0 there before the next deployment"
        )
    return done


def write(place: Place, weight: int) -> None:
    """Write green's weight into the config, so that the next deployment keeps it; what gets traffic is not stopped."""
    config = place.config
    stopped = {traffic.BLUE: weight < FULL_WEIGHT, traffic.GREEN: weight > 0}.get(config.get(STOPPED, "none"), False)
    config.set({WEIGHT: weight, **({STOPPED: "none"} if stopped else {})})


def failure(done: RolledBack) -> RunbookError | None:
    """The error that a rollback ends with, where something is left to do."""
    return RunbookError(f"rolling back: {'; '.join(done.trouble)}") if done.trouble else None


def as_json(done: RolledBack) -> dict[str, Any]:
    """For `--json`."""
    return {
        "before": done.before,
        "weight": 0,
        "patched_at": done.patched_at,
        "gateways": done.gateways,
        "unconfirmed": done.unconfirmed,
        "config": done.config,
        "trouble": done.trouble,
    }


def _moved(place: Place, steps: Steps, *, force: bool, waits: bool) -> traffic.Traffic:
    """How the traffic was split before it was moved, which is tried until the cluster takes it."""
    began = since = time.monotonic()
    noted = False
    try:
        while True:
            try:
                if not force:
                    _refuse_if_blue_cannot_serve(place)
                return traffic.set_weight(place.kubectl, 0)
            except KubectlError as error:
                if error.reason in REFUSALS:
                    raise
                now = time.monotonic()
                if waits and WEBHOOK in str(error):
                    since = now
                if now - since >= SECONDS:
                    told = f"{error}; tried for {now - began:.0f} s; {_as_before(place, noted=noted)}"
                    raise RunbookError(told) from None
                noted = noted or _is_noted(place)
                waited = (now - began) // NOTE_SECONDS * NOTE_SECONDS
                steps.note(f"tried for {waited:.0f} s, the gateways go on as before until it is taken: {error}")
                time.sleep(PAUSE_SECONDS)
    except KeyboardInterrupt:
        raise StoppedError(f"interrupted while rolling back; {_as_before(place, noted=noted)}") from None


def _is_noted(place: Place) -> bool:
    """Whether the config could be told what is wanted before the mesh is; after it, that is tried again and told."""
    with suppress(RunbookError):
        write(place, 0)
        return True
    return False


def _as_before(place: Place, *, noted: bool) -> str:
    """How things are where the cluster has not said that it has taken the patch."""
    config = f"greenWeight is {'0' if noted else 'as it was'} in {place.config.name}{' already' if noted else ''}"
    return f"{config}, the mesh has taken nothing, and the gateways go on as before; {place.command('rollback')} again"


def _refuse_if_blue_cannot_serve(place: Place) -> None:
    """Blue may have been stopped after green had everything, or its schema be gone: then this would be an outage."""
    objects = _seen(place.kubectl)
    split, blue, applied = objects.get(SPLIT), objects.get(BLUE), contracted(objects)
    if split is None or traffic.of(split).weight == 0:
        return
    if applied:
        raise NoWayBackError(
            f"rolling back {place.stack}: the contract migrations {', '.join(applied)} have been applied, and blue "
            "does not know that schema; mend green, or restore the dump from before them; --force does it all the same"
        )
    if blue is not None and not (blue.get("status") or {}).get("availableReplicas"):
        raise NoWayBackError(
            f"rolling back {place.stack}: blue has no pod that could serve; set blueGreen.stopped to none, run "
            f"{place.up}, and roll back then; --force does it now all the same"
        )


def _seen(kubectl: Kubectl) -> Objects:
    """What blue depends on, in one go; whoever may patch and not read some of it rolls back all the same."""
    try:
        return kubectl.read([SPLIT, BLUE], [JOB])
    except KubectlError as error:
        if not error.reason:  # there was no answer
            raise
    objects: Objects = {}
    for names, kinds in (([SPLIT], []), ([BLUE], []), ([], [JOB])):
        with suppress(KubectlError):
            objects |= kubectl.read(names, kinds)
    return objects


def _confirm(place: Place, done: RolledBack) -> None:
    try:
        found = gateways.statistics(place)
    except RunbookError as error:
        done.trouble.append(f"the mesh is told, whether the gateways have heard cannot be seen: {error}")
        return
    done.gateways = sorted(found)
    done.unconfirmed = gateways.unconnected(found)
    if done.unconfirmed:
        done.trouble.append(
            f"the mesh is told, but {' and '.join(done.unconfirmed)} has not confirmed: it hears nothing of istiod, "
            "and sends requests as before until istiod is back; see kubectl -n istio-system get pods"
        )
