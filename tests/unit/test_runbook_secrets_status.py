"""`runbook secrets`: who does not get what, by name."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.managed import MANAGED
from tests.unit.runbook_world import Operator, Vault, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(world, Vault(world), monkeypatch)


def status(operator: Operator, *, expect: int = 0) -> dict[str, dict[str, Any]]:
    """What is told of each ExternalSecret, by name."""
    told = json.loads(operator.run("secrets", "--json", expect=expect).stdout)
    return {entry["name"]: entry for entry in told}


def break_binding(world: World, name: str, *messages: str) -> None:
    """Let External Secrets fail with an ExternalSecret, and say so in events, the oldest first."""
    with world.changed() as now:
        now["objects"][f"externalsecret/{name}"]["status"]["conditions"] = [
            {"type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": "could not get secret data"}
        ]
        for number, message in enumerate(messages):
            now["objects"][f"event/{name}.{number}"] = {
                "kind": "Event",
                "metadata": {"name": f"{name}.{number}"},
                "involvedObject": {"uid": f"uid-of-{name}"},
                "reason": "UpdateFailed",
                "message": message,
                "lastTimestamp": f"2026-08-01T10:00:0{number}Z",
            }


def test_all_three_are_ready_and_say_who_reads_them(operator: Operator) -> None:
    found = status(operator)
    assert [(entry["ready"], entry["reason"], entry["refreshed"]) for entry in found.values()] == [
        (True, "SecretSynced", "2026-08-01T10:00:00Z")
    ] * 3
    assert [entry["secret"] for entry in found.values()] == ["database-credentials", "redis-credentials", "api-keys"]
    assert found["database-secret"]["read_by"] == ["auth-service", "user-service"]
    assert found["database-secret"]["missing"] == []


def test_an_optional_key_without_value_is_named_and_is_no_fault(operator: Operator) -> None:
    assert status(operator)["api-keys-secret"]["missing"] == [
        {"key": "gemini_api_key", "in_cluster": False, "needed_by": [], "optional_for": ["auth-service"]}
    ]


@pytest.mark.parametrize(
    ("interval", "age", "ready"),
    [("15s", 70, True), ("15s", 80, False), ("1h30m", 5450, True), ("1h30m", 5470, False), ("0", 9999, True)],
)
def test_a_refresh_that_is_overdue_means_that_the_controller_is_down(
    operator: Operator, world: World, interval: str, age: int, ready: bool
) -> None:
    with world.changed() as now:
        binding = now["objects"]["externalsecret/redis-secret"]
        binding["spec"]["refreshInterval"] = interval
        binding["status"]["refreshTime"] = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = status(operator, expect=0 if ready else 3)["redis-secret"]
    assert (found["ready"], found["reason"]) == ((True, "SecretSynced") if ready else (False, "Stale"))


def test_a_key_that_is_missing_at_the_source_is_named_with_its_services(operator: Operator, world: World) -> None:
    break_binding(
        world,
        "database-secret",
        "error processing spec.data[0] (key: pyairtable/dev/database), err: key username does not exist in secret x",
        "error processing spec.data[1] (key: pyairtable/dev/database), err: key password does not exist in secret x",
    )
    found = status(operator, expect=3)["database-secret"]
    assert found["reason"] == "SecretSyncedError"
    assert "key password does not exist" in found["message"]
    assert found["missing"] == [
        {
            "key": "password",
            "in_cluster": True,
            "needed_by": ["auth-service", "user-service"],
            "optional_for": [],
        }
    ]


@pytest.mark.parametrize(
    "messages",
    [
        ["error processing spec.data[0] (key: pyairtable/dev/redis), err: Secret does not exist"],
        ["error processing spec.data[7] (key: pyairtable/dev/redis), err: key x does not exist in secret x"],
        [],
    ],
)
def test_a_secret_that_does_not_arrive_at_all_lacks_every_key(
    operator: Operator, world: World, messages: list[str]
) -> None:
    break_binding(world, "redis-secret", *messages)
    found = status(operator, expect=3)["redis-secret"]
    assert found["message"] == (messages or ["could not get secret data"])[0]
    assert [missing["key"] for missing in found["missing"]] == ["password"]


def test_an_external_secret_that_is_not_there_is_not_ready(operator: Operator, world: World) -> None:
    with world.changed() as now:
        del now["objects"]["externalsecret/redis-secret"]
    found = status(operator, expect=3)["redis-secret"]
    assert (found["ready"], found["reason"]) == (False, "NotFound")


def test_a_key_that_the_cluster_has_not_is_a_fault_where_a_service_needs_it(operator: Operator, world: World) -> None:
    with world.changed() as now:
        del now["objects"]["secret/api-keys"]["data"]["jwt_secret"]
    found = status(operator, expect=3)["api-keys-secret"]
    assert found["ready"]
    assert found["missing"][-1] == {
        "key": "jwt_secret",
        "in_cluster": False,
        "needed_by": ["auth-service"],
        "optional_for": [],
    }


def test_whole_secrets_volumes_and_cron_jobs_count_as_readers(operator: Operator, world: World) -> None:
    with world.changed() as now:
        pod = {
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "redis-credentials"}}, {}]}],
            "containers": [{"name": "c"}],
            "volumes": [{"name": "v", "secret": {"secretName": "database-credentials"}}, {"name": "w"}],
        }
        now["objects"]["cronjob/backup"] = {
            "kind": "CronJob",
            "metadata": {"name": "backup"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}},
        }
    found = status(operator)
    assert "backup" in found["database-secret"]["read_by"]
    assert "backup" in found["redis-secret"]["read_by"]
    with world.changed() as now:
        now["objects"]["secret/redis-credentials"]["data"] = {}
    assert status(operator, expect=3)["redis-secret"]["missing"][0]["needed_by"] == ["auth-service", "backup"]


def test_people_get_lines(operator: Operator, world: World) -> None:
    break_binding(world, "redis-secret", "Secret does\nnot exist")
    with world.changed() as now:
        now["objects"]["externalsecret/api-keys-secret"]["status"].pop("refreshTime")
        for name in ("auth-service", "user-service"):
            now["objects"][f"deployment/{name}"]["spec"]["template"]["spec"]["containers"][0]["env"][-4:] = []
    assert operator.run("secrets", expect=3).stdout == (
        "ready      database-secret fills database-credentials; last refreshed 2026-08-01T10:00:00Z\n"
        "           read by auth-service\n"
        "not ready  redis-secret fills redis-credentials; last refreshed 2026-08-01T10:00:00Z\n"
        "           SecretSyncedError: Secret does not exist\n"
        "           read by auth-service\n"
        "           password does not arrive; pods go on with what the cluster has; needed by auth-service\n"
        "ready      api-keys-secret fills api-keys; last refreshed never\n"
        "           read by nothing\n"
    )


def test_an_optional_key_is_told_to_people_too(operator: Operator) -> None:
    assert "gemini_api_key has no value; optional for auth-service\n" in operator.run("secrets").stdout


def test_the_names_are_the_programs_own() -> None:
    from components.secrets.secret_bindings import EXTERNAL_SECRETS  # loads Pulumi's SDK

    assert {managed.external_secret: managed.secret for managed in MANAGED.values()} == {
        name: secret for name, (secret, _) in EXTERNAL_SECRETS.items()
    }
