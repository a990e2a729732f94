"""The AWS stand-in's EKS types, with a real control plane behind them."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from sandbox import nodes
from sandbox.control_plane import ControlPlanes
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi
from sandbox.providers.aws import eks
from tests.program.cloud import Cloud, only_unchanged, running_cloud

CLUSTER = "pyairtable-test"
GROUP = "pyairtable-test-spot"
ZONES = ("us-east-1a", "us-east-1b")
VERSIONS = {"vpc-cni": "v1.22.3-eksbuild.1", "coredns": "v1.14.3-eksbuild.3"}
NODE_CONFIG = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="node"

--node
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config:
      maxPods: 110

--node--
"""


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An emulator, and whatever control planes are started in it."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        try:
            yield running
        finally:
            ControlPlanes(running.state).stop()


class Program:
    """A cluster with what belongs to it, as far as `parts` says; `changed` are other values of its properties."""

    def __init__(self, *parts: str, **changed: Any) -> None:
        self.parts = parts
        self.changed = changed

    def __call__(self, provider: aws.Provider) -> None:
        self.opts = pulumi.ResourceOptions(provider=provider)
        trust = {"Version": "2012-10-17", "Statement": []}
        self.role = aws.iam.Role("role", name="role", assume_role_policy=json.dumps(trust), opts=self.opts)
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.1.0.0/16", opts=self.opts)
        self.subnets = [
            aws.ec2.Subnet(
                f"subnet-{zone}", vpc_id=vpc.id, cidr_block=f"10.1.{i}.0/24", availability_zone=zone, opts=self.opts
            )
            for i, zone in enumerate(self.of("zones", ZONES))
        ]
        self.cluster = self._cluster()
        if "access" in self.parts:
            self._access()
        before = [self._addon("vpc-cni")] if "vpc-cni" in self.parts else []
        group = [self._node_group(before)] if "nodes" in self.parts else []
        if "coredns" in self.parts:
            self._addon("coredns", after=group)

    def of(self, key: str, default: Any) -> Any:
        """A property's value."""
        return self.changed.get(key, default)

    def _cluster(self) -> aws.eks.Cluster:
        cluster = aws.eks.Cluster(
            "cluster",
            name=CLUSTER,
            version=self.of("version", "1.36"),
            role_arn=self.role.arn,
            access_config={"authentication_mode": "API"},
            bootstrap_self_managed_addons=False,
            deletion_protection=self.of("protected", False),
            enabled_cluster_log_types=self.of("logs", ["api"]),
            upgrade_policy={"support_type": "STANDARD"},
            vpc_config={
                "subnet_ids": [subnet.id for subnet in self.subnets],
                "endpoint_private_access": True,
                "endpoint_public_access": True,
                "public_access_cidrs": self.of("cidrs", ["192.0.2.0/24"]),
            },
            opts=self.opts,
        )
        pulumi.export("group", cluster.vpc_config.cluster_security_group_id)
        return cluster

    def _access(self) -> None:
        principal = "arn:aws:iam::123456789012:role/admin"
        entry = aws.eks.AccessEntry("entry", cluster_name=self.cluster.name, principal_arn=principal, opts=self.opts)
        aws.eks.AccessPolicyAssociation(
            "policy",
            cluster_name=self.cluster.name,
            principal_arn=entry.principal_arn,
            policy_arn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
            access_scope={"type": "cluster"},
            opts=self.opts,
        )
        aws.eks.PodIdentityAssociation(
            "identity",
            cluster_name=self.cluster.name,
            namespace="kube-system",
            service_account="cluster-autoscaler",
            role_arn=self.role.arn,
            tags={"Part": "compute"},
            opts=self.opts,
        )

    def _addon(self, name: str, after: list[aws.eks.NodeGroup] | None = None) -> aws.eks.Addon:
        identity = aws.eks.AddonPodIdentityAssociationArgs(service_account="aws-node", role_arn=self.role.arn)
        return aws.eks.Addon(
            name,
            cluster_name=self.cluster.name,
            addon_name=name,
            addon_version=VERSIONS[name],
            configuration_values=json.dumps({"replicaCount": self.of("dns", 1)}) if name == "coredns" else None,
            pod_identity_associations=[identity] if name == "vpc-cni" else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=pulumi.ResourceOptions.merge(self.opts, pulumi.ResourceOptions(depends_on=after or [])),
        )

    def _node_group(self, after: list[aws.eks.Addon]) -> aws.eks.NodeGroup:
        template = aws.ec2.LaunchTemplate(
            "template",
            name="nodes",
            update_default_version=True,
            block_device_mappings=[
                {"device_name": "/dev/xvda", "ebs": {"volume_size": self.of("disk", 20), "encrypted": "true"}}
            ],
            user_data=base64.b64encode(NODE_CONFIG.encode()).decode(),
            opts=self.opts,
        )
        group = aws.eks.NodeGroup(
            "nodes",
            cluster_name=self.cluster.name,
            node_group_name=GROUP,
            node_role_arn=self.role.arn,
            subnet_ids=[subnet.id for subnet in self.subnets],
            version="1.36",
            ami_type="AL2023_x86_64_STANDARD",
            capacity_type="SPOT",
            instance_types=self.of("types", ["t3.medium", "t3a.medium"]),
            scaling_config={"min_size": 1, "desired_size": self.of("desired", 2), "max_size": self.of("max", 3)},
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            update_config={"max_unavailable": 1},
            node_repair_config={"enabled": True},
            labels=self.of("labels", {"pyairtable.io/hosts-stores": "true"}),
            opts=pulumi.ResourceOptions.merge(
                self.opts, pulumi.ResourceOptions(depends_on=after, ignore_changes=["scalingConfig.desiredSize"])
            ),
        )
        aws.autoscaling.Schedule(
            "night",
            scheduled_action_name="night",
            autoscaling_group_name=group.resources.apply(scaling_group_of),
            min_size=0,
            desired_capacity=0,
            max_size=0,
            recurrence="0 20 * * *",
            opts=self.opts,
        )
        return group


