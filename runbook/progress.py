"""Shows a step of a shift while it is held: in place on a terminal, elsewhere a line now and then."""

import sys
from typing import Final

import click

from runbook.statistics import Count
from runbook.watch import Figures

WIDTH: Final = 20
SECONDS_PER_LINE: Final = 10.0
CUT, WRAP = "\033[?7l", "\033[?7h"
"""What is too long for the terminal is cut, and not: of a line that has been wrapped, only the end would be redrawn."""


class Progress:
    """The line of one step."""

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._shown = -SECONDS_PER_LINE

    def show(self, figures: Figures, note: str = "") -> None:
        """How it is now; a note says what is in the way of knowing."""
        text = self._line(figures) + (f"  {note}" if note else "")
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{CUT}{text}{WRAP}", nl=False, err=True)
        elif figures.seconds - self._shown >= SECONDS_PER_LINE:
            self._shown = figures.seconds
            click.echo(text, err=True)

    def end(self, figures: Figures) -> None:
        """How it was at the end of the step."""
        begin = "\r\033[K" if sys.stderr.isatty() else ""
        click.echo(f"{begin}{self._line(figures)}  {figures.result}", err=True)

    def _line(self, figures: Figures) -> str:
        filled = round(WIDTH * figures.weight / 100)
        bar = click.style("█" * filled, fg="green") + click.style("░" * (WIDTH - filled), fg="blue")
        colours = "  ".join(_told(colour, count) for colour, count in figures.counts.items())
        return f"{figures.weight:3d} % {bar} {figures.seconds:.0f} of {self._hold:.0f} s  {colours}"


def _told(colour: str, count: Count) -> str:
    p95 = count.percentile(0.95)
    time = "" if p95 is None else f", p95 {p95:.0f} ms"
    return f"{click.style(colour, fg=colour)} {count.requests:.0f} requests, {count.error_rate:.2%} failed{time}"
