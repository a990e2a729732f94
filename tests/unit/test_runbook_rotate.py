"""`runbook rotate`: what it does in which order, and how it leaves things wherever it stops."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook import rotate
from runbook.aws import AwsError
from runbook.rotate import ALPHABET, LENGTH
from tests.unit.runbook_world import OLD, Operator, Vault, World

FAST = ("--timeout", "0s")
"""Looks once and gives up."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(world, Vault(world), monkeypatch)


def untouched(world: World) -> bool:
    """Whether everything is as at the beginning, the lease given back included."""
    return (
        all(world.held(name) == values for name, values in OLD.items())
        and world.now["versions"] == 0
        and "exec" not in world.verbs
        and "patch" not in world.verbs
        and "lease/runbook-rotate" not in world.now["objects"]
    )


def test_the_other_login_gets_a_password_and_becomes_the_secret(operator: Operator, world: World) -> None:
    done = operator.run("rotate", "database")
    assert world.held("database") == {"username": "admin_2", "password": "new-database-password"}
    assert "the login is admin_2; restarted: auth-service, user-service" in done.output


def test_the_second_rotation_comes_back_to_the_first_login(operator: Operator, world: World) -> None:
    operator.run("rotate", "database")
    operator.run("rotate", "database")
    assert world.held("database")["username"] == "admin"


def test_nothing_is_touched_before_the_guard_and_nothing_waits_before_the_store(
    operator: Operator, world: World
) -> None:
    operator.run("rotate", "database")
    #                       lease     guard  login   sync             applied  the lease's end
    assert world.verbs == ["create", "get", "exec", "patch", "get", "exec", "delete"]


def test_the_steps_are_told_with_their_seconds(operator: Operator) -> None:
    done = operator.run("rotate", "database")
    told = [line.split() for line in done.stderr.splitlines()]
    assert [line[0] for line in told] == ["done"] * 7
    assert all(float(line[1]) < 5 and line[2] == "s" for line in told)
    assert "\x1b[" not in done.stderr, "output to a file has no colours"


def test_json_tells_everything_but_the_secret(operator: Operator) -> None:
    done = json.loads(operator.run("rotate", "database", "--json").stdout)
    assert (done["stack"], done["secret"]) == ("dev", "database")
    assert (done["versionId"], done["username"]) == ("version-1", "admin_2")
    assert done["restarted"] == ["auth-service", "user-service"]
    assert [step["step"] for step in done["steps"]] == [
        "lease", "guard", "generate", "store", "sync", "restart", "apply"
    ]  # fmt: skip
    ends = [step["at"] for step in done["steps"]]
    assert ends == sorted(ends)
    assert done["seconds"] >= ends[-1]


def test_what_an_update_by_hand_left_out_comes_back(operator: Operator, world: World) -> None:
    world.stores("database", json.dumps(OLD["database"]))
    operator.run("rotate", "database")
    assert world.stored("database") == {
        "host": "postgres.pyairtable",
        "port": "5432",
        "database": "pyairtable",
        "username": "admin_2",
        "password": "new-database-password",
    }


def test_what_else_is_in_the_secret_stays(operator: Operator, world: World) -> None:
    world.stores("database", json.dumps({**OLD["database"], "note": "mine"}))
    operator.run("rotate", "database")
    assert world.stored("database")["note"] == "mine"


def test_redis_gets_a_new_password(operator: Operator, world: World) -> None:
    done = operator.run("rotate", "redis", "--json")
    password = world.held("redis")["password"]
    assert len(password) == LENGTH
    assert set(password) <= set(ALPHABET)
    assert "exec" not in world.verbs
    assert json.loads(done.stdout)["restarted"] == ["auth-service"]
    assert "username" not in json.loads(done.stdout)


def test_the_keys_of_outside_services_stay(operator: Operator, world: World) -> None:
    operator.run("rotate", "api-keys")
    after = world.stored("api-keys")
    assert {key: after[key] == value for key, value in OLD["api-keys"].items()} == {
        "jwt_secret": False,
        "api_key": False,
        "airtable_token": True,
        "gemini_api_key": True,
    }
    assert after["jwt_secret"] != after["api_key"]


