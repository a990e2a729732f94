"""The Kubernetes stand-in, between the real engine and a real API server, behaves as the official provider does."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest

from sandbox.errors import SandboxError
from sandbox.kubernetes_api import Manifest
from tests.sandbox.workshop import (
    NAMESPACE,
    Objects,
    Workshop,
    base64_of,
    definitions,
    external_secret,
    manifest,
    opened,
    secret_store,
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with opened(tmp_path_factory.mktemp("state")) as made:
        yield made


def config_map(name: str, **data: str) -> tuple[str, Manifest]:
    """A ConfigMap."""
    return manifest("ConfigMap", name, data=data)


def deployment(name: str, memory: str = "32Mi", app: str = "", **rest: Any) -> tuple[str, Manifest]:
    """A Deployment, which spells some values otherwise than the API server does."""
    labels = {"app": app or name}
    container = {
        "name": "app",
        "image": "example.com/app:v1",
        "env": [{"name": "EMPTY", "value": ""}],
        "resources": {"requests": {"cpu": "0.01", "memory": memory}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template, **rest.pop("spec", {})}
    return manifest("Deployment", name, "apps/v1", spec=spec, **rest)


def test_what_is_deployed_stays_as_it_is(workshop: Workshop) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "static",
        "volumeName": "workshop-data",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "static",
        "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"},
    }
    schema = {"type": "object", "x_kubernetes_preserve_unknown_fields": True}
    definition = {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    }
    identity: Manifest = {"name": "things.example.org"}
    objects: Objects = {
        "definition": (
            "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": identity,
                "spec": definition,
            },
        ),
        "thing": manifest("Thing", "first", "example.org/v1", spec={"anything": [1, 2]}),
        "volume": (
            "kubernetes:core/v1:PersistentVolume",
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "workshop-data"}, "spec": volume},
        ),
        "claim": manifest("PersistentVolumeClaim", "data", spec=claim),
        "secret": manifest("Secret", "credentials", stringData={"password": "hidden words"}),
        "app": deployment("steady"),
        "service": manifest("Service", "steady", spec={"selector": {"app": "steady"}, "ports": [{"port": 80}]}),
        "cron": manifest(
            "CronJob",
            "nightly",
            "batch/v1",
            spec={
                "schedule": "0 3 * * *",
                "jobTemplate": {
                    "spec": {
                        "template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
                    }
                },
            },
        ),
    }
    assert "created" in workshop.up("steady", objects)
    assert workshop.state("steady", "claim")["outputs"]["status"]["phase"] == "Bound"
    assert workshop.state("steady", "app")["outputs"]["status"]["readyReplicas"] == 1
    assert "10 unchanged" in workshop.up("steady", objects)
    assert "10 unchanged" in workshop.refresh("steady", objects)
    assert "10 unchanged" in workshop.preview("steady", objects)
    deployment_text = json.dumps(workshop.state("steady", "secret"))
    assert "hidden words" not in deployment_text
    assert base64_of("hidden words") not in deployment_text
    workshop.destroy("steady")
    for kind in ("Secret", "Service", "PersistentVolumeClaim"):
        assert workshop.api.list("v1", kind, namespace=NAMESPACE) == []
    assert not workshop.api.list("v1", "Pod", namespace=NAMESPACE)


def test_a_preview_of_what_the_same_up_will_make_works_without_it(workshop: Workshop) -> None:
    elsewhere = {"name": "x", "namespace": "not-yet"}
    objects: Objects = {
        "namespace": (
            "kubernetes:core/v1:Namespace",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "not-yet"}},
        ),
        "map": ("kubernetes:core/v1:ConfigMap", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": elsewhere}),
        "thing": (
            "kubernetes:example.com/v1:Gadget",
            {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": elsewhere},
        ),
    }
    assert "5 to create" in workshop.preview("later", objects)


REFUSED: dict[str, tuple[tuple[str, Manifest], str]] = {
    "a misspelt property": (deployment("x", spec={"replica": 1}), "DeploymentSpec has no property replica"),
    "a value that the API server refuses": (
        deployment("x", spec={"strategy": {"type": "Slowly"}}),
        'spec.strategy: Unsupported value: {"Type":"Slowly"',
    ),
    "a name that is none": (manifest("ConfigMap", "Not_A_Name"), "a lowercase RFC 1123 subdomain must consist of"),
    "an object without a name": (
        ("kubernetes:core/v1:ConfigMap", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        "the sandbox wants metadata.name given",
    ),
    "a chart that nobody stands for": (
        (
            "kubernetes:helm.sh/v3:Release",
            {"chart": "nginx", "name": "n", "namespace": NAMESPACE, "version": "1", "compat": "true"},
        ),
        "the sandbox has no stand-in for the chart nginx",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_preview_refuses(workshop: Workshop, case: str) -> None:
    inputs, message = REFUSED[case]
    with pytest.raises(SandboxError):
        workshop.preview("refused", {"it": inputs})
    assert message in workshop.printed


def test_warnings_of_the_api_server_reach_the_user(workshop: Workshop) -> None:
    annotations = {"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}
    _, inputs = deployment("warned")
    inputs["spec"]["template"]["metadata"]["annotations"] = annotations
    printed = workshop.preview("warned", {"it": ("kubernetes:apps/v1:Deployment", inputs)})
    assert (
        "warning: spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional"
        in printed
    )


def test_a_change_updates_and_one_that_cannot_be_made_replaces(workshop: Workshop) -> None:
    workshop.up("changed", {"app": deployment("changed")})
    first = workshop.get("Deployment", "changed", "apps/v1")
    assert "1 updated" in workshop.up("changed", {"app": deployment("changed", memory="48Mi")})
    assert workshop.get("Deployment", "changed", "apps/v1")["metadata"]["uid"] == first["metadata"]["uid"]
    assert "1 replaced" in workshop.up("changed", {"app": deployment("changed", memory="48Mi", app="other")})
    second = workshop.get("Deployment", "changed", "apps/v1")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert workshop.state("changed", "app")["id"] == f"{NAMESPACE}/changed"


def test_drift_is_found_by_a_refresh_and_is_a_conflict_unless_forced(workshop: Workshop) -> None:
    forced = manifest(
        "ConfigMap", "forced", data={"a": "1"}, metadata={"annotations": {"pulumi.com/patchForce": "true"}}
    )
    objects: Objects = {"kept": config_map("kept", a="1"), "forced": forced}
    workshop.up("drift", objects)
    for name in ("kept", "forced"):
        workshop.api.patch("v1", "ConfigMap", name, {"data": {"a": "2"}}, namespace=NAMESPACE, field_manager="me")
    assert "2 updated" in workshop.refresh("drift", objects)
    with pytest.raises(SandboxError, match=r'conflict with "me" using v1: \.data\.a; leave those fields to them'):
        workshop.preview("drift", objects)
    assert "1 updated" in workshop.up("drift", {"forced": forced, "kept": config_map("kept", a="2")})
    assert workshop.get("ConfigMap", "forced")["data"] == {"a": "1"}


def test_ignored_fields_stay_with_who_changed_them(workshop: Workshop) -> None:
    ignore = {"app": ["spec.replicas"], "secret": ["data"]}

    def objects(label: str) -> Objects:
        metadata = {"labels": {"label": label}}
        return {
            "app": deployment("ignored", spec={"replicas": 1}, metadata=metadata),
            "secret": manifest("Secret", "ignored", data={"a": base64_of(label), "b": "Yg=="}, metadata=metadata),
        }

    workshop.up("ignored", objects("one"), ignore=ignore)
    workshop.api.patch("apps/v1", "Deployment", "ignored", {"spec": {"replicas": 2}}, namespace=NAMESPACE)
    rotated = {"apiVersion": "v1", "kind": "Secret", "data": {"a": base64_of("rotated")}}
    metadata = {"name": "ignored", "namespace": NAMESPACE}
    workshop.api.apply({**rotated, "metadata": metadata}, field_manager="external-secrets", force=True)
    assert "2 updated" in workshop.up("ignored", objects("two"), ignore=ignore)
    assert workshop.get("Deployment", "ignored", "apps/v1")["spec"]["replicas"] == 2
    assert workshop.get("Secret", "ignored")["data"] == {"a": base64_of("rotated"), "b": "Yg=="}


def test_what_does_not_become_ready_says_why_and_is_gone_on_with(workshop: Workshop) -> None:
    short = {"annotations": {"pulumi.com/timeoutSeconds": "10"}}  # long enough for the scheduler's word
    with pytest.raises(
        SandboxError, match=r"it is there, and not ready: 0 of 1 pods are ready; 0/1 nodes are available"
    ):
        workshop.up("unready", {"app": deployment("unready", memory="64Gi", metadata=short)})
    assert "1 updated" in workshop.up("unready", {"app": deployment("unready")})
    assert workshop.state("unready", "app").get("initErrors", []) == []


def test_an_object_of_somebody_elses_is_not_taken_over(workshop: Workshop) -> None:
    _, theirs = config_map("theirs", a="1")
    workshop.api.apply(theirs)
    with pytest.raises(SandboxError, match="it exists already and is not this stack's"):
        workshop.up("theirs", {"it": config_map("theirs", a="2")})
    assert workshop.get("ConfigMap", "theirs")["data"] == {"a": "1"}


def test_a_deletion_waits_for_finalizers(workshop: Workshop) -> None:
    _, held = config_map("held")
    objects: Objects = {
        "it": manifest("ConfigMap", "held", metadata={"annotations": {"pulumi.com/timeoutSeconds": "2"}})
    }
    workshop.up("held", objects)
    workshop.api.patch(
        "v1",
        "ConfigMap",
        held["metadata"]["name"],
        {"metadata": {"finalizers": ["example.org/keep"]}},
        namespace=NAMESPACE,
    )
    with pytest.raises(SandboxError, match=r"it is still there, waiting for example\.org/keep; waited 2 s"):
        workshop.destroy("held")
    workshop.api.patch("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}}, namespace=NAMESPACE)
    workshop.destroy("held")


def test_a_release_is_recorded_as_helm_records_it_and_brings_the_charts_pods(workshop: Workshop) -> None:
    def objects(replicas: int) -> Objects:
        inputs = {
            "chart": "cluster-autoscaler",
            "name": "scaler",
            "namespace": "kube-system",
            "version": "9.50.0",
            "values": {"replicaCount": replicas, "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}}},
            "compat": "true",
        }
        return {"release": ("kubernetes:helm.sh/v3:Release", inputs)}

    workshop.up("release", objects(1))
    assert workshop.state("release", "release")["outputs"]["status"]["status"] == "deployed"
    assert "3 unchanged" in workshop.up("release", objects(1))
    assert "1 updated" in workshop.up("release", objects(2))
    name = "scaler-aws-cluster-autoscaler"
    scaler = workshop.api.get("apps/v1", "Deployment", name, "kube-system")
    assert scaler is not None
    assert scaler["status"]["readyReplicas"] == 2
    (record,) = workshop.api.list("v1", "Secret", namespace="kube-system", label_selector="owner=helm,name=scaler")
    assert record["metadata"]["name"] == "sh.helm.release.v1.scaler.v2"
    workshop.destroy("release")
    assert workshop.api.get("apps/v1", "Deployment", name, "kube-system") is None
    assert workshop.api.list("v1", "Secret", namespace="kube-system", label_selector="owner=helm") == []


def test_a_secret_that_is_looked_up_is_as_it_is_now_and_stays_secret(workshop: Workshop) -> None:
    objects: Objects = {"secret": manifest("Secret", "live", data={"password": base64_of("hidden words")})}
    ignore = {"secret": ["data"]}

    def copied(cluster: pulumi.ProviderResource, made: Mapping[str, pulumi.CustomResource]) -> None:
        from pulumi_kubernetes.core.v1 import Secret

        options = pulumi.ResourceOptions(provider=cluster)
        found = Secret.get("found", made["secret"].id, opts=options)
        type, copy = manifest("Secret", "copy", data={"password": found.data["password"]})
        pulumi.CustomResource(type, "copy", copy, options)
        pulumi.export("password", found.data["password"])

    def deploy() -> str:
        return workshop.up("looked-up", objects, ignore=ignore, then=copied)

    assert "4 to create" in workshop.preview("looked-up", objects, then=copied)
    assert "password: [secret]" in deploy()
    assert "4 unchanged" in deploy()
    rotated = {"data": {"password": base64_of("rotated words")}}
    workshop.api.patch("v1", "Secret", "live", rotated, namespace=NAMESPACE, field_manager="external-secrets")
    assert "1 updated" in deploy()
    assert workshop.get("Secret", "copy")["data"] == rotated["data"]
    for name in ("secret", "found", "copy"):
        text = json.dumps(workshop.state("looked-up", name))
        assert not any(base64_of(words) in text for words in ("hidden words", "rotated words")), name
    workshop.destroy("looked-up")


def test_a_secret_that_is_looked_up_and_missing_is_named(workshop: Workshop) -> None:
    def missing(cluster: pulumi.ProviderResource, _: Mapping[str, pulumi.CustomResource]) -> None:
        from pulumi_kubernetes.core.v1 import Secret

        Secret.get("found", f"{NAMESPACE}/nowhere", opts=pulumi.ResourceOptions(provider=cluster))

    workshop.up("missing", {})
    with pytest.raises(SandboxError, match="resource 'workshop/nowhere' does not exist"):
        workshop.preview("missing", {}, then=missing)


CUSTOM_KINDS = ("externalsecrets", "generatorstates", "secretstores")


def test_custom_resources_come_with_the_release_that_defines_them_and_go_with_it(workshop: Workshop) -> None:
    def objects(interval: str) -> Objects:
        return {
            "definitions": definitions("kinds"),
            "store": secret_store(),
            "secret": external_secret("database", "password", interval=interval),
        }

    def defined() -> list[str]:
        found = workshop.api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        return sorted(item["metadata"]["name"].partition(".")[0] for item in found)

    assert defined() == []
    assert "5 to create" in workshop.preview("custom", objects("15s"))
    workshop.up("custom", objects("15s"))
    assert defined() == sorted(CUSTOM_KINDS)
    release = workshop.state("custom", "definitions")["outputs"]
    assert len(release["resourceNames"]["CustomResourceDefinition/apiextensions.k8s.io/v1"]) == len(CUSTOM_KINDS)
    for what in (workshop.preview, workshop.up, workshop.refresh):
        assert "5 unchanged" in what("custom", objects("15s"))
    live = workshop.get("ExternalSecret", "database", "external-secrets.io/v1")
    assert live["spec"]["data"][0]["remoteRef"]["decodingStrategy"] == "None", "the API server adds defaults"
    assert "1 updated" in workshop.up("custom", objects("30s"))
    patch = {"spec": {"refreshInterval": "1m0s"}}
    workshop.api.patch("external-secrets.io/v1", "ExternalSecret", "database", patch, namespace=NAMESPACE)
    assert "1 updated" in workshop.refresh("custom", objects("30s"))
    with pytest.raises(SandboxError, match=r"conflict with \"sandbox\".*\.spec\.refreshInterval"):
        workshop.preview("custom", objects("30s"))
    misspelt = external_secret("database", "password")
    misspelt[1]["spec"]["target"]["creationPolice"] = "Merge"
    with pytest.raises(SandboxError, match="field not declared in schema"):
        workshop.preview("custom", {**objects("30s"), "secret": misspelt})
    workshop.destroy("custom")
    assert defined() == []


def test_values_of_a_release_that_the_sandbox_cannot_stand_for_are_refused(workshop: Workshop) -> None:
    with pytest.raises(SandboxError):
        workshop.preview("refused", {"it": definitions("kinds", webhook={"create": True})})
    assert "values.webhook.create" in workshop.printed
    assert "the sandbox does not run the webhook" in workshop.printed
