"""Secrets Manager as the runbook reaches it: of the right account, patient with throttling, clear where it fails."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.stub import Stubber

from runbook.aws import Access, AwsError, SecretsManager, Value, connected

ACCOUNT = "123456789012"
NAME = "pyairtable/dev/redis"
VERSION = "0123456789abcdef0123456789abcdef"


def manager(endpoint: str = "http://127.0.0.1:1") -> SecretsManager:
    return SecretsManager(Access(account_id=ACCOUNT, region="us-east-1", endpoint=endpoint))


@contextmanager
def answering(*answers: tuple[int, dict[str, Any]]) -> Generator[str]:
    """An endpoint that gives these answers, one after the other, and then hangs up."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = left.pop(0)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


THROTTLED = (400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
FOUND = (200, {"SecretString": "{}", "VersionId": VERSION})


def test_a_secret_is_read_written_and_restored() -> None:
    found = manager()
    with Stubber(found.client) as stub:
        stub.add_response("get_secret_value", {"SecretString": "text", "VersionId": VERSION}, {"SecretId": NAME})
        stub.add_response("put_secret_value", {"VersionId": VERSION[::-1]}, None)
        stub.add_response("restore_secret", {}, {"SecretId": NAME})
        assert found.read(NAME) == Value(text="text", version=VERSION)
        assert found.put(NAME, "{}") == VERSION[::-1]
        found.restore(NAME)


def test_a_value_does_not_show_itself() -> None:
    assert "text-of-it" not in repr(Value(text="text-of-it", version="v"))


def test_the_credentials_must_be_of_the_stacks_account() -> None:
    found = manager()
    with Stubber(found.identity) as stub:
        stub.add_response("get_caller_identity", {"Account": ACCOUNT})
        found.check_account()
        stub.add_response("get_caller_identity", {"Account": "210987654321"})
        with pytest.raises(AwsError, match="of account 210987654321, and the stack is in 123456789012; take other"):
            found.check_account()


def test_who_gets_secrets_manager_has_proved_to_be_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[SecretsManager] = []
    monkeypatch.setattr(SecretsManager, "check_account", lambda self: checked.append(self))  # noqa: PLW0108 — `append` alone is no method
    found = connected(Access(account_id=ACCOUNT, region="us-east-1", endpoint="http://127.0.0.1:1"))
    assert checked == [found]


def test_an_error_is_told_with_its_code_and_without_the_value() -> None:
    found = manager()
    with Stubber(found.client) as stub:
        stub.add_client_error("put_secret_value", "AccessDeniedException", "not authorized")
        with pytest.raises(AwsError) as failed:
            found.put(NAME, "the-secret")
    assert str(failed.value) == f"writing {NAME} to Secrets Manager: AccessDeniedException: not authorized"
    assert failed.value.code == "AccessDeniedException"
    assert failed.value.__suppress_context__


def test_what_is_throttled_for_a_while_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with answering(THROTTLED, THROTTLED, THROTTLED, FOUND) as endpoint:
        assert manager(endpoint).read(NAME).version == VERSION


def test_what_is_throttled_for_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with answering(*[THROTTLED] * 4) as endpoint, pytest.raises(AwsError, match="ThrottlingException: Rate exceeded"):
        manager(endpoint).read(NAME)


def test_where_nobody_answers_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(AwsError, match="Could not connect to the endpoint URL") as failed:
        connected(Access(account_id=ACCOUNT, region="us-east-1", endpoint="http://127.0.0.1:1"))
    assert failed.value.code == ""


def test_the_users_own_settings_do_not_reach_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with answering(FOUND) as endpoint:
        assert manager(endpoint).read(NAME).text == "{}"


def test_on_aws_the_users_own_settings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(AwsError, match=r"reading the AWS settings: The config profile \(not-there\) could not be"):
        manager(endpoint="")


def test_on_aws_credentials_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AwsError, match="asking AWS whose credentials these are: Unable to locate credentials"):
        manager(endpoint="").check_account()
