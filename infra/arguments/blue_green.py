"""Arguments of phase 4's components."""

from components.blue_green import (
    BlueGreenArgs,
    ColourRoutesArgs,
    Migration,
    MigrationsArgs,
    MutualTlsArgs,
    RoutedService,
)
from components.compute import Edge, Workloads
from components.cost_foundation import Images
from components.shared.apps import MigrationKind
from infra.naming import GREEN_SUFFIX
from infra.settings import Settings


def colour_routes_args(settings: Settings) -> ColourRoutesArgs:
    """What ColourRoutes has to know: every service once, with its colours."""
    colours: dict[str, tuple[str, ...]] = {service.name: ("blue",) for service in settings.services}
    for service in settings.blue_green.services:
        colours[service.name] = (*colours.get(service.name, ()), "green")
    public = {service.name for service in settings.services if service.public}
    return ColourRoutesArgs(
        services=tuple(
            RoutedService(name=name, colours=having, public=name in public) for name, having in colours.items()
        )
    )


def migrations_args(settings: Settings, kind: MigrationKind, images: Images, pull_secret: str | None) -> MigrationsArgs:
    """What Migrations of a kind have to know, with the images as the registry refers to them."""
    return MigrationsArgs(
        kind=kind,
        migrations=tuple(
            Migration(name=step.name, image=images.reference(*step.image_parts), arguments=step.arguments)
            for step in settings.blue_green.migrations
            if step.kind == kind
        ),
        pull_secret=pull_secret,
    )


def blue_green_args(settings: Settings, green: Workloads | None, edge: Edge | None) -> BlueGreenArgs:
    """What BlueGreen has to know of the settings, of green's Deployments, and of the edge; a stopped green has none."""
    (public,) = (service for service in settings.services if service.public)
    return BlueGreenArgs(
        service=public.name,
        service_port=public.port,
        edge_host=edge.host if edge else None,
        gateways=settings.min_replicas,
        vpc_cidr=settings.network.cidr_block,
        green_weight=settings.blue_green.green_weight,
        green_deployments={
            f"{service}{GREEN_SUFFIX}": deployment
            for service, deployment in (green.deployments if green else {}).items()
        },
        retire_after_seconds=settings.blue_green.retire_after_seconds,
    )


def mutual_tls_args(settings: Settings) -> MutualTlsArgs:
    """What MutualTls has to know of the settings."""
    return MutualTlsArgs(mode=settings.blue_green.mtls)
