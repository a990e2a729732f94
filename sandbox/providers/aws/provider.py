"""The AWS stand-in as the engine sees it: what a handler knows of a type, with tags, regions and accounts around it.

What it does as the official provider does: properties that the SDK does not have are refused; what AWS computes is
unknown in previews; changes that AWS cannot make in place replace; default tags are merged; credentials of another
account are refused. What it is not is said in docs/sandbox.md.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sandbox.control_plane import ControlPlanes
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, without
from sandbox.providers.aws.table import SERVICES, handlers
from sandbox.providers.errors import ProviderError
from sandbox.providers.provider import Call, Comparison, Connection, Diff, Problem, Provider, Resource, changes, type_of
from sandbox.providers.records import Records
from sandbox.providers.schema import input_types, problems
from sandbox.providers.wire import UNKNOWN, Properties, same


class AwsProvider(Provider):
    """The stand-in for AWS, over an emulator at `endpoint`.

    `account_id` is the account that the sandbox's credentials belong to.
    """

    title = "AWS"
    options = frozenset({"region", "allowedAccountIds", "defaultTags", "version"})
    sdk_defaults = frozenset({"skipCredentialsValidation", "skipRegionValidation"})
    service_errors = (ClientError, BotoCoreError)

    def __init__(
        self,
        *,
        endpoint: str,
        account_id: str,
        region: str,
        records_file: Path,
        planes: ControlPlanes,
        version: str,
        hint: str = "",
    ) -> None:
        super().__init__(version=version, hint=hint)
        self._aws = Aws(endpoint, account_id, region)
        self._records = Records(records_file)
        self._planes = planes

    def warm_up(self) -> None:
        """Load the services' models, which takes half a second, before the engine asks for anything."""
        for service in ("sts", *SERVICES):
            self._aws.client(service)

    def connect(self, options: Properties) -> Connection:
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
        known = handlers(aws, self._records, self._planes)

        def resource(call: Call) -> Resource:
            if call.type not in known:
                raise ProviderError(
                    f"the sandbox has no stand-in for {call.type}; add a handler to sandbox/providers/aws/table.py"
                )
            return AwsResource(known[call.type], default_tags)

        return resource

    def find(self, urn: str, inputs: Properties) -> str | None:
        """Id of the resource that a create with these inputs has made, if there is one."""
        handler = handlers(self._aws, self._records, self._planes).get(type_of(urn))
        return handler.find(inputs) if handler else None


