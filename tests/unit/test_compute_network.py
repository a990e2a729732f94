"""The network of phase 2: who is public, who finds the way out through what, and what is logged."""

from ipaddress import IPv4Network
from itertools import combinations

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, platform, stack_file, varied_prod

SUBNET = "aws:ec2/subnet:Subnet"
NAT = "aws:ec2/natGateway:NatGateway"
ROUTE = "aws:ec2/route:Route"
ROUTE_TABLE = "aws:ec2/routeTable:RouteTable"
ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
FLOW_LOG = "aws:ec2/flowLog:FlowLog"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
VPC = "aws:ec2/vpc:Vpc"

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
with_public_nodes = pytest.mark.parametrize("stack", ["dev", "staging"])


def id_of(node: Node) -> str:
    return f"{node.name}-id"


def node_subnets(graph: Graph) -> tuple[Node, ...]:
    """Subnets that a node may start in."""
    ids = {subnet for group in graph.of_type(NODE_GROUP) for subnet in group.inputs["subnetIds"]}
    return tuple(subnet for subnet in graph.of_type(SUBNET) if id_of(subnet) in ids)


def way_out(graph: Graph, subnet: Node) -> dict[str, str]:
    """The route to everywhere of a subnet's only route table: through which gateway."""
    (table,) = (a.inputs["routeTableId"] for a in graph.of_type(ASSOCIATION) if a.inputs["subnetId"] == id_of(subnet))
    (route,) = (route for route in graph.of_type(ROUTE) if route.inputs["routeTableId"] == table)
    assert route.inputs["destinationCidrBlock"] == "0.0.0.0/0"
    return {key: value for key, value in route.inputs.items() if key in {"gatewayId", "natGatewayId"}}


def networks(graph: Graph) -> list[IPv4Network]:
    return [IPv4Network(subnet.inputs["cidrBlock"]) for subnet in graph.of_type(SUBNET)]


@with_public_nodes
def test_outside_of_prod_nodes_have_public_addresses_and_no_nat(stack: str) -> None:
    graph = platform(stack)
    assert {subnet.inputs["mapPublicIpOnLaunch"] for subnet in node_subnets(graph)} == {True}
    assert {tuple(way_out(graph, subnet)) for subnet in node_subnets(graph)} == {("gatewayId",)}
    assert graph.of_type(NAT) == graph.of_type("aws:ec2/eip:Eip") == ()


@with_public_nodes
def test_outside_of_prod_nothing_reaches_a_node(stack: str) -> None:
    graph = platform(stack)
    assert graph.of_type("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule") == ()
    assert graph.of_type("aws:ec2/securityGroup:SecurityGroup") == ()


def test_in_prod_nodes_have_no_public_addresses_and_one_nat_gateway() -> None:
    graph = platform("prod")
    nat = graph.only(NAT)
    assert {subnet.inputs["mapPublicIpOnLaunch"] for subnet in graph.of_type(SUBNET)} == {False}
    assert [way_out(graph, subnet) for subnet in node_subnets(graph)] == [{"natGatewayId": id_of(nat)}] * 2
    assert nat.inputs["allocationId"] == id_of(graph.only("aws:ec2/eip:Eip"))


def test_in_prod_the_nat_gateway_is_in_a_public_subnet_and_comes_after_its_way_out() -> None:
    graph = platform("prod")
    nat = graph.only(NAT)
    (subnet,) = (subnet for subnet in graph.of_type(SUBNET) if id_of(subnet) == nat.inputs["subnetId"])
    assert "gatewayId" in way_out(graph, subnet)
    assert graph.named("compute-network-public-out").urn in graph.before(nat)


@in_every_environment
def test_public_routes_lead_to_the_vpcs_internet_gateway(stack: str) -> None:
    graph = platform(stack)
    gateway = graph.only("aws:ec2/internetGateway:InternetGateway")
    assert graph.named("compute-network-public-out").inputs["gatewayId"] == id_of(gateway)
    assert gateway.inputs["vpcId"] == id_of(graph.only(VPC))


