"""The AWS stand-in's types around a cluster: network, storage, load balancing, all of them in one stack."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest
from botocore.exceptions import ClientError

from sandbox import edge_ports
from sandbox.control_plane import ControlPlanes
from sandbox.errors import SandboxError
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler
from sandbox.providers.aws.table import handlers
from sandbox.providers.errors import ProviderError
from sandbox.providers.records import Records
from sandbox.providers.wire import Properties
from tests.program.cloud import Cloud, only_unchanged, raw

ZONES = ("us-east-1a", "us-east-1b")
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}],
}
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"


class Everything:
    """A program with each type in it once or more; `changed` are other values for some of its properties."""

    def __init__(self, **changed: Any) -> None:
        self.changed = changed

    def __call__(self, provider: aws.Provider) -> None:
        self.opts = pulumi.ResourceOptions(provider=provider)
        self._network()
        self._rules()
        self._machines()
        self._bucket()
        self._edge()

    def of(self, key: str, default: Any) -> Any:
        """A property's value."""
        return self.changed.get(key, default)

    def _network(self) -> None:
        tags = {"Name": "net"}
        self.vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block="10.1.0.0/16",
            enable_dns_hostnames=self.of("hostnames", True),
            enable_dns_support=True,
            tags=tags,
            opts=self.opts,
        )
        gateway = aws.ec2.InternetGateway("gateway", vpc_id=self.vpc.id, tags=tags, opts=self.opts)
        self.subnets = [
            aws.ec2.Subnet(
                f"subnet-{zone}",
                vpc_id=self.vpc.id,
                cidr_block=f"10.1.{number}.0/24",
                availability_zone=zone,
                map_public_ip_on_launch=self.of("public", True),
                tags={"Name": f"net-{zone}"},
                opts=self.opts,
            )
            for number, zone in enumerate(ZONES)
        ]
        tables = {
            name: aws.ec2.RouteTable(f"table-{name}", vpc_id=self.vpc.id, tags={"Name": name}, opts=self.opts)
            for name in ("public", "private")
        }
        address = aws.ec2.Eip("address", domain="vpc", tags=tags, opts=self.opts)
        nat = aws.ec2.NatGateway(
            "nat", allocation_id=address.allocation_id, subnet_id=self.subnets[0].id, tags=tags, opts=self.opts
        )
        for name, target in {"public": {"gateway_id": gateway.id}, "private": {"nat_gateway_id": nat.id}}.items():
            aws.ec2.Route(
                f"route-{name}",
                route_table_id=tables[name].id,
                destination_cidr_block=self.of("destination", "0.0.0.0/0"),
                **target,
                opts=self.opts,
            )
        wanted = ("public", self.of("second table", "private"))
        for zone, subnet, table in zip(ZONES, self.subnets, wanted, strict=True):
            aws.ec2.RouteTableAssociation(
                f"association-{zone}", subnet_id=subnet.id, route_table_id=tables[table].id, opts=self.opts
            )
        aws.ec2.VpcEndpoint(
            "endpoint",
            vpc_id=self.vpc.id,
            service_name="com.amazonaws.us-east-1.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[tables[name].id for name in self.of("endpoint tables", ("public", "private"))],
            policy=POLICY,
            tags=tags,
            opts=self.opts,
        )
        role = aws.iam.Role("role", name="everything", assume_role_policy=json.dumps(TRUST), opts=self.opts)
        aws.iam.RolePolicyAttachment(
            "attached policy",
            role=role.name,
            policy_arn="arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
            opts=self.opts,
        )
        logs = aws.cloudwatch.LogGroup("logs", name="/vpc", retention_in_days=1, opts=self.opts)
        aws.ec2.FlowLog(
            "flow",
            vpc_id=self.vpc.id,
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_destination=logs.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=self.of("interval", 600),
            tags=tags,
            opts=self.opts,
        )

    def _rules(self) -> None:
        aws.ec2.DefaultSecurityGroup("default group", vpc_id=self.vpc.id, tags={"Name": "none"}, opts=self.opts)
        self.group = aws.ec2.SecurityGroup(
            "group", name="edge", description=self.of("group", "edge"), vpc_id=self.vpc.id, opts=self.opts
        )
        aws.vpc.SecurityGroupIngressRule(
            "in",
            security_group_id=self.group.id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=self.of("from", "0.0.0.0/0"),
            description="HTTPS",
            tags={"Name": "in"},
            opts=self.opts,
        )
        aws.vpc.SecurityGroupEgressRule(
            "out",
            security_group_id=self.group.id,
            ip_protocol="-1",
            referenced_security_group_id=self.group.id,
            opts=self.opts,
        )

    def _machines(self) -> None:
        aws.ec2.LaunchTemplate(
            "template",
            name="nodes",
            update_default_version=True,
            metadata_options={"http_tokens": "required", "http_put_response_hop_limit": 1},
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "encrypted": "true",
                        "volume_size": self.of("disk", 20),
                        "volume_type": "gp3",
                        "delete_on_termination": "true",
                        "kms_key_id": "alias/aws/ebs",
                    },
                }
            ],
            credit_specification={"cpu_credits": "standard"},
            tag_specifications=[{"resource_type": kind, "tags": {"Name": "node"}} for kind in ("instance", "volume")],
            user_data="bm9uZQ==",
            tags={"Name": "nodes"},
            opts=self.opts,
        )
        aws.ebs.Volume(
            "disk",
            availability_zone=ZONES[0],
            size=self.of("size", 10),
            type="gp3",
            iops=3000,
            throughput=125,
            encrypted=True,
            tags={"Name": "disk"},
            opts=self.opts,
        )

    def _bucket(self) -> None:
        bucket = aws.s3.Bucket(
            "bucket",
            bucket="everything-in-a-bucket",
            force_destroy=self.of("force_destroy", True),
            tags={"Name": "bucket"},
            opts=self.opts,
        )
        aws.s3.BucketVersioning(
            "versions",
            bucket=bucket.id,
            versioning_configuration={"status": self.of("versions", "Enabled")},
            opts=self.opts,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            "encryption",
            bucket=bucket.id,
            rules=[
                {"apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms"}, "bucket_key_enabled": True}
            ],
            opts=self.opts,
        )
        aws.s3.BucketLifecycleConfiguration(
            "lifecycle",
            bucket=bucket.id,
            rules=[
                {
                    "id": "old",
                    "status": "Enabled",
                    "filter": {"prefix": "dumps/"},
                    "expiration": {"days": self.of("days", 30)},
                    "noncurrent_version_expiration": {"noncurrent_days": 7},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                },
                {
                    "id": "cold",
                    "status": "Disabled",
                    "transitions": [{"days": 40, "storage_class": "GLACIER"}],
                },
            ],
            opts=self.opts,
        )
        aws.s3.BucketPublicAccessBlock(
            "private",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=self.of("restrict", True),
            opts=self.opts,
        )
        aws.s3.BucketOwnershipControls(
            "ownership", bucket=bucket.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=self.opts
        )
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "arn:aws:s3:::everything-in-a-bucket/*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        aws.s3.BucketPolicy(
            "policy",
            bucket=bucket.id,
            policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
            opts=self.opts,
        )

    def _edge(self) -> None:
        balancer = aws.lb.LoadBalancer(
            "balancer",
            name="edge",
            load_balancer_type="network",
            internal=False,
            subnets=[subnet.id for subnet in self.subnets],
            security_groups=[self.group.id],
            enable_cross_zone_load_balancing=self.of("cross zone", True),
            tags={"Name": "edge"},
            opts=self.opts,
        )
        targets = aws.lb.TargetGroup(
            "targets",
            name="edge",
            port=30080,
            protocol="TCP",
            target_type="instance",
            vpc_id=self.vpc.id,
            deregistration_delay=self.of("delay", 60),
            preserve_client_ip="true",
            health_check={"protocol": "TCP", "healthy_threshold": 2, "unhealthy_threshold": 2, "interval": 10},
            opts=self.opts,
        )
        aws.lb.Listener(
            "listener",
            load_balancer_arn=balancer.arn,
            port=443,
            protocol="TLS",
            certificate_arn=CERTIFICATE,
            ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            opts=self.opts,
        )
        aws.autoscaling.Attachment(
            "attachment", autoscaling_group_name="eks-nodes", lb_target_group_arn=targets.arn, opts=self.opts
        )
        aws.autoscaling.Schedule(
            "night",
            autoscaling_group_name="eks-nodes",
            scheduled_action_name="night",
            min_size=0,
            max_size=self.of("max", 1),
            desired_capacity=0,
            recurrence="0 20 * * MON-FRI",
            time_zone="Europe/Berlin",
            opts=self.opts,
        )


