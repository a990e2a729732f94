"""A way to a stack's cluster that takes no second, for a rollback: no engine is asked, and no AWS.

On AWS the stack's own kubeconfig is an output, and `pulumi stack output` takes seconds. A kubeconfig that is there
already is as good: one that is named, or the current context, if it is of the stack's cluster in the stack's account.
"""

import json
import os
import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from components.shared.manifests import NAMESPACE
from infra.naming import PROJECT
from infra.phases import Phase
from runbook.errors import BadInputError
from runbook.kubectl import Kubectl, find
from runbook.stack_config import ROOT
from runbook.target import Place, check_name, check_shell, opened, sandbox_variables

CLUSTER_ARN: Final = re.compile(r"arn:[\w-]+:eks:[\w-]+:(\d{12}):cluster/(.+)")
ACCOUNT: Final = re.compile(rf"^\s*{PROJECT}:accountId:\s*[\"']?(\d{{12}})\b", re.MULTILINE)
SECONDS: Final = 5


@contextmanager
def quickly(stack: str, *, sandbox: bool, state_dir: Path | None, kubeconfig: Path | None) -> Generator[Place]:
    """The stack's cluster by the quickest way that there is.

    Raises:
        BadInputError: there is no such stack, cluster or kubeconfig.
        RunbookError: it cannot be found out.
    """
    check_name(stack)
    if sandbox:
        with _in_sandbox(stack, state_dir) as place:
            yield place
        return
    check_shell(stack)
    if kubeconfig is not None and not kubeconfig.is_file():
        raise BadInputError(f"reading the kubeconfig {kubeconfig}: there is no such file")
    file = kubeconfig or _current(stack)
    if file is not None:
        with Kubectl(file, NAMESPACE) as kubectl:
            yield Place(stack=stack, kubectl=kubectl)
        return
    click.echo(
        f"the current kubeconfig is not of the cluster of {stack}: asking pulumi for its own, which takes seconds; "
        f"quicker: aws eks update-kubeconfig --name {PROJECT}-{stack}, or --kubeconfig FILE",
        err=True,
    )
    with opened(stack, sandbox=False, least=Phase.BLUE_GREEN) as target:
        yield target


@contextmanager
def _in_sandbox(stack: str, state_dir: Path | None) -> Generator[Place]:
    from sandbox.state import State, default_state_folder, read_json  # on AWS there may be no sandbox

    state = State(state_dir or default_state_folder(ROOT))
    cluster, up = f"{PROJECT}-{stack}", f"run sandbox up --stack {stack}"
    file = state.clusters / cluster / "admin.kubeconfig"
    if not file.is_file():
        raise BadInputError(f"looking for the cluster of {stack}: there is none in {state.folder}; {up}")
    # One that was ended by `sandbox stop`; one that has died is recorded still, and waited for.
    if f"{cluster}-kube-apiserver" not in read_json(state.services):
        raise BadInputError(f"looking for the cluster of {stack}: it does not run; {up}")
    with Kubectl(file, NAMESPACE, sandbox_variables(state)) as kubectl:
        yield Place(stack=stack, kubectl=kubectl, state_folder=state.folder)


def _current(stack: str) -> Path | None:
    """The user's kubeconfig, if its current context is the stack's cluster as `aws eks update-kubeconfig` names it."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    try:
        done = subprocess.run(
            [find(), "config", "view", "--minify", "--output=json"],
            env={**os.environ, "KUBECONFIG": files},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        seen: dict[str, Any] = json.loads(done.stdout)
        found = CLUSTER_ARN.fullmatch(seen["contexts"][0]["context"]["cluster"])
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None
    account = ACCOUNT.search((ROOT / f"Pulumi.{stack}.yaml").read_text())
    is_ours = found and account and found.groups() == (account[1], f"{PROJECT}-{stack}")
    return Path(files) if is_ours else None
