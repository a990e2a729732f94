"""Managed node groups of EKS, with an Auto Scaling group each, and nodes in the cluster's control plane."""

import base64
import email
from collections.abc import Mapping
from typing import Any

import yaml

from cost.instance_types import INSTANCE_TYPES
from sandbox import nodes
from sandbox.control_plane import KUBERNETES_VERSION
from sandbox.providers.aws.eks import NOT_FOUND, EksHandler
from sandbox.providers.aws.handler import absent
from sandbox.providers.aws.paths import at
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties, is_unknown

NODE_CONFIG = "application/node.eks.aws"
ARCHITECTURES = {"AL2023_x86_64_STANDARD": "amd64", "AL2023_ARM_64_STANDARD": "arm64"}
DEFAULT_DISK_GIB = 20
ONE_BY_ONE = {"maxUnavailable": 1}
VERSIONS = ("version", "releaseVersion", "launchTemplate")
"""What nodes are made from: when one of these changes they are replaced."""


class NodeGroup(EksHandler):
    """aws:eks/nodeGroup:NodeGroup; the id is `cluster:group`. Its Auto Scaling group tells its size."""

    type = "aws:eks/nodeGroup:NodeGroup"
    supported = frozenset(
        {
            "amiType",
            "capacityType",
            "clusterName",
            "diskSize",
            "forceUpdateVersion",
            "instanceTypes",
            "labels",
            "launchTemplate",
            "nodeGroupName",
            "nodeRepairConfig",
            "nodeRoleArn",
            "releaseVersion",
            "scalingConfig",
            "subnetIds",
            "taints",
            "updateConfig",
            "version",
        }
    )
    replace_on = frozenset(
        {
            "amiType",
            "capacityType",
            "clusterName",
            "diskSize",
            "instanceTypes",
            "launchTemplate.id",
            "launchTemplate.name",
            "nodeGroupName",
            "nodeRoleArn",
            "subnetIds",
        }
    )
    computed = (
        "amiType",
        "arn",
        "capacityType",
        "diskSize",
        "instanceTypes",
        "nodeRepairConfig",
        "releaseVersion",
        "resources",
        "status",
        "updateConfig",
        "version",
    )
    # The emulator keeps them as they were when the group was made, or not at all.
    unreported = frozenset(
        {"forceUpdateVersion", "labels", "launchTemplate", "nodeRepairConfig", "taints", "updateConfig", "version"}
    )
    name = "nodeGroupName"

    def create(self, inputs: Properties) -> str:
        _require_known(inputs)
        self.send(
            "create_nodegroup",
            **{key: inputs.get(key) for key in self.supported - {"forceUpdateVersion", "nodeRoleArn", "subnetIds"}},
            nodeRole=inputs["nodeRoleArn"],
            subnets=inputs["subnetIds"],
        )
        return f"{inputs['clusterName']}:{inputs['nodeGroupName']}"

    def configure(self, id: str, inputs: Properties) -> None:
        cluster, group = inputs["clusterName"], inputs["nodeGroupName"]
        described = self.client.describe_nodegroup(clusterName=cluster, nodegroupName=group)["nodegroup"]
        scaling = inputs["scalingConfig"]
        if scaling["desiredSize"] and "vpc-cni" not in self.client.list_addons(clusterName=cluster)["addons"]:
            raise ProviderError(
                f"waiting for EKS Node Group ({id}) create: unexpected state 'CREATE_FAILED', wanted target 'ACTIVE'. "
                "last error: NodeCreationFailure: Unhealthy nodes in the kubernetes cluster (without the add-on "
                "vpc-cni no node becomes Ready; make it before the node group)"
            )
        self._make_autoscaling_group(_autoscaling_group(described), inputs)
        nodes.settle(self.running_plane(cluster), self._group(inputs, scaling["desiredSize"]))

    def read(self, id: str, inputs: Properties) -> Properties | None:
        cluster, _, name = id.partition(":")
        answer = absent(lambda: self.client.describe_nodegroup(clusterName=cluster, nodegroupName=name), NOT_FOUND)
        if answer is None:
            return None
        group = answer["nodegroup"]
        autoscaling_group = _autoscaling_group(group)
        told = {
            "updateConfig": ONE_BY_ONE,
            "nodeRepairConfig": {"enabled": False},
            **self.known_as(group),
            "arn": group["nodegroupArn"],
            "nodeGroupName": name,
            "nodeRoleArn": group["nodeRole"],
            "subnetIds": group["subnets"],
            "resources": [{"autoscalingGroups": [{"name": autoscaling_group}], "remoteAccessSecurityGroupId": ""}],
            "scalingConfig": self._sizes(autoscaling_group) or group["scalingConfig"],
        }
        return self.with_unreported(told, inputs)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        _require_known(new)
        cluster, name = new["clusterName"], new["nodeGroupName"]
        itself = {"clusterName": cluster, "nodegroupName": name}
        are_outdated = any(key in new and old.get(key) != new[key] for key in VERSIONS)
        # The emulator has no answer to either request.
        if are_outdated:
            self.aws.dry_run(
                lambda: self.send("update_nodegroup_version", **itself, **{key: new.get(key) for key in VERSIONS})
            )
        self.aws.dry_run(lambda: self.send("update_nodegroup_config", **itself, **_config_change(old, new)))
        autoscaling_group = _autoscaling_group(self.client.describe_nodegroup(**itself)["nodegroup"])
        if old["scalingConfig"] != new["scalingConfig"]:
            self._scale(autoscaling_group, new)
        api = self.running_plane(cluster)
        # Somebody else may have scaled the group, and the program may have been told to leave that alone.
        sizes = self._sizes(autoscaling_group) or new["scalingConfig"]
        nodes.settle(api, self._group(new, sizes["desiredSize"]))
        if are_outdated:
            for node in api.list("v1", "Node", label_selector=f"{nodes.GROUP_LABEL}={name}"):
                nodes.interrupt(api, nodes.name_of(node))

    def delete(self, id: str, state: Properties) -> None:
        cluster, _, name = id.partition(":")
        api = self.plane_if_any(cluster)
        if api:
            nodes.remove_group(api, name)
        itself = {"clusterName": cluster, "nodegroupName": name}
        self._delete_autoscaling_group(_autoscaling_group(self.client.describe_nodegroup(**itself)["nodegroup"]))
        self.client.delete_nodegroup(**itself)

    def find(self, inputs: Properties) -> str | None:
        id = self.find_by_read(f"{inputs['clusterName']}:{inputs['nodeGroupName']}")
        return self.completed(id, inputs) if id else None

    def _group(self, inputs: Properties, desired: int) -> nodes.NodeGroup:
        template = self._template(inputs)
        disks = [disk["Ebs"] for disk in template.get("BlockDeviceMappings", []) if "VolumeSize" in disk.get("Ebs", {})]
        types = _types(inputs)
        return nodes.NodeGroup(
            cluster=inputs["clusterName"],
            name=inputs["nodeGroupName"],
            capacity_type=inputs.get("capacityType", "ON_DEMAND"),
            instance_types=types,
            zones=self._zones(inputs["subnetIds"]),
            desired=desired,
            labels=inputs.get("labels", {}),
            taints=tuple(inputs.get("taints", ())),
            # Without a word in its user data a node takes as many pods as it has addresses without prefixes.
            max_pods=_max_pods(template) or min(INSTANCE_TYPES[type].pod_limit for type in types),
            disk_gib=disks[0]["VolumeSize"] if disks else inputs.get("diskSize", DEFAULT_DISK_GIB),
        )

    def _template(self, inputs: Properties) -> dict[str, Any]:
        asked = inputs.get("launchTemplate")
        if not asked:
            return {}
        itself = {f"LaunchTemplate{key.capitalize()}": asked[key] for key in ("id", "name") if key in asked}
        answer = self.aws.client("ec2").describe_launch_template_versions(**itself, Versions=[asked["version"]])
        if not answer["LaunchTemplateVersions"]:
            raise ProviderError(
                f"InvalidRequestException: launch template {asked} does not exist in the version {asked['version']}"
            )
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    def _zones(self, subnet_ids: list[str]) -> tuple[str, ...]:
        subnets = self.aws.client("ec2").describe_subnets(SubnetIds=subnet_ids)["Subnets"]
        zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in subnets}
        return tuple(dict.fromkeys(zones[id] for id in subnet_ids))

    def _make_autoscaling_group(self, name: str, inputs: Properties) -> None:
        """What EKS makes of a node group, with the tags by which the Cluster Autoscaler finds it."""
        if self._sizes(name):
            return
        cluster = inputs["clusterName"]
        tags = {
            "eks:cluster-name": cluster,
            "eks:nodegroup-name": inputs["nodeGroupName"],
            "k8s.io/cluster-autoscaler/enabled": "true",
            f"k8s.io/cluster-autoscaler/{cluster}": "owned",
            f"kubernetes.io/cluster/{cluster}": "owned",
        }
        self.aws.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            **_size_parameters(inputs),
            AvailabilityZones=list(self._zones(inputs["subnetIds"])),
            VPCZoneIdentifier=",".join(inputs["subnetIds"]),
            Tags=[
                {
                    "ResourceId": name,
                    "ResourceType": "auto-scaling-group",
                    "Key": key,
                    "Value": value,
                    "PropagateAtLaunch": True,
                }
                for key, value in tags.items()
            ],
        )

    def _scale(self, name: str, inputs: Properties) -> None:
        self.aws.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=name, **_size_parameters(inputs))

    def _sizes(self, name: str) -> Properties | None:
        found = self.aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        for group in found["AutoScalingGroups"]:
            return {
                "minSize": group["MinSize"],
                "maxSize": group["MaxSize"],
                "desiredSize": group["DesiredCapacity"],
            }
        return None

    def _delete_autoscaling_group(self, name: str) -> None:
        client = self.aws.client("autoscaling")
        # The emulator would keep its scheduled actions.
        for action in client.describe_scheduled_actions(AutoScalingGroupName=name)["ScheduledUpdateGroupActions"]:
            client.delete_scheduled_action(AutoScalingGroupName=name, ScheduledActionName=action["ScheduledActionName"])
        client.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def _autoscaling_group(described: Mapping[str, Any]) -> str:
    """The name of the Auto Scaling group, which the emulator makes up and does not make."""
    return described["resources"]["autoScalingGroups"][0]["name"]


