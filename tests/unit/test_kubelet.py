"""What of a pod's specification the kubelet makes folders, variables and processes of, and when."""

import queue
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sandbox import children, control_plane, kubelet, pods, postgres
from sandbox.children import Child
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.gateways import Gateways
from sandbox.kubelet import RUNNERS, Api, ApiError, Container, Kubelet, Launch, Runner
from sandbox.pods import File, Kind, Pod, PodError
from sandbox.state import State, read_json

CLUSTER = "pyairtable-dev"
NODE = "ip-10-0-0-1.ec2.internal"


class Objects:
    """Secrets, ConfigMaps and pods as a test wants them."""

    def __init__(self) -> None:
        self.content: dict[tuple[Kind, str], dict[str, bytes]] = {
            ("secrets", "login"): {"username": b"admin", "password": b"a/etc/tls b"},
            ("configmaps", "settings"): {"host": b"postgres", "run.sh": b"echo"},
        }
        self.found: list[Pod] = []
        self.is_silent = False
        self.followed: object = None
        self.takes_filters = False

    def apply(self, path: str, manifest: Mapping[str, Any]) -> bool:
        if not self.takes_filters:
            raise ApiError(f"PATCH {path}: 500 Internal Server Error")
        return True

    def delete(self, path: str) -> None:
        pass

    def data(self, kind: Kind, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.content.get((kind, name))

    def token(self, pod: Pod, audience: str | None, seconds: int) -> str:
        return f"token of {pod['spec']['serviceAccountName']} for {audience} and {seconds} s"

    def pods(self, namespace: str, label: str) -> list[Pod]:
        if self.is_silent:
            raise ApiError("the API server does not answer")
        return self.found if (namespace, label) == ("pyairtable", "app=worker") else []

    def nodes(self) -> set[str]:
        return {NODE}


def pod(name: str = "worker-0", uid: str = "1", **spec: Any) -> dict[str, Any]:
    """A pod that runs."""
    return {
        "metadata": {"name": name, "namespace": "pyairtable", "uid": uid, "labels": {"app": "worker"}},
        "spec": {"nodeName": NODE, "serviceAccountName": "worker", "containers": [{"name": "work"}], **spec},
        "status": {"phase": "Running", "podIP": "100.64.0.7"},
    }


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.prepare()
    return state


@pytest.fixture
def plane(state: State) -> ControlPlane:
    return control_plane.make(state.clusters / CLUSTER, CLUSTER)


# Which pods run


def test_a_pod_runs_from_running_until_it_is_to_go() -> None:
    assert pods.runs(pod(), {NODE})
    assert not pods.runs({**pod(), "status": {"phase": "Pending"}}, {NODE})
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"
    assert not pods.runs(going, {NODE})


def test_a_pod_does_not_run_on_a_node_that_has_gone_silent() -> None:
    assert not pods.runs(pod(), set())


def test_of_a_pod_those_containers_run_that_have_a_runner() -> None:
    postgres = pod("postgres-0", containers=[{"name": "postgres"}, {"name": "credentials"}, {"name": "other"}])
    chosen = kubelet.chosen("pyairtable", "app=postgres", [postgres])
    assert [key[2] for key in chosen] == ["postgres", "credentials"]
    assert kubelet.chosen("pyairtable", "app=auth-service", [postgres]) == {}


# Variables and words


def test_variables_come_from_where_the_specification_says(objects: Objects) -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "S_"}, {"secretRef": {"name": "login"}}],
        "env": [
            {"name": "PLAIN", "value": "/etc/tls/ca.crt"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "host"}}},
            {"name": "URL", "value": "$(HOST):5432/$(PASSWORD) $(NONE) $$(HOST)"},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": True}}},
            {"name": "EMPTY"},
        ],
    }
    found = pods.environment(pod(), container, {"/etc/tls": Path("/here")}, objects, {"PATH": "/bin", "HOST": "h"})
    assert found == {
        "PATH": "/bin",
        "S_host": "postgres",
        "S_run.sh": "echo",
        "username": "admin",
        "password": "a/etc/tls b",
        "PLAIN": "/here/ca.crt",
        "PASSWORD": "a/etc/tls b",  # a secret is not text to change
        "HOST": "postgres",
        "URL": "postgres:5432/a/etc/tls b $(NONE) $(HOST)",
        "ME": "worker-0",
        "APP": "worker",
        "IP": "100.64.0.7",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("limits", "reference", "value"),
    [
        ({"cpu": "1500m"}, {"resource": "limits.cpu", "divisor": "1"}, "2"),
        ({"cpu": "1500m"}, {"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"memory": "128Mi"}, {"resource": "limits.memory", "divisor": "0"}, str(128 * 2**20)),
        ({}, {"resource": "limits.cpu"}, None),
    ],
)
def test_a_variable_may_be_a_limit(
    objects: Objects, limits: Mapping[str, str], reference: Mapping[str, str], value: str | None
) -> None:
    env = [{"name": "V", "valueFrom": {"resourceFieldRef": reference}}]
    found = pods.environment(pod(), {"env": env, "resources": {"limits": limits}}, {}, objects, {})
    assert found.get("V") == value


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ({"secretKeyRef": {"name": "gone", "key": "k"}}, "there is no Secret gone"),
        ({"configMapKeyRef": {"name": "settings", "key": "port"}}, "the ConfigMap settings has no key port"),
        ({"fieldRef": {"fieldPath": "spec.hostname"}}, "does not know the pod's field spec.hostname"),
        ({"fileKeyRef": {"key": "k"}}, "lacks: fileKeyRef"),
    ],
)
def test_what_a_variable_lacks_is_named(objects: Objects, reference: Mapping[str, Any], told: str) -> None:
    with pytest.raises(PodError, match=told):
        pods.environment(pod(), {"env": [{"name": "V", "valueFrom": reference}]}, {}, objects, {})


