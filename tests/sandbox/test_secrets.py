"""Phase 3 on the dev stack: secrets that arrive, rotations that nobody notices, faults, and the walk back and forth."""

import json
from collections.abc import Iterator

import pytest

from components.secrets.scripts import restarter
from tests.program.harness import Step, is_alive, wait_for
from tests.sandbox.harness import Cluster, is_ready, name_of, processes_of, running
from tests.sandbox.jobs import run_job
from tests.sandbox.logins import LOGINS_A_SECOND, SEEN, Logins, credentials, hidden, log_in
from tests.secrecy import places

ROTATIONS = 10
APPLIED_SECONDS = 30
"""From the Secret to PostgreSQL and to the last pod, here; docs/phase-3-secrets.md has the bound on AWS."""
SECRETS = ("database-credentials", "redis-credentials", "api-keys")
EXTERNAL_SECRETS = {"database-secret", "redis-secret", "api-keys-secret"}
OUTSIDE_KEY = "patXW81-the-key-of-airtable"
RUNBOOK = """
kubectl get pods -n external-secrets-system
kubectl get externalsecrets -n pyairtable
kubectl get secrets -n pyairtable
aws secretsmanager update-secret \\
  --secret-id pyairtable/dev/database \\
  --secret-string '{"username":"admin","password":"'$(openssl rand -base64 24)'"}'
sleep 15
kubectl get secret database-credentials -n pyairtable -o jsonpath='{.data.password}' | base64 -d
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The dev stack at phase 2."""
    with running("dev", tmp_path_factory.mktemp("state")) as made:
        made.up(2)
        wait_for(lambda: takes(made), "PostgreSQL")  # an up does not: here its pod is ready before its process
        yield made


@pytest.fixture(scope="module")
def kept(before: Cluster) -> dict[str, dict[str, str]]:
    """What the Secrets hold at phase 2."""
    return {secret: credentials(before, secret) for secret in SECRETS}


@pytest.fixture(scope="module")
def pods_before(before: Cluster) -> dict[str, str]:
    """The pods at phase 2, by name."""
    return uids(before)


@pytest.fixture(scope="module")
def plan(before: Cluster) -> set[Step]:
    """What the preview of the step to phase 3 announces."""
    return before.plan("--stack", "dev", "--phase", "3")


@pytest.fixture(scope="module")
def cluster(
    before: Cluster,
    kept: dict[str, dict[str, str]],  # noqa: ARG001 - they are looked at before the up
    pods_before: dict[str, str],  # noqa: ARG001
    plan: set[Step],  # noqa: ARG001
) -> Cluster:
    """The dev stack at phase 3, where it came from phase 2."""
    before.up(3)
    return before


def uids(cluster: Cluster) -> dict[str, str]:
    return {name_of(pod): pod["metadata"]["uid"] for pod in cluster.pods()}


def port(cluster: Cluster) -> int:
    return cluster.plane.ports["postgres"]


def ready(cluster: Cluster) -> dict[str, bool]:
    """The three ExternalSecrets, and whether each is."""
    found = cluster.api.list("external-secrets.io/v1", "ExternalSecret", namespace="pyairtable")
    return {name_of(external_secret): is_ready(external_secret) for external_secret in found}


def in_aws(cluster: Cluster, secret: str = "database") -> dict[str, str]:  # noqa: S107 - a name
    answer = cluster.aws("secretsmanager").get_secret_value(SecretId=f"pyairtable/dev/{secret}")
    return hidden(json.loads(answer["SecretString"]))


def settled(cluster: Cluster) -> bool:
    """Whether the cluster has what Secrets Manager has, PostgreSQL takes it, and the pods have been restarted."""
    wanted, have = in_aws(cluster), credentials(cluster)
    if any(have[key] != wanted[key] for key in ("username", "password")):
        return False
    return not cluster.runbook("secrets", check=False).returncode and runs_with_it(cluster)


def runs_with_it(cluster: Cluster) -> bool:
    """Whether every pod was started with what the Secrets hold now."""
    secrets = {name: cluster.api.get("v1", "Secret", name, "pyairtable") or {} for name in SECRETS}
    for kind in ("StatefulSet", "Deployment"):
        for workload in cluster.api.list("apps/v1", kind, namespace="pyairtable"):
            read = {name: secrets[name] for name in restarter.secrets_of(workload) if name in secrets}
            noted = restarter.annotations(workload).get(restarter.NOTE)
            if read and (noted != restarter.digest(read) or not restarter.is_rolled_out(workload)):
                return False
    return True


def test_the_step_up_makes_what_the_phase_owns_and_touches_nothing_else(plan: set[Step]) -> None:
    assert {step.operation for step in plan} - {"read"} == {"create"}
    assert "pyairtable:secrets:ManagedSecrets" in {step.type for step in plan}


