"""Options that the runbook's commands share, and what they mean."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runbook.errors import BadInputError


class Duration(click.ParamType[float]):
    """A time in seconds, minutes or hours, such as 30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time in seconds."""
        match = re.fullmatch(r"(\d{1,6})([smh])", str(value))
        if match is None:
            self.fail(f'"{value}" is no duration, such as 90s, 2m or 1h', param, ctx)
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--stack`, `--sandbox` and `--state-dir`: which deployed stack a command works on."""
    for option in (
        click.option(
            "--state-dir",
            envvar="PYAIRTABLE_SANDBOX_STATE_DIR",
            type=click.Path(file_okay=False, path_type=Path),
            callback=_with_sandbox_only,
            help="The sandbox's folder, where it is not the checkout's own.",
        ),
        click.option(
            "--sandbox", is_flag=True, is_eager=True, help="The stack as deployed in the sandbox, not on AWS."
        ),
        click.option("--stack", required=True, metavar="NAME", help="Name of the stack."),
    ):
        command = option(command)
    return command


def json_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print a JSON object: {what}.")


def timeout_option(what: str, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--timeout`."""
    return click.option(
        "--timeout", type=Duration(), default=default, show_default=True, metavar="DURATION", help=f"How long {what}."
    )


def _with_sandbox_only(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """Whoever names the sandbox's folder means the sandbox: without --sandbox it would be a real stack."""
    named = context.get_parameter_source("state_dir") is click.core.ParameterSource.COMMANDLINE
    if named and not context.params.get("sandbox"):
        raise BadInputError("reading the options: --state-dir is the sandbox's; give --sandbox, too")
    return value
