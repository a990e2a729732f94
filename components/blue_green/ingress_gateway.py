"""IngressGateway: the proxy through which clients' requests enter the mesh."""

import json
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components.blue_green.istio import (
    REVISION,
    istio_object,
    proxies,
    release,
)
from components.shared.manifests import NAMESPACE, metadata, network_policy_spec, pods, tcp
from components.shared.mesh import GATEWAY, GATEWAY_SELECTOR, STATISTICS_PORT

SERVICE_PORT: Final = 80
GATEWAY_PORT: Final = 8080
"""Above 1023, since the proxy is not root."""
GATEWAY_CPU_MILLIS: Final = 50
GATEWAY_MEMORY_MIB: Final = 64
PROXY_USER_ID: Final = 1337
"""Istio's own."""
STOP_SECONDS: Final = 45
DRAIN_SECONDS: Final = 30
"""The load balancer's: by then it sends nothing more."""


@dataclass(frozen=True, kw_only=True)
class IngressGatewayArgs:
    """From where its pods are reached, and what they reach."""

    vpc_cidr: str
    service: str
    service_port: int


class IngressGateway(pulumi.ComponentResource):
    """Its Gateway, and policies: the VPC to it, it to the public service. Its pods come after their routes."""

    reference: str
    """By which routes name it."""
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: IngressGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:IngressGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        # From the VPC, where the load balancer is, and the API server, through which statistics are read.
        from_vpc = {
            "from_": [{"ip_block": {"cidr": args.vpc_cidr}}],
            "ports": tcp(GATEWAY_PORT, STATISTICS_PORT),
        }
        policies = [
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-policy",
                metadata=metadata(GATEWAY),
                spec=network_policy_spec(
                    GATEWAY,
                    ingress=[from_vpc],
                    egress=[{"to": [pods(args.service)], "ports": tcp(args.service_port)}],
                ),
                opts=child,
            ),
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-service-policy",
                metadata=metadata(f"from-{GATEWAY}"),
                spec=network_policy_spec(
                    args.service, ingress=[{"from_": [pods(GATEWAY)], "ports": tcp(args.service_port)}]
                ),
                opts=child,
            ),
        ]
        gateway = istio_object(
            f"{name}-gateway",
            "Gateway",
            GATEWAY,
            {
                "selector": {"istio": GATEWAY},
                # TLS ends at the load balancer. The hosts are spelled out where the routes are.
                "servers": [{"port": {"number": SERVICE_PORT, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
            },
            child,
        )
        self.reference = f"{NAMESPACE}/{GATEWAY}"
        self.ready = [gateway, *policies]
        self.register_outputs({})


def gateway_release(name: str, replicas: int, opts: pulumi.ResourceOptions) -> pulumi.Resource:
    """Release `ingress-gateway`: the pods, by which clients enter."""
    return release(name, "gateway", name=GATEWAY, namespace=NAMESPACE, values=gateway_values(replicas), opts=opts)


def gateway_values(replicas: int) -> dict[str, Any]:
    """Values of the gateway's chart."""
    return {
        "revision": REVISION,
        "labels": {"app": GATEWAY, "istio": GATEWAY},
        "replicaCount": replicas,
        "autoscaling": {"enabled": False},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        # The chart makes it only where there are several; a minAvailable over one would block every drain.
        "podDisruptionBudget": {"maxUnavailable": 1},
        # The edge is the program's own load balancer.
        "service": {
            "type": "ClusterIP",
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": GATEWAY_PORT, "protocol": "TCP"}],
        },
        # Certificates are the load balancer's: it has no Secret to read.
        "rbac": {"enabled": False},
        "resources": proxies((GATEWAY_CPU_MILLIS, GATEWAY_MEMORY_MIB), (1000, 256)),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": PROXY_USER_ID,
            "runAsGroup": PROXY_USER_ID,
            "fsGroup": PROXY_USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "podAnnotations": {"proxy.istio.io/config": json.dumps(_proxy_config(), sort_keys=True)},
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(GATEWAY_SELECTOR)},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    }


def _proxy_config() -> dict[str, Any]:
    return {
        "terminationDrainDuration": f"{DRAIN_SECONDS}s",
        # What a shift is judged by: each colour's answers and times, and whether istiod is heard.
        "proxyStatsMatcher": {"inclusionPrefixes": ["cluster.outbound", "control_plane"]},
    }
