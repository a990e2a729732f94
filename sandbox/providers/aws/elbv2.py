"""Elastic Load Balancing, version 2: network load balancers, target groups and listeners."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox import edge_ports
from sandbox.control_plane import ControlPlanes
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, Tagging, absent, without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

HERE = "127.0.0.1"
"""Where the load balancer that stands in for this one listens: a name of AWS's would lead nowhere."""
GONE = ("LoadBalancerNotFound", "TargetGroupNotFound", "ListenerNotFound")


class ElbTags(Tagging):
    """Load balancing's calls about tags take several resources at once."""

    def read(self, aws: Aws, target: str) -> dict[str, str]:
        described = aws.client("elbv2").describe_tags(ResourceArns=[target])["TagDescriptions"][0]
        return {tag["Key"]: tag["Value"] for tag in described["Tags"]}

    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        client = aws.client("elbv2")
        gone = self.read(aws, target).keys() - tags.keys()
        if gone:
            client.remove_tags(ResourceArns=[target], TagKeys=sorted(gone))
        if tags:
            client.add_tags(ResourceArns=[target], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])


class _Elb(Handler):
    """A type whose id is the ARN, and some of whose properties are attributes: pairs of a key and a text."""

    service = "elbv2"
    tag_api = ElbTags()
    attributes: ClassVar[Mapping[str, str]] = {}
    """Key of the attribute behind each property that is one."""

    def told_attributes(self, told: list[dict[str, str]]) -> Properties:
        """Properties from attributes; official ones are numbers and flags where their defaults are."""
        values = {attribute["Key"]: attribute["Value"] for attribute in told}
        return {
            name: _parsed(values[key], self.defaults.get(name))
            for name, key in self.attributes.items()
            if key in values
        }

    def attribute_list(self, inputs: Properties) -> list[Properties]:
        """The attributes that inputs ask for."""
        return [
            {"key": key, "value": str(inputs[name]).lower()} for name, key in self.attributes.items() if name in inputs
        ]


def _parsed(value: str, default: Any) -> Any:
    if isinstance(default, bool):
        return value == "true"
    return int(value) if isinstance(default, int) else value


class LoadBalancer(_Elb):
    """aws:lb/loadBalancer:LoadBalancer of the type network."""

    type = "aws:lb/loadBalancer:LoadBalancer"
    attributes: ClassVar[Mapping[str, str]] = {
        "enableCrossZoneLoadBalancing": "load_balancing.cross_zone.enabled",
        "enableDeletionProtection": "deletion_protection.enabled",
    }
    supported = frozenset(
        {"name", "loadBalancerType", "internal", "subnets", "securityGroups", "ipAddressType", *attributes}
    )
    replace_on = frozenset({"name", "loadBalancerType", "internal"})
    defaults: ClassVar[Properties] = {
        "internal": False,
        "enableCrossZoneLoadBalancing": False,
        "enableDeletionProtection": False,
    }
    computed = ("arn", "arnSuffix", "dnsName", "zoneId", "vpcId", "ipAddressType")
    name = "name"

    def create(self, inputs: Properties) -> str:
        if inputs.get("loadBalancerType", "application") != "network":
            raise ProviderError("the stand-in's load balancers are of the type network only")
        answer = self.send(
            "create_load_balancer",
            name=inputs["name"],
            type=inputs["loadBalancerType"],
            scheme="internal" if inputs.get("internal") else "internet-facing",
            subnets=inputs.get("subnets"),
            securityGroups=inputs.get("securityGroups"),
            ipAddressType=inputs.get("ipAddressType"),
        )
        return answer["LoadBalancers"][0]["LoadBalancerArn"]

    def configure(self, id: str, inputs: Properties) -> None:
        attributes = self.attribute_list(inputs)
        if attributes:
            self.send("modify_load_balancer_attributes", loadBalancerArn=id, attributes=attributes)

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.describe_load_balancers(LoadBalancerArns=[id]), *GONE)
        if answer is None:
            return None
        balancer = answer["LoadBalancers"][0]
        subnets = [zone["SubnetId"] for zone in balancer["AvailabilityZones"]]
        attributes = self.client.describe_load_balancer_attributes(LoadBalancerArn=id)["Attributes"]
        return {
            **self.known_as(balancer),
            **self.told_attributes(attributes),
            "arn": id,
            "arnSuffix": id.partition(":loadbalancer/")[2],
            "dnsName": HERE,
            "name": balancer["LoadBalancerName"],
            "loadBalancerType": balancer["Type"],
            "internal": balancer["Scheme"] == "internal",
            "zoneId": balancer["CanonicalHostedZoneId"],
            "subnets": subnets,
            "vpcId": self._vpc_of(subnets),
        }

    def replaces(self, old: Properties, new: Properties) -> frozenset[str]:
        """A network load balancer loses no subnet, and keeps either some security group or none."""
        changed: set[str] = set()
        if set(old.get("subnets", [])) - set(new.get("subnets", [])):
            changed.add("subnets")
        if bool(old.get("securityGroups")) != bool(new.get("securityGroups")):
            changed.add("securityGroups")
        return super().replaces(old, new) | changed

    def update(self, id: str, old: Properties, new: Properties) -> None:
        for key, operation in (("subnets", "set_subnets"), ("securityGroups", "set_security_groups")):
            if old.get(key) != new.get(key):
                self.send(operation, loadBalancerArn=id, **{key: new.get(key, [])})
        self.configure(id, {**self.defaults, **new})

    def delete(self, id: str, state: Properties) -> None:
        if state.get("enableDeletionProtection"):
            raise ProviderError(
                f"OperationNotPermitted: Load balancer '{id}' cannot be deleted because deletion protection is enabled"
            )
        self.client.delete_load_balancer(LoadBalancerArn=id)

    def undo(self, id: str, inputs: Properties) -> None:
        self.client.delete_load_balancer(LoadBalancerArn=id)

    def find(self, inputs: Properties) -> str | None:
        answer = absent(lambda: self.client.describe_load_balancers(Names=[inputs["name"]]), *GONE)
        return answer["LoadBalancers"][0]["LoadBalancerArn"] if answer else None

    def _vpc_of(self, subnets: list[str]) -> str | None:
        # The emulator knows of one VPC only; AWS says which one the subnets are in.
        found = self.aws.client("ec2").describe_subnets(Filters=[{"Name": "subnet-id", "Values": subnets}])["Subnets"]
        return found[0]["VpcId"] if found else None


