"""The commands of phase 4: traffic between blue and green, and the way back from it."""

import json
from pathlib import Path
from typing import Any

import click

from components.shared.mesh import FULL_WEIGHT
from infra.phases import Phase
from runbook.errors import NOT_WELL, BadInputError
from runbook.options import Duration, json_option, stack_options
from runbook.steps import Steps


class Weights(click.ParamType[list[int]]):
    """Weights of green that rise, such as 10,50,100."""

    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The weights as numbers."""
        words = str(value).split(",")
        if not all(word.isdecimal() and word.isascii() and 1 <= int(word) <= FULL_WEIGHT for word in words):
            self.fail(f'"{value}": weights are whole numbers from 1 to 100, such as 10,50,100', param, ctx)
        weights = [int(word) for word in words]
        if weights != sorted(set(weights)):
            self.fail(f'"{value}": weights must rise, such as 10,50,100', param, ctx)
        return weights


@click.command(epilog="Example: runbook shift --stack prod --to 10,50,100 --hold 30m")
@click.option(
    "--to", type=Weights(), required=True, metavar="WEIGHTS", help="Green's shares in per cent, such as 10,50."
)
@click.option(
    "--hold", type=Duration(), default="30m", show_default=True, metavar="DURATION", help="How long each is watched."
)
@click.option(
    "--min-requests",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Requests to green without which a step says nothing.",
)
@json_option("from, weight, result, told, and the figures of each step")
@stack_options
def shift(
    *,
    to: list[int],
    hold: float,
    min_requests: int,
    as_json: bool,
    stack: str,
    sandbox: bool,
    state_dir: Path | None,
) -> None:
    """Move traffic to green step by step, and back by itself when green fails requests or is slow.

    Exits with 1 when it went back or stopped, with 3 when a step had too few requests to be judged.
    """
    from runbook.shift import Shift
    from runbook.target import opened

    steps = Steps()
    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.BLUE_GREEN) as target:
        shifting = Shift(target, steps, to=to, hold=hold, min_requests=min_requests)
        shifting.run()
    if as_json:
        click.echo(json.dumps(shifting.as_json(), indent=2))
    if shifting.error:
        raise shifting.error
    if not as_json:
        click.echo(shifting.render())


@click.command(epilog="Example: runbook rollback --stack prod")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Of the stack's cluster; else the current context if it is of that cluster, else pulumi is asked, which takes "
    "seconds.",
)
@click.option("--force", is_flag=True, help="Even where blue has no pod that could serve, or does not know the schema.")
@json_option("before, weight, patched_at, gateways, unconfirmed, config, trouble")
@stack_options
def rollback(
    *, kubeconfig: Path | None, force: bool, as_json: bool, stack: str, sandbox: bool, state_dir: Path | None
) -> None:
    """Send all traffic to blue now: no deployment, no healthy green, no waiting for a shift that is under way."""
    from runbook import rollback as rolling
    from runbook.quick import quickly

    steps = Steps()
    if sandbox and kubeconfig:
        raise BadInputError("reading the options: --kubeconfig is of a cluster on AWS; leave out --sandbox, or it")
    with quickly(stack, sandbox=sandbox, state_dir=state_dir, kubeconfig=kubeconfig) as place:
        done = rolling.roll_back(place, steps, force=force)
    if as_json:
        click.echo(json.dumps({"stack": stack, "seconds": steps.seconds, **rolling.as_json(done)}, indent=2))
    if error := rolling.failure(done):
        raise error
    if not as_json:
        commit = "" if sandbox else f"; commit {done.config}, or a pipeline is refused"
        click.echo(f"rolled back {stack} from {done.before} to 0 % green in {done.patched_at:.2f} s{commit}")


@click.command(epilog="Example: runbook traffic --stack prod --json | jq .in_step")
@json_option("mesh, annotation, config, deployed, changed_by, changed_at, in_step, told")
@stack_options
def traffic(*, as_json: bool, stack: str, sandbox: bool, state_dir: Path | None) -> None:
    """Show who gets the traffic, and whether mesh, annotation, config and the last deployment agree.

    Exits with 3 where a deployment would undo what was done to the mesh; with 0 where there is nothing to compare.
    """
    from runbook.traffic_status import status

    found = status(stack, sandbox=sandbox, state_dir=state_dir)
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else found.render())
    if not found.in_step:
        click.get_current_context().exit(NOT_WELL)


@click.command(epilog="Example: runbook retire --stack prod")
@json_option("held_seconds, config")
@stack_options
def retire(*, as_json: bool, stack: str, sandbox: bool, state_dir: Path | None) -> None:
    """Let the next deployment stop blue's pods, once green has had all traffic for blueGreen.retireAfter."""
    from runbook import retire as retiring
    from runbook.target import opened

    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.BLUE_GREEN) as target:
        done = retiring.retire(target)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        how = f"sandbox up --stack {stack}" if sandbox else "commit it and deploy"
        click.echo(f"{done['config']} says blueGreen.stopped: blue; {how}, and blue's pods go")


@click.command(epilog="Example: runbook retreat --stack prod --yes")
@click.option("--yes", is_flag=True, help="Let pulumi deploy without asking.")
@click.option("--force", is_flag=True, help="Even where a contract migration has been applied.")
@json_option("seconds, steps")
@stack_options
def retreat(*, yes: bool, force: bool, as_json: bool, stack: str, sandbox: bool, state_dir: Path | None) -> None:
    """Go back from phase 4 to phase 3: first the traffic and mTLS, then green and the mesh; each is a deployment."""
    from runbook.retreat import Retreat
    from runbook.target import opened

    steps = Steps()
    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.SECRETS) as target:
        done = Retreat(target, steps, yes=yes, force=force).run()
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        click.echo(f"{stack} is at phase 3" + ("" if sandbox or not done["steps"] else f"; commit Pulumi.{stack}.yaml"))


@click.command(epilog="Example: runbook validate --stack prod --requests 10000 --connections 50")
@click.option(
    "--requests", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Of the load test."
)
@click.option("--connections", type=click.IntRange(1, 1000), default=10, show_default=True, help="Of the load test.")
@click.option("--url", help="Where the edge is, if not where the stack's output api_gateway_url says.")
@json_option("url, health, requests, failed, error_rate, percentiles_ms, kept")
@stack_options
def validate(
    *,
    requests: int,
    connections: int,
    url: str | None,
    as_json: bool,
    stack: str,
    sandbox: bool,
    state_dir: Path | None,
) -> None:
    """Check health and put load on the edge: p95 below 200 ms, and less than 0.1 % of the requests failed?

    Exits with 3 where it is not so.
    """
    from runbook import validate as validating
    from runbook.target import opened

    with opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.COMPUTE) as target:
        edge = url or target.outputs.get("api_gateway_url")
    if not edge:
        raise BadInputError(f"validating {stack}: it has no edge; give --url, such as that of a kubectl port-forward")
    found = validating.validate(edge, requests=requests, connections=connections, in_sandbox=sandbox)
    click.echo(json.dumps({"stack": stack, **found.as_json()}, indent=2) if as_json else found.render())
    if not found.is_well:
        click.get_current_context().exit(NOT_WELL)


COMMANDS = (shift, rollback, traffic, retire, retreat, validate)
