"""A world for the runbook's commands: a cluster and a Secrets Manager kept in one JSON file.

`kubectl` is a script at the head of PATH. Its proxy is a link to the socket of this process's own API server, which
plays the cluster, External Secrets and secret-restarter included.
"""

import base64
import itertools
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result

from infra.phases import Phase
from runbook import restarter
from runbook.aws import Access, AwsError, Value
from runbook.cli import main
from runbook.kubectl import PLURALS, Kubectl
from runbook.target import Target
from tests.unit import socket_api

OLD = {
    "database": {"username": "admin", "password": "old-database-password"},
    "redis": {"password": "old-redis-password"},
    "api-keys": {
        "jwt_secret": "old-jwt-secret",
        "api_key": "old-api-key",
        "airtable_token": "the-airtable-token",
        "gemini_api_key": "",
    },
}
SECRETS = {"database": "database-credentials", "redis": "redis-credentials", "api-keys": "api-keys"}
CONNECTIONS = {
    "database": {"host": "postgres.pyairtable", "port": "5432", "database": "pyairtable"},
    "redis": {"host": "redis.pyairtable", "port": "6379"},
    "api-keys": {},
}
READERS = {"auth-service": ("database", "redis", "api-keys"), "user-service": ("database",)}

KUBECTL = """\
import json, os, re, signal, sys

WORLD = {world!r}
with open(WORLD + ".calls", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "proxy":
    os.symlink({api!r}, sys.argv[2].partition("=")[2])
    print("Starting to serve", flush=True)
    signal.pause()
with open(WORLD) as file:
    world = json.load(file)


def fail(text, code):
    sys.stderr.write(text + "\\n")
    sys.exit(code)


if failure := world["fail"].get("exec"):
    fail(failure["text"], 1)
rotated = re.search(r"credentials\\.rotate\\('(\\w+)'\\)", sys.argv[-1])
if not rotated:
    print(world["applied"])
elif world["applied"] != rotated[1]:
    fail("ERROR:  the last rotation has not arrived here yet\\ncommand terminated", 3)
elif not world["plays"].get("login", True):
    print("{{}}")
else:
    other = "admin_2" if rotated[1] == "admin" else "admin"
    print(json.dumps({{"username": other, "password": "new-database-password"}}))
"""