def test_a_number_that_was_stored_without_quotes_is_the_same_as_its_text(operator: Operator, world: World) -> None:
    world.stores("api-keys", json.dumps({**OLD["api-keys"], "airtable_token": 12345}))
    with world.changed() as now:
        now["objects"]["secret/api-keys"]["data"] |= {"airtable_token": "MTIzNDU="}
    done = operator.run("rotate", "api-keys", expect=1)
    assert "auth-service may still use" in done.stderr, "and not that the two differ"


def break_binding(now: dict[str, Any]) -> None:
    now["objects"]["externalsecret/database-secret"]["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": "could not get secret data"}
    ]


def forget_binding(now: dict[str, Any]) -> None:
    del now["objects"]["externalsecret/database-secret"]


def never_looked_at(now: dict[str, Any]) -> None:
    now["objects"]["externalsecret/database-secret"]["status"] = {}


def newer_in_the_store(now: dict[str, Any]) -> None:
    now["vault"]["pyairtable/dev/database"] = '{"username": "admin", "password": "by hand"}'


def malformed(now: dict[str, Any]) -> None:
    now["vault"]["pyairtable/dev/database"] = '{"username": "admin", "password": "by ha'


def a_list(now: dict[str, Any]) -> None:
    now["vault"]["pyairtable/dev/database"] = '["admin"]'


def without_password(now: dict[str, Any]) -> None:
    now["vault"]["pyairtable/dev/database"] = '{"username": "admin"}'


def deleted(now: dict[str, Any]) -> None:
    now["deleted"].append("pyairtable/dev/database")


def gone(now: dict[str, Any]) -> None:
    del now["vault"]["pyairtable/dev/database"]


def restart_missed(now: dict[str, Any]) -> None:
    now["objects"]["deployment/user-service"]["metadata"]["annotations"]["pyairtable.io/secrets-digest"] = "older"


def never_noted(now: dict[str, Any]) -> None:
    del now["objects"]["deployment/user-service"]["metadata"]["annotations"]


def rollout_under_way(now: dict[str, Any]) -> None:
    now["objects"]["deployment/user-service"]["status"]["updatedReplicas"] = 0


def no_restarter(now: dict[str, Any]) -> None:
    del now["objects"]["deployment/secret-restarter"]


def restarter_down(now: dict[str, Any]) -> None:
    now["objects"]["deployment/secret-restarter"]["status"] = {}


def scheduled_rotation(now: dict[str, Any]) -> None:
    now["objects"]["job/database-rotation-1"] = {
        "kind": "Job",
        "metadata": {"name": "database-rotation-1", "ownerReferences": [{"name": "database-rotation"}]},
        "status": {"active": 1},
    }


def foreign_login(now: dict[str, Any]) -> None:
    now["vault"]["pyairtable/dev/database"] = '{"username": "root", "password": "old-database-password"}'
    now["objects"]["secret/database-credentials"]["data"]["username"] = "cm9vdA=="
    for name in ("auth-service", "user-service"):
        del now["objects"][f"deployment/{name}"]


def controller_down(now: dict[str, Any]) -> None:
    now["objects"]["externalsecret/database-secret"]["spec"]["refreshInterval"] = "1m0s"


