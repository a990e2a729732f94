"""What a stack's name means to the runbook: outputs of the stack on AWS, the sandbox's own files in the sandbox."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.phases import Phase
from runbook import target
from runbook.aws import Access
from runbook.errors import BadInputError, RunbookError
from runbook.target import NotDeployedError, opened
from sandbox import emulator
from sandbox.control_plane import KUBE_APISERVER, ControlPlane
from sandbox.state import State

SLOW = {"sandbox", "pulumi", "kubernetes", "boto3", "botocore", "pydantic", "ruamel", "prometheus_client"}
OUTPUTS: dict[str, Any] = {
    "account_id": "123456789012",
    "cluster_name": "pyairtable-dev",
    "cost_alerts_topic_arn": "arn:aws:sns:us-east-1:123456789012:pyairtable-dev-cost-alerts",
    "kubeconfig": '{"kind": "Config"}',
    "phase": 3,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is found on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("PULUMI_ORGANIZATION", raising=False)
    return tmp_path


def plays_pulumi(folder: Path, script: str) -> None:
    file = folder / "pulumi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def answers(folder: Path, outputs: dict[str, Any]) -> None:
    (folder / "outputs").write_text(json.dumps(outputs))
    plays_pulumi(folder, f'echo "$PWD $@" > {folder}/asked; cat {folder}/outputs')


def kubeconfig_of(found: target.Target) -> Path:
    return Path(found.kubectl._environment["KUBECONFIG"])  # pyright: ignore[reportPrivateUsage]


def refused(stack: str = "dev", *, sandbox: bool = False, state_dir: Path | None = None) -> str:
    with (
        pytest.raises(BadInputError) as error,
        opened(stack, sandbox=sandbox, state_dir=state_dir, least=Phase.SECRETS),
    ):
        pass
    return str(error.value)


def test_on_aws_the_outputs_say_where_it_is(folder: Path) -> None:
    answers(folder, OUTPUTS)
    with opened("dev", sandbox=False, least=Phase.SECRETS) as found:
        assert found.access == Access(account_id="123456789012", region="us-east-1")
        assert found.command("secrets") == "runbook secrets --stack dev"
        assert found.up == "pulumi up --refresh --stack dev"
    asked = (folder / "asked").read_text()
    assert asked == f"{target.ROOT} stack output --json --show-secrets --stack=dev --non-interactive\n"


def test_an_organization_from_the_environment_is_where_the_stack_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_ORGANIZATION", "pyairtable-org")
    answers(folder, OUTPUTS)
    with opened("dev", sandbox=False, least=Phase.SECRETS) as found:
        assert found.stack == "dev"
    assert "--stack=pyairtable-org/dev " in (folder / "asked").read_text()


def test_a_stack_that_has_not_got_that_far_can_be_told_from_other_trouble(folder: Path) -> None:
    answers(folder, {"phase": 2})
    with pytest.raises(NotDeployedError), opened("dev", sandbox=False, least=Phase.SECRETS):
        pass


def test_so_can_one_that_was_never_deployed(folder: Path) -> None:
    plays_pulumi(folder, "echo \"error: no stack named 'dev' found\" >&2; exit 1")
    with pytest.raises(NotDeployedError), opened("dev", sandbox=False, least=Phase.SECRETS):
        pass


@pytest.mark.parametrize("kubeconfig", ['{"kind": "Config"}', {"kind": "Config"}])
def test_the_kubeconfig_is_the_users_only_and_goes_again(folder: Path, kubeconfig: object) -> None:
    answers(folder, {**OUTPUTS, "kubeconfig": kubeconfig})
    with opened("dev", sandbox=False, least=Phase.SECRETS) as found:
        file = kubeconfig_of(found)
        assert json.loads(file.read_text()) == {"kind": "Config"}
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.parent.exists()


def test_the_proxy_runs_as_long_as_the_stack_is_open(folder: Path) -> None:
    answers(folder, OUTPUTS)
    with opened("dev", sandbox=False, least=Phase.SECRETS) as found:
        proxy = found.kubectl._proxy  # pyright: ignore[reportPrivateUsage]
        assert proxy
    assert proxy.has_ended


def test_an_unknown_stack_is_told_the_known_ones() -> None:
    assert refused("qa") == 'looking for the stack "qa": the stacks are dev, prod, staging'
    assert refused("../x").startswith('looking for the stack "../x": the stacks are')


def test_a_stack_that_has_not_got_that_far_is_told_how(folder: Path) -> None:
    answers(folder, {**OUTPUTS, "phase": 2})
    assert refused() == (
        "looking for the stack dev: it is deployed at phase 2, and this needs phase 3; set pyairtable:phase in "
        "Pulumi.dev.yaml and run pulumi up"
    )


def test_one_without_blue_and_green_is_told_how_to_get_them(folder: Path) -> None:
    answers(folder, OUTPUTS)
    with (
        pytest.raises(NotDeployedError, match=r"and this needs phase 4; .*, with blueGreen\.enabled$"),
        opened("dev", sandbox=False, least=Phase.BLUE_GREEN),
    ):
        pass


def test_a_stack_that_was_never_deployed_is_told_so(folder: Path) -> None:
    plays_pulumi(folder, "echo \"error: no stack named 'dev' found\" >&2; exit 1")
    assert refused() == "reading the outputs of dev: no stack named 'dev' found; deploy it"


def test_without_pulumi_that_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert "pulumi is not on PATH; install it, or give --sandbox" in refused()


def test_a_shell_that_talks_to_the_sandbox_does_not_touch_a_real_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert "this shell talks to the sandbox (http://127.0.0.1:4566); give --sandbox" in refused()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'warning: a'; echo 'error: bad passphrase' >&2; echo more >&2; exit 1", "of dev: bad passphrase"),
        ("echo 'what?' >&2; exit 1", "of dev: what?"),
        ("exit 1", "of dev: pulumi failed"),
        ("echo a-secret", "of dev: pulumi's answer is not JSON"),
        ("exec sleep 60", "of dev: pulumi has not answered in"),
    ],
)
def test_another_trouble_of_pulumis_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(target, "PULUMI_SECONDS", 1)
    plays_pulumi(folder, script)
    with pytest.raises(RunbookError) as failed, opened("dev", sandbox=False, least=Phase.SECRETS):
        pass
    assert not isinstance(failed.value, BadInputError)
    assert message in str(failed.value)


class Sandbox:
    """A sandbox's folder, in which this process plays every service."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.state.prepare()
        self.plane = ControlPlane(cluster="pyairtable-dev", folder=self.state.clusters / "pyairtable-dev", ports={})

    def runs(self, *names: str, pid: int | None = None) -> None:
        process = psutil.Process(os.getpid())
        entry = {"pid": pid or process.pid, "created": process.create_time(), "port": 4566, "log": "log"}
        self.state.services.write_text(json.dumps(dict.fromkeys(names, entry)))

    def holds(self, outputs: dict[str, Any]) -> None:
        stack = {"type": "pulumi:pulumi:Stack", "outputs": outputs}
        file = self.state.backend / ".pulumi/stacks/pyairtable/dev.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"checkpoint": {"latest": {"resources": [{"type": "other"}, stack]}}}))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A sandbox with dev at phase 3."""
    sandbox = Sandbox(tmp_path / "state")
    sandbox.runs(emulator.NAME, sandbox.plane.services[KUBE_APISERVER])
    return sandbox


