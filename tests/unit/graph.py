"""Runs a Pulumi program under mocks, in a runtime of its own, and gives back the graph that it registered."""

import asyncio
import base64
import contextvars
import gc
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import mocks, resource, rpc
from pulumi.runtime.proto import resource_pb2, source_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import Stack, run_pulumi_func

from infra.naming import PROJECT
from infra.phases import HIGHEST_BUILT
from infra.program import Platform
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
ACCOUNT_ID = "123456789012"
REGION = "us-east-1"
EMAILS = ("ada@pyairtable.example", "grace@pyairtable.example")

STACK = "pulumi:pulumi:Stack"
AWS_PROVIDER = "pulumi:providers:aws"
KUBERNETES_PROVIDER = "pulumi:providers:kubernetes"

SIGNATURE = cast(Any, rpc)._special_sig_key
SECRET = cast(Any, rpc)._special_secret_sig
"""How the engine marks a secret."""
# Where in the program's text each resource stands takes an eighth of the time or more, and no graph keeps it.
cast(Any, resource)._get_stack_trace = source_pb2.StackTrace


@dataclass(frozen=True, kw_only=True)
class Node:
    """One registered resource: what the program said about it, and what the mock made of it."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    parent: str
    """URN; the stack's own for what is directly below it."""
    provider: str
    """URN of the provider; empty for a default one, and for what has none."""
    providers: frozenset[str]
    """URNs of the providers that a remote component hands to its children."""
    dependencies: frozenset[str]
    """URNs of everything that exists before it, whether named in its options or in its inputs."""
    secrets: frozenset[str]
    """Inputs that hold a secret somewhere."""
    ignored: tuple[str, ...]
    """Inputs whose changes are ignored."""
    aliases: tuple[tuple[str, str], ...]
    """What it was called before: its own name, and its parent's."""
    protect: bool
    retained: bool
    """Whether it is left as it is when the program no longer has it."""

    def json(self, key: str = "policy") -> dict[str, Any]:
        """An input that holds JSON text, parsed."""
        return json.loads(self.inputs[key])


@dataclass(frozen=True, kw_only=True)
class Read:
    """One resource that the program looked at and does not own."""

    urn: str
    type: str
    id: str
    provider: str
    """URN."""
    secrets: frozenset[str]
    """Outputs that the engine is told to hide."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Every registration of a program by URN, twice where it was made twice, and what the stack exports."""

    nodes: tuple[Node, ...]
    reads: tuple[Read, ...]
    outputs: Mapping[str, Any]
    secret_outputs: frozenset[str]
    """Those of the stack's outputs that are secret."""
    finished: frozenset[str]
    """URNs of the components that registered their outputs."""
    warnings: tuple[str, ...]

    def of_type(self, type_: str) -> tuple[Node, ...]:
        """All resources of a type."""
        return tuple(node for node in self.nodes if node.type == type_)

    def only(self, type_: str) -> Node:
        """The one resource of a type."""
        (node,) = self.of_type(type_)
        return node

    def named(self, name: str) -> Node:
        """The one resource of a logical name."""
        (node,) = (node for node in self.nodes if node.name == name)
        return node

    def at(self, urn: str) -> Node:
        """The one resource of a URN."""
        (node,) = (node for node in self.nodes if node.urn == urn)
        return node

    def object(self, kind: str, name: str) -> Node:
        """The one object of Kubernetes of a kind and name."""
        (node,) = (node for node in self.objects(kind) if node.inputs["metadata"]["name"] == name)
        return node

    def objects(self, kind: str) -> tuple[Node, ...]:
        """All objects of Kubernetes of a kind."""
        return tuple(node for node in self.kubernetes if node.type.rpartition(":")[2] == kind)

    def before(self, node: Node) -> frozenset[str]:
        """URNs of everything that a resource waits for, however many steps away: its component's dependencies too."""
        found: set[str] = set()
        waiting = [node.urn]
        nodes = {node.urn: node for node in self.nodes}
        while waiting:
            current = nodes[waiting.pop()]
            direct = {*current.dependencies, current.provider, current.parent} & nodes.keys()
            waiting += direct - found
            found |= direct
        return frozenset(found)

    def top_of(self, node: Node) -> Node:
        """The end of a resource's parent chain, just below the stack."""
        while _type_of(node.parent) != STACK:
            node = self.at(node.parent)
        return node

    @property
    def aws(self) -> tuple[Node, ...]:
        """All resources of AWS, without the provider."""
        return tuple(node for node in self.nodes if node.type.startswith("aws:"))

    @property
    def kubernetes(self) -> tuple[Node, ...]:
        """All objects of Kubernetes, and charts."""
        return tuple(node for node in self.nodes if node.type.startswith("kubernetes:"))

    @property
    def components(self) -> tuple[Node, ...]:
        """All component resources of the program."""
        return tuple(node for node in self.nodes if node.type.startswith(f"{PROJECT}:"))

    @property
    def text(self) -> str:
        """The whole graph as text: equal texts, equal graphs."""
        nodes = [(node.urn, node.inputs, node.parent, node.provider, sorted(node.dependencies)) for node in self.nodes]
        return json.dumps(nodes, sort_keys=True, indent=1)


