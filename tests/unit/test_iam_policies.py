"""Every IAM policy of every environment: what a linter has to say, and whose secrets anybody may read."""

import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, REGION, Graph, Node, fullest, platform

KEY = "aws:kms/key:Key"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 - a type
SECRET_POLICY = "aws:secretsmanager/secretPolicy:SecretPolicy"  # noqa: S105

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)

PLACE = f"{REGION}:{ACCOUNT_ID}"
ARNS = {
    "aws:cloudwatch/logGroup:LogGroup": f"arn:aws:logs:{PLACE}:log-group:{{name}}",
    KEY: f"arn:aws:kms:{PLACE}:key/{{name}}",
    ROLE: f"arn:aws:iam::{ACCOUNT_ID}:role/{{name}}",
    "aws:s3/bucket:Bucket": "arn:aws:s3:::{name}",
    SECRET: f"arn:aws:secretsmanager:{PLACE}:secret:{{name}}-AbCdEf",
}
"""What ARNs of these types look like on AWS, which the mocks do not care about."""


class Waiver(NamedTuple):
    """A finding of the linter that is none, in policies of one type."""

    type: str
    issue: str


WAIVERS: Mapping[Waiver, str] = {
    Waiver(KEY, "RESOURCE_STAR"): "in a key's policy the star is the key itself",
    Waiver(KEY, "PERMISSIONS_MANAGEMENT_ACTIONS"): "the account's own policies have to say who manages the key",
    Waiver(ROLE, "CREDENTIALS_EXPOSURE"): "to give out credentials of the role is what a trust policy is for",
}


class Policy(NamedTuple):
    """A policy document, and whose it is."""

    owner: Node
    document: Mapping[str, Any]


class Finding(NamedTuple):
    """What the linter says about one policy."""

    type: str
    issue: str
    text: str


@cache
def parliament() -> Any:
    """The linter. Of setuptools, which has dropped it, it wants one function that says where its own data lies."""
    resources: Any = ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: str(Path(_origin(package)).parent / name)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(sys.modules, "pkg_resources", resources)
        warnings.simplefilter("ignore")  # files left open, and backslashes of an earlier Python
        return importlib.import_module("parliament")


