"""The guard of a shift: green gets requests only while all of it can answer them."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.deployments import RunningDeployment


class GreenUnavailableError(pulumi.RunError):
    """Green is to get requests and is not all there. One line; Pulumi prints it without a traceback."""


def once_available(
    name: str, weight: int, deployments: Mapping[str, RunningDeployment], opts: pulumi.ResourceOptions
) -> pulumi.Output[int]:
    """The weight, known once each of the Deployments, by its name in the cluster, is seen to have its replicas.

    They are read from the cluster, whether or not this update changes them; in a preview, where an update may still
    mend them, what is missing is a warning.

    Raises, when the update awaits it, GreenUnavailableError: some are not available; says which.
    """
    live: dict[str, pulumi.Output[Any]] = {}
    for deployment, guarded in deployments.items():
        found = kubernetes.apps.v1.Deployment.get(f"{name}-{deployment}-live", guarded.id, opts)
        # Numbers only: Pulumi cannot pass on a whole specification, whose affinity has a field named `values`.
        live[deployment] = pulumi.Output.all(
            replicas=found.spec.apply(lambda spec: spec.replicas or 0),
            available=found.status.apply(lambda status: (status and status.available_replicas) or 0),
        )

    def check(seen: Mapping[str, Mapping[str, int]]) -> int:
        missing: list[str] = []
        for deployment, guarded in deployments.items():
            # One that has just been made has one replica, until its autoscaler has looked.
            wanted = max(min(guarded.min_replicas, seen[deployment]["replicas"]), 1)
            available = seen[deployment]["available"]
            if available < wanted:
                missing.append(f"{deployment} ({available} of {wanted})")
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
