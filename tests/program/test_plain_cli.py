"""The program under the plain `pulumi` command line: Pulumi.yaml is enough, the Automation API is not needed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.settings import Settings
from sandbox import emulator, services
from sandbox.checkout import ROOT, stack_config
from sandbox.control_plane import ControlPlanes
from sandbox.providers.aws.provider import AwsProvider
from sandbox.providers.server import serving
from sandbox.state import State
from sandbox.tools import MODULES, TOOLS, find

Pulumi = Callable[..., subprocess.CompletedProcess[str]]


def _executor() -> str:
    """The SDK's own executor of Python programs, out of the engine's Go module."""
    command = ["go", "mod", "download", "-json", "github.com/pulumi/pulumi/sdk/v3"]
    answer = subprocess.run(command, cwd=MODULES / "pulumi", capture_output=True, text=True, check=True).stdout
    folder = re.search(r'"Dir": "(.*)"', answer)
    assert folder
    return str(Path(folder[1]) / "python/cmd/pulumi-language-python-exec")


@pytest.fixture(scope="module")
def pulumi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulumi]:
    """The `pulumi` command in a copy of the checkout, logged in to a folder, with plugins on its PATH."""
    folder = tmp_path_factory.mktemp("plain")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("infra", "components", "cost"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("Pulumi*.yaml"):  # at phase 1: no control plane runs in this tier
        (checkout / file.name).write_text(re.sub(r"(pyairtable:phase:) \d", r"\1 1", file.read_text()))
    plugins = folder / "plugins"
    plugins.mkdir()
    host = plugins / "pulumi-language-python"
    script = Path(__file__).parent / "language_host.py"
    host.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "{_executor()}" "$@"\n')
    host.chmod(0o755)

    state = State(folder / "state")
    state.prepare()
    with state.locked():
        service = emulator.ensure(state)
    settings = Settings.from_config("dev", stack_config("dev"))
    provider = AwsProvider(
        endpoint=emulator.endpoint(service),
        account_id=settings.account_id,
        region=settings.region,
        records_file=state.records,
        planes=ControlPlanes(state),
        version="0.0.0",
    )
    with serving(provider) as port:

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [find(TOOLS["pulumi"]), *arguments, "--non-interactive"],
                cwd=checkout,
                env={
                    "PATH": f"{plugins}{os.pathsep}{os.environ['PATH']}",
                    "HOME": str(folder),
                    "PULUMI_HOME": str(folder / "home"),
                    "PULUMI_BACKEND_URL": f"file://{state.backend}",
                    "PULUMI_CONFIG_PASSPHRASE": "test",
                    "PULUMI_SKIP_UPDATE_CHECK": "true",
                    "PULUMI_DEBUG_PROVIDERS": f"aws:{port}",
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        assert run("stack", "init", "dev").returncode == 0
        yield run
    with state.locked():
        services.stop(state, emulator.NAME)


def test_the_program_previews_under_the_plain_cli(pulumi: Pulumi) -> None:
    done = pulumi("preview", "-s", "dev", "--skip-plugin-pre-install")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+ 24 to create" in done.stdout
    assert '"pyairtable-dev-monthly-budget"' in done.stdout


def test_bad_config_ends_the_plain_cli_with_one_line_and_no_traceback(pulumi: Pulumi) -> None:
    pulumi("config", "set", "--path", "pyairtable:cost.enforce", "maybe", "-s", "dev")
    try:
        done = pulumi("preview", "-s", "dev", "--skip-plugin-pre-install")
    finally:
        pulumi("config", "rm", "pyairtable:cost", "-s", "dev")
    assert done.returncode != 0
    assert 'pyairtable:cost.enforce: must be true or false, not "maybe"' in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
