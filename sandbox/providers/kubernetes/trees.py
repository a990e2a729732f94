"""Manifests as trees: what differs between two, what of a live object answers to what was asked for, fields by path."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandbox.providers.provider import Diff
from sandbox.providers.wire import Properties

ABSENT: Any = object()
"""Stands for a field that is not there, which is not the same as an empty one."""


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths where two trees differ, as Pulumi writes them (`spec.ports[0].name`), and the kind of each change."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), _below(path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            yield from differences(_element(old, index), _element(new, index), f"{path}[{index}]")
    elif old is ABSENT:
        yield path, Diff.ADD
    elif new is ABSENT:
        yield path, Diff.DELETE
    elif old != new:
        yield path, Diff.UPDATE


def _below(path: str, key: str) -> str:
    if any(character in key for character in '.[]"'):
        escaped = key.replace('"', '\\"')
        return f'{path}["{escaped}"]'
    return f"{path}.{key}" if path else key


def _element(elements: Sequence[Any], index: int) -> Any:
    return elements[index] if index < len(elements) else ABSENT


def lies_on(path: str, other: str) -> bool:
    """Whether one path leads to, or into, what the other names."""
    return _leads_into(path, other) or _leads_into(other, path)


def _leads_into(path: str, other: str) -> bool:
    return path.startswith(other) and path[len(other) :][:1] in ("", ".", "[")


def read_back(wanted: Any, before: Any, live: Any) -> Any:
    """What was wanted, in the words of who wanted it, except where the live object has changed since `before`.

    Fields that were not asked for are left out, however they came to be: `before` is the object as it was when the
    wish had just been carried out, so what it had already is the API server's own spelling or default.
    """
    if live == before:
        return wanted
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        known = before if isinstance(before, Mapping) else {}
        found = {key: read_back(part, known.get(key, ABSENT), live.get(key, ABSENT)) for key, part in wanted.items()}
        return {key: part for key, part in found.items() if part is not ABSENT}
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) <= len(live):
        known = before if isinstance(before, list) else []
        return [
            read_back(part, _counterpart(part, known, index), _counterpart(part, live, index))
            for index, part in enumerate(wanted)
        ]
    return live


def _counterpart(part: Any, elements: Sequence[Any], index: int) -> Any:
    """The element that answers to one that was asked for: of the same name, since others may have added theirs."""
    if isinstance(part, Mapping) and "name" in part:
        return next((element for element in elements if element.get("name") == part["name"]), ABSENT)
    return _element(elements, index)


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path; ABSENT where there is none."""
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return ABSENT
        tree = tree[name]
    return tree


def with_value(tree: Mapping[str, Any], path: str, value: Any) -> Properties:
    """A copy with another value at a dotted path; with ABSENT, without any."""
    changed = copy.deepcopy(dict(tree))
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place.setdefault(name, {})
    if value is ABSENT:
        place.pop(last, None)
    else:
        place[last] = value
    return changed


def renamed(tree: Any, old: str, new: str) -> Any:
    """A copy whose keys that begin with `x{old}kubernetes` are spelled with `new`, as CRD schemas need it.

    The SDK cannot have dashes in names: `x_kubernetes_int_or_string` is `x-kubernetes-int-or-string`.
    """
    if isinstance(tree, Mapping):
        return {
            key.replace(old, new) if key.startswith(f"x{old}kubernetes{old}") else key: renamed(part, old, new)
            for key, part in tree.items()
        }
    return [renamed(part, old, new) for part in tree] if isinstance(tree, list) else tree
