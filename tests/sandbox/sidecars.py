"""What istiod would send to a pod's sidecar. No sidecar runs here: this asks in its name, and only reads."""

import json
import queue
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from sandbox import istio
from sandbox.control_plane import ControlPlane
from sandbox.kubernetes_api import Manifest

TYPES = "type.googleapis.com/envoy.config"
LISTENERS = f"{TYPES}.listener.v3.Listener"
ROUTES = f"{TYPES}.route.v3.RouteConfiguration"
STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
ANSWER_SECONDS = 10

INBOUND = "virtualInbound"
"""The listener to which all that arrives at a pod is led."""
BLACKHOLE = "virtualInbound-blackhole"
"""Its filter chain for what comes to its own port, which is dropped."""


def _request_type() -> Any:
    """Envoy's DiscoveryRequest, as far as it is needed: which node asks for which resources of a type."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="sidecars.proto", package="sidecars", syntax="proto3", dependency=["google/protobuf/struct.proto"]
    )
    node = file.message_type.add(name="Node")
    node.field.add(name="id", number=1, type=field.TYPE_STRING)
    node.field.add(name="cluster", number=2, type=field.TYPE_STRING)
    node.field.add(name="metadata", number=3, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Struct")
    request = file.message_type.add(name="DiscoveryRequest")
    request.field.add(name="node", number=2, type=field.TYPE_MESSAGE, type_name=".sidecars.Node")
    request.field.add(name="resource_names", number=3, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    request.field.add(name="type_url", number=4, type=field.TYPE_STRING)
    for message in file.message_type:
        for found in message.field:
            found.label = found.label or field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sidecars.DiscoveryRequest"))


_REQUEST = _request_type()


class Sidecar:
    """What a pod's sidecar would have."""

    def __init__(self, dump: Manifest) -> None:
        parts = {part["@type"].rpartition(".")[2]: part for part in dump["configs"]}
        self.listeners: dict[str, Manifest] = {
            listener["name"]: listener
            for found in parts["ListenersConfigDump"].get("dynamicListeners", [])
            for listener in [found["activeState"]["listener"]]
        }
        self.route_configs: list[Manifest] = [
            found["routeConfig"] for found in parts["RoutesConfigDump"].get("dynamicRouteConfigs", [])
        ]

    def leads_to(self, host: str, port: int) -> set[str]:
        """Clusters that get requests to a host, of those that ask for nothing in their headers."""
        (found,) = (
            virtual_host
            for config in self.route_configs
            for virtual_host in config["virtualHosts"]
            if config["name"] == str(port) and host in virtual_host["domains"]
        )
        asked_by_all = (route for route in found["routes"] if "headers" not in route["match"])
        return {cluster for route in asked_by_all for cluster in _shares(route["route"])}

    def inbound(self) -> list[Manifest]:
        """Filter chains for what arrives at the pod, all that lead anywhere."""
        return [chain for chain in self.listeners[INBOUND]["filterChains"] if chain["name"] != BLACKHOLE]


def _shares(action: Manifest) -> set[str]:
    weighted = action.get("weightedClusters", {}).get("clusters")
    return {part["name"] for part in weighted if part.get("weight")} if weighted else {action["cluster"]}


def sidecar_of(plane: ControlPlane, pod: Manifest) -> Sidecar:
    """What istiod would send to the sidecar of a pod."""
    with _asking(plane, pod) as ask:
        ask(LISTENERS)
        names = sorted(set(_route_names([*Sidecar(_dump(plane, pod)).listeners.values()])))
        ask(ROUTES, *names)
        return Sidecar(_dump(plane, pod))


@contextmanager
def _asking(plane: ControlPlane, pod: Manifest) -> Generator[Any]:
    """A connection to istiod in the name of a pod's sidecar: what to call with a type and names of resources."""
    requests = queue.SimpleQueue[Any]()
    node = _node(pod)
    with grpc.insecure_channel(f"127.0.0.1:{plane.ports['istiod-grpc']}", [("grpc.enable_http_proxy", 0)]) as channel:
        stream = channel.stream_stream(STREAM, request_serializer=_REQUEST.SerializeToString)
        answers = stream(iter(requests.get, None), timeout=ANSWER_SECONDS)

        def ask(resources: str, *names: str) -> None:
            requests.put(_REQUEST(node=node, type_url=resources, resource_names=names))
            while resources.encode() not in next(answers):  # istiod also sends what has changed meanwhile
                pass

        try:
            yield ask
        finally:
            requests.put(None)
            answers.cancel()


def _node(pod: Manifest) -> dict[str, Any]:
    """Who a sidecar says that it is, as Istio's agent puts it into its bootstrap."""
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    return {
        "id": f"sidecar~{pod['status']['podIP']}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"{metadata['labels']['app']}.{namespace}",
        "metadata": {
            "NAME": name,
            "NAMESPACE": namespace,
            "LABELS": metadata["labels"],
            "SERVICE_ACCOUNT": pod["spec"]["serviceAccountName"],
            "CLUSTER_ID": "Kubernetes",
            "ISTIO_VERSION": istio.VERSION,
            "INTERCEPTION_MODE": "REDIRECT",
        },
    }


def _dump(plane: ControlPlane, pod: Manifest) -> Manifest:
    """What istiod says that it sends to a sidecar that is connected."""
    proxy = f"{pod['metadata']['name']}.{pod['metadata']['namespace']}"
    url = f"http://127.0.0.1:{plane.ports['istiod-http']}/debug/config_dump?proxyID={proxy}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    with opener.open(url, timeout=ANSWER_SECONDS) as answer:
        return json.load(answer)


def _route_names(value: object) -> Iterator[str]:
    """Names of the routes that listeners ask for."""
    if isinstance(value, dict):
        if "routeConfigName" in value:
            yield value["routeConfigName"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _route_names(part)
