"""The guard of a shift: green gets requests only while all of it can answer them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(frozen=True, kw_only=True)
class GuardedDeployment:
    """A Deployment, and how many replicas it has to have."""

    id: pulumi.Input[str]
    min_replicas: int


class GreenUnavailableError(pulumi.RunError):
    """Green is to get requests and is not all there. One line; Pulumi prints it without a traceback."""


def once_available(
    name: str, weight: int, deployments: Mapping[str, GuardedDeployment], opts: pulumi.ResourceOptions
) -> pulumi.Output[int]:
    """The weight, known once each of the Deployments, by its name in the cluster, is seen to have its replicas.

    They are read from the cluster, whether or not this update changes them; in a preview, where an update may still
    mend them, what is missing is a warning.

    Raises, when the update awaits it, GreenUnavailableError: some are not available; says which.
    """
    live = {
        deployment: kubernetes.apps.v1.Deployment.get(f"{name}-{deployment}-live", guarded.id, opts).status
        for deployment, guarded in deployments.items()
    }

    def check(statuses: Mapping[str, Mapping[str, int] | None]) -> int:
        missing = [
            f"{deployment} ({available} of {guarded.min_replicas})"
            for deployment, guarded in deployments.items()
            if (available := _available(statuses[deployment])) < guarded.min_replicas
        ]
        if missing:
            problem = (
                f"giving green {weight} % of the requests: not available: {', '.join(missing)}; mend green, or send "
                "all requests to blue with greenWeight: 0 or runbook rollback"
            )
            if not pulumi.runtime.is_dry_run():
                raise GreenUnavailableError(problem)
            pulumi.log.warn(problem)
        return weight

    return pulumi.Output.all(**live).apply(check)


def _available(status: Mapping[str, int] | None) -> int:
    """A Deployment that has just been made may have no status yet, and one without a replica has no number of them."""
    return (status or {}).get("available_replicas") or 0
