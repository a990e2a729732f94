"""Phase 4 on the prod stack, under steady traffic: up, back and forth between the colours, faults, and down again."""

import json
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.tools import TOOLS, find
from tests.program.harness import wait_for
from tests.sandbox.harness import Cluster, is_ready, label, name_of, processes_of, running
from tests.sandbox.sidecars import Sidecar, sidecar_of
from tests.sandbox.traffic import (
    HEARD_SECONDS,
    POINTS,
    RATE,
    ROLLBACK_SECONDS,
    Traffic,
    none_failed,
    shifting,
    weight,
)

CANARY_RATE = 10
LEAST_RATE = 200
LEAST_REQUESTS = 30_000
STEPS = (10, 50, 100)
HOLD_SECONDS = 40
"""At RATE, a share of 50 % is then within two points in all but one of ten thousand runs."""
REQUESTS = 5000
"""With so many, a share of 50 % is within three points in all but one of ten thousand runs."""
BLUE = {
    "api-gateway",
    "platform-services",
    "automation-services",
    "llm-orchestrator",
    "mcp-server",
    "airtable-gateway",
}
GREEN = {"api-gateway", "auth-service", "user-service", "tenant-service", "workspace-service"}
OVERLOOKED = {
    ("IST0133", "EnvoyFilter pyairtable/sandbox-gateways"),  # the sandbox's own, which moves listeners to loopback
    ("IST0146", "Deployment pyairtable/ingress-gateway"),  # it is injected: the analyzer does not know how
}
"""What istioctl warns of, and where, and why it stays."""
PUBLIC_HOST = "api-gateway.pyairtable.svc.cluster.local"
PUBLIC_PORT = 8080


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The stack at phase 3."""
    with running("prod", tmp_path_factory.mktemp("state")) as made:
        made.up(3)
        yield made


@pytest.fixture(scope="module")
def traffic(before: Cluster) -> Iterator[Traffic]:
    """Clients that are there all the time."""
    clients = Traffic(f"{before.outputs('prod')['api_gateway_url']}/api/v1/users", rate=RATE)
    wait_for(lambda: clients.leads_to("blue"), "the edge to lead to blue")
    with clients:
        wait_for(lambda: len(clients.answers) > RATE, "answers")
        yield clients


@pytest.fixture(scope="module")
def blue_before(before: Cluster) -> dict[str, str]:
    """Uids of the Deployments at phase 3."""
    return deployments(before)


@pytest.fixture(scope="module")
def cluster(before: Cluster, traffic: Traffic, blue_before: dict[str, str]) -> Cluster:  # noqa: ARG001 - there before
    """The stack at phase 4, where it came from phase 3."""
    before.up(4)
    return before


@pytest.fixture(scope="module")
def canary(cluster: Cluster) -> Iterator[Traffic]:
    """A client that asks for green."""
    url = cluster.outputs("prod")["api_gateway_url"]
    client = Traffic(url, rate=CANARY_RATE, clients=1, headers={"canary": "true"})
    wait_for(lambda: client.leads_to("green"), "the gateways to lead to green")
    with client:
        yield client


def deployments(cluster: Cluster) -> dict[str, str]:
    return {
        name_of(found): found["metadata"]["uid"]
        for found in cluster.api.list("apps/v1", "Deployment", namespace="pyairtable")
    }


def shift(cluster: Cluster, *arguments: str, expect: int = 0) -> dict[str, Any]:
    done = cluster.runbook("shift", *arguments, "--json", check=False)
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout) if done.stdout else {"told": done.stderr}


def settled(traffic: Traffic, colour: str, seconds: float = 3) -> bool:
    """Whether all that was answered of late came from one colour."""
    now = time.time()
    answers = traffic.between(now - seconds, now)
    return bool(answers) and all(answer.colour == colour for answer in answers)


def at(cluster: Cluster, target: int) -> None:
    """Bring the traffic to a weight without holding it, whatever a test before has left."""
    wait_for(lambda: cluster.runbook("rollback", check=False).returncode == 0, "all gateways to have confirmed")
    if target:
        shift(cluster, "--to", str(target), "--hold", "5s", "--min-requests", "1")
    assert weight(cluster) == target


@contextmanager
def broken(cluster: Cluster, service: str, colour: str, how: str) -> Generator[None]:
    """Let a release misbehave, and behave again; all of its pods serve then."""
    where = (service, "--colour", colour, "--stack", "prod")
    deployment = service if colour == "blue" else f"{service}-{colour}"
    wanted = available(cluster, deployment)
    cluster.run("break", *where, "--how", how)
    try:
        yield
    finally:
        cluster.run("mend", *where)
        wait_for(lambda: available(cluster, deployment) >= wanted, f"{deployment} to be back")


def available(cluster: Cluster, deployment: str) -> int:
    """How many pods of a Deployment serve, as it says itself, which it does a little later than they."""
    found = cluster.api.get("apps/v1", "Deployment", deployment, "pyairtable")
    assert found
    return found["status"].get("availableReplicas", 0)


def deployed_at_0(cluster: Cluster) -> None:
    """Have all traffic on blue by a deployment: what the runbook has moved last, no edit gives green more."""
    at(cluster, 10)
    for step in (10, 0):
        cluster.override("blueGreen.greenWeight", step)
        cluster.up(4)


class TestGoingUp:
    """From phase 3 to 4 under traffic."""

    def test_no_request_fails(self, cluster: Cluster, traffic: Traffic) -> None:
        assert cluster.phase == 4
        assert traffic.failed == []

    def test_everything_is_on_blue(self, cluster: Cluster, traffic: Traffic) -> None:
        assert weight(cluster) == 0
        assert {answer.colour for answer in traffic.answers} == {"blue"}

    def test_no_deployment_of_blue_is_replaced(self, cluster: Cluster, blue_before: dict[str, str]) -> None:
        after = deployments(cluster)
        assert blue_before.items() <= after.items()
        assert {name.removesuffix("-green") for name in after if name.endswith("-green")} == GREEN

    def test_every_pod_of_both_colours_has_a_sidecar_and_no_store_has_one(self, cluster: Cluster) -> None:
        for pod in cluster.pods():
            sidecars = [c["name"] for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"]
            assert ("istio-proxy" in sidecars) == bool(label(pod, "version")), name_of(pod)

    def test_every_pod_runs_and_everything_fits_also_during_a_rollout(self, cluster: Cluster) -> None:
        wait_for(cluster.everything_runs, "every pod to run")  # an autoscaler may be about to bring the second
        assert json.loads(cluster.run("fit", "--stack", "prod", "--json").stdout) == []

    def test_plain_text_is_refused_in_the_mesh_from_now_on(self, cluster: Cluster) -> None:
        found = cluster.api.get("security.istio.io/v1", "PeerAuthentication", "default", "pyairtable")
        assert found
        assert found["spec"]["mtls"]["mode"] == "STRICT"

    def test_a_second_up_changes_nothing(self, cluster: Cluster) -> None:
        assert cluster.changes() == set()

    def test_the_estimate_with_both_releases_keeps_to_the_budget(self, cluster: Cluster) -> None:
        assert cluster.outputs("prod")["estimated_monthly_cost_usd"] <= 395

    def test_the_runbooks_commands_find_both_environments(self, cluster: Cluster) -> None:
        for colour, services in (("blue", BLUE), ("green", GREEN)):
            pods = cluster.kubectl(f"get pods -n pyairtable -l version={colour}")
            assert all(service in pods for service in services), pods
            assert "ClusterIP" in cluster.kubectl(f"get svc -n pyairtable -l version={colour}")

    def test_istioctl_finds_nothing_wrong(self, cluster: Cluster) -> None:
        done = cluster.shell(f"{find(TOOLS['istioctl'])} analyze -n pyairtable -o json || true", "--stack", "prod")
        found = {(m["code"], m["origin"]) for m in json.loads(done.stdout) if m["level"] != "Info"}
        assert found == OVERLOOKED


class TestMesh:
    """Inside the mesh, where no sidecar runs here: what istiod would send to those of the public service's pods."""

    @pytest.mark.parametrize("colour", ["blue", "green"])
    def test_whoever_calls_the_public_service_stays_in_its_colour(self, cluster: Cluster, colour: str) -> None:
        for sidecar in sidecars(cluster, colour):
            assert sidecar.leads_to(PUBLIC_HOST, PUBLIC_PORT) == {f"outbound|{PUBLIC_PORT}|{colour}|{PUBLIC_HOST}"}

    @pytest.mark.parametrize("colour", ["blue", "green"])
    def test_a_pod_takes_only_who_shows_a_certificate(self, cluster: Cluster, colour: str) -> None:
        for sidecar in sidecars(cluster, colour):
            assert PUBLIC_PORT in [chain["filterChainMatch"].get("destinationPort") for chain in sidecar.inbound()]
            for chain in sidecar.inbound():
                assert chain["filterChainMatch"]["transportProtocol"] == "tls", chain["name"]
                assert chain["transportSocket"]["typedConfig"]["requireClientCertificate"] is True, chain["name"]


