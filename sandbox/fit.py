"""Whether everything that is deployed fits the nodes, also during the largest rolling update; the scheduler decides."""

import copy
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError, Manifest
from sandbox.placement import Volumes, may_run_on
from sandbox.progress import Progress
from sandbox.quantities import Resources, allocatable, requests, total

SURGE_LABEL: Final = "sandbox.pyairtable/surge"
INJECTED_BY: Final = ("istio.io/rev", "sidecar.istio.io/inject")
"""Labels by which a pod asks istiod for its sidecar."""
POLL_SECONDS: Final = 0.25
CONTROLLERS_SECONDS: Final = 60
"""Within which the controllers have made the pods that are asked for."""
SECOND_THOUGHTS_SECONDS: Final = 12
"""The scheduler tries a pod again within 10 s after something has changed; what it refuses for longer stays refused."""
DECIDED_SECONDS: Final = 60
COMPARED: Final = ("cpu", "memory", "pods", "ephemeral-storage")


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A pod that the scheduler cannot place, the node that comes closest, and what that lacks."""

    pod: str
    node: str | None
    resource: str

    def as_json(self) -> dict[str, str | None]:
        """What `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of a node is asked for; of all nodes where `node` is empty."""

    node: str
    requested: Resources
    allocatable: Resources


@dataclass(frozen=True, kw_only=True)
class Surge:
    """The pods that a rolling update of a Deployment adds before it takes any away, or a run of a CronJob."""

    deployment: Manifest
    pods: int

    @property
    def name(self) -> str:
        """The Deployment's name."""
        return self.deployment["metadata"]["name"]

    def asks(self, resource: str) -> Decimal:
        """What the extra pods ask for together."""
        return self.pods * requests(self.deployment["spec"]["template"]["spec"]).get(resource, Decimal(0))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the scheduler has said."""

    misfits: Sequence[Misfit]
    shares: Sequence[Share]
    surges: Sequence[Surge]
    """The rolling updates that were tried; none when the pods do not fit as they are."""


def check(api: KubernetesApi) -> Report:
    """Ask the scheduler about all pods, and about those of the largest rolling updates.

    Raises:
        SandboxError: pods that are asked for are not made, or the scheduler does not answer.
    """
    with Progress("checking the fit") as progress:
        _remove_surge(api)  # what a check that was killed has left
        progress.note("waiting for the scheduler's word on every pod")
        _wait_for_pods(api)
        misfits = _refused(api, lambda: api.list("v1", "Pod"))
        shares = shares_of(api.list("v1", "Node"), api.list("v1", "Pod"))
        surges = [] if misfits else largest_surges(api.list("apps/v1", "Deployment"))
        runs = [] if misfits else [job_run(job) for job in api.list("batch/v1", "CronJob")]
        for surge in (*surges, *runs):
            progress.note(f"a rolling update or run of {surge.name}")
            misfits = [*misfits, *_try(api, surge)]
    return Report(misfits=misfits, shares=shares, surges=surges)


def largest_surges(deployments: Sequence[Manifest]) -> list[Surge]:
    """The rolling updates that ask for most CPU and most memory, the same one only once."""
    surges = [surge for d in deployments if (surge := Surge(deployment=d, pods=surge_pods(d["spec"]))).pods]
    if not surges:
        return []
    chosen = [max(surges, key=lambda surge: surge.asks(resource)) for resource in ("cpu", "memory")]
    return chosen[:1] if chosen[0] is chosen[1] else chosen


def job_run(cron_job: Manifest) -> Surge:
    """The pod that a run of a CronJob adds."""
    template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    return Surge(deployment={"metadata": cron_job["metadata"], "spec": {"template": template}}, pods=1)


def surge_pods(spec: Mapping[str, Any]) -> int:
    """How many pods a rolling update of a Deployment adds at once."""
    strategy = spec.get("strategy", {})
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0
    replicas = int(spec.get("replicas", 1))
    surge = strategy.get("rollingUpdate", {}).get("maxSurge", "25%")
    return math.ceil(replicas * int(surge[:-1]) / 100) if isinstance(surge, str) else surge if replicas else 0


def shares_of(nodes: Sequence[Manifest], pods: Sequence[Manifest]) -> list[Share]:
    """How much of each node, and of all of them together, is asked for."""
    shares = [
        Share(node=name, requested=_requested_on(name, pods), allocatable=allocatable(node))
        for node in nodes
        for name in [node["metadata"]["name"]]
    ]
    whole = Share(
        node="", requested=total(s.requested for s in shares), allocatable=total(s.allocatable for s in shares)
    )
    return [*shares, whole]


def explain(pod: Manifest, nodes: Sequence[Manifest], pods: Sequence[Manifest], volumes: Volumes) -> list[Misfit]:
    """Why a pod found no place: on the node that comes closest, each resource that it lacks."""
    asked = requests(pod["spec"])
    lacks: dict[str, dict[str, Decimal]] = {}
    for node in nodes:
        if may_run_on(pod, node, volumes):
            name, has = node["metadata"]["name"], allocatable(node)
            requested = _requested_on(name, pods)
            lacks[name] = {
                resource: over / (has.get(resource) or Decimal(1))
                for resource in COMPARED
                if (over := requested.get(resource, 0) + asked.get(resource, Decimal(0)) - has.get(resource, 0)) > 0
            }
    closest = min(lacks, key=lambda name: sum(lacks[name].values()), default=None)
    # Room on a node and still refused: a rule between pods, which only the scheduler's own words tell.
    reasons = list(lacks[closest]) if closest and all(lacks.values()) else [_refusal(pod)]
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    return [Misfit(pod=name, node=closest, resource=reason) for reason in reasons]


def is_decided(pod: Manifest) -> bool:
    """Whether the scheduler has placed or refused a pod, or need not bother."""
    return bool(pod["spec"].get("nodeName")) or _is_over(pod) or is_refused(pod)


def is_refused(pod: Manifest) -> bool:
    """Whether the scheduler found no place for a pod."""
    return bool(_refusal(pod)) and not pod["spec"].get("nodeName") and not _is_over(pod)


def _refusal(pod: Manifest) -> str:
    """The scheduler's words about a pod that it could not place; empty when it could, or has not tried."""
    conditions = pod.get("status", {}).get("conditions", [])
    refused = [c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"]
    text = refused[0].get("message") or refused[0].get("reason", "") if refused else ""
    return text.partition("nodes are available: ")[2].partition(". ")[0] or text


def _is_over(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]


def _requested_on(node: str, pods: Sequence[Manifest]) -> dict[str, Decimal]:
    """What the pods on a node ask for; one that is ending holds its place until it has ended."""
    over = ("Succeeded", "Failed")
    return total(
        requests(pod["spec"])
        for pod in pods
        if pod["spec"].get("nodeName") == node and pod.get("status", {}).get("phase") not in over
    )


def _wait_for_pods(api: KubernetesApi) -> None:
    """Wait until controllers have made what is asked of them: a pod that does not exist cannot fail to fit."""
    deadline = time.monotonic() + CONTROLLERS_SECONDS
    while missing := [
        f"{kind} {workload['metadata']['namespace']}/{workload['metadata']['name']}{_complaint(workload)}"
        for kind in ("Deployment", "StatefulSet", "DaemonSet")
        for workload in api.list("apps/v1", kind)
        if not has_its_pods(kind, workload)
    ] + _below_their_least(api):
        if time.monotonic() > deadline:
            raise SandboxError(f"checking the fit: pods are not made within {CONTROLLERS_SECONDS} s: {missing[0]}")
        time.sleep(POLL_SECONDS)


def _below_their_least(api: KubernetesApi) -> list[str]:
    """Autoscalers that have still to bring their Deployment to its least replicas; at 0 they keep out of the way."""
    replicas = {
        (d["metadata"]["namespace"], d["metadata"]["name"]): d["spec"].get("replicas", 1)
        for d in api.list("apps/v1", "Deployment")
    }
    return [
        f"HorizontalPodAutoscaler {scaler['metadata']['namespace']}/{scaler['metadata']['name']}"
        for scaler in api.list("autoscaling/v2", "HorizontalPodAutoscaler")
        if 0
        < replicas.get((scaler["metadata"]["namespace"], scaler["spec"]["scaleTargetRef"]["name"]), 0)
        < scaler["spec"].get("minReplicas", 1)
    ]


def has_its_pods(kind: str, workload: Manifest) -> bool:
    """Whether a workload's controller has made its pods, or as many as it makes before the first is ready."""
    spec, status = workload["spec"], workload.get("status", {})
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return False
    match kind:
        case "DaemonSet":
            return status.get("currentNumberScheduled", 0) >= status.get("desiredNumberScheduled", 0)
        case "StatefulSet":  # makes one after the other
            return status.get("replicas", 0) >= min(1, spec.get("replicas", 1))
        case _:
            return status.get("replicas", 0) >= spec.get("replicas", 1)


def _complaint(workload: Manifest) -> str:
    conditions = workload.get("status", {}).get("conditions", [])
    return next((f": {c.get('message', '')}" for c in conditions if c["type"] == "ReplicaFailure"), "")


def _refused(api: KubernetesApi, list_pods: Callable[[], list[Manifest]]) -> list[Misfit]:
    """Wait for the scheduler's last word on pods; those that it refuses, and why."""
    began = time.monotonic()
    while True:
        pods = list_pods()
        waited = time.monotonic() - began
        undecided = [pod["metadata"]["name"] for pod in pods if not is_decided(pod)]
        refused = [pod for pod in pods if is_refused(pod)]
        if not undecided and (not refused or waited > SECOND_THOUGHTS_SECONDS):
            break
        if waited > DECIDED_SECONDS:
            raise SandboxError(
                f"checking the fit: the scheduler has not looked at {', '.join(undecided)} within {DECIDED_SECONDS} s; "
                "does it run? see sandbox status"
            )
        time.sleep(POLL_SECONDS)
    if not refused:
        return []
    nodes, all_pods, volumes = api.list("v1", "Node"), api.list("v1", "Pod"), Volumes.of(api)
    return [misfit for pod in refused for misfit in explain(pod, nodes, all_pods, volumes)]


def _try(api: KubernetesApi, surge: Surge) -> list[Misfit]:
    """Add the pods of a rolling update, hear the scheduler, and take them away again."""
    namespace = surge.deployment["metadata"]["namespace"]
    with _surge_taken_away(api):
        for number in range(1, surge.pods + 1):
            pod = surge_pod(surge.deployment, number)
            try:
                api.create(pod)
            except KubernetesApiError as error:
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                return [Misfit(pod=f"{namespace}/{pod['metadata']['name']}", node=None, resource=str(error))]
        return _refused(api, lambda: _surge(api))


def surge_pod(deployment: Manifest, number: int) -> Manifest:
    """A pod like the Deployment's own, with the sidecar where that has one.

    It lacks the labels by which Services, autoscalers and budgets know those.
    """
    metadata, template = deployment["metadata"], copy.deepcopy(deployment["spec"]["template"])
    labels = template.get("metadata", {}).get("labels", {})
    template["spec"].pop("priorityClassName", None)  # to ask is not to push aside what runs
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-surge-{number}",
            "namespace": metadata["namespace"],
            "labels": {SURGE_LABEL: "true", **{name: labels[name] for name in INJECTED_BY if name in labels}},
            "annotations": template.get("metadata", {}).get("annotations", {}),
        },
        "spec": template["spec"],
    }


@contextmanager
def _surge_taken_away(api: KubernetesApi) -> Generator[None]:
    try:
        yield
    finally:
        _remove_surge(api)


def _surge(api: KubernetesApi) -> list[Manifest]:
    return api.list("v1", "Pod", label_selector=SURGE_LABEL)


def _remove_surge(api: KubernetesApi) -> None:
    """Delete extra pods and wait until their room is free again."""
    deadline = time.monotonic() + CONTROLLERS_SECONDS
    while pods := _surge(api):
        for pod in pods:
            api.delete("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], propagation="Background")
        if time.monotonic() > deadline:
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            raise SandboxError(f"checking the fit: the extra pods {names} do not end; delete them with kubectl")
        time.sleep(POLL_SECONDS)
