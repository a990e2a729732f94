"""What holds of every committed environment: it comes up, it fits, and it is what the bill says."""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

import yaml

from sandbox import fit
from sandbox.tools import TOOLS, find
from tests.program.harness import wait_for
from tests.sandbox.harness import Cluster, is_ready, label

CAPACITY = "eks.amazonaws.com/capacityType"
NODES = {
    "dev": Counter({"SPOT": 1}),
    "staging": Counter({"SPOT": 2}),
    "prod": Counter({"ON_DEMAND": 1, "SPOT": 4}),
}
BUDGETS = {"dev": 98, "staging": 150, "prod": 395}
LEAST_REQUESTED = Decimal("0.70")
CRITICAL = 1
WAIVED = {
    # Tags never move here, and a pod has to start while the registry is away: that is what interruptions look like.
    "container-image-pull-policy": ("*",),
    # The official images own their files as user 999.
    "container-security-context-user-group-id": ("postgres", "redis", "postgres-backup", "database-rotation"),
    # One replica, which nobody calls by its own name: the Service keeps an address while the pod moves.
    "statefulset-has-servicename": ("postgres", "redis"),
}
"""What kube-score calls critical, where, and why it stays."""
SCORED = {
    f"kubernetes:{type_}"
    for type_ in (
        "apps/v1:Deployment",
        "apps/v1:StatefulSet",
        "autoscaling/v2:HorizontalPodAutoscaler",
        "batch/v1:CronJob",
        "core/v1:Service",
        "networking.k8s.io/v1:NetworkPolicy",
        "policy/v1:PodDisruptionBudget",
    )
}

COLUMNS = (
    r"NAME:.metadata.name,INSTANCE:.metadata.labels.beta\\.kubernetes\\.io/instance-type,"
    r"LIFECYCLE:.metadata.labels.eks\\.amazonaws\\.com/capacityType"
)
RUNBOOK = f"""
kubectl get nodes
kubectl get pods --all-namespaces
kubectl get nodes -o custom-columns={COLUMNS}
kubectl get hpa -n pyairtable
"""


class CommittedEnvironment:
    """Tests of the fixture `cluster`: a stack as its committed file has it."""

    waived: ClassVar[Mapping[str, tuple[str, ...]]] = WAIVED
    """What kube-score may call critical here."""

    def test_the_api_server_has_nothing_against_any_manifest(self, cluster: Cluster) -> None:
        assert [line for said in cluster.printed for line in said.splitlines() if "warning:" in line] == []

    def test_every_node_is_ready_and_of_the_kind_that_is_paid_for(self, cluster: Cluster) -> None:
        assert all(is_ready(node) for node in cluster.nodes())
        assert Counter(label(node, CAPACITY) for node in cluster.nodes()) == NODES[cluster.stack]

    def test_every_pod_runs(self, cluster: Cluster) -> None:
        # An autoscaler may be about to bring its service to its least replicas.
        wait_for(cluster.everything_runs, "every pod to run")

    def test_everything_fits_even_while_the_largest_rollout_goes_on(self, cluster: Cluster) -> None:
        assert json.loads(cluster.run("fit", "--stack", cluster.stack, "--json").stdout) == []

    def test_the_nodes_are_not_larger_than_they_have_to_be(self, cluster: Cluster) -> None:
        (whole,) = (share for share in fit.check(cluster.api).shares if not share.node)
        requested = {kind: whole.requested[kind] / whole.allocatable[kind] for kind in ("cpu", "memory")}
        assert max(requested.values()) >= LEAST_REQUESTED, requested

    def test_a_second_up_changes_nothing(self, cluster: Cluster) -> None:
        assert cluster.changes() == set()

    def test_the_estimate_keeps_to_the_budget(self, cluster: Cluster) -> None:
        outputs = cluster.outputs(cluster.stack)
        assert 0 < outputs["estimated_monthly_cost_usd"] <= BUDGETS[cluster.stack]

    def test_the_runbooks_commands_work_as_written(self, cluster: Cluster) -> None:
        answer = cluster.shell(RUNBOOK, "--stack", cluster.stack).stdout
        assert answer.count(" Ready ") == NODES[cluster.stack].total()
        assert "SPOT" in answer
        kinds = [line.split()[1:] for line in answer.splitlines() if line.startswith("ip-") and "Ready" not in line]
        assert all("<none>" not in kind for kind in kinds), "a label that the runbook asks for is missing"
        assert "api-gateway-hpa" in answer

    def test_kube_score_finds_nothing_critical_that_is_not_waived(self, cluster: Cluster) -> None:
        manifests = [state["inputs"] for state in cluster.states() if state["type"] in SCORED]
        done = subprocess.run(
            [find(TOOLS["kube-score"]), "score", "--output-format", "json", "-"],
            input=yaml.safe_dump_all(manifests),
            capture_output=True,
            text=True,
            check=False,
        )
        critical = {
            (check["check"]["id"], entry["object_meta"]["name"])
            for entry in json.loads(done.stdout)
            for check in entry["checks"]
            if check["grade"] == CRITICAL and not check["skipped"]
        }
        unexpected = {
            (id, name)
            for id, name in critical
            if name not in self.waived.get(id, ()) and "*" not in self.waived.get(id, ())
        }
        assert unexpected == set(), unexpected
        assert {id for id, _ in critical} == self.waived.keys(), "a check that nothing fails is not to be waived"
