"""Secret settings as the sandbox has them: values in a file that only the user may read.

What a stack file holds encrypted is for the stack's own backend, which the sandbox cannot ask. In its place the sandbox
takes a value that the user has chosen for it, or makes one up.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from filelock import FileLock
from pydantic import SecretStr

from sandbox.errors import SandboxError
from sandbox.state import State, read_json, write_private

SHOWN = "[secret]"

MADE_UP = SecretStr("made up when it is first needed")
"""Stands in a config for a value that the sandbox makes up; told apart by identity."""

KINDS = ("chosen", "made_up")


class PrivateConfig:
    """Secret values of one stack, by the keys of their settings."""

    def __init__(self, state: State, stack: str) -> None:
        self._path = state.folder / "secrets" / f"{stack}.json"

    @property
    def chosen(self) -> Mapping[str, str]:
        """What the user has set."""
        return self._read()["chosen"]

    def choose(self, chosen: Mapping[str, str]) -> None:
        """Replace what the user has set."""
        if chosen != self.chosen:
            with self._locked():
                self._write({**self._read(), "chosen": dict(chosen)})

    def value(self, key: str, given: SecretStr) -> str:
        """The value behind what stands in a config; one that is made up stays the same from then on."""
        if given is not MADE_UP:
            return given.get_secret_value()
        with self._locked():
            content = self._read()
            if key not in content["made_up"]:
                content["made_up"][key] = secrets.token_urlsafe(24)
                self._write(content)
            return content["made_up"][key]

    def _locked(self) -> FileLock:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        return FileLock(self._path.with_suffix(".lock"))

    def _read(self) -> dict[str, dict[str, str]]:
        content: dict[str, Any] = {**{kind: {} for kind in KINDS}, **read_json(self._path)}
        if not all(_is_texts(content[kind]) for kind in KINDS):
            raise SandboxError(f"reading {self._path}: it is damaged; delete it, and set its values again")
        return content

    def _write(self, content: Mapping[str, Any]) -> None:
        partial = self._path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        write_private(partial, json.dumps(content, indent=1))
        partial.replace(self._path)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
