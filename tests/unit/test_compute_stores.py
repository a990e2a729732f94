"""PostgreSQL and Redis of phase 2: disks, certificates, probes, and the credentials that every pod reads."""

import base64
import os
import re
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import ROOT, Graph, Node, fullest, platform, varied_prod

STORES = ("postgres", "redis")
PORTS = {"postgres": 5432, "redis": 6379}
VOLUME = "aws:ebs/volume:Volume"
PASSWORD = "random:index/randomPassword:RandomPassword"  # noqa: S105 - a type
CREDENTIALS = {
    "database-credentials": {"username", "password"},
    "redis-credentials": {"password"},
    "api-keys": {"jwt_secret", "api_key"},
}

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
of_each_store = pytest.mark.parametrize("store", STORES)


def stateful_set(graph: Graph, store: str) -> Node:
    return graph.object("StatefulSet", store)


def pod(graph: Graph, store: str) -> dict[str, Any]:
    return stateful_set(graph, store).inputs["spec"]["template"]["spec"]


def container(graph: Graph, store: str) -> dict[str, Any]:
    """The store's own; PostgreSQL's pod has another one beside it."""
    (own,) = (container for container in pod(graph, store)["containers"] if container["name"] == store)
    return own


def sidecar(graph: Graph) -> dict[str, Any]:
    """What keeps PostgreSQL's logins."""
    (other,) = (container for container in pod(graph, "postgres")["containers"] if container["name"] != "postgres")
    return other


def volume(graph: Graph, store: str, name: str) -> dict[str, Any]:
    (found,) = (volume for volume in pod(graph, store)["volumes"] if volume["name"] == name)
    return found


def files(graph: Graph) -> dict[str, str]:
    """PostgreSQL's configuration and scripts, as they are mounted."""
    return graph.object("ConfigMap", "postgres-configuration").inputs["data"]


def settings_of_postgres(graph: Graph) -> dict[str, str]:
    """What PostgreSQL is started with."""
    arguments = container(graph, "postgres")["args"]
    assert set(arguments[::2]) == {"-c"}
    return dict(argument.split("=", 1) for argument in arguments[1::2])


def settings_of_redis(graph: Graph) -> dict[str, str]:
    """What stands in Redis's configuration."""
    text = graph.object("ConfigMap", "redis-configuration").inputs["data"]["redis.conf"]
    return dict(line.split(" ", 1) for line in text.splitlines())


def environment(graph: Graph, store: str) -> dict[str, Any]:
    return told(container(graph, store))


