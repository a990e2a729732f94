"""The public entry of phase 2: who gets in, on which port, and how far."""

from typing import Any

import pytest

from components.compute.edge import NODE_PORT
from tests.unit.graph import CERTIFICATE, Graph, fullest, platform, varied_prod

BALANCER = "aws:lb/loadBalancer:LoadBalancer"
TARGET = "aws:lb/targetGroup:TargetGroup"
LISTENER = "aws:lb/listener:Listener"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
ATTACHMENT = "aws:autoscaling/attachment:Attachment"
DOMAIN = "api.pyairtable.example"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"


def group_id(graph: Graph) -> str:
    return f"{graph.only(GROUP).inputs['name']}-id"


def rules(graph: Graph, type_: str) -> dict[str, dict[str, Any]]:
    """Rules by the security group that they belong to."""
    return {rule.inputs["securityGroupId"]: dict(rule.inputs) for rule in graph.of_type(type_)}


def ports(rule: dict[str, Any]) -> tuple[str, int, int]:
    return rule["ipProtocol"], rule["fromPort"], rule["toPort"]


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_outside_of_prod_there_is_none(stack: str) -> None:
    graph = platform(stack, phase=3)
    assert [
        node.name for node in graph.nodes if node.type.startswith(("aws:lb/", "aws:vpc/", "aws:autoscaling/"))
    ] == []
    assert [service.name for service in graph.objects("Service") if service.inputs["spec"]["type"] != "ClusterIP"] == []


def test_its_load_balancer_is_public_in_the_public_subnets_and_guarded() -> None:
    graph = platform("prod", phase=3)
    inputs = graph.only(BALANCER).inputs
    assert (inputs["loadBalancerType"], inputs["internal"]) == ("network", False)
    assert inputs["subnets"] == [f"compute-network-public-us-east-1{zone}-id" for zone in "ab"]
    assert inputs["securityGroups"] == [group_id(graph)]


def test_the_names_fit_into_what_aws_takes() -> None:
    graph = fullest("prod", 3)
    assert all(len(graph.only(type_).inputs["name"]) <= 32 for type_ in (BALANCER, TARGET))


def test_nodes_are_reached_on_the_node_port_from_the_load_balancers_group_only() -> None:
    graph = platform("prod", phase=3)
    own, nodes = group_id(graph), graph.only("eks:index:Cluster").outputs["clusterSecurityGroupId"]
    into_nodes = rules(graph, INGRESS)[nodes]
    assert ports(into_nodes) == ("tcp", NODE_PORT, NODE_PORT)
    assert into_nodes["referencedSecurityGroupId"] == own
    assert "cidrIpv4" not in into_nodes
    assert rules(graph, INGRESS).keys() == {own, nodes}


def test_the_load_balancer_reaches_the_node_port_only() -> None:
    graph = platform("prod", phase=3)
    (rule,) = rules(graph, EGRESS).values()
    assert rule["securityGroupId"] == group_id(graph)
    assert ports(rule) == ("tcp", NODE_PORT, NODE_PORT)
    assert rule["referencedSecurityGroupId"] == graph.only("eks:index:Cluster").outputs["clusterSecurityGroupId"]


def test_every_group_of_nodes_is_behind_it() -> None:
    for graph in (platform("prod", phase=3), varied_prod()):
        target = graph.only(TARGET).outputs["arn"]
        assert {
            (node.inputs["autoscalingGroupName"], node.inputs["lbTargetGroupArn"]) for node in graph.of_type(ATTACHMENT)
        } == {(f"eks-{group.inputs['nodeGroupName']}-0123", target) for group in graph.of_type(NODE_GROUP)}


def test_its_target_is_the_node_port_and_sees_the_load_balancer_as_its_client() -> None:
    inputs = platform("prod", phase=3).only(TARGET).inputs
    assert (inputs["targetType"], inputs["protocol"], inputs["port"]) == ("instance", "TCP", NODE_PORT)
    assert inputs["healthCheck"]["port"] == str(NODE_PORT)
    assert inputs["preserveClientIp"] == "false"