def test_no_pod_restarts_and_no_value_changes(
    cluster: Cluster, pods_before: dict[str, str], kept: dict[str, dict[str, str]]
) -> None:
    wait_for(lambda: ready(cluster) == dict.fromkeys(EXTERNAL_SECRETS, True), "the ExternalSecrets to be ready")
    assert uids(cluster).items() >= pods_before.items()
    assert credentials(cluster) == kept["database-credentials"]
    assert credentials(cluster, "redis-credentials") == kept["redis-credentials"]
    assert credentials(cluster, "api-keys").items() >= kept["api-keys"].items()


def test_secrets_manager_starts_from_what_the_cluster_uses(cluster: Cluster, kept: dict[str, dict[str, str]]) -> None:
    host = {"host": "postgres.pyairtable.svc.cluster.local", "port": "5432", "database": "pyairtable"}
    assert in_aws(cluster) == {**kept["database-credentials"], **host}
    assert in_aws(cluster, "redis").items() >= kept["redis-credentials"].items()
    assert in_aws(cluster, "api-keys") == {**kept["api-keys"], "airtable_token": "", "gemini_api_key": ""}


def test_a_second_up_changes_nothing(cluster: Cluster) -> None:
    assert cluster.changes(3) == set()


def test_everything_fits_and_the_estimate_keeps_to_the_budget(cluster: Cluster) -> None:
    assert json.loads(cluster.run("fit", "--stack", "dev", "--json").stdout) == []
    assert 0 < cluster.outputs("dev")["estimated_monthly_cost_usd"] <= 98


def test_the_database_takes_the_login_of_the_secret_and_no_superuser_through_the_network(cluster: Cluster) -> None:
    assert log_in(credentials(cluster), port(cluster)) == "admin"
    with pytest.raises(Exception, match=r"no pg_hba\.conf entry"):
        log_in({**credentials(cluster), "username": "postgres"}, port(cluster))


def test_the_runbooks_security_validation_works_as_written_and_the_new_password_is_postgresqls_too(
    cluster: Cluster,
) -> None:
    # Just after a refresh: the next one, 15 s later, is then sure to come before the runbook's own 15 s are over.
    before = refreshed(cluster)
    wait_for(lambda: refreshed(cluster) != before, "a refresh")
    answer = cluster.shell(RUNBOOK, "--stack", "dev").stdout
    assert "Running" in answer
    assert all(name in answer for name in (*EXTERNAL_SECRETS, *SECRETS, "SecretSynced"))
    assert answer.endswith(in_aws(cluster)["password"]), "the Secret has not the new password after 15 s"
    wait_for(lambda: takes(cluster), "PostgreSQL to take the new password", APPLIED_SECONDS)
    wait_for(lambda: settled(cluster), "the pods to be restarted")
    values = cluster.api.get("v1", "ConfigMap", "connections", "pyairtable")
    assert values
    assert values["data"]["DB_HOST"] == "postgres.pyairtable.svc.cluster.local"


def refreshed(cluster: Cluster) -> str:
    """When External Secrets has last looked at the login."""
    found = cluster.api.get("external-secrets.io/v1", "ExternalSecret", "database-secret", "pyairtable")
    assert found
    return found["status"]["refreshTime"]


def takes(cluster: Cluster) -> bool:
    try:
        return bool(log_in(credentials(cluster), port(cluster)))
    except Exception:  # noqa: BLE001 - whatever keeps it from logging in
        return False


def test_ten_rotations_under_load_refuse_no_login_and_leave_every_service_a_ready_pod(cluster: Cluster) -> None:
    with Logins(cluster, port(cluster)) as logins:
        for _ in range(ROTATIONS):
            done = json.loads(cluster.runbook("rotate", "database", "--json").stdout)
            assert done["restarted"]
            assert all(any(is_ready(pod) for pod in cluster.pods(service["name"])) for service in cluster.services())
    assert logins.failed == []
    assert set(logins.succeeded) == {"admin", "admin_2"}
    assert logins.succeeded.total() > LOGINS_A_SECOND * ROTATIONS, "the load was none to speak of"
    # What the hand-made update left out is back.
    assert in_aws(cluster)["host"] == "postgres.pyairtable.svc.cluster.local"


@pytest.mark.parametrize(("secret", "keys"), [("redis", {"password"}), ("api-keys", {"jwt_secret", "api_key"})])
def test_the_other_secrets_are_rotated_on_demand_and_keep_the_rest(
    cluster: Cluster, secret: str, keys: set[str]
) -> None:
    old = in_aws(cluster, secret)
    cluster.runbook("rotate", secret)
    new = in_aws(cluster, secret)
    assert {key for key in new if new[key] != old[key]} == keys


