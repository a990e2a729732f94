"""The gateways at the edge: which there are, and what their Envoys count."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from components.shared.manifests import NAMESPACE
from components.shared.mesh import GATEWAY_SELECTOR, STATISTICS_PORT
from infra.naming import PROJECT
from runbook.errors import RunbookError
from runbook.kubectl import Kubectl, KubectlError, Manifest
from runbook.statistics import Statistics, parse
from runbook.target import Place

PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
LABELS: Final = f"istio={GATEWAY_SELECTOR['istio']}"
STATISTICS: Final = "/stats/prometheus"
SECONDS: Final = 2.0
NO_PROXY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def statistics(place: Place) -> dict[str, Statistics | None]:
    """What each gateway pod has counted since it started; None for one that does not answer, as while it starts.

    Raises:
        RunbookError: which pods there are cannot be found out.
    """
    texts = _in_sandbox(place.state_folder, place.stack) if place.state_folder else _in_cluster(place)
    return {name: parse(text) if text is not None else None for name, text in texts}


def unconnected(found: Mapping[str, Statistics | None]) -> list[str]:
    """Gateways that do not hear of istiod; those that do not answer are left out, since they take no requests."""
    return sorted(name for name, counted in found.items() if counted and not counted.connected)


def pods(kubectl: Kubectl) -> list[Manifest]:
    """The gateways' pods, those on their way out as well."""
    found = kubectl.get(f"{PODS}?labelSelector={LABELS.replace('=', '%3D')}") or {}
    return found.get("items") or []


def _in_cluster(place: Place) -> Iterator[tuple[str, str | None]]:
    for pod in pods(place.kubectl):
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            continue
        try:
            yield name, place.kubectl.text(f"{PODS}/{name}:{STATISTICS_PORT}/proxy{STATISTICS}")
        except KubectlError:
            yield name, None


def _in_sandbox(state_folder: Path, stack: str) -> Iterator[tuple[str, str | None]]:
    """The sandbox's Envoys are processes of this machine, and its API server reaches no pod."""
    file = state_folder / "clusters" / f"{PROJECT}-{stack}" / "gateways.json"
    try:
        listed: dict[str, dict[str, Any]] = json.loads(file.read_text())
        ports = {name: int(pod["admin"]) for name, pod in listed.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunbookError(f"looking for the sandbox's gateways in {file}: {error}") from None
    for name, port in ports.items():
        try:
            with NO_PROXY.open(f"http://127.0.0.1:{port}{STATISTICS}", timeout=SECONDS) as answer:
                yield name, answer.read().decode()
        except OSError:
            yield name, None
