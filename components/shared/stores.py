"""What every phase calls the stores, their Secrets, and the images that work on them."""

from collections.abc import Mapping
from typing import Any

from components.shared.manifests import NAMESPACE, from_config_map, from_secret, pods, tcp

DATABASE_SECRET = "database-credentials"  # noqa: S105 - names
REDIS_SECRET = "redis-credentials"  # noqa: S105
API_KEYS_SECRET = "api-keys"  # noqa: S105
CONNECTIONS = "connections"
"""ConfigMap of hosts, ports, the database's name and the certificate authority."""
DATABASE_USER = "admin"
"""The login to begin with; a rotation goes on with `admin_2`, and back."""
DATABASE_NAME = "pyairtable"
POSTGRES_PORT = 5432
REDIS_PORT = 6379
TO_DATABASE: Mapping[str, Any] = {"to": [pods("postgres")], "ports": tcp(POSTGRES_PORT)}
TO_REDIS: Mapping[str, Any] = {"to": [pods("redis")], "ports": tcp(REDIS_PORT)}
"""Egress of what uses them."""

POSTGRES_IMAGE = "public.ecr.aws/docker/library/postgres:17.6"
REDIS_IMAGE = "public.ecr.aws/docker/library/redis:7.4.6"
AWS_CLI_IMAGE = "public.ecr.aws/aws-cli/aws-cli:2.31.32"
"""The images of Docker Hub, from where nodes are not rate-limited."""
POSTGRES_USER_ID = 999
REDIS_USER_ID = 999

STORES_LABEL = "pyairtable.io/hosts-stores"
"""Label of the nodes that host the stores."""


def host(service: str) -> str:
    """The name by which pods reach a Service of the namespace."""
    return f"{service}.{NAMESPACE}.svc.cluster.local"


AUTHORITY_FOLDER = "/etc/authority"


def authority_volume() -> dict[str, Any]:
    """The certificate that the stores' own are signed with."""
    return {"name": "authority", "config_map": {"name": CONNECTIONS, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}


def authority_mount(folder: str = AUTHORITY_FOLDER) -> dict[str, Any]:
    """Where a container finds the authority's certificate."""
    return {"name": "authority", "mount_path": folder, "read_only": True}


def database_login() -> list[dict[str, Any]]:
    """What PostgreSQL's own commands need in their environment; the authority is mounted beside it."""
    return [
        from_config_map("PGHOST", CONNECTIONS, "DB_HOST"),
        from_config_map("PGPORT", CONNECTIONS, "DB_PORT"),
        from_config_map("PGDATABASE", CONNECTIONS, "DB_NAME"),
        from_secret("PGUSER", DATABASE_SECRET, "username"),
        from_secret("PGPASSWORD", DATABASE_SECRET, "password"),
        {"name": "PGSSLMODE", "value": "verify-full"},
        {"name": "PGSSLROOTCERT", "value": f"{AUTHORITY_FOLDER}/ca.crt"},
    ]