def scaling_group_of(resources: Any) -> str:
    """Name of the Auto Scaling group in a node group's output."""
    return resources[0].autoscaling_groups[0].name


WHOLE = ("access", "vpc-cni", "nodes", "coredns")


def held(cloud: Cloud) -> dict[str, int]:
    """How many of each kind the emulator and the sandbox hold."""
    ec2, scaling = cloud.client("ec2"), cloud.client("autoscaling")
    return {
        "clusters": len(cloud.client("eks").list_clusters()["clusters"]),
        "security groups": len(ec2.describe_security_groups()["SecurityGroups"]),
        "templates": len(ec2.describe_launch_templates()["LaunchTemplates"]),
        "scaling groups": len(scaling.describe_auto_scaling_groups()["AutoScalingGroups"]),
        "schedules": len(scaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"]),
        "planes": len(ControlPlanes(cloud.state).clusters()),
    }


def test_a_cluster_is_made_used_changed_and_deleted(cloud: Cloud) -> None:
    before = held(cloud)
    cloud.up("eks", Program(*WHOLE))

    plane = ControlPlanes(cloud.state).find(CLUSTER)
    assert plane is not None
    cluster = cloud.resource("eks", "cluster")["outputs"]
    assert cluster["endpoint"] == plane.url
    assert cluster["certificateAuthority"]["data"] == plane.certificate_authority
    group = cloud.client("ec2").describe_security_groups(GroupIds=[cluster["vpcConfig"]["clusterSecurityGroupId"]])
    assert group["SecurityGroups"][0]["VpcId"] == cluster["vpcConfig"]["vpcId"]

    api = KubernetesApi(plane.kubeconfig)
    first = spot_nodes(api)
    assert sorted(first.values()) == list(ZONES)
    assert {node["status"]["capacity"]["pods"] for node in api.list("v1", "Node")} == {"110"}
    identities = cloud.client("eks").list_pod_identity_associations(clusterName=CLUSTER)["associations"]
    assert sorted(one["serviceAccount"] for one in identities) == ["aws-node", "cluster-autoscaler"]
    scaling_group = cloud.resource("eks", "nodes")["outputs"]["resources"][0]["autoscalingGroups"][0]["name"]
    assert cloud.resource("eks", "night")["outputs"]["autoscalingGroupName"] == scaling_group

    # What the Cluster Autoscaler does is no change of the program's.
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=scaling_group, DesiredCapacity=3)
    assert only_unchanged(cloud.preview("eks", Program(*WHOLE)))
    cloud.refresh("eks", Program(*WHOLE))
    assert cloud.resource("eks", "nodes")["outputs"]["scalingConfig"]["desiredSize"] == 3
    assert only_unchanged(cloud.preview("eks", Program(*WHOLE)))
    provider = cloud.provider("eks")
    for resource in cloud.resources("eks"):
        if resource["type"].startswith("aws:"):
            assert provider.find(resource["urn"], resource["inputs"]) == resource["id"], resource["urn"]

    # A new version of the template replaces every node, one by one; labels and the rest change in place.
    changes = {"disk": 30, "max": 4, "labels": {"new": "label"}, "logs": ["api", "audit"], "cidrs": ["198.51.100.0/24"]}
    changed = Program(*WHOLE, **changes, dns=2)
    assert "4 updated" in cloud.up("eks", changed)
    second = spot_nodes(api)
    assert len(second) == 3
    assert not first.keys() & second.keys()
    assert all(node["metadata"]["labels"]["new"] == "label" for node in api.list("v1", "Node"))
    assert api.get("apps/v1", "Deployment", "coredns", "kube-system")["spec"]["replicas"] == 2  # pyright: ignore[reportOptionalSubscript]
    assert only_unchanged(cloud.refresh("eks", changed))
    assert only_unchanged(cloud.preview("eks", changed))

    # Protected, it stays; without, it goes and leaves nothing.
    cloud.up("eks", Program(protected=True))
    with pytest.raises(SandboxError):
        cloud.destroy("eks", Program())
    assert "deletion protection is enabled" in "\n".join(cloud.lines)
    cloud.up("eks", Program())
    cloud.destroy("eks", Program())
    assert held(cloud) == before


