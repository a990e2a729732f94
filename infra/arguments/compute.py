"""Arguments of phase 2's components."""

from typing import TYPE_CHECKING

import pulumi
from pydantic import SecretStr

from components.compute import (
    BACKUP_CPU_MILLIS,
    BACKUP_MEMORY_MIB,
    OTHERS,
    Access,
    Colour,
    ComputeArgs,
    DataStoresPlan,
    EdgePlan,
    EdgeServiceArgs,
    NodeGroupPlan,
    Quota,
    RegistryLogin,
    Schedule,
    ServiceArgs,
    StoreSize,
    WorkloadsArgs,
)
from components.cost_foundation import Images
from cost.instance_types import INSTANCE_TYPES
from infra.sections import NodeGroupSettings, ServiceSettings, StoreSettings, cpu_millis, memory_mib
from infra.settings import Settings

if TYPE_CHECKING:
    from components.blue_green import ServiceMesh

DAYS_WITHOUT_BACKUP_IF_STOPPED = 4
"""Nodes that stop for the night may stop for a long weekend, and nothing changes in the database meanwhile."""
PODS_BESIDE_SERVICES = 10
"""The stores, the restarter, and backups and rotations that run, wait to be tried again, or are kept to be seen."""
JOB_CPU_MILLIS = 2 * BACKUP_CPU_MILLIS
JOB_MEMORY_MIB = 2 * BACKUP_MEMORY_MIB
"""A backup and a rotation, which is of the same size, at once."""
KEEPERS_CPU_MILLIS = 2 * 10
KEEPERS_MEMORY_MIB = 32 + 48
"""What looks after logins beside PostgreSQL, and the restarter: from phase 2 on, so that a move changes nothing."""
NO_MESH = Quota(cpu_millis=0, memory_mib=0, pods=0)
"""What the mesh takes of the namespace where there is none."""


def compute_args(settings: Settings, alert_topic_arn: pulumi.Input[str]) -> ComputeArgs:
    """What Compute has to know of the settings."""
    prod = settings.environment == "prod"
    return ComputeArgs(
        names=settings.names,
        account_id=settings.account_id,
        region=settings.region,
        alert_topic_arn=alert_topic_arn,
        vpc_cidr=settings.network.cidr_block,
        availability_zones=settings.network.availability_zones,
        data_availability_zone=settings.network.data_availability_zone,
        private_nodes=prod,
        flow_logs=settings.environment != "dev",
        kubernetes_version=settings.cluster.version,
        public_access_cidrs=settings.cluster.public_access_cidrs,
        access={
            name: Access(principal_arn=entry.principal_arn, access=entry.access)
            for name, entry in settings.cluster.access_entries.items()
        },
        control_plane_logs=prod,
        encrypt_secrets_with_own_key=prod,
        node_groups=tuple(_node_group(group) for group in settings.node_groups),
        schedule=Schedule(
            stop=settings.night_schedule.stop,
            start=settings.night_schedule.start,
            time_zone=settings.night_schedule.time_zone,
        )
        if settings.night_schedule
        else None,
        stores=_stores(settings),
        quota=_quota(settings),
        registry_login=RegistryLogin(
            host=settings.registry.host,
            username=settings.registry.username,
            token=_secret(settings.image_pull_token),
        )
        if settings.image_pull_token
        else None,
        airtable_token=_secret(settings.airtable_token) if settings.airtable_token else None,
        gemini_api_key=_secret(settings.gemini_api_key) if settings.gemini_api_key else None,
        edge=_edge(settings),
        protect=settings.protect,
    )


def workloads_args(
    settings: Settings,
    colour: Colour,
    images: Images,
    pull_secret: str | None,
    mesh: "ServiceMesh | None",
) -> WorkloadsArgs:
    """What the Workloads of a colour have to know of the settings, with the images as the registry refers to them."""
    both = {"blue": settings.services, "green": settings.blue_green.services if settings.is_blue_green else ()}

    def made(services: tuple[ServiceSettings, ...]) -> tuple[ServiceArgs, ...]:
        return tuple(_service(service, images, settings.min_replicas) for service in services)

    return WorkloadsArgs(
        colour=colour,
        services=made(both[colour]),
        others=made(both[OTHERS[colour]]),
        pull_secret=pull_secret,
        stopped=settings.is_blue_green and settings.blue_green.stopped == colour,
        pod_labels=mesh.pod_labels if mesh else {},
        pod_annotations=mesh.pod_annotations if mesh else {},
    )


