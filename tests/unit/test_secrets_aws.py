"""The secrets of phase 3 in AWS Secrets Manager: what is in them to begin with, and who keeps them."""

import base64
import json
import re
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, LIVE, Graph, Node, fullest, platform

SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 - types
VERSION = "aws:secretsmanager/secretVersion:SecretVersion"
POLICY = "aws:secretsmanager/secretPolicy:SecretPolicy"
KEY = "aws:kms/key:Key"
ALIAS = "aws:kms/alias:Alias"
PASSWORD = "random:index/randomPassword:RandomPassword"  # noqa: S105

NAMES = {"database": "database-credentials", "redis": "redis-credentials", "api-keys": "api-keys"}
"""The last part of a secret's name, and the Secret of the cluster that it fills."""

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
of_each_secret = pytest.mark.parametrize("name", NAMES)


def secret(graph: Graph, name: str) -> Node:
    (found,) = (node for node in graph.of_type(SECRET) if node.inputs["name"].rpartition("/")[2] == name)
    return found


def belonging(graph: Graph, type_: str, key: str, name: str) -> Node:
    """The one resource of a type that refers to a secret, which it comes after."""
    of = secret(graph, name)
    (found,) = (
        node for node in graph.of_type(type_) if node.inputs[key] in (f"{of.inputs['name']}-id", of.outputs["arn"])
    )
    assert of.urn in graph.before(found)
    return found


def version(graph: Graph, name: str) -> Node:
    return belonging(graph, VERSION, "secretId", name)


def content(graph: Graph, name: str) -> dict[str, Any]:
    """What a secret starts from."""
    return version(graph, name).json("secretString")


def live(secret: str) -> dict[str, str]:
    """What the cluster's Secret holds."""
    return {key: base64.b64decode(value).decode() for key, value in LIVE[secret].items()}


