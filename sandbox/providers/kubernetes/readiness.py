"""When an object counts as ready, as in the official provider: what later resources depend on works by then."""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.providers.errors import ProviderError

DEFAULT_SECONDS = 120
"""The official provider waits ten minutes; nothing in the sandbox pulls an image or boots a machine."""

log = logging.getLogger(__name__)

Check = Callable[[KubernetesApi, Manifest], str]
"""What an object lacks to be ready; empty when it is."""


class Waiting:
    """Waits for one condition at a time, within a time that begins with the first."""

    def __init__(self, what: str, seconds: float, cancelled: threading.Event) -> None:
        self._what = what
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._cancelled = cancelled

    def until_empty(self, missing: Callable[[], str]) -> None:
        """Wait until nothing is missing; what is goes into the log.

        Raises:
            ProviderError: something still was when the time was up, or the user interrupted.
        """
        pause, last = 0.05, ""
        while lacks := missing():
            if lacks != last:
                log.info("%s: %s", self._what, lacks)
                last = lacks
            if time.monotonic() > self._deadline:
                raise ProviderError(f"{lacks}; waited {self._seconds:g} s")
            if self._cancelled.wait(pause):
                raise ProviderError(f"interrupted while waiting: {lacks}")
            pause = min(pause * 1.5, 0.5)


def lacking(api: KubernetesApi, live: Manifest) -> str:
    """What an object lacks to be ready; empty when it is, or when its kind has nothing to wait for."""
    check = CHECKS.get(f"{live['apiVersion']} {live['kind']}")
    return check(api, live) if check else ""


def condition_check(awaited: str) -> Check | None:
    """The check that an object's annotation waitFor asks for; None where that is no single condition."""
    match = re.fullmatch(r"condition=(\w+)(?:=(\w+))?", awaited)
    if match is None:
        return None
    type, wanted = match[1], match[2] or "True"

    def check(_: KubernetesApi, live: Manifest) -> str:
        condition = _condition(live, type)
        if not condition:
            return f"it has no condition {type} yet"
        return "" if condition["status"] == wanted else f"{type} is {condition['status']}: {condition.get('message')}"

    return check


def left_of(live: Manifest) -> str:
    """Why an object that is being deleted is still there."""
    finalizers = [*live["metadata"].get("finalizers", []), *live.get("spec", {}).get("finalizers", [])]
    reasons = [
        condition["message"]
        for condition in _conditions(live)
        if live["kind"] == "Namespace" and condition["status"] == "True"
    ]
    waits_for = f", waiting for {', '.join(finalizers)}" if finalizers else ""
    return "; ".join([f"it is still there{waits_for}", *reasons])


def _deployment(api: KubernetesApi, live: Manifest) -> str:
    status, wanted = live.get("status", {}), live["spec"].get("replicas", 1)
    if _is_unseen(live):
        return "its controller has not seen it yet"
    progressing, available = _condition(live, "Progressing"), _condition(live, "Available")
    done = (
        status.get("updatedReplicas", 0) >= wanted
        and status.get("readyReplicas", 0) >= wanted
        and available.get("status") == "True"
        and progressing.get("reason", "NewReplicaSetAvailable") == "NewReplicaSetAvailable"
    )
    ready = min(status.get("updatedReplicas", 0), status.get("readyReplicas", 0))
    return "" if done else _replicas(api, live, ready, wanted)


def _stateful_set(api: KubernetesApi, live: Manifest) -> str:
    status, wanted = live.get("status", {}), live["spec"].get("replicas", 1)
    if _is_unseen(live):
        return "its controller has not seen it yet"
    done = (
        status.get("readyReplicas", 0) >= wanted
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("currentRevision") == status.get("updateRevision")
    )
    return "" if done else _replicas(api, live, status.get("readyReplicas", 0), wanted)


def _daemon_set(api: KubernetesApi, live: Manifest) -> str:
    status = live.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    if _is_unseen(live):
        return "its controller has not seen it yet"
    done = status.get("updatedNumberScheduled", 0) >= wanted and status.get("numberAvailable", 0) >= wanted
    return "" if done else _replicas(api, live, status.get("numberAvailable", 0), wanted)


def _job(_: KubernetesApi, live: Manifest) -> str:
    failed = _condition(live, "Failed")
    if failed.get("status") == "True":
        raise ProviderError(f"the job failed: {failed.get('message', failed.get('reason'))}")
    return "" if _condition(live, "Complete").get("status") == "True" else "the job has not completed"


