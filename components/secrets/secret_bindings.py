"""SecretBindings: which secret of Secrets Manager fills which Secret of the cluster, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.manifests import metadata
from components.shared.stores import API_KEYS_SECRET, DATABASE_SECRET, REDIS_SECRET

API_VERSION = "external-secrets.io/v1"
SECRET_STORE = "aws-secretsmanager"  # noqa: S105 - names
EXTERNAL_SECRETS = {
    "database-secret": (DATABASE_SECRET, ("username", "password")),
    "redis-secret": (REDIS_SECRET, ("password",)),
    "api-keys-secret": (API_KEYS_SECRET, ("jwt_secret", "api_key", "airtable_token", "gemini_api_key")),
}
"""Name -> the Secret that it fills, and the keys; host, port and database are no secrets and not among them."""

UNTIL_READY = {"pulumi.com/waitFor": "condition=Ready"}
"""An `up` that ends well has brought the secrets into the cluster."""


@dataclass(frozen=True, kw_only=True)
class SecretBindingsArgs:
    """Where the secrets are, and how often they are looked at."""

    region: str
    paths: Mapping[str, str]
    """Names in Secrets Manager by the name of the Secret that each fills."""
    refresh_seconds: int


class SecretBindings(pulumi.ComponentResource):
    """SecretStore `aws-secretsmanager` and three ExternalSecrets, of namespace `pyairtable`.

    The Secrets are phase 2's, and stay when these go: a binding merges its keys into one and owns nothing.
    """

    def __init__(self, name: str, args: SecretBindingsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:secrets:SecretBindings", name, None, opts)
        store = kubernetes.apiextensions.CustomResource(
            f"{name}-store",
            api_version=API_VERSION,
            kind="SecretStore",
            metadata=metadata(SECRET_STORE, annotations=UNTIL_READY),
            # No `auth`: the controller's own identity, which is the only one that may read them.
            spec={"provider": {"aws": {"service": "SecretsManager", "region": args.region}}},
            opts=pulumi.ResourceOptions(parent=self),
        )
        for external_secret, (target, keys) in EXTERNAL_SECRETS.items():
            kubernetes.apiextensions.CustomResource(
                f"{name}-{external_secret}",
                api_version=API_VERSION,
                kind="ExternalSecret",
                metadata=metadata(external_secret, annotations=UNTIL_READY),
                spec={
                    "refreshInterval": _as_go_writes(args.refresh_seconds),
                    "secretStoreRef": {"name": SECRET_STORE, "kind": "SecretStore"},
                    "target": {
                        "name": target,
                        "creationPolicy": "Merge",
                        "deletionPolicy": "Retain",
                        # Without one, labels and annotations of the ExternalSecret would be the Secret's too.
                        "template": {},
                    },
                    "data": [
                        {"secretKey": key, "remoteRef": {"key": args.paths[target], "property": key}} for key in keys
                    ],
                },
                opts=pulumi.ResourceOptions(parent=self, depends_on=[store]),
            )
        self.register_outputs({})


def _as_go_writes(seconds: int) -> str:
    """A time as the controller would write it: in another spelling it would make the field its own."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
