"""Network: the VPC of one stack, its subnets and its way out."""

import ipaddress
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.compute.tags import TAGS
from components.shared.policies import allow, document, trust
from infra.naming import Names

SUBNET_BITS = 4
"""Each subnet is a sixteenth of the VPC: room for the /28 prefixes of two nodes' pods even in a /20."""
FIRST_PRIVATE = 8
"""Public subnets lie in the lower half of the VPC, private ones in the upper."""
FLOW_LOG_RETENTION_DAYS = 14
MAX_AGGREGATION_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """Addresses, zones, and whether nodes are private."""

    names: Names
    region: str
    cidr_block: str
    availability_zones: tuple[str, ...]
    private_nodes: bool
    """Nodes without public addresses behind one NAT gateway. Public ones have no inbound rule, and no NAT to pay."""
    flow_logs: bool


class Network(pulumi.ComponentResource):
    """VPC, a public subnet per zone, private ones and NAT where nodes are private, S3 endpoint, flow logs."""

    vpc_id: pulumi.Output[str]
    public_subnets: dict[str, pulumi.Output[str]]
    """Ids by zone."""
    node_subnets: dict[str, pulumi.Output[str]]
    """Ids by zone; known once their way out exists, without which a node cannot join."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Network", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)

        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.cidr_block,
            enable_dns_support=True,
            enable_dns_hostnames=True,  # the cluster's private endpoint is found by name
            tags=self._tags(),
            opts=self._child,
        )
        self.vpc_id = vpc.id
        # A security group that somebody forgets to choose lets nothing through.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default-group", vpc_id=vpc.id, tags=self._tags("default"), opts=self._child
        )

        gateway = aws.ec2.InternetGateway(f"{name}-gateway", vpc_id=vpc.id, tags=self._tags(), opts=self._child)
        public_routes = self._route_table("public", gateway_id=gateway.id)
        self.public_subnets = {
            zone: self._subnet("public", index, zone, public_routes)
            for index, zone in enumerate(args.availability_zones)
        }
        route_tables = [public_routes.route_table_id]
        if args.private_nodes:
            private_routes = self._route_table("private", nat_gateway_id=self._nat_gateway().id)
            route_tables.append(private_routes.route_table_id)
            self.node_subnets = {
                zone: self._subnet("private", FIRST_PRIVATE + index, zone, private_routes)
                for index, zone in enumerate(args.availability_zones)
            }
        else:
            self.node_subnets = self.public_subnets

        # Images of ECR and the backups are in S3: free through the endpoint, 0.045 $/GB through NAT.
        aws.ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=route_tables,
            tags=self._tags("s3"),
            opts=self._child,
        )
        if args.flow_logs:
            self._flow_logs()
        self.register_outputs({"vpc_id": self.vpc_id})

    def _tags(self, suffix: str = "") -> dict[str, str]:
        return {**TAGS, "Name": self._args.names.of(suffix) if suffix else self._args.names.prefix}

    def _route_table(
        self,
        kind: str,
        gateway_id: pulumi.Output[str] | None = None,
        nat_gateway_id: pulumi.Output[str] | None = None,
    ) -> aws.ec2.Route:
        """A route table's way out; its `route_table_id` is known once the route exists."""
        table = aws.ec2.RouteTable(
            f"{self._name}-{kind}-routes", vpc_id=self.vpc_id, tags=self._tags(kind), opts=self._child
        )
        return aws.ec2.Route(
            f"{self._name}-{kind}-out",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway_id,
            nat_gateway_id=nat_gateway_id,
            opts=self._child,
        )

    def _subnet(self, kind: str, index: int, zone: str, routes: aws.ec2.Route) -> pulumi.Output[str]:
        public = kind == "public"
        subnet = aws.ec2.Subnet(
            f"{self._name}-{kind}-{zone}",
            vpc_id=self.vpc_id,
            cidr_block=subnet_cidr(self._args.cidr_block, index),
            availability_zone=zone,
            # Without NAT a node's public address is its way out; its security group lets nothing in.
            map_public_ip_on_launch=public and not self._args.private_nodes,
            tags=self._tags(f"{kind}-{zone}"),
            opts=self._child,
        )
        association = aws.ec2.RouteTableAssociation(
            f"{self._name}-{kind}-{zone}-routes",
            subnet_id=subnet.id,
            route_table_id=routes.route_table_id,
            opts=self._child,
        )
        return association.subnet_id.apply(lambda subnet_id: subnet_id or "")

    def _nat_gateway(self) -> aws.ec2.NatGateway:
        """One, in the first zone: one for each zone would cost 32.85 $ a month more."""
        address = aws.ec2.Eip(f"{self._name}-nat-address", domain="vpc", tags=self._tags("nat"), opts=self._child)
        return aws.ec2.NatGateway(
            f"{self._name}-nat",
            allocation_id=address.id,
            subnet_id=self.public_subnets[self._args.availability_zones[0]],
            tags=self._tags("nat"),
            opts=self._child,
        )

    def _flow_logs(self) -> None:
        log_name = f"/pyairtable/{self._args.names.stack}/flow-logs"
        log_group = aws.cloudwatch.LogGroup(
            f"{self._name}-flow-logs",
            name=log_name,
            retention_in_days=FLOW_LOG_RETENTION_DAYS,
            tags=TAGS,
            opts=self._child,
        )
        role = aws.iam.Role(
            f"{self._name}-flow-logs-role",
            name=self._args.names.of("flow-logs"),
            description=f"Lets the VPC of {self._args.names.prefix} write its flow logs",
            assume_role_policy=pulumi.Output.json_dumps(trust("vpc-flow-logs.amazonaws.com")),
            tags=TAGS,
            opts=self._child,
        )
        write = allow(
            "WriteFlowLogs",
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            pulumi.Output.concat(log_group.arn, ":*"),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-flow-logs-policy",
            name="write-flow-logs",
            role=role.name,
            policy=pulumi.Output.json_dumps(document(write)),
            opts=self._child,
        )
        aws.ec2.FlowLog(
            f"{self._name}-flow-log",
            vpc_id=self.vpc_id,
            # What was refused is what an investigation starts from; everything would cost twenty times as much.
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_destination=log_group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=MAX_AGGREGATION_SECONDS,
            tags=self._tags("rejected"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )


def subnet_cidr(vpc_cidr: str, index: int) -> str:
    """Addresses of the VPC's subnet of that index, 0 to 15."""
    return str(list(ipaddress.IPv4Network(vpc_cidr).subnets(prefixlen_diff=SUBNET_BITS))[index])
