"""Runs what must really run of the pods that kwok plays: PostgreSQL, the controllers of its passwords, and Istio.

kwok says of every pod that it runs. For the containers in RUNNERS a process of this machine does, from when their pod
is Running until it is gone, with the pod's volumes laid out as folders, its variables, and its service account's token.
"""

import argparse
import base64
import http.client
import json
import logging
import queue
import shutil
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from infra.naming import PROJECT
from sandbox import emulator, gateways, pods, postgres, services
from sandbox.children import Child
from sandbox.control_plane import ADMIN, KUBE_APISERVER, MANAGED_NODES, ControlPlane, ControlPlanes
from sandbox.errors import SandboxError
from sandbox.gateways import Gateways
from sandbox.kubernetes_api import APPLY, FIELD_MANAGER, Manifest
from sandbox.pods import Kind, Pod, PodError, Spec
from sandbox.state import State, write_json
from sandbox.tools import TOOLS, find

ROOT = Path(__file__).parent.parent
POLL_SECONDS = 0.5
REFRESH_SECONDS = 1
"""Between looks at what a pod's volumes should hold; a real kubelet takes up to two minutes to bring a change."""
REQUEST_SECONDS = 5
TOKEN_LIFE = 0.8
"""Share of a token's life after which there is a new one, as with the real kubelet."""
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every container finds its service account's token."""
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

log = logging.getLogger("kubelet")


class Launch(NamedTuple):
    """How a container's process is started."""

    words: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container that is to run here."""

    plane: ControlPlane
    state: State
    pod: Pod
    spec: Spec
    objects: "Api"
    gateways: Gateways

    @property
    def folder(self) -> Path:
        """The pod's folder."""
        return self.plane.pods / uid_of(self.pod)

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Mount paths and where they are on this machine."""
        found = pods.folders(self.pod, self.spec, self.folder / "volumes", claims(self.plane, self.pod))
        # Sockets have a place of their own, since their paths may not be long.
        return {**found, postgres.SOCKETS: self.plane.sockets} if postgres.SOCKETS in found else found

    def environment(self, **more: str) -> dict[str, str]:
        """Its variables, over those that every container has; `more` goes before those of the specification."""
        temporary = self.folders.get("/tmp", self.folder / "tmp")  # noqa: S108 - in the container
        temporary.mkdir(parents=True, exist_ok=True)
        base = {
            "PATH": postgres.search_path(),
            "HOME": str(self.folder),
            "HOSTNAME": self.pod["metadata"]["name"],
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.plane.ports[KUBE_APISERVER]),
        }
        return {**pods.environment(self.pod, self.spec, self.folders, self.objects, base), **more}


def _as_specified(container: Container) -> Launch:
    """The container's own command."""
    return _own_command(container, container.environment())


def _beside_postgres(container: Container) -> Launch:
    """The container's own command, with the port on which PostgreSQL is here."""
    port = str(container.plane.ports["postgres"])
    return _own_command(container, container.environment(PGPORT=port))


def _own_command(container: Container, environment: dict[str, str]) -> Launch:
    words = [
        word
        for part in ("command", "args")
        for word in pods.words(container.spec, part, container.folders, environment)
    ]
    if not container.spec.get("command"):
        raise PodError("it names no command, and the sandbox does not have its image")
    program = Path(words[0]).name
    if program in ("python", "python3"):
        return Launch([sys.executable, "-S", *words[1:]], environment)  # -S: with the standard library only, as there
    found = shutil.which(program, path=environment["PATH"])
    if found is None:
        raise PodError(f"this machine has no {program}")
    return Launch([found, *words[1:]], environment)


def _postgres(container: Container) -> Launch:
    environment = container.environment(PYTHONPATH=str(ROOT))
    arguments = pods.words(container.spec, "args", container.folders, environment)
    postgres.settings(arguments)
    own = [f"--port={container.plane.ports['postgres']}", f"--sockets={container.plane.sockets}"]
    return Launch([sys.executable, "-P", "-m", "sandbox.postgres", *own, "--", *arguments], environment)


