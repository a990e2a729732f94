"""What an SDK's resource class says about its properties: the table that inputs are checked against."""

import difflib
import importlib
import inspect
import threading
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pulumi import _types  # pyright: ignore[reportPrivateUsage]

from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import UNKNOWN, Properties, is_asset

SCALARS: Mapping[type, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}


IMPORTING = threading.Lock()
"""The SDK's modules import each other: two threads at it may each see half of one."""


@cache
def input_types(token: str) -> Mapping[str, Any]:
    """Type of each input of a resource, by its camelCase name.

    Raises:
        ProviderError: the SDK has no such resource.
    """
    return _types.input_type_types(_args_class(token))


@cache
def required_inputs(token: str) -> frozenset[str]:
    """CamelCase names of the inputs that a resource cannot do without."""
    args = _args_class(token)
    names = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters
    return frozenset(names[name] for name in names if parameters[name].default is inspect.Parameter.empty)


def _args_class(token: str) -> type:
    package, module, name = token.split(":")
    module = module.partition("/")[0]
    if module == "lambda":  # a keyword of Python
        module = "lambda_"
    try:
        with IMPORTING:
            return getattr(importlib.import_module(f"pulumi_{package}.{module}"), f"{name}Args")
    except (ImportError, AttributeError):
        raise ProviderError(f"the SDK has no resource {token}") from None


def problems(token: str, inputs: Properties) -> list[tuple[str, str]]:
    """Misspelt names and wrong types among the inputs, at any depth: (path, what is wrong)."""
    known = input_types(token)
    missing = [(name, f"{token} needs {name}") for name in sorted(required_inputs(token) - inputs.keys())]
    return missing + [
        problem for name, value in inputs.items() for problem in _property_problems(name, name, value, known, token)
    ]


def _property_problems(
    path: str, name: str, value: object, known: Mapping[str, Any], owner: str
) -> list[tuple[str, str]]:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(sorted(known))}"
        return [(path, f"{owner} has no property {name}{hint}")]
    return _value_problems(path, value, known[name])


def _value_problems(path: str, value: object, annotation: Any) -> list[tuple[str, str]]:
    if value == UNKNOWN or is_asset(value):
        return []
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        options = [_value_problems(path, value, option) for option in _plain_options(annotation)]
        return min(options, key=len, default=[])
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return [(path, f"must be a map, not {value!r}")]
        element = typing.get_args(annotation)[1]
        return [p for key, part in value.items() for p in _value_problems(f"{path}.{key}", part, element)]
    if origin is not None and issubclass(origin, Sequence):
        if not isinstance(value, list):
            return [(path, f"must be a list, not {value!r}")]
        element = typing.get_args(annotation)[0]
        return [p for i, part in enumerate(value) for p in _value_problems(f"{path}[{i}]", part, element)]
    if isinstance(annotation, type) and _types.is_input_type(annotation):
        if not isinstance(value, Mapping):
            return [(path, f"must be an object, not {value!r}")]
        known = _types.input_type_types(annotation)
        return [
            p
            for key, part in value.items()
            for p in _property_problems(f"{path}.{key}", key, part, known, annotation.__name__.removesuffix("Args"))
        ]
    if annotation in SCALARS and (
        not isinstance(value, SCALARS[annotation]) or (isinstance(value, bool) and annotation is not bool)
    ):
        return [(path, f"must be a {annotation.__name__}, not {value!r}")]
    return []


def _plain_options(annotation: Any) -> list[Any]:
    """The plain types of an Input: what is awaited or an Output has the same plain type."""
    return [
        option
        for option in typing.get_args(annotation)
        if option is not type(None)
        and getattr(typing.get_origin(option) or option, "__name__", "") not in ("Awaitable", "Output")
    ]