def sidecars(cluster: Cluster, colour: str) -> list[Sidecar]:
    """What the sidecars of the public service's pods of a colour would have."""
    pods = [pod for pod in cluster.pods("api-gateway") if label(pod, "version") == colour]
    assert len(pods) >= 2
    return [sidecar_of(cluster.plane, pod) for pod in pods]


class TestShifting:
    """By edits of the config, and by the runbook's commands, after which a deployment has to know of them first."""

    def test_an_edit_of_the_weight_changes_one_resource_and_nothing_fails(
        self, cluster: Cluster, traffic: Traffic, canary: Traffic
    ) -> None:
        began = time.time()
        for step in (*STEPS, 0):
            cluster.override("blueGreen.greenWeight", step)
            (changed,) = cluster.changes()
            assert changed[:2] == ("update", "kubernetes:networking.istio.io/v1:VirtualService")
            cluster.up(4)
            assert weight(cluster) == step
            since = time.time() + HEARD_SECONDS
            wait_for(
                lambda since=since: len(traffic.between(since, time.time())) >= REQUESTS, "requests at this weight"
            )
            share = traffic.share("green", since, time.time())
            assert abs(share - step) <= POINTS * 1.5, f"{share:.1f} % at {step} %"
        none_failed(traffic, began)
        assert {answer.colour for answer in canary.answers} == {"green"}

    def test_by_the_runbook_each_step_gets_its_share_nothing_fails_and_a_rollback_is_immediate(
        self, cluster: Cluster, traffic: Traffic, canary: Traffic
    ) -> None:
        began, sofar = time.time(), len(traffic.answers)
        told = shift(cluster, "--to", ",".join(map(str, STEPS)), "--hold", f"{HOLD_SECONDS}s")
        assert [(step["weight"], step["result"]) for step in told["steps"]] == [(step, "held") for step in STEPS]
        for step in told["steps"]:
            since = datetime.fromisoformat(step["began"]).timestamp()
            share = traffic.share("green", since + HEARD_SECONDS, since + step["seconds"])
            assert abs(share - step["weight"]) <= POINTS, f"{share:.1f} % at {step['weight']} %"
        assert settled(traffic, "green")

        rollback = time.time()
        cluster.runbook("rollback")
        wait_for(lambda: settled(traffic, "blue"), "all traffic to be on blue")
        last = max(a.ended for a in traffic.between(began, time.time()) if a.colour == "green")
        assert last - rollback <= ROLLBACK_SECONDS
        assert weight(cluster) == 0

        ended = time.time()
        answers = traffic.between(began, ended)
        assert len(answers) >= LEAST_RATE * (ended - began), f"only {len(answers) / (ended - began):.0f} a second"
        assert sofar + len(answers) >= LEAST_REQUESTS or len(traffic.answers) >= LEAST_REQUESTS
        none_failed(traffic, began, ended)
        assert {answer.colour for answer in canary.answers} == {"green"}

    def test_an_up_after_a_rollback_does_not_undo_it(self, cluster: Cluster) -> None:
        at(cluster, 50)
        cluster.runbook("rollback")
        assert cluster.changes() == set()
        cluster.up(4)
        assert weight(cluster) == 0
        assert cluster.runbook("traffic", check=False).returncode == 0

    def test_a_deployment_that_would_undo_a_rollback_is_refused(self, cluster: Cluster) -> None:
        at(cluster, 50)
        cluster.runbook("rollback")
        cluster.override("blueGreen.greenWeight", 50)  # as in a pipeline, whose checkout has not heard of it
        told = cluster.runbook("traffic", check=False)
        assert told.returncode == 3
        done = cluster.run("up", "--stack", "prod", "--phase", "4", expect=1)
        assert "the runbook, or a hand, has moved it to 0 %" in done.stdout + done.stderr
        assert weight(cluster) == 0
        at(cluster, 0)

    def test_a_rollback_stays_when_an_up_was_under_way_that_gives_green_more(
        self, cluster: Cluster, traffic: Traffic
    ) -> None:
        began = time.time()
        at(cluster, 10)
        cluster.up(4)  # from here on the weight is a deployment's
        cluster.run("break", "user-service", "--colour", "green", "--how", "crash", "--stack", "prod")
        wait_for(lambda: not any(map(is_ready, cluster.pods("user-service"))), "green to be unavailable")
        cluster.override("blueGreen.greenWeight", 50)
        cluster.override("blueGreen.services", green_with(cluster, "user-service", "v2.0.1"))
        with cluster.start("up", "--stack", "prod", "--phase", "4") as up:
            wait_for(lambda: image(cluster, "user-service-green").endswith(":v2.0.1"), "the up to wait for its pods")
            cluster.runbook("rollback")
            cluster.run("mend", "user-service", "--colour", "green", "--stack", "prod")
            told, _ = up.communicate(timeout=cluster.timeout_seconds)
        assert up.returncode == 1
        assert "the runbook, or a hand, has moved it to 0 %" in told
        assert weight(cluster) == 0
        none_failed(traffic, began)
        at(cluster, 0)
        cluster.up(4)