@pytest.mark.parametrize("name", ["prod", "varied"])
def test_the_service_leads_from_the_node_port_to_the_public_service(name: str) -> None:
    graph, public, port = (
        (platform("prod", phase=3), "api-gateway", 8080) if name == "prod" else (varied_prod(), "gateway", 9000)
    )
    service = graph.object("Service", "edge").inputs
    assert (service["spec"]["type"], service["spec"]["selector"]) == ("NodePort", {"app": public, "version": "blue"})
    assert [(p["port"], p["targetPort"], p["nodePort"]) for p in service["spec"]["ports"]] == [(80, port, NODE_PORT)]
    (container,) = graph.object("Deployment", public).inputs["spec"]["template"]["spec"]["containers"]
    assert [p["containerPort"] for p in container["ports"]] == [port]


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy"])
def test_the_service_and_its_policy_are_what_they_were_while_they_were_the_load_balancers(kind: str) -> None:
    """An update of a stack from then changes them where they are, and never has to make a second one of the name."""
    node = platform("prod", phase=3).object(kind, "edge")
    assert (f"compute-edge-{kind.removeprefix('Network').lower()}", "compute-edge") in node.aliases


def test_the_service_comes_after_the_pods_behind_it() -> None:
    graph = platform("prod", phase=3)
    before = graph.before(graph.object("Service", "edge"))
    assert {node.urn for node in graph.objects("Deployment") if node.name.startswith("blue-")} <= before


class TestWithoutCertificate:
    def test_it_listens_for_http(self) -> None:
        graph = platform("prod", phase=3)
        inputs = graph.only(LISTENER).inputs
        assert (inputs["port"], inputs["protocol"]) == (80, "TCP")
        assert not inputs.keys() & {"certificateArn", "sslPolicy"}
        assert inputs["defaultActions"] == [{"type": "forward", "targetGroupArn": graph.only(TARGET).outputs["arn"]}]

    def test_clients_get_in_on_the_listeners_port_only(self) -> None:
        graph = platform("prod", phase=3)
        rule = rules(graph, INGRESS)[group_id(graph)]
        assert (ports(rule), rule["cidrIpv4"]) == (("tcp", 80, 80), "0.0.0.0/0")


class TestWithCertificate:
    def test_it_listens_for_tls_1_2_and_later(self) -> None:
        inputs = varied_prod().only(LISTENER).inputs
        assert (inputs["port"], inputs["protocol"]) == (443, "TLS")
        assert inputs["certificateArn"] == CERTIFICATE
        assert inputs["sslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"

    def test_clients_get_in_on_the_listeners_port_only(self) -> None:
        graph = varied_prod()
        rule = rules(graph, INGRESS)[group_id(graph)]
        assert (ports(rule), rule["cidrIpv4"]) == (("tcp", 443, 443), "0.0.0.0/0")

    def test_clients_come_by_the_domain(self) -> None:
        assert varied_prod().outputs["api_gateway_url"] == "https://api.pyairtable.example"

    def test_the_domain_leads_to_the_load_balancer_where_the_program_has_its_zone(self) -> None:
        graph = varied_prod()
        balancer = graph.only(BALANCER).outputs
        record = graph.only("aws:route53/record:Record").inputs
        assert (record["zoneId"], record["name"], record["type"]) == ("Z0123456789ABCDEFGHIJ", DOMAIN, "A")
        assert record["aliases"] == [
            {"name": balancer["dnsName"], "zoneId": balancer["zoneId"], "evaluateTargetHealth": False}
        ]

    def test_without_its_zone_the_record_is_somebody_elses(self) -> None:
        graph = platform("prod", phase=2, edge={"domain": DOMAIN, "certificateArn": CERTIFICATE})
        assert graph.of_type("aws:route53/record:Record") == ()
        assert graph.outputs["api_gateway_url"] == f"https://{DOMAIN}"


class TestPort:
    @pytest.mark.parametrize(
        ("edge", "url"),
        [
            ({"port": 8080}, "http://edge.elb.example:8080"),
            ({"port": 80}, "http://edge.elb.example"),
            ({"port": 443}, "http://edge.elb.example:443"),
            ({"domain": DOMAIN, "certificateArn": CERTIFICATE, "port": 8443}, f"https://{DOMAIN}:8443"),
            ({"domain": DOMAIN, "certificateArn": CERTIFICATE, "port": 443}, f"https://{DOMAIN}"),
            ({"domain": DOMAIN, "certificateArn": CERTIFICATE, "port": 80}, f"https://{DOMAIN}:80"),
        ],
    )
    def test_the_listener_clients_and_the_address_follow_it(self, edge: dict[str, Any], url: str) -> None:
        graph = platform("prod", phase=2, edge=edge)
        assert graph.only(LISTENER).inputs["port"] == edge["port"]
        assert ports(rules(graph, INGRESS)[group_id(graph)]) == ("tcp", edge["port"], edge["port"])
        assert graph.outputs["api_gateway_url"] == url

    def test_the_address_is_the_same_from_phase_2_to_phase_4(self) -> None:
        assert len({platform("prod", phase=phase).outputs["api_gateway_url"] for phase in (2, 3, 4)}) == 1
