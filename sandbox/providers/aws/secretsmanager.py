"""AWS Secrets Manager."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from sandbox.providers.aws.handler import Handler, TagApi, absent
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties, is_unknown

CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
NAME = r"[0-9A-Za-z/_+=.@-]+"
LONGEST_WINDOW_DAYS = 30
WINDOWS_DAYS = (0, *range(7, LONGEST_WINDOW_DAYS + 1))


class Secret(Handler):
    """aws:secretsmanager/secret:Secret; the id is the ARN. One that waits for its deletion counts as gone."""

    type = "aws:secretsmanager/secret:Secret"
    supported = frozenset({"name", "description", "kmsKeyId", "recoveryWindowInDays"})
    service = "secretsmanager"
    defaults: ClassVar[Properties] = {"recoveryWindowInDays": LONGEST_WINDOW_DAYS}
    replace_on = frozenset({"name"})
    computed = ("arn",)
    name = "name"
    tag_api = TagApi(service="secretsmanager", target="SecretId", list_call="describe_secret")

    def create(self, inputs: Properties) -> str:
        self._check(inputs)
        name = inputs["name"]
        try:
            answer = self.send(
                "create_secret", name=name, description=inputs.get("description"), kmsKeyId=inputs.get("kmsKeyId")
            )
        except ClientError as error:
            found = self._describe(name) or {}
            if "DeletedDate" not in found:
                raise
            # The emulator only says that it exists. The official provider would ask again for two minutes.
            raise ProviderError(
                "InvalidRequestException: You can't create this secret because a secret with this name is already "
                f"scheduled for deletion, at {found['DeletedDate']:%Y-%m-%d %H:%M}; take it back with aws "
                f"secretsmanager restore-secret --secret-id {name} and import it, or delete it for good with aws "
                f"secretsmanager delete-secret --secret-id {name} --force-delete-without-recovery"
            ) from error
        return answer["ARN"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        found = self._describe(id)
        if found is None or "DeletedDate" in found:
            return None
        return {
            "arn": found["ARN"],
            "name": found["Name"],
            "description": found.get("Description"),
            "kmsKeyId": found.get("KmsKeyId"),
            # Only the deletion itself tells AWS the window.
            "recoveryWindowInDays": inputs.get("recoveryWindowInDays", LONGEST_WINDOW_DAYS),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self._check(new)
        if any(old.get(key) != new.get(key) for key in ("description", "kmsKeyId")):
            # Without a key AWS keeps the one that it has.
            self.send(
                "update_secret", secretId=id, description=new.get("description", ""), kmsKeyId=new.get("kmsKeyId")
            )

    def delete(self, id: str, state: Properties) -> None:
        days = state.get("recoveryWindowInDays", LONGEST_WINDOW_DAYS)
        how = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        self.client.delete_secret(SecretId=id, **how)

    def undo(self, id: str, inputs: Properties) -> None:
        """What was never in use needs no window, which would keep its name from the next attempt."""
        self.client.delete_secret(SecretId=id, ForceDeleteWithoutRecovery=True)

    def find(self, inputs: Properties) -> str | None:
        found = self.read(inputs["name"], {})
        return found["arn"] if found else None

    def _describe(self, id: str) -> Mapping[str, Any] | None:
        return absent(lambda: self.client.describe_secret(SecretId=id), "ResourceNotFoundException")

    def _check(self, inputs: Properties) -> None:
        """What the official provider checks, and neither the service's model nor the emulator does."""
        name, days = inputs["name"], inputs.get("recoveryWindowInDays")
        if not is_unknown(name) and not re.fullmatch(NAME, name):
            raise ProviderError(f"{name!r} is no name of a secret: it may have letters, digits and /_+=.@- only")
        if isinstance(days, int) and days not in WINDOWS_DAYS:
            raise ProviderError(f"recoveryWindowInDays must be 0, or from 7 to {LONGEST_WINDOW_DAYS}, not {days}")


