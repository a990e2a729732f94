"""Shift: green gets more step by step, and everything that makes it go back or stop."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import RunbookError
from runbook.kubectl import KubectlError
from runbook.progress import Progress
from runbook.stack_config import StackConfig
from runbook.watch import Figures
from tests.unit.traffic_world import CRONJOB, NO_ISTIOD, VIRTUAL_SERVICE, Envoy, Traffic, TrafficWorld, migration

LEASE = "lease/runbook-shift"


@pytest.fixture
def world() -> TrafficWorld:
    return TrafficWorld()


@pytest.fixture
def traffic(world: TrafficWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(world, tmp_path, monkeypatch)


def shift(traffic: Traffic, to: str = "10,50,100", *more: str, hold: str = "20s", expect: int = 0) -> Any:
    return traffic.run("shift", "--to", to, "--hold", hold, *more, expect=expect)


def shifted(traffic: Traffic, to: str = "10,50,100", *more: str, expect: int = 0, hold: str = "20s") -> dict[str, Any]:
    return json.loads(shift(traffic, to, "--json", *more, hold=hold, expect=expect).stdout)


# The way up


def test_every_step_is_held_and_told(traffic: Traffic, world: TrafficWorld) -> None:
    done = shifted(traffic)
    assert (done["from"], done["weight"], done["result"], done["told"]) == (0, 100, "held", "")
    assert [step["weight"] for step in done["steps"]] == [10, 50, 100]
    assert [step["seconds"] for step in done["steps"]] == [20, 20, 20]
    assert all(datetime.fromisoformat(step["began"]).tzinfo for step in done["steps"])
    assert [step["green"]["requests"] for step in done["steps"]] == [400, 2000, 4000]
    assert [step["blue"]["requests"] for step in done["steps"]] == [3600, 2000, 0]
    assert done["steps"][0]["green"]["p95_ms"] == 9.75
    assert done["steps"][2]["blue"]["p95_ms"] is None
    assert world.weight == 100


def test_weight_annotation_and_stack_file_move_together(traffic: Traffic, world: TrafficWorld) -> None:
    shift(traffic, "10")
    assert world.weight == 10
    assert world.objects[VIRTUAL_SERVICE]["metadata"]["annotations"] == {"pyairtable.io/green-weight": "10"}
    assert "    greenWeight: 10 # moved by the runbook\n" in traffic.file.read_text()


def test_a_weight_change_leaves_everything_else_of_the_route(traffic: Traffic, world: TrafficWorld) -> None:
    before = json.loads(json.dumps(world.objects[VIRTUAL_SERVICE]["spec"]))
    shift(traffic, "10")
    before["http"][1]["route"][0]["weight"], before["http"][1]["route"][1]["weight"] = 90, 10
    assert world.objects[VIRTUAL_SERVICE]["spec"] == before


def test_people_are_told_what_to_commit(traffic: Traffic) -> None:
    told = shift(traffic, "10,50").stdout
    assert told.startswith("shifted prod from 0 to 50 % green in ")
    assert told.endswith("that is noted in Pulumi.prod.yaml: commit it\n")


def test_where_all_traffic_is_already_there_is_nothing_to_do(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(50, by="runbook")
    traffic.config(greenWeight=50)
    assert shift(traffic, "10,50").stdout == "prod is at 50 % green already\n"
    assert shifted(traffic, "10,50")["result"] == "nothing to do"


def test_a_shift_goes_up_only(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(50, by="runbook")
    traffic.config(greenWeight=50)
    assert "it is at 50 % green, and a shift goes up only" in shift(traffic, "10", expect=2).stderr


def test_one_that_died_is_picked_up_where_the_traffic_is(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(50, by="runbook")  # and this checkout's file says 0
    done = shifted(traffic)
    assert [step["weight"] for step in done["steps"]] == [50, 100]
    assert traffic.config()["greenWeight"] == 100


def test_the_lease_of_one_that_died_is_taken_over_after_its_time(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects[LEASE] = {
        "kind": "Lease",
        "metadata": {"name": "runbook-shift", "resourceVersion": "1"},
        "spec": {"holderIdentity": "ann@laptop:1", "renewTime": "2026-08-01T11:59:01Z", "leaseDurationSeconds": 60},
    }
    told = shift(traffic, "10", expect=1).stderr
    assert "beginning the shift of prod: ann@laptop:1 is at it since ?; wait for its end" in told
    world.seconds = 2
    shift(traffic, "10")
    assert LEASE not in world.objects


def test_the_lease_is_kept_during_a_long_hold(traffic: Traffic, world: TrafficWorld) -> None:
    shift(traffic, "10", hold="2m")
    assert 5 <= world.asked.count("replace runbook-shift") <= 6


def test_one_that_has_lost_its_lease_stops(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(5, lambda: world.refuses.update(replace=KubectlError("x", "Conflict")))
    done = shifted(traffic, "10", hold="2m", expect=1)
    assert "another command has taken over" in done["told"]
    assert (done["result"], world.weight) == ("stopped", 10)


# Bad input


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("101", '"101": weights are whole numbers from 1 to 100, such as 10,50,100'),
        ("0", "weights are whole numbers"),
        ("ten", "weights are whole numbers"),
        ("", "weights are whole numbers"),
        ("50,10", '"50,10": weights must rise'),
        ("10,10", "weights must rise"),
    ],
)
def test_weights_are_checked_before_anything(traffic: Traffic, world: TrafficWorld, to: str, told: str) -> None:
    assert told in shift(traffic, to, expect=2).stderr
    assert world.asked == []


# The checks


def refused(traffic: Traffic, world: TrafficWorld) -> str:
    told = shift(traffic, "10", expect=1).stderr.splitlines()[-1]
    assert not [asked for asked in world.asked if asked.startswith("patch")]
    assert LEASE not in world.objects
    return told


def test_without_a_virtual_service_there_is_no_shift(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[VIRTUAL_SERVICE]
    assert "looking for the VirtualService api-gateway: there is none; deploy" in refused(traffic, world)


def test_a_route_that_is_not_the_programs_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects[VIRTUAL_SERVICE]["spec"]["http"].pop()
    assert "it is not as the program makes it; pulumi up --refresh --stack prod" in refused(traffic, world)


def test_a_weight_set_by_hand_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(30, by="kubectl-patch", annotation="0")
    assert (
        "in-step: the mesh has 30, the annotation 0, Pulumi.prod.yaml 0, deployed was 0; see runbook traffic --stack"
        in refused(traffic, world)
    )


def test_a_weight_that_somebody_else_has_noted_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(30, by="kubectl-patch")
    assert "in-step: the mesh has 30, the annotation 30" in refused(traffic, world)


def test_a_green_that_never_becomes_ready_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.availability("auth-service-green", 1)
    assert "green: not available: auth-service-green; see kubectl -n pyairtable get pods" in refused(traffic, world)


def test_a_green_that_is_being_rolled_out_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["deployment/auth-service-green"]["metadata"]["generation"] = 2
    assert "green: not available: auth-service-green" in refused(traffic, world)


def test_a_green_that_stands_still_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["deployment/api-gateway-green"]["spec"]["replicas"] = 0
    world.availability("api-gateway-green", 0)
    assert "green: not available: api-gateway-green" in refused(traffic, world)


def test_without_green_there_is_no_shift(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects["deployment/api-gateway-green"], world.objects["deployment/auth-service-green"]
    assert "green: there is no Deployment with version green; deploy with blueGreen.enabled" in refused(traffic, world)


def test_without_a_blue_to_go_back_to_there_is_no_shift(traffic: Traffic, world: TrafficWorld) -> None:
    world.availability("api-gateway", 0)
    assert "blue: not available: api-gateway;" in refused(traffic, world)


def test_a_migration_that_is_not_complete_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["job/expand-users"] = migration("expand-users", "expand", "Failed")
    assert "migrations: not complete: expand-users; see kubectl -n pyairtable logs job/" in refused(traffic, world)


def test_gateways_that_hear_nothing_of_istiod_are_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.envoys["gateway-2"].connected = False
    assert "gateways: gateway-2 hears nothing of istiod" in refused(traffic, world)


def test_a_gateway_that_shows_nothing_is_refused(traffic: Traffic, world: TrafficWorld) -> None:
    world.envoys["gateway-2"].answers = False
    assert "gateways: gateway-2 does not show its statistics" in refused(traffic, world)


def test_without_a_gateway_there_is_no_shift(traffic: Traffic, world: TrafficWorld) -> None:
    world.envoys.clear()
    assert "gateways: there is no gateway" in refused(traffic, world)


def test_everything_that_is_wrong_is_told_at_once(traffic: Traffic, world: TrafficWorld) -> None:
    world.availability("api-gateway-green", 0)
    world.envoys["gateway-2"].connected = False
    told = refused(traffic, world)
    assert told.startswith("error: checking prod before the shift: green: ")
    assert "; gateways: gateway-2" in told
    assert told.endswith("; nothing has been touched")


def test_under_traffic_an_autoscaler_may_be_adding_a_pod(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(10, by="runbook")
    traffic.config(greenWeight=10)
    world.availability("auth-service-green", 1)
    shift(traffic, "50")


# The dump


def test_before_the_first_request_to_green_postgresql_is_dumped(traffic: Traffic, world: TrafficWorld) -> None:
    shift(traffic, "10")
    (name,) = [name for name in world.objects if name.startswith("job/postgres-backup")]
    made = world.objects[name]
    assert name == "job/postgres-backup-before-shift-20260801120000"
    assert made["metadata"]["labels"] == {"app": "postgres-backup"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-of-backup"
    assert made["spec"] == {"template": {}}
    asked = [call.partition(" ")[0] for call in world.asked]
    assert asked.index("patch") > [i for i, verb in enumerate(asked) if verb == "create"][-1]


def test_a_shift_that_goes_on_takes_no_dump(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(10, by="runbook")
    traffic.config(greenWeight=10)
    shift(traffic, "50")
    assert not any(name.startswith("job/postgres-backup") for name in world.objects)


@pytest.mark.parametrize(("minutes", "dumps"), [(59, 1), (61, 2)])
def test_a_dump_of_the_last_hour_is_good_enough(
    traffic: Traffic, world: TrafficWorld, minutes: int, dumps: int
) -> None:
    shift(traffic, "10")
    for made in world.objects.values():
        made.get("status", {}).setdefault("completionTime", "2026-08-01T12:00:02Z")
    world.set_weight(0)
    traffic.config(greenWeight=0)
    world.seconds = minutes * 60 + 2
    shift(traffic, "10")
    assert len([name for name in world.objects if name.startswith("job/postgres-backup")]) == dumps


def test_a_nightly_dump_of_the_last_hour_is_good_enough_too(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects[CRONJOB]["status"] = {"lastSuccessfulTime": "2026-08-01T11:30:00Z"}
    shift(traffic, "10")
    assert not any(name.startswith("job/postgres-backup") for name in world.objects)


def test_a_dump_that_fails_stops_it(traffic: Traffic, world: TrafficWorld) -> None:
    world.finishes_jobs = "Failed"
    assert "dumping PostgreSQL: job/postgres-backup-before-shift-20260801120000 has failed" in refused(traffic, world)


def test_without_a_backup_there_is_no_shift(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[CRONJOB]
    assert "dumping PostgreSQL: there is no CronJob postgres-backup" in refused(traffic, world)


# Back by itself


def goes_back(traffic: Traffic, world: TrafficWorld, to: str = "10,50", *, hold: str = "20s") -> dict[str, Any]:
    done = shifted(traffic, to, hold=hold, expect=1)
    assert (world.weight, done["weight"], done["steps"][-1]["result"]) == (0, 0, "went back")
    assert traffic.config()["greenWeight"] == 0
    assert done["rollback"]["before"] == done["steps"][-1]["weight"]
    assert "all traffic is on blue again" in done["told"]
    return done


def test_green_that_crashes_is_left_at_once(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(25, lambda: world.failing.update(green=1.0))
    done = goes_back(traffic, world)
    assert done["steps"][-1]["weight"] == 50
    assert done["steps"][-1]["seconds"] <= 5
    assert "shifting prod: at 50 % green failed " in done["told"]
    assert "more than 0.1%" in done["told"]


def test_a_few_failures_are_judged_at_the_end_of_the_step(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(5, lambda: world.envoys["gateway-1"].serve("green", 2, failed=2))
    done = goes_back(traffic, world)
    assert len(done["steps"]) == 1
    assert done["steps"][0]["seconds"] == 20
    assert "green failed 2 of 402 requests, 0.50%" in done["told"]


def test_one_failure_of_more_than_a_thousand_is_within_the_bounds(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(5, lambda: world.envoys["gateway-1"].serve("green", 1, failed=1))
    assert shifted(traffic, "50")["steps"][0]["green"]["failed"] == 1


def test_blue_may_fail_as_it_likes(traffic: Traffic, world: TrafficWorld) -> None:
    world.failing["blue"] = 0.5
    shift(traffic, "50")


def test_green_that_is_slow_is_left(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(5, lambda: world.milliseconds.update(green=240))
    done = goes_back(traffic, world)
    assert "green's p95 was 2" in done["told"]
    assert "ms over the last 10 s, more than 200 ms" in done["told"]


def test_slowness_before_the_window_is_forgotten(traffic: Traffic, world: TrafficWorld) -> None:
    world.rate = 100
    world.at(5, lambda: world.envoys["gateway-1"].serve("green", 5, milliseconds=240))
    world.at(30, lambda: world.envoys["gateway-1"].serve("green", 5, milliseconds=240))
    shift(traffic, "10", hold="1m")


def test_a_few_slow_requests_say_nothing(traffic: Traffic, world: TrafficWorld) -> None:
    world.rate, world.milliseconds["green"] = 40, 240
    shift(traffic, "10", "--min-requests", "10")


def test_a_green_deployment_without_pods_is_left_after_5_seconds(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: world.availability("auth-service-green", 0))
    done = goes_back(traffic, world)
    assert "auth-service-green has had no available pod for 5 s" in done["told"]
    assert 9 <= done["steps"][-1]["seconds"] <= 13


def test_green_that_hangs_is_left_after_10_seconds(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: world.hanging.update(green=3))
    done = goes_back(traffic, world, "10", hold="1m")
    assert "at 10 % green holds 6 requests and has answered none for 10 s" in done["told"]
    assert 14 <= done["steps"][-1]["seconds"] <= 18


def test_green_that_holds_a_few_requests_does_not_hang(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: world.hanging.update(green=2))
    shift(traffic, "10", "--min-requests", "10", hold="1m")


def test_green_that_answers_now_and_then_does_not_hang(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: world.hanging.update(green=3))
    for second in (12, 20, 28, 36, 44, 52, 60):
        world.at(second, lambda: world.envoys["gateway-1"].serve("green", 1))
    shift(traffic, "10", "--min-requests", "10", hold="1m")


def test_blue_may_hang(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: world.hanging.update(blue=30))
    shift(traffic, "50", hold="1m")


def test_one_that_is_back_within_them_is_not(traffic: Traffic, world: TrafficWorld) -> None:
    for start in (6, 12):
        world.at(start, lambda: world.availability("auth-service-green", 0))
        world.at(start + 4, lambda: world.availability("auth-service-green", 2))
    shift(traffic, "10")


def green_fails(world: TrafficWorld, error: KubectlError, *, until: float) -> None:
    def breaks() -> None:
        world.failing["green"] = 1.0
        world.refuses_until["patch"] = (until, error)

    world.at(5, breaks)


@pytest.mark.parametrize("error", [KubectlError("asking the cluster: no leader"), NO_ISTIOD])
def test_going_back_is_tried_until_the_cluster_takes_it(
    traffic: Traffic, world: TrafficWorld, error: KubectlError
) -> None:
    green_fails(world, error, until=30)
    assert goes_back(traffic, world, "10")["rollback"]["patched_at"] >= 0
    assert world.seconds == 30


@pytest.mark.parametrize("error", [KubectlError("asking the cluster: no leader"), NO_ISTIOD])
def test_going_back_that_fails_for_half_a_minute_is_told(
    traffic: Traffic, world: TrafficWorld, error: KubectlError
) -> None:
    green_fails(world, error, until=1000)
    done = shifted(traffic, "10", expect=1)
    assert f"going back has failed: {error}; tried for 30 s; greenWeight is 0 in Pulumi.prod.yaml" in done["told"]
    assert "again; the traffic goes on at 10 % green" in done["told"]
    assert (done["rollback"], done["weight"], world.weight, traffic.config()["greenWeight"]) == (None, 10, 10, 0)


def test_to_a_blue_that_does_not_know_the_schema_it_does_not_go_back(traffic: Traffic, world: TrafficWorld) -> None:
    def breaks() -> None:
        world.failing["green"] = 1.0
        world.objects["job/drop-names"] = migration("drop-names", "contract")

    world.at(5, breaks)
    done = shifted(traffic, "100", expect=1)
    assert "more than 0.1%; not going back: rolling back prod: the contract migrations drop-names have" in done["told"]
    assert "the traffic goes on at 100 % green" in done["told"]
    assert (done["weight"], world.weight, traffic.config()["greenWeight"]) == (100, 100, 100)


def test_ctrl_c_while_it_is_tried_says_where_the_traffic_is(traffic: Traffic, world: TrafficWorld) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    green_fails(world, NO_ISTIOD, until=1000)
    world.at(20, interrupt)
    done = shifted(traffic, "10", expect=130)
    assert "going back has failed: interrupted while rolling back; greenWeight is 0 in Pulumi.prod.yaml" in done["told"]
    assert "again; the traffic goes on at 10 % green" in done["told"]


def test_ctrl_c_after_the_way_back_still_brings_the_file_in_line(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        traffic.config(greenWeight=10)
        raise KeyboardInterrupt

    world.at(5, lambda: world.failing.update(green=1.0))
    monkeypatch.setattr("runbook.rollback._confirm", interrupted)
    done = shifted(traffic, "10", expect=130)
    assert "more than 0.1%; interrupted while going back; the traffic goes on at 0 % green" in done["told"]
    assert (done["weight"], world.weight, traffic.config()["greenWeight"]) == (0, 0, 0)


def test_what_is_left_to_do_after_going_back_is_told(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> None:
        world.failing["green"] = 1.0
        monkeypatch.setattr(StackConfig, "set", fails)

    def fails(*_: object) -> None:
        raise RunbookError("writing Pulumi.prod.yaml: no room")

    world.at(5, breaks)
    done = shifted(traffic, "10", expect=1)
    assert "all traffic is on blue again; the mesh and its annotation are at 0, Pulumi.prod.yaml is not" in done["told"]


# Stopping


def stops(traffic: Traffic, world: TrafficWorld, to: str = "10,50", *, hold: str = "20s", expect: int = 1) -> str:
    done = shifted(traffic, to, hold=hold, expect=expect)
    assert done["weight"] == world.weight
    assert done["rollback"] is None
    return done["told"]


def test_a_rollback_by_somebody_else_stops_it(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: world.set_weight(0, by="runbook"))
    told = stops(traffic, world)
    assert "runbook has moved the traffic to 0 %, the annotation says 0; the traffic goes on at 0 % green" in told
    assert traffic.config()["greenWeight"] == 0


def test_one_in_the_moment_of_a_step_is_not_undone(traffic: Traffic, world: TrafficWorld) -> None:
    patch = world.patch

    def patch_after_a_rollback(path: str, change: Any, field_manager: str = "") -> Any:
        if len(world.asked) > 30 and world.weight == 10:
            world.set_weight(0, by="runbook")
        return patch(path, change, field_manager)

    world.patch = patch_after_a_rollback
    assert "runbook has moved the traffic to 0 %" in stops(traffic, world)


def test_a_weight_changed_past_the_annotation_stops_it(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: world.set_weight(30, by="", annotation="10"))
    assert "somebody has moved the traffic to 30 %" in shifted(traffic, "10", expect=1)["told"]
    assert world.weight == 30


def test_a_virtual_service_that_goes_stops_it(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: world.objects.pop(VIRTUAL_SERVICE))
    done = shifted(traffic, "10", expect=1)
    assert "the VirtualService api-gateway is gone; the traffic goes on at 10 % green" in done["told"]


def test_istiod_that_dies_stops_it_and_traffic_goes_on(traffic: Traffic, world: TrafficWorld) -> None:
    def dies() -> None:
        for envoy in world.envoys.values():
            envoy.connected = False

    world.at(8, dies)
    told = stops(traffic, world)
    assert "gateway gateway-1 hears nothing of istiod; see kubectl -n istio-system get pods" in told
    assert "the traffic goes on at 10 % green; go on with runbook shift --stack prod --to ..., or back with " in told
    assert world.weight == 10


def test_a_gateway_that_is_lost_at_the_end_of_a_step_does_not_get_the_next(
    traffic: Traffic, world: TrafficWorld
) -> None:
    world.at(21.5, lambda: setattr(world.envoys["gateway-2"], "connected", False))
    assert "gateway gateway-2 hears nothing of istiod; the traffic goes on at 10 %" in stops(traffic, world)


def test_a_gateway_that_is_lost_and_then_deleted_is_forgotten(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: setattr(world.envoys["gateway-2"], "connected", False))
    world.at(10, lambda: world.envoys.pop("gateway-2"))
    assert shifted(traffic, "10")["result"] == "held"


def test_a_short_break_of_istiods_is_none(traffic: Traffic, world: TrafficWorld) -> None:
    for start, connected in ((6, False), (8, True), (10, False), (12, True)):
        world.at(start, lambda connected=connected: setattr(world.envoys["gateway-1"], "connected", connected))
    shift(traffic, "10")


def test_an_api_server_that_is_away_is_waited_for(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: setattr(world, "away", "connection refused"))
    world.at(28, lambda: setattr(world, "away", ""))
    done = shifted(traffic, "10")
    assert done["result"] == "held"
    assert done["steps"][0]["green"]["requests"] == done["steps"][0]["seconds"] * 20


def test_but_not_for_ever(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, lambda: setattr(world, "away", "connection refused"))
    done = shifted(traffic, "10,50", hold="5m", expect=1)
    assert "asking the cluster: connection refused; waited 30 s; the traffic goes on at 10 % green" in done["told"]
    assert 30 <= done["steps"][0]["seconds"] <= 40
    assert world.weight == 10


def test_gateways_that_are_all_away_are_no_good_sign_either(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(8, world.envoys.clear)
    assert "looking at the gateways: none of them answers; waited 30 s" in stops(traffic, world, "10")


def test_a_stack_file_that_cannot_be_written_stops_it(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RunbookError("writing Pulumi.prod.yaml: no room")

    monkeypatch.setattr(StackConfig, "set", fails)
    done = shifted(traffic, expect=1)
    assert "shifting prod: writing Pulumi.prod.yaml: no room; the traffic goes on at 10 % green" in done["told"]
    assert (world.weight, done["weight"]) == (10, 10)


def test_ctrl_c_leaves_the_traffic_where_it_is(traffic: Traffic, world: TrafficWorld) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    world.at(8, interrupt)
    assert "interrupted; the traffic goes on at 10 % green" in stops(traffic, world, expect=130)


def test_ctrl_c_after_the_patch_still_brings_the_file_in_line(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_, calls = StackConfig.set, []

    def interrupted_once(config: StackConfig, changes: Any) -> None:
        calls.append(changes)
        if len(calls) == 1:
            raise KeyboardInterrupt
        set_(config, changes)

    monkeypatch.setattr(StackConfig, "set", interrupted_once)
    shift(traffic, "10", expect=130)
    assert traffic.config()["greenWeight"] == 10


def test_a_step_with_few_requests_is_not_judged(traffic: Traffic, world: TrafficWorld) -> None:
    world.rate = 20
    done = shifted(traffic, "10,50", expect=3)
    assert (done["result"], world.weight, len(done["steps"])) == ("not judged", 10, 1)
    assert "green got 40 requests at 10 %, and fewer than 100 say nothing; hold it for longer" in done["told"]


def test_how_many_are_enough_can_be_said(traffic: Traffic, world: TrafficWorld) -> None:
    world.rate = 20
    assert shifted(traffic, "10", "--min-requests", "40")["result"] == "held"


# Counting


def test_a_gateway_that_comes_is_counted_from_its_start(traffic: Traffic, world: TrafficWorld) -> None:
    def comes() -> None:
        world.envoys["gateway-3"] = Envoy()

    world.at(8, comes)
    done = shifted(traffic, "50")
    assert done["steps"][0]["green"]["requests"] == pytest.approx(2000, abs=20)


def test_a_gateway_that_starts_anew_is_counted_from_there(traffic: Traffic, world: TrafficWorld) -> None:
    world.envoys["gateway-1"].serve("green", 10_000, failed=5_000, milliseconds=900)

    def restarts() -> None:
        world.envoys["gateway-1"] = Envoy()

    world.at(9, restarts)
    done = shifted(traffic, "50")
    assert done["steps"][0]["green"]["requests"] == pytest.approx(2000, abs=60)
    assert done["steps"][0]["green"]["failed"] == 0


def test_one_that_does_not_answer_for_a_while_is_counted_when_it_does(traffic: Traffic, world: TrafficWorld) -> None:
    world.at(6, lambda: setattr(world.envoys["gateway-1"], "answers", False))
    world.at(12, lambda: setattr(world.envoys["gateway-1"], "answers", True))
    assert shifted(traffic, "50")["steps"][0]["green"]["requests"] == 2000


def test_what_a_gateway_served_before_the_shift_does_not_count(traffic: Traffic, world: TrafficWorld) -> None:
    for envoy in world.envoys.values():
        envoy.serve("green", 1000, failed=500)
    world.at(1, lambda: world.envoys["gateway-1"].serve("green", 100, failed=100))  # during the dump
    assert shifted(traffic, "10")["steps"][0]["green"]["failed"] == 0


# What is shown


def test_elsewhere_than_on_a_terminal_a_line_comes_every_10_seconds(traffic: Traffic) -> None:
    lines = [line for line in shift(traffic, "10", hold="30s").stderr.splitlines() if line.startswith(" 10 %")]
    assert len(lines) == 4
    assert lines[-1] == (
        " 10 % ██░░░░░░░░░░░░░░░░░░ 30 of 30 s  blue 5400 requests, 0.00% failed, p95 10 ms  "
        "green 600 requests, 0.00% failed, p95 10 ms  held"
    )


def test_on_a_terminal_the_line_is_redrawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress, figures = Progress(30), Figures(weight=50)
    progress.show(figures)
    progress.show(figures, "no answer")
    progress.end(figures)
    shown = capsys.readouterr().err
    assert shown.count("\r\033[K") == 3
    assert "  no answer\033[?7h\r" in shown
    assert f"\033[32m{'█' * 10}\033[0m\033[34m{'░' * 10}\033[0m 0 of 30 s" in shown
    assert shown.endswith("stopped\n")
