"""What a pod's specification means on this machine: volumes as folders, variables, and a command's words."""

import json
import math
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from sandbox.errors import SandboxError

Pod = Mapping[str, Any]
Spec = Mapping[str, Any]
"""A part of a pod's specification."""
Folders = Mapping[str, Path]
"""Where the mount paths of a container are on this machine."""
Kind = Literal["secrets", "configmaps"]

DEFAULT_MODE = 0o644
DEFAULT_TOKEN_SECONDS = 3600
CURRENT = "..data"
"""The link to the files as they are now; the kubelet calls it that too."""
KIND_NAMES: dict[Kind, str] = {"secrets": "Secret", "configmaps": "ConfigMap"}


class PodError(SandboxError):
    """A container cannot start, at least not yet; says what is missing."""


class Objects(Protocol):
    """Where volumes and variables get their content from."""

    def data(self, kind: Kind, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a Secret or ConfigMap; None when there is none."""
        ...

    def token(self, pod: Pod, audience: str | None, seconds: int) -> str:
        """A token of the pod's service account, for as long as the pod is there."""
        ...


class File(NamedTuple):
    """A file of a volume."""

    content: bytes
    mode: int = DEFAULT_MODE


def runs(pod: Pod, nodes: Iterable[str]) -> bool:
    """Whether the processes of a pod run: it has been started, is not on its way out, and its node is there."""
    return (
        pod.get("status", {}).get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
        and pod["spec"].get("nodeName") in nodes
    )


def lay_out(pod: Pod, volumes: Path, claims: Path, objects: Objects) -> None:
    """Make a pod's volumes, or bring those up to date whose content has changed.

    Raises:
        PodError: a Secret or ConfigMap is missing, or the sandbox does not know a volume's type.
    """
    for volume in pod["spec"].get("volumes", []):
        folder = _folder(volume, volumes, claims)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if "emptyDir" not in volume and "persistentVolumeClaim" not in volume:
            write(folder, _files(pod, volume, objects))


def folders(pod: Pod, container: Spec, volumes: Path, claims: Path) -> dict[str, Path]:
    """Where the mount paths of a container are on this machine; folders within a volume are made."""
    by_name = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    found: dict[str, Path] = {}
    for mount in container.get("volumeMounts", []):
        volume = by_name[mount["name"]]
        folder = _folder(volume, volumes, claims) / mount.get("subPath", "")
        if "emptyDir" in volume or "persistentVolumeClaim" in volume:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found[mount["mountPath"].rstrip("/")] = folder
    return found


def environment(
    pod: Pod, container: Spec, folders: Folders, objects: Objects, base: Mapping[str, str]
) -> dict[str, str]:
    """A container's variables, over those that it gets anyway.

    Raises:
        PodError: what one refers to is missing, or the sandbox does not know the kind of reference.
    """
    namespace, found = pod["metadata"]["namespace"], dict(base)
    for source in container.get("envFrom", []):
        for key, value in _all_of(source, namespace, objects).items():
            found[source.get("prefix", "") + key] = value.decode()
    for variable in container.get("env", []):
        if reference := variable.get("valueFrom"):
            value = _referred(reference, pod, container, objects)
        else:
            value = expanded(localized(variable.get("value", ""), folders), found)
        if value is not None:
            found[variable["name"]] = value
    return found


def words(container: Spec, field: Literal["command", "args"], folders: Folders, known: Mapping[str, str]) -> list[str]:
    """Command or arguments of a container, as they read on this machine."""
    return [expanded(localized(word, folders), known) for word in container.get(field) or []]


def localized(text: str, folders: Folders) -> str:
    """A text with the mount paths in it replaced by the folders on this machine, the longest first."""
    if not folders:
        return text
    paths = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])(?:{paths})(?![\w.-])", lambda match: str(folders[match.group()]), text)


def expanded(text: str, known: Mapping[str, str]) -> str:
    """A text with each $(NAME) of a known variable replaced, as Kubernetes does; $$(NAME) stands for $(NAME)."""

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        return "$" if name is None else known.get(name, match.group())

    return re.sub(r"\$(?:\$|\((?P<name>[A-Za-z_.-][\w.-]*)\))", value, text)


def write(folder: Path, files: Mapping[str, File]) -> bool:
    """Make files the content of a folder, all of them at one moment; False when they are that already."""
    current = folder / CURRENT
    if current.exists() and _content(current) == files:
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for name, file in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    before = current.resolve() if current.exists() else None
    link = folder / f"{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(current)
    seen = {Path(name).parts[0] for name in files}
    for name in seen:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path(CURRENT) / name)
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in seen:
            entry.unlink()
    if before:
        shutil.rmtree(before)
    return True


