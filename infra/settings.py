"""Stack config -> one frozen, validated Settings. Nothing else reads config."""

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_origin

import pulumi
from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator

from components.shared.apps import BACKUP, MIGRATIONS, RESTARTER, ROTATION
from components.shared.mesh import GATEWAY
from infra.environments import DEFAULTS, ENVIRONMENTS, MIN_REPLICAS, Environment, with_defaults
from infra.explanations import explained, section_in
from infra.naming import GREEN_SUFFIX, PROJECT, Names
from infra.phases import HIGHEST_BUILT, Phase
from infra.secrecy import require_encrypted
from infra.sections import (
    ACCOUNT_ID,
    NIGHTLY,
    ROTATED,
    STACK_NAME,
    TAG_VALUE,
    BlueGreenSettings,
    ClusterSettings,
    CostSettings,
    EdgeSettings,
    Email,
    NetworkSettings,
    NightSchedule,
    NodeGroupSettings,
    RegistrySettings,
    SecretsSettings,
    Section,
    ServiceSettings,
    StoresSettings,
    repeated,
)

ACCOUNT_WIDE_LIMIT_USD: Final = 98 + 150 + 395
"""What the three committed stacks may cost together, US dollars a month: the cost targets of the migration runbook."""

RESERVED_NAMES: Final = (
    *("postgres", "redis", "edge", BACKUP, "default", "default-deny", "dns"),
    *(RESTARTER, ROTATION, f"postgres-from-{ROTATION}"),
    *(GATEWAY, f"from-{GATEWAY}", "mesh", *MIGRATIONS.values()),
    *(f"postgres-from-{app}" for app in MIGRATIONS.values()),
)
"""Names of what else is in the namespace that the microservices share: Services, service accounts, policies."""
PUBLIC_SERVICE: Final = "api-gateway"
"""By which the runbook finds the route that it shifts."""
LONGEST_RECOVERY_DAYS: Final = 30
"""The longest that Secrets Manager takes."""
LONGEST_NODE_GROUP: Final = 63
LONGEST_LOAD_BALANCER: Final = 32
"""What AWS takes for a name, in characters."""
NARROWEST_WORLD: Final = 8
"""Prefix length below which a network is the world: nobody's own is larger than a /8."""


