"""Who reaches whom in the namespace: what the policies let through, held against what the config says."""

from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, platform, stack_file, varied_prod

Flow = tuple[str, str, int]

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
PORTS = {"database": ("postgres", 5432), "redis": ("redis", 6379)}
PRIVATE = ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]


GATEWAY_PODS = {"app": "ingress-gateway", "istio": "ingress-gateway", "sidecar.istio.io/inject": "true"}
"""Of a chart, and so in no manifest of the program's."""


def pods(graph: Graph, *, gateway: bool = False) -> list[dict[str, str]]:
    """Labels of the pods of each template."""
    templates = [
        node.inputs["spec"]["template"] for kind in ("Deployment", "StatefulSet", "Job") for node in graph.objects(kind)
    ]
    templates += [node.inputs["spec"]["jobTemplate"]["spec"]["template"] for node in graph.objects("CronJob")]
    return [template["metadata"]["labels"] for template in templates] + ([GATEWAY_PODS] if gateway else [])


def selected(graph: Graph, selector: dict[str, Any], *, gateway: bool = False) -> set[str]:
    """Apps whose pods a selector means."""
    assert selector.keys() <= {"matchLabels"}
    wanted = selector.get("matchLabels", {}).items()
    return {labels["app"] for labels in pods(graph, gateway=gateway) if wanted <= labels.items()}


def rules(graph: Graph, direction: str, *, gateway: bool = False) -> list[tuple[str, dict[str, Any], list[int]]]:
    """What the policies let an app do: app, peer, ports."""
    peers = {"ingress": "from", "egress": "to"}[direction]
    return [
        (app, peer, [int(port["port"]) for port in rule["ports"]])
        for policy in graph.objects("NetworkPolicy")
        for rule in policy.inputs["spec"].get(direction, [])
        for app in selected(graph, policy.inputs["spec"]["podSelector"], gateway=gateway)
        for peer in rule[peers]
    ]


def among_pods(graph: Graph, *, gateway: bool = False) -> set[Flow]:
    """What one pod may send another: what one side lets out and the other in."""

    def flows(direction: str) -> set[Flow]:
        found = {
            (app, other, port)
            for app, peer, ports in rules(graph, direction, gateway=gateway)
            if peer.keys() == {"podSelector"}
            for other in selected(graph, peer["podSelector"], gateway=gateway)
            for port in ports
        }
        return found if direction == "egress" else {(other, app, port) for app, other, port in found}

    assert flows("ingress") == flows("egress"), "what only one side lets through is nobody's flow"
    return flows("egress")


def with_outside(graph: Graph, direction: str, *, gateway: bool = False) -> set[tuple[str, str, int]]:
    """What a pod may exchange with addresses: app, block, port."""
    return {
        (app, peer["ipBlock"]["cidr"], port)
        for app, peer, ports in rules(graph, direction, gateway=gateway)
        if "ipBlock" in peer
        for port in ports
    }


def configured(stack: str) -> set[Flow]:
    """The flows that a stack's services say they have, the backup's and the rotation's."""
    services = stack_file(stack)["pyairtable:services"]
    calls = {(service["name"], callee, 8080) for service in services for callee in service.get("calls", [])}
    uses = {(s["name"], *PORTS[used]) for s in services for used in s.get("uses", []) if used in PORTS}
    return calls | uses | JOBS


JOBS = {("postgres-backup", "postgres", 5432), ("database-rotation", "postgres", 5432)}


@in_every_environment
def test_pods_reach_each_other_exactly_as_the_config_says(stack: str) -> None:
    assert among_pods(platform(stack, phase=3)) == configured(stack)


def test_a_port_is_the_callees() -> None:
    assert among_pods(varied_prod()) == {("gateway", "lonely", 8080)} | JOBS


@in_every_environment
def test_in_phase_2_only_the_backup_is_let_in_besides(stack: str) -> None:
    assert among_pods(platform(stack, phase=2)) == configured(stack) - {("database-rotation", "postgres", 5432)}


@in_every_environment
def test_nothing_is_let_through_by_default(stack: str) -> None:
    spec = platform(stack, phase=3).object("NetworkPolicy", "default-deny").inputs["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@in_every_environment
def test_a_policy_declares_the_directions_that_it_has_rules_for(stack: str) -> None:
    for policy in platform(stack, phase=3).objects("NetworkPolicy"):
        spec = policy.inputs["spec"]
        declared = {direction.lower() for direction in spec["policyTypes"]}
        assert {"ingress", "egress"} & spec.keys() <= declared
        assert policy.inputs["metadata"]["name"] == "default-deny" or declared <= spec.keys()


@in_every_environment
def test_every_pod_finds_names_and_nothing_else_of_the_system(stack: str) -> None:
    graph = platform(stack, phase=3)
    elsewhere = [
        (policy.inputs["metadata"]["name"], policy.inputs["spec"]["podSelector"], rule)
        for policy in graph.objects("NetworkPolicy")
        for direction, peers in (("ingress", "from"), ("egress", "to"))
        for rule in policy.inputs["spec"].get(direction, [])
        for peer in rule[peers]
        if "namespaceSelector" in peer
    ]
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    assert elsewhere == [("dns", {}, {"to": [dns], "ports": ports})]


@in_every_environment
def test_only_services_that_say_so_and_the_jobs_reach_the_internet_and_only_by_https(stack: str) -> None:
    services = stack_file(stack)["pyairtable:services"]
    internet = {(service["name"], "0.0.0.0/0", 443) for service in services if service.get("internet")}
    jobs = {
        (job, block, port)
        for job in ("postgres-backup", "database-rotation")
        for block, port in (("0.0.0.0/0", 443), ("169.254.170.23/32", 80))
    }
    assert with_outside(platform(stack, phase=3), "egress") == internet | jobs | to_the_api_server(stack)


def to_the_api_server(stack: str) -> set[tuple[str, str, int]]:
    """Its Service is in the network of Services, its endpoints are in the VPC."""
    vpc = platform(stack, phase=3).only("aws:ec2/vpc:Vpc").inputs["cidrBlock"]
    return {("secret-restarter", vpc, 443), ("secret-restarter", "172.20.0.0/16", 443)}


@in_every_environment
def test_the_internet_is_no_private_network_and_not_the_metadata_service(stack: str) -> None:
    excepted = [
        peer["ipBlock"]["except"]
        for _, peer, _ in rules(platform(stack, phase=3), "egress")
        if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]
    assert excepted
    assert all(except_ == PRIVATE for except_ in excepted)


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_outside_of_prod_nobody_from_outside_reaches_a_pod(stack: str) -> None:
    assert with_outside(platform(stack, phase=3), "ingress") == set()


def test_in_prod_the_load_balancer_reaches_the_public_service_and_no_other_from_within_the_vpc() -> None:
    assert with_outside(platform("prod", phase=3), "ingress") == {("api-gateway", "10.30.0.0/16", 8080)}
    assert with_outside(varied_prod(), "ingress") == {("gateway", "10.40.0.0/20", 9000)}


def test_a_service_without_flows_has_no_policy() -> None:
    names = {policy.inputs["metadata"]["name"] for policy in varied_prod().objects("NetworkPolicy")}
    assert "silent" not in names
    assert "lonely" in names


def test_a_store_that_nobody_uses_lets_nobody_in() -> None:
    names = {policy.inputs["metadata"]["name"] for policy in varied_prod().objects("NetworkPolicy")}
    assert "redis" not in names