@cache
def stack_file(environment: str) -> dict[str, Any]:
    """The config in an environment's committed stack file."""
    return yaml.safe_load((ROOT / f"Pulumi.{environment}.yaml").read_text())["config"]


def config(stack: str = "dev", **overrides: object) -> dict[str, object]:
    """The config of a stack as its file would hold it: the highest phase, the committed budget, cluster and services.

    Whoever tests what one phase makes says so with `phase`. Prod is plain HTTP, for want of a certificate; and where
    the services are others than the committed ones, there is no green.
    """
    environment = stack.rpartition("-")[2]
    committed = stack_file(environment)
    values: dict[str, object] = {
        "phase": int(HIGHEST_BUILT),
        "accountId": ACCOUNT_ID,
        "alertEmails": list(EMAILS),
        **{key: committed[f"{PROJECT}:{key}"] for key in ("monthlyBudgetUsd", "cluster", "services")},
        **(release_of(environment) if "services" not in overrides else {"blueGreen": {"enabled": False}}),
        **overrides,
    }
    return {f"{PROJECT}:{key}": value for key, value in values.items()}


def release_of(environment: str) -> dict[str, Any]:
    """What an environment's stack file says of blue-green, which is nothing in dev and staging, and of its edge."""
    if environment != "prod":
        return {}
    return {"blueGreen": stack_file("prod")[f"{PROJECT}:blueGreen"], "edge": {"plainHttp": True}}


def as_engine_passes(config: Mapping[str, object]) -> dict[str, str]:
    """The config as the engine hands it to a program: text stays, everything else is JSON text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def platform(stack: str = "dev", **overrides: object) -> Graph:
    """The graph of the whole program for a stack whose config is `config(stack, **overrides)`."""
    return _platform(stack, json.dumps({"phase": int(HIGHEST_BUILT), **overrides}, sort_keys=True))


def fullest(environment: str, phase: int = HIGHEST_BUILT) -> Graph:
    """The graph of a personal stack that has everything which an environment's config can switch on."""
    return platform(
        f"alice-{environment}",
        phase=int(phase),
        costCenter="research",
        registry={"mirror": "ecr"},
        nightSchedule={"stop": "0 20 * * MON-FRI", "start": "0 6 * * MON-FRI", "timeZone": "Europe/Berlin"},
        stores={"backupSchedule": "17 12 * * MON-FRI"},
        secrets={"rotationSchedule": "47 12 * * MON-FRI"},
        imagePullToken="pull-token",
        airtableToken="airtable-token",
        geminiApiKey="gemini-key",
        blueGreen=green(greenWeight=100, stopped="blue", migrations=MIGRATIONS) if phase == HIGHEST_BUILT else green(),
    )


