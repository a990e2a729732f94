"""Stack config -> one frozen, validated Settings. Nothing else reads config."""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast, get_args, get_origin

import pulumi
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from infra.naming import PROJECT, Names
from infra.phases import HIGHEST_BUILT, Phase

Environment = Literal["dev", "staging", "prod"]
ENVIRONMENTS: Final = cast(tuple[Environment, ...], get_args(Environment))

ACCOUNT_WIDE_LIMIT_USD: Final = 98 + 150 + 395
"""What the three committed stacks may cost together, US dollars a month: the cost targets of the migration runbook."""

STACK_NAME: Final = r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$"
ACCOUNT_ID: Final = r"^\d{12}$"
EMAIL: Final = r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$"
HOST_NAME: Final = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$"
REPOSITORY_NAME: Final = r"^[a-z0-9]+([._-][a-z0-9]+)*$"
TAG_VALUE: Final = r"^[A-Za-z0-9 _.:/=+@-]{1,64}$"

MEANINGS: Final[Mapping[str, str]] = {
    STACK_NAME: "up to 30 lower-case letters, digits and inner hyphens, the first a letter",
    ACCOUNT_ID: "the 12 digits of an AWS account id, in quotes",
    EMAIL: "an e-mail address",
    HOST_NAME: "a host name without scheme or path",
    REPOSITORY_NAME: "lower-case letters and digits, separated by single dots, hyphens or underscores",
    TAG_VALUE: "1 to 64 letters, digits, spaces or _.:/=+@-",
}
"""What each pattern means, for error messages."""

Email = Annotated[str, StringConstraints(pattern=EMAIL, max_length=254)]
RepositoryName = Annotated[str, StringConstraints(pattern=REPOSITORY_NAME, max_length=100)]


class SettingsError(pulumi.RunError):
    """A stack's config is wrong. One line per problem; Pulumi prints it without a traceback."""


class Section(BaseModel):
    """A part of the config: camelCase keys, nothing unknown, nothing mutable."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, coerce_numbers_to_str=True, validate_default=True
    )


class RegistrySettings(Section):
    """Where container images come from (runbook step 1.1)."""

    host: Annotated[str, StringConstraints(pattern=HOST_NAME)] = Field(default="ghcr.io", examples=["ghcr.io"])
    organization: RepositoryName = Field(default="pyairtable-org", examples=["pyairtable-org"])
    mirror: Literal["none", "ecr"] = Field(default="none", examples=["ecr"])
    repositories: dict[
        Literal["legacy", "microservices"], Annotated[tuple[RepositoryName, ...], Field(min_length=1)]
    ] = Field(
        default={
            "legacy": (
                "api-gateway",
                "platform-services",
                "automation-services",
                "llm-orchestrator",
                "mcp-server",
                "airtable-gateway",
            ),
            "microservices": (
                "api-gateway",
                "auth-service",
                "user-service",
                "tenant-service",
                "workspace-service",
            ),
        },
        examples=[{"legacy": ["api-gateway"]}],
    )


class CostSettings(Section):
    """How the estimate is made and what happens when it exceeds the budget."""

    enforce: bool = Field(default=True, examples=[True])
    stacks_per_account: int = Field(default=3, strict=True, ge=1, le=100, examples=[3])
    """Stacks that share the account, and with it AWS's free allowances per account."""


class Settings(Section):
    """Everything that one stack's config says, validated."""

    stack: Annotated[str, StringConstraints(pattern=STACK_NAME)] = Field(examples=["alice-dev"])
    environment: Environment = Field(examples=["dev"])
    phase: Phase = Field(examples=[1])
    account_id: Annotated[str, StringConstraints(pattern=ACCOUNT_ID)] = Field(examples=['"123456789012"'])
    region: Literal["us-east-1"] = Field(default="us-east-1", examples=["us-east-1"])
    """The price list holds one region's prices; another region needs them first."""
    monthly_budget_usd: int = Field(gt=0, le=100_000, examples=[98])
    alert_emails: Annotated[tuple[Email, ...], Field(min_length=1, max_length=10)] = Field(
        examples=[["platform@example.com"]]
    )
    """Ten is what AWS Budgets and this project's alert topic are meant for; a mailing list holds more."""
    account_wide_limit_usd: int = Field(
        default=ACCOUNT_WIDE_LIMIT_USD, gt=0, le=1_000_000, examples=[ACCOUNT_WIDE_LIMIT_USD]
    )
    """Where the alarm on the whole account's charges goes off; all stacks of the account share those."""
    cost_center: Annotated[str, StringConstraints(pattern=TAG_VALUE)] = Field(default="platform", examples=["platform"])
    registry: RegistrySettings = Field(default=RegistrySettings(), examples=[{"mirror": "ecr"}])
    cost: CostSettings = Field(default=CostSettings(), examples=[{"enforce": False}])

    @field_validator("phase", mode="before")
    @classmethod
    def _phase_is_built(cls, value: object) -> object:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value) else value
        if not isinstance(number, int) or number not in list(Phase):
            raise ValueError(f"must be a whole number from {min(Phase)} to {max(Phase)}")
        if number > HIGHEST_BUILT:
            raise ValueError(f"must be at most {HIGHEST_BUILT}: the later phases are not built yet")
        return number

    @field_validator("alert_emails")
    @classmethod
    def _no_email_twice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({email.lower() for email in value}) < len(value):
            raise ValueError("must not name an address twice")
        return value

    @field_validator("registry")
    @classmethod
    def _no_repository_twice(cls, value: RegistrySettings) -> RegistrySettings:
        for group, names in value.repositories.items():
            if len(set(names)) < len(names):
                raise ValueError(f"must not name a repository twice in repositories.{group}")
        return value

    @model_validator(mode="after")
    def _stack_means_its_environment(self) -> "Settings":
        if self.stack in ENVIRONMENTS and self.environment != self.stack:
            raise ValueError(
                f"{PROJECT}:environment: must be {self.stack} or absent in the stack {self.stack}, not "
                f'"{self.environment}"; for other defaults make a stack of another name, for example '
                f"alice-{self.environment}"
            )
        return self

    @property
    def names(self) -> Names:
        """Names and tags of this stack."""
        return Names(stack=self.stack, environment=self.environment, cost_center=self.cost_center)

    @classmethod
    def from_stack(cls) -> "Settings":
        """Settings of the stack that Pulumi is running.

        Raises:
            SettingsError: the config is wrong; says which key, what is wrong with it, and how to mend it.
        """
        return cls.from_config(pulumi.get_stack(), pulumi.runtime.config.CONFIG.get())

    @classmethod
    def from_config(cls, stack: str, config: Mapping[str, object]) -> "Settings":
        """Settings from the config of a stack, as the engine passes it or as the stack file holds it.

        Keys of other namespaces are left alone, but for those of providers, which would do nothing without a word.
        Raises SettingsError like `from_stack`.
        """
        values: dict[str, Any] = {}
        for key, value in config.items():
            namespace, _, name = key.partition(":")
            if namespace in ("aws", "kubernetes"):
                instead = f"; set {PROJECT}:region" if name == "region" else ""
                raise SettingsError(f"{key}: has no effect, the program makes its own providers; remove it{instead}")
            if namespace == PROJECT:
                values[name] = _as_written(name, value)
        if "stack" in values:
            raise SettingsError(f"{PROJECT}:stack: is not a setting: it is the stack's own name; remove the key")
        values["stack"] = stack
        if values.get("environment", "") == "":  # empty is the schema's default in Pulumi.yaml
            values["environment"] = _environment_of(stack)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = dict.fromkeys(_explain(details) for details in _causes(error.errors()))
            raise SettingsError("\n".join(problems)) from None