def test_mount_paths_are_replaced_where_they_stand_as_paths_the_longest_first() -> None:
    folders = {"/run": Path("/s/run"), "/etc": Path("/s/etc"), "/etc/postgres": Path("/run/p")}
    replaced = {
        "/etc/postgres/pg_hba.conf": "/run/p/pg_hba.conf",
        "hba_file=/etc/postgres/pg_hba.conf": "hba_file=/run/p/pg_hba.conf",
        "/etc/postgres": "/run/p",
        "/etc/postgresql": "/s/etc/postgresql",
        "cat /etc/a /run/b": "cat /s/etc/a /s/run/b",
        "/var/run/x /runfile ./run": "/var/run/x /runfile ./run",
    }
    assert {text: pods.localized(text, folders) for text in replaced} == replaced
    assert pods.localized("/run", {}) == "/run"


def test_words_are_those_of_command_and_arguments() -> None:
    container = {"command": ["sh", "/etc/run.sh"], "args": ["$(PORT)", "$PORT"]}
    folders = {"/etc": Path("/here")}
    assert pods.words(container, "command", folders, {}) == ["sh", "/here/run.sh"]
    assert pods.words(container, "args", folders, {"PORT": "1"}) == ["1", "$PORT"]
    assert pods.words({}, "args", folders, {}) == []


# Volumes


