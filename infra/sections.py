"""The sections of a stack's config: what each key may hold, with an example for whoever gets it wrong."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from components.shared.apps import MigrationKind
from cost.instance_types import INSTANCE_TYPES
from cost.schedule import running_share
from infra.naming import ImageGroup

STACK_NAME: Final = r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$"
ACCOUNT_ID: Final = r"^\d{12}$"
EMAIL: Final = r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$"
HOST_NAME: Final = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$"
REPOSITORY_NAME: Final = r"^[a-z0-9]+([._-][a-z0-9]+)*$"
TAG_VALUE: Final = r"^[A-Za-z0-9 _.:/=+@-]{1,64}$"
DNS_LABEL: Final = r"^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$"
IMAGE: Final = r"^(legacy|microservices)/[a-z0-9]+([._-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
CPU: Final = r"^([1-9]\d{0,4}m|[1-9]\d?)$"
MEMORY: Final = r"^[1-9]\d{0,5}(Mi|Gi)$"
ROLE_OR_USER_ARN: Final = r"^arn:aws:iam::\d{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$"
CERTIFICATE_ARN: Final = r"^arn:aws:acm:us-east-1:\d{12}:certificate/[0-9a-f-]{36}$"
HOSTED_ZONE: Final = r"^Z[A-Z0-9]{1,31}$"
TIME_ZONE: Final = r"^[A-Za-z_]+(/[A-Za-z_+0-9-]+)*$"
ZONE: Final = r"^us-east-1[a-f]$"
DURATION: Final = r"^[1-9]\d{0,4}[smh]$"
HTTP_PATH: Final = r"^/[A-Za-z0-9._~/-]*$"

MEANINGS: Final[Mapping[str, str]] = {
    STACK_NAME: "up to 30 lower-case letters, digits and inner hyphens, the first a letter",
    ACCOUNT_ID: "the 12 digits of an AWS account id, in quotes",
    EMAIL: "an e-mail address",
    HOST_NAME: "a host name without scheme or path",
    REPOSITORY_NAME: "lower-case letters and digits, separated by single dots, hyphens or underscores",
    TAG_VALUE: "1 to 64 letters, digits, spaces or _.:/=+@-",
    DNS_LABEL: "a DNS label: up to 48 lower-case letters, digits and inner hyphens, the first a letter",
    IMAGE: "an image of the registry with its tag, as legacy/NAME:TAG or microservices/NAME:TAG",
    CPU: "an amount of CPU: whole cores, or thousandths such as 250m",
    MEMORY: "an amount of memory in Mi or Gi",
    ROLE_OR_USER_ARN: "the ARN of an IAM role or user",
    CERTIFICATE_ARN: "the ARN of an ACM certificate in us-east-1",
    HOSTED_ZONE: "the id of a public hosted zone of Route 53",
    TIME_ZONE: "a time zone of the IANA database",
    ZONE: "an availability zone of us-east-1",
    DURATION: "whole seconds, minutes or hours, such as 15s",
    HTTP_PATH: "a path that begins with a slash",
}
"""What each pattern means, for error messages."""

Email = Annotated[str, StringConstraints(pattern=EMAIL, max_length=254)]
RepositoryName = Annotated[str, StringConstraints(pattern=REPOSITORY_NAME, max_length=100)]
DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL)]
Cpu = Annotated[str, StringConstraints(pattern=CPU)]
Memory = Annotated[str, StringConstraints(pattern=MEMORY)]
Zone = Annotated[str, StringConstraints(pattern=ZONE)]

SUPPORTED_VERSIONS: Final[Mapping[str, str]] = {"1.36": "2027-10"}
"""Kubernetes versions whose add-on pins are known here, and the month in which EKS's standard support of each ends."""


