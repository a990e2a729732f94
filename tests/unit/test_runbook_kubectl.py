"""kubectl as the runbook runs it: pipes rather than arguments, one line where it fails, nothing left running."""

import os
import sys
import time
from pathlib import Path

import pytest

from runbook import kubectl
from runbook.errors import BadInputError
from runbook.kubectl import Kubectl, KubectlError

NOISE = 'E1122 21:16:18.623456 6671 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    return tmp_path


def plays(folder: Path, script: str) -> Kubectl:
    """A kubectl that is a script of the shell's."""
    file = folder / "kubectl"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
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


def test_names_and_kinds_are_asked_for_at_the_same_time(folder: Path) -> None:
    one = '{"kind": "Secret", "metadata": {"name": "a"}}'
    many = '{"kind": "List", "items": [{"kind": "Deployment", "metadata": {"name": "b"}}]}'
    found = plays(folder, f"case \"$3\" in secret/a) sleep 0.3; echo '{one}';; *) sleep 0.3; echo '{many}';; esac")
    began = time.monotonic()
    assert list(found.read(["secret/a"], ["deployments.apps"])) == ["secret/a", "deployment/b"]
    assert time.monotonic() - began < 0.55


def test_what_is_not_there_is_left_out(folder: Path) -> None:
    assert plays(folder, "true").read(["secret/a"]) == {}


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


def test_an_answer_that_is_no_json_is_not_repeated(folder: Path) -> None:
    with pytest.raises(KubectlError, match="kubectl's answer is not JSON") as failed:
        plays(folder, "echo a-secret").read(["secret/a"])
    assert "a-secret" not in repr(failed.value)


def test_a_manifest_goes_through_a_pipe(folder: Path) -> None:
    plays(folder, f'cat > {folder}/in; echo "$@" > {folder}/arguments; echo "{{}}"').create({"a-secret": 1})
    assert (folder / "in").read_text() == '{"a-secret": 1}'
    assert (
        folder / "arguments"
    ).read_text() == "--namespace=pyairtable create --filename=- --output=json --validate=false\n"


def test_a_command_runs_in_a_container(folder: Path) -> None:
    found = plays(folder, 'echo "$@"').exec("postgres-0", "postgres", ["psql", "-q"])
    assert found == "--namespace=pyairtable exec postgres-0 --container=postgres -- psql -q\n"


def test_one_that_does_not_answer_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(KubectlError, match=r"no answer within 0\.2 s"):
        plays(folder, "exec sleep 60").read(["secret/a"], ["deployments"])
    assert time.monotonic() - began < 5