MIGRATIONS = [
    {"name": "add-workspaces", "image": "microservices/workspace-service:v2.0.0", "kind": "expand"},
    {"name": "fill-workspaces", "image": "microservices/workspace-service:v2.0.0", "kind": "expand"},
    {
        "name": "drop-bases",
        "image": "microservices/workspace-service:v2.1.0",
        "kind": "contract",
        "arguments": ["migrate", "contract"],
    },
]
"""Two steps before green, and one once blue is no longer needed."""


def green(**section: object) -> dict[str, object]:
    """The section of a stack with a second release, whatever its environment: prod's."""
    committed = stack_file("prod")[f"{PROJECT}:blueGreen"]
    return {"enabled": True, "services": committed["services"], **section}


def two_releases(stack: str = "prod", phase: int = HIGHEST_BUILT, **section: object) -> Graph:
    """The graph of a stack with a second release."""
    return platform(stack, phase=int(phase), blueGreen=green(**section))


AFFINE = {
    "spec": {
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "preference": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}
                ]
            }
        }
    }
}
"""What Pulumi's SDK cannot pass on as a whole: an operator without `values`, which it takes for a method."""
CERTIFICATE = f"arn:aws:acm:us-east-1:{ACCOUNT_ID}:certificate/00000000-0000-0000-0000-000000000000"


def varied_prod() -> Graph:
    """The graph of a prod stack that says otherwise wherever it may."""
    role = f"arn:aws:iam::{ACCOUNT_ID}:role"
    stores = {"name": "data", "capacityType": "on-demand", "instanceTypes": ["m7g.large"], "hostsStores": True}
    general = {"name": "mixed", "capacityType": "spot", "instanceTypes": ["t4g.medium"]}
    gateway = {"name": "gateway", "image": "legacy/api-gateway:v1.0.0", "cpu": "100m", "memory": "1Gi", "public": True}
    return platform(
        "prod",
        protect=False,
        cost={"enforce": False},
        network={"cidrBlock": "10.40.0.0/20", "dataAvailabilityZone": "us-east-1b"},
        cluster={
            "publicAccessCidrs": [],
            "accessEntries": {
                "pipeline": {"principalArn": f"{role}/deploy", "access": "admin"},
                "engineers": {"principalArn": f"{role}/engineer", "access": "view"},
            },
        },
        nodeGroups=[
            {**stores, "minSize": 1, "desiredSize": 1, "maxSize": 3},
            {**general, "minSize": 0, "desiredSize": 0, "maxSize": 2},
        ],
        stores={"postgres": {"cpu": "1", "memory": "2Gi", "diskGib": 8}, "backupRetentionDays": 3},
        services=[
            {**gateway, "port": 9000, "maxReplicas": 1, "healthPath": "/ready", "calls": ["lonely"]},
            {**gateway, "name": "lonely", "public": False, "minReplicas": 3, "uses": ["api-keys"]},
            {**gateway, "name": "silent", "public": False},
        ],
        edge={
            "domain": "api.pyairtable.example",
            "certificateArn": CERTIFICATE,
            "hostedZoneId": "Z0123456789ABCDEFGHIJ",
        },
    )


@cache
def _platform(stack: str, overrides: str) -> Graph:
    settings = Settings.from_config(stack, config(stack, **json.loads(overrides)))
    # Modules and graphs stay until the end: looking for garbage among them took a quarter of the time.
    gc.freeze()
    return run(lambda: Platform(settings), stack)


def run(
    program: Callable[[], object],
    stack: str = "dev",
    engine_config: Mapping[str, str] | None = None,
    *,
    preview: bool = False,
    cloud: "Cloud | None" = None,
) -> Graph:
    """The graph of any program; raises what the program raises."""
    # The runtime keeps everything in context variables: a context of its own is a runtime of its own.
    monitor = RecordingMonitor(cloud or Cloud())
    return contextvars.copy_context().run(
        lambda: asyncio.run(_run(program, stack, engine_config or {}, monitor, preview=preview))
    )