def test_volumes_become_folders(objects: Objects, tmp_path: Path) -> None:
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, "audience": "me"}}
    me = {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}
    volumes = [
        {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o440}},
        {
            "name": "script",
            "configMap": {"name": "settings", "items": [{"key": "run.sh", "path": "bin/run.sh", "mode": 0o755}]},
        },
        {"name": "access", "projected": {"sources": [token, {"configMap": {"name": "settings"}}, {"downwardAPI": me}]}},
        {"name": "podinfo", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "maybe", "secret": {"secretName": "gone", "optional": True}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}},
    ]  # fmt: skip
    mounts = [
        {"name": "login", "mountPath": "/etc/login/"},
        {"name": "script", "mountPath": "/run.sh", "subPath": "bin/run.sh"},
        {"name": "scratch", "mountPath": "/run", "subPath": "run"},
        {"name": "data", "mountPath": "/data"},
    ]
    made, claims = tmp_path / "volumes", tmp_path / "claims"
    pods.lay_out(pod(volumes=volumes), made, claims, objects)
    folders = pods.folders(pod(volumes=volumes), {"volumeMounts": mounts}, made, claims)
    assert folders == {
        "/etc/login": made / "login",
        "/run.sh": made / "script" / "bin" / "run.sh",
        "/run": made / "scratch" / "run",
        "/data": claims / "disk",
    }
    assert (made / "login" / "username").read_text() == "admin"
    assert stat.S_IMODE((made / "login" / "username").stat().st_mode) == 0o440
    assert folders["/run.sh"].read_text() == "echo"
    assert stat.S_IMODE(folders["/run.sh"].stat().st_mode) == 0o755
    assert (made / "access" / "token").read_text() == "token of worker for me and 3607 s"
    assert (made / "access" / "namespace").read_text() == "pyairtable"
    assert (made / "access" / "host").read_text() == "postgres"
    assert (made / "podinfo" / "l").read_text() == 'app="worker"'
    assert list((made / "maybe").glob("[!.]*")) == []
    assert folders["/run"].is_dir()
    assert folders["/data"].is_dir()


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        ({"secret": {"secretName": "gone"}}, "there is no Secret gone"),
        ({"configMap": {"name": "settings", "items": [{"key": "x", "path": "x"}]}}, "settings has no key x"),
        ({"hostPath": {"path": "/"}}, "the volume v is of a type that the sandbox lacks: hostPath"),
    ],
)
def test_what_a_volume_lacks_is_named(objects: Objects, tmp_path: Path, volume: Any, told: str) -> None:
    with pytest.raises(PodError, match=told):
        pods.lay_out(pod(volumes=[{"name": "v", **volume}]), tmp_path, tmp_path, objects)


def test_a_change_of_a_volume_arrives_at_one_moment(tmp_path: Path) -> None:
    def write(number: int, **more: File) -> bool:
        return pods.write(tmp_path, {"a": File(b"%d" % number), "b": File(b"%d" % number), **more})

    over, seen = threading.Event(), set[tuple[bytes, bytes]]()

    def read() -> None:
        while not over.is_set():
            current = (tmp_path / "..data").resolve()  # who reads several files together looks where they are now
            try:
                seen.add(((current / "a").read_bytes(), (current / "b").read_bytes()))
            except FileNotFoundError:  # the folder was replaced in between
                continue

    assert write(0, extra=File(b"x"))
    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 200):
        assert write(number)
    over.set()
    reader.join()
    assert {a == b for a, b in seen} == {True}
    assert not write(199)
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")) == ["a", "b"]
    assert len(list(tmp_path.glob("..*"))) == 2
    assert pods.write(tmp_path, {"a": File(b"199", 0o600), "b": File(b"199")})


# PostgreSQL


def test_the_containers_settings_hold_but_for_those_of_tls() -> None:
    wanted = postgres.settings(
        ["-c", "ssl=on", "-c", "ssl_key_file=/k", "-c", "hba_file=/h", "-c", "shared_buffers=9MB"]
    )
    words = postgres.server_arguments(wanted, Path("/here/hba"))
    assert words[::2] == ["-c"] * (len(words) // 2)
    assert words[1:4:2] == ["shared_buffers=9MB", "hba_file=/here/hba"]
    assert "listen_addresses=127.0.0.1" in words
    assert not any(word.startswith("ssl") for word in words)
    assert postgres.settings(["postgres", "-c", "a=b=c"]) == {"a": "b=c"}


@pytest.mark.parametrize("arguments", [["-c"], ["--fsync=off", "x"], ["-c", "ssl"], ["sh", "-c", "x=y"]])
def test_other_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SandboxError, match="the sandbox takes -c name=value"):
        postgres.settings(arguments)