def _pod(_: KubernetesApi, live: Manifest) -> str:
    ready = _condition(live, "Ready").get("status") == "True" or live.get("status", {}).get("phase") == "Succeeded"
    return "" if ready else _troubles(live) or "the pod is not ready"


def _persistent_volume(_: KubernetesApi, live: Manifest) -> str:
    phase = live.get("status", {}).get("phase", "Pending")
    return "" if phase in ("Available", "Bound") else f"the volume is {phase}"


def _persistent_volume_claim(api: KubernetesApi, live: Manifest) -> str:
    phase = live.get("status", {}).get("phase", "Pending")
    name = live["spec"].get("storageClassName")
    storage_class = (name and api.get("storage.k8s.io/v1", "StorageClass", name)) or {}
    waits_for_a_pod = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return "" if phase == "Bound" or waits_for_a_pod else f"the claim is {phase}, not Bound"


def _resource_quota(_: KubernetesApi, live: Manifest) -> str:
    counted = live.get("status", {}).get("hard") == live["spec"].get("hard")
    return "" if counted else "the quota is not counted yet"


def _service(api: KubernetesApi, live: Manifest) -> str:
    spec, metadata = live["spec"], live["metadata"]
    if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None" or not spec.get("selector"):
        return ""
    slices = api.list(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        namespace=metadata["namespace"],
        label_selector=f"kubernetes.io/service-name={metadata['name']}",
    )
    if not any(endpoint.get("conditions", {}).get("ready") for s in slices for endpoint in s.get("endpoints") or []):
        return "no pod that it selects is ready"
    addressed = spec["type"] != "LoadBalancer" or live.get("status", {}).get("loadBalancer", {}).get("ingress")
    return "" if addressed else "no load balancer has given it an address"


def _custom_resource_definition(_: KubernetesApi, live: Manifest) -> str:
    established = _condition(live, "Established").get("status") == "True"
    refused = _condition(live, "NamesAccepted")
    if refused.get("status") == "False":
        return f"its names are refused: {refused.get('message')}"
    return "" if established else "the API server does not serve it yet"


def _webhooks(_: KubernetesApi, live: Manifest) -> str:
    """What the API server calls on this machine has to be there: kwok says of its pod at once that it is ready."""
    for webhook in live["webhooks"]:
        url = urlsplit(webhook["clientConfig"].get("url", ""))
        if url.hostname and url.port:
            try:
                socket.create_connection((url.hostname, url.port), timeout=1).close()
            except OSError:
                return f"nothing answers the webhook {webhook['name']} yet"
    return ""


CHECKS: Mapping[str, Check] = {
    "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration": _webhooks,
    "apiextensions.k8s.io/v1 CustomResourceDefinition": _custom_resource_definition,
    "apps/v1 DaemonSet": _daemon_set,
    "apps/v1 Deployment": _deployment,
    "apps/v1 StatefulSet": _stateful_set,
    "batch/v1 Job": _job,
    "v1 PersistentVolume": _persistent_volume,
    "v1 PersistentVolumeClaim": _persistent_volume_claim,
    "v1 Pod": _pod,
    "v1 ResourceQuota": _resource_quota,
    "v1 Service": _service,
}


def _is_unseen(live: Manifest) -> bool:
    return live.get("status", {}).get("observedGeneration", 0) < live["metadata"]["generation"]


def _conditions(live: Manifest) -> list[Mapping[str, Any]]:
    return live.get("status", {}).get("conditions") or []  # null in a CRD that has just been made


def _condition(live: Manifest, type: str) -> Mapping[str, Any]:
    return next((condition for condition in _conditions(live) if condition["type"] == type), {})


def _replicas(api: KubernetesApi, live: Manifest, ready: int, wanted: int) -> str:
    """How many pods are ready, and why the others are not."""
    labels = live["spec"]["selector"].get("matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = api.list("v1", "Pod", namespace=live["metadata"]["namespace"], label_selector=selector)
    troubles = dict.fromkeys(trouble for pod in pods if (trouble := _troubles(pod)))
    failures = [_condition(live, "ReplicaFailure").get("message")]
    return "; ".join([f"{ready} of {wanted} pods are ready", *filter(None, failures), *troubles])


def _troubles(pod: Manifest) -> str:
    """Why a pod does not run."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return scheduled.get("message", "it is not scheduled")
    waiting = [
        f"{container['name']} waits: {container['state']['waiting'].get('reason')}"
        for container in pod.get("status", {}).get("containerStatuses") or []
        if container.get("state", {}).get("waiting")
    ]
    return ", ".join(waiting)
