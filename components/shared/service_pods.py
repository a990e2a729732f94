"""What every container of the application's own images finds: its user, its environment, and its files."""

from collections.abc import Mapping
from typing import Any

from components.shared.manifests import from_config_map, from_secret
from components.shared.stores import (
    API_KEYS_SECRET,
    CONNECTIONS,
    DATABASE_SECRET,
    REDIS_SECRET,
    authority_mount,
)

USER_ID = 10001
"""No user of the node has this id, so a process that got out of its container would own nothing."""
_AUTHORITY_FOLDER = "/etc/pyairtable"
"""Where the certificate is that the stores' own are signed with."""

ENVIRONMENT: dict[str, list[dict[str, Any]]] = {
    "database": [
        from_config_map("DB_HOST", CONNECTIONS, "DB_HOST"),
        from_config_map("DB_PORT", CONNECTIONS, "DB_PORT"),
        from_config_map("DB_NAME", CONNECTIONS, "DB_NAME"),
        from_config_map("DB_SSLMODE", CONNECTIONS, "DB_SSLMODE"),
        {"name": "DB_SSLROOTCERT", "value": f"{_AUTHORITY_FOLDER}/ca.crt"},
        from_secret("DB_USERNAME", DATABASE_SECRET, "username"),
        from_secret("DB_PASSWORD", DATABASE_SECRET, "password"),
    ],
    "redis": [
        from_config_map("REDIS_HOST", CONNECTIONS, "REDIS_HOST"),
        from_config_map("REDIS_PORT", CONNECTIONS, "REDIS_PORT"),
        {"name": "REDIS_CA_FILE", "value": f"{_AUTHORITY_FOLDER}/ca.crt"},
        from_secret("REDIS_PASSWORD", REDIS_SECRET, "password"),
    ],
    "api-keys": [
        from_secret("JWT_SECRET", API_KEYS_SECRET, "jwt_secret"),
        from_secret("API_KEY", API_KEYS_SECRET, "api_key"),
        from_secret("AIRTABLE_TOKEN", API_KEYS_SECRET, "airtable_token", optional=True),
        from_secret("GEMINI_API_KEY", API_KEYS_SECRET, "gemini_api_key", optional=True),
    ],
}
"""What a service finds in its environment for each thing that it uses."""

SCRATCH_MOUNT: Mapping[str, Any] = {"name": "scratch", "mount_path": "/tmp"}  # noqa: S108 - in the container
SCRATCH_VOLUME: Mapping[str, Any] = {"name": "scratch", "empty_dir": {"size_limit": "64Mi"}}
AUTHORITY_MOUNT: Mapping[str, Any] = authority_mount(_AUTHORITY_FOLDER)
