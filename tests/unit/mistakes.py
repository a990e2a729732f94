"""Mistakes that a stack's config may have, and what the answer to each says."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.unit.graph import CERTIFICATE, config

ABSENT = object()


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
    besides: Mapping[str, object] = {}
    """What else the config says."""


PHASE = "for example pyairtable:phase: 1"
BUDGET = "for example pyairtable:monthlyBudgetUsd: 98"
EMAILS_FIX = 'for example pyairtable:alertEmails: ["platform@example.com"]'
ACCOUNT = 'for example pyairtable:accountId: "123456789012"'
SHARE = "for example pyairtable:cost.stacksPerAccount: 3"
HOST = "for example pyairtable:registry.host: ghcr.io"
REPOSITORIES = 'for example pyairtable:registry.repositories: {"legacy": ["api-gateway"]}'
NETWORK_FIX = 'for example pyairtable:network: {"cidrBlock": "10.10.0.0/16"}'
CIDR = "for example pyairtable:network.cidrBlock: 10.10.0.0/16"
ZONES = 'for example pyairtable:network.availabilityZones: ["us-east-1a", "us-east-1b"]'
PUBLIC_CIDRS = 'for example pyairtable:cluster.publicAccessCidrs: ["203.0.113.0/24"]'
VERSION = 'for example pyairtable:cluster.version: "1.36"'
TYPES = 'for example pyairtable:nodeGroups.0.instanceTypes: ["t3a.medium", "t3.medium"]'
SIZES = "for example minSize: 1, desiredSize: 1, maxSize: 2"
STOP = "for example pyairtable:nightSchedule.stop: 0 20 * * MON-FRI"
IMAGE = "for example pyairtable:services.0.image: microservices/auth-service:v2.0.0"
NAME = "for example pyairtable:services.0.name: auth-service"
IMAGE_FORM = "an image of the registry with its tag, as legacy/NAME:TAG or microservices/NAME:TAG, not "
DNS_LABEL = "must be a DNS label: up to 48 lower-case letters, digits and inner hyphens, the first a letter, not "

ROLE = {"principalArn": "arn:aws:iam::123456789012:role/engineer", "access": "view"}
NIGHT = {"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI"}


def group(**changes: object) -> dict[str, object]:
    """A node group that is right, but for the changes."""
    return {
        "name": "general",
        "capacityType": "spot",
        "instanceTypes": ["t3a.medium", "t3.medium"],
        "minSize": 1,
        "desiredSize": 1,
        "maxSize": 2,
        "hostsStores": True,
        **changes,
    }


def service(**changes: object) -> dict[str, object]:
    """A microservice that is right, but for the changes."""
    return {
        "name": "auth-service",
        "image": "microservices/auth-service:v2.0.0",
        "cpu": "100m",
        "memory": "128Mi",
        **changes,
    }


def store(**changes: object) -> dict[str, object]:
    """A store that is right, but for the changes."""
    return {"cpu": "250m", "memory": "512Mi", "diskGib": 10, **changes}


NEW_STACK = "make a stack of another name: pulumi stack init alice-dev"

FOUNDATION = [
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
        'must not name a twice, not ["a", "a"]',
        REPOSITORIES,
    ),
    Bad("registry's user bad", "registry.username", "a b", 'not "a b"', "pyairtable:registry.username: pyairtable-bot"),
    Bad(
        "protect maybe",
        "protect",
        "maybe",
        'must be true or false, not "maybe"',
        'for example pyairtable:protect: "false"',
    ),
    Bad(
        "protect a mapping",
        "protect",
        {"disks": True},
        "must be true or false",
        'for example pyairtable:protect: "false"',
    ),
]

NETWORK = [
    Bad("network a text", "network", "10.10.0.0/16", "must be a mapping of keys to values", NETWORK_FIX),
    Bad("network misspelt", "network.cidrBlok", "x", "is not a setting", "did you mean pyairtable:network.cidrBlock?"),
    Bad(
        "CIDR another environment's",
        "network.cidrBlock",
        "10.20.0.0/16",
        "must not overlap 10.20.0.0/16, which is staging's, as 10.20.0.0/16 does",
        CIDR,
    ),
    Bad(
        "CIDR a part of another environment's",
        "network.cidrBlock",
        "10.30.16.0/20",
        "must not overlap 10.30.0.0/16, which is prod's, as 10.30.16.0/20 does",
        CIDR,
    ),
    Bad(
        "CIDR of the Kubernetes Services",
        "network.cidrBlock",
        "172.20.0.0/16",
        'must lie in 10.0.0.0/8, where Kubernetes Services, 172.20.0.0/16, are not, not "172.20.0.0/16"',
        CIDR,
    ),
    Bad("CIDR of a home", "network.cidrBlock", "192.168.0.0/16", "must lie in 10.0.0.0/8", CIDR),
    Bad("CIDR public", "network.cidrBlock", "52.0.0.0/16", "must lie in 10.0.0.0/8", CIDR),
    Bad("CIDR too large", "network.cidrBlock", "10.0.0.0/8", 'from /16 to /20 large, not "10.0.0.0/8"', CIDR),
    Bad("CIDR too small", "network.cidrBlock", "10.40.0.0/21", 'from /16 to /20 large, not "10.40.0.0/21"', CIDR),
    Bad("CIDR without a prefix", "network.cidrBlock", "10.40.0.0", "must be an IPv4 network with its prefix", CIDR),
    Bad("CIDR with a host", "network.cidrBlock", "10.40.0.1/16", "an IPv4 network with its prefix, such as", CIDR),
    Bad("CIDR of IPv6", "network.cidrBlock", "fd00::/16", "an IPv4 network with its prefix, such as", CIDR),
    Bad("CIDR in words", "network.cidrBlock", "large", 'such as 10.10.0.0/16, not "large"', CIDR),
    Bad("CIDR a list", "network.cidrBlock", ["10.40.0.0/16"], "must be text", CIDR),
    Bad("one zone", "network.availabilityZones", ["us-east-1a"], "must have at least 2 entries, not", ZONES),
    Bad("four zones", "network.availabilityZones", [f"us-east-1{z}" for z in "abcd"], "at most 3 entries", ZONES),
    Bad("zones as text", "network.availabilityZones", "us-east-1a", "must be a list", ZONES),
    Bad("zone twice", "network.availabilityZones", ["us-east-1a"] * 2, "must not name us-east-1a twice", ZONES),
    Bad(
        "zone elsewhere",
        "network.availabilityZones",
        ["us-east-1a", "eu-west-1a"],
        'must be an availability zone of us-east-1, not "eu-west-1a"',
        ZONES,
        key="network.availabilityZones.1",
    ),
    Bad(
        "data zone unknown",
        "network.dataAvailabilityZone",
        "us-east-1z",
        'must be an availability zone of us-east-1, not "us-east-1z"',
        "for example pyairtable:network.dataAvailabilityZone: us-east-1a",
    ),
    Bad(
        "data zone not of the network",
        "network.dataAvailabilityZone",
        "us-east-1c",
        "must have dataAvailabilityZone, us-east-1c, among its availabilityZones",
        "choose us-east-1a or us-east-1b, or add it to them",
        key="network",
    ),
]

CLUSTER = [
    *(
        Bad(f"Kubernetes {version}", "cluster.version", version, f"must be 1.36: others are out of EKS's{''}", VERSION)
        for version in ("1.30", "1.35", "9.99", "v1.36", "latest")
    ),
    Bad("version a list", "cluster.version", ["1.36"], "must be text", VERSION),
    Bad(
        "world admitted in prod",
        "cluster.publicAccessCidrs",
        ["203.0.113.0/24", "0.0.0.0/0"],
        "must not be 0.0.0.0/0 in prod",
        PUBLIC_CIDRS,
        stack="prod",
    ),
    Bad(
        "world admitted in prod by halves",
        "cluster.publicAccessCidrs",
        ["0.0.0.0/1", "128.0.0.0/1"],
        "must not be 0.0.0.0/1 in prod",
        PUBLIC_CIDRS,
        stack="prod",
    ),
    Bad(
        "public CIDR with a host",
        "cluster.publicAccessCidrs",
        ["203.0.113.7/24"],
        'must be an IPv4 network with its prefix, such as 10.10.0.0/16, not "203.0.113.7/24"',
        PUBLIC_CIDRS,
        key="cluster.publicAccessCidrs.0",
    ),
    Bad("public CIDRs as text", "cluster.publicAccessCidrs", "0.0.0.0/0", "must be a list", PUBLIC_CIDRS),
    Bad(
        "public CIDR twice", "cluster.publicAccessCidrs", ["1.2.3.4/32"] * 2, "not name 1.2.3.4/32 twice", PUBLIC_CIDRS
    ),
    Bad(
        "access of nobody",
        "cluster.accessEntries.engineers",
        {**ROLE, "principalArn": "engineer"},
        'must be the ARN of an IAM role or user, not "engineer"',
        "for example pyairtable:cluster.accessEntries.engineers.principalArn: arn:aws:iam::123456789012:role/platform",
        key="cluster.accessEntries.engineers.principalArn",
    ),
    Bad(
        "access of another service's role",
        "cluster.accessEntries.engineers",
        {**ROLE, "principalArn": "arn:aws:sts::123456789012:assumed-role/engineer/ada"},
        "must be the ARN of an IAM role or user",
        "for example pyairtable:cluster.accessEntries.engineers.principalArn: ",
        key="cluster.accessEntries.engineers.principalArn",
    ),
    Bad(
        "access unknown",
        "cluster.accessEntries.engineers",
        {**ROLE, "access": "edit"},
        'must be admin or view, not "edit"',
        "for example pyairtable:cluster.accessEntries.engineers.access: view",
        key="cluster.accessEntries.engineers.access",
    ),
    Bad(
        "access entry's name bad",
        "cluster.accessEntries.Platform Engineers",
        ROLE,
        DNS_LABEL,
        'for example pyairtable:cluster.accessEntries: {"engineers": {"principalArn": ',
    ),
    Bad(
        "access entry an ARN",
        "cluster.accessEntries.engineers",
        ROLE["principalArn"],
        "must be a mapping of keys to values",
        'for example pyairtable:cluster.accessEntries.engineers: {"principalArn": ',
    ),
    Bad(
        "access entries for one principal",
        "cluster.accessEntries",
        {"readers": ROLE, "writers": {**ROLE, "access": "admin"}},
        "must not have two entries for arn:aws:iam::123456789012:role/engineer",
        "remove one",
    ),
]

NODE_GROUPS = [
    Bad(
        "node groups a mapping", "nodeGroups", group(), "must be a list", 'for example pyairtable:nodeGroups: [{"name"'
    ),
    Bad(
        "node group a name",
        "nodeGroups",
        ["general"],
        'must be a mapping of keys to values, not "general"',
        'for example pyairtable:nodeGroups.0: {"name": "stores"',
        key="nodeGroups.0",
    ),
    Bad(
        "node group without a kind",
        "nodeGroups",
        [{key: value for key, value in group().items() if key != "capacityType"}],
        "is missing",
        "for example pyairtable:nodeGroups.0.capacityType: spot",
        key="nodeGroups.0.capacityType",
    ),
    *(
        Bad(
            f"instance types {problem}",
            "nodeGroups",
            [group(instanceTypes=types)],
            message,
            fix,
            key="nodeGroups.0.instanceTypes",
        )
        for problem, types, message, fix in (
            (
                "unknown",
                ["t3.medium", "t9.huge"],
                "must not name t9.huge, which cost/instance_types.toml does not have",
                "the types are: t3a.medium, t3.medium, ",
            ),
            ("none", [], "must have at least 1 entry, not []", TYPES),
            ("too many", ["t3.medium"] * 11, "must have at most 10 entries", TYPES),
            ("twice", ["t3.medium", "t3.medium"], "must not name t3.medium twice", TYPES),
            ("of two sizes", ["t3.medium", "t3.large"], "must name types of one size and architecture", TYPES),
            ("of two architectures", ["t3.medium", "t4g.medium"], "must name types of one size and archi", TYPES),
            ("of two kinds", ["t3.medium", "c5.large"], "must not mix types that burst with types that do", TYPES),
            ("as text", "t3.medium", "must be a list", TYPES),
        )
    ),
    Bad(
        "nodes more at least than at most",
        "nodeGroups",
        [group(minSize=3)],
        "must have minSize <= desiredSize <= maxSize, not 3, 1 and 2",
        SIZES,
        key="nodeGroups.0",
    ),
    Bad(
        "nodes desired out of range",
        "nodeGroups",
        [group(), group(name="more", hostsStores=False, desiredSize=5)],
        "must have minSize <= desiredSize <= maxSize, not 1, 5 and 2",
        SIZES,
        key="nodeGroups.1",
    ),
    Bad(
        "nodes too many",
        "nodeGroups",
        [group(maxSize=21)],
        "must be at most 20, not 21",
        "for example pyairtable:nodeGroups.0.maxSize: 2",
        key="nodeGroups.0.maxSize",
    ),
    Bad(
        "nodes in words",
        "nodeGroups",
        [group(minSize="one")],
        'must be a whole number, not "one"',
        "for example pyairtable:nodeGroups.0.minSize: 1",
        key="nodeGroups.0.minSize",
    ),
    Bad(
        "no room for one node more where the stores are",
        "nodeGroups",
        [group(maxSize=1)],
        "must have a desiredSize of 1 or more and a maxSize above it, since it hosts the stores",
        "for example desiredSize: 1, maxSize: 2",
        key="nodeGroups.0",
    ),
    Bad(
        "no node where the stores are",
        "nodeGroups",
        [group(minSize=0, desiredSize=0)],
        "must have a desiredSize of 1 or more",
        "for example desiredSize: 1, maxSize: 2",
        key="nodeGroups.0",
    ),
    Bad(
        "no group for the stores",
        "nodeGroups",
        [group(hostsStores=False)],
        "must have hostsStores: true in just one group, not in none",
        "set it where PostgreSQL and Redis are to run",
    ),
    Bad(
        "two groups for the stores",
        "nodeGroups",
        [group(name="one"), group(name="two")],
        "must have hostsStores: true in just one group, not in one and two",
        "set it where PostgreSQL and Redis are to run",
    ),
    Bad("two groups of a name", "nodeGroups", [group()] * 2, "must not have two groups named general", "rename one"),
    Bad(
        "eleven groups",
        "nodeGroups",
        [group(name=f"group-{number}") for number in range(11)],
        "must have at most 10 entries",
        "for example pyairtable:nodeGroups: [",
    ),
    Bad(
        "group's name no DNS label",
        "nodeGroups",
        [group(name="General_")],
        DNS_LABEL,
        "for example pyairtable:nodeGroups.0.name: general",
        key="nodeGroups.0.name",
    ),
    Bad(
        "group's name too long for EKS",
        "nodeGroups",
        [group(name="g" * 45)],
        f"the group {'g' * 45} would be pyairtable-dev-spot-{'g' * 45}, longer than the 63 characters that EKS takes",
        "give it a shorter name",
    ),
    Bad(
        "capacity neither spot nor on-demand",
        "nodeGroups",
        [group(capacityType="reserved")],
        'must be spot or on-demand, not "reserved"',
        "for example pyairtable:nodeGroups.0.capacityType: spot",
        key="nodeGroups.0.capacityType",
    ),
    Bad(
        "stop without start",
        "nightSchedule",
        {"stop": NIGHT["stop"]},
        "is missing",
        "start: 0 6",
        "nightSchedule.start",
    ),
    Bad(
        "stop in words",
        "nightSchedule",
        {**NIGHT, "stop": "at eight"},
        'must be five cron fields in quotes, the same every week ("at eight" is not five cron fields',
        STOP,
        key="nightSchedule.stop",
    ),
    Bad(
        "stop in an hour that no day has",
        "nightSchedule",
        {**NIGHT, "stop": "0 25 * * *"},
        '("25" is not between 0 and 23), not "0 25 * * *"',
        STOP,
        key="nightSchedule.stop",
    ),
    Bad(
        "stop on a day that no week has",
        "nightSchedule",
        {**NIGHT, "stop": "0 20 * * XYZ"},
        '("XYZ" is no part of a cron field)',
        STOP,
        key="nightSchedule.stop",
    ),
    Bad(
        "stop on a day of the month",
        "nightSchedule",
        {**NIGHT, "stop": "0 20 1 * *"},
        "must be five cron fields in quotes, the same every week",
        STOP,
        key="nightSchedule.stop",
    ),
    Bad(
        "start when it stops",
        "nightSchedule",
        {"stop": NIGHT["start"], "start": NIGHT["start"]},
        "must start at other times than it stops",
        'for example stop: "0 20 * * MON-FRI", start: "0 6 * * MON-FRI"',
    ),
    Bad(
        "time zone malformed",
        "nightSchedule",
        {**NIGHT, "timeZone": "UTC+1 (Berlin)"},
        "must be a time zone of the IANA database",
        "for example pyairtable:nightSchedule.timeZone: Etc/UTC",
        key="nightSchedule.timeZone",
    ),
]

STORES = [
    Bad(
        "store unknown",
        "stores.mysql",
        store(),
        "is not a setting",
        "settings are: backupRetentionDays, backupSchedule, postgres, redis",
    ),
    *(
        Bad(
            f"store's {key} {value}",
            "stores.postgres",
            store(**{key: value}),
            problem,
            f"for example pyairtable:stores.postgres.{key}: {fix}",
            key=f"stores.postgres.{key}",
        )
        for key, value, problem, fix in (
            ("cpu", "lots", "must be an amount of CPU", "250m"),
            ("memory", "512MB", "must be an amount of memory in Mi or Gi", "512Mi"),
            ("diskGib", 0, "must be at least 1, not 0", "10"),
            ("diskGib", 1001, "must be at most 1000, not 1001", "10"),
            ("diskGib", "10Gi", 'must be a whole number, not "10Gi"', "10"),
        )
    ),
    Bad(
        "backups while nodes are stopped",
        "nightSchedule",
        NIGHT,
        "must be a time at which nodes run",
        "for example pyairtable:stores.backupSchedule: 17 12 * * MON-FRI",
        key="stores.backupSchedule",
    ),
    Bad(
        "backups every so often",
        "stores.backupSchedule",
        "nightly",
        "must be five cron fields in quotes, the same every week",
        "for example pyairtable:stores.backupSchedule: 17 12 * * MON-FRI",
    ),
    Bad("no night of backups", "stores.backupRetentionDays", 0, "must be at least 1, not 0", "backupRetentionDays: 7"),
    Bad("backups for ever", "stores.backupRetentionDays", 366, "at most 365, not 366", "backupRetentionDays: 7"),
]

REFRESH = "for example pyairtable:secrets.refreshInterval: 15s"
ROTATION = "for example pyairtable:secrets.rotationSchedule: 47 12 * * MON-FRI"

SECRETS = [
    Bad("secrets a text", "secrets", "15s", "must be a mapping of keys to values", '{"refreshInterval": "15s"}'),
    Bad("secrets a list", "secrets", ["15s"], "must be a mapping of keys to values", '{"refreshInterval": "15s"}'),
    Bad(
        "secret setting misspelt",
        "secrets.refreshIntervall",
        "15s",
        "is not a setting",
        "did you mean pyairtable:secrets.refreshInterval?",
    ),
    Bad(
        "secret setting unknown",
        "secrets.zzz",
        1,
        "is not a setting",
        "the settings are: recoveryWindowDays, refreshInterval, rotationDays, rotationSchedule",
    ),
    *(
        Bad(f"refresh {what}", "secrets.refreshInterval", value, problem, REFRESH)
        for what, value, problem in (
            ("never", "0s", 'must be whole seconds, minutes or hours, such as 15s, not "0s"'),
            ("in words", "often", 'must be whole seconds, minutes or hours, such as 15s, not "often"'),
            ("without unit", 15, "must be whole seconds, minutes or hours, such as 15s, not 15"),
            ("of a fraction", "1.5m", 'such as 15s, not "1.5m"'),
            ("of two units", "1m30s", 'such as 15s, not "1m30s"'),
            ("in days", "1d", 'such as 15s, not "1d"'),
            ("empty", "", 'such as 15s, not ""'),
            ("too often", "1s", 'must be from 5s to 24h, not "1s"'),
            ("just too often", "4s", 'must be from 5s to 24h, not "4s"'),
            ("too seldom", "25h", 'must be from 5s to 24h, not "25h"'),
            ("just too seldom", "86401s", 'must be from 5s to 24h, not "86401s"'),
        )
    ),
    *(
        Bad(f"{key} {value}", f"secrets.{key}", value, problem, f"for example pyairtable:secrets.{key}: 30")
        for key, value, problem in (
            ("rotationDays", 0, "must be at least 1, not 0"),
            ("rotationDays", 366, "must be at most 365, not 366"),
            ("rotationDays", "x", 'must be a whole number, not "x"'),
            ("rotationDays", "30", 'must be a whole number, not "30"'),
            ("rotationDays", 30.5, "must be a whole number, not 30.5"),
            ("recoveryWindowDays", -1, "must be at least 0, not -1"),
            ("recoveryWindowDays", 1, "must be 0, or from 7 to 30, not 1"),
            ("recoveryWindowDays", 3, "must be 0, or from 7 to 30, not 3"),
            ("recoveryWindowDays", 6, "must be 0, or from 7 to 30, not 6"),
            ("recoveryWindowDays", 31, "must be at most 30, not 31"),
            ("recoveryWindowDays", "long", 'must be a whole number, not "long"'),
        )
    ),
    Bad(
        "rotation every so often",
        "secrets.rotationSchedule",
        "monthly",
        "must be five cron fields in quotes, the same every week",
        ROTATION,
    ),
    Bad(
        "rotation in an hour that no day has",
        "secrets.rotationSchedule",
        "47 24 * * *",
        '("24" is not between 0 and 23), not "47 24 * * *"',
        ROTATION,
    ),
    Bad(
        "rotation on a day of the month",
        "secrets.rotationSchedule",
        "47 2 1 * *",
        "must be five cron fields in quotes, the same every week",
        ROTATION,
    ),
    Bad(
        "rotation while nodes are stopped",
        "nightSchedule",
        NIGHT,
        "must be a time at which nodes run, since pyairtable:nightSchedule stops them at night",
        ROTATION,
        key="secrets.rotationSchedule",
        besides={"stores": {"backupSchedule": "17 12 * * MON-FRI"}},  # moved already
    ),
]

SERVICES = [
    Bad("services a mapping", "services", service(), "must be a list", 'for example pyairtable:services: [{"name": '),
    Bad(
        "services too many",
        "services",
        [service(name=f"service-{number}") for number in range(201)],
        "must have at most 200 entries",
        "for example pyairtable:services: [",
    ),
    *(
        Bad(f"service's {key} {what}", "services", [service(**{key: value})], problem, fix, key=f"services.0.{key}")
        for key, what, value, problem, fix in (
            ("image", "without tag", "microservices/auth-service", IMAGE_FORM, IMAGE),
            ("image", "with an empty tag", "microservices/auth-service:", IMAGE_FORM, IMAGE),
            (
                "image",
                "with a tag that moves",
                "microservices/auth-service:latest",
                "must have a tag that stays",
                IMAGE,
            ),
            ("image", "with a host", "ghcr.io/pyairtable-org/microservices/auth-service:v2.0.0", IMAGE_FORM, IMAGE),
            ("image", "of another group", "other/auth-service:v2.0.0", IMAGE_FORM, IMAGE),
            ("name", "no DNS label", "Auth_Service", f'{DNS_LABEL}"Auth_Service"', NAME),
            ("name", "a number", 7, DNS_LABEL, NAME),
            ("name", "too long", "a" * 49, DNS_LABEL, NAME),
            ("port", "one of root's", 80, "must be at least 1024, not 80", "pyairtable:services.0.port: 8080"),
            ("port", "too high", 65536, "must be at most 65535, not 65536", "pyairtable:services.0.port: 8080"),
            ("port", "in quotes", "8080", 'must be a whole number, not "8080"', "pyairtable:services.0.port: 8080"),
            ("cpu", "in words", "lots", 'such as 250m, not "lots"', "pyairtable:services.0.cpu: 100m"),
            ("cpu", "nothing", "0m", 'such as 250m, not "0m"', "pyairtable:services.0.cpu: 100m"),
            ("cpu", "a fraction", 0.5, "such as 250m, not 0.5", "pyairtable:services.0.cpu: 100m"),
            ("memory", "nothing", "0Mi", 'in Mi or Gi, not "0Mi"', "pyairtable:services.0.memory: 128Mi"),
            ("memory", "without unit", 128, "in Mi or Gi, not 128", "pyairtable:services.0.memory: 128Mi"),
            ("memory", "decimal", "1G", 'in Mi or Gi, not "1G"', "pyairtable:services.0.memory: 128Mi"),
            ("minReplicas", "none", 0, "must be at least 1, not 0", "pyairtable:services.0.minReplicas: 1"),
            ("maxReplicas", "too many", 51, "must be at most 50, not 51", "pyairtable:services.0.maxReplicas: 5"),
            ("healthPath", "relative", "health", "a path that begins with a slash", "services.0.healthPath: /health"),
            ("calls", "one twice", ["a", "a"], "must not name a twice", 'services.0.calls: ["auth-service"]'),
            ("uses", "one twice", ["redis", "redis"], "must not name redis twice", 'services.0.uses: ["database"]'),
            ("internet", "maybe", "maybe", "must be true or false", "pyairtable:services.0.internet: true"),
            ("replicas", "fixed", 2, "is not a setting", "did you mean pyairtable:services.0.minReplicas?"),
        )
    ),
    Bad(
        "service uses what is not there",
        "services",
        [service(uses=["mysql"])],
        'must be database, redis or api-keys, not "mysql"',
        'for example pyairtable:services.0.uses: ["database"]',
        key="services.0.uses.0",
    ),
    Bad(
        "service without size",
        "services",
        [{key: value for key, value in service().items() if key != "memory"}],
        "is missing",
        "for example pyairtable:services.0.memory: 128Mi",
        key="services.0.memory",
    ),
    Bad(
        "more replicas at least than at most",
        "services",
        [service(minReplicas=6)],
        "must have minReplicas <= maxReplicas, not 6 and 5",
        "for example minReplicas: 1, maxReplicas: 5",
        key="services.0",
    ),
    Bad("two services of a name", "services", [service()] * 2, "two services named auth-service", "rename one"),
    *(
        Bad(
            f"service named {name}",
            "services",
            [service(name=name)],
            f"must not have a service named {name}",
            "rename it",
        )
        for name in (
            *("postgres", "redis", "edge", "postgres-backup", "default", "default-deny", "dns"),
            *("secret-restarter", "database-rotation", "postgres-from-database-rotation"),
            *("ingress-gateway", "from-ingress-gateway", "mesh", "migrations-expand", "migrations-contract"),
            *("postgres-from-migrations-expand", "postgres-from-migrations-contract"),
        )
    ),
    Bad(
        "service named as a green Deployment",
        "services",
        [service(name="auth-service-green")],
        "must not have a service named auth-service-green: so ends the name of every green Deployment",
        "rename it",
    ),
    Bad(
        "service calls itself",
        "services",
        [service(calls=["auth-service"])],
        "must let services call other services of the list only, but auth-service calls auth-service",
        "remove that from its calls",
    ),
    Bad(
        "service calls nobody",
        "services",
        [service(calls=["user-service"])],
        "must let services call other services of the list only, but auth-service calls user-service",
        "remove that from its calls",
    ),
    Bad(
        "two public services",
        "services",
        [service(public=True), service(name="other", public=True)],
        "must have public: true in one service at most, not in auth-service and other",
        "leave it where clients arrive",
    ),
    Bad(
        "image that the registry does not have",
        "services",
        [service(image="legacy/auth-service:v1.0.0")],
        "the image of auth-service, legacy/auth-service:v1.0.0, is not in the registry",
        "add auth-service to pyairtable:registry.repositories.legacy",
    ),
]

EDGE = [
    Bad("edge maybe", "edge.enabled", "maybe", "must be true or false", "for example pyairtable:edge.enabled: true"),
    Bad(
        "edge without a public service",
        "services",
        [service()],
        "must be false while no service is public",
        "set public: true in the entry of pyairtable:services that clients reach",
        key="edge.enabled",
        stack="prod",
        besides={"blueGreen": {"enabled": False}},
    ),
    Bad(
        "edge of a stack whose name is too long",
        "edge.enabled",
        True,
        "the load balancer would be pyairtable-a-long-name-of-its-own-dev-edge, longer than the 32 characters",
        "set it to false, or give the stack a shorter name",
        stack="a-long-name-of-its-own-dev",
    ),
    Bad(
        "domain without certificate",
        "edge.domain",
        "api.pyairtable.example",
        "must have both domain and certificateArn, or neither",
        "add certificateArn, or remove the other",
        key="edge",
    ),
    Bad(
        "certificate without domain",
        "edge.certificateArn",
        CERTIFICATE,
        "must have both domain and certificateArn, or neither",
        "add domain, or remove the other",
        key="edge",
    ),
    Bad(
        "domain with scheme",
        "edge.domain",
        "https://api.pyairtable.example",
        "must be a host name without scheme or path",
        "for example pyairtable:edge.domain: api.pyairtable.example",
    ),
    Bad(
        "certificate elsewhere",
        "edge.certificateArn",
        CERTIFICATE.replace("us-east-1", "eu-west-1"),
        "must be the ARN of an ACM certificate in us-east-1",
        "for example pyairtable:edge.certificateArn: arn:aws:acm:us-east-1:",
    ),
    Bad(
        "zone without domain",
        "edge.hostedZoneId",
        "Z0123456789ABCDEFGHIJ",
        "must have a domain where it has a hostedZoneId",
        "add domain and certificateArn, or remove hostedZoneId",
        key="edge",
    ),
    Bad(
        "zone by its name",
        "edge.hostedZoneId",
        "pyairtable.example",
        "must be the id of a public hosted zone of Route 53",
        "for example pyairtable:edge.hostedZoneId: Z0123456789ABCDEFGHIJ",
    ),
    *(
        Bad(f"edge at port {port}", "edge.port", port, problem, "for example pyairtable:edge.port: 443")
        for port, problem in (
            (0, "must be at least 1, not 0"),
            (65536, "must be at most 65535, not 65536"),
            ("443", 'must be a whole number, not "443"'),
        )
    ),
    Bad(
        "plain HTTP in words",
        "edge.plainHttp",
        "please",
        "must be true or false",
        "for example pyairtable:edge.plainHttp: true",
    ),
    Bad(
        "plain HTTP in prod",
        "edge",
        {},
        "must have domain and certificateArn in prod from phase 4 on",
        "add both, or take plain HTTP on purpose with plainHttp: true",
        stack="prod",
    ),
]


def migration(**changes: object) -> dict[str, object]:
    """A migration that is right, but for the changes."""
    return {
        "name": "add-workspaces",
        "image": "microservices/workspace-service:v2.0.0",
        "kind": "expand",
        **changes,
    }


PUBLIC = service(name="api-gateway", image="microservices/api-gateway:v2.0.0", public=True)
GREEN_IMAGE = "for example pyairtable:blueGreen.services.0.image: microservices/auth-service:v2.0.0"


def green(*services: Mapping[str, object], **more: object) -> dict[str, object]:
    """The section with these services of green, and its gateway."""
    return {"enabled": True, "services": [PUBLIC, *services], **more}


BLUE_GREEN = [
    *(
        Bad(
            f"weight {weight}",
            "blueGreen.greenWeight",
            weight,
            f"{problem}, not ",
            "for example pyairtable:blueGreen.greenWeight: 10",
        )
        for weight, problem in (
            (101, "must be at most 100"),
            (-1, "must be at least 0"),
            ("half", "must be a whole number"),
            ("10", "must be a whole number"),
            (12.5, "must be a whole number"),
        )
    ),
    Bad(
        "blue-green maybe",
        "blueGreen.enabled",
        "maybe",
        "must be true or false",
        "for example pyairtable:blueGreen.enabled: true",
    ),
    Bad(
        "mutual TLS in words",
        "blueGreen.mtls",
        "on",
        'must be strict or permissive, not "on"',
        "for example pyairtable:blueGreen.mtls: permissive",
    ),
    Bad(
        "a colour that there is not",
        "blueGreen.stopped",
        "purple",
        'must be none, blue or green, not "purple"',
        "for example pyairtable:blueGreen.stopped: green",
    ),
    Bad(
        "a time in days that green has to hold",
        "blueGreen.retireAfter",
        "1d",
        'must be whole seconds, minutes or hours, such as 15s, not "1d"',
        "for example pyairtable:blueGreen.retireAfter: 24h",
    ),
    Bad(
        "a key that there is not",
        "blueGreen.weight",
        10,
        "is not a setting",
        "did you mean pyairtable:blueGreen.greenWeight?",
    ),
    Bad(
        "weight on a stack without blue-green",
        "blueGreen.greenWeight",
        10,
        "must not have greenWeight: 10 while enabled is false, since there is no green then",
        "set enabled: true, or remove it",
        key="blueGreen",
    ),
    Bad(
        "green stopped on a stack without blue-green",
        "blueGreen.stopped",
        "green",
        "must not have stopped: green while enabled is false, since there is no green then",
        "set enabled: true, or remove it",
        key="blueGreen",
    ),
    Bad(
        "weight below phase 4",
        "blueGreen",
        green(greenWeight=10),
        "must be 0 below phase 4, where there is no green, not 10",
        "run: runbook retreat --stack dev",
        key="blueGreen.greenWeight",
        besides={"phase": 3},
    ),
    Bad(
        "green stopped while it serves",
        "blueGreen",
        green(greenWeight=10, stopped="green"),
        "must not have stopped: green at greenWeight 10, at which green serves",
        "set stopped: none, or greenWeight: 0 first",
    ),
    Bad(
        "blue stopped while it serves",
        "blueGreen",
        green(greenWeight=99, stopped="blue"),
        "must not have stopped: blue at greenWeight 99, at which blue serves",
        "set stopped: none, or greenWeight: 100 first",
    ),
    Bad(
        "blue stopped while green needs it",
        "blueGreen",
        green(service(name="other", calls=["user-service"]), greenWeight=100, stopped="blue"),
        "must not be blue while green's other calls user-service, which only blue has",
        "set it to none, or give green a user-service",
        key="blueGreen.stopped",
    ),
    Bad(
        "green without an image",
        "blueGreen",
        green({key: value for key, value in service().items() if key != "image"}),
        "is missing",
        "for example pyairtable:blueGreen.services.1.image: microservices/auth-service:v2.0.0",
        key="blueGreen.services.1.image",
    ),
    Bad(
        "green with an image that moves",
        "blueGreen",
        {"services": [service(image="microservices/auth-service:latest")]},
        "must have a tag that stays",
        GREEN_IMAGE,
        key="blueGreen.services.0.image",
    ),
    Bad(
        "green with an image that the registry does not have",
        "blueGreen",
        green(service(image="legacy/auth-service:v1.0.0")),
        "the image of auth-service, legacy/auth-service:v1.0.0, is not in the registry",
        "add auth-service to pyairtable:registry.repositories.legacy",
        key="blueGreen.services",
    ),
    Bad(
        "green without services",
        "blueGreen",
        {"enabled": True},
        "must have public: true in api-gateway, as blue has, not in none",
        "add it to green's services",
        key="blueGreen.services",
    ),
    Bad(
        "green without blue's public service",
        "blueGreen",
        {"enabled": True, "services": [service(public=True)]},
        "must have public: true in api-gateway, as blue has, not in auth-service",
        "add it to green's services",
        key="blueGreen.services",
    ),
    Bad(
        "blue-green where nothing is public",
        "services",
        [service()],
        "must be false while no service is public, since nothing is there to shift",
        "set public: true in the entry of pyairtable:services that clients reach",
        key="blueGreen.enabled",
        besides={"blueGreen": {"enabled": True}},
    ),
    Bad(
        "public service of a name that the runbook does not know",
        "services",
        [service(public=True)],
        "must have api-gateway as the public service from phase 4 on, by which name the runbook shifts traffic, not "
        "auth-service",
        "rename it, or set pyairtable:blueGreen.enabled: false",
        besides={"blueGreen": {"enabled": True, "services": [service(public=True)]}},
    ),
    Bad(
        "green at another port than blue",
        "blueGreen",
        green(service(port=9000)),
        "must have auth-service at blue's port, 8080, not at 9000: both stand behind one Service",
        "give it that port",
        key="blueGreen.services",
    ),
    Bad(
        "green calls nobody",
        "blueGreen",
        green(service(calls=["billing"])),
        "must let services call other services of either colour only, but auth-service calls billing",
        "remove that from its calls",
        key="blueGreen.services",
    ),
    Bad(
        "two services of green of a name",
        "blueGreen",
        green(service(), service()),
        "must not have two services named auth-service",
        "rename one",
        key="blueGreen.services",
    ),
    Bad(
        "green's service named ingress-gateway",
        "blueGreen",
        green(service(name="ingress-gateway")),
        "must not have a service named ingress-gateway: the program has its own",
        "rename it",
        key="blueGreen.services",
    ),
    Bad(
        "two migrations of a name",
        "blueGreen.migrations",
        [migration(), migration()],
        "must not have two migrations named add-workspaces",
        "rename one",
    ),
    Bad(
        "migration of another kind",
        "blueGreen.migrations",
        [migration(kind="both")],
        'must be expand or contract, not "both"',
        "for example pyairtable:blueGreen.migrations.0.kind: expand",
        key="blueGreen.migrations.0.kind",
    ),
    Bad(
        "migration with an image that moves",
        "blueGreen.migrations",
        [migration(image="microservices/workspace-service:latest")],
        "must have a tag that stays",
        "for example pyairtable:blueGreen.migrations.0.image: microservices/workspace-service:v2.0.0",
        key="blueGreen.migrations.0.image",
    ),
    Bad(
        "migration with an image that the registry does not have",
        "blueGreen.migrations",
        [migration(image="microservices/schema:v1")],
        "the image of add-workspaces, microservices/schema:v1, is not in the registry",
        "add schema to pyairtable:registry.repositories.microservices",
    ),
    *(
        Bad(
            f"migration that takes from blue what it uses at {weight}",
            "blueGreen",
            green(greenWeight=weight, migrations=[migration(), migration(name="drop-bases", kind="contract")]),
            "must not have a migration of kind contract, drop-bases, while blue has pods, at greenWeight "
            f"{weight} and stopped: none",
            "retire blue first, with runbook retire, or greenWeight: 100 and stopped: blue",
        )
        for weight in (50, 100)
    ),
]

MISTAKES = [*FOUNDATION, *NETWORK, *CLUSTER, *NODE_GROUPS, *STORES, *SECRETS, *SERVICES, *EDGE, *BLUE_GREEN]


def with_mistake(bad: Bad) -> Mapping[str, object]:
    """The config of a stack with this mistake in it."""
    key, *depth = bad.at.split(".")
    value = bad.value
    for part in reversed(depth):
        value = {part: value}
    given = config(bad.stack if bad.stack == "prod" else "dev", **bad.besides) | {f"pyairtable:{key}": value}
    return {key: value for key, value in given.items() if value is not ABSENT}
