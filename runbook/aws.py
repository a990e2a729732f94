"""Secrets Manager of one stack's account; botocore alone, since boto3 takes as long again to load."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runbook.errors import RunbookError

NOTHING_OF_THE_USERS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""Where botocore would look for the user's own AWS settings, which are not meant for the sandbox."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """An account, and how it is reached."""

    account_id: str
    region: str
    endpoint: str = ""
    """The emulator's; empty means AWS, with the user's own credentials."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One version of a secret."""

    text: str = field(repr=False)
    version: str


class AwsError(RunbookError):
    """What AWS said, with the error's code if it has one, such as AccessDeniedException."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SecretsManager:
    """Secrets Manager, once the credentials have proved to be of the stack's account. Any call may raise AwsError.

    What AWS throttles is tried again, up to four times in all; putting twice by that makes one version.
    """

    def __init__(self, access: Access) -> None:
        import botocore.session  # takes a third of a second: in a thread, see runbook.later
        from botocore.config import Config

        session = botocore.session.Session(session_vars=NOTHING_OF_THE_USERS if access.endpoint else None)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=3,
            read_timeout=10,
            proxies={} if access.endpoint else None,
        )
        options: dict[str, Any] = {"region_name": access.region, "config": config}
        if access.endpoint:
            # The emulator takes an access key of twelve digits for the account id, and checks no signatures.
            options |= {
                "endpoint_url": access.endpoint,
                "aws_access_key_id": access.account_id,
                "aws_secret_access_key": "test",
            }
        with _telling("reading the AWS settings"):
            self.client: Any = session.create_client("secretsmanager", **options)
            self.identity: Any = session.create_client("sts", **options)
        self._account_id = access.account_id

    def check_account(self) -> None:
        """Make sure that the credentials are of the stack's account."""
        with _telling("asking AWS whose credentials these are"):
            found = self.identity.get_caller_identity()["Account"]
        if found != self._account_id:
            raise AwsError(
                f"asking AWS whose credentials these are: of account {found}, and the stack is in {self._account_id}; "
                "take other credentials (AWS_PROFILE)"
            )

    def read(self, name: str) -> Value:
        """The current version of a secret."""
        with _telling(f"reading {name} from Secrets Manager"):
            answer = self.client.get_secret_value(SecretId=name)
        return Value(text=answer.get("SecretString", ""), version=answer["VersionId"])

    def put(self, name: str, text: str) -> str:
        """Make a new current version; its id."""
        with _telling(f"writing {name} to Secrets Manager"):
            return self.client.put_secret_value(SecretId=name, SecretString=text)["VersionId"]

    def restore(self, name: str) -> None:
        """Take back that a secret is to be deleted."""
        with _telling(f"restoring {name} in Secrets Manager"):
            self.client.restore_secret(SecretId=name)


def connected(access: Access) -> SecretsManager:
    """Secrets Manager with credentials that have been checked."""
    manager = SecretsManager(access)
    manager.check_account()
    return manager


@contextmanager
def _telling(what: str) -> Generator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        told: Mapping[str, str] = error.response.get("Error", {})
        code = told.get("Code", "")
        raise AwsError(f"{what}: {code}: {told.get('Message', '')}".rstrip(": "), code) from None
    except BotoCoreError as error:
        raise AwsError(f"{what}: {' '.join(str(error).split())}") from None
