"""The Jobs that migrate the database: which there are, and how far they have got."""

from typing import Any

from components.shared.apps import MIGRATIONS, MigrationKind
from runbook.kubectl import Manifest, Objects


def condition(found: Manifest, type: str) -> bool:
    """Whether a Job has got somewhere, such as Complete."""
    conditions: list[dict[str, Any]] = (found.get("status") or {}).get("conditions") or []
    return any(c.get("type") == type and c.get("status") == "True" for c in conditions)


def migrations(objects: Objects, kind: MigrationKind) -> dict[str, Manifest]:
    """The Jobs that migrate the database, by name."""
    return {
        found["metadata"]["name"]: found
        for found in objects.values()
        if found["kind"] == "Job" and (found["metadata"].get("labels") or {}).get("app") == MIGRATIONS[kind]
    }


def contracted(objects: Objects) -> list[str]:
    """The contracting migrations that have been applied, or are being: blue does not know their schema."""
    return sorted(name for name, job in migrations(objects, "contract").items() if not condition(job, "Failed"))
