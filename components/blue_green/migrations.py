"""Migrations: steps of the database's schema, which both colours share, each as a Job that runs once."""

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.apps import MIGRATIONS, MigrationKind
from components.shared.jobs import job_template
from components.shared.manifests import CONTAINER_SECURITY, metadata, network_policy_spec, pods, resources, tcp
from components.shared.service_pods import AUTHORITY_MOUNT, ENVIRONMENT, SCRATCH_MOUNT, SCRATCH_VOLUME, USER_ID
from components.shared.stores import POSTGRES_PORT, TO_DATABASE, authority_volume

MIGRATION_CPU_MILLIS = 100
MIGRATION_MEMORY_MIB = 256
DEADLINE_SECONDS = 900
ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One step, its image resolved."""

    name: str
    image: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MigrationsArgs:
    """The steps of one kind, in their order."""

    kind: MigrationKind
    migrations: tuple[Migration, ...]
    pull_secret: str | None


class Migrations(pulumi.ComponentResource):
    """A Job `migration-NAME` for each step, one after the other; one that changes runs again.

    They have no sidecar: a Job with one would need it only to end it, and PostgreSQL is not in the mesh.
    """

    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: MigrationsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:Migrations", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        app = MIGRATIONS[args.kind]
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-service-account",
            metadata=metadata(app, app=app),
            automount_service_account_token=False,
            image_pull_secrets=[{"name": args.pull_secret}] if args.pull_secret else None,
            opts=child,
        )
        policies = [
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-policy",
                metadata=metadata(app),
                spec=network_policy_spec(app, egress=[TO_DATABASE]),
                opts=child,
            ),
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-database-policy",
                metadata=metadata(f"postgres-from-{app}"),
                spec=network_policy_spec("postgres", ingress=[{"from_": [pods(app)], "ports": tcp(POSTGRES_PORT)}]),
                opts=child,
            ),
        ]
        self.ready = [account, *policies]
        for migration in args.migrations:
            job = kubernetes.batch.v1.Job(
                f"{name}-{migration.name}",
                # One that failed is made anew by the next update, instead of standing in its way.
                metadata=metadata(
                    f"migration-{migration.name}", app=app, annotations={"pulumi.com/replaceUnready": "true"}
                ),
                spec={
                    "backoff_limit": ATTEMPTS - 1,
                    "active_deadline_seconds": DEADLINE_SECONDS,
                    "template": job_template(app, USER_ID, _pod(migration)),
                },
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=list(self.ready),
                    # Of one name: the old one has to go first.
                    delete_before_replace=True,
                    custom_timeouts=pulumi.CustomTimeouts(create="20m"),
                ),
            )
            self.ready.append(job)
        self.register_outputs({})


def _pod(migration: Migration) -> dict[str, Any]:
    return {
        "containers": [
            {
                "name": "migration",
                "image": migration.image,
                "image_pull_policy": "IfNotPresent",
                "args": list(migration.arguments) or None,
                "env": ENVIRONMENT["database"],
                "resources": resources(MIGRATION_CPU_MILLIS, MIGRATION_MEMORY_MIB),
                "security_context": dict(CONTAINER_SECURITY),
                "volume_mounts": [SCRATCH_MOUNT, AUTHORITY_MOUNT],
            }
        ],
        "volumes": [SCRATCH_VOLUME, authority_volume()],
    }
