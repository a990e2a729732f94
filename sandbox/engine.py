"""Runs the program under the real Pulumi engine against the sandbox's backends, through the Automation API."""

import importlib.metadata
import json
import logging
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal

import yaml
from pulumi import automation as auto
from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation._stack import StackInitMode  # pyright: ignore[reportPrivateImportUsage]
from pulumi.automation.errors import create_command_error
from pydantic import SecretStr
from semver import VersionInfo

from infra.naming import PROJECT
from infra.phases import Phase
from infra.settings import Settings
from sandbox.checkout import ROOT, Config, dump_yaml, load_yaml
from sandbox.children import ending_with_this_process
from sandbox.control_plane import ControlPlanes
from sandbox.deployments import SECRET_MARK, deployment, outputs_of, package_of
from sandbox.encryption import Encryption
from sandbox.errors import SandboxError
from sandbox.private_config import PrivateConfig
from sandbox.providers.provider import Provider
from sandbox.providers.server import serving
from sandbox.state import State, read_json, write_json
from sandbox.tools import TOOLS, wanted_version

PROGRAM = ROOT / "infra"
PROJECT_FILE = ROOT / "Pulumi.yaml"


COMPUTE_PACKAGES = frozenset({"kubernetes", "random", "tls"})
"""Packages whose resources exist from phase 2 on; loading their stand-ins takes time."""

RUNS_PROVIDERS = frozenset({"preview", "up", "refresh", "destroy"})
"""Commands that would first try to download the official plugins, although stand-ins are attached."""


@dataclass(frozen=True, kw_only=True)
class Backends:
    """Where the providers find what they provide."""

    aws_endpoint: str
    log_hint: str
    emulator: str = ""
    """Which process of the emulator it is: another one may not hold what a stack's state says."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a stack is to be, and what it is deployed into."""

    config: Config
    settings: Settings
    backends: Backends


def run_program() -> None:
    """The program, started the way the language host starts it: as the folder that Pulumi.yaml names."""
    runpy.run_path(str(PROGRAM), run_name="__main__")


def revealed(value: Any) -> Any:
    """A part of a deployment that was exported in plain text, with its secrets as what they are."""
    if isinstance(value, dict):
        if SECRET_MARK in value and "plaintext" in value:
            return revealed(json.loads(value["plaintext"]))
        return {key: revealed(part) for key, part in value.items()}
    return [revealed(part) for part in value] if isinstance(value, list) else value


def _settled(deployment: Mapping[str, Any], created: Mapping[str, str]) -> dict[str, Any]:
    """A deployment without pending operations, with what they created; `created`: ids by URN."""
    settled = dict(deployment)
    resources: list[dict[str, Any]] = list(settled.get("resources", []))
    for operation in settled.pop("pending_operations", []):
        resource = operation["resource"]
        id = created.get(resource["urn"])
        if operation["type"] != "creating" or id is None:
            continue
        made = {**resource, "id": id, "outputs": resource.get("inputs", {})}
        current = (i for i, r in enumerate(resources) if r["urn"] == made["urn"] and not r.get("delete"))
        index = next(current, None)
        if index is None:
            resources.append(made)
        elif resources[index]["id"] != id:
            # It replaces the old one, which others may depend on until the engine has deleted it.
            resources.append({**resources[index], "delete": True})
            resources[index] = made
    return {**settled, "resources": resources}