def _size_parameters(inputs: Properties) -> dict[str, int]:
    sizes = inputs["scalingConfig"]
    return {"MinSize": sizes["minSize"], "MaxSize": sizes["maxSize"], "DesiredCapacity": sizes["desiredSize"]}


def _types(inputs: Properties) -> tuple[str, ...]:
    return tuple(inputs.get("instanceTypes") or ("t3.medium",))


def _require_known(inputs: Properties) -> None:
    """Refuse what EKS would refuse before it makes anything, and what the sandbox has no figures for."""
    version = inputs.get("version", KUBERNETES_VERSION)
    if not is_unknown(version) and version != KUBERNETES_VERSION:
        raise ProviderError(
            f"InvalidParameterException: Requested Nodegroup version {version} is not the cluster's, which is "
            f"{KUBERNETES_VERSION} in the sandbox"
        )
    sizes = inputs["scalingConfig"]
    if not is_unknown(sizes) and not sizes["minSize"] <= sizes["desiredSize"] <= sizes["maxSize"]:
        raise ProviderError(
            f"InvalidParameterException: desired size {sizes['desiredSize']} is not between the minimum, "
            f"{sizes['minSize']}, and the maximum, {sizes['maxSize']}"
        )
    ami_type = inputs.get("amiType", "AL2023_x86_64_STANDARD")
    if is_unknown([ami_type, inputs.get("instanceTypes")]):
        return
    for type in _types(inputs):
        if type not in INSTANCE_TYPES:
            raise ProviderError(
                f"the sandbox does not know the instance type {type}; if EC2 has it, add it to cost/instance_types.toml"
            )
        if INSTANCE_TYPES[type].architecture != ARCHITECTURES.get(ami_type):
            raise ProviderError(
                f"InvalidParameterException: [{type}] is not a valid instance type for requested amiType {ami_type}"
            )


def _config_change(old: Properties, new: Properties) -> Properties:
    labels, taints = new.get("labels", {}), new.get("taints", [])
    return {
        "scalingConfig": new["scalingConfig"] if old["scalingConfig"] != new["scalingConfig"] else None,
        "labels": {"addOrUpdateLabels": labels, "removeLabels": sorted(old.get("labels", {}).keys() - labels.keys())},
        "taints": {
            "addOrUpdateTaints": taints,
            "removeTaints": [taint for taint in old.get("taints", []) if taint not in taints],
        },
        **{key: new.get(key) for key in ("updateConfig", "nodeRepairConfig")},
    }


def _max_pods(template: Mapping[str, Any]) -> int | None:
    """The kubelet's limit in the NodeConfig of a launch template's user data, if there is one."""
    message = email.message_from_bytes(base64.b64decode(template.get("UserData", "")))
    for part in message.walk():
        if part.get_content_type() == NODE_CONFIG:
            for config in yaml.safe_load_all(str(part.get_payload())):
                found = at(config or {}, "spec.kubelet.config.maxPods")
                if found is not None:
                    return found
    return None
