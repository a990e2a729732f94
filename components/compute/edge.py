"""Edge: the public entry of a stack, a network load balancer in front of a fixed node port; and what is behind that."""

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
    """As what the stack is reached."""

    port: int
    domain: str | None
    certificate_arn: str | None
    hosted_zone_id: str | None
    """Where the domain's record is made; None where somebody else makes it."""


@dataclass(frozen=True, kw_only=True)
class EdgeArgs:
    """The edge, and the network and nodes that it leads into."""

    names: Names
    vpc_id: pulumi.Input[str]
    public_subnets: list[pulumi.Output[str]]
    node_security_group_id: pulumi.Input[str]
    autoscaling_groups: Mapping[str, pulumi.Output[str]]
    """Where the nodes are, by the node group's name."""
    plan: EdgePlan


class Edge(pulumi.ComponentResource):
    """Load balancer, its security group, its listener, and the domain's record.

    A Service of type LoadBalancer would open node ports to the world and escape both tags and estimate.
    """

    url: pulumi.Output[str]
    """As a client reaches it, without a slash at the end."""
    host: pulumi.Output[str]
    """What clients ask for: the domain, or the load balancer's own name."""

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
            port=args.plan.port,
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
        if args.plan.domain and args.plan.hosted_zone_id:
            aws.route53.Record(
                f"{name}-record",
                zone_id=args.plan.hosted_zone_id,
                name=args.plan.domain,
                type="A",
                aliases=[
                    {
                        "name": balancer.dns_name,
                        "zone_id": balancer.zone_id,
                        # There is nowhere else to send clients, whatever its health.
                        "evaluate_target_health": False,
                    }
                ],
                opts=self._child,
            )
        self.host = pulumi.Output.from_input(args.plan.domain) if args.plan.domain else balancer.dns_name
        self.url = self.host.apply(lambda host: address(host, args.plan.port, tls=bool(args.plan.certificate_arn)))
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
        port = args.plan.port
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


@dataclass(frozen=True, kw_only=True)
class EdgeServiceArgs:
    """Whose pods are behind the node port."""

    selector: Mapping[str, str]
    target_port: int
    vpc_cidr: str | None
    """From where those pods are let in to; None where they see to it themselves."""


class EdgeService(pulumi.ComponentResource):
    """Service `edge`, which leads from the node port to whatever serves clients: a move changes it in place."""

    ready: list[pulumi.Resource]

    def __init__(
        self, name: str, args: EdgeServiceArgs, edge: Edge, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pyairtable:compute:EdgeService", name, None, opts)
        policy = self._policy(name, args, edge)
        service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata("edge"),
            spec={
                "type": "NodePort",
                "selector": dict(args.selector),
                "ports": [{"name": "http", "port": HTTP_PORT, "target_port": args.target_port, "node_port": NODE_PORT}],
            },
            # A new policy before the pods behind it get traffic; one that is gone goes after.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=policy, aliases=[_once_of(edge, "compute-edge-service")]
            ),
        )
        self.ready = [service, *policy]
        self.register_outputs({})

    def _policy(self, name: str, args: EdgeServiceArgs, edge: Edge) -> list[pulumi.Resource]:
        if args.vpc_cidr is None:
            return []
        let_in = {"from_": [{"ip_block": {"cidr": args.vpc_cidr}}], "ports": tcp(args.target_port)}
        return [
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-policy",
                metadata=metadata("edge"),
                spec=network_policy_spec(
                    args.selector["app"], version=args.selector.get("version", ""), ingress=[let_in]
                ),
                opts=pulumi.ResourceOptions(parent=self, aliases=[_once_of(edge, "compute-edge-policy")]),
            )
        ]


def _once_of(edge: Edge, name: str) -> pulumi.Alias:
    """What a part was called while it was the load balancer's own: it stays, whoever it belongs to."""
    return pulumi.Alias(name=name, parent=edge)


def address(host: str, port: int, *, tls: bool) -> str:
    """The URL of a host, with the port where a client would not take it for granted."""
    scheme, usual = ("https", HTTPS_PORT) if tls else ("http", HTTP_PORT)
    return f"{scheme}://{host}" if port == usual else f"{scheme}://{host}:{port}"
