"""The AWS stand-in as the engine sees it: checks, diffs and keeps state; its handlers do the rest.

What it does as the official provider does: properties that the SDK does not have are refused; what AWS computes is
unknown in previews; changes that AWS cannot make in place replace; default tags are merged; credentials of another
account are refused. What it is not is said in docs/sandbox.md.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler
from sandbox.providers.aws.table import SERVICES, handlers
from sandbox.providers.errors import ProviderError
from sandbox.providers.records import Records
from sandbox.providers.schema import input_types, problems
from sandbox.providers.wire import UNKNOWN, Properties, from_struct, same, to_struct

Diff = provider_pb2.PropertyDiff
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

PROVIDER_OPTIONS = frozenset({"region", "allowedAccountIds", "defaultTags", "version"})
"""Options of aws.Provider that the stand-in honours; it refuses the others rather than ignore them."""

SDK_DEFAULTS = frozenset({"skipCredentialsValidation", "skipRegionValidation"})
"""Options that the SDK always sends."""


class _Configured:
    """One configured provider: an engine may run several, each on a connection of its own."""

    def __init__(self, aws: Aws, records: Records, default_tags: Mapping[str, str]) -> None:
        self.aws = aws
        self.default_tags = default_tags
        self.handlers = handlers(aws, records)


class AwsProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The engine's side of the stand-in, over an emulator at `endpoint`.

    `account_id` is the account that the sandbox's credentials belong to; `hint` ends every error message.
    """

    def __init__(
        self, *, endpoint: str, account_id: str, region: str, records_file: Path, version: str, hint: str = ""
    ) -> None:
        self._aws = Aws(endpoint, account_id, region)
        self._records = Records(records_file)
        self._version = version
        self._hint = hint
        self._configured: dict[str, _Configured] = {}

    def warm_up(self) -> None:
        """Load the services' models, which takes half a second, before the engine asks for anything."""
        for service in ("sts", *SERVICES):
            self._aws.client(service)

    # The handshake

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ProviderHandshakeResponse:
        # The engine takes secrets off what it sends, and puts them back on what comes back under the same name.
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=False, accept_resources=False)

    def Attach(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        news = from_struct(request.news)
        failures = [
            provider_pb2.CheckFailure(
                property=key, reason=f"the sandbox's stand-in does not do the provider option {key}"
            )
            for key in sorted(news.keys() - PROVIDER_OPTIONS - SDK_DEFAULTS)
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        olds, news = from_struct(request.old_inputs or request.olds), from_struct(request.news)
        return _diff_response(_changed(olds, news), frozenset(), replace_first=False)

    def Configure(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConfigureResponse:
        def configure() -> provider_pb2.ConfigureResponse:
            options = from_struct(request.args)
            region = options["region"]
            aws = self._aws if region == self._aws.region else Aws(self._aws.endpoint, self._aws.account_id, region)
            allowed = json.loads(options.get("allowedAccountIds", "[]"))
            account_id = aws.client("sts").get_caller_identity()["Account"]
            if allowed and account_id not in allowed:
                raise ProviderError(
                    f"the credentials belong to account {account_id}, the stack is bound to {', '.join(allowed)}; use "
                    "other credentials or set pyairtable:accountId"
                )
            default_tags = json.loads(options.get("defaultTags", "{}")).get("tags", {})
            self._configured[context.peer()] = _Configured(aws, self._records, default_tags)
            return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True, acceptResources=False)

        return self._answer(context, "configuring the AWS provider", configure)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        def refuse() -> provider_pb2.InvokeResponse:
            raise ProviderError("the sandbox's stand-in for AWS has no functions")

        return self._answer(context, f"calling {request.tok}", refuse)

    # The life of a resource

    def Check(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        def check() -> provider_pb2.CheckResponse:
            handler = self._handler(context, request)
            news = from_struct(request.news)
            failures = problems(handler.type, news)
            failures += [
                (key, f"the sandbox's stand-in for {handler.type} does not do {key}")
                for key in sorted(news.keys() & input_types(handler.type).keys() - handler.supported - {"tags"})
            ]
            if handler.name and handler.name not in news:
                failures.append((handler.name, f"the sandbox wants {handler.name} given; AWS would make one up"))
            return provider_pb2.CheckResponse(
                inputs=to_struct(news),
                failures=[provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in failures],
            )

        return self._answer(context, _doing("checking", request), check)

    def Diff(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        def diff() -> provider_pb2.DiffResponse:
            handler = self._handler(context, request)
            olds, news = from_struct(request.old_inputs), from_struct(request.news)
            changed = _changed(olds, news)
            tags_all = self._all_tags(context, news)
            if _is_taggable(handler) and from_struct(request.olds).get("tagsAll", {}) != tags_all:
                changed.setdefault("tagsAll", Diff.UPDATE)
            return _diff_response(
                changed,
                handler.replace_on,
                replace_first=bool(handler.name) and olds.get(handler.name) == news.get(handler.name),
            )

        return self._answer(context, _doing("comparing", request), diff)

    def Create(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        def create() -> provider_pb2.CreateResponse:
            handler = self._handler(context, request)
            inputs = from_struct(request.properties)
            if request.preview:
                handler.aws.dry_run(lambda: handler.create(inputs))
                handler.aws.dry_run(lambda: handler.configure(UNKNOWN, inputs))
                return provider_pb2.CreateResponse(properties=to_struct(self._planned(context, handler, inputs)))
            id = handler.create(inputs)
            try:
                handler.configure(id, inputs)
                self._write_tags(context, handler, id, inputs)
                state = self._state(context, handler, id, inputs)
            except Exception:
                handler.delete(id, inputs)  # nothing half made stays behind
                raise
            if state is None:
                raise ProviderError("it was made, and is not there")
            return provider_pb2.CreateResponse(id=id, properties=to_struct(state))

        return self._answer(context, _doing("creating", request), create)

    def Read(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        def read() -> provider_pb2.ReadResponse:
            handler = self._handler(context, request)
            inputs = from_struct(request.inputs)
            state = self._state(context, handler, request.id, inputs)
            if state is None:
                return provider_pb2.ReadResponse()
            found = {
                key: value
                for key, value in state.items()
                if key in input_types(handler.type)
                and key != "region"
                and (key in inputs or key not in handler.computed)
            }
            return provider_pb2.ReadResponse(id=request.id, properties=to_struct(state), inputs=to_struct(found))

        return self._answer(context, _doing("reading", request), read)

    def Update(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        def update() -> provider_pb2.UpdateResponse:
            handler = self._handler(context, request)
            olds, news = from_struct(request.olds), from_struct(request.news)
            if request.preview:
                handler.aws.dry_run(lambda: handler.update(request.id, olds, news))
                kept = {key: value for key, value in olds.items() if key in handler.computed}
                return provider_pb2.UpdateResponse(
                    properties=to_struct({**self._planned(context, handler, news), **kept})
                )
            if _changed(from_struct(request.old_inputs), news).keys() - {"tags"}:
                handler.update(request.id, olds, news)
            self._write_tags(context, handler, request.id, {**olds, **news})
            state = self._state(context, handler, request.id, news)
            if state is None:
                raise ProviderError("it is gone from AWS; run a refresh")
            return provider_pb2.UpdateResponse(properties=to_struct(state))

        return self._answer(context, _doing("updating", request), update)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        def delete() -> empty_pb2.Empty:
            handler = self._handler(context, request)
            state = from_struct(request.properties)
            # What somebody deleted by hand is deleted: the official provider sees it the same way.
            if handler.read(request.id, state) is not None:
                handler.delete(request.id, state)
            return empty_pb2.Empty()

        return self._answer(context, _doing("deleting", request), delete)

    def find(self, type: str, inputs: Properties) -> str | None:
        """Id of the resource that a create with these inputs has made, if there is one; for recovery after a crash.

        A component or a provider exists in the state only, so for those there is none.
        """
        handler = handlers(self._aws, self._records).get(type)
        return handler.find(inputs) if handler else None

    # Helpers

    def _handler(self, context: grpc.ServicerContext, request: Any) -> Handler:
        type = _type(request)
        known = self._of(context).handlers
        if type not in known:
            raise ProviderError(
                f"the sandbox has no stand-in for {type}; add a handler to sandbox/providers/aws/table.py"
            )
        return known[type]

    def _of(self, context: grpc.ServicerContext) -> _Configured:
        return self._configured[context.peer()]

    def _all_tags(self, context: grpc.ServicerContext, inputs: Properties) -> dict[str, str]:
        return {**self._of(context).default_tags, **inputs.get("tags", {})}

    def _write_tags(self, context: grpc.ServicerContext, handler: Handler, id: str, inputs: Properties) -> None:
        if handler.tag_api:
            target = handler.tag_target(id, handler.read(id, inputs) or {})
            handler.tag_api.write(self._of(context).aws, target, self._all_tags(context, inputs))

    def _planned(self, context: grpc.ServicerContext, handler: Handler, inputs: Properties) -> Properties:
        """The state as far as a preview knows it."""
        planned = {**dict.fromkeys(handler.computed, UNKNOWN), **inputs}
        if _is_taggable(handler):
            planned["tagsAll"] = self._all_tags(context, inputs)
        return self._with_region(context, handler, planned)

    def _state(self, context: grpc.ServicerContext, handler: Handler, id: str, inputs: Properties) -> Properties | None:
        """What AWS says of the resource, in the words of the inputs where both mean the same."""
        actual = handler.read(id, inputs)
        if actual is None:
            return None
        state = {
            key: _in_words_of(inputs.get(key), value)
            for key, value in actual.items()
            if value is not None and (key in inputs or value not in ("", [], {}, handler.defaults.get(key)))
        }
        if handler.tag_api:
            target = handler.tag_target(id, actual)
            tags = handler.tag_api.read(self._of(context).aws, target)
            defaults = self._of(context).default_tags
            own = {k: v for k, v in tags.items() if defaults.get(k) != v or k in inputs.get("tags", {})}
            state = {**state, "tagsAll": tags, **({"tags": own} if own else {})}
        elif _is_taggable(handler):
            state["tagsAll"] = self._all_tags(context, inputs)  # a recorded type: nobody else could have tagged it
        return self._with_region(context, handler, state)

    def _with_region(self, context: grpc.ServicerContext, handler: Handler, state: Properties) -> Properties:
        if "region" in input_types(handler.type):
            state.setdefault("region", self._of(context).aws.region)
        return state

    def _answer(self, context: grpc.ServicerContext, doing: str, call: Callable[[], Answer]) -> Answer:
        """The call's answer; what goes wrong becomes one line that says what was being done."""
        log.debug("%s", doing)
        try:
            return call()
        except (ProviderError, ClientError, BotoCoreError) as error:
            log.warning("%s: %s", doing, error)
            message = f"{doing}: {error}{self._hint}"
        except Exception as error:
            log.exception("%s", doing)
            message = f"{doing}: the stand-in itself failed with {error!r}{self._hint}"
        context.abort(grpc.StatusCode.UNKNOWN, message)
        raise AssertionError("abort raises")


def _is_taggable(handler: Handler) -> bool:
    return "tags" in input_types(handler.type)


def _type(request: Any) -> str:
    return request.urn.split("::")[2].rpartition("$")[2]


def _doing(verb: str, request: Any) -> str:
    return f"{verb} {_type(request)} {request.urn.rpartition('::')[2]}"


def _changed(olds: Properties, news: Properties) -> dict[str, Any]:
    """Kind of change of each property that differs."""
    changed: dict[str, Any] = {}
    for key in sorted(olds.keys() | news.keys()):
        if key not in olds:
            changed[key] = Diff.ADD
        elif key not in news:
            changed[key] = Diff.DELETE
        elif not same(olds[key], news[key]):
            changed[key] = Diff.UPDATE
    return changed


REPLACING = {Diff.ADD: Diff.ADD_REPLACE, Diff.DELETE: Diff.DELETE_REPLACE, Diff.UPDATE: Diff.UPDATE_REPLACE}


def _diff_response(
    changed: Mapping[str, Any], replace_on: frozenset[str], *, replace_first: bool
) -> provider_pb2.DiffResponse:
    replaces = [key for key in changed if key in replace_on]
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=list(changed),
        replaces=replaces,
        deleteBeforeReplace=bool(replaces) and replace_first,
        hasDetailedDiff=True,
        detailedDiff={
            key: Diff(kind=REPLACING[kind] if key in replaces else kind, inputDiff=key != "tagsAll")
            for key, kind in changed.items()
        },
    )


def _in_words_of(known: Any, actual: Any) -> Any:
    """The known value where AWS only spells it differently: JSON with other blanks, a list in another order."""
    if known is None or same(known, actual):
        return actual
    if isinstance(known, str) and isinstance(actual, str):
        try:
            return known if json.loads(known) == json.loads(actual) else actual
        except ValueError:
            return actual
    if isinstance(known, list) and isinstance(actual, list):
        return known if sorted(map(_sortable, known)) == sorted(map(_sortable, actual)) else actual
    if isinstance(known, dict) and isinstance(actual, dict):
        return {key: _in_words_of(known.get(key), value) for key, value in actual.items()}
    return actual


def _sortable(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
