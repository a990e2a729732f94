"""The prod stack, from nothing to phase 2 in one up: edge, protection, and the way back from both."""

from collections.abc import Iterator

import pytest

from tests.sandbox.checks import CommittedEnvironment
from tests.sandbox.harness import Cluster, name_of, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The stack, deployed."""
    with running("prod", tmp_path_factory.mktemp("state")) as made:
        made.up(2)
        yield made


class TestProd(CommittedEnvironment):
    """What holds of every environment holds of this one."""


def test_the_stores_run_on_the_on_demand_node(cluster: Cluster) -> None:
    on_demand = {name_of(node) for node in cluster.nodes() if "ON_DEMAND" in node["metadata"]["labels"].values()}
    assert {name_of(cluster.node_of("postgres")), name_of(cluster.node_of("redis"))} == on_demand


def test_the_edge_leads_to_a_node_port_of_every_node_group(cluster: Cluster) -> None:
    balancers = cluster.aws("elbv2")
    (balancer,) = balancers.describe_load_balancers()["LoadBalancers"]
    assert cluster.outputs("prod")["api_gateway_url"] == f"http://{balancer['DNSName']}"
    (target,) = balancers.describe_target_groups()["TargetGroups"]
    edge = cluster.api.get("v1", "Service", "edge", "pyairtable")
    assert edge
    assert edge["spec"]["ports"][0]["nodePort"] == target["Port"]


def test_lowering_the_phase_is_refused_in_the_preview_with_what_is_protected_and_how_to_unprotect_it(
    cluster: Cluster,
) -> None:
    before = cluster.states()
    done = cluster.run("up", "--stack", "prod", "--phase", "1", expect=1)
    said = done.stdout + done.stderr
    # The engine stops at the first ones that it meets.
    assert "::compute-stores-postgres-stateful-set" in said
    assert "cannot be deleted because it is protected" in said.replace("\n", " ")
    assert "pulumi state unprotect" in said
    assert cluster.states() == before
    assert cluster.not_running() == []


def test_what_was_unprotected_on_purpose_can_go(cluster: Cluster) -> None:
    cluster.override("protect", "false")
    cluster.up(2)
    assert {step.operation for step in cluster.plan("--stack", "prod", "--phase", "1")} == {"delete"}
