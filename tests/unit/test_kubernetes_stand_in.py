"""The stand-in for pulumi-kubernetes: what it refuses, what it replaces, what it takes for drift."""

import json
import socket
import threading
from http import HTTPStatus
from typing import Any, cast

import pytest
from pulumi.runtime.rpc import UNKNOWN

from sandbox.control_plane import ControlPlanes
from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError, Manifest, NoSuchKindError
from sandbox.providers.errors import NotReadyError, ProviderError
from sandbox.providers.kubernetes.cluster import Cluster
from sandbox.providers.kubernetes.kubernetes_object import KubernetesObject
from sandbox.providers.kubernetes.provider import KubernetesProvider
from sandbox.providers.kubernetes.readiness import Waiting, lacking
from sandbox.providers.kubernetes.release import RELEASE, Release
from sandbox.providers.kubernetes.trees import ABSENT, differences, lies_on, read_back, renamed, with_value
from sandbox.providers.provider import Call, Diff
from sandbox.providers.wire import Properties

URN = "urn:pulumi:dev::pyairtable::{type}::it"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SECRET = "kubernetes:core/v1:Secret"  # noqa: S105 — a type
CUSTOM = "kubernetes:example.org/v1:Thing"
"""A kind that nothing waits for."""


class FakeApi:
    """Answers as an API server that holds one object at most."""

    def __init__(self, live: Manifest | None = None, refusal: KubernetesApiError | None = None) -> None:
        self.live = live
        self.refusal = refusal
        self.applied: list[tuple[Manifest, dict[str, Any]]] = []

    def get(self, *_: object) -> Manifest | None:
        return self.live

    def list(self, *_: object, **__: object) -> list[Manifest]:
        return []

    def apply(self, manifest: Manifest, **options: Any) -> Manifest:
        if self.refusal:
            raise self.refusal
        self.applied.append((manifest, options))
        computed = {"uid": "1", "resourceVersion": "2", "generation": 1, "managedFields": [{}]}
        return {**manifest, "metadata": {**manifest["metadata"], **computed}, "status": {"phase": "made up"}}


def resource(
    type: str, api: FakeApi | None = None, options: dict[str, str] | None = None, **call: Any
) -> KubernetesObject:
    """The stand-in for one object."""
    cluster = Cluster(url="https://cluster", api=cast("KubernetesApi | None", api), options=options or {})
    return KubernetesObject(cluster, Call(urn=URN.format(type=type), **call))


