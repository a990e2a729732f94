"""The AWS stand-in's types of Secrets Manager: a value is never in plain text, another one is another version."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest
from botocore.exceptions import ClientError
from pulumi.runtime.rpc import UNKNOWN

from sandbox.errors import SandboxError
from sandbox.providers.errors import ProviderError
from sandbox.providers.provider import Call, Connection, Resource
from tests.program.cloud import Cloud, only_unchanged, raw
from tests.secrecy import places

FIRST, SECOND, BY_HAND = "first-value-of-the-secret", "second-value-of-the-secret", "value-that-somebody-put-there"
ROLE = "arn:aws:iam::123456789012:role/reader"

A_SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 — a type
A_VERSION = "aws:secretsmanager/secretVersion:SecretVersion"
A_POLICY = "aws:secretsmanager/secretPolicy:SecretPolicy"

Program = Callable[[aws.Provider], object]


def policy(principal: object = ROLE, **more: object) -> str:
    """A resource policy of one statement."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**statement, **more}]})


def program(
    name: str,
    value: str = FIRST,
    *,
    description: str = "of the tests",
    days: int = 0,
    stages: list[str] | None = None,
    ignored: list[str] | None = None,
) -> Program:
    """A secret with its value and its policy."""

    def run(provider: aws.Provider) -> None:
        opts = pulumi.ResourceOptions(provider=provider)
        key = aws.kms.Key("key", description=name, deletion_window_in_days=7, opts=opts)
        aws.kms.Alias("alias", name=f"alias/{name}", target_key_id=key.key_id, opts=opts)
        secret = aws.secretsmanager.Secret(
            "secret",
            name=name,
            description=description,
            recovery_window_in_days=days,
            kms_key_id=key.arn,
            tags={"Phase": "3"},
            opts=opts,
        )
        aws.secretsmanager.SecretVersion(
            "version",
            secret_id=secret.id,
            secret_string=pulumi.Output.secret(value),
            version_stages=stages,
            opts=pulumi.ResourceOptions(provider=provider, ignore_changes=ignored),
        )
        aws.secretsmanager.SecretPolicy(
            "policy", secret_arn=secret.arn, policy=policy(), block_public_policy=True, opts=opts
        )

    return run


def resource(cloud: Cloud, type: str) -> Resource:
    """What the engine talks to, without the engine."""
    return _connection(cloud)(Call(urn=f"urn:pulumi:alone::pyairtable::{type}::x"))


@cache
def _connection(cloud: Cloud) -> Connection:
    return cloud.provider("alone").connect({"region": "us-east-1"})


def secret(cloud: Cloud, name: str, **more: Any) -> str:
    """A secret; its ARN."""
    return resource(cloud, A_SECRET).create({"name": name, **more})[0]


def current(cloud: Cloud, name: str, **which: str) -> dict[str, Any]:
    """What Secrets Manager holds."""
    return cloud.client("secretsmanager").get_secret_value(SecretId=name, **which)


def put(cloud: Cloud, name: str, value: str) -> str:
    """Give a secret another value by hand, as a rotation does; the new version."""
    return cloud.client("secretsmanager").put_secret_value(SecretId=name, SecretString=value)["VersionId"]


