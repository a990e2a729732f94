"""Simulated load on a service: what its pods are said to use, so that the real autoscaler has something to do."""

import time
from collections.abc import Mapping, Sequence
from decimal import ROUND_UP, Decimal
from typing import Any, Final

from sandbox.errors import BadInputError
from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError, Manifest
from sandbox.progress import Progress
from sandbox.quantities import requests

USAGE_ANNOTATION: Final = "kwok.x-k8s.io/usage-cpu"
SECONDS_BETWEEN_LOOKS: Final = 2


class Load:
    """Load on one service, as a share of one replica's CPU request, spread evenly over the pods that run.

    Raises:
        BadInputError: there is no such service, or its pods ask for no CPU.
    """

    def __init__(self, api: KubernetesApi, namespace: str, service: str, share: Decimal) -> None:
        self._api = api
        self._namespace = namespace
        self._service = service
        self._share = share
        found = api.get("v1", "Service", service, namespace)
        if found is None:
            names = sorted(s["metadata"]["name"] for s in api.list("v1", "Service", namespace=namespace))
            raise BadInputError(
                f"putting load on {service}: the services in {namespace} are {', '.join(names) or 'none'}"
            )
        self._selector = found["spec"].get("selector") or {}
        if not self._selector:
            raise BadInputError(f"putting load on {service}: it selects no pods")

    def run(self, seconds: float | None) -> None:
        """Hold the load up until the time is over, or an interrupt; then take it off again."""
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            with Progress(f"load on {self._service}", "Ctrl-C takes it off") as progress:
                while deadline is None or time.monotonic() < deadline:
                    progress.figures(self._look())
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            self.take_off()

    def take_off(self) -> None:
        """Let the service's pods use again what they use by default."""
        for pod in self._pods():
            self._annotate(pod, None)

    def _look(self) -> str:
        """Spread the load over the pods that run now; what to tell about it."""
        pods = [pod for pod in self._pods() if is_running(pod)]
        for pod in pods:
            self._annotate(pod, usage_per_container(pod, self._share, len(pods)))
        each = f", {self._share / len(pods):.0%} of its CPU request on each" if pods else ""
        return f"{len(pods)} {'replica' if len(pods) == 1 else 'replicas'}{each}{self._autoscalers(pods)}"

    def _autoscalers(self, pods: Sequence[Manifest]) -> str:
        """What the autoscalers of the service's Deployments see and want."""
        deployments = {
            deployment["metadata"]["name"]
            for deployment in self._api.list("apps/v1", "Deployment", namespace=self._namespace)
            if any(selects(deployment["spec"]["selector"].get("matchLabels", {}), pod) for pod in pods)
        }
        scalers = self._api.list("autoscaling/v2", "HorizontalPodAutoscaler", namespace=self._namespace)
        return "".join(
            f"; {describe(scaler)}" for scaler in scalers if scaler["spec"]["scaleTargetRef"]["name"] in deployments
        )

    def _pods(self) -> list[Manifest]:
        selector = ",".join(f"{key}={value}" for key, value in self._selector.items())
        return self._api.list("v1", "Pod", namespace=self._namespace, label_selector=selector)

    def _annotate(self, pod: Manifest, usage: str | None) -> None:
        metadata = pod["metadata"]
        if metadata.get("annotations", {}).get(USAGE_ANNOTATION) == usage:
            return
        patch = {"metadata": {"annotations": {USAGE_ANNOTATION: usage}}}
        try:
            self._api.patch("v1", "Pod", metadata["name"], patch, namespace=self._namespace)
        except KubernetesApiError as error:
            if error.reason != "NotFound":  # it has gone in the meantime
                raise


def usage_per_container(pod: Manifest, share: Decimal, pods: int) -> str:
    """What each container of one of so many pods uses, when they share the load between them.

    Raises:
        BadInputError: the pod asks for no CPU that the load could be a share of.
    """
    requested = requests(pod["spec"]).get("cpu", Decimal(0))
    if not requested:
        raise BadInputError(f"putting load on {pod['metadata']['name']}: it has no CPU request to be a share of")
    cores = requested * share / pods / len(pod["spec"]["containers"])
    return f"{(cores * 1000).to_integral_value(ROUND_UP)}m"


def is_running(pod: Manifest) -> bool:
    """Whether a pod takes its part of the load."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def selects(labels: Mapping[str, str], pod: Manifest) -> bool:
    """Whether a pod has all of the labels."""
    return labels.items() <= pod["metadata"].get("labels", {}).items()


def describe(scaler: Mapping[str, Any]) -> str:
    """What an autoscaler sees, and how many replicas it wants, once it has decided."""
    status = scaler.get("status", {})
    figures = [
        f"{metric['resource']['name']} {metric['resource']['current'].get('averageUtilization', '?')} %"
        for metric in status.get("currentMetrics") or []
        if metric.get("type") == "Resource"
    ]
    wanted = status.get("desiredReplicas")  # 0 before it has decided for the first time
    wants = f" and wants {wanted}" if wanted else ""
    return f"{scaler['metadata']['name']} sees {', '.join(figures) or 'no figures yet'}{wants}"
