"""Commands that work on a stack's cluster: whether everything fits, load on a service, the loss of a node."""

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.naming import PROJECT
from sandbox import checkout, faults
from sandbox.answers import Fault
from sandbox.control_plane import ControlPlane, ControlPlanes
from sandbox.errors import BadInputError, SandboxError
from sandbox.faults import COLOURS
from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError
from sandbox.options import Duration, Share, last_stack, open_state, stack_option, state_dir_option
from sandbox.state import State

if TYPE_CHECKING:
    from sandbox import fit as fitting

DOES_NOT_FIT = 3


@click.command(epilog="Example: sandbox fit --stack dev --json | jq -r .[].pod")
@stack_option(required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list of {pod, node, resource}: what does not fit.")
@state_dir_option
def fit(stack: str | None, as_json: bool, state_dir: Path | None) -> None:
    """Ask the real scheduler whether every pod fits the nodes, also during the largest rolling update.

    Exits with 3 if something does not, and names the pod, the node that comes closest, and what that lacks.
    """
    api = _cluster(state_dir, stack)
    from sandbox import fit as fitting  # this and what the other commands import takes half a second

    report = fitting.check(api)
    if as_json:
        click.echo(json.dumps([misfit.as_json() for misfit in report.misfits], indent=2))
    else:
        _print_report(report)
    if report.misfits:
        click.get_current_context().exit(DOES_NOT_FIT)


@click.command(epilog="Example: sandbox load auth-service --cpu 200% --for 3m")
@click.argument("service")
@click.option(
    "--cpu", type=Share(), required=True, help="Load as a share of one replica's CPU request; the replicas share it."
)
@click.option("--for", "seconds", type=Duration(), help="How long, such as 90s or 2m; until Ctrl-C when absent.")
@click.option("--namespace", default=PROJECT, show_default=True, help="Namespace of the service.")
@stack_option(required=False)
@state_dir_option
def load(
    *, service: str, cpu: Decimal, seconds: float | None, namespace: str, stack: str | None, state_dir: Path | None
) -> None:
    """Let the pods of SERVICE use CPU, so that its autoscaler adds replicas; then take the load off again."""
    api = _cluster(state_dir, stack)
    from sandbox.load import Load

    Load(api, namespace, service, cpu).run(seconds)


@click.group()
def node() -> None:
    """Lose a node and see what becomes of its pods. `sandbox status` lists the nodes."""


@node.command(epilog="Example: sandbox node interrupt ip-10-0-0-23.ec2.internal --stack dev")
@click.argument("name")
@stack_option(required=False)
@state_dir_option
def interrupt(name: str, stack: str | None, state_dir: Path | None) -> None:
    """Lose the node NAME with a spot interruption notice: a replacement joins, it is drained and removed."""
    api = _cluster(state_dir, stack)
    from sandbox import nodes

    nodes.interrupt(api, name)
    click.echo(f"{name} is gone; see where its pods are: kubectl get pods -A -o wide")


@node.command(epilog="Example: sandbox node kill ip-10-0-0-23.ec2.internal --stack dev")
@click.argument("name")
@stack_option(required=False)
@state_dir_option
def kill(name: str, stack: str | None, state_dir: Path | None) -> None:
    """Lose the node NAME without notice: Kubernetes finds out after 50 s, and takes its pods away a minute later."""
    api = _cluster(state_dir, stack)
    from sandbox import nodes

    nodes.kill(api, name)
    click.echo(f"{name} is gone; see where its pods are: kubectl get pods -A -o wide")


FAULTS = {
    Fault.CRASH: "nothing listens, and after three failed probes the pods are not ready",
    Fault.SLOW: "every answer takes half a second",
    Fault.ERRORS: "every answer is a 503; the pods stay ready",
    Fault.HANG: "requests are taken and not answered; the pods stay ready",
}


@click.command("break", epilog="Example: sandbox break api-gateway --colour green --how errors")
@click.argument("service")
@click.option("--colour", type=click.Choice(COLOURS), required=True, help="Which release of the service.")
@click.option(
    "--how",
    type=click.Choice([str(fault) for fault in Fault]),
    required=True,
    help="; ".join(f"{fault}: {meaning}" for fault, meaning in FAULTS.items()) + ".",
)
@stack_option(required=False)
@state_dir_option
def break_(service: str, colour: str, how: str, stack: str | None, state_dir: Path | None) -> None:
    """Let one colour of SERVICE misbehave, until `sandbox mend` or another `sandbox break`."""
    plane = _plane_with(service, colour, state_dir, stack)
    fault = Fault(how)
    changed = faults.change(plane, (service, colour), fault)
    click.echo(f"{service} {colour} of {plane.cluster}: {FAULTS[fault]}{'' if changed else ', as before'}")


@click.command(epilog="Example: sandbox mend api-gateway --colour green")
@click.argument("service")
@click.option("--colour", type=click.Choice(COLOURS), required=True, help="Which release of the service.")
@stack_option(required=False)
@state_dir_option
def mend(service: str, colour: str, stack: str | None, state_dir: Path | None) -> None:
    """Let one colour of SERVICE behave again; its pods are ready after their next probe."""
    plane = _plane(state_dir, stack)
    changed = faults.change(plane, (service, colour), None)
    click.echo(f"{service} {colour} of {plane.cluster}: {'mended' if changed else 'nothing was wrong with it'}")


def cluster_status(state: State, plane: ControlPlane) -> dict[str, Any]:
    """What `sandbox status` tells about a cluster."""
    missing = ControlPlanes(state).missing(plane)
    return {
        "cluster": plane.cluster,
        "url": plane.url,
        "kubeconfig": str(plane.kubeconfig),
        "running": not missing,
        "missing": list(missing),
        "nodes": [] if missing else _nodes(plane),
        "faults": [
            {"service": service, "colour": colour, "how": str(fault)}
            for (service, colour), fault in faults.faults(plane).items()
        ],
    }


def print_cluster(cluster: dict[str, Any]) -> None:
    """Tell about a cluster, a line for it and one for each node."""
    if cluster["running"]:
        runs = f"runs on {cluster['url']}; KUBECONFIG={cluster['kubeconfig']}"
    else:
        runs = f"stopped: {', '.join(cluster['missing'])}"
    click.echo(f"cluster {cluster['cluster']} {runs}")
    for node in cluster["nodes"]:
        click.echo(
            f"{'':16} {node['name']}  {node['group']}  {node['instance_type']}  {node['zone']}  {node['status']}"
        )
    for fault in cluster["faults"]:
        click.echo(f"{'':16} {fault['service']} {fault['colour']} is broken: {fault['how']}; mend it with sandbox mend")


def _nodes(plane: ControlPlane) -> list[dict[str, str]]:
    from sandbox import nodes

    try:
        return [nodes.describe(node) for node in KubernetesApi(plane.kubeconfig).list("v1", "Node")]
    except KubernetesApiError:
        return []  # it is about to start or to end


def _cluster(state_dir: Path | None, stack: str | None) -> KubernetesApi:
    """The API server of a stack's cluster, started if it was stopped."""
    return KubernetesApi(_plane(state_dir, stack).kubeconfig)


def _plane(state_dir: Path | None, stack: str | None) -> ControlPlane:
    """The control plane of a stack's cluster, started if it was stopped."""
    state = open_state(state_dir)
    name = stack or last_stack(state)
    _, settings = checkout.effective(state, name, None)
    planes = ControlPlanes(state)
    if planes.find(settings.names.prefix) is None:
        raise SandboxError(
            f"looking for the cluster of {name}: there is none; deploy it: sandbox up --stack {name} --phase 2"
        )
    return planes.ensure(settings.names.prefix)


def _plane_with(service: str, colour: str, state_dir: Path | None, stack: str | None) -> ControlPlane:
    """The control plane of a stack's cluster, which has that colour of a service."""
    plane = _plane(state_dir, stack)
    found = KubernetesApi(plane.kubeconfig).list("apps/v1", "Deployment", namespace=PROJECT, label_selector="version")
    releases = sorted({(labels.get("app", ""), labels["version"]) for labels in map(_labels, found)})
    if (service, colour) not in releases:
        known = ", ".join(f"{name} {version}" for name, version in releases) or "no service with a colour"
        raise BadInputError(f"breaking {service} {colour}: there is no such release; the cluster has {known}")
    return plane


def _labels(deployment: dict[str, Any]) -> dict[str, str]:
    return deployment["metadata"]["labels"]


def _print_report(report: "fitting.Report") -> None:
    for share in report.shares:
        cpu, memory = (_percent(share, resource) for resource in ("cpu", "memory"))
        pods = f"{share.requested.get('pods', 0)} of {share.allocatable.get('pods', 0)} pods"
        click.echo(f"{share.node or 'all nodes':<36} requested: CPU {cpu:>4}, memory {memory:>4}, {pods}")
    for surge in report.surges:
        click.echo(f"rolling update of {surge.name}: {surge.pods} more {'pod' if surge.pods == 1 else 'pods'}")
    if not report.misfits:
        click.echo("every pod fits")
        return
    width = max(len(misfit.pod) for misfit in report.misfits)
    click.echo()
    click.echo(f"{'does not fit':<{width}}  {'closest node':<36}  lacks")
    for misfit in report.misfits:
        click.echo(f"{misfit.pod:<{width}}  {misfit.node or '-':<36}  {misfit.resource}")


def _percent(share: "fitting.Share", resource: str) -> str:
    has = share.allocatable.get(resource)
    return f"{share.requested.get(resource, Decimal(0)) / has:.0%}" if has else "-"
