"""Microservice: one service of the application in one colour, with everything that keeps it up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.manifests import (
    CONTAINER_SECURITY,
    INTERNET,
    labels,
    metadata,
    network_policy_spec,
    pod_security,
    pods,
    resources,
    tcp,
)
from components.shared.service_pods import AUTHORITY_MOUNT, ENVIRONMENT, SCRATCH_MOUNT, SCRATCH_VOLUME, USER_ID
from components.shared.stores import STORES_LABEL, TO_DATABASE, TO_REDIS, authority_volume
from infra.naming import GREEN_SUFFIX

CPU_TARGET_PERCENT = 70
DRAIN_SECONDS = 5
"""Time for Services and load balancers to notice that a pod goes, before it stops answering."""
STOP_SECONDS = 30

AWAY_FROM_STORES: Mapping[str, Any] = {
    "preferred_during_scheduling_ignored_during_execution": [
        {"weight": 100, "preference": {"match_expressions": [{"key": STORES_LABEL, "operator": "DoesNotExist"}]}}
    ]
}

Colour = Literal["blue", "green"]
SUFFIXES: Mapping[Colour, str] = {"blue": "", "green": GREEN_SUFFIX}
"""Blue has the plain names, so that green comes beside it and replaces nothing."""

OTHERS: Mapping[Colour, Colour] = {"blue": "green", "green": "blue"}
"""Each colour's other one; their workloads are named after them."""


@dataclass(frozen=True, kw_only=True)
class MicroserviceArgs:
    """One service as the stack's config describes it, its image resolved."""

    service: str
    image: str
    colour: Colour
    port: int
    cpu_millis: int
    memory_mib: int
    min_replicas: int
    max_replicas: int
    health_path: str
    calls: dict[str, int]
    """Services that it calls, and their ports."""
    callers: tuple[str, ...]
    uses: tuple[str, ...]
    internet: bool
    pull_secret: str | None
    has_service: bool
    """Whether the Service is this colour's; it leads to the pods of both."""
    stopped: bool
    """Whether it has no replicas, whatever the autoscaler would give it."""
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    """What its pods have besides, for whoever looks at pods as they are made."""


