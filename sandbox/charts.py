"""Helm charts that a release may name: the placeholders that each comes to, and the kinds that it defines."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox import gateways, istio_charts
from sandbox.control_plane import plane_of
from sandbox.errors import SandboxError
from sandbox.istio import VERSION as ISTIO_VERSION
from sandbox.kubernetes_api import KubernetesApi, Manifests
from sandbox.placeholders import Container, Part, Wish, install, objects, owner, remove
from sandbox.providers.aws.paths import at
from sandbox.providers.wire import is_unknown
from sandbox.state import read_json
from sandbox.tools import TOOLS, find, wanted_version

Values = Mapping[str, Any]
Problem = tuple[str, str]
"""Path of a value, and what is wrong with it."""


def _nothing(*_: object) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart."""

    parts: Callable[[str, Values], tuple[Part, ...]] = lambda *_: ()
    """Placeholders of its workloads, for a release's name and values."""
    objects: Callable[[KubernetesApi, str, str, Values], Manifests] = lambda *_: []
    """All that it consists of, for a release's name, namespace and values, where the sandbox can render it."""
    definitions: Callable[[Values], Manifests] = lambda _: []
    """Its custom resource definitions."""
    problems: Callable[[Values], Iterator[Problem]] = lambda _: iter(())
    """What is wrong with values."""
    lacking: Callable[[KubernetesApi, Manifests], str] = _nothing
    """What its objects lack to be ready, besides what any object does."""
    version: str = ""
    """The only one that the sandbox has, where it has a part of the chart itself."""


def _cluster_autoscaler(release: str, values: Values) -> tuple[Part, ...]:
    """https://github.com/kubernetes/autoscaler charts/cluster-autoscaler: no requests unless the values give them."""
    chart = f"{values.get('cloudProvider', 'aws')}-cluster-autoscaler"
    name = values.get("fullnameOverride") or (chart if chart == release else f"{release}-{chart}")
    tag = at(values, "image.tag") or "{version}"
    return (
        Part(
            name=name,
            service_account=at(values, "rbac.serviceAccount.name") or name,
            replicas=1,
            replicas_path="replicaCount",
            budget={"maxUnavailable": 1},
            containers=(
                Container(
                    name=chart, image=f"registry.k8s.io/autoscaling/cluster-autoscaler:{tag}", paths=("resources",)
                ),
            ),
        ),
    )


# https://github.com/external-secrets/external-secrets deploy/charts/external-secrets, version 0.20.4. kwok plays its
# pods; the controller in them is a process of the sandbox, with the arguments that the chart gives it.

EXTERNAL_SECRETS = "external-secrets"

OPERATOR_DEFAULTS: Values = {
    "affinity": {},
    "certController.create": True,
    "concurrent": 1,
    "crds.createClusterExternalSecret": True,
    "crds.createClusterGenerator": True,
    "crds.createClusterPushSecret": True,
    "crds.createClusterSecretStore": True,
    "crds.createPushSecret": True,
    "createOperator": True,
    "extraArgs": {},
    "fullnameOverride": "",
    "image.repository": "oci.external-secrets.io/external-secrets/external-secrets",
    "image.tag": "",
    "installCRDs": True,
    "leaderElect": False,
    "livenessProbe.enabled": False,
    "log.level": "info",
    "log.timeEncoding": "epoch",
    "nodeSelector": {},
    "podLabels": {},
    "priorityClassName": "",
    "processClusterExternalSecret": True,
    "processClusterGenerator": True,
    "processClusterPushSecret": True,
    "processClusterStore": True,
    "processPushSecret": True,
    "rbac.create": True,
    "replicaCount": 1,
    "resources": {},
    "scopedNamespace": "",
    "scopedRBAC": False,
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "enabled": True,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "serviceAccount.create": True,
    "serviceAccount.name": "",
    "tolerations": [],
    "topologySpreadConstraints": [],
    "webhook.create": True,
}
"""The values that the sandbox knows, by path, and what they are where nobody gives them.

The chart ignores a name that it does not have. Here that is an error, since it is likely a misspelt one.
"""

TYPE_NAMES = {bool: "boolean", dict: "object", int: "integer", list: "array", str: "string"}
"""As the chart's schema has them."""

NOT_SERVED = {
    "certController.create": "the certificates would be for the webhook, which the sandbox does not run",
    "leaderElect": "the sandbox runs one controller",
    "webhook.create": "the sandbox does not run the webhook, and without it the API server would refuse what it checks",
}
"""What would have to run here and does not, or would wait for ever."""

