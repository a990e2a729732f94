"""Options that the sandbox's commands share, and what they mean."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from sandbox import checkout
from sandbox.errors import BadInputError
from sandbox.state import State, default_state_folder, read_json, write_json


def state_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--state-dir`."""
    return click.option(
        "--state-dir",
        envvar="PYAIRTABLE_SANDBOX_STATE_DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for everything the sandbox keeps, instead of one per checkout in the user's cache.",
    )(command)


def stack_option(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--stack`."""
    help = "Name of the stack." if required else "Name of the stack; the one used last when absent."
    return click.option("--stack", required=required, metavar="NAME", help=help)


def open_state(state_dir: Path | None) -> State:
    """The state that a command works on: its own `--state-dir`, or the one given before the command."""
    chosen: Path | None = state_dir or click.get_current_context().obj
    if chosen == Path() or (chosen and checkout.ROOT in (chosen.resolve(), *chosen.resolve().parents)):
        raise BadInputError(f"choosing the state directory {chosen}: it lies in the checkout; choose another")
    state = State(chosen or default_state_folder(checkout.ROOT))
    state.prepare()
    return state


def remember(state: State, stack: str) -> None:
    """Note the stack that was used last."""
    write_json(state.folder / "last-stack.json", {"stack": stack})


def last_stack(state: State) -> str:
    """The stack that was used last, if the checkout still has it."""
    last = str(read_json(state.folder / "last-stack.json").get("stack", "dev"))
    return last if last in checkout.stacks() else "dev"


class Share(click.ParamType[Decimal]):
    """A share in per cent, such as 90%."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The share as a number: 0.9."""
        try:
            share = Decimal(str(value).removesuffix("%")) / 100
        except InvalidOperation:
            share = Decimal(0)
        if not 0 < share.normalize() < 1000:  # noqa: PLR2004 — more is a slip of the finger
            self.fail(f'"{value}" is no share in per cent, such as 90%', param, ctx)
        return share


class Duration(click.ParamType[float]):
    """A time in seconds, minutes or hours, such as 2m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time in seconds."""
        match = re.fullmatch(r"(\d{1,6})([smh])", str(value))
        if match is None:
            self.fail(f'"{value}" is no duration, such as 90s, 2m or 1h', param, ctx)
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
