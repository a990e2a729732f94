"""Arguments of phase 3's component."""

import hashlib
import json

import pulumi

from components.compute import Compute
from components.secrets import ManagedSecretsArgs
from infra.arguments.compute import DAYS_WITHOUT_BACKUP_IF_STOPPED
from infra.naming import GREEN_SUFFIX
from infra.sections import ServiceSettings
from infra.settings import Settings

READERS = ("database", "redis", "api-keys")
"""What a service may use that comes with a Secret."""


def managed_secrets_args(
    settings: Settings, compute: Compute, alert_topic_arn: pulumi.Input[str]
) -> ManagedSecretsArgs:
    """What ManagedSecrets has to know of the settings."""
    outside_keys = {
        key: value.get_secret_value()
        for key, value in (("airtable_token", settings.airtable_token), ("gemini_api_key", settings.gemini_api_key))
        if value is not None
    }
    return ManagedSecretsArgs(
        names=settings.names,
        account_id=settings.account_id,
        region=settings.region,
        vpc_cidr=settings.network.cidr_block,
        cluster_name=compute.cluster_name,
        alert_topic_arn=alert_topic_arn,
        credential_ids=compute.credential_ids,
        outside_keys={key: pulumi.Output.secret(value) for key, value in outside_keys.items()},
        outside_keys_revision=_revision(settings.stack, outside_keys),
        own_key=settings.environment != "dev",
        recovery_window_days=settings.recovery_window_days,
        refresh_seconds=settings.secrets.refresh_seconds,
        rotation_schedule=settings.secrets.rotation_schedule,
        rotation_days=settings.secrets.rotation_days,
        days_without_rotation=DAYS_WITHOUT_BACKUP_IF_STOPPED if settings.night_schedule else 1,
        deployments=(
            *_readers(settings.services),
            *(f"{name}{GREEN_SUFFIX}" for name in _readers(settings.blue_green.services) if settings.is_blue_green),
        ),
        stateful_sets=("redis",),
        protect=settings.protect,
    )


def _readers(services: tuple[ServiceSettings, ...]) -> list[str]:
    return [service.name for service in services if {*READERS} & {*service.uses}]


def _revision(stack: str, keys: dict[str, str]) -> str:
    """Four bytes of a digest: enough to notice a change, and far too few to find a key by."""
    return hashlib.sha256(json.dumps([stack, keys], sort_keys=True).encode()).hexdigest()[:8]