def held(cloud: Cloud) -> dict[str, int]:
    """How many of each kind the emulator holds, and what is recorded."""
    ec2, elb = cloud.client("ec2"), cloud.client("elbv2")
    nats = [nat for nat in ec2.describe_nat_gateways()["NatGateways"] if nat["State"] != "deleted"]
    return {
        "VPCs": len(ec2.describe_vpcs()["Vpcs"]),
        "gateways": len(ec2.describe_internet_gateways()["InternetGateways"]),
        "subnets": len(ec2.describe_subnets()["Subnets"]),
        "route tables": len(ec2.describe_route_tables()["RouteTables"]),
        "addresses": len(ec2.describe_addresses()["Addresses"]),
        "NAT gateways": len(nats),
        "endpoints": len(ec2.describe_vpc_endpoints()["VpcEndpoints"]),
        "flow logs": len(ec2.describe_flow_logs()["FlowLogs"]),
        "security groups": len(ec2.describe_security_groups()["SecurityGroups"]),
        "templates": len(ec2.describe_launch_templates()["LaunchTemplates"]),
        "volumes": len(ec2.describe_volumes()["Volumes"]),
        "buckets": len(cloud.client("s3").list_buckets()["Buckets"]),
        "balancers": len(elb.describe_load_balancers()["LoadBalancers"]),
        "target groups": len(elb.describe_target_groups()["TargetGroups"]),
        "listeners": len(elb.describe_listeners()["Listeners"]),
        "schedules": len(cloud.client("autoscaling").describe_scheduled_actions()["ScheduledUpdateGroupActions"]),
        "roles": len(cloud.client("iam").list_roles()["Roles"]),
        "log groups": len(cloud.client("logs").describe_log_groups()["logGroups"]),
        "recorded": len(json.loads(cloud.state.records.read_text()) if cloud.state.records.exists() else {}),
    }