def test_the_monthly_job_rotates_what_is_old_enough_and_says_how_old_it_is(cluster: Cluster) -> None:
    old = credentials(cluster)
    young = run_job(cluster, "database-rotation")
    assert [done.returncode for done in young] == [0, 0, 0], young[-1].stderr
    assert in_aws(cluster)["username"] == old["username"]
    with Logins(cluster, port(cluster)) as logins:
        done = run_job(cluster, "database-rotation", ROTATION_DAYS="0")
        assert [container.returncode for container in done] == [0, 0, 0], done[-1].stderr
        wait_for(lambda: credentials(cluster)["username"] != old["username"], "the next login to arrive")
        wait_for(lambda: settled(cluster), "the pods to be restarted")
    assert logins.failed == []
    metrics = cluster.aws("cloudwatch").list_metrics(Namespace="PyAirtable/Secrets")["Metrics"]
    assert {metric["MetricName"] for metric in metrics} == {"DatabasePasswordAgeDays"}


def test_a_job_that_cannot_reach_secrets_manager_leaves_the_login_as_it_is(cluster: Cluster) -> None:
    old = credentials(cluster)
    done = run_job(cluster, "database-rotation", ROTATION_DAYS="0", SECRET="pyairtable/dev/nothing")  # noqa: S106
    assert done[-1].returncode != 0
    assert in_aws(cluster).items() >= old.items()
    assert takes(cluster)


class TestFaults:
    """What goes wrong, what still works, and what comes back by itself."""

    def test_with_the_operator_down_a_rotation_says_so_and_both_logins_work(self, cluster: Cluster) -> None:
        old = credentials(cluster)
        (operator,) = processes_of(cluster.plane, "external-secrets")
        cluster.kubectl("scale deployment/external-secrets -n external-secrets-system --replicas=0")
        try:
            wait_for(lambda: not is_alive(operator), "the operator to end")
            done = cluster.runbook("rotate", "database", "--timeout", "10s", check=False)
            assert done.returncode == 1
            assert "external" in done.stderr.lower()
            assert credentials(cluster) == old
            assert takes(cluster)
            assert log_in(in_aws(cluster), port(cluster))
        finally:
            cluster.kubectl("scale deployment/external-secrets -n external-secrets-system --replicas=1")
        wait_for(lambda: settled(cluster), "the operator to catch up")
        # It refuses while a pod may still use what it would take away.
        wait_for(lambda: not cluster.runbook("rotate", "database", check=False).returncode, "a rotation to succeed")

    def test_with_the_database_down_a_rotation_changes_nothing(self, cluster: Cluster) -> None:
        old = in_aws(cluster)
        cluster.kubectl("scale statefulset/postgres -n pyairtable --replicas=0")
        try:
            wait_for(lambda: not takes(cluster), "the database to go")
            done = cluster.runbook("rotate", "database", "--timeout", "10s", check=False)
            assert done.returncode in (1, 2)
            assert "Traceback" not in done.stderr
            assert in_aws(cluster) == old
        finally:
            cluster.kubectl("scale statefulset/postgres -n pyairtable --replicas=1")
        wait_for(lambda: takes(cluster), "the database to be back, with the same login")

    def test_malformed_json_keeps_the_last_good_value_and_is_put_right_by_one_command(self, cluster: Cluster) -> None:
        old = credentials(cluster)
        secrets = cluster.aws("secretsmanager")
        secrets.put_secret_value(SecretId="pyairtable/dev/database", SecretString="{broken")
        wait_for(lambda: not ready(cluster)["database-secret"], "the status to say so")
        status = cluster.runbook("secrets", check=False)
        assert status.returncode == 3
        assert "database-secret" in status.stdout
        assert credentials(cluster) == old
        assert takes(cluster)
        assert cluster.runbook("rotate", "database", "--timeout", "10s", check=False).returncode != 0
        cluster.runbook("restore-secret", "database")
        assert in_aws(cluster).items() >= old.items()
        wait_for(lambda: ready(cluster)["database-secret"], "the status to be well")

    def test_a_missing_key_names_the_services_that_need_it(self, cluster: Cluster) -> None:
        whole = in_aws(cluster, "api-keys")
        less = {key: value for key, value in whole.items() if key != "jwt_secret"}
        secrets = cluster.aws("secretsmanager")
        secrets.put_secret_value(SecretId="pyairtable/dev/api-keys", SecretString=json.dumps(less))
        wait_for(lambda: not ready(cluster)["api-keys-secret"], "the status to say so")
        said = cluster.runbook("secrets", check=False).stdout
        assert "jwt_secret" in said
        assert "auth-service" in said
        secrets.put_secret_value(SecretId="pyairtable/dev/api-keys", SecretString=json.dumps(whole))
        wait_for(lambda: ready(cluster)["api-keys-secret"], "the status to be well")

    def test_a_secret_that_was_deleted_by_hand_is_had_back(self, cluster: Cluster) -> None:
        old = credentials(cluster, "redis-credentials")
        cluster.aws("secretsmanager").delete_secret(SecretId="pyairtable/dev/redis", RecoveryWindowInDays=7)
        wait_for(lambda: not ready(cluster)["redis-secret"], "the status to say so")
        assert credentials(cluster, "redis-credentials") == old
        cluster.runbook("restore-secret", "redis")
        wait_for(lambda: ready(cluster)["redis-secret"], "the status to be well")
        assert in_aws(cluster, "redis").items() >= old.items()

    def test_a_secret_of_the_cluster_that_was_deleted_by_hand_is_made_again(self, cluster: Cluster) -> None:
        old = credentials(cluster)
        cluster.api.delete("v1", "Secret", "database-credentials", "pyairtable")
        cluster.run("stop")  # the next up looks at what there is
        cluster.up(3)
        wait_for(lambda: credentials(cluster) == old, "External Secrets to fill it")
        # PostgreSQL starts again, too, and may have taken what the Secret was made with.
        wait_for(lambda: takes(cluster), "PostgreSQL to take it")
        wait_for(lambda: settled(cluster), "the pods to be restarted")