@in_every_environment
def test_a_node_starts_once_it_has_a_way_out(stack: str) -> None:
    graph = platform(stack)
    routes = {route.urn for route in graph.of_type(ROUTE)}
    associations = {a.urn for a in graph.of_type(ASSOCIATION) if "private" in a.name or stack != "prod"}
    for group in graph.of_type(NODE_GROUP):
        reached = {a for a in associations if graph.at(a).inputs["subnetId"] in group.inputs["subnetIds"]}
        assert routes | reached <= graph.before(group)


@in_every_environment
def test_the_cluster_spans_two_zones(stack: str) -> None:
    graph = platform(stack)
    cluster = graph.only("eks:index:Cluster")
    zones = {s.inputs["availabilityZone"] for s in graph.of_type(SUBNET) if id_of(s) in cluster.inputs["subnetIds"]}
    assert zones == {"us-east-1a", "us-east-1b"}


@in_every_environment
def test_s3_is_reached_through_a_gateway_endpoint_from_every_route_table(stack: str) -> None:
    graph = platform(stack)
    endpoint = graph.only(ENDPOINT).inputs
    assert (endpoint["vpcEndpointType"], endpoint["serviceName"]) == ("Gateway", "com.amazonaws.us-east-1.s3")
    assert sorted(endpoint["routeTableIds"]) == sorted(id_of(table) for table in graph.of_type(ROUTE_TABLE))


@pytest.mark.parametrize(("stack", "logs"), [("dev", 0), ("staging", 1), ("prod", 1)])
def test_flow_logs_are_kept_in_staging_and_prod_only(stack: str, logs: int) -> None:
    assert len(platform(stack).of_type(FLOW_LOG)) == logs


def test_a_flow_log_records_what_was_refused_in_a_group_that_forgets() -> None:
    graph = platform("prod")
    log, group = graph.only(FLOW_LOG), graph.named("compute-network-flow-logs")
    assert log.inputs["trafficType"] == "REJECT"
    assert log.inputs["logDestination"] == group.outputs["arn"]
    assert group.inputs["retentionInDays"] == 14


def test_a_flow_log_starts_once_it_may_write() -> None:
    graph = platform("prod")
    assert graph.named("compute-network-flow-logs-policy").urn in graph.before(graph.only(FLOW_LOG))


@in_every_environment
def test_the_default_security_group_lets_nothing_through(stack: str) -> None:
    inputs = platform(stack).only("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup").inputs
    assert not inputs.keys() & {"ingress", "egress"}


@in_every_environment
def test_the_vpc_names_its_hosts_as_a_private_endpoint_needs(stack: str) -> None:
    inputs = platform(stack).only(VPC).inputs
    assert inputs["enableDnsSupport"] is True
    assert inputs["enableDnsHostnames"] is True


@in_every_environment
def test_subnets_lie_in_the_vpc_and_apart(stack: str) -> None:
    graph = platform(stack)
    vpc = IPv4Network(graph.only(VPC).inputs["cidrBlock"])
    assert all(subnet.subnet_of(vpc) for subnet in networks(graph))
    assert not any(one.overlaps(other) for one, other in combinations(networks(graph), 2))


def test_the_subnets_of_the_smallest_vpc_have_room_for_the_prefixes_of_two_nodes() -> None:
    graph = varied_prod()
    assert IPv4Network(graph.only(VPC).inputs["cidrBlock"]).prefixlen == 20
    assert min(subnet.num_addresses for subnet in networks(graph)) >= 2 * 110


def test_the_committed_stacks_have_no_address_in_common() -> None:
    vpcs = [IPv4Network(platform(stack).only(VPC).inputs["cidrBlock"]) for stack in ENVIRONMENTS]
    assert not any(one.overlaps(other) for one, other in combinations(vpcs, 2))
    assert all("pyairtable:network" not in stack_file(stack) for stack in ENVIRONMENTS)