NEVER_DEFINED = (
    "ClusterExternalSecret",
    "ClusterGenerator",
    "ClusterPushSecret",
    "ClusterSecretStore",
    "PushSecret",
)
"""Kinds of the chart that the sandbox leaves out."""

CLUSTER_WIDE = {
    "processClusterStore": "--enable-cluster-store-reconciler",
    "processClusterExternalSecret": "--enable-cluster-external-secret-reconciler",
    "processClusterPushSecret": "--enable-cluster-push-secret-reconciler",
}
"""Values that the chart takes for false where the operator is scoped to a namespace, and the options they become."""


def _operator(release: str, values: Values) -> tuple[Part, ...]:
    if not _value(values, "createOperator"):
        return ()
    name = _value(values, "fullnameOverride") or (
        release if EXTERNAL_SECRETS in release else f"{release}-{EXTERNAL_SECRETS}"
    )
    makes_account = _value(values, "serviceAccount.create")
    security = _value(values, "securityContext")
    tag = _value(values, "image.tag") or "v{version}"
    return (
        Part(
            name=name,
            labels={"app.kubernetes.io/name": EXTERNAL_SECRETS, "app.kubernetes.io/instance": release},
            service_account=_value(values, "serviceAccount.name") or (name if makes_account else "default"),
            makes_account=makes_account,
            critical=False,
            replicas=1,
            replicas_path="replicaCount",
            containers=(
                Container(
                    name=EXTERNAL_SECRETS,
                    image=f"{_value(values, 'image.repository')}:{tag}",
                    arguments=tuple(_arguments(values)),
                    paths=("resources",),
                    security={k: v for k, v in security.items() if k != "enabled"} if security["enabled"] else {},
                ),
            ),
        ),
    )


def _arguments(values: Values) -> Iterator[str]:
    """What the chart's Deployment starts the controller with."""
    namespace = _value(values, "scopedNamespace")
    if namespace:
        yield f"--namespace={namespace}"
    for path, option in CLUSTER_WIDE.items():
        if _is_scoped(values) or not _value(values, path):
            yield f"{option}=false"
    if not _value(values, "processPushSecret"):
        yield "--enable-push-secret-reconciler=false"
    yield f"--concurrent={_value(values, 'concurrent')}"
    for name, value in sorted(_value(values, "extraArgs").items()):
        yield f"--{name}={value}" if value else f"--{name}"
    yield "--metrics-addr=:8080"
    yield f"--loglevel={_value(values, 'log.level')}"
    yield f"--zap-time-encoding={_value(values, 'log.timeEncoding')}"
    if _value(values, "livenessProbe.enabled"):
        yield "--live-addr=:8082"


def _operator_definitions(values: Values) -> Manifests:
    """The definitions that the controller does not do without; the chart has some more, for its generators."""
    if not _value(values, "installCRDs"):
        return []
    tool = TOOLS[EXTERNAL_SECRETS]
    folder = find(tool).parent
    # The C loader: one of the files is half a megabyte.
    return [yaml.load((folder / Path(file).name).read_text(), yaml.CSafeLoader) for file in tool.files]


def _operator_problems(values: Values) -> Iterator[Problem]:
    found = [*_misspelt(values)]
    yield from found
    if found:
        return
    for path, why in NOT_SERVED.items():
        if _value(values, path) is True:
            yield path, f"{why}; set it to false"
    for kind in NEVER_DEFINED:
        path = f"crds.create{kind}"
        if _value(values, "installCRDs") is True and _value(values, path) is True:
            yield path, f"the sandbox leaves out the definition of {kind}; set it to false"
    if _value(values, "createOperator") is True:
        # The chart wants the third of them to be false in so many words.
        spared = ("processClusterStore", "processClusterExternalSecret") if _is_scoped(values) else ()
        for path in (*CLUSTER_WIDE, "processPushSecret"):
            if path not in spared and _value(values, path) is True:
                yield path, "the sandbox leaves out the kind that the controller would wait for; set it to false"


