"""What a stack's name means: which cluster and which AWS account a command works on."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from components.shared.manifests import NAMESPACE
from infra.naming import PROJECT
from infra.phases import Phase
from runbook.aws import Access
from runbook.errors import BadInputError, RunbookError
from runbook.kubectl import Kubectl
from runbook.stack_config import ROOT, StackConfig

if TYPE_CHECKING:
    from sandbox.state import State

PULUMI_SECONDS: Final = 120


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stack's cluster and config are."""

    stack: str
    kubectl: Kubectl
    """Works on the namespace of the services."""
    state_folder: Path | None = None
    """The sandbox's; None on AWS."""

    @property
    def in_sandbox(self) -> bool:
        """Whether it is the stack as deployed in the sandbox."""
        return self.state_folder is not None

    @property
    def config(self) -> StackConfig:
        """What the next deployment reads."""
        return StackConfig(self.stack, self.state_folder)

    def command(self, words: str) -> str:
        """A command of the runbook for the same stack, as the user would write it."""
        return f"runbook {words} --stack {self.stack}{' --sandbox' if self.in_sandbox else ''}"

    @property
    def up(self) -> str:
        """The command that makes the stack what its config says, whatever has been changed outside of Pulumi."""
        return f"sandbox up --stack {self.stack}" if self.in_sandbox else f"pulumi up --refresh --stack {self.stack}"


@dataclass(frozen=True, kw_only=True)
class Target(Place):
    """One deployed stack."""

    access: Access
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """As they were deployed last."""


class NotDeployedError(BadInputError):
    """The stack is not deployed, or has not got as far as what was asked of it."""


@dataclass(frozen=True, kw_only=True)
class _Deployed:
    """What is known of a stack where it is deployed."""

    outputs: Mapping[str, Any]
    kubeconfig: Path | None = None
    """None: it is an output."""
    variables: Mapping[str, str]
    """Environment of kubectl."""
    endpoint: str = ""
    state_folder: Path | None = None


@contextmanager
def opened(stack: str, *, sandbox: bool, state_dir: Path | None = None, least: Phase) -> Generator[Target]:
    """The stack as it is deployed, in the sandbox or on AWS; it must have got as far as a phase.

    Raises:
        BadInputError: there is no such stack, it has not got that far, or the sandbox does not run.
        RunbookError: it cannot be found out.
    """
    check_name(stack)
    deployed = _in_sandbox(stack, state_dir) if sandbox else _on_aws(stack)
    phase = int(deployed.outputs.get("phase") or 0)
    if phase < least:
        up = f"sandbox up --stack {stack} --phase {least.value}"
        raise NotDeployedError(
            f"looking for the stack {stack}: it is deployed at phase {phase}, and this needs phase {least.value}; "
            + (f"run {up}" if sandbox else f"set {PROJECT}:phase in Pulumi.{stack}.yaml and run pulumi up")
            + (", with blueGreen.enabled" if least == Phase.BLUE_GREEN else "")
        )
    with ExitStack() as cleanup:
        file = deployed.kubeconfig
        if file is None:
            file = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="runbook-"))) / "kubeconfig"
            kubeconfig = deployed.outputs["kubeconfig"]
            file.write_text(kubeconfig if isinstance(kubeconfig, str) else json.dumps(kubeconfig))
        yield Target(
            stack=stack,
            state_folder=deployed.state_folder,
            outputs=deployed.outputs,
            kubectl=cleanup.enter_context(Kubectl(file, NAMESPACE, deployed.variables)),
            access=Access(
                account_id=str(deployed.outputs["account_id"]),
                # As deployed; the config may say something else by now.
                region=str(deployed.outputs["cost_alerts_topic_arn"]).split(":")[3],
                endpoint=deployed.endpoint,
            ),
        )


def check_name(stack: str) -> None:
    """Refuse what is no stack of this checkout, with the names of those that are."""
    known = sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in ROOT.glob("Pulumi.*.yaml"))
    if stack not in known:
        raise BadInputError(f"looking for the stack {json.dumps(stack[:60])}: the stacks are {', '.join(known)}")


def check_shell(stack: str) -> None:
    """Refuse to look for a stack on AWS from a shell in which `aws` talks to the sandbox."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if urlsplit(endpoint).hostname in ("127.0.0.1", "localhost"):
        raise BadInputError(
            f"looking for the stack {stack}: this shell talks to the sandbox ({endpoint}); give --sandbox, or open "
            "another shell"
        )


def pulumi_name(stack: str) -> str:
    """The stack's name for `pulumi`: where a pipeline logs in as an organization, it is not looked for by its own."""
    organization = os.environ.get("PULUMI_ORGANIZATION", "")
    return f"{organization}/{stack}" if organization else stack


def sandbox_variables(state: "State") -> dict[str, str]:
    """The environment that a sandbox's kubectl needs."""
    return {
        "KUBECACHEDIR": str(state.temporary / "kubectl"),  # or kubectl leaves one behind per port
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",  # goes before the other where both are set
    }


def _on_aws(stack: str) -> _Deployed:
    """The outputs as the stack's backend has them."""
    check_shell(stack)
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise BadInputError(f"looking for the stack {stack}: pulumi is not on PATH; install it, or give --sandbox")
    name = f"--stack={pulumi_name(stack)}"
    command = [pulumi, "stack", "output", "--json", "--show-secrets", name, "--non-interactive"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PULUMI_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunbookError(f"reading the outputs of {stack}: pulumi has not answered in {PULUMI_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("error:")), lines[-1] if lines else "pulumi failed")
        unknown = "no stack named" in told
        raise (NotDeployedError if unknown else RunbookError)(
            f"reading the outputs of {stack}: {told.removeprefix('error: ')}" + ("; deploy it" if unknown else "")
        )
    try:
        return _Deployed(outputs=json.loads(done.stdout), variables={})
    except ValueError:
        raise RunbookError(f"reading the outputs of {stack}: pulumi's answer is not JSON") from None


def _in_sandbox(stack: str, state_dir: Path | None) -> _Deployed:
    """What the sandbox keeps of the stack; without its engine and control planes, which take a second to load."""
    from sandbox import emulator, services  # on AWS there may be no sandbox
    from sandbox.errors import SandboxError
    from sandbox.state import State, default_state_folder, read_json

    start = f"run sandbox up --stack {stack}"
    state = State(state_dir or default_state_folder(ROOT))
    try:
        service = services.running(state, emulator.NAME)
        if service is None:
            raise BadInputError(f"looking for the sandbox: none runs in {state.folder}; {start}")
        stored = read_json(state.stack(stack))
        resources = ((stored.get("checkpoint") or {}).get("latest") or {}).get("resources") or []
        outputs = next((r.get("outputs", {}) for r in resources if r["type"] == "pulumi:pulumi:Stack"), {})
        cluster = f"{PROJECT}-{stack}"
        if outputs.get("cluster_name") and services.running(state, f"{cluster}-kube-apiserver") is None:
            raise BadInputError(f"looking for the cluster of {stack}: it does not run; {start}")
    except SandboxError as error:
        raise RunbookError(str(error)) from None
    return _Deployed(
        outputs=outputs,
        kubeconfig=state.clusters / cluster / "admin.kubeconfig",
        variables=sandbox_variables(state),
        endpoint=emulator.endpoint(service),
        state_folder=state.folder,
    )