CHANGES: dict[str, Any] = {
    "hostnames": False,
    "public": False,
    "second table": "public",
    "endpoint tables": ("public",),
    "from": "10.0.0.0/8",
    "disk": 30,
    "size": 20,
    "force_destroy": False,
    "versions": "Suspended",
    "days": 60,
    "restrict": False,
    "cross zone": False,
    "delay": 30,
    "max": 2,
}
"""What AWS changes in place."""

REPLACING: dict[str, Any] = {"destination": "10.9.0.0/16", "interval": 60}
"""What AWS replaces for: two routes, and a flow log."""


def test_everything_is_made_read_changed_found_and_deleted(cloud: Cloud) -> None:
    before = held(cloud)
    cloud.up("all", Everything())
    assert only_unchanged(cloud.refresh("all", Everything()))
    assert only_unchanged(cloud.preview("all", Everything()))

    provider = cloud.provider("all")
    for resource in cloud.resources("all"):
        if resource["type"].startswith("aws:"):
            assert provider.find(resource["urn"], resource["inputs"]) == resource["id"], resource["urn"]

    printed = cloud.up("all", Everything(**CHANGES))
    assert f"{len(CHANGES) + 1} updated" in printed  # there are two subnets
    assert only_unchanged(cloud.refresh("all", Everything(**CHANGES)))
    assert only_unchanged(cloud.preview("all", Everything(**CHANGES)))

    assert "3 to replace" in cloud.preview("all", Everything(**CHANGES, **REPLACING))

    cloud.destroy("all", Everything())
    assert held(cloud) == before


