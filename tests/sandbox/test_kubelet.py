"""PostgreSQL and what runs beside it are real processes: they come, follow and go with their pods."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sandbox import postgres, services
from sandbox.checkout import ROOT
from sandbox.control_plane import ControlPlane, ControlPlanes
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.state import State
from tests.program.harness import is_alive, wait_for
from tests.sandbox.harness import processes_of
from tests.sandbox.workshop import control_plane

NAMESPACE = "pyairtable"
CLUSTER = "workshop"
FILES = ROOT / "components" / "compute" / "postgres"
RESTARTER = """\
import json, os, pathlib, ssl, time, urllib.request
folder = pathlib.Path(os.environ["SERVICE_ACCOUNT_FOLDER"])
host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
request = urllib.request.Request(
    f"https://{host}:{port}/apis/authentication.k8s.io/v1/selfsubjectreviews", method="POST",
    data=json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode(),
    headers={"Authorization": "Bearer " + (folder / "token").read_text(), "Content-Type": "application/json"},
)
with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder / "ca.crt")) as answer:
    print(json.load(answer)["status"]["userInfo"]["username"], "in", (folder / "namespace").read_text(), flush=True)
time.sleep(600)
"""


class Workshop:
    """A control plane with a node, and a PostgreSQL as the program makes it."""

    def __init__(self, state: State, plane: ControlPlane) -> None:
        self.state = state
        self.plane = plane
        self.api = KubernetesApi(plane.kubeconfig)

    def psql(self, sql: str) -> str:
        """What the superuser is answered in the pod."""
        return self.exec("psql", "-U", "postgres", "-tAc", sql, "pyairtable")

    def exec(self, *words: str) -> str:
        """What a command in the pod prints."""
        kubectl = [Path(sys.executable).parent / "kubectl", f"--kubeconfig={self.plane.kubeconfig}"]
        kubectl.append(f"--cache-dir={self.state.temporary}")
        done = subprocess.run(
            [*kubectl, "exec", "-n", NAMESPACE, "postgres-0", "-c", "postgres", "--", *words],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    def logs_in(self, username: str, password: str) -> bool:
        """Whether a client comes in through the network."""
        address = f"host=127.0.0.1 port={self.plane.ports['postgres']} user={username} dbname=pyairtable"
        words = [postgres.programs() / "psql", f"{address} connect_timeout=5", "-tAc", "SELECT 1"]
        environment = {**os.environ, "PGPASSWORD": password}
        return subprocess.run(words, env=environment, capture_output=True, check=False, timeout=60).returncode == 0

    def apply(self, kind: str, name: str, api_version: str = "v1", **rest: Any) -> None:
        """Make an object of the namespace as it is given."""
        metadata = {"name": name, "namespace": NAMESPACE}
        self.api.apply({"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}, force=True)

    def set_password(self, password: str) -> None:
        """Have the Secret name a password."""
        self.apply("Secret", "database-credentials", stringData={"username": "admin", "password": password})

    def log(self, name: str) -> str:
        """What a container's process has said."""
        file = self.state.logs / f"{CLUSTER}-{name}.log"
        return file.read_text() if file.exists() else ""

    def answers(self) -> bool:
        """Whether PostgreSQL does."""
        return self.psql("SELECT 1") == "1"


def stateful_set(replicas: int = 1) -> Manifest:
    """PostgreSQL with what keeps its logins, as far as it matters here."""
    mounts = [
        {"name": "data", "mountPath": "/var/lib/postgresql/data"},
        {"name": "configuration", "mountPath": "/etc/postgres", "readOnly": True},
        {"name": "credentials", "mountPath": "/etc/credentials", "readOnly": True},
        {"name": "scratch", "mountPath": "/var/run/postgresql", "subPath": "var-run-postgresql"},
    ]
    containers = [
        {
            "name": "postgres",
            "image": "postgres",
            "args": [
                "-c",
                "ssl=on",
                "-c",
                "ssl_cert_file=/etc/tls/tls.crt",
                "-c",
                "hba_file=/etc/postgres/pg_hba.conf",
            ],
            "env": [
                {"name": "POSTGRES_PASSWORD_FILE", "value": "/etc/credentials/password"},
                {"name": "POSTGRES_DB", "value": "pyairtable"},
                {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            ],
            "volumeMounts": mounts,
        },
        {
            "name": "credentials",
            "image": "postgres",
            "command": ["sh", "/etc/postgres/credentials.sh"],
            "env": [
                {"name": "PGHOST", "value": "/var/run/postgresql"},
                {"name": "PGUSER", "value": "postgres"},
                {"name": "PGDATABASE", "value": "pyairtable"},
                {"name": "CREDENTIALS", "value": "/etc/credentials"},
                {"name": "ROLES", "value": "/etc/postgres/roles.sql"},
            ],
            "volumeMounts": mounts,
        },
    ]
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "postgres-data"}},
        {"name": "configuration", "configMap": {"name": "postgres-configuration"}},
        {"name": "credentials", "secret": {"secretName": "database-credentials", "defaultMode": 0o440}},
        {"name": "scratch", "emptyDir": {}},
    ]
    return {
        "replicas": replicas,
        "serviceName": "postgres",
        "selector": {"matchLabels": {"app": "postgres"}},
        "template": {
            "metadata": {"labels": {"app": "postgres"}},
            "spec": {"automountServiceAccountToken": False, "containers": containers, "volumes": volumes},
        },
    }


