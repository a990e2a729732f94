"""Whether mesh, annotation, config and the last deployment say the same of the traffic: asked before a deployment."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.phases import Phase
from runbook import traffic
from runbook.rollback import WEIGHT
from runbook.target import NotDeployedError, Target, opened


@dataclass(frozen=True, kw_only=True)
class Status:
    """What each of them says; None where it says nothing."""

    stack: str
    mesh: int | None = None
    annotation: str | None = None
    config: Any = None
    config_name: str = ""
    deployed: Any = None
    changed_by: str = ""
    changed_at: str = ""
    in_step: bool = True
    told: str = ""
    """What to do, or why there is nothing to compare."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "stack": self.stack,
            "mesh": self.mesh,
            "annotation": self.annotation,
            "config": self.config,
            "deployed": self.deployed,
            "changed_by": self.changed_by,
            "changed_at": self.changed_at or None,
            "in_step": self.in_step,
            "told": self.told,
        }

    def render(self) -> str:
        """A few lines, for people."""
        if not self.config_name:
            return self.told
        since = f", by {self.changed_by or 'somebody'} at {self.changed_at}" if self.changed_at else ""
        lines = {
            "mesh": f"{_per_cent(self.mesh)}{since}",
            "annotation": _per_cent(self.annotation),
            self.config_name: _per_cent(self.config),
            "last deployed": _per_cent(self.deployed),
        }
        width = max(map(len, lines))
        return "\n".join(
            [f"green's share of {self.stack}", *(f"{k:<{width}}  {v}" for k, v in lines.items()), self.told]
        )


def status(stack: str, *, sandbox: bool, state_dir: Path | None) -> Status:
    """How it is; in step where nothing is deployed that could be out of step."""
    with ExitStack() as held:
        try:
            target = held.enter_context(
                opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.BLUE_GREEN),
            )
        except NotDeployedError as error:
            return Status(stack=stack, told=f"nothing to compare: {error}")
        return of(target)


def of(target: Target) -> Status:
    """How a stack is that is deployed with both colours."""
    try:
        now = traffic.read(target.kubectl)
    except traffic.NoTrafficError as error:
        return Status(stack=target.stack, told=f"nothing to compare: {error}")
    config, deployed = target.config.get(WEIGHT, 0), target.outputs.get("green_weight")
    in_step = now.is_in_step(deployed=deployed, config=config)
    if in_step:
        told = "in step" if config == now.weight else f"in step; the next deployment moves it to {config} %"
    else:
        told = (
            f"out of step: a deployment would undo what has been done to the mesh; keep it with greenWeight: "
            f"{now.weight} below blueGreen in {target.config.name}, move all to blue with "
            f"{target.command('rollback')}, or, if {config} % is meant, go there with "
            f"{target.command(f'shift --to {config}')}"
        )
    return Status(
        stack=target.stack,
        mesh=now.weight,
        annotation=now.annotation,
        config=config,
        config_name=target.config.name,
        deployed=deployed,
        changed_by=now.changed_by,
        changed_at=now.changed_at.isoformat() if now.changed_at else "",
        in_step=in_step,
        told=told,
    )


def _per_cent(value: object) -> str:
    return "unknown" if value is None else f"{value} %"
