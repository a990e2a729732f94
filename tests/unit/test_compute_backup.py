"""The nightly dump of phase 2: where it goes, how it gets there, and who hears when it does not."""

from typing import Any

import pytest

from components.compute.backup import METRIC, METRIC_NAMESPACE
from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, Graph, fullest, platform, varied_prod

BUCKET = "aws:s3/bucket:Bucket"

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def part(graph: Graph, name: str) -> dict[str, Any]:
    """A part of the bucket's configuration; all of them name the bucket."""
    inputs = graph.named(f"compute-stores-backup-bucket-{name}").inputs
    assert inputs["bucket"] == graph.only(BUCKET).inputs["bucket"]
    return dict(inputs)


def job(graph: Graph) -> dict[str, Any]:
    return graph.object("CronJob", "postgres-backup").inputs["spec"]


def pod(graph: Graph) -> dict[str, Any]:
    return job(graph)["jobTemplate"]["spec"]["template"]["spec"]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


class TestBucket:
    @in_every_environment
    def test_its_name_is_the_stacks_and_the_accounts(self, stack: str) -> None:
        assert platform(stack).only(BUCKET).inputs["bucket"] == f"pyairtable-{stack}-backup-{ACCOUNT_ID}"

    @in_every_environment
    def test_it_is_versioned_and_encrypted(self, stack: str) -> None:
        graph = platform(stack)
        assert part(graph, "versioning")["versioningConfiguration"] == {"status": "Enabled"}
        (rule,) = part(graph, "encryption")["rules"]
        assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}

    @in_every_environment
    def test_nothing_in_it_is_public(self, stack: str) -> None:
        blocks = part(platform(stack), "private")
        names = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        assert [blocks[name] for name in names] == [True] * 4

    @in_every_environment
    def test_it_answers_over_tls_only(self, stack: str) -> None:
        graph = platform(stack)
        (statement,) = graph.named("compute-stores-backup-bucket-policy").json()["Statement"]
        arn = graph.only(BUCKET).outputs["arn"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Resource"] == [arn, f"{arn}/*"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}

    @pytest.mark.parametrize(("stack", "days"), [("dev", 7), ("staging", 7), ("prod", 35)])
    def test_dumps_old_versions_and_broken_uploads_go_after_their_time(self, stack: str, days: int) -> None:
        graph = platform(stack)
        (rule,) = part(graph, "lifecycle")["rules"]
        assert rule["status"] == "Enabled"
        assert rule["expiration"] == {"days": days}
        assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 7}
        assert rule["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 1}
        assert graph.named("compute-stores-backup-bucket-versioning").urn in graph.before(
            graph.named("compute-stores-backup-bucket-lifecycle")
        )

    def test_how_long_dumps_stay_is_the_configs(self) -> None:
        (rule,) = part(varied_prod(), "lifecycle")["rules"]
        assert rule["expiration"] == {"days": 3}

    @pytest.mark.parametrize(("stack", "goes"), [("dev", True), ("staging", True), ("prod", False)])
    def test_it_goes_with_its_dumps_where_nothing_is_protected(self, stack: str, goes: bool) -> None:
        assert platform(stack).only(BUCKET).inputs["forceDestroy"] is goes


class TestJob:
    @in_every_environment
    def test_it_runs_every_night_and_never_twice_at_once(self, stack: str) -> None:
        minute, hour, *days = job(platform(stack))["schedule"].split()
        assert days == ["*", "*", "*"]
        assert minute.isdigit()
        assert 0 <= int(hour) < 6
        assert job(platform(stack))["concurrencyPolicy"] == "Forbid"

    @in_every_environment
    def test_it_runs_when_the_config_says(self, stack: str) -> None:
        assert job(fullest(stack))["schedule"] == "17 12 * * MON-FRI"

    @in_every_environment
    def test_it_is_tried_again_but_not_for_ever(self, stack: str) -> None:
        spec = job(platform(stack))["jobTemplate"]["spec"]
        assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 3600)
        assert pod(platform(stack))["restartPolicy"] == "Never"

    @in_every_environment
    def test_it_uploads_and_says_so_only_after_a_dump_that_succeeded(self, stack: str) -> None:
        (dump,), (upload,) = pod(platform(stack))["initContainers"], pod(platform(stack))["containers"]
        assert dump["command"][0] == "pg_dump"
        shell, flag, script = upload["command"]
        assert (shell, flag) == ("sh", "-c")
        first, copy, *metric = script.splitlines()
        assert first == "set -eu"
        assert copy.startswith("aws s3 cp /dump/pyairtable.dump ")
        assert metric[0].startswith(
            f"aws cloudwatch put-metric-data --namespace {METRIC_NAMESPACE} --metric-name {METRIC} "
        )

    @in_every_environment
    def test_it_dumps_with_the_postgresql_that_it_dumps(self, stack: str) -> None:
        graph = platform(stack)
        containers = graph.object("StatefulSet", "postgres").inputs["spec"]["template"]["spec"]["containers"]
        (dump,) = pod(graph)["initContainers"]
        assert {container["image"] for container in containers} == {dump["image"]}

    @in_every_environment
    def test_it_dumps_the_services_data_and_not_how_logins_are_rotated(self, stack: str) -> None:
        """Whoever restores one into another stack keeps that stack's own logins."""
        (dump,) = pod(platform(stack))["initContainers"]
        command, *arguments = dump["command"]
        assert command == "pg_dump"
        assert {*arguments} == {
            "--format=custom",
            "--no-owner",
            "--exclude-schema=credentials",
            "--file=/dump/pyairtable.dump",
        }
        roles = platform(stack).object("ConfigMap", "postgres-configuration").inputs["data"]["roles.sql"]
        assert "CREATE SCHEMA IF NOT EXISTS credentials;" in roles

    @in_every_environment
    def test_it_reaches_the_database_over_verified_tls_with_the_credentials(self, stack: str) -> None:
        (dump,) = pod(platform(stack))["initContainers"]
        told = environment(dump)
        assert told["PGSSLMODE"] == "verify-full"
        assert told["PGSSLROOTCERT"] == "/etc/authority/ca.crt"
        assert told["PGHOST"] == {"configMapKeyRef": {"name": "connections", "key": "DB_HOST"}}
        assert told["PGPASSWORD"] == {"secretKeyRef": {"name": "database-credentials", "key": "password"}}

    @in_every_environment
    def test_it_uploads_to_its_bucket_as_itself(self, stack: str) -> None:
        graph = platform(stack)
        (upload,) = pod(graph)["containers"]
        assert environment(upload)["BUCKET"] == graph.only(BUCKET).inputs["bucket"]
        assert environment(upload)["STACK"] == stack
        assert pod(graph)["serviceAccountName"] == "postgres-backup"
        assert graph.object("ServiceAccount", "postgres-backup").inputs["automountServiceAccountToken"] is False

    @in_every_environment
    def test_it_comes_after_postgresql(self, stack: str) -> None:
        graph = platform(stack)
        store, backup = graph.object("StatefulSet", "postgres"), graph.object("CronJob", "postgres-backup")
        assert store.urn in graph.before(backup)

    @in_every_environment
    def test_it_has_no_privileges(self, stack: str) -> None:
        spec = pod(platform(stack))
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    @pytest.mark.parametrize(("stack", "room"), [("dev", "2560Mi"), ("staging", "5120Mi"), ("prod", "8192Mi")])
    def test_its_dump_has_bounded_room_on_the_node(self, stack: str, room: str) -> None:
        (dump,) = (volume for volume in pod(platform(stack))["volumes"] if volume["name"] == "dump")
        assert dump["emptyDir"] == {"sizeLimit": room}
        (dumping,), (uploading,) = pod(platform(stack))["initContainers"], pod(platform(stack))["containers"]
        for container in (dumping, uploading):
            asked = container["resources"]["requests"]["ephemeral-storage"]
            assert int(asked.removesuffix("Mi")) >= int(room.removesuffix("Mi")), "what is not asked for is evicted"


class TestAlarm:
    @in_every_environment
    def test_a_day_without_a_dump_is_heard_of(self, stack: str) -> None:
        graph = platform(stack)
        inputs = graph.named("compute-stores-backup-missing").inputs
        assert (inputs["namespace"], inputs["metricName"]) == (METRIC_NAMESPACE, METRIC)
        assert inputs["dimensions"] == {"Stack": stack}
        assert (inputs["statistic"], inputs["comparisonOperator"], inputs["threshold"]) == (
            "Sum",
            "LessThanThreshold",
            1,
        )
        assert (inputs["period"], inputs["evaluationPeriods"]) == (60 * 60, 24 + 2), "CloudWatch looks back by periods"
        assert inputs["alarmActions"] == [graph.only("aws:sns/topic:Topic").outputs["arn"]]

    @in_every_environment
    def test_where_nodes_stop_at_night_a_long_weekend_is_waited_for(self, stack: str) -> None:
        inputs = fullest(stack).named("compute-stores-backup-missing").inputs
        assert (inputs["period"], inputs["evaluationPeriods"]) == (60 * 60, 4 * 24 + 2)

    @in_every_environment
    def test_no_data_is_no_dump(self, stack: str) -> None:
        assert platform(stack).named("compute-stores-backup-missing").inputs["treatMissingData"] == "breaching"

    @in_every_environment
    def test_it_hears_of_what_the_job_puts(self, stack: str) -> None:
        (upload,) = pod(platform(stack))["containers"]
        script = " ".join(upload["command"][-1].split())
        assert f"--namespace {METRIC_NAMESPACE} --metric-name {METRIC}" in script
        assert '--value 1 --dimensions "Stack=$STACK"' in script
