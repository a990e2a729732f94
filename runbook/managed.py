"""The three secrets that phase 3 manages: what they are called where, and what the cluster says about them."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from components.shared.stores import API_KEYS_SECRET, CONNECTIONS, DATABASE_SECRET, REDIS_SECRET
from infra.naming import PROJECT
from runbook.errors import RunbookError
from runbook.kubectl import Kubectl, Manifest, Objects

WORKLOADS: Final = ("deployment", "statefulset")
SECONDS_LATE: Final = 60
"""How long after it is due a refresh may be missing: clocks differ, and a busy controller takes its time."""
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
"""A part of a duration as Go writes it, such as 1h0m0s."""
STALE: Final = "Stale"
"""The reason why what was ready once no longer counts as such; the others are External Secrets' own."""
UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, kw_only=True)
class Managed:
    """One secret: in Secrets Manager `pyairtable/{stack}/{name}`."""

    name: str
    secret: str
    """The Secret in the cluster."""
    connections: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else Secrets Manager's copy says, and where the cluster says it: a key of the ConfigMap `connections`."""

    @property
    def external_secret(self) -> str:
        """The ExternalSecret that fills the Secret."""
        return f"{self.name}-secret"

    def path(self, stack: str) -> str:
        """Its name in Secrets Manager."""
        return f"{PROJECT}/{stack}/{self.name}"

    def connections_of(self, objects: Objects) -> dict[str, str]:
        """What Secrets Manager's copy says beside the Secret, as the cluster has it."""
        known = need(objects, f"configmap/{CONNECTIONS}").get("data") or {}
        return {key: known[source] for key, source in self.connections.items() if source in known}


DATABASE: Final = Managed(
    name="database",
    secret=DATABASE_SECRET,
    connections={"host": "DB_HOST", "port": "DB_PORT", "database": "DB_NAME"},
)
REDIS: Final = Managed(name="redis", secret=REDIS_SECRET, connections={"host": "REDIS_HOST", "port": "REDIS_PORT"})
API_KEYS: Final = Managed(name="api-keys", secret=API_KEYS_SECRET)
MANAGED: Final = {managed.name: managed for managed in (DATABASE, REDIS, API_KEYS)}


def secrets_of_all() -> list[str]:
    """The Secrets of all three: a workload's pods depend on all that it reads."""
    return [f"secret/{managed.secret}" for managed in MANAGED.values()]


def force_sync(kubectl: Kubectl, managed: Managed) -> None:
    """Let External Secrets look now: it does when an annotation changes; this is the one of its own documentation."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    kubectl.annotate(f"externalsecret/{managed.external_secret}", "force-sync", now)


def need(objects: Objects, name: str) -> Manifest:
    """An object that must be there.

    Raises:
        RunbookError: it is not.
    """
    if name not in objects:
        kind, _, own = name.partition("/")
        raise RunbookError(f"looking at the cluster: there is no {kind} {own}")
    return objects[name]


def values(secret: Manifest) -> dict[str, str]:
    """What a Secret holds."""
    decoded: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            decoded[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):  # not text, and so nothing of ours
            continue
    return decoded


def properties(external_secret: Manifest) -> dict[str, str]:
    """Which key of the Secret is filled from which key of Secrets Manager's JSON."""
    return {
        entry["secretKey"]: entry["remoteRef"].get("property", "")
        for entry in external_secret["spec"].get("data") or []
    }


def stored(text: str) -> dict[str, Any] | None:
    """Secrets Manager's copy as an object; None where it is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def as_text(value: object) -> str:
    """A value as External Secrets writes it: a number that was stored without quotes counts, too."""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What External Secrets says of one ExternalSecret."""

    ready: bool
    reason: str
    message: str
    refreshed: str | None

    @classmethod
    def of(cls, external_secret: Manifest) -> "Readiness":
        """As its status says; which nobody keeps up to date where the controller does not run."""
        status: dict[str, Any] = external_secret.get("status") or {}
        conditions: list[dict[str, str]] = status.get("conditions") or []
        found = next((condition for condition in conditions if condition["type"] == "Ready"), {})
        if found.get("status") == "True" and _is_late(external_secret):
            interval = external_secret["spec"]["refreshInterval"]
            return cls(
                ready=False,
                reason=STALE,
                message=f"not refreshed for longer than the {interval} that it asks for; does External Secrets run?",
                refreshed=status["refreshTime"],
            )
        return cls(
            ready=found.get("status") == "True",
            reason=found.get("reason", "Unknown"),
            message=found.get("message", "External Secrets has not looked at it yet; does it run?"),
            refreshed=status.get("refreshTime"),
        )


def _is_late(external_secret: Manifest) -> bool:
    """Whether the next refresh should have been a while ago."""
    parts = DURATION.findall(external_secret["spec"].get("refreshInterval", ""))
    interval = sum(float(number) * UNITS[unit] for number, unit in parts)
    refreshed = (external_secret.get("status") or {}).get("refreshTime")
    if not interval or not refreshed:  # 0 means once
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(refreshed)).total_seconds() > interval + SECONDS_LATE