class TestFaults:
    """Whatever goes wrong on the way: traffic goes on, or back."""

    def test_green_that_crashes_is_left_by_itself_and_few_requests_fail(
        self, cluster: Cluster, traffic: Traffic
    ) -> None:
        at(cluster, 0)
        began = time.time()
        with shifting(cluster, "--to", "50", "--hold", "60s") as process:
            wait_for(lambda: traffic.share("green", time.time() - 2, time.time()) > 40, "half of the traffic on green")
            broke = time.time()
            with broken(cluster, "api-gateway", "green", "crash"):
                assert process.wait(60) == 1
                assert weight(cluster) == 0
                wait_for(lambda: settled(traffic, "blue"), "all traffic to be on blue")
        failed = [answer for answer in traffic.between(began, time.time()) if answer.failure]
        assert failed, "nothing has been broken"
        # Half of what comes within ten seconds, and no more once hosts are ejected and traffic is back.
        assert len(failed) <= RATE / 2 * 10, len(failed)
        assert max(answer.ended for answer in failed) - broke < 20

    def test_green_that_is_slow_is_left_too(self, cluster: Cluster, traffic: Traffic) -> None:
        began = time.time()
        with broken(cluster, "api-gateway", "green", "slow"):
            # Clients that wait for slow answers ask for less: at 10 % it might be too few to tell.
            told = shift(cluster, "--to", "50", "--hold", "60s", expect=1)
        assert "p95" in told["told"]
        assert weight(cluster) == 0
        none_failed(traffic, began)

    def test_green_that_never_becomes_ready_gets_no_traffic(self, cluster: Cluster, traffic: Traffic) -> None:
        deployed_at_0(cluster)
        began = time.time()
        with broken(cluster, "auth-service", "green", "crash"):
            wait_for(lambda: available(cluster, "auth-service-green") == 0, "green to be unavailable")
            told = shift(cluster, "--to", "10", "--hold", "1s", expect=1)
            assert "auth-service-green" in told["told"]
            cluster.override("blueGreen.greenWeight", 10)
            done = cluster.run("up", "--stack", "prod", "--phase", "4", expect=1)
            assert "giving green 10 % of the requests: not available: auth-service-green" in done.stdout + done.stderr
            assert "the runbook, or a hand" not in done.stdout + done.stderr
            cluster.override("blueGreen.greenWeight", 0)
            assert weight(cluster) == 0
        none_failed(traffic, began)

    def test_a_second_shift_is_refused_and_a_shift_that_died_is_picked_up(
        self, cluster: Cluster, traffic: Traffic
    ) -> None:
        began = time.time()
        with shifting(cluster, "--to", "10,50", "--hold", "120s") as process:
            wait_for(lambda: weight(cluster) == 10, "the first step")
            told = shift(cluster, "--to", "20", "--hold", "1s", expect=1)
            assert "wait for its end" in told["told"]
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert weight(cluster) == 10
        wait_for(lambda: not shift_is_held(cluster), "the dead one's lease to be over", 90)
        told = shift(cluster, "--to", "10,50", "--hold", "3s", "--min-requests", "10")
        assert told["from"] == 10
        assert weight(cluster) == 50
        none_failed(traffic, began)
        at(cluster, 0)

    def test_a_rollback_breaks_into_a_shift_which_stops(self, cluster: Cluster, traffic: Traffic) -> None:
        began = time.time()
        with shifting(cluster, "--to", "10,100", "--hold", "60s") as process:
            wait_for(lambda: weight(cluster) == 10, "the first step")
            cluster.runbook("rollback")
            assert process.wait(30) == 1
        assert weight(cluster) == 0
        none_failed(traffic, began)

    def test_without_istiod_traffic_goes_on_and_a_shift_stops(self, cluster: Cluster, traffic: Traffic) -> None:
        began = time.time()
        istiod = "-n istio-system scale deployment istiod-1-31-1 --replicas"
        before = processes_of(cluster.plane, "discovery")
        with shifting(cluster, "--to", "10,50", "--hold", "60s") as process:
            wait_for(lambda: weight(cluster) == 10, "the first step")
            cluster.kubectl(f"{istiod}=0")
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 1
        assert "istiod" in json.loads(out)["told"]
        assert weight(cluster) == 10
        cluster.kubectl(f"{istiod}=1")
        wait_for(lambda: processes_of(cluster.plane, "discovery") not in ([], before), "istiod to be back")
        none_failed(traffic, began)
        at(cluster, 0)