Program = Callable[[aws.Provider], object]

REFUSED: dict[str, tuple[Program, str]] = {
    "a misspelt property at depth": (
        raw("aws:ec2/launchTemplate:LaunchTemplate", {"name": "x", "metadataOptions": {"httpToken": "required"}}),
        "LaunchTemplateMetadataOptions has no property httpToken; did you mean httpTokens?",
    ),
    "a value that the API's enum does not have": (
        raw("aws:ec2/launchTemplate:LaunchTemplate", {"name": "x", "metadataOptions": {"httpTokens": "maybe"}}),
        "'maybe' is not one of optional, required",
    ),
    "a property that the stand-in would drop": (
        raw("aws:s3/bucket:Bucket", {"bucket": "x", "acl": "private"}),
        "the sandbox's stand-in for aws:s3/bucket:Bucket does not do acl",
    ),
    "a policy that AWS does not have": (
        raw(
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            {"role": "r", "policyArn": "arn:aws:iam::aws:policy/No"},
        ),
        "NoSuchEntity: Policy arn:aws:iam::aws:policy/No does not exist",
    ),
    "a load balancer of another type": (
        raw("aws:lb/loadBalancer:LoadBalancer", {"name": "x"}),
        "the stand-in's load balancers are of the type network only",
    ),
    "an endpoint of another type": (
        raw("aws:ec2/vpcEndpoint:VpcEndpoint", {"vpcId": "v", "serviceName": "s", "vpcEndpointType": "Interface"}),
        "the stand-in's VPC endpoints are of the type Gateway only",
    ),
    "a rule from nowhere": (
        raw("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", {"securityGroupId": "sg", "ipProtocol": "-1"}),
        "either cidrIpv4 or referencedSecurityGroupId",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_preview_refuses(cloud: Cloud, case: str) -> None:
    program, message = REFUSED[case]
    with pytest.raises(SandboxError):
        cloud.preview("refused", program)
    assert message in "\n".join(cloud.lines)


@pytest.fixture
def made(cloud: Cloud) -> Iterator[Callable[[str, Properties], tuple[Handler, str]]]:
    """Makes a resource without the engine: its handler and id. What was made is deleted, the last first."""
    known = handlers(
        Aws(cloud.endpoint, "123456789012", "us-east-1"), Records(cloud.state.records), ControlPlanes(cloud.state)
    )
    resources: list[tuple[Handler, str, Properties]] = []

    def make(token: str, inputs: Properties) -> tuple[Handler, str]:
        handler = known[token]
        id = handler.create(inputs)
        handler.configure(id, inputs)
        resources.append((handler, id, inputs))
        return handler, id

    yield make
    for handler, id, inputs in reversed(resources):
        if handler.read(id, inputs):
            handler.undo(id, inputs)


Made = Callable[[str, Properties], tuple[Handler, str]]


def test_what_the_emulator_would_let_pass_is_refused_as_aws_does(made: Made) -> None:
    _, vpc = made("aws:ec2/vpc:Vpc", {"cidrBlock": "10.2.0.0/16"})
    _, subnet = made("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.2.0.0/23"})
    with pytest.raises(ProviderError, match=r"InvalidSubnet.Range: The CIDR '10.3.0.0/24' is invalid"):
        made("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.3.0.0/24"})
    with pytest.raises(ProviderError, match=r"InvalidSubnet.Conflict: The CIDR '10.2.1.0/24' conflicts"):
        made("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.2.1.0/24"})
    _, gateway = made("aws:ec2/internetGateway:InternetGateway", {"vpcId": vpc})
    _, table = made("aws:ec2/routeTable:RouteTable", {"vpcId": vpc})
    route = {"routeTableId": table, "destinationCidrBlock": "0.0.0.0/0", "gatewayId": gateway}
    made("aws:ec2/route:Route", route)
    with pytest.raises(ProviderError, match="RouteAlreadyExists"):
        made("aws:ec2/route:Route", route)
    association = {"subnetId": subnet, "routeTableId": table}
    made("aws:ec2/routeTableAssociation:RouteTableAssociation", association)
    with pytest.raises(ProviderError, match=r"Resource.AlreadyAssociated"):
        made("aws:ec2/routeTableAssociation:RouteTableAssociation", association)


