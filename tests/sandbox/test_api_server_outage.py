"""What becomes of traffic, of a shift and of the pods when the API server is away: on a prod stack of its own.

It is away for longer than the nodes' heartbeats may be missing.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sandbox.services import recorded
from sandbox.state import State
from tests.program.harness import wait_for
from tests.sandbox.harness import Cluster, running
from tests.sandbox.traffic import RATE, Traffic, none_failed, shifting, weight


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The stack at phase 4."""
    with running("prod", tmp_path_factory.mktemp("state")) as made:
        made.up(4)
        wait_for(made.is_at_strength, "the autoscalers to bring all pods")
        yield made


def test_traffic_goes_on_and_a_shift_stops_where_it_is(cluster: Cluster) -> None:
    clients = Traffic(f"{cluster.outputs('prod')['api_gateway_url']}/api/v1/users", rate=RATE)
    wait_for(lambda: clients.leads_to("blue"), "the edge to lead to blue")
    with clients as traffic:
        with shifting(cluster, "--to", "10,50", "--hold", "120s") as process:
            wait_for(lambda: weight(cluster) == 10, "the first step")
            service = recorded(State(cluster.state))["pyairtable-prod-kube-apiserver"]
            assert service.process
            service.process.kill()
            out, _ = process.communicate(timeout=90)
            assert process.returncode == 1
        none_failed(traffic, 0)
    assert "10 %" in json.loads(out)["told"]
    away = datetime.now(UTC)
    cluster.changes()  # brings it back
    wait_for(lambda: all_heard_of(cluster, away), "a heartbeat of every node")
    wait_for(cluster.is_at_strength, "every pod to be ready again")
    assert weight(cluster) == 10
    (moved,) = cluster.changes()  # what the shift has moved, and nothing else
    assert moved.type.endswith(":VirtualService")
    cluster.up(4)
    wait_for(cluster.is_at_strength, "every pod to be ready still")
    assert weight(cluster) == 10
    assert cluster.changes() == set()


def all_heard_of(cluster: Cluster, since: datetime) -> bool:
    """Whether each node is ready and has sent a heartbeat since then: until it has, it may yet be taken for lost."""
    return all(
        datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since and condition["status"] == "True"
        for node in cluster.nodes()
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    )