def _origin(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def real_arn(node: Node) -> str:
    return ARNS[node.type].format(name=node.outputs["name"])


def policies(graph: Graph) -> list[Policy]:
    """All policy documents of a stack, with ARNs as AWS has them: of roles, their trust, and of resources."""
    # Whatever the input is called.
    texts = [(node, value) for node in graph.aws for value in node.inputs.values() if isinstance(value, str)]
    arns = {node.outputs["arn"]: real_arn(node) for node in graph.aws if node.type in ARNS}
    return [Policy(node, json.loads(_with_real(arns, text))) for node, text in texts if '"Statement"' in text]


def _with_real(arns: Mapping[str, str], text: str) -> str:
    pattern = "|".join(re.escape(arn) for arn in sorted(arns, key=len, reverse=True))
    return re.sub(pattern, lambda match: arns[match[0]], text)


def findings(policy: Policy) -> list[Finding]:
    statements = policy.document["Statement"]
    if policy.owner.type == ROLE:
        # A trust policy is about its role and does not name it; the linter knows only policies that name something.
        statements = [{**statement, "Resource": real_arn(policy.owner)} for statement in statements]
    document = json.dumps({**policy.document, "Statement": statements})
    result = parliament().analyze_policy_string(document, include_community_auditors=True)
    return [Finding(policy.owner.type, found.issue, f"{policy.owner.name}: {found}") for found in result.findings]


@cache
def all_findings() -> tuple[Finding, ...]:
    return tuple(
        found for graph in map(fullest, ENVIRONMENTS) for policy in policies(graph) for found in findings(policy)
    )


def waived(finding: Finding) -> bool:
    return Waiver(finding.type, finding.issue) in WAIVERS


def test_the_linter_finds_nothing_that_is_not_waived_on_purpose() -> None:
    assert [finding.text for finding in all_findings() if not waived(finding)] == []


def test_no_waiver_is_left_that_nothing_needs() -> None:
    assert {Waiver(finding.type, finding.issue) for finding in all_findings() if waived(finding)} == WAIVERS.keys()


@in_every_environment
def test_the_policy_of_every_role_and_resource_is_looked_at(stack: str) -> None:
    graph = fullest(stack)
    looked_at = {policy.owner.urn for policy in policies(graph)}
    of_policies = {node.urn for node in graph.aws if node.type.endswith("Policy") and "ifecycle" not in node.type}
    assert {node.urn for node in graph.of_type(ROLE)} <= looked_at
    assert of_policies <= looked_at


@pytest.mark.parametrize(
    ("statement", "issue"),
    [
        ({"Action": "secretsmanager:GetSecretValues", "Resource": "*"}, "UNKNOWN_ACTION"),
        ({"Action": "secretmanager:GetSecretValue", "Resource": "*"}, "UNKNOWN_PREFIX"),
        ({"Action": "secretsmanager:GetSecretValue", "Resource": "*"}, "RESOURCE_STAR"),
        ({"Action": "secretsmanager:GetSecretValue", "Resource": "arn:aws:s3:::bucket"}, "RESOURCE_MISMATCH"),
        ({"Action": "iam:CreateAccessKey", "Resource": f"arn:aws:iam::{ACCOUNT_ID}:user/a"}, "PRIVILEGE_ESCALATION"),
        ({"Action": "s3:GetObject", "NotResource": "arn:aws:s3:::bucket/*"}, "NOTRESOURCE_WITH_ALLOW"),
    ],
)
def test_a_mistake_in_a_policy_would_be_found(statement: dict[str, Any], issue: str) -> None:
    owner = platform("dev").of_type(ROLE_POLICY)[0]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
    assert issue in {finding.issue for finding in findings(Policy(owner, document))}


@cache
def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of IAM stands for a text: `*` for anything, colons and slashes too, `?` for one character."""
    parts = [{"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def allows(statements: Iterable[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Whether statements allow it to somebody for whom all their conditions hold."""

    def says(effect: str, *, conditions: bool) -> bool:
        return any(
            statement["Effect"] == effect
            and (conditions or "Condition" not in statement)
            and any(matches(pattern.lower(), action.lower()) for pattern in as_list(statement["Action"]))
            and any(matches(pattern, resource) for pattern in as_list(statement["Resource"]))
            for statement in statements
        )

    return says("Allow", conditions=True) and not says("Deny", conditions=False)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("pattern", "text", "match"),
    [
        ("secret:pyairtable/dev/*", "secret:pyairtable/dev/database-AbCdEf", True),
        ("secret:pyairtable/dev/*", "secret:pyairtable/dev2/database-AbCdEf", False),
        ("secret:pyairtable/dev*", "secret:pyairtable/dev2/database-AbCdEf", True),
        ("arn:aws:*:secret", "arn:aws:a:b:secret", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
    ],
)
def test_patterns_are_read_as_iam_reads_them(pattern: str, text: str, match: bool) -> None:
    assert matches(pattern, text) == match


def statements_by_role(graph: Graph) -> dict[str, list[Mapping[str, Any]]]:
    """What the policies of each role say, by the role's name."""
    said: dict[str, list[Mapping[str, Any]]] = {role.outputs["name"]: [] for role in graph.of_type(ROLE)}
    for policy in policies(graph):
        if policy.owner.type == ROLE_POLICY:
            said[policy.owner.inputs["role"]] += policy.document["Statement"]
    return said


def actions_of(service: str) -> list[str]:
    (definition,) = (known for known in parliament().iam_definition if known["prefix"] == service)
    return [f"{service}:{privilege['privilege']}" for privilege in definition["privileges"]]


def secret_arn(stack: str, secret: str, place: str = PLACE) -> str:
    return f"arn:aws:secretsmanager:{place}:secret:pyairtable/{stack}/{secret}-AbCdEf"


SECRETS = ("database", "redis", "api-keys")
STACKS = (*ENVIRONMENTS, "alice-dev")
in_every_stack = pytest.mark.parametrize("stack", STACKS)


def others(stack: str) -> set[str]:
    """Stacks whose names are those of the others, or look like this one's."""
    return {*STACKS, f"{stack}2", f"{stack}-2", f"bob-{stack}", stack[:-1], stack.upper()} - {stack}


@in_every_stack
def test_external_secrets_reads_the_secrets_of_its_stack(stack: str) -> None:
    graph = platform(stack)
    own = statements_by_role(graph)[f"pyairtable-{stack}-external-secrets"]
    arns = {real_arn(secret) for secret in graph.of_type(SECRET)}
    assert arns == {secret_arn(stack, secret) for secret in SECRETS}
    for arn in arns:
        can = {action for action in actions_of("secretsmanager") if allows(own, action, arn)}
        assert can == {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"}


@in_every_stack
def test_the_rotation_changes_the_databases_secret_and_nobody_else_touches_any(stack: str) -> None:
    can = {
        (role.removeprefix(f"pyairtable-{stack}-"), secret)
        for role, statements in statements_by_role(platform(stack)).items()
        for secret in SECRETS
        if any(allows(statements, action, secret_arn(stack, secret)) for action in actions_of("secretsmanager"))
    }
    assert can == {("database-rotation", "database"), *(("external-secrets", secret) for secret in SECRETS)}


@in_every_stack
def test_the_policy_of_a_secret_allows_nobody_anything(stack: str) -> None:
    own = [policy for policy in policies(platform(stack)) if policy.owner.type == SECRET_POLICY]
    assert len(own) == len(SECRETS)
    assert {statement["Effect"] for policy in own for statement in policy.document["Statement"]} == {"Deny"}


@in_every_stack
def test_no_role_can_name_another_stacks_secrets(stack: str) -> None:
    for role, statements in statements_by_role(platform(stack)).items():
        for other in others(stack):
            for secret in SECRETS:
                can = [a for a in actions_of("secretsmanager") if allows(statements, a, secret_arn(other, secret))]
                assert can == [], f"{role} and {other}/{secret}"


@in_every_stack
@pytest.mark.parametrize("place", [f"eu-west-1:{ACCOUNT_ID}", f"{REGION}:210987654321"])
def test_no_role_can_name_secrets_elsewhere(stack: str, place: str) -> None:
    for role, statements in statements_by_role(platform(stack)).items():
        for secret in SECRETS:
            can = [a for a in actions_of("secretsmanager") if allows(statements, a, secret_arn(stack, secret, place))]
            assert can == [], role


@in_every_stack
def test_keys_are_used_through_secrets_manager_only_and_by_name(stack: str) -> None:
    graph = platform(stack)
    keys = {real_arn(key) for key in graph.of_type(KEY)}
    for statements in statements_by_role(graph).values():
        for statement in statements:
            if any(action.startswith("kms:") for action in as_list(statement["Action"])):
                assert set(as_list(statement["Resource"])) <= keys
                assert statement["Condition"] == {
                    "StringEquals": {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
                }