async def _run(
    program: Callable[[], object],
    stack: str,
    engine_config: Mapping[str, str],
    monitor: "RecordingMonitor",
    *,
    preview: bool,
) -> Graph:
    log = _WarningLog()
    cast(Any, SETTINGS).outputs = set()
    pulumi.runtime.set_mocks(monitor.mocks, PROJECT, stack, preview=preview, logger=log, monitor=monitor)
    pulumi.runtime.set_all_config(dict(engine_config))
    # The monitor needs an event loop in the thread that it is called in, and somebody to close it.
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(max_workers=1, initializer=asyncio.set_event_loop, initargs=(loop,))
    asyncio.get_running_loop().set_default_executor(executor)
    outputs: dict[str, Any] = {}
    secret: set[str] = set()

    async def run_and_collect() -> None:
        program()
        for name, value in cast(Stack, pulumi.runtime.get_root_resource()).outputs.items():
            output = pulumi.Output.from_input(value)
            outputs[name] = await output.future()
            if await output.is_secret():
                secret.add(name)

    try:
        await run_pulumi_func(run_and_collect)
    finally:
        executor.shutdown()
        loop.close()
    return Graph(
        nodes=tuple(sorted(monitor.nodes, key=lambda node: node.urn)),
        reads=tuple(sorted(monitor.reads, key=lambda read: read.urn)),
        outputs=outputs,
        secret_outputs=frozenset(secret),
        finished=frozenset(monitor.finished),
        warnings=tuple(log.warnings),
    )


class _WarningLog(logging.Logger):
    """Keeps the program's warnings, and lets nothing out."""

    def __init__(self) -> None:
        super().__init__("program", logging.WARNING)
        self.warnings: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.warnings.append(record.getMessage())


