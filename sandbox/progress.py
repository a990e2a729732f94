"""Says on standard error what a long step is doing: one moving line on a terminal, a line now and then elsewhere.

Steps that go on at the same time do not share the moving line: all but the first write lines.
"""

import sys
import threading
import time
from types import TracebackType
from typing import Self

SECONDS_BETWEEN_LINES = 10

_moving_line = threading.Lock()


def say(text: str) -> None:
    """Write a line, over the moving one if there is one; that goes on below."""
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


class Progress:
    """Shows one step; a context manager, so that the terminal's line is always ended."""

    def __init__(self, title: str, remark: str = "") -> None:
        self._title = title
        self._remark = remark
        self._moves = False
        self._last = 0.0

    def __enter__(self) -> Self:
        say(f"{self._title} ({self._remark})" if self._remark else self._title)
        self._moves = sys.stderr.isatty() and _moving_line.acquire(blocking=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._moves:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            _moving_line.release()

    def note(self, text: str) -> None:
        """Say what is being done."""
        self._show(f"{self._title}: {text}", always=True)

    def figures(self, text: str) -> None:
        """Say how things are, as often as one likes."""
        self._show(f"{self._title}: {text}", always=False)

    def step(self, done: int, total: int, unit: str) -> None:
        """Say how far it is; `total` is an upper bound."""
        self.figures(f"{done} of at most {total} {unit}")

    def _show(self, text: str, *, always: bool) -> None:
        now = time.monotonic()
        if self._moves:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif always or now - self._last >= SECONDS_BETWEEN_LINES:
            say(text)
            self._last = now
