"""An API server on a socket of the file system, which answers what a function says."""

import json
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, cast

Answer = tuple[int, Any]
"""A status, and an object for JSON or a text."""
Answers = Callable[[str, str, Any], Answer | None]
"""What is answered to a method, a path and an object; None hangs up."""
CODES = {"Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "AlreadyExists": 409, "Conflict": 409}


def refusal(reason: str, message: str) -> Answer:
    """The API's way to say no."""
    return CODES[reason], {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


def merge(held: dict[str, Any], change: dict[str, Any]) -> None:
    """A JSON merge patch that takes nothing away."""
    for key, value in change.items():
        if isinstance(value, dict):
            merge(held.setdefault(key, {}), value)
        else:
            held[key] = value


class Server(ThreadingMixIn, UnixStreamServer):
    """The server, and its thread."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, file: Path, answers: Answers) -> None:
        self.answers = answers
        self.connections: list[socket.socket] = []
        super().__init__(str(file), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def get_request(self) -> Any:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client hang up; anything else is the server's fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, and hang up."""
        self.shutdown()
        self.server_close()
        self._thread.join()
        for connection in self.connections:
            connection.close()


def serve(file: Path, answers: Answers) -> Server:
    """Serve on a socket."""
    return Server(file, answers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        answer = cast("Server", self.server).answers(self.command, self.path, body)
        if answer is None:
            self.close_connection = True
            return
        status, told = answer
        content = (told if isinstance(told, str) else json.dumps(told)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
