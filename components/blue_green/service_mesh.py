"""ServiceMesh: Istio, before the first pod that asks for its sidecar (runbook step 4.1)."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.blue_green.ingress_gateway import GATEWAY_PORT, GATEWAY_SELECTOR
from components.blue_green.istio import (
    CNI_NAMESPACE,
    DISCOVERY_PORT,
    IMAGES,
    INJECTED,
    POD_ANNOTATIONS,
    POD_LABELS,
    PROXY_CPU_MILLIS,
    PROXY_MEMORY_MIB,
    REVISION,
    SYSTEM_NAMESPACE,
    WATCHED,
    istio_object,
    proxies,
    release,
)
from components.blue_green.routing import RETRIES
from components.shared.manifests import metadata, pod_security_labels, tcp

PRIVILEGED: Mapping[str, str] = {
    f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn", "audit")
}


class ServiceMesh(pulumi.ComponentResource):
    """Istio's CRDs, its CNI plugin on every node, and istiod; what sidecars may reach and know."""

    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    """Of a pod that is to have a sidecar."""
    gateway_selector: Mapping[str, str]
    gateway_port: int
    """Where clients enter the mesh, once its gateway is there."""
    ready: list[pulumi.Resource]
    """What such a pod needs before it is made."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:ServiceMesh", name, None, opts)
        self._name = name
        system = self._namespace("system", SYSTEM_NAMESPACE, pod_security_labels())
        # It changes the network of nodes, which `restricted` forbids: hence a namespace of its own, and none for us.
        nodes = self._namespace("nodes", CNI_NAMESPACE, PRIVILEGED)
        base = release(
            f"{name}-base",
            "base",
            name="istio-base",
            namespace=SYSTEM_NAMESPACE,
            # Objects without a revision's label are validated by this one.
            values={"defaultRevision": REVISION},
            opts=self._after(system),
        )
        plugin = release(
            f"{name}-cni",
            "cni",
            name="istio-cni",
            namespace=CNI_NAMESPACE,
            values=cni_values(),
            opts=self._after(nodes, base),
        )
        istiod = release(
            # Of its revision: the next one is made beside it, and it goes when the pods have moved.
            f"{name}-istiod-{REVISION}",
            "istiod",
            name=f"istiod-{REVISION}",
            namespace=SYSTEM_NAMESPACE,
            values=istiod_values(),
            opts=self._after(base, plugin),
        )
        scope = istio_object(
            f"{name}-scope",
            "Sidecar",
            "default",
            {"egress": [{"hosts": ["./*", f"{SYSTEM_NAMESPACE}/*"]}]},
            self._after(istiod),
        )
        self.pod_labels, self.pod_annotations = POD_LABELS, POD_ANNOTATIONS
        self.gateway_selector, self.gateway_port = GATEWAY_SELECTOR, GATEWAY_PORT
        self.ready = [istiod, scope, self._policy()]
        self.register_outputs({})

    def _after(self, *resources: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(resources))

    def _namespace(self, what: str, name: str, security: Mapping[str, str]) -> kubernetes.core.v1.Namespace:
        return kubernetes.core.v1.Namespace(
            f"{self._name}-{what}-namespace", metadata={"name": name, "labels": dict(security)}, opts=self._after()
        )

    def _policy(self) -> kubernetes.networking.v1.NetworkPolicy:
        """A proxy gets its routes and its certificate from istiod, and does not start without."""
        istiod = {
            "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": SYSTEM_NAMESPACE}},
            "pod_selector": {"match_labels": {"app": "istiod"}},
        }
        spec: Any = {
            "pod_selector": {"match_labels": dict(INJECTED)},
            "policy_types": ["Egress"],
            "egress": [{"to": [istiod], "ports": tcp(DISCOVERY_PORT)}],
        }
        return kubernetes.networking.v1.NetworkPolicy(
            f"{self._name}-policy", metadata=metadata("mesh"), spec=spec, opts=self._after()
        )


def cni_values() -> dict[str, Any]:
    """Values of the CNI plugin's chart. Its pods have the priority of a node's own parts, by the chart."""
    return {
        "global": dict(IMAGES),
        "resources": proxies((10, 64), (200, 128)),
    }


def istiod_values() -> dict[str, Any]:
    """Values of istiod's chart, the sidecars' among them."""
    return {
        "revision": REVISION,
        # One replica, and no budget for disruptions, which over one would block every drain: requests go on without
        # it, only new pods wait.
        "autoscaleEnabled": False,
        "replicaCount": 1,
        "resources": proxies((100, 256), (1000, 512)),
        "seccompProfile": {"type": "RuntimeDefault"},
        "cni": {"enabled": True, "provider": "default"},
        "env": {"ENABLE_NATIVE_SIDECARS": "true"},
        # Nothing here reads Istio's own statistics, which cost every proxy memory; Envoy's are there without.
        "telemetry": {"enabled": False},
        "global": {
            **IMAGES,
            # Without it no service starts: before them, therefore.
            "priorityClassName": "system-cluster-critical",
            "proxy": {"resources": proxies((PROXY_CPU_MILLIS, PROXY_MEMORY_MIB), (500, 128))},
        },
        "meshConfig": {
            "accessLogFile": "",
            "enablePrometheusMerge": False,
            "discoverySelectors": list(WATCHED),
            # By itself it would also repeat requests that a service has seen.
            "defaultHttpRetryPolicy": dict(RETRIES),
        },
    }