def _network(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        network = None
    if network is None or "/" not in value:
        raise ValueError("must be an IPv4 network with its prefix, such as 10.10.0.0/16")
    return str(network)


def _weekly(value: str) -> str:
    try:
        running_share(value, value)
    except ValueError as error:
        raise ValueError(f"must be five cron fields in quotes, the same every week ({error})") from None
    return value


def repeated(names: Iterable[str]) -> list[str]:
    """Names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := repeated(values):
        raise ValueError(f"must not name {twice[0]} twice")
    return values


def _with_a_tag_that_stays(image: str) -> str:
    if image.endswith(":latest"):
        raise ValueError("must have a tag that stays")
    return image


Cidr = Annotated[str, AfterValidator(_network)]
Cron = Annotated[str, AfterValidator(_weekly)]
Image = Annotated[str, StringConstraints(pattern=IMAGE), AfterValidator(_with_a_tag_that_stays)]
Once = AfterValidator(_once)
"""Each entry of a list of texts once."""


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
    username: RepositoryName = Field(default="pyairtable-bot", examples=["pyairtable-bot"])
    """Whose token imagePullToken is."""
    repositories: dict[ImageGroup, Annotated[tuple[RepositoryName, ...], Field(min_length=1), Once]] = Field(
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


class NetworkSettings(Section):
    """Addresses and zones of the stack's VPC."""

    cidr_block: Cidr = Field(examples=["10.10.0.0/16"])
    availability_zones: Annotated[tuple[Zone, ...], Field(min_length=2, max_length=3), Once] = Field(
        examples=[["us-east-1a", "us-east-1b"]]
    )
    """EKS wants two at least, also where nodes run in one."""
    data_availability_zone: Zone = Field(examples=["us-east-1a"])
    """Where the stores' disks are, and with them the nodes that run the stores."""

    @field_validator("cidr_block")
    @classmethod
    def _is_a_private_block_of_a_fitting_size(cls, value: str) -> str:
        network = ipaddress.IPv4Network(value)
        if not network.subnet_of(ipaddress.IPv4Network("10.0.0.0/8")):
            raise ValueError("must lie in 10.0.0.0/8, where Kubernetes Services, 172.20.0.0/16, are not")
        if not 16 <= network.prefixlen <= 20:  # noqa: PLR2004 - AWS's largest, and the smallest with room for prefixes
            raise ValueError("must be from /16 to /20 large")
        return value

    @model_validator(mode="after")
    def _stores_are_in_a_zone_of_the_network(self) -> "NetworkSettings":
        if self.data_availability_zone not in self.availability_zones:
            raise ValueError(
                f"must have dataAvailabilityZone, {self.data_availability_zone}, among its availabilityZones; "
                f"choose {' or '.join(self.availability_zones)}, or add it to them"
            )
        return self


class AccessEntry(Section):
    """Who may use the Kubernetes API besides the identity that creates the cluster."""

    principal_arn: Annotated[str, StringConstraints(pattern=ROLE_OR_USER_ARN)] = Field(
        examples=["arn:aws:iam::123456789012:role/platform-engineer"]
    )
    access: Literal["admin", "view"] = Field(examples=["view"])


class ClusterSettings(Section):
    """The EKS control plane."""

    version: str = Field(examples=['"1.36"'])
    public_access_cidrs: Annotated[tuple[Cidr, ...], Once] = Field(examples=[["203.0.113.0/24"]])
    """From where the public endpoint answers; none, and only the private endpoint exists."""
    access_entries: dict[DnsLabel, AccessEntry] = Field(
        default={},
        examples=[{"engineers": {"principalArn": "arn:aws:iam::123456789012:role/engineer", "access": "view"}}],
    )

    @field_validator("version")
    @classmethod
    def _is_in_standard_support(cls, value: str) -> str:
        if value not in SUPPORTED_VERSIONS:
            raise ValueError(
                f"must be {' or '.join(SUPPORTED_VERSIONS)}: others are out of EKS's standard support, where the "
                "control plane costs six times as much, or have no add-on versions pinned here"
            )
        return value

    @field_validator("access_entries")
    @classmethod
    def _no_principal_twice(cls, value: dict[str, AccessEntry]) -> dict[str, AccessEntry]:
        if twice := repeated(entry.principal_arn for entry in value.values()):
            raise ValueError(f"must not have two entries for {twice[0]}; remove one")
        return value


class NodeGroupSettings(Section):
    """A managed node group: all spot or all on-demand, as EKS has it."""

    name: DnsLabel = Field(examples=["general"])
    capacity_type: Literal["spot", "on-demand"] = Field(examples=["spot"])
    instance_types: Annotated[tuple[str, ...], Field(min_length=1, max_length=10), Once] = Field(
        examples=[["t3a.medium", "t3.medium"]]
    )
    """Several, so that spot capacity of one that runs out is found in another; all of one size."""
    min_size: int = Field(strict=True, ge=0, le=20, examples=[1])
    desired_size: int = Field(strict=True, ge=0, le=20, examples=[1])
    max_size: int = Field(strict=True, ge=1, le=20, examples=[2])
    hosts_stores: bool = Field(default=False, examples=[True])
    """Whether PostgreSQL and Redis run here: in one zone then, with room for one node more than desired."""

    @field_validator("instance_types")
    @classmethod
    def _are_known_and_alike(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in INSTANCE_TYPES]
        if unknown:
            raise ValueError(
                f"must not name {unknown[0]}, which cost/instance_types.toml does not have; the types are: "
                f"{', '.join(INSTANCE_TYPES)}"
            )
        types = [INSTANCE_TYPES[name] for name in value]
        if len({(type.vcpus, type.memory_mib, type.architecture) for type in types}) > 1:
            raise ValueError("must name types of one size and architecture: pods have to fit whichever comes")
        if len({type.baseline is None for type in types}) > 1:
            raise ValueError("must not mix types that burst with types that do not, which have no CPU credits to set")
        return value

    @model_validator(mode="after")
    def _sizes_are_in_order(self) -> "NodeGroupSettings":
        if not self.min_size <= self.desired_size <= self.max_size:
            raise ValueError(
                f"must have minSize <= desiredSize <= maxSize, not {self.min_size}, {self.desired_size} and "
                f"{self.max_size}; for example minSize: 1, desiredSize: 1, maxSize: 2"
            )
        if self.hosts_stores and not 0 < self.desired_size < self.max_size:
            raise ValueError(
                "must have a desiredSize of 1 or more and a maxSize above it, since it hosts the stores and a node is "
                f"replaced by one more, not {self.desired_size} and {self.max_size}; for example desiredSize: 1, "
                "maxSize: 2"
            )
        return self


class StoreSettings(Section):
    """Size of a store; it has one replica."""

    cpu: Cpu = Field(examples=["250m"])
    memory: Memory = Field(examples=["512Mi"])
    disk_gib: int = Field(strict=True, ge=1, le=1000, examples=[10])


NIGHTLY: Final = "17 2 * * *"
"""Off the full hour that everybody else takes."""


ROTATED: Final = "47 2 * * *"
"""Half an hour after the dump."""


class StoresSettings(Section):
    """PostgreSQL and Redis."""

    postgres: StoreSettings = Field(examples=[{"cpu": "250m", "memory": "512Mi", "diskGib": 10}])
    redis: StoreSettings = Field(examples=[{"cpu": "100m", "memory": "128Mi", "diskGib": 1}])
    backup_schedule: Cron = Field(default=NIGHTLY, examples=["17 12 * * MON-FRI"])
    """UTC; while nodes run, where a nightSchedule stops them."""
    backup_retention_days: int = Field(strict=True, ge=1, le=365, examples=[7])


SECONDS = {"s": 1, "m": 60, "h": 3600}
SHORTEST_REFRESH_SECONDS: Final = 5
LONGEST_REFRESH_SECONDS: Final = 24 * 3600
Duration = Annotated[str, StringConstraints(pattern=DURATION)]


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]


