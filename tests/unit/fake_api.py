"""An API server that holds what is applied, for tests of what is applied to it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from sandbox.kubernetes_api import Manifest, Manifests


class FakeApi:
    """Holds what is applied."""

    def __init__(self, kubeconfig: Path = Path("/nonexistent")) -> None:
        self.kubeconfig = kubeconfig
        self.held: dict[tuple[str, str], Manifest] = {}

    def apply(self, manifest: Manifest, **_: object) -> Manifest:
        self.held[manifest["kind"], manifest["metadata"]["name"]] = manifest
        return manifest

    def list(self, _: str, kind: str, *, label_selector: str, **__: object) -> Manifests:
        key, _, value = label_selector.partition("=")
        return [
            item for (held, _), item in self.held.items() if held == kind and item["metadata"]["labels"][key] == value
        ]

    def delete(self, _: str, kind: str, name: str, __: str) -> bool:
        return self.held.pop((kind, name), None) is not None


def workloads(objects: Manifests) -> dict[str, Manifest]:
    """Deployments and DaemonSets by name."""
    return {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] in ("Deployment", "DaemonSet")}


def requested(workload: dict[str, Any]) -> tuple[int, int]:
    """What one pod requests: CPU in thousandths, memory in MiB."""
    requests = [c["resources"].get("requests", {}) for c in workload["template"]["spec"]["containers"]]
    cpu = sum(int(r.get("cpu", "0m").removesuffix("m")) for r in requests)
    memory = sum(int(Decimal(r.get("memory", "0Mi").removesuffix("Mi"))) for r in requests)
    return cpu, memory