class TestRetiring:
    """Blue goes when green has had everything for long enough, and comes back when it is wanted."""

    def test_an_edit_by_hand_does_not_stop_blue_before_its_time(self, cluster: Cluster) -> None:
        at(cluster, 100)
        cluster.up(4)
        cluster.override("blueGreen.stopped", "blue")
        done = cluster.run("up", "--stack", "prod", "--phase", "4", expect=1)
        assert "green has not had all requests for 86400 s" in done.stdout + done.stderr
        cluster.override("blueGreen.stopped", "none")

    def test_blue_is_retired_and_back_without_a_failed_request(self, cluster: Cluster, traffic: Traffic) -> None:
        began = time.time()
        at(cluster, 100)
        cluster.override("blueGreen.retireAfter", "1s")
        cluster.up(4)
        cluster.runbook("retire")
        cluster.up(4)
        wait_for(lambda: colours(cluster) == {"green"}, "blue's pods to go")
        assert cluster.runbook("rollback", check=False).returncode == 1
        assert weight(cluster) == 100
        cluster.override("blueGreen.stopped", "none")
        cluster.up(4)
        wait_for(lambda: colours(cluster) == {"blue", "green"} and cluster.is_at_strength(), "blue to be back")
        at(cluster, 0)
        wait_for(lambda: settled(traffic, "blue"), "all traffic to be on blue")
        none_failed(traffic, began)