def edge_service_args(settings: Settings, public: ServiceSettings, mesh: "ServiceMesh | None") -> EdgeServiceArgs:
    """What is behind the edge: the mesh's gateway, or blue's public service while there is no mesh, or it is to go."""
    if mesh and not settings.is_leaving_mesh:
        return EdgeServiceArgs(
            selector=mesh.gateway_selector,
            target_port=mesh.gateway_port,
            vpc_cidr=None,  # the gateway sees to it itself
        )
    return EdgeServiceArgs(
        selector={"app": public.name, "version": "blue"},
        target_port=public.port,
        vpc_cidr=settings.network.cidr_block,
    )


def all_services(settings: Settings) -> tuple[ServiceSettings, ...]:
    """The services of each colour that there is."""
    return (*settings.services, *(settings.blue_green.services if settings.is_blue_green else ()))


def _secret(value: SecretStr) -> pulumi.Output[str]:
    return pulumi.Output.secret(value.get_secret_value())


def _node_group(group: NodeGroupSettings) -> NodeGroupPlan:
    kind = INSTANCE_TYPES[group.instance_types[0]]
    return NodeGroupPlan(
        name=group.name,
        capacity_type=group.capacity_type,
        instance_types=group.instance_types,
        architecture=kind.architecture,
        burstable=kind.baseline is not None,
        min_size=group.min_size,
        desired_size=group.desired_size,
        max_size=group.max_size,
        hosts_stores=group.hosts_stores,
    )


def _stores(settings: Settings) -> DataStoresPlan:
    stores = settings.stores
    return DataStoresPlan(
        postgres=_store(stores.postgres),
        redis=_store(stores.redis),
        backup_schedule=stores.backup_schedule,
        backup_days_without=DAYS_WITHOUT_BACKUP_IF_STOPPED if settings.night_schedule else 1,
        backup_retention_days=stores.backup_retention_days,
        database_clients=_clients(settings, "database"),
        redis_clients=_clients(settings, "redis"),
    )


def _clients(settings: Settings, store: str) -> tuple[str, ...]:
    """Each once, whatever its colours."""
    return tuple(dict.fromkeys(service.name for service in all_services(settings) if store in service.uses))


def _store(store: StoreSettings) -> StoreSize:
    return StoreSize(cpu_millis=cpu_millis(store.cpu), memory_mib=memory_mib(store.memory), disk_gib=store.disk_gib)


def _service(service: ServiceSettings, images: Images, min_replicas: int) -> ServiceArgs:
    return ServiceArgs(
        name=service.name,
        image=images.reference(*service.image_parts),
        port=service.port,
        cpu_millis=service.cpu_millis,
        memory_mib=service.memory_mib,
        min_replicas=service.min_replicas or min(min_replicas, service.max_replicas),
        max_replicas=service.max_replicas,
        health_path=service.health_path,
        calls=service.calls,
        uses=service.uses,
        internet=service.internet,
    )


def _quota(settings: Settings) -> Quota:
    """Every service at its most replicas and one more in a rollout, the stores, and what looks after them."""
    stores = (settings.stores.postgres, settings.stores.redis)
    counts = [(service, service.max_replicas + 1) for service in all_services(settings)]
    mesh = _mesh_quota(settings, sum(count for _, count in counts)) if settings.is_blue_green else NO_MESH
    return Quota(
        cpu_millis=sum(service.cpu_millis * count for service, count in counts)
        + sum(cpu_millis(store.cpu) for store in stores)
        + JOB_CPU_MILLIS
        + KEEPERS_CPU_MILLIS
        + mesh.cpu_millis,
        memory_mib=sum(service.memory_mib * count for service, count in counts)
        + sum(memory_mib(store.memory) for store in stores)
        + JOB_MEMORY_MIB
        + KEEPERS_MEMORY_MIB
        + mesh.memory_mib,
        pods=sum(count for _, count in counts) + PODS_BESIDE_SERVICES + mesh.pods,
    )


def _mesh_quota(settings: Settings, sidecars: int) -> Quota:
    """A sidecar for each pod of a service, the gateways and one more in a rollout, and one migration at a time."""
    from components import blue_green as mesh  # where it begins: a preview loads only what its phase needs

    gateways = settings.min_replicas + 1
    return Quota(
        cpu_millis=mesh.PROXY_CPU_MILLIS * sidecars + mesh.GATEWAY_CPU_MILLIS * gateways + mesh.MIGRATION_CPU_MILLIS,
        memory_mib=mesh.PROXY_MEMORY_MIB * sidecars + mesh.GATEWAY_MEMORY_MIB * gateways + mesh.MIGRATION_MEMORY_MIB,
        pods=gateways + 1,
    )


def _edge(settings: Settings) -> EdgePlan | None:
    if not settings.edge.enabled or settings.public_service is None:
        return None
    return EdgePlan(
        port=settings.edge.listener_port,
        domain=settings.edge.domain,
        certificate_arn=settings.edge.certificate_arn,
        hosted_zone_id=settings.edge.hosted_zone_id,
    )