VERBS = {"GET": "get", "POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}
KINDS = {path.split()[1]: kind for kind, path in PLURALS.items()}


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """The data of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def path_of(name: str) -> str:
    """A secret's name in Secrets Manager."""
    return f"pyairtable/dev/{name}"


class World:
    """The world, as a test looks at it and changes it; it plays within a `with`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "world.json"
        self.kubectl = folder / "bin" / "kubectl"
        self.kubectl.parent.mkdir()
        self._changing = threading.RLock()
        vault = {path_of(name): json.dumps({**CONNECTIONS[name], **values}) for name, values in OLD.items()}
        self._write(
            {
                "objects": _objects(),
                "vault": vault,
                "versions": 0,
                "deleted": [],
                "applied": "admin",
                "version": 100,
                "fail": {},
                "plays": {},
            }
        )
        with self.changed() as world:
            _note_digests(world["objects"])

    def __enter__(self) -> Self:
        # Not in the test's own folder: a socket's path may not be long.
        self._socket = Path(tempfile.mkdtemp(prefix="world-")) / "api"
        self._server = socket_api.serve(self._socket, self._answer)
        self.kubectl.write_text(
            f"#!{sys.executable} -IS\n" + KUBECTL.format(world=str(self.file), api=str(self._socket))
        )
        self.kubectl.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        shutil.rmtree(self._socket.parent)

    @property
    def now(self) -> dict[str, Any]:
        """Everything, as it is now."""
        return json.loads(self.file.read_text())

    @contextmanager
    def changed(self) -> Generator[dict[str, Any]]:
        """Everything, to be changed."""
        with self._changing:
            world = self.now
            yield world
            self._write(world)

    def fails(self, verb: str, text: str, reason: str = "", *, times: int = 0, after: int = 0) -> None:
        """Let a call of the API, or kubectl's `exec`, fail; for so many times, or for ever, after so many have worked.

        Without a reason it is the proxy that cannot reach the API server.
        """
        with self.changed() as world:
            world["fail"][verb] = {"text": text, "reason": reason, "times": times, "after": after}

    def does_not_play(self, what: str) -> None:
        """Let something of the cluster stand still."""
        with self.changed() as world:
            world["plays"][what] = False

    def stores(self, name: str, text: str) -> None:
        """Put a text into Secrets Manager, past everything."""
        with self.changed() as world:
            world["vault"][path_of(name)] = text

    def stored(self, name: str) -> dict[str, Any]:
        """What Secrets Manager holds."""
        return json.loads(self.now["vault"][path_of(name)])

    def held(self, name: str) -> dict[str, str]:
        """What the cluster's Secret holds."""
        data = self.now["objects"][f"secret/{SECRETS[name]}"]["data"]
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every kubectl so far, and method and path of every call of the API."""
        log = Path(f"{self.file}.calls")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def verbs(self) -> list[str]:
        """What the cluster was asked to do, in order; what was asked at the same time counts once."""
        verbs = [VERBS.get(call[0], call[1]) for call in self.calls if call[0] != "proxy"]
        return [verb for verb, _ in itertools.groupby(verbs)]

    def _write(self, world: object) -> None:
        self.file.write_text(json.dumps(world))

    def _answer(self, method: str, path: str, body: Any) -> socket_api.Answer:
        with self.changed() as world, Path(f"{self.file}.calls").open("a") as log:
            log.write(json.dumps([method, path]) + "\n")
            if failure := _failure(world["fail"], VERBS[method]):
                return failure
            return _Cluster(world).answer(method, path, body)


def _failure(failures: dict[str, Any], verb: str) -> socket_api.Answer | None:
    """What a verb fails with now, if it does."""
    failure = failures.get(verb)
    if failure is None:
        return None
    if failure["after"] > 0:
        failure["after"] -= 1
        return None
    if failure["times"] > 0:
        failure["times"] -= 1
        if not failure["times"]:
            del failures[verb]
    return socket_api.refusal(failure["reason"], failure["text"]) if failure["reason"] else (500, failure["text"])


def _note_digests(objects: dict[str, Any]) -> None:
    """Play secret-restarter: every workload has restarted with what it reads."""
    script = restarter.load()
    for name, workload in objects.items():
        if name.startswith(("deployment/", "statefulset/")) and name != "deployment/secret-restarter":
            read = {s: objects[f"secret/{s}"] for s in script.secrets_of(workload) if f"secret/{s}" in objects}
            workload["metadata"]["annotations"] = {script.NOTE: script.digest(read)}


class _Cluster:
    """The API server, and the controllers that see a change at once."""

    def __init__(self, world: dict[str, Any]) -> None:
        self._world = world
        self._objects: dict[str, Any] = world["objects"]

    def answer(self, method: str, path: str, body: Any) -> socket_api.Answer:
        place, _, _ = path.partition("?")
        _, _, rest = place.partition("/namespaces/pyairtable/")
        plural, _, own = rest.partition("/")
        kind = KINDS[plural]
        name = f"{kind}/{own or (body or {}).get('metadata', {}).get('name', '')}"
        if not own and method == "GET":
            return 200, self._list(kind)
        if method == "POST" and name in self._objects:
            return socket_api.refusal("AlreadyExists", f"{name} already exists")
        if method != "POST" and name not in self._objects:
            return socket_api.refusal("NotFound", f"{name} not found")
        held = self._objects.get(name, {})
        if method in ("PUT", "DELETE"):
            wanted = body["metadata"] if method == "PUT" else body["preconditions"]
            if wanted["resourceVersion"] != held["metadata"]["resourceVersion"]:
                return socket_api.refusal("Conflict", f"{name} has been modified")
        if method == "DELETE":
            return 200, self._objects.pop(name)
        if method in ("POST", "PUT"):
            self._world["version"] += 1
            body["metadata"]["resourceVersion"] = str(self._world["version"])
            self._objects[name] = body
        if method == "PATCH":
            socket_api.merge(held, body)
            self._look_again(held)
        return 200, self._objects[name]

    def _list(self, kind: str) -> Any:
        """As the API lists a kind: only the list says which."""
        items = [item for name, item in self._objects.items() if name.startswith(f"{kind}/")]
        own = items[0]["kind"] if items else kind
        return {
            "apiVersion": "v1",
            "kind": f"{own}List",
            "metadata": {},
            "items": [{key: value for key, value in item.items() if key != "kind"} for item in items],
        }

    def _look_again(self, binding: dict[str, Any]) -> None:
        """Play External Secrets, whose annotation has changed, and what follows from it."""
        plays: dict[str, bool] = self._world["plays"]
        if plays.get("sync", True):
            secret = self._objects["secret/" + binding["spec"]["target"]["name"]]
            for entry in binding["spec"]["data"]:
                stored = json.loads(self._world["vault"][entry["remoteRef"]["key"]])
                secret["data"] |= encoded({entry["secretKey"]: stored[entry["remoteRef"]["property"]]})
            binding["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "SecretSynced"}]
            if plays.get("sidecar", True) and secret["metadata"]["name"] == "database-credentials":
                self._world["applied"] = base64.b64decode(secret["data"]["username"]).decode()
        if plays.get("restart", True):
            _note_digests(self._objects)


class Vault:
    """Plays Secrets Manager."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.fails: dict[str, str] = {}
        self.puts = 0

    def read(self, name: str) -> Value:
        self._refuse("read", name)
        world = self._world.now
        if name in world["deleted"]:
            raise AwsError(f"reading {name} from Secrets Manager: marked for deletion", "InvalidRequestException")
        if name not in world["vault"]:
            raise AwsError(f"reading {name} from Secrets Manager: there is none", "ResourceNotFoundException")
        return Value(text=world["vault"][name], version=f"version-{world['versions']}")

    def put(self, name: str, text: str) -> str:
        self._refuse("put", name)
        with self._world.changed() as world:
            world["vault"][name] = text
            world["versions"] += 1
            return f"version-{world['versions']}"

    def restore(self, name: str) -> None:
        self._refuse("restore", name)
        with self._world.changed() as world:
            world["deleted"].remove(name)

    def _refuse(self, what: str, name: str) -> None:
        if what in self.fails:
            raise AwsError(f"asking Secrets Manager for {name}: {self.fails[what]}", self.fails[what])


class Operator:
    """Runs the command line against the world."""

    def __init__(self, world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.vault = world, vault
        self.credentials: Exception | None = None
        monkeypatch.setenv("PATH", str(world.kubectl.parent))
        monkeypatch.setattr("runbook.cli.opened", self._opened)
        for module in ("rotate", "restore"):
            monkeypatch.setattr(f"runbook.{module}.connected", self._connected)

    def run(self, *arguments: str, expect: int = 0) -> Result:
        """The result of a command, which must end with an exit code, and give no secret away."""
        done = CliRunner().invoke(main, [*arguments, "--stack", "dev", "--sandbox"])
        assert done.exit_code == expect, done.output
        self.assert_no_secret_in(done.output, json.dumps(self.world.calls))
        return done

    def assert_no_secret_in(self, *texts: str) -> None:
        world = self.world.now
        values = {value for name in OLD for value in (*OLD[name].values(), *self.world.held(name).values())}
        for text in world["vault"].values():
            try:
                found = json.loads(text)
                values |= {str(value) for key, value in found.items() if key not in ("host", "port", "database")}
            except (ValueError, AttributeError):
                values.add(text)
        for value in values - {"", "admin", "admin_2"}:
            assert not any(value in text for text in texts)

    @contextmanager
    def _opened(self, stack: str, *, sandbox: bool, state_dir: Path | None, least: Phase) -> Generator[Target]:
        with Kubectl(Path("/nonexistent"), "pyairtable") as kubectl:
            yield Target(
                stack=stack,
                state_folder=self.world.file.parent / "state" if sandbox else None,
                kubectl=kubectl,
                access=Access(account_id="123456789012", region="us-east-1", endpoint="http://127.0.0.1:1"),
            )

    def _connected(self, access: Access) -> Vault:
        if self.credentials:
            raise self.credentials
        return self.vault


def _objects() -> dict[str, Any]:
    return {
        "configmap/connections": {
            "kind": "ConfigMap",
            "metadata": {"name": "connections"},
            "data": {
                "DB_HOST": "postgres.pyairtable",
                "DB_PORT": "5432",
                "DB_NAME": "pyairtable",
                "REDIS_HOST": "redis.pyairtable",
                "REDIS_PORT": "6379",
            },
        },
        **{
            f"secret/{SECRETS[name]}": {
                "kind": "Secret",
                "metadata": {"name": SECRETS[name], "uid": f"uid-of-{name}"},
                "data": encoded(values),
            }
            for name, values in OLD.items()
        },
        **{
            f"externalsecret/{name}-secret": {
                "kind": "ExternalSecret",
                "metadata": {"name": f"{name}-secret", "uid": f"uid-of-{name}-secret"},
                "spec": {
                    "target": {"name": SECRETS[name]},
                    "data": [
                        {"secretKey": key, "remoteRef": {"key": path_of(name), "property": key}} for key in values
                    ],
                },
                "status": {
                    "refreshTime": "2026-08-01T10:00:00Z",
                    "conditions": [
                        {"type": "Ready", "status": "True", "reason": "SecretSynced", "message": "secret synced"}
                    ],
                },
            }
            for name, values in OLD.items()
        },
        "deployment/secret-restarter": deployment("secret-restarter", ()),
        **{f"deployment/{name}": deployment(name, read) for name, read in READERS.items()},
    }


def deployment(
    name: str, read: tuple[str, ...], optional: tuple[str, ...] = ("airtable_token", "gemini_api_key")
) -> Any:
    """A Deployment whose environment comes from all keys of these secrets."""
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": name,
                            "env": [
                                {"name": "PORT", "value": "8080"},
                                *(
                                    {
                                        "name": key.upper(),
                                        "valueFrom": {
                                            "secretKeyRef": {
                                                "name": SECRETS[secret],
                                                "key": key,
                                                **({"optional": True} if key in optional else {}),
                                            }
                                        },
                                    }
                                    for secret in read
                                    for key in OLD[secret]
                                ),
                            ],
                        }
                    ]
                }
            },
        },
        "status": {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
        },
    }
