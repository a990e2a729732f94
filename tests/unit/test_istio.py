"""Istio's charts: which values they take, what is made of what istioctl renders, and how istiod is started here."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from sandbox import istio, istio_charts
from sandbox.charts import CHARTS, chart_problems, install_chart, remove_chart
from sandbox.control_plane import PORTS, ControlPlane
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.providers.wire import UNKNOWN
from sandbox.state import write_json
from tests.unit.fake_api import FakeApi

REVISION = "1-31-1"
DEFAULTS: dict[str, Any] = {
    "resources": {"requests": {"cpu": "500m"}},
    "revision": "",
    "env": {},
    "meshConfig": {"enablePrometheusMerge": True},
    "global": {"hub": "testing", "tag": "", "proxy": {"logLevel": "warning"}},
    "tolerations": [],
}
MESH = "defaultProviders:\n  metrics: [prometheus]\nenablePrometheusMerge: true\n"


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    folder = tmp_path / "clusters/c"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys/ca.crt").write_text("authority")
    ports = {name: 1000 + number for number, name in enumerate(PORTS)}
    write_json(folder / "ports.json", ports)
    return ControlPlane(cluster="c", folder=folder, ports=ports)


class Istioctl:
    """An istioctl that says what it was asked for, and answers as it is told."""

    def __init__(self, folder: Path) -> None:
        self.binary = folder / "istioctl"
        self._folder = folder
        for chart in istio_charts.CHARTS.values():
            values = folder / "charts" / chart / "values.yaml"
            values.parent.mkdir(parents=True)
            values.write_text(yaml.safe_dump({"_internal_defaults_do_not_set": DEFAULTS}))
        self.answers([])

    def answers(self, items: list[Manifest], error: str = "") -> None:
        """Let it render these objects, or fail."""
        (self._folder / "answer").write_text(yaml.safe_dump_all(items))
        self.binary.write_text(
            f'#!/bin/sh\ncp "${{3#--filename=}}" {self._folder}/asked\ncat {self._folder}/answer\n'
            + (f"echo 'Error: {error}' >&2; exit 1\n" if error else "")
        )
        self.binary.chmod(self.binary.stat().st_mode | stat.S_IXUSR)

    @property
    def asked(self) -> dict[str, Any]:
        """What it was asked to make."""
        return yaml.safe_load((self._folder / "asked").read_text())["spec"]


@pytest.fixture
def istioctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Istioctl:
    made = Istioctl(tmp_path)
    monkeypatch.setattr(istio_charts, "find", lambda _: made.binary)
    return made


def rendered(plane: ControlPlane, chart: str = "istiod", **values: Any) -> dict[str, Manifest]:
    """Objects by kind."""
    made = istio_charts.manifests(chart, "mine", "istio-system", values, plane)
    return {item["kind"]: item for item in made}


def item(kind: str, labels: Mapping[str, str] | None = None, **rest: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": kind.lower(), "labels": dict(labels or {})}, **rest}


@pytest.mark.usefixtures("istioctl")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"revision": REVISION, "profile": "ambient"}, []),
        ({"resources": {"limits": {"cpu": "1"}}, "env": {"A": "b"}, "meshConfig": {"accessLogFile": "x"}}, []),
        ({"global": {"proxy": {"logLevel": UNKNOWN}}, "tolerations": [{}]}, []),
        ({"global": {"tag": UNKNOWN, "tog": 1}}, [("values.global.tog", "no value global.tog")]),
        ({"global": UNKNOWN}, []),
        ({"pilot": {"env": {}}}, [("values.pilot", "the chart istiod has no value pilot")]),
        ({"global": {"proxy": {"level": 1}}}, [("values.global.proxy.level", "no value global.proxy.level")]),
        ({"global": {"proxy": "debug"}}, [("values.global.proxy", "must be an object")]),
    ],
)
def test_a_value_that_a_chart_does_not_have_is_named(values: dict[str, Any], told: list[tuple[str, str]]) -> None:
    found = chart_problems("istiod", istio.VERSION, values)
    assert [path for path, _ in found] == [path for path, _ in told]
    for (_, message), (_, part) in zip(found, told, strict=True):
        assert part in message


@pytest.mark.usefixtures("istioctl")
@pytest.mark.parametrize("chart", istio_charts.CHARTS)
def test_there_is_one_version_of_istio(chart: str) -> None:
    assert chart_problems(chart, istio.VERSION, {}) == []
    assert chart_problems(chart, "1.30.5", {}) == [("version", f"the sandbox has {chart} 1.31.1 only")]


def test_istioctl_gets_the_chart_and_its_values_as_they_are(plane: ControlPlane, istioctl: Istioctl) -> None:
    values: dict[str, Any] = {"revision": REVISION, "global": {"proxy": {"logLevel": "info"}}}
    rendered(plane, **values)
    assert istioctl.asked["components"]["ztunnel"] == {"enabled": True, "namespace": "istio-system"}
    assert istioctl.asked["unvalidatedValues"] == {
        "ztunnel": {
            "revision": REVISION,
            "global": {"hub": "registry.istio.io/release", "tag": "1.31.1", "proxy": {"logLevel": "info"}},
        }
    }
    rendered(plane, "gateway")
    assert istioctl.asked["unvalidatedValues"]["ztunnel"]["name"] == "mine"  # as the release's name would make it


def test_what_a_chart_refuses_is_one_line(plane: ControlPlane, istioctl: Istioctl) -> None:
    istioctl.answers([], error="values do not\n meet the schema")
    with pytest.raises(SandboxError) as caught:
        rendered(plane)
    assert str(caught.value) == "rendering the chart istiod of the release mine: values do not meet the schema"


def test_objects_and_pods_carry_the_releases_name_and_version(plane: ControlPlane, istioctl: Istioctl) -> None:
    labels = {"app": "istiod", "release": "istio", "app.kubernetes.io/version": "1.0.0", "helm.sh/chart": "x-1.0.0"}
    template = {"metadata": {"labels": {"app.kubernetes.io/instance": "istio"}}, "spec": {}}
    istioctl.answers([item("Deployment", labels, spec={"template": template})])
    made = rendered(plane)["Deployment"]
    assert made["metadata"]["labels"] == {
        "app": "istiod",
        "release": "mine",
        "app.kubernetes.io/version": "1.31.1",
        "helm.sh/chart": "istiod-1.31.1",
    }
    assert made["spec"]["template"] == {"metadata": {"labels": {"app.kubernetes.io/instance": "mine"}}, "spec": {}}


def test_what_pods_need_is_there_before_them(plane: ControlPlane, istioctl: Istioctl) -> None:
    kinds = ["MutatingWebhookConfiguration", "Deployment", "ConfigMap"]
    istioctl.answers([item(kind, webhooks=[]) for kind in kinds])
    assert list(rendered(plane)) == kinds[::-1]


@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
def test_the_api_server_calls_istiod_on_this_machine(plane: ControlPlane, istioctl: Istioctl, kind: str) -> None:
    service = {"service": {"name": "istiod", "path": "/inject"}}
    elsewhere = {"url": "https://example.com/inject"}
    webhooks = [
        {"name": str(n), "failurePolicy": "Fail", "clientConfig": c} for n, c in enumerate((service, elsewhere))
    ]
    istioctl.answers([item(kind, webhooks=webhooks)])
    here, other = rendered(plane)[kind]["webhooks"]
    url = f"https://127.0.0.1:{plane.ports['istiod-webhooks']}/inject"
    assert here["clientConfig"] == {"url": url, "caBundle": plane.certificate_authority}
    assert here["failurePolicy"] == "Fail"
    assert other == webhooks[1]


def test_the_mesh_asks_nothing_that_a_stock_envoy_lacks(plane: ControlPlane, istioctl: Istioctl) -> None:
    istioctl.answers([item("ConfigMap", data={"mesh": MESH, "meshNetworks": "networks: {}"})])
    data = rendered(plane)["ConfigMap"]["data"]
    assert yaml.safe_load(data["mesh"]) == {
        "defaultProviders": {},
        "enableAutoMtls": False,
        "enablePrometheusMerge": True,
    }
    assert data["meshNetworks"] == "networks: {}"


def test_all_of_a_release_comes_and_goes_with_it(plane: ControlPlane, istioctl: Istioctl) -> None:
    istioctl.answers([item("ConfigMap"), item("Deployment", spec={}), item("ClusterRole")])
    fake = FakeApi(plane.kubeconfig)
    api = cast("KubernetesApi", fake)

    def install() -> None:
        install_chart(api, "mine", "istiod", istio.VERSION, namespace="istio-system", values={})

    install()
    assert [kind for kind, _ in fake.held] == ["ConfigMap", "ClusterRole", "Deployment"]
    istioctl.answers([item("ConfigMap")])
    install()
    assert [kind for kind, _ in fake.held] == ["ConfigMap"]
    remove_chart(api, "mine", "istio-system")
    assert not fake.held


class Pods(FakeApi):
    """An API server with a Deployment's pods, of which one goes."""

    def list(self, _: str, kind: str, *, label_selector: str, **__: object) -> list[Manifest]:
        names = {"first": {}, "second": {}, "last": {"deletionTimestamp": "now"}}
        return [item(kind, metadata={"name": name, "namespace": label_selector, **m}) for name, m in names.items()]


