"""The monthly rotation of phase 3: who does it, what it may, what it leaves behind, and who hears when it does not."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.secrets.database_rotation import METRIC, METRIC_NAMESPACE
from infra.environments import ENVIRONMENTS
from tests.unit.graph import REGION, ROOT, Graph, fullest, platform

APP = "database-rotation"
SCRIPTS = ROOT / "components" / "secrets" / "scripts"
SECRET = "secrets-aws-database-credentials"  # noqa: S105 - a name

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def job(graph: Graph) -> dict[str, Any]:
    return graph.object("CronJob", APP).inputs["spec"]


def pod(graph: Graph) -> dict[str, Any]:
    return job(graph)["jobTemplate"]["spec"]["template"]["spec"]


def containers(graph: Graph) -> dict[str, dict[str, Any]]:
    """All of a pod's, in the order in which they run."""
    spec = pod(graph)
    return {container["name"]: container for container in (*spec["initContainers"], *spec["containers"])}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def statements(graph: Graph) -> dict[str, dict[str, Any]]:
    return {
        statement["Sid"]: statement for statement in graph.named("secrets-rotation-role-policy").json()["Statement"]
    }


class TestIdentity:
    @in_every_environment
    def test_it_may_read_and_write_the_databases_secret_and_no_other(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        rotate = statements(graph)["RotateIt"]
        assert rotate["Action"] == ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
        assert rotate["Resource"] == graph.named(SECRET).outputs["arn"]
        assert [s["Sid"] for s in statements(graph).values() if "secretsmanager" in json.dumps(s["Action"])] == [
            "RotateIt"
        ]

    @in_every_environment
    def test_it_says_how_old_the_password_is_and_nothing_else(self, stack: str) -> None:
        say = statements(platform(stack, phase=3))["SaySo"]
        assert say["Action"] == ["cloudwatch:PutMetricData"]
        assert say["Condition"] == {"StringEquals": {"cloudwatch:namespace": METRIC_NAMESPACE}}

    def test_in_dev_that_is_all(self) -> None:
        assert statements(platform("dev", phase=3)).keys() == {"RotateIt", "SaySo"}

    @pytest.mark.parametrize("stack", ["staging", "prod"])
    def test_with_an_own_key_it_uses_that_by_secrets_manager_only(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        use = statements(graph)["UseItsKey"]
        assert statements(graph).keys() == {"RotateIt", "SaySo", "UseItsKey"}
        assert use["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
        assert use["Resource"] == graph.named("secrets-aws-key").outputs["arn"]
        assert use["Condition"] == {"StringEquals": {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}}

    @in_every_environment
    def test_it_is_its_service_accounts_which_has_no_token_of_the_cluster(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        identity = graph.named("secrets-rotation-identity")
        assert (identity.inputs["namespace"], identity.inputs["serviceAccount"]) == ("pyairtable", APP)
        assert identity.inputs["roleArn"] == graph.named("secrets-rotation-role-role").outputs["arn"]
        assert pod(graph)["serviceAccountName"] == APP
        assert pod(graph)["automountServiceAccountToken"] is False
        assert graph.object("ServiceAccount", APP).inputs["automountServiceAccountToken"] is False

    @in_every_environment
    def test_identity_scripts_and_policies_are_there_before_the_first_run(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        needed = [graph.named(f"secrets-rotation-{name}") for name in ("identity", "role-policy", "service-account")]
        needed += [graph.object("ConfigMap", APP), graph.object("NetworkPolicy", APP)]
        needed += [graph.object("NetworkPolicy", "postgres-from-database-rotation")]
        needed += graph.objects("ExternalSecret")
        assert {node.urn for node in needed} <= graph.before(graph.object("CronJob", APP))


class TestJob:
    @in_every_environment
    def test_it_looks_every_night_half_an_hour_after_the_dump_and_never_twice_at_once(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        dump = graph.object("CronJob", "postgres-backup").inputs["spec"]["schedule"]
        assert (dump, job(graph)["schedule"]) == ("17 2 * * *", "47 2 * * *")
        assert job(graph)["concurrencyPolicy"] == "Forbid"

    @in_every_environment
    def test_it_looks_when_the_config_says(self, stack: str) -> None:
        assert job(fullest(stack, 3))["schedule"] == "47 12 * * MON-FRI"

    @in_every_environment
    def test_it_is_tried_again_but_not_for_ever(self, stack: str) -> None:
        spec = job(platform(stack, phase=3))["jobTemplate"]["spec"]
        assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 900)
        assert job(platform(stack, phase=3))["startingDeadlineSeconds"] == 3600
        assert pod(platform(stack, phase=3))["restartPolicy"] == "Never", (
            "each try begins with reading the secret again"
        )

    @in_every_environment
    def test_it_reads_then_rotates_then_stores(self, stack: str) -> None:
        """So what fails, fails before anybody is told of a new login, and the one in use goes on."""
        spec = pod(platform(stack, phase=3))
        assert [container["name"] for container in spec["initContainers"]] == ["read", "rotate"]
        assert [container["name"] for container in spec["containers"]] == ["store"]
        for name, container in containers(platform(stack, phase=3)).items():
            assert container["command"] == ["sh", f"/etc/{APP}/{name}.sh"]

    @in_every_environment
    def test_its_images_are_those_of_the_backup_which_are_on_the_node(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        backup = graph.object("CronJob", "postgres-backup").inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (dump,), (upload,) = backup["initContainers"], backup["containers"]
        assert {name: container["image"] for name, container in containers(graph).items()} == {
            "read": upload["image"],
            "rotate": dump["image"],
            "store": upload["image"],
        }
        assert pod(graph)["nodeSelector"] == backup["nodeSelector"]

    @in_every_environment
    def test_passwords_lie_in_memory_only(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        volumes = {volume["name"]: volume for volume in pod(graph)["volumes"]}
        assert volumes["work"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
        for container in containers(graph).values():
            writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
            assert writable == ["work"]
            assert environment(container)["WORK"] == "/work"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for name in ("read", "store"):
            assert environment(containers(graph)[name])["HOME"] == "/work", "where the AWS CLI writes"

    @in_every_environment
    def test_it_logs_in_as_the_services_do_over_verified_tls(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        backup = graph.object("CronJob", "postgres-backup").inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (dump,) = backup["initContainers"]
        told = environment(containers(graph)["rotate"])
        assert told.items() >= environment(dump).items()
        assert told["PGSSLMODE"] == "verify-full"
        assert told["PGPASSWORD"] == {"secretKeyRef": {"name": "database-credentials", "key": "password"}}

    @in_every_environment
    def test_the_stores_login_is_nobody_elses(self, stack: str) -> None:
        for name in ("read", "store"):
            told = environment(containers(platform(stack, phase=3))[name])
            assert [key for key, value in told.items() if isinstance(value, dict)] == []

    @in_every_environment
    def test_which_secret_it_rotates_and_when_is_the_configs(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name in ("read", "store"):
            told = environment(containers(graph)[name])
            assert told["SECRET"] == graph.named(SECRET).outputs["arn"]
            assert (told["STACK"], told["AWS_REGION"]) == (stack, REGION)
        assert environment(containers(graph)["rotate"])["ROTATION_DAYS"] == "30"

    def test_how_old_a_password_gets_is_the_configs(self) -> None:
        graph = platform("dev", services=[], secrets={"rotationDays": 7})
        assert environment(containers(graph)["rotate"])["ROTATION_DAYS"] == "7"
        assert graph.named("secrets-rotation-overdue").inputs["threshold"] == 7 + 2

    @in_every_environment
    def test_it_has_no_privileges(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        assert pod(graph)["securityContext"]["runAsNonRoot"] is True
        assert pod(graph)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(graph).values():
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    @in_every_environment
    def test_it_is_as_large_as_the_backup(self, stack: str) -> None:
        """The quota of phase 2 has counted it that way."""
        graph = platform(stack, phase=3)
        backup = graph.object("CronJob", "postgres-backup").inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        asked = backup["containers"][0]["resources"]["requests"]
        for container in containers(graph).values():
            requests = container["resources"]["requests"]
            assert (requests["cpu"], requests["memory"]) == (asked["cpu"], asked["memory"])


class TestNetwork:
    @in_every_environment
    def test_the_database_lets_it_in_by_a_policy_of_phase_3s_own(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        own = graph.object("NetworkPolicy", "postgres-from-database-rotation").inputs["spec"]
        (rule,) = own["ingress"]
        assert own["podSelector"] == {"matchLabels": {"app": "postgres"}}
        assert own["policyTypes"] == ["Ingress"]
        assert rule == {
            "from": [{"podSelector": {"matchLabels": {"app": APP}}}],
            "ports": [{"protocol": "TCP", "port": 5432}],
        }
        assert graph.object("NetworkPolicy", "postgres") == platform(stack, phase=2).object("NetworkPolicy", "postgres")

    @in_every_environment
    def test_it_reaches_the_database_its_identity_and_aws(self, stack: str) -> None:
        spec = platform(stack, phase=3).object("NetworkPolicy", APP).inputs["spec"]
        assert spec["policyTypes"] == ["Egress"]
        assert [(rule["ports"][0]["port"], [*rule["to"][0]]) for rule in spec["egress"]] == [
            (5432, ["podSelector"]),
            (80, ["ipBlock"]),
            (443, ["ipBlock"]),
        ]


class TestAlarm:
    @in_every_environment
    def test_it_goes_off_two_days_after_the_password_was_due_or_when_nothing_says_how_old_it_is(
        self, stack: str
    ) -> None:
        graph = platform(stack, phase=3)
        inputs = graph.named("secrets-rotation-overdue").inputs
        assert inputs["name"] == f"pyairtable-{stack}-database-password-old"
        assert (inputs["namespace"], inputs["metricName"]) == (METRIC_NAMESPACE, METRIC)
        assert inputs["dimensions"] == {"Stack": stack}
        assert (inputs["statistic"], inputs["comparisonOperator"], inputs["threshold"]) == (
            "Maximum",
            "GreaterThanThreshold",
            32,
        )
        assert inputs["treatMissingData"] == "breaching"
        assert (inputs["period"], inputs["evaluationPeriods"]) == (60 * 60, 24 + 2)
        assert inputs["alarmActions"] == [graph.only("aws:sns/topic:Topic").outputs["arn"]]

    @in_every_environment
    def test_where_nodes_stop_at_night_a_long_weekend_is_waited_for(self, stack: str) -> None:
        inputs = fullest(stack, 3).named("secrets-rotation-overdue").inputs
        assert (inputs["period"], inputs["evaluationPeriods"]) == (60 * 60, 4 * 24 + 2)

    @in_every_environment
    def test_it_hears_of_what_the_job_puts(self, stack: str) -> None:
        told = environment(containers(platform(stack, phase=3))["store"])
        assert (told["METRIC_NAMESPACE"], told["METRIC"]) == (METRIC_NAMESPACE, METRIC)


class TestScriptsInTheCluster:
    def test_they_are_the_projects_all_of_them(self) -> None:
        graph = platform("dev", phase=3)
        data = graph.object("ConfigMap", APP).inputs["data"]
        assert data == {
            name: (SCRIPTS / name).read_text() for name in ("read.sh", "rotate.sh", "rotate.sql", "store.sh")
        }
        for container in containers(graph).values():
            assert {"name": "scripts", "mountPath": f"/etc/{APP}", "readOnly": True} in container["volumeMounts"]
            assert container["command"][1].rpartition("/")[2] in data
        assert environment(containers(graph)["rotate"])["SQL"] == f"/etc/{APP}/rotate.sql"

    def test_what_a_script_asks_of_its_environment_it_is_told(self) -> None:
        for name, container in containers(platform("dev", phase=3)).items():
            text = (SCRIPTS / f"{name}.sh").read_text()
            if name == "rotate":
                text += (SCRIPTS / "rotate.sql").read_text()
            asked = {*re.findall(r"\$([A-Z_]+)", text), *re.findall(r"\\getenv \w+ ([A-Z_]+)", text)}
            assert asked - {"AWS_CONFIG_FILE"} <= environment(container).keys()

    def test_no_statement_that_may_fail_holds_a_password(self) -> None:
        """PostgreSQL's log has the statements that fail."""
        text = (SCRIPTS / "rotate.sql").read_text()
        (rotating,) = (part for part in re.split(r";|\\gset", text) if "credentials.rotate" in part)
        assert ":'current'" not in rotating
        assert ":'answer'" not in rotating
        checked, used = text.index("pg_input_is_valid"), text.index("::jsonb AS current")
        assert checked < used


AWS = """#!/bin/sh
printf '%s\\n' "$*" >> "$WORK/calls"
printf '%s\\n' "$AWS_CONFIG_FILE" >> "$WORK/configs"
case "$*" in
  *"$FAILS"*) echo "An error occurred (ThrottlingException)" >&2; exit 254 ;;
  *get-secret-value*) printf '%s' '{"SecretString": "hush-hush"}' ;;
  *put-secret-value*) cat "$WORK/next.json" > "$WORK/put.json"; echo v2 ;;
esac
"""
PSQL = """#!/bin/sh
printf '%s\\n' "$*" >> "$WORK/calls"
ls "$WORK" > "$WORK/seen"
exit "$ENDS"
"""


class Workbench:
    """Runs a script where `aws` and `psql` only note what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self._bin = folder / "bin"
        for part in (self.work, self._bin):
            part.mkdir()
        for name, text in (("aws", AWS), ("psql", PSQL)):
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o700)

    def run(self, script: str, *, fails: str = "nothing", ends: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "WORK": str(self.work),
            "SECRET": "arn:secret",
            "SQL": "/etc/rotate.sql",
            "STACK": "dev",
            "METRIC_NAMESPACE": METRIC_NAMESPACE,
            "METRIC": METRIC,
            "FAILS": fails,
            "ENDS": str(ends),
        }
        command = ["sh", str(SCRIPTS / f"{script}.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        path = self.work / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


class TestRead:
    def test_it_keeps_the_secret_to_itself_and_says_nothing(self, bench: Workbench) -> None:
        done = bench.run("read")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        found = bench.work / "current.json"
        assert json.loads(found.read_text()) == {"SecretString": "hush-hush"}
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        assert bench.calls == ["secretsmanager get-secret-value --secret-id arn:secret --output json"]

    def test_times_are_written_as_the_database_reads_them(self, bench: Workbench) -> None:
        bench.run("read")
        config = bench.work / "aws.conf"
        assert config.read_text() == "[default]\ncli_timestamp_format = iso8601\n"
        assert (bench.work / "configs").read_text().splitlines() == [str(config)]

    def test_without_the_secret_nothing_follows(self, bench: Workbench) -> None:
        assert bench.run("read", fails="get-secret-value").returncode != 0


class TestRotate:
    def test_it_is_one_script_of_psql_without_anybodys_own_settings(self, bench: Workbench) -> None:
        assert bench.run("rotate").returncode == 0
        assert bench.calls == ["--no-psqlrc --file=/etc/rotate.sql"]

    def test_a_login_that_was_left_behind_is_not_taken_for_the_next_one(self, bench: Workbench) -> None:
        (bench.work / "next.json").write_text("old")
        bench.run("rotate")
        assert "next.json" not in (bench.work / "seen").read_text()

    def test_where_the_database_refuses_nothing_follows(self, bench: Workbench) -> None:
        assert bench.run("rotate", ends=3).returncode == 3


class TestStore:
    def test_it_stores_the_next_login_and_then_says_how_old_it_is(self, bench: Workbench) -> None:
        (bench.work / "age").write_text("0\n")
        (bench.work / "next.json").write_text('{"password": "hush-hush"}')
        done = bench.run("store")
        assert done.returncode == 0
        file = bench.work / "next.json"
        put = f"secretsmanager put-secret-value --secret-id arn:secret --secret-string file://{file}"
        say = f"cloudwatch put-metric-data --namespace {METRIC_NAMESPACE} --metric-name {METRIC}"
        assert bench.calls == [
            f"{put} --query VersionId --output text",
            f"{say} --value 0 --dimensions Stack=dev",
        ]
        assert (bench.work / "put.json").read_text() == '{"password": "hush-hush"}'
        assert "hush-hush" not in done.stdout + done.stderr + "".join(bench.calls), (
            "an argument is in a list of processes"
        )

    def test_where_none_was_due_it_only_says_how_old_the_one_in_use_is(self, bench: Workbench) -> None:
        (bench.work / "age").write_text("12\n")
        assert bench.run("store").returncode == 0
        (call,) = bench.calls
        assert "--value 12 " in call

    def test_a_login_that_cannot_be_stored_is_not_said_to_be_new(self, bench: Workbench) -> None:
        """So the job fails, and the next try prepares another one."""
        (bench.work / "age").write_text("0\n")
        (bench.work / "next.json").write_text("{}")
        assert bench.run("store", fails="put-secret-value").returncode != 0
        assert [call for call in bench.calls if "put-metric-data" in call] == []
