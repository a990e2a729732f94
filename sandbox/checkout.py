"""The checkout as the user edits it: its stack files, read at every run and never written, and overrides over them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from infra.environments import with_defaults
from infra.naming import PROJECT
from infra.secrecy import SECRET_KEYS, given_secrets, in_plain_text
from infra.sections import MEANINGS, STACK_NAME
from infra.settings import Settings, SettingsError
from sandbox import edge_ports
from sandbox.errors import BadInputError
from sandbox.private_config import MADE_UP, SHOWN, PrivateConfig
from sandbox.state import State

ROOT = Path(__file__).parent.parent

Config = dict[str, Any]
"""Values by their keys, namespace included; a SecretStr is passed to the engine as a secret."""


def stack_file(stack: str) -> Path:
    """Where the config of a stack is."""
    return ROOT / f"Pulumi.{stack}.yaml"


def stacks() -> list[str]:
    """Stacks that have a stack file."""
    names = (path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in ROOT.glob("Pulumi.*.yaml"))
    return sorted(name for name in names if re.fullmatch(STACK_NAME, name))


def stack_config(stack: str) -> Config:
    """The config in a stack file, values as written.

    Raises:
        BadInputError: there is no such file, or it is not a stack file; says where and what.
    """
    if not re.fullmatch(STACK_NAME, stack):
        raise BadInputError(f"reading the stack {json.dumps(stack[:60])}: a stack's name is {MEANINGS[STACK_NAME]}")
    path = stack_file(stack)
    if not path.is_file():
        known = ", ".join(stacks()) or "none"
        raise BadInputError(
            f"reading the stack {stack}: there is no {path.name}; the stacks are {known}; copy one's file to make it"
        )
    content = load_yaml(path)
    config: object = content.get("config")
    if not isinstance(config, dict) or not config:
        raise BadInputError(f"reading {path.name}: it has no `config:` with the stack's settings below it")
    for key in config:
        if ":" not in key:
            raise BadInputError(f"reading {path.name}: the key {key} has no namespace; write {PROJECT}:{key}")
    plain = [key for key in given_secrets(config) if not _is_encrypted(config[key])]
    if plain:
        raise BadInputError(
            "\n".join(
                f"{in_plain_text(key, path.name)}, or take it out there and give it to the sandbox alone with sandbox "
                f"config set --secret {key} --stack {stack}"
                for key in plain
            )
        )
    return config


def overrides(state: State, stack: str) -> Config:
    """The sandbox's own config of a stack."""
    path = _overrides_file(state, stack)
    return load_yaml(path) if path.exists() else {}


def write_overrides(state: State, stack: str, config: Config) -> None:
    """Replace the sandbox's own config of a stack."""
    path = _overrides_file(state, stack)
    if config:
        partial = path.with_suffix(".partial")
        partial.write_text(dump_yaml(config))
        partial.replace(path)
    else:
        path.unlink(missing_ok=True)


