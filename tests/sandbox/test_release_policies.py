"""What a real API server refuses of whom, once it has the program's ReleasePolicies."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from components.shared.mesh import DEPLOYER, RUNBOOK, WEIGHT_ANNOTATION
from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError, Manifest
from tests.program.harness import wait_for
from tests.sandbox.workshop import istio_release, opened
from tests.unit.graph import two_releases

NAMESPACE = "pyairtable"
ROUTE = "api-gateway"
POLICIES = ("pyairtable-keep-rollbacks", "pyairtable-keep-blue")
PULUMI = f"{DEPLOYER}-kubernetes-5a6b"
SECONDS = 6
"""In place of a day, for which green has to have had everything."""


class Cluster:
    """A cluster with the program's two policies, the route of the public service, and a Deployment of each colour."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        graph = two_releases(retireAfter=f"{SECONDS}s")
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            for node in graph.objects(kind):
                api.apply({key: node.inputs[key] for key in ("apiVersion", "kind", "metadata", "spec")})
        self.made = graph.object("VirtualService", ROUTE).inputs

    def start(self, weight: int) -> None:
        """Make everything anew, as a deployment does."""
        self.remove_route()
        self.deploy(weight)
        for colour in ("blue", "green"):
            self._remove("apps/v1", "Deployment", f"auth-{colour}")
            self.api.apply(deployment(colour, 1), field_manager=PULUMI)

    def remove_route(self) -> None:
        """What Pulumi does on the way down."""
        self._remove("networking.istio.io/v1", "VirtualService", ROUTE)

    def deploy(self, weight: int, *, dry_run: bool = False) -> None:
        """What Pulumi does with the route: server-side apply that takes what others have."""
        self.api.apply(self._route(weight), field_manager=PULUMI, force=True, dry_run=dry_run)

    def move(self, note: int | None, *, to: int | None = None, by: str = RUNBOOK) -> None:
        """What the runbook does, or somebody with kubectl: a merge patch of the note and, where given, of the route."""
        patch: Manifest = {"metadata": {"annotations": {WEIGHT_ANNOTATION: None if note is None else str(note)}}}
        shift = note if to is None else to
        if shift is not None:
            patch["spec"] = self._route(shift)["spec"]
        self.api.patch("networking.istio.io/v1", "VirtualService", ROUTE, patch, namespace=NAMESPACE, field_manager=by)

    def stop(self, colour: str, *, dry_run: bool = False) -> None:
        """What Pulumi does to a colour's Deployment that is to have no pods."""
        self.api.apply(deployment(colour, 0), field_manager=PULUMI, force=True, dry_run=dry_run)

    def entries(self) -> list[Manifest]:
        """Of `managedFields`, those that own the weight."""
        live = self.api.get("networking.istio.io/v1", "VirtualService", ROUTE, NAMESPACE)
        assert live
        return [
            entry
            for entry in live["metadata"]["managedFields"]
            if f"f:{WEIGHT_ANNOTATION}" in entry["fieldsV1"].get("f:metadata", {}).get("f:annotations", {})
        ]

    @property
    def weight(self) -> int:
        """Green's, as noted."""
        live = self.api.get("networking.istio.io/v1", "VirtualService", ROUTE, NAMESPACE)
        assert live
        return int(live["metadata"]["annotations"][WEIGHT_ANNOTATION])

    def _remove(self, api_version: str, kind: str, name: str) -> None:
        self.api.delete(api_version, kind, name, NAMESPACE, propagation="Background")
        wait_for(lambda: self.api.get(api_version, kind, name, NAMESPACE) is None, f"{name} to be gone")

    def _route(self, weight: int) -> Manifest:
        metadata = {"name": ROUTE, "namespace": NAMESPACE, "annotations": {WEIGHT_ANNOTATION: str(weight)}}
        *others, last = self.made["spec"]["http"]
        shares = {"blue": 100 - weight, "green": weight}
        weighted = [{**to, "weight": shares[to["destination"]["subset"]]} for to in last["route"]]
        spec = {**self.made["spec"], "http": [*others, {**last, "route": weighted}]}
        return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}