class SecretsSettings(Section):
    """AWS Secrets Manager, from phase 3 on."""

    refresh_interval: Duration = Field(default="15s", examples=["15s"])
    """How often each of the three secrets is fetched; every request is paid for."""
    rotation_schedule: Cron = Field(default=ROTATED, examples=["47 12 * * MON-FRI"])
    """When a day's rotation would be, UTC; while nodes run, where a nightSchedule stops them."""
    rotation_days: int = Field(default=30, strict=True, ge=1, le=365, examples=[30])
    """Age at which the database's password is replaced."""
    recovery_window_days: int | None = Field(default=None, strict=True, ge=0, le=30, examples=[30])
    """For which a deleted secret can be had back, and its name is taken; 30 where the stack is protected, else 0."""

    @field_validator("refresh_interval")
    @classmethod
    def _is_neither_dear_nor_never(cls, value: str) -> str:
        if not SHORTEST_REFRESH_SECONDS <= _seconds(value) <= LONGEST_REFRESH_SECONDS:
            raise ValueError("must be from 5s to 24h")
        return value

    @property
    def refresh_seconds(self) -> int:
        """The refresh interval in seconds."""
        return _seconds(self.refresh_interval)

    @field_validator("recovery_window_days")
    @classmethod
    def _is_a_window_that_aws_has(cls, value: int | None) -> int | None:
        if value is not None and 0 < value < 7:  # noqa: PLR2004 - AWS's shortest
            raise ValueError("must be 0, or from 7 to 30")
        return value


