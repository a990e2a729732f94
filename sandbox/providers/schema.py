"""What an SDK's resource class says about its properties: the table that inputs are checked against."""

import difflib
import importlib
import inspect
import sys
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
def state_types(token: str) -> Mapping[str, Any]:
    """Type of each output of a resource, inputs among them, by its camelCase name."""
    module = sys.modules[_args_class(token).__module__]  # the class is private to it
    return _types.input_type_types(getattr(module, f"_{token.rpartition(':')[2]}State"))


@cache
def required_inputs(token: str) -> frozenset[str]:
    """CamelCase names of the inputs that a resource cannot do without."""
    args = _args_class(token)
    names = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters
    return frozenset(names[name] for name in names if parameters[name].default is inspect.Parameter.empty)


def has_class(token: str) -> bool:
    """Whether the SDK has a class for a resource; it has none for custom resources of Kubernetes."""
    try:
        _args_class(token)
    except ProviderError:
        return False
    return True


@cache
def _args_class(token: str) -> type:
    package, module, name = token.split(":")
    try:
        with IMPORTING:
            sdk = importlib.import_module(f"pulumi_{package}{_submodule(package, module)}")
            # Where there are both, the shorter is an object's within another resource.
            return getattr(sdk, f"{name}InitArgs", None) or getattr(sdk, f"{name}Args")
    except (ImportError, AttributeError):
        raise ProviderError(f"the SDK has no resource {token}") from None


def _submodule(package: str, module: str) -> str:
    """Where in the package's SDK the types of a token's module are."""
    name, _, rest = module.partition("/")
    if name == "index":
        return ""
    if package == "kubernetes":  # there it is a group and a version, as in rbac.authorization.k8s.io/v1
        return f".{name.partition('.')[0]}.{rest}"
    return ".lambda_" if name == "lambda" else f".{name}"  # a keyword of Python


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
    if origin is typing.Literal:
        wanted = typing.get_args(annotation)
        return [] if value in wanted else [(path, f"must be {' or '.join(map(repr, wanted))}, not {value!r}")]
    if origin in (typing.Union, types.UnionType):
        options = [_value_problems(path, value, option) for option in plain_options(annotation)]
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


def plain_options(annotation: Any) -> list[Any]:
    """The plain types of an Input: what is awaited or an Output has the same plain type."""
    return [
        option
        for option in typing.get_args(annotation)
        if option is not type(None)
        and getattr(typing.get_origin(option) or option, "__name__", "") not in ("Awaitable", "Output")
    ]