class SecretVersion(Handler):
    """aws:secretsmanager/secretVersion:SecretVersion; the id is `secret|version`.

    It stands for one version, whatever others there are: another value replaces it, and a version that lost all of its
    labels to later ones may be gone, which makes it again.
    """

    type = "aws:secretsmanager/secretVersion:SecretVersion"
    supported = frozenset({"secretId", "secretString", "versionStages"})
    service = "secretsmanager"
    replace_on = frozenset({"secretId", "secretString"})
    computed = ("arn", "versionId", "versionStages")
    secrets = frozenset({"secretString"})

    def create(self, inputs: Properties) -> str:
        if "secretString" not in inputs:
            raise ProviderError("InvalidRequestException: You must provide either SecretString or SecretBinary")
        answer = self.send(
            "put_secret_value",
            secretId=inputs["secretId"],
            secretString=inputs["secretString"],
            versionStages=inputs.get("versionStages"),
        )
        return f"{inputs['secretId']}|{answer['VersionId']}"

    def configure(self, id: str, inputs: Properties) -> None:
        """The emulator leaves out labels beside AWSCURRENT, and takes the others off no other version."""
        if "versionStages" not in inputs:
            return
        secret, version = _parts(id)
        versions = self._labels(secret)
        for label in inputs["versionStages"]:
            others = [other for other, labels in versions.items() if label in labels and other != version]
            if others:
                self._move(secret, label, move_to=version, remove_from=others[0])
            elif label not in versions[version]:
                self._move(secret, label, move_to=version)

    def read(self, id: str, inputs: Properties) -> Properties | None:
        secret, version = _parts(id)
        found = _unless_gone(lambda: self.client.get_secret_value(SecretId=secret, VersionId=version))
        if found is None:
            return None
        return {
            "arn": found["ARN"],
            "secretId": secret,
            "secretString": found.get("SecretString"),
            "versionId": found["VersionId"],
            "versionStages": found["VersionStages"],
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        if "versionStages" not in new:
            return
        secret, version = _parts(id)
        before, after = {*old.get("versionStages", [])}, {*new["versionStages"]}
        for label in sorted(after - before):
            holder = self._current(secret) if label == CURRENT else None
            self._move(secret, label, move_to=version, remove_from=holder)
        # AWS moves the previous one itself along with the current one, which it takes off no version altogether.
        follows = {PREVIOUS} if CURRENT in after - before else set[str]()
        self._remove(secret, version, before - after - follows)

    def delete(self, id: str, state: Properties) -> None:
        """A version cannot be deleted: AWS does that some time after it has lost its last label."""
        secret, version = _parts(id)
        self._remove(secret, version, state.get("versionStages", []))

    def find(self, inputs: Properties) -> str | None:
        """Versions have no name: the value tells them apart, the newest of one value being the one in use."""
        secret = inputs["secretId"]
        for version, labels in sorted(self._labels(secret).items(), key=lambda entry: CURRENT not in entry[1]):
            found = self.read(f"{secret}|{version}", {}) if labels else None
            if found and found["secretString"] == inputs.get("secretString"):
                return f"{secret}|{version}"
        return None

    def _remove(self, secret: str, version: str, labels: Iterable[str]) -> None:
        for label in sorted({*labels} - {CURRENT}):
            _unless_gone(lambda label=label: self._move(secret, label, remove_from=version))

    def _move(self, secret: str, label: str, *, move_to: str | None = None, remove_from: str | None = None) -> None:
        self.send(
            "update_secret_version_stage",
            secretId=secret,
            versionStage=label,
            moveToVersionId=move_to,
            removeFromVersionId=remove_from,
        )

    def _current(self, secret: str) -> str | None:
        return next((version for version, labels in self._labels(secret).items() if CURRENT in labels), None)

    def _labels(self, secret: str) -> dict[str, list[str]]:
        """The labels of each version of a secret."""
        found: dict[str, list[str]] = {}
        token: dict[str, str] = {}
        while True:  # boto3 has no paginator for it
            page = _unless_gone(lambda token=token: self.client.list_secret_version_ids(SecretId=secret, **token))
            for version in page["Versions"] if page else []:
                found[version["VersionId"]] = version.get("VersionStages", [])
            if not page or "NextToken" not in page:
                return found
            token = {"NextToken": page["NextToken"]}


class SecretPolicy(Handler):
    """aws:secretsmanager/secretPolicy:SecretPolicy; the id is the secret's ARN."""

    type = "aws:secretsmanager/secretPolicy:SecretPolicy"
    supported = frozenset({"secretArn", "policy", "blockPublicPolicy"})
    service = "secretsmanager"
    replace_on = frozenset({"secretArn"})

    def create(self, inputs: Properties) -> str:
        self._put(inputs)
        return inputs["secretArn"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        secret = absent(lambda: self.client.describe_secret(SecretId=id), "ResourceNotFoundException")
        if secret is None or "DeletedDate" in secret:
            return None
        return {
            "secretArn": id,
            # A policy that is gone is an empty one to the official provider, which an update puts right.
            "policy": self.client.get_resource_policy(SecretId=id).get("ResourcePolicy", ""),
            "blockPublicPolicy": inputs.get("blockPublicPolicy"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self._put(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_resource_policy(SecretId=id)

    def find(self, inputs: Properties) -> str | None:
        found = self.read(inputs["secretArn"], {})
        return found["secretArn"] if found and found["policy"] else None

    def _put(self, inputs: Properties) -> None:
        policy, block = inputs["policy"], inputs.get("blockPublicPolicy", False)
        if not is_unknown(policy):
            _check_policy(policy, block_public=block)
        self.client.put_resource_policy(SecretId=inputs["secretArn"], ResourcePolicy=policy, BlockPublicPolicy=block)


def _parts(id: str) -> tuple[str, str]:
    """The secret and the version that an id names."""
    secret, _, version = id.partition("|")
    return secret, version


def _unless_gone(call: Callable[[], Any]) -> Any:
    """The call's answer, or None where the secret or its version is gone, or waits for its deletion."""
    try:
        return absent(call, "ResourceNotFoundException")
    except ClientError as error:
        if "marked for deletion" in str(error) or "was deleted" in str(error):
            return None
        raise


def _check_policy(policy: str, *, block_public: bool) -> None:
    """What AWS refuses, and the emulator does not: what is no JSON, and access for everybody if that is blocked."""
    try:
        document = json.loads(policy)
    except ValueError:
        document = None
    told: Any = document.get("Statement", []) if isinstance(document, dict) else [None]
    statements: list[Any] = told if isinstance(told, list) else [told]
    if not all(isinstance(statement, dict) for statement in statements):
        raise ProviderError("MalformedPolicyDocumentException: the policy is no JSON object with statements")
    for statement in statements:
        everybody = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        if block_public and everybody and statement.get("Effect") == "Allow" and not statement.get("Condition"):
            raise ProviderError(
                "PublicPolicyException: a statement of the policy allows everybody, which blockPublicPolicy refuses; "
                "name the principals, or add a condition"
            )
