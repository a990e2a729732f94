"""The sandbox's own folder: everything it writes is in here or in the shared tool cache, never in the checkout."""

import hashlib
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from sandbox.errors import SandboxError


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
        """Make the folders; only the user may look into them.

        Raises:
            SandboxError: the folder cannot be written.
        """
        try:
            for folder in (self.folder, self.backend, self.logs, self.overrides, self.work, self.pulumi_home):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SandboxError(
                f"preparing the state directory {self.folder}: {error.strerror}; choose another with --state-dir"
            ) from None

    @property
    def backend(self) -> Path:
        """The engine's file backend."""
        return self.folder / "backend"

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
    def pulumi_home(self) -> Path:
        """The engine's home, so that the user's own logins and plugins stay out of it."""
        return self.folder / "pulumi-home"

    @property
    def records(self) -> Path:
        """What the providers only record."""
        return self.folder / "recorded.json"

    @property
    def services(self) -> Path:
        """Which services run, with process id and port."""
        return self.folder / "services.json"

    def passphrase(self) -> str:
        """Encrypts secrets in the sandbox's stack state; made up once."""
        path = self.folder / "passphrase"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text()

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the sandbox while services start or stop, so that two commands do not start them twice.

        Raises:
            SandboxError: another command has held it for a minute.
        """
        try:
            with FileLock(self.folder / "lock", timeout=60):
                yield
        except Timeout:
            raise SandboxError(
                f"waiting for the sandbox in {self.folder}: another command has held it for a minute; let that end"
            ) from None


def read_json(path: Path) -> Any:
    """Content of a JSON file, or None when there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file as a whole: a crash leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(path)
