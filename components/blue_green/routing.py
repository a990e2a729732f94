"""How Istio sends requests to one colour or the other: destinations, routes, and how connections are kept."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi

from components.shared.stores import host

COLOURS: Final = ("blue", "green")
RETRIES: Final[Mapping[str, Any]] = {"attempts": 2, "retryOn": "connect-failure,refused-stream"}
"""Only where no service can have seen the request: whatever it does, it is done once."""
TRAFFIC_POLICY: Final[Mapping[str, Any]] = {
    "connectionPool": {
        "tcp": {"connectTimeout": "1s", "maxConnections": 1024},
        "http": {
            "http1MaxPendingRequests": 1024,
            "http2MaxRequests": 1024,
            # Below the 5 s after which common servers hang up, so that no request meets a connection that goes.
            "idleTimeout": "4s",
        },
    },
    "outlierDetection": {
        "consecutive5xxErrors": 5,
        "consecutiveGatewayErrors": 5,
        "interval": "2s",
        "baseEjectionTime": "15s",
        # Never more than half: an error that all pods have is the release's, and what ends that is the way back.
        "maxEjectionPercent": 50,
    },
}


def destination(service: str) -> dict[str, Any]:
    """Spec of a DestinationRule: a service's pods as a subset for each colour.

    Both are always there: one without pods harms nobody, and a route that is still to go finds what it names.
    """
    return {
        "host": host(service),
        "trafficPolicy": dict(TRAFFIC_POLICY),
        "subsets": [{"name": colour, "labels": {"version": colour}} for colour in COLOURS],
    }


def to(service: str, colour: str, weight: pulumi.Input[int] | None = None) -> dict[str, Any]:
    """A route's destination."""
    target: dict[str, Any] = {"destination": {"host": host(service), "subset": colour}}
    return target if weight is None else {**target, "weight": weight}


def rule(name: str, route: Sequence[Mapping[str, Any]], *match: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of a VirtualService; without a match it is what is left."""
    return {
        "name": name,
        **({"match": list(match)} if match else {}),
        "route": list(route),
        "retries": dict(RETRIES),
    }


def from_colour(colour: str) -> dict[str, Any]:
    """A request of a pod of that colour.

    It names no gateways: istiod takes a match that does for one of every pod behind them, whatever its labels.
    """
    return {"sourceLabels": {"version": colour}}