def _environment_of(stack: str) -> str:
    environment = stack.rpartition("-")[2]
    if environment not in ENVIRONMENTS:
        raise SettingsError(
            f"{PROJECT}:environment: is missing and the stack's name, {stack}, does not end in one of "
            f"{', '.join(ENVIRONMENTS)}; for example {PROJECT}:environment: dev"
        )
    return environment


def _as_written(name: str, value: object) -> object:
    """Undo the two spellings of a value: the engine passes scalars as strings and the rest as JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and _is_structured(name):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _is_structured(name: str) -> bool:
    for field in Settings.model_fields.values():
        if field.alias == name:
            annotation = field.annotation
            return get_origin(annotation) is tuple or (isinstance(annotation, type) and issubclass(annotation, Section))
    return False


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors less those that only follow from another one: a list is too short for want of its refused entries."""
    locations = [error["loc"] for error in errors]
    return [
        error for error in errors if not any(other[: len(error["loc"])] == error["loc"] != other for other in locations)
    ]


def _explain(error: ErrorDetails) -> str:
    """One line for one problem: the key, what is wrong with its value, and how to mend it."""
    location = [str(part) for part in error["loc"] if part != "[key]"]
    if not location:
        return str(error["ctx"]["error"]) if "ctx" in error else error["msg"]
    key = f"{PROJECT}:{'.'.join(location)}"
    if error["type"] == "missing":
        return f"{key}: is missing; {_example(location)}"
    if error["type"] == "extra_forbidden":
        return f"{key}: is not a setting; {_suggestion(location)}"
    return f"{key}: {_problem(error)}, not {_shown(error['input'])}; {_example(location)}"


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
            return f"must have at least {context['min_length']} entry"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "string_pattern_mismatch":
            return f"must be {MEANINGS[context['pattern']]}"
        case _:
            return f"is refused ({error['msg']})"


LONGEST_SHOWN: Final = 60


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, skipkeys=True)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _model_at(location: list[str]) -> type[Section]:
    """The section that holds the last part of a location."""
    section: type[Section] = Settings
    for part in location[:-1]:
        for field in section.model_fields.values():
            if field.alias == part and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                section = field.annotation
    return section


def _example(location: list[str]) -> str:
    """How to mend it, from the examples that each field carries."""
    section: type[Section] = Settings
    path: list[str] = []
    example: object = None
    for part in location:
        field = next((field for field in section.model_fields.values() if field.alias == part), None)
        if field is None:
            break
        path.append(part)
        example = (field.examples or [None])[0]
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            section = field.annotation
    if path == ["stack"]:
        return f"make a stack of another name: pulumi stack init {example}"
    shown = example if isinstance(example, str) else json.dumps(example)
    return f"for example {PROJECT}:{'.'.join(path)}: {shown}"


def _suggestion(location: list[str]) -> str:
    known = sorted(field.alias or name for name, field in _model_at(location).model_fields.items() if name != "stack")
    parent = "".join(f"{part}." for part in location[:-1])
    if location[-1].partition(".")[0] in known:
        section, _, rest = location[-1].partition(".")
        path = f"{PROJECT}:{parent}{section}"
        return f"write it as {path}: {{{rest}: ...}}, or set it by its path: pulumi config set --path {path}.{rest} ..."
    close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    return f"did you mean {PROJECT}:{parent}{close[0]}?" if close else f"the settings are: {', '.join(known)}"
