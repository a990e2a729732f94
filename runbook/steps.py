"""Shows on standard error what a command does, step by step, and how long each takes."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import click


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that has been done."""

    step: str
    seconds: float
    at: float
    """Seconds since the command began."""


class Steps:
    """The steps of one command. On a terminal the step under way is shown, too."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._noted = ""
        self._done: list[Step] = []

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return round(time.monotonic() - self._began, 3)

    @property
    def done(self) -> list[dict[str, object]]:
        """The steps so far, for JSON."""
        return [asdict(step) for step in self._done]

    @contextmanager
    def step(self, name: str, title: str) -> Generator[None]:
        """One step, shown as done or failed at its end."""
        began = time.monotonic()
        self._noted = ""
        self._move(f"…  {title}")
        try:
            yield
        except BaseException:
            self._say("failed", "red", began, title)
            raise
        seconds = self._say("done", "green", began, title)
        self._done.append(Step(step=name, seconds=seconds, at=self.seconds))

    def note(self, text: str) -> None:
        """Say how far the step under way is; what has been said is not said again."""
        if text == self._noted:
            return
        self._noted = text
        if sys.stderr.isatty():
            self._move(f"…  {text}")
        else:
            click.echo(f"                  {text}", err=True)

    def _say(self, word: str, colour: str, began: float, title: str) -> float:
        seconds = round(time.monotonic() - began, 3)
        self._move("")
        click.echo(f"{click.style(f'{word:<6}', fg=colour)} {seconds:6.2f} s   {title}", err=True)
        return seconds

    def _move(self, text: str) -> None:
        """Write the line that the next one replaces; only a terminal has such."""
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{text}", nl=False, err=True)
