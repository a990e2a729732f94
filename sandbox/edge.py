"""The load balancer in front of a cluster's nodes: an Envoy that passes connections on to what is behind a port."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.children import Child
from sandbox.gateways import find_envoy
from sandbox.state import write_json

CONNECT_SECONDS = "1s"
ATTEMPTS = 3
"""To how many pods a connection is tried, like a load balancer that knows which of its targets are healthy."""
CLUSTER = "edge"

Address = tuple[str, int]


class Edge:
    """The process, as what it leads to comes and goes. Connections to what is still there go on."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._child = Child(log)
        self._port: int | None = None
        self._written: object = None
        self._version = 0

    def keep(self, port: int | None, backends: Sequence[Address]) -> str:
        """Listen on a port, or not at all, and lead to backends; what there is to tell about it."""
        told = self._child.message if self._child.look() else ""
        if port != self._port:
            self._child.end()
        if port is None:
            self._port = None if self._child.pid is None else self._port
            return told
        self._lead_to(backends)
        if self._child.is_due:
            self._port = port
            self._start(port)
            told = f"listens on 127.0.0.1:{port} as process {self._child.pid}"
        return told

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._child.pid is not None

    def end(self) -> None:
        """Ask it to end; it has to be looked after until it has."""
        self._child.end()
        self._child.look()

    def _lead_to(self, backends: Sequence[Address]) -> None:
        if backends == self._written:
            return
        self._version += 1
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(self._endpoints, endpoints(backends, self._version))  # in one step, which Envoy looks out for
        self._written = list(backends)

    def _start(self, port: int) -> None:
        config = self._folder / "envoy.json"
        write_json(config, bootstrap(port, self._endpoints))
        words = [str(find_envoy()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1"]
        self._child.start([*words, "--log-level", "error"], dict(os.environ), self._folder)

    @property
    def _endpoints(self) -> Path:
        return self._folder / "endpoints.json"


def bootstrap(port: int, endpoints: Path) -> dict[str, Any]:
    """Envoy's configuration: a listener, and a cluster whose endpoints are in a file."""
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": CLUSTER,
        "cluster": CLUSTER,
        "max_connect_attempts": ATTEMPTS,
    }
    listener = {
        "name": CLUSTER,
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
    }
    source = {"path_config_source": {"path": str(endpoints)}, "resource_api_version": "V3"}
    cluster = {
        "name": CLUSTER,
        "type": "EDS",
        "eds_cluster_config": {"service_name": CLUSTER, "eds_config": source},
        "connect_timeout": CONNECT_SECONDS,
        "circuit_breakers": {"thresholds": [{"max_connections": 10000, "max_pending_requests": 10000}]},
    }
    return {
        "node": {"id": CLUSTER, "cluster": CLUSTER},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def endpoints(backends: Sequence[Address], version: int) -> dict[str, Any]:
    """The file of the endpoints."""
    found = [{"endpoint": {"address": _address(host, port)}} for host, port in backends]
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": CLUSTER,
        "endpoints": [{"lb_endpoints": found}],
    }
    return {"version_info": str(version), "resources": [assignment]}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
