"""Phase 4: the service mesh, the second release, and how requests are shared between the two."""

from components.blue_green.blue_green import BlueGreen, BlueGreenArgs
from components.blue_green.colour_routes import ColourRoutes, ColourRoutesArgs, RoutedService
from components.blue_green.ingress_gateway import (
    GATEWAY_CPU_MILLIS,
    GATEWAY_MEMORY_MIB,
)
from components.blue_green.istio import PROXY_CPU_MILLIS, PROXY_MEMORY_MIB
from components.blue_green.migrations import (
    MIGRATION_CPU_MILLIS,
    MIGRATION_MEMORY_MIB,
    Migration,
    Migrations,
    MigrationsArgs,
)
from components.blue_green.mutual_tls import MutualTls, MutualTlsArgs
from components.blue_green.service_mesh import ServiceMesh

__all__ = [
    "GATEWAY_CPU_MILLIS",
    "GATEWAY_MEMORY_MIB",
    "MIGRATION_CPU_MILLIS",
    "MIGRATION_MEMORY_MIB",
    "PROXY_CPU_MILLIS",
    "PROXY_MEMORY_MIB",
    "BlueGreen",
    "BlueGreenArgs",
    "ColourRoutes",
    "ColourRoutesArgs",
    "Migration",
    "Migrations",
    "MigrationsArgs",
    "MutualTls",
    "MutualTlsArgs",
    "RoutedService",
    "ServiceMesh",
]
