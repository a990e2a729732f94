"""The sandbox's command line: deploy the checkout's stacks into a local cloud."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from typing import Any

import click
import yaml

from infra.naming import PROJECT
from infra.phases import Phase
from infra.secrecy import SECRET_SETTINGS
from sandbox import checkout, cluster_commands, emulator, services
from sandbox.aws_account import AwsAccount, note
from sandbox.control_plane import ControlPlanes
from sandbox.deployments import deployment, outputs_of
from sandbox.errors import BadInputError, SandboxError
from sandbox.options import last_stack, open_state, remember, stack_option, state_dir_option
from sandbox.private_config import SHOWN, PrivateConfig
from sandbox.providers.records import Records
from sandbox.state import State


class _Commands(click.Group):
    """Turns the sandbox's errors into a line and an exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.

    A command may end with codes of its own.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SandboxError as error:
            for line in str(error).splitlines():
                click.echo(f"{click.style('error:', fg='red', bold=True)} {line}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:  # the reader of a pipe has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
            ctx.exit(0)


PHASE = click.option(
    "--phase", type=int, metavar="N", help="Phase for this run, instead of the stack file's: 0 nothing to 4 blue-green."
)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 something does not fit, 130 interrupted.",
)
@state_dir_option
@click.pass_context
def main(ctx: click.Context, state_dir: Path | None) -> None:
    """Deploy this checkout's stacks into a local cloud: real Pulumi engine, real Kubernetes, emulated AWS, no account.

    \b
    Examples:
      sandbox up --stack dev               deploy what Pulumi.dev.yaml says
      sandbox up --stack dev --phase 0     take everything of it away again
      eval "$(sandbox env)"                let aws and kubectl talk to the sandbox in this shell
      sandbox fit --stack dev              does everything fit the nodes? the real scheduler says
      sandbox load auth-service --cpu 200% see the real autoscaler work
      sandbox break api-gateway --colour green --how errors
      sandbox stop                         end everything; up goes on where it was
    """  # noqa: D301 — \b is click's mark for lines to keep
    ctx.obj = state_dir
    # Everything here is on this machine; the engine and the program inherit it.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = ",".join(dict.fromkeys(filter(None, [*given.split(","), "127.0.0.1", "localhost"])))
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = direct


@main.command(epilog="Example: sandbox up --stack dev --phase 1")
@stack_option(required=True)
@PHASE
@state_dir_option
def up(stack: str, phase: int | None, state_dir: Path | None) -> None:
    """Preview and deploy a stack; then print its outputs and its monthly estimate."""
    run = _Run(state_dir, stack, phase)
    run.build(run.settings.phase)
    with run.state.stack_locked(stack):
        run.start()
        run.recover()
        run.engine.up(run.target)
    remember(run.state, stack)
    click.echo()
    _print_outputs(run.engine.outputs())
    click.echo()
    click.echo(run.estimate())


@main.command(epilog="Example: sandbox preview --stack prod --json | jq .resourcePreEvent")
@stack_option(required=True)
@PHASE
@click.option("--json", "as_json", is_flag=True, help="Print the engine's own event stream, a JSON object a line.")
@state_dir_option
def preview(stack: str, phase: int | None, as_json: bool, state_dir: Path | None) -> None:
    """Show what an up would do, and change nothing."""
    run = _Run(state_dir, stack, phase)
    run.build(run.settings.phase)
    show = run.engine.preview_events if as_json else run.engine.preview
    with run.state.stack_locked(stack):
        run.start()
        show(run.target)


@main.command(epilog="Example: sandbox destroy --stack dev")
@stack_option(required=True)
@state_dir_option
def destroy(stack: str, state_dir: Path | None) -> None:
    """Delete everything that a stack has in the sandbox."""
    run = _Run(state_dir, stack, None)
    run.build(run.engine.outputs().get("phase") or 0)  # what is deployed goes, whatever the stack file says by now
    with run.state.stack_locked(stack):
        run.start()
        run.recover()
        run.engine.destroy(run.target)


