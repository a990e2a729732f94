"""Cluster: the EKS control plane of one stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from components.compute.tags import TAGS
from components.shared.keys import own_key
from infra.naming import Names
from infra.phases import Phase

KUBE_PROXY_VERSION = "v1.36.0-eksbuild.13"
LOG_TYPES = ("api", "audit", "authenticator")
LOG_RETENTION_DAYS = 30
ACCESS_POLICIES: Mapping[str, str] = {
    "admin": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
    "view": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
}
"""`view` does not show Secrets. https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html"""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What one principal may do with the Kubernetes API."""

    principal_arn: str
    access: Literal["admin", "view"]


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """Where the control plane is, who reaches it, and how it is kept."""

    names: Names
    version: str
    vpc_id: pulumi.Input[str]
    subnet_ids: list[pulumi.Output[str]]
    """In two zones at least."""
    public_access_cidrs: tuple[str, ...]
    access: Mapping[str, Access]
    logs: bool
    encrypt_secrets_with_own_key: bool
    protect: bool


class Cluster(pulumi.ComponentResource):
    """EKS control plane with kube-proxy; it gets no CoreDNS and no CNI, whose place in the order is elsewhere."""

    name: str
    made_name: pulumi.Output[str]
    """The name, known once the cluster exists; for what waits for it alone, and not for the whole component."""
    kubeconfig: pulumi.Output[str]
    """Secret; JSON."""
    security_group_id: pulumi.Output[str]
    """The group of control plane and nodes: they reach each other, and nothing else reaches them."""

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Cluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.name = args.names.prefix

        key = self._key(name, args) if args.encrypt_secrets_with_own_key else None
        logs = self._log_group(name, args, child) if args.logs else None
        cluster = eks.Cluster(
            f"{name}-cluster",
            name=self.name,
            version=args.version,
            vpc_id=args.vpc_id,
            subnet_ids=args.subnet_ids,
            authentication_mode=eks.AuthenticationMode.API,
            endpoint_private_access=True,
            endpoint_public_access=bool(args.public_access_cidrs),
            public_access_cidrs=list(args.public_access_cidrs) or None,
            enabled_cluster_log_types=list(LOG_TYPES) if args.logs else None,
            encryption_config_key_arn=key.arn if key else None,
            # Extended support costs six times as much, and is the default.
            upgrade_policy={"support_type": "STANDARD"},
            deletion_protection=args.protect,
            skip_default_node_group=True,
            skip_default_security_groups=True,
            create_oidc_provider=False,
            bootstrap_self_managed_addons=False,
            use_default_vpc_cni=True,
            coredns_addon_options={"enabled": False},
            kube_proxy_addon_options={"version": KUBE_PROXY_VERSION},
            provider_credential_opts={},
            tags={**TAGS, **args.names.default_tags},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs] if logs else [], protect=args.protect),
        )
        self.kubeconfig = pulumi.Output.secret(cluster.kubeconfig_json)
        self.security_group_id = cluster.cluster_security_group_id
        # Not through the kubeconfig, which would make a secret of the name.
        self.made_name = self.security_group_id.apply(lambda _: self.name)
        self._admit(name, args.access)
        self.register_outputs({"name": self.name, "kubeconfig": self.kubeconfig})

    def _admit(self, name: str, access: Mapping[str, Access]) -> None:
        """Not through the component, whose protection they would inherit: access has to be easy to take away."""
        for key, entry in access.items():
            admitted = aws.eks.AccessEntry(
                f"{name}-access-{key}",
                cluster_name=self.made_name,
                principal_arn=entry.principal_arn,
                tags=TAGS,
                opts=pulumi.ResourceOptions(parent=self),
            )
            aws.eks.AccessPolicyAssociation(
                f"{name}-access-{key}-{entry.access}",
                cluster_name=self.made_name,
                principal_arn=admitted.principal_arn,
                policy_arn=ACCESS_POLICIES[entry.access],
                access_scope={"type": "cluster"},
                opts=pulumi.ResourceOptions(parent=self),
            )

    def _key(self, name: str, args: ClusterArgs) -> aws.kms.Key:
        """The key that the API server's Secrets are encrypted with, on top of the disk's encryption."""
        return own_key(
            name,
            names=args.names,
            phase=Phase.COMPUTE,
            alias="eks",
            description=f"Encrypts the Kubernetes Secrets of {args.names.prefix}",
            deletion_days=30,
            protect=args.protect,
            parent=self,
        )

    def _log_group(self, name: str, args: ClusterArgs, child: pulumi.ResourceOptions) -> aws.cloudwatch.LogGroup:
        """Made before the cluster, which would otherwise make one that keeps everything for ever."""
        return aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/eks/{args.names.prefix}/cluster",
            retention_in_days=LOG_RETENTION_DAYS,
            tags=TAGS,
            opts=child,
        )