class AwsResource(Resource):
    """A type that has a handler, in a provider with default tags."""

    def __init__(self, handler: Handler, default_tags: Mapping[str, str]) -> None:
        self._handler = handler
        self._default_tags = default_tags

    @property
    def secrets(self) -> Collection[str]:
        return self._handler.secrets

    def problems(self, inputs: Properties) -> list[Problem]:
        handler = self._handler
        found = [
            (path, f"{path} is secret, and of the wrong type" if path in handler.secrets & inputs.keys() else problem)
            for path, problem in problems(handler.type, inputs)
        ]
        found += [
            (key, f"the sandbox's stand-in for {handler.type} does not do {key}")
            for key in sorted(inputs.keys() & input_types(handler.type).keys() - handler.supported - {"tags"})
        ]
        if handler.name and handler.name not in inputs:
            found.append((handler.name, f"the sandbox wants {handler.name} given; AWS would make one up"))
        return found

    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        handler = self._handler
        changed = changes(old_inputs, inputs)
        if self._is_taggable and state.get("tagsAll", {}) != self._all_tags(inputs):
            changed.setdefault("tagsAll", Diff.UPDATE)
        return Comparison(
            changed=changed,
            replacing=handler.replaces(old_inputs, inputs),
            delete_first=bool(handler.name) and old_inputs.get(handler.name) == inputs.get(handler.name),
            outputs=frozenset({"tagsAll"}),
        )

    def plan(self, inputs: Properties) -> Properties:
        handler = self._handler
        handler.aws.dry_run(lambda: handler.create(inputs))
        handler.aws.dry_run(lambda: handler.configure(UNKNOWN, inputs))
        return self._planned(inputs)

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        handler = self._handler
        id = handler.create(inputs)
        try:
            handler.configure(id, inputs)
            self._write_tags(id, inputs)
            state = self._state(id, inputs)
        except Exception:
            handler.undo(id, inputs)  # nothing half made stays behind
            raise
        if state is None:
            raise ProviderError("it was made, and is not there")
        return id, state

    def read(self, id: str, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        found = self._state(id, inputs)
        return (self._handler.inputs_of(found, inputs), found) if found else None

    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        handler = self._handler
        kept = state
        if self._more_than_tags(old_inputs, inputs):
            handler.aws.dry_run(lambda: handler.update(id, state, inputs))
            kept = without(state, *handler.recomputed)
        return self._planned(inputs, kept)

    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        if self._more_than_tags(old_inputs, inputs):
            self._handler.update(id, state, inputs)
        self._write_tags(id, {**state, **inputs})
        updated = self._state(id, inputs)
        if updated is None:
            raise ProviderError("it is gone from AWS; run a refresh")
        return updated

    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        # What somebody deleted by hand is deleted: the official provider sees it the same way.
        if self._handler.read(id, state) is not None:
            self._handler.delete(id, state)

    @staticmethod
    def _more_than_tags(old_inputs: Properties, inputs: Properties) -> bool:
        return bool(changes(old_inputs, inputs).keys() - {"tags"})

    @property
    def _is_taggable(self) -> bool:
        return "tags" in input_types(self._handler.type)

    def _all_tags(self, inputs: Properties) -> dict[str, str]:
        return {**self._default_tags, **inputs.get("tags", {})}

    def _write_tags(self, id: str, inputs: Properties) -> None:
        handler = self._handler
        if handler.tag_api:
            target = handler.tag_target(id, handler.read(id, inputs) or {})
            handler.tag_api.write(handler.aws, target, self._all_tags(inputs))

    def _planned(self, inputs: Properties, kept: Properties | None = None) -> Properties:
        """The state as far as a preview knows it; `kept` are outputs that an update leaves as they are."""
        planned = self._handler.planned(inputs, kept or {})
        if self._is_taggable:
            planned["tagsAll"] = self._all_tags(inputs)
        return self._with_region(planned)

    def _state(self, id: str, inputs: Properties) -> Properties | None:
        """What AWS says of the resource, in the words of the inputs where both mean the same."""
        handler = self._handler
        actual = handler.read(id, inputs)
        if actual is None:
            return None
        state = {key: _in_words_of(inputs.get(key), value) for key, value in actual.items() if value is not None}
        if handler.tag_api:
            target = handler.tag_target(id, actual)
            tags = handler.tag_api.read(handler.aws, target)
            defaults = self._default_tags
            own = {k: v for k, v in tags.items() if defaults.get(k) != v or k in inputs.get("tags", {})}
            state = {**state, "tagsAll": tags, **({"tags": own} if own else {})}
        elif self._is_taggable:
            state["tagsAll"] = self._all_tags(inputs)  # a recorded type: nobody else could have tagged it
        return self._with_region(state)

    def _with_region(self, state: Properties) -> Properties:
        if "region" in input_types(self._handler.type):
            state.setdefault("region", self._handler.aws.region)
        return state


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
        if sorted(map(_sortable, known)) == sorted(map(_sortable, actual)):
            return known
        return (
            [_in_words_of(*pair) for pair in zip(known, actual, strict=True)] if len(known) == len(actual) else actual
        )
    if isinstance(known, dict) and isinstance(actual, dict):
        return {key: _in_words_of(known.get(key), value) for key, value in actual.items()}
    return actual


def _sortable(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