def test_a_secret_lives_and_its_value_is_in_plain_text_nowhere(cloud: Cloud) -> None:
    client = cloud.client("secretsmanager")
    printed = cloud.up("life", program("life"))
    found = client.describe_secret(SecretId="life")
    assert (found["ARN"], found["KmsKeyId"]) == (
        cloud.resource("life", "secret")["id"],
        cloud.resource("life", "key")["outputs"]["arn"],
    )
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"Phase": "3", "Stack": "life"}
    first = current(cloud, "life")
    assert (first["SecretString"], first["VersionStages"]) == (FIRST, ["AWSCURRENT"])
    assert cloud.resource("life", "version")["id"] == f"{found['ARN']}|{first['VersionId']}"
    assert json.loads(client.get_resource_policy(SecretId="life")["ResourcePolicy"]) == json.loads(policy())
    assert only_unchanged(cloud.up("life", program("life")))

    client.update_secret(SecretId="life", Description="theirs")
    client.delete_resource_policy(SecretId="life")
    assert "2 updated" in cloud.refresh("life", program("life"))
    printed += cloud.up("life", program("life", value=SECOND, description="another"))
    assert "2 updated" in printed
    assert "1 replaced" in printed
    assert client.describe_secret(SecretId="life")["Description"] == "another"
    assert ROLE in client.get_resource_policy(SecretId="life")["ResourcePolicy"]
    assert current(cloud, "life")["SecretString"] == SECOND
    assert current(cloud, "life", VersionStage="AWSPREVIOUS")["VersionId"] == first["VersionId"]

    put(cloud, "life", BY_HAND)
    printed += cloud.refresh("life", program("life", value=SECOND, description="another"))
    assert cloud.resource("life", "version")["outputs"]["versionStages"] == ["AWSPREVIOUS"]
    printed += cloud.up("life", program("life-2", value=SECOND))
    assert "4 replaced" in printed, "the alias, too, has the name"
    names = [found["Name"] for found in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]]
    assert [name for name in names if name.startswith("life")] == ["life-2"]

    printed += cloud.destroy("life", program("life-2"))
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.describe_secret(SecretId="life-2")
    assert places({"one": FIRST, "two": SECOND, "by hand": BY_HAND}, [cloud.state.folder], {"output": printed}) == []


def test_a_label_of_its_own_keeps_a_version_whatever_comes_after_it(cloud: Cloud) -> None:
    mine = program("kept", stages=["AWSCURRENT", "start"], ignored=["secretString", "versionStages"])
    cloud.up("kept", mine)
    assert sorted(current(cloud, "kept")["VersionStages"]) == ["AWSCURRENT", "start"]
    for _ in range(3):
        put(cloud, "kept", BY_HAND)
    cloud.refresh("kept", mine)
    assert only_unchanged(cloud.up("kept", mine))
    assert current(cloud, "kept")["SecretString"] == BY_HAND
    assert current(cloud, "kept", VersionStage="start")["SecretString"] == FIRST


def test_a_version_that_lost_its_labels_counts_as_gone(cloud: Cloud) -> None:
    """AWS takes it away some time later, the emulator at once; the official provider would make it again."""
    arn = secret(cloud, "outdated")
    inputs = {"secretId": arn, "secretString": FIRST}
    id, state = resource(cloud, A_VERSION).create(inputs)
    put(cloud, arn, BY_HAND)
    assert resource(cloud, A_VERSION).read(id, inputs, state)
    put(cloud, arn, BY_HAND)
    assert resource(cloud, A_VERSION).read(id, inputs, state) is None
    resource(cloud, A_VERSION).delete(id, inputs, state)


def test_a_secret_that_is_gone_takes_its_version_and_policy_along(cloud: Cloud) -> None:
    client = cloud.client("secretsmanager")
    for how in ({"ForceDeleteWithoutRecovery": True}, {}):
        arn = secret(cloud, "gone")
        given = {
            A_SECRET: {"name": "gone-too"},
            A_VERSION: {"secretId": arn, "secretString": FIRST},
            A_POLICY: {"secretArn": arn, "policy": policy()},
        }
        made = {type: resource(cloud, type).create(inputs) for type, inputs in given.items()}
        client.delete_secret(SecretId=made[A_SECRET][0], **how)
        client.delete_secret(SecretId=arn, **how)
        for type, (id, state) in made.items():
            assert resource(cloud, type).read(id, given[type], state) is None
            resource(cloud, type).delete(id, given[type], state)
        for name in ("gone", "gone-too"):
            client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True) if not how else None


