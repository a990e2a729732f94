"""Credentials: the Secrets and the connection settings that every phase's pods read."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from components.shared.manifests import metadata
from components.shared.stores import (
    API_KEYS_SECRET,
    CONNECTIONS,
    DATABASE_NAME,
    DATABASE_SECRET,
    DATABASE_USER,
    POSTGRES_PORT,
    REDIS_PORT,
    REDIS_SECRET,
    host,
)

PASSWORD_LENGTH = 32
"""Letters and digits: 190 bits, and nothing that a URL or a shell would read otherwise."""


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """Keys of outside services; secret outputs, None where the stack has none yet."""

    airtable_token: pulumi.Output[str] | None
    gemini_api_key: pulumi.Output[str] | None
    certificate_authority_pem: pulumi.Input[str]


class Credentials(pulumi.ComponentResource):
    """Secrets `database-credentials`, `redis-credentials`, `api-keys`, and ConfigMap `connections`.

    The Secrets are made with these values and then left alone: from phase 3 on External Secrets fills them, and no
    Deployment notices. Host, port and database name are no secrets, so that a rotation cannot lose them.
    """

    ids: Mapping[str, pulumi.Output[str]]
    """Of the Secrets, by name."""
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: CredentialsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Credentials", name, None, opts)
        self._name = name
        keys: dict[str, pulumi.Input[str]] = {
            "jwt_secret": self._password("jwt-secret"),
            "api_key": self._password("api-key"),
        }
        if args.airtable_token is not None:
            keys["airtable_token"] = args.airtable_token
        if args.gemini_api_key is not None:
            keys["gemini_api_key"] = args.gemini_api_key
        secrets = {
            DATABASE_SECRET: self._secret(
                DATABASE_SECRET, {"username": DATABASE_USER, "password": self._password("database-password")}
            ),
            REDIS_SECRET: self._secret(REDIS_SECRET, {"password": self._password("redis-password")}),
            API_KEYS_SECRET: self._secret(API_KEYS_SECRET, keys),
        }
        self.ids = {name: secret.id for name, secret in secrets.items()}
        self.ready = [
            *secrets.values(),
            kubernetes.core.v1.ConfigMap(
                f"{name}-{CONNECTIONS}",
                metadata=metadata(CONNECTIONS),
                data={
                    "DB_HOST": host("postgres"),
                    "DB_PORT": str(POSTGRES_PORT),
                    "DB_NAME": DATABASE_NAME,
                    "DB_SSLMODE": "verify-full",
                    "REDIS_HOST": host("redis"),
                    "REDIS_PORT": str(REDIS_PORT),
                    "ca.crt": args.certificate_authority_pem,
                },
                opts=pulumi.ResourceOptions(parent=self),
            ),
        ]
        self.register_outputs({})

    def _password(self, suffix: str) -> pulumi.Output[str]:
        return random.RandomPassword(
            f"{self._name}-{suffix}", length=PASSWORD_LENGTH, special=False, opts=pulumi.ResourceOptions(parent=self)
        ).result

    def _secret(self, secret: str, data: dict[str, pulumi.Input[str]]) -> kubernetes.core.v1.Secret:
        return kubernetes.core.v1.Secret(
            f"{self._name}-{secret}",
            metadata=metadata(secret),
            # Not string_data, which the API server keeps nowhere: an update of anything else would send it again.
            data={key: pulumi.Output.from_input(value).apply(_base64) for key, value in data.items()},
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["data"]),
        )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
