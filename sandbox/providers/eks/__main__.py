"""`python -m sandbox.providers.eks ENGINE`: what the engine finds on PATH as pulumi-resource-eks."""

import importlib.metadata
import os
import sys
import threading
import time

import pulumi
from pulumi.provider import ConstructResult, Provider, main

from sandbox.providers.eks.cluster import TYPE, Cluster


class EksProvider(Provider):
    """Makes components of the one type that the sandbox knows."""

    def __init__(self) -> None:
        super().__init__(importlib.metadata.version("pulumi-eks"))

    def construct(
        self, name: str, resource_type: str, inputs: pulumi.Inputs, options: pulumi.ResourceOptions | None = None
    ) -> ConstructResult:
        """Make a component and its children."""
        if resource_type != TYPE:
            raise pulumi.InputPropertyError("", f"the sandbox has no stand-in for {resource_type}, only for {TYPE}")
        cluster = Cluster(name, inputs, options)
        return ConstructResult(urn=cluster.urn, state=cluster.outputs)


def end_with_the_engine() -> None:
    """An engine that is killed cannot end what it has started."""
    engine = os.getppid()
    while os.getppid() == engine:
        time.sleep(1)
    os._exit(1)


threading.Thread(target=end_with_the_engine, daemon=True).start()
main(EksProvider(), sys.argv[1:])