def test_of_two_that_look_alike_neither_is_found(made: Made) -> None:
    vpcs, first = made("aws:ec2/vpc:Vpc", {"cidrBlock": "10.2.0.0/16", "tags": {"Name": "one"}})
    made("aws:ec2/vpc:Vpc", {"cidrBlock": "10.2.0.0/16", "tags": {"Name": "other"}})
    assert vpcs.find({"cidrBlock": "10.2.0.0/16", "tags": {"Name": "one"}}) == first
    assert vpcs.find({"cidrBlock": "10.2.0.0/16"}) is None


def test_what_holds_data_does_not_go_unasked(cloud: Cloud, made: Made) -> None:
    buckets, id = made("aws:s3/bucket:Bucket", {"bucket": "full-of-versions", "forceDestroy": True})
    made("aws:s3/bucketVersioning:BucketVersioning", {"bucket": id, "versioningConfiguration": {"status": "Enabled"}})
    s3 = cloud.client("s3")
    s3.put_object(Bucket=id, Key="dump", Body=b"data")
    s3.delete_object(Bucket=id, Key="dump")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        buckets.delete(id, {"bucket": id, "forceDestroy": False})
    buckets.delete(id, {"bucket": id, "forceDestroy": True})
    assert buckets.read(id, {}) is None

    disks, id = made("aws:ebs/volume:Volume", {"availabilityZone": ZONES[0], "size": 10})
    with pytest.raises(ProviderError, match="New size cannot be smaller than existing size, 10 GiB"):
        disks.update(id, {"size": 10}, {"size": 5})


def test_a_load_balancer_is_kept_or_replaced_as_on_aws(made: Made) -> None:
    inputs = {"name": "kept", "loadBalancerType": "network", "enableDeletionProtection": True}
    balancers, id = made("aws:lb/loadBalancer:LoadBalancer", inputs)
    with pytest.raises(ProviderError, match="deletion protection is enabled"):
        balancers.delete(id, inputs)
    wide = {"subnets": ["a", "b"], "securityGroups": ["sg-1"]}
    assert balancers.replaces(wide, {**wide, "subnets": ["a"]}) == {"subnets"}
    assert balancers.replaces(wide, {**wide, "subnets": ["a", "b", "c"], "securityGroups": ["sg-2"]}) == frozenset()
    assert balancers.replaces(wide, {"subnets": ["a", "b"]}) == {"securityGroups"}


def test_where_a_load_balancer_listens_is_noted_for_who_really_does(cloud: Cloud, made: Made) -> None:
    _, vpc = made("aws:ec2/vpc:Vpc", {"cidrBlock": "10.2.0.0/16"})
    _, subnet = made("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.2.0.0/24"})
    balancer = {"name": "pyairtable-x-edge", "loadBalancerType": "network", "subnets": [subnet]}
    balancers, arn = made("aws:lb/loadBalancer:LoadBalancer", balancer)
    assert (balancers.read(arn, balancer) or {})["dnsName"] == "127.0.0.1"
    target = {"name": "x", "port": 30080, "protocol": "TCP", "vpcId": vpc, "targetType": "instance"}
    _, target_arn = made("aws:lb/targetGroup:TargetGroup", target)
    actions = [{"type": "forward", "targetGroupArn": target_arn}]
    plain = {"loadBalancerArn": arn, "port": 25000, "protocol": "TCP", "defaultActions": actions}

    listeners, id = made("aws:lb/listener:Listener", plain)
    listeners.aws.dry_run(lambda: listeners.create(plain))
    assert edge_ports.of_cluster(cloud.state, "pyairtable-x") is None, "a preview notes nothing"
    listeners.read(id, plain)
    assert edge_ports.of_cluster(cloud.state, "pyairtable-x") == 25000

    encrypted = {**plain, "protocol": "TLS", "certificateArn": CERTIFICATE}
    for now, port in (({**plain, "port": 25001}, 25001), (encrypted, None), (plain, 25000)):
        listeners.update(id, plain, now)
        listeners.read(id, now)
        assert edge_ports.of_cluster(cloud.state, "pyairtable-x") == port
    listeners.delete(id, plain)
    assert edge_ports.of_cluster(cloud.state, "pyairtable-x") is None


