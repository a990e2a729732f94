"""Settings that are secret: a stack file holds them encrypted, or not at all."""

from collections.abc import Callable, Mapping
from typing import Final

import pulumi
from pulumi.runtime import is_config_secret

from infra.naming import PROJECT

SECRET_SETTINGS: Final = ("imagePullToken", "airtableToken", "geminiApiKey")
SECRET_KEYS: Final = tuple(f"{PROJECT}:{setting}" for setting in SECRET_SETTINGS)
"""What they are called in a stack file."""


class PlainSecretError(pulumi.RunError):
    """A stack's config has a secret that everybody can read. One line per secret; Pulumi prints no traceback."""


def require_encrypted(
    stack: str, config: Mapping[str, object], is_encrypted: Callable[[str], bool] = is_config_secret
) -> None:
    """Refuse the config of a stack while a secret stands in it as it is; keys carry their namespace.

    Raises:
        PlainSecretError: it does; says which, where, and how to mend it, and never the value.
    """
    plain = [key for key in given_secrets(config) if not is_encrypted(key)]
    if plain:
        raise PlainSecretError("\n".join(in_plain_text(key, f"Pulumi.{stack}.yaml") for key in plain))


def given_secrets(config: Mapping[str, object]) -> list[str]:
    """Keys of the secret settings that have a value; empty ones are the schema's defaults in Pulumi.yaml."""
    return [key for key in SECRET_KEYS if config.get(key) not in (None, "", {})]


def in_plain_text(key: str, file: str) -> str:
    """What is wrong with a secret setting in plain text, and how to mend it."""
    name = key.removeprefix(f"{PROJECT}:")
    return f"{key}: must not be in plain text in {file}; encrypt it there with pulumi config set --secret {name}"
