"""An object of the cluster as a resource of Pulumi: server-side apply, dry runs as previews, readiness, drift."""

import hashlib
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from sandbox.kubernetes_api import KubernetesApiError, Manifest
from sandbox.providers.errors import NotReadyError, ProviderError
from sandbox.providers.kubernetes.cluster import Cluster
from sandbox.providers.kubernetes.readiness import CHECKS, DEFAULT_SECONDS, Waiting, condition_check, left_of
from sandbox.providers.kubernetes.rules import (
    ALLOCATED,
    COMPUTED,
    IDENTITY,
    MUTABLE_BY_OPTION,
    NOT_INPUTS,
    REPLACING,
)
from sandbox.providers.kubernetes.trees import ABSENT, at, differences, lies_on, read_back, renamed, with_value
from sandbox.providers.provider import Call, Comparison, Problem, Resource
from sandbox.providers.schema import has_class, problems
from sandbox.providers.wire import UNKNOWN, Properties, is_unknown

ANNOTATIONS = "pulumi.com/"
SKIP_AWAIT, TIMEOUT, FORCE, WAIT_FOR = (
    f"{ANNOTATIONS}{name}" for name in ("skipAwait", "timeoutSeconds", "patchForce", "waitFor")
)
HONOURED = frozenset({SKIP_AWAIT, TIMEOUT, FORCE, WAIT_FOR})
"""Annotations that tell the provider something; the stand-in refuses the others rather than ignore them."""

FIELD_MANAGER = "__fieldManager"
"""The official provider's own output: under which name it applies an object's fields."""