class Address:
    """A program that makes a name lead to a load balancer."""

    def __init__(self, zone: str, *, if_healthy: bool = False) -> None:
        self.zone = zone
        self.if_healthy = if_healthy

    def __call__(self, provider: aws.Provider) -> None:
        aws.route53.Record(
            "record",
            zone_id=self.zone,
            name="api.pyairtable.example",
            type="A",
            aliases=[
                {"name": "127.0.0.1", "zone_id": "Z26RNL4JYFTOTI", "evaluate_target_health": self.if_healthy},
            ],
            opts=pulumi.ResourceOptions(provider=provider),
        )


def test_a_name_leads_to_a_load_balancer(cloud: Cloud) -> None:
    dns = cloud.client("route53")
    made = dns.create_hosted_zone(Name="pyairtable.example", CallerReference="once")["HostedZone"]
    zone = made["Id"].removeprefix("/hostedzone/")

    def targets() -> list[tuple[str, bool]]:
        records = dns.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        targets = [record["AliasTarget"] for record in records if "AliasTarget" in record]
        return [(target["DNSName"].rstrip("."), target["EvaluateTargetHealth"]) for target in targets]

    cloud.up("name", Address(zone))
    record = cloud.resource("name", "record")
    assert record["id"] == f"{zone}_api.pyairtable.example_A"
    assert record["outputs"]["fqdn"] == "api.pyairtable.example"
    assert cloud.provider("name").find(record["urn"], record["inputs"]) == record["id"]
    assert only_unchanged(cloud.refresh("name", Address(zone)))
    assert only_unchanged(cloud.preview("name", Address(zone)))
    assert "1 updated" in cloud.up("name", Address(zone, if_healthy=True))
    assert targets() == [("127.0.0.1", True)]
    cloud.destroy("name", Address(zone))
    assert targets() == []
    dns.delete_hosted_zone(Id=zone)


def test_a_name_in_a_zone_that_is_not_there_is_refused(made: Made) -> None:
    alias = {"name": "127.0.0.1", "zoneId": "Z26RNL4JYFTOTI", "evaluateTargetHealth": False}
    inputs = {"zoneId": "Z0000000000000", "name": "api.x.example", "type": "A", "aliases": [alias]}
    with pytest.raises(ClientError, match="NoSuchHostedZone"):
        made("aws:route53/record:Record", inputs)


def test_a_rule_that_somebody_added_to_the_default_group_is_seen_and_goes(cloud: Cloud, made: Made) -> None:
    _, vpc = made("aws:ec2/vpc:Vpc", {"cidrBlock": "10.2.0.0/16"})
    inputs = {"vpcId": vpc}
    groups, id = made("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", inputs)
    assert groups.inputs_of(groups.read(id, inputs) or {}, inputs) == inputs
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
    cloud.client("ec2").authorize_security_group_ingress(GroupId=id, **rule)
    drifted = groups.inputs_of(groups.read(id, inputs) or {}, inputs)
    assert drifted["ingress"] == [{"protocol": "tcp", "fromPort": 22, "toPort": 22, "cidrBlocks": ["0.0.0.0/0"]}]
    groups.update(id, drifted, inputs)
    assert groups.inputs_of(groups.read(id, inputs) or {}, inputs) == inputs
