"""The API server of one cluster, as kubectl reaches it: paths in, objects out, one line where it fails.

One `kubectl proxy` serves all calls of a command; kubectl itself is run only for what it alone can do. Nothing secret
is ever an argument, which whoever lists processes could read: it goes in and out through pipes and sockets.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from components.shared.mesh import RUNBOOK
from runbook.errors import BadInputError, RunbookError
from runbook.proxy import LOG_LINE, Proxy

Manifest = dict[str, Any]
Objects = dict[str, Manifest]
"""Objects by `kind/name`, such as `secret/api-keys`."""

SECONDS: Final = 30
"""How long one call may take, logins of the kubeconfig's included."""
PAGE: Final = 500
"""Objects in one answer to a list."""
FIELD_MANAGER: Final = RUNBOOK
PLURALS: Final = {
    "configmap": "/api/v1 configmaps",
    "cronjob": "/apis/batch/v1 cronjobs",
    "deployment": "/apis/apps/v1 deployments",
    "event": "/api/v1 events",
    "externalsecret": "/apis/external-secrets.io/v1 externalsecrets",
    "job": "/apis/batch/v1 jobs",
    "lease": "/apis/coordination.k8s.io/v1 leases",
    "pod": "/api/v1 pods",
    "secret": "/api/v1 secrets",
    "statefulset": "/apis/apps/v1 statefulsets",
    "virtualservice": "/apis/networking.istio.io/v1 virtualservices",
}
"""Where the API has the objects of a kind: asking it for that would take two calls."""
FROM_SERVER: Final = re.compile(r"Error from server(?: \((?P<reason>\w+)\))?: (?P<message>.*)")