@pytest.mark.parametrize("days", [7, None])
def test_a_deleted_secret_keeps_its_name_until_its_window_ends(cloud: Cloud, days: int | None) -> None:
    name = f"window-{days}"
    inputs: dict[str, Any] = {"name": name} | ({"recoveryWindowInDays": days} if days else {})
    id, state = resource(cloud, A_SECRET).create(inputs)
    assert state["recoveryWindowInDays"] == (days or 30)
    put(cloud, id, FIRST)
    resource(cloud, A_SECRET).delete(id, inputs, state)
    client = cloud.client("secretsmanager")
    found = client.describe_secret(SecretId=name)
    assert (found["DeletedDate"] - found["CreatedDate"]).days == (days or 30)
    with pytest.raises(ProviderError, match="a secret with this name is already scheduled for deletion") as error:
        resource(cloud, A_SECRET).create(inputs)
    assert f"aws secretsmanager restore-secret --secret-id {name}" in str(error.value)
    client.restore_secret(SecretId=name)
    assert resource(cloud, A_SECRET).read(id, inputs, state)
    assert current(cloud, name)["SecretString"] == FIRST, "nothing of it was lost"
    with pytest.raises(ClientError, match="ResourceExistsException"):  # it may be a stranger's
        resource(cloud, A_SECRET).create(inputs)


def test_a_window_of_no_days_frees_the_name_at_once(cloud: Cloud) -> None:
    inputs = {"name": "at once", "recoveryWindowInDays": 0} | {"name": "at-once"}
    for _ in range(2):
        id, state = resource(cloud, A_SECRET).create(inputs)
        resource(cloud, A_SECRET).delete(id, inputs, state)


def test_another_window_is_no_more_than_a_note_until_the_deletion(cloud: Cloud) -> None:
    before = {"name": "noted", "recoveryWindowInDays": 0}
    after = {**before, "recoveryWindowInDays": 7}
    id, state = resource(cloud, A_SECRET).create(before)
    assert not resource(cloud, A_SECRET).compare(before, after, state).replacing
    updated = resource(cloud, A_SECRET).update(id, before, after, state)
    resource(cloud, A_SECRET).delete(id, after, updated)
    found = cloud.client("secretsmanager").describe_secret(SecretId="noted")
    assert (found["DeletedDate"] - found["CreatedDate"]).days == 7


def test_labels_move_in_place(cloud: Cloud) -> None:
    arn = secret(cloud, "labels")
    one, two = ({"secretId": arn, "secretString": FIRST, "versionStages": ["AWSCURRENT", x]} for x in ("one", "two"))
    id, state = resource(cloud, A_VERSION).create(one)
    state = resource(cloud, A_VERSION).update(id, one, two, state)
    assert sorted(state["versionStages"]) == ["AWSCURRENT", "two"]
    put(cloud, arn, BY_HAND)
    found = resource(cloud, A_VERSION).read(id, two, state)
    assert found
    assert sorted(found[1]["versionStages"]) == ["AWSPREVIOUS", "two"]
    state = resource(cloud, A_VERSION).update(id, found[0], two, found[1])
    assert sorted(state["versionStages"]) == ["AWSCURRENT", "two"]
    assert current(cloud, arn, VersionStage="AWSPREVIOUS")["SecretString"] == BY_HAND


def test_a_label_moves_to_a_new_version_and_goes_with_it(cloud: Cloud) -> None:
    arn = secret(cloud, "moved")
    for value in (FIRST, SECOND):
        inputs = {"secretId": arn, "secretString": value, "versionStages": ["mine"]}
        id, state = resource(cloud, A_VERSION).create(inputs)
        assert current(cloud, arn, VersionStage="mine")["SecretString"] == value
    resource(cloud, A_VERSION).delete(id, inputs, state)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        current(cloud, arn, VersionStage="mine")


def test_the_current_label_stays_where_it_is(cloud: Cloud) -> None:
    arn = secret(cloud, "current")
    inputs = {"secretId": arn, "secretString": FIRST}
    id, state = resource(cloud, A_VERSION).create(inputs)
    resource(cloud, A_VERSION).delete(id, inputs, state)
    assert current(cloud, arn)["SecretString"] == FIRST


