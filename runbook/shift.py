"""Shift: traffic goes to green step by step, each is held and watched, and back by itself when green is not good."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from runbook import gateways, traffic
from runbook.checks import check
from runbook.errors import NOT_WELL, BadInputError, RunbookError, StoppedError
from runbook.kubectl import KubectlError
from runbook.lease import Lease, now
from runbook.progress import Progress
from runbook.rollback import WEIGHT, NoWayBackError, RolledBack, as_json, roll_back, write
from runbook.steps import Steps
from runbook.target import Target
from runbook.watch import CrossedError, Meter, Watch

LEASE: Final = "runbook-shift"
PAUSE_SECONDS: Final = {True: 1.0, False: 2.0}
"""Between two looks: in the sandbox, and on AWS, where they go through the API server."""


class NotJudgedError(RunbookError):
    """Too few requests came to tell whether green is good enough."""

    exit_code = NOT_WELL


class Shift:
    """One shift."""

    def __init__(
        self,
        target: Target,
        steps: Steps,
        *,
        to: Sequence[int],
        hold: float,
        min_requests: int,
    ) -> None:
        self._target, self._steps, self._to, self._hold = target, steps, to, hold
        self._min_requests = min_requests
        self._done: list[Watch] = []
        self._back: RolledBack | None = None
        self._before = self._weight = 0
        self.error: RunbookError | None = None
        """What it ended with after traffic had begun to move, if not well."""

    def run(self) -> None:
        """Shift as far as green is good enough; `error` says why not further.

        Raises:
            RunbookError: it was refused; nothing has been touched.
        """
        with Lease(self._target.kubectl, LEASE, f"beginning the shift of {self._target.stack}", now) as lease:
            seen = check(self._target, self._steps, lease, now)
            self._before = self._weight = seen.traffic.weight or 0
            steps = self._remaining()
            meter = Meter(seen.gateways)
            meter.read(gateways.statistics(self._target))  # what came during the checks is of no step
            try:
                for weight in steps:
                    self._step(weight, meter, lease)
            except CrossedError as error:
                self.error = self._went_back(error)
            except RunbookError as error:
                self.error = type(error)(f"shifting {self._target.stack}: {error}; {self._stays()}")
            except KeyboardInterrupt:
                self.error = StoppedError(f"interrupted; {self._stays()}")

    def as_json(self) -> dict[str, Any]:
        """What it did, for `--json`."""
        return {
            "stack": self._target.stack,
            "from": self._before,
            "weight": self._weight,
            "seconds": self._steps.seconds,
            "result": self._done[-1].figures.result if self._done else "nothing to do",
            "told": str(self.error or ""),
            "steps": [watch.figures.as_json() for watch in self._done],
            "rollback": as_json(self._back) if self._back else None,
        }

    def render(self) -> str:
        """What it did, in a line for people."""
        if not self._done:
            return f"{self._target.stack} is at {self._weight} % green already"
        return (
            f"shifted {self._target.stack} from {self._before} to {self._weight} % green in "
            f"{self._steps.seconds:.1f} s; that is noted in {self._target.config.name}"
            + ("" if self._target.in_sandbox else ": commit it")
        )

    def _remaining(self) -> list[int]:
        """The steps that are left. Where a shift has died nobody knows how its last step went: it is held again."""
        if self._to[-1] < self._weight:
            raise BadInputError(
                f"shifting {self._target.stack}: it is at {self._weight} % green, and a shift goes up only; go back "
                f"with {self._target.command('rollback')}"
            )
        return [weight for weight in self._to if weight >= self._weight] if self._to[-1] > self._weight else []

    def _step(self, weight: int, meter: Meter, lease: Lease) -> None:
        lease.keep()
        if weight != self._weight:
            traffic.set_weight(self._target.kubectl, weight, expected=self._weight)
            self._weight = weight
            write(self._target, weight)
        watch, progress = Watch(self._target, meter, weight), Progress(self._hold)
        self._done.append(watch)
        try:
            self._watch(watch, progress, lease)
        finally:
            progress.end(watch.figures)

    def _watch(self, watch: Watch, progress: Progress, lease: Lease) -> None:
        began, pause, note = time.monotonic(), PAUSE_SECONDS[self._target.in_sandbox], ""
        while (left := self._hold - (time.monotonic() - began)) > 0 or note:
            time.sleep(min(pause, left) if left > 0 else pause)
            note = watch.look(time.monotonic() - began)
            progress.show(watch.figures, note)
            if not note:
                with suppress(KubectlError):  # a look says more of what is away
                    lease.keep()
        if not watch.judge_all(self._min_requests):
            watch.figures.result = "not judged"
            raise NotJudgedError(
                f"green got {watch.figures.counts[traffic.GREEN].requests:.0f} requests at {watch.figures.weight} %, "
                f"and fewer than {self._min_requests} say nothing; hold it for longer, or say --min-requests"
            )
        watch.figures.result = "held"

    def _went_back(self, error: CrossedError) -> RunbookError:
        figures = self._done[-1].figures
        told = f"shifting {self._target.stack}: at {figures.weight} % {error}"
        try:
            self._back = roll_back(self._target, self._steps, waits=False)
        except NoWayBackError as refused:
            return RunbookError(f"{told}; not going back: {refused}; {self._stays()}")
        except RunbookError as failed:
            return type(failed)(f"{told}; going back has failed: {failed}; {self._stays(goes_back=True)}")
        except KeyboardInterrupt:  # after the patch
            return StoppedError(f"{told}; interrupted while going back; {self._stays(goes_back=True)}")
        figures.result, self._weight = "went back", 0
        left = f"; {'; '.join(self._back.trouble)}" if self._back.trouble else ""
        return RunbookError(f"{told}; all traffic is on blue again{left}")

    def _stays(self, *, goes_back: bool = False) -> str:
        """Where the traffic is, with the config brought in line as far as that can be done.

        On the way back the config may be ahead of the mesh, and stays there.
        """
        command = self._target.command
        with suppress(RunbookError):
            found = traffic.read(self._target.kubectl)
            if found.weight is not None and found.is_noted:
                self._weight = found.weight
                if self._target.config.get(WEIGHT, 0) != found.weight and not (goes_back and found.weight):
                    write(self._target, found.weight)
        return (
            f"the traffic goes on at {self._weight} % green; go on with {command('shift')} --to ..., or back with "
            f"{command('rollback')}"
        )
