"""Parts of Kubernetes manifests that every workload of the program shares."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

NAMESPACE = "pyairtable"
POD_SECURITY = "restricted"
POD_SECURITY_VERSION = "v1.36"
POD_IDENTITY_AGENT = "169.254.170.23/32"
"""Where the EKS Pod Identity agent answers, on port 80."""


def metadata(name: str, *, app: str = "", **more: Any) -> Any:
    """Metadata of an object in the namespace; with the labels of the app that it belongs to."""
    return {"name": name, "namespace": NAMESPACE, **({"labels": labels(app)} if app else {}), **more}


def labels(app: str, **more: str) -> dict[str, str]:
    """Labels of a workload; `app` is what selectors use."""
    return {"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "pyairtable", **more}


def pod_security_labels() -> dict[str, str]:
    """Labels of a namespace whose pods are held to the `restricted` profile."""
    return {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn", "audit")
        for suffix, value in (("", POD_SECURITY), ("-version", POD_SECURITY_VERSION))
    }


def digest(text: str) -> str:
    """Tells one text from another; in an annotation of a pod's template it restarts the pods that mount a new one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pod_security(user: int, *, group: int | None = None) -> dict[str, Any]:
    """Security context of a pod under the `restricted` profile; `group` owns its volumes."""
    return {
        "run_as_non_root": True,
        "run_as_user": user,
        "run_as_group": group or user,
        "fs_group": group or user,
        "fs_group_change_policy": "OnRootMismatch",
        "seccomp_profile": {"type": "RuntimeDefault"},  # of the pod: injected containers set none
    }


CONTAINER_SECURITY: Mapping[str, Any] = {
    "allow_privilege_escalation": False,
    "capabilities": {"drop": ["ALL"]},
    "read_only_root_filesystem": True,
    "run_as_non_root": True,
}


def resources(cpu_millis: int, memory_mib: int, *, cpu_burst: int = 4, disk_mib: int = 128) -> dict[str, Any]:
    """Requests and limits: memory is not overcommitted, CPU may burst; disk is scratch files and logs on the node."""
    own = {"memory": f"{memory_mib}Mi", "ephemeral-storage": f"{disk_mib}Mi"}
    return {
        "requests": {"cpu": f"{cpu_millis}m", **own},
        "limits": {"cpu": f"{cpu_millis * cpu_burst}m", **own},
    }


def from_secret(variable: str, secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    """An environment variable whose value is a key of a Secret."""
    reference: dict[str, Any] = {"name": secret, "key": key}
    return {
        "name": variable,
        "value_from": {"secret_key_ref": {**reference, "optional": True} if optional else reference},
    }


def from_config_map(variable: str, config_map: str, key: str) -> dict[str, Any]:
    """An environment variable whose value is a key of a ConfigMap."""
    return {"name": variable, "value_from": {"config_map_key_ref": {"name": config_map, "key": key}}}


def pods(app: str) -> dict[str, Any]:
    """Peer of a network policy: the pods of an app in the namespace."""
    return {"pod_selector": {"match_labels": {"app": app}}}


def tcp(*ports: int) -> list[dict[str, Any]]:
    """Ports of a network policy."""
    return [{"protocol": "TCP", "port": port} for port in ports]


INTERNET: Mapping[str, Any] = {
    "ip_block": {"cidr": "0.0.0.0/0", "except_": ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]}
}
"""Peer of a network policy: every address that is not of a private network, the metadata service included."""


def network_policy_spec(
    app: str,
    *,
    version: str = "",
    ingress: Sequence[Mapping[str, Any]] = (),
    egress: Sequence[Mapping[str, Any]] = (),
) -> Any:
    """What the pods of an app, or of one version of it, may receive and send, on top of the default of nothing."""
    selector = {"app": app, **({"version": version} if version else {})}
    spec: dict[str, Any] = {"pod_selector": {"match_labels": selector}, "policy_types": []}
    if ingress:
        spec["policy_types"].append("Ingress")
        spec["ingress"] = list(ingress)
    if egress:
        spec["policy_types"].append("Egress")
        spec["egress"] = list(egress)
    return spec