def test_who_would_come_by_tls_comes_without() -> None:
    hba = "# hostssl\nlocal all all trust\nhostssl all all 0.0.0.0/0 scram-sha-256\n"
    assert postgres.without_tls(hba) == hba.replace("\nhostssl", "\nhost")


def test_a_socket_whose_path_would_be_too_long_is_refused(tmp_path: Path) -> None:
    assert postgres.socket_file(Path("/run"), 5432) == Path("/run/.s.PGSQL.5432")
    with pytest.raises(SandboxError, match="let XDG_CACHE_HOME name a shorter folder"):
        postgres.socket_file(tmp_path / ("x" * 100), 5432)


def test_root_is_told_where_nobody_can_be_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Refusing:
        def unshare(self, flags: int) -> int:
            return -1

    monkeypatch.setattr(postgres.ctypes, "CDLL", lambda *_, **__: Refusing())
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PGDATA", str(tmp_path / "data"))
    with pytest.raises(SandboxError, match=r"refuses to run as root.*run the sandbox as an ordinary user"):
        postgres.main(["--port=5432", f"--sockets={Path('/tmp') / tmp_path.name[:20]}"])  # noqa: S108


def test_a_lock_whose_process_is_another_now_is_taken_away(tmp_path: Path) -> None:
    lock = tmp_path / "postmaster.pid"
    for content in (f"{children.os.getpid()}\n/data\n", "99999999\n", ""):
        lock.write_text(content)
        postgres.end_the_one_before(tmp_path)
        assert not lock.exists()


# Processes


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path / "child.log")


def run(child: Child, tmp_path: Path, program: str) -> None:
    child.start([sys.executable, "-I", "-S", "-c", program], {}, tmp_path)


def test_a_child_that_ends_is_due_after_pauses_that_grow(child: Child, tmp_path: Path) -> None:
    pauses: list[int] = []
    for _ in range(3):
        run(child, tmp_path, "import sys; sys.exit('no disk left')")
        wait_for(child.look)
        pauses.append(child.pause)
        assert not child.is_due
    assert pauses == [1, 2, 4]
    assert child.message == "ended with 1: no disk left; starting it again in 4 s"
    assert child.starts == 3


def test_a_child_that_is_asked_to_end_takes_its_own_with_it(child: Child, tmp_path: Path) -> None:
    run(child, tmp_path, "import os, time; os.fork(); open(f'{os.getpid()}.up', 'w'); time.sleep(60)")
    wait_for(lambda: len(list(tmp_path.glob("*.up"))) == 2)
    child.end()
    wait_for(lambda: not child.look() and child.pid is None)
    assert child.is_due
    for file in tmp_path.glob("*.up"):
        wait_for(lambda pid=int(file.stem): not running(pid))


def test_a_child_that_does_not_heed_is_killed(child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "END_SECONDS", 0.2)
    run(child, tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w'); time.sleep(60)")
    wait_for((tmp_path / "up").exists)

    def ended() -> bool:
        child.end()
        child.look()
        return child.pid is None

    wait_for(ended)


def running(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def works(container: Container) -> Launch:
    """Write down that it has started, and go on until it is asked to end, for which it takes its time."""
    name = container.pod["metadata"]["uid"]
    program = (
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.3); open(sys.argv[1] + '.ended', 'w').write(str(time.monotonic())); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[1] + '.began', 'w').write(str(time.monotonic()))\n"
        "time.sleep(60)\n"
    )
    return Launch([sys.executable, "-I", "-S", "-c", program, str(container.state.temporary / name)], {})


