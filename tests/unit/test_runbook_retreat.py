"""Retreat: from phase 4 to 3 in deployments of which each can fail."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from runbook import retreat
from runbook.kubectl import KubectlError
from runbook.stack_config import StackConfig
from tests.unit.traffic_world import DRAIN_SECONDS, GATEWAYS, VIRTUAL_SERVICE, Traffic, TrafficWorld, migration


@pytest.fixture
def world() -> TrafficWorld:
    return TrafficWorld()


class Deployments:
    """Plays `pulumi up`: what it is run with, and what the stack file said."""

    def __init__(self, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
        self.traffic = traffic
        self.commands: list[list[str]] = []
        self.seen: list[tuple[Any, ...]] = []
        self.codes: list[int] = []
        self.interrupts = 0
        self.before: Callable[[], object] = lambda: None
        self.seconds = 0.0
        """How long each takes."""
        monkeypatch.setattr(retreat.subprocess, "Popen", self._popen)
        monkeypatch.setattr(retreat.shutil, "which", lambda _: "/usr/bin/pulumi")
        monkeypatch.delenv("PULUMI_ORGANIZATION", raising=False)

    def _popen(self, command: list[str], **_: object) -> Self:
        config = self.traffic.target.config
        keys = ("phase", "blueGreen.greenWeight", "blueGreen.mtls", "blueGreen.stopped")
        self.before()
        self.commands.append(command)
        self.ends = self.traffic.world.seconds + self.seconds
        self.seen.append(tuple(config.get(key, None) for key in keys))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float) -> int:
        world = self.traffic.world
        if world.seconds < self.ends:
            world.sleep(timeout)
            raise subprocess.TimeoutExpired(self.commands[-1], timeout)
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        code = self.codes.pop(0) if self.codes else 0
        if not code:
            self.traffic.outputs |= {"phase": self.seen[-1][0], "green_weight": self.seen[-1][1]}
        return code


@pytest.fixture
def traffic(world: TrafficWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic(world, tmp_path, monkeypatch)
    traffic.config(greenWeight=50, mtls="strict")
    traffic.outputs["green_weight"] = 50
    return traffic


@pytest.fixture
def deployments(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> Deployments:
    return Deployments(traffic, monkeypatch)


STEPS = ["traffic-config", "traffic", "gateways", "mesh-config", "mesh", "config"]
FIRST, SECOND = (4, 0, "permissive", "green"), (3, 0, "permissive", "green")


def test_the_traffic_goes_first_and_then_the_mesh(traffic: Traffic, deployments: Deployments) -> None:
    told = traffic.run("retreat").stdout
    assert deployments.seen == [FIRST, SECOND]
    assert deployments.commands == [["/usr/bin/pulumi", "up", "--stack", "prod"]] * 2
    assert told == "prod is at phase 3; commit Pulumi.prod.yaml\n"


def test_the_gateways_end_before_their_routes_go(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    left: list[int] = []
    deployments.before = lambda: left.append(len(world.envoys))
    traffic.run("retreat")
    assert left == [2, 0]
    assert world.seconds >= DRAIN_SECONDS


def test_gateways_that_do_not_end_are_told_and_keep_their_routes(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    del world.objects[GATEWAYS]  # and nobody takes their pods away
    told = traffic.run("retreat", expect=1).stderr.splitlines()[-1]
    assert told == (
        "error: 2 of the gateways' pods are still there; waited 120 s; blue has all traffic; run runbook retreat "
        "--stack prod again"
    )
    assert deployments.seen == [FIRST]


def test_mtls_and_green_are_left_as_the_way_up_wants_them(traffic: Traffic, deployments: Deployments) -> None:
    traffic.run("retreat")
    assert len(deployments.seen) == 2
    assert (traffic.config()["mtls"], traffic.config()["stopped"]) == ("strict", "none")


def test_nobody_is_asked_with_yes(traffic: Traffic, deployments: Deployments) -> None:
    done = json.loads(traffic.run("retreat", "--yes", "--json").stdout)
    assert deployments.commands[0][-1] == "--yes"
    assert [step["step"] for step in done["steps"]] == STEPS


def test_a_blue_that_stands_still_comes_back_first(traffic: Traffic, deployments: Deployments) -> None:
    traffic.config(greenWeight=100, stopped="blue")
    traffic.run("retreat")
    assert deployments.seen == [(4, 100, "strict", "none"), FIRST, SECOND]


def test_a_first_deployment_that_fails_says_how_things_are(traffic: Traffic, deployments: Deployments) -> None:
    deployments.codes = [255]
    told = traffic.run("retreat", expect=1).stderr.splitlines()[-1]
    assert told == (
        "error: all traffic to blue and past the mesh, green stopped: the deployment has ended with exit code 255; the "
        "mesh is there, blue runs; run runbook retreat --stack prod again"
    )
    assert deployments.seen == [FIRST]


def test_run_again_it_goes_on_where_it_failed(traffic: Traffic, deployments: Deployments) -> None:
    deployments.codes = [0, 255]
    assert "blue has all traffic; run runbook retreat --stack prod again" in traffic.run("retreat", expect=1).stderr
    traffic.outputs["phase"] = 4
    traffic.run("retreat")
    assert deployments.seen == [FIRST, SECOND, SECOND]


def test_a_phase_that_was_edited_too_soon_is_put_back(traffic: Traffic, deployments: Deployments) -> None:
    StackConfig("prod").set({"phase": 3})
    traffic.run("retreat")
    assert deployments.seen == [FIRST, SECOND]


@pytest.mark.parametrize("left", [VIRTUAL_SERVICE, "namespace/istio-system"])
def test_a_mesh_that_has_half_gone_is_taken_away_whatever_the_outputs_say(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments, left: str
) -> None:
    deployments.codes = [0, 255]
    traffic.run("retreat", expect=1)
    traffic.outputs["phase"] = 3
    del world.objects[VIRTUAL_SERVICE]
    world.objects[left] = {"kind": "x", "metadata": {}}
    traffic.run("retreat")
    assert deployments.seen == [FIRST, SECOND, SECOND]
    assert (traffic.config()["mtls"], traffic.config()["stopped"]) == ("strict", "none")


def test_where_only_the_config_was_not_put_back_that_is_done(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    traffic.outputs["phase"] = 3
    del world.objects[VIRTUAL_SERVICE]
    traffic.config(mtls="permissive", stopped="green")
    traffic.run("retreat")
    assert deployments.commands == []
    assert (traffic.config()["mtls"], traffic.config()["stopped"]) == ("strict", "none")


def test_at_phase_3_there_is_nothing_to_do(traffic: Traffic, world: TrafficWorld, deployments: Deployments) -> None:
    traffic.outputs["phase"] = 3
    del world.objects[VIRTUAL_SERVICE]
    assert traffic.run("retreat").stdout == "prod is at phase 3\n"
    assert deployments.commands == []


def test_a_contract_migration_bars_the_way(traffic: Traffic, world: TrafficWorld, deployments: Deployments) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract")
    told = traffic.run("retreat", expect=1).stderr
    assert "the contract migrations drop-names have been applied, and blue does not know that schema; restore" in told
    assert deployments.commands == []
    assert traffic.config()["greenWeight"] == 50


def test_one_that_failed_or_force_does_not(traffic: Traffic, world: TrafficWorld, deployments: Deployments) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract", "Failed")
    deployments.codes = [1]
    traffic.run("retreat", expect=1)
    world.objects["job/drop-names"] = migration("drop-names", "contract")
    traffic.run("retreat", "--force")
    assert len(deployments.commands) == 3


def test_a_shift_that_is_under_way_bars_it(traffic: Traffic, world: TrafficWorld, deployments: Deployments) -> None:
    world.refuses["create"] = KubectlError("asking the cluster: leases is forbidden", "Forbidden")
    assert "leases is forbidden" in traffic.run("retreat", expect=1).stderr
    assert deployments.commands == []


def test_its_lease_is_kept_until_the_last_deployment_has_ended(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    deployments.seconds = 300
    held: list[bool] = []
    for seconds in (10, 150, 290, 450, 590 + DRAIN_SECONDS):
        world.at(seconds, lambda: held.append("lease/runbook-shift" in world.objects))
    traffic.run("retreat")
    assert held == [True] * 5
    # A third of its 60 s after the other, over two deployments and the end of the gateways.
    assert 25 <= world.asked.count("replace runbook-shift") <= (600 + DRAIN_SECONDS) / 20
    assert "lease/runbook-shift" not in world.objects


def test_one_that_has_lost_its_lease_begins_no_other_deployment(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    deployments.seconds = 300
    world.at(100, lambda: world.refuses.update(replace=KubectlError("x", "Conflict")))
    told = traffic.run("retreat", expect=1).stderr
    assert "another command has taken over, since this one stood still; the mesh is there, blue runs" in told
    assert (deployments.seen, world.seconds) == ([FIRST], 300)


def test_an_api_server_that_is_away_during_a_deployment_stops_nothing(
    traffic: Traffic, world: TrafficWorld, deployments: Deployments
) -> None:
    deployments.seconds = 300
    world.at(100, lambda: setattr(world, "away", "connection refused"))
    world.at(140, lambda: setattr(world, "away", ""))
    traffic.run("retreat")
    assert deployments.seen == [FIRST, SECOND]


def test_ctrl_c_is_the_deployments_to_end_by(traffic: Traffic, deployments: Deployments) -> None:
    deployments.interrupts, deployments.codes = 2, [130]
    told = traffic.run("retreat", expect=130).stderr
    assert "interrupted; the mesh is there, blue runs; run runbook retreat" in told
    assert deployments.codes == []


def test_without_pulumi_that_is_told(
    traffic: Traffic, deployments: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retreat.shutil, "which", lambda _: None)
    assert "looking for pulumi: it is not on PATH" in traffic.run("retreat", expect=2).stderr
    assert deployments.commands == []


def test_in_the_sandbox_its_own_command_deploys(traffic: Traffic, deployments: Deployments, tmp_path: Path) -> None:
    from sandbox.state import State

    State(tmp_path / "state").prepare()
    traffic.state_folder = tmp_path / "state"
    assert traffic.run("retreat", "--sandbox").stdout == "prod is at phase 3\n"
    up = [sys.executable, "-m", "sandbox", "up", "--stack", "prod", "--state-dir", str(tmp_path / "state")]
    assert deployments.commands == [up, up]
    assert deployments.seen == [FIRST, SECOND]
