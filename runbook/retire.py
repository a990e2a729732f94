"""Retire: blue's pods go, once green has had all traffic for long enough."""

from typing import Any, Final

from components.shared.mesh import FULL_WEIGHT, RETIRE_AFTER
from runbook import traffic
from runbook.errors import RunbookError
from runbook.lease import now
from runbook.options import Duration
from runbook.rollback import STOPPED, WEIGHT
from runbook.target import Target

HOLD: Final = "blueGreen.retireAfter"


def retire(target: Target) -> dict[str, Any]:
    """Write into the config that blue stands still; the next deployment does it.

    How long green has to have had all traffic is in the config, too, and holds for that deployment as well.

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
    hold = Duration().convert(target.config.get(HOLD, RETIRE_AFTER), None, None)
    if held < hold:
        raise RunbookError(
            f"{what}: green has had all traffic for {_hours(held)}, and {HOLD} asks for {_hours(hold)}; "
            "wait, or deploy a shorter one"
        )
    target.config.set({STOPPED: traffic.BLUE})
    return {"stack": target.stack, "held_seconds": round(held), "config": target.config.name}


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