CANNOT_DRY_RUN = (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
"""For a namespace or kind that the same run makes, and for a namespace that it has yet to delete."""


class KubernetesObject(Resource):
    """An object of any kind. The id is namespace/name, or the name alone."""

    def __init__(self, cluster: Cluster, call: Call) -> None:
        self._cluster = cluster
        self._call = call
        _, module, self._kind = call.type.split(":")
        self._api_version = module.removeprefix("core/")

    @property
    def secrets(self) -> Collection[str]:
        return ("data", "stringData") if self._key == "v1 Secret" else ()

    def problems(self, inputs: Properties) -> list[Problem]:
        found: list[Problem] = []
        if has_class(self._call.type):
            if self._kind.endswith(("Patch", "List")):
                raise ProviderError(f"the sandbox has no stand-in for {self._call.type}; use the kind itself")
            found += [
                (path, f"{path} is secret, and of the wrong type" if path.partition(".")[0] in self.secrets else reason)
                for path, reason in problems(self._call.type, inputs)
            ]
        elif "." not in self._api_version or self._api_version.partition("/")[0].endswith("k8s.io"):
            raise ProviderError(f"the SDK has no resource {self._call.type}")
        metadata = inputs.get("metadata", {})
        if metadata != UNKNOWN and not metadata.get("name"):
            found.append(("metadata.name", "the sandbox wants metadata.name given; Pulumi would make one up"))
        found += [
            (f'metadata.annotations["{name}"]', f"the sandbox's stand-in does not do the annotation {name}")
            for name in _annotations(inputs)
            if name.startswith(ANNOTATIONS) and name not in HONOURED
        ]
        awaited = _annotations(inputs).get(WAIT_FOR, UNKNOWN)
        if awaited != UNKNOWN and condition_check(awaited) is None:
            reason = "the sandbox's stand-in does condition=TYPE and condition=TYPE=STATUS only"
            found.append((f'metadata.annotations["{WAIT_FOR}"]', reason))
        return found

    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        changed = dict(differences(old_inputs, inputs))
        fixed = self._fixed_fields(inputs)
        return Comparison(
            changed=changed,
            replacing={path for path in changed if any(lies_on(path, field) for field in fixed)},
            delete_first=_id(old_inputs) == _id(inputs),
        )

    def plan(self, inputs: Properties) -> Properties:
        # Forced, since the object that a replacement has yet to delete may be there, with other managers' fields.
        planned = self._dry_run(inputs, self._manager({}), force=True) or inputs
        for path in (*COMPUTED, *ALLOCATED.get(self._key, ())):
            if at(inputs, path) is ABSENT:
                planned = with_value(planned, path, UNKNOWN)
        return planned

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        if self._live(_id(inputs)) is not None and not self._cluster.is_on("upsertExistingObjects"):
            raise ProviderError("it exists already and is not this stack's; import it, or delete it")
        state = self._apply(inputs, inputs, self._manager({}))
        return _id(state), state

    def read(self, id: str, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        live = self._live(id) if self._cluster.api else None
        if live is None:
            return None
        found = _state(live, self._manager(state))
        return (read_back(inputs, state, found) if inputs else _imported(found)), found

    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        manager = self._manager(state)
        live = self._live(id) or {}
        wanted = self._without_others_fields(inputs, live, manager)
        return self._dry_run(wanted, manager, force=self._is_forced(inputs)) or {
            **inputs,
            "metadata": {**state.get("metadata", {}), **inputs["metadata"]},
            "status": state.get("status", UNKNOWN),
        }

    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        live = self._live(id)
        if live is None:
            raise ProviderError("it is gone from the cluster; run a refresh")
        manager = self._manager(state)
        return self._apply(self._without_others_fields(inputs, live, manager), inputs, manager)

    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        api = self._cluster.api
        namespace, _, name = id.rpartition("/")
        if api is None or not api.delete(self._api_version, self._kind, name, namespace):
            return
        if not self._skips_await(inputs):
            self._wait(inputs, lambda: left_of(live) if (live := self._live(id)) else "")

    def find(self, inputs: Properties) -> str | None:
        """Id of the object that a create with these inputs has made, if it is there."""
        return _id(inputs) if self._cluster.api and self._live(_id(inputs)) else None

    @property
    def _key(self) -> str:
        return f"{self._api_version} {self._kind}"

    def _live(self, id: str) -> Manifest | None:
        namespace, _, name = id.rpartition("/")
        return self._cluster.required.get(self._api_version, self._kind, name, namespace)

    def _apply(self, wanted: Properties, inputs: Properties, manager: str) -> Properties:
        """Apply what is wanted and wait until it is ready; the state then."""
        live = self._send(wanted, manager, force=self._is_forced(inputs))
        id = _id(live)
        check = condition_check(_annotations(inputs).get(WAIT_FOR, "")) or CHECKS.get(self._key)
        if check is None or self._skips_await(inputs):
            return _state(live, manager)

        def lacking() -> str:
            nonlocal live
            live = self._live(id) or live
            return check(self._cluster.required, live)

        try:
            self._wait(inputs, lacking)
        except ProviderError as error:
            raise NotReadyError(f"it is there, and not ready: {error}", id, _state(live, manager)) from None
        return _state(live, manager)

    def _dry_run(self, wanted: Properties, manager: str, *, force: bool) -> Properties | None:
        """The state after an apply, as the API server sees it; None where it cannot see that yet."""
        if is_unknown(wanted):
            return None
        try:
            return _state(self._send(wanted, manager, force=force, dry_run=True), manager)
        except KubernetesApiError as error:
            # An object that has to be replaced is still there, with the fields that cannot change.
            if error.status in CANNOT_DRY_RUN or "immutable" in str(error) or "Forbidden: updates to" in str(error):
                return None
            raise

    def _send(self, wanted: Properties, manager: str, *, force: bool, dry_run: bool = False) -> Manifest:
        manifest = {**renamed(wanted, "_", "-"), "apiVersion": self._api_version, "kind": self._kind}
        warnings: list[str] = []
        try:
            live = self._cluster.required.apply(
                manifest, field_manager=manager, force=force, dry_run=dry_run, warnings=warnings
            )
        except KubernetesApiError as error:
            if error.status == HTTPStatus.CONFLICT and error.reason == "Conflict":
                raise ProviderError(f"{error}; leave those fields to them, or set the annotation {FORCE}") from None
            raise
        for warning in warnings:
            self._call.warn(warning)
        return live

    def _wait(self, inputs: Properties, missing: Any) -> None:
        seconds = self._call.timeout_seconds or float(_annotations(inputs).get(TIMEOUT, DEFAULT_SECONDS))
        Waiting(f"{self._call.type} {self._call.name}", seconds, self._call.cancelled).until_empty(missing)

    def _manager(self, state: Properties) -> str:
        own = f"pulumi-kubernetes-{hashlib.sha256(self._call.urn.encode()).hexdigest()[:8]}"
        return state.get(FIELD_MANAGER, own)

    def _is_forced(self, inputs: Properties) -> bool:
        return _annotations(inputs).get(FORCE) == "true" or self._cluster.is_on("enablePatchForce")

    @staticmethod
    def _skips_await(inputs: Properties) -> bool:
        return _annotations(inputs).get(SKIP_AWAIT) == "true"

    def _fixed_fields(self, inputs: Properties) -> tuple[str, ...]:
        """Fields that cannot change in place."""
        fixed = (*IDENTITY, *REPLACING.get(self._key, ()))
        option, content = MUTABLE_BY_OPTION.get(self._key, ("", ()))
        return fixed if self._cluster.is_on(option) and not inputs.get("immutable") else (*fixed, *content)

    def _without_others_fields(self, inputs: Properties, live: Manifest, manager: str) -> Properties:
        """The inputs with ignored fields left to whoever owns them, and as they are where nobody else does."""
        for path in self._call.ignored:
            owners = {
                entry["manager"]
                for entry in live.get("metadata", {}).get("managedFields", [])
                if at(entry.get("fieldsV1", {}), ".".join(f"f:{name}" for name in path.split("."))) is not ABSENT
            }
            current = at(live, path)
            if owners and manager not in owners:
                inputs = with_value(inputs, path, ABSENT)
            elif current is not ABSENT:
                inputs = with_value(inputs, path, current)
        return inputs


def _annotations(inputs: Properties) -> Mapping[str, str]:
    annotations = at(inputs, "metadata.annotations")
    return annotations if isinstance(annotations, Mapping) else {}


def _id(tree: Properties) -> str:
    namespace, name = at(tree, "metadata.namespace"), at(tree, "metadata.name")
    return name if namespace is ABSENT else f"{namespace}/{name}"


def _state(live: Manifest, manager: str) -> Properties:
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    return {**renamed(live, "-", "_"), "metadata": metadata, FIELD_MANAGER: manager}


def _imported(found: Properties) -> Properties:
    """The inputs that an import assumes."""
    for path in (*NOT_INPUTS, FIELD_MANAGER):
        found = with_value(found, path, ABSENT)
    return found