class TestValidation:
    """The production validation of the runbook."""

    def test_all_endpoints_answer_and_the_load_test_passes(self, cluster: Cluster) -> None:
        told = json.loads(cluster.runbook("validate", "--json").stdout)
        assert all(told["kept"].values())
        assert told["requests"] == 1000

    def test_a_gateway_that_fails_does_not_pass(self, cluster: Cluster) -> None:
        with broken(cluster, "api-gateway", "blue", "errors"):
            assert cluster.runbook("validate", check=False).returncode == 3


class TestGoingDown:
    """From phase 4 to 3 under traffic."""

    def test_a_bare_edit_with_traffic_on_green_is_refused(self, cluster: Cluster) -> None:
        at(cluster, 10)
        done = cluster.run("up", "--stack", "prod", "--phase", "3", expect=2)
        assert "runbook retreat" in done.stderr
        at(cluster, 0)

    def test_a_retreat_loses_no_request_and_leaves_nothing(
        self, cluster: Cluster, traffic: Traffic, blue_before: dict[str, str]
    ) -> None:
        began = time.time()
        cluster.runbook("retreat", "--yes")
        wait_for(lambda: settled(traffic, "blue"), "all traffic to be on blue")
        none_failed(traffic, began)
        assert deployments(cluster) == blue_before
        assert left(cluster) == {}
        assert cluster.changes(3) == set()