@pytest.mark.parametrize(
    ("type", "inputs", "changed", "replaces"),
    [
        (A_SECRET, {"name": "x"}, {"name": "y"}, True),
        (A_SECRET, {"name": "x"}, {"name": "x", "description": "y"}, False),
        (A_VERSION, {"secretId": "x", "secretString": "1"}, {"secretId": "x", "secretString": "2"}, True),
        (A_VERSION, {"secretId": "x"}, {"secretId": "x", "versionStages": ["AWSCURRENT"]}, False),
        (A_POLICY, {"secretArn": "x"}, {"secretArn": "y"}, True),
        (A_POLICY, {"policy": "x"}, {"policy": "y"}, False),
    ],
)
def test_what_aws_cannot_change_in_place_replaces(
    cloud: Cloud, type: str, inputs: dict[str, Any], changed: dict[str, Any], replaces: bool
) -> None:
    comparison = resource(cloud, type).compare(inputs, changed, {})
    assert bool(comparison.replacing) is replaces
    assert not (replaces and comparison.delete_first)


def test_what_aws_computes_is_unknown_in_a_preview(cloud: Cloud) -> None:
    def unknown(type: str, inputs: dict[str, Any]) -> set[str]:
        return {
            key for key, value in resource(cloud, type).plan(inputs).items() if value == UNKNOWN and key not in inputs
        }

    assert unknown(A_SECRET, {"name": "x"}) == {"arn"}
    assert unknown(A_VERSION, {"secretId": UNKNOWN, "secretString": UNKNOWN}) == {"arn", "versionId", "versionStages"}
    labelled = {"secretId": UNKNOWN, "secretString": "x", "versionStages": ["AWSCURRENT"]}
    assert unknown(A_VERSION, labelled) == {"arn", "versionId"}
    assert unknown(A_POLICY, {"secretArn": UNKNOWN, "policy": UNKNOWN}) == set()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a window that AWS does not have": (
        A_SECRET,
        {"name": "x", "recoveryWindowInDays": 3},
        "recoveryWindowInDays must be 0, or from 7 to 30, not 3",
    ),
    "a name that is none": (A_SECRET, {"name": "a b"}, "'a b' is no name of a secret"),
    "a name that is too long": (A_SECRET, {"name": "a" * 513}, "513 long is more than 512"),
    "a version without a value": (A_VERSION, {"secretId": "x"}, "You must provide either SecretString or SecretBinary"),
    "an empty value": (A_VERSION, {"secretId": "x", "secretString": ""}, "SecretString: 0 long is less than 1"),
    "a policy that is no JSON": (A_POLICY, {"secretArn": "x", "policy": "{"}, "MalformedPolicyDocumentException"),
    "a policy that is a list": (A_POLICY, {"secretArn": "x", "policy": "[]"}, "MalformedPolicyDocumentException"),
    "a policy for everybody": (
        A_POLICY,
        {"secretArn": "x", "policy": policy("*"), "blockPublicPolicy": True},
        "PublicPolicyException",
    ),
    "a policy for everybody of AWS": (
        A_POLICY,
        {"secretArn": "x", "policy": policy({"AWS": "*"}), "blockPublicPolicy": True},
        "PublicPolicyException",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_preview_refuses(cloud: Cloud, case: str) -> None:
    type, inputs, message = REFUSED[case]
    with pytest.raises(ProviderError, match=message):
        resource(cloud, type).plan(inputs)


@pytest.mark.parametrize(
    "given",
    [
        {"policy": policy("*"), "blockPublicPolicy": False},
        {"policy": policy("*", Effect="Deny"), "blockPublicPolicy": True},
        {
            "policy": policy("*", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
            "blockPublicPolicy": True,
        },
        {"policy": policy(UNKNOWN), "blockPublicPolicy": True},
    ],
    ids=["not blocked", "denied", "on a condition", "not known yet"],
)
def test_a_policy_that_gives_nobody_too_much_passes(cloud: Cloud, given: dict[str, Any]) -> None:
    resource(cloud, A_POLICY).plan({"secretArn": UNKNOWN, **given})


@pytest.mark.parametrize("key", ["policy", "replicas", "namePrefix", "forceOverwriteReplicaSecret"])
def test_properties_that_the_stand_in_would_drop_are_refused(cloud: Cloud, key: str) -> None:
    problems = resource(cloud, A_SECRET).problems({"name": "x", key: []})
    assert (key, f"the sandbox's stand-in for {A_SECRET} does not do {key}") in problems


def test_a_value_of_the_wrong_type_is_not_shown(cloud: Cloud) -> None:
    with pytest.raises(SandboxError):
        cloud.preview("wrong", raw(A_VERSION, {"secretId": "x", "secretString": 123454321}))
    printed = "\n".join(cloud.lines)
    assert "secretString is secret, and of the wrong type" in printed
    assert "123454321" not in printed


def test_an_import_brings_the_value_back_as_a_secret(cloud: Cloud) -> None:
    arn = secret(cloud, "imported", description="theirs")
    version = put(cloud, arn, FIRST)
    found = resource(cloud, A_VERSION).read(f"{arn}|{version}", {}, {})
    assert found
    assert found[0] == {"secretId": arn, "secretString": FIRST}
    assert resource(cloud, A_VERSION).secrets == {"secretString"}
    found = resource(cloud, A_SECRET).read(arn, {}, {})
    assert found
    assert found[0] == {"name": "imported", "description": "theirs"}


def test_what_was_made_before_a_crash_is_found_again(cloud: Cloud) -> None:
    cloud.up("crash", program("crash"))
    before = {name: cloud.resource("crash", name)["id"] for name in ("secret", "version", "policy")}
    file, content = _state(cloud, "crash")
    latest = content["checkpoint"]["latest"]
    lost = [resource for resource in latest["resources"] if resource["urn"].rpartition("::")[2] in before]
    latest["resources"] = [resource for resource in latest["resources"] if resource not in lost]
    latest["pending_operations"] = [
        {"type": "creating", "resource": {k: v for k, v in resource.items() if k not in ("id", "outputs")}}
        for resource in lost
    ]
    file.write_text(json.dumps(content))
    cloud.recover("crash", program("crash"))
    for name, id in before.items():
        assert f"importing {name}: it was made, and the update died before noting it" in cloud.lines
        assert cloud.resource("crash", name)["id"] == id
    assert only_unchanged(cloud.up("crash", program("crash")))
    assert places({"value": FIRST}, folders=[cloud.state.folder]) == []


def test_a_crash_while_a_value_replaced_another_is_ended_by_the_next_up(cloud: Cloud) -> None:
    cloud.up("halfway", program("halfway"))
    file, content = _state(cloud, "halfway")
    latest = content["checkpoint"]["latest"]
    (old,) = (resource for resource in latest["resources"] if resource["urn"].endswith("::version"))
    new = {key: value for key, value in old.items() if key not in ("id", "outputs")}
    mark = {key: value for key, value in old["inputs"]["secretString"].items() if key != "ciphertext"}
    new["inputs"] = {**old["inputs"], "secretString": {**mark, "plaintext": f'"{SECOND}"'}}
    latest["pending_operations"] = [{"type": "creating", "resource": new}]
    file.write_text(json.dumps(content))
    version = put(cloud, "halfway", SECOND)
    cloud.recover("halfway", program("halfway", value=SECOND))
    assert "delete original" in cloud.up("halfway", program("halfway", value=SECOND))
    assert current(cloud, "halfway")["VersionId"] == version
    (id,) = (resource["id"] for resource in cloud.resources("halfway") if resource["urn"].endswith("::version"))
    assert id.endswith(version)


def _state(cloud: Cloud, stack: str) -> tuple[Any, dict[str, Any]]:
    """The file with a stack's state, and what is in it."""
    file = cloud.state.backend / f".pulumi/stacks/pyairtable/{stack}.json"
    return file, json.loads(file.read_text())
