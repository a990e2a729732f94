"""What a phase says of its Deployments to a later one."""

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class RunningDeployment:
    """A Deployment, and how many replicas it has to have before it gets traffic."""

    id: pulumi.Input[str]
    min_replicas: int
