"""The real controller of External Secrets, started as the sandbox starts it, fills Secrets from the emulator."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest

from sandbox import aws_account, emulator, services
from sandbox.aws_account import AwsAccount
from sandbox.errors import SandboxError
from sandbox.external_secrets import command
from sandbox.tools import TOOLS, find
from tests.program.harness import wait_for
from tests.sandbox.workshop import (
    NAMESPACE,
    Objects,
    Workshop,
    base64_of,
    definitions,
    external_secret,
    manifest,
    opened,
    secret_store,
)

ACCOUNT = AwsAccount(id="210987654321", region="us-east-1")
OPERATOR_VALUES = {
    "installCRDs": False,
    "createOperator": True,
    "fullnameOverride": "operator",
    "scopedNamespace": NAMESPACE,
    "scopedRBAC": True,
    "processClusterExternalSecret": False,
    "processClusterPushSecret": False,
    "processClusterStore": False,
    "processPushSecret": False,
}
READY = {"pulumi.com/waitFor": "condition=Ready"}
SHORT = {"pulumi.com/timeoutSeconds": "2"}
LONG_ENOUGH = {"pulumi.com/timeoutSeconds": "10"}
"""For the controller to have looked at what will not be ready."""
IGNORED = {"secret": ["data"]}


class Field:
    """A workshop with the kinds, the emulator, and the controller's process while it is on."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        state, plane = workshop.state_directory, workshop.plane
        with state.locked():
            port = emulator.ensure(state).port
        aws_account.note(plane, ACCOUNT)
        self.aws = boto3.client(
            "secretsmanager",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=ACCOUNT.region,
            aws_access_key_id=ACCOUNT.id,
            aws_secret_access_key="test",  # noqa: S106 - the emulator checks no signatures
        )
        workshop.up(
            "kinds", {"definitions": definitions("kinds"), "operator": definitions("operator", **OPERATOR_VALUES)}
        )
        (container,) = workshop.get("Deployment", "operator", "apps/v1")["spec"]["template"]["spec"]["containers"]
        words, variables = command(plane, find(TOOLS["external-secrets"]), port, container["args"])
        self._words, self._environment = words, {"PATH": os.environ["PATH"], **variables}
        self._log = state.logs / "external-secrets.log"
        self._process: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        """Start the controller."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, env=self._environment, stdout=log, stderr=log)

    def off(self) -> None:
        """End the controller."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def store(self, name: str, **values: Any) -> None:
        """Put a value into Secrets Manager."""
        text = json.dumps(values)
        try:
            self.aws.put_secret_value(SecretId=name, SecretString=text)
        except self.aws.exceptions.ResourceNotFoundException:
            self.aws.create_secret(Name=name, SecretString=text)

    def wait_until_gone(self, name: str) -> None:
        """Wait for an ExternalSecret's deletion, for which Kubernetes needs to have noticed its kind: 30 s at most."""
        api = self.workshop.api
        wait_for(lambda: not api.get("external-secrets.io/v1", "ExternalSecret", name, NAMESPACE), f"the end of {name}")

    def force(self, name: str) -> None:
        """Tell the controller to look now."""
        patch = {"metadata": {"annotations": {"force-sync": str(time.time_ns())}}}
        self.workshop.api.patch("external-secrets.io/v1", "ExternalSecret", name, patch, namespace=NAMESPACE)

    def values(self, name: str) -> dict[str, str]:
        """What a Secret holds."""
        data = self.workshop.get("Secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def ready(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message of an ExternalSecret's condition."""
        status = self.workshop.get("ExternalSecret", name, "external-secrets.io/v1").get("status", {})
        condition = next(c for c in status["conditions"] if c["type"] == "Ready")
        return condition["status"], condition["reason"], condition["message"]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with opened(tmp_path_factory.mktemp("state")) as workshop:
        made = Field(workshop)
        try:
            made.on()
            yield made
        finally:
            made.off()
            state = workshop.state_directory
            with state.locked():
                services.stop(state, emulator.NAME)


def filled(name: str, *keys: str, interval: str = "15s", annotations: Mapping[str, str] = READY) -> Objects:
    """A Secret with a start value for each key, and what fills it."""
    start = {key: base64_of("start") for key in (*keys, "own")}
    return {
        "secret": manifest("Secret", name, data=start, metadata={"labels": {"app": "mine"}}),
        "store": secret_store(READY),
        "external": external_secret(name, *keys, interval=interval, annotations=annotations),
    }


def test_values_reach_an_existing_secret_and_survive_updates_and_the_end_of_it(field: Field) -> None:
    workshop, name = field.workshop, "database"
    field.store(name, username="admin", word="first")
    objects = filled(name, "username", "word", interval="59s")
    workshop.up("filled", objects, ignore=IGNORED)
    assert field.values(name) == {"username": "admin", "word": "first", "own": "start"}
    live = workshop.get("Secret", name)["metadata"]
    assert live["labels"] == {"app": "mine", "reconcile.external-secrets.io/managed": "true"}
    assert set(live["annotations"]) == {"reconcile.external-secrets.io/data-hash"}
    assert "ownerReferences" not in live
    for what in (workshop.preview, workshop.up):
        assert "5 unchanged" in what("filled", objects, ignore=IGNORED)
    field.store(name, username="admin", word="second")
    field.force(name)
    wait_for(lambda: field.values(name)["word"] == "second", "what it was told to fetch, long before it is due", 20)
    # The controller has taken no field of ours, as it would if it spelt the interval otherwise.
    changed = filled(name, "username", "word", interval="30s")
    assert "1 updated" in workshop.up("filled", changed, ignore=IGNORED)
    assert "2 deleted" in workshop.up("filled", {"secret": changed["secret"]}, ignore=IGNORED)
    assert field.values(name) == {"username": "admin", "word": "second", "own": "start"}
    assert workshop.get("Secret", name)["metadata"]["uid"] == live["uid"]
    workshop.destroy("filled")


def test_what_cannot_be_read_is_said_and_leaves_the_secret_as_it_is(field: Field) -> None:
    workshop, name = field.workshop, "broken"
    field.store(name, word="good")
    workshop.up("broken", filled(name, "word"), ignore=IGNORED)
    for text in ('{"word": ', '{"user": "admin"}'):
        field.aws.put_secret_value(SecretId=name, SecretString=text)
        field.force(name)
        wait_for(lambda: field.ready(name)[0] == "False", "the status to say so")
        assert field.ready(name)[1:] == ("SecretSyncedError", "could not get secret data from provider")
        assert field.values(name)["word"] == "good"
        field.store(name, word="good")
        field.force(name)
        wait_for(lambda: field.ready(name)[0] == "True", "the status to be well")
    nothing = external_secret("nothing", "word", annotations={**READY, **LONG_ENOUGH})
    with pytest.raises(SandboxError, match="Ready is False: could not get secret data from provider"):
        workshop.up("nothing", {"external": nothing})
    workshop.api.delete("external-secrets.io/v1", "ExternalSecret", "nothing", NAMESPACE)
    field.wait_until_gone("nothing")
    workshop.destroy("nothing")
    workshop.destroy("broken")


def test_a_deletion_waits_for_the_controller(field: Field) -> None:
    workshop, name = field.workshop, "held"
    field.store(name, word="kept")
    workshop.up("held", filled(name, "word"), ignore=IGNORED)
    assert "1 updated" in workshop.up("held", filled(name, "word", annotations=SHORT), ignore=IGNORED)
    field.off()
    cleanup = "externalsecrets.external-secrets.io/externalsecret-cleanup"
    with pytest.raises(SandboxError, match=f"it is still there, waiting for .*{cleanup}"):
        workshop.destroy("held")
    assert field.values(name)["word"] == "kept"
    field.on()
    field.wait_until_gone(name)
    workshop.destroy("held")
