"""`runbook restore-secret`: what the cluster has goes back to Secrets Manager, and nothing is lost by it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.runbook_world import CONNECTIONS, OLD, Operator, Vault, World, path_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(world, Vault(world), monkeypatch)


@pytest.mark.parametrize("what", OLD)
def test_a_malformed_secret_is_written_anew_from_the_cluster(operator: Operator, world: World, what: str) -> None:
    world.stores(what, '{"password": "by ha')
    done = json.loads(operator.run("restore-secret", what, "--json").stdout)
    assert world.stored(what) == {**CONNECTIONS[what], **OLD[what]}
    assert done["keys"] == sorted({**CONNECTIONS[what], **OLD[what]})
    assert (done["versionId"], done["undeleted"]) == ("version-1", False)
    assert [step["step"] for step in done["steps"]] == ["lease", "read", "restore", "sync"]
    operator.run("rotate", what)


def test_only_what_is_missing_is_put_back(operator: Operator, world: World) -> None:
    world.stores("database", '{"username": "admin_2", "note": "mine"}')
    done = operator.run("restore-secret", "database")
    assert world.stored("database") == {
        **CONNECTIONS["database"],
        "username": "admin_2",
        "password": "old-database-password",
        "note": "mine",
    }
    assert "database of dev: put back database, host, password, port\n" in done.stdout


def test_a_deletion_is_taken_back(operator: Operator, world: World) -> None:
    with world.changed() as now:
        now["deleted"].append(path_of("redis"))
    done = operator.run("restore-secret", "redis")
    assert world.now["deleted"] == []
    assert "redis of dev: took its deletion back\n" in done.stdout


def test_a_secret_that_is_as_it_should_be_is_left_alone(operator: Operator, world: World) -> None:
    done = operator.run("restore-secret", "api-keys")
    assert "api-keys of dev: nothing was missing\n" in done.stdout
    assert world.now["versions"] == 0


def test_a_secret_that_is_gone_is_pulumis_to_make(operator: Operator, world: World) -> None:
    with world.changed() as now:
        del now["vault"][path_of("redis")]
    done = operator.run("restore-secret", "redis", expect=1)
    assert "there is none; make it anew: sandbox up --stack dev" in done.stderr


def test_what_the_cluster_has_lost_too_is_not_made_up(operator: Operator, world: World) -> None:
    world.stores("database", "spoilt")
    with world.changed() as now:
        now["objects"]["secret/database-credentials"]["data"] = {"password": "/w=="}
    done = operator.run("restore-secret", "database", expect=1)
    assert "the cluster has lost its username and password, too; put a version of your own into" in done.stderr
    assert world.now["vault"][path_of("database")] == "spoilt"


def test_another_trouble_of_secrets_manager_is_told(operator: Operator) -> None:
    operator.vault.fails["read"] = "AccessDeniedException"
    done = operator.run("restore-secret", "redis", expect=1)
    assert done.stderr.splitlines()[-1].endswith("pyairtable/dev/redis: AccessDeniedException")


def test_where_external_secrets_does_not_come_round_that_is_told(operator: Operator, world: World) -> None:
    world.stores("redis", "spoilt")
    world.does_not_play("sync")
    with world.changed() as now:
        now["objects"]["externalsecret/redis-secret"]["status"] = {"conditions": [{"type": "Ready", "status": "False"}]}
    done = operator.run("restore-secret", "redis", "--timeout", "0s", expect=1)
    assert (
        "redis-secret says Unknown: External Secrets has not looked at it yet; does it run?; waited 0 s; Secrets "
        "Manager is as it should be; see runbook secrets --stack dev --sandbox" in done.stderr
    )
