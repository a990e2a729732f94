"""Stack config is read once and whole, and every mistake in it is answered with one line that helps."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_origin

import pytest
import yaml
from pydantic import ValidationError

from infra.phases import HIGHEST_BUILT, Phase
from infra.settings import ENVIRONMENTS, Section, Settings, SettingsError
from tests.unit.graph import EMAILS, ROOT, as_engine_passes, config, run

ABSENT = object()
Config = Mapping[str, object]


def as_file_holds(config: Config) -> Config:
    return config


both_spellings = pytest.mark.parametrize("spelt", [as_file_holds, as_engine_passes])


class Bad(NamedTuple):
    """A mistake in one place, and what its one line has to say."""

    id: str
    at: str
    value: object
    problem: str
    fix: str
    key: str = ""
    """What the line blames, where it is not the place of the mistake."""
    stack: str = "dev"


PHASE = "for example pyairtable:phase: 1"
BUDGET = "for example pyairtable:monthlyBudgetUsd: 98"
EMAILS_FIX = 'for example pyairtable:alertEmails: ["platform@example.com"]'
ACCOUNT = 'for example pyairtable:accountId: "123456789012"'
SHARE = "for example pyairtable:cost.stacksPerAccount: 3"
HOST = "for example pyairtable:registry.host: ghcr.io"
REPOSITORIES = 'for example pyairtable:registry.repositories: {"legacy": ["api-gateway"]}'
NEW_STACK = "make a stack of another name: pulumi stack init alice-dev"

BAD = [
    Bad("phase above 4", "phase", 7, 'must be a whole number from 0 to 4, not "7"', PHASE),
    Bad("phase in words", "phase", "two", 'must be a whole number from 0 to 4, not "two"', PHASE),
    Bad("phase missing", "phase", ABSENT, "is missing", PHASE),
    Bad("phase fraction", "phase", 1.5, 'must be a whole number from 0 to 4, not "1.5"', PHASE),
    Bad("phase true", "phase", True, 'must be a whole number from 0 to 4, not "true"', PHASE),
    Bad("phase negative", "phase", -1, 'must be a whole number from 0 to 4, not "-1"', PHASE),
    Bad("phase empty", "phase", "", 'must be a whole number from 0 to 4, not ""', PHASE),
    Bad("phase huge", "phase", 10**20, "must be a whole number from 0 to 4", PHASE),
    Bad("key misspelt", "acountWideLimitUsd", 5, "is not a setting", "did you mean pyairtable:accountWideLimitUsd?"),
    Bad("key in snake case", "cost_center", "x", "is not a setting", "did you mean pyairtable:costCenter?"),
    Bad("key like no other", "zzz", 5, "is not a setting", "the settings are: accountId, accountWideLimitUsd, "),
    Bad("key misspelt at depth", "registry.miror", "ecr", "is not a setting", "you mean pyairtable:registry.mirror?"),
    Bad("key like no other at depth", "cost.zzz", 1, "is not a setting", "the settings are: enforce, stacksPerAccount"),
    Bad("key empty at depth", "cost.", 1, "is not a setting", "the settings are: enforce, stacksPerAccount"),
    Bad("stack as a key", "stack", "prod", "it is the stack's own name", "remove the key"),
    Bad("budget negative", "monthlyBudgetUsd", -5, 'must be more than 0, not "-5"', BUDGET),
    Bad("budget zero", "monthlyBudgetUsd", 0, 'must be more than 0, not "0"', BUDGET),
    Bad("budget in words", "monthlyBudgetUsd", "lots", 'must be a whole number, not "lots"', BUDGET),
    Bad("budget fraction", "monthlyBudgetUsd", 98.5, 'must be a whole number, not "98.5"', BUDGET),
    Bad("budget too large", "monthlyBudgetUsd", 100_001, 'must be at most 100000, not "100001"', BUDGET),
    Bad("budget a list", "monthlyBudgetUsd", [98], "must be a whole number", BUDGET),
    Bad("budget missing", "monthlyBudgetUsd", ABSENT, "is missing", BUDGET),
    Bad("limit zero", "accountWideLimitUsd", 0, 'must be more than 0, not "0"', "pyairtable:accountWideLimitUsd: 643"),
    Bad("e-mail malformed", "alertEmails", ["ada"], 'an e-mail address, not "ada"', EMAILS_FIX, "alertEmails.0"),
    Bad("second e-mail malformed", "alertEmails", ["a@b.example", "c@d"], 'not "c@d"', EMAILS_FIX, "alertEmails.1"),
    Bad("e-mail too long", "alertEmails", ["a" * 250 + "@b.example"], "254 char", EMAILS_FIX, "alertEmails.0"),
    Bad("e-mail null", "alertEmails", [None], "must be text, not null", EMAILS_FIX, "alertEmails.0"),
    Bad("e-mail twice", "alertEmails", ["a@b.example", "A@b.example"], "must not name an address twice", EMAILS_FIX),
    Bad("e-mails empty", "alertEmails", [], "must have at least 1 entry, not []", EMAILS_FIX),
    Bad("e-mails too many", "alertEmails", [f"a{i}@b.example" for i in range(11)], "at most 10 entries", EMAILS_FIX),
    Bad("e-mails as text", "alertEmails", "a@b.example", 'must be a list, not "a@b.example"', EMAILS_FIX),
    Bad("e-mails malformed JSON", "alertEmails", '["a@b.example"', "must be a list", EMAILS_FIX),
    Bad("e-mails missing", "alertEmails", ABSENT, "is missing", EMAILS_FIX),
    Bad(
        "region elsewhere", "region", "eu-west-1", 'must be us-east-1, not "eu-west-1"', "pyairtable:region: us-east-1"
    ),
    Bad("environment unknown", "environment", "qa", 'must be dev, staging or prod, not "qa"', "environment: dev"),
    Bad("environment not the stack's", "environment", "prod", "must be dev or absent in the stack dev", "alice-prod"),
    Bad(
        "stack's name without environment",
        "environment",
        ABSENT,
        "is missing and the stack's name, alice, does not end in one of dev, staging, prod",
        "for example pyairtable:environment: dev",
        stack="alice",
    ),
    Bad("stack's name in upper case", "stack", ABSENT, 'not "Alice-dev"', NEW_STACK, stack="Alice-dev"),
    Bad("stack's name too long", "stack", ABSENT, "must be up to 30", NEW_STACK, stack="a" * 27 + "-dev"),
    Bad("stack's name begins with a hyphen", "stack", ABSENT, 'not "-dev"', NEW_STACK, stack="-dev"),
    Bad(
        "account too short", "accountId", "12345", 'the 12 digits of an AWS account id, in quotes, not "12345"', ACCOUNT
    ),
    Bad("account too long", "accountId", "1" * 13, "must be the 12 digits of an AWS account id", ACCOUNT),
    Bad("account without its leading zero", "accountId", 12345678901, "in quotes", ACCOUNT),
    Bad("account missing", "accountId", ABSENT, "is missing", ACCOUNT),
    Bad("cost center no tag value", "costCenter", "a;b", 'not "a;b"', "for example pyairtable:costCenter: platform"),
    Bad("cost center empty", "costCenter", "", "1 to 64 letters", "for example pyairtable:costCenter: platform"),
    Bad("enforce maybe", "cost.enforce", "maybe", 'true or false, not "maybe"', "pyairtable:cost.enforce: true"),
    Bad("enforce a list", "cost.enforce", [], "true or false, not []", "pyairtable:cost.enforce: true"),
    Bad("stacks per account zero", "cost.stacksPerAccount", 0, "must be at least 1, not 0", SHARE),
    Bad("stacks per account fraction", "cost.stacksPerAccount", 2.5, "must be a whole number, not 2.5", SHARE),
    Bad("stacks per account true", "cost.stacksPerAccount", True, "must be a whole number, not true", SHARE),
    Bad(
        "section a list", "cost", ["x"], 'a mapping of keys to values, not ["x"]', 'pyairtable:cost: {"enforce": false}'
    ),
    Bad("section text", "registry", "ecr", 'a mapping of keys to values, not "ecr"', 'registry: {"mirror": "ecr"}'),
    Bad("section malformed JSON", "cost", '{"enforce": fals', "a mapping of keys to values", '{"enforce": false}'),
    Bad("mirror unknown", "registry.mirror", "gcr", 'none or ecr, not "gcr"', "pyairtable:registry.mirror: ecr"),
    Bad("host with scheme", "registry.host", "https://ghcr.io", "a host name without scheme or path", HOST),
    Bad("host with path", "registry.host", "ghcr.io/pyairtable-org", "a host name without scheme or path", HOST),
    Bad("organization in upper case", "registry.organization", "Org", 'not "Org"', "organization: pyairtable-org"),
    Bad("repository group unknown", "registry.repositories.old", ["a"], "legacy or microservices", REPOSITORIES),
    Bad("repositories empty", "registry.repositories.legacy", [], "must have at least 1 entry, not []", REPOSITORIES),
    Bad("repositories a list", "registry.repositories", ["a"], "must be a mapping of keys to values", REPOSITORIES),
    Bad(
        "repository's name bad",
        "registry.repositories.legacy",
        ["A_"],
        'must be lower-case letters and digits, separated by single dots, hyphens or underscores, not "A_"',
        REPOSITORIES,
        key="registry.repositories.legacy.0",
    ),
    Bad(
        "repository twice",
        "registry.repositories.legacy",
        ["a", "a"],
        "must not name a repository twice in repositories.legacy",
        "for example pyairtable:registry: {",
        key="registry",
    ),
]


def with_mistake(bad: Bad) -> Config:
    key, *depth = bad.at.split(".")
    value = bad.value
    for part in reversed(depth):
        value = {part: value}
    given = config("dev") | {f"pyairtable:{key}": value}
    return {key: value for key, value in given.items() if value is not ABSENT}


@both_spellings
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id.replace(" ", "-"))
def test_a_mistake_is_answered_with_one_line_that_names_the_key_the_problem_and_the_fix(
    bad: Bad, spelt: Callable[[Config], Config]
) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config(bad.stack, spelt(with_mistake(bad)))

    (line,) = str(error.value).splitlines()
    assert line.startswith(f"pyairtable:{bad.key or bad.at}: ")
    assert bad.problem in line
    assert bad.fix in line


def test_a_path_set_as_if_it_were_a_key_is_answered_with_how_to_set_a_path() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", {**config(), "pyairtable:cost.enforce": "false"})
    assert "pyairtable:costCenter" not in str(error.value)
    assert "--path" in str(error.value)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase > HIGHEST_BUILT])
def test_a_phase_that_is_not_built_yet_is_refused_with_the_highest_that_is(phase: Phase) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(phase=int(phase)))
    assert f"must be at most {HIGHEST_BUILT}: the later phases are not built yet" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_two_mistakes_are_two_lines() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(phase=7, costCenter="a;b"))
    assert [line.split(": ")[0] for line in str(error.value).splitlines()] == [
        "pyairtable:phase",
        "pyairtable:costCenter",
    ]


def test_an_empty_config_names_everything_that_must_be_there() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", {})
    assert [line.split(";")[0] for line in str(error.value).splitlines()] == [
        "pyairtable:phase: is missing",
        "pyairtable:accountId: is missing",
        "pyairtable:monthlyBudgetUsd: is missing",
        "pyairtable:alertEmails: is missing",
    ]


def test_a_long_value_is_cut_short_in_its_error() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(costCenter="x" * 1000))
    assert len(str(error.value)) < 250


def test_an_error_is_one_that_pulumi_prints_without_a_traceback() -> None:
    with pytest.raises(SettingsError) as error:
        run(Settings.from_stack, "dev", as_engine_passes(config(phase=7)))
    assert error.value.__suppress_context__


def test_the_stack_that_runs_is_read_from_the_engine() -> None:
    seen: list[Settings] = []
    run(lambda: seen.append(Settings.from_stack()), "alice-dev", as_engine_passes(config("alice-dev")))
    assert seen == [Settings.from_config("alice-dev", config("alice-dev"))]
    assert seen[0].stack == "alice-dev"


def test_every_setting_means_the_same_as_the_engine_passes_it_and_as_the_file_holds_it() -> None:
    given = config(
        "alice-dev",
        environment="staging",
        region="us-east-1",
        accountId=123456789012,
        accountWideLimitUsd=700,
        costCenter=4711,
        registry={
            "mirror": "ecr",
            "host": "registry.example",
            "organization": 4711,
            "repositories": {"legacy": ["api-gateway"]},
        },
        cost={"enforce": False, "stacksPerAccount": 1},
    )
    settings = Settings.from_config("alice-dev", given)
    assert settings == Settings.from_config("alice-dev", as_engine_passes(given))
    assert settings.model_dump() == {
        "stack": "alice-dev",
        "environment": "staging",
        "phase": HIGHEST_BUILT,
        "account_id": "123456789012",
        "region": "us-east-1",
        "monthly_budget_usd": 98,
        "alert_emails": EMAILS,
        "account_wide_limit_usd": 700,
        "cost_center": "4711",
        "registry": {
            "host": "registry.example",
            "organization": "4711",
            "mirror": "ecr",
            "repositories": {"legacy": ("api-gateway",)},
        },
        "cost": {"enforce": False, "stacks_per_account": 1},
    }


def test_a_personal_stack_has_the_defaults_of_its_environment_and_names_of_its_own() -> None:
    settings = Settings.from_config("alice-dev", config("alice-dev"))
    assert settings.environment == "dev"
    assert settings.names.prefix == "pyairtable-alice-dev"


def test_a_stack_of_any_name_takes_the_environment_that_is_set() -> None:
    assert Settings.from_config("alice", config(environment="prod")).environment == "prod"


def test_a_stack_may_say_the_environment_that_its_name_says() -> None:
    assert Settings.from_config("staging", config("staging", environment="staging")).environment == "staging"


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_an_empty_environment_is_the_one_of_the_stacks_name(stack: str) -> None:
    assert Settings.from_config(stack, config(stack, environment="")).environment == stack


def test_config_of_others_is_left_alone() -> None:
    others = {"pulumi:disable-default-providers": ["aws"], "pyairtable-other:phase": 9, "awsx:region": "eu-west-1"}
    assert Settings.from_config("dev", {**config(), **others}) == Settings.from_config("dev", config())


def test_config_of_the_default_aws_provider_is_answered_with_the_setting_that_takes_its_place() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", {**config(), "aws:region": "eu-west-1"})
    (line,) = str(error.value).splitlines()
    assert line.startswith("aws:region: has no effect")
    assert line.endswith("set pyairtable:region")


@pytest.mark.parametrize("key", ["aws:profile", "aws:accessKey", "kubernetes:kubeconfig"])
def test_config_of_a_default_provider_is_never_answered_with_a_setting_that_does_not_exist(key: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", {**config(), key: "x"})
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{key}: has no effect")
    assert "remove it" in line
    assert f"pyairtable:{key.partition(':')[2]}" not in line


@pytest.mark.parametrize("name", ["phase", "monthly_budget_usd", "registry"])
def test_settings_cannot_be_changed(name: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings.from_config("dev", config()), name, 1)


def test_sections_cannot_be_changed() -> None:
    settings = Settings.from_config("dev", config(cost={"enforce": True}))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings.cost, "enforce", False)  # noqa: B010 - the type checker refuses the plain form


def test_the_account_wide_limit_is_what_the_three_environments_may_cost_together() -> None:
    assert Settings.from_config("dev", config()).account_wide_limit_usd == 98 + 150 + 395


def stack_file(stack: str) -> dict[str, object]:
    return yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_file_is_valid(stack: str) -> None:
    assert Settings.from_config(stack, stack_file(stack)).environment == stack


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_file_disables_the_default_providers(stack: str) -> None:
    assert stack_file(stack)["pulumi:disable-default-providers"] == ["aws", "kubernetes"]


@pytest.mark.parametrize(("stack", "budget"), [("dev", 98), ("staging", 150), ("prod", 395)])
def test_a_committed_stack_file_has_the_runbooks_budget(stack: str, budget: int) -> None:
    assert stack_file(stack)["pyairtable:monthlyBudgetUsd"] == budget


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_committed_stack_files_differ_only_in_the_budget_and_in_what_operators_edit(stack: str) -> None:
    edited = {"pyairtable:phase", "pyairtable:accountId", "pyairtable:alertEmails"}
    one, other = stack_file("dev"), stack_file(stack)
    different = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert different - edited == {"pyairtable:monthlyBudgetUsd"}


def schema() -> dict[str, dict[str, Any]]:
    return {
        key.removeprefix("pyairtable:"): entry
        for key, entry in yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"].items()
    }


def settings_by_key() -> dict[str, Any]:
    return {field.alias or name: field for name, field in Settings.model_fields.items() if name != "stack"}


def schema_type(annotation: Any) -> str:
    if get_origin(annotation) is tuple:
        return "array"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "object"
    return "integer" if isinstance(annotation, type) and issubclass(annotation, int) else "string"


def test_the_schema_of_the_project_names_every_setting_and_nothing_else() -> None:
    assert schema().keys() == settings_by_key().keys()


def test_the_schema_of_the_project_has_the_types_of_the_settings() -> None:
    assert {key: entry["type"] for key, entry in schema().items()} == {
        key: schema_type(field.annotation) for key, field in settings_by_key().items()
    }


def test_the_schema_of_the_project_describes_every_setting() -> None:
    assert all(len(entry["description"]) > 10 for entry in schema().values())


def test_the_schema_of_the_project_demands_what_the_settings_demand() -> None:
    demanded = {key for key, entry in schema().items() if "default" not in entry}
    assert demanded == {key for key, field in settings_by_key().items() if field.is_required()} - {"environment"}


def test_the_defaults_of_the_schema_are_those_of_the_settings() -> None:
    defaults = {f"pyairtable:{key}": entry["default"] for key, entry in schema().items() if "default" in entry}
    for stack in ENVIRONMENTS:
        with_defaults = Settings.from_config(stack, as_engine_passes({**defaults, **config(stack)}))
        assert with_defaults == Settings.from_config(stack, config(stack))
