"""What does not fit, and why: the arithmetic around the real scheduler's word."""

from decimal import Decimal
from typing import Any

import pytest

from sandbox import fit
from sandbox.fit import Misfit
from sandbox.load import describe, usage_per_container
from sandbox.placement import Volumes, may_run_on
from sandbox.quantities import requests

Object = dict[str, Any]
NO_VOLUMES = Volumes({})


def container(cpu: str = "", memory: str = "", **rest: Any) -> Object:
    return {"resources": {"requests": {k: v for k, v in {"cpu": cpu, "memory": memory}.items() if v}}, **rest}


def pod(name: str = "web", node: str = "", message: str = "", **spec: Any) -> Object:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {
        "metadata": {"name": name, "namespace": "pyairtable"},
        "spec": {"containers": [container()], **({"nodeName": node} if node else {}), **spec},
        "status": {"phase": "Running" if node else "Pending", "conditions": [refused] if message else []},
    }


def node(name: str, cpu: str = "2", memory: str = "4Gi", pods: str = "110", **labels: str) -> Object:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "20Gi"}},
    }


def deployment(name: str, cpu: str, memory: str, replicas: int = 1, **strategy: Any) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container(cpu, memory)]}}
    return {
        "metadata": {"name": name, "namespace": "pyairtable"},
        "spec": {"replicas": replicas, "strategy": strategy, "template": template},
    }


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("100m"), container("50m")]}, "0.15"),
        ({"containers": [container("100m")], "initContainers": [container("300m")]}, "0.3"),
        ({"containers": [container("100m")], "initContainers": [container("20m", restartPolicy="Always")]}, "0.12"),
        (
            {
                "containers": [container("100m")],
                "initContainers": [container("20m", restartPolicy="Always"), container("90m")],
            },
            "0.12",
        ),
        ({"containers": [container("100m")], "overhead": {"cpu": "10m"}}, "0.11"),
        ({"containers": [container("100m")], "resources": {"requests": {"cpu": "400m"}}}, "0.4"),
    ],
)
def test_a_pod_asks_for_what_the_scheduler_counts(spec: Object, cpu: str) -> None:
    assert requests(spec)["cpu"] == Decimal(cpu)


def test_the_closest_node_is_named_with_each_resource_that_it_lacks() -> None:
    nodes = [node("far", cpu="1", memory="1Gi"), node("close", cpu="2", memory="3Gi")]
    bound = [pod("other", "close", containers=[container("500m", "1Gi")])]
    big = pod(message="no", containers=[container("1600m", "3Gi")])
    assert fit.explain(big, nodes, bound, NO_VOLUMES) == [
        Misfit(pod="pyairtable/web", node="close", resource="cpu"),
        Misfit(pod="pyairtable/web", node="close", resource="memory"),
    ]


def test_a_full_node_lacks_room_for_pods() -> None:
    bound = [pod("a", "only"), pod("b", "only")]
    (misfit,) = fit.explain(pod(message="no"), [node("only", pods="2")], bound, NO_VOLUMES)
    assert misfit == Misfit(pod="pyairtable/web", node="only", resource="pods")


def test_pods_that_are_over_hold_no_place() -> None:
    done = pod("done", "only", containers=[container("2")])
    done["status"]["phase"] = "Succeeded"
    assert fit.shares_of([node("only")], [done])[0].requested == {}


def test_where_no_node_will_do_the_schedulers_words_are_the_reason() -> None:
    words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: none"
    picky = pod(message=words, nodeSelector={"kubernetes.io/arch": "arm64"})
    assert fit.explain(picky, [node("only")], [], NO_VOLUMES) == [
        Misfit(pod="pyairtable/web", node=None, resource="1 node(s) didn't match Pod's node affinity/selector")
    ]


def test_where_there_is_room_the_schedulers_words_are_the_reason() -> None:
    words = "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints. preemption: none"
    (misfit,) = fit.explain(pod(message=words), [node("only")], [], NO_VOLUMES)
    assert misfit.node == "only"
    assert misfit.resource == "1 node(s) didn't match pod topology spread constraints"


def test_a_store_counts_only_nodes_in_the_zone_of_its_disk() -> None:
    zone = "topology.kubernetes.io/zone"
    terms = [{"matchExpressions": [{"key": zone, "operator": "In", "values": ["b"]}]}]
    volumes = Volumes({("pyairtable", "data"): terms})
    store = pod(
        message="no",
        containers=[container(memory="3Gi")],
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )
    nodes = [node("roomy", **{zone: "a"}), node("tight", memory="2Gi", **{zone: "b"})]
    assert fit.explain(store, nodes, [], volumes) == [Misfit(pod="pyairtable/web", node="tight", resource="memory")]


@pytest.mark.parametrize(
    ("toleration", "may"),
    [
        ({}, False),
        ({"key": "stores", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "stores", "value": "yes"}, True),
        ({"key": "stores", "value": "yes", "effect": "NoExecute"}, False),
        ({"key": "stores", "value": "no"}, False),
    ],
)
def test_taints_keep_off_what_does_not_tolerate_them(toleration: Object, may: bool) -> None:
    tainted = node("tainted")
    tainted["spec"]["taints"] = [{"key": "stores", "value": "yes", "effect": "NoSchedule"}]
    tolerations = [toleration] if toleration else []
    assert may_run_on(pod(tolerations=tolerations), tainted, NO_VOLUMES) is may