class _Built:
    """A binary, which the `up` that made the pod has built; should it be gone, building takes minutes."""

    def __init__(self, tool: str) -> None:
        self._tool = TOOLS[tool]
        self._binary: Future[Path] | None = None

    def find(self) -> Path:
        """Where it is.

        Raises:
            PodError: it is being built.
        """
        if self._binary is None:
            builder = ThreadPoolExecutor(1)
            self._binary = builder.submit(find, self._tool)
            builder.shutdown(wait=False)
        try:
            return self._binary.result(timeout=1)
        except TimeoutError:
            raise PodError("its binary is being built") from None
        except SandboxError:
            self._binary = None
            raise


class _Controller(_Built):
    """External Secrets, which talks to the emulator."""

    def __init__(self) -> None:
        super().__init__("external-secrets")

    def __call__(self, container: Container) -> Launch:
        from sandbox import external_secrets  # only where there is such a pod

        port = _emulator_port(container.state)
        if port is None:
            raise PodError("the AWS emulator does not run")
        environment = container.environment()
        arguments = pods.words(container.spec, "args", container.folders, environment)
        words, more = external_secrets.command(container.plane, self.find(), port, arguments)
        return Launch(words, {**environment, **more})


class _Istiod(_Built):
    """istiod, with its service account's rights."""

    def __init__(self) -> None:
        super().__init__("istiod")

    def __call__(self, container: Container) -> Launch:
        from sandbox import istio  # only where there is such a pod

        environment = container.environment()
        arguments = pods.words(container.spec, "args", container.folders, environment)
        token = container.folders[ACCOUNT] / "token"
        kubeconfig = istio.kubeconfig_of_account(container.plane, container.folder, token)
        words, more = istio.istiod(container.plane, self.find(), arguments, kubeconfig)
        return Launch(words, {**environment, **more})


def _gateway(container: Container) -> Launch:
    """A stock Envoy in place of Istio's, which istiod tells what to do all the same."""
    words = container.gateways.launch(container.pod, container.folder)
    return Launch(words, {"PATH": postgres.search_path(), "HOME": str(container.folder)})


def _emulator_port(state: State) -> int | None:
    service = services.recorded(state).get(emulator.NAME)
    return service.port if service else None


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A container of which a real process runs."""

    name: str
    """Name of its log."""
    namespace: str = PROJECT
    label: str
    container: str
    launch: Callable[[Container], Launch]
    ends_with: signal.Signals = signal.SIGTERM
    follows: Callable[[State], object] = lambda _: None
    """What makes a new start necessary when it changes."""
    drain_seconds: float = 0
    """How long it goes on when its pod goes."""
    alone: bool = False
    """Whether it has ports that are its own, so that the next pod's process waits for the last one's end."""


EXTERNAL_SECRETS = "external-secrets"

RUNNERS = (
    Runner(
        name="postgres",
        label="app=postgres",
        container="postgres",
        launch=_postgres,
        ends_with=signal.SIGINT,  # does not wait for its clients to go
    ),
    Runner(name="postgres-credentials", label="app=postgres", container="credentials", launch=_beside_postgres),
    Runner(name="secret-restarter", label="app=secret-restarter", container="restarter", launch=_as_specified),
    Runner(
        name=EXTERNAL_SECRETS,
        namespace="external-secrets-system",
        label="app.kubernetes.io/name=external-secrets",
        container=EXTERNAL_SECRETS,
        launch=_Controller(),
        follows=_emulator_port,
    ),
    Runner(
        name="istiod",
        namespace="istio-system",
        label="app=istiod",
        container="discovery",
        launch=_Istiod(),
        alone=True,
    ),
    Runner(
        name="gateway",
        label=gateways.LABEL,
        container=gateways.CONTAINER,
        launch=_gateway,
        drain_seconds=gateways.DRAIN_SECONDS,
    ),
)


def claims(plane: ControlPlane, pod: Pod) -> Path:
    """Where the data of a pod's claims is: a folder per claim, which stays when the pod goes."""
    return plane.folder / "claims" / pod["metadata"]["namespace"]


