"""Rollback: the patch first, everything else later, and whatever is in its way."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runbook import quick, stack_config
from runbook.errors import BadInputError, RunbookError
from runbook.kubectl import Kubectl, KubectlError
from runbook.quick import quickly
from runbook.stack_config import StackConfig
from runbook.target import Place
from runbook.traffic import PATH as VIRTUAL_SERVICE_PATH
from sandbox.state import State, write_json
from tests.unit.traffic_world import NO_ISTIOD, VIRTUAL_SERVICE, Traffic, TrafficWorld, migration


@pytest.fixture
def world() -> TrafficWorld:
    world = TrafficWorld()
    world.set_weight(50, by="runbook")
    return world


@pytest.fixture
def traffic(world: TrafficWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic(world, tmp_path, monkeypatch)
    traffic.config(greenWeight=50)
    return traffic


def rolled_back(traffic: Traffic, *more: str, expect: int = 0) -> dict[str, Any]:
    return json.loads(traffic.run("rollback", "--json", *more, expect=expect).stdout)


def test_all_traffic_goes_to_blue_in_mesh_annotation_and_file(traffic: Traffic, world: TrafficWorld) -> None:
    done = rolled_back(traffic)
    assert (done["before"], done["weight"], done["trouble"]) == (50, 0, [])
    assert (world.weight, traffic.config()["greenWeight"]) == (0, 0)
    assert world.objects[VIRTUAL_SERVICE]["metadata"]["annotations"] == {"pyairtable.io/green-weight": "0"}
    assert world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"][0]["manager"] == "runbook"
    assert done["gateways"] == ["gateway-1", "gateway-2"]


def test_the_patch_is_one_of_the_first_calls_and_the_only_one(traffic: Traffic, world: TrafficWorld) -> None:
    traffic.run("rollback")
    verbs = [asked.partition(" ")[0] for asked in world.asked]
    assert verbs[:3] == ["read", "get", "patch"]
    assert verbs.count("patch") == 1


def test_it_takes_no_lease(traffic: Traffic, world: TrafficWorld) -> None:
    traffic.run("rollback")
    assert not [asked for asked in world.asked if "runbook-shift" in asked]


def test_people_are_told_what_to_commit(traffic: Traffic) -> None:
    told = traffic.run("rollback").stdout
    assert told.startswith("rolled back prod from 50 to 0 % green in ")
    assert told.endswith(" s; commit Pulumi.prod.yaml, or a pipeline is refused\n")


def test_at_0_already_it_brings_the_file_in_line(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(0, by="kubectl")
    assert rolled_back(traffic)["before"] == 0
    assert traffic.config()["greenWeight"] == 0


def test_a_blue_that_was_to_be_stopped_is_not(traffic: Traffic) -> None:
    traffic.config(greenWeight=100, stopped="blue")
    traffic.run("rollback")
    assert traffic.config()["stopped"] == "none"


def test_a_green_that_is_to_be_stopped_may_be(traffic: Traffic) -> None:
    traffic.config(greenWeight=0, stopped="green")
    traffic.run("rollback")
    assert traffic.config()["stopped"] == "green"


def test_a_broken_green_is_no_obstacle(traffic: Traffic, world: TrafficWorld) -> None:
    for name in ("api-gateway-green", "auth-service-green"):
        world.availability(name, 0)
    traffic.run("rollback")
    assert world.weight == 0


def test_without_istiod_it_says_that_nothing_is_confirmed(traffic: Traffic, world: TrafficWorld) -> None:
    world.envoys["gateway-2"].connected = False
    done = rolled_back(traffic, expect=1)
    assert done["unconfirmed"] == ["gateway-2"]
    (trouble,) = done["trouble"]
    assert trouble == (
        "the mesh is told, but gateway-2 has not confirmed: it hears nothing of istiod, and sends requests as before "
        "until istiod is back; see kubectl -n istio-system get pods"
    )
    assert (world.weight, traffic.config()["greenWeight"]) == (0, 0)


def test_gateways_that_cannot_be_asked_do_not_undo_it(traffic: Traffic, world: TrafficWorld) -> None:
    get = world.get

    def fails(path: str) -> Any:
        if "/pods" in path:
            raise KubectlError("asking the cluster: pods is forbidden")
        return get(path)

    world.get = fails
    told = traffic.run("rollback", expect=1).stderr
    assert "whether the gateways have heard cannot be seen: asking the cluster: pods is forbidden" in told
    assert (world.weight, traffic.config()["greenWeight"]) == (0, 0)


def test_a_file_that_cannot_be_written_does_not_undo_it(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RunbookError("writing Pulumi.prod.yaml: No space left on device")

    monkeypatch.setattr(StackConfig, "set", fails)
    told = traffic.run("rollback", expect=1).stderr.splitlines()[-1]
    assert told == (
        "error: rolling back: the mesh and its annotation are at 0, Pulumi.prod.yaml is not: writing Pulumi.prod.yaml: "
        "No space left on device; set blueGreen.greenWeight to 0 there before the next deployment"
    )
    assert world.weight == 0


def test_a_blue_that_stands_still_gets_no_traffic(traffic: Traffic, world: TrafficWorld) -> None:
    world.availability("api-gateway", 0)
    told = traffic.run("rollback", expect=1).stderr
    assert "rolling back prod: blue has no pod that could serve; set blueGreen.stopped to none, run pulumi up" in told
    assert world.weight == 50


def test_unless_it_is_forced(traffic: Traffic, world: TrafficWorld) -> None:
    world.availability("api-gateway", 0)
    traffic.run("rollback", "--force")
    assert world.weight == 0


def test_at_0_already_it_makes_the_weight_its_own_so_that_no_deployment_under_way_gives_green_more(
    traffic: Traffic, world: TrafficWorld
) -> None:
    world.set_weight(0)
    traffic.run("rollback")
    (owner,) = world.objects[VIRTUAL_SERVICE]["metadata"]["managedFields"]
    assert owner["manager"] == "runbook"
    assert world.objects[VIRTUAL_SERVICE]["metadata"]["annotations"] == {"pyairtable.io/green-weight": "0"}


def test_a_blue_that_has_all_traffic_anyway_is_no_obstacle(traffic: Traffic, world: TrafficWorld) -> None:
    world.set_weight(0)
    world.availability("api-gateway", 0)
    traffic.run("rollback")


@pytest.mark.parametrize("blue", ["unknown", "unreadable"])
def test_a_blue_that_cannot_be_seen_is_no_obstacle(traffic: Traffic, world: TrafficWorld, blue: str) -> None:
    if blue == "unknown":
        del world.objects["deployment/api-gateway"]
    else:
        world.availability("api-gateway", 0)
        world.forbidden = {"deployment"}
    traffic.run("rollback")
    assert world.weight == 0


def test_a_blue_that_does_not_know_the_schema_gets_no_traffic(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract")
    told = traffic.run("rollback", expect=1).stderr
    assert "the contract migrations drop-names have been applied, and blue does not know that schema; mend" in told
    assert (world.weight, traffic.config()["greenWeight"]) == (50, 50)


def test_unless_that_is_forced(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract")
    traffic.run("rollback", "--force")
    assert world.weight == 0


def test_a_contract_migration_that_failed_is_no_obstacle(traffic: Traffic, world: TrafficWorld) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract", "Failed")
    traffic.run("rollback")
    assert world.weight == 0


def test_who_may_not_see_blue_is_held_up_by_a_contract_migration_all_the_same(
    traffic: Traffic, world: TrafficWorld
) -> None:
    world.objects["job/drop-names"] = migration("drop-names", "contract")
    world.forbidden = {"deployment"}
    assert "the contract migrations drop-names" in traffic.run("rollback", expect=1).stderr


def test_without_a_virtual_service_there_is_nothing_to_roll_back(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[VIRTUAL_SERVICE]
    assert "looking for the VirtualService api-gateway: there is none" in traffic.run("rollback", expect=1).stderr


def test_who_changes_it_at_the_same_moment_does_not_win(traffic: Traffic, world: TrafficWorld) -> None:
    world.refuses["patch"] = KubectlError("asking the cluster: it has been modified", "Conflict")
    traffic.run("rollback")
    assert world.weight == 0


def test_one_that_never_gets_through_says_so(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflicts(*_: object, **__: object) -> Any:
        raise KubectlError("asking the cluster: it has been modified", "Conflict")

    monkeypatch.setattr(world, "patch", conflicts)
    assert "it has been modified; run it again" in traffic.run("rollback", expect=1).stderr
    assert traffic.config()["greenWeight"] == 50


def test_a_patch_that_the_cluster_refuses_changes_nothing(traffic: Traffic, world: TrafficWorld) -> None:
    world.refuses["patch"] = KubectlError("asking the cluster: virtualservices is forbidden", "Forbidden")
    assert "virtualservices is forbidden" in traffic.run("rollback", expect=1).stderr
    assert traffic.config()["greenWeight"] == 50


# A patch that the cluster does not take yet


def test_without_istiods_webhook_it_is_tried_until_istiod_is_back(traffic: Traffic, world: TrafficWorld) -> None:
    world.refuses_until["patch"] = (120, NO_ISTIOD)
    world.at(1, lambda: seen.append((world.weight, traffic.config()["greenWeight"])))
    seen: list[tuple[int, int]] = []
    told = traffic.run("rollback").stderr
    assert (world.weight, world.seconds) == (0, 120)
    assert world.asked.count(f"patch {VIRTUAL_SERVICE_PATH}") == 241
    assert seen == [(50, 0)]
    assert "tried for 115 s, the gateways go on as before until it is taken: asking the cluster: Internal error" in told


def test_a_moment_of_the_api_servers_after_a_long_wait_for_istiod_is_waited_for_too(
    traffic: Traffic, world: TrafficWorld
) -> None:
    world.refuses_until["patch"] = (60, NO_ISTIOD)
    world.at(50, lambda: setattr(world, "away", "connection refused"))
    world.at(70, lambda: setattr(world, "away", ""))
    traffic.run("rollback")
    assert (world.weight, world.seconds) == (0, 70)


def test_ctrl_c_while_it_is_tried_says_how_things_are(traffic: Traffic, world: TrafficWorld) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    world.refuses_until["patch"] = (120, NO_ISTIOD)
    world.at(40, interrupt)
    told = traffic.run("rollback", expect=130).stderr.splitlines()[-1]
    assert told == (
        "error: interrupted while rolling back; greenWeight is 0 in Pulumi.prod.yaml already, the mesh has taken "
        "nothing, and the gateways go on as before; runbook rollback --stack prod again"
    )
    assert (world.weight, traffic.config()["greenWeight"]) == (50, 0)


def test_an_api_server_that_is_away_for_a_moment_only_takes_time(traffic: Traffic, world: TrafficWorld) -> None:
    world.away = "connection refused"
    world.at(29, lambda: setattr(world, "away", ""))
    traffic.run("rollback")
    assert (world.weight, world.seconds) == (0, 29)


def test_one_that_stays_away_is_told_with_what_is_in_step(traffic: Traffic, world: TrafficWorld) -> None:
    world.away = "connection refused"
    told = traffic.run("rollback", expect=1).stderr.splitlines()[-1]
    assert told == (
        "error: asking the cluster: connection refused; tried for 30 s; greenWeight is 0 in Pulumi.prod.yaml already, "
        "the mesh has taken nothing, and the gateways go on as before; runbook rollback --stack prod again"
    )
    assert (world.weight, traffic.config()["greenWeight"]) == (50, 0)


def test_a_file_that_cannot_be_written_meanwhile_is_told_too(
    traffic: Traffic, world: TrafficWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RunbookError("writing Pulumi.prod.yaml: No space left on device")

    monkeypatch.setattr(StackConfig, "set", fails)
    world.away = "connection refused"
    told = traffic.run("rollback", expect=1).stderr
    assert "; greenWeight is as it was in Pulumi.prod.yaml, the mesh has taken" in told


def test_a_route_that_is_not_the_programs_is_left_alone(traffic: Traffic, world: TrafficWorld) -> None:
    del world.objects[VIRTUAL_SERVICE]["spec"]["http"][1]["route"][0]
    told = traffic.run("rollback", expect=1).stderr
    assert "it has no route weighted with the subsets blue and green; bring it back with a deployment" in told


def test_a_kubeconfig_and_the_sandbox_are_one_too_many(traffic: Traffic) -> None:
    told = traffic.run("rollback", "--sandbox", "--kubeconfig", "x", expect=2).stderr
    assert "--kubeconfig is of a cluster on AWS; leave out --sandbox, or it" in told


# The quick way


KUBECTL_VIEW = """\
#!/bin/sh
echo '{"contexts": [{"name": "prod-cluster", "context": {"cluster": "%s", "user": "x"}}]}'
"""
ARN = "arn:aws:eks:us-east-1:123456789012:cluster/pyairtable-prod"


class Quick:
    """A machine from which to roll back."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.slow = False
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
        monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        monkeypatch.setattr(Kubectl, "__enter__", lambda kubectl: kubectl)  # pyright: ignore[reportUnknownLambdaType]
        monkeypatch.setattr(quick, "opened", self._opened)
        monkeypatch.setattr(quick, "ROOT", folder)
        (folder / "Pulumi.prod.yaml").write_text('config:\n  pyairtable:accountId: "123456789012" # ours\n')
        self.shows(ARN)

    def shows(self, cluster: str) -> None:
        self.plays(KUBECTL_VIEW % cluster)

    def plays(self, script: str) -> None:
        (self.folder / "kubectl").write_text(script)
        (self.folder / "kubectl").chmod(0o755)

    def kubeconfig(self, **how: Any) -> str:
        how = {"sandbox": False, "state_dir": None, "kubeconfig": None, **how}
        with quickly("prod", **how) as place:
            return place.kubectl._environment["KUBECONFIG"]  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def _opened(self, stack: str, **how: object) -> Generator[Place]:
        self.slow = True
        yield Place(stack=stack, kubectl=Kubectl(Path("/from/pulumi"), "pyairtable"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quick:
    return Quick(tmp_path, monkeypatch)


def test_the_current_context_is_taken_if_it_is_of_the_stacks_cluster(machine: Quick) -> None:
    assert machine.kubeconfig() == str(machine.folder / "kubeconfig")
    assert not machine.slow


@pytest.mark.parametrize("cluster", [ARN.replace("-prod", "-dev"), ARN.replace("789", "000"), "kind-kind"])
def test_another_context_is_not(machine: Quick, cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.shows(cluster)
    assert machine.kubeconfig() == "/from/pulumi"
    assert (
        "the current kubeconfig is not of the cluster of prod: asking pulumi for its own, which takes seconds; "
        "quicker: aws eks update-kubeconfig --name pyairtable-prod, or --kubeconfig FILE" in capsys.readouterr().err
    )


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no\n", "#!/bin/sh\necho '{}'\n"])
def test_where_there_is_no_context_pulumi_is_asked(machine: Quick, script: str) -> None:
    machine.plays(script)
    assert machine.kubeconfig() == "/from/pulumi"


def test_where_the_file_has_no_account_pulumi_is_asked(machine: Quick) -> None:
    (machine.folder / "Pulumi.prod.yaml").write_text("config: {}\n")
    assert machine.kubeconfig() == "/from/pulumi"


def test_the_usual_place_of_a_kubeconfig_is_known(machine: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", "/home/ann")
    assert machine.kubeconfig() == "/home/ann/.kube/config"


def test_a_kubeconfig_that_is_named_is_taken(machine: Quick, tmp_path: Path) -> None:
    machine.plays("#!/bin/sh\nexit 1\n")
    (tmp_path / "mine").touch()
    assert machine.kubeconfig(kubeconfig=tmp_path / "mine") == str(tmp_path / "mine")


def test_one_that_is_not_there_is_told(machine: Quick) -> None:
    with pytest.raises(BadInputError, match="reading the kubeconfig /nonexistent: there is no such file"):
        machine.kubeconfig(kubeconfig=Path("/nonexistent"))


def test_an_unknown_stack_is_refused_before_anything() -> None:
    with (
        pytest.raises(BadInputError, match='looking for the stack "qa": the stacks are'),
        quickly("qa", sandbox=False, state_dir=None, kubeconfig=None),
    ):
        pass


def test_a_shell_of_the_sandboxs_rolls_no_real_stack_back(machine: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    with pytest.raises(BadInputError, match="this shell talks to the sandbox"):
        machine.kubeconfig()


def test_in_the_sandbox_the_kubeconfig_is_a_file_that_is_there(machine: Quick, tmp_path: Path) -> None:
    file = State(tmp_path).clusters / "pyairtable-prod" / "admin.kubeconfig"
    file.parent.mkdir(parents=True)
    file.touch()
    recorded = {"pid": 1, "created": 0, "port": 1, "log": "log"}
    write_json(State(tmp_path).services, {"pyairtable-prod-kube-apiserver": recorded})
    assert machine.kubeconfig(sandbox=True, state_dir=tmp_path) == str(file)


def test_a_cluster_of_the_sandbox_that_was_stopped_is_not_waited_for(machine: Quick, tmp_path: Path) -> None:
    file = State(tmp_path).clusters / "pyairtable-prod" / "admin.kubeconfig"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(BadInputError, match="looking for the cluster of prod: it does not run; run sandbox up"):
        machine.kubeconfig(sandbox=True, state_dir=tmp_path)


def test_without_a_cluster_in_the_sandbox_that_is_told(machine: Quick, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"looking for the cluster of prod: there is none in .*; run sandbox up"):
        machine.kubeconfig(sandbox=True, state_dir=tmp_path)


def test_the_sandbox_of_this_checkout_is_the_default(machine: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    with pytest.raises(BadInputError, match="there is none in /nonexistent/pyairtable/sandbox/"):
        machine.kubeconfig(sandbox=True)


def test_the_checkouts_own_files_say_which_stacks_there_are() -> None:
    assert (stack_config.ROOT / "Pulumi.prod.yaml").is_file()
