"""Processes that do not outlive the one that starts them, however that ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

END_SECONDS = 10
"""How long a child that is asked to end may take; `sandbox stop` waits a little longer for the parent."""
STEADY_SECONDS = 30
"""After which a child that ends is started again at once."""
LONGEST_PAUSE_SECONDS = 30

END_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))  # PR_SET_PDEATHSIG
os.execv(sys.argv[2], sys.argv[2:])
"""


def ending_with_this_process(number: int = signal.SIGKILL) -> tuple[str, ...]:
    """What to put before a command, named by its path, for the kernel to signal it when this process dies.

    Only Linux can; elsewhere the command outlives a process that is killed.
    """
    if sys.platform != "linux":
        return ()
    return (sys.executable, "-I", "-S", "-c", END_WITH_PARENT, str(int(number)))


class Child:
    """A child that is to go on: started, started again after pauses that grow, and ended.

    A child that is ended with SIGINT ends its own children; with any other signal they are signalled too.
    """

    def __init__(self, log: Path, ends_with: signal.Signals = signal.SIGTERM) -> None:
        self.log = log
        self.starts = 0
        self.message = ""
        """Why it does not run, where it should."""
        self._ends_with = ends_with
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self.pause = 0
        """Seconds that it waits, or has waited, for being started again."""
        self._failures = 0
        self._not_before = 0.0
        self._kill_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Its number while it runs."""
        return self._process.pid if self._process else None

    @property
    def is_due(self) -> bool:
        """Whether it may be started now."""
        return self._process is None and time.monotonic() >= self._not_before

    def start(self, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start it in a folder; what it says goes to its log."""
        dies_with = self._ends_with if self._ends_with == signal.SIGINT else signal.SIGKILL
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*ending_with_this_process(dies_with), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self._began, self._kill_at = time.monotonic(), None
        self.starts += 1

    def end(self) -> None:
        """Ask it to end, once; make it, where it was asked too long ago."""
        if self._process is None:
            return
        if self._kill_at is None:
            self._kill_at = time.monotonic() + END_SECONDS
            self._signal(self._process.pid, self._ends_with)
        elif time.monotonic() > self._kill_at:
            self._signal(self._process.pid, signal.SIGKILL)

    def look(self) -> bool:
        """See whether it has ended without having been asked to, and when it is due again."""
        if self._process is None or self._process.poll() is None:
            return False
        code, asked, now = self._process.returncode, self._kill_at is not None, time.monotonic()
        self._process, self._kill_at = None, None
        if asked:
            self._failures, self._not_before = 0, now
            return False
        self._failures = 0 if now - self._began > STEADY_SECONDS else self._failures + 1
        self.pause = min(2 ** (self._failures - 1), LONGEST_PAUSE_SECONDS) if self._failures else 0
        self._not_before = now + self.pause
        self.message = f"ended with {code}: {last_line(self.log)}; starting it again in {self.pause} s"
        return True

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.kill(pid, number)
            else:
                os.killpg(pid, number)


def last_line(file: Path) -> str:
    """The last line of a log, as far as it is short enough to be read."""
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 4096))
        lines = content.read().decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it has said nothing")
