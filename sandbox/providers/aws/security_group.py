"""EC2's security groups and their rules."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox.providers.aws.ec2 import Ec2Resource
from sandbox.providers.aws.handler import without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

EVERYTHING = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ALL_PROTOCOLS = "-1"


class SecurityGroup(Ec2Resource):
    """aws:ec2/securityGroup:SecurityGroup, whose rules are resources of their own; it starts without any."""

    type = "aws:ec2/securityGroup:SecurityGroup"
    supported = frozenset({"name", "description", "vpcId"})
    replace_on = supported
    defaults: ClassVar[Properties] = {"description": "Managed by Pulumi"}
    computed = ("arn", "ownerId", "vpcId")
    name = "name"
    noun = "security-group"
    listing = ("describe_security_groups", "SecurityGroups")
    id_name = "GroupId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_security_group",
            groupName=inputs["name"],
            description=inputs.get("description", self.defaults["description"]),
            vpcId=inputs.get("vpcId"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["GroupId"]

    def configure(self, id: str, inputs: Properties) -> None:
        # As the official provider does: what AWS allows of its own accord goes.
        self.client.revoke_security_group_egress(GroupId=id, IpPermissions=[EVERYTHING])

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {**self.known_as(item), "arn": self.arn(item["GroupId"]), "name": item["GroupName"]}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a security group is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_security_group(GroupId=id)


class DefaultSecurityGroup(Ec2Resource):
    """aws:ec2/defaultSecurityGroup:DefaultSecurityGroup of a VPC, emptied of its rules; it goes when the VPC goes."""

    type = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
    supported = frozenset({"vpcId", "ingress", "egress"})
    replace_on = frozenset({"vpcId"})
    computed = ("arn", "ownerId", "name", "description")
    noun = "security-group"
    listing = ("describe_security_groups", "SecurityGroups")
    id_name = "GroupId"

    def create(self, inputs: Properties) -> str:
        if inputs.get("ingress") or inputs.get("egress"):
            raise ProviderError("the stand-in's default security groups have no rules")
        filters = [{"Name": "vpc-id", "Values": [inputs["vpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
        return self.items(Filters=filters)[0]["GroupId"]

    def configure(self, id: str, inputs: Properties) -> None:
        group = self.client.describe_security_groups(GroupIds=[id])["SecurityGroups"][0]
        for revoke, key in (
            (self.client.revoke_security_group_ingress, "IpPermissions"),
            (self.client.revoke_security_group_egress, "IpPermissionsEgress"),
        ):
            if group[key]:
                revoke(GroupId=id, IpPermissions=group[key])

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {
            **self.known_as(item),
            "arn": self.arn(item["GroupId"]),
            "name": item["GroupName"],
            "ingress": [_rule(permission) for permission in item["IpPermissions"]],
            "egress": [_rule(permission) for permission in item["IpPermissionsEgress"]],
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.configure(id, new)

    def delete(self, id: str, state: Properties) -> None:
        pass

    def find(self, inputs: Properties) -> str | None:
        return self.create(inputs)


def _rule(permission: Mapping[str, Any]) -> Properties:
    """A permission in the form of the properties ingress and egress."""
    return {
        "protocol": permission["IpProtocol"],
        "fromPort": permission.get("FromPort", 0),
        "toPort": permission.get("ToPort", 0),
        "cidrBlocks": [part["CidrIp"] for part in permission.get("IpRanges", [])],
        "securityGroups": [part["GroupId"] for part in permission.get("UserIdGroupPairs", [])],
    }


class _Rule(Ec2Resource):
    """One rule of a security group."""

    supported = frozenset(
        {
            "securityGroupId",
            "ipProtocol",
            "fromPort",
            "toPort",
            "cidrIpv4",
            "referencedSecurityGroupId",
            "description",
        }
    )
    replace_on = frozenset({"securityGroupId"})
    computed = ("arn", "securityGroupRuleId")
    noun = "security-group-rule"
    listing = ("describe_security_group_rules", "SecurityGroupRules")
    id_name = "SecurityGroupRuleId"
    is_egress: ClassVar[bool]

    def exists(self, item: Mapping[str, Any]) -> bool:
        return item["IsEgress"] == self.is_egress

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            f"authorize_security_group_{self._direction}",
            groupId=inputs["securityGroupId"],
            ipPermissions=[_permission(inputs)],
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]

    def told(self, item: Mapping[str, Any]) -> Properties:
        # The emulator says -1 where EC2 says nothing.
        ports = {key: item[key[0].upper() + key[1:]] for key in ("fromPort", "toPort")}
        has_ports = item["IpProtocol"] != ALL_PROTOCOLS
        return {
            **without(self.known_as(item), *ports),
            **(ports if has_ports else {}),
            "arn": self.arn(item["SecurityGroupRuleId"]),
            "securityGroupId": item["GroupId"],
            "referencedSecurityGroupId": item.get("ReferencedGroupInfo", {}).get("GroupId"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        rule = {
            **{key: new.get(key) for key in ("ipProtocol", "fromPort", "toPort", "cidrIpv4")},
            "description": new.get("description", ""),
            "referencedGroupId": new.get("referencedSecurityGroupId"),
        }
        self.send(
            "modify_security_group_rules",
            groupId=new["securityGroupId"],
            securityGroupRules=[{"securityGroupRuleId": id, "securityGroupRule": rule}],
        )

    def delete(self, id: str, state: Properties) -> None:
        revoke = getattr(self.client, f"revoke_security_group_{self._direction}")
        revoke(GroupId=state["securityGroupId"], SecurityGroupRuleIds=[id])

    @property
    def _direction(self) -> str:
        return "egress" if self.is_egress else "ingress"


class SecurityGroupIngressRule(_Rule):
    """aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule."""

    type = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    is_egress = False


class SecurityGroupEgressRule(_Rule):
    """aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule."""

    type = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    is_egress = True


def _permission(inputs: Properties) -> Properties:
    description = inputs.get("description")
    cidr, group = inputs.get("cidrIpv4"), inputs.get("referencedSecurityGroupId")
    if (cidr is None) == (group is None):
        raise ProviderError("a rule of the stand-in has either cidrIpv4 or referencedSecurityGroupId")
    return {
        **{key: inputs.get(key) for key in ("ipProtocol", "fromPort", "toPort")},
        "ipRanges": [{"cidrIp": cidr, "description": description}] if cidr else None,
        "userIdGroupPairs": [{"groupId": group, "description": description}] if group else None,
    }
