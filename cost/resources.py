"""What is priced: resources, read from a running program or from an engine's deployment, in one form."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

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
    """Properties by their camelCase names."""


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
        self._resources.append(
            Resource(
                type=args.type_,
                name=args.name,
                phase=phase,
                inputs={_camel_case(key): value for key, value in args.props.items() if value is not None},
            )
        )


def resources_of_deployment(deployment: Mapping[str, Any]) -> tuple[Resource, ...]:
    """The resources of an exported stack (`pulumi stack export`), without those pending deletion."""
    return tuple(
        Resource(
            type=state["type"],
            name=state["urn"].rpartition("::")[2],
            phase=_phase_of_types(state["urn"].split("::")[2].split("$")),
            inputs=state.get("inputs", {}),
        )
        for state in deployment.get("resources", [])
        if not state.get("delete")
    )


def _phase_of_types(types: Iterable[str]) -> Phase:
    for type_ in types:
        project, _, rest = type_.partition(":")
        package = rest.partition(":")[0]
        if project == "pyairtable" and package in PHASE_OF_PACKAGE:
            return PHASE_OF_PACKAGE[package]
    return Phase.NOTHING


def _camel_case(snake: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), snake)