class Running:
    """A kubelet at work."""

    def __init__(self, state: State, plane: ControlPlane, objects: Objects) -> None:
        self.objects = objects
        self.folder = state.temporary
        self.plane = plane
        self.kubelet = Kubelet(state, plane, cast("Api", objects))
        self._end: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=lambda: self.kubelet.run(self._end))
        self._thread.start()

    def stop(self) -> None:
        self._end.put(None)
        self._thread.join()

    def has(self, file: str) -> bool:
        return (self.folder / file).exists()

    def moment(self, file: str) -> float:
        return float((self.folder / file).read_text())


@pytest.fixture
def at_work(state: State, plane: ControlPlane, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> Any:
    worker = Runner(
        name="worker", label="app=worker", container="work", launch=works, follows=lambda _: objects.followed
    )
    monkeypatch.setattr(kubelet, "RUNNERS", (worker,))
    monkeypatch.setattr(kubelet, "POLL_SECONDS", 0.02)
    made = Running(state, plane, objects)
    yield made
    made.stop()


def test_a_pods_successor_starts_when_the_pods_process_has_ended(at_work: Running) -> None:
    at_work.objects.found = [pod(uid="1")]
    wait_for(lambda: at_work.has("1.began"))
    noted = read_json(at_work.plane.containers)["pyairtable/worker-0/work"]
    assert noted["starts"] == 1
    assert running(noted["pid"])
    at_work.objects.found = [pod(uid="2")]
    wait_for(lambda: at_work.has("2.began") and at_work.has("1.ended"))
    assert at_work.moment("1.ended") < at_work.moment("2.began")
    wait_for(lambda: [folder.name for folder in at_work.plane.pods.iterdir()] == ["2"])
    at_work.objects.found = []
    wait_for(lambda: at_work.has("2.ended"))
    wait_for(lambda: read_json(at_work.plane.containers) == {})


def test_a_process_with_ports_of_its_own_waits_for_the_end_of_the_last_pods(
    at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "RUNNERS", (replace(kubelet.RUNNERS[0], alone=True),))
    at_work.objects.found = [pod("worker-0", "1")]
    wait_for(lambda: at_work.has("1.began"))
    at_work.objects.found = [pod("worker-0", "1"), pod("worker-1", "2")]

    def message() -> str | None:
        return read_json(at_work.plane.containers).get("pyairtable/worker-1/work", {}).get("message")

    wait_for(lambda: message() == "the process of another pod is still at it")
    at_work.objects.found = [pod("worker-1", "2")]
    wait_for(lambda: at_work.has("2.began"))
    assert at_work.moment("1.ended") < at_work.moment("2.began")


def test_a_process_that_drains_goes_on_for_a_while_when_its_pod_has_gone(
    at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "RUNNERS", (replace(kubelet.RUNNERS[0], drain_seconds=0.5),))
    at_work.objects.found = [pod()]
    wait_for(lambda: at_work.has("1.began"))
    gone = time.monotonic()
    at_work.objects.found = []
    wait_for(lambda: at_work.has("1.ended"))
    assert at_work.moment("1.ended") - gone > 0.5 + 0.3  # until it is asked, and for its end


def test_what_runs_goes_on_while_the_api_server_is_silent(at_work: Running) -> None:
    at_work.objects.found = [pod()]
    wait_for(lambda: at_work.has("1.began"))
    at_work.objects.is_silent = True
    time.sleep(0.2)
    assert not at_work.has("1.ended")


def test_the_end_of_the_kubelet_is_the_end_of_all(at_work: Running) -> None:
    at_work.objects.found = [pod("worker-0", "1"), pod("worker-1", "2")]
    wait_for(lambda: at_work.has("1.began") and at_work.has("2.began"))
    at_work.stop()
    assert at_work.has("1.ended")
    assert at_work.has("2.ended")
    assert not at_work.plane.pods.exists()
    assert not at_work.plane.containers.exists()


def test_a_pod_that_lacks_something_waits_and_says_so(at_work: Running) -> None:
    at_work.objects.found = [pod(volumes=[{"name": "v", "secret": {"secretName": "late"}}])]

    def message() -> str | None:
        return read_json(at_work.plane.containers).get("pyairtable/worker-0/work", {}).get("message")

    wait_for(lambda: message() == "there is no Secret late")
    assert not at_work.has("1.began")
    at_work.objects.content["secrets", "late"] = {}
    wait_for(lambda: at_work.has("1.began") and message() == "")


def test_a_process_is_started_again_when_what_it_goes_by_has_changed(at_work: Running) -> None:
    at_work.objects.followed = 1
    at_work.objects.found = [pod()]
    wait_for(lambda: at_work.has("1.began"))
    first = at_work.moment("1.began")
    at_work.objects.followed = None  # not known is not changed
    time.sleep(0.2)
    assert not at_work.has("1.ended")
    at_work.objects.followed = 2
    wait_for(lambda: at_work.moment("1.began") > first)
    assert at_work.moment("1.ended") < at_work.moment("1.began")


def test_python_gets_no_more_than_its_standard_library_and_a_missing_program_is_named(
    state: State, plane: ControlPlane, objects: Objects
) -> None:
    def launch(*command: str) -> Launch:
        spec = {"name": "restarter", "command": [*command]}
        api = cast("Api", objects)
        gateways = Gateways(plane, api)
        made = Container(plane=plane, state=state, pod=pod(), spec=spec, objects=api, gateways=gateways)
        (runner,) = (r for r in RUNNERS if r.container == "restarter")
        return runner.launch(made)

    words, environment = launch("python3", "/etc/r.py")
    assert list(words) == [sys.executable, "-S", "/etc/r.py"]
    assert environment["KUBERNETES_SERVICE_PORT"] == str(plane.ports["kube-apiserver"])
    assert launch("/bin/sh", "x").words[0].endswith("/sh")
    with pytest.raises(PodError, match="this machine has no frobnicate"):
        launch("frobnicate")
    with pytest.raises(PodError, match="it names no command"):
        launch()


def test_a_gateway_waits_for_an_api_server_that_refuses_its_filter(
    at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gateway,) = (runner for runner in RUNNERS if runner.name == "gateway")
    monkeypatch.setattr(kubelet, "RUNNERS", (replace(gateway, label="app=worker"),))
    at_work.objects.found = [pod(containers=[{"name": "istio-proxy"}])]

    def message() -> str | None:
        return read_json(at_work.plane.containers).get("pyairtable/worker-0/istio-proxy", {}).get("message")

    wait_for(lambda: message() == "the cluster has no EnvoyFilter yet that says where it listens")
    at_work.objects.takes_filters = True
    wait_for(lambda: message() == "istiod is being told where it listens")


def test_istiod_runs_with_its_containers_arguments_and_its_accounts_token(
    state: State, plane: ControlPlane, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "find", lambda _: Path("/tools/istiod"))
    (plane.keys / "ca.crt").parent.mkdir(parents=True, exist_ok=True)
    (plane.keys / "ca.crt").write_text("authority")
    account = {"name": "access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    spec = {
        "name": "discovery",
        "args": ["discovery"],
        "env": [{"name": "REVISION", "value": "1-31-1"}, {"name": "KUBECONFIG", "value": "/other"}],
        "volumeMounts": [account],
    }
    volumes = [{"name": "access", "projected": {"sources": []}}]
    api = cast("Api", objects)
    made = Container(
        plane=plane, state=state, pod=pod(volumes=volumes), spec=spec, objects=api, gateways=Gateways(plane, api)
    )
    (runner,) = (r for r in RUNNERS if r.name == "istiod")
    words, environment = runner.launch(made)
    assert [*words[:2]] == ["/tools/istiod", "discovery"]
    assert environment["REVISION"] == "1-31-1"
    assert str(made.folder / "volumes/access/token") in Path(environment["KUBECONFIG"]).read_text()


def test_postgres_is_asked_to_end_without_waiting_for_its_clients() -> None:
    assert {r.container: r.ends_with for r in RUNNERS if r.ends_with != signal.SIGTERM} == {"postgres": signal.SIGINT}
