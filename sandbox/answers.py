"""What stands for the application: a tiny HTTP server for each of its pods, which says which pod it is.

All of them are in one thread. They speak HTTP/1.1 with connections that are kept, and take whatever clients do.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

SLOW_SECONDS = 0.5
HELD_SECONDS = 0.1
"""Between two looks whether what hangs still does."""
BACKLOG = 512
LOOPBACK = "127.0.0.1"


class Fault(StrEnum):
    """What is wrong with a release."""

    CRASH = "crash"
    """Nothing listens, and connections are cut."""
    SLOW = "slow"
    """Answers come half a second late."""
    ERRORS = "errors"
    """Every answer is a 503."""
    HANG = "hang"
    """Connections and requests are taken, and not answered until it is over."""


@dataclass(eq=False)
class Answerer:
    """One pod's server: who it is, and how it is."""

    service: str
    colour: str
    pod: str
    fault: Fault | None = None
    leaving: bool = False
    """Whether clients are told to come back with another connection, which then leads elsewhere."""
    port: int = 0
    """Where it listens, or last did; 0 when it never has."""
    listener: asyncio.Server | None = None
    connections: "set[_Connection]" = field(default_factory=set)

    @property
    def listens(self) -> bool:
        """Whether a client gets a connection."""
        return self.listener is not None

    def answer(self, path: str, *, body: bool, keep: bool) -> bytes:
        """The answer to a request, as it goes over the wire."""
        status = HTTPStatus.SERVICE_UNAVAILABLE if self.fault is Fault.ERRORS else HTTPStatus.OK
        about = {"service": self.service, "colour": self.colour, "pod": self.pod, "path": path}
        content = json.dumps(about).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nx-colour: {self.colour}\r\n"
            f"content-length: {len(content)}\r\n{'' if keep else 'connection: close' + chr(13) + chr(10)}\r\n"
        )
        return head.encode() + (content if body else b"")


class _Connection(asyncio.Protocol):
    """A client's connection to a pod's server."""

    def __init__(self, server: Answerer) -> None:
        self._server = server
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._busy = 0
        self._held: list[tuple[bytes, bool, bool]] = []
        """Requests that are not answered yet, as they came."""
        self.leaves = False
        """Whether the client is told to come back with another connection."""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as asked:  # answered as if it had not been asked for
            self._parser = HttpRequestParser(self)
            if rest := data[asked.args[0] :]:
                self.data_received(rest)
        except HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._busy += 1

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        body, keep = self._parser.get_method() != b"HEAD", self._parser.should_keep_alive()
        if self._held:
            self._held.append((self._url, body, keep))
        elif self._server.fault is Fault.HANG:
            self._held.append((self._url, body, keep))
            self._hold()
        elif self._server.fault is Fault.SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer, self._url, body, keep)
        else:
            self._answer(self._url, body, keep)

    def _hold(self) -> None:
        """Answer what has been held back, once the server does not hang any more."""
        if self._transport.is_closing():
            return
        if self._server.fault is Fault.HANG:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self._hold)
            return
        held, self._held = self._held, []
        for request in held:
            self._answer(*request)

    def _answer(self, url: bytes, body: bool, keep: bool) -> None:
        self._busy -= 1
        if self._transport.is_closing():
            return
        keep = keep and not self._server.leaving and not self.leaves
        self._transport.write(self._server.answer(url.decode(errors="replace"), body=body, keep=keep))
        if not keep:
            self._transport.close()

    def end(self) -> None:
        """Close it, once what is asked has been answered; what hangs never is."""
        if self._held or not self._busy:
            self._transport.close()

    def cut(self) -> None:
        """Close it, whatever it is at."""
        self._transport.abort()


class Answerers:
    """The servers, in a thread of their own. Its methods are for another thread, and wait until all is done."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="answers")
        self._thread.start()

    def open(self, server: Answerer) -> None:
        """Listen, where it did before if that is still free."""
        self._do(self._open(server))

    def crash(self, server: Answerer) -> None:
        """Listen no more, and cut its connections."""
        self._do(self._close(server, cut=True))

    def close(self, server: Answerer) -> None:
        """Listen no more, and let what is being answered be answered."""
        self._do(self._close(server, cut=False))

    def shed(self, server: Answerer) -> None:
        """Tell those that are connected, once, to come back with another connection."""
        self._do(self._shed(server))

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self, server: Answerer) -> None:
        loop = asyncio.get_running_loop()
        listener = _listener(self.address, server.port)
        server.port = listener.getsockname()[1]
        server.listener = await loop.create_server(lambda: _Connection(server), sock=listener, backlog=BACKLOG)

    async def _close(self, server: Answerer, *, cut: bool) -> None:
        if server.listener:
            server.listener.close()
            server.listener = None
        server.leaving = not cut
        for connection in [*server.connections]:
            if cut:
                connection.cut()
            else:
                connection.end()

    async def _shed(self, server: Answerer) -> None:
        for connection in server.connections:
            connection.leaves = True

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _listener(address: str, port: int) -> socket.socket:
    """A socket that is bound to a port, or to a free one where somebody else has that by now."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        made.bind((address, port))
        return made
    made.bind((address, 0))
    return made
