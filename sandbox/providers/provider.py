"""What every stand-in does: speaks the engine's provider protocol, keeps state, and tells what goes wrong in one line.

A stand-in of one package says what a provider's options make of it (`Provider.connect`) and what each type of resource
does (`Resource`). The rest is here.
"""

import logging
import re
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from sandbox.errors import SandboxError
from sandbox.providers.errors import NotReadyError, ProviderError
from sandbox.providers.wire import Properties, from_struct, same, to_struct, with_secrets

Diff = provider_pb2.PropertyDiff
Answer = TypeVar("Answer")
Problem = tuple[str, str]
"""Path of a property, and what is wrong with it."""

log = logging.getLogger(__name__)

REPLACING = {Diff.ADD: Diff.ADD_REPLACE, Diff.DELETE: Diff.DELETE_REPLACE, Diff.UPDATE: Diff.UPDATE_REPLACE}


def _nobody(_: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the engine says beside a resource's properties."""

    urn: str
    timeout_seconds: float = 0
    """The resource's customTimeouts; 0 when it has none."""
    ignored: Sequence[str] = ()
    """Paths in ignoreChanges."""
    warn: Callable[[str], None] = _nobody
    """Shows a warning to the user."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the user has interrupted the engine."""

    @property
    def type(self) -> str:
        """The resource's type token."""
        return type_of(self.urn)

    @property
    def name(self) -> str:
        """The resource's logical name."""
        return name_of(self.urn)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What differs between a resource as it is and as it is wanted."""

    changed: Mapping[str, Any]
    """Kind of change, by path."""
    replacing: Collection[str] = ()
    """Paths among those whose change cannot be made in place."""
    delete_first: bool = False
    """Whether the old resource must go before the new one can come, where it is replaced."""
    outputs: frozenset[str] = frozenset()
    """Paths among those that are no inputs."""


class Resource(ABC):
    """One resource of a configured provider, for one call of the engine. Any method may raise ProviderError.

    `inputs` are what the program wants, `old_inputs` what it wanted the last time, `state` the outputs since then.
    """

    @property
    def secrets(self) -> Collection[str]:
        """Properties that are secret whatever the program says; the engine keeps others as secret as the inputs are."""
        return ()

    def problems(self, inputs: Properties) -> list[Problem]:
        """What is wrong with inputs whatever the provider's service says."""
        return []

    @abstractmethod
    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        """What an update would change."""

    @abstractmethod
    def plan(self, inputs: Properties) -> Properties:
        """State after a create as far as a preview knows it, UNKNOWN where it does not."""

    @abstractmethod
    def create(self, inputs: Properties) -> tuple[str, Properties]:
        """Create the resource; its id and state."""

    @abstractmethod
    def read(self, id: str, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """Inputs and state as they really are; None when it is gone. Those known so far are empty in an import."""

    @abstractmethod
    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        """State after an update as far as a preview knows it."""

    @abstractmethod
    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        """Change the resource in place; its new state."""

    @abstractmethod
    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        """Delete the resource; one that is gone already is deleted."""


Connection = Callable[[Call], Resource]
"""A configured provider: what its resources are, a call at a time."""


class Provider(provider_pb2_grpc.ResourceProviderServicer, ABC):
    """The engine's side of a stand-in. `hint` ends every error message."""

    title: ClassVar[str]
    """What the stand-in stands for, in messages."""
    options: ClassVar[frozenset[str]] = frozenset({"version"})
    """Options of the SDK's provider class that the stand-in honours; it refuses the others rather than ignore them."""
    sdk_defaults: ClassVar[frozenset[str]] = frozenset()
    """Options that the SDK always sends."""
    service_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What else the service's library raises when the service refuses."""

    def __init__(self, *, version: str, hint: str = "") -> None:
        self._version = version
        self._hint = hint
        # An engine may run several providers of one package, each on a connection of its own.
        self._connections: dict[str, Connection] = {}
        self._engines: dict[str, str] = {}
        self._cancelled: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    @abstractmethod
    def connect(self, options: Properties) -> Connection:
        """Configure a provider with its options."""

    def compare_options(self, olds: Properties, news: Properties) -> Comparison:
        """What a change of the options means; replacing any replaces all of the provider's resources."""
        return Comparison(changed=changes(olds, news))

    def warm_up(self) -> None:
        """Load what takes time before the engine asks for anything."""

    # The handshake

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ProviderHandshakeResponse:
        # The engine takes secrets off what it sends, and puts them back on what comes back under the same name.
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=False, accept_resources=False)

    def Attach(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._engines[context.peer()] = request.address
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._cancelled[context.peer()].set()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        news = from_struct(request.news)
        failures = [
            (key, f"the sandbox's stand-in does not do the provider option {key}")
            for key in sorted(news.keys() - self.options - self.sdk_defaults)
        ]
        return _check_response(request.news, failures)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        olds, news = from_struct(request.old_inputs), from_struct(request.news)
        return _diff_response(self.compare_options(olds, news))

    def Configure(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConfigureResponse:
        def configure() -> provider_pb2.ConfigureResponse:
            self._connections[context.peer()] = self.connect(from_struct(request.args))
            return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True, acceptResources=False)

        return self._answer(context, f"configuring the {self.title} provider", configure)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        def refuse() -> provider_pb2.InvokeResponse:
            raise ProviderError(f"the sandbox's stand-in for {self.title} has no functions")

        return self._answer(context, f"calling {request.tok}", refuse)

    def Construct(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConstructResponse:
        def refuse() -> provider_pb2.ConstructResponse:
            raise ProviderError(f"the sandbox's stand-in for {self.title} has no components")

        return self._answer(context, f"making {request.type} {request.name}", refuse)

    # The life of a resource

    def Check(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        def check() -> provider_pb2.CheckResponse:
            news = from_struct(request.news)
            return _check_response(to_struct(news), self._resource(context, request).problems(news))

        return self._answer(context, _doing("checking", request), check)

    def Diff(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        def diff() -> provider_pb2.DiffResponse:
            resource = self._resource(context, request)
            olds, news, state = map(from_struct, (request.old_inputs, request.news, request.olds))
            return _diff_response(resource.compare(olds, news, state))

        return self._answer(context, _doing("comparing", request), diff)

    def Create(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        def create() -> provider_pb2.CreateResponse:
            resource = self._resource(context, request)
            inputs = from_struct(request.properties)
            if request.preview:
                return provider_pb2.CreateResponse(properties=_told(resource, resource.plan(inputs)))
            id, state = resource.create(inputs)
            return provider_pb2.CreateResponse(id=id, properties=_told(resource, state))

        return self._answer(context, _doing("creating", request), create)

    def Read(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        def read() -> provider_pb2.ReadResponse:
            resource = self._resource(context, request)
            found = resource.read(request.id, from_struct(request.inputs), from_struct(request.properties))
            if found is None:
                return provider_pb2.ReadResponse()
            inputs, state = (_told(resource, values) for values in found)
            return provider_pb2.ReadResponse(id=request.id, properties=state, inputs=inputs)

        return self._answer(context, _doing("reading", request), read)

    def Update(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        def update() -> provider_pb2.UpdateResponse:
            resource = self._resource(context, request)
            olds, news, state = map(from_struct, (request.old_inputs, request.news, request.olds))
            do = resource.plan_update if request.preview else resource.update
            return provider_pb2.UpdateResponse(properties=_told(resource, do(request.id, olds, news, state)))

        return self._answer(context, _doing("updating", request), update)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        def delete() -> empty_pb2.Empty:
            resource = self._resource(context, request)
            resource.delete(request.id, from_struct(request.old_inputs), from_struct(request.properties))
            return empty_pb2.Empty()

        return self._answer(context, _doing("deleting", request), delete)

    def find(self, urn: str, inputs: Properties) -> str | None:
        """Id of the resource that a create with these inputs has made, if there is one; for recovery after a crash.

        What exists in the state only was not made if the state does not have it.
        """
        return None

    # Helpers

    def _resource(self, context: grpc.ServicerContext, request: Any) -> Resource:
        call = Call(
            urn=request.urn,
            timeout_seconds=getattr(request, "timeout", 0),
            ignored=tuple(getattr(request, "ignoreChanges", ())),
            warn=lambda text: self._warn(context.peer(), request.urn, text),
            cancelled=self._cancelled[context.peer()],
        )
        return self._connections[context.peer()](call)

    def _warn(self, peer: str, urn: str, text: str) -> None:
        log.warning("%s: %s", urn, text)
        with grpc.insecure_channel(self._engines[peer]) as channel:
            engine_pb2_grpc.EngineStub(channel).Log(
                engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=text, urn=urn)
            )

    def _answer(self, context: grpc.ServicerContext, doing: str, call: Callable[[], Answer]) -> Answer:
        """The call's answer; what goes wrong becomes one line that says what was being done."""
        log.debug("%s", doing)
        try:
            return call()
        except NotReadyError as error:
            log.warning("%s: %s", doing, error)
            context.abort_with_status(_InitFailed(error, f"{doing}: {error}{self._hint}"))
        except (ProviderError, SandboxError, *self.service_errors) as error:
            log.warning("%s: %s", doing, error)
            context.abort(grpc.StatusCode.UNKNOWN, f"{doing}: {error}{self._hint}")
        except Exception as error:
            log.exception("%s", doing)
            context.abort(grpc.StatusCode.UNKNOWN, f"{doing}: the stand-in itself failed with {error!r}{self._hint}")
        raise AssertionError("abort raises")


def type_of(urn: str) -> str:
    """Type token of the resource with a URN."""
    return urn.split("::")[2].rpartition("$")[2]


def name_of(urn: str) -> str:
    """Logical name of the resource with a URN."""
    return urn.rpartition("::")[2]


def changes(olds: Properties, news: Properties) -> dict[str, Any]:
    """Kind of change of each top-level property that differs."""
    changed: dict[str, Any] = {}
    for key in sorted(olds.keys() | news.keys()):
        if key not in olds:
            changed[key] = Diff.ADD
        elif key not in news:
            changed[key] = Diff.DELETE
        elif not same(olds[key], news[key]):
            changed[key] = Diff.UPDATE
    return changed


def _doing(verb: str, request: Any) -> str:
    return f"{verb} {type_of(request.urn)} {name_of(request.urn)}"


def _told(resource: Resource, values: Properties) -> struct_pb2.Struct:
    return to_struct(with_secrets(values, resource.secrets))


def _check_response(inputs: struct_pb2.Struct, problems: Sequence[Problem]) -> provider_pb2.CheckResponse:
    failures = [provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in problems]
    return provider_pb2.CheckResponse(inputs=inputs, failures=failures)


def _diff_response(comparison: Comparison) -> provider_pb2.DiffResponse:
    changed = comparison.changed
    replaces = [path for path in changed if path in comparison.replacing]
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=list(dict.fromkeys(re.split(r"[.\[]", path, maxsplit=1)[0] for path in changed)),
        replaces=replaces,
        deleteBeforeReplace=bool(replaces) and comparison.delete_first,
        hasDetailedDiff=True,
        detailedDiff={
            path: Diff(
                kind=REPLACING[kind] if path in comparison.replacing else kind, inputDiff=path not in comparison.outputs
            )
            for path, kind in changed.items()
        },
    )


class _InitFailed(grpc.Status):
    """Tells the engine to keep a resource in the state, and to come back to it in the next update."""

    def __init__(self, error: NotReadyError, message: str) -> None:
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
        status.details.add().Pack(
            provider_pb2.ErrorResourceInitFailed(id=error.id, properties=to_struct(error.state), reasons=[message])
        )
        self.code = grpc.StatusCode.UNKNOWN
        self.details = message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)