WORKLOAD = item("Deployment", metadata={"namespace": "n"}, spec={"selector": {"matchLabels": {"istio": "g"}}})


def test_a_gateways_release_waits_for_its_envoys(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(_: ControlPlane, pods: list[Manifest]) -> str:
        return " ".join(pod["metadata"]["name"] for pod in pods)

    monkeypatch.setattr("sandbox.gateways.lacking", names)
    api = cast("KubernetesApi", Pods(plane.kubeconfig))
    assert CHARTS["gateway"].lacking(api, [item("Service"), WORKLOAD]) == "first second"


def test_istiods_release_waits_for_its_process(plane: ControlPlane) -> None:
    api = cast("KubernetesApi", Pods(plane.kubeconfig))

    def lacks() -> str:
        return CHARTS["istiod"].lacking(api, [item("Service"), WORKLOAD])

    assert lacks() == "no process runs yet: first, second"
    running = {"istio=g/first/discovery": {"pid": 1}, "istio=g/second/discovery": {"pid": None}}
    write_json(plane.containers, running)
    assert lacks() == "no process runs yet: second"
    running["istio=g/second/discovery"] = {"pid": 2}
    write_json(plane.containers, running)
    assert lacks() == ""


def test_istiod_listens_on_loopback_only_and_is_its_service_account(plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = istio.kubeconfig_of_account(plane, tmp_path, tmp_path / "token")
    words, variables = istio.istiod(plane, Path("/istiod"), ["discovery", "--monitoringAddr=:15014"], kubeconfig)
    options = dict(word.split("=", 1) for word in words if word.startswith("--"))
    addresses = {name: value for name, value in options.items() if name.lower().endswith("addr") and value}
    assert len(addresses) == 4
    assert all(address.startswith("127.0.0.1:") for address in addresses.values())
    assert options["--secureGRPCAddr"] == ""
    assert options["--ctrlz_address"] == "127.0.0.1"
    assert variables["KUBECONFIG"] == str(kubeconfig)
    config = yaml.safe_load(kubeconfig.read_text())
    assert config["users"] == [{"name": "account", "user": {"tokenFile": str(tmp_path / "token")}}]