class SettingsError(pulumi.RunError):
    """A stack's config is wrong. One line per problem; Pulumi prints it without a traceback."""


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
    protect: bool = Field(examples=['"false"'])
    """Whether cluster, disks, backups and stores are safe from deletion until this is taken back on purpose."""
    network: NetworkSettings = Field(examples=[{"cidrBlock": "10.10.0.0/16"}])
    cluster: ClusterSettings = Field(examples=[{"publicAccessCidrs": ["203.0.113.0/24"]}])
    node_groups: Annotated[tuple[NodeGroupSettings, ...], Field(min_length=1, max_length=10)] = Field(
        examples=[
            [
                {
                    "name": "stores",
                    "capacityType": "spot",
                    "instanceTypes": ["t3a.medium", "t3.medium"],
                    "minSize": 1,
                    "desiredSize": 1,
                    "maxSize": 2,
                    "hostsStores": True,
                }
            ]
        ]
    )
    night_schedule: NightSchedule | None = Field(
        default=None, examples=[{"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI"}]
    )
    stores: StoresSettings = Field(examples=[{"postgres": {"cpu": "250m", "memory": "512Mi", "diskGib": 10}}])
    secrets: SecretsSettings = Field(default=SecretsSettings(), examples=[{"refreshInterval": "15s"}])
    services: Annotated[tuple[ServiceSettings, ...], Field(max_length=200)] = Field(
        default=(),
        examples=[
            [{"name": "auth-service", "image": "microservices/auth-service:v2.0.0", "cpu": "100m", "memory": "128Mi"}]
        ],
    )
    blue_green: BlueGreenSettings = Field(examples=[{"greenWeight": 10}])
    edge: EdgeSettings = Field(examples=[{"enabled": True}])
    image_pull_token: SecretStr | None = Field(default=None, examples=["pulumi config set --secret imagePullToken ..."])
    airtable_token: SecretStr | None = Field(default=None, examples=["pulumi config set --secret airtableToken ..."])
    gemini_api_key: SecretStr | None = Field(default=None, examples=["pulumi config set --secret geminiApiKey ..."])

    @field_validator("phase", mode="before")
    @classmethod
    def _phase_is_built(cls, value: object) -> object:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value) else value
        if not isinstance(number, int) or not Phase.NOTHING <= number <= HIGHEST_BUILT:
            raise ValueError(f"must be a whole number from {Phase.NOTHING} to {HIGHEST_BUILT}")
        return number

    @field_validator("alert_emails")
    @classmethod
    def _no_email_twice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({email.lower() for email in value}) < len(value):
            raise ValueError("must not name an address twice")
        return value

    @field_validator("image_pull_token", "airtable_token", "gemini_api_key", "night_schedule", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value in ("", {}) else value  # the schema's defaults in Pulumi.yaml

    @field_validator("node_groups")
    @classmethod
    def _node_groups_make_a_cluster(cls, value: tuple[NodeGroupSettings, ...]) -> tuple[NodeGroupSettings, ...]:
        if twice := repeated(group.name for group in value):
            raise ValueError(f"must not have two groups named {twice[0]}; rename one")
        if len(hosts := [group.name for group in value if group.hosts_stores]) != 1:
            raise ValueError(
                f"must have hostsStores: true in just one group, not in {' and '.join(hosts) or 'none'}; set it where "
                "PostgreSQL and Redis are to run"
            )
        return value

    @field_validator("services")
    @classmethod
    def _services_fit_together(cls, value: tuple[ServiceSettings, ...]) -> tuple[ServiceSettings, ...]:
        _fit_together(value, {service.name for service in value}, "the list")
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

    @model_validator(mode="after")
    def _network_is_apart(self) -> "Settings":
        own = ipaddress.IPv4Network(self.network.cidr_block)
        for name, defaults in DEFAULTS.items():
            other = ipaddress.IPv4Network(defaults["network"]["cidrBlock"])
            if name != self.environment and own.overlaps(other):
                raise ValueError(
                    f"{PROJECT}:network.cidrBlock: must not overlap {other}, which is {name}'s, as {own} does; "
                    f"for example {PROJECT}:network.cidrBlock: {DEFAULTS[self.environment]['network']['cidrBlock']}"
                )
        return self

    @model_validator(mode="after")
    def _images_are_in_the_registry(self) -> "Settings":
        for key, entries in (
            ("services", self.services),
            ("blueGreen.services", self.blue_green.services),
            ("blueGreen.migrations", self.blue_green.migrations),
        ):
            for entry in entries:
                group, repository, _ = entry.image_parts
                if repository not in self.registry.repositories.get(group, ()):
                    raise ValueError(
                        f"{PROJECT}:{key}: the image of {entry.name}, {entry.image}, is not in the registry; add "
                        f"{repository} to {PROJECT}:registry.repositories.{group}"
                    )
        return self

    @model_validator(mode="after")
    def _greens_services_fit_together(self) -> "Settings":
        green = self.blue_green.services
        try:
            _fit_together(green, {service.name for service in (*green, *self.services)}, "either colour")
        except ValueError as error:
            raise ValueError(f"{PROJECT}:blueGreen.services: {error}") from None
        ports = {service.name: service.port for service in self.services}
        for service in green:
            if service.port != ports.get(service.name, service.port):
                raise ValueError(
                    f"{PROJECT}:blueGreen.services: must have {service.name} at blue's port, {ports[service.name]}, "
                    f"not at {service.port}: both stand behind one Service; give it that port"
                )
        return self

    @model_validator(mode="after")
    def _traffic_is_shifted_where_there_is_green(self) -> "Settings":
        given = self.blue_green
        if not given.enabled and (given.green_weight or given.stopped != "none"):
            asked = f"greenWeight: {given.green_weight}" if given.green_weight else f"stopped: {given.stopped}"
            raise ValueError(
                f"{PROJECT}:blueGreen: must not have {asked} while enabled is false, since there is no green then; set "
                "enabled: true, or remove it"
            )
        if given.green_weight and self.phase < Phase.BLUE_GREEN:
            raise ValueError(
                f"{PROJECT}:blueGreen.greenWeight: must be 0 below phase {Phase.BLUE_GREEN}, where there is no green, "
                f"not {given.green_weight}; to leave phase {Phase.BLUE_GREEN} without losing requests, run: runbook "
                f"retreat --stack {self.stack}"
            )
        return self

    @model_validator(mode="after")
    def _green_can_take_over(self) -> "Settings":
        if not self.is_blue_green:
            return self
        if self.public_service is None:
            raise ValueError(
                f"{PROJECT}:blueGreen.enabled: must be false while no service is public, since nothing is there to "
                f"shift; set public: true in the entry of {PROJECT}:services that clients reach, such as api-gateway"
            )
        blue = self.public_service.name
        if blue != PUBLIC_SERVICE:
            raise ValueError(
                f"{PROJECT}:services: must have {PUBLIC_SERVICE} as the public service from phase {Phase.BLUE_GREEN} "
                f"on, by which name the runbook shifts traffic, not {blue}; rename it, or set "
                f"{PROJECT}:blueGreen.enabled: false"
            )
        green = next((service.name for service in self.blue_green.services if service.public), None)
        if green != blue:
            raise ValueError(
                f"{PROJECT}:blueGreen.services: must have public: true in {blue}, as blue has, not in "
                f"{green or 'none'}: clients reach both colours by one name; add it to green's services"
            )
        return self

    @model_validator(mode="after")
    def _what_serves_both_colours_is_not_stopped(self) -> "Settings":
        green = {service.name for service in self.blue_green.services}
        for service in self.blue_green.services:
            if self.blue_green.stopped == "blue" and (
                only_blue := [name for name in service.calls if name not in green]
            ):
                raise ValueError(
                    f"{PROJECT}:blueGreen.stopped: must not be blue while green's {service.name} calls {only_blue[0]}, "
                    f"which only blue has; set it to none, or give green a {only_blue[0]}"
                )
        return self

    @model_validator(mode="after")
    def _prod_is_not_in_plain_text(self) -> "Settings":
        edge = self.edge
        readable = edge.enabled and not edge.certificate_arn and not edge.plain_http
        if self.is_blue_green and self.environment == "prod" and readable:
            raise ValueError(
                f"{PROJECT}:edge: must have domain and certificateArn in prod from phase {Phase.BLUE_GREEN} on, or "
                "everybody on the way reads the traffic; add both, or take plain HTTP on purpose with plainHttp: true"
            )
        return self

    @model_validator(mode="after")
    def _prod_is_not_open_to_the_world(self) -> "Settings":
        networks = map(ipaddress.IPv4Network, self.cluster.public_access_cidrs)
        wide = [network for network in networks if network.prefixlen < NARROWEST_WORLD]
        if self.environment == "prod" and wide:
            raise ValueError(
                f"{PROJECT}:cluster.publicAccessCidrs: must not be {wide[0]} in prod, as good as open to the world; "
                f'name the networks that deploy, for example {PROJECT}:cluster.publicAccessCidrs: ["203.0.113.0/24"]'
            )
        return self

    @model_validator(mode="after")
    def _backups_run_while_nodes_do(self) -> "Settings":
        schedules = {
            "stores.backupSchedule": (self.stores.backup_schedule, NIGHTLY, "17 12 * * MON-FRI"),
        }
        if self.phase >= Phase.SECRETS:
            schedules["secrets.rotationSchedule"] = (self.secrets.rotation_schedule, ROTATED, "47 12 * * MON-FRI")
        for key, (schedule, nightly, example) in schedules.items():
            if self.night_schedule and schedule == nightly:
                raise ValueError(
                    f"{PROJECT}:{key}: must be a time at which nodes run, since {PROJECT}:nightSchedule stops them at "
                    f"night; for example {PROJECT}:{key}: {example}"
                )
        return self

    @model_validator(mode="after")
    def _an_edge_has_something_behind_it(self) -> "Settings":
        if self.phase >= Phase.COMPUTE and self.edge.enabled and self.public_service is None:
            raise ValueError(
                f"{PROJECT}:edge.enabled: must be false while no service is public; set public: true in the entry of "
                f"{PROJECT}:services that clients reach, for example api-gateway"
            )
        return self

    @model_validator(mode="after")
    def _names_are_short_enough_for_aws(self) -> "Settings":
        for group in self.node_groups:
            name = self.names.of(f"{group.capacity_type}-{group.name}")
            if len(name) > LONGEST_NODE_GROUP:
                raise ValueError(
                    f"{PROJECT}:nodeGroups: the group {group.name} would be {name}, longer than the "
                    f"{LONGEST_NODE_GROUP} characters that EKS takes; give it a shorter name"
                )
        if self.edge.enabled and len(name := self.names.of("edge")) > LONGEST_LOAD_BALANCER:
            raise ValueError(
                f"{PROJECT}:edge.enabled: the load balancer would be {name}, longer than the "
                f"{LONGEST_LOAD_BALANCER} characters that AWS takes; set it to false, or give the stack a shorter name"
            )
        return self

    @property
    def is_blue_green(self) -> bool:
        """Whether there is a second release, and with it the mesh."""
        return self.phase >= Phase.BLUE_GREEN and self.blue_green.enabled

    @property
    def is_leaving_mesh(self) -> bool:
        """Whether clients reach blue past the mesh, on the way down: green has gone, and plain text is taken."""
        return self.is_blue_green and self.blue_green.stopped == "green" and self.blue_green.mtls == "permissive"

    @property
    def built_phase(self) -> Phase:
        """The phase that is built: without blue-green the last one is the one before."""
        return self.phase if self.is_blue_green else min(self.phase, Phase.SECRETS)

    @property
    def public_service(self) -> ServiceSettings | None:
        """Blue's service that clients reach."""
        return next((service for service in self.services if service.public), None)

    @property
    def min_replicas(self) -> int:
        """Replicas of a service that says nothing else."""
        return MIN_REPLICAS[self.environment]

    @property
    def recovery_window_days(self) -> int:
        """Days for which a deleted secret can be had back; where nothing is protected, its name is free at once."""
        given = self.secrets.recovery_window_days
        return given if given is not None else LONGEST_RECOVERY_DAYS if self.protect else 0

    @property
    def names(self) -> Names:
        """Names and tags of this stack."""
        return Names(stack=self.stack, environment=self.environment, cost_center=self.cost_center)

    @classmethod
    def from_stack(cls) -> "Settings":
        """Settings of the stack that Pulumi is running.

        Raises:
            PlainSecretError: a secret stands in the config as it is.
            SettingsError: the config is wrong; says which key, what is wrong with it, and how to mend it.
        """
        config = pulumi.runtime.config.CONFIG.get()
        require_encrypted(pulumi.get_stack(), config)
        return cls.from_config(pulumi.get_stack(), config)

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
            return cls.model_validate(with_defaults(values["environment"], values))
        except ValidationError as error:
            raise SettingsError("\n".join(explained(error, cls))) from None


def _fit_together(services: tuple[ServiceSettings, ...], callable_names: set[str], where: str) -> None:
    """Raise ValueError with what is wrong between the services of one colour."""
    names = [service.name for service in services]
    if twice := repeated(names):
        raise ValueError(f"must not have two services named {twice[0]}; rename one")
    if taken := [name for name in names if name in RESERVED_NAMES]:
        raise ValueError(f"must not have a service named {taken[0]}: the program has its own; rename it")
    if green := [name for name in names if name.endswith(GREEN_SUFFIX)]:
        raise ValueError(
            f"must not have a service named {green[0]}: so ends the name of every green Deployment; rename it"
        )
    for service in services:
        if missing := sorted({*service.calls} - callable_names | {*service.calls} & {service.name}):
            raise ValueError(
                f"must let services call other services of {where} only, but {service.name} calls {missing[0]}; "
                f"remove that from its calls"
            )
    if len(public := [service.name for service in services if service.public]) > 1:
        raise ValueError(
            f"must have public: true in one service at most, not in {' and '.join(public)}; leave it where clients "
            "arrive"
        )


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
    return any(
        field.alias == name and (get_origin(field.annotation) is tuple or section_in(field.annotation))
        for field in Settings.model_fields.values()
    )