def _misspelt(values: Values, prefix: str = "") -> Iterator[Problem]:
    """Names that the sandbox does not know, and values of another type than the chart's schema wants."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if path in OPERATOR_DEFAULTS:
            wanted = type(OPERATOR_DEFAULTS[path])
            if not is_unknown(value) and type(value) is not wanted:
                yield path, f"must be of type {TYPE_NAMES[wanted]}"
        elif isinstance(value, Mapping) and any(known.startswith(f"{path}.") for known in OPERATOR_DEFAULTS):
            yield from _misspelt(value, f"{path}.")
        else:
            close = difflib.get_close_matches(path, OPERATOR_DEFAULTS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield path, f"the chart {EXTERNAL_SECRETS} has no value {path}, or the sandbox does not know it{hint}"


def _value(values: Values, path: str) -> Any:
    given, default = at(values, path), OPERATOR_DEFAULTS[path]
    if given is None:
        return default
    return {**default, **given} if isinstance(given, Mapping) else given


def _is_scoped(values: Values) -> bool:
    return bool(_value(values, "scopedNamespace") and _value(values, "scopedRBAC"))


def _of_istio(chart: str) -> Chart:
    """One of Istio's own: all of it, rendered."""
    return Chart(
        objects=lambda api, release, namespace, values: istio_charts.manifests(
            chart, release, namespace, values, plane_of(api.kubeconfig)
        ),
        problems=lambda values: istio_charts.problems(chart, values),
        lacking=LACKING.get(chart, _nothing),
        version=ISTIO_VERSION,
    )


def _istiod_lacks(api: KubernetesApi, objects: Manifests) -> str:
    """What its pods lack to be ready: kwok says at once that they are, and perhaps the last one still answers."""
    running = read_json(plane_of(api.kubeconfig).containers)
    late = [
        name
        for pod in _pods(api, objects)
        for name in [pod["metadata"]["name"]]
        if not running.get(f"{pod['metadata']['namespace']}/{name}/discovery", {}).get("pid")
    ]
    return f"no process runs yet: {', '.join(late)}" if late else ""


def _gateways_lack(api: KubernetesApi, objects: Manifests) -> str:
    return gateways.lacking(plane_of(api.kubeconfig), _pods(api, objects))


def _pods(api: KubernetesApi, objects: Manifests) -> Manifests:
    """The pods of the only workload that stay."""
    (workload,) = (item for item in objects if item["kind"] in ("Deployment", "DaemonSet"))
    labels = workload["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    found = api.list("v1", "Pod", namespace=workload["metadata"]["namespace"], label_selector=selector)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


LACKING: Mapping[str, Callable[[KubernetesApi, Manifests], str]] = {
    "gateway": _gateways_lack,
    "istiod": _istiod_lacks,
}
"""What else charts of Istio's wait for."""


CHARTS = {
    "cluster-autoscaler": Chart(parts=_cluster_autoscaler),
    EXTERNAL_SECRETS: Chart(
        parts=_operator,
        definitions=_operator_definitions,
        problems=_operator_problems,
        version="{}.{}.{}".format(*wanted_version(TOOLS[EXTERNAL_SECRETS])),
    ),
    **{chart: _of_istio(chart) for chart in istio_charts.CHARTS},
}


def chart_problems(chart: str, version: str, values: Values) -> list[Problem]:
    """What is wrong with the version, or with values, of a release.

    Raises:
        SandboxError: the sandbox has no stand-in for the chart.
    """
    known = _chart(chart)
    found = [(f"values.{path}", reason) for path, reason in known.problems(values)]
    if known.version and not is_unknown(version) and version.removeprefix("v") != known.version:
        found.append(("version", f"the sandbox has {chart} {known.version} only"))
    return found


def install_chart(
    api: KubernetesApi, release: str, chart: str, version: str, *, namespace: str, values: Values
) -> Manifests:
    """Make what a chart consists of, or change it; the objects.

    Raises:
        SandboxError: the sandbox has no stand-in for the chart.
    """
    known = _chart(chart)
    wish = Wish(owner("chart", release), namespace, version, values)
    made = [*known.definitions(values), *known.objects(api, release, namespace, values)]
    return install(api, known.parts(release, values), wish, made)


def chart_lacks(api: KubernetesApi, chart: str, objects: Manifests) -> str:
    """What a release's objects lack to be ready that any object of their kind does not; empty when they are."""
    return _chart(chart).lacking(api, objects)


def remove_chart(api: KubernetesApi, release: str, namespace: str) -> None:
    """Delete what a release consists of, without waiting; what Helm keeps stays, and a later release adopts it."""
    remove(api, owner("chart", release), namespace)


def chart_objects(api: KubernetesApi, release: str, namespace: str) -> Manifests:
    """What is there of a release and goes with it."""
    return objects(api, owner("chart", release), namespace)


def _chart(name: str) -> Chart:
    if name not in CHARTS:
        raise SandboxError(
            f"the sandbox has no stand-in for the chart {name}, only for {', '.join(CHARTS)}; "
            "add it to sandbox/charts.py"
        )
    return CHARTS[name]
