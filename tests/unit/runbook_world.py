"""A world for the runbook's commands: a cluster and a Secrets Manager kept in one JSON file.

`kubectl` is a script at the head of PATH that plays the cluster, External Secrets and secret-restarter included.
"""

import base64
import json
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.phases import Phase
from runbook import restarter
from runbook.aws import Access, AwsError, Value
from runbook.cli import main
from runbook.kubectl import Kubectl
from runbook.target import Target

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
import base64, fcntl, importlib.machinery, json, os, re, sys, types

WORLD = {world!r}
arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--namespace")]
verb, rest = arguments[0], arguments[1:]
log = open(WORLD + ".calls", "a")
fcntl.flock(log, fcntl.LOCK_EX)  # until this ends: two may run at a time
log.write(json.dumps(sys.argv[1:]) + "\\n")
log.flush()
with open(WORLD) as file:
    world = json.load(file)
objects = world["objects"]


def fail(text, code=1):
    sys.stderr.write(text + "\\n")
    sys.exit(code)


def save():
    with open(WORLD + ".partial", "w") as file:
        json.dump(world, file)
    os.replace(WORLD + ".partial", WORLD)


def stored(manifest):
    world["version"] += 1
    manifest["metadata"]["resourceVersion"] = str(world["version"])
    objects[manifest["kind"].lower() + "/" + manifest["metadata"]["name"]] = manifest
    save()
    print(json.dumps(manifest))


def played(name):
    return world["plays"].get(name, True)


failure = world["fail"].get(verb)
if failure and failure["after"] > 0:
    failure["after"] -= 1
    save()
elif failure:
    if failure["times"] > 0:
        failure["times"] -= 1
        if not failure["times"]:
            del world["fail"][verb]
        save()
    fail(failure["stderr"], failure["code"])

if verb == "get":
    wanted = [argument for argument in rest if not argument.startswith("--")]
    if "/" in wanted[0]:
        items = [objects[name] for name in wanted if name in objects]
    else:
        kinds = [kind.partition(".")[0].rstrip("s") for kind in wanted[0].split(",")]
        items = [item for name, item in objects.items() if name.partition("/")[0] in kinds]
    if "/" in wanted[0] and len(wanted) == 1:
        print(json.dumps(items[0]) if items else "")
    else:
        print(json.dumps({{"kind": "List", "items": items}}))
elif verb in ("create", "replace"):
    manifest = json.load(sys.stdin)
    name = manifest["kind"].lower() + "/" + manifest["metadata"]["name"]
    if verb == "create" and name in objects:
        fail('Error from server (AlreadyExists): error when creating "STDIN": leases "x" already exists')
    if verb == "replace" and objects[name]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
        fail('Error from server (Conflict): error when replacing "STDIN": the object has been modified')
    stored(manifest)
elif verb == "delete":
    options = json.load(sys.stdin)
    name = "lease/" + rest[1].rpartition("/")[2]
    if objects[name]["metadata"]["resourceVersion"] != options["preconditions"]["resourceVersion"]:
        fail("Error from server (Conflict): Operation cannot be fulfilled")
    del objects[name]
    save()
elif verb == "annotate":
    binding = objects[rest[0]]
    if played("sync"):
        secret = objects["secret/" + binding["spec"]["target"]["name"]]
        for entry in binding["spec"]["data"]:
            value = json.loads(world["vault"][entry["remoteRef"]["key"]])[entry["remoteRef"]["property"]]
            secret["data"][entry["secretKey"]] = base64.b64encode(value.encode()).decode()
        binding["status"]["conditions"] = [{{"type": "Ready", "status": "True", "reason": "SecretSynced"}}]
        if played("sidecar") and secret["metadata"]["name"] == "database-credentials":
            world["applied"] = base64.b64decode(secret["data"]["username"]).decode()
    if played("restart"):
        script = types.ModuleType("restarter")
        importlib.machinery.SourceFileLoader("restarter", world["script"]).exec_module(script)
        for name, workload in objects.items():
            if name.startswith(("deployment/", "statefulset/")):
                read = {{s: objects["secret/" + s] for s in script.secrets_of(workload) if "secret/" + s in objects}}
                workload["metadata"]["annotations"] = {{script.NOTE: script.digest(read)}}
    save()
elif verb == "exec":
    rotated = re.search(r"credentials\\.rotate\\('(\\w+)'\\)", rest[-1])
    if not rotated:
        print(world["applied"])
    elif world["applied"] != rotated[1]:
        fail("ERROR:  the last rotation has not arrived here yet\\ncommand terminated", 3)
    elif not played("login"):
        print("{{}}")
    else:
        other = "admin_2" if rotated[1] == "admin" else "admin"
        print(json.dumps({{"username": other, "password": "new-database-password"}}))
"""


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """The data of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def path_of(name: str) -> str:
    """A secret's name in Secrets Manager."""
    return f"pyairtable/dev/{name}"


class World:
    """The world, as a test looks at it and changes it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "world.json"
        self.kubectl = folder / "bin" / "kubectl"
        self.kubectl.parent.mkdir()
        self.kubectl.write_text(f"#!{sys.executable} -IS\n" + KUBECTL.format(world=str(self.file)))
        self.kubectl.chmod(0o755)
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
                "script": str(restarter.SCRIPT),
            }
        )
        with self.changed() as world:
            script = restarter.load()
            objects = world["objects"]
            for name in READERS:
                read = {
                    secret: objects[f"secret/{secret}"] for secret in script.secrets_of(objects[f"deployment/{name}"])
                }
                objects[f"deployment/{name}"]["metadata"]["annotations"] = {script.NOTE: script.digest(read)}

    @property
    def now(self) -> dict[str, Any]:
        """Everything, as it is now."""
        return json.loads(self.file.read_text())

    @contextmanager
    def changed(self) -> Generator[dict[str, Any]]:
        """Everything, to be changed."""
        world = self.now
        yield world
        self._write(world)

    def fails(self, verb: str, stderr: str, *, code: int = 1, times: int = 0, after: int = 0) -> None:
        """Let a verb of kubectl's fail; for so many times, or for ever, after it has worked so many times."""
        with self.changed() as world:
            world["fail"][verb] = {"stderr": stderr, "code": code, "times": times, "after": after}

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
        """The arguments of every kubectl so far."""
        log = Path(f"{self.file}.calls")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def verbs(self) -> list[str]:
        """What kubectl was asked to do, in order."""
        return [next(word for word in call if not word.startswith("--")) for call in self.calls]

    def _write(self, world: object) -> None:
        self.file.write_text(json.dumps(world))


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
        yield Target(
            stack=stack,
            in_sandbox=sandbox,
            kubectl=Kubectl(Path("/nonexistent"), "pyairtable"),
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
