"""What is priced: resources, read from a running program or from an engine's deployment, in one form."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pulumi

from cost.errors import UnknownCostError
from infra.phases import Phase

PHASE_OF_PACKAGE: Mapping[str, Phase] = {
    "cost_foundation": Phase.COST_FOUNDATION,
    "compute": Phase.COMPUTE,
    "secrets": Phase.SECRETS,
    "blue_green": Phase.BLUE_GREEN,
}
"""The package in a component's type (`pyairtable:PACKAGE:Class`) says which phase owns what is below it."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource as the estimate sees it."""

    type: str
    name: str
    phase: Phase
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Properties by their camelCase names; what is inside them is as the program gave it, for the methods to read."""

    def plain(self, path: str, default: Any = None) -> Any:
        """The input at a dotted path such as `scalingConfig.minSize`; the default where there is none.

        Raises:
            UnknownCostError: it is known only after the deployment.
        """
        value: Any = self.inputs
        for key in path.split("."):
            value = _fields(value).get(key)
            if isinstance(value, pulumi.Output):
                raise self.unknown(f"{path} is known only after the deployment; give it as a plain value")
            if value is None:
                return default
        return value

    def number(self, path: str, default: int | None = None) -> Decimal:
        """The number at a path.

        Raises:
            UnknownCostError: there is none, and no default either, or it is known only after the deployment.
        """
        value = self.plain(path, default)
        if value is None:
            raise self.unknown(f"{path} is missing; give it")
        return Decimal(str(value))

    def part(self, path: str) -> "Resource":
        """What is at a path, with inputs of its own; nothing is in it where there is none."""
        return replace(self, inputs=_fields(self.plain(path, {})))

    def parts(self, path: str) -> list["Resource"]:
        """What is in the list at a path, each with inputs of its own."""
        return [replace(self, inputs=_fields(part)) for part in self.plain(path, [])]

    def unknown(self, problem: str) -> UnknownCostError:
        """The error that says why the cost of this resource cannot be told."""
        return UnknownCostError(f"estimating the monthly cost of {self.type} ({self.name}): {problem}")


Stack = Mapping[tuple[str, str], Resource]
"""The resources of a stack by type and name."""


def by_type_and_name(resources: Iterable[Resource]) -> Stack:
    """The resources, where one that is billed with another can find it."""
    return {(resource.type, resource.name): resource for resource in resources}


class ResourceRecorder:
    """Collects the resources of the running program; `record` is a stack transformation."""

    def __init__(self) -> None:
        self._resources: list[Resource] = []
        self._phases: dict[pulumi.Resource, Phase] = {}

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Everything registered so far, in order."""
        return tuple(self._resources)

    def record(self, args: pulumi.ResourceTransformationArgs) -> None:
        """Note one resource; changes nothing."""
        parent = args.opts.parent
        # The outermost component owns what is below it, as the first type in a URN does.
        phase = (parent and self._phases.get(parent)) or _phase_of_types([args.type_])
        self._phases[args.resource] = phase
        if args.opts.id is not None:
            return  # only read: whoever made it pays for it
        inputs = {key: value for key, value in _fields(args.props).items() if value is not None}
        self._resources.append(Resource(type=args.type_, name=args.name, phase=phase, inputs=inputs))


def resources_of_deployment(deployment: Mapping[str, Any]) -> tuple[Resource, ...]:
    """The resources of an exported stack (`pulumi stack export`) without those pending deletion or read only.

    Components are left out: what is below them is there. A running program does not see what is below a remote one,
    such as eks:index:Cluster, and has it priced whole.
    """
    resources: list[Resource] = []
    for state in deployment.get("resources", []):
        _, _, types, name = state["urn"].split("::", maxsplit=3)
        *above, type_ = types.split("$")
        if state.get("delete") or state.get("external") or state.get("custom") is False:
            continue
        phase = _phase_of_types([*above, type_])
        resources.append(Resource(type=type_, name=name, phase=phase, inputs=state.get("inputs", {})))
    return tuple(resources)


def _phase_of_types(types: Iterable[str]) -> Phase:
    for type_ in types:
        project, _, rest = type_.partition(":")
        package = rest.partition(":")[0]
        if project == "pyairtable" and package in PHASE_OF_PACKAGE:
            return PHASE_OF_PACKAGE[package]
    return Phase.NOTHING


def _fields(value: Any) -> Mapping[str, Any]:
    """Dicts, and the SDK's Args objects, by the names that the engine has for their keys."""
    fields: Mapping[str, Any] = value if isinstance(value, Mapping) else vars(value)
    return {_camel_case(key): part for key, part in fields.items()}


def _camel_case(snake: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), snake)
