"""Says on standard error what a long step is doing: one moving line on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Shows one step; a context manager, so that the terminal's line is always ended."""

    def __init__(self, title: str, remark: str = "") -> None:
        self._title = title
        self._remark = remark
        self._terminal = sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> Self:
        print(f"{self._title} ({self._remark})" if self._remark else self._title, file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say what is being done."""
        self._show(f"{self._title}: {text}", always=True)

    def step(self, done: int, total: int, unit: str) -> None:
        """Say how far it is; `total` is an upper bound."""
        self._show(f"{self._title}: {done} of at most {total} {unit}", always=False)

    def _show(self, text: str, *, always: bool) -> None:
        now = time.monotonic()
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif always or now - self._last >= SECONDS_BETWEEN_LINES:
            print(text, file=sys.stderr, flush=True)
            self._last = now