REFUSED: dict[str, tuple[Any, str]] = {
    "External Secrets in trouble": (break_binding, "it is not ready (SecretSyncedError: could not get secret data);"),
    "External Secrets that stands still": (
        controller_down,
        "it is not ready (Stale: not refreshed for longer than the 1m0s that it asks for; does External Secrets run?);",
    ),
    "no ExternalSecret": (forget_binding, "there is no externalsecret database-secret"),
    "an ExternalSecret that nobody has looked at": (never_looked_at, "External Secrets has not looked at it yet"),
    "a newer value in Secrets Manager": (newer_in_the_store, "password differ; wait until External Secrets has"),
    "malformed JSON": (
        malformed,
        "it is no JSON object; put back what the cluster has: runbook restore-secret database --stack dev --sandbox",
    ),
    "JSON that is no object": (a_list, "it is no JSON object"),
    "a missing key": (without_password, "it has no password; put back"),
    "a secret marked for deletion": (deleted, "marked for deletion; put back what the cluster has"),
    "a secret that is gone": (gone, "there is none; make it anew: sandbox up --stack dev"),
    "a service on the login before": (restart_missed, "user-service may still use what this rotation would take away"),
    "a service that the restarter does not know": (never_noted, "user-service may still use"),
    "a restart under way": (rollout_under_way, "user-service may still use"),
    "no restarter": (no_restarter, "secret-restarter: it does not run, so that no service would get the new value"),
    "a restarter that is down": (restarter_down, "secret-restarter: it does not run"),
    "the scheduled rotation": (scheduled_rotation, "database-rotation-1: the scheduled rotation is under way; wait"),
    "a login of another name": (foreign_login, "its username is neither admin nor admin_2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_touched_where_the_last_rotation_has_not_arrived(
    operator: Operator, world: World, case: str
) -> None:
    change, message = REFUSED[case]
    with world.changed() as now:
        change(now)
    held = {name: world.held(name) for name in OLD}
    done = operator.run("rotate", "database", expect=1)
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].endswith("; nothing has been touched")
    assert "exec" not in world.verbs
    assert "patch" not in world.verbs
    assert held == {name: world.held(name) for name in OLD}
    assert "lease/runbook-rotate" not in world.now["objects"]


def test_credentials_of_another_account_touch_nothing(operator: Operator, world: World) -> None:
    operator.credentials = AwsError("asking AWS whose credentials these are: of account 210987654321")
    done = operator.run("rotate", "database", expect=1)
    assert "of account 210987654321; nothing has been touched" in done.stderr
    assert untouched(world)


def test_where_the_cluster_lets_nobody_in_aws_may_say_why(operator: Operator, world: World) -> None:
    world.fails("create", "Unauthorized", "Unauthorized")
    done = operator.run("rotate", "database", expect=1)
    assert "the cluster does not know these credentials (Unauthorized); nothing has been touched" in done.stderr
    operator.credentials = AwsError("asking AWS whose credentials these are: of account 210987654321")
    done = operator.run("rotate", "database", expect=1)
    assert "Unauthorized" not in done.stderr
    assert "of account 210987654321; nothing has been touched" in done.stderr


def test_a_jobs_end_lets_a_rotation_begin_and_a_foreign_job_does_not_matter(operator: Operator, world: World) -> None:
    with world.changed() as now:
        scheduled_rotation(now)
        now["objects"]["job/database-rotation-1"]["status"] = {"succeeded": 1}
        now["objects"]["job/other"] = {"kind": "Job", "metadata": {"name": "other"}, "status": {"active": 1}}
    operator.run("rotate", "database")


def test_postgres_may_refuse_and_says_why(operator: Operator, world: World) -> None:
    with world.changed() as now:
        now["applied"] = "admin_2"
    done = operator.run("rotate", "database", expect=1)
    assert done.stderr.splitlines()[-1] == (
        "error: preparing the next login in postgres-0: the last rotation has not arrived here yet; nothing that is "
        "in use has been touched; run it again"
    )
    assert world.now["versions"] == 0


def test_a_database_that_is_down_leaves_everything_as_it_is(operator: Operator, world: World) -> None:
    world.fails("exec", 'Error from server (NotFound): pods "postgres-0" not found')
    done = operator.run("rotate", "database", expect=1)
    assert 'in postgres-0: asking the cluster: pods "postgres-0" not found; nothing that is in use' in done.stderr
    assert world.now["versions"] == 0


def test_an_answer_without_a_login_goes_no_further(operator: Operator, world: World) -> None:
    world.does_not_play("login")
    done = operator.run("rotate", "database", expect=1)
    assert "credentials.rotate has not answered with one" in done.stderr
    assert world.now["versions"] == 0


