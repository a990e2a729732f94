"""What is wrong with a stack's config, in words: the key, what is wrong with its value, and how to mend it."""

import difflib
import json
from typing import Any, Final, cast, get_args

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from infra.naming import PROJECT
from infra.sections import MEANINGS, Section

LONGEST_SHOWN: Final = 60


def explained(error: ValidationError, settings: type[Section]) -> list[str]:
    """One line for each problem of a config that these settings refuse."""
    return list(dict.fromkeys(_explain(details, settings) for details in _causes(error.errors())))


def section_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation holds, by itself, or in a list, or a mapping, or none."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors less those that only follow from another one: a list is too short for want of its refused entries."""
    locations = [error["loc"] for error in errors]
    return [
        error for error in errors if not any(other[: len(error["loc"])] == error["loc"] != other for other in locations)
    ]


def _explain(error: ErrorDetails, settings: type[Section]) -> str:
    location = [str(part) for part in error["loc"] if part != "[key]"]
    if not location:
        return str(error["ctx"]["error"]) if "ctx" in error else error["msg"]
    key = f"{PROJECT}:{'.'.join(location)}"
    if error["type"] == "missing":
        return f"{key}: is missing; {_example(location, settings)}"
    if error["type"] == "extra_forbidden":
        return f"{key}: is not a setting; {_suggestion(location, settings)}"
    problem = _problem(error)
    if ";" in problem:  # it says itself what is there and how to mend it
        return f"{key}: {problem}"
    is_key = "[key]" in error["loc"]
    given = "" if _is_secret(location, settings) else f", not {_shown(error['input'])}"
    return f"{key}: {problem}{given}; {_example(location[:-1] if is_key else location, settings)}"


def _problem(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "string_type":
            return "must be text"
        case "tuple_type":
            return "must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping of keys to values"
        case "greater_than":
            return f"must be more than {context['gt']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "too_short":
            least = context["min_length"]
            return f"must have at least {least} {'entry' if least == 1 else 'entries'}"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "string_pattern_mismatch":
            return f"must be {MEANINGS[context['pattern']]}"
        case _:
            return f"is refused ({error['msg']})"


def _is_secret(location: list[str], settings: type[Section]) -> bool:
    return any(
        field.alias == location[0] and SecretStr in get_args(field.annotation)
        for field in settings.model_fields.values()
    )


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, skipkeys=True)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _section_at(location: list[str], settings: type[Section]) -> type[Section]:
    """The section that holds the last part of a location."""
    section = settings
    for part in location[:-1]:
        for field in section.model_fields.values():
            if field.alias == part:
                section = section_in(field.annotation) or section
    return section


def _example(location: list[str], settings: type[Section]) -> str:
    """How to mend it, from the examples that each field carries."""
    section: type[Section] | None = settings
    path: list[str] = []
    example: object = None
    for part in location:
        if section is None:
            break
        field = next((field for field in section.model_fields.values() if field.alias == part), None)
        path.append(part)
        if field is not None:
            example = (field.examples or [None])[0]
            section = section_in(field.annotation)
        else:  # one entry of a list or a mapping
            example = next(iter(example.values() if isinstance(example, dict) else cast(list[object], example)))
    if path == ["stack"]:
        return f"make a stack of another name: pulumi stack init {example}"
    if _is_secret(path, settings):
        return f"set it with {example}"
    shown = example if isinstance(example, str) else json.dumps(example)
    return f"for example {PROJECT}:{'.'.join(path)}: {shown}"


def _suggestion(location: list[str], settings: type[Section]) -> str:
    fields = _section_at(location, settings).model_fields
    known = sorted(field.alias or name for name, field in fields.items() if name != "stack")
    parent = "".join(f"{part}." for part in location[:-1])
    if location[-1].partition(".")[0] in known:
        section, _, rest = location[-1].partition(".")
        path = f"{PROJECT}:{parent}{section}"
        return f"write it as {path}: {{{rest}: ...}}, or set it by its path: pulumi config set --path {path}.{rest} ..."
    close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    return f"did you mean {PROJECT}:{parent}{close[0]}?" if close else f"the settings are: {', '.join(known)}"
