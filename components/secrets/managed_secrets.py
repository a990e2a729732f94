"""ManagedSecrets: the credentials of phase 3, from Secrets Manager into the cluster (runbook section 3)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.secrets.aws_secrets import AwsSecrets, AwsSecretsArgs
from components.secrets.database_rotation import DatabaseRotation, DatabaseRotationArgs
from components.secrets.external_secrets_operator import ExternalSecretsOperator, ExternalSecretsOperatorArgs
from components.secrets.secret_bindings import SecretBindings, SecretBindingsArgs
from components.secrets.secret_restarter import SecretRestarter, SecretRestarterArgs
from components.shared.options import in_cluster
from components.shared.stores import DATABASE_SECRET
from infra.naming import Names


@dataclass(frozen=True, kw_only=True)
class ManagedSecretsArgs:
    """What phase 3 needs to know about its stack."""

    names: Names
    account_id: str
    region: str
    vpc_cidr: str
    cluster_name: pulumi.Input[str]
    alert_topic_arn: pulumi.Input[str]
    credential_ids: Mapping[str, pulumi.Input[str]]
    """Ids of phase 2's Secrets by name."""
    outside_keys: Mapping[str, pulumi.Input[str]]
    outside_keys_revision: str
    own_key: bool
    recovery_window_days: int
    refresh_seconds: int
    rotation_schedule: str
    rotation_days: int
    days_without_rotation: int
    deployments: tuple[str, ...]
    """Workloads that read a Secret, and restart when it changes."""
    stateful_sets: tuple[str, ...]
    protect: bool


class ManagedSecrets(pulumi.ComponentResource):
    """Secrets in AWS, the operator that fetches them, which fills what, the restarts and the rotation."""

    ready: list[pulumi.Resource]
    """What a microservice waits for, so that its Secrets are what Secrets Manager has."""

    def __init__(
        self,
        name: str,
        args: ManagedSecretsArgs,
        kubernetes_provider: kubernetes.Provider,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:secrets:ManagedSecrets", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        own = functools.partial(in_cluster, self, kubernetes_provider)
        secrets = AwsSecrets(
            f"{name}-aws",
            AwsSecretsArgs(
                names=args.names,
                account_id=args.account_id,
                credential_ids=args.credential_ids,
                outside_keys=args.outside_keys,
                outside_keys_revision=args.outside_keys_revision,
                own_key=args.own_key,
                recovery_window_days=args.recovery_window_days,
                protect=args.protect,
            ),
            kubernetes_provider,
            child,
        )
        operator = ExternalSecretsOperator(
            f"{name}-operator",
            ExternalSecretsOperatorArgs(
                names=args.names,
                account_id=args.account_id,
                region=args.region,
                cluster_name=args.cluster_name,
                key_arn=secrets.key_arn,
            ),
            own(),
        )
        # Before the bindings, so that it has seen what the pods started with when these bring something new.
        restarter = SecretRestarter(
            f"{name}-restarter",
            SecretRestarterArgs(vpc_cidr=args.vpc_cidr, deployments=args.deployments, stateful_sets=args.stateful_sets),
            own(),
        )
        # The operator before the bindings, and going after them: without it an ExternalSecret could not be taken away.
        bindings = SecretBindings(
            f"{name}-bindings",
            SecretBindingsArgs(region=args.region, paths=secrets.paths, refresh_seconds=args.refresh_seconds),
            own(*secrets.ready, *operator.ready, restarter),
        )
        DatabaseRotation(
            f"{name}-rotation",
            DatabaseRotationArgs(
                names=args.names,
                region=args.region,
                cluster_name=args.cluster_name,
                alert_topic_arn=args.alert_topic_arn,
                secret_arn=secrets.arns[DATABASE_SECRET],
                key_arn=secrets.key_arn,
                schedule=args.rotation_schedule,
                days=args.rotation_days,
                days_without=args.days_without_rotation,
            ),
            own(bindings),
        )
        self.ready = [bindings]
        self.register_outputs({})
