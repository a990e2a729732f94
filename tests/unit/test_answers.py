"""The servers that stand for the application: what they answer, and how they take what clients do."""

import http.client
import json
import socket
import time
from collections.abc import Iterator

import pytest

from sandbox.answers import LOOPBACK, Answerer, Answerers, Fault


@pytest.fixture
def servers() -> Iterator[Answerers]:
    made = Answerers(LOOPBACK)
    yield made
    made.stop()


@pytest.fixture
def server(servers: Answerers) -> Answerer:
    made = Answerer("api-gateway", "green", "api-gateway-green-1")
    servers.open(made)
    return made


@pytest.fixture
def client(server: Answerer) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
    yield made
    made.close()


def ask(client: http.client.HTTPConnection, path: str = "/", method: str = "GET", body: str | None = None) -> int:
    client.request(method, path, body)
    answer = client.getresponse()
    answer.read()
    return answer.status


def raw(server: Answerer, request: bytes) -> bytes:
    """All that is answered, by when the server closes the connection."""
    with socket.create_connection((LOOPBACK, server.port), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def is_refused(server: Answerer) -> bool:
    try:
        socket.create_connection((LOOPBACK, server.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_answer_says_whose_it_is(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/tables?page=2")
    answer = client.getresponse()
    assert answer.status == 200
    assert answer.headers["x-colour"] == "green"
    assert json.load(answer) == {
        "service": "api-gateway",
        "colour": "green",
        "pod": "api-gateway-green-1",
        "path": "/tables?page=2",
    }


def test_a_connection_is_kept_whatever_was_sent_over_it(client: http.client.HTTPConnection, server: Answerer) -> None:
    assert ask(client, "/tables", "POST", "x" * 100_000) == 200
    own = client.sock.getsockname()
    assert ask(client) == 200
    assert client.sock.getsockname() == own
    assert len(server.connections) == 1


def test_a_head_has_no_body(server: Answerer) -> None:
    answer = raw(server, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"connection: close\r\n" in answer


def test_requests_in_one_go_are_answered_in_their_order(server: Answerer) -> None:
    server.fault = Fault.SLOW
    one, last = (
        f"GET /{n} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() for n, more in ((1, ""), (2, "Connection: close\r\n"))
    )
    answer = raw(server, one + last)
    assert 0 < answer.index(b'"path": "/1"') < answer.index(b'"path": "/2"')


def test_a_request_for_another_protocol_is_answered_in_this_one(server: Answerer) -> None:
    upgrade = b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = raw(server, upgrade + b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_what_is_no_http_is_refused_and_others_are_still_answered(
    server: Answerer, client: http.client.HTTPConnection
) -> None:
    assert raw(server, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert ask(client) == 200


def test_a_client_that_goes_before_its_answer_does_no_harm(
    server: Answerer, client: http.client.HTTPConnection
) -> None:
    server.fault = Fault.SLOW
    with socket.create_connection((LOOPBACK, server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ask(client) == 200


def test_errors_are_503_and_say_whose_they_are(server: Answerer, client: http.client.HTTPConnection) -> None:
    server.fault = Fault.ERRORS
    client.request("GET", "/")
    answer = client.getresponse()
    assert (answer.status, answer.headers["x-colour"]) == (503, "green")


def test_a_server_that_leaves_sends_its_clients_elsewhere(server: Answerer, client: http.client.HTTPConnection) -> None:
    assert ask(client) == 200
    server.leaving = True
    client.request("GET", "/")
    answer = client.getresponse()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_who_is_connected_can_be_sent_elsewhere_once(
    servers: Answerers, server: Answerer, client: http.client.HTTPConnection
) -> None:
    assert ask(client) == 200
    servers.shed(server)
    for said in ("close", None):  # the client makes another connection after the first
        client.request("GET", "/")
        answer = client.getresponse()
        assert answer.read()
        assert answer.headers["connection"] == said


def test_a_crash_cuts_connections_and_refuses_others(
    servers: Answerers, server: Answerer, client: http.client.HTTPConnection
) -> None:
    assert ask(client) == 200
    servers.crash(server)
    with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe, as it happens
        ask(client)
    assert is_refused(server)
    assert not server.listens


def test_a_server_comes_back_where_it_was(servers: Answerers, server: Answerer) -> None:
    port = server.port
    servers.crash(server)
    servers.open(server)
    assert server.port == port
    assert not is_refused(server)


def test_a_server_whose_port_was_taken_gets_another(servers: Answerers, server: Answerer) -> None:
    servers.crash(server)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((LOOPBACK, server.port))
        other.listen()
        servers.open(server)
        assert server.port != other.getsockname()[1]
    assert not is_refused(server)


def test_closing_lets_an_answer_end(servers: Answerers, server: Answerer, client: http.client.HTTPConnection) -> None:
    server.fault = Fault.SLOW
    client.request("GET", "/")
    with socket.create_connection((LOOPBACK, server.port), timeout=5) as idle:
        deadline = time.monotonic() + 5
        while len(server.connections) < 2:  # until both have arrived
            assert time.monotonic() < deadline
        servers.close(server)
        assert idle.recv(1) == b""
    assert client.getresponse().status == 200
    assert is_refused(server)


def test_what_hangs_takes_requests_and_answers_them_in_their_order_when_mended(server: Answerer) -> None:
    server.fault = Fault.HANG
    with socket.create_connection((LOOPBACK, server.port), timeout=1) as connection:
        connection.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.fault = None
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert 0 < answer.index(b'"path": "/1"') < answer.index(b'"path": "/2"')


def test_what_hangs_keeps_nobody_when_it_goes(servers: Answerers, server: Answerer) -> None:
    server.fault = Fault.HANG
    with socket.create_connection((LOOPBACK, server.port), timeout=1) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        servers.close(server)
        assert connection.recv(1) == b""
