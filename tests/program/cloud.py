"""Programs of the tests' own, deployed by the real engine into an emulator."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.settings import Settings
from sandbox import emulator, services
from sandbox.engine import Backends, Engine, Target
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.provider import AwsProvider
from sandbox.recovery import recover
from sandbox.state import State
from sandbox.tools import TOOLS, find

CONFIG: dict[str, Any] = {
    "pyairtable:phase": 1,
    "pyairtable:accountId": "123456789012",
    "pyairtable:region": "us-east-1",
    "pyairtable:monthlyBudgetUsd": 98,
    "pyairtable:alertEmails": ["platform@example.com"],
}
SETTINGS = Settings.from_config("dev", CONFIG)


class Cloud:
    """An emulator, and programs of the tests' own that are deployed into it, a stack each."""

    def __init__(self, state: State, endpoint: str) -> None:
        self.state = state
        self.endpoint = endpoint
        self.lines: list[str] = []

    def engine(self, stack: str, program: Callable[[aws.Provider], object], account_id: str = "123456789012") -> Engine:
        """An engine that runs a program, which is given the provider to use."""

        def run() -> None:
            program(
                aws.Provider(
                    "aws", region="us-east-1", allowed_account_ids=[account_id], default_tags={"tags": {"Stack": stack}}
                )
            )

        return Engine(self.state, find(TOOLS["pulumi"]), stack, echo=self.lines.append, program=run)

    def preview(self, stack: str, program: Callable[[aws.Provider], object], **options: Any) -> str:
        """Preview a program; what the engine printed."""
        return self._do("preview", stack, program, **options)

    def up(self, stack: str, program: Callable[[aws.Provider], object], **options: Any) -> str:
        """Deploy a program; what the engine printed."""
        return self._do("up", stack, program, **options)

    def refresh(self, stack: str, program: Callable[[aws.Provider], object]) -> str:
        """Refresh a program's stack; what the engine printed."""
        return self._do("refresh", stack, program)

    def resource(self, stack: str, name: str) -> dict[str, Any]:
        """A resource in a stack's state."""
        return next(resource for resource in self.resources(stack) if resource["urn"].endswith(f"::{name}"))

    def destroy(self, stack: str, program: Callable[[aws.Provider], object]) -> str:
        """Delete everything in a program's stack; what the engine printed."""
        return self._do("destroy", stack, program)

    def recover(self, stack: str, program: Callable[[aws.Provider], object]) -> None:
        """Bring a program's stack back to where an up can go on."""
        self.lines.clear()
        recover(self.engine(stack, program), self._target)

    def provider(self, stack: str) -> AwsProvider:
        """The stand-in itself."""
        provider = self.engine(stack, lambda _: None).providers(self._target)["aws"]
        assert isinstance(provider, AwsProvider)
        return provider

    def resources(self, stack: str) -> list[dict[str, Any]]:
        """Every resource in a stack's state."""
        return self.engine(stack, lambda _: None).deployment().get("resources", [])

    def client(self, service: str) -> Any:
        """A client of the emulator."""
        return Aws(self.endpoint, "123456789012", "us-east-1").client(service)

    @property
    def _target(self) -> Target:
        backends = Backends(aws_endpoint=self.endpoint, log_hint=" (logs)")
        return Target(config=CONFIG, settings=SETTINGS, backends=backends)

    def _do(self, what: str, stack: str, program: Callable[[aws.Provider], object], **options: Any) -> str:
        self.lines.clear()
        engine = self.engine(stack, program, **options)
        getattr(engine, what)(self._target)
        return "\n".join(self.lines)


@contextmanager
def running_cloud(folder: Path) -> Generator[Cloud]:
    """An emulator with its state in a folder, until the block ends."""
    state = State(folder)
    state.prepare()
    with state.locked():
        service = emulator.ensure(state)
    try:
        yield Cloud(state, emulator.endpoint(service))
    finally:
        with state.locked():
            services.stop(state, emulator.NAME)


def raw(type: str, properties: dict[str, Any]) -> Callable[[aws.Provider], object]:
    """A program of one resource that no SDK class stands before."""
    return lambda provider: pulumi.CustomResource(
        type, "raw", properties, opts=pulumi.ResourceOptions(provider=provider)
    )


def only_unchanged(printed: str) -> bool:
    """Whether nothing differed, going by what the engine printed."""
    counts = printed.rpartition("Resources:")[2].split("Duration:")[0].strip()
    return counts.endswith("unchanged") and "\n" not in counts
