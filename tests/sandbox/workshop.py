"""A control plane, and programs of the tests' own that are deployed into it by the real engine."""

import base64
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi

from sandbox import checkout, istio, nodes
from sandbox.charts import CHARTS
from sandbox.control_plane import ControlPlane, ControlPlanes
from sandbox.engine import Backends, Engine, Target
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.state import State
from sandbox.tools import TOOLS, find

CLUSTER = "workshop"
NAMESPACE = "workshop"

Objects = Mapping[str, tuple[str, Manifest]]
"""Type and inputs of resources by logical name."""

Then = Callable[[pulumi.ProviderResource, Mapping[str, pulumi.CustomResource]], None]
"""What else a program does, given its provider and what it has made by logical name."""


class Workshop:
    """A control plane, and programs of the tests' own that are deployed into it, a stack each."""

    def __init__(self, state: State, plane: ControlPlane) -> None:
        self.api = KubernetesApi(plane.kubeconfig)
        self.printed = ""
        self.state_directory = state
        self.plane = plane
        config, settings = checkout.effective(state, "dev", 2)
        backends = Backends(aws_endpoint="http://127.0.0.1:1", log_hint=" (logs)")  # no program here asks AWS
        self._target = Target(config=config, settings=settings, backends=backends)

    def up(self, stack: str, objects: Objects, **options: Any) -> str:
        """Deploy resources; what the engine printed."""
        return self._do("up", stack, objects, **options)

    def preview(self, stack: str, objects: Objects, **options: Any) -> str:
        """Preview resources; what the engine printed."""
        return self._do("preview", stack, objects, **options)

    def refresh(self, stack: str, objects: Objects) -> str:
        """Refresh a stack; what the engine printed."""
        return self._do("refresh", stack, objects)

    def destroy(self, stack: str) -> str:
        """Delete a stack's resources; what the engine printed."""
        return self._do("destroy", stack, {})

    def state(self, stack: str, name: str) -> dict[str, Any]:
        """A resource in a stack's state."""
        resources = self._engine(stack, lambda: None, []).deployment()["resources"]
        return next(resource for resource in resources if resource["urn"].endswith(f"::{name}"))

    def get(self, kind: str, name: str, api_version: str = "v1") -> Manifest:
        """An object of the namespace."""
        live = self.api.get(api_version, kind, name, NAMESPACE)
        assert live, f"there is no {kind} {name}"
        return live

    def _do(
        self,
        what: str,
        stack: str,
        objects: Objects,
        ignore: Mapping[str, list[str]] | None = None,
        then: Then = lambda *_: None,
    ) -> str:
        def program() -> None:
            from pulumi_kubernetes import Provider

            # The sandbox uses nothing of it but the address.
            kubeconfig = pulumi.Output.secret(self.plane.kubeconfig.read_text())
            cluster = Provider(
                "cluster",
                kubeconfig=kubeconfig,
                cluster_identifier="workshop",
                enable_config_map_mutable=True,
                enable_secret_mutable=True,
            )
            made: dict[str, pulumi.CustomResource] = {}
            for name, (type, inputs) in objects.items():
                options = pulumi.ResourceOptions(
                    provider=cluster, depends_on=[*made.values()], ignore_changes=(ignore or {}).get(name)
                )
                secret = {key: pulumi.Output.secret(inputs[key]) for key in ("data", "stringData") if key in inputs}
                made[name] = pulumi.CustomResource(type, name, {**inputs, **secret}, options)
            then(cluster, made)

        lines: list[str] = []
        try:
            getattr(self._engine(stack, program, lines), what)(self._target)
        finally:
            self.printed = "\n".join(lines)
        return self.printed

    def _engine(self, stack: str, program: Callable[[], None], lines: list[str]) -> Engine:
        return Engine(self.state_directory, find(TOOLS["pulumi"]), stack, echo=lines.append, program=program)


