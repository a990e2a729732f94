"""BlueGreen: which share of the requests each colour gets (runbook step 4.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.blue_green.ingress_gateway import IngressGateway, IngressGatewayArgs, gateway_release
from components.blue_green.istio import istio_object
from components.blue_green.release_guard import once_available
from components.blue_green.release_policies import ReleasePolicies, ReleasePoliciesArgs
from components.blue_green.routing import from_colour, rule, to
from components.shared.deployments import RunningDeployment
from components.shared.mesh import FULL_WEIGHT, WEIGHT_ANNOTATION
from components.shared.stores import host

CANARY = {"headers": {"canary": {"exact": "true"}}}


@dataclass(frozen=True, kw_only=True)
class BlueGreenArgs:
    """The public service, green's share of its requests, and what has to be there for one."""

    service: str
    service_port: int
    edge_host: pulumi.Input[str] | None
    """What clients ask for; None where there is no edge."""
    gateways: int
    vpc_cidr: str
    green_weight: int
    """Per cent."""
    green_deployments: Mapping[str, RunningDeployment]
    """By their names in the cluster."""
    retire_after_seconds: int
    """How long green has to have had all traffic before a deployment may stop blue."""


class BlueGreen(pulumi.ComponentResource):
    """The ingress gateway, and the VirtualService of the public service, which alone holds the weights."""

    ready: list[pulumi.Resource]
    green_weight: pulumi.Output[int]
    """The share that green has, once the route says so."""

    def __init__(
        self,
        name: str,
        args: BlueGreenArgs,
        kubernetes_provider: kubernetes.Provider,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:blue_green:BlueGreen", name, None, opts)
        gateway = IngressGateway(
            f"{name}-gateway",
            IngressGatewayArgs(
                vpc_cidr=args.vpc_cidr,
                service=args.service,
                service_port=args.service_port,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        policies = ReleasePolicies(
            f"{name}-policies",
            ReleasePoliciesArgs(service=args.service, retire_after_seconds=args.retire_after_seconds),
            pulumi.ResourceOptions(parent=self),
        )
        weight = pulumi.Output.from_input(args.green_weight)
        if args.green_weight > 0:
            weight = once_available(
                f"{name}-guard",
                args.green_weight,
                args.green_deployments,
                pulumi.ResourceOptions(parent=self, provider=kubernetes_provider),
            )
        route = istio_object(
            f"{name}-route",
            "VirtualService",
            args.service,
            {
                # With the mesh among the gateways a wildcard is refused.
                "hosts": [host(args.service), *([args.edge_host] if args.edge_host is not None else [])],
                "gateways": ["mesh", gateway.reference],
                "http": routes(args.service, weight),
            },
            pulumi.ResourceOptions(parent=self, depends_on=gateway.ready),
            annotations={
                WEIGHT_ANNOTATION: weight.apply(str),
                # The weights are the runbook's too, whose patches have to give way to the next update's.
                "pulumi.com/patchForce": "true",
            },
        )
        # Clients keep connections to its pods: on the way down these go before what they answer by.
        running = gateway_release(
            f"{name}-gateway-release",
            args.gateways,
            pulumi.ResourceOptions(parent=gateway, depends_on=[*gateway.ready, route]),
        )
        self.ready = [*gateway.ready, *policies.ready, route, running]
        self.green_weight = route.id.apply(lambda _: args.green_weight)
        self.register_outputs({})


def routes(service: str, green_weight: pulumi.Output[int]) -> list[dict[str, Any]]:
    """Rules of the public service's route, the first that matches taken: both colours are in the last at any weight."""
    return [
        rule("canary", [to(service, "green")], CANARY),
        rule("green-callers", [to(service, "green")], from_colour("green")),
        rule("blue-callers", [to(service, "blue")], from_colour("blue")),
        rule(
            "weighted",
            [
                to(service, "blue", green_weight.apply(lambda weight: FULL_WEIGHT - weight)),
                to(service, "green", green_weight),
            ],
        ),
    ]