def thing(kind: str = "ConfigMap", api_version: str = "v1", **rest: Any) -> Properties:
    """Inputs of an object."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, **rest}


# Trees


def test_differences_are_told_by_their_paths() -> None:
    old = {"a": {"b": [1, {"c": 2}], "gone": 1}, "same": []}
    new = {"a": {"b": [1, {"c": 3}, 4], "x.y/z": 5}, "same": []}
    assert dict(differences(old, new)) == {
        "a.b[1].c": Diff.UPDATE,
        "a.b[2]": Diff.ADD,
        "a.gone": Diff.DELETE,
        'a["x.y/z"]': Diff.ADD,
    }


@pytest.mark.parametrize(
    ("path", "other", "lies"),
    [
        ("spec.selector", "spec.selector", True),
        ("spec.selector.matchLabels.app", "spec.selector", True),
        ("spec", "spec.selector", True),
        ("spec.containers[0].image", "spec.containers", True),
        ("spec.selectors", "spec.selector", False),
        ("spec.template", "spec.selector", False),
    ],
)
def test_a_path_lies_on_another_where_one_contains_the_other(path: str, other: str, lies: bool) -> None:
    assert lies_on(path, other) == lies


READ_BACK: dict[str, tuple[Any, Any, Any, Any]] = {
    "the API server spells it otherwise": ({"cpu": "1000m"}, {"cpu": "1"}, {"cpu": "1"}, {"cpu": "1000m"}),
    "it was changed": ({"cpu": "1000m"}, {"cpu": "1"}, {"cpu": "2"}, {"cpu": "2"}),
    "it was taken away": ({"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1}),
    "it is never told again": ({"stringData": {"p": "x"}}, {"data": 1}, {"data": 2}, {"stringData": {"p": "x"}}),
    "an empty value is not kept": (
        [{"name": "A", "value": ""}],
        [{"name": "A"}],
        [{"name": "A"}],
        [{"name": "A", "value": ""}],
    ),
    "others added to a map": ({"a": 1}, {"a": 1}, {"a": 1, "theirs": 2}, {"a": 1}),
    "others added to a list": (
        [{"name": "a", "v": 1}],
        [{"name": "a", "v": 1}],
        [{"name": "b"}, {"name": "a", "v": 2}],
        [{"name": "a", "v": 2}],
    ),
    "a list became shorter": ([1, 2], [1, 2], [1], [1]),
    "a default came along": ([{"name": "c"}], [{"name": "c", "d": 0}], [{"name": "c", "d": 1}], [{"name": "c"}]),
}


@pytest.mark.parametrize("case", READ_BACK)
def test_what_is_read_back_is_what_was_asked_for_but_for_what_has_changed(case: str) -> None:
    wanted, before, live, expected = READ_BACK[case]
    assert read_back(wanted, before, live) == expected


def test_a_value_is_set_or_removed_at_a_path_in_a_copy() -> None:
    tree = {"spec": {"replicas": 1}}
    assert with_value(tree, "spec.replicas", 3) == {"spec": {"replicas": 3}}
    assert with_value(tree, "spec.replicas", ABSENT) == {"spec": {}}
    assert with_value(tree, "status", UNKNOWN) == {"spec": {"replicas": 1}, "status": UNKNOWN}
    assert tree == {"spec": {"replicas": 1}}


def test_names_of_crd_schemas_are_spelled_with_dashes_in_the_cluster() -> None:
    sdk = {"a_b": [{"x_kubernetes_int_or_string": True}]}
    cluster = {"a_b": [{"x-kubernetes-int-or-string": True}]}
    assert renamed(sdk, "_", "-") == cluster
    assert renamed(cluster, "-", "_") == sdk


# What is refused

POD = {"containers": [{"name": "c", "image": "i"}]}
SPEC = {"selector": {}, "template": {"spec": POD}}

REFUSED: dict[str, tuple[str, Properties, str]] = {
    "a misspelt property": (CONFIG_MAP, thing(dat={}), "has no property dat; did you mean data?"),
    "a misspelt property at depth": (
        DEPLOYMENT,
        thing("Deployment", "apps/v1", spec={**SPEC, "replica": 1}),
        "DeploymentSpec has no property replica; did you mean replicas?",
    ),
    "a misspelt property in a list": (
        DEPLOYMENT,
        thing(
            "Deployment", "apps/v1", spec={**SPEC, "template": {"spec": {"containers": [{"nam": "c", "name": "c"}]}}}
        ),
        "Container has no property nam; did you mean name?",
    ),
    "a value of the wrong type": (
        DEPLOYMENT,
        thing("Deployment", "apps/v1", spec={**SPEC, "replicas": "one"}),
        "must be a int, not 'one'",
    ),
    "another version of the kind": (CONFIG_MAP, thing(api_version="v2"), "must be 'v1', not 'v2'"),
    "an object without a name": (
        CONFIG_MAP,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n"}},
        "the sandbox wants metadata.name given",
    ),
    "an annotation that would be ignored": (
        CONFIG_MAP,
        {**thing(), "metadata": {"name": "x", "annotations": {"pulumi.com/replaceUnready": "true"}}},
        "does not do the annotation pulumi.com/replaceUnready",
    ),
    "a wait that would be ignored": (
        CONFIG_MAP,
        {**thing(), "metadata": {"name": "x", "annotations": {"pulumi.com/waitFor": "jsonpath={.data}"}}},
        "does condition=TYPE and condition=TYPE=STATUS only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_are_refused(case: str) -> None:
    type, inputs, message = REFUSED[case]
    assert any(message in reason for _, reason in resource(type).problems(inputs))


def test_a_secret_value_of_the_wrong_type_is_refused_without_being_shown() -> None:
    ((path, reason),) = resource(SECRET).problems(thing("Secret", data={"pin": 4711}))
    assert (path, reason) == ("data.pin", "data.pin is secret, and of the wrong type")


@pytest.mark.parametrize(
    ("type", "message"),
    [
        ("kubernetes:core/v1:ConfigMapPatch", "no stand-in for kubernetes:core/v1:ConfigMapPatch; use the kind itself"),
        ("kubernetes:core/v1:ConfigMapList", "use the kind itself"),
        ("kubernetes:core/v1:ConfigMop", "the SDK has no resource kubernetes:core/v1:ConfigMop"),
        ("kubernetes:networking.k8s.io/v1:NetworkPolicies", "the SDK has no resource"),
    ],
)
def test_types_are_refused(type: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message):
        resource(type).problems(thing())


ACCEPTED: dict[str, Properties] = {
    "kubernetes:core/v1:Secret": thing("Secret", stringData={"a": "b"}, type="Opaque"),
    "kubernetes:apps/v1:Deployment": thing("Deployment", "apps/v1", spec=SPEC),
    "kubernetes:rbac.authorization.k8s.io/v1:Role": thing("Role", "rbac.authorization.k8s.io/v1", rules=[]),
    "kubernetes:external-secrets.io/v1:ExternalSecret": thing(
        "ExternalSecret", "external-secrets.io/v1", spec={"anything": [1]}
    ),
    "kubernetes:external-secrets.io/v1:SecretStore": {
        **thing("SecretStore", "external-secrets.io/v1", spec={"provider": {"aws": {"region": UNKNOWN}}}),
        "metadata": {"name": "x", "annotations": {"pulumi.com/waitFor": "condition=Ready"}},
    },
    "kubernetes:networking.k8s.io/v1:NetworkPolicy": thing(
        "NetworkPolicy",
        "networking.k8s.io/v1",
        spec={"ingress": [{"ports": [{"port": 80}, {"port": "http"}]}], "podSelector": UNKNOWN},
    ),
}


@pytest.mark.parametrize("type", ACCEPTED)
def test_what_the_sdk_makes_is_accepted(type: str) -> None:
    assert resource(type).problems(ACCEPTED[type]) == []


# What a change means

REPLACED: dict[str, tuple[str, Properties, Properties, bool]] = {
    "a Deployment's image": (
        DEPLOYMENT,
        {"spec": SPEC},
        {"spec": {**SPEC, "template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}},
        False,
    ),
    "a Deployment's selector": (
        DEPLOYMENT,
        {"spec": SPEC},
        {"spec": {**SPEC, "selector": {"matchLabels": {"a": "b"}}}},
        True,
    ),
    "a namespace": (CONFIG_MAP, {}, {"metadata": {"name": "x", "namespace": "other"}}, True),
    "a label": (CONFIG_MAP, {}, {"metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"}}}, False),
    "a claim's size": (
        "kubernetes:core/v1:PersistentVolumeClaim",
        {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
        {"spec": {"resources": {"requests": {"storage": "2Gi"}}}},
        False,
    ),
    "a claim's volume": (
        "kubernetes:core/v1:PersistentVolumeClaim",
        {"spec": {"volumeName": "a"}},
        {"spec": {"volumeName": "b"}},
        True,
    ),
    "a volume's source": (
        "kubernetes:core/v1:PersistentVolume",
        {"spec": {"csi": {"volumeHandle": "vol-1"}}},
        {"spec": {"csi": {"volumeHandle": "vol-2"}}},
        True,
    ),
    "a role's binding": (
        "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
        {"roleRef": {"name": "a"}},
        {"roleRef": {"name": "b"}},
        True,
    ),
    "a job's template": ("kubernetes:batch/v1:Job", {"spec": {}}, {"spec": {"template": {"spec": POD}}}, True),
    "a Service's address": ("kubernetes:core/v1:Service", {"spec": {}}, {"spec": {"clusterIP": "None"}}, True),
    "a StatefulSet's claims": (
        "kubernetes:apps/v1:StatefulSet",
        {"spec": {}},
        {"spec": {"volumeClaimTemplates": [{}]}},
        True,
    ),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_change_replaces_where_the_cluster_cannot_make_it(case: str) -> None:
    type, old, new, replaced = REPLACED[case]
    kind = type.rpartition(":")[2]
    comparison = resource(type).compare({**thing(kind), **old}, {**thing(kind), **new}, {})
    assert bool(comparison.replacing) == replaced


def test_the_old_object_goes_first_where_the_new_one_has_its_name() -> None:
    old = thing(spec={"selector": 1})
    assert resource(DEPLOYMENT).compare(old, thing(spec={"selector": 2}), {}).delete_first
    elsewhere = {**old, "metadata": {"name": "x", "namespace": "other"}}
    assert not resource(DEPLOYMENT).compare(old, elsewhere, {}).delete_first


@pytest.mark.parametrize(
    ("options", "immutable", "replaced"),
    [({}, False, True), ({"enableSecretMutable": "true"}, False, False), ({"enableSecretMutable": "true"}, True, True)],
)
def test_content_of_a_secret_replaces_it_unless_the_provider_says_otherwise(
    options: dict[str, str], immutable: bool, replaced: bool
) -> None:
    old, new = (thing("Secret", data={"a": value}, immutable=immutable) for value in ("1", "2"))
    assert bool(resource(SECRET, options=options).compare(old, new, {}).replacing) == replaced


# Previews


def test_a_preview_knows_what_a_dry_run_says_and_not_what_only_the_cluster_computes() -> None:
    api = FakeApi()
    planned = resource(CONFIG_MAP, api).plan(thing(data={"a": "b"}))
    assert planned["data"] == {"a": "b"}
    assert planned["status"] == planned["metadata"]["uid"] == planned["metadata"]["resourceVersion"] == UNKNOWN
    assert "managedFields" not in planned["metadata"]
    (_, options) = api.applied[0]
    assert options["dry_run"]


def test_a_preview_does_not_believe_an_address_that_a_dry_run_has_made_up() -> None:
    service = "kubernetes:core/v1:Service"
    planned = resource(service, FakeApi()).plan(thing("Service", spec={"ports": []}))
    assert planned["spec"]["clusterIP"] == UNKNOWN
    given = resource(service, FakeApi()).plan(thing("Service", spec={"clusterIP": "None"}))
    assert given["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("inputs", "refusal"),
    [
        (thing(data={"a": UNKNOWN}), None),
        (thing(), KubernetesApiError('namespaces "n" not found', HTTPStatus.NOT_FOUND, "NotFound")),
        (thing(), NoSuchKindError("the cluster has no kind ConfigMap", HTTPStatus.NOT_FOUND)),
        (thing(), KubernetesApiError("it is being terminated", HTTPStatus.FORBIDDEN, "Forbidden")),
        (thing(), KubernetesApiError("spec.selector: field is immutable", HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid")),
    ],
    ids=[
        "an unknown value",
        "no namespace yet",
        "no such kind yet",
        "a namespace on its way out",
        "an object that is to be replaced",
    ],
)
def test_a_preview_falls_back_to_the_inputs(inputs: Properties, refusal: KubernetesApiError | None) -> None:
    api = FakeApi(refusal=refusal)
    planned = resource(CONFIG_MAP, api).plan(inputs)
    assert planned["status"] == UNKNOWN
    assert {key: planned[key] for key in inputs if key != "metadata"} == {
        k: v for k, v in inputs.items() if k != "metadata"
    }
    assert api.applied == []


def test_a_preview_fails_where_the_api_server_refuses() -> None:
    refusal = KubernetesApiError("spec.strategy: Unsupported value", HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid")
    with pytest.raises(KubernetesApiError, match="Unsupported value"):
        resource(CONFIG_MAP, FakeApi(refusal=refusal)).plan(thing())


# Applying


def test_an_object_that_exists_already_is_not_taken_over() -> None:
    with pytest.raises(ProviderError, match="it exists already"):
        resource(CONFIG_MAP, FakeApi(thing())).create(thing())
    id, _ = resource(CONFIG_MAP, FakeApi(thing()), {"upsertExistingObjects": "true"}).create(thing())
    assert id == "n/x"


@pytest.mark.parametrize(("annotations", "forced"), [({}, False), ({"pulumi.com/patchForce": "true"}, True)])
def test_fields_of_others_are_taken_by_force_only_where_it_is_asked_for(
    annotations: dict[str, str], forced: bool
) -> None:
    api = FakeApi()
    resource(CONFIG_MAP, api).create({**thing(), "metadata": {"name": "x", "annotations": annotations}})
    (_, options) = api.applied[0]
    assert options["force"] == forced


def test_a_conflict_says_how_to_mend_it() -> None:
    refusal = KubernetesApiError('conflict with "hpa": .spec.replicas', HTTPStatus.CONFLICT, "Conflict")
    with pytest.raises(ProviderError, match=r"\.spec\.replicas; leave those fields to them, or set the annotation"):
        resource(DEPLOYMENT, FakeApi(refusal=refusal)).create(thing("Deployment", "apps/v1", spec=SPEC))


@pytest.mark.parametrize(
    ("manager", "sent"),
    [("horizontal-pod-autoscaler", {"spec": {"paused": False}}), ("ours", {"spec": {"paused": False, "replicas": 4}})],
)
def test_an_ignored_field_is_left_to_who_owns_it_and_as_it_is(manager: str, sent: dict[str, Any]) -> None:
    owned = {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    live = thing(spec={"replicas": 4})
    live["metadata"]["managedFields"] = [owned]
    api = FakeApi(live)
    wanted = thing("Thing", "example.org/v1", spec={"replicas": 1, "paused": False})
    resource(CUSTOM, api, ignored=("spec.replicas",)).update("n/x", {}, wanted, {"__fieldManager": "ours"})
    (manifest, _) = api.applied[0]
    assert manifest["spec"] == sent["spec"]


def test_what_does_not_become_ready_is_kept_and_says_what_it_lacks() -> None:
    type = "kubernetes:core/v1:PersistentVolumeClaim"
    api = FakeApi()
    inputs = thing("PersistentVolumeClaim", spec={})
    inputs["metadata"]["annotations"] = {"pulumi.com/timeoutSeconds": "0.1"}
    with pytest.raises(NotReadyError, match=r"it is there, and not ready: the claim is made up, not Bound") as failed:
        resource(type, api).create(inputs)
    assert failed.value.id == "n/x"
    assert failed.value.state["metadata"]["uid"] == "1"


def test_nothing_is_waited_for_where_that_is_asked_for() -> None:
    inputs = thing("PersistentVolumeClaim", spec={})
    inputs["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    resource("kubernetes:core/v1:PersistentVolumeClaim", FakeApi()).create(inputs)


WAITED_FOR: dict[str, tuple[str, list[Manifest], str]] = {
    "its controller has not seen it": ("condition=Ready", [], "it has no condition Ready yet"),
    "it is not ready": (
        "condition=Ready",
        [{"type": "Ready", "status": "False", "message": "could not get secret data from provider"}],
        "Ready is False: could not get secret data from provider",
    ),
    "it is in another state": (
        "condition=Ready=False",
        [{"type": "Ready", "status": "True", "message": "all is well"}],
        "Ready is True: all is well",
    ),
    "it is ready": ("condition=Ready", [{"type": "Ready", "status": "True"}], ""),
    "it is as it should be": ("condition=Degraded=False", [{"type": "Degraded", "status": "False"}], ""),
}


@pytest.mark.parametrize("case", WAITED_FOR)
def test_a_condition_is_waited_for_where_that_is_asked_for(case: str) -> None:
    awaited, conditions, lacks = WAITED_FOR[case]
    inputs = thing("Thing", "example.org/v1", spec={})
    inputs["metadata"]["annotations"] = {"pulumi.com/waitFor": awaited, "pulumi.com/timeoutSeconds": "0.1"}
    api = FakeApi({**inputs, "status": {"conditions": conditions}})
    if not lacks:
        resource(CUSTOM, api, {"upsertExistingObjects": "true"}).create(inputs)
        return
    with pytest.raises(NotReadyError, match=f"it is there, and not ready: {lacks}"):
        resource(CUSTOM, api, {"upsertExistingObjects": "true"}).create(inputs)


def test_an_interrupt_ends_the_waiting() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ProviderError, match="interrupted while waiting: for ever"):
        Waiting("it", 600, cancelled).until_empty(lambda: "for ever")


def test_in_a_cluster_that_is_gone_everything_is_gone() -> None:
    gone = resource(CONFIG_MAP)
    assert gone.read("n/x", thing(), {}) is None
    gone.delete("n/x", thing(), {})
    with pytest.raises(ProviderError, match="the sandbox has no cluster at https://cluster; run a refresh"):
        gone.create(thing())


def test_an_import_leaves_out_what_only_the_cluster_knows() -> None:
    live = thing(data={"a": "b"}, status={})
    live["metadata"] |= {"uid": "1", "resourceVersion": "2", "creationTimestamp": "now", "generation": 1}
    found = resource(CONFIG_MAP, FakeApi(live)).read("n/x", {}, {})
    assert found is not None
    assert found[0] == thing(data={"a": "b"})


def test_a_secret_that_is_looked_up_is_as_it_is_now_and_secret() -> None:
    live = thing("Secret", data={"password": "bmV3"}, type="Opaque")
    looked_up = resource(SECRET, FakeApi(live))
    found = looked_up.read("n/x", {}, {})
    assert found is not None
    inputs, state = found
    assert inputs["data"] == state["data"] == {"password": "bmV3"}
    assert set(looked_up.secrets) == {"data", "stringData"}
    assert resource(SECRET, FakeApi()).read("n/x", {}, {}) is None


# Readiness


def deployment(**status: Any) -> Manifest:
    """A Deployment of two that its controller has seen."""
    conditions = [
        {"type": "Available", "status": "True"},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
    ]
    base = {"observedGeneration": 2, "updatedReplicas": 2, "readyReplicas": 2, "conditions": conditions}
    made = thing("Deployment", "apps/v1", spec={"replicas": 2, "selector": {}}, status={**base, **status})
    made["metadata"]["generation"] = 2
    return made


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        ({}, ""),
        ({"observedGeneration": 1}, "its controller has not seen it yet"),
        ({"readyReplicas": 1}, "1 of 2 pods are ready"),
        ({"updatedReplicas": 0}, "0 of 2 pods are ready"),
    ],
)
def test_a_deployment_is_ready_when_its_newest_pods_are(status: dict[str, Any], lacks: str) -> None:
    assert lacking(cast("KubernetesApi", FakeApi()), deployment(**status)) == lacks


def test_a_definition_is_ready_when_the_api_server_serves_it() -> None:
    definition = thing("CustomResourceDefinition", "apiextensions.k8s.io/v1", status={"conditions": None})
    api = cast("KubernetesApi", FakeApi())
    assert lacking(api, definition) == "the API server does not serve it yet"
    definition["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    assert lacking(api, definition) == ""


def test_a_webhook_is_ready_when_something_answers_where_it_is_called() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        webhooks = [
            {"name": "there", "clientConfig": {"service": {"name": "s"}}},
            {"name": "here", "clientConfig": {"url": f"https://127.0.0.1:{port}/inject"}},
        ]
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        live: Manifest = {**kind, "metadata": {"name": "w"}, "webhooks": webhooks}
        assert lacking(cast("KubernetesApi", FakeApi()), live) == ""
    assert lacking(cast("KubernetesApi", FakeApi()), live) == "nothing answers the webhook here yet"


def test_a_kind_with_nothing_to_wait_for_is_ready() -> None:
    assert lacking(cast("KubernetesApi", FakeApi()), thing()) == ""


# The provider and releases


def kubeconfig(server: str) -> str:
    """A kubeconfig as the EKS component makes it."""
    return json.dumps(
        {
            "current-context": "aws",
            "contexts": [{"name": "aws", "context": {"cluster": "kubernetes", "user": "aws"}}],
            "clusters": [{"name": "kubernetes", "cluster": {"server": server}}],
        }
    )


HERE, THERE = kubeconfig("https://127.0.0.1:1"), kubeconfig("https://127.0.0.1:2")


@pytest.mark.parametrize(
    ("olds", "news", "replaced"),
    [
        ({"kubeconfig": HERE}, {"kubeconfig": THERE}, True),
        ({"kubeconfig": HERE}, {"kubeconfig": HERE.replace("aws", "user")}, False),
        ({"kubeconfig": HERE}, {"kubeconfig": UNKNOWN}, True),
        ({"kubeconfig": HERE, "clusterIdentifier": "a"}, {"kubeconfig": UNKNOWN, "clusterIdentifier": "a"}, False),
        ({"kubeconfig": HERE, "clusterIdentifier": "a"}, {"kubeconfig": THERE, "clusterIdentifier": "a"}, False),
        ({"kubeconfig": HERE, "clusterIdentifier": "a"}, {"kubeconfig": HERE, "clusterIdentifier": "b"}, True),
    ],
)
def test_another_cluster_replaces_everything_and_the_identifier_tells(
    olds: Properties, news: Properties, replaced: bool
) -> None:
    provider = KubernetesProvider(cast("ControlPlanes", None), "pyairtable-dev", version="4")
    comparison = provider.compare_options(olds, news)
    assert bool(comparison.changed.keys() & comparison.replacing) == replaced


@pytest.mark.parametrize("options", [{}, {"kubeconfig": "/home/me/.kube/config"}, {"kubeconfig": "{}"}])
def test_a_kubeconfig_that_is_none_is_refused(options: Properties) -> None:
    provider = KubernetesProvider(cast("ControlPlanes", None), "pyairtable-dev", version="4")
    with pytest.raises(ProviderError, match="give its content, not the path of a file"):
        provider.connect(options)


def release() -> Release:
    """The stand-in for a Helm release."""
    return Release(Cluster(url="", api=None, options={}), Call(urn=URN.format(type=RELEASE)))


CHART = {"chart": "cluster-autoscaler", "name": "a", "namespace": "kube-system", "version": "9.50.0"}


def test_a_release_of_a_known_chart_is_accepted() -> None:
    assert release().problems({**CHART, "compat": "true", "values": {"replicaCount": 1}}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atomic": True}, "does not do atomic"),
        ({"versionn": "1"}, "has no property versionn; did you mean version?"),
        ({"version": None}, "the sandbox wants version given"),
    ],
)
def test_a_release_is_refused(change: dict[str, Any], message: str) -> None:
    inputs = {key: value for key, value in {**CHART, **change}.items() if value is not None}
    assert any(message in reason for _, reason in release().problems(inputs))
