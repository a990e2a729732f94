"""Which nodes a pod may run on by selector, affinity, taints and volumes, so that a refusal can name the closest one.

The decision is the scheduler's alone; this only tells its reasons apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sandbox.kubernetes_api import KubernetesApi, Manifest

OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
    "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
}


@dataclass(frozen=True)
class Volumes:
    """Where persistent volumes can be used, by the claim that holds each: namespace and name."""

    terms: Mapping[tuple[str, str], Sequence[Manifest]]

    @classmethod
    def of(cls, api: KubernetesApi) -> Self:
        """All bound volumes of a cluster that are tied to nodes."""
        return cls(
            {
                (claim["namespace"], claim["name"]): affinity["required"]["nodeSelectorTerms"]
                for volume in api.list("v1", "PersistentVolume")
                if (claim := volume["spec"].get("claimRef")) and (affinity := volume["spec"].get("nodeAffinity"))
            }
        )

    def of_pod(self, pod: Manifest) -> list[Sequence[Manifest]]:
        """The node selector terms of each of a pod's volumes."""
        volumes = pod["spec"].get("volumes", [])
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
        keys = [(pod["metadata"]["namespace"], claim) for claim in claims]
        return [self.terms[key] for key in keys if key in self.terms]


def may_run_on(pod: Manifest, node: Manifest, volumes: Volumes) -> bool:
    """Whether nothing but a lack of room could keep a pod off a node."""
    spec = pod["spec"]
    labels = node["metadata"].get("labels", {})
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = [*([required["nodeSelectorTerms"]] if required else []), *volumes.of_pod(pod)]
    return (
        spec.get("nodeSelector", {}).items() <= labels.items()
        and all(any(_meets(node, term) for term in alternatives) for alternatives in terms)
        and all(_tolerates(spec.get("tolerations", []), taint) for taint in node["spec"].get("taints", []))
    )


def _meets(node: Manifest, term: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": node["metadata"]["name"]}
    wanted = [(labels, rule) for rule in term.get("matchExpressions", [])]
    wanted += [(fields, rule) for rule in term.get("matchFields", [])]
    return all(OPERATORS[rule["operator"]](values.get(rule["key"]), rule.get("values", [])) for values, rule in wanted)


def _tolerates(tolerations: Sequence[Mapping[str, str]], taint: Mapping[str, str]) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    return any(
        toleration.get("key", taint["key"]) == taint["key"]
        and toleration.get("effect", taint["effect"]) == taint["effect"]
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in tolerations
    )
