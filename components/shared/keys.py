"""Keys of the stack's own, each with the alias that people find it by."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.naming import Names
from infra.phases import Phase


def own_key(
    name: str,
    *,
    names: Names,
    phase: Phase,
    alias: str,
    description: str,
    deletion_days: int,
    parent: pulumi.Resource,
    policy: Mapping[str, Any] | None = None,
    protect: bool = False,
) -> aws.kms.Key:
    """A key that AWS rotates; without a policy everybody in the account whose role allows it may use it."""
    key = aws.kms.Key(
        f"{name}-key",
        description=description,
        enable_key_rotation=True,
        deletion_window_in_days=deletion_days,
        policy=pulumi.Output.json_dumps(policy) if policy else None,
        tags=Names.phase_tags(phase),
        opts=pulumi.ResourceOptions(parent=parent, protect=protect),
    )
    aws.kms.Alias(
        f"{name}-key-alias",
        name=f"alias/{names.of(alias)}",
        target_key_id=key.key_id,
        opts=pulumi.ResourceOptions(parent=parent),
    )
    return key