def restarter() -> Manifest:
    """A Deployment that says who it is."""
    mounts = [{"name": "script", "mountPath": "/etc/secret-restarter"}]
    folder = {"name": "SERVICE_ACCOUNT_FOLDER", "value": "/var/run/secrets/kubernetes.io/serviceaccount"}
    container = {
        "name": "restarter",
        "image": "python",
        "command": ["python3", "/etc/secret-restarter/restarter.py"],
        "env": [folder],
        "volumeMounts": mounts,
    }
    return {
        "selector": {"matchLabels": {"app": "secret-restarter"}},
        "template": {
            "metadata": {"labels": {"app": "secret-restarter"}},
            "spec": {
                "serviceAccountName": "secret-restarter",
                "containers": [container],
                "volumes": [{"name": "script", "configMap": {"name": "secret-restarter"}}],
            },
        },
    }


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with control_plane(tmp_path_factory.mktemp("state"), CLUSTER, NAMESPACE) as (state, plane):
        made = Workshop(state, plane)
        made.set_password("first")
        files = {file.name: file.read_text() for file in FILES.iterdir()}
        made.apply("ConfigMap", "postgres-configuration", data=files)
        claim = {"volumeName": "postgres", "storageClassName": "", "accessModes": ["ReadWriteOnce"]}
        size = {"storage": "1Gi"}
        volume = {"capacity": size, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
        made.api.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "postgres"}, "spec": volume}
        )
        made.apply("PersistentVolumeClaim", "postgres-data", spec={**claim, "resources": {"requests": size}})
        made.apply("StatefulSet", "postgres", "apps/v1", spec=stateful_set())
        wait_for(lambda: made.logs_in("admin", "first"), "PostgreSQL")
        yield made


def test_a_command_in_the_pod_meets_the_real_server(workshop: Workshop) -> None:
    assert workshop.psql("SHOW server_version").startswith("18.")
    assert workshop.psql("SHOW ssl") == "off"
    assert workshop.psql("SHOW listen_addresses") == "127.0.0.1"
    assert workshop.exec("pg_isready", "-U", "admin").endswith("accepting connections")
    assert not workshop.logs_in("admin", "wrong")
    assert not workshop.logs_in("postgres", "first")


def test_a_changed_secret_reaches_the_running_server(workshop: Workshop) -> None:
    workshop.set_password("second")
    wait_for(lambda: workshop.logs_in("admin", "second"), "the new password")
    assert not workshop.logs_in("admin", "first")
    assert "second" not in workshop.log("postgres") + workshop.log("postgres-credentials") + workshop.log("kubelet")


def test_a_container_is_its_service_account_to_the_api_server(workshop: Workshop) -> None:
    workshop.apply("ServiceAccount", "secret-restarter")
    workshop.apply("ConfigMap", "secret-restarter", data={"restarter.py": RESTARTER})
    workshop.apply("Deployment", "secret-restarter", "apps/v1", spec=restarter())
    name = "system:serviceaccount:pyairtable:secret-restarter in pyairtable"
    wait_for(lambda: name in workshop.log("secret-restarter"), "the container's words")


def test_what_dies_is_started_again(workshop: Workshop) -> None:
    workshop.psql("CREATE TABLE kept AS SELECT 1 AS n")
    (before,) = processes_of(workshop.plane, "postgres")
    before.kill()
    wait_for(lambda: processes_of(workshop.plane, "postgres") not in ([], [before]), "another process")
    wait_for(workshop.answers, "PostgreSQL")
    assert workshop.psql("SELECT n FROM kept") == "1"


def test_a_pods_processes_go_with_it_and_its_data_stays(workshop: Workshop) -> None:
    (server,), (beside,) = (processes_of(workshop.plane, container) for container in ("postgres", "credentials"))
    workshop.apply("StatefulSet", "postgres", "apps/v1", spec=stateful_set(replicas=0))
    wait_for(lambda: not is_alive(server) and not is_alive(beside), "their end")
    assert "database system is shut down" in workshop.log("postgres").splitlines()[-1]
    workshop.apply("StatefulSet", "postgres", "apps/v1", spec=stateful_set())
    wait_for(workshop.answers, "PostgreSQL")
    assert workshop.psql("SELECT n FROM kept") == "1"


def test_nothing_outlives_the_kubelet_and_the_next_start_goes_on(workshop: Workshop) -> None:
    service = services.recorded(workshop.state)[workshop.plane.services["kubelet"]]
    assert service.process
    children = service.process.children(recursive=True)
    assert children
    service.process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive
    planes = ControlPlanes(workshop.state)
    planes.ensure(CLUSTER)
    wait_for(workshop.answers, "PostgreSQL")
    assert planes.stop() == [CLUSTER]
    assert "database system is shut down" in workshop.log("postgres").splitlines()[-1]
    assert not workshop.plane.pods.exists()
    assert not workshop.plane.sockets.exists()
    planes.ensure(CLUSTER)
    wait_for(lambda: workshop.logs_in("admin", "second"), "PostgreSQL")
    assert workshop.psql("SELECT n FROM kept") == "1"
