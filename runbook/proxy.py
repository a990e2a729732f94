"""One `kubectl proxy` for as long as a command runs: how to log in to a cluster stays kubectl's business.

It listens on a socket in a folder of its own, which only the user may enter, and does not outlive the command, however
that ends.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

END_SECONDS: Final = 5
LONGEST_PATH: Final = 100
"""Of a socket, in bytes: macOS takes 103, Linux 107."""
LOG_LINE: Final = re.compile(r"[EWIF]\d{4} ")
"""Where kubectl's own log begins a line."""

WITH_THIS_PROCESS: Final = """\
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
(trap "" TERM; read -r _; kill 0; rm -rf "$0") <&3 >/dev/null 2>&1 &
exec 3<&- >/dev/null
wait "$child"
kill -KILL "$!"
"""
"""Runs a command until it ends, or the other end of standard input is closed, as it is whichever way its holder ends.

That ends the whole process group, a login under way included, and removes the folder. The kernel's own signal for a
parent's end is Linux's only.
"""


class Proxy:
    """A proxy to the API server; it starts while other things are done."""

    def __init__(self, kubectl: str, environment: Mapping[str, str]) -> None:
        self._folder = _private_folder()
        self._socket = self._folder / "api"
        self._told = 0
        self._listens = False
        self._starting = threading.Lock()
        # A server may have a path of its own, as Rancher's do.
        command = [kubectl, "proxy", f"--unix-socket={self._socket}", "--append-server-path"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WITH_THIS_PROCESS, str(self._folder), *command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the command, which ends its own
            )

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def connect(self, seconds: float) -> HTTPConnection:
        """A connection that waits so long for the proxy to start, and for each answer.

        Raises:
            OSError: the proxy does not start.
        """
        with self._starting:
            self._wait_for_start(seconds)
        return _Connection(self._socket, seconds)

    def said(self) -> list[str]:
        """What kubectl, or a login of the kubeconfig's, has said since this was asked last; its own log left out."""
        with self._log.open("rb") as log:
            log.seek(self._told)
            lines = log.read().decode(errors="replace").splitlines()
            self._told = log.tell()
        return [line.strip() for line in lines if line.strip() and not LOG_LINE.match(line)]

    def close(self) -> None:
        """End it."""
        with self._process:  # waits for it after all
            try:
                self._process.communicate(timeout=END_SECONDS)  # closes the pipes
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_start(self, seconds: float) -> None:
        """Wait for the line that says where it listens."""
        out, end = self._process.stdout, time.monotonic() + seconds
        while out and not self._listens:
            ready, _, _ = select.select([out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError
            if not (line := out.readline()):
                self._process.wait()
                raise ConnectionError("kubectl proxy has ended")
            self._listens = line.startswith(b"Starting to serve")


class _Connection(HTTPConnection):
    """A connection over a socket of the file system."""

    def __init__(self, file: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._file = file
        self._seconds = seconds

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(str(self._file))


def _private_folder() -> Path:
    """A new folder that only the user may enter; under /tmp where the usual place is too deep for a socket's path."""
    usual = Path(tempfile.gettempdir())
    is_too_deep = len(os.fsencode(usual / "runbook-12345678" / "api")) > LONGEST_PATH
    return Path(tempfile.mkdtemp(prefix="runbook-", dir="/tmp" if is_too_deep else usual))  # noqa: S108 — mode 0700
