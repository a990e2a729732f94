"""Between the engine's protobuf structures and plain Python values."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime.rpc import UNKNOWN, is_rpc_secret, unwrap_rpc_secret

from sandbox.providers.errors import ProviderError

SIGNATURE_KEY = "4dabf18193072939515e22adb298388d"
"""Marks a special value; the key and the signatures below are part of Pulumi's provider protocol."""
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 — not one itself
ASSET_SIGNATURE = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE_SIGNATURE = "0def7320c3a5731c473e5ecbe6d01bc7"

Properties = dict[str, Any]


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """Plain values of a structure; whole numbers are ints, values not known yet stay UNKNOWN, nulls are left out.

    A provider's options have secrets marked, whatever it has said that it accepts; a resource's properties have not.
    """
    return {key: _plain(value) for key, value in json_format.MessageToDict(struct).items() if value is not None}


def _plain(value: Any) -> Any:
    if is_rpc_secret(value):
        return _plain(unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """The opposite of from_struct."""
    return json_format.ParseDict({k: v for k, v in values.items() if v is not None}, struct_pb2.Struct())


def with_secrets(values: Mapping[str, Any], names: Collection[str]) -> Properties:
    """The values with some of them marked as secret."""
    return {
        name: {SIGNATURE_KEY: SECRET_SIGNATURE, "value": value} if name in names and value != UNKNOWN else value
        for name, value in values.items()
    }


def is_unknown(value: object) -> bool:
    """Whether a value, or anything in it, is computed by AWS later."""
    if isinstance(value, Mapping):
        return any(is_unknown(part) for part in value.values())
    if isinstance(value, list):
        return any(is_unknown(part) for part in value)
    return isinstance(value, str) and UNKNOWN in value


def is_asset(value: object) -> bool:
    """Whether a value is an asset or an archive."""
    return isinstance(value, Mapping) and value.get(SIGNATURE_KEY) in (ASSET_SIGNATURE, ARCHIVE_SIGNATURE)


def same(one: object, other: object) -> bool:
    """Equal as AWS sees it: an asset is its content, wherever the checkout lies."""
    if is_asset(one) and is_asset(other):
        return one["hash"] == other["hash"]  # pyright: ignore[reportIndexIssue]
    return one == other


def archive_files(archive: Mapping[str, Any]) -> dict[str, bytes]:
    """Content of the files of an archive that was made from single assets.

    Raises:
        ProviderError: the archive has another form.
    """
    files: dict[str, bytes] = {}
    for name, asset in (archive.get("assets") or {}).items():
        if "path" in asset:
            files[name] = Path(asset["path"]).read_bytes()
        elif "text" in asset:
            files[name] = asset["text"].encode()
        else:
            raise ProviderError(f"the stand-in reads archives of files and strings only, not {name}")
    if not files:
        raise ProviderError("the stand-in reads archives of single assets only")
    return files