class ApiError(SandboxError):
    """The API server does not answer, or refuses."""


class Api:
    """The API server, asked twice a second for little: one connection, and nothing that takes long to import."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=plane.keys / "ca.crt")
        context.load_cert_chain(plane.keys / f"{ADMIN}.crt", plane.keys / f"{ADMIN}.key")
        port = plane.ports[KUBE_APISERVER]
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=REQUEST_SECONDS, context=context)
        self._tokens: dict[tuple[str, str | None], tuple[str, float]] = {}

    def pods(self, namespace: str, label: str) -> list[Pod]:
        """Pods with a label."""
        return self._list(f"/api/v1/namespaces/{namespace}/pods", label)

    def nodes(self) -> set[str]:
        """Names of the nodes that are there."""
        return {node["metadata"]["name"] for node in self._list("/api/v1/nodes", MANAGED_NODES, METADATA_ONLY)}

    def data(self, kind: Kind, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a Secret or ConfigMap; None when there is none."""
        found = self._ask("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}?resourceVersion=0")
        if found is None:
            return None
        plain, encoded = found.get("data") or {}, found.get("binaryData") or {}
        if kind == "secrets":
            plain, encoded = {}, plain
        return {
            **{key: value.encode() for key, value in plain.items()},
            **{key: base64.b64decode(value) for key, value in encoded.items()},
        }

    def token(self, pod: Pod, audience: str | None, seconds: int) -> str:
        """A token of the pod's service account, for as long as the pod is there."""
        metadata, now = pod["metadata"], time.monotonic()
        token, renewed = self._tokens.get((metadata["uid"], audience), ("", 0.0))
        if token and now < renewed:
            return token
        reference = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec: dict[str, object] = {"expirationSeconds": seconds, "boundObjectRef": reference}
        if audience:
            spec["audiences"] = [audience]
        account = pod["spec"].get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self._ask("POST", path, request)
        if answer is None:
            raise PodError(f"there is no service account {account}")
        token = answer["status"]["token"]
        self._tokens[metadata["uid"], audience] = (token, now + seconds * TOKEN_LIFE)
        return token

    def apply(self, path: str, manifest: Manifest) -> bool:
        """Server-side apply; False where the cluster has no such kind."""
        query = f"fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict"
        return self._ask("PATCH", f"{path}?{query}", manifest, content_type=APPLY) is not None

    def delete(self, path: str) -> None:
        """Delete an object, where it is there."""
        self._ask("DELETE", path)

    def _list(self, path: str, label: str, accept: str = "application/json") -> list[Any]:
        # resourceVersion=0: from the API server's memory.
        answer = self._ask("GET", f"{path}?resourceVersion=0&labelSelector={quote(label)}", accept=accept)
        return (answer and answer["items"]) or []

    def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Any:
        """The answer; None when there is no such thing."""
        content = None if body is None else json.dumps(body)
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            self._connection.request(method, path, content, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request makes a new one
            raise ApiError(f"the API server does not answer: {error!r}") from None
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {path.partition('?')[0]}: {answer.status} {answer.reason}")
        return json.loads(text)


Key = tuple[str, str, str]
"""Namespace, pod and container."""


@dataclass(kw_only=True)
class _Process:
    """The process of a container."""

    runner: Runner
    uid: str
    """Of its pod."""
    child: Child
    followed: object = None
    leaves_at: float | None = None
    """When it is to end, once its pod goes."""


class Kubelet:
    """Keeps the processes as the API server has the pods."""

    def __init__(self, state: State, plane: ControlPlane, api: "Api | None" = None) -> None:
        self.passed = 0.0
        """When it last went through all of them."""
        self._state = state
        self._plane = plane
        self._api = api or Api(plane)
        self._gateways = Gateways(plane, self._api)
        self._processes: dict[Key, _Process] = {}
        self._told: dict[Key | None, str] = {}
        self._written: object = None
        self._laid_out: dict[str, float] = {}
        """When each pod's volumes were looked at, by its uid."""

    def run(self, end: "queue.SimpleQueue[None]") -> None:
        """Go through them again and again, until there is something in `end`; then end all of them."""
        try:
            while True:
                try:
                    self.go_through()
                    self._told.pop(None, None)
                except ApiError as error:  # what runs goes on
                    self._tell(None, str(error))
                self.passed = time.monotonic()
                self._write()
                try:
                    end.get(timeout=POLL_SECONDS)
                    return
                except queue.Empty:
                    pass
        finally:
            self._end_all()

    def go_through(self) -> None:
        """Start, keep up to date and end, once each."""
        wanted = self._wanted()
        for key, process in [*self._processes.items()]:
            if process.child.look():
                self._tell(key, f"{process.child.message}; its log is {process.child.log}")
            if key not in wanted or uid_of(wanted[key][1]) != process.uid:
                self._end(process)
                if process.child.pid is None:
                    del self._processes[key]
        for key, (runner, pod, spec) in wanted.items():
            log_file = self._state.logs / f"{self._plane.cluster}-{runner.name}.log"
            new = _Process(runner=runner, uid=uid_of(pod), child=Child(log_file, runner.ends_with))
            process = self._processes.setdefault(key, new)
            if process.uid != uid_of(pod):
                continue  # its predecessor is still at it
            container = Container(
                plane=self._plane,
                state=self._state,
                pod=pod,
                spec=spec,
                objects=self._api,
                gateways=self._gateways,
            )
            try:
                self._keep(key, process, container)
            except ApiError:
                raise
            except (SandboxError, OSError) as error:
                process.child.message = str(error)
                self._tell(key, str(error))
        self._forget({uid_of(pod) for _, pod, _ in wanted.values()})
        self._keep_gateways()

    def _end(self, process: _Process) -> None:
        """End a process whose pod goes, at once or when it has drained."""
        now = time.monotonic()
        if process.leaves_at is None:
            process.leaves_at = now + process.runner.drain_seconds
        if now >= process.leaves_at:
            process.child.end()

    def _keep_gateways(self) -> None:
        found = [
            gateways.Process(key[0], key[1], process.uid, process.child.pid, process.leaves_at is not None)
            for key, process in self._processes.items()
            if process.runner.container == gateways.CONTAINER
        ]
        try:
            self._gateways.keep(found)
        except ApiError as error:  # istiod, which is asked about every EnvoyFilter, may not be there
            self._tell(("kubelet", "gateways", gateways.FILTER), str(error))

    def _keep(self, key: Key, process: _Process, container: Container) -> None:
        """Bring a container's volumes up to date, and start its process where that is due."""
        child, now = process.child, time.monotonic()
        container.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if now - self._laid_out.get(process.uid, -REFRESH_SECONDS) >= REFRESH_SECONDS:
            pods.lay_out(container.pod, container.folder / "volumes", claims(self._plane, container.pod), self._api)
            self._laid_out[process.uid] = now
        followed = process.runner.follows(self._state)
        if child.pid and followed is not None and followed != process.followed:
            child.end()
        if child.is_due:
            if process.runner.alone and any(
                other.child.pid for other in self._processes.values() if other.runner is process.runner
            ):
                raise PodError("the process of another pod is still at it")
            launch = process.runner.launch(container)
            child.start(launch.words, launch.environment, container.folder)
            process.followed = followed
            self._tell(key, f"runs as process {child.pid}")
        if child.pid:
            child.message = ""

    def _wanted(self) -> dict[Key, tuple[Runner, Pod, Spec]]:
        nodes = self._api.nodes()
        found: dict[Key, tuple[Runner, Pod, Spec]] = {}
        for namespace, label in dict.fromkeys((runner.namespace, runner.label) for runner in RUNNERS):
            here = [pod for pod in self._api.pods(namespace, label) if pods.runs(pod, nodes)]
            found |= chosen(namespace, label, here)
        return found

    def _forget(self, present: set[str]) -> None:
        """Take away the folders of pods that are gone and whose processes have ended."""
        kept = present | {process.uid for process in self._processes.values()}
        for folder in self._plane.pods.glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
                self._laid_out.pop(folder.name, None)

    def _end_all(self) -> None:
        """End everything, and leave no Secret lying about in a file."""
        children = [process.child for process in self._processes.values()]
        while any(child.pid for child in children):
            for child in children:
                child.end()
                child.look()
            time.sleep(0.02)
        shutil.rmtree(self._plane.pods, ignore_errors=True)
        shutil.rmtree(self._plane.sockets, ignore_errors=True)
        self._plane.containers.unlink(missing_ok=True)
        self._gateways.forget()

    def _tell(self, about: Key | None, message: str) -> None:
        """Note something in the log, once for as long as it stays the same."""
        if self._told.get(about) != message:
            self._told[about] = message
            log.info("%s: %s", "/".join(about) if about else "kubelet", message)

    def _write(self) -> None:
        """Note how the processes are, for who wants to know."""
        now = {
            "/".join(key): {"pid": process.child.pid, "starts": process.child.starts, "message": process.child.message}
            for key, process in self._processes.items()
        }
        if now != self._written:
            write_json(self._plane.containers, now)
            self._written = now


def uid_of(pod: Pod) -> str:
    """What tells a pod from its namesakes before and after it."""
    return pod["metadata"]["uid"]


def chosen(namespace: str, label: str, found: Sequence[Pod]) -> dict[Key, tuple[Runner, Pod, Spec]]:
    """Those containers of pods with a label that run here."""
    runners = {r.container: r for r in RUNNERS if (r.namespace, r.label) == (namespace, label)}
    return {
        (namespace, pod["metadata"]["name"], spec["name"]): (runners[spec["name"]], pod, spec)
        for pod in found
        for spec in pod["spec"]["containers"]
        if spec["name"] in runners
    }


def serve_health(plane: ControlPlane, address: str, passed: Callable[[], float]) -> None:
    """Answer whether a program has passed through its work just now, over TLS like the others of the control plane."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            healthy = self.path == "/healthz" and passed() > time.monotonic() - 2 * REQUEST_SECONDS
            self.send_response(HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(plane.keys / "server.crt", plane.keys / "server.key")
    server = ThreadingHTTPServer((host, int(port)), Health)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def asked_for(name: str, arguments: Sequence[str]) -> tuple[State, ControlPlane, str]:
    """What one of the plane's own programs is started with: the state, the plane, and where it tells its health.

    Raises:
        SandboxError: there is no such control plane.
    """
    parser = argparse.ArgumentParser(prog=f"python -m sandbox.{name}")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--listen", required=True, help="host:port of /healthz")
    asked = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    state = State(asked.state_dir)
    plane = ControlPlanes(state).find(asked.cluster)
    if plane is None:
        raise SandboxError(f"starting the {name}: there is no control plane of {asked.cluster}")
    return state, plane, asked.listen


def main(arguments: Sequence[str]) -> None:
    """`python -m sandbox.kubelet`: run until it is asked to end.

    Raises:
        SandboxError: there is no such control plane.
    """
    state, plane, listen = asked_for("kubelet", arguments)
    end: queue.SimpleQueue[None] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.put(None))
    kubelet = Kubelet(state, plane)
    serve_health(plane, listen, lambda: kubelet.passed)
    kubelet.run(end)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SandboxError as failure:
        sys.exit(f"error: {failure}")
