"""A world for the commands that move traffic: a cluster in memory, gateways that count, and a clock that they go by."""

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runbook import stack_config
from runbook.aws import Access
from runbook.cli import main
from runbook.kubectl import Kubectl, KubectlError, Manifest, Objects
from runbook.target import Target
from runbook.traffic import ANNOTATION, HOST
from tests.unit import socket_api

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
BOUNDS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
STACK_FILE = """\
# The stack of the tests.
config:
  pyairtable:phase: 4 # the last
  pyairtable:accountId: "123456789012"
  pyairtable:blueGreen:
    greenWeight: 0 # moved by the runbook
    services:
      - name: api-gateway
"""
VIRTUAL_SERVICE = "virtualservice/api-gateway"
CRONJOB = "cronjob/postgres-backup"
POLICY = "validatingadmissionpolicie/pyairtable-keep-blue"
"""The kind as the world's get makes it of the plural."""
GATEWAYS = "deployment/ingress-gateway"
DRAIN_SECONDS = 30
NO_ISTIOD = KubectlError(
    "asking the cluster: Internal error occurred: failed calling webhook "
    '"rev.validation.istio.io": failed to call webhook: Post "https://istiod": connection refused',
    "InternalError",
)
"""What the API server says of a VirtualService while nobody answers Istio's webhook."""


class Envoy:
    """A gateway's counters."""

    def __init__(self) -> None:
        self.counts = {colour: dict.fromkeys(("2", "5"), 0.0) for colour in ("blue", "green")}
        self.buckets = {colour: dict.fromkeys((*BOUNDS, float("inf")), 0.0) for colour in ("blue", "green")}
        self.active = {"blue": 0.0, "green": 0.0}
        self.connected = True
        self.answers = True

    def serve(self, colour: str, requests: float, *, failed: float = 0, milliseconds: float = 8) -> None:
        self.counts[colour]["2"] += requests - failed
        self.counts[colour]["5"] += failed
        for bound in self.buckets[colour]:
            self.buckets[colour][bound] += requests * (bound >= milliseconds)

    @property
    def text(self) -> str:
        lines = [f"envoy_control_plane_connected_state{{}} {int(self.connected)}", "envoy_server_live{} 1"]
        for colour in ("blue", "green"):
            cluster = f'cluster_name="outbound|80|{colour}|{HOST}"'
            lines += [
                f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="{code}",{cluster}}} {count}'
                for code, count in self.counts[colour].items()
            ]
            lines.append(f"envoy_cluster_upstream_rq_active{{{cluster}}} {self.active[colour]}")
            lines += [
                f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="{"+Inf" if b == float("inf") else b}"}} {count}'
                for b, count in self.buckets[colour].items()
            ]
        return "\n".join(lines) + "\n"


