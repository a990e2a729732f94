"""Runs a Pulumi program under mocks, in a runtime of its own, and gives back the graph that it registered."""

import asyncio
import contextvars
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import Stack, run_pulumi_func

from infra.naming import PROJECT
from infra.phases import HIGHEST_BUILT
from infra.program import Platform
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
ACCOUNT_ID = "123456789012"
REGION = "us-east-1"
EMAILS = ("ada@pyairtable.example", "grace@pyairtable.example")

STACK = "pulumi:pulumi:Stack"
AWS_PROVIDER = "pulumi:providers:aws"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One registered resource: what the program said about it, and what the mock made of it."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    parent: str
    """URN; the stack's own for what is directly below it."""
    provider: str
    """URN of the provider; empty for a default one, and for what has none."""
    dependencies: frozenset[str]
    """URNs of everything that exists before it, whether named in its options or in its inputs."""

    def json(self, key: str = "policy") -> dict[str, Any]:
        """An input that holds JSON text, parsed."""
        return json.loads(self.inputs[key])


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Every registration of a program by URN, twice where it was made twice, and what the stack exports."""

    nodes: tuple[Node, ...]
    outputs: Mapping[str, Any]
    finished: frozenset[str]
    """URNs of the components that registered their outputs."""
    warnings: tuple[str, ...]

    def of_type(self, type_: str) -> tuple[Node, ...]:
        """All resources of a type."""
        return tuple(node for node in self.nodes if node.type == type_)

    def only(self, type_: str) -> Node:
        """The one resource of a type."""
        (node,) = self.of_type(type_)
        return node

    def named(self, name: str) -> Node:
        """The one resource of a logical name."""
        (node,) = (node for node in self.nodes if node.name == name)
        return node

    def at(self, urn: str) -> Node:
        """The one resource of a URN."""
        (node,) = (node for node in self.nodes if node.urn == urn)
        return node

    def top_of(self, node: Node) -> Node:
        """The end of a resource's parent chain, just below the stack."""
        while _type_of(node.parent) != STACK:
            node = self.at(node.parent)
        return node

    @property
    def aws(self) -> tuple[Node, ...]:
        """All resources of AWS, without the provider."""
        return tuple(node for node in self.nodes if node.type.startswith("aws:"))

    @property
    def components(self) -> tuple[Node, ...]:
        """All component resources of the program."""
        return tuple(node for node in self.nodes if node.type.startswith(f"{PROJECT}:"))

    @property
    def text(self) -> str:
        """The whole graph as text: equal texts, equal graphs."""
        nodes = [(node.urn, node.inputs, node.parent, node.provider, sorted(node.dependencies)) for node in self.nodes]
        return json.dumps(nodes, sort_keys=True, indent=1)


def config(stack: str = "dev", **overrides: object) -> dict[str, object]:
    """The config of a stack as its file would hold it."""
    values: dict[str, object] = {
        "phase": int(HIGHEST_BUILT),
        "accountId": ACCOUNT_ID,
        "alertEmails": list(EMAILS),
        "monthlyBudgetUsd": {"dev": 98, "staging": 150, "prod": 395}[stack.rpartition("-")[2]],
        **overrides,
    }
    return {f"{PROJECT}:{key}": value for key, value in values.items()}


