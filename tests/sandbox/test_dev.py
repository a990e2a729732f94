"""The dev stack on its cluster: load, interruptions, pods that do not fit, and the walk up and down its phases."""

import json

import pytest

from sandbox.control_plane import ControlPlanes
from sandbox.state import State
from tests.program.harness import Step, wait_for
from tests.sandbox.checks import CommittedEnvironment
from tests.sandbox.harness import Cluster, is_ready, label, name_of

ZONE = "topology.kubernetes.io/zone"
COMPUTE = {"pyairtable:compute:Compute", "pyairtable:compute:Workloads"}
DRAIN_SECONDS = 60
RUNBOOKS_AUTOSCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: auth-service-hpa
  namespace: pyairtable
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: auth-service
  minReplicas: 1
  maxReplicas: 5
  metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: 70
"""


@pytest.fixture(scope="module")
def plan(dev: Cluster) -> set[Step]:
    """What the preview of the step from phase 1 to phase 2 announces."""
    dev.up(1)
    return dev.plan("--stack", "dev", "--phase", "2")


@pytest.fixture(scope="module")
def cluster(dev: Cluster, plan: set[Step]) -> Cluster:  # noqa: ARG001 - the preview comes before the up
    """The dev stack at phase 2, where it came from phase 1."""
    dev.up(2)
    return dev


def replicas(cluster: Cluster, service: str) -> int:
    return len(cluster.pods(service))


def test_the_step_up_makes_what_the_phase_owns_and_touches_nothing_else(plan: set[Step]) -> None:
    assert {step.operation for step in plan} == {"create"}
    assert {step.type for step in plan} >= COMPUTE


def test_the_up_did_what_the_preview_announced(cluster: Cluster, plan: set[Step]) -> None:
    made = {(state["type"], state["urn"].rpartition("::")[2]) for state in cluster.states()}
    assert {(step.type, step.name) for step in plan} <= made


class TestDev(CommittedEnvironment):
    """What holds of every environment holds of this one."""


def test_the_runbooks_own_autoscaler_manifest_is_accepted(cluster: Cluster) -> None:
    answer = cluster.shell(f"kubectl apply -f - <<EOF\n{RUNBOOKS_AUTOSCALER}EOF", "--stack", "dev").stdout
    assert "auth-service-hpa configured" in answer or "auth-service-hpa unchanged" in answer
    assert cluster.plan("--stack", "dev", "--phase", "2") == set()


def test_autoscalers_have_figures(cluster: Cluster) -> None:
    wait_for(lambda: "<unknown>" not in cluster.kubectl("get hpa -n pyairtable"), "the autoscalers to have figures")
    assert cluster.kubectl("get hpa -n pyairtable").count("/70%") == len(cluster.services())


def test_load_takes_a_service_to_more_replicas_and_its_end_back_to_one(cluster: Cluster) -> None:
    # Five minutes of looking back before scaling down is Kubernetes' default; this one looks at the moment.
    quick = '{"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}'
    cluster.kubectl(f"patch hpa user-service-hpa -n pyairtable --type merge -p '{quick}'")
    load = cluster.start("load", "user-service", "--stack", "dev", "--cpu", "200%")
    try:
        wait_for(lambda: replicas(cluster, "user-service") > 1, "the service to scale up")
    finally:
        load.terminate()
        load.communicate(timeout=30)
    wait_for(lambda: replicas(cluster, "user-service") == 1, "the service to scale down")


def test_a_service_that_is_too_large_stays_pending_and_fit_says_why(cluster: Cluster) -> None:
    cluster.kubectl(
        "set resources deployment/tenant-service -n pyairtable --requests=memory=3Gi --limits=memory=3Gi,cpu=400m"
    )
    misfits = json.loads(cluster.run("fit", "--stack", "dev", "--json", expect=3).stdout)
    (misfit,) = misfits
    assert misfit["pod"].startswith("pyairtable/tenant-service-")
    assert misfit["node"] == name_of(cluster.nodes()[0])
    assert misfit["resource"] == "memory"
    assert "tenant-service" in cluster.run("fit", "--stack", "dev", expect=3).stdout
    cluster.kubectl("rollout undo deployment/tenant-service -n pyairtable")
    wait_for(cluster.everything_runs, "the service to be back")


def test_an_interrupted_spot_node_is_replaced_before_it_goes(cluster: Cluster) -> None:
    (before,) = cluster.nodes()
    disk_zone = label(before, ZONE)
    cluster.run("node", "interrupt", name_of(before), "--stack", "dev")
    wait_for(cluster.everything_runs, "every pod to run again", DRAIN_SECONDS)
    (after,) = cluster.nodes()
    assert name_of(after) != name_of(before)
    assert label(after, "eks.amazonaws.com/capacityType") == "SPOT"
    assert label(after, ZONE) == disk_zone, "the stores' disks are in one zone"
    assert name_of(cluster.node_of("postgres")) == name_of(after)


def test_a_node_that_vanishes_is_replaced_once_kubernetes_has_noticed(cluster: Cluster) -> None:
    (before,) = cluster.nodes()
    cluster.run("node", "kill", name_of(before), "--stack", "dev")
    wait_for(cluster.everything_runs, "every pod to run again", DRAIN_SECONDS)
    (after,) = cluster.nodes()
    assert name_of(after) != name_of(before)
    assert is_ready(after)


def test_services_can_be_scaled_to_nothing_as_the_runbook_does(cluster: Cluster) -> None:
    cluster.kubectl("scale deployment --all --replicas=0 -n pyairtable")
    wait_for(lambda: {label(pod, "app") for pod in cluster.pods()} == {"postgres", "redis"}, "the services to go")
    cluster.kubectl("scale deployment --all --replicas=1 -n pyairtable")
    wait_for(cluster.everything_runs, "the services to be back")


def test_another_image_is_a_rolling_update_of_one_deployment(cluster: Cluster) -> None:
    services = [
        {**service, "image": service["image"].replace("v2.0.0", "v2.0.1")}
        if service["name"] == "workspace-service"
        else service
        for service in cluster.services()
    ]
    cluster.override("services", services)
    steps = {step for step in cluster.plan("--stack", "dev", "--phase", "2") if step.operation == "update"}
    assert steps == {Step("update", "kubernetes:apps/v1:Deployment", "blue-workspace-service-deployment")}
    cluster.up(2)
    (pod,) = cluster.pods("workspace-service")
    assert pod["spec"]["containers"][0]["image"].endswith("/workspace-service:v2.0.1")


def test_a_disk_grows_in_place(cluster: Cluster) -> None:
    cluster.override("stores.postgres", {"cpu": "250m", "memory": "512Mi", "diskGib": 12})
    cluster.up(2)
    sizes = {volume["Size"] for volume in cluster.aws("ec2").describe_volumes()["Volumes"]}
    assert 12 in sizes
    assert cluster.plan("--stack", "dev", "--phase", "2") == set()
    assert cluster.not_running() == []


def test_going_back_takes_what_the_phase_owns_and_leaves_no_orphan(cluster: Cluster) -> None:
    steps = cluster.plan("--stack", "dev", "--phase", "1")
    assert {step.operation for step in steps} == {"delete"}
    cluster.up(1)
    assert ControlPlanes(State(cluster.state)).clusters() == []
    assert cluster.compute_left() == {}
    assert cluster.plan("--stack", "dev", "--phase", "1") == set()


def test_and_up_again(cluster: Cluster) -> None:
    cluster.up(2)
    assert cluster.not_running() == []
    assert cluster.plan("--stack", "dev", "--phase", "2") == set()
