"""AwsSecrets: the three secrets of a stack in AWS Secrets Manager, starting from what the cluster already uses."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.secrets.tags import TAGS
from components.shared.keys import own_key
from components.shared.policies import document
from components.shared.stores import (
    API_KEYS_SECRET,
    DATABASE_NAME,
    DATABASE_SECRET,
    POSTGRES_PORT,
    REDIS_PORT,
    REDIS_SECRET,
    host,
)
from infra.naming import PROJECT, Names
from infra.phases import Phase

Content = Mapping[str, str]
"""A secret's keys and values."""


@dataclass(frozen=True, kw_only=True)
class AwsSecretsArgs:
    """Whose secrets they are, what they start from, and how they are kept."""

    names: Names
    account_id: str
    credential_ids: Mapping[str, pulumi.Input[str]]
    """Ids of the Kubernetes Secrets by name; their values as they are now are what a new secret starts from."""
    outside_keys: Mapping[str, pulumi.Input[str]]
    """Keys of outside services from the stack's config, which go before what the cluster uses."""
    outside_keys_revision: str
    """Changes with `outside_keys`, and tells nothing about them."""
    own_key: bool
    """Encrypt with a customer-managed key ($1 a month and its requests)."""
    recovery_window_days: int
    protect: bool


class AwsSecrets(pulumi.ComponentResource):
    """Secrets `pyairtable/{stack}/database`, `/redis` and `/api-keys`, their key and their policies.

    Values are written once. Later ones are the rotation's, or an operator's, and no `up` takes them back.
    """

    arns: Mapping[str, pulumi.Output[str]]
    """By the name of the Kubernetes Secret that each fills."""
    paths: Mapping[str, str]
    """Names in Secrets Manager, likewise."""
    key_arn: pulumi.Output[str] | None
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: AwsSecretsArgs,
        kubernetes_provider: kubernetes.Provider,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:secrets:AwsSecrets", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        self._kubernetes = kubernetes_provider
        self.ready = []
        self.paths = {
            secret: f"{PROJECT}/{args.names.stack}/{key}"
            for secret, key in ((DATABASE_SECRET, "database"), (REDIS_SECRET, "redis"), (API_KEYS_SECRET, "api-keys"))
        }
        key = self._key() if args.own_key else None
        self.key_arn = key.arn if key else None
        self.arns = {
            DATABASE_SECRET: self._secret(
                DATABASE_SECRET,
                f"Database credentials of {args.names.prefix}",
                lambda live: {
                    "username": live["username"],
                    "password": live["password"],
                    "host": host("postgres"),
                    "port": str(POSTGRES_PORT),
                    "database": DATABASE_NAME,
                },
            ),
            REDIS_SECRET: self._secret(
                REDIS_SECRET,
                f"Redis credentials of {args.names.prefix}",
                lambda live: {"password": live["password"], "host": host("redis"), "port": str(REDIS_PORT)},
            ),
            API_KEYS_SECRET: self._secret(
                API_KEYS_SECRET,
                f"API keys of {args.names.prefix}",
                # Keys that nobody has set are there, and empty: External Secrets counts a missing one as an error.
                lambda live: {"airtable_token": "", "gemini_api_key": "", **live},
                over=args.outside_keys,
                # Keys that are set, or changed, later come by a new version, which keeps the others as they are.
                revision=f"-{args.outside_keys_revision}",
            ),
        }
        self.register_outputs({})

    def _key(self) -> aws.kms.Key:
        args = self._args
        return own_key(
            self._name,
            names=args.names,
            phase=Phase.SECRETS,
            alias="secrets",
            description=f"Encrypts the secrets of {args.names.prefix}",
            deletion_days=30,
            protect=args.protect,
            parent=self,
        )

    def _secret(
        self,
        credential: str,
        description: str,
        content: Callable[[Content], Content],
        *,
        over: Mapping[str, pulumi.Input[str]] | None = None,
        revision: str = "",
    ) -> pulumi.Output[str]:
        """A secret that starts from the live values of a Kubernetes Secret; its ARN."""
        args, name = self._args, f"{self._name}-{credential}"
        secret = aws.secretsmanager.Secret(
            name,
            name=self.paths[credential],
            description=description,
            kms_key_id=self.key_arn,
            recovery_window_in_days=args.recovery_window_days,
            tags=TAGS,
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        # As the cluster has it, not as the first phase made it: a rotation may lie between, when a stack comes back.
        live = kubernetes.core.v1.Secret.get(
            f"{name}-live",
            args.credential_ids[credential],
            pulumi.ResourceOptions(parent=self, provider=self._kubernetes),
        )
        text = pulumi.Output.all(live=live.data, over=dict(over or {})).apply(
            lambda known: json.dumps({**content(_decoded(known["live"])), **known["over"]}, sort_keys=True)
        )
        version = aws.secretsmanager.SecretVersion(
            f"{name}{revision}-version",
            secret_id=secret.id,
            secret_string=pulumi.Output.secret(text),
            # After two rotations a version without a label of its own is gone, and the next `up` would put it back.
            version_stages=["AWSCURRENT", "start"],
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["secretString", "versionStages"],
                # Its label has moved on to the next revision by then; it goes with the secret.
                retain_on_delete=True,
            ),
        )
        policy = aws.secretsmanager.SecretPolicy(
            f"{name}-policy",
            secret_arn=secret.arn,
            policy=pulumi.Output.json_dumps(_policy(args.account_id)),
            block_public_policy=True,
            opts=self._child,
        )
        self.ready += [version, policy]
        return secret.arn


def _decoded(data: Mapping[str, str] | None) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (data or {}).items()}


def _policy(account_id: str) -> dict[str, Any]:
    """Whatever a role elsewhere is allowed: nobody from another account, and nothing in plain text."""
    refuse = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:*", "Resource": "*"}
    return document(
        {
            **refuse,
            "Sid": "RefuseOtherAccounts",
            "Condition": {"StringNotEquals": {"aws:PrincipalAccount": account_id}},
        },
        {**refuse, "Sid": "RefusePlainText", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
    )
