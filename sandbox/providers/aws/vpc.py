"""Amazon VPC: networks, subnets, gateways, routes, endpoints and flow logs."""

import ipaddress
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox.providers.aws.ec2 import Ec2Resource
from sandbox.providers.aws.handler import Handler, without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

DNS_ATTRIBUTES = ("enableDnsSupport", "enableDnsHostnames")


class Vpc(Ec2Resource):
    """aws:ec2/vpc:Vpc; the id is EC2's, as for all that follow."""

    type = "aws:ec2/vpc:Vpc"
    supported = frozenset({"cidrBlock", "instanceTenancy", *DNS_ATTRIBUTES})
    replace_on = frozenset({"cidrBlock", "instanceTenancy"})
    defaults: ClassVar[Properties] = {
        "instanceTenancy": "default",
        "enableDnsSupport": True,
        "enableDnsHostnames": False,
    }
    computed = (
        "arn",
        "ownerId",
        "dhcpOptionsId",
        "defaultNetworkAclId",
        "defaultRouteTableId",
        "defaultSecurityGroupId",
        "mainRouteTableId",
    )
    noun = "vpc"
    listing = ("describe_vpcs", "Vpcs")
    id_name = "VpcId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_vpc",
            cidrBlock=inputs["cidrBlock"],
            instanceTenancy=inputs.get("instanceTenancy"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["Vpc"]["VpcId"]

    def configure(self, id: str, inputs: Properties) -> None:
        for attribute in DNS_ATTRIBUTES:  # EC2 takes one at a time
            if attribute in inputs:
                self.send("modify_vpc_attribute", vpcId=id, **{attribute: {"value": inputs[attribute]}})

    def told(self, item: Mapping[str, Any]) -> Properties:
        id = item["VpcId"]
        ours = [{"Name": "vpc-id", "Values": [id]}]
        main = self.client.describe_route_tables(Filters=[*ours, {"Name": "association.main", "Values": ["true"]}])
        acls = self.client.describe_network_acls(Filters=[*ours, {"Name": "default", "Values": ["true"]}])
        groups = self.client.describe_security_groups(Filters=[*ours, {"Name": "group-name", "Values": ["default"]}])
        route_table_id = main["RouteTables"][0]["RouteTableId"]
        return {
            **self.known_as(item),
            **{name: self._attribute(id, name) for name in DNS_ATTRIBUTES},
            "arn": self.arn(id),
            "defaultNetworkAclId": acls["NetworkAcls"][0]["NetworkAclId"],
            "defaultRouteTableId": route_table_id,
            "defaultSecurityGroupId": groups["SecurityGroups"][0]["GroupId"],
            "mainRouteTableId": route_table_id,
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.configure(id, {name: new.get(name, self.defaults[name]) for name in DNS_ATTRIBUTES})

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_vpc(VpcId=id)

    def _attribute(self, id: str, name: str) -> bool:
        answer = self.client.describe_vpc_attribute(VpcId=id, Attribute=name)
        return answer[name[0].upper() + name[1:]]["Value"]


class InternetGateway(Ec2Resource):
    """aws:ec2/internetGateway:InternetGateway."""

    type = "aws:ec2/internetGateway:InternetGateway"
    supported = frozenset({"vpcId"})
    computed = ("arn", "ownerId")
    noun = "internet-gateway"
    listing = ("describe_internet_gateways", "InternetGateways")
    id_name = "InternetGatewayId"

    def create(self, inputs: Properties) -> str:
        answer = self.send("create_internet_gateway", tagSpecifications=self.tag_specifications(inputs))
        return answer["InternetGateway"]["InternetGatewayId"]

    def configure(self, id: str, inputs: Properties) -> None:
        if "vpcId" in inputs:
            self.client.attach_internet_gateway(InternetGatewayId=id, VpcId=inputs["vpcId"])

    def told(self, item: Mapping[str, Any]) -> Properties:
        attachments = item.get("Attachments", [])
        return {
            **self.known_as(item),
            "arn": self.arn(item["InternetGatewayId"]),
            "vpcId": attachments[0]["VpcId"] if attachments else None,
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self._detach(id, old)
        self.configure(id, new)

    def delete(self, id: str, state: Properties) -> None:
        self._detach(id, self.read(id, state) or {})
        self.client.delete_internet_gateway(InternetGatewayId=id)

    def _detach(self, id: str, state: Properties) -> None:
        if state.get("vpcId"):
            self.client.detach_internet_gateway(InternetGatewayId=id, VpcId=state["vpcId"])


class Subnet(Ec2Resource):
    """aws:ec2/subnet:Subnet; that it lies in the VPC, beside the others, is checked here and not by the emulator."""

    type = "aws:ec2/subnet:Subnet"
    supported = frozenset({"vpcId", "cidrBlock", "availabilityZone", "mapPublicIpOnLaunch"})
    replace_on = frozenset({"vpcId", "cidrBlock", "availabilityZone"})
    defaults: ClassVar[Properties] = {"mapPublicIpOnLaunch": False}
    computed = ("arn", "ownerId", "availabilityZone", "availabilityZoneId")
    noun = "subnet"
    listing = ("describe_subnets", "Subnets")
    id_name = "SubnetId"

    def create(self, inputs: Properties) -> str:
        if not self.aws.is_dry:
            self._check_range(inputs["vpcId"], inputs["cidrBlock"])
        answer = self.send(
            "create_subnet",
            vpcId=inputs["vpcId"],
            cidrBlock=inputs["cidrBlock"],
            availabilityZone=inputs.get("availabilityZone"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["Subnet"]["SubnetId"]

    def configure(self, id: str, inputs: Properties) -> None:
        if "mapPublicIpOnLaunch" in inputs:
            self.send(
                "modify_subnet_attribute", subnetId=id, mapPublicIpOnLaunch={"value": inputs["mapPublicIpOnLaunch"]}
            )

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {**self.known_as(item), "arn": item["SubnetArn"]}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.configure(id, {"mapPublicIpOnLaunch": new.get("mapPublicIpOnLaunch", False)})

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_subnet(SubnetId=id)

    def _check_range(self, vpc_id: str, cidr: str) -> None:
        network = ipaddress.ip_network(cidr)
        whole = self.client.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]["CidrBlock"]
        if not network.subnet_of(ipaddress.ip_network(whole)):  # pyright: ignore[reportArgumentType]
            raise ProviderError(
                f"InvalidSubnet.Range: The CIDR '{cidr}' is invalid: it is not within {whole} of {vpc_id}."
            )
        for other in self.items(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}]):
            if network.overlaps(ipaddress.ip_network(other["CidrBlock"])):
                raise ProviderError(
                    f"InvalidSubnet.Conflict: The CIDR '{cidr}' conflicts with another subnet, {other['CidrBlock']}."
                )


class RouteTable(Ec2Resource):
    """aws:ec2/routeTable:RouteTable; its routes are resources of their own."""

    type = "aws:ec2/routeTable:RouteTable"
    supported = frozenset({"vpcId"})
    replace_on = frozenset({"vpcId"})
    computed = ("arn", "ownerId")
    noun = "route-table"
    listing = ("describe_route_tables", "RouteTables")
    id_name = "RouteTableId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_route_table", vpcId=inputs["vpcId"], tagSpecifications=self.tag_specifications(inputs)
        )
        return answer["RouteTable"]["RouteTableId"]

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {**self.known_as(item), "arn": self.arn(item["RouteTableId"])}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a route table is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_route_table(RouteTableId=id)


TARGETS = ("gatewayId", "natGatewayId")


class Route(Handler):
    """aws:ec2/route:Route; the id is made of the route table's and a checksum of the destination."""

    type = "aws:ec2/route:Route"
    supported = frozenset({"routeTableId", "destinationCidrBlock", *TARGETS})
    service = "ec2"
    replace_on = frozenset({"routeTableId", "destinationCidrBlock"})
    computed = ("origin", "state")

    def create(self, inputs: Properties) -> str:
        id = _route_id(inputs["routeTableId"], inputs["destinationCidrBlock"])
        if not self.aws.is_dry and self.read(id, inputs):
            raise ProviderError(
                f"RouteAlreadyExists: The route identified by {inputs['destinationCidrBlock']} already exists."
            )
        self.send("create_route", **inputs)
        return id

    def read(self, id: str, inputs: Properties) -> Properties | None:
        for table in self.client.describe_route_tables()["RouteTables"]:
            for route in table["Routes"]:
                if _route_id(table["RouteTableId"], route.get("DestinationCidrBlock", "")) == id:
                    return {**self.known_as(route), "routeTableId": table["RouteTableId"]}
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.send("replace_route", **new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_route(RouteTableId=state["routeTableId"], DestinationCidrBlock=state["destinationCidrBlock"])

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(_route_id(inputs["routeTableId"], inputs["destinationCidrBlock"]))


def _route_id(route_table_id: str, destination: str) -> str:
    return f"r-{route_table_id}{zlib.crc32(destination.encode())}"


class RouteTableAssociation(Handler):
    """aws:ec2/routeTableAssociation:RouteTableAssociation of a subnet; EC2 gives it a new id when its table changes."""

    type = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    supported = frozenset({"subnetId", "routeTableId"})
    service = "ec2"
    replace_on = frozenset({"subnetId"})

    def create(self, inputs: Properties) -> str:
        if not self.aws.is_dry and self.find(inputs):
            raise ProviderError(
                f"Resource.AlreadyAssociated: the specified association for route table {inputs['routeTableId']} "
                f"conflicts with an existing one of {inputs['subnetId']}"
            )
        return self.send("associate_route_table", **inputs)["AssociationId"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        for association in self._associations():
            if id == association["RouteTableAssociationId"] or association["SubnetId"] == inputs.get("subnetId"):
                return self.known_as(association)
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.client.replace_route_table_association(
            AssociationId=self.find(old) or id, RouteTableId=new["routeTableId"]
        )

    def delete(self, id: str, state: Properties) -> None:
        self.client.disassociate_route_table(AssociationId=self.find(state) or id)

    def find(self, inputs: Properties) -> str | None:
        for association in self._associations():
            if association["SubnetId"] == inputs["subnetId"]:
                return association["RouteTableAssociationId"]
        return None

    def _associations(self) -> list[dict[str, Any]]:
        tables = self.client.describe_route_tables()["RouteTables"]
        return [one for table in tables for one in table["Associations"] if "SubnetId" in one]


class Eip(Ec2Resource):
    """aws:ec2/eip:Eip; the id is the allocation's."""

    type = "aws:ec2/eip:Eip"
    supported = frozenset({"domain"})
    replace_on = frozenset({"domain"})
    computed = ("arn", "allocationId", "publicIp", "publicDns", "domain")
    noun = "elastic-ip"
    listing = ("describe_addresses", "Addresses")
    id_name = "AllocationId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "allocate_address", domain=inputs.get("domain"), tagSpecifications=self.tag_specifications(inputs)
        )
        return answer["AllocationId"]

    def told(self, item: Mapping[str, Any]) -> Properties:
        host = "compute-1" if self.aws.region == "us-east-1" else f"{self.aws.region}.compute"
        return {
            **self.known_as(item),
            "arn": self.arn(item["AllocationId"]),
            "publicDns": f"ec2-{item['PublicIp'].replace('.', '-')}.{host}.amazonaws.com",
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of an address is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.release_address(AllocationId=id)


class NatGateway(Ec2Resource):
    """aws:ec2/natGateway:NatGateway, public. The emulator does not tell which address it has."""

    type = "aws:ec2/natGateway:NatGateway"
    supported = frozenset({"allocationId", "subnetId", "connectivityType"})
    replace_on = frozenset({"allocationId", "subnetId", "connectivityType"})
    defaults: ClassVar[Properties] = {"connectivityType": "public"}
    computed = ("publicIp",)
    unreported = frozenset({"allocationId"})
    noun = "natgateway"
    listing = ("describe_nat_gateways", "NatGateways")
    id_name = "NatGatewayId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_nat_gateway",
            subnetId=inputs["subnetId"],
            allocationId=inputs["allocationId"],
            connectivityType=inputs.get("connectivityType"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["NatGateway"]["NatGatewayId"]

    def exists(self, item: Mapping[str, Any]) -> bool:
        return item["State"] not in ("deleting", "deleted", "failed")

    def read(self, id: str, inputs: Properties) -> Properties | None:
        state = super().read(id, inputs)
        if state and "allocationId" in state:
            addresses = self.client.describe_addresses(AllocationIds=[state["allocationId"]])["Addresses"]
            state["publicIp"] = addresses[0]["PublicIp"] if addresses else None
        return state

    def told(self, item: Mapping[str, Any]) -> Properties:
        return self.known_as(item)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a NAT gateway is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_nat_gateway(NatGatewayId=id)


class VpcEndpoint(Ec2Resource):
    """aws:ec2/vpcEndpoint:VpcEndpoint of the kind Gateway."""

    type = "aws:ec2/vpcEndpoint:VpcEndpoint"
    supported = frozenset({"vpcId", "serviceName", "vpcEndpointType", "routeTableIds", "policy"})
    replace_on = frozenset({"vpcId", "serviceName", "vpcEndpointType"})
    defaults: ClassVar[Properties] = {"vpcEndpointType": "Gateway"}
    computed = ("arn", "ownerId", "state", "prefixListId", "cidrBlocks", "routeTableIds")
    unreported = frozenset({"policy"})
    noun = "vpc-endpoint"
    listing = ("describe_vpc_endpoints", "VpcEndpoints")
    id_name = "VpcEndpointId"

    def create(self, inputs: Properties) -> str:
        if inputs.get("vpcEndpointType", "Gateway") != "Gateway":
            raise ProviderError("the stand-in's VPC endpoints are of the type Gateway only")
        answer = self.send(
            "create_vpc_endpoint",
            vpcId=inputs["vpcId"],
            serviceName=inputs["serviceName"],
            vpcEndpointType=inputs.get("vpcEndpointType"),
            routeTableIds=inputs.get("routeTableIds"),
            policyDocument=inputs.get("policy"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["VpcEndpoint"]["VpcEndpointId"]

    def told(self, item: Mapping[str, Any]) -> Properties:
        named = [{"Name": "prefix-list-name", "Values": [item["ServiceName"]]}]
        lists = self.client.describe_prefix_lists(Filters=named)["PrefixLists"]
        return {
            **self.known_as(item),
            "arn": self.arn(item["VpcEndpointId"]),
            "prefixListId": lists[0]["PrefixListId"] if lists else None,
            "cidrBlocks": lists[0]["Cidrs"] if lists else None,
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        before, after = set(old.get("routeTableIds", [])), set(new.get("routeTableIds", []))
        self.send(
            "modify_vpc_endpoint",
            vpcEndpointId=id,
            addRouteTableIds=sorted(after - before) or None,
            removeRouteTableIds=sorted(before - after) or None,
            policyDocument=new.get("policy"),
            resetPolicy="policy" not in new or None,
        )

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_vpc_endpoints(VpcEndpointIds=[id])


class FlowLog(Ec2Resource):
    """aws:ec2/flowLog:FlowLog of a VPC."""

    type = "aws:ec2/flowLog:FlowLog"
    supported = frozenset(
        {"vpcId", "trafficType", "logDestinationType", "logDestination", "iamRoleArn", "maxAggregationInterval"}
    )
    replace_on = supported
    defaults: ClassVar[Properties] = {"logDestinationType": "cloud-watch-logs", "maxAggregationInterval": 600}
    computed = ("arn",)
    unreported = frozenset({"iamRoleArn", "maxAggregationInterval"})
    noun = "vpc-flow-log"
    listing = ("describe_flow_logs", "FlowLogs")
    id_name = "FlowLogId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_flow_logs",
            resourceIds=[inputs["vpcId"]],
            resourceType="VPC",
            trafficType=inputs.get("trafficType"),
            logDestinationType=inputs.get("logDestinationType"),
            logDestination=inputs.get("logDestination"),
            deliverLogsPermissionArn=inputs.get("iamRoleArn"),
            maxAggregationInterval=inputs.get("maxAggregationInterval"),
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["FlowLogIds"][0]

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {**self.known_as(item), "arn": self.arn(item["FlowLogId"]), "vpcId": item["ResourceId"]}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of a flow log is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_flow_logs(FlowLogIds=[id])

    def find(self, inputs: Properties) -> str | None:
        # EC2 has no two that do the same; and the emulator does not tag them as they are made.
        return super().find(without(inputs, "tags"))