def test_a_key_that_is_set_later_arrives_and_leaves_the_rotated_ones_alone(cluster: Cluster) -> None:
    old = in_aws(cluster, "api-keys")
    cluster.run("config", "set", "--stack", "dev", "--secret", "airtableToken", OUTSIDE_KEY)
    changed = cluster.changes(3)
    assert {step.type for step in changed} == {"aws:secretsmanager/secretVersion:SecretVersion"}
    cluster.up(3)
    assert in_aws(cluster, "api-keys") == {**old, "airtable_token": OUTSIDE_KEY}
    assert cluster.changes(3) == set()
    wait_for(lambda: credentials(cluster, "api-keys")["airtable_token"] == OUTSIDE_KEY, "it to arrive in the cluster")
    wait_for(lambda: runs_with_it(cluster), "the pods to be restarted")  # no secret is rotated before


def test_no_secret_value_is_anywhere_in_plain_text(cluster: Cluster) -> None:
    for secret in ("database", "redis", "api-keys"):
        cluster.runbook("rotate", secret)
        in_aws(cluster, secret)
    cluster.runbook("secrets")
    cluster.runbook("restore-secret", "redis")
    objects = "deployments,statefulsets,cronjobs,jobs,pods,configmaps,externalsecrets,secretstores,events"
    texts = {
        **{f"output {number}": said for number, said in enumerate(cluster.printed)},
        "preview": cluster.run("preview", "--stack", "dev", "--phase", "3").stdout,
        "outputs": json.dumps(cluster.outputs("dev")),
        "status": cluster.run("status").stdout,
        "objects": cluster.kubectl(f"get {objects} -A -o json"),
        "stack file": (cluster.checkout / "Pulumi.dev.yaml").read_text(),
    }
    assert len(SEEN) > ROTATIONS, "those of all the rotations before, not only the last ones"
    values = {f"value {number}": value for number, value in enumerate(sorted(SEEN))}
    folders = [cluster.state / folder for folder in ("backend", "logs", "overrides")]
    assert places(values, [folder for folder in folders if any(folder.rglob("*"))], texts) == []


def test_going_back_keeps_the_current_values_and_every_pod_and_leaves_no_orphan(cluster: Cluster) -> None:
    cluster.runbook("rotate", "database")
    values = {secret: credentials(cluster, secret) for secret in SECRETS}
    pods = {name: uid for name, uid in uids(cluster).items() if not name.startswith("secret-restarter")}
    steps = cluster.plan("--stack", "dev", "--phase", "2")
    assert {step.operation for step in steps} == {"delete", "discard"}, "what was only read is discarded"
    cluster.up(2)
    assert {secret: credentials(cluster, secret) for secret in SECRETS} == values
    assert uids(cluster) == pods
    assert takes(cluster)
    assert cluster.secrets_left() == {}
    assert cluster.plan("--stack", "dev", "--phase", "2") == set()


def test_and_up_again_starts_from_the_current_values(cluster: Cluster) -> None:
    values = {secret: credentials(cluster, secret) for secret in SECRETS}
    cluster.up(3)
    wait_for(lambda: ready(cluster) == dict.fromkeys(EXTERNAL_SECRETS, True), "the ExternalSecrets to be ready")
    assert {secret: credentials(cluster, secret) for secret in SECRETS} == values
    assert in_aws(cluster).items() >= values["database-credentials"].items()
    assert takes(cluster)
    assert cluster.changes(3) == set()
