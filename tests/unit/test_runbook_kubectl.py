"""The cluster as the runbook reaches it: through one proxy, one line where it fails, nothing left running."""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook import kubectl
from runbook.errors import BadInputError
from runbook.kubectl import Kubectl, KubectlError
from tests.unit import socket_api

NOISE = 'E1122 21:16:18.623456 6671 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    return tmp_path


def plays(folder: Path, script: str) -> Kubectl:
    """A kubectl that is a script of the shell's."""
    file = folder / "kubectl"
    fresh = folder / "kubectl.new"  # an older one may be about to be run, and may then not be written to
    fresh.write_text(f"#!/bin/sh\n{script}\n")
    fresh.chmod(0o755)
    fresh.replace(file)
    return Kubectl(Path("/some/kubeconfig"), "pyairtable", {"KUBECACHEDIR": "/some/cache"})


def test_it_is_run_with_the_kubeconfig_in_the_namespace(folder: Path) -> None:
    found = plays(folder, 'echo "$KUBECONFIG $KUBECACHEDIR $@"').run("version")
    assert found == "/some/kubeconfig /some/cache --namespace=pyairtable version\n"


def test_the_one_beside_python_is_good_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "venv" / "kubectl"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\necho beside")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(file.parent / "python"))
    assert Kubectl(Path("/x"), "pyairtable").run("version") == "beside\n"


def test_without_one_that_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(BadInputError, match="kubectl: it is not on PATH"):
        Kubectl(Path("/x"), "pyairtable")


@pytest.mark.parametrize(
    ("complaint", "message", "reason"),
    [
        ("Error from server (NotFound): secrets 'x' not found", "secrets 'x' not found", "NotFound"),
        ("Error from server: etcd is away", "etcd is away", ""),
        ("error: unknown flag", "unknown flag", ""),
        (f"{NOISE}\nThe connection to the server x was refused", "The connection to the server x was refused", ""),
        ("psql:<stdin>:3: ERROR:  no\ncommand terminated with exit code 3", "psql:<stdin>:3: ERROR:  no", ""),
        ("something else", "something else", ""),
        (NOISE, "it ended with exit code 7", ""),
    ],
)
def test_the_line_that_says_what_is_wrong_is_the_error(folder: Path, complaint: str, message: str, reason: str) -> None:
    (folder / "complaint").write_text(complaint)
    with pytest.raises(KubectlError) as failed:
        plays(folder, f"cat {folder}/complaint >&2; exit 7").run("get")
    assert (str(failed.value), failed.value.reason) == (f"asking the cluster: {message}", reason)


def test_a_command_runs_in_a_container(folder: Path) -> None:
    found = plays(folder, 'echo "$@"').exec("postgres-0", "postgres", ["psql", "-q"])
    assert found == "--namespace=pyairtable exec postgres-0 --container=postgres -- psql -q\n"


def test_one_that_does_not_answer_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(KubectlError, match=r"no answer within 0\.2 s"):
        plays(folder, "exec sleep 60").run("get")
    assert time.monotonic() - began < 5