def green_with(cluster: Cluster, service: str, tag: str) -> list[dict[str, Any]]:
    """Green's services, one of them from another image."""
    return [
        {**each, "image": f"{each['image'].partition(':')[0]}:{tag}"} if each["name"] == service else each
        for each in cluster.stack_file()["pyairtable:blueGreen"]["services"]
    ]


def image(cluster: Cluster, deployment: str) -> str:
    """What a Deployment's pods are to run."""
    found = cluster.api.get("apps/v1", "Deployment", deployment, "pyairtable")
    assert found
    return found["spec"]["template"]["spec"]["containers"][0]["image"]


def colours(cluster: Cluster) -> set[str]:
    """Those that have pods."""
    return {label(pod, "version") for pod in cluster.pods() if label(pod, "version")}


def shift_is_held(cluster: Cluster) -> bool:
    """Whether the lease of a shift has not run out."""
    lease = cluster.api.get("coordination.k8s.io/v1", "Lease", "runbook-shift", "pyairtable")
    if lease is None:
        return False
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    return (datetime.now(UTC) - renewed).total_seconds() < lease["spec"]["leaseDurationSeconds"]


def left(cluster: Cluster) -> dict[str, list[str]]:
    """What is left of the mesh and of green, but for the definitions, which Helm keeps; empty when it is nothing."""
    listed = {
        "namespaces": [
            name_of(found) for found in cluster.api.list("v1", "Namespace") if name_of(found).startswith("istio")
        ],
        "pods": [name_of(pod) for pod in cluster.pods() if label(pod, "version") == "green"],
        "sidecars": [
            name_of(pod)
            for pod in cluster.pods()
            if any(c["name"] == "istio-proxy" for c in pod["spec"].get("initContainers", []))
        ],
        "webhooks": [
            name_of(found)
            for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
            for found in cluster.api.list("admissionregistration.k8s.io/v1", kind)
            if "istio" in name_of(found)
        ],
    }
    return {kind: items for kind, items in listed.items() if items}
