"""Edge: the public entry of a stack, a network load balancer in front of a fixed node port."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.compute.tags import TAGS
from components.shared.manifests import metadata, network_policy_spec, tcp
from infra.naming import Names

NODE_PORT = 30080
HTTP_PORT = 80
HTTPS_PORT = 443
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
DRAIN_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class EdgePlan:
    """What is reached, and as what."""

    service: str
    service_port: int
    domain: str | None
    certificate_arn: str | None


@dataclass(frozen=True, kw_only=True)
class EdgeArgs:
    """The edge, and the network and nodes that it leads into."""

    names: Names
    vpc_id: pulumi.Input[str]
    vpc_cidr: str
    public_subnets: list[pulumi.Output[str]]
    node_security_group_id: pulumi.Input[str]
    autoscaling_groups: Mapping[str, pulumi.Output[str]]
    """Where the nodes are, by the node group's name."""
    plan: EdgePlan


class Edge(pulumi.ComponentResource):
    """Load balancer, its security group, its listener, and the Service `edge` behind it.

    A Service of type LoadBalancer would open node ports to the world and escape both tags and estimate.
    """

    url: pulumi.Output[str]
    """As a client reaches it, without a slash at the end."""

    def __init__(self, name: str, args: EdgeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Edge", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        group = self._security_group()
        balancer = aws.lb.LoadBalancer(
            f"{name}-balancer",
            name=args.names.of("edge"),
            load_balancer_type="network",
            internal=False,
            subnets=args.public_subnets,
            security_groups=[group.id],
            enable_cross_zone_load_balancing=True,
            tags=TAGS,
            opts=self._child,
        )
        target = aws.lb.TargetGroup(
            f"{name}-target",
            name=args.names.of("edge"),
            vpc_id=args.vpc_id,
            target_type="instance",
            protocol="TCP",
            port=NODE_PORT,
            # The node port's traffic then comes from the VPC, which is all that policies have to let in.
            preserve_client_ip="false",
            deregistration_delay=DRAIN_SECONDS,
            health_check={"protocol": "TCP", "port": str(NODE_PORT), "interval": 10},
            tags=TAGS,
            opts=self._child,
        )
        aws.lb.Listener(
            f"{name}-listener",
            load_balancer_arn=balancer.arn,
            port=HTTPS_PORT if args.plan.certificate_arn else HTTP_PORT,
            protocol="TLS" if args.plan.certificate_arn else "TCP",
            certificate_arn=args.plan.certificate_arn,
            ssl_policy=TLS_POLICY if args.plan.certificate_arn else None,
            default_actions=[{"type": "forward", "target_group_arn": target.arn}],
            tags=TAGS,
            opts=self._child,
        )
        for node_group, autoscaling_group in args.autoscaling_groups.items():
            aws.autoscaling.Attachment(
                f"{name}-nodes-{node_group}",
                autoscaling_group_name=autoscaling_group,
                lb_target_group_arn=target.arn,
                opts=self._child,
            )
        self._service()
        self.url = (
            pulumi.Output.from_input(f"https://{args.plan.domain}")
            if args.plan.domain
            else balancer.dns_name.apply(lambda host: f"http://{host}")
        )
        self.register_outputs({"url": self.url})

    def _security_group(self) -> aws.ec2.SecurityGroup:
        name, args = self._name, self._args
        group = aws.ec2.SecurityGroup(
            f"{name}-group",
            name=args.names.of("edge"),
            description=f"Public entry of {args.names.prefix}",
            vpc_id=args.vpc_id,
            tags={**TAGS, "Name": args.names.of("edge")},
            opts=self._child,
        )
        port = HTTPS_PORT if args.plan.certificate_arn else HTTP_PORT
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-clients",
            security_group_id=group.id,
            description="Clients",
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4="0.0.0.0/0",
            tags=TAGS,
            opts=self._child,
        )
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-to-nodes",
            security_group_id=group.id,
            description="Node port",
            ip_protocol="tcp",
            from_port=NODE_PORT,
            to_port=NODE_PORT,
            referenced_security_group_id=args.node_security_group_id,
            tags=TAGS,
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-into-nodes",
            security_group_id=args.node_security_group_id,
            description="Load balancer",
            ip_protocol="tcp",
            from_port=NODE_PORT,
            to_port=NODE_PORT,
            referenced_security_group_id=group.id,
            tags=TAGS,
            opts=self._child,
        )
        return group

    def _service(self) -> None:
        args = self._args
        kubernetes.core.v1.Service(
            f"{self._name}-service",
            # The pods behind it come later in the same update: waiting for them here would wait for ever.
            metadata=metadata("edge", annotations={"pulumi.com/skipAwait": "true"}),
            spec={
                "type": "NodePort",
                "selector": {"app": args.plan.service},
                "ports": [
                    {"name": "http", "port": HTTP_PORT, "target_port": args.plan.service_port, "node_port": NODE_PORT}
                ],
            },
            opts=self._child,
        )
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._name}-policy",
            metadata=metadata("edge"),
            spec=network_policy_spec(
                args.plan.service,
                ingress=[{"from_": [{"ip_block": {"cidr": args.vpc_cidr}}], "ports": tcp(args.plan.service_port)}],
            ),
            opts=self._child,
        )