def test_in_the_sandbox_its_own_files_say_where_it_is(sandbox: Sandbox) -> None:
    sandbox.holds(OUTPUTS)
    with opened("dev", sandbox=True, state_dir=sandbox.state.folder, least=Phase.SECRETS) as found:
        assert found.access == Access(account_id="123456789012", region="us-east-1", endpoint="http://127.0.0.1:4566")
        assert found.state_folder == sandbox.state.folder
        assert kubeconfig_of(found) == sandbox.plane.kubeconfig
        assert found.command("secrets") == "runbook secrets --stack dev --sandbox"
        assert found.up == "sandbox up --stack dev"


def test_a_sandbox_that_does_not_run_is_told_how_to_start(tmp_path: Path) -> None:
    assert refused(sandbox=True, state_dir=tmp_path) == (
        f"looking for the sandbox: none runs in {tmp_path}; run sandbox up --stack dev"
    )


def test_a_stack_that_is_not_in_the_sandbox_is_at_phase_0(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "state")
    sandbox.runs(emulator.NAME)
    assert refused(sandbox=True, state_dir=sandbox.state.folder) == (
        "looking for the stack dev: it is deployed at phase 0, and this needs phase 3; run sandbox up --stack dev "
        "--phase 3"
    )


def test_a_cluster_that_does_not_run_is_told_how_to_start(sandbox: Sandbox) -> None:
    sandbox.holds(OUTPUTS)
    sandbox.runs(emulator.NAME)
    found = refused(sandbox=True, state_dir=sandbox.state.folder)
    assert found == "looking for the cluster of dev: it does not run; run sandbox up --stack dev"


def test_a_damaged_file_of_the_sandbox_is_named(sandbox: Sandbox) -> None:
    sandbox.state.services.write_text("{")
    with (
        pytest.raises(RunbookError, match=r"reading .*services\.json"),
        opened("dev", sandbox=True, state_dir=sandbox.state.folder, least=Phase.SECRETS),
    ):
        pass


def test_the_sandbox_of_this_checkout_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert f"none runs in {tmp_path}/pyairtable/sandbox/" in refused(sandbox=True)


def test_what_only_the_sandbox_needs_is_not_loaded_for_aws() -> None:
    import subprocess

    modules = (f"runbook.{path.stem}" for path in (target.ROOT / "runbook").glob("[a-z]*.py"))
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=target.ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & SLOW == set()
