"""Charts come to the pods of the real ones, their arguments included, and refuse what the sandbox cannot stand for."""

from pathlib import Path
from typing import Any, cast

import pytest

from sandbox import charts
from sandbox.charts import CHARTS, chart_problems, install_chart, remove_chart
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi, Manifest, Manifests
from sandbox.providers.wire import UNKNOWN
from sandbox.tools import TOOLS
from tests.unit.fake_api import FakeApi, requested, workloads

OPERATOR = "external-secrets"
VERSION = CHARTS[OPERATOR].version
NAMESPACE = "external-secrets-system"
NO_WEBHOOK = {"webhook": {"create": False}, "certController": {"create": False}}
SCOPED: dict[str, Any] = {
    **NO_WEBHOOK,
    "installCRDs": False,
    "scopedNamespace": "pyairtable",
    "scopedRBAC": True,
    "processClusterPushSecret": False,
    "processPushSecret": False,
}
"""The operator for one namespace."""
DEFINITIONS_ONLY: dict[str, Any] = {
    **NO_WEBHOOK,
    "createOperator": False,
    "crds": dict.fromkeys(
        (
            "createClusterExternalSecret",
            "createClusterGenerator",
            "createClusterPushSecret",
            "createClusterSecretStore",
            "createPushSecret",
        ),
        False,
    ),
}


@pytest.fixture
def api() -> KubernetesApi:
    return cast("KubernetesApi", FakeApi())


@pytest.fixture
def _built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's files, as its build would leave them."""
    for file in TOOLS[OPERATOR].files:
        name = Path(file).stem.replace("_", ".")
        text = f"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {name}}}\n"
        (tmp_path / Path(file).name).write_text(text)
    monkeypatch.setattr(charts, "find", lambda _: tmp_path / OPERATOR)


def autoscaler(api: KubernetesApi, release: str, values: dict[str, Any]) -> Manifests:
    """Objects of a release of the Cluster Autoscaler."""
    return install_chart(api, release, "cluster-autoscaler", "9.50.0", namespace="kube-system", values=values)


def operator(api: KubernetesApi, values: dict[str, Any], release: str = OPERATOR) -> Manifests:
    """Objects of a release of External Secrets."""
    return install_chart(api, release, OPERATOR, VERSION, namespace=NAMESPACE, values=values)


def container(objects: Manifests) -> Manifest:
    """The only container of the only workload."""
    (spec,) = workloads(objects).values()
    (found,) = spec["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("cluster-autoscaler", {}, "cluster-autoscaler-aws-cluster-autoscaler"),
        ("aws-cluster-autoscaler", {}, "aws-cluster-autoscaler"),
        ("x", {"fullnameOverride": "cluster-autoscaler"}, "cluster-autoscaler"),
    ],
)
def test_the_autoscalers_chart_names_its_objects_as_the_real_one(
    api: KubernetesApi, release: str, values: dict[str, Any], name: str
) -> None:
    assert list(workloads(autoscaler(api, release, values))) == [name]


def test_the_autoscalers_values_are_followed(api: KubernetesApi) -> None:
    values = {
        "resources": {"requests": {"cpu": "100m", "memory": "300Mi"}},
        "rbac": {"serviceAccount": {"name": "autoscaler"}},
        "image": {"tag": "v1.36.0"},
    }
    (spec,) = workloads(autoscaler(api, "a", values)).values()
    assert requested(spec) == (100, 300)
    assert spec["template"]["spec"]["serviceAccountName"] == "autoscaler"
    assert spec["template"]["spec"]["containers"][0]["image"].endswith("/cluster-autoscaler:v1.36.0")
    assert ("ServiceAccount", "autoscaler") in cast("FakeApi", api).held


def test_an_unknown_chart_is_refused_by_name(api: KubernetesApi) -> None:
    with pytest.raises(SandboxError, match="no stand-in for the chart nginx"):
        install_chart(api, "a", "nginx", "1", namespace="n", values={})
    with pytest.raises(SandboxError, match="no stand-in for the chart nginx"):
        chart_problems("nginx", "1", {})


# External Secrets


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        (OPERATOR, {}, OPERATOR),
        ("my-external-secrets", {}, "my-external-secrets"),
        ("x", {}, "x-external-secrets"),
        ("x", {"fullnameOverride": OPERATOR}, OPERATOR),
    ],
)
def test_the_operator_names_its_objects_as_the_real_one(
    api: KubernetesApi, release: str, values: dict[str, Any], name: str
) -> None:
    objects = operator(api, {**SCOPED, **values}, release)
    assert {(item["kind"], item["metadata"]["name"]) for item in objects} == {
        ("Deployment", name),
        ("ServiceAccount", name),
    }
    (spec,) = workloads(objects).values()
    labels = {"app.kubernetes.io/name": OPERATOR, "app.kubernetes.io/instance": release}
    assert labels.items() <= spec["selector"]["matchLabels"].items()
    assert labels.items() <= spec["template"]["metadata"]["labels"].items()


def test_the_operators_pods_ask_for_what_the_values_say(api: KubernetesApi) -> None:
    values = {
        **SCOPED,
        "replicaCount": 2,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "nodeSelector": {"workload": "system"},
        "podLabels": {"team": "platform"},
        "image": {"repository": "example.com/external-secrets"},
    }
    (spec,) = workloads(operator(api, values)).values()
    assert (*requested(spec), spec["replicas"]) == (10, 64, 2)
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"] == {"workload": "system"}
    assert "priorityClassName" not in pod
    assert spec["template"]["metadata"]["labels"]["team"] == "platform"
    assert pod["containers"][0]["image"] == f"example.com/external-secrets:v{VERSION}"