def told(container: dict[str, Any]) -> dict[str, Any]:
    """A container's environment."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def from_secret(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def credentials(graph: Graph, secret: str) -> dict[str, str]:
    """What a Secret holds."""
    data = graph.object("Secret", secret).inputs["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


class TestDisk:
    @in_every_environment
    def test_it_is_encrypted_gp3_in_the_data_zone(self, stack: str) -> None:
        for disk in platform(stack).of_type(VOLUME):
            assert (disk.inputs["type"], disk.inputs["encrypted"]) == ("gp3", True)
            assert disk.inputs["availabilityZone"] == "us-east-1a"

    @pytest.mark.parametrize(("stack", "sizes"), [("dev", (10, 1)), ("staging", (20, 2)), ("prod", (50, 4))])
    def test_its_size_is_the_configs_wherever_it_is_said(self, stack: str, sizes: tuple[int, int]) -> None:
        graph = platform(stack)
        for store, gib in zip(STORES, sizes, strict=True):
            disk = f"compute-stores-{store}-disk"
            assert graph.named(f"{disk}-volume").inputs["size"] == gib
            capacity = graph.named(f"{disk}-persistent-volume").inputs["spec"]["capacity"]
            requested = graph.named(f"{disk}-claim").inputs["spec"]["resources"]["requests"]
            assert capacity == requested == {"storage": f"{gib}Gi"}

    @in_every_environment
    @of_each_store
    def test_volume_object_and_claim_are_for_each_other_and_for_no_other(self, stack: str, store: str) -> None:
        graph = platform(stack)
        claim = graph.object("PersistentVolumeClaim", f"{store}-data").inputs
        volume = graph.object("PersistentVolume", f"pyairtable-{stack}-{store}-data").inputs
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        assert volume["spec"]["claimRef"] == {"namespace": "pyairtable", "name": claim["metadata"]["name"]}
        assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
        assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""

    @in_every_environment
    @of_each_store
    def test_the_volume_object_is_the_stacks_own_disk(self, stack: str, store: str) -> None:
        graph = platform(stack)
        disk = graph.named(f"compute-stores-{store}-disk-volume")
        csi = graph.object("PersistentVolume", f"pyairtable-{stack}-{store}-data").inputs["spec"]["csi"]
        assert csi == {"driver": "ebs.csi.aws.com", "volumeHandle": f"{disk.name}-id", "fsType": "ext4"}

    @in_every_environment
    @of_each_store
    def test_a_disk_grows_without_its_claim_which_cannot(self, stack: str, store: str) -> None:
        graph = platform(stack)
        assert graph.object("PersistentVolume", f"pyairtable-{stack}-{store}-data").ignored == ("spec.capacity",)
        assert graph.object("PersistentVolumeClaim", f"{store}-data").ignored == ("spec.resources",)
        assert graph.named(f"compute-stores-{store}-disk-volume").ignored == ()

    @in_every_environment
    def test_a_claim_that_goes_takes_no_data_along(self, stack: str) -> None:
        policies = {
            volume.inputs["spec"]["persistentVolumeReclaimPolicy"]
            for volume in platform(stack).objects("PersistentVolume")
        }
        assert policies == {"Retain"}

    @in_every_environment
    @of_each_store
    def test_its_store_mounts_it_and_comes_after_it(self, stack: str, store: str) -> None:
        graph = platform(stack)
        claim = graph.object("PersistentVolumeClaim", f"{store}-data")
        volumes = {volume["name"]: volume for volume in pod(graph, store)["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim.inputs["metadata"]["name"]
        assert claim.urn in graph.before(stateful_set(graph, store))
        assert "volumeClaimTemplates" not in stateful_set(graph, store).inputs["spec"]


class TestStore:
    @in_every_environment
    @of_each_store
    def test_there_is_one_of_it_under_a_service_of_its_name(self, stack: str, store: str) -> None:
        graph = platform(stack)
        spec = stateful_set(graph, store).inputs["spec"]
        assert (spec["replicas"], spec["serviceName"]) == (1, store)
        service = graph.object("Service", store).inputs["spec"]
        assert (service["type"], service["selector"]) == ("ClusterIP", {"app": store})
        assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(PORTS[store],) * 2]
        assert spec["template"]["metadata"]["labels"].items() >= spec["selector"]["matchLabels"].items()

    @in_every_environment
    @of_each_store
    def test_it_comes_after_the_nodes_the_disk_driver_and_its_credentials(self, stack: str, store: str) -> None:
        graph = platform(stack)
        before = graph.before(stateful_set(graph, store))
        needed = [*graph.of_type("aws:eks/nodeGroup:NodeGroup"), graph.named("compute-addons-ebs-csi")]
        needed += [graph.object("Secret", name) for name in CREDENTIALS]
        needed += [graph.object("Secret", f"{store}-tls"), graph.object("ConfigMap", f"{store}-configuration")]
        assert {node.urn for node in needed} <= before

    @in_every_environment
    @of_each_store
    def test_its_image_has_a_tag_that_stays_and_comes_from_where_nodes_are_not_rate_limited(
        self, stack: str, store: str
    ) -> None:
        (image,) = {container["image"] for container in pod(platform(stack), store)["containers"]}
        assert re.fullmatch(rf"public\.ecr\.aws/docker/library/{store}:\d+\.\d+(\.\d+)?", image)

    @in_every_environment
    @of_each_store
    def test_it_runs_as_its_images_user_without_privileges(self, stack: str, store: str) -> None:
        spec = pod(platform(stack), store)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for each in spec["containers"]:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
            }

    @in_every_environment
    @of_each_store
    def test_it_is_restarted_much_later_than_it_is_left_alone(self, stack: str, store: str) -> None:
        only = container(platform(stack), store)
        patience = {
            name: only[f"{name}Probe"]["periodSeconds"] * only[f"{name}Probe"].get("failureThreshold", 3)
            for name in ("startup", "readiness", "liveness")
        }
        assert patience["readiness"] < patience["liveness"] < patience["startup"]

    @in_every_environment
    @of_each_store
    def test_a_busy_store_that_still_listens_is_not_restarted(self, stack: str, store: str) -> None:
        only = container(platform(stack), store)
        assert only["livenessProbe"]["tcpSocket"] == {"port": "tcp"}
        assert only["ports"] == [{"name": "tcp", "containerPort": PORTS[store]}]

    @of_each_store
    def test_its_probe_asks_the_store_itself(self, store: str) -> None:
        only = container(platform("dev"), store)
        command = " ".join(only["startupProbe"]["exec"]["command"])
        assert only["readinessProbe"]["exec"] == only["startupProbe"]["exec"]
        assert {"postgres": "pg_isready", "redis": "redis-cli --tls --cacert /etc/tls/ca.crt ping"}[store] in command

    @in_every_environment
    @of_each_store
    def test_its_memory_is_not_overcommitted(self, stack: str, store: str) -> None:
        for each in pod(platform(stack), store)["containers"]:
            for kind in ("memory", "ephemeral-storage"):
                assert each["resources"]["requests"][kind] == each["resources"]["limits"][kind]

    def test_its_size_is_the_configs(self) -> None:
        asked = container(varied_prod(), "postgres")["resources"]["requests"]
        assert (asked["cpu"], asked["memory"]) == ("1000m", "2048Mi")

    @of_each_store
    def test_it_is_restarted_for_a_new_certificate_or_configuration(self, store: str) -> None:
        graphs = platform("dev"), platform("staging")
        annotations = [
            stateful_set(graph, store).inputs["spec"]["template"]["metadata"]["annotations"] for graph in graphs
        ]
        assert {*annotations[0]} == {"pyairtable.io/configuration", "pyairtable.io/certificate"}
        configurations = [graph.object("ConfigMap", f"{store}-configuration").inputs["data"] for graph in graphs]
        same = annotations[0]["pyairtable.io/configuration"] == annotations[1]["pyairtable.io/configuration"]
        assert same == (configurations[0] == configurations[1])

    @of_each_store
    def test_it_writes_only_to_its_disk_and_to_scratch_space_of_bounded_size(self, store: str) -> None:
        graph = platform("dev")
        for each in pod(graph, store)["containers"]:
            writable = {mount["name"] for mount in each["volumeMounts"] if not mount.get("readOnly")}
            assert writable == {"data", "scratch"}
        assert volume(graph, store, "scratch")["emptyDir"] == {"sizeLimit": "64Mi"}


class TestPostgres:
    def test_its_data_is_below_the_mount_whose_root_is_the_file_systems(self) -> None:
        graph = platform("dev")
        mounts = {mount["name"]: mount["mountPath"] for mount in container(graph, "postgres")["volumeMounts"]}
        assert environment(graph, "postgres")["PGDATA"].startswith(f"{mounts['data']}/")

    def test_it_takes_connections_over_tls_and_with_a_password_only(self) -> None:
        graph = platform("dev")
        settings = settings_of_postgres(graph)
        assert settings["ssl"] == "on"
        assert settings["password_encryption"] == "scram-sha-256"  # noqa: S105 - a method
        network = [rule for rule in rules(graph) if rule[0] != "local"]
        assert {(rule[0], rule[-1]) for rule in network} == {("hostssl", "scram-sha-256")}
        assert {rule[3] for rule in network} == {"0.0.0.0/0", "::/0"}
        assert settings["hba_file"] == "/etc/postgres/pg_hba.conf"

    def test_through_the_network_it_lets_in_members_of_the_owner_and_only_to_their_database(self) -> None:
        """So not the superuser, who has no password of his own."""
        network = [rule for rule in rules(platform("dev")) if rule[0] != "local"]
        assert {(rule[1], rule[2]) for rule in network} == {("pyairtable", "+pyairtable")}

    def test_through_the_socket_it_lets_in_whoever_may_run_a_command_in_the_pod(self) -> None:
        assert [rule for rule in rules(platform("dev")) if rule[0] == "local"] == [["local", "all", "all", "trust"]]

    def test_it_identifies_itself_with_the_stacks_certificate(self) -> None:
        settings = settings_of_postgres(platform("dev"))
        assert (settings["ssl_cert_file"], settings["ssl_key_file"]) == ("/etc/tls/tls.crt", "/etc/tls/tls.key")

    @pytest.mark.parametrize(("stack", "buffers"), [("dev", "128MB"), ("staging", "256MB"), ("prod", "384MB")])
    def test_its_buffers_are_a_quarter_of_its_memory(self, stack: str, buffers: str) -> None:
        assert settings_of_postgres(platform(stack))["shared_buffers"] == buffers

    def test_it_is_made_with_the_images_own_superuser_and_the_database_of_the_services(self) -> None:
        graph = platform("dev")
        assert environment(graph, "postgres") == {
            "POSTGRES_PASSWORD_FILE": "/etc/credentials/password",
            "POSTGRES_DB": graph.object("ConfigMap", "connections").inputs["data"]["DB_NAME"],
            "PGDATA": "/var/lib/postgresql/data/pgdata",
        }
        probe = container(graph, "postgres")["readinessProbe"]["exec"]["command"]
        assert probe == ["pg_isready", "--username=postgres", "--dbname=pyairtable"]

    @in_every_environment
    def test_no_password_is_in_its_environment_which_would_not_change_with_the_secret(self, stack: str) -> None:
        """And so no changed Secret has it restarted."""
        for each in pod(platform(stack), "postgres")["containers"]:
            assert [entry["name"] for entry in each["env"] if "valueFrom" in entry] == []
            assert "envFrom" not in each


def rules(graph: Graph) -> list[list[str]]:
    """Lines of pg_hba.conf, in their fields."""
    return [line.split() for line in files(graph)["pg_hba.conf"].splitlines() if not line.startswith("#")]


class TestLoginKeeper:
    """The container beside PostgreSQL that makes its logins what the Secret says."""

    def test_it_reads_the_credentials_from_files_that_follow_the_secret(self) -> None:
        graph = platform("dev")
        assert volume(graph, "postgres", "credentials")["secret"] == {
            "secretName": "database-credentials",
            "defaultMode": 0o440,
        }
        (mount,) = (mount for mount in sidecar(graph)["volumeMounts"] if mount["name"] == "credentials")
        assert mount == {"name": "credentials", "mountPath": "/etc/credentials", "readOnly": True}, (
            "no subPath: that stays"
        )

    def test_it_speaks_to_postgresql_through_the_socket_that_both_mount(self) -> None:
        graph = platform("dev")
        assert told(sidecar(graph)) == {
            "PGHOST": "/var/run/postgresql",
            "PGUSER": "postgres",
            "PGDATABASE": "pyairtable",
            "CREDENTIALS": "/etc/credentials",
            "ROLES": "/etc/postgres/roles.sql",
        }
        sockets = [
            mount
            for each in (container(graph, "postgres"), sidecar(graph))
            for mount in each["volumeMounts"]
            if mount["mountPath"] == "/var/run/postgresql"
        ]
        assert len(sockets) == 2
        assert sockets[0] == sockets[1]

    def test_its_script_and_statements_are_mounted_as_they_are_in_the_project(self) -> None:
        graph = platform("dev")
        folder = ROOT / "components" / "compute" / "postgres"
        assert files(graph) == {path.name: path.read_text() for path in folder.iterdir()}
        assert sidecar(graph)["command"] == ["sh", "/etc/postgres/credentials.sh"]
        assert sidecar(graph)["command"][1].rpartition("/")[2] in files(graph)
        assert told(sidecar(graph))["ROLES"].rpartition("/")[2] in files(graph)
        (mount,) = (mount for mount in sidecar(graph)["volumeMounts"] if mount["name"] == "configuration")
        assert mount["mountPath"] == "/etc/postgres"

    @in_every_environment
    def test_it_is_small_and_the_same_in_every_phase(self, stack: str) -> None:
        asked = sidecar(platform(stack))["resources"]["requests"]
        assert (asked["cpu"], asked["memory"]) == ("10m", "32Mi")
        assert sidecar(platform(stack, phase=2)) == sidecar(platform(stack))

    def test_it_has_no_probe_that_could_restart_or_hide_the_store(self) -> None:
        assert not {"startupProbe", "readinessProbe", "livenessProbe", "ports"} & sidecar(platform("dev")).keys()

    def test_no_password_is_in_its_scripts_or_reaches_a_log(self) -> None:
        scripts = files(platform("dev"))
        assert "SET log_statement = 'none';" in scripts["roles.sql"]
        assert "SET log_min_error_statement = 'panic';" in scripts["roles.sql"]
        assert not re.search(r"PASSWORD '[^']", scripts["roles.sql"])
        printed = [line for line in scripts["credentials.sh"].splitlines() if "echo" in line]
        assert printed
        assert [line for line in printed if "password" in line.lower()] == []

    @of_each_store
    def test_redis_has_none(self, store: str) -> None:
        names = [each["name"] for each in pod(platform("dev"), store)["containers"]]
        assert names == {"postgres": ["postgres", "credentials"], "redis": ["redis"]}[store]


PSQL = """#!/bin/sh
printf '%s %s\\n' "$(cat "$CREDENTIALS/username")" "$*" >> "$WORK/applied"
[ ! -e "$WORK/fails" ]
"""
PG_ISREADY = """#!/bin/sh
[ ! -e "$WORK/away" ]
"""
SLEEP = """#!/bin/sh
exec /bin/sleep 0.02
"""


class LoginKeeper:
    """Runs its script where `psql` only notes for whom it was asked, and time flies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for part in ("bin", "work"):
            (folder / part).mkdir()
        for name, text in (("psql", PSQL), ("pg_isready", PG_ISREADY), ("sleep", SLEEP)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o700)
        self.set("admin", "hush-hush")

    def set(self, username: str, password: str) -> None:
        """Change the Secret, as the kubelet does: both files at once."""
        new = self._folder / f"secret-{username}-{password}"
        new.mkdir(exist_ok=True)
        (new / "username").write_text(username)
        (new / "password").write_text(password)
        link = self._folder / "new"
        link.symlink_to(new)
        link.replace(self._folder / "credentials")

    def mark(self, name: str, *, there: bool = True) -> None:
        """Let something be so, or no longer."""
        path = self._folder / "work" / name
        path.touch() if there else path.unlink()

    @property
    def applied(self) -> list[str]:
        path = self._folder / "work" / "applied"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[str]]:
        environment = {
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
            "CREDENTIALS": str(self._folder / "credentials"),
            "ROLES": "/etc/postgres/roles.sql",
            "WORK": str(self._folder / "work"),
        }
        script = ROOT / "components" / "compute" / "postgres" / "credentials.sh"
        with subprocess.Popen(
            ["sh", str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def wait(self, applied: list[str]) -> None:
        """Until just these logins were applied, and for some more rounds."""
        deadline = time.monotonic() + 20
        while self.applied != applied and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert self.applied == applied


@pytest.fixture
def keeper(tmp_path: Path) -> LoginKeeper:
    return LoginKeeper(tmp_path)


class TestLoginKeepersScript:
    def test_it_applies_the_secret_at_the_start_and_once_for_each_change(self, keeper: LoginKeeper) -> None:
        with keeper.running():
            keeper.wait(["admin"])
            keeper.set("admin", "another")
            keeper.wait(["admin", "admin"])
            keeper.set("admin_2", "third")
            keeper.wait(["admin", "admin", "admin_2"])

    def test_it_waits_for_postgresql(self, keeper: LoginKeeper) -> None:
        keeper.mark("away")
        with keeper.running():
            keeper.wait([])
            keeper.mark("away", there=False)
            keeper.wait(["admin"])

    def test_what_fails_is_tried_again(self, keeper: LoginKeeper) -> None:
        keeper.mark("fails")
        with keeper.running():
            deadline = time.monotonic() + 20
            while len(keeper.applied) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            keeper.mark("fails", there=False)
            time.sleep(1)
            tries = keeper.applied
            assert {*tries[:3]} == {"admin"}
            keeper.wait(tries)

    def test_a_login_that_is_none_of_the_two_changes_nothing_and_is_said_once(self, keeper: LoginKeeper) -> None:
        with keeper.running() as process:
            keeper.wait(["admin"])
            keeper.set("root", "hush-hush")
            keeper.wait(["admin"])
            keeper.set("admin_2", "hush-hush")
            keeper.wait(["admin", "admin_2"])
            process.terminate()
            said, _ = process.communicate()
        first, refused, last = said.splitlines()
        assert first == "the login admin is now as the Secret has it"
        assert refused.startswith("the Secret names the login 'root', and there are admin and admin_2 only")
        assert refused.endswith("nothing is changed; name one of them")
        assert last == "the login admin_2 is now as the Secret has it"

    def test_an_empty_value_changes_nothing_since_nobody_could_log_in_with_it(self, keeper: LoginKeeper) -> None:
        with keeper.running() as process:
            keeper.wait(["admin"])
            keeper.set("admin", "")
            keeper.wait(["admin"])
            process.terminate()
            said, _ = process.communicate()
        assert said.splitlines()[1:] == [
            "the Secret lacks a value: nothing is changed, and the last login goes on working; put both values back"
        ]

    def test_it_ends_at_once_when_the_pod_is_stopped(self, keeper: LoginKeeper) -> None:
        with keeper.running() as process:
            keeper.wait(["admin"])
            process.terminate()
            assert process.wait(timeout=5) == 0


class TestRedis:
    def test_it_listens_over_tls_only(self) -> None:
        settings = settings_of_redis(platform("dev"))
        assert (settings["port"], settings["tls-port"]) == ("0", "6379")
        assert settings["tls-cert-file"] == "/etc/tls/tls.crt"

    def test_it_keeps_what_it_is_told_and_throws_nothing_out(self) -> None:
        settings = settings_of_redis(platform("dev"))
        assert (settings["appendonly"], settings["maxmemory-policy"]) == ("yes", "noeviction")

    @pytest.mark.parametrize(("stack", "memory"), [("dev", "96mb"), ("staging", "192mb"), ("prod", "192mb")])
    def test_it_leaves_a_quarter_of_its_memory_to_snapshots(self, stack: str, memory: str) -> None:
        assert settings_of_redis(platform(stack))["maxmemory"] == memory

    def test_its_password_is_no_argument_of_a_process(self) -> None:
        graph = platform("dev")
        assert environment(graph, "redis") == {"REDISCLI_AUTH": from_secret("redis-credentials", "password")}
        (*_, script) = container(graph, "redis")["command"]
        assert script.endswith("exec redis-server /etc/redis/redis.conf")
        assert settings_of_redis(graph)["include"] == "/run/redis/password.conf"


class TestCertificates:
    @in_every_environment
    @of_each_store
    def test_a_stores_certificate_is_for_the_name_that_clients_use_and_by_the_stacks_authority(
        self, stack: str, store: str
    ) -> None:
        graph = platform(stack)
        request = graph.named(f"compute-certificates-{store}-request")
        certificate = graph.named(f"compute-certificates-{store}-certificate")
        connections = graph.object("ConfigMap", "connections").inputs["data"]
        key = {"postgres": "DB_HOST", "redis": "REDIS_HOST"}[store]
        assert connections[key] in request.inputs["dnsNames"]
        assert certificate.inputs["certRequestPem"] == request.outputs["certRequestPem"]
        authority = graph.named("compute-certificates-authority")
        assert certificate.inputs["caCertPem"] == authority.outputs["certPem"] == connections["ca.crt"]
        assert "server_auth" in certificate.inputs["allowedUses"]
        assert authority.inputs["isCaCertificate"] is True

    @of_each_store
    def test_it_is_renewed_a_year_before_it_ends(self, store: str) -> None:
        inputs = platform("dev").named(f"compute-certificates-{store}-certificate").inputs
        assert inputs["validityPeriodHours"] - inputs["earlyRenewalHours"] == inputs["earlyRenewalHours"] == 365 * 24

    @in_every_environment
    @of_each_store
    def test_its_secret_has_its_own_key_and_certificate(self, stack: str, store: str) -> None:
        graph = platform(stack)
        secret = graph.object("Secret", f"{store}-tls")
        assert secret.inputs["type"] == "kubernetes.io/tls"
        assert secret.inputs["stringData"] == {
            "tls.crt": graph.named(f"compute-certificates-{store}-certificate").outputs["certPem"],
            "tls.key": graph.named(f"compute-certificates-{store}-key").outputs["privateKeyPem"],
            "ca.crt": graph.named("compute-certificates-authority").outputs["certPem"],
        }
        assert secret.secrets == {"stringData"}

    def test_postgres_gets_a_key_that_others_cannot_read(self) -> None:
        mounted = volume(platform("dev"), "postgres", "certificate")
        assert mounted["secret"] == {"secretName": "postgres-tls", "defaultMode": 0o640}


class TestCredentials:
    @in_every_environment
    @pytest.mark.parametrize("name", CREDENTIALS)
    def test_a_secret_has_its_keys_is_hidden_and_is_left_alone_once_made(self, stack: str, name: str) -> None:
        secret = platform(stack).object("Secret", name)
        assert secret.inputs["data"].keys() == CREDENTIALS[name]
        assert secret.secrets == {"data"}
        assert secret.ignored == ("data",)
        assert "stringData" not in secret.inputs, "the API server keeps it nowhere, so that any update sends it again"

    @in_every_environment
    def test_the_database_begins_with_the_first_of_its_two_logins(self, stack: str) -> None:
        graph = platform(stack)
        username = credentials(graph, "database-credentials")["username"]
        assert username == "admin"
        for login in ("admin", "admin_2"):
            assert f"CREATE ROLE {login} LOGIN IN ROLE pyairtable" in files(graph)["roles.sql"]
        assert "CREATE ROLE pyairtable NOLOGIN" in files(graph)["roles.sql"]

    @in_every_environment
    def test_keys_of_outside_services_are_there_once_the_config_has_them(self, stack: str) -> None:
        keys = credentials(fullest(stack), "api-keys")
        assert keys.keys() == {"jwt_secret", "api_key", "airtable_token", "gemini_api_key"}
        assert (keys["airtable_token"], keys["gemini_api_key"]) == ("airtable-token", "gemini-key")

    @in_every_environment
    def test_no_two_passwords_are_one(self, stack: str) -> None:
        graph = platform(stack)
        values = [value for name in CREDENTIALS for key, value in credentials(graph, name).items() if key != "username"]
        assert sorted(values) == sorted(password.outputs["result"] for password in graph.of_type(PASSWORD))
        assert len(set(values)) == len(values) == 4

    @in_every_environment
    def test_a_password_is_long_and_of_characters_that_nothing_reads_otherwise(self, stack: str) -> None:
        for password in platform(stack).of_type(PASSWORD):
            assert password.inputs["length"] == 32
            assert password.inputs["special"] is False

    @in_every_environment
    def test_where_the_stores_are_is_no_secret(self, stack: str) -> None:
        graph = platform(stack)
        assert graph.object("ConfigMap", "connections").inputs["data"] == {
            "DB_HOST": "postgres.pyairtable.svc.cluster.local",
            "DB_PORT": "5432",
            "DB_NAME": "pyairtable",
            "DB_SSLMODE": "verify-full",
            "REDIS_HOST": "redis.pyairtable.svc.cluster.local",
            "REDIS_PORT": "6379",
            "ca.crt": graph.named("compute-certificates-authority").outputs["certPem"],
        }


@pytest.mark.parametrize(("stack", "protected"), [("dev", False), ("staging", False), ("prod", True)])
def test_what_cannot_be_made_again_is_protected_in_prod_only(stack: str, protected: bool) -> None:
    stores = {
        f"compute-stores-{store}-{part}"
        for store in STORES
        for part in ("disk-volume", "disk-persistent-volume", "disk-claim", "stateful-set")
    }
    everything = {"compute-cluster-cluster", "compute-cluster-key", "compute-stores-backup-bucket", *stores}
    everything |= {f"secrets-aws-{name}" for name in ("key", *CREDENTIALS)}
    assert {node.name for node in platform(stack).nodes if node.protect} == (everything if protected else set())


def test_protection_can_be_taken_back_in_prod() -> None:
    assert [node.name for node in varied_prod().nodes if node.protect] == []
    assert varied_prod().only("eks:index:Cluster").inputs["deletionProtection"] is False
