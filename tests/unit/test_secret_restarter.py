"""What restarts pods when their Secrets change: what the cluster lets it do, and what it does."""

import base64
import copy
import json
import runpy
import signal
import ssl
import threading
import time
import urllib.error
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from components.secrets.scripts import restarter
from components.secrets.scripts.restarter import NOTE, Cluster, Restarter
from infra.environments import ENVIRONMENTS
from tests.unit.graph import ROOT, Graph, fullest, platform, stack_file, varied_prod

APP = "secret-restarter"
SCRIPT = ROOT / "components" / "secrets" / "scripts" / "restarter.py"
SECRETS = ("database-credentials", "redis-credentials", "api-keys")

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def deployment(graph: Graph) -> dict[str, Any]:
    return graph.object("Deployment", APP).inputs["spec"]


def pod(graph: Graph) -> dict[str, Any]:
    return deployment(graph)["template"]["spec"]


def container(graph: Graph) -> dict[str, Any]:
    (only,) = pod(graph)["containers"]
    return only


def allowed(graph: Graph) -> set[tuple[str, str, str]]:
    """What the role lets it do: verb, kind, and a name or *."""
    return {
        (verb, kind, name)
        for rule in graph.object("Role", APP).inputs["rules"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or ["*"]  # an empty list is all of them, too
    }


def readers(stack: str) -> set[str]:
    """Services of the config that get a credential."""
    return {service["name"] for service in stack_file(stack)["pyairtable:services"] if service.get("uses")}


class TestRole:
    @in_every_environment
    def test_it_may_change_the_workloads_that_read_a_secret_and_no_others(self, stack: str) -> None:
        assert {(kind, name) for verb, kind, name in allowed(platform(stack, phase=3)) if verb == "patch"} == {
            *(("deployments", name) for name in readers(stack)),
            ("statefulsets", "redis"),
            ("pods", "postgres-0"),
        }

    @in_every_environment
    def test_it_may_read_the_three_secrets_and_no_others(self, stack: str) -> None:
        found = {(verb, name) for verb, kind, name in allowed(platform(stack, phase=3)) if kind == "secrets"}
        assert found == {("get", name) for name in SECRETS}

    @in_every_environment
    def test_besides_it_may_only_look(self, stack: str) -> None:
        found = {(verb, kind) for verb, kind, _ in allowed(platform(stack, phase=3))}
        assert found == {
            ("get", "secrets"),
            ("get", "pods"),
            ("patch", "pods"),
            *((verb, kind) for verb in ("get", "list", "patch") for kind in ("deployments", "statefulsets")),
        }

    def test_a_service_that_uses_nothing_cannot_be_restarted(self) -> None:
        changed = {name for verb, kind, name in allowed(varied_prod()) if (verb, kind) == ("patch", "deployments")}
        assert changed == {"lonely"}, "neither gateway nor silent"

    def test_where_no_service_reads_a_secret_none_can_be_changed_instead_of_all(self) -> None:
        services = [{key: value for key, value in s.items() if key != "uses"} for s in configured("dev")]
        found = allowed(platform("dev", services=services))
        assert {name for verb, kind, name in found if (verb, kind) == ("patch", "deployments")} == set()

    @in_every_environment
    def test_the_workloads_that_it_may_change_are_those_that_the_script_finds(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        found = {
            (kind.lower() + "s", node.inputs["metadata"]["name"])
            for kind in ("Deployment", "StatefulSet")
            for node in graph.objects(kind)
            if restarter.secrets_of(node.inputs) & {*SECRETS}
        }
        assert found == {(kind, name) for verb, kind, name in allowed(graph) if verb == "patch" and kind != "pods"}

    @in_every_environment
    def test_the_role_is_in_the_namespace_and_is_its_service_accounts_alone(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        assert [node.name for node in graph.kubernetes if "ClusterRole" in node.type] == []
        binding = graph.object("RoleBinding", APP).inputs
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": APP}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": APP, "namespace": "pyairtable"}]
        assert pod(graph)["serviceAccountName"] == APP


def configured(stack: str) -> list[dict[str, Any]]:
    return stack_file(stack)["pyairtable:services"]


class TestDeployment:
    @in_every_environment
    def test_there_is_one_of_it_at_any_time(self, stack: str) -> None:
        spec = deployment(platform(stack, phase=3))
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert spec["template"]["metadata"]["labels"].items() >= spec["selector"]["matchLabels"].items()

    @in_every_environment
    def test_it_starts_with_its_permissions_its_script_and_its_way_to_the_api_server(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        needed = [graph.object(kind, APP) for kind in ("Role", "RoleBinding", "ServiceAccount", "NetworkPolicy")]
        needed.append(graph.object("ConfigMap", APP))
        assert {node.urn for node in needed} <= graph.before(graph.object("Deployment", APP))

    def test_its_script_is_the_projects_and_a_changed_one_restarts_it(self) -> None:
        graph = platform("dev", phase=3)
        assert graph.object("ConfigMap", APP).inputs["data"] == {"restarter.py": SCRIPT.read_text()}
        assert container(graph)["command"] == ["python3", "/etc/secret-restarter/restarter.py"]
        assert container(graph)["volumeMounts"] == [
            {"name": "script", "mountPath": "/etc/secret-restarter", "readOnly": True}
        ]
        assert pod(graph)["volumes"] == [{"name": "script", "configMap": {"name": APP}}]
        assert deployment(graph)["template"]["metadata"]["annotations"].keys() == {"pyairtable.io/script"}

    @in_every_environment
    def test_its_image_has_a_tag_that_stays_and_comes_from_where_nodes_are_not_rate_limited(self, stack: str) -> None:
        assert container(platform(stack, phase=3))["image"] == "public.ecr.aws/docker/library/python:3.13.9-slim"

    @in_every_environment
    def test_it_has_no_privileges_and_writes_nothing(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        assert pod(graph)["securityContext"]["runAsNonRoot"] is True
        assert pod(graph)["securityContext"]["runAsUser"] > 1000
        assert pod(graph)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(graph)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }

    @in_every_environment
    def test_it_is_the_only_pod_of_the_namespace_with_a_token_of_the_cluster(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        templates = [
            node.inputs["spec"]["template"] for kind in ("Deployment", "StatefulSet") for node in graph.objects(kind)
        ]
        templates += [node.inputs["spec"]["jobTemplate"]["spec"]["template"] for node in graph.objects("CronJob")]
        tokens = {t["metadata"]["labels"]["app"] for t in templates if t["spec"]["automountServiceAccountToken"]}
        assert tokens == {APP}

    @in_every_environment
    def test_it_is_small(self, stack: str) -> None:
        resources = container(platform(stack, phase=3))["resources"]
        assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == ("10m", "48Mi")
        assert resources["requests"]["memory"] == resources["limits"]["memory"]

    def test_what_it_is_told_is_all_that_the_script_asks_for(self) -> None:
        told = {entry["name"]: entry["value"] for entry in container(platform("dev", phase=3))["env"]}
        assert told == {
            "NAMESPACE": "pyairtable",
            "SECRETS": ",".join(SECRETS),
            "NUDGED_PODS": "postgres-0=database-credentials",
            "SERVICE_ACCOUNT_FOLDER": "/var/run/secrets/kubernetes.io/serviceaccount",
        }

    @in_every_environment
    def test_it_needs_no_pull_secret_and_no_aws(self, stack: str) -> None:
        graph = fullest(stack, 3)
        assert "imagePullSecrets" not in graph.object("ServiceAccount", APP).inputs
        accounts = graph.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
        assert APP not in {node.inputs["serviceAccount"] for node in accounts}


API = "/apis/apps/v1/namespaces/pyairtable"
CORE = "/api/v1/namespaces/pyairtable"
POSTGRES = f"{CORE}/pods/postgres-0"

Manifest = dict[str, Any]


KEYS = {"api-keys": "api_key"}


def workload(name: str, *secrets: str, replicas: int = 1) -> Manifest:
    """A Deployment or StatefulSet whose environment comes from Secrets, rolled out."""
    env = [
        {"name": f"V{number}", "valueFrom": {"secretKeyRef": {"name": secret, "key": KEYS.get(secret, "password")}}}
        for number, secret in enumerate(secrets)
    ]
    plain = {"name": "PORT", "value": "8080"}
    elsewhere = {"name": "DB_HOST", "valueFrom": {"configMapKeyRef": {"name": "connections", "key": "DB_HOST"}}}
    return {
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "replicas": replicas,
            "template": {"metadata": {}, "spec": {"containers": [{"name": name, "env": [plain, elsewhere, *env]}]}},
        },
        "status": rolled_out(1, replicas),
    }


def rolled_out(generation: int, replicas: int) -> Manifest:
    return {
        "observedGeneration": generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
    }


def secret(name: str, **values: str) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "data": data}


def merge(into: Manifest, change: Mapping[str, Any]) -> None:
    """RFC 7396, as the API server does."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], cast(Manifest, value))
        else:
            into[key] = copy.deepcopy(value)


class FakeCluster:
    """Objects by path; a changed template rolls out within a few looks at it, or never."""

    def __init__(self, *, looks: int = 3) -> None:
        self.objects: dict[str, Manifest] = {}
        self.patched: list[tuple[str, Mapping[str, Any]]] = []
        self.stuck: set[str] = set()
        self.foreign: set[str] = set()
        """Workloads that the role does not name."""
        self.refusal = 403
        self.rolling: dict[str, int] = {}
        self.most_rolling = 0
        self.order: list[str] = []
        """Beginnings and ends of rollouts."""
        self._looks = looks

    def add(self, kind: str, *things: Manifest) -> None:
        api = API if kind in ("deployments", "statefulsets") else CORE
        self.objects |= {f"{api}/{kind}/{thing['metadata']['name']}": thing for thing in things}

    def change(self, name: str, **values: str) -> None:
        """Give a Secret another value."""
        self.objects[f"{CORE}/secrets/{name}"]["data"] |= secret(name, **values)["data"]

    def get(self, path: str) -> Manifest | None:
        if path in (f"{API}/deployments", f"{API}/statefulsets"):
            return {"items": [copy.deepcopy(o) for at, o in self.objects.items() if at.startswith(f"{path}/")]}
        self._roll(path)
        return copy.deepcopy(self.objects.get(path))

    def patch(self, path: str, change: Mapping[str, Any]) -> None:
        if path.rpartition("/")[2] in self.foreign:
            raise urllib.error.HTTPError(path, self.refusal, "no", Message(), None)
        self.patched.append((path, change))
        merge(self.objects[path], change)
        if "template" in change.get("spec", {}):
            self.objects[path]["metadata"]["generation"] += 1
            self.rolling[path] = self._looks
            self.most_rolling = max(self.most_rolling, len(self.rolling))
            self.order.append(f"begin {path.rpartition('/')[2]}")

    def _roll(self, path: str) -> None:
        if path not in self.rolling or path.rpartition("/")[2] in self.stuck:
            return
        self.rolling[path] -= 1
        if not self.rolling[path]:
            del self.rolling[path]
            found = self.objects[path]
            found["status"] = rolled_out(found["metadata"]["generation"], found["spec"]["replicas"])
            self.order.append(f"end {path.rpartition('/')[2]}")

    @property
    def restarted(self) -> list[str]:
        """Workloads whose template was changed, in order."""
        return [path.removeprefix(f"{API}/") for path, change in self.patched if "spec" in change]

    @property
    def nudged(self) -> list[str]:
        """Notes on PostgreSQL's pod."""
        return [change["metadata"]["annotations"][NOTE] for path, change in self.patched if path == POSTGRES]

    def note(self, kind: str, name: str) -> str | None:
        return self.objects[f"{API}/{kind}/{name}"]["metadata"].get("annotations", {}).get(NOTE)


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(restarter, "time", clock)
    return clock


@pytest.fixture
def cluster(clock: Clock) -> FakeCluster:  # noqa: ARG001 - no test waits in earnest
    cluster = FakeCluster()
    cluster.add("statefulsets", workload("redis", "redis-credentials"), workload("postgres"))
    cluster.add(
        "deployments",
        workload("api-gateway", "redis-credentials", "api-keys", replicas=2),
        workload("auth-service", "database-credentials", "api-keys"),
        workload("silent"),
        workload("user-service", "database-credentials", "redis-credentials"),
    )
    cluster.add(
        "secrets",
        secret("database-credentials", username="admin", password="one"),  # noqa: S106
        secret("redis-credentials", password="one"),  # noqa: S106
        secret("api-keys", jwt_secret="one", api_key="one"),  # noqa: S106
        secret("unrelated", password="one"),  # noqa: S106
    )
    cluster.add("pods", {"metadata": {"name": "postgres-0"}})
    return cluster


def of(cluster: FakeCluster) -> Restarter:
    """The restarter as its Deployment starts it."""
    return Restarter(cast(Cluster, cluster), "pyairtable", SECRETS, {"postgres-0": "database-credentials"})


@pytest.fixture
def settled(cluster: FakeCluster) -> FakeCluster:
    """A cluster that the restarter has seen."""
    of(cluster).reconcile()
    cluster.patched.clear()
    return cluster


class TestFirstSight:
    def test_it_notes_what_there_is_and_restarts_nothing(self, cluster: FakeCluster) -> None:
        of(cluster).reconcile()
        assert cluster.restarted == []
        noted = {path.rpartition("/")[2] for path, _ in cluster.patched}
        assert noted == {"redis", "api-gateway", "auth-service", "user-service", "postgres-0"}
        assert all(change.keys() == {"metadata"} for _, change in cluster.patched)
        assert all(change["metadata"].keys() == {"annotations"} for _, change in cluster.patched)

    def test_what_reads_no_secret_is_left_alone(self, cluster: FakeCluster) -> None:
        of(cluster).reconcile()
        assert cluster.note("deployments", "silent") is None
        assert cluster.note("statefulsets", "postgres") is None

    def test_a_second_look_changes_nothing(self, settled: FakeCluster) -> None:
        of(settled).reconcile()
        assert settled.patched == []

    def test_a_note_tells_nothing_of_the_values(self, cluster: FakeCluster) -> None:
        of(cluster).reconcile()
        notes = [cluster.note("deployments", name) for name in ("api-gateway", "auth-service", "user-service")]
        assert len({*notes}) == 3
        assert all(note and len(note) == 16 and int(note, 16) for note in notes)

    def test_the_same_values_in_another_cluster_are_another_note(self, cluster: FakeCluster) -> None:
        """Nobody who has a note can look for the password among those that they know."""
        of(cluster).reconcile()
        first = cluster.note("statefulsets", "redis")
        cluster.objects[f"{CORE}/secrets/redis-credentials"]["metadata"]["uid"] = "another"
        of(cluster).reconcile()
        assert cluster.note("statefulsets", "redis") != first

    def test_keys_that_nobody_has_set_are_nothing_to_restart_for(self, settled: FakeCluster) -> None:
        """Phase 3 adds them to the Secret, empty."""
        settled.change("api-keys", airtable_token="", gemini_api_key="")
        of(settled).reconcile()
        assert settled.patched == []
        settled.change("api-keys", airtable_token="set")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway", "deployments/auth-service"]


class TestChange:
    def test_it_restarts_who_reads_the_secret_and_nobody_else(self, settled: FakeCluster) -> None:
        settled.change("api-keys", jwt_secret="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway", "deployments/auth-service"]

    def test_a_store_comes_before_its_clients(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["statefulsets/redis", "deployments/api-gateway", "deployments/user-service"]

    def test_postgresql_is_not_restarted(self, settled: FakeCluster) -> None:
        settled.change("database-credentials", username="admin_2", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["deployments/auth-service", "deployments/user-service"]

    def test_another_secret_restarts_nothing(self, settled: FakeCluster) -> None:
        settled.change("unrelated", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.patched == []

    def test_each_rollout_is_over_before_the_next_begins(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.order == [
            f"{what} {name}" for name in ("redis", "api-gateway", "user-service") for what in ("begin", "end")
        ]
        assert settled.most_rolling == 1

    def test_two_changes_are_one_restart(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="two")  # noqa: S106
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        assert settled.restarted.count("deployments/api-gateway") == 1
        assert len(settled.restarted) == 4

    def test_a_restart_is_a_rolling_one_by_an_annotation_of_the_template(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        ((_, change), *_) = settled.patched
        wanted = settled.note("statefulsets", "redis")
        note = {"annotations": {NOTE: wanted}}
        assert change == {"metadata": note, "spec": {"template": {"metadata": note}}}, "and no pod is deleted"

    def test_once_is_enough(self, settled: FakeCluster) -> None:
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        settled.patched.clear()
        of(settled).reconcile()
        assert settled.patched == []

    def test_a_restarter_that_starts_anew_knows_what_was_done(self, settled: FakeCluster) -> None:
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway", "deployments/auth-service"]

    def test_it_says_whom_it_restarts_and_why_and_not_with_what(
        self, settled: FakeCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settled.change("redis-credentials", password="hush-hush")  # noqa: S106
        settled.change("api-keys", api_key="hush-hush")
        of(settled).reconcile()
        said = capsys.readouterr().out
        assert said.splitlines()[:2] == ["redis: restarting, since redis-credentials has changed", "redis: restarted"]
        assert "api-gateway: restarting, since api-keys or redis-credentials has changed" in said
        assert "hush-hush" not in said
        assert base64.b64encode(b"hush-hush").decode() not in said

    def test_one_that_it_may_not_restart_is_said_once_and_does_not_keep_it_from_the_others(
        self, settled: FakeCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settled.foreign = {"api-gateway"}
        settled.change("api-keys", api_key="two")
        restarter = of(settled)
        restarter.reconcile()
        restarter.reconcile()
        assert settled.restarted == ["deployments/auth-service"]
        told = "api-gateway: is none of those that may be restarted here; restart it by hand"
        assert capsys.readouterr().out.splitlines().count(told) == 1

    def test_another_refusal_is_an_error(self, settled: FakeCluster) -> None:
        settled.foreign, settled.refusal = {"api-gateway"}, 500
        settled.change("api-keys", api_key="two")
        with pytest.raises(urllib.error.HTTPError):
            of(settled).reconcile()

    def test_a_new_service_is_noted_and_not_restarted(self, settled: FakeCluster) -> None:
        settled.change("api-keys", api_key="two")
        settled.add("deployments", workload("billing-service", "api-keys"))
        of(settled).reconcile()
        assert "deployments/billing-service" not in settled.restarted
        assert settled.note("deployments", "billing-service")


class TestRollout:
    def test_one_that_does_not_end_keeps_the_others_for_ten_minutes(
        self, settled: FakeCluster, clock: Clock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settled.stuck.add("api-gateway")
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway", "deployments/auth-service"]
        assert 600 < clock.now < 620
        assert (
            "api-gateway: not all of its pods are ready after 600 s; going on with the next" in capsys.readouterr().out
        )

    def test_one_that_goes_away_is_not_waited_for(
        self, settled: FakeCluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settled.stuck.add("api-gateway")
        monkeypatch.setattr(clock, "sleep", lambda _: settled.objects.pop(f"{API}/deployments/api-gateway", None))
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway", "deployments/auth-service"]

    @pytest.mark.parametrize(
        ("status", "over"),
        [
            ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 5}, True),
            ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 4}, False),
            ({"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3, "observedGeneration": 5}, False),
            ({"replicas": 2, "updatedReplicas": 1, "readyReplicas": 2, "observedGeneration": 5}, False),
            ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "observedGeneration": 5}, False),
            ({"observedGeneration": 5}, False),
            ({}, False),
        ],
        ids=["over", "not yet noticed", "old pods stop", "old pods run", "not ready", "no pods", "no status"],
    )
    def test_it_is_over_when_all_pods_are_new_and_ready(self, status: Manifest, *, over: bool) -> None:
        found = {"metadata": {"generation": 5}, "spec": {"replicas": 2}, "status": status}
        assert restarter.is_rolled_out(found) is over

    def test_a_workload_of_no_replicas_is_rolled_out(self) -> None:
        found = {"metadata": {"generation": 1}, "spec": {"replicas": 0}, "status": {"observedGeneration": 1}}
        assert restarter.is_rolled_out(found)


class TestNudge:
    def test_the_pod_that_mounts_the_secret_is_nudged_once_for_a_change_of_it(self, settled: FakeCluster) -> None:
        before = settled.objects[POSTGRES]["metadata"]["annotations"][NOTE]
        settled.change("database-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        of(settled).reconcile()
        (nudge,) = settled.nudged
        assert nudge != before

    def test_it_is_nudged_before_anybody_is_restarted(self, settled: FakeCluster) -> None:
        """The new login has to work first."""
        settled.change("database-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert [path for path, _ in settled.patched][:2] == [POSTGRES, f"{API}/deployments/auth-service"]

    def test_other_secrets_do_not_nudge_it(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.nudged == []

    def test_a_pod_that_is_away_is_left_for_later(self, settled: FakeCluster) -> None:
        settled.objects.pop(POSTGRES)
        settled.change("database-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["deployments/auth-service", "deployments/user-service"]
        settled.add("pods", {"metadata": {"name": "postgres-0"}})
        of(settled).reconcile()
        assert len(settled.nudged) == 1


class TestMissingSecret:
    def test_who_reads_it_is_left_alone_since_new_pods_could_not_start(self, settled: FakeCluster) -> None:
        settled.objects.pop(f"{CORE}/secrets/database-credentials")
        of(settled).reconcile()
        assert settled.patched == []

    def test_neither_is_who_needs_a_value_that_is_empty_or_gone(self, settled: FakeCluster) -> None:
        settled.change("redis-credentials", password="")
        of(settled).reconcile()
        assert settled.restarted == []
        del settled.objects[f"{CORE}/secrets/redis-credentials"]["data"]["password"]
        of(settled).reconcile()
        assert settled.restarted == []

    def test_a_value_that_is_optional_may_be_empty(self, settled: FakeCluster) -> None:
        (variable,) = (
            variable
            for variable in settled.objects[f"{API}/deployments/auth-service"]["spec"]["template"]["spec"][
                "containers"
            ][0]["env"]
            if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "api-keys"
        )
        variable["valueFrom"]["secretKeyRef"] |= {"key": "airtable_token", "optional": True}
        settled.change("api-keys", jwt_secret="two")  # noqa: S106
        of(settled).reconcile()
        assert "deployments/auth-service" in settled.restarted

    def test_the_others_go_on(self, settled: FakeCluster) -> None:
        settled.objects.pop(f"{CORE}/secrets/database-credentials")
        settled.change("api-keys", api_key="two")
        of(settled).reconcile()
        assert settled.restarted == ["deployments/api-gateway"]

    def test_a_change_of_another_reaches_its_readers_once_it_is_back(self, settled: FakeCluster) -> None:
        missing = settled.objects.pop(f"{CORE}/secrets/database-credentials")
        settled.change("redis-credentials", password="two")  # noqa: S106
        of(settled).reconcile()
        assert settled.restarted == ["statefulsets/redis", "deployments/api-gateway"]
        settled.add("secrets", missing)
        of(settled).reconcile()
        assert settled.restarted[2:] == ["deployments/user-service"]

    def test_a_reader_that_was_never_seen_is_noted_once_it_is_there(self, cluster: FakeCluster) -> None:
        missing = cluster.objects.pop(f"{CORE}/secrets/database-credentials")
        of(cluster).reconcile()
        assert cluster.note("deployments", "user-service") is None
        cluster.add("secrets", missing)
        of(cluster).reconcile()
        assert cluster.note("deployments", "user-service")
        assert cluster.restarted == []

    def test_where_none_is_there_nothing_happens(self, settled: FakeCluster) -> None:
        for name in SECRETS:
            settled.objects.pop(f"{CORE}/secrets/{name}")
        of(settled).reconcile()
        assert settled.patched == []


class TestSecretsOf:
    def test_they_are_those_of_all_containers_whole_or_by_key(self) -> None:
        found = restarter.secrets_of(
            {
                "spec": {
                    "template": {
                        "spec": {
                            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "first"}}}]}],
                            "containers": [
                                {"envFrom": [{"secretRef": {"name": "second"}}, {"configMapRef": {"name": "map"}}]},
                                {"env": [{"name": "PLAIN", "value": "x"}, {"valueFrom": {"fieldRef": {}}}]},
                            ],
                            "volumes": [{"secret": {"secretName": "mounted"}}],
                        }
                    }
                }
            }
        )
        assert found == {"first", "second"}, "what is mounted follows the Secret by itself"


def authority_and_server(folder: Path) -> ssl.SSLContext:
    """What a server on the loopback address shows, by an authority like EKS's: without key identifiers."""
    now = datetime.now(UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "server")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in keys}

    def certificate(name: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["authority"])
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
        )

    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    signed = {
        "ca.crt": certificate("authority").sign(keys["authority"], hashes.SHA256()),
        "server.crt": certificate("server")
        .add_extension(address, critical=False)
        .sign(keys["authority"], hashes.SHA256()),
    }
    for name, value in signed.items():
        (folder / name).write_bytes(value.public_bytes(Encoding.PEM))
    key = keys["server"].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "server.key").write_bytes(key)
    (folder / "token").write_text("first-token")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


class ApiServer:
    """Serves a fake cluster as the API server does, to whoever has the token."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.refused: dict[str, int] = {}
        self.garbled = False
        self.types: set[str] = set()
        self._context = authority_and_server(folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
            self.port = probe.server_port

    @property
    def environment(self) -> dict[str, str]:
        """What the script's container is told."""
        return {
            **{entry["name"]: entry["value"] for entry in container(platform("dev", phase=3))["env"]},
            "SERVICE_ACCOUNT_FOLDER": str(self.folder),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
        }

    @contextmanager
    def running(self) -> Generator[None]:
        """Answer until the end of the block."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(lambda: api.cluster.get(self.path))

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.types.add(self.headers["Content-Type"])
                self._answer(lambda: api.cluster.patch(self.path, body) or {})

            def _answer(self, ask: Callable[[], Manifest | None]) -> None:
                token = (api.folder / "token").read_text()
                if self.headers["Authorization"] != f"Bearer {token}":
                    return self._send(401, b"{}")
                if code := api.refused.get(self.path):
                    return self._send(code, b"{}")
                if api.garbled:
                    self.send_response(200)
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b'{"items"')
                    return None
                found = ask()
                return self._send(200 if found is not None else 404, json.dumps(found or {}).encode())

            def _send(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.socket = self._context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def api(cluster: FakeCluster, tmp_path: Path) -> ApiServer:
    return ApiServer(cluster, tmp_path)


class TestCluster:
    def test_it_reads_and_changes_objects_with_the_pods_own_token(self, api: ApiServer) -> None:
        with api.running():
            found = Cluster(api.environment)
            assert found.get(f"{CORE}/secrets/api-keys") == api.cluster.objects[f"{CORE}/secrets/api-keys"]
            assert found.get(f"{CORE}/secrets/nobody") is None
            listed = found.get(f"{API}/statefulsets")
            assert listed is not None
            assert [item["metadata"]["name"] for item in listed["items"]] == ["redis", "postgres"]
            found.patch(POSTGRES, {"metadata": {"annotations": {"a": "b"}}})
        assert api.cluster.objects[POSTGRES]["metadata"]["annotations"] == {"a": "b"}
        assert api.types == {"application/merge-patch+json"}

    def test_a_token_that_was_replaced_is_used_from_the_next_request_on(self, api: ApiServer) -> None:
        with api.running():
            found = Cluster(api.environment)
            assert found.get(POSTGRES)
            (api.folder / "token").write_text("second-token")
            assert found.get(POSTGRES)

    def test_what_it_may_not_do_is_an_error(self, api: ApiServer) -> None:
        api.refused[POSTGRES] = 403
        with api.running(), pytest.raises(HTTPError) as error:
            Cluster(api.environment).get(POSTGRES)
        assert error.value.code == 403

    def test_no_proxy_sees_its_token(self, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        with api.running():
            assert Cluster(api.environment).get(POSTGRES)

    def test_a_server_of_another_authority_gets_no_token(self, api: ApiServer, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        authority_and_server(other)
        with api.running(), pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            Cluster({**api.environment, "SERVICE_ACCOUNT_FOLDER": str(other)}).get(POSTGRES)

    def test_an_authority_without_key_identifiers_will_do_where_python_is_strict(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of 3.13, which the container has, and unlike the authorities of clusters on EKS."""
        lenient = ssl.create_default_context

        def strict(**how: Any) -> ssl.SSLContext:
            context = lenient(**how)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            return context

        monkeypatch.setattr(ssl, "create_default_context", strict)
        with api.running():
            assert Cluster(api.environment).get(POSTGRES)


class EnoughError(Exception):
    """Ends the loop that has no end."""


@pytest.fixture
def as_before() -> Generator[None]:
    """The process's own way to end."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("as_before")
class TestMain:
    def polls(
        self, monkeypatch: pytest.MonkeyPatch, clock: Clock, environment: Mapping[str, str], *between: Callable[[], Any]
    ) -> None:
        """Let it look as many times as there is something to do after each look."""
        todo = list(between)

        def sleep(seconds: float) -> None:
            clock.now += seconds
            if seconds == restarter.POLL_SECONDS:
                todo.pop(0)()
                if not todo:
                    raise EnoughError

        monkeypatch.setattr(clock, "sleep", sleep)
        with pytest.raises(EnoughError):
            restarter.main(environment)

    def test_it_restarts_as_its_container_is_told(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        with api.running():
            self.polls(
                monkeypatch,
                clock,
                api.environment,
                lambda: api.cluster.change("database-credentials", password="two"),  # noqa: S106
                lambda: None,
            )
        assert api.cluster.restarted == ["deployments/auth-service", "deployments/user-service"]
        assert len(api.cluster.nudged) == 2, "at first sight and for the change"
        assert clock.now < 20

    def test_an_api_server_that_is_away_is_said_once_and_then_it_goes_on(
        self,
        api: ApiServer,
        monkeypatch: pytest.MonkeyPatch,
        clock: Clock,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        up = api.running()
        self.polls(
            monkeypatch,
            clock,
            api.environment,
            lambda: None,
            lambda: None,
            up.__enter__,
            lambda: api.cluster.change("api-keys", api_key="two"),
            lambda: up.__exit__(None, None, None),
            lambda: None,
            lambda: None,
        )
        said = capsys.readouterr().out.splitlines()
        away = [line for line in said if "the API server does not answer as it should" in line]
        assert [said[0], said[-1]] == away, "once each time"
        assert "Connection refused" in away[0]
        assert away[0].endswith("; trying again")
        assert api.cluster.restarted == ["deployments/api-gateway", "deployments/auth-service"]

    def test_an_answer_that_breaks_off_or_refuses_is_no_end(
        self,
        api: ApiServer,
        monkeypatch: pytest.MonkeyPatch,
        clock: Clock,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def break_off() -> None:
            api.refused.clear()
            api.garbled = True

        def mend() -> None:
            api.garbled = False

        api.refused[POSTGRES] = 403
        with api.running():
            self.polls(monkeypatch, clock, api.environment, break_off, mend, lambda: None)
        said = capsys.readouterr().out
        assert "HTTP Error 403: Forbidden" in said
        assert "IncompleteRead" in said
        assert api.cluster.note("deployments", "user-service")

    def test_it_runs_as_the_one_file_that_is_mounted(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def enough(_: float) -> None:
            raise EnoughError

        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(time, "sleep", enough)
        with pytest.raises(EnoughError):
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert "the API server does not answer as it should" in capsys.readouterr().out

    def test_it_ends_when_the_pod_is_stopped(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        monkeypatch.setattr(clock, "sleep", lambda _: signal.raise_signal(signal.SIGTERM))
        with api.running(), pytest.raises(SystemExit) as end:
            restarter.main(api.environment)
        assert end.value.code == 0
