"""What pods ask for and nodes have, in numbers, the way Kubernetes' scheduler adds it up."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Resources = Mapping[str, Decimal]
"""Amounts by resource: CPU in cores, memory in bytes, pods by number."""


def requests(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod asks for: its containers together, or its hungriest moment while it starts if that is more.

    An init container that is restarted always is a sidecar: it stays, so that those after it come on top.
    """
    containers = total(_requests_of(container) for container in spec["containers"])
    sidecars: dict[str, Decimal] = {}
    peak: dict[str, Decimal] = {}
    for container in spec.get("initContainers", []):
        asked = _requests_of(container)
        if container.get("restartPolicy") == "Always":
            sidecars = total([sidecars, asked])
            peak = _largest(peak, sidecars)
        else:
            peak = _largest(peak, total([sidecars, asked]))
    whole = _amounts(spec.get("resources", {}).get("requests", {}))  # the pod's own count instead of its containers'
    asked = {**_largest(total([containers, sidecars]), peak), **whole}
    return {**total([asked, _amounts(spec.get("overhead", {}))]), "pods": Decimal(1)}


def allocatable(node: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a node has for pods."""
    return _amounts(node.get("status", {}).get("allocatable", {}))


def total(parts: Iterable[Resources]) -> dict[str, Decimal]:
    """The sum of several."""
    sums: dict[str, Decimal] = {}
    for part in parts:
        for resource, amount in part.items():
            sums[resource] = sums.get(resource, Decimal(0)) + amount
    return sums


def _largest(*parts: Resources) -> dict[str, Decimal]:
    names: Sequence[str] = [name for part in parts for name in part]
    return {name: max(part.get(name, Decimal(0)) for part in parts) for name in names}


def _requests_of(container: Mapping[str, Any]) -> dict[str, Decimal]:
    return _amounts(container.get("resources", {}).get("requests", {}))


def _amounts(quantities: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: parse_quantity(quantity) for name, quantity in quantities.items()}