class TrafficWorld(Kubectl):
    """The cluster as kubectl shows it, and what happens in it while time passes."""

    def __init__(self) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.namespace = "pyairtable"
        self.objects: Objects = _objects()
        self.envoys = {"gateway-1": Envoy(), "gateway-2": Envoy()}
        self.seconds = 0.0
        self.rate = 200
        """Requests a second."""
        self.failing = {"blue": 0.0, "green": 0.0}
        """Share of requests that fail."""
        self.hanging: dict[str, float] = {}
        """Requests to a colour that never end, for each gateway; it answers nothing then."""
        self.milliseconds = {"blue": 8.0, "green": 8.0}
        self.away = ""
        """What the API server's absence looks like."""
        self.refuses: dict[str, KubectlError] = {}
        """Errors of calls, by verb; of one call each."""
        self.refuses_until: dict[str, tuple[float, KubectlError]] = {}
        """Errors of all calls until a time, by verb."""
        self.forbidden: set[str] = set()
        """Kinds that may not be read."""
        self.finishes_jobs = "Complete"
        self.asked: list[str] = []
        self._events: list[tuple[float, Callable[[], object]]] = []
        self._version = 100

    # What tests do and see

    @property
    def weight(self) -> int:
        service = self.objects.get(VIRTUAL_SERVICE) or virtual_service()
        return service["spec"]["http"][-1]["route"][1]["weight"]

    def set_weight(self, weight: int, *, by: str = "pulumi", ago: float = 0, annotation: str | None = None) -> None:
        """Let somebody set the weight."""
        service = self.objects[VIRTUAL_SERVICE]
        for part, share in zip(service["spec"]["http"][-1]["route"], (100 - weight, weight), strict=True):
            part["weight"] = share
        service["metadata"]["annotations"][ANNOTATION] = annotation or str(weight)
        service["metadata"]["managedFields"] = [owner(by, self.now() - timedelta(seconds=ago))]
        self._stored(service)

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Let something happen, so many seconds from the beginning."""
        self._events.append((seconds, what))

    def availability(self, name: str, replicas: int) -> None:
        """Let a Deployment have so many available pods."""
        self.objects[f"deployment/{name}"]["status"] |= {"availableReplicas": replicas, "updatedReplicas": replicas}

    # The clock

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds * 2))):
            self._pass(seconds / max(1, round(seconds * 2)))

    def _pass(self, seconds: float) -> None:
        self.seconds += seconds
        due = [event for event in self._events if event[0] <= self.seconds]
        self._events = [event for event in self._events if event not in due]
        for _, what in due:
            what()
        share = {"blue": 1 - self.weight / 100, "green": self.weight / 100}
        for colour, part in share.items():
            for envoy in self.envoys.values():
                envoy.active[colour] = self.hanging.get(colour, 0.0)
                if colour in self.hanging:
                    continue
                requests = self.rate * seconds * part / len(self.envoys)
                failed = requests * self.failing[colour]
                envoy.serve(colour, requests, failed=failed, milliseconds=self.milliseconds[colour])

    # kubectl

    def get(self, path: str) -> Manifest | None:
        self._note("get", path)
        place, _, query = path.partition("?")
        if place.endswith("/pods"):
            assert query == "labelSelector=istio%3Dingress-gateway"
            return {"items": [{"metadata": {"name": name}} for name in self.envoys]}
        kind = place.split("/")[-2].removesuffix("s")
        return copy.deepcopy(self.objects.get(f"{kind}/{place.split('/')[-1]}"))

    def text(self, path: str) -> str:
        self._note("text", path)
        pod, _, rest = path.removeprefix("/api/v1/namespaces/pyairtable/pods/").partition(":")
        assert rest == "15090/proxy/stats/prometheus"
        if not self.envoys[pod].answers:
            raise KubectlError(f"asking the cluster: {pod} is not there")
        return self.envoys[pod].text

    def read(self, names: Sequence[str], kinds: Sequence[str] = ()) -> Objects:
        self._note("read", " ".join((*names, *kinds)))
        for kind in self.forbidden & {name.partition("/")[0] for name in (*names, *kinds)}:
            raise KubectlError(f"asking the cluster: {kind} is forbidden", "Forbidden")
        return {
            name: copy.deepcopy(found)
            for name, found in self.objects.items()
            if name in names or name.partition("/")[0] in kinds
        }

    def patch(self, path: str, change: Manifest, field_manager: str = "") -> Manifest:
        self._note("patch", path)
        if path == self.path(GATEWAYS):
            assert change == {"spec": {"replicas": 0}}
            self.at(self.seconds + DRAIN_SECONDS, self.envoys.clear)
            return self._stored(self.objects[GATEWAYS])
        service = self.objects[VIRTUAL_SERVICE]
        if change["metadata"]["resourceVersion"] != service["metadata"]["resourceVersion"]:
            raise KubectlError("asking the cluster: it has been modified", "Conflict")
        annotations = service["metadata"]["annotations"]
        noted = annotations.get(ANNOTATION)
        socket_api.merge(service, change)
        if annotations.get(ANNOTATION) != noted:  # by an update one owns what one changes, and nothing else
            service["metadata"]["managedFields"] = [owner(field_manager, self.now())]
        return self._stored(service)

    def create(self, manifest: Manifest) -> Manifest:
        self._note("create", manifest["metadata"]["name"])
        name = f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"
        if name in self.objects:
            raise KubectlError("asking the cluster: it is there", "AlreadyExists")
        self.objects[name] = manifest
        if manifest["kind"] == "Job":
            self.at(self.seconds + 2, lambda: job(manifest, self.finishes_jobs))
        return self._stored(manifest)

    def replace(self, manifest: Manifest) -> Manifest:
        self._note("replace", manifest["metadata"]["name"])
        self.objects[f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"] = manifest
        return self._stored(manifest)

    def delete(self, path: str, resource_version: str) -> None:
        self._note("delete", path)
        del self.objects[f"lease/{path.rpartition('/')[2]}"]

    def _note(self, verb: str, what: str) -> None:
        self.asked.append(f"{verb} {what}")
        if self.away:
            raise KubectlError(f"asking the cluster: {self.away}")
        if verb in self.refuses:
            raise self.refuses.pop(verb)
        until, error = self.refuses_until.get(verb, (0.0, KubectlError("")))
        if self.seconds < until:
            raise error

    def _stored(self, found: Manifest) -> Manifest:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(found)


class Traffic:
    """Runs the command line against the world, on a stack file of its own."""

    def __init__(self, world: TrafficWorld, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.file = world, folder / "Pulumi.prod.yaml"
        self.file.write_text(STACK_FILE)
        self.outputs: dict[str, Any] = {"phase": 4, "green_weight": 0, "api_gateway_url": "http://127.0.0.1:1"}
        self.opening: Exception | None = None
        self.state_folder: Path | None = None
        monkeypatch.setattr(stack_config, "ROOT", folder)
        monkeypatch.setattr("runbook.target.opened", self._opened)
        monkeypatch.setattr("runbook.traffic_status.opened", self._opened)
        monkeypatch.setattr("runbook.quick.quickly", self._quickly)
        for module in ("shift", "wait", "rollback"):
            monkeypatch.setattr(f"runbook.{module}.time", world)
        for module in ("shift", "retire", "retreat"):
            monkeypatch.setattr(f"runbook.{module}.now", world.now)

    @property
    def target(self) -> Target:
        return Target(
            stack="prod",
            state_folder=self.state_folder,
            kubectl=self.world,
            access=Access(account_id="123456789012", region="us-east-1"),
            outputs=self.outputs,
        )

    def run(self, *arguments: str, expect: int = 0) -> Result:
        """The result of a command, which must end with an exit code."""
        done = CliRunner().invoke(main, [*arguments, "--stack", "prod"])
        assert done.exit_code == expect, done.output
        return done

    def config(self, **changes: object) -> Mapping[str, Any]:
        """What the stack file says of blue and green; changed before, where changes are given."""
        config = stack_config.StackConfig("prod")
        if changes:
            config.set({f"blueGreen.{key}": value for key, value in changes.items()})
        return dict(config.get("blueGreen", {}))

    @contextmanager
    def _opened(self, stack: str, **_: object) -> Generator[Target]:
        if self.opening:
            raise self.opening
        yield self.target

    @contextmanager
    def _quickly(self, stack: str, **_: object) -> Generator[Target]:
        yield self.target


def owner(manager: str, time: datetime) -> Manifest:
    """Who owns the annotation, as `managedFields` has it: deployments apply, everybody else updates."""
    return {
        "manager": manager,
        "operation": "Apply" if manager.startswith("pulumi") else "Update",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{ANNOTATION}": {}}}},
    }


def job(manifest: Manifest, condition: str) -> Manifest:
    """Let a Job end."""
    manifest["status"] = {"conditions": [{"type": condition, "status": "True"}]}
    return manifest


def migration(name: str, kind: str, condition: str = "Complete") -> Manifest:
    """A Job that has migrated the database."""
    return job({"kind": "Job", "metadata": {"name": name, "labels": {"app": f"migrations-{kind}"}}}, condition)


def deployment(name: str, version: str) -> Manifest:
    """A Deployment of two pods that serve."""
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "generation": 1},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": {"version": version}}}},
        "status": {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2},
    }


def virtual_service() -> Manifest:
    """The VirtualService as the program makes it."""

    def to(subset: str, **more: object) -> Manifest:
        return {"destination": {"host": HOST, "subset": subset}, **more}

    return {
        "kind": "VirtualService",
        "metadata": {
            "name": "api-gateway",
            "resourceVersion": "1",
            "annotations": {ANNOTATION: "0"},
            "managedFields": [{"manager": "other", "time": "2026-08-01T10:00:00Z"}, owner("pulumi", NOON)],
        },
        "spec": {
            "hosts": [HOST],
            "http": [
                {"name": "canary", "route": [to("green")]},
                {
                    "name": "weighted",
                    "retries": {"attempts": 2},
                    "route": [to("blue", weight=100), to("green", weight=0)],
                },
            ],
        },
    }


def _objects() -> Objects:
    return {
        VIRTUAL_SERVICE: virtual_service(),
        **{f"deployment/{name}": deployment(name, "blue") for name in ("api-gateway", "auth-service")},
        **{f"deployment/{name}": deployment(name, "green") for name in ("api-gateway-green", "auth-service-green")},
        GATEWAYS: {
            "kind": "Deployment",
            "metadata": {"name": "ingress-gateway"},
            "spec": {"template": {"metadata": {}}},
        },
        "deployment/secret-restarter": {
            "kind": "Deployment",
            "metadata": {"name": "secret-restarter"},
            "spec": {"template": {"metadata": {}}},
        },
        "job/expand-users": migration("expand-users", "expand"),
        CRONJOB: {
            "kind": "CronJob",
            "metadata": {"name": "postgres-backup", "namespace": "pyairtable", "uid": "uid-of-backup"},
            "spec": {"jobTemplate": {"metadata": {"labels": {"app": "postgres-backup"}}, "spec": {"template": {}}}},
        },
    }