class TestSecret:
    @in_every_environment
    def test_there_are_three_under_the_stacks_own_path(self, stack: str) -> None:
        assert {node.inputs["name"] for node in platform(stack).of_type(SECRET)} == {
            f"pyairtable/{stack}/{name}" for name in NAMES
        }

    def test_a_personal_stack_has_its_own_path(self) -> None:
        names = {node.inputs["name"] for node in fullest("dev").of_type(SECRET)}
        assert names == {f"pyairtable/alice-dev/{name}" for name in NAMES}

    @in_every_environment
    def test_each_says_what_it_is_for_and_whose_it_is(self, stack: str) -> None:
        assert {
            node.inputs["name"].rpartition("/")[2]: node.inputs["description"]
            for node in platform(stack).of_type(SECRET)
        } == {
            "database": f"Database credentials of pyairtable-{stack}",
            "redis": f"Redis credentials of pyairtable-{stack}",
            "api-keys": f"API keys of pyairtable-{stack}",
        }

    @in_every_environment
    @of_each_secret
    def test_nobody_of_another_account_reads_it_and_nobody_in_plain_text(self, stack: str, name: str) -> None:
        policy = belonging(platform(stack), POLICY, "secretArn", name)
        refuse = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:*", "Resource": "*"}
        assert policy.json()["Statement"] == [
            {
                **refuse,
                "Sid": "RefuseOtherAccounts",
                "Condition": {"StringNotEquals": {"aws:PrincipalAccount": ACCOUNT_ID}},
            },
            {**refuse, "Sid": "RefusePlainText", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        ]
        assert policy.inputs["blockPublicPolicy"] is True


class TestContent:
    @in_every_environment
    def test_the_databases_is_the_login_and_where_it_is(self, stack: str) -> None:
        assert content(platform(stack), "database") == {
            "username": "admin_2",
            "password": "rotated password",
            "host": "postgres.pyairtable.svc.cluster.local",
            "port": "5432",
            "database": "pyairtable",
        }

    @in_every_environment
    def test_rediss_is_the_password_and_where_it_is(self, stack: str) -> None:
        assert content(platform(stack), "redis") == {
            "password": "rotated redis",
            "host": "redis.pyairtable.svc.cluster.local",
            "port": "6379",
        }

    @in_every_environment
    def test_the_api_keys_are_all_four_and_those_that_nobody_has_set_are_empty(self, stack: str) -> None:
        """External Secrets counts a key that is not there as an error."""
        assert content(platform(stack), "api-keys") == {
            "jwt_secret": "rotated jwt",
            "api_key": "rotated key",
            "airtable_token": "",
            "gemini_api_key": "",
        }

    @in_every_environment
    def test_where_the_stores_are_is_what_the_pods_are_told(self, stack: str) -> None:
        graph = platform(stack)
        told = graph.object("ConfigMap", "connections").inputs["data"]
        database, redis = content(graph, "database"), content(graph, "redis")
        assert (database["host"], database["port"], database["database"]) == (
            told["DB_HOST"],
            told["DB_PORT"],
            told["DB_NAME"],
        )
        assert (redis["host"], redis["port"]) == (told["REDIS_HOST"], told["REDIS_PORT"])

    @in_every_environment
    @of_each_secret
    def test_it_starts_from_what_the_cluster_has_and_not_from_what_was_generated(self, stack: str, name: str) -> None:
        """A stack that comes back to phase 3 may have rotated before it left."""
        graph = platform(stack)
        generated = {node.outputs["result"] for node in graph.of_type(PASSWORD)}
        assert len(generated) == 4
        assert not generated & {*content(graph, name).values()}
        assert content(graph, name).items() >= live(NAMES[name]).items()

    @in_every_environment
    @of_each_secret
    def test_what_the_cluster_has_is_read_once_it_is_there_and_stays_hidden(self, stack: str, name: str) -> None:
        graph = platform(stack)
        made = graph.object("Secret", NAMES[name])
        (read,) = (read for read in graph.reads if read.urn.endswith(f"-{NAMES[name]}-live"))
        assert read.type == "kubernetes:core/v1:Secret"
        assert read.id == f"{made.name}-id"
        assert "data" in read.secrets
        assert read.urn in version(graph, name).dependencies
        assert made.urn in graph.before(version(graph, name))

    def test_nothing_else_of_the_cluster_is_read(self) -> None:
        assert len(platform("prod").reads) == len(NAMES)

    @in_every_environment
    @of_each_secret
    def test_a_version_is_hidden_and_never_written_again(self, stack: str, name: str) -> None:
        """Later values are the rotation's or an operator's."""
        found = version(fullest(stack), name)
        assert found.secrets == {"secretString"}
        assert found.ignored == ("secretString", "versionStages")

    @in_every_environment
    @of_each_secret
    def test_a_version_keeps_a_label_of_its_own_so_that_rotations_do_not_end_it(self, stack: str, name: str) -> None:
        """Without one it is gone after two rotations, and the next `up` would make it, and its old values, again."""
        found = version(fullest(stack), name)
        assert found.inputs["versionStages"] == ["AWSCURRENT", "start"]
        assert found.retained, "the label moves on to the next revision before this one goes"

    @in_every_environment
    def test_nothing_else_outlives_its_stack(self, stack: str) -> None:
        assert {node.type for node in fullest(stack).nodes if node.retained} == {VERSION}


def with_keys(stack: str = "dev", **keys: str) -> Graph:
    """The graph of a stack without services, which has these keys of outside ones."""
    return platform(stack, services=[], **keys)


class TestOutsideKeys:
    @in_every_environment
    def test_those_of_the_config_go_before_what_the_cluster_has(self, stack: str) -> None:
        assert content(fullest(stack), "api-keys") == {
            **live("api-keys"),
            "airtable_token": "airtable-token",
            "gemini_api_key": "gemini-key",
        }

    def test_one_that_is_set_leaves_the_other_empty(self) -> None:
        found = content(with_keys(geminiApiKey="gemini-key"), "api-keys")
        assert (found["airtable_token"], found["gemini_api_key"]) == ("", "gemini-key")

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({}, {"airtableToken": "first"}),
            ({"airtableToken": "first"}, {"airtableToken": "second"}),
            ({"airtableToken": "first"}, {"airtableToken": "first", "geminiApiKey": "first"}),
            ({"airtableToken": "first"}, {"geminiApiKey": "first"}),
            ({"airtableToken": "first"}, {}),
        ],
        ids=["set", "changed", "another set", "one for the other", "taken away"],
    )
    def test_a_change_is_another_version_of_its_secret_and_nothing_else(
        self, before: dict[str, str], after: dict[str, str]
    ) -> None:
        one, other = (
            {node.name: node for node in with_keys(**keys).nodes if not node.name.startswith("compute")}
            for keys in (before, after)
        )
        (gone,), (new,) = one.keys() - other.keys(), other.keys() - one.keys()
        assert one[gone].type == other[new].type == VERSION
        assert one[gone].inputs["secretId"] == other[new].inputs["secretId"] == "pyairtable/dev/api-keys-id"
        assert [name for name in one.keys() & other.keys() if one[name].inputs != other[name].inputs] == []

    def test_phase_2_has_of_a_changed_key_only_what_is_ignored(self) -> None:
        one, other = (
            {node.name: node for node in with_keys(airtableToken=token).nodes if node.name.startswith("compute")}
            for token in ("first", "second")
        )
        assert [name for name in one if one[name] != other[name]] == ["compute-credentials-api-keys"]
        changed = other["compute-credentials-api-keys"]
        assert {key for key in changed.inputs if changed.inputs[key] != one[changed.name].inputs[key]} == {"data"}
        assert changed.ignored == ("data",)

    def test_other_settings_leave_the_version_as_it_is(self) -> None:
        assert version(with_keys(), "api-keys").name == version(platform("dev"), "api-keys").name

    def test_the_same_keys_in_another_stack_cannot_be_told_by_its_name(self) -> None:
        names = {version(with_keys(stack, airtableToken="first"), "api-keys").name for stack in ("dev", "alice-dev")}
        assert len(names) == 2

    def test_a_name_tells_four_bytes_of_a_digest_and_nothing_of_a_key(self) -> None:
        keys = {"airtableToken": "pat-Airtable.0123456789", "geminiApiKey": "AIza-Gemini_0123456789"}
        graph = with_keys(**keys)
        assert re.fullmatch(r"secrets-aws-api-keys-[0-9a-f]{8}-version", version(graph, "api-keys").name)
        urns = json.dumps([*(node.urn for node in graph.nodes), *(read.urn for read in graph.reads)])
        for value in keys.values():
            assert value not in urns
            assert base64.b64encode(value.encode()).decode() not in urns
            assert value.encode().hex() not in urns

    @in_every_environment
    def test_a_key_is_nowhere_in_plain_text(self, stack: str) -> None:
        graph = fullest(stack)
        found = {
            (node.name, key)
            for node in graph.nodes
            for key, value in node.inputs.items()
            if key not in node.secrets and re.search("airtable-token|gemini-key|rotated", json.dumps(value))
        }
        assert found == set()
        assert not re.search("airtable-token|gemini-key|rotated", json.dumps([*graph.outputs.values()]))


