"""The prod stack, from nothing to phase 4 in one up: edge, protection, and the way back from both."""

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from typing import ClassVar

import pytest

from tests.program.harness import wait_for
from tests.sandbox.checks import CAPACITY, WAIVED, CommittedEnvironment
from tests.sandbox.harness import Cluster, is_ready, label, name_of, running

ZONE = "topology.kubernetes.io/zone"
DRAIN_SECONDS = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The stack, deployed."""
    with running("prod", tmp_path_factory.mktemp("state")) as made:
        made.up(4)
        yield made


class TestProd(CommittedEnvironment):
    """What holds of every environment holds of this one."""

    # The pods of the mesh's gateway are its chart's.
    waived: ClassVar = {**WAIVED, "service-targets-pod": ("edge",), "networkpolicy-targets-pod": ("ingress-gateway",)}


def test_the_stores_run_on_the_on_demand_node(cluster: Cluster) -> None:
    on_demand = {name_of(node) for node in cluster.nodes() if "ON_DEMAND" in node["metadata"]["labels"].values()}
    assert {name_of(cluster.node_of("postgres")), name_of(cluster.node_of("redis"))} == on_demand


def test_the_edge_leads_to_a_node_port_of_every_node_group(cluster: Cluster) -> None:
    balancers = cluster.aws("elbv2")
    (balancer,) = balancers.describe_load_balancers()["LoadBalancers"]
    (listener,) = balancers.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert cluster.outputs("prod")["api_gateway_url"] == f"http://127.0.0.1:{listener['Port']}"
    (target,) = balancers.describe_target_groups()["TargetGroups"]
    edge = cluster.api.get("v1", "Service", "edge", "pyairtable")
    assert edge
    assert edge["spec"]["ports"][0]["nodePort"] == target["Port"]


def test_a_client_is_answered_by_the_public_service(cluster: Cluster) -> None:
    host, _, port = cluster.outputs("prod")["api_gateway_url"].removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        about = json.load(connection.getresponse())
    assert (about["service"], about["colour"], about["path"]) == ("api-gateway", "blue", "/health")
    assert about["pod"] in {name_of(pod) for pod in cluster.pods("api-gateway")}


def test_lowering_the_phase_is_refused_in_the_preview_with_what_is_protected_and_how_to_unprotect_it(
    cluster: Cluster,
) -> None:
    before = cluster.states()
    done = cluster.run("up", "--stack", "prod", "--phase", "1", expect=1)
    said = done.stdout + done.stderr
    # The engine stops at the first ones that it meets, whichever they are.
    assert re.search(
        r'::(compute-(stores|cluster)|secrets-aws)-[a-z-]+" cannot be deleted\s+because it is protected', said
    ), said
    assert 'first set pyairtable:protect: "false" and run pulumi up' in said
    assert cluster.states() == before
    assert cluster.everything_runs()


def test_the_secrets_are_protected_too(cluster: Cluster) -> None:
    before = cluster.states()
    done = cluster.run("up", "--stack", "prod", "--phase", "2", expect=1)
    assert re.search(r'::secrets-aws-[a-z-]+" cannot be deleted\s+because it is protected', done.stdout + done.stderr)
    assert 'first set pyairtable:protect: "false" and run pulumi up' in done.stdout + done.stderr
    assert cluster.states() == before


@pytest.mark.parametrize("capacity", ["SPOT", "ON_DEMAND"])
def test_an_interrupted_node_leaves_no_service_without_a_replica(cluster: Cluster, capacity: str) -> None:
    node = next(node for node in cluster.nodes() if label(node, CAPACITY) == capacity)
    zone = label(node, ZONE)
    process = cluster.start("node", "interrupt", name_of(node), "--stack", "prod")
    while process.poll() is None:
        for service in cluster.services():
            assert any(is_ready(pod) for pod in cluster.pods(service["name"])), f"{service['name']} is down"
    assert process.wait() == 0
    wait_for(cluster.everything_runs, "every pod to run again", DRAIN_SECONDS)
    assert label(cluster.node_of("postgres"), ZONE) == (zone if capacity == "ON_DEMAND" else "us-east-1a")


def test_what_was_unprotected_on_purpose_can_go_and_leaves_nothing(cluster: Cluster) -> None:
    cluster.override("protect", "false")
    cluster.runbook("retreat", "--yes")
    assert {step.operation for step in cluster.changes(2)} == {"delete"}
    cluster.up(2)
    assert cluster.secrets_left() == {}
    cluster.up(3)  # the names are free again
    assert cluster.changes() == set()
    assert {step.operation for step in cluster.changes(1)} == {"delete"}
    cluster.up(1)
    assert cluster.compute_left() == {}
