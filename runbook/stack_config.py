"""The config of a stack, as the next deployment reads it: the stack file, and in the sandbox its overrides over it."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Final

from infra.naming import PROJECT
from runbook.errors import RunbookError

ROOT: Final = Path(__file__).parent.parent
"""The project's folder."""
INDENTS: Final = ((4, 2), (2, 0))
"""How far lists are indented: of one that writes a file as it is, the file keeps every line but those that change."""


class StackConfig:
    """Settings of one stack by their dotted keys, such as `blueGreen.greenWeight`. All may raise RunbookError."""

    def __init__(self, stack: str, state_folder: Path | None = None) -> None:
        self._stack = stack
        self._state_folder = state_folder
        self.file = ROOT / f"Pulumi.{stack}.yaml"

    @property
    def name(self) -> str:
        """What a message calls the place that is written to."""
        return f"the sandbox's overrides of {self._stack}" if self._state_folder else self.file.name

    def get(self, key: str, default: Any) -> Any:
        """A setting, or what holds where there is none."""
        value: Any = self._sandboxs() if self._state_folder else (_loaded(self.file)[1].get("config") or {})
        for part in _path(key):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value

    def set(self, changes: Mapping[str, object]) -> None:
        """Change settings; everything else, comments included, stays. A crash leaves the old file or the new one."""
        if self._state_folder:
            self._set_in_sandbox(changes)
            return
        yaml, content = _loaded(self.file)
        config = content.setdefault("config", {})
        for key, value in changes.items():
            *sections, last = _path(key)
            section = config
            for part in sections:
                if section.get(part) is None:
                    section[part] = {}
                section = section[part]
            section[last] = value
        written = StringIO()
        yaml.dump(content, written)
        _replace(self.file, written.getvalue())

    def _sandboxs(self) -> Mapping[str, Any]:
        from sandbox import checkout  # takes a second, and on AWS there may be no sandbox
        from sandbox.errors import SandboxError
        from sandbox.state import State

        try:
            assert self._state_folder  # noqa: S101 — for the type checker
            own = checkout.overrides(State(self._state_folder), self._stack)
            return checkout.overlay(checkout.stack_config(self._stack), own)
        except SandboxError as error:
            raise RunbookError(str(error)) from None

    def _set_in_sandbox(self, changes: Mapping[str, object]) -> None:
        from sandbox import checkout
        from sandbox.errors import SandboxError
        from sandbox.state import State

        assert self._state_folder  # noqa: S101 — for the type checker
        state = State(self._state_folder)
        try:
            config = checkout.overrides(state, self._stack)
            for key, value in changes.items():
                config = checkout.overlay(config, checkout.nested(key, value))
            checkout.write_overrides(state, self._stack, config)
        except (SandboxError, OSError) as error:
            raise RunbookError(f"writing {self.name}: {error}") from None


def _path(key: str) -> list[str]:
    first, *rest = key.split(".")
    return [f"{PROJECT}:{first}", *rest]


def _loaded(file: Path) -> tuple[Any, Any]:
    """What writes the file, and its content."""
    from ruamel.yaml import YAML  # takes a tenth of a second
    from ruamel.yaml.error import YAMLError

    found: list[tuple[Any, Any]] = []
    try:
        text = file.read_text()
        for sequence, offset in INDENTS:
            yaml = YAML()
            yaml.preserve_quotes = True
            yaml.width = 10_000
            yaml.indent(mapping=2, sequence=sequence, offset=offset)
            content, again = yaml.load(text), StringIO()
            if not isinstance(content, dict) or not isinstance(content.get("config") or {}, dict):
                raise RunbookError(f"reading {file.name}: it is no stack file")
            yaml.dump(content, again)
            found.append((yaml, content))
            if again.getvalue() == text:
                return found[-1]
    except (OSError, ValueError, YAMLError) as error:
        raise RunbookError(f"reading {file.name}: {str(error).splitlines()[0]}") from None
    return found[0]


def _replace(file: Path, text: str) -> None:
    """Write a file as a whole, through a link where it is one, with the same permissions."""
    file = file.resolve()
    partial = file.with_name(f".{file.name}.partial")
    try:
        try:
            partial.write_text(text)
            partial.chmod(file.stat().st_mode)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise RunbookError(f"writing {file.name}: {error.strerror}") from None
