"""Use of the secrets' own key: by way of Secrets Manager, and in no other way."""

from collections.abc import Sequence
from typing import Any

from components.shared.policies import allow


def use_key(sid: str, actions: Sequence[str], key_arn: object, region: str) -> dict[str, Any]:
    """A statement that allows actions on the key where Secrets Manager asks in the caller's name."""
    return allow(sid, actions, key_arn, {"StringEquals": {"kms:ViaService": f"secretsmanager.{region}.amazonaws.com"}})
