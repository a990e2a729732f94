"""Looks for secret values where they must not be: in plain text, in Base64, in URLs and in quoted strings."""

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

SHORTEST = 6
"""Characters of a value that is worth looking for: a shorter one is found everywhere."""


class Place(NamedTuple):
    """Where a secret was found. It does not have the value, so that a failing test does not print it."""

    secret: str
    where: str
    form: str
    at: int
    """Offset in bytes."""


def places(
    secrets: Mapping[str, str],
    folders: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
    *,
    leave_out: Iterable[Path] = (),
) -> list[Place]:
    """Every place of secrets, which are given by what to call them, in folders at any depth, and in texts by name.

    Names of files count as well. `leave_out` are folders and files that hold secrets by nature. Compressed and
    encrypted content is not opened.

    Raises:
        ValueError: there is nothing to look for, or a value is too short to tell anything.
        FileNotFoundError: there is no such folder, or nothing in one.
    """
    wanted = {name: forms(value) for name, value in secrets.items()}
    if not wanted:
        raise ValueError("there is nothing to look for")
    found: list[Place] = []
    for where, content in _contents(folders, texts or {}, frozenset(leave_out)):
        squeezed = _squeezed(content)
        for name, spelled in wanted.items():
            exact = [Place(name, where, form, at) for form, text in spelled.items() for at in _all(text, content)]
            # Base64 is folded into lines, and YAML indents those of a text.
            folded = {_squeezed(text): f"{form}, folded" for form, text in reversed(spelled.items())}
            found += exact or [
                Place(name, where, form, at) for text, form in folded.items() for at in _all(text, squeezed)
            ]
    return found


def forms(value: str) -> dict[str, bytes]:
    """The ways in which a value may be written, by what they are called; equal ones only once.

    Raises:
        ValueError: it is too short.
    """
    if len(value) < SHORTEST:
        raise ValueError(f"a value of {len(value)} characters would be found everywhere; give one of {SHORTEST}")
    quoted = json.dumps(value)[1:-1]
    spelled = {
        "plain": value,
        "JSON": quoted,
        "JSON, other characters as they are": json.dumps(value, ensure_ascii=False)[1:-1],
        "JSON in JSON": json.dumps(quoted)[1:-1],
        "URL": quote(value, safe=""),
        "URL in lower case": _lower_escapes(quote(value, safe="")),
        "URL with slashes": quote(value),
        "form": quote_plus(value),
        "form in lower case": _lower_escapes(quote_plus(value)),
    }
    for skipped in range(3):
        spelled |= {f"{name} after {skipped}": text for name, text in _base64(value.encode(), skipped).items()}
    unique: dict[bytes, str] = {}
    for form, text in spelled.items():
        unique.setdefault(text.encode(), form)
    return {form: text for text, form in unique.items()}


def _base64(data: bytes, skipped: int) -> dict[str, str]:
    """The part of a Base64 text that says the data alone, when a number of bytes is before them in their group."""
    first, last = -(-skipped * 8 // 6), (skipped + len(data)) * 8 // 6
    padded = b"\0" * skipped + data
    return {
        "Base64": base64.b64encode(padded).decode()[first:last],
        "Base64 for URLs": base64.urlsafe_b64encode(padded).decode()[first:last],
    }


def _lower_escapes(text: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), text)


def _all(text: bytes, content: bytes) -> Iterator[int]:
    at = content.find(text)
    while at >= 0:
        yield at
        at = content.find(text, at + 1)


def _squeezed(content: bytes) -> bytes:
    """The content without blanks, and without the line breaks of quoted text."""
    return b"".join(content.replace(b"\\n", b"\n").split())


def _contents(
    folders: Iterable[Path], texts: Mapping[str, str], leave_out: frozenset[Path]
) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        yield from _files(folder, leave_out)
    for where, text in texts.items():
        yield where, text.encode()


def _files(folder: Path, leave_out: frozenset[Path]) -> Iterator[tuple[str, bytes]]:
    empty = True
    for parent, below, files in os.walk(folder):
        below[:] = [name for name in below if Path(parent) / name not in leave_out]
        for path in (Path(parent) / name for name in files):
            if path in leave_out:
                continue
            empty = False
            yield f"name of {path}", str(path.relative_to(folder)).encode()
            with contextlib.suppress(FileNotFoundError):  # of a process that runs
                if stat.S_ISREG(path.lstat().st_mode):
                    yield str(path), path.read_bytes()
    if empty:
        raise FileNotFoundError(f"{folder}: there is nothing to look through")