def overlay(config: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    """`over` laid over `config`: sections are merged, everything else is replaced."""
    merged = dict(config)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _is_encrypted(below):
            merged[key] = overlay(below, value)
        else:
            merged[key] = value
    return merged


def nested(key: str, value: object) -> Config:
    """An overlay of one setting from its dotted key; the project's namespace may be left out.

    Raises:
        BadInputError: the key has an empty part.
    """
    namespace, separator, path = key.rpartition(":")
    parts = path.split(".")
    if not all(parts):
        raise BadInputError(f'setting "{key}": a part of the key is empty; write it like {PROJECT}:cost.enforce')
    for part in reversed(parts[1:]):
        value = {part: value}
    return {f"{namespace if separator else PROJECT}:{parts[0]}": value}


def without(config: Config, key: str) -> Config:
    """The config less one setting, by its dotted key.

    Raises:
        BadInputError: it has no such setting.
    """
    ((first, value),) = nested(key, None).items()
    path = [first]
    while isinstance(value, dict):
        ((part, value),) = value.items()
        path.append(part)
    try:
        return _without(config, path)
    except KeyError:
        raise BadInputError(
            f"resetting {key}: the sandbox has no value of its own for it; it has {', '.join(config) or 'none at all'}"
        ) from None


def _without(config: Config, path: list[str]) -> Config:
    if path[0] not in config:
        raise KeyError(path[0])
    rest = {key: value for key, value in config.items() if key != path[0]}
    if len(path) == 1:
        return rest
    below = config[path[0]]
    below = _without(below if isinstance(below, dict) else {}, path[1:])
    return {**rest, path[0]: below} if below else rest


def effective(state: State, stack: str, phase: int | None) -> tuple[Config, Settings]:
    """The config of a run, stack file and overrides and `--phase`, and the settings that it means.

    Raises:
        BadInputError: something in it is wrong; a line per problem.
    """
    own = overrides(state, stack)
    for key in given_secrets(own):
        raise BadInputError(
            f"{key}: must not be in plain text in {_overrides_file(state, stack)}; forget it with sandbox config reset "
            f"{key} --stack {stack}, and set it with sandbox config set --secret {key} --stack {stack}"
        )
    port = edge_ports.chosen(state, stack)
    config = _with_edge(stack, stack_config(stack), own, port)
    if phase is not None:
        config[f"{PROJECT}:phase"] = phase
    config = _with_secrets(config, PrivateConfig(state, stack).chosen)
    try:
        settings = Settings.from_config(stack, config)
    except SettingsError as error:
        prefix = f"reading the settings of {stack}: "
        raise BadInputError("\n".join(prefix + line for line in str(error).splitlines())) from None
    if settings.edge.port == port:
        edge_ports.keep(state, stack, port)
    return config, settings


def _with_edge(stack: str, config: Config, own: Config, port: int) -> Config:
    """The sandbox's own config over the stack file's; between them, that clients arrive in plain text at a free port.

    There is nobody here to listen to them, and the ports that they are used to are root's.
    """
    both = overlay(config, own)
    key = f"{PROJECT}:edge"
    given = both.get(key)
    if _is_encrypted(given):
        return both
    edge = with_defaults(both.get(f"{PROJECT}:environment", stack), {"edge": given})["edge"]
    if not isinstance(edge, Mapping) or edge.get("enabled") is not True or edge.get("certificateArn"):
        return both
    reachable = {key: {"plainHttp": True, "port": port}}
    return overlay(overlay(config, reachable), own)


def made_up(config: Config) -> list[str]:
    """Keys whose values the sandbox makes up."""
    return [key for key, value in config.items() if value is MADE_UP]


def shown(config: Config) -> Config:
    """The config as it may be printed."""
    return {key: SHOWN if isinstance(value, SecretStr) else value for key, value in config.items()}


def secret_key(key: str) -> str | None:
    """A secret setting's full key, from one that may lack the namespace; None for any other setting."""
    full = key if ":" in key else f"{PROJECT}:{key}"
    return full if full in SECRET_KEYS else None


def _with_secrets(config: Config, chosen: Mapping[str, str]) -> Config:
    """The config with values of the sandbox's own for what is encrypted for the stack's real backend.

    A setting that is no secret has to mean something, so nothing is made up for it.
    """
    result: Config = {}
    for key, value in config.items():
        if _is_encrypted(value) and (key in SECRET_KEYS or not key.startswith(f"{PROJECT}:")):
            result[key] = MADE_UP
            continue
        for path in _encrypted(key, value):
            raise BadInputError(
                f"reading {path}: it is encrypted for the stack's own backend; give the sandbox a value of its own: "
                f"sandbox config set {path} VALUE"
            )
        result[key] = value
    return result | {key: SecretStr(value) for key, value in chosen.items()}


def _is_encrypted(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {"secure"}


def _encrypted(path: str, value: object) -> Iterator[str]:
    """Paths of the encrypted values in a value; of the list, for one in a list."""
    if _is_encrypted(value):
        yield path
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _encrypted(f"{path}.{key}", part)
    elif isinstance(value, list) and any(True for part in value for _ in _encrypted(path, part)):
        yield path


def _overrides_file(state: State, stack: str) -> Path:
    return state.overrides / f"{stack}.yaml"


def load_yaml(path: Path) -> Config:
    """Content of a YAML file that is a mapping of text to values.

    Raises:
        BadInputError: it is not; says where and what.
    """
    try:
        content = parse_yaml(path.read_text())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        hint = "; indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise BadInputError(f"reading {path.name}{place}: {error.problem}{hint}") from None
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"reading {path.name}: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise BadInputError(f"reading {path.name}: it is not a mapping of keys to values")
    return content


def dump_yaml(value: object) -> str:
    """YAML in which text that has a digit is quoted: readers of other YAML versions see numbers where ours does not."""
    return yaml.dump(value, Dumper=_QuotingDumper, sort_keys=True)


class _QuotingDumper(yaml.SafeDumper):
    """Writes plain values, and text in quotes where it could be taken for a number."""


def _represent_text(dumper: _QuotingDumper, text: str) -> yaml.ScalarNode:
    quoted = any(character.isdigit() for character in text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_QuotingDumper.add_representer(str, _represent_text)


def parse_yaml(text: str) -> object:
    """A YAML value that JSON has too: the engine keeps config as JSON.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not one.
    """
    value = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 — it is a SafeLoader
    try:
        json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"{error}; quote dates and other such values") from None
    return value


class _UniqueKeyLoader(yaml.SafeLoader):
    """A key that stands twice is a slip, and YAML's own rule, the last one wins, hides it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        seen: set[str] = set()
        for key_node, _ in node.value:
            key: object = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands here twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
