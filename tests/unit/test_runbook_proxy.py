"""The proxy: private, gone with the command however that ends, and clear where it does not start."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runbook import proxy
from runbook.proxy import Proxy
from runbook.target import ROOT

SERVES = """\
import os, socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[2].partition("=")[2])
listening.listen()
open({folder!r} + "/pid", "w").write(str(os.getpid()))
print("Starting to serve", flush=True)
time.sleep(60)
"""


def script(folder: Path, program: str) -> str:
    """A kubectl that is a program of Python's."""
    file = folder / "kubectl"
    file.write_text(f"#!{sys.executable} -IS\n{program}")
    file.chmod(0o755)
    return str(file)


def serves(folder: Path) -> str:
    """A kubectl whose proxy listens, and notes its number."""
    return script(folder, SERVES.format(folder=str(folder)))


def is_over(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds within five seconds."""
    end = time.monotonic() + 5
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_only_the_user_may_enter_where_it_listens_and_it_goes_again(tmp_path: Path) -> None:
    found = Proxy(serves(tmp_path), os.environ)
    folder = found._folder  # pyright: ignore[reportPrivateUsage]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    connection = found.connect(5)
    connection.connect()
    connection.close()
    found.close()
    assert not folder.exists()
    assert soon(lambda: is_over(int((tmp_path / "pid").read_text())))


def test_it_ends_with_a_command_that_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, runbook.proxy; found = runbook.proxy.Proxy(sys.argv[1], os.environ); found.connect(5); "
        "print(found._folder, flush=True)"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", f"{program}; sys.stdin.read()", serves(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with command:
        assert command.stdout
        folder = Path(command.stdout.readline().strip())
        assert folder.is_dir()
        pid = int((tmp_path / "pid").read_text())
        assert not is_over(pid)
        command.send_signal(signal.SIGKILL)
    assert soon(lambda: is_over(pid))
    assert soon(lambda: not folder.exists())


def test_one_that_ends_at_once_is_told_and_what_it_said(tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('E1122 log\\n\\nerror: no such file\\n'); sys.exit(1)"
    found = Proxy(script(tmp_path, program), os.environ)
    with pytest.raises(ConnectionError, match="kubectl proxy has ended"):
        found.connect(5)
    assert found.has_ended
    assert found.said() == ["error: no such file"]
    assert found.said() == []
    found.close()


def test_one_that_does_not_start_in_time_is_given_up(tmp_path: Path) -> None:
    found = Proxy(script(tmp_path, "import time; time.sleep(60)"), os.environ)
    with pytest.raises(TimeoutError):
        found.connect(0.1)
    assert not found.has_ended
    found.close()


def test_one_that_does_not_end_when_asked_is_made_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "END_SECONDS", 0.2)
    monkeypatch.setattr(proxy, "WITH_THIS_PROCESS", 'trap "" TERM\n"$@" &\nwait "$!"')
    found = Proxy(serves(tmp_path), os.environ)
    found.connect(5)
    found.close()
    assert soon(lambda: is_over(int((tmp_path / "pid").read_text())))


def test_where_temporary_files_are_too_deep_for_a_socket_it_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    found = Proxy(serves(tmp_path), os.environ)
    with contextlib.closing(found.connect(5)) as connection:
        connection.connect()
        assert connection.sock.family == socket.AF_UNIX
    assert str(deep) not in str(found._folder)  # pyright: ignore[reportPrivateUsage]
    found.close()
