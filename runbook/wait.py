"""Waiting for the cluster: each look tells what is still missing."""

import time
from collections.abc import Callable

from runbook.errors import RunbookError
from runbook.kubectl import KubectlError
from runbook.lease import Lease
from runbook.steps import Steps

SECONDS_OF_SILENCE = 2
"""What takes no longer is not worth a line."""


def wait(look: Callable[[], str], *, seconds: float, pause: float, lease: Lease, steps: Steps) -> None:
    """Look until a look tells nothing any more; an API server that is away for a while only takes time.

    Raises:
        RunbookError: the time is over; says what the last look told.
    """
    began = time.monotonic()
    while True:
        try:
            missing = look()
            if missing:
                lease.keep()
        except KubectlError as error:
            missing = str(error)
        if not missing:
            return
        waited = time.monotonic() - began
        if waited > seconds:
            raise RunbookError(f"{missing}; waited {seconds:.0f} s")
        if waited > SECONDS_OF_SILENCE:
            steps.note(missing)
        time.sleep(pause)