def _computed(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What providers compute besides an id and an ARN."""
    match type_:
        case "aws:eks/nodeGroup:NodeGroup":
            return {"resources": [{"autoscalingGroups": [{"name": f"eks-{inputs.get('nodeGroupName', name)}-0123"}]}]}
        case "aws:ec2/launchTemplate:LaunchTemplate":
            return {"latestVersion": 1}
        case "aws:lb/loadBalancer:LoadBalancer":
            return {"dnsName": "edge.elb.example", "zoneId": "Z-of-the-load-balancer"}
        case "aws:eks/cluster:Cluster":
            return {
                "certificateAuthority": {"data": "Q0E="},
                "endpoint": "https://cluster.example",
                "identities": [{"oidcs": [{"issuer": "https://oidc.example/id/1"}]}],
                "vpcConfig": {"clusterSecurityGroupId": "sg-cluster"},
            }
        case "eks:index:Cluster":
            return {"kubeconfigJson": '{"kind": "Config"}', "clusterSecurityGroupId": "sg-cluster"}
        case "random:index/randomPassword:RandomPassword":
            return {"result": f"generated {name}"}
        case "tls:index/privateKey:PrivateKey":
            return {"privateKeyPem": f"generated {name}"}
        case "tls:index/selfSignedCert:SelfSignedCert" | "tls:index/locallySignedCert:LocallySignedCert":
            return {"certPem": f"certificate {name}"}
        case "tls:index/certRequest:CertRequest":
            return {"certRequestPem": f"request {name}"}
        case _:
            return {}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


LIVE = {
    "database-credentials": {"username": _base64("admin_2"), "password": _base64("rotated password")},
    "redis-credentials": {"password": _base64("rotated redis")},
    "api-keys": {"jwt_secret": _base64("rotated jwt"), "api_key": _base64("rotated key")},
}
"""What the cluster has in the Secrets that the program reads, which is not what it once made."""


ENOUGH = 50
"""Replicas that are available, where nobody says otherwise."""


class Cloud(mocks.Mocks):
    """Computes what providers would: an id for everything, an ARN and a key id for everything of AWS."""

    def __init__(
        self, available: Mapping[str, int | None] | None = None, replicas: Mapping[str, int] | None = None
    ) -> None:
        """Available and wanted replicas of Deployments that are not many, by the logical names of the reads."""
        self._available, self._replicas = available or {}, replicas or {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        name = args.inputs.get("name", args.name)
        own = _computed(args.typ, name, args.inputs)
        if args.typ == "kubernetes:core/v1:Secret" and args.resource_id:
            return args.resource_id, {"data": LIVE[args.name.removeprefix("secrets-aws-").removesuffix("-live")]}
        if args.typ == "kubernetes:apps/v1:Deployment" and args.resource_id:
            available = self._available.get(args.name, ENOUGH)
            return args.resource_id, {
                "spec": {"replicas": self._replicas.get(args.name, ENOUGH), "template": AFFINE},
                "status": {"availableReplicas": available} if available is not None else None,
            }
        if not args.typ.startswith("aws:"):
            return f"{name}-id", {**args.inputs, **own}
        service = args.typ.split(":")[1].partition("/")[0]
        computed = {"arn": f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{name}", "name": name, "keyId": f"{name}-key-id"}
        return f"{name}-id", {**computed, **args.inputs, **own}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"the program asked for {args.token}, which nothing here answers")


class RecordingMonitor(mocks.MockMonitor):
    """Keeps what a registration says beyond its inputs, and makes URNs as the engine does."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.nodes: list[Node] = []
        self.reads: list[Read] = []
        self.finished: set[str] = set()

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        above = _type_chain(parent) if parent else STACK
        chain = type_ if above == STACK else f"{above}${type_}"
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{chain}::{name}"

    def RegisterResource(self, request: Any) -> resource_pb2.RegisterResourceResponse:  # noqa: N802 - its own name
        response = super().RegisterResource(request)
        if request.type != STACK:
            inputs = rpc.deserialize_properties(request.object)
            self.nodes.append(
                Node(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    inputs=_plain(inputs),
                    outputs=_plain(self.resources[response.urn].state),
                    parent=request.parent,
                    provider=_urn(request.provider),
                    providers=frozenset(map(_urn, request.providers.values())),
                    dependencies=frozenset(request.dependencies),
                    secrets=frozenset(key for key, value in inputs.items() if rpc.is_rpc_secret(value)),
                    ignored=tuple(request.ignoreChanges),
                    aliases=tuple(
                        (alias.spec.name, alias.spec.parentUrn.rpartition("::")[2]) for alias in request.aliases
                    ),
                    protect=request.protect,
                    retained=request.retainOnDelete,
                )
            )
            _hide(response.object, request.additionalSecretOutputs)
        return response

    def ReadResource(self, request: Any) -> resource_pb2.ReadResourceResponse:  # noqa: N802 - its own name
        response = super().ReadResource(request)
        self.reads.append(
            Read(
                urn=response.urn,
                type=request.type,
                id=request.id,
                provider=_urn(request.provider),
                secrets=frozenset(request.additionalSecretOutputs),
            )
        )
        _hide(response.properties, request.additionalSecretOutputs)
        return response

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:  # noqa: N802 - its own name
        self.finished.add(request.urn)
        return super().RegisterResourceOutputs(request)


def _hide(outputs: Any, keys: Iterable[str]) -> None:
    """Mark outputs as the engine does where a resource says that they are secret."""
    for key in {*keys} & {*outputs}:
        outputs[key] = {SIGNATURE: SECRET, "value": json_format.MessageToDict(outputs.fields[key])}


def _urn(reference: str) -> str:
    """The URN in a reference to a provider, which ends with the provider's id."""
    return reference.rpartition("::")[0]


def _type_chain(urn: str) -> str:
    return urn.split("::")[2]


def _type_of(urn: str) -> str:
    return _type_chain(urn).rpartition("$")[2]


def _plain(value: Any) -> Any:
    """Assets as what they refer to, so that two runs of a program compare equal, and secrets as what they hide."""
    match value:
        case dict() if rpc.is_rpc_secret(value):
            return _plain(rpc.unwrap_rpc_secret(value))
        case pulumi.AssetArchive():
            return {"archive": _plain(value.assets)}
        case pulumi.FileAsset():
            return {"file": str(Path(value.path).relative_to(ROOT))}
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list():
            return [_plain(part) for part in value]
        case _:
            return value