def deployment(colour: str, replicas: int) -> Manifest:
    labels = {"app": "auth", "version": colour}
    container = {"name": "auth", "image": "auth:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"auth-{colour}", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with opened(tmp_path_factory.mktemp("state")) as workshop:
        for namespace in (NAMESPACE, "istio-system"):
            workshop.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        workshop.up("istio", {"base": istio_release("base", "istio-base", "istio-system")})
        made = Cluster(workshop.api)
        made.start(10)
        made.move(0)
        wait_for(lambda: is_refused(made, 10) and told(made), "the policies to be in force")
        yield made


def is_refused(cluster: Cluster, weight: int) -> bool:
    try:
        cluster.deploy(weight, dry_run=True)
    except KubernetesApiError as error:
        return "pyairtable-keep-rollbacks" in str(error)
    return False


def told(cluster: Cluster) -> str:
    """What a deployment would be told that stops blue now; nothing where it may."""
    try:
        cluster.stop("blue", dry_run=True)
    except KubernetesApiError as error:
        return str(error)
    return ""


def age(entries: Iterable[Manifest]) -> float:
    """Seconds since the last change of any of these entries."""
    changed = max(datetime.fromisoformat(entry["time"]) for entry in entries)
    return (datetime.now(UTC) - changed).total_seconds()


def refused(cluster: Cluster, weight: int, **how: Any) -> str:
    before = cluster.weight
    with pytest.raises(KubernetesApiError, match="pyairtable-keep-rollbacks") as error:
        cluster.deploy(weight, **how)
    assert cluster.weight == before
    return str(error.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_api_server_finds_no_mistake_in_them(cluster: Cluster, policy: str) -> None:
    def status() -> Manifest:
        found = cluster.api.get("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", policy)
        assert found
        return found.get("status", {})

    wait_for(lambda: "observedGeneration" in status(), "the policy to be checked")
    assert "expressionWarnings" not in status().get("typeChecking", {})


class TestRollbacks:
    def test_a_deployment_moves_what_a_deployment_has_moved(self, cluster: Cluster) -> None:
        cluster.start(10)
        for weight in (50, 100, 0, 10):
            cluster.deploy(weight)
            assert cluster.weight == weight

    def test_one_that_began_before_a_rollback_does_not_undo_it(self, cluster: Cluster) -> None:
        cluster.start(10)
        cluster.deploy(50, dry_run=True)  # its preview saw nothing wrong
        cluster.move(0)
        told = refused(cluster, 50)
        assert (
            "giving green 50 % of the requests: the runbook, or a hand, has moved it to 0 %, which no deployment"
            in told
        )
        assert (
            "if 50 % is meant, go there with runbook shift --to 50, else deploy with blueGreen.greenWeight: 0" in told
        )

    def test_a_preview_is_refused_like_a_deployment(self, cluster: Cluster) -> None:
        cluster.start(10)
        cluster.move(0)
        refused(cluster, 10, dry_run=True)

    def test_a_deployment_that_gives_green_less_is_never_refused(self, cluster: Cluster) -> None:
        cluster.start(0)
        cluster.move(50)
        cluster.deploy(10)
        assert cluster.weight == 10

    def test_once_a_deployment_has_asked_for_what_the_runbook_left_edits_count_again(self, cluster: Cluster) -> None:
        cluster.start(50)
        cluster.move(0)
        cluster.deploy(0)
        cluster.deploy(10)
        assert cluster.weight == 10

    def test_the_runbook_moves_on_from_a_rollback(self, cluster: Cluster) -> None:
        cluster.start(50)
        for weight in (0, 10, 50, 0):
            cluster.move(weight)
            assert cluster.weight == weight

    def test_by_hand_green_may_get_less_but_not_more_than_the_runbook_left(self, cluster: Cluster) -> None:
        cluster.start(0)
        cluster.move(50)
        with pytest.raises(KubernetesApiError, match="pyairtable-keep-rollbacks"):
            cluster.move(60, by="kubectl-patch")
        cluster.move(0, by="kubectl-patch")
        assert cluster.weight == 0

    def test_a_rollback_at_0_stays_as_well(self, cluster: Cluster) -> None:
        cluster.start(0)
        cluster.move(None)
        cluster.move(0)  # as runbook.traffic does, since a patch that changes nothing takes nothing
        refused(cluster, 10)


class TestBlue:
    def test_it_is_stopped_once_green_has_had_everything_for_long_enough(self, cluster: Cluster) -> None:
        cluster.start(50)
        cluster.deploy(100)
        wait_for(lambda: f"green has not had all requests for {SECONDS} s" in told(cluster), "the policy to see it")
        cluster.deploy(100)  # whoever asks for the same once more does not begin it anew
        wait_for(lambda: told(cluster) == "", "that time to be over")
        cluster.stop("blue")
        found = cluster.api.get("apps/v1", "Deployment", "auth-blue", NAMESPACE)
        assert found
        assert found["spec"]["replicas"] == 0

    def test_a_route_of_long_ago_that_the_runbook_moves_and_a_deployment_knows_of_begins_the_time_anew(
        self, cluster: Cluster
    ) -> None:
        cluster.start(10)
        first = cluster.entries()
        wait_for(lambda: age(first) > SECONDS + 1, "the route to be old enough")
        cluster.move(100)
        cluster.deploy(100)
        assert {owner["manager"] for owner in cluster.entries()} == {RUNBOOK, PULUMI}
        wait_for(lambda: f"green has not had all requests for {SECONDS} s" in told(cluster), "the policy to see it")
        wait_for(lambda: told(cluster) == "", "that time to be over")
        assert age(entry for entry in cluster.entries() if entry["manager"] == RUNBOOK) >= SECONDS

    def test_it_stays_while_green_has_less(self, cluster: Cluster) -> None:
        cluster.start(100)
        cluster.deploy(50)
        wait_for(lambda: "green has not all requests" in told(cluster), "the policy to see it")

    def test_it_stays_while_the_route_gives_green_less_than_is_noted(self, cluster: Cluster) -> None:
        cluster.start(100)
        wait_for(lambda: told(cluster) == "", "green to have had everything for long enough")
        cluster.move(100, to=50, by="kubectl-patch")
        wait_for(lambda: "green has not all requests" in told(cluster), "the policy to see it")

    def test_green_is_stopped_at_any_time(self, cluster: Cluster) -> None:
        cluster.start(0)
        cluster.stop("green")

    def test_it_is_scaled_by_hand_at_any_time(self, cluster: Cluster) -> None:
        cluster.start(0)
        scale = {"spec": {"replicas": 0}}
        cluster.api.patch("apps/v1", "Deployment", "auth-blue", scale, namespace=NAMESPACE, subresource="scale")

    def test_without_a_route_it_may_go(self, cluster: Cluster) -> None:
        cluster.start(0)
        cluster.remove_route()
        wait_for(lambda: told(cluster) == "", "the policy to see that there is none")
