"""Retreat: from phase 4 to phase 3 in steps: traffic to blue and past the mesh, then no gateways, then no mesh.

Taking the mesh away at once would leave pods that insist on mTLS beside pods that have no sidecar any more, and clients
that keep their connections with gateways that have no routes any more.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import click

from components.shared.mesh import GATEWAY, SYSTEM_NAMESPACE
from infra.phases import Phase
from runbook import gateways
from runbook.errors import BadInputError, RunbookError, leaving
from runbook.kubectl import KubectlError
from runbook.lease import Lease, now
from runbook.migrations import contracted
from runbook.rollback import STOPPED, WEIGHT
from runbook.shift import LEASE
from runbook.stack_config import ROOT
from runbook.steps import Steps
from runbook.target import Target, pulumi_name
from runbook.traffic import BLUE, PATH
from runbook.wait import wait

MTLS: Final = "blueGreen.mtls"
PHASE: Final = "phase"
NEXT_TIME: Final = {MTLS: "strict", STOPPED: "none"}
"""Without a mesh these mean nothing; on the way up to phase 4 green starts, and mTLS is strict once every pod can."""
MESH_NAMESPACE: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"
GATEWAYS: Final = f"deployment/{GATEWAY}"
DRAINED_SECONDS: Final = 120.0
"""Longer than a gateway takes to end: it asks its clients to go for 30 s, and stops within 45."""
KEEP_SECONDS: Final = 5.0
"""Between two looks at the lease while a deployment runs."""
STANDARD_ERROR: Final = 2
"""A deployment's own words are no result of this command."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One change of the config, and the deployment that brings it."""

    name: str
    title: str
    config: Mapping[str, object]
    after: str
    """How things are where its deployment fails."""


BLUE_BACK: Final = Stage(
    name="blue-back",
    title="blue's pods come back",
    config={STOPPED: "none", PHASE: Phase.BLUE_GREEN.value},
    after="green goes on with all traffic",
)
TRAFFIC: Final = Stage(
    name="traffic",
    title="all traffic to blue and past the mesh, green stopped",
    # Without green there is room for blue's new pods, which come without sidecars in the next stage.
    config={WEIGHT: 0, MTLS: "permissive", STOPPED: "green", PHASE: Phase.BLUE_GREEN.value},
    after="the mesh is there, blue runs",
)
MESH: Final = Stage(
    name="mesh",
    title="green and the mesh go",
    config={PHASE: Phase.SECRETS.value},
    after="blue has all traffic",
)


