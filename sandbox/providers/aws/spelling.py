"""Between an SDK's properties and AWS's structures, which differ in little but the spelling of names.

`subnetIds` is `SubnetIds` to one service and `subnetids` to none: names are matched without regard to case, against
botocore's models on AWS's side and against the SDK's classes on the other. A name without a match is refused.
"""

import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, StructureShape
from pulumi import _types  # pyright: ignore[reportPrivateUsage]

from sandbox.providers.errors import ProviderError
from sandbox.providers.schema import plain_options, state_types
from sandbox.providers.wire import Properties

TAG_MEMBERS = {"Key", "Value"}


def send(client: Any, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Call an operation, named as boto3's method, with parameters in either spelling.

    Raises:
        ProviderError: a parameter is none of the operation's.
    """
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
    return getattr(client, operation)(**to_request(shape, parameters, operation))


def to_request(shape: Any, value: Any, path: str) -> Any:
    """The value as AWS spells it. Maps of tags become lists of pairs, numbers and flags in text what they stand for."""
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        own: Mapping[str, Any] = shape.members  # pyright: ignore[reportAssignmentType]
        members = {name.lower(): (name, member) for name, member in own.items()}
        request: dict[str, Any] = {}
        for key, part in value.items():
            if part is None:
                continue
            if key.lower() not in members:
                raise ProviderError(f"{path} of AWS has no {key}, which the stand-in would send")
            name, member = members[key.lower()]
            request[name] = to_request(member, part, f"{path}.{key}")
        return request
    if isinstance(shape, ListShape):
        if isinstance(value, Mapping) and set(getattr(shape.member, "members", ())) == TAG_MEMBERS:
            return [{"Key": key, "Value": part} for key, part in value.items()]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [to_request(shape.member, part, path) for part in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {key: to_request(shape.value, part, f"{path}.{key}") for key, part in value.items()}
    return _scalar(shape.type_name, value)


def _scalar(type_name: str, value: Any) -> Any:
    if isinstance(value, str):
        if type_name == "boolean" and value in ("true", "false"):
            return value == "true"
        if type_name in ("integer", "long") and value.isdecimal():
            return int(value)
    if type_name == "string" and isinstance(value, bool):
        return str(value).lower()
    if type_name == "string" and isinstance(value, int):
        return str(value)
    return value


def to_properties(token: str, answer: Mapping[str, Any]) -> Properties:
    """What an answer of AWS says about the properties of a type, as far as the names are the same."""
    return _structure(state_types(token), answer)


def _structure(wanted: Mapping[str, Any], answer: Mapping[str, Any]) -> Properties:
    told = {key.lower(): value for key, value in answer.items()}
    found = {
        name: _value(annotation, told[name.lower()]) for name, annotation in wanted.items() if name.lower() in told
    }
    return {name: value for name, value in found.items() if value is not None}


def _value(annotation: Any, value: Any) -> Any:
    """A value as a property of the annotated type is spelled; None where it is of another form altogether."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = plain_options(annotation) if is_union else [annotation]
    origins = [typing.get_origin(kind) for kind in kinds]
    if isinstance(value, Mapping):
        structure = next((kind for kind in kinds if isinstance(kind, type) and _types.is_input_type(kind)), None)
        if structure:
            return _structure(_types.input_type_types(structure), value)
        return dict(value) if _among(origins, Mapping) else None
    if isinstance(value, list):
        if _among(origins, Mapping) and all(set(part) == TAG_MEMBERS for part in value):
            return {part["Key"]: part["Value"] for part in value}
        lists = [kind for kind, origin in zip(kinds, origins, strict=True) if _among([origin], Sequence)]
        return [_value(typing.get_args(lists[0])[0], part) for part in value] if lists else None
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if str in kinds and isinstance(value, bool):
        return str(value).lower()
    if str in kinds and isinstance(value, int):
        return str(value)
    return value


def _among(origins: Sequence[Any], kind: type) -> bool:
    return any(isinstance(origin, type) and issubclass(origin, kind) for origin in origins)