@pytest.mark.parametrize(
    ("what", "consequence"),
    [
        ("database", "the old login goes on working, and so does the new one"),
        ("redis", "Redis and the services go on with the old password"),
        ("api-keys", "the services go on with the old keys"),
    ],
)
def test_where_it_cannot_be_stored_the_old_value_works(
    operator: Operator, world: World, what: str, consequence: str
) -> None:
    operator.vault.fails["put"] = "ThrottlingException"
    done = operator.run("rotate", what, expect=1)
    assert f"ThrottlingException; {consequence}; run it again" in done.stderr
    assert world.held(what) == OLD[what]
    operator.vault.fails.clear()
    operator.run("rotate", what)


def test_where_external_secrets_stands_still_both_logins_work(operator: Operator, world: World) -> None:
    world.does_not_play("sync")
    done = operator.run("rotate", "database", *FAST, expect=1)
    assert (
        "database-credentials has not got it yet; database-secret says nothing is wrong; does the controller run?; "
        "waited 0 s; Secrets Manager has it, and External Secrets will bring it when it can; the old login goes on "
        "working, and so does the new one" in done.stderr
    )
    assert world.held("database") == OLD["database"]
    assert world.stored("database")["username"] == "admin_2"
    assert "differ" in operator.run("rotate", "database", expect=1).stderr, "the next one waits for it"


def test_what_external_secrets_complains_of_is_told(
    operator: Operator, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.does_not_play("sync")
    put = operator.vault.put

    def put_and_break(name: str, text: str) -> str:
        version = put(name, text)
        with world.changed() as now:
            break_binding(now)
        return version

    monkeypatch.setattr(operator.vault, "put", put_and_break)
    done = operator.run("rotate", "database", *FAST, expect=1)
    assert "database-secret says SecretSyncedError: could not get secret data" in done.stderr


def test_where_the_restarter_stands_still_the_old_login_works(operator: Operator, world: World) -> None:
    world.does_not_play("restart")
    done = operator.run("rotate", "database", *FAST, expect=1)
    assert (
        "2 of 2 not restarted yet: auth-service, user-service; waited 0 s; the Secret has it; secret-restarter will "
        "restart the rest when it can; the old login goes on working until the next rotation" in done.stderr
    )
    assert world.held("database")["username"] == "admin_2"
    assert "may still use" in operator.run("rotate", "database", expect=1).stderr, "the next one waits for it"


def test_where_postgres_has_not_read_it_the_next_rotation_waits(operator: Operator, world: World) -> None:
    world.does_not_play("sidecar")
    done = operator.run("rotate", "database", *FAST, expect=1)
    assert "postgres-0 still goes by admin; see its container `credentials`; waited 0 s" in done.stderr
    assert "every service has the new login, which works" in done.stderr


def test_an_api_server_that_is_away_for_a_moment_only_takes_time(
    operator: Operator, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("runbook.wait.SECONDS_OF_SILENCE", 0)
    world.fails("get", "dial tcp 127.0.0.1:1: connect: connection refused", times=2, after=8)
    done = operator.run("rotate", "redis")
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in done.stderr
    assert world.held("redis") != OLD["redis"]


def test_an_interrupt_says_how_it_leaves_things(
    operator: Operator, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(operator.vault, "put", interrupted)
    done = operator.run("rotate", "database", expect=130)
    assert done.stderr.splitlines()[-1] == (
        "error: interrupted; the old login goes on working, and so does the new one; run it again"
    )
    assert "lease/runbook-rotate" not in world.now["objects"]


def test_two_rotations_at_once_are_one_too_many(operator: Operator, world: World) -> None:
    with world.changed() as now:
        now["objects"]["lease/runbook-rotate"] = {
            "kind": "Lease",
            "metadata": {"name": "runbook-rotate", "resourceVersion": "7"},
            "spec": {"holderIdentity": "ann@laptop:1", "leaseDurationSeconds": 60, "renewTime": "2999-01-01T00:00:00Z"},
        }
    done = operator.run("rotate", "database", expect=1)
    assert "beginning the rotation: ann@laptop:1 is at it" in done.stderr
    assert world.verbs == ["create", "get"]


def test_each_logins_name_is_one_that_postgres_knows() -> None:
    roles = (rotate.restarter.SCRIPT.parents[2] / "compute/postgres/roles.sql").read_text()
    for login in rotate.LOGINS:
        assert f"CREATE ROLE {login} LOGIN" in roles
