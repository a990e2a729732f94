"""Addons: what makes a cluster of the control plane and the nodes; some come before the nodes, some after."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.compute.tags import TAGS
from components.shared.pod_role import PodRole, pod_identity
from components.shared.policies import allow
from infra.naming import Names
from infra.phases import Phase

VERSIONS: Mapping[str, str] = {
    "vpc-cni": "v1.22.3-eksbuild.1",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
    "coredns": "v1.14.3-eksbuild.3",
    "aws-ebs-csi-driver": "v1.63.1-eksbuild.1",
    "metrics-server": "v0.8.1-eksbuild.10",
}
"""Versions that EKS offers for Kubernetes 1.36: `aws eks describe-addon-versions --kubernetes-version 1.36`."""

AUTOSCALER_CHART_VERSION = "9.59.1"
AUTOSCALER_IMAGE_TAG = "v1.36.1"
"""The chart trails Kubernetes; the autoscaler's minor version should be the cluster's."""
SYSTEM_NAMESPACE = "kube-system"


@dataclass(frozen=True, kw_only=True)
class NodelessAddonsArgs:
    """The cluster whose nodes are still to come."""

    names: Names
    cluster_name: pulumi.Input[str]


class NodelessAddons(pulumi.ComponentResource):
    """Add-ons without which a node never becomes Ready: VPC CNI, and the agent that gives it its identity."""

    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: NodelessAddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:NodelessAddons", name, None, opts)
        agent = _addon(f"{name}-pod-identity", self, args.cluster_name, "eks-pod-identity-agent")
        role = PodRole(
            f"{name}-vpc-cni-role",
            names=args.names,
            phase=Phase.COMPUTE,
            suffix="vpc-cni",
            purpose=f"Lets the CNI of {args.names.prefix} manage network interfaces",
            namespace=SYSTEM_NAMESPACE,
            service_account="aws-node",
            managed_policy="arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",
            opts=pulumi.ResourceOptions(parent=self),
        )
        cni = _addon(
            f"{name}-vpc-cni",
            self,
            args.cluster_name,
            "vpc-cni",
            configuration={
                "enableNetworkPolicy": "true",
                # A /28 prefix for each slot of an address: a medium node otherwise ends at 17 pods.
                "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
            },
            role=role,
        )
        self.ready = [agent, cni]
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class AddonsArgs:
    """The cluster, its disks, and how many replicas its add-ons have."""

    names: Names
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    replicas: int
    """Of CoreDNS and the disk controller: 2 where more than one node runs."""


class Addons(pulumi.ComponentResource):
    """Add-ons that need a node: CoreDNS, EBS CSI, metrics-server, Cluster Autoscaler."""

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: AddonsArgs,
        kubernetes_provider: kubernetes.Provider,
        nodes: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:compute:Addons", name, None, opts)
        self._name, self._args, self._nodes = name, args, nodes
        dns = _addon(
            f"{name}-coredns",
            self,
            args.cluster_name,
            "coredns",
            configuration={"replicaCount": args.replicas},
            after=nodes,
        )
        metrics = _addon(
            f"{name}-metrics-server",
            self,
            args.cluster_name,
            "metrics-server",
            configuration={"replicas": 1},
            after=nodes,
        )
        self.ready = [dns, self._disks(), metrics, self._autoscaler(kubernetes_provider)]
        self.register_outputs({})

    def _disks(self) -> pulumi.Resource:
        args = self._args
        role = PodRole(
            f"{self._name}-ebs-csi-role",
            names=args.names,
            phase=Phase.COMPUTE,
            suffix="ebs-csi",
            purpose=f"Lets the disk driver of {args.names.prefix} attach the stack's own volumes",
            namespace=SYSTEM_NAMESPACE,
            service_account="ebs-csi-controller-sa",
            statements=_attach_own_volumes(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return _addon(
            f"{self._name}-ebs-csi",
            self,
            args.cluster_name,
            "aws-ebs-csi-driver",
            configuration={"controller": {"replicaCount": args.replicas}},
            role=role,
            after=self._nodes,
        )

    def _autoscaler(self, provider: kubernetes.Provider) -> pulumi.Resource:
        args = self._args
        identity = pod_identity(
            f"{self._name}-autoscaler",
            names=args.names,
            phase=Phase.COMPUTE,
            suffix="cluster-autoscaler",
            purpose=f"Lets the Cluster Autoscaler of {args.names.prefix} size its own node groups",
            cluster_name=args.cluster_name,
            namespace=SYSTEM_NAMESPACE,
            service_account="cluster-autoscaler",
            statements=_scale_own_groups(args),
            parent=self,
        )
        return kubernetes.helm.v3.Release(
            f"{self._name}-autoscaler",
            name="cluster-autoscaler",
            namespace=SYSTEM_NAMESPACE,
            chart="cluster-autoscaler",
            version=AUTOSCALER_CHART_VERSION,
            repository_opts={"repo": "https://kubernetes.github.io/autoscaler"},
            values={
                "autoDiscovery": {"clusterName": args.names.prefix},
                "awsRegion": args.region,
                "fullnameOverride": "cluster-autoscaler",
                "image": {"tag": AUTOSCALER_IMAGE_TAG},
                "rbac": {"serviceAccount": {"name": "cluster-autoscaler"}},
                "extraArgs": {
                    "balance-similar-node-groups": True,
                    # Every pod here has scratch space on its node: by default none of their nodes would ever go again.
                    "skip-nodes-with-local-storage": False,
                    "skip-nodes-with-system-pods": False,
                    "expander": "least-waste",
                },
                "resources": {
                    "requests": {"cpu": "100m", "memory": "300Mi"},
                    "limits": {"cpu": "500m", "memory": "300Mi"},
                },
            },
            opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[identity, *self._nodes]),
        )


def _addon(
    resource_name: str,
    parent: pulumi.Resource,
    cluster_name: pulumi.Input[str],
    addon: str,
    *,
    configuration: Mapping[str, Any] | None = None,
    role: PodRole | None = None,
    after: Sequence[pulumi.Resource] = (),
) -> aws.eks.Addon:
    """An EKS add-on at its pinned version; `role` is what its service account gets."""
    return aws.eks.Addon(
        resource_name,
        cluster_name=cluster_name,
        addon_name=addon,
        addon_version=VERSIONS[addon],
        configuration_values=json.dumps(configuration, sort_keys=True) if configuration else None,
        pod_identity_associations=[{"service_account": role.service_account, "role_arn": role.arn}] if role else None,
        resolve_conflicts_on_create="OVERWRITE",
        resolve_conflicts_on_update="OVERWRITE",
        tags=TAGS,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
    )


def _attach_own_volumes(args: AddonsArgs) -> list[Mapping[str, Any]]:
    """What static volumes take: the driver neither makes nor deletes one."""
    ec2 = f"arn:aws:ec2:{args.region}:{args.account_id}"
    own = {"StringEquals": {"aws:ResourceTag/Stack": args.names.stack}}
    return [
        allow(
            "FindVolumes",
            [
                "ec2:DescribeAvailabilityZones",
                "ec2:DescribeInstances",
                "ec2:DescribeTags",
                "ec2:DescribeVolumes",
                "ec2:DescribeVolumesModifications",
                "ec2:DescribeVolumeStatus",
            ],
        ),
        allow(
            "AttachOwnVolumes",
            ["ec2:AttachVolume", "ec2:DetachVolume"],
            [f"{ec2}:volume/*", f"{ec2}:instance/*"],
            own,
        ),
        allow("GrowOwnVolumes", ["ec2:ModifyVolume"], f"{ec2}:volume/*", own),
    ]


def _scale_own_groups(args: AddonsArgs) -> list[Mapping[str, Any]]:
    """What the autoscaler's own documentation lists for AWS, changes limited to the cluster's groups."""
    return [
        allow(
            "FindGroups",
            [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeAutoScalingInstances",
                "autoscaling:DescribeLaunchConfigurations",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeImages",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:GetInstanceTypesFromInstanceRequirements",
            ],
        ),
        allow(
            "FindOwnNodeGroups",
            ["eks:DescribeNodegroup"],
            f"arn:aws:eks:{args.region}:{args.account_id}:nodegroup/{args.names.prefix}/*",
        ),
        allow(
            "ScaleOwnGroups",
            ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"],
            f"arn:aws:autoscaling:{args.region}:{args.account_id}:autoScalingGroup:*",
            {"StringEquals": {"aws:ResourceTag/eks:cluster-name": args.names.prefix}},
        ),
    ]