class Retreat:
    """One retreat. Run again after a failure it goes on where that was."""

    def __init__(self, target: Target, steps: Steps, *, yes: bool, force: bool) -> None:
        self._target, self._steps, self._yes, self._force = target, steps, yes, force

    def run(self) -> dict[str, Any]:
        """Go through the stages that are left; what was done.

        Raises:
            RunbookError: it was refused, or a deployment has failed; says how things are.
        """
        stages = self._stages()
        if stages:
            what = f"beginning the retreat of {self._target.stack}"
            with Lease(self._target.kubectl, LEASE, what, now) as lease:
                self._refuse_if_blue_cannot_serve()
                for stage in stages:
                    self._go_through(stage, lease)
        if stages or self._is_left_permissive():
            with self._steps.step("config", self._told(NEXT_TIME)):
                self._target.config.set(NEXT_TIME)
        return {"stack": self._target.stack, "seconds": self._steps.seconds, "steps": self._steps.done}

    def _go_through(self, stage: Stage, lease: Lease) -> None:
        with leaving(f"{stage.after}; run {self._target.command('retreat')} again"):
            lease.keep()
            if stage is MESH:
                with self._steps.step("gateways", "the gateways ask their clients to go, and end"):
                    self._drain(lease)
            with self._steps.step(f"{stage.name}-config", self._told(stage.config)):
                self._target.config.set(self._changes(stage.config))
            with self._steps.step(stage.name, stage.title):
                self._up(stage, lease)

    def _drain(self, lease: Lease) -> None:
        """End the gateways while their routes are there: clients that keep connections would get 404 without."""
        kubectl = self._target.kubectl

        def look() -> str:
            left = len(gateways.pods(kubectl))
            return f"{left} of the gateways' pods are still there" if left else ""

        path = kubectl.path(GATEWAYS)
        if kubectl.get(path):
            kubectl.patch(path, {"spec": {"replicas": 0}})
        wait(look, seconds=DRAINED_SECONDS, pause=1, lease=lease, steps=self._steps)

    def _stages(self) -> list[Stage]:
        """What is left. The phase of the config says little: it may be edited, or be the sandbox's of one run.

        Nor does that of the outputs say more than that the last stage was begun.
        """
        config, outputs = self._target.config, self._target.outputs
        if int(outputs["phase"]) <= Phase.SECRETS:
            return [MESH] if self._is_mesh_left() else []
        now = {key: config.get(key, "") for key in (PHASE, *TRAFFIC.config)}
        if outputs.get("green_weight") == 0 and now == {**TRAFFIC.config, **MESH.config}:
            return [MESH]
        return [*([BLUE_BACK] if config.get(STOPPED, "none") == BLUE else []), TRAFFIC, MESH]

    def _is_mesh_left(self) -> bool:
        """Whether the cluster has something of the mesh still, as after a deployment that failed half-way."""
        return any(self._target.kubectl.get(path) for path in (MESH_NAMESPACE, PATH))

    def _is_left_permissive(self) -> bool:
        """Whether the config is as the first stage left it, since only the end of the retreat puts it back."""
        return all(self._target.config.get(key, None) == TRAFFIC.config[key] for key in NEXT_TIME)

    def _refuse_if_blue_cannot_serve(self) -> None:
        applied = contracted(self._target.kubectl.read([], ["job"]))
        if applied and not self._force:
            raise RunbookError(
                f"retreating with {self._target.stack}: the contract migrations {', '.join(applied)} have been "
                "applied, and blue does not know that schema; restore the dump from before them, take them out of "
                "blueGreen.migrations, then say --force"
            )

    def _changes(self, wanted: Mapping[str, object]) -> Mapping[str, object]:
        """What the config does not say already."""
        return {key: value for key, value in wanted.items() if self._target.config.get(key, None) != value}

    def _told(self, config: Mapping[str, object]) -> str:
        return f"{', '.join(f'{key} {value}' for key, value in config.items())} in {self._target.config.name}"

    def _up(self, stage: Stage, lease: Lease) -> None:
        command = self._command()
        click.echo(f"{'':18}{shlex.join(command)}", err=True)
        code, interrupted, lost = None, False, None
        with subprocess.Popen(command, cwd=ROOT, stdout=STANDARD_ERROR) as process:
            while code is None:
                try:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(KEEP_SECONDS)
                    lost = lost or _lost(lease)
                except KeyboardInterrupt:  # which it has got, too, and ends as it should
                    interrupted = True
        if interrupted:
            raise KeyboardInterrupt
        if code:
            raise RunbookError(f"{stage.title}: the deployment has ended with exit code {code}")
        if lost:
            raise lost

    def _command(self) -> list[str]:
        stack = self._target.stack
        if self._target.state_folder:
            folder = str(self._target.state_folder)
            return [sys.executable, "-m", "sandbox", "up", "--stack", stack, "--state-dir", folder]
        pulumi = shutil.which("pulumi")
        if pulumi is None:
            raise BadInputError("looking for pulumi: it is not on PATH; install it")
        return [pulumi, "up", "--stack", pulumi_name(stack), *(["--yes"] if self._yes else [])]


def _lost(lease: Lease) -> RunbookError | None:
    """Why the lease is held no longer: a deployment that is under way is not ended by that, the next one not begun."""
    try:
        lease.keep()
    except KubectlError:  # which may be the deployment's doing, and pass
        return None
    except RunbookError as error:
        return error
    return None