class KubectlError(RunbookError):
    """What the API server or kubectl said, with the API server's reason if it has one, such as Conflict."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def find() -> str:
    """The kubectl on PATH, or else the one beside Python."""
    beside = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    found = shutil.which("kubectl", path=beside)
    if found is None:
        raise BadInputError("looking for kubectl: it is not on PATH; install it")
    return found


class _Call(NamedTuple):
    method: str
    path: str
    body: Manifest | None = None
    content: str = "application/json"


class _Answer(NamedTuple):
    status: int
    body: bytes


class Kubectl:
    """A cluster by its kubeconfig, in a namespace. Every call may raise KubectlError, and may come from any thread.

    The proxy starts with the `with` block, or else with the first call, and ends with the block.
    """

    def __init__(self, kubeconfig: Path, namespace: str, environment: Mapping[str, str] | None = None) -> None:
        self._kubectl = find()
        self._environment = {**os.environ, **(environment or {}), "KUBECONFIG": str(kubeconfig)}
        self._lock = threading.Lock()
        self._proxy: Proxy | None = None
        self._idle: list[HTTPConnection] = []
        self.namespace = namespace

    def __enter__(self) -> Self:
        """Start the proxy; the first call waits for it."""
        self._running_proxy()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the proxy."""
        with self._lock:
            self._end_proxy()

    def path(self, name: str) -> str:
        """Where the API has an object, such as `secret/api-keys`, or all of a kind, such as `secret`."""
        kind, _, own = name.partition("/")
        group, plural = PLURALS[kind].split()
        return f"{group}/namespaces/{self.namespace}/{plural}{f'/{own}' if own else ''}"

    def get(self, path: str) -> Manifest | None:
        """What is at a path of the API; None where there is nothing."""
        [answer] = self._ask([_Call("GET", path)])
        return None if answer.status == HTTPStatus.NOT_FOUND else self._object(answer)

    def text(self, path: str) -> str:
        """What is at a path of the API, as it comes: such as what a pod answers through the API server."""
        [answer] = self._ask([_Call("GET", path)])
        return self._checked(answer).decode(errors="replace")

    def read(self, names: Sequence[str], kinds: Sequence[str] = ()) -> Objects:
        """The objects of these names, such as `secret/api-keys`, and all of these kinds; what is missing is left out.

        They are all asked for at the same time.
        """
        pages = [f"{self.path(kind)}?limit={PAGE}" for kind in kinds]
        answers = self._ask([_Call("GET", path) for path in (*map(self.path, names), *pages)])
        found = [self._object(answer) for answer in answers[: len(names)] if answer.status != HTTPStatus.NOT_FOUND]
        for page, answer in zip(pages, answers[len(names) :], strict=True):
            found += self._items(page, self._object(answer))
        return {f"{item['kind'].lower()}/{item['metadata']['name']}": item for item in found}

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object; it is an error, AlreadyExists, when there is one."""
        return self._change("POST", self.path(manifest["kind"].lower()), manifest)

    def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object; it is an error, Conflict, when it is no longer of the manifest's resourceVersion."""
        return self._change("PUT", self.path(f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"), manifest)

    def patch(self, path: str, change: Manifest, field_manager: str = FIELD_MANAGER) -> Manifest:
        """Merge a change into what is at a path of the API."""
        return self._change("PATCH", path, change, field_manager, "application/merge-patch+json")

    def annotate(self, name: str, key: str, value: str) -> None:
        """Set an annotation."""
        self.patch(self.path(name), {"metadata": {"annotations": {key: value}}})

    def delete(self, path: str, resource_version: str) -> None:
        """Delete what is at a path of the API, as long as it is of this version; it is an error, Conflict, if not."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": resource_version},
        }
        [answer] = self._ask([_Call("DELETE", path, options)])
        self._checked(answer)

    def exec(self, pod: str, container: str, command: Sequence[str]) -> str:
        """What a command in a container answers on its standard output."""
        return self.run("exec", pod, f"--container={container}", "--", *command)

    def run(self, *arguments: str) -> str:
        """The standard output of a kubectl of its own."""
        process = subprocess.Popen(
            [self._kubectl, f"--namespace={self.namespace}", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for this command, which ends its own
        )
        with process:  # closes the pipes
            try:
                out, complaint = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                raise _no_answer() from None
            finally:
                process.kill()
        if process.returncode:
            raise _complaint(complaint, process.returncode)
        return out

    def _change(
        self,
        method: str,
        path: str,
        body: Manifest,
        field_manager: str = FIELD_MANAGER,
        content: str = "application/json",
    ) -> Manifest:
        [answer] = self._ask([_Call(method, f"{path}?fieldManager={field_manager}", body, content)])
        return self._object(answer)

    def _items(self, page: str, found: Manifest) -> Iterable[Manifest]:
        """All objects of a list, each with its kind, which only the list says; further pages are asked for."""
        while True:
            kind = found["kind"].removesuffix("List")
            for item in found["items"]:
                yield {"apiVersion": found["apiVersion"], "kind": kind, **item}
            after = found["metadata"].get("continue")
            if not after:
                return
            [answer] = self._ask([_Call("GET", f"{page}&continue={quote(after, safe='')}")])
            found = self._object(answer)

    def _ask(self, calls: Sequence[_Call]) -> list[_Answer]:
        """The answers to calls that are under way at the same time, each on a connection of its own."""
        connections: list[HTTPConnection] = []
        try:
            for call in calls:
                connections.append(self._connection())
                body = None if call.body is None else json.dumps(call.body)
                connections[-1].request(call.method, call.path, body, {"Content-Type": call.content})
            responses = [connection.getresponse() for connection in connections]
            answers = [_Answer(response.status, response.read()) for response in responses]
        except TimeoutError:
            _close(connections)
            raise _no_answer() from None
        except (OSError, HTTPException) as error:
            _close(connections)
            raise self._lost(error) from None
        except BaseException:  # an interrupt: what is still to come is no answer to the next call
            _close(connections)
            raise
        with self._lock:
            self._idle += connections
        return answers

    def _connection(self) -> HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._running_proxy().connect(SECONDS)

    def _running_proxy(self) -> Proxy:
        with self._lock:
            if self._proxy is None:
                self._proxy = Proxy(self._kubectl, self._environment)
            return self._proxy

    def _end_proxy(self) -> None:
        _close(self._idle)
        self._idle.clear()
        if self._proxy:
            self._proxy.close()
            self._proxy = None

    def _lost(self, error: Exception) -> KubectlError:
        """What was wrong where there was no answer; where the proxy has ended, the next call starts another."""
        said = self._said()
        with self._lock:
            if self._proxy and self._proxy.has_ended:
                self._end_proxy()
        return _error(_telling(said) or f"kubectl proxy: {error}")

    def _said(self) -> list[str]:
        return self._proxy.said() if self._proxy else []

    def _object(self, answer: _Answer) -> Manifest:
        content = self._checked(answer)
        try:
            return json.loads(content)
        except ValueError:  # its message would be all right, what it holds on to would not
            raise KubectlError("asking the cluster: the answer is not JSON; does `kubectl get nodes` work?") from None

    def _checked(self, answer: _Answer) -> bytes:
        if answer.status < HTTPStatus.BAD_REQUEST:
            return answer.body
        try:
            status: Manifest = json.loads(answer.body)
            reason, message = status.get("reason", ""), status["message"]
        except (ValueError, KeyError, AttributeError, TypeError):
            # The proxy's own words, or a pod's; where a login of the kubeconfig's has failed, that has said why.
            lines = answer.body.decode(errors="replace").splitlines() or [f"it answers with {answer.status}"]
            raise _error(": ".join(filter(None, (lines[0][:300], _telling(self._said()))))) from None
        if reason == "Unauthorized":
            message = "the cluster does not know these credentials (Unauthorized)"
        raise KubectlError(f"asking the cluster: {message}", reason)


def _close(connections: Iterable[HTTPConnection]) -> None:
    for connection in connections:
        connection.close()


def _no_answer() -> KubectlError:
    return KubectlError(f"asking the cluster: no answer within {SECONDS} s; try: kubectl get nodes")


def _telling(lines: Sequence[str]) -> str:
    """The line that says what is wrong: there may be attempts before it, and less telling ones after it."""
    telling = [line for line in lines if re.search("error|fatal|refused", line, re.IGNORECASE)]
    return (telling or [*lines, ""])[0]


def _complaint(text: str, code: int) -> KubectlError:
    lines = [line for line in text.splitlines() if line.strip() and not LOG_LINE.match(line)]
    return _error(_telling(lines) or f"it ended with exit code {code}")


def _error(line: str) -> KubectlError:
    if match := FROM_SERVER.match(line):
        return KubectlError(f"asking the cluster: {match['message']}", match["reason"] or "")
    return KubectlError(f"asking the cluster: {line.removeprefix('error: ')}")