@main.command(epilog="Example: sandbox outputs --stack dev --json | jq -r .budget_name")
@stack_option(required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@state_dir_option
def outputs(stack: str | None, as_json: bool, state_dir: Path | None) -> None:
    """Print the outputs of a stack."""
    state = open_state(state_dir)
    name = stack or last_stack(state)
    checkout.effective(state, name, None)
    found = outputs_of(state.stack(name))
    if found is None:
        raise SandboxError(
            f"reading the outputs of {name}: nothing of it is deployed here; run sandbox up --stack {name}"
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print_outputs(found)


@main.command(epilog='Example: eval "$(sandbox env --stack dev)" && aws sns list-topics && kubectl get pods -A')
@stack_option(required=False)
@state_dir_option
def env(stack: str | None, state_dir: Path | None) -> None:
    """Print shell lines that make aws and kubectl talk to the sandbox."""
    state = open_state(state_dir)
    name = stack or last_stack(state)
    _, settings = checkout.effective(state, name, None)
    service = services.running(state, emulator.NAME)
    if service is None:
        raise SandboxError(f"reading the environment: the sandbox does not run; start it: sandbox up --stack {name}")
    variables = {
        "AWS_ENDPOINT_URL": emulator.endpoint(service),
        "AWS_ACCESS_KEY_ID": settings.account_id,  # the emulator takes twelve digits for the account
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "NO_PROXY": os.environ["NO_PROXY"],
        "no_proxy": os.environ["NO_PROXY"],  # goes before the other where both are set
    }
    plane = ControlPlanes(state).find(settings.names.prefix)
    if plane:
        variables["KUBECONFIG"] = str(plane.kubeconfig)
        variables["KUBECACHEDIR"] = str(state.temporary / "kubectl")  # or kubectl leaves one behind per port
    else:
        # Another stack's cluster, or a real one of the user's own, is not what a command for this stack is meant for.
        variables["KUBECONFIG"] = os.devnull
    click.echo("unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    own = Path(sys.executable).parent
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if Path(p) != own)
    if not all(shutil.which(command, path=path) for command in ("aws", "kubectl")):
        click.echo(f'export PATH="$PATH:"{shlex.quote(str(own))}')


@main.command(epilog="Example: sandbox status --json")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@state_dir_option
def status(as_json: bool, state_dir: Path | None) -> None:
    """Show what runs, which stacks are deployed, and what is only recorded."""
    state = open_state(state_dir)
    found = _status(state)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"state directory  {found['state_directory']}")
    planes = ControlPlanes(state)
    theirs = {name for plane in planes.all() for name in plane.services.values()}
    for service in found["services"]:
        if service["name"] in theirs:
            continue
        runs = f"runs as process {service['pid']} on 127.0.0.1:{service['port']}" if service["running"] else "stopped"
        click.echo(f"{service['name']:<16} {runs}; log {service['log']}")
    for cluster in found["clusters"]:
        cluster_commands.print_cluster(cluster)
    for entry in found["stacks"]:
        phase = "not deployed" if entry["phase"] is None else f"phase {entry['phase']}"
        click.echo(f"stack {entry['stack']:<10} {phase}, {entry['resources']} resources")
    click.echo(f"recorded only    {', '.join(found['recorded_only_types'])}: the emulator lacks them")
    for resource in found["recorded"]:
        click.echo(f"                 {resource['type']} {resource['name']}")


@main.command(epilog="Example: sandbox stop")
@state_dir_option
def stop(state_dir: Path | None) -> None:
    """End the sandbox's processes; what they hold is kept for the next up."""
    state = open_state(state_dir)
    busy = state.busy_stacks()
    if busy:
        raise SandboxError(f"stopping: a command works on {', '.join(busy)}; let it end, or interrupt it")
    for cluster in ControlPlanes(state).stop():
        click.echo(f"control plane of {cluster} stopped")
    with state.locked():
        for name in list(services.recorded(state)):
            was_running = services.stop(state, name)
            click.echo(f"{name} {'stopped' if was_running else 'had ended already'}")


@main.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show or change the sandbox's own config, which lies over the stack files and never touches them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(config_show, stack=None, as_json=False, state_dir=None)


@config.command("show", epilog="Example: sandbox config show --stack dev --json")
@stack_option(required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@state_dir_option
def config_show(stack: str | None, as_json: bool, state_dir: Path | None) -> None:
    """Print the config that a run would use, and which of it is the sandbox's own."""
    state = open_state(state_dir)
    name = stack or last_stack(state)
    config, _ = checkout.effective(state, name, None)
    own = checkout.overrides(state, name) | dict.fromkeys(PrivateConfig(state, name).chosen, SHOWN)
    if as_json:
        click.echo(json.dumps({"stack": name, "config": checkout.shown(config), "overrides": own}, indent=2))
        return
    click.echo(f"# {checkout.stack_file(name).name}" + (f", with the sandbox's own {', '.join(own)}" if own else ""))
    click.echo(checkout.dump_yaml(checkout.shown(config)), nl=False)


@config.command(
    "set",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: sandbox config set monthlyBudgetUsd 120 --stack dev",
)
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--secret", is_flag=True, help="Keep the value where only you can read it; asks for it if it is left out."
)
@stack_option(required=False)
@state_dir_option
def config_set(key: str, value: str | None, secret: bool, stack: str | None, state_dir: Path | None) -> None:
    """Give a setting another VALUE, written as YAML, in the sandbox only. KEY may be dotted: cost.enforce.

    A secret setting takes text as it stands, from the standard input if that is no terminal.
    """
    state = open_state(state_dir)
    name = stack or last_stack(state)
    full = checkout.secret_key(key)
    if secret:
        _set_secret(state, name, key, value)
        return
    if full:
        raise BadInputError(
            f"setting {key}: it is secret, and would be kept in plain text; say sandbox config set --secret {key}"
        )
    if value is None:
        raise BadInputError(f"setting {key}: there is no value; say sandbox config set {key} VALUE")
    try:
        parsed = checkout.parse_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadInputError(f'setting {key}: "{value[:60]}" is no YAML value; quote it like \'"text"\'') from None
    before = checkout.overrides(state, name)
    checkout.write_overrides(state, name, checkout.overlay(before, checkout.nested(key, parsed)))
    try:
        checkout.effective(state, name, None)
    except SandboxError:
        checkout.write_overrides(state, name, before)
        raise
    click.echo(f"{name}: {key} is {json.dumps(parsed)} in the sandbox")


def _set_secret(state: State, stack: str, key: str, value: str | None) -> None:
    full = checkout.secret_key(key)
    if full is None:
        raise BadInputError(
            f"setting {key}: it is no secret; leave out --secret, the secret settings are {', '.join(SECRET_SETTINGS)}"
        )
    checkout.effective(state, stack, None)
    if value is None:
        value = _typed(key) if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    if not value:
        raise BadInputError(f"setting {key}: the value is empty; to forget one, say sandbox config reset {key}")
    private = PrivateConfig(state, stack)
    private.choose({**private.chosen, full: value})
    click.echo(f"{stack}: {key} is {SHOWN} in the sandbox")


def _typed(key: str) -> str:
    try:
        return getpass(f"{key}: ")
    except EOFError:  # Ctrl-D
        click.echo(err=True)
        return ""


@config.command("reset", epilog="Example: sandbox config reset --stack dev")
@click.argument("key", required=False)
@stack_option(required=False)
@state_dir_option
def config_reset(key: str | None, stack: str | None, state_dir: Path | None) -> None:
    """Forget the sandbox's own config of a stack, or one KEY of it."""
    state = open_state(state_dir)
    name = stack or last_stack(state)
    own, private = checkout.overrides(state, name), PrivateConfig(state, name)
    chosen = dict(private.chosen)
    if key is None:
        checkout.write_overrides(state, name, {})
        private.choose({})
        click.echo(f"{name}: {len(own) + len(chosen)} settings reset to the stack file's")
        return
    if chosen.pop(checkout.secret_key(key) or "", None):
        private.choose(chosen)
    else:
        checkout.write_overrides(state, name, checkout.without(own, key))
    click.echo(f"{name}: {key} reset to the stack file's")


main.add_command(cluster_commands.break_)
main.add_command(cluster_commands.fit)
main.add_command(cluster_commands.load)
main.add_command(cluster_commands.mend)
main.add_command(cluster_commands.node)


class _Run:
    """What the commands that run the engine share. Bad input is found before anything starts."""

    def __init__(self, state_dir: Path | None, stack: str, phase: int | None) -> None:
        self.state = open_state(state_dir)
        self.stack = stack
        config, self.settings = checkout.effective(self.state, stack, phase)
        # Imported here: pulumi takes half a second to load, and bad input should not wait for it.
        from sandbox.engine import Backends, Engine, Target
        from sandbox.tools import TOOLS, find

        backends = Backends(aws_endpoint="", log_hint=f" (logs are in {self.state.logs})")
        self.target = Target(config=config, settings=self.settings, backends=backends)
        self.engine = Engine(self.state, find(TOOLS["pulumi"]), stack, echo=click.echo)

    def build(self, phase: int) -> None:
        """Build what a phase needs: here, where the build is shown, and not while the engine waits."""
        from sandbox.tools import TOOLS, find, find_all

        if phase >= Phase.SECRETS:
            find(TOOLS["external-secrets"])
        if phase >= Phase.BLUE_GREEN:
            find_all([TOOLS["istiod"], TOOLS["istioctl"]])

    def start(self) -> None:
        """Make sure that the emulator runs."""
        with self.state.locked():
            before = services.running(self.state, emulator.NAME)
            service = emulator.ensure(self.state)
        if before is None:
            click.echo(f"started the AWS emulator on {emulator.endpoint(service)}", err=True)
        if made_up := checkout.made_up(self.target.config):
            click.echo(
                f"made up values for {', '.join(made_up)}, encrypted for another backend; sandbox config set --secret "
                "gives others",
                err=True,
            )
        backends = replace(
            self.target.backends, aws_endpoint=emulator.endpoint(service), emulator=f"{service.pid}-{service.created}"
        )
        self.target = replace(self.target, backends=backends)
        self._bring_back_the_cluster()

    def _bring_back_the_cluster(self) -> None:
        """Make sure that the stack's control plane runs, if it has one; forget it where the emulator has."""
        planes = ControlPlanes(self.state)
        cluster = self.settings.names.prefix
        if planes.find(cluster) is None:
            return
        from sandbox.providers.aws.client import Aws

        # The account that the stack was deployed with: its cluster is not gone because the config names another one.
        account_id = self.engine.outputs().get("account_id") or self.settings.account_id
        aws = Aws(self.target.backends.aws_endpoint, account_id, self.settings.region)
        if cluster in aws.client("eks").list_clusters()["clusters"]:
            note(planes.ensure(cluster), AwsAccount(account_id, self.settings.region))
        else:
            click.echo(f"the emulator has lost the cluster {cluster}: forgetting its control plane", err=True)
            planes.remove(cluster)
            self.engine.agrees_no_more()

    def recover(self) -> None:
        """Bring the stack to where the engine can go on."""
        from sandbox.recovery import recover

        recover(self.engine, self.target)

    def estimate(self) -> str:
        """The estimate of what is deployed, as a table."""
        from cost import estimate, resources_of_deployment
        from cost.table import render

        resources = resources_of_deployment(self.engine.deployment())
        return render(
            estimate(resources, stacks_per_account=self.settings.cost.stacks_per_account),
            budget_usd=self.settings.monthly_budget_usd,
        )


def _status(state: State) -> dict[str, Any]:
    from sandbox.providers.aws.table import RECORDED  # takes a third of a second

    recorded = Records(state.records).all()
    return {
        "state_directory": str(state.folder),
        "services": [
            {
                "name": name,
                "running": service.process is not None,
                "pid": service.pid,
                "port": service.port,
                "log": str(service.log),
            }
            for name, service in services.recorded(state).items()
        ],
        "clusters": [cluster_commands.cluster_status(state, plane) for plane in ControlPlanes(state).all()],
        "stacks": [_stack_status(path) for path in sorted(_stack_files(state))],
        "recorded_only_types": [kind.type for kind in RECORDED],
        "recorded": [
            {"type": type, "name": properties.get("name", id)}
            for type, entries in recorded.items()
            for id, properties in entries.items()
        ],
    }


def _stack_files(state: State) -> list[Path]:
    return [p for p in state.stacks.glob("*.json") if not p.name.endswith(".bak")]


def _stack_status(path: Path) -> dict[str, Any]:
    resources = deployment(path).get("resources", [])
    stack = next((r for r in resources if r["type"] == "pulumi:pulumi:Stack"), {})
    return {
        "stack": path.stem,
        "phase": stack.get("outputs", {}).get("phase"),
        "resources": sum(1 for r in resources if r["type"].partition(":")[0] not in ("pulumi", PROJECT)),
    }


def _print_outputs(found: dict[str, Any]) -> None:
    width = max(map(len, found), default=0)
    for name, value in found.items():
        click.echo(f"{name:<{width}}  {'null' if value is None else value}")