def _content(folder: Path) -> dict[str, File]:
    return {
        str(path.relative_to(folder)): File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def _folder(volume: Spec, volumes: Path, claims: Path) -> Path:
    """Where a volume is: with the pod, or where the claim's data stays when the pod goes."""
    claim = volume.get("persistentVolumeClaim")
    return claims / claim["claimName"] if claim else volumes / volume["name"]


def _files(pod: Pod, volume: Spec, objects: Objects) -> dict[str, File]:
    """Files of a volume by path."""
    match volume:
        case {"secret": source}:
            return _keys("secrets", pod, {"name": source["secretName"], **source}, source, objects)
        case {"configMap": source}:
            return _keys("configmaps", pod, source, source, objects)
        case {"projected": projected}:
            found: dict[str, File] = {}
            for source in projected["sources"]:
                found |= _projected(pod, source, projected, objects)
            return found
        case {"downwardAPI": source}:
            return _told(pod, source, source.get("defaultMode", DEFAULT_MODE))
        case _:
            kinds = ", ".join(sorted(set(volume) - {"name"}))
            raise PodError(f"the volume {volume['name']} is of a type that the sandbox lacks: {kinds}")


def _projected(pod: Pod, source: Spec, volume: Spec, objects: Objects) -> dict[str, File]:
    mode = volume.get("defaultMode", DEFAULT_MODE)
    match source:
        case {"secret": inner}:
            return _keys("secrets", pod, inner, volume, objects)
        case {"configMap": inner}:
            return _keys("configmaps", pod, inner, volume, objects)
        case {"serviceAccountToken": inner}:
            seconds = inner.get("expirationSeconds", DEFAULT_TOKEN_SECONDS)
            return {inner["path"]: File(objects.token(pod, inner.get("audience"), seconds).encode(), mode)}
        case {"downwardAPI": inner}:
            return _told(pod, inner, mode)
        case _:
            raise PodError(f"a volume has a source that the sandbox lacks: {', '.join(source)}")


def _told(pod: Pod, source: Spec, mode: int) -> dict[str, File]:
    """Fields of the pod as files."""
    return {
        item["path"]: File(field(pod, item["fieldRef"]["fieldPath"]).encode(), item.get("mode", mode))
        for item in source.get("items", [])
    }


def _keys(kind: Kind, pod: Pod, source: Spec, volume: Spec, objects: Objects) -> dict[str, File]:
    """A Secret or ConfigMap as files: all its keys, or those that are named."""
    mode = volume.get("defaultMode", DEFAULT_MODE)
    optional = source.get("optional", False)
    data = _data(kind, pod["metadata"]["namespace"], source["name"], objects, optional=optional)
    if not source.get("items"):
        return {key: File(value, mode) for key, value in data.items()}
    return {
        item["path"]: File(data[item["key"]], item.get("mode", mode))
        for item in source["items"]
        if _has(data, kind, source["name"], item["key"], optional=optional)
    }


def _data(kind: Kind, namespace: str, name: str, objects: Objects, *, optional: bool) -> Mapping[str, bytes]:
    data = objects.data(kind, namespace, name)
    if data is None and not optional:
        raise PodError(f"there is no {KIND_NAMES[kind]} {name}")
    return data or {}


def _has(data: Mapping[str, bytes], kind: Kind, name: str, key: str, *, optional: bool) -> bool:
    if key not in data and not optional:
        raise PodError(f"the {KIND_NAMES[kind]} {name} has no key {key}")
    return key in data


def _all_of(source: Spec, namespace: str, objects: Objects) -> Mapping[str, bytes]:
    """The Secret or ConfigMap all of whose keys become variables."""
    kind, reference = (
        ("secrets", source["secretRef"]) if "secretRef" in source else ("configmaps", source["configMapRef"])
    )
    return _data(kind, namespace, reference["name"], objects, optional=reference.get("optional", False))


def _referred(reference: Spec, pod: Pod, container: Spec, objects: Objects) -> str | None:
    """What a variable refers to; None when that is missing and may be."""
    match reference:
        case {"secretKeyRef": source}:
            kind = "secrets"
        case {"configMapKeyRef": source}:
            kind = "configmaps"
        case {"fieldRef": source}:
            return field(pod, source["fieldPath"])
        case {"resourceFieldRef": source}:
            return _amount(container, source)
        case _:
            raise PodError(f"a variable refers to what the sandbox lacks: {', '.join(reference)}")
    optional = source.get("optional", False)
    data = _data(kind, pod["metadata"]["namespace"], source["name"], objects, optional=optional)
    has = _has(data, kind, source["name"], source["key"], optional=optional)
    return data[source["key"]].decode() if has else None


def _amount(container: Spec, source: Spec) -> str | None:
    """A request or limit in units of the divisor, rounded up; None where there is none, for which a node has more."""
    part, name = source["resource"].split(".")
    quantity = container.get("resources", {}).get(part, {}).get(name)
    if quantity is None:
        return None
    from kubernetes.utils.quantity import parse_quantity  # half a second; few containers ask

    divisor = source.get("divisor", "1")
    return str(math.ceil(parse_quantity(quantity) / (parse_quantity(divisor) or 1)))


def field(pod: Pod, path: str) -> str:
    """A field of the pod that its containers may be told.

    Raises:
        PodError: the sandbox does not know it.
    """
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return pod["metadata"].get(match[1], {}).get(match[2], "")
    if match := re.fullmatch(r"metadata\.(labels|annotations)", path):
        return "\n".join(f"{key}={json.dumps(value)}" for key, value in pod["metadata"].get(match[1], {}).items())
    known: Sequence[str] = (
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.podIP",
        "status.hostIP",
    )
    if path not in known:
        raise PodError(f"the sandbox does not know the pod's field {path}")
    part, name = path.split(".")
    return pod[part].get(name, "")