class TestKey:
    def test_dev_has_none_of_its_own(self) -> None:
        graph = platform("dev")
        assert graph.of_type(KEY) == graph.of_type(ALIAS) == ()
        assert [node.name for node in graph.of_type(SECRET) if "kmsKeyId" in node.inputs] == []

    @pytest.mark.parametrize("stack", ["staging", "prod"])
    def test_staging_and_prod_encrypt_all_three_with_one_that_rotates(self, stack: str) -> None:
        graph = platform(stack)
        key = graph.named("secrets-aws-key")
        assert key.type == KEY
        assert key.inputs["enableKeyRotation"] is True
        assert key.inputs["deletionWindowInDays"] == 30
        assert {node.inputs["kmsKeyId"] for node in graph.of_type(SECRET)} == {key.outputs["arn"]}
        alias = graph.named("secrets-aws-key-alias").inputs
        assert alias == {"name": f"alias/pyairtable-{stack}-secrets", "targetKeyId": key.outputs["keyId"]}

    def test_it_is_no_other_key_of_the_stack(self) -> None:
        keys = {node.name for node in platform("prod").of_type(KEY)}
        assert keys == {"secrets-aws-key", "compute-cluster-key", "cost-foundation-alerts-key"}


class TestKeeping:
    @pytest.mark.parametrize(
        ("stack", "overrides", "days"),
        [
            ("dev", {}, 0),
            ("staging", {}, 0),
            ("prod", {}, 30),
            ("prod", {"protect": False}, 0),
            ("dev", {"services": [], "secrets": {"recoveryWindowDays": 7}}, 7),
        ],
    )
    def test_a_deleted_secret_can_be_had_back_where_the_stack_is_protected_or_says_so(
        self, stack: str, overrides: dict[str, Any], days: int
    ) -> None:
        """Its name is taken as long: where nothing is protected, a stack comes back at once."""
        graph = platform(stack, **overrides)
        assert {node.inputs["recoveryWindowInDays"] for node in graph.of_type(SECRET)} == {days}

    @pytest.mark.parametrize(("stack", "protected"), [("dev", False), ("staging", False), ("prod", True)])
    def test_the_secrets_and_their_key_are_protected_in_prod_only(self, stack: str, protected: bool) -> None:
        graph = platform(stack)
        own = {node.name for node in graph.nodes if node.protect and graph.top_of(node).name == "secrets"}
        everything = {"secrets-aws-key", *(f"secrets-aws-{name}" for name in NAMES.values())}
        assert own == (everything if protected else set())

    def test_protection_can_be_taken_back_in_prod(self) -> None:
        assert [node.name for node in platform("prod", protect=False).nodes if node.protect] == []

    @in_every_environment
    def test_they_exist_from_phase_3_on(self, stack: str) -> None:
        graph = fullest(stack, 2)
        assert [node.name for node in graph.nodes if "secretsmanager" in node.type] == []
        assert graph.reads == ()