class NightSchedule(Section):
    """When a stack's nodes go and come back; its services are down in between."""

    stop: Cron = Field(examples=["0 20 * * MON-FRI"])
    start: Cron = Field(examples=["0 6 * * MON-FRI"])
    time_zone: Annotated[str, StringConstraints(pattern=TIME_ZONE)] = Field(default="Etc/UTC", examples=["Etc/UTC"])

    @model_validator(mode="after")
    def _starts_when_it_does_not_stop(self) -> "NightSchedule":
        if not 0 < running_share(self.stop, self.start) < 1:
            raise ValueError(
                'must start at other times than it stops; for example stop: "0 20 * * MON-FRI", '
                'start: "0 6 * * MON-FRI"'
            )
        return self


HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443


class EdgeSettings(Section):
    """The public entry: a network load balancer in front of the public service."""

    enabled: bool = Field(examples=[True])
    domain: Annotated[str, StringConstraints(pattern=HOST_NAME)] | None = Field(
        default=None, examples=["api.pyairtable.example"]
    )
    certificate_arn: Annotated[str, StringConstraints(pattern=CERTIFICATE_ARN)] | None = Field(
        default=None, examples=["arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"]
    )
    hosted_zone_id: Annotated[str, StringConstraints(pattern=HOSTED_ZONE)] | None = Field(
        default=None, examples=["Z0123456789ABCDEFGHIJ"]
    )
    """Where the program makes the domain's record; without, whoever owns the domain does."""
    port: int | None = Field(default=None, strict=True, ge=1, le=65535, examples=[443])
    """Where clients arrive: 443 with a certificate and 80 without, unless it is set."""
    plain_http: bool = Field(default=False, examples=[True])
    """Takes it that prod's traffic is readable on its way to the edge, from phase 4 on."""

    @property
    def listener_port(self) -> int:
        """The port that clients reach."""
        return self.port or (HTTPS_PORT if self.certificate_arn else HTTP_PORT)

    @model_validator(mode="after")
    def _a_record_needs_its_name(self) -> "EdgeSettings":
        if self.hosted_zone_id and not self.domain:
            raise ValueError(
                "must have a domain where it has a hostedZoneId; add domain and certificateArn, or remove hostedZoneId"
            )
        return self

    @model_validator(mode="after")
    def _domain_and_certificate_go_together(self) -> "EdgeSettings":
        if (self.domain is None) != (self.certificate_arn is None):
            missing = "domain" if self.domain is None else "certificateArn"
            raise ValueError(
                f"must have both domain and certificateArn, or neither; add {missing}, or remove the other"
            )
        return self


class ServiceSettings(Section):
    """One microservice."""

    name: DnsLabel = Field(examples=["auth-service"])
    image: Image = Field(examples=["microservices/auth-service:v2.0.0"])
    port: int = Field(default=8080, strict=True, ge=1024, le=65535, examples=[8080])
    """Above 1023, since its container is not root."""
    cpu: Cpu = Field(examples=["100m"])
    memory: Memory = Field(examples=["128Mi"])
    min_replicas: int | None = Field(default=None, strict=True, ge=1, le=50, examples=[1])
    """The environment's where it is absent: 2 in prod, 1 elsewhere."""
    max_replicas: int = Field(default=5, strict=True, ge=1, le=50, examples=[5])
    health_path: Annotated[str, StringConstraints(pattern=HTTP_PATH)] = Field(default="/health", examples=["/health"])
    calls: Annotated[tuple[DnsLabel, ...], Once] = Field(default=(), examples=[["auth-service"]])
    """Services that it calls; nothing else lets it through."""
    uses: Annotated[tuple[Literal["database", "redis", "api-keys"], ...], Once] = Field(
        default=(), examples=[["database"]]
    )
    """Credentials that it gets, and stores that it reaches."""
    internet: bool = Field(default=False, examples=[True])
    """Whether it calls HTTPS services outside the cluster."""
    public: bool = Field(default=False, examples=[True])
    """Whether it is what clients outside the cluster reach."""

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> "ServiceSettings":
        if self.min_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(
                f"must have minReplicas <= maxReplicas, not {self.min_replicas} and {self.max_replicas}; for example "
                "minReplicas: 1, maxReplicas: 5"
            )
        return self

    @property
    def image_parts(self) -> tuple[ImageGroup, str, str]:
        """Group, repository and tag of the image."""
        return image_parts(self.image)

    @property
    def cpu_millis(self) -> int:
        """The CPU request in thousandths of a core."""
        return cpu_millis(self.cpu)

    @property
    def memory_mib(self) -> int:
        """The memory request in MiB."""
        return memory_mib(self.memory)


