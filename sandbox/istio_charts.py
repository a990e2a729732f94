"""Istio's charts, rendered by its own istioctl, and what of their objects is otherwise in the sandbox."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.istio import VERSION
from sandbox.kubernetes_api import Manifest, Manifests
from sandbox.providers.wire import is_unknown
from sandbox.tools import TOOLS, find

Values = Mapping[str, Any]

HUB = "registry.istio.io/release"
"""Where the released charts take their images from; those in the module name a place for tests."""

CHARTS = {"base": "base", "cni": "istio-cni", "istiod": "istio-control/istio-discovery", "gateway": "gateway"}
"""Istio's charts, and where each is in its module."""

ANYTHING_BELOW = frozenset(
    {
        "annotations",
        "env",
        "labels",
        "meshConfig",
        "pdb",
        "podAnnotations",
        "resources",
    }
)
"""Values that have names in the charts' defaults and take others as well."""
BESIDE_DEFAULTS = ("compatibilityVersion", "platform", "profile")
"""Values that every one of the charts reads and none gives a default."""

RENDER_SECONDS = 60
LAST_KINDS = ("Deployment", "DaemonSet", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def problems(chart: str, values: Values) -> Iterator[tuple[str, str]]:
    """Names of values that a chart does not have: Helm would ignore them, and they are likely misspelt ones."""
    yield from _misspelt(chart, values, _defaults(_folder() / CHARTS[chart]), "")


def _misspelt(chart: str, values: Values, defaults: Values, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if name not in defaults:
            if path not in BESIDE_DEFAULTS:
                yield path, f"the chart {chart} has no value {path}, or the sandbox does not know it"
            continue
        below = defaults[name]
        if name in ANYTHING_BELOW or not (isinstance(below, Mapping) and below):
            continue
        if isinstance(value, Mapping):
            yield from _misspelt(chart, value, below, f"{path}.")
        elif not is_unknown(value):
            yield path, "must be an object"


@lru_cache
def _defaults(folder: Path) -> Values:
    text = (folder / "values.yaml").read_text()
    return yaml.load(text, yaml.CSafeLoader)["_internal_defaults_do_not_set"]


def _folder() -> Path:
    """Istio's charts."""
    return find(TOOLS["istioctl"]).with_name("charts")


def manifests(chart: str, release: str, namespace: str, values: Values, plane: ControlPlane) -> Manifests:
    """The objects of a release, as Helm would make them, except for what has to be elsewhere in the sandbox.

    Raises:
        SandboxError: the chart refuses the values.
    """
    return [_settled(item, plane) for item in _ordered(_rendered(chart, release, namespace, values))]


def _rendered(chart: str, release: str, namespace: str, values: Values) -> Manifests:
    """A chart with values, rendered.

    istioctl installs components, whose values are not quite those of the charts, and knows no chart `gateway`. One of
    its components, however, hands its values on as they are, and takes its chart from a folder: there, each chart is.
    """
    own = {"name": release} if chart == "gateway" else {}
    settings = {"hub": HUB, "tag": VERSION, **(values.get("global") or {})}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "profiles").mkdir()
        (folder / "profiles/default.yaml").write_text("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n")
        (folder / "charts").mkdir()
        (folder / "charts/ztunnel").symlink_to(_folder() / CHARTS[chart])
        operator = {
            "apiVersion": "install.istio.io/v1alpha1",
            "kind": "IstioOperator",
            "spec": {
                "installPackagePath": temporary,
                "components": {
                    "base": {"enabled": False},
                    "pilot": {"enabled": False},
                    "ingressGateways": [{"name": "none", "enabled": False}],
                    "ztunnel": {"enabled": True, "namespace": namespace},
                },
                "unvalidatedValues": {"ztunnel": {**own, **values, "global": settings}},
            },
        }
        file = folder / "operator.yaml"
        file.write_text(yaml.safe_dump(operator))
        answer = subprocess.run(
            [find(TOOLS["istioctl"]), "manifest", "generate", f"--filename={file}"],
            capture_output=True, text=True, timeout=RENDER_SECONDS, check=False, cwd=folder,
        )  # fmt: skip
    if answer.returncode:
        said = " ".join(answer.stderr.split()).removeprefix("Error: ")
        raise SandboxError(f"rendering the chart {chart} of the release {release}: {said}")
    items = [item for item in yaml.load_all(answer.stdout, yaml.CSafeLoader) if item]
    # Known by another name to istioctl, and to the module as no release at all.
    labels = {
        "release": release,
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/version": VERSION,
        "helm.sh/chart": f"{chart}-{VERSION}",
    }
    return [_named(item, labels) for item in items]


def _named(item: Manifest, labels: Mapping[str, str]) -> Manifest:
    """An object, and the pods that it makes, with the release's own name in their labels."""
    named = {**item, "metadata": _labelled(item["metadata"], labels)}
    template = item.get("spec", {}).get("template")
    if template:
        template = {**template, "metadata": _labelled(template["metadata"], labels)}
        named["spec"] = {**item["spec"], "template": template}
    return named


def _labelled(metadata: Manifest, labels: Mapping[str, str]) -> Manifest:
    present = metadata.get("labels") or {}
    return {**metadata, "labels": {name: labels.get(name, value) for name, value in present.items()}}


def _ordered(items: Manifests) -> Manifests:
    """What others need first, such as accounts and settings before the pods that use them."""
    return sorted(items, key=lambda item: LAST_KINDS.index(item["kind"]) + 1 if item["kind"] in LAST_KINDS else 0)


def _settled(item: Manifest, plane: ControlPlane) -> Manifest:
    match item["kind"]:
        case "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration":
            return {**item, "webhooks": [_called_here(webhook, plane) for webhook in item["webhooks"]]}
        case "ConfigMap" if "mesh" in item.get("data", {}):
            return {**item, "data": {**item["data"], "mesh": _for_stock_envoy(item["data"]["mesh"])}}
        case _:
            return item


def _called_here(webhook: Mapping[str, Any], plane: ControlPlane) -> Manifest:
    """A webhook of istiod, called where that listens: no packet reaches a Service's address here."""
    client = webhook["clientConfig"]
    if "service" not in client:
        return dict(webhook)
    url = f"https://127.0.0.1:{plane.ports['istiod-webhooks']}{client['service'].get('path', '/')}"
    return {**webhook, "clientConfig": {"url": url, "caBundle": plane.certificate_authority}}


def _for_stock_envoy(mesh: str) -> str:
    """A mesh's configuration for an Envoy without Istio's own filters, and without the agent that brings certificates.

    With metrics from `istio.stats`, or certificates from the agent, it would refuse what istiod sends.
    """
    config = {**yaml.safe_load(mesh), "defaultProviders": {}, "enableAutoMtls": False}
    return yaml.safe_dump(config, sort_keys=False)