@contextmanager
def control_plane(folder: Path, cluster: str, namespace: str) -> Generator[tuple[State, ControlPlane]]:
    """A control plane with a node and a namespace, in a folder of its own."""
    state = State(folder)
    state.prepare()
    planes = ControlPlanes(state)
    try:
        plane = planes.ensure(cluster)
        api = KubernetesApi(plane.kubeconfig)
        nodes.settle(api, _node(cluster))
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        yield state, plane
    finally:
        planes.stop()


@contextmanager
def opened(folder: Path) -> Generator[Workshop]:
    """A workshop in a folder of its own."""
    with control_plane(folder, CLUSTER, NAMESPACE) as (state, plane):
        yield Workshop(state, plane)


def manifest(kind: str, name: str, api_version: str = "v1", **rest: Any) -> tuple[str, Manifest]:
    """A resource of the namespace."""
    metadata = {"name": name, "namespace": NAMESPACE, **rest.pop("metadata", {})}
    group = api_version if "/" in api_version else f"core/{api_version}"
    return f"kubernetes:{group}:{kind}", {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def base64_of(text: str) -> str:
    """Text as a Secret holds it."""
    return base64.b64encode(text.encode()).decode()


def definitions(name: str, **values: Any) -> tuple[str, Manifest]:
    """A release of External Secrets' definitions."""
    kinds = ("ClusterExternalSecret", "ClusterGenerator", "ClusterPushSecret", "ClusterSecretStore", "PushSecret")
    none = {"create": False}
    inputs = {
        "chart": "external-secrets",
        "name": name,
        "namespace": NAMESPACE,
        "version": CHARTS["external-secrets"].version,
        "compat": "true",
        "values": {
            "installCRDs": True,
            "createOperator": False,
            "webhook": none,
            "certController": none,
            "rbac": none,
            "serviceAccount": none,
            "crds": {f"create{kind}": False for kind in kinds},
            **values,
        },
    }
    return "kubernetes:helm.sh/v3:Release", inputs


def istio_release(chart: str, name: str, namespace: str, **values: Any) -> tuple[str, Manifest]:
    """A release of one of Istio's charts."""
    inputs = {
        "chart": chart,
        "name": name,
        "namespace": namespace,
        "version": istio.VERSION,
        "compat": "true",
        "values": values,
    }
    return "kubernetes:helm.sh/v3:Release", inputs


def secret_store(annotations: Mapping[str, str] | None = None) -> tuple[str, Manifest]:
    """A SecretStore of AWS."""
    provider = {"aws": {"service": "SecretsManager", "region": "us-east-1"}}
    return manifest(
        "SecretStore", "aws", "external-secrets.io/v1", metadata=_annotated(annotations), spec={"provider": provider}
    )


def external_secret(
    secret: str, *keys: str, interval: str = "15s", annotations: Mapping[str, str] | None = None
) -> tuple[str, Manifest]:
    """An ExternalSecret that fills keys of a Secret from the value in AWS that has its name."""
    spec = {
        "refreshInterval": interval,
        "secretStoreRef": {"name": "aws", "kind": "SecretStore"},
        # An empty template: otherwise labels and annotations would be copied to the Secret.
        "target": {"name": secret, "creationPolicy": "Merge", "deletionPolicy": "Retain", "template": {}},
        "data": [{"secretKey": key, "remoteRef": {"key": secret, "property": key}} for key in keys],
    }
    return manifest("ExternalSecret", secret, "external-secrets.io/v1", metadata=_annotated(annotations), spec=spec)


def _node(cluster: str) -> nodes.NodeGroup:
    return nodes.NodeGroup(
        cluster=cluster,
        name="workers",
        capacity_type="SPOT",
        instance_types=("t3.medium",),
        zones=("us-east-1a",),
        desired=1,
    )


def _annotated(annotations: Mapping[str, str] | None) -> Manifest:
    return {"annotations": dict(annotations)} if annotations else {}