class MigrationSettings(Section):
    """One step of the database's schema, a Job that runs once."""

    name: DnsLabel = Field(examples=["add-workspaces"])
    image: Image = Field(examples=["microservices/workspace-service:v2.0.0"])
    kind: MigrationKind = Field(examples=["expand"])
    """`expand` adds what green needs and blue does not mind; `contract` takes away what only blue used."""
    arguments: tuple[str, ...] = Field(default=(), examples=[["migrate", "up"]])
    """What the image's entry point is given."""

    @property
    def image_parts(self) -> tuple[ImageGroup, str, str]:
        """Group, repository and tag of the image."""
        return image_parts(self.image)


class BlueGreenSettings(Section):
    """The second release and its share of the traffic, from phase 4 on (runbook section 4)."""

    enabled: bool = Field(examples=[True])
    green_weight: int = Field(default=0, strict=True, ge=0, le=100, examples=[10])
    """Share of the requests that green gets, per cent; blue gets the rest."""
    mtls: Literal["strict", "permissive"] = Field(default="strict", examples=["permissive"])
    """Whether meshed services refuse plain text; permissive is the first step of going back to phase 3."""
    stopped: Literal["none", "blue", "green"] = Field(default="none", examples=["green"])
    """The colour whose Deployments have no replicas; only one that gets no traffic by weight."""
    retire_after: Duration = Field(default="24h", examples=["24h"])
    """How long green has to have had all traffic before blue may be stopped."""
    services: Annotated[tuple[ServiceSettings, ...], Field(max_length=200)] = Field(
        default=(),
        examples=[
            [{"name": "auth-service", "image": "microservices/auth-service:v2.0.0", "cpu": "100m", "memory": "128Mi"}]
        ],
    )
    """What green is made of; a service that only one colour has serves both."""
    migrations: Annotated[tuple[MigrationSettings, ...], Field(max_length=50)] = Field(
        default=(),
        examples=[[{"name": "add-workspaces", "image": "microservices/workspace-service:v2.0.0", "kind": "expand"}]],
    )

    @property
    def retire_after_seconds(self) -> int:
        """The same in seconds."""
        return _seconds(self.retire_after)

    @field_validator("migrations")
    @classmethod
    def _no_migration_twice(cls, value: tuple[MigrationSettings, ...]) -> tuple[MigrationSettings, ...]:
        if twice := repeated(migration.name for migration in value):
            raise ValueError(f"must not have two migrations named {twice[0]}; rename one")
        return value

    @model_validator(mode="after")
    def _only_what_gets_no_traffic_is_stopped(self) -> "BlueGreenSettings":
        for colour, weight in (("blue", 100), ("green", 0)):
            if self.stopped == colour and self.green_weight != weight:
                raise ValueError(
                    f"must not have stopped: {colour} at greenWeight {self.green_weight}, at which {colour} serves; "
                    f"set stopped: none, or greenWeight: {weight} first"
                )
        return self

    @model_validator(mode="after")
    def _nothing_that_blue_uses_is_taken_away_while_it_has_pods(self) -> "BlueGreenSettings":
        contracting = [migration.name for migration in self.migrations if migration.kind == "contract"]
        # Blue is stopped at weight 100 only; and until then it may still answer, or be gone back to.
        if contracting and self.stopped != "blue":
            raise ValueError(
                f"must not have a migration of kind contract, {contracting[0]}, while blue has pods, at greenWeight "
                f"{self.green_weight} and stopped: {self.stopped}; retire blue first, with runbook retire, or "
                "greenWeight: 100 and stopped: blue"
            )
        return self


def image_parts(image: str) -> tuple[ImageGroup, str, str]:
    """Group, repository and tag of an image of the registry."""
    path, _, tag = image.partition(":")
    group, _, repository = path.partition("/")
    return ("legacy" if group == "legacy" else "microservices"), repository, tag


def cpu_millis(amount: str) -> int:
    """An amount of CPU in thousandths of a core."""
    return int(amount[:-1]) if amount.endswith("m") else 1000 * int(amount)


def memory_mib(amount: str) -> int:
    """An amount of memory in MiB."""
    return int(re.sub(r"\D", "", amount)) * (1024 if amount.endswith("Gi") else 1)
