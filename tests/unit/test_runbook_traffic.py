"""Who gets the traffic, whether everybody agrees on it, and when blue may go."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.target import NotDeployedError
from tests.unit.traffic_world import POLICY, VIRTUAL_SERVICE, Traffic, TrafficWorld, owner

HOUR = 3600


@pytest.fixture
def world() -> TrafficWorld:
    return TrafficWorld()


@pytest.fixture
def traffic(world: TrafficWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(world, tmp_path, monkeypatch)


def seen(traffic: Traffic, *, expect: int = 0) -> dict[str, Any]:
    return json.loads(traffic.run("traffic", "--json", expect=expect).stdout)


def test_as_deployed_it_is_in_step(traffic: Traffic) -> None:
    assert seen(traffic) == {
        "stack": "prod",
        "mesh": 0,
        "annotation": "0",
        "config": 0,
        "deployed": 0,
        "changed_by": "pulumi",
        "changed_at": "2026-08-01T12:00:00+00:00",
        "in_step": True,
        "told": "in step",
    }


def test_after_a_shift_it_is_in_step(traffic: Traffic) -> None:
    traffic.run("shift", "--to", "10", "--hold", "20s")
    found = seen(traffic)
    assert (found["mesh"], found["annotation"], found["config"], found["deployed"]) == (10, "10", 10, 0)
    assert (found["changed_by"], found["told"]) == ("runbook", "in step")


def test_an_edit_that_is_not_deployed_yet_is_in_step(traffic: Traffic) -> None:
    traffic.config(greenWeight=50)
    assert seen(traffic)["told"] == "in step; the next deployment moves it to 50 %"


def test_a_rollback_that_the_file_does_not_know_of_is_out_of_step(traffic: Traffic, world: TrafficWorld) -> None:
    traffic.outputs["green_weight"] = 50
    traffic.config(greenWeight=50)
    world.set_weight(0, by="runbook")
    told = seen(traffic, expect=3)["told"]
    assert told.startswith("out of step: a deployment would undo what has been done to the mesh; keep it with greenWei")
    assert told.endswith(
        " 0 below blueGreen in Pulumi.prod.yaml, move all to blue with runbook rollback --stack prod, or, if 50 % is "
        "meant, go there with runbook shift --to 50 --stack prod"
    )


def test_a_rollback_to_what_was_deployed_last_is_no_edits_beginning(traffic: Traffic, world: TrafficWorld) -> None:
    traffic.config(greenWeight=50)
    world.set_weight(0, by="runbook")
    assert not seen(traffic, expect=3)["in_step"]
    co_owned(world, 1000)
    assert seen(traffic)["in_step"]
    del world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"][0]["time"]  # as of one who has changed nothing yet
    assert seen(traffic)["in_step"]


def test_a_change_past_the_annotation_is_out_of_step(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(30, annotation="0")
    traffic.config(greenWeight=30)
    assert not seen(traffic, expect=3)["in_step"]


def test_a_route_that_is_not_the_programs_is_out_of_step(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects[VIRTUAL_SERVICE]["spec"]["http"].pop()
    assert seen(traffic, expect=3)["mesh"] is None
    assert "mesh              unknown" in traffic.run("traffic", expect=3).stdout


def co_owned(world: TrafficWorld, hours: float) -> None:
    """A deployment asks for the weight that there is: its entry keeps the time of its last change."""
    applied = owner("pulumi-kubernetes-1", world.now() - timedelta(hours=hours))
    world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"].insert(0, applied)


@pytest.mark.parametrize("hours", [0, 1000])
def test_a_deployment_that_asks_for_the_weight_that_there_is_has_not_changed_it(
    traffic: Traffic, world: TrafficWorld, hours: float
) -> None:
    world.set_weight(50, by="runbook", ago=2 * HOUR)
    traffic.config(greenWeight=50)
    co_owned(world, hours)
    told = seen(traffic)
    assert told["changed_by"] == "runbook"
    assert datetime.fromisoformat(told["changed_at"]) == world.now() - timedelta(hours=2)


def test_people_see_it_line_by_line(traffic: Traffic) -> None:
    assert traffic.run("traffic").stdout.splitlines() == [
        "green's share of prod",
        "mesh              0 %, by pulumi at 2026-08-01T12:00:00+00:00",
        "annotation        0 %",
        "Pulumi.prod.yaml  0 %",
        "last deployed     0 %",
        "in step",
    ]


def test_where_the_api_server_does_not_say_who_that_is_left_out(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"]
    assert "mesh              0 %\n" in traffic.run("traffic").stdout
    assert seen(traffic)["changed_at"] is None


def test_a_stack_below_phase_4_has_nothing_to_compare(traffic: Traffic) -> None:
    traffic.opening = NotDeployedError("looking for the stack prod: it is deployed at phase 3, and this needs phase 4")
    told = "nothing to compare: looking for the stack prod: it is deployed at phase 3, and this needs phase 4"
    assert traffic.run("traffic").stdout == f"{told}\n"
    assert seen(traffic)["in_step"]


def test_nor_has_a_mesh_that_was_not_finished(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[VIRTUAL_SERVICE]
    assert seen(traffic)["told"].startswith("nothing to compare: looking for the VirtualService api-gateway: there is")


# Blue goes


def at_100(traffic: Traffic, world: TrafficWorld, hours: float, *, needed: float = 24) -> None:
    world.set_weight(100, by="runbook", ago=hours * HOUR)
    traffic.config(greenWeight=100)
    annotations = {"pyairtable.io/retire-after-seconds": str(round(needed * HOUR))}
    world.objects[POLICY] = {"metadata": {"annotations": annotations}}


def test_blue_is_stopped_by_the_next_deployment_once_green_has_held_everything(
    traffic: Traffic, world: TrafficWorld
) -> None:
    at_100(traffic, world, 25)
    assert traffic.run("retire").stdout == (
        "Pulumi.prod.yaml says blueGreen.stopped: blue; commit it and deploy, and blue's pods go\n"
    )
    assert traffic.config()["stopped"] == "blue"


def test_that_is_told_in_json_too(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 2, needed=1)
    done = json.loads(traffic.run("retire", "--json").stdout)
    assert done == {"stack": "prod", "held_seconds": 7200, "config": "Pulumi.prod.yaml"}


def not_retired(traffic: Traffic) -> str:
    told = traffic.run("retire", expect=1).stderr
    assert "stopped" not in traffic.config()
    return told


def test_blue_stays_until_green_has_held_for_long_enough(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 23)
    told = "prod: green has had all traffic for 23.0 h, and has to have it for 24.0 h, the blueGreen.retireAfter that"
    assert told in not_retired(traffic)


@pytest.mark.parametrize(
    ("held", "needed", "told"),
    [(0.01, 0.02, "36 s, and has to have it for 72 s"), (0.5, 1, "30 min, and has to have it")],
)
def test_a_short_time_is_told_in_seconds_or_minutes(
    traffic: Traffic, world: TrafficWorld, held: float, needed: float, told: str
) -> None:
    at_100(traffic, world, held, needed=needed)
    assert told in not_retired(traffic)


def test_what_counts_is_the_time_that_was_deployed(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 2)
    traffic.config(greenWeight=100, retireAfter="1h")
    assert "has to have it for 24.0 h" in not_retired(traffic)


def test_blue_stays_where_the_api_server_would_not_keep_it(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 25)
    del world.objects[POLICY]
    assert "no policy pyairtable-keep-blue says how long blue stays; run pulumi up" in not_retired(traffic)


def test_a_deployment_of_before_makes_that_time_no_longer(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 1)
    co_owned(world, 1000)
    assert "green has had all traffic for 60 min" in not_retired(traffic)


def test_blue_stays_while_green_has_less_than_everything(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(50, ago=25 * HOUR)
    assert "green has 50 % of the traffic, the annotation says 50, Pulumi.prod.yaml 0; all" in not_retired(traffic)


def test_blue_stays_where_the_file_would_bring_traffic_back(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(100, ago=25 * HOUR)
    assert "Pulumi.prod.yaml 0; all have to be 100 first" in not_retired(traffic)


def test_blue_stays_where_nobody_knows_since_when(traffic: Traffic, world: TrafficWorld) -> None:
    at_100(traffic, world, 25)
    del world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"]
    assert "the API server does not say since when green has all traffic" in not_retired(traffic)
