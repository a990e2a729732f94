"""What the engine's file backend keeps of a stack, read without loading the engine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.phases import OUTPUTS
from sandbox.errors import SandboxError
from sandbox.providers.wire import SIGNATURE_KEY
from sandbox.state import read_json

SECRET_MARK = SIGNATURE_KEY
"""Key that marks an encrypted value in a deployment."""


def deployment(path: Path) -> Mapping[str, Any]:
    """The deployment in a stack's file; empty when there is none.

    Raises:
        SandboxError: it is not a stack's file.
    """
    try:
        return read_json(path).get("checkpoint", {}).get("latest") or {}
    except AttributeError:
        raise SandboxError(f"reading {path}: it is damaged; delete the sandbox's whole folder and start anew") from None


def package_of(type: str) -> str:
    """Package that a type belongs to; a provider belongs to the package that it provides."""
    package, _, rest = type.partition(":")
    return rest.rpartition(":")[2] if package == "pulumi" and rest.startswith("providers:") else package


def outputs_of(path: Path) -> dict[str, Any] | None:
    """The outputs in a stack's file, null below their phase, secret ones not shown; None where nothing is deployed."""
    resources = deployment(path).get("resources", [])
    stack = next((resource for resource in resources if resource["type"] == "pulumi:pulumi:Stack"), {})
    if not stack.get("outputs"):
        return None
    values = {
        name: "[secret]" if isinstance(value, dict) and SECRET_MARK in value else value
        for name, value in stack["outputs"].items()
    }
    return {**dict.fromkeys(OUTPUTS), **values}  # the engine does not keep nulls
