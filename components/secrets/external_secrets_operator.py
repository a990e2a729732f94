"""ExternalSecretsOperator: the controller that copies from Secrets Manager into the cluster, and its AWS identity."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.secrets.key_use import use_key
from components.shared.manifests import NAMESPACE, pod_security_labels
from components.shared.pod_role import pod_identity
from components.shared.policies import allow
from infra.naming import PROJECT, Names
from infra.phases import Phase

OPERATOR_NAMESPACE = "external-secrets-system"
CHART = "external-secrets"
CHART_VERSION = "0.20.4"
"""The newest whose controller can be built, and so tried, in the sandbox."""
REPOSITORY = "https://charts.external-secrets.io"

NOTHING_ELSE = {
    # They serve only kinds that are turned off here, or convert versions of the API that nothing here uses.
    "webhook": {"create": False},
    "certController": {"create": False},
}


@dataclass(frozen=True, kw_only=True)
class ExternalSecretsOperatorArgs:
    """Whose secrets the operator may read."""

    names: Names
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    key_arn: pulumi.Input[str] | None


class ExternalSecretsOperator(pulumi.ComponentResource):
    """Namespace `external-secrets-system`, CRDs and controller as a Helm release each, and its identity."""

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: ExternalSecretsOperatorArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:secrets:ExternalSecretsOperator", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": OPERATOR_NAMESPACE, "labels": pod_security_labels()},
            opts=child,
        )
        definitions = kubernetes.helm.v3.Release(
            f"{name}-crds",
            name=f"{CHART}-crds",
            namespace=OPERATOR_NAMESPACE,
            chart=CHART,
            version=CHART_VERSION,
            repository_opts={"repo": REPOSITORY},
            values={
                **NOTHING_ELSE,
                "createOperator": False,
                "installCRDs": True,
                "crds": {
                    "createClusterExternalSecret": False,
                    "createClusterGenerator": False,
                    "createClusterPushSecret": False,
                    "createClusterSecretStore": False,
                    "createPushSecret": False,
                },
                "rbac": {"create": False},
                "serviceAccount": {"create": False},
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
        )
        identity = self._identity(name, args)
        operator = kubernetes.helm.v3.Release(
            f"{name}-controller",
            name=CHART,
            namespace=OPERATOR_NAMESPACE,
            chart=CHART,
            version=CHART_VERSION,
            repository_opts={"repo": REPOSITORY},
            values={
                **NOTHING_ELSE,
                "fullnameOverride": CHART,
                "installCRDs": False,
                # One namespace, and a role in it rather than in the cluster.
                "scopedNamespace": NAMESPACE,
                "scopedRBAC": True,
                "processClusterExternalSecret": False,
                "processClusterPushSecret": False,
                "processClusterStore": False,
                "processPushSecret": False,
                "serviceAccount": {"create": True, "name": CHART},
                "resources": {
                    "requests": {"cpu": "20m", "memory": "128Mi"},
                    "limits": {"cpu": "200m", "memory": "128Mi"},
                },
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[definitions, identity]),
        )
        self.ready = [operator]
        self.register_outputs({})

    def _identity(self, name: str, args: ExternalSecretsOperatorArgs) -> aws.eks.PodIdentityAssociation:
        own = f"arn:aws:secretsmanager:{args.region}:{args.account_id}:secret:{PROJECT}/{args.names.stack}/*"
        statements = [allow("ReadOwnSecrets", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own)]
        if args.key_arn is not None:
            statements.append(use_key("DecryptThem", ["kms:Decrypt"], args.key_arn, args.region))
        return pod_identity(
            name,
            names=args.names,
            phase=Phase.SECRETS,
            suffix="external-secrets",
            purpose=f"Lets External Secrets read the secrets of {args.names.prefix}",
            cluster_name=args.cluster_name,
            namespace=OPERATOR_NAMESPACE,
            service_account=CHART,
            statements=statements,
            parent=self,
        )
