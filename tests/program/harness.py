"""Drives the sandbox's command line, and looks at what came of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import psutil

TIMEOUT_SECONDS = 120
WAIT_SECONDS = 300
"""Far longer than anything takes that is waited for, on a machine that has much else to do, too."""
LONGEST_PAUSE_SECONDS = 0.2


class Step(NamedTuple):
    """One step that the engine plans: what is done, to which type, by its logical name."""

    operation: str
    type: str
    name: str


class Sandbox:
    """The command line over one checkout and one state directory."""

    timeout_seconds = TIMEOUT_SECONDS

    def __init__(self, checkout: Path, state: Path) -> None:
        self.checkout = checkout
        self.state = state

    def command(self, *arguments: str) -> list[str]:
        """The command to start; the checkout's own packages come first on Python's path."""
        return [sys.executable, "-m", "sandbox", "--state-dir", str(self.state), *arguments]

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and hold it against the exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=self.timeout_seconds,
            check=False,
        )
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=heed_signals,  # noqa: PLW1509
        )

    def plan(self, *arguments: str) -> set[Step]:
        """What a preview announces, without what stays the same."""
        return {step for event in self.events(*arguments) if (step := _step(event)) and step.operation != "same"}

    def events(self, *arguments: str) -> list[dict[str, Any]]:
        """The engine's events of a preview."""
        return [json.loads(line) for line in self.run("preview", "--json", *arguments).stdout.splitlines()]

    def outputs(self, stack: str = "dev") -> dict[str, Any]:
        """Outputs of a stack."""
        return json.loads(self.run("outputs", "--stack", stack, "--json").stdout)

    def status(self) -> dict[str, Any]:
        """What `sandbox status` knows."""
        return json.loads(self.run("status", "--json").stdout)

    def shell(self, script: str, *env_arguments: str) -> subprocess.CompletedProcess[str]:
        """Run shell lines with the environment of `sandbox env` and this project's binaries."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        lines = f"set -euo pipefail\n{self.run('env', *env_arguments).stdout}\n{script}"
        return subprocess.run(
            ["bash", "-c", lines], capture_output=True, text=True, env=environment, timeout=TIMEOUT_SECONDS, check=True
        )

    def aws(self, service: str) -> Any:
        """A client of the emulator that is nobody's stand-in."""
        port = json.loads((self.state / "services.json").read_text())["ministack"]["port"]
        return _client(service, port)

    def processes(self) -> list[psutil.Process]:
        """Every process that works on this sandbox's state directory."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                words = [*process.cmdline(), *process.environ().values(), process.cwd()]
                if process.status() != psutil.STATUS_ZOMBIE and any(str(self.state) in word for word in words):
                    found.append(process)
        return found

    def untouched(self) -> bool:
        """Whether nothing was started and nothing written but empty folders."""
        files = [path for path in self.state.rglob("*") if path.is_file()]
        return not files and not self.processes()

    @contextlib.contextmanager
    def stopping(self) -> Generator["Sandbox"]:
        """Stop everything at the end, and see that it has."""
        try:
            yield self
        finally:
            if (self.state / "services.json").exists():
                self.run("stop")
            assert self.processes() == []

    def inventory(self) -> dict[str, list[str]]:
        """Everything that the emulator holds of the services that the program uses, and what is recorded."""
        listed = {
            "budgets": self.aws("budgets").describe_budgets(AccountId="123456789012").get("Budgets", []),
            "topics": self.aws("sns").list_topics()["Topics"],
            "subscriptions": self.aws("sns").list_subscriptions()["Subscriptions"],
            "dashboards": self.aws("cloudwatch").list_dashboards()["DashboardEntries"],
            "alarms": self.aws("cloudwatch").describe_alarms()["MetricAlarms"],
            "log groups": self.aws("logs").describe_log_groups()["logGroups"],
            "rules": self.aws("events").list_rules()["Rules"],
            "functions": self.aws("lambda").list_functions()["Functions"],
            "roles": self.aws("iam").list_roles()["Roles"],
            "aliases": [a for a in self.aws("kms").list_aliases()["Aliases"] if "alias/aws/" not in a["AliasName"]],
            "repositories": self.aws("ecr").describe_repositories()["repositories"],
            "recorded": self.status()["recorded"],
        }
        names = ("BudgetName", "TopicArn", "Endpoint", "DashboardName", "AlarmName", "logGroupName", "FunctionName")
        names += ("RoleName", "AliasName", "repositoryName", "Name", "name")
        return {
            kind: sorted(
                next(item[name] for name in names if name in item and (name != "TopicArn" or kind == "topics"))
                for item in items
            )
            for kind, items in listed.items()
        }


def wait_for(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds; fail, saying which, when it does not in time."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)


def children(process: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Processes that a command has started, by a word of their command line."""
    found: list[psutil.Process] = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that has, and that nobody has asked how, is still listed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def heed_signals() -> None:
    """Whoever runs the tests may have them ignored, as a shell does in the background, and children inherit that."""
    for heeded in (signal.SIGHUP, signal.SIGINT):
        signal.signal(heeded, signal.SIG_DFL)


@cache
def _client(service: str, port: int) -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="123456789012",
        aws_secret_access_key="test",  # noqa: S106 — the emulator checks no signatures
    )


def _step(event: dict[str, Any]) -> Step | None:
    if "resourcePreEvent" not in event:
        return None
    metadata = event["resourcePreEvent"]["metadata"]
    return Step(metadata["op"], metadata["type"], metadata["urn"].rpartition("::")[2])
