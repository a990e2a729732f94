"""Names of what works for the services, which the program gives and the runbook's commands look for."""

from collections.abc import Mapping
from typing import Final, Literal

BACKUP: Final = "postgres-backup"
RESTARTER: Final = "secret-restarter"
ROTATION: Final = "database-rotation"

MigrationKind = Literal["expand", "contract"]
MIGRATIONS: Final[Mapping[MigrationKind, str]] = {"expand": "migrations-expand", "contract": "migrations-contract"}
