"""The runbook's command line: what an operator does to a deployed stack, on AWS or in the sandbox."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from infra.phases import Phase
from runbook.errors import NOT_WELL, RunbookError
from runbook.managed import MANAGED
from runbook.options import json_option, stack_options, timeout_option
from runbook.steps import Steps
from runbook.target import opened
from runbook.traffic_commands import COMMANDS


class _Commands(click.Group):
    """Turns the runbook's errors into a line and an exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.

    A command may end with codes of its own.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RunbookError as error:
            click.echo(f"{click.style('error:', fg='red', bold=True)} {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:  # the reader of a pipe has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
            ctx.exit(0)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 failed or refused, 2 bad input, 3 something is not as it should be, 130 interrupted.",
)
def main() -> None:
    """Do what the runbook says to a deployed stack: on AWS with your own credentials, or in the sandbox (--sandbox).

    \b
    Examples:
      runbook rotate database --stack prod       a new database login for every service, none of them without one
      runbook secrets --stack prod               do the secrets arrive, and who lacks one?
      runbook restore-secret redis --stack dev   a secret was spoilt or deleted: put back what the cluster has
      runbook shift --stack prod --to 10,50,100  traffic to green in steps, and back by itself when green fails
      runbook rollback --stack prod              all traffic to blue, now
    """  # noqa: D301 — \b is click's mark for lines to keep


for command in COMMANDS:
    main.add_command(command)

WHAT = click.argument("what", type=click.Choice(sorted(MANAGED)))


@main.command(epilog="Example: runbook rotate database --stack dev --sandbox --json | jq .seconds")
@WHAT
@json_option("steps, seconds, versionId, username, restarted")
@timeout_option("to wait for the restarts of all services", "10m")
@stack_options
def rotate(*, what: str, stack: str, sandbox: bool, state_dir: Path | None, timeout: float, as_json: bool) -> None:
    """Give the database a new login, Redis a new password, or the services new API keys; now, and to every service.

    Whatever fails, what is in use goes on working, and the command says so.
    """
    from runbook.rotate import Rotation

    steps = Steps()
    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.SECRETS) as target:
        told = Rotation(target, MANAGED[what], steps, timeout).run()
    if as_json:
        done = {"stack": stack, "secret": what, "seconds": steps.seconds, "steps": steps.done, **told}
        click.echo(json.dumps(done, indent=2))
        return
    login = f", the login is {told['username']}" if "username" in told else ""
    services = ", ".join(told["restarted"]) or "nothing, since nothing reads it"
    click.echo(f"rotated {what} of {stack} in {steps.seconds:.1f} s{login}; restarted: {services}")


@main.command("secrets", epilog="Example: runbook secrets --stack dev --json | jq '.[].missing[]'")
@json_option("a list, with ready, reason, message, read_by and missing of each")
@stack_options
def secrets_(*, stack: str, sandbox: bool, state_dir: Path | None, as_json: bool) -> None:
    """Show whether the secrets arrive in the cluster, who reads them, and who lacks one.

    Exits with 3 where one does not arrive, or a service lacks a key that it needs.
    """
    from runbook.secrets_status import statuses

    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.SECRETS) as target:
        found = statuses(target.kubectl)
    if as_json:
        click.echo(json.dumps([status.as_json() for status in found], indent=2))
    else:
        from runbook.secrets_status import render

        click.echo(render(found))
    if not all(status.is_well for status in found):
        click.get_current_context().exit(NOT_WELL)


@main.command("restore-secret", epilog="Example: runbook restore-secret database --stack dev --sandbox")
@WHAT
@json_option("steps, seconds, versionId, undeleted, keys")
@timeout_option("to wait for External Secrets", "1m")
@stack_options
def restore_secret(
    *, what: str, stack: str, sandbox: bool, state_dir: Path | None, timeout: float, as_json: bool
) -> None:
    """Put back into Secrets Manager what the cluster still has, where it was spoilt, or is marked for deletion.

    What can be read there stays as it is; only what is missing is put back.
    """
    from runbook.restore import Restoration

    steps = Steps()
    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.SECRETS) as target:
        told = Restoration(target, MANAGED[what], steps, timeout).run()
    if as_json:
        done = {"stack": stack, "secret": what, "seconds": steps.seconds, "steps": steps.done, **told}
        click.echo(json.dumps(done, indent=2))
        return
    what_was_done = [
        *(["took its deletion back"] if told["undeleted"] else []),
        *([f"put back {', '.join(told['keys'])}"] if told["keys"] else []),
    ]
    click.echo(f"{what} of {stack}: {' and '.join(what_was_done) or 'nothing was missing'}")
