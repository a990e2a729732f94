"""Runs kubectl against one cluster: manifests in, objects out, one line where it fails.

Nothing secret is ever an argument, which whoever lists processes could read: it goes in and out through pipes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook.errors import BadInputError, RunbookError

Manifest = dict[str, Any]
Objects = dict[str, Manifest]
"""Objects by `kind/name`, such as `secret/api-keys`."""

FROM_STDIN = ("--filename=-", "--output=json", "--validate=false")
"""To validate, kubectl would download the API server's schema first."""
SECONDS = 30
"""How long one call may take. Not kubectl's own limit, which leaves out logins of the kubeconfig's."""
LOG_LINE = re.compile(r"[EWI]\d{4} ")
FROM_SERVER = re.compile(r"Error from server(?: \((?P<reason>\w+)\))?: (?P<message>.*)")


class KubectlError(RunbookError):
    """What kubectl said, with the API server's reason if it has one, such as Conflict."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Kubectl:
    """kubectl with a kubeconfig, in a namespace. Every call may raise KubectlError."""

    def __init__(self, kubeconfig: Path, namespace: str, environment: Mapping[str, str] | None = None) -> None:
        beside = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
        found = shutil.which("kubectl", path=beside)
        if found is None:
            raise BadInputError("looking for kubectl: it is not on PATH; install it")
        self._command = [found, f"--namespace={namespace}"]
        self._environment = {**os.environ, **(environment or {}), "KUBECONFIG": str(kubeconfig)}
        self.namespace = namespace

    def read(self, names: Sequence[str], kinds: Sequence[str] = ()) -> Objects:
        """The objects of these names, such as `secret/api-keys`, and all of these kinds; what is missing is left out.

        Names and kinds are two calls, which run at the same time.
        """
        named, listed = (
            ["get", *names, "--ignore-not-found", "--output=json"],
            ["get", ",".join(kinds), "--output=json"],
        )
        found = self._run([command for command, wanted in ((named, names), (listed, kinds)) if wanted])
        objects: Objects = {}
        for answer in map(_object, filter(str.strip, found)):
            for item in answer["items"] if answer["kind"].endswith("List") else [answer]:
                objects[f"{item['kind'].lower()}/{item['metadata']['name']}"] = item
        return objects

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object; it is an error, AlreadyExists, when there is one."""
        return _object(self.run("create", *FROM_STDIN, stdin=json.dumps(manifest)))

    def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object; it is an error, Conflict, when it is no longer of the manifest's resourceVersion."""
        return _object(self.run("replace", *FROM_STDIN, stdin=json.dumps(manifest)))

    def delete(self, path: str, resource_version: str) -> None:
        """Delete what is at a path of the API, as long as it is of this version; it is an error, Conflict, if not."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": resource_version},
        }
        self.run("delete", "--raw", path, "--filename=-", stdin=json.dumps(options))

    def annotate(self, name: str, key: str, value: str) -> None:
        """Set an annotation."""
        self.run("annotate", name, f"{key}={value}", "--overwrite")

    def exec(self, pod: str, container: str, command: Sequence[str]) -> str:
        """What a command in a container answers on its standard output."""
        return self.run("exec", pod, f"--container={container}", "--", *command)

    def run(self, *arguments: str, stdin: str = "") -> str:
        """The standard output of one call."""
        return self._run([arguments], stdin)[0]

    def _run(self, calls: Sequence[Sequence[str]], stdin: str = "") -> list[str]:
        processes: list[subprocess.Popen[str]] = []
        try:
            for arguments in calls:
                processes.append(  # noqa: PERF401 — what has been started is ended when the next does not start
                    subprocess.Popen(
                        [*self._command, *arguments],
                        env=self._environment,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        start_new_session=True,  # Ctrl-C in the terminal is for this command, which ends its own
                    )
                )
            return [_answer(process, stdin) for process in processes]
        finally:
            for process in processes:
                with process:  # closes the pipes
                    process.kill()


def _answer(process: "subprocess.Popen[str]", stdin: str) -> str:
    try:
        out, complaint = process.communicate(stdin, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise KubectlError(f"asking the cluster: no answer within {SECONDS} s; try: kubectl get nodes") from None
    if process.returncode:
        raise _error(complaint, process.returncode)
    return out


def _error(complaint: str, code: int) -> KubectlError:
    """The line that says what is wrong: kubectl may log its attempts before it, and say less after it."""
    lines = [line for line in complaint.splitlines() if line.strip() and not LOG_LINE.match(line)]
    telling = [line for line in lines if re.search("error|fatal|refused", line, re.IGNORECASE)]
    line = (telling or lines or [f"it ended with exit code {code}"])[0]
    if match := FROM_SERVER.match(line):
        return KubectlError(f"asking the cluster: {match['message']}", match["reason"] or "")
    return KubectlError(f"asking the cluster: {line.removeprefix('error: ')}")


def _object(text: str) -> Manifest:
    try:
        return json.loads(text)
    except ValueError:  # its message would be all right, what it holds on to would not
        raise KubectlError("asking the cluster: kubectl's answer is not JSON; does `kubectl version` work?") from None
