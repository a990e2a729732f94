"""Values at depth in a resource's properties, by dotted paths such as `launchTemplate.id`."""

import copy
from collections.abc import Mapping
from typing import Any

from sandbox.providers.wire import Properties


def at(properties: Mapping[str, Any], path: str) -> Any:
    """The value at a path, or None."""
    value: Any = properties
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def drop(properties: Properties, path: str) -> None:
    """Remove the value at a path, if there is one."""
    name, _, rest = path.partition(".")
    if not rest:
        properties.pop(name, None)
    elif isinstance(properties.get(name), dict):
        drop(properties[name], rest)


def merged(defaults: Mapping[str, Any], properties: Mapping[str, Any]) -> Properties:
    """The properties, and defaults at any depth for those that are missing; a copy."""
    result = copy.deepcopy(dict(defaults))
    for key, value in properties.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            result[key] = merged(default, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def told(properties: Mapping[str, Any], known: Mapping[str, Any], defaults: Mapping[str, Any]) -> Properties:
    """The properties without those that nobody knows of and that say no more than AWS's defaults do; a copy."""
    result: Properties = {}
    for key, value in properties.items():
        default = defaults.get(key)
        kept = _told(value, known.get(key), default)
        if key in known or kept not in ("", [], {}, default):
            result[key] = kept
    return result


def _told(value: Any, known: Any, default: Any) -> Any:
    if isinstance(value, Mapping):
        return told(value, known if isinstance(known, Mapping) else {}, default if isinstance(default, Mapping) else {})
    if isinstance(value, list):
        others = known if isinstance(known, list) and len(known) == len(value) else [None] * len(value)
        return [_told(part, other, None) for part, other in zip(value, others, strict=True)]
    return value
