"""Placeholders ask for what the real add-ons and charts ask for, and for what a configuration makes of it."""

from dataclasses import replace
from typing import Any, cast

import pytest

from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi
from sandbox.placeholders import (
    ADDONS,
    Part,
    Wish,
    addon_is_healthy,
    install,
    install_addon,
    objects,
    remove,
    remove_addon,
)
from tests.unit.fake_api import FakeApi, requested, workloads


@pytest.fixture
def api() -> KubernetesApi:
    return cast("KubernetesApi", FakeApi())


@pytest.mark.parametrize(
    ("addon", "expected"),
    [
        ("vpc-cni", {"aws-node": (50, 0, None)}),
        ("kube-proxy", {"kube-proxy": (100, 0, None)}),
        ("eks-pod-identity-agent", {"eks-pod-identity-agent": (0, 0, None)}),
        ("coredns", {"coredns": (100, 70, 2)}),
        ("aws-ebs-csi-driver", {"ebs-csi-controller": (60, 240, 2), "ebs-csi-node": (30, 120, None)}),
        ("metrics-server", {"metrics-server": (100, 200, 2)}),
    ],
)
def test_an_addon_asks_for_what_the_real_one_asks_for(
    api: KubernetesApi, addon: str, expected: dict[str, tuple[int, int, int | None]]
) -> None:
    found = workloads(install_addon(api, addon, "v1.0.0-eksbuild.1", {}))
    assert {name: (*requested(spec), spec.get("replicas")) for name, spec in found.items()} == expected


def test_every_addon_has_its_expected_requests_tested() -> None:
    assert len(ADDONS) == 6


def test_what_runs_on_every_node_tolerates_every_taint(api: KubernetesApi) -> None:
    for addon in ADDONS:
        for spec in workloads(install_addon(api, addon, "v1", {})).values():
            pod = spec["template"]["spec"]
            everywhere = "replicas" not in spec
            assert ({"operator": "Exists"} in pod["tolerations"]) == everywhere
            assert pod["priorityClassName"] == ("system-node-critical" if everywhere else "system-cluster-critical")


@pytest.mark.parametrize(
    ("addon", "configuration", "expected"),
    [
        ("coredns", {"replicaCount": 1, "resources": {"requests": {"cpu": "50m"}}}, {"coredns": (50, 0, 1)}),
        (
            "aws-ebs-csi-driver",
            {
                "controller": {"replicaCount": 1, "resources": {"requests": {"cpu": "5m"}}},
                "sidecars": {"snapshotter": {"resources": {"requests": {"cpu": "1m"}}}},
            },
            {"ebs-csi-controller": (26, 0, 1), "ebs-csi-node": (30, 120, None)},
        ),
        ("vpc-cni", {"nodeAgent": {"resources": {"requests": {"cpu": "10m"}}}}, {"aws-node": (35, 0, None)}),
        ("metrics-server", {"replicas": 0}, {"metrics-server": (100, 200, 0)}),
    ],
)
def test_an_addons_configuration_is_followed(
    api: KubernetesApi,
    addon: str,
    configuration: dict[str, Any],
    expected: dict[str, tuple[int, int, int | None]],
) -> None:
    found = workloads(install_addon(api, addon, "v1", configuration))
    assert {name: (*requested(spec), spec.get("replicas")) for name, spec in found.items()} == expected


def test_tolerations_and_labels_of_the_configuration_reach_the_pods(api: KubernetesApi) -> None:
    taint = {"key": "dedicated", "operator": "Exists"}
    configuration = {"controller": {"tolerations": [taint], "podLabels": {"team": "platform"}}}
    found = workloads(install_addon(api, "aws-ebs-csi-driver", "v1", configuration))
    template = found["ebs-csi-controller"]["template"]
    assert template["spec"]["tolerations"] == [taint]
    assert template["metadata"]["labels"]["team"] == "platform"
    assert template["metadata"]["labels"].items() >= found["ebs-csi-controller"]["selector"]["matchLabels"].items()


def test_an_unknown_addon_or_setting_is_refused_by_name(api: KubernetesApi) -> None:
    with pytest.raises(SandboxError, match="no stand-in for the add-on aws-efs-csi-driver"):
        install_addon(api, "aws-efs-csi-driver", "v1", {})
    with pytest.raises(SandboxError, match="the add-on coredns has no setting replicas"):
        install_addon(api, "coredns", "v1", {"replicas": 1})


def test_an_addon_is_healthy_when_it_has_its_pods(api: KubernetesApi) -> None:
    install_addon(api, "vpc-cni", "v1", {})
    held = cast("FakeApi", api).held
    held["DaemonSet", "aws-node"] |= {"status": {"observedGeneration": 1}}
    held["DaemonSet", "aws-node"]["metadata"]["generation"] = 1
    assert addon_is_healthy(api, "vpc-cni"), "there is no node"
    held["DaemonSet", "aws-node"]["status"] |= {"desiredNumberScheduled": 2, "numberAvailable": 1}
    assert not addon_is_healthy(api, "vpc-cni")


def test_an_addon_leaves_nothing_behind(api: KubernetesApi) -> None:
    install_addon(api, "coredns", "v1", {})
    install_addon(api, "vpc-cni", "v1", {})
    remove_addon(api, "coredns")
    assert {name for _, name in cast("FakeApi", api).held} == {"aws-node"}


def test_what_a_configuration_does_without_goes_away(api: KubernetesApi) -> None:
    first = Part(name="first", containers=(), replicas=1, budget={"maxUnavailable": 1})
    wish = Wish("chart-it", "kube-system", "1", {})
    install(api, [first, Part(name="second", containers=(), replicas=1)], wish)
    install(api, [replace(first, budget={})], wish)
    assert set(cast("FakeApi", api).held) == {("Deployment", "first")}


def test_what_helm_keeps_stays_and_is_taken_over_by_the_next(api: KubernetesApi) -> None:
    wish = Wish("chart-it", "kube-system", "1", {})
    kept, other = (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": annotations}}
        for name, annotations in (("kept", {"helm.sh/resource-policy": "keep"}), ("other", {"a": "b"}))
    )
    install(api, [], wish, [kept, other])
    held = cast("FakeApi", api).held
    remove(api, wish.owner, wish.namespace)
    assert set(held) == {("ConfigMap", "kept")}
    install(api, [], wish, [{**kept, "data": {"is": "new"}}])
    assert held["ConfigMap", "kept"]["data"] == {"is": "new"}
    install(api, [], wish, [])
    assert set(held) == {("ConfigMap", "kept")}
    assert objects(api, wish.owner, wish.namespace) == []
