"""The sandbox's own folder: everything it writes is in here or in the shared tool cache, never in the checkout."""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from infra.naming import PROJECT
from sandbox.errors import BadInputError, SandboxError


def cache_folder() -> Path:
    """Where tools and the state of sandboxes live; XDG_CACHE_HOME moves it."""
    return Path(platformdirs.user_cache_dir("pyairtable", appauthor=False))


def default_state_folder(checkout: Path) -> Path:
    """One sandbox per checkout, so that two clones do not meet."""
    digest = hashlib.sha256(str(checkout.resolve()).encode()).hexdigest()[:12]
    return cache_folder() / "sandbox" / f"{checkout.name}-{digest}"


class State:
    """Paths and small files of one sandbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def prepare(self) -> None:
        """Make the folders; what the sandbox makes, only the user may look into.

        Raises:
            BadInputError: the folder cannot be written.
        """
        try:
            for folder in (
                self.folder,
                self.backend,
                self.logs,
                self.overrides,
                self.work,
                self.locks,
                self.temporary,
                self.pulumi_home,
                self.clusters,
            ):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadInputError(
                f"preparing the state directory {self.folder}: {error.strerror}; choose another with --state-dir"
            ) from None

    @property
    def backend(self) -> Path:
        """The engine's file backend."""
        return self.folder / "backend"

    @property
    def stacks(self) -> Path:
        """Where the engine's file backend keeps the project's stacks, a file per stack."""
        return self.backend / ".pulumi" / "stacks" / PROJECT

    def stack(self, name: str) -> Path:
        """The file in which it keeps a stack."""
        return self.stacks / f"{name}.json"

    @property
    def logs(self) -> Path:
        """Logs of emulator and provider."""
        return self.folder / "logs"

    @property
    def overrides(self) -> Path:
        """The sandbox's own config, a file per stack."""
        return self.folder / "overrides"

    @property
    def work(self) -> Path:
        """Work folders of the engine, one per stack."""
        return self.folder / "work"

    @property
    def temporary(self) -> Path:
        """Temporary files of the services."""
        return self.folder / "tmp"

    @property
    def locks(self) -> Path:
        """A file per stack that is locked while a command works on it."""
        return self.folder / "locks"

    @property
    def pulumi_home(self) -> Path:
        """The engine's home, so that the user's own logins and plugins stay out of it."""
        return self.folder / "pulumi-home"

    @property
    def clusters(self) -> Path:
        """Control planes, a folder per cluster."""
        return self.folder / "clusters"

    @property
    def records(self) -> Path:
        """What the providers only record."""
        return self.folder / "recorded.json"

    @property
    def services(self) -> Path:
        """Which services run, with process id and port."""
        return self.folder / "services.json"

    @property
    def ports(self) -> Path:
        """Ports that services keep for their next start."""
        return self.folder / "ports.json"

    def passphrase(self) -> str:
        """Encrypts secrets in the sandbox's stack state; made up once."""
        path = self.folder / "passphrase"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the sandbox while services start or stop, so that two commands do not start them twice."""
        with _lock(self.folder / "lock", f"another command starts or stops the sandbox in {self.folder}"):
            yield

    @contextmanager
    def stack_locked(self, stack: str) -> Generator[None]:
        """Hold one stack, so that a command runs with its own config to its end."""
        with _lock(self.stack_lock(stack), f"another command works on the stack {stack}"):
            yield

    def stack_lock(self, stack: str) -> Path:
        """The file that is locked while a command works on a stack."""
        return self.locks / f"{stack}.lock"

    def busy_stacks(self) -> list[str]:
        """Stacks that a command works on right now."""
        busy: list[str] = []
        for path in sorted(self.locks.glob("*.lock")):
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                busy.append(path.stem)
        return busy


@contextmanager
def _lock(path: Path, why: str) -> Generator[None]:
    """Hold a file's lock; while another command does, say so and wait. A process that dies lets go of it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        print(f"waiting: {why}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file that the sandbox or the engine wrote; empty when there is none.

    Raises:
        SandboxError: it is not what was written.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SandboxError(f"reading {path}: {error}; delete the file, or the sandbox's whole folder") from None
    if not isinstance(content, dict):
        raise SandboxError(f"reading {path}: it is not a JSON object; delete the file, or the sandbox's whole folder")
    return content


def write_private(path: Path, text: str) -> None:
    """Write a new file that only the user may read, not even for a moment another."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file as a whole: a crash leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(path)