def test_what_eks_would_refuse_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eks, "ADDON_SECONDS", 2)
    refused(cloud, "at least two different AZs", Program(zones=(ZONES[0],)), do="up")
    assert ControlPlanes(cloud.state).clusters() == []
    cloud.up("refused", Program())
    refused(cloud, "NodeCreationFailure: Unhealthy nodes in the kubernetes cluster", Program("nodes"), do="up")
    assert cloud.client("eks").list_nodegroups(clusterName=CLUSTER)["nodegroups"] == []
    refused(cloud, "InsufficientNumberOfReplicas", Program("coredns"), do="up")
    assert cloud.client("eks").list_addons(clusterName=CLUSTER)["addons"] == []
    refused(cloud, "Unsupported Kubernetes minor version update from 1.36 to 1.38", Program(version="1.38"))
    refused(cloud, "Kubernetes 1.36 only, not of 1.37", Program(version="1.37"))
    refused(cloud, "does not know the instance type t9.huge", Program("nodes", types=["t9.huge"]))
    refused(cloud, "[t4g.large] is not a valid instance type", Program("nodes", types=["t4g.large"]))
    refused(cloud, "desired size 2 is not between", Program("nodes", max=1))
    cloud.destroy("refused", Program())


def refused(cloud: Cloud, message: str, program: Program, do: str = "preview") -> None:
    """Hold what a program is refused for against a message."""
    with pytest.raises(SandboxError):
        getattr(cloud, do)("refused", program)
    assert message in "\n".join(cloud.lines)


def spot_nodes(api: KubernetesApi) -> dict[str, str]:
    """Zones of the group's nodes, by name."""
    found = api.list("v1", "Node", label_selector=f"{nodes.GROUP_LABEL}={GROUP},{nodes.CAPACITY_LABEL}=SPOT")
    return {nodes.name_of(node): node["metadata"]["labels"][nodes.ZONE_LABEL] for node in found}