class Engine:
    """One stack of the checkout, as the engine in the sandbox knows it."""

    def __init__(
        self,
        state: State,
        pulumi: Path,
        stack: str,
        echo: Callable[[str], None],
        program: Callable[[], None] = run_program,
    ) -> None:
        self._state = state
        self._stack_name = stack
        self._echo = echo
        self._program = program
        self._command = _Command(pulumi)
        _log_providers_to(state.logs / "providers.log")
        self._color: Literal["always", "never"] = "always" if sys.stdout.isatty() else "never"

    def preview(self, target: Target) -> None:
        """Show what an up would do."""
        with self._stack(target) as stack:
            stack.preview(on_output=self._echo, color=self._color)

    def preview_events(self, target: Target) -> None:
        """Like preview, but what is shown is the engine's own stream of events, a JSON object a line."""
        with self._stack(target, {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}) as stack:
            self._command.extra_arguments["preview"] = ("--json",)
            stack.preview(on_output=self._echo, on_error=lambda line: print(line, file=sys.stderr))

    def up(self, target: Target) -> None:
        """Preview, then do it, as `pulumi up` does: what the preview refuses never begins."""
        with self._stack(target) as stack:
            stack.preview(on_output=self._echo, color=self._color)
            stack.up(on_output=self._echo, color=self._color)
        self._deployed_into(target.backends)

    def refresh(self, target: Target) -> None:
        """Make the state what the backends hold."""
        with self._stack(target) as stack:
            stack.refresh(on_output=self._echo, color=self._color)
        self._deployed_into(target.backends)

    def deployed_into(self) -> str:
        """The emulator that the stack's state was last known to agree with."""
        return str(read_json(self._agreement).get("emulator", ""))

    def agrees_no_more(self) -> None:
        """Note that something which the state has is gone, so that the next command looks what is left."""
        self._agreement.unlink(missing_ok=True)

    def _deployed_into(self, backends: Backends) -> None:
        write_json(self._agreement, {"emulator": backends.emulator})

    @property
    def _agreement(self) -> Path:
        return self._state.work / self._stack_name / "emulator.json"

    def settle_pending(self, target: Target, find: Callable[[Mapping[str, Any]], str | None]) -> None:
        """Take operations that never ended out of the state; what was created all the same goes into it.

        `find` is given a resource that was being created, and returns the id of what was made of it, if anything.

        The engine's own import of pending creates reads a resource by nothing but its id, which is too little for types
        whose id does not name what they belong to. The state that it noted before the crash has the inputs.
        """
        with self._stack(target) as stack:
            exported = stack.export_stack()  # with its secrets in plain text, which are not to reach any file
            operations = revealed((exported.deployment or {}).get("pending_operations", []))
            created = {
                operation["resource"]["urn"]: id
                for operation in operations
                if operation["type"] == "creating" and (id := find(operation["resource"]))
            }
            settled = _settled(self.deployment(), created)
            file = self._state.work / self._stack_name / "settled.json"
            file.write_text(json.dumps({"version": exported.version, "deployment": settled}))
            stack.import_file(file)
            file.unlink()

    def destroy(self, target: Target) -> None:
        """Delete everything that the stack has."""
        with self._stack(target) as stack:
            stack.destroy(on_output=self._echo, color=self._color)

    def cancel(self, target: Target) -> None:
        """Release the lock of an update that died."""
        with self._stack(target) as stack:
            stack.cancel()

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, null below their phase; secret ones are not shown."""
        return outputs_of(self._state.stack(self._stack_name)) or {}

    def deployment(self) -> Mapping[str, Any]:
        """The stack's state as the backend holds it; empty when there is none.

        Read from the backend's file: asking the engine takes half a second and needs the stack's passphrase.
        """
        return deployment(self._state.stack(self._stack_name))

    def locks(self) -> list[Path]:
        """Lock files of the stack."""
        folder = self._state.backend / ".pulumi" / "locks" / "organization" / PROJECT / self._stack_name
        return sorted(folder.glob("*.json"))

    def providers(self, target: Target) -> dict[str, Provider]:
        """The stand-ins that the target's phase needs, or what is deployed already, by package."""
        return {package: self._provider(package, target) for package in sorted(self._packages(target))}

    def _packages(self, target: Target) -> frozenset[str]:
        deployed = frozenset(package_of(resource["type"]) for resource in self.deployment().get("resources", []))
        needed = COMPUTE_PACKAGES if target.settings.phase >= Phase.COMPUTE else COMPUTE_PACKAGES & deployed
        return needed | {"aws"}

    def _provider(self, package: str, target: Target) -> Provider:
        """One stand-in; what only it needs is imported here."""
        settings, hint = target.settings, target.backends.log_hint
        version = importlib.metadata.version(f"pulumi-{package}")
        planes = ControlPlanes(self._state)
        match package:
            case "aws":
                from sandbox.providers.aws.provider import AwsProvider

                return AwsProvider(
                    endpoint=target.backends.aws_endpoint,
                    account_id=settings.account_id,
                    region=settings.region,
                    records_file=self._state.records,
                    planes=planes,
                    version=version,
                    hint=hint,
                )
            case "kubernetes":
                from sandbox.providers.kubernetes.provider import KubernetesProvider

                return KubernetesProvider(planes, settings.names.prefix, version=version, hint=hint)
            case "random":
                from sandbox.providers.random import RandomProvider

                return RandomProvider(version=version, hint=hint)
            case _:
                from sandbox.providers.tls import TlsProvider

                return TlsProvider(version=version, hint=hint)

    def say(self, text: str) -> None:
        """Tell the user what is being done besides the engine's own words."""
        self._echo(text)

    @contextmanager
    def _stack(self, target: Target, extra: Mapping[str, str] | None = None) -> Generator["_Stack"]:
        work = self._work_folder(target.config)
        self._install_component_provider()
        with self._serving(target) as ports:
            workspace = _Workspace(
                work_dir=str(work),
                pulumi_home=str(self._state.pulumi_home),
                program=self._program,
                pulumi_command=self._command,
                env_vars={
                    # Without attribute files, which unlike the state itself are not replaced as a whole: an engine
                    # that is killed while it writes one leaves a stack that no engine can read.
                    "PULUMI_BACKEND_URL": f"file://{urllib.parse.quote(str(self._state.backend))}?metadata=skip",
                    "PULUMI_CONFIG_PASSPHRASE": self._state.passphrase(),
                    "PULUMI_SKIP_UPDATE_CHECK": "true",
                    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                    "PULUMI_DEBUG_PROVIDERS": ",".join(f"{package}:{port}" for package, port in ports.items()),
                    **(extra or {}),
                },
            )
            try:
                exists = self._state.stack(self._stack_name).exists()
                yield _Stack(self._stack_name, workspace, StackInitMode.SELECT if exists else StackInitMode.CREATE)
            except auto.CommandError as error:
                raise SandboxError(_last_words(str(error))) from None
            finally:
                self._command.extra_arguments.clear()

    @contextmanager
    def _serving(self, target: Target) -> Generator[dict[str, int]]:
        """Serve the stand-ins; their ports, by package. They load what takes time while the engine starts."""
        providers = self.providers(target)
        warm_up = threading.Thread(target=lambda: [provider.warm_up() for provider in providers.values()])
        warm_up.start()
        try:
            with ExitStack() as stack:
                yield {package: stack.enter_context(serving(provider)) for package, provider in providers.items()}
        finally:
            warm_up.join()

    def _install_component_provider(self) -> None:
        """Put the one stand-in that the engine has to start itself, since it makes components, where plugins are."""
        version = importlib.metadata.version("pulumi-eks")
        plugin = self._state.pulumi_home / "plugins" / f"resource-eks-v{version}" / "pulumi-resource-eks"
        path, python = shlex.quote(str(ROOT)), shlex.quote(sys.executable)
        script = f'#!/bin/sh\nPYTHONPATH={path} exec {python} -m sandbox.providers.eks "$@"\n'
        if not plugin.exists() or plugin.read_text() != script:
            plugin.parent.mkdir(parents=True, exist_ok=True)
            partial = plugin.with_suffix(".partial")
            partial.write_text(script)
            partial.chmod(0o700)
            partial.replace(plugin)

    def _work_folder(self, config: Config) -> Path:
        """A folder with the project and the run's config in it: the engine writes there, not into the checkout."""
        work = self._state.work / self._stack_name
        work.mkdir(exist_ok=True)
        project = load_yaml(PROJECT_FILE)
        project.pop("main", None)  # the program is handed over by the Automation API
        project["runtime"] = "python"
        (work / "Pulumi.yaml").write_text(dump_yaml(project))
        stack_file = work / f"Pulumi.{self._stack_name}.yaml"
        salt = (yaml.safe_load(stack_file.read_text()) or {}).get("encryptionsalt") if stack_file.exists() else None
        secrets = {key: value for key, value in config.items() if isinstance(value, SecretStr)}
        if secrets:
            private = PrivateConfig(self._state, self._stack_name)
            encryption = Encryption(self._state.passphrase(), salt)
            salt = encryption.salt
            values = {key: private.value(key, value) for key, value in secrets.items()}
            config = {**config, **{key: {"secure": encryption.encrypt(value)} for key, value in values.items()}}
        content = {"config": config, **({"encryptionsalt": salt} if salt else {})}
        stack_file.write_text(dump_yaml(content))
        return work


