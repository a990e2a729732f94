"""A client that logs in to PostgreSQL again and again, each time with what the Secret holds at that moment."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import psycopg

from tests.sandbox.clients import Clients
from tests.sandbox.harness import Cluster

LOGINS_A_SECOND = 50
"""As many as the machine has room for, at most these."""
CLIENTS = 4
NOT_SECRET = ("username", "host", "port", "database")


class Value(str):
    """A secret that a failing test does not print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[secret]" if self else "''"


SEEN: set[str] = set()
"""Every secret value that the tests have come across."""


def hidden(values: Mapping[str, str]) -> dict[str, str]:
    """Values that a failing test does not print; what is secret among them is remembered."""
    SEEN.update(value for key, value in values.items() if key not in NOT_SECRET and value)
    return {key: Value(value) for key, value in values.items()}


def credentials(cluster: Cluster, secret: str = "database-credentials") -> dict[str, str]:  # noqa: S107 - a name
    """What a Secret of the namespace holds."""
    found = cluster.api.get("v1", "Secret", secret, "pyairtable")
    assert found, f"the Secret {secret} is gone"
    return hidden({key: base64.b64decode(value).decode() for key, value in found["data"].items()})


def log_in(login: dict[str, str], port: int) -> str:
    """Open a connection with a login, and say as whom the database knows it."""
    with psycopg.connect(
        host="127.0.0.1",
        port=port,
        dbname="pyairtable",
        user=login["username"],
        password=login["password"],
        connect_timeout=5,
    ) as connection:
        (found,) = connection.execute("SELECT session_user").fetchone() or ("nobody",)
        return str(found)


class Logins(Clients):
    """Logs in at a steady rate until it is left; counts what succeeds and keeps what fails."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        super().__init__(CLIENTS, LOGINS_A_SECOND, end_seconds=30)
        self._cluster, self._port = cluster, port
        self.succeeded: Counter[str] = Counter()
        self.failed: list[str] = []

    def _client(self) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(self._log_in)

    def _log_in(self) -> None:
        try:
            self.succeeded[log_in(credentials(self._cluster), self._port)] += 1
        except psycopg.Error as error:
            self.failed.append(str(error))
