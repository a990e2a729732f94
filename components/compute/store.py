"""What PostgreSQL and Redis have in common: a StatefulSet of one, its Service, its configuration and certificate."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.compute.certificates import Certificate
from components.shared.manifests import CONTAINER_SECURITY, digest, labels, metadata, pod_security, resources
from components.shared.stores import STORES_LABEL

PRIORITY_CLASS = "pyairtable-stores"
CREDENTIALS_FOLDER = "/etc/credentials"
STOP_SECONDS = 60
"""For which a store may write down what it has, once it is told to end."""
PRIORITY = 1_000_000
"""Above the services' 0: after an interruption the stores get room on the only node that can have them."""


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """One store, as far as it differs from the other."""

    store: str
    image: str
    user: int
    """Id of the image's own user, who is not root."""
    port: int
    cpu_millis: int
    memory_mib: int
    claim_name: str
    mount_path: str
    certificate: Certificate
    certificate_authority_pem: pulumi.Input[str]
    configuration: Mapping[str, str]
    """Files below /etc/STORE."""
    command: Sequence[str] | None = None
    arguments: Sequence[str] = ()
    environment: Sequence[Mapping[str, Any]]
    credentials: str | None = None
    """Secret that is mounted at /etc/credentials and follows its changes, as variables do not."""
    sidecars: Sequence[Mapping[str, Any]] = ()
    """Containers beside the store's, with the same image, mounts and security."""
    probe: Sequence[str]
    """Command that ends with 0 while the store answers."""
    scratch_paths: Sequence[str]
    protect: bool
    depends_on: Sequence[pulumi.Resource]


def store(name: str, args: StoreArgs, parent: pulumi.Resource) -> kubernetes.apps.v1.StatefulSet:
    """Make a store's StatefulSet and what belongs to it; children of `parent`."""
    child = pulumi.ResourceOptions(parent=parent)
    app = args.store
    configuration = kubernetes.core.v1.ConfigMap(
        f"{name}-configuration",
        metadata=metadata(f"{app}-configuration", app=app),
        data=dict(args.configuration),
        opts=child,
    )
    certificate = kubernetes.core.v1.Secret(
        f"{name}-certificate",
        metadata=metadata(f"{app}-tls", app=app),
        type="kubernetes.io/tls",
        string_data={
            "tls.crt": args.certificate.certificate,
            "tls.key": args.certificate.key,
            "ca.crt": args.certificate_authority_pem,
        },
        opts=child,
    )
    kubernetes.core.v1.Service(
        f"{name}-service",
        metadata=metadata(app, app=app),
        spec={
            "type": "ClusterIP",
            "selector": {"app": app},
            "ports": [{"name": f"tcp-{app}", "port": args.port, "target_port": args.port}],
        },
        opts=child,
    )
    return kubernetes.apps.v1.StatefulSet(
        f"{name}-stateful-set",
        metadata=metadata(app, app=app),
        spec={
            "replicas": 1,
            "service_name": app,
            "selector": {"match_labels": {"app": app}},
            "template": {
                # Neither a changed file nor a renewed certificate reaches a running store by itself.
                "metadata": {
                    "labels": labels(app),
                    "annotations": {
                        "pyairtable.io/configuration": digest(json.dumps(dict(args.configuration), sort_keys=True)),
                        "pyairtable.io/certificate": args.certificate.certificate.apply(digest),
                    },
                },
                "spec": _pod(args),
            },
        },
        opts=pulumi.ResourceOptions(
            parent=parent,
            protect=args.protect,
            depends_on=[configuration, certificate, *args.depends_on],
        ),
    )


def _pod(args: StoreArgs) -> Any:
    mounts: list[dict[str, Any]] = [
        {"name": "data", "mount_path": args.mount_path},
        {"name": "configuration", "mount_path": f"/etc/{args.store}", "read_only": True},
        {"name": "certificate", "mount_path": "/etc/tls", "read_only": True},
        *(
            {"name": "scratch", "mount_path": path, "sub_path": path.strip("/").replace("/", "-")}
            for path in args.scratch_paths
        ),
    ]
    if args.credentials:
        mounts.append({"name": "credentials", "mount_path": CREDENTIALS_FOLDER, "read_only": True})
    shared = {
        "image": args.image,
        "image_pull_policy": "IfNotPresent",
        "security_context": dict(CONTAINER_SECURITY),
        "volume_mounts": mounts,
    }
    probe = {"exec_": {"command": list(args.probe)}, "timeout_seconds": 5}
    container = {
        **shared,
        "name": args.store,
        "command": list(args.command) if args.command else None,
        "args": list(args.arguments) or None,
        "env": list(args.environment),
        "ports": [{"name": "tcp", "container_port": args.port}],
        "resources": resources(args.cpu_millis, args.memory_mib),
        "startup_probe": {**probe, "period_seconds": 5, "failure_threshold": 60},
        "readiness_probe": {**probe, "period_seconds": 5},
        # The port alone, and for longer: a store that is busy is not helped by losing its memory.
        "liveness_probe": {"tcp_socket": {"port": "tcp"}, "period_seconds": 20, "failure_threshold": 6},
    }
    return {
        "automount_service_account_token": False,
        "enable_service_links": False,
        "security_context": pod_security(args.user),
        "termination_grace_period_seconds": STOP_SECONDS,
        "priority_class_name": PRIORITY_CLASS,
        "node_selector": {STORES_LABEL: "true"},
        "containers": [
            {key: value for key, value in container.items() if value is not None},
            *({**shared, **sidecar} for sidecar in args.sidecars),
        ],
        "volumes": [
            {"name": "data", "persistent_volume_claim": {"claim_name": args.claim_name}},
            {"name": "configuration", "config_map": {"name": f"{args.store}-configuration"}},
            # The group reads the key: PostgreSQL refuses one that others can read.
            {"name": "certificate", "secret": {"secret_name": f"{args.store}-tls", "default_mode": 0o640}},
            {"name": "scratch", "empty_dir": {"size_limit": "64Mi"}},
            *(
                [{"name": "credentials", "secret": {"secret_name": args.credentials, "default_mode": 0o440}}]
                if args.credentials
                else []
            ),
        ],
    }