class Api:
    """An API server behind a kubectl that plays the proxy, and what it was asked."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[str, socket_api.Answer] = {}
        self.starts = folder / "starts"
        self.file = file
        self.server = socket_api.serve(file, self._answer)
        self.kubectl = plays(
            folder, f'echo "$@" >> {self.starts}; ln -s {file} "${{2#*=}}"; echo Starting to serve; exec sleep 60'
        )

    def _answer(self, method: str, path: str, body: Any) -> socket_api.Answer:
        self.asked.append((method, path, body))
        return self.answers.get(path.partition("?")[0], (200, {}))


@pytest.fixture
def api(folder: Path) -> Iterator[Api]:
    """An API server that answers `{}` to what a test says nothing about."""
    place = Path(tempfile.mkdtemp(prefix="api-"))
    api = Api(folder, place / "api")
    with api.kubectl:
        yield api
    api.server.close()
    shutil.rmtree(place)


SECRET = "/api/v1/namespaces/pyairtable/secrets/a"  # noqa: S105 — a path
REFUSED = "dial tcp 127.0.0.1:1: connect: connection refused"


def test_all_calls_go_through_one_proxy_on_one_connection(api: Api) -> None:
    for _ in range(3):
        api.kubectl.get(SECRET)
    [start] = api.starts.read_text().splitlines()
    assert start.startswith("proxy --unix-socket=")
    assert len(api.server.connections) == 1


def test_the_proxy_starts_with_the_first_call_where_nobody_has_started_it(api: Api) -> None:
    api.kubectl.get(SECRET)
    late = Kubectl(Path("/some/kubeconfig"), "pyairtable")
    assert len(api.starts.read_text().splitlines()) == 1
    late.get(SECRET)
    assert len(api.starts.read_text().splitlines()) == 2
    with late:
        late.get(SECRET)
    assert len(api.starts.read_text().splitlines()) == 2


def test_what_is_at_a_path_is_told(api: Api) -> None:
    api.answers[SECRET] = (200, {"kind": "Secret"})
    assert api.kubectl.get(SECRET) == {"kind": "Secret"}
    assert api.asked == [("GET", SECRET, None)]


def test_nothing_at_a_path_is_none(api: Api) -> None:
    api.answers[SECRET] = socket_api.refusal("NotFound", "no")
    assert api.kubectl.get(SECRET) is None


def test_a_pods_answer_is_a_text(api: Api) -> None:
    path = "/api/v1/namespaces/pyairtable/pods/edge:15090/proxy/stats"
    api.answers[path] = (200, "metric 1\n")
    assert api.kubectl.text(path) == "metric 1\n"
    api.answers[path] = (404, "no such page\nreally")
    with pytest.raises(KubectlError, match=r"^asking the cluster: no such page$"):
        api.kubectl.text(path)


def test_a_change_is_merged_under_the_name_of_its_field_manager(api: Api) -> None:
    api.answers[SECRET] = (200, {"kind": "Secret"})
    assert api.kubectl.patch(SECRET, {"a": 1}) == {"kind": "Secret"}
    api.kubectl.patch(SECRET, {"a": 2}, field_manager="other")
    assert api.asked == [
        ("PATCH", f"{SECRET}?fieldManager=runbook", {"a": 1}),
        ("PATCH", f"{SECRET}?fieldManager=other", {"a": 2}),
    ]


def test_an_annotation_is_merged(api: Api) -> None:
    api.kubectl.annotate("secret/a", "b", "c")
    assert api.asked == [("PATCH", f"{SECRET}?fieldManager=runbook", {"metadata": {"annotations": {"b": "c"}}})]


def test_an_object_is_created_replaced_and_deleted(api: Api) -> None:
    lease = {"kind": "Lease", "metadata": {"name": "b"}}
    leases = "/apis/coordination.k8s.io/v1/namespaces/pyairtable/leases"
    api.kubectl.create(lease)
    api.kubectl.replace(lease)
    api.kubectl.delete(f"{leases}/b", "7")
    assert [call[:2] for call in api.asked] == [
        ("POST", f"{leases}?fieldManager=runbook"),
        ("PUT", f"{leases}/b?fieldManager=runbook"),
        ("DELETE", f"{leases}/b"),
    ]
    assert [call[2] for call in api.asked[:2]] == [lease, lease]
    assert api.asked[2][2]["preconditions"] == {"resourceVersion": "7"}


def test_what_is_read_comes_by_kind_and_name_and_what_is_not_there_is_left_out(api: Api) -> None:
    api.answers[SECRET] = (200, {"kind": "Secret", "metadata": {"name": "a"}})
    api.answers[SECRET.replace("secrets/a", "secrets/b")] = socket_api.refusal("NotFound", "no")
    items = [{"metadata": {"name": "c"}}]
    api.answers["/apis/apps/v1/namespaces/pyairtable/deployments"] = (
        200,
        {"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {}, "items": items},
    )
    assert api.kubectl.read(["secret/a", "secret/b"], ["deployment"]) == {
        "secret/a": {"kind": "Secret", "metadata": {"name": "a"}},
        "deployment/c": {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "c"}},
    }


def test_what_is_read_is_asked_for_at_the_same_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "SECONDS", 5)
    both = threading.Barrier(2)

    def answer(*_: object) -> socket_api.Answer:
        both.wait(2)
        return socket_api.refusal("NotFound", "no")

    api.server.answers = answer
    assert api.kubectl.read(["secret/a", "secret/b"]) == {}


def test_a_long_list_comes_in_pages(api: Api) -> None:
    def answer(_: str, path: str, __: object) -> socket_api.Answer:
        is_last = path.endswith("&continue=a%2Bb%3D")
        metadata = {} if is_last else {"continue": "a+b="}
        items = [{"metadata": {"name": "last" if is_last else "first"}}]
        return 200, {"kind": "EventList", "apiVersion": "v1", "metadata": metadata, "items": items}

    api.server.answers = answer
    assert list(api.kubectl.read([], ["event"])) == ["event/first", "event/last"]


@pytest.mark.parametrize(
    ("answer", "message", "reason"),
    [
        (socket_api.refusal("Conflict", "it has been modified"), "it has been modified", "Conflict"),
        (
            socket_api.refusal("Unauthorized", "Unauthorized"),
            "the cluster does not know these credentials (Unauthorized)",
            "Unauthorized",
        ),
        ((500, REFUSED), REFUSED, ""),
        ((503, ""), "it answers with 503", ""),
        ((500, ["a"]), '["a"]', ""),
    ],
)
def test_a_refusal_is_told_with_the_servers_reason(
    api: Api, answer: socket_api.Answer, message: str, reason: str
) -> None:
    api.answers[SECRET] = answer
    with pytest.raises(KubectlError) as failed:
        api.kubectl.get(SECRET)
    assert (str(failed.value), failed.value.reason) == (f"asking the cluster: {message}", reason)


def test_an_answer_that_is_no_json_is_not_repeated(api: Api) -> None:
    api.answers[SECRET] = (200, "a-secret")
    with pytest.raises(KubectlError, match="the answer is not JSON") as failed:
        api.kubectl.get(SECRET)
    assert "a-secret" not in repr(failed.value)
    assert failed.value.__suppress_context__


def test_no_answer_is_told_and_the_next_call_is_another(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "SECONDS", 0.5)
    go_on = threading.Event()
    answers = api.server.answers

    def late(*_: object) -> socket_api.Answer:
        go_on.wait(5)
        return 200, {"late": True}

    api.server.answers = late
    with pytest.raises(KubectlError, match=r"no answer within 0\.5 s"):
        api.kubectl.get(SECRET)
    go_on.set()
    api.server.answers = answers
    assert api.kubectl.get(SECRET) == {}


def test_an_interrupted_calls_answer_is_not_taken_for_the_next_ones(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("http.client.HTTPConnection.getresponse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            api.kubectl.get(SECRET)
    api.answers["/other"] = (200, {"other": True})
    assert api.kubectl.get("/other") == {"other": True}


def test_what_a_login_says_is_told_with_its_failure(api: Api, folder: Path) -> None:
    login = 'echo "E1122 log" >&2; echo "Unable to locate credentials" >&2'
    with plays(folder, f'ln -s {api.file} "${{2#*=}}"; {login}; echo Starting to serve; exec sleep 60') as found:
        api.answers[SECRET] = (500, "getting credentials: exec: executable aws failed with exit code 255")
        with pytest.raises(KubectlError, match=r"failed with exit code 255: Unable to locate credentials$"):
            found.get(SECRET)


def test_a_kubeconfig_that_is_no_good_is_told(folder: Path) -> None:
    with plays(folder, "echo 'error: no such context' >&2; exit 1") as found:
        for _ in range(2):
            with pytest.raises(KubectlError, match=r"^asking the cluster: no such context$"):
                found.get(SECRET)


HUNG_UP = "asking the cluster: kubectl proxy: Remote end closed connection without response"


def test_a_proxy_that_hangs_up_is_told_and_may_do_better_next_time(api: Api) -> None:
    answers = api.server.answers
    api.server.answers = lambda *_: None
    with pytest.raises(KubectlError, match=HUNG_UP):
        api.kubectl.get(SECRET)
    api.server.answers = answers
    assert api.kubectl.get(SECRET) == {}
    assert len(api.starts.read_text().splitlines()) == 1


def test_a_proxy_that_has_ended_is_told_and_the_next_call_has_another(api: Api, folder: Path) -> None:
    with plays(folder, f'echo "$@" >> {api.starts}; ln -s {api.file} "${{2#*=}}"; echo Starting to serve') as found:
        found._running_proxy()._process.wait()  # pyright: ignore[reportPrivateUsage]
        api.server.answers = lambda *_: None
        for _ in range(2):
            with pytest.raises(KubectlError, match=HUNG_UP):
                found.get(SECRET)
            found._running_proxy()._process.wait()  # pyright: ignore[reportPrivateUsage]
    starts = api.starts.read_text().splitlines()
    assert len(set(starts)) == len(starts) >= 3
