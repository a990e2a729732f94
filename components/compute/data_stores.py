"""DataStores: PostgreSQL and Redis in the cluster, their disks and backups."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.compute.backup import Backup, BackupArgs
from components.compute.certificates import Certificates
from components.compute.disk import Disk, DiskArgs
from components.compute.store import CREDENTIALS_FOLDER, PRIORITY, PRIORITY_CLASS, StoreArgs, store
from components.shared.manifests import from_secret, metadata, network_policy_spec, pods, resources, tcp
from components.shared.stores import (
    DATABASE_NAME,
    DATABASE_SECRET,
    POSTGRES_IMAGE,
    POSTGRES_PORT,
    POSTGRES_USER_ID,
    REDIS_IMAGE,
    REDIS_PORT,
    REDIS_SECRET,
    REDIS_USER_ID,
)
from infra.naming import Names

LARGEST_DUMP_MIB = 8192
"""Beside images and logs on a node's root disk."""
SUPERUSER = "postgres"
"""Who makes the logins; lets nobody in through the network."""
SIDECAR_CPU_MILLIS = 10
SIDECAR_MEMORY_MIB = 32
"""A shell, and now and then psql."""

POSTGRES_FILES = Path(__file__).parent / "postgres"


@dataclass(frozen=True, kw_only=True)
class StoreSize:
    """What one store gets."""

    cpu_millis: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True, kw_only=True)
class DataStoresPlan:
    """Sizes, backups, and who is let in, as the config describes them."""

    postgres: StoreSize
    redis: StoreSize
    backup_schedule: str
    backup_days_without: int
    backup_retention_days: int
    database_clients: tuple[str, ...]
    redis_clients: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DataStoresArgs:
    """The stores, and where they are and how they are kept."""

    names: Names
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    alert_topic_arn: pulumi.Input[str]
    availability_zone: str
    plan: DataStoresPlan
    protect: bool


