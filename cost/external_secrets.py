"""What External Secrets takes of the price list: it asks Secrets Manager for each key again at every refresh."""

import re
from decimal import Decimal
from typing import Final

from cost.prices import HOURS_A_MONTH
from cost.resources import Resource, Stack

SECRET: Final = "aws:secretsmanager/secret:Secret"  # noqa: S105 - a type
SECONDS_A_MONTH: Final = 3600 * HOURS_A_MONTH
DEFAULT_INTERVAL: Final = "1h"
"""What the custom resource definition says where an ExternalSecret says nothing."""

UNITS: Final = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
PART: Final = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(UNITS)})")
DURATION: Final = re.compile(f"0|(?:{PART.pattern})+")


def reads(external_secret: Resource, stack: Stack) -> dict[str, Decimal]:
    """Requests a month: one for each key and refresh, and a decryption each where the secret has a KMS key of its own.

    The key that AWS manages is free to use. What a forced sync adds is not counted: it is a call now and then.

    Raises:
        UnknownCostError: how often it refreshes, or what it reads, cannot be told.
    """
    refreshes = _refreshes(external_secret)
    secrets = {secret.plain("name"): secret for (type_, _), secret in stack.items() if type_ == SECRET}
    encrypted = 0
    keys = _keys(external_secret)
    for key, _ in keys:
        if key not in secrets:
            raise external_secret.unknown(f"it reads {key}, which is no secret of this stack; name one that is")
        # An id that is not known yet says as much as one that is.
        encrypted += secrets[key].inputs.get("kmsKeyId") is not None
    return {"secrets_manager_request": len(keys) * refreshes, "kms_request": encrypted * refreshes}


def seconds(duration: str) -> Decimal:
    """Length of a duration as Go writes it, such as `1m30s`.

    Raises:
        ValueError: it is none.
    """
    if not DURATION.fullmatch(duration):
        raise ValueError(f'"{duration}" is no duration')
    return sum((Decimal(number) * UNITS[unit] for number, unit in PART.findall(duration)), Decimal(0))


def _refreshes(external_secret: Resource) -> Decimal:
    """How often in a month it reads; never, after its first time, with an interval of 0 or another policy."""
    if external_secret.plain("spec.refreshPolicy", "Periodic") != "Periodic":
        return Decimal(0)
    try:
        interval = seconds(str(external_secret.plain("spec.refreshInterval", DEFAULT_INTERVAL)))
    except ValueError as error:
        raise external_secret.unknown(f"spec.refreshInterval {error}; write it as 15s or 1m30s") from None
    return SECONDS_A_MONTH / interval if interval else Decimal(0)


def _keys(external_secret: Resource) -> set[tuple[str, str]]:
    """Keys and versions that a refresh reads; External Secrets reads none of them twice."""
    references = [
        *(entry.part("remoteRef") for entry in external_secret.parts("spec.data")),
        *(entry.part("extract") for entry in external_secret.parts("spec.dataFrom")),
    ]
    if not all(reference.plain("key") for reference in references):
        raise external_secret.unknown("what it reads cannot be told; give each key in data or in dataFrom.extract")
    return {(reference.plain("key"), reference.plain("version", "")) for reference in references}
