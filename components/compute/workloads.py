"""Workloads: the microservices of one colour."""

from dataclasses import dataclass
from typing import Literal

import pulumi

from components.compute.microservice import Microservice, MicroserviceArgs

Colour = Literal["blue", "green"]


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """One service as the stack's config describes it."""

    name: str
    image: str
    port: int
    cpu_millis: int
    memory_mib: int
    min_replicas: int
    max_replicas: int
    health_path: str
    calls: tuple[str, ...]
    uses: tuple[str, ...]
    internet: bool


@dataclass(frozen=True, kw_only=True)
class WorkloadsArgs:
    """The services, their colour, and the Secret that their images are pulled with."""

    colour: Colour
    services: tuple[ServiceArgs, ...]
    pull_secret: str | None


class Workloads(pulumi.ComponentResource):
    """A Microservice for each entry of the config; who may call whom follows from their `calls`."""

    def __init__(self, name: str, args: WorkloadsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Workloads", name, None, opts)
        ports = {service.name: service.port for service in args.services}
        for service in args.services:
            Microservice(
                f"{name}-{service.name}",
                MicroserviceArgs(
                    service=service.name,
                    image=service.image,
                    colour=args.colour,
                    port=service.port,
                    cpu_millis=service.cpu_millis,
                    memory_mib=service.memory_mib,
                    min_replicas=service.min_replicas,
                    max_replicas=service.max_replicas,
                    health_path=service.health_path,
                    calls={callee: ports[callee] for callee in service.calls},
                    callers=tuple(other.name for other in args.services if service.name in other.calls),
                    uses=service.uses,
                    internet=service.internet,
                    pull_secret=args.pull_secret,
                ),
                pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
