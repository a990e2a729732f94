"""ColourRoutes: calls between services stay inside their colour, from the moment that there are two."""

from dataclasses import dataclass

import pulumi

from components.blue_green.istio import istio_object
from components.blue_green.routing import destination, from_colour, rule, to
from components.shared.stores import host


@dataclass(frozen=True, kw_only=True)
class RoutedService:
    """A service, and the colours that have it."""

    name: str
    colours: tuple[str, ...]
    public: bool
    """Whether clients reach it, and its route is more than this component knows."""


@dataclass(frozen=True, kw_only=True)
class ColourRoutesArgs:
    """All services of both colours."""

    services: tuple[RoutedService, ...]


class ColourRoutes(pulumi.ComponentResource):
    """A DestinationRule for each service, and a VirtualService for each that both colours have, but the public one.

    They are made before green's pods: these stand behind the same Services as blue's, and would get their share of
    blue's calls the moment they are ready. DestinationRules exist before the VirtualServices that use them, and go
    after.
    """

    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: ColourRoutesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:ColourRoutes", name, None, opts)
        self.ready = []
        for service in args.services:
            subsets = istio_object(
                f"{name}-{service.name}-subsets",
                "DestinationRule",
                service.name,
                destination(service.name),
                pulumi.ResourceOptions(parent=self),
            )
            self.ready.append(subsets)
            if len(service.colours) > 1 and not service.public:
                self.ready.append(
                    istio_object(
                        f"{name}-{service.name}-route",
                        "VirtualService",
                        service.name,
                        {
                            "hosts": [host(service.name)],
                            "gateways": ["mesh"],
                            "http": [
                                rule("green", [to(service.name, "green")], from_colour("green")),
                                rule("blue", [to(service.name, "blue")]),
                            ],
                        },
                        pulumi.ResourceOptions(parent=self, depends_on=[subsets]),
                    )
                )
        self.register_outputs({})