def as_engine_passes(config: Mapping[str, object]) -> dict[str, str]:
    """The config as the engine hands it to a program: text stays, everything else is JSON text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def platform(stack: str = "dev", **overrides: object) -> Graph:
    """The graph of the whole program for a stack whose config is `config(stack, **overrides)`."""
    return _platform(stack, json.dumps(overrides, sort_keys=True))


@cache
def _platform(stack: str, overrides: str) -> Graph:
    settings = Settings.from_config(stack, config(stack, **json.loads(overrides)))
    return run(lambda: Platform(settings), stack)


def run(program: Callable[[], object], stack: str = "dev", engine_config: Mapping[str, str] | None = None) -> Graph:
    """The graph of any program; raises what the program raises."""
    # The runtime keeps everything in context variables: a context of its own is a runtime of its own.
    return contextvars.copy_context().run(lambda: asyncio.run(_run(program, stack, engine_config or {})))


async def _run(program: Callable[[], object], stack: str, engine_config: Mapping[str, str]) -> Graph:
    log = _WarningLog()
    monitor = RecordingMonitor()
    cast(Any, SETTINGS).outputs = set()
    pulumi.runtime.set_mocks(monitor.mocks, PROJECT, stack, preview=False, logger=log, monitor=monitor)
    pulumi.runtime.set_all_config(dict(engine_config))
    # The monitor needs an event loop in the thread that it is called in, and somebody to close it.
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(max_workers=1, initializer=asyncio.set_event_loop, initargs=(loop,))
    asyncio.get_running_loop().set_default_executor(executor)
    outputs: dict[str, Any] = {}

    async def run_and_collect() -> None:
        program()
        stack_resource = cast(Stack, pulumi.runtime.get_root_resource())
        outputs.update(await _value(pulumi.Output.all(**stack_resource.outputs)))

    try:
        await run_pulumi_func(run_and_collect)
    finally:
        executor.shutdown()
        loop.close()
    return Graph(
        nodes=tuple(sorted(monitor.nodes, key=lambda node: node.urn)),
        outputs=outputs,
        finished=frozenset(monitor.finished),
        warnings=tuple(log.warnings),
    )


async def _value(output: pulumi.Output[Any]) -> Any:
    return await output.future()


class _WarningLog(logging.Logger):
    """Keeps the program's warnings, and lets nothing out."""

    def __init__(self) -> None:
        super().__init__("program", logging.WARNING)
        self.warnings: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.warnings.append(record.getMessage())


class Cloud(mocks.Mocks):
    """Computes what AWS would: an id and an ARN for everything, a key id for keys."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        name = args.inputs.get("name", args.name)
        if not args.typ.startswith("aws:"):
            return f"{name}-id", args.inputs
        service = args.typ.split(":")[1].partition("/")[0]
        computed = {"arn": f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{name}", "name": name, "keyId": f"{name}-key-id"}
        return f"{name}-id", {**computed, **args.inputs}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"the program asked for {args.token}, which nothing here answers")


class RecordingMonitor(mocks.MockMonitor):
    """Keeps what a registration says beyond its inputs, and makes URNs as the engine does."""

    def __init__(self) -> None:
        super().__init__(Cloud())
        self.nodes: list[Node] = []
        self.finished: set[str] = set()

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        above = _type_chain(parent) if parent else STACK
        chain = type_ if above == STACK else f"{above}${type_}"
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{chain}::{name}"

    def RegisterResource(self, request: Any) -> resource_pb2.RegisterResourceResponse:  # noqa: N802 - its own name
        response = super().RegisterResource(request)
        if request.type != STACK:
            self.nodes.append(
                Node(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    inputs=_plain(rpc.deserialize_properties(request.object)),
                    outputs=self.resources[response.urn].state,
                    parent=request.parent,
                    provider=request.provider.rpartition("::")[0],
                    dependencies=frozenset(request.dependencies),
                )
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:  # noqa: N802 - its own name
        self.finished.add(request.urn)
        return super().RegisterResourceOutputs(request)


def _type_chain(urn: str) -> str:
    return urn.split("::")[2]


def _type_of(urn: str) -> str:
    return _type_chain(urn).rpartition("$")[2]


def _plain(value: Any) -> Any:
    """Assets as what they refer to, so that two runs of a program compare equal."""
    match value:
        case pulumi.AssetArchive():
            return {"archive": _plain(value.assets)}
        case pulumi.FileAsset():
            return {"file": str(Path(value.path).relative_to(ROOT))}
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list():
            return [_plain(part) for part in value]
        case _:
            return value
