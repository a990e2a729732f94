"""Stack config is read once and whole, and every mistake in it is answered with one line that helps."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from itertools import combinations
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import SecretStr, ValidationError

from cost.prices import price_list_date
from infra.environments import DEFAULTS, ENVIRONMENTS, Environment
from infra.phases import HIGHEST_BUILT, Phase
from infra.secrecy import SECRET_SETTINGS
from infra.sections import SUPPORTED_VERSIONS, Section
from infra.settings import Settings, SettingsError
from tests.unit.graph import CERTIFICATE, EMAILS, ROOT, as_engine_passes, config, run, stack_file
from tests.unit.mistakes import MISTAKES, PUBLIC, Bad, group, service, with_mistake

Config = Mapping[str, object]


def as_file_holds(config: Config) -> Config:
    return config


both_spellings = pytest.mark.parametrize("spelt", [as_file_holds, as_engine_passes])


@both_spellings
@pytest.mark.parametrize("bad", MISTAKES, ids=lambda bad: bad.id.replace(" ", "-"))
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
    network = {
        "cidrBlock": "10.40.0.0/20",
        "availabilityZones": ["us-east-1b", "us-east-1c"],
        "dataAvailabilityZone": "us-east-1c",
    }
    role = {"principalArn": "arn:aws:iam::123456789012:role/engineer", "access": "view"}
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
            "username": "alice",
            "repositories": {"legacy": ["api-gateway"]},
        },
        cost={"enforce": False, "stacksPerAccount": 1},
        protect=True,
        network=network,
        cluster={"version": 1.36, "publicAccessCidrs": ["203.0.113.7/32"], "accessEntries": {"engineers": role}},
        nodeGroups=[group(minSize=1, desiredSize=2, maxSize=3)],
        nightSchedule={"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI", "timeZone": "Europe/Berlin"},
        stores={
            "postgres": {"cpu": 1, "memory": "2Gi", "diskGib": 30},
            "backupRetentionDays": 14,
            "backupSchedule": "5 12 * * *",
        },
        secrets={
            "refreshInterval": "1m",
            "rotationSchedule": "35 12 * * *",
            "rotationDays": 14,
            "recoveryWindowDays": 7,
        },
        services=[
            service(name="api-gateway", image="legacy/api-gateway:v1.0.0", uses=["redis"], internet=True, public=True)
        ],
        blueGreen={
            "enabled": True,
            "greenWeight": 100,
            "mtls": "permissive",
            "stopped": "blue",
            "retireAfter": "12h",
            "services": [service(name="api-gateway", image="legacy/api-gateway:v1.1.0", public=True)],
            "migrations": [
                {
                    "name": "drop-bases",
                    "image": "legacy/api-gateway:v1.1.0",
                    "kind": "contract",
                    "arguments": ["migrate", 7],
                }
            ],
        },
        edge={
            "enabled": True,
            "domain": "api.pyairtable.example",
            "certificateArn": CERTIFICATE,
            "hostedZoneId": "Z0123456789ABCDEFGHIJ",
            "port": 8443,
            "plainHttp": True,
        },
        imagePullToken="pull",
        airtableToken="airtable",
        geminiApiKey="gemini",
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
            "username": "alice",
            "repositories": {"legacy": ("api-gateway",)},
        },
        "cost": {"enforce": False, "stacks_per_account": 1},
        "protect": True,
        "network": {
            "cidr_block": "10.40.0.0/20",
            "availability_zones": ("us-east-1b", "us-east-1c"),
            "data_availability_zone": "us-east-1c",
        },
        "cluster": {
            "version": "1.36",
            "public_access_cidrs": ("203.0.113.7/32",),
            "access_entries": {"engineers": {"principal_arn": role["principalArn"], "access": "view"}},
        },
        "node_groups": (
            {
                "name": "general",
                "capacity_type": "spot",
                "instance_types": ("t3a.medium", "t3.medium"),
                "min_size": 1,
                "desired_size": 2,
                "max_size": 3,
                "hosts_stores": True,
            },
        ),
        "night_schedule": {"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI", "time_zone": "Europe/Berlin"},
        "stores": {
            "postgres": {"cpu": "1", "memory": "2Gi", "disk_gib": 30},
            "redis": {"cpu": "100m", "memory": "256Mi", "disk_gib": 2},
            "backup_schedule": "5 12 * * *",
            "backup_retention_days": 14,
        },
        "secrets": {
            "refresh_interval": "1m",
            "rotation_schedule": "35 12 * * *",
            "rotation_days": 14,
            "recovery_window_days": 7,
        },
        "services": (
            {
                "name": "api-gateway",
                "image": "legacy/api-gateway:v1.0.0",
                "port": 8080,
                "cpu": "100m",
                "memory": "128Mi",
                "min_replicas": None,
                "max_replicas": 5,
                "health_path": "/health",
                "calls": (),
                "uses": ("redis",),
                "internet": True,
                "public": True,
            },
        ),
        "blue_green": {
            "enabled": True,
            "green_weight": 100,
            "mtls": "permissive",
            "stopped": "blue",
            "retire_after": "12h",
            "services": (
                {
                    "name": "api-gateway",
                    "image": "legacy/api-gateway:v1.1.0",
                    "port": 8080,
                    "cpu": "100m",
                    "memory": "128Mi",
                    "min_replicas": None,
                    "max_replicas": 5,
                    "health_path": "/health",
                    "calls": (),
                    "uses": (),
                    "internet": False,
                    "public": True,
                },
            ),
            "migrations": (
                {
                    "name": "drop-bases",
                    "image": "legacy/api-gateway:v1.1.0",
                    "kind": "contract",
                    "arguments": ("migrate", "7"),
                },
            ),
        },
        "edge": {
            "enabled": True,
            "domain": "api.pyairtable.example",
            "certificate_arn": CERTIFICATE,
            "hosted_zone_id": "Z0123456789ABCDEFGHIJ",
            "port": 8443,
            "plain_http": True,
        },
        "image_pull_token": SecretStr("pull"),
        "airtable_token": SecretStr("airtable"),
        "gemini_api_key": SecretStr("gemini"),
    }


SECRETS = ("imagePullToken", "airtableToken", "geminiApiKey")


@pytest.mark.parametrize("interval", ["5s", "15s", "90s", "1m", "24h", "1440m", "86400s"])
def test_a_refresh_interval_is_from_5_seconds_to_a_day(interval: str) -> None:
    settings = Settings.from_config("dev", config(secrets={"refreshInterval": interval}))
    assert settings.secrets.refresh_interval == interval


@pytest.mark.parametrize("days", [1, 30, 365])
def test_a_password_is_rotated_from_daily_to_yearly(days: int) -> None:
    assert Settings.from_config("dev", config(secrets={"rotationDays": days})).secrets.rotation_days == days


@pytest.mark.parametrize(
    ("stack", "overrides", "days"),
    [
        ("dev", {}, 0),
        ("staging", {}, 0),
        ("prod", {}, 30),
        ("dev", {"protect": True}, 30),
        ("prod", {"protect": False}, 0),
        ("dev", {"secrets": {"recoveryWindowDays": 7}}, 7),
        ("prod", {"secrets": {"recoveryWindowDays": 14}}, 14),
        ("prod", {"secrets": {"recoveryWindowDays": 0}}, 0),
        ("prod", {"protect": False, "secrets": {"recoveryWindowDays": 30}}, 30),
    ],
)
def test_a_deleted_secret_can_be_had_back_where_the_stack_is_protected_unless_it_is_set(
    stack: str, overrides: dict[str, Any], days: int
) -> None:
    assert Settings.from_config(stack, config(stack, **overrides)).recovery_window_days == days


def test_the_secrets_section_may_be_left_out_in_whole_or_in_part() -> None:
    default = Settings.from_config("dev", config()).secrets
    assert default.model_dump() == {
        "refresh_interval": "15s",
        "rotation_schedule": "47 2 * * *",
        "rotation_days": 30,
        "recovery_window_days": None,
    }
    assert Settings.from_config("dev", config(secrets={})).secrets == default
    assert Settings.from_config("dev", config(secrets={"rotationDays": 30})).secrets == default


def test_where_nodes_stop_at_night_dump_and_rotation_have_to_be_moved_one_is_named_after_the_other() -> None:
    night = {"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI"}
    moved: dict[str, Any] = {}
    for section, key, schedule in (
        ("stores", "backupSchedule", "17 12 * * MON-FRI"),
        ("secrets", "rotationSchedule", "47 12 * * MON-FRI"),
    ):
        with pytest.raises(SettingsError) as error:
            Settings.from_config("dev", config(nightSchedule=night, **moved))
        assert str(error.value).startswith(f"pyairtable:{section}.{key}: must be a time at which nodes run")
        moved[section] = {key: schedule}
    assert Settings.from_config("dev", config(nightSchedule=night, **moved)).night_schedule


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_is_not_in_the_text_of_the_settings(key: str) -> None:
    settings = Settings.from_config("dev", config(**{key: "hush-hush"}))
    assert "hush-hush" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize("value", [["hush-hush"], {"token": "hush-hush"}], ids=["list", "mapping"])
def test_a_secret_that_is_no_text_is_not_in_the_error(key: str, value: Any) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(**{key: value}))
    assert str(error.value) == f"pyairtable:{key}: must be text; set it with pulumi config set --secret {key} ..."


@pytest.mark.parametrize("mistake", [{"phase": 7}, {"imagePulToken": "hush-hush"}, {"environment": "prod"}])
def test_a_secret_is_not_in_the_error_about_another_setting(mistake: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(**dict.fromkeys(SECRETS, "hush-hush"), **mistake))
    assert "hush-hush" not in str(error.value)


@pytest.mark.parametrize("environment", [["dev"], {"name": "dev"}, 5], ids=["list", "mapping", "number"])
def test_an_environment_that_is_no_name_is_one_mistake(environment: object) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_config("dev", config(environment=environment))
    (line,) = str(error.value).splitlines()
    assert line.startswith("pyairtable:environment: must be dev, staging or prod, not ")


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_the_world_may_be_admitted_outside_of_prod(stack: str) -> None:
    cluster = {"publicAccessCidrs": ["0.0.0.0/0"]}
    assert Settings.from_config(stack, config(stack, cluster=cluster)).cluster.public_access_cidrs == ("0.0.0.0/0",)


def test_a_section_takes_its_other_keys_from_the_environment() -> None:
    settings = Settings.from_config("prod", config("prod", stores={"backupRetentionDays": 90}))
    default = Settings.from_config("prod", config("prod"))
    assert settings.stores.backup_retention_days == 90
    assert (settings.stores.postgres, settings.stores.redis) == (default.stores.postgres, default.stores.redis)


def test_node_groups_replace_those_of_the_environment() -> None:
    settings = Settings.from_config("prod", config("prod", nodeGroups=[group(name="mine")]))
    assert [group.name for group in settings.node_groups] == ["mine"]


@pytest.mark.parametrize(("stack", "protected"), [("dev", False), ("staging", False), ("prod", True)])
@pytest.mark.parametrize("given", [{}, {"protect": ""}], ids=["absent", "empty"])
def test_protection_is_the_environments_unless_it_is_set(stack: str, protected: bool, given: dict[str, object]) -> None:
    assert Settings.from_config(stack, config(stack, **given)).protect is protected


@both_spellings
@pytest.mark.parametrize("value", [True, False])
def test_protection_may_be_set(value: bool, spelt: Callable[[Config], Config]) -> None:
    assert Settings.from_config("prod", spelt(config("prod", protect=value))).protect is value


@pytest.mark.parametrize(("stack", "least"), [("dev", 1), ("staging", 1), ("prod", 2)])
def test_replicas_of_a_service_that_says_nothing_are_the_environments(stack: str, least: int) -> None:
    assert Settings.from_config(stack, config(stack)).min_replicas == least


@pytest.mark.parametrize(("amount", "millis"), [("250m", 250), ("1", 1000), (2, 2000)])
def test_cpu_is_counted_in_thousandths_of_a_core(amount: object, millis: int) -> None:
    settings = Settings.from_config("dev", config(services=[service(cpu=amount)]))
    assert settings.services[0].cpu_millis == millis


@pytest.mark.parametrize(("amount", "mib"), [("256Mi", 256), ("2Gi", 2048)])
def test_memory_is_counted_in_mib(amount: str, mib: int) -> None:
    settings = Settings.from_config("dev", config(services=[service(memory=amount)]))
    assert settings.services[0].memory_mib == mib


def test_no_two_environments_share_addresses() -> None:
    networks = [IPv4Network(DEFAULTS[environment]["network"]["cidrBlock"]) for environment in ENVIRONMENTS]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_environments_control_plane_is_in_standard_support(stack: str) -> None:
    ends = SUPPORTED_VERSIONS[Settings.from_config(stack, config(stack)).cluster.version]
    assert ends > price_list_date()[:7]


def test_a_personal_stack_has_the_defaults_of_its_environment_and_names_of_its_own() -> None:
    settings = Settings.from_config("alice-dev", config("alice-dev"))
    assert settings.environment == "dev"
    assert settings.names.prefix == "pyairtable-alice-dev"


def test_a_stack_of_any_name_takes_the_environment_that_is_set() -> None:
    assert Settings.from_config("alice", config(environment="prod", phase=3)).environment == "prod"


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


EDITED_BY_OPERATORS = {"pyairtable:phase", "pyairtable:accountId", "pyairtable:alertEmails", "pyairtable:cluster"}


PLAIN_HTTP = {"pyairtable:edge": {"plainHttp": True}}


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_file_is_valid_with_a_certificate_for_prod_or_without_one_on_purpose(stack: str) -> None:
    certified = {"pyairtable:edge": {"domain": "api.pyairtable.example", "certificateArn": CERTIFICATE}}
    for edge in ({}, PLAIN_HTTP, certified) if stack != "prod" else (PLAIN_HTTP, certified):
        assert Settings.from_config(stack, {**stack_file(stack), **edge}).environment == stack


@pytest.mark.parametrize(("stack", "phase"), [("dev", 3), ("staging", 3), ("prod", 4)])
def test_a_committed_stack_file_has_got_as_far_as_its_environment_goes(stack: str, phase: int) -> None:
    assert stack_file(stack)["pyairtable:phase"] == phase


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_file_is_what_the_graphs_of_these_tests_are_made_of(stack: str) -> None:
    edited = {key.removeprefix("pyairtable:"): stack_file(stack)[key] for key in EDITED_BY_OPERATORS}
    edge = PLAIN_HTTP if stack == "prod" else {}
    made = Settings.from_config(stack, config(stack, **edited))
    assert Settings.from_config(stack, {**stack_file(stack), **edge}) == made


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_file_disables_the_default_providers(stack: str) -> None:
    assert stack_file(stack)["pulumi:disable-default-providers"] == ["aws", "kubernetes"]


@pytest.mark.parametrize(("stack", "budget"), [("dev", 98), ("staging", 150), ("prod", 395)])
def test_a_committed_stack_file_has_the_runbooks_budget(stack: str, budget: int) -> None:
    assert stack_file(stack)["pyairtable:monthlyBudgetUsd"] == budget


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_committed_stack_files_differ_only_in_budget_services_and_what_operators_edit(stack: str) -> None:
    one, other = stack_file("dev"), stack_file(stack)
    different = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    release = {"pyairtable:blueGreen"} if stack == "prod" else set[str]()
    assert different - EDITED_BY_OPERATORS == {"pyairtable:monthlyBudgetUsd", "pyairtable:services"} | release


def sizes_aside(services: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in service.items() if key not in {"cpu", "memory"}} for service in services]


def test_the_services_of_dev_and_staging_differ_only_in_their_sizes() -> None:
    dev, staging = (stack_file(stack)["pyairtable:services"] for stack in ("dev", "staging"))
    assert sizes_aside(dev) == sizes_aside(staging)


@pytest.mark.parametrize(
    ("stack", "group"), [("dev", "microservices"), ("staging", "microservices"), ("prod", "legacy")]
)
def test_a_committed_stack_file_runs_every_service_of_its_release(stack: str, group: Any) -> None:
    settings = Settings.from_config(stack, {**stack_file(stack), **PLAIN_HTTP})
    assert sorted(service.image_parts[:2] for service in settings.services) == sorted(
        (group, name) for name in settings.registry.repositories[group]
    )


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_committed_stack_files_gateway_is_what_clients_reach(stack: str) -> None:
    settings = Settings.from_config(stack, {**stack_file(stack), **PLAIN_HTTP})
    for services in (settings.services, settings.blue_green.services or settings.services):
        assert [service.name for service in services if service.public] == ["api-gateway"]


def test_prods_green_is_the_go_services_as_dev_runs_them_and_gets_nothing_yet() -> None:
    given = stack_file("prod")["pyairtable:blueGreen"]
    assert given == {"greenWeight": 0, "services": stack_file("dev")["pyairtable:services"]}


@pytest.mark.parametrize(
    ("stack", "phase", "enabled", "is_blue_green", "built"),
    [
        ("prod", 4, True, True, Phase.BLUE_GREEN),
        ("prod", 4, False, False, Phase.SECRETS),
        ("prod", 3, True, False, Phase.SECRETS),
        ("dev", 4, None, False, Phase.SECRETS),
        ("dev", 2, None, False, Phase.COMPUTE),
    ],
)
def test_phase_4_without_blue_green_is_phase_3(
    stack: str, phase: int, enabled: bool | None, is_blue_green: bool, built: Phase
) -> None:
    section = {**stack_file("prod")["pyairtable:blueGreen"], "enabled": enabled} if enabled is not None else {}
    settings = Settings.from_config(stack, config(stack, phase=phase, blueGreen=section))
    assert (settings.is_blue_green, settings.built_phase) == (is_blue_green, built)


@pytest.mark.parametrize(
    ("edge", "port"),
    [
        ({}, 80),
        ({"port": 8080}, 8080),
        ({"domain": "api.pyairtable.example", "certificateArn": CERTIFICATE}, 443),
        ({"domain": "api.pyairtable.example", "certificateArn": CERTIFICATE, "port": 8443}, 8443),
    ],
)
def test_clients_arrive_where_their_scheme_says_unless_it_is_set(edge: dict[str, Any], port: int) -> None:
    settings = Settings.from_config("prod", config("prod", edge={"plainHttp": True, **edge}))
    assert settings.edge.listener_port == port


@pytest.mark.parametrize("phase", [2, 3])
def test_before_phase_4_prod_may_be_plain_http(phase: int) -> None:
    assert Settings.from_config("prod", config("prod", phase=phase, edge={})).edge.enabled


def test_green_may_call_a_service_that_only_blue_has() -> None:
    section = {
        "enabled": True,
        "greenWeight": 100,
        "services": [PUBLIC, service(name="other", calls=["user-service"])],
    }
    settings = Settings.from_config("dev", config(blueGreen=section))
    assert settings.blue_green.services[1].calls == ("user-service",)


def test_blue_may_be_stopped_once_green_serves_everything_and_needs_none_of_it() -> None:
    section = {"enabled": True, "greenWeight": 100, "stopped": "blue", "services": [PUBLIC]}
    assert Settings.from_config("dev", config(blueGreen=section)).blue_green.stopped == "blue"


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
    part = next(iter(get_args(annotation)), annotation)
    if not isinstance(part, type):
        return "string"
    if issubclass(part, Section):
        return "object"
    # A boolean with the environment's default is text, since the schema needs a default and knows no environment.
    return "integer" if issubclass(part, int) and part is not bool else "string"


def test_the_schema_of_the_project_names_every_setting_and_nothing_else() -> None:
    assert schema().keys() == settings_by_key().keys()


def test_the_schema_of_the_project_has_the_types_of_the_settings() -> None:
    assert {key: entry["type"] for key, entry in schema().items()} == {
        key: schema_type(field.annotation) for key, field in settings_by_key().items()
    }


def test_the_schema_of_the_project_describes_every_setting() -> None:
    assert all(len(entry["description"]) > 10 for entry in schema().values())


def test_the_schema_of_the_project_demands_what_the_settings_demand_and_no_environment_gives() -> None:
    demanded = {key for key, entry in schema().items() if "default" not in entry}
    required = {key for key, field in settings_by_key().items() if field.is_required()}
    assert demanded == required - {"environment"} - DEFAULTS["dev"].keys()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_gives_the_same_settings_a_default(environment: Environment) -> None:
    given = DEFAULTS[environment]
    assert given.keys() == DEFAULTS["dev"].keys()
    assert given.keys() <= settings_by_key().keys()


def test_the_schema_of_the_project_says_of_just_the_secrets_that_they_are_set_as_such() -> None:
    secret = {key for key, field in settings_by_key().items() if SecretStr in get_args(field.annotation)}
    told = {key for key, entry in schema().items() if f"pulumi config set --secret {key}" in entry["description"]}
    assert told == secret == {*SECRET_SETTINGS} == {*SECRETS}


def test_the_defaults_of_the_schema_are_those_of_the_settings() -> None:
    defaults = {f"pyairtable:{key}": entry["default"] for key, entry in schema().items() if "default" in entry}
    for stack in ENVIRONMENTS:
        with_defaults = Settings.from_config(stack, as_engine_passes({**defaults, **config(stack)}))
        assert with_defaults == Settings.from_config(stack, config(stack))