def _log_providers_to(path: Path) -> None:
    """Keep what the stand-ins do and what goes wrong in them, with times and tracebacks."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("sandbox.providers")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


class _Workspace(auto.LocalWorkspace):
    """A folder in which no stack is selected: every command names its own, and one start of the engine is saved."""

    def select_stack(self, stack_name: str) -> None:
        pass


class _Stack(auto.Stack):
    """A stack that is not asked, after each up, for outputs and history that nobody reads: answers take a second."""

    def outputs(self) -> auto.OutputMap:
        return {}

    def import_file(self, file: Path) -> None:
        """Replace the state by an exported one; the parent's way would put its secrets into a file of plain text."""
        self._run_pulumi_cmd_sync(["stack", "import", "--file", str(file)])

    def info(self, show_secrets: bool = True) -> auto.UpdateSummary | None:
        return auto.UpdateSummary(
            kind="update", start_time=datetime.now(UTC), message="", environment={}, config={}, result="not asked"
        )


class _Command(PulumiCommand):
    """Runs the engine in a session of its own: Ctrl-C then reaches it once, from here, and it can finish cleanly."""

    def __init__(self, pulumi: Path) -> None:
        # The parent's constructor asks the binary for its version, which tools.find has done already.
        self.command = str(pulumi)
        self.version = VersionInfo(*wanted_version(TOOLS["pulumi"]))
        self.extra_arguments: dict[str, tuple[str, ...]] = {}
        """Arguments that the Automation API has no parameter for, by subcommand."""

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        """Run one command of the engine.

        Raises:
            CommandError: it failed.
            KeyboardInterrupt: it was interrupted, and has ended.
        """
        arguments = [*args, *self.extra_arguments.get(args[0], ())]
        if args[0] in RUNS_PROVIDERS:
            arguments.append("--skip-plugin-pre-install")
        # An engine that outlives the stand-ins takes what they were making for failed and forgets it, though it may be
        # there; one that dies with them leaves a note of it, which the next command reads.
        command = [*ending_with_this_process(), self.command, "--non-interactive", *arguments]
        environment = {**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"}
        lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        with _forwarding_interrupts(process) as interrupts:
            readers = [
                threading.Thread(target=_read, args=(stream, callback, lines[name]), daemon=True)
                for name, stream, callback in (
                    ("stdout", process.stdout, on_output),
                    ("stderr", process.stderr, on_error),
                )
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            code = process.wait()
        if interrupts:
            raise KeyboardInterrupt
        result = CommandResult(stdout="\n".join(lines["stdout"]), stderr="\n".join(lines["stderr"]), code=code)
        if code != 0:
            raise create_command_error(result)
        return result


def _read(stream: IO[str], callback: Callable[[str], Any] | None, lines: list[str]) -> None:
    """Pass lines on. When nobody reads them any more the engine still ends its work: half an update is worse."""
    with stream:
        for line in stream:
            lines.append(line.rstrip())
            try:
                if callback:
                    callback(line.rstrip())
            except BrokenPipeError:
                callback = None


@contextmanager
def _forwarding_interrupts(process: subprocess.Popen[str]) -> Generator[list[int]]:
    """Pass the first interrupt on, for a clean end, and kill at the second; yields the interrupts seen.

    Whatever else ends the block ends the engine too.
    """
    seen: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            print("interrupted: ending what is under way; once more ends it at once", file=sys.stderr, flush=True)
            process.send_signal(signal.SIGINT)
        else:
            process.kill()

    in_main_thread = threading.current_thread() is threading.main_thread()
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {n: signal.signal(n, forward) for n in heeded} if in_main_thread else {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
            process.wait()


def _last_words(text: str) -> str:
    """The engine's own error out of all that it printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    signals = [line.removeprefix("code: -") for line in lines if line.startswith("code: -")]
    if signals:
        return f"the engine was ended by signal {signals[0]}; run the command again, which goes on where it was"
    # What went wrong with a resource stands in a line of its own where the resource is there all the same.
    errors = [line.rpartition("error: ")[2] for line in lines if "error:" in line or line.startswith("* ")]
    telling = [error for error in errors if not error.endswith((" failed", " occurred:"))]
    last = (telling or errors or lines or ["the engine failed without a word"])[-1]
    return last.removeprefix("an unhandled error occurred: ").removeprefix("* ")
