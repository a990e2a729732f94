"""NodeGroup: EC2 instances that join the cluster, all spot or all on-demand."""

import base64
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_aws as aws

from components.compute.tags import TAGS
from components.shared.stores import STORES_LABEL
from infra.naming import Names

ROOT_DISK_GIB = 20
"""An AL2023 node's image takes 4 GiB; the rest is container images and logs."""
MAX_PODS = 110
"""With prefix delegation a node has addresses for more; 110 is what Kubernetes recommends for small ones."""
MAX_UNAVAILABLE = 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the group is scaled to nothing and back; cron in the given time zone."""

    stop: str
    start: str
    time_zone: str


@dataclass(frozen=True, kw_only=True)
class NodeGroupPlan:
    """Size and kind of one group, as the config describes it. Sizes in nodes."""

    name: str
    capacity_type: Literal["spot", "on-demand"]
    instance_types: tuple[str, ...]
    architecture: Literal["amd64", "arm64"]
    burstable: bool
    min_size: int
    desired_size: int
    max_size: int
    hosts_stores: bool


@dataclass(frozen=True, kw_only=True)
class NodeGroupArgs:
    """One group, and the cluster and network that it joins."""

    names: Names
    plan: NodeGroupPlan
    cluster_name: pulumi.Input[str]
    kubernetes_version: str
    role_arn: pulumi.Input[str]
    subnet_ids: list[pulumi.Output[str]]
    public_addresses: bool
    schedule: Schedule | None


class NodeGroup(pulumi.ComponentResource):
    """Launch template and managed node group, and the schedule that stops it at night."""

    name: str
    resource: aws.eks.NodeGroup
    autoscaling_group: pulumi.Output[str]

    def __init__(self, name: str, args: NodeGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:NodeGroup", name, None, opts)
        child, plan = pulumi.ResourceOptions(parent=self), args.plan
        # With the kind of capacity in it: the dashboard tells spot nodes by their group's name.
        self.name = args.names.of(f"{plan.capacity_type}-{plan.name}")

        template = self._launch_template(name, args, child)
        self.resource = aws.eks.NodeGroup(
            f"{name}-group",
            cluster_name=args.cluster_name,
            node_group_name=self.name,
            node_role_arn=args.role_arn,
            subnet_ids=args.subnet_ids,
            version=args.kubernetes_version,
            ami_type="AL2023_ARM_64_STANDARD" if plan.architecture == "arm64" else "AL2023_x86_64_STANDARD",
            capacity_type="SPOT" if plan.capacity_type == "spot" else "ON_DEMAND",
            instance_types=list(plan.instance_types),
            scaling_config={
                "min_size": plan.min_size,
                "desired_size": plan.desired_size,
                "max_size": plan.max_size,
            },
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            update_config={"max_unavailable": MAX_UNAVAILABLE},
            node_repair_config={"enabled": True},
            labels={STORES_LABEL: "true"} if plan.hosts_stores else None,
            tags={**TAGS, "PublicAddress": str(args.public_addresses).lower()},
            # The Cluster Autoscaler owns the number of nodes.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["scalingConfig.desiredSize"]),
        )
        self.autoscaling_group = self.resource.resources.apply(
            lambda resources: (resources[0].autoscaling_groups or [])[0].name or ""
        )
        if args.schedule:
            self._schedule(name, args, args.schedule)
        self.register_outputs({"autoscaling_group": self.autoscaling_group})

    def _launch_template(self, name: str, args: NodeGroupArgs, child: pulumi.ResourceOptions) -> aws.ec2.LaunchTemplate:
        instance_tags = {**args.names.default_tags, **TAGS, "Name": self.name}
        return aws.ec2.LaunchTemplate(
            f"{name}-launch-template",
            name=self.name,
            update_default_version=True,
            # One hop: containers cannot take the node's identity through the metadata service.
            metadata_options={"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1},
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "volume_size": ROOT_DISK_GIB,
                        "volume_type": "gp3",
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            # Unlimited credits, the default for T3, bill every sustained burst; these bound the bill instead.
            credit_specification={"cpu_credits": "standard"} if args.plan.burstable else None,
            # Tags of the node group do not reach its instances and their disks, and the budget counts by tag.
            tag_specifications=[{"resource_type": kind, "tags": instance_tags} for kind in ("instance", "volume")],
            user_data=base64.b64encode(node_config().encode()).decode(),
            tags=TAGS,
            opts=child,
        )

    def _schedule(self, name: str, args: NodeGroupArgs, schedule: Schedule) -> None:
        sizes = {"stop": (0, 0, 0), "start": (args.plan.min_size, args.plan.desired_size, args.plan.max_size)}
        for action, recurrence in (("stop", schedule.stop), ("start", schedule.start)):
            least, desired, most = sizes[action]
            aws.autoscaling.Schedule(
                f"{name}-{action}",
                scheduled_action_name=f"{self.name}-{action}",
                autoscaling_group_name=self.autoscaling_group,
                recurrence=recurrence,
                time_zone=schedule.time_zone,
                # A maximum of 0 as well, or the autoscaler would bring the pending pods a node.
                min_size=least,
                desired_capacity=desired,
                max_size=most,
                opts=pulumi.ResourceOptions(parent=self),
            )


def node_config() -> str:
    """User data of an AL2023 node: how many pods it takes, which it does not conclude from prefix delegation itself."""
    return f"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="node"

--node
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config:
      maxPods: {MAX_PODS}

--node--
"""
