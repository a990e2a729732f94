"""Workloads: the microservices of one colour."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.compute.microservice import Colour, Microservice, MicroserviceArgs
from components.shared.deployments import RunningDeployment


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
    others: tuple[ServiceArgs, ...]
    """The other colour's: a service that only one colour has serves both."""
    pull_secret: str | None
    stopped: bool
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]


class Workloads(pulumi.ComponentResource):
    """A Microservice for each entry of the config; who may call whom follows from their `calls`."""

    deployments: Mapping[str, RunningDeployment]
    """By the name of the service."""

    def __init__(self, name: str, args: WorkloadsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Workloads", name, None, opts)
        everyone = (*args.others, *args.services)
        ports = {service.name: service.port for service in everyone}
        theirs = {service.name for service in args.others}
        deployments: dict[str, RunningDeployment] = {}
        for service in args.services:
            microservice = Microservice(
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
                    callers=tuple(dict.fromkeys(other.name for other in everyone if service.name in other.calls)),
                    uses=service.uses,
                    internet=service.internet,
                    pull_secret=args.pull_secret,
                    has_service=args.colour == "blue" or service.name not in theirs,
                    stopped=args.stopped,
                    pod_labels=args.pod_labels,
                    pod_annotations=args.pod_annotations,
                ),
                pulumi.ResourceOptions(parent=self),
            )
            deployments[service.name] = RunningDeployment(
                id=microservice.deployment.id, min_replicas=service.min_replicas
            )
        self.deployments = deployments
        self.register_outputs({})
