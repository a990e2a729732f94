"""What the parts of phase 4 agree on about Istio: its version, its charts, the labels that ask for a sidecar."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.manifests import NAMESPACE, POD_IDENTITY_AGENT, metadata
from components.shared.mesh import SYSTEM_NAMESPACE
from components.shared.stores import POSTGRES_PORT, REDIS_PORT

ISTIO_VERSION: Final = "1.31.1"
REVISION: Final = "1-31-1"
"""In names and labels: an upgrade is a second revision beside this one, to which pods move by their label."""
REPOSITORY: Final = "https://istio-release.storage.googleapis.com/charts"
IMAGES: Final = {"hub": "registry.istio.io/release", "tag": ISTIO_VERSION}
"""Istio's own registry: Docker Hub limits how often nodes pull."""
CNI_NAMESPACE: Final = "istio-cni"
DISCOVERY_PORT: Final = 15012

PROXY_CPU_MILLIS: Final = 10
PROXY_MEMORY_MIB: Final = 40
"""What a sidecar asks for; it knows one namespace only, and keeps no statistics of its own making."""

INJECTED: Final[Mapping[str, str]] = {"sidecar.istio.io/inject": "true"}
"""Every pod that has a proxy, of whichever revision."""
POD_LABELS: Final[Mapping[str, str]] = {**INJECTED, "istio.io/rev": REVISION}
"""By these a pod asks for its sidecar: the namespace asks for none, so stores and jobs stay as they are."""
POD_ANNOTATIONS: Final[Mapping[str, str]] = {
    # Neither is HTTP, both have TLS of their own, and the agent would not know the sidecar for the pod.
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": POD_IDENTITY_AGENT,
    "traffic.sidecar.istio.io/excludeOutboundPorts": f"{POSTGRES_PORT},{REDIS_PORT}",
}

NETWORKING: Final = "networking.istio.io/v1"
SECURITY: Final = "security.istio.io/v1"


def release(
    resource_name: str,
    chart: str,
    *,
    name: str,
    namespace: str,
    values: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> kubernetes.helm.v3.Release:
    """A chart of Istio's at the pinned version; it is there once its pods are."""
    return kubernetes.helm.v3.Release(
        resource_name,
        name=name,
        namespace=namespace,
        chart=chart,
        version=ISTIO_VERSION,
        repository_opts={"repo": REPOSITORY},
        values=values,
        opts=opts,
    )


def istio_object(
    resource_name: str,
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
    *,
    api_version: str = NETWORKING,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> kubernetes.apiextensions.CustomResource:
    """An object of Istio's in the namespace of the services."""
    more: Any = {"annotations": annotations} if annotations else {}
    return kubernetes.apiextensions.CustomResource(
        resource_name, api_version=api_version, kind=kind, metadata=metadata(name, **more), spec=spec, opts=opts
    )


def proxies(requests: tuple[int, int], limits: tuple[int, int]) -> dict[str, dict[str, str]]:
    """Requests and limits in a chart's values: thousandths of a core, MiB."""
    return {
        what: {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}
        for what, (cpu, memory) in (("requests", requests), ("limits", limits))
    }


def namespaces(*names: str) -> Sequence[Mapping[str, Any]]:
    """Selectors of namespaces by their names."""
    return [{"matchLabels": {"kubernetes.io/metadata.name": name}} for name in names]


WATCHED: Final = namespaces(NAMESPACE, SYSTEM_NAMESPACE)
"""All that istiod looks at: nothing else in the cluster is in the mesh."""