class DataStores(pulumi.ComponentResource):
    """StatefulSets `postgres` and `redis` with TLS, disks of their own, and nightly dumps."""

    backup_bucket: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: DataStoresArgs,
        certificates: Certificates,
        credentials: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:compute:DataStores", name, None, opts)
        self._name, self._args, self._certificates = name, args, certificates
        self._credentials = credentials
        self._priority = kubernetes.scheduling.v1.PriorityClass(
            f"{name}-priority",
            metadata={"name": PRIORITY_CLASS},
            value=PRIORITY,
            description="PostgreSQL and Redis before the services that need them",
            opts=pulumi.ResourceOptions(parent=self),
        )
        postgres = self._postgres()
        redis = self._redis()
        backup = Backup(
            f"{name}-backup",
            BackupArgs(
                names=args.names,
                account_id=args.account_id,
                region=args.region,
                cluster_name=args.cluster_name,
                alert_topic_arn=args.alert_topic_arn,
                retention_days=args.plan.backup_retention_days,
                schedule=args.plan.backup_schedule,
                days_without=args.plan.backup_days_without,
                dump_mib=min(args.plan.postgres.disk_gib * 1024 // 4, LARGEST_DUMP_MIB),
                protect=args.protect,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[postgres]),
        )
        self._let_in("postgres", POSTGRES_PORT, (*args.plan.database_clients, backup.app))
        self._let_in("redis", REDIS_PORT, args.plan.redis_clients)
        self.backup_bucket = backup.bucket
        self.ready = [postgres, redis]
        self.register_outputs({"backup_bucket": self.backup_bucket})

    def _disk(self, app: str, size_gib: int) -> Disk:
        return Disk(
            f"{self._name}-{app}-disk",
            DiskArgs(
                names=self._args.names,
                store=app,
                size_gib=size_gib,
                availability_zone=self._args.availability_zone,
                protect=self._args.protect,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _postgres(self) -> kubernetes.apps.v1.StatefulSet:
        size = self._args.plan.postgres
        disk = self._disk("postgres", size.disk_gib)
        settings = {
            "ssl": "on",
            "ssl_cert_file": "/etc/tls/tls.crt",
            "ssl_key_file": "/etc/tls/tls.key",
            "ssl_min_protocol_version": "TLSv1.3",
            "hba_file": "/etc/postgres/pg_hba.conf",
            "password_encryption": "scram-sha-256",
            # A quarter of the memory, as PostgreSQL's manual recommends to begin with.
            "shared_buffers": f"{size.memory_mib // 4}MB",
        }
        return store(
            f"{self._name}-postgres",
            StoreArgs(
                store="postgres",
                image=POSTGRES_IMAGE,
                user=POSTGRES_USER_ID,
                port=POSTGRES_PORT,
                cpu_millis=size.cpu_millis,
                memory_mib=size.memory_mib,
                claim_name=disk.claim_name,
                mount_path="/var/lib/postgresql/data",
                certificate=self._certificates.servers["postgres"],
                certificate_authority_pem=self._certificates.authority,
                configuration={file.name: file.read_text() for file in sorted(POSTGRES_FILES.iterdir())},
                arguments=[part for key, value in settings.items() for part in ("-c", f"{key}={value}")],
                environment=[
                    # The image wants one; pg_hba.conf lets the superuser in through the socket alone, without.
                    {"name": "POSTGRES_PASSWORD_FILE", "value": f"{CREDENTIALS_FOLDER}/password"},
                    {"name": "POSTGRES_DB", "value": DATABASE_NAME},
                    # Below the mount, whose root belongs to the file system (lost+found).
                    {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                ],
                credentials=DATABASE_SECRET,
                sidecars=[self._login_keeper()],
                probe=["pg_isready", f"--username={SUPERUSER}", f"--dbname={DATABASE_NAME}"],
                scratch_paths=("/var/run/postgresql", "/tmp"),  # noqa: S108 - in the container
                protect=self._args.protect,
                depends_on=[self._priority, disk.claim, *self._credentials],
            ),
            self,
        )

    def _login_keeper(self) -> dict[str, Any]:
        """Beside PostgreSQL, which would not notice that its Secret has changed."""
        return {
            "name": "credentials",
            "command": ["sh", "/etc/postgres/credentials.sh"],
            "env": [
                {"name": "PGHOST", "value": "/var/run/postgresql"},
                {"name": "PGUSER", "value": SUPERUSER},
                {"name": "PGDATABASE", "value": DATABASE_NAME},
                {"name": "CREDENTIALS", "value": CREDENTIALS_FOLDER},
                {"name": "ROLES", "value": "/etc/postgres/roles.sql"},
            ],
            "resources": resources(SIDECAR_CPU_MILLIS, SIDECAR_MEMORY_MIB, cpu_burst=20),
        }

    def _redis(self) -> kubernetes.apps.v1.StatefulSet:
        size = self._args.plan.redis
        disk = self._disk("redis", size.disk_gib)
        # Three quarters: a snapshot copies what changes while it is written.
        configuration = f"""\
port 0
tls-port {REDIS_PORT}
tls-cert-file /etc/tls/tls.crt
tls-key-file /etc/tls/tls.key
tls-ca-cert-file /etc/tls/ca.crt
tls-auth-clients no
dir /data
appendonly yes
maxmemory {size.memory_mib * 3 // 4}mb
maxmemory-policy noeviction
include /run/redis/password.conf
"""
        # Through a file in memory: an argument would show the password to whoever lists processes.
        start = (
            "umask 077; printf 'requirepass %s\\n' \"$REDISCLI_AUTH\" > /run/redis/password.conf; "
            "exec redis-server /etc/redis/redis.conf"
        )
        return store(
            f"{self._name}-redis",
            StoreArgs(
                store="redis",
                image=REDIS_IMAGE,
                user=REDIS_USER_ID,
                port=REDIS_PORT,
                cpu_millis=size.cpu_millis,
                memory_mib=size.memory_mib,
                claim_name=disk.claim_name,
                mount_path="/data",
                certificate=self._certificates.servers["redis"],
                certificate_authority_pem=self._certificates.authority,
                configuration={"redis.conf": configuration},
                command=["sh", "-c", start],
                environment=[from_secret("REDISCLI_AUTH", REDIS_SECRET, "password")],
                probe=["sh", "-c", "redis-cli --tls --cacert /etc/tls/ca.crt ping | grep -q PONG"],
                scratch_paths=("/run/redis", "/tmp"),  # noqa: S108 - in the container
                protect=self._args.protect,
                depends_on=[self._priority, disk.claim, *self._credentials],
            ),
            self,
        )

    def _let_in(self, app: str, port: int, clients: tuple[str, ...]) -> None:
        if not clients:
            return
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._name}-{app}-policy",
            metadata=metadata(app),
            spec=network_policy_spec(
                app, ingress=[{"from_": [pods(client) for client in clients], "ports": tcp(port)}]
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