@pytest.mark.parametrize(
    ("operator", "values", "may"),
    [
        ("In", ["spot"], True),
        ("NotIn", ["spot"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_node_affinity_is_held_against_the_nodes_labels(operator: str, values: list[str], may: bool) -> None:
    rule = {"key": "capacity", "operator": operator, "values": values}
    term = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
    assert may_run_on(pod(affinity=affinity), node("only", capacity="spot"), NO_VOLUMES) is may


def test_a_daemonsets_pod_counts_its_own_node_only() -> None:
    rule = {"key": "metadata.name", "operator": "In", "values": ["mine"]}
    term = {"nodeSelectorTerms": [{"matchFields": [rule]}]}
    bound = pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}})
    assert may_run_on(bound, node("mine"), NO_VOLUMES)
    assert not may_run_on(bound, node("other"), NO_VOLUMES)


@pytest.mark.parametrize(
    ("replicas", "strategy", "pods"),
    [
        (1, {}, 1),
        (5, {}, 2),
        (5, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, 1),
        (4, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%"}}, 2),
        (4, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}, 0),
        (3, {"type": "Recreate"}, 0),
        (0, {"rollingUpdate": {"maxSurge": 1}}, 0),
    ],
)
def test_a_rolling_update_adds_as_many_pods_as_the_strategy_says(replicas: int, strategy: Object, pods: int) -> None:
    assert fit.surge_pods({"replicas": replicas, "strategy": strategy}) == pods


def test_the_updates_tried_are_those_that_ask_for_most_cpu_and_most_memory() -> None:
    both = [deployment("cpu", "1", "1Mi"), deployment("memory", "1m", "1Gi"), deployment("small", "2m", "2Mi")]
    assert [surge.name for surge in fit.largest_surges(both)] == ["cpu", "memory"]
    one = [deployment("large", "1", "1Gi"), deployment("small", "1m", "1Mi")]
    assert [surge.name for surge in fit.largest_surges(one)] == ["large"]
    assert fit.largest_surges([deployment("recreated", "1", "1Gi", type="Recreate")]) == []


def test_many_small_extra_pods_outweigh_a_large_one() -> None:
    many = deployment("many", "300m", "1Mi", replicas=16)
    assert fit.largest_surges([deployment("large", "1", "1Mi"), many])[0].name == "many"


def test_an_extra_pod_has_no_label_by_which_anything_knows_the_deployments_own() -> None:
    extra = fit.surge_pod(deployment("web", "100m", "1Mi"), 1)
    assert extra["metadata"]["labels"] == {fit.SURGE_LABEL: "true"}
    assert extra["metadata"]["namespace"] == "pyairtable"


def test_an_extra_pod_asks_for_its_sidecar_as_the_deployments_own_do() -> None:
    meshed = deployment("web", "100m", "1Mi")
    asked = {"istio.io/rev": "1-31-1", "sidecar.istio.io/inject": "true"}
    meshed["spec"]["template"]["metadata"] = {"labels": {"app": "web", "version": "blue", **asked}}
    assert fit.surge_pod(meshed, 1)["metadata"]["labels"] == {fit.SURGE_LABEL: "true", **asked}


def test_a_pod_that_the_scheduler_has_not_looked_at_is_not_decided() -> None:
    assert not fit.is_decided(pod())
    assert fit.is_decided(pod(node="only"))
    assert fit.is_decided(pod(message="0/1 nodes are available: 1 Insufficient memory."))


@pytest.mark.parametrize(
    ("kind", "status", "made"),
    [
        ("Deployment", {"replicas": 2}, True),
        ("Deployment", {"replicas": 1}, False),
        ("Deployment", {"replicas": 2, "observedGeneration": 1}, False),
        ("StatefulSet", {"replicas": 1}, True),
        ("StatefulSet", {}, False),
        ("DaemonSet", {"desiredNumberScheduled": 2, "currentNumberScheduled": 1}, False),
    ],
)
def test_the_check_waits_for_pods_that_do_not_exist_yet(kind: str, status: Object, made: bool) -> None:
    workload = {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, **status},
    }
    assert fit.has_its_pods(kind, workload) is made


def test_load_is_a_share_of_one_replicas_request_spread_over_the_pods() -> None:
    web = pod(containers=[container("100m"), container("20m")])
    assert usage_per_container(web, Decimal("0.9"), 1) == "54m"
    assert usage_per_container(web, Decimal(3), 3) == "60m"


def test_an_autoscaler_without_figures_says_so() -> None:
    scaler = {"metadata": {"name": "web-hpa"}, "status": {"desiredReplicas": 1}}
    assert describe(scaler) == "web-hpa sees no figures yet and wants 1"


@pytest.mark.parametrize("status", [{}, {"desiredReplicas": 0}])
def test_an_autoscaler_that_has_not_decided_yet_is_not_said_to_want_any(status: Object) -> None:
    scaler = {"metadata": {"name": "web-hpa"}, "status": status}
    assert describe(scaler) == "web-hpa sees no figures yet"
