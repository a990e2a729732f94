"""SecretRestarter: what brings a changed Secret to the pods that started with the old one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.apps import RESTARTER as APP
from components.shared.manifests import (
    CONTAINER_SECURITY,
    NAMESPACE,
    digest,
    labels,
    metadata,
    network_policy_spec,
    pod_security,
    resources,
    tcp,
)
from components.shared.stores import API_KEYS_SECRET, DATABASE_SECRET, REDIS_SECRET

SECRETS = (DATABASE_SECRET, REDIS_SECRET, API_KEYS_SECRET)
IMAGE = "public.ecr.aws/docker/library/python:3.13.9-slim"
USER_ID = 10001
MIN_READY_SECONDS = 5
"""By then it has looked at every workload once."""
RESTARTER_CPU_MILLIS = 10
RESTARTER_MEMORY_MIB = 48
SCRIPT = Path(__file__).parent / "scripts" / "restarter.py"
FOLDER = f"/etc/{APP}"
SERVICE_NETWORK = "172.20.0.0/16"
"""Of EKS where the VPC lies in 10.0.0.0/8: the API server's Service is in it, its endpoints are in the VPC."""
SERVICE_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, kw_only=True)
class SecretRestarterArgs:
    """What may be restarted."""

    vpc_cidr: str
    deployments: tuple[str, ...]
    stateful_sets: tuple[str, ...]


class SecretRestarter(pulumi.ComponentResource):
    """Deployment `secret-restarter`, its script, and a role that lets it restart these workloads and no others."""

    def __init__(self, name: str, args: SecretRestarterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:secrets:SecretRestarter", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        script = SCRIPT.read_text()
        configuration = kubernetes.core.v1.ConfigMap(
            f"{name}-script", metadata=metadata(APP, app=APP), data={SCRIPT.name: script}, opts=self._child
        )
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-service-account",
            metadata=metadata(APP, app=APP),
            automount_service_account_token=False,
            opts=self._child,
        )
        api_server = (args.vpc_cidr, SERVICE_NETWORK)
        policy = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-policy",
            metadata=metadata(APP),
            spec=network_policy_spec(
                APP,
                egress=[{"to": [{"ip_block": {"cidr": cidr}} for cidr in api_server], "ports": tcp(443)}],
            ),
            opts=self._child,
        )
        kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata(APP, app=APP),
            spec={
                "replicas": 1,
                "min_ready_seconds": MIN_READY_SECONDS,
                "selector": {"match_labels": {"app": APP}},
                "strategy": {"type": "Recreate"},  # two at a time would restart twice
                "revision_history_limit": 1,
                "template": {
                    "metadata": {
                        "labels": labels(APP),
                        "annotations": {"pyairtable.io/script": digest(script)},
                    },
                    "spec": self._pod(),
                },
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[configuration, account, policy, *self._permissions()]),
        )
        self.register_outputs({})

    def _permissions(self) -> list[pulumi.Resource]:
        def rule(group: str, kind: str, names: tuple[str, ...], *verbs: str) -> Any:
            return {"api_groups": [group], "resources": [kind], "resource_names": list(names), "verbs": list(verbs)}

        role = kubernetes.rbac.v1.Role(
            f"{self._name}-role",
            metadata=metadata(APP, app=APP),
            rules=[
                rule("", "secrets", SECRETS, "get"),
                rule("", "pods", ("postgres-0",), "get", "patch"),
                # What may be read cannot be told by name where all of them are listed.
                {"api_groups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "list"]},
                *(
                    rule("apps", kind, names, "patch")
                    for kind, names in (
                        ("deployments", self._args.deployments),
                        ("statefulsets", self._args.stateful_sets),
                    )
                    if names  # no names would mean all of them
                ),
            ],
            opts=self._child,
        )
        binding = kubernetes.rbac.v1.RoleBinding(
            f"{self._name}-role-binding",
            metadata=metadata(APP, app=APP),
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": APP},
            subjects=[{"kind": "ServiceAccount", "name": APP, "namespace": NAMESPACE}],
            opts=self._child,
        )
        return [role, binding]

    def _pod(self) -> Any:
        return {
            "service_account_name": APP,
            "automount_service_account_token": True,
            "enable_service_links": False,
            "security_context": pod_security(USER_ID),
            "termination_grace_period_seconds": 10,
            "containers": [
                {
                    "name": "restarter",
                    "image": IMAGE,
                    "image_pull_policy": "IfNotPresent",
                    "command": ["python3", f"{FOLDER}/{SCRIPT.name}"],
                    "env": [
                        {"name": "NAMESPACE", "value": NAMESPACE},
                        {"name": "SECRETS", "value": ",".join(SECRETS)},
                        {"name": "NUDGED_PODS", "value": f"postgres-0={DATABASE_SECRET}"},
                        {"name": "SERVICE_ACCOUNT_FOLDER", "value": SERVICE_ACCOUNT_FOLDER},
                    ],
                    "resources": resources(RESTARTER_CPU_MILLIS, RESTARTER_MEMORY_MIB, cpu_burst=20),
                    "security_context": dict(CONTAINER_SECURITY),
                    "volume_mounts": [{"name": "script", "mount_path": FOLDER, "read_only": True}],
                }
            ],
            "volumes": [{"name": "script", "config_map": {"name": APP}}],
        }