HEALTH_CHECK = {
    "enabled": "HealthCheckEnabled",
    "interval": "HealthCheckIntervalSeconds",
    "path": "HealthCheckPath",
    "port": "HealthCheckPort",
    "protocol": "HealthCheckProtocol",
    "timeout": "HealthCheckTimeoutSeconds",
    "healthyThreshold": "HealthyThresholdCount",
    "unhealthyThreshold": "UnhealthyThresholdCount",
}


class TargetGroup(_Elb):
    """aws:lb/targetGroup:TargetGroup."""

    type = "aws:lb/targetGroup:TargetGroup"
    attributes: ClassVar[Mapping[str, str]] = {
        "deregistrationDelay": "deregistration_delay.timeout_seconds",
        "connectionTermination": "deregistration_delay.connection_termination.enabled",
        "preserveClientIp": "preserve_client_ip.enabled",
        "proxyProtocolV2": "proxy_protocol_v2.enabled",
    }
    supported = frozenset({"name", "port", "protocol", "vpcId", "targetType", "healthCheck", *attributes})
    replace_on = frozenset({"name", "port", "protocol", "vpcId", "targetType"})
    defaults: ClassVar[Properties] = {
        "targetType": "instance",
        "deregistrationDelay": 300,
        "connectionTermination": False,
        "proxyProtocolV2": False,
        "healthCheck": {
            "enabled": True,
            "healthyThreshold": 3,
            "interval": 30,
            "port": "traffic-port",
            "protocol": "HTTP",
            "unhealthyThreshold": 3,
        },
    }
    computed = ("arn", "arnSuffix", "loadBalancerArns", "preserveClientIp", "healthCheck.timeout")
    name = "name"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_target_group",
            **{key: inputs.get(key) for key in ("name", "port", "protocol", "vpcId", "targetType")},
            **self._health_check(inputs),
        )
        return answer["TargetGroups"][0]["TargetGroupArn"]

    def configure(self, id: str, inputs: Properties) -> None:
        attributes = self.attribute_list(inputs)
        if attributes:
            self.send("modify_target_group_attributes", targetGroupArn=id, attributes=attributes)

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.describe_target_groups(TargetGroupArns=[id]), *GONE)
        if answer is None:
            return None
        group = answer["TargetGroups"][0]
        check = {key: group[name] for key, name in HEALTH_CHECK.items() if name in group}
        if check["protocol"] == "TCP":
            check.pop("path")  # the emulator's, AWS has none
        else:
            check["matcher"] = group["Matcher"]["HttpCode"]
        asked = inputs.get("healthCheck", {})
        attributes = self.client.describe_target_group_attributes(TargetGroupArn=id)["Attributes"]
        return {
            **self.known_as(group),
            **self.told_attributes(attributes),
            "arn": id,
            "arnSuffix": id.rpartition(":")[2],
            "name": group["TargetGroupName"],
            # What else the health check has when nobody asked is the protocol's business.
            "healthCheck": {
                key: value for key, value in check.items() if key in asked or key not in ("path", "matcher")
            },
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.send("modify_target_group", targetGroupArn=id, **self._health_check(new))
        self.configure(id, {**without(self.defaults, "healthCheck"), **new})

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_target_group(TargetGroupArn=id)

    def find(self, inputs: Properties) -> str | None:
        found = absent(lambda: self.client.describe_target_groups(Names=[inputs["name"]]), *GONE)
        return found["TargetGroups"][0]["TargetGroupArn"] if found and found["TargetGroups"] else None

    def _health_check(self, inputs: Properties) -> Properties:
        check = {**self.defaults["healthCheck"], **inputs.get("healthCheck", {})}
        return {
            **{name: check.get(key) for key, name in HEALTH_CHECK.items()},
            "matcher": {"httpCode": check["matcher"]} if "matcher" in check else None,
        }


class Listener(_Elb):
    """aws:lb/listener:Listener that forwards to a target group."""

    type = "aws:lb/listener:Listener"
    supported = frozenset(
        {"loadBalancerArn", "port", "protocol", "certificateArn", "sslPolicy", "defaultActions", "alpnPolicy"}
    )
    replace_on = frozenset({"loadBalancerArn"})
    computed = ("arn", "sslPolicy")
    unreported = frozenset({"alpnPolicy"})

    def __init__(self, aws: Aws, planes: ControlPlanes) -> None:
        super().__init__(aws)
        self._state = planes.state

    def create(self, inputs: Properties) -> str:
        answer = self.send("create_listener", loadBalancerArn=inputs["loadBalancerArn"], **_listener(inputs))
        return answer["Listeners"][0]["ListenerArn"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.describe_listeners(ListenerArns=[id]), *GONE)
        if answer is None or not answer["Listeners"]:
            edge_ports.forget(self._state, _balancer_name(id))
            return None
        listener = answer["Listeners"][0]
        self._listen(id, listener)
        certificates = listener.get("Certificates", [])
        told = {
            **self.known_as(listener),
            "arn": id,
            "certificateArn": certificates[0]["CertificateArn"] if certificates else None,
            "defaultActions": [
                {"type": action["Type"], "targetGroupArn": action.get("TargetGroupArn")}
                for action in listener["DefaultActions"]
            ],
        }
        return self.with_unreported(told, inputs)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.send("modify_listener", listenerArn=id, **_listener(new))

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_listener(ListenerArn=id)
        edge_ports.forget(self._state, _balancer_name(id))

    def _listen(self, id: str, listener: Properties) -> None:
        """Have somebody listen as the emulator says; not with TLS, since the certificate is nowhere here."""
        if listener["Protocol"] == "TCP":
            edge_ports.note(self._state, _balancer_name(id), listener["Port"])
        else:
            edge_ports.forget(self._state, _balancer_name(id))

    def find(self, inputs: Properties) -> str | None:
        balancer = inputs["loadBalancerArn"]
        answer = absent(lambda: self.client.describe_listeners(LoadBalancerArn=balancer), *GONE)
        for listener in answer["Listeners"] if answer else []:
            if listener["Port"] == inputs.get("port"):
                return listener["ListenerArn"]
        return None


def _balancer_name(listener: str) -> str:
    """A load balancer's name, from a listener's ARN: ...:listener/net/NAME/ID/ID."""
    return listener.partition(":listener/")[2].split("/")[1]


def _listener(inputs: Properties) -> Properties:
    for action in inputs["defaultActions"]:
        if action.keys() - {"type", "targetGroupArn"} or action["type"] != "forward":
            raise ProviderError("the stand-in's listeners forward to one target group: type and targetGroupArn")
    return {
        **{key: inputs.get(key) for key in ("port", "protocol", "sslPolicy", "defaultActions")},
        "certificates": [{"certificateArn": inputs["certificateArn"]}] if "certificateArn" in inputs else None,
        "alpnPolicy": [inputs["alpnPolicy"]] if "alpnPolicy" in inputs else None,
    }