@pytest.mark.parametrize(
    ("values", "account", "made"),
    [
        ({}, OPERATOR, True),
        ({"name": "reader"}, "reader", True),
        ({"create": False, "name": "reader"}, "reader", False),
        ({"create": False}, "default", False),
    ],
)
def test_the_operators_service_account_is_the_one_of_the_values(
    api: KubernetesApi, values: dict[str, Any], account: str, made: bool
) -> None:
    (spec,) = workloads(operator(api, {**SCOPED, "serviceAccount": values})).values()
    assert spec["template"]["spec"]["serviceAccountName"] == account
    assert (("ServiceAccount", account) in cast("FakeApi", api).held) == made


def test_the_operators_container_may_run_in_a_restricted_namespace(api: KubernetesApi) -> None:
    security = container(operator(api, {**SCOPED, "securityContext": {"runAsUser": 65534}}))["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    without = operator(api, {**SCOPED, "securityContext": {"enabled": False}})
    assert "securityContext" not in container(without)


EVERYWHERE = [
    "--enable-cluster-store-reconciler=false",
    "--enable-cluster-external-secret-reconciler=false",
    "--enable-cluster-push-secret-reconciler=false",
    "--enable-push-secret-reconciler=false",
]
ALWAYS = ["--concurrent=1", "--metrics-addr=:8080", "--loglevel=info", "--zap-time-encoding=epoch"]


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        (SCOPED, ["--namespace=pyairtable", *EVERYWHERE, *ALWAYS]),
        ({**SCOPED, "processClusterStore": True}, ["--namespace=pyairtable", *EVERYWHERE, *ALWAYS]),
        (
            {
                "processClusterStore": False,
                "concurrent": 3,
                "extraArgs": {"store-requeue-interval": "1m", "enable-flood-gate": None},
                "livenessProbe": {"enabled": True},
                "log": {"level": "debug"},
            },
            [
                EVERYWHERE[0],
                "--concurrent=3",
                "--enable-flood-gate",
                "--store-requeue-interval=1m",
                "--metrics-addr=:8080",
                "--loglevel=debug",
                "--zap-time-encoding=epoch",
                "--live-addr=:8082",
            ],
        ),
    ],
)
def test_the_controller_gets_the_arguments_that_the_chart_gives_it(
    api: KubernetesApi, values: dict[str, Any], arguments: list[str]
) -> None:
    assert container(operator(api, {**values, "installCRDs": False}))["args"] == arguments


@pytest.mark.usefixtures("_built")
def test_a_release_of_the_definitions_has_them_and_nothing_else(api: KubernetesApi) -> None:
    names = {
        "external-secrets.io.externalsecrets",
        "external-secrets.io.secretstores",
        "generators.external-secrets.io.generatorstates",
    }
    assert {item["metadata"]["name"] for item in operator(api, DEFINITIONS_ONLY)} == names
    held = cast("FakeApi", api).held
    assert set(held) == {("CustomResourceDefinition", name) for name in names}
    operator(api, SCOPED, "another")
    remove_chart(api, OPERATOR, NAMESPACE)
    assert set(held) == {("Deployment", "another-external-secrets"), ("ServiceAccount", "another-external-secrets")}


@pytest.mark.parametrize("values", [SCOPED, DEFINITIONS_ONLY, {**SCOPED, "resources": UNKNOWN}])
def test_values_that_the_sandbox_can_stand_for_are_accepted(values: dict[str, Any]) -> None:
    assert chart_problems(OPERATOR, VERSION, values) == []
    assert chart_problems(OPERATOR, UNKNOWN, values) == []


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a misspelt value": ({**SCOPED, "scopedNamspace": "x"}, "scopedNamspace", "did you mean scopedNamespace?"),
    "a misspelt value at depth": (
        {**SCOPED, "webhook": {"created": False}},
        "webhook.created",
        "the chart external-secrets has no value webhook.created, or the sandbox does not know it",
    ),
    "a value of another type": ({**SCOPED, "scopedRBAC": "true"}, "scopedRBAC", "must be of type boolean"),
    "a number for a switch": ({**SCOPED, "installCRDs": 0}, "installCRDs", "must be of type boolean"),
    "the webhook": ({**SCOPED, "webhook": {"create": True}}, "webhook.create", "set it to false"),
    "the webhook, by default": ({**SCOPED, "webhook": {}}, "webhook.create", "set it to false"),
    "its certificates": ({**SCOPED, "certController": {}}, "certController.create", "set it to false"),
    "leader election": ({**SCOPED, "leaderElect": True}, "leaderElect", "the sandbox runs one controller"),
    "a definition that is not there": (
        {**DEFINITIONS_ONLY, "crds": {**DEFINITIONS_ONLY["crds"], "createPushSecret": True}},
        "crds.createPushSecret",
        "leaves out the definition of PushSecret",
    ),
    "cluster-wide stores": ({**SCOPED, "scopedRBAC": False}, "processClusterStore", "leaves out the kind"),
    "pushed secrets": ({**SCOPED, "processPushSecret": True}, "processPushSecret", "leaves out the kind"),
    "secrets pushed everywhere": (
        {**SCOPED, "processClusterPushSecret": True},
        "processClusterPushSecret",
        "leaves out the kind",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_the_sandbox_cannot_stand_for_are_refused(case: str) -> None:
    values, path, reason = REFUSED[case]
    found = dict(chart_problems(OPERATOR, VERSION, values))
    assert reason in found[f"values.{path}"]


def test_another_version_than_the_definitions_is_refused() -> None:
    assert chart_problems(OPERATOR, f"v{VERSION}", SCOPED) == []
    assert chart_problems(OPERATOR, "2.10.0", SCOPED) == [
        ("version", f"the sandbox has external-secrets {VERSION} only")
    ]