class Microservice(pulumi.ComponentResource):
    """Deployment, Service, ServiceAccount, HPA, PDB and network policy of one service."""

    deployment: kubernetes.apps.v1.Deployment

    def __init__(self, name: str, args: MicroserviceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Microservice", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        app, full_name = args.service, args.service + SUFFIXES[args.colour]
        self._full_name = full_name
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-service-account",
            metadata=metadata(full_name, app=app),
            automount_service_account_token=False,
            image_pull_secrets=[{"name": args.pull_secret}] if args.pull_secret else None,
            opts=self._child,
        )
        policy = self._network_policy()
        self.deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata(full_name, labels=self._labels(), **_annotations("patchForce", given=args.stopped)),
            spec={
                # Otherwise none: they are the autoscaler's, from which they have to be taken to be nothing.
                "replicas": 0 if args.stopped else None,
                "selector": {"match_labels": self._selector()},
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 1, "max_unavailable": 0}},
                "revision_history_limit": 3,
                "template": {"metadata": self._pod_metadata(), "spec": self._pod()},
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account, *policy]),
        )
        if args.has_service:
            kubernetes.core.v1.Service(
                f"{name}-service",
                # A stopped one may never get a pod to wait for.
                metadata=metadata(app, labels=self._labels(), **_annotations("skipAwait", given=args.stopped)),
                spec={
                    "type": "ClusterIP",
                    "selector": {"app": app},
                    "ports": [{"name": "http", "port": args.port, "target_port": "http"}],
                },
                # The name in the cluster is one: a service that changes its colour takes it along.
                opts=pulumi.ResourceOptions(
                    parent=self, aliases=[pulumi.Alias(name=f"{OTHERS[args.colour]}-{app}-service")]
                ),
            )
        self._autoscaler()
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata=metadata(full_name, app=app),
            # Not minAvailable: with one replica that would block every drain.
            spec={"max_unavailable": 1, "selector": {"match_labels": self._selector()}},
            opts=self._child,
        )
        self.register_outputs({})

    def _selector(self) -> dict[str, str]:
        return {"app": self._args.service, "version": self._args.colour}

    def _labels(self) -> dict[str, str]:
        return labels(self._args.service, version=self._args.colour)

    def _pod_metadata(self) -> Any:
        args = self._args
        annotations = {"annotations": dict(args.pod_annotations)} if args.pod_annotations else {}
        return {"labels": {**self._labels(), **args.pod_labels}, **annotations}

    def _autoscaler(self) -> None:
        args = self._args
        kubernetes.autoscaling.v2.HorizontalPodAutoscaler(
            f"{self._name}-autoscaler",
            metadata=metadata(f"{self._full_name}-hpa", app=args.service),
            spec={
                "scale_target_ref": {"api_version": "apps/v1", "kind": "Deployment", "name": self._full_name},
                "min_replicas": args.min_replicas,
                "max_replicas": args.max_replicas,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "average_utilization": CPU_TARGET_PERCENT},
                        },
                    }
                ],
            },
            opts=self._child,
        )

    def _network_policy(self) -> list[pulumi.Resource]:
        """The flows of this service; none where it has none, since then the default of nothing stands."""
        args = self._args
        ingress = (
            [{"from_": [pods(caller) for caller in args.callers], "ports": tcp(args.port)}] if args.callers else []
        )
        egress: list[Mapping[str, Any]] = [
            {"to": [pods(callee)], "ports": tcp(port)} for callee, port in args.calls.items()
        ]
        if "database" in args.uses:
            egress.append(TO_DATABASE)
        if "redis" in args.uses:
            egress.append(TO_REDIS)
        if args.internet:
            egress.append({"to": [INTERNET], "ports": tcp(443)})
        if not ingress and not egress:
            return []
        return [
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-policy",
                metadata=metadata(self._full_name, app=args.service),
                spec=network_policy_spec(args.service, version=args.colour, ingress=ingress, egress=egress),
                opts=self._child,
            )
        ]

    def _pod(self) -> Any:
        args = self._args
        probe = {"http_get": {"path": args.health_path, "port": "http"}, "timeout_seconds": 3}
        spread = {
            "max_skew": 1,
            "when_unsatisfiable": "ScheduleAnyway",  # one node is better than none
            "label_selector": {"match_labels": self._selector()},
        }
        needs_authority = {"database", "redis"} & {*args.uses}
        return {
            "service_account_name": self._full_name,
            "automount_service_account_token": False,
            "enable_service_links": False,
            "security_context": pod_security(USER_ID),
            "termination_grace_period_seconds": STOP_SECONDS,
            # Dumps and rotations find room beside the stores, where they have to run.
            "affinity": {"node_affinity": AWAY_FROM_STORES},
            "topology_spread_constraints": [
                {**spread, "topology_key": key} for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
            ],
            "containers": [
                {
                    "name": args.service,
                    "image": args.image,
                    "image_pull_policy": "IfNotPresent",
                    "ports": [{"name": "http", "container_port": args.port}],
                    "env": [
                        {"name": "PORT", "value": str(args.port)},
                        *(variable for used in args.uses for variable in ENVIRONMENT[used]),
                    ],
                    "resources": resources(args.cpu_millis, args.memory_mib),
                    "security_context": dict(CONTAINER_SECURITY),
                    "startup_probe": {**probe, "period_seconds": 2, "failure_threshold": 30},
                    "readiness_probe": {**probe, "period_seconds": 5},
                    # The port alone: a service whose database is away is not mended by a restart.
                    "liveness_probe": {"tcp_socket": {"port": "http"}, "period_seconds": 15},
                    "lifecycle": {"pre_stop": {"sleep": {"seconds": DRAIN_SECONDS}}},
                    "volume_mounts": [SCRATCH_MOUNT, *([AUTHORITY_MOUNT] if needs_authority else [])],
                }
            ],
            "volumes": [SCRATCH_VOLUME, *([authority_volume()] if needs_authority else [])],
        }


def _annotations(name: str, *, given: bool) -> dict[str, Any]:
    """Metadata that tells Pulumi something, or none."""
    return {"annotations": {f"pulumi.com/{name}": "true"}} if given else {}
