"""Workloads that stand for add-ons and charts which cannot run here: the same pods, of the same size, that do nothing.

The scheduler then finds the room on the nodes that it would find on AWS. Requests, replicas, priorities, tolerations
and disruption budgets are those of the real ones; the source of each stands beside it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi, Manifest, Manifests
from sandbox.providers.aws.paths import at
from sandbox.providers.kubernetes.readiness import lacking

NAMESPACE = "kube-system"
OWNER = "sandbox.pyairtable.com/stands-for"
"""Label of all objects of one add-on or chart."""

KINDS = (
    # First what would be asked for leave to change the rest.
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ResourceQuota"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ServiceAccount"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
)
"""What an add-on or a chart is made of, in the order of removal."""

RESOURCE_POLICY = "helm.sh/resource-policy"
"""Annotation of what stays when its release goes, or has it no longer."""

EKS_REGISTRY = "602401143452.dkr.ecr.us-west-2.amazonaws.com"

CRITICAL_ADDONS_ONLY = {"key": "CriticalAddonsOnly", "operator": "Exists"}
EVERYWHERE = ({"operator": "Exists"},)


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container; its resources are found under the first of these paths in the configuration, or are the default."""

    name: str
    image: str
    """`{version}` is the add-on's."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    security: Mapping[str, Any] = field(default_factory=dict)
    """Its security context."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A Deployment, or a DaemonSet where there are no replicas."""

    name: str
    containers: tuple[Container, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    """More than the name, of the workload and its pods."""
    service_account: str = ""
    makes_account: bool = True
    """Whether the service account comes with it."""
    critical: bool = True
    """Whether its pods go before others where nothing else is said."""
    replicas: int | None = None
    section: str = ""
    """Where in the configuration its settings begin."""
    replicas_path: str = ""
    tolerations: Sequence[Mapping[str, str | int]] = ()
    spread: bool = False
    """Whether its pods keep off each other's nodes where they can."""
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Its PodDisruptionBudget, where it has one."""


@dataclass(frozen=True, kw_only=True)
class Addon:
    """An add-on of EKS."""

    parts: tuple[Part, ...]
    settings: frozenset[str]
    """Names at the top of its configuration; EKS validates them against a schema and so refuses any other."""


def _requests(cpu: str, memory: str = "", limit: str = "") -> dict[str, dict[str, str]]:
    resources = {"requests": {"cpu": cpu, **({"memory": memory} if memory else {})}}
    return {**resources, "limits": {"memory": limit}} if limit else resources


CSI = _requests("10m", "40Mi", "256Mi")
CSI_SIDECARS = {
    "csi-provisioner": ("csi-provisioner:v5.3.0-eksbuild.4", "provisioner"),
    "csi-attacher": ("csi-attacher:v4.9.0-eksbuild.4", "attacher"),
    "csi-snapshotter": ("csi-snapshotter:v8.3.0-eksbuild.2", "snapshotter"),
    "csi-resizer": ("csi-resizer:v1.14.0-eksbuild.4", "resizer"),
    "liveness-probe": ("livenessprobe:v2.16.0-eksbuild.5", "livenessProbe"),
}
"""Image and name in `sidecars` of what runs beside the EBS controller."""

COMMON = frozenset({"affinity", "nodeSelector", "podAnnotations", "podLabels", "resources", "tolerations"})

ADDONS: Mapping[str, Addon] = {
    # https://github.com/aws/amazon-vpc-cni-k8s charts/aws-vpc-cni: both containers get `resources`, 25m.
    "vpc-cni": Addon(
        parts=(
            Part(
                name="aws-node",
                service_account="aws-node",
                tolerations=EVERYWHERE,
                containers=(
                    Container(
                        name="aws-node",
                        image=f"{EKS_REGISTRY}/amazon-k8s-cni:{{version}}",
                        resources=_requests("25m"),
                        paths=("resources",),
                    ),
                    Container(
                        name="aws-eks-nodeagent",
                        image=f"{EKS_REGISTRY}/amazon/aws-network-policy-agent:v1.3.1-eksbuild.1",
                        resources=_requests("25m"),
                        paths=("nodeAgent.resources", "resources"),
                    ),
                ),
            ),
        ),
        settings=COMMON | {"enableNetworkPolicy", "env", "init", "nodeAgent"},
    ),
    # https://docs.aws.amazon.com/eks/latest/userguide/managing-kube-proxy.html: 100m.
    "kube-proxy": Addon(
        parts=(
            Part(
                name="kube-proxy",
                service_account="kube-proxy",
                tolerations=EVERYWHERE,
                containers=(
                    Container(
                        name="kube-proxy",
                        image=f"{EKS_REGISTRY}/eks/kube-proxy:{{version}}",
                        resources=_requests("100m"),
                        paths=("resources",),
                    ),
                ),
            ),
        ),
        settings=COMMON | {"ipvs", "mode"},
    ),
    # https://github.com/aws/eks-pod-identity-agent charts/eks-pod-identity-agent: no requests.
    "eks-pod-identity-agent": Addon(
        parts=(
            Part(
                name="eks-pod-identity-agent",
                tolerations=EVERYWHERE,
                containers=(
                    Container(
                        name="eks-pod-identity-agent",
                        image=f"{EKS_REGISTRY}/eks/eks-pod-identity-agent:{{version}}",
                        paths=("resources",),
                    ),
                ),
            ),
        ),
        settings=COMMON | {"agent", "priorityClassName"},
    ),
    # https://github.com/eksctl-io/eksctl pkg/addons/default/assets/coredns-1.29.json, and for the disruption budget
    # https://aws.amazon.com/blogs/containers/recent-changes-to-the-coredns-add-on/
    "coredns": Addon(
        parts=(
            Part(
                name="coredns",
                service_account="coredns",
                replicas=2,
                replicas_path="replicaCount",
                tolerations=(
                    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    CRITICAL_ADDONS_ONLY,
                ),
                spread=True,
                budget={"maxUnavailable": 1},
                containers=(
                    Container(
                        name="coredns",
                        image=f"{EKS_REGISTRY}/eks/coredns:{{version}}",
                        resources=_requests("100m", "70Mi", "170Mi"),
                        paths=("resources",),
                    ),
                ),
            ),
        ),
        settings=COMMON
        | {"computeType", "corefile", "podDisruptionBudget", "replicaCount", "topologySpreadConstraints"},
    ),
    # https://github.com/kubernetes-sigs/aws-ebs-csi-driver charts/aws-ebs-csi-driver: every container has what
    # `controller.resources` or `node.resources` say, unless `sidecars` says otherwise for it.
    "aws-ebs-csi-driver": Addon(
        parts=(
            Part(
                name="ebs-csi-controller",
                service_account="ebs-csi-controller-sa",
                section="controller",
                replicas=2,
                replicas_path="controller.replicaCount",
                tolerations=(
                    CRITICAL_ADDONS_ONLY,
                    {"effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 300},
                ),
                spread=True,
                budget={"maxUnavailable": 1},
                containers=(
                    Container(
                        name="ebs-plugin",
                        image=f"{EKS_REGISTRY}/eks/aws-ebs-csi-driver:{{version}}",
                        resources=CSI,
                        paths=("controller.resources",),
                    ),
                    *(
                        Container(
                            name=name,
                            image=f"{EKS_REGISTRY}/eks/{image}",
                            resources=CSI,
                            paths=(f"sidecars.{setting}.resources", "controller.resources"),
                        )
                        for name, (image, setting) in CSI_SIDECARS.items()
                    ),
                ),
            ),
            Part(
                name="ebs-csi-node",
                service_account="ebs-csi-node-sa",
                section="node",
                tolerations=EVERYWHERE,
                containers=(
                    Container(
                        name="ebs-plugin",
                        image=f"{EKS_REGISTRY}/eks/aws-ebs-csi-driver:{{version}}",
                        resources=CSI,
                        paths=("node.resources",),
                    ),
                    Container(
                        name="node-driver-registrar",
                        image=f"{EKS_REGISTRY}/eks/csi-node-driver-registrar:v2.14.0-eksbuild.5",
                        resources=CSI,
                        paths=("sidecars.nodeDriverRegistrar.resources", "node.resources"),
                    ),
                    Container(
                        name="liveness-probe",
                        image=f"{EKS_REGISTRY}/eks/livenessprobe:v2.16.0-eksbuild.5",
                        resources=CSI,
                        paths=("sidecars.livenessProbe.resources", "node.resources"),
                    ),
                ),
            ),
        ),
        settings=frozenset({"controller", "defaultStorageClass", "node", "sidecars"}),
    ),
    # https://github.com/kubernetes-sigs/metrics-server charts/metrics-server: 100m and 200Mi; as an add-on two:
    # https://docs.aws.amazon.com/eks/latest/userguide/community-addons.html. What measures is a process of the sandbox.
    "metrics-server": Addon(
        parts=(
            Part(
                name="metrics-server",
                service_account="metrics-server",
                replicas=2,
                replicas_path="replicas",
                spread=True,
                budget={"maxUnavailable": 1},
                containers=(
                    Container(
                        name="metrics-server",
                        image=f"{EKS_REGISTRY}/eks/metrics-server:{{version}}",
                        resources=_requests("100m", "200Mi"),
                        paths=("resources",),
                    ),
                ),
            ),
        ),
        settings=COMMON | {"podDisruptionBudget", "priorityClassName", "replicas", "topologySpreadConstraints"},
    ),
}


def install_addon(api: KubernetesApi, name: str, version: str, configuration: Mapping[str, Any]) -> Manifests:
    """Make the workloads of an add-on, or change them; the objects.

    Raises:
        SandboxError: there is no such add-on, or it has no such setting.
    """
    addon = _addon(name)
    unknown = sorted(configuration.keys() - addon.settings)
    if unknown:
        raise SandboxError(
            f"the add-on {name} has no setting {', '.join(unknown)}, or the sandbox does not know it; it knows "
            f"{', '.join(sorted(addon.settings))}"
        )
    return install(api, addon.parts, Wish(owner("addon", name), NAMESPACE, version, configuration))


def addon_is_healthy(api: KubernetesApi, name: str) -> bool:
    """Whether an add-on has the pods that it should have; one that runs on every node has them where there is none."""
    _addon(name)
    workloads = objects(api, owner("addon", name), NAMESPACE)
    return not any(lacking(api, workload) for workload in workloads)


def remove_addon(api: KubernetesApi, name: str) -> None:
    """Delete the workloads of an add-on, without waiting."""
    remove(api, owner("addon", name), NAMESPACE)


def _addon(name: str) -> Addon:
    if name not in ADDONS:
        raise SandboxError(
            f"the sandbox has no stand-in for the add-on {name}, only for {', '.join(ADDONS)}; "
            "add it to sandbox/placeholders.py"
        )
    return ADDONS[name]


def owner(kind: str, name: str) -> str:
    """Value of the label OWNER on all objects of an add-on or a release of a chart."""
    return f"{kind}-{name}"


class Wish(NamedTuple):
    """What an add-on or a chart is to be."""

    owner: str
    namespace: str
    version: str
    configuration: Mapping[str, Any]


def install(api: KubernetesApi, parts: Sequence[Part], wish: Wish, definitions: Sequence[Manifest] = ()) -> Manifests:
    """Make the definitions and the parts, and take away what there was of others; the objects."""
    wanted = [
        *(_labelled(definition, wish) for definition in definitions),
        *(manifest for part in parts for manifest in _manifests(part, wish)),
    ]
    made = [api.apply(manifest, force=True) for manifest in wanted]
    kept = {_name(item) for item in made}
    _delete(api, (item for item in objects(api, wish.owner, wish.namespace) if _name(item) not in kept), wish.namespace)
    return made


def remove(api: KubernetesApi, owner: str, namespace: str) -> None:
    """Delete the objects of an owner, without waiting."""
    _delete(api, objects(api, owner, namespace), namespace)


def objects(api: KubernetesApi, owner: str, namespace: str) -> Manifests:
    """What is there of an owner, less what Helm would keep when that goes."""
    return [
        item
        for api_version, kind in KINDS
        for item in api.list(api_version, kind, namespace=namespace, label_selector=f"{OWNER}={owner}")
        if item["metadata"].get("annotations", {}).get(RESOURCE_POLICY) != "keep"
    ]


def _delete(api: KubernetesApi, items: Iterable[Manifest], namespace: str) -> None:
    for item in items:
        api.delete(item["apiVersion"], item["kind"], item["metadata"]["name"], namespace)


def _name(item: Manifest) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _labelled(manifest: Manifest, wish: Wish) -> Manifest:
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), OWNER: wish.owner}}}


def _manifests(part: Part, wish: Wish) -> Iterator[Manifest]:
    labels = {OWNER: wish.owner, "app.kubernetes.io/name": part.name, **part.labels}
    metadata = {"name": part.name, "namespace": wish.namespace, "labels": labels}
    selector = {"matchLabels": labels}
    if part.service_account and part.makes_account:
        account = {**metadata, "name": part.service_account}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
    spec: dict[str, Any] = {
        "selector": selector,
        "template": {
            "metadata": {"labels": {**(_setting(part, wish, "podLabels") or {}), **labels}},
            "spec": _pod(part, wish, selector),
        },
    }
    if part.replicas is None:
        spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}
    else:
        given = at(wish.configuration, part.replicas_path)
        spec["replicas"] = part.replicas if given is None else given
    kind = "DaemonSet" if part.replicas is None else "Deployment"
    yield {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}
    if part.budget:
        budget = {"selector": selector, **part.budget}
        yield {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": budget}


def _pod(part: Part, wish: Wish, selector: Mapping[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "hostNetwork": part.replicas is None,
        "tolerations": list(part.tolerations),
        "containers": [_container(container, wish) for container in part.containers],
    }
    if part.critical:
        pod["priorityClassName"] = "system-node-critical" if part.replicas is None else "system-cluster-critical"
    if part.service_account:
        pod["serviceAccountName"] = part.service_account
    if part.spread:
        apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
        preferred = [{"weight": 100, "podAffinityTerm": apart}]
        pod["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    for name in ("affinity", "nodeSelector", "priorityClassName", "tolerations", "topologySpreadConstraints"):
        given = _setting(part, wish, name)
        if given is not None:
            pod[name] = given
    return pod


def _container(container: Container, wish: Wish) -> dict[str, Any]:
    given = (at(wish.configuration, path) for path in container.paths)
    made = {
        "name": container.name,
        "image": container.image.format(version=wish.version),
        "args": list(container.arguments),
        "resources": next(filter(None, given), container.resources),
        "securityContext": container.security,
    }
    return {key: value for key, value in made.items() if value or key == "resources"}


def _setting(part: Part, wish: Wish, name: str) -> Any:
    return at(wish.configuration, f"{part.section}.{name}" if part.section else name)
