"""Clients that send requests at a steady rate, and keep when each was answered, by which colour, and what failed."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.sandbox.clients import Clients
from tests.sandbox.harness import Cluster

RATE = 250
"""Requests a second, of all clients together."""
POINTS = 2.0
"""How far a colour's share may be from its weight, in per cent of the requests."""
ROLLBACK_SECONDS = 1.0
"""Within which green answers no more."""
HEARD_SECONDS = 0.5
"""From the API server to the gateways."""
CLIENTS = 8
TIMEOUT_SECONDS = 10
TRIES = 20
"""Enough to meet every pod of the gateway."""
VIRTUAL_SERVICE = ("networking.istio.io/v1", "VirtualService", "api-gateway", "pyairtable")


class Answer(NamedTuple):
    """What became of one request; times are of time.time(), so that other processes' can be compared with them."""

    began: float
    ended: float
    colour: str
    """Who answered; empty where it failed."""
    failure: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class Traffic(Clients):
    """Sends GET requests to a URL of this machine until it is left. A client keeps its connection, as browsers do."""

    def __init__(
        self, url: str, *, rate: float, clients: int = CLIENTS, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(clients, rate, end_seconds=TIMEOUT_SECONDS + 1)
        parts = urlsplit(url)
        assert parts.hostname == "127.0.0.1", f"{url} is not on this machine"
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path or "/"
        self._headers = dict(headers or {})
        self._answers: list[Answer] = []

    @property
    def answers(self) -> Sequence[Answer]:
        """All so far, in the order of their ends."""
        return [*self._answers]

    @property
    def failed(self) -> list[Answer]:
        """Those that failed."""
        return [answer for answer in self._answers if answer.failure]

    def between(self, began: float, ended: float) -> list[Answer]:
        """Those that were asked and answered in a span of time."""
        return [answer for answer in self._answers if began <= answer.began and answer.ended <= ended]

    def share(self, colour: str, began: float, ended: float) -> float:
        """Which part of a span's answers came from a colour, in percent."""
        answers = self.between(began, ended)
        return 100 * sum(answer.colour == colour for answer in answers) / len(answers)

    def leads_to(self, colour: str) -> bool:
        """Whether each of some requests, over connections of their own, is answered by a colour; they do not count."""
        return all(self._ask_once().colour == colour for _ in range(TRIES))

    def _ask_once(self) -> Answer:
        with closing(self._connection()) as connection:
            return self._ask(connection)

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)

    @contextmanager
    def _client(self) -> Generator[Callable[[], None]]:
        with closing(self._connection()) as connection:
            yield lambda: self._answers.append(self._ask(connection))

    def _ask(self, connection: HTTPConnection) -> Answer:
        began, colour, failure = time.time(), "", ""
        try:
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == HTTPStatus.OK:
                colour = json.loads(body)["colour"]
            else:
                failure = f"{answer.status} {body.decode(errors='replace')[:200]}"
        except (OSError, HTTPException, ValueError, KeyError) as error:
            connection.close()  # the next request opens another
            failure = repr(error)
        return Answer(began, time.time(), colour, failure)


def weight(cluster: Cluster) -> int:
    """Green's share, as the mesh has been told."""
    found = cluster.api.get(*VIRTUAL_SERVICE)
    assert found
    route = next(route for route in found["spec"]["http"] if route.get("name") == "weighted")
    weights = {part["destination"]["subset"]: part.get("weight", 0) for part in route["route"]}
    assert found["metadata"]["annotations"]["pyairtable.io/green-weight"] == str(weights["green"])
    return weights["green"]


def shifting(cluster: Cluster, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    """A shift that goes on meanwhile."""
    return cluster.starting_runbook("shift", *arguments, "--json")


def none_failed(traffic: Traffic, began: float, ended: float | None = None) -> None:
    """See that nothing has failed in a span of time, up to now where it has no end."""
    failed = [answer for answer in traffic.between(began, ended or time.time()) if answer.failure]
    reasons = Counter((round(answer.began - began), answer.failure) for answer in failed)
    assert not failed, f"{len(failed)} requests failed, by second and reason: {sorted(reasons.items())}"
