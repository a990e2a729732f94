"""Retire: blue's pods go, once green has had all traffic for long enough."""

from typing import Any, Final

from components.shared.mesh import FULL_WEIGHT, KEEP_BLUE, RETIRE_AFTER_ANNOTATION
from runbook import traffic
from runbook.errors import RunbookError
from runbook.lease import now
from runbook.rollback import STOPPED, WEIGHT
from runbook.target import Target

MINUTE: Final = 60
HOUR: Final = 3600
POLICY: Final = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{KEEP_BLUE}"


def retire(target: Target) -> dict[str, Any]:
    """Write into the config that blue stands still; the next deployment does it.

    How long green has to have had all traffic is what has been deployed: the API server holds that deployment to it.

    Raises:
        RunbookError: green has not had all traffic for that long.
    """
    what = f"retiring blue of {target.stack}"
    seen = traffic.read(target.kubectl)
    config = target.config.get(WEIGHT, 0)
    if (seen.weight, seen.annotation, config) != (FULL_WEIGHT, str(FULL_WEIGHT), FULL_WEIGHT):
        raise RunbookError(
            f"{what}: green has {seen.weight} % of the traffic, the annotation says {seen.annotation}, "
            f"{target.config.name} {config}; all have to be {FULL_WEIGHT} first: {target.command('shift --to 100')}"
        )
    if seen.changed_at is None:
        raise RunbookError(f"{what}: the API server does not say since when green has all traffic")
    held = (now() - seen.changed_at).total_seconds()
    policy = target.kubectl.get(POLICY)
    if policy is None:
        raise RunbookError(f"{what}: no policy {KEEP_BLUE} says how long blue stays; run {target.up}")
    hold = int(policy["metadata"]["annotations"][RETIRE_AFTER_ANNOTATION])
    if held < hold:
        raise RunbookError(
            f"{what}: green has had all traffic for {_span(held)}, and has to have it for {_span(hold)}, the "
            "blueGreen.retireAfter that was deployed; wait, or deploy a shorter one first"
        )
    target.config.set({STOPPED: traffic.BLUE})
    return {"stack": target.stack, "held_seconds": round(held), "config": target.config.name}


def _span(seconds: float) -> str:
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"
