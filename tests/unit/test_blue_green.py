"""Phase 4's share of the traffic: which requests which colour gets, and what has to be there before green gets any."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi
import pytest
from pulumi.runtime import mocks

from components.blue_green.release_guard import GreenUnavailableError, once_available
from components.shared.deployments import RunningDeployment
from infra.environments import ENVIRONMENTS
from infra.program import Platform
from infra.settings import Settings
from tests.unit.graph import (
    CERTIFICATE,
    KUBERNETES_PROVIDER,
    Cloud,
    Graph,
    Node,
    config,
    green,
    platform,
    run,
    stack_file,
    two_releases,
)

GATEWAY = "api-gateway"
HOST = "api-gateway.pyairtable.svc.cluster.local"
ROUTE = "blue-green-route"
GREEN_SERVICES = [service["name"] for service in stack_file("prod")["pyairtable:blueGreen"]["services"]]
WEIGHTS = [0, 10, 100]

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def public_route(graph: Graph) -> dict[str, Any]:
    return graph.object("VirtualService", GATEWAY).inputs["spec"]


def rules(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rules by their names, in their order."""
    return {rule["name"]: rule for rule in spec["http"]}


def shares(rule: dict[str, Any]) -> dict[str, int | None]:
    """What each subset gets of a rule."""
    return {to["destination"]["subset"]: to.get("weight") for to in rule["route"]}


def every_route(graph: Graph) -> list[tuple[Node, dict[str, Any]]]:
    return [(node, rule) for node in graph.objects("VirtualService") for rule in node.inputs["spec"]["http"]]


def from_pods_of(colour: str) -> list[dict[str, Any]]:
    return [{"sourceLabels": {"version": colour}}]  # with `gateways`, istiod would not look at the labels


class TestPublicRoute:
    def test_the_rules_come_in_the_order_in_which_they_count(self) -> None:
        assert list(rules(public_route(two_releases()))) == ["canary", "green-callers", "blue-callers", "weighted"]

    @pytest.mark.parametrize("weight", WEIGHTS)
    def test_whoever_asks_for_the_canary_gets_green_at_any_weight(self, weight: int) -> None:
        rule = rules(public_route(two_releases(greenWeight=weight)))["canary"]
        assert rule["match"] == [{"headers": {"canary": {"exact": "true"}}}]
        assert shares(rule) == {"green": None}

    @pytest.mark.parametrize("colour", ["blue", "green"])
    def test_a_service_that_calls_it_stays_with_its_colour(self, colour: str) -> None:
        rule = rules(public_route(two_releases(greenWeight=50)))[f"{colour}-callers"]
        assert (rule["match"], shares(rule)) == (from_pods_of(colour), {colour: None})

    @pytest.mark.parametrize("weight", WEIGHTS)
    def test_everybody_else_is_shared_between_both_colours_by_weight(self, weight: int) -> None:
        rule = rules(public_route(two_releases(greenWeight=weight)))["weighted"]
        assert "match" not in rule
        assert shares(rule) == {"blue": 100 - weight, "green": weight}

    @pytest.mark.parametrize("weight", WEIGHTS)
    def test_its_weight_is_noted_on_it_and_is_the_stacks_output(self, weight: int) -> None:
        graph = two_releases(greenWeight=weight)
        annotations = graph.object("VirtualService", GATEWAY).inputs["metadata"]["annotations"]
        assert annotations["pyairtable.io/green-weight"] == str(weight)
        assert graph.outputs["green_weight"] == weight

    def test_only_it_gives_way_to_an_update_after_others_have_changed_it(self) -> None:
        forced = {
            node.name
            for node in two_releases().kubernetes
            if "pulumi.com/patchForce" in node.inputs.get("metadata", {}).get("annotations", {})
        }
        assert forced == {ROUTE}

    def test_clients_come_by_the_load_balancers_name_and_services_by_the_services(self) -> None:
        spec = public_route(two_releases())
        assert spec["hosts"] == [HOST, "edge.elb.example"]
        assert spec["gateways"] == ["mesh", "pyairtable/ingress-gateway"]

    def test_clients_come_by_the_domain_where_there_is_one(self) -> None:
        edge = {"domain": "api.pyairtable.example", "certificateArn": CERTIFICATE}
        assert public_route(platform("prod", edge=edge))["hosts"] == [HOST, "api.pyairtable.example"]

    @pytest.mark.parametrize("stack", ["dev", "staging"])
    def test_without_an_edge_only_the_services_name_leads_to_it(self, stack: str) -> None:
        spec = public_route(two_releases(stack))
        assert spec["hosts"] == [HOST]
        assert "pyairtable/ingress-gateway" in spec["gateways"]


class TestWeight:
    def test_a_change_of_it_is_a_change_of_one_resource(self) -> None:
        before, after = two_releases(greenWeight=10), two_releases(greenWeight=100)
        assert [node.urn for node in before.nodes] == [node.urn for node in after.nodes]
        changed = [node.name for node, then in zip(before.nodes, after.nodes, strict=True) if node != then]
        assert changed == [ROUTE]

    def test_the_first_share_changes_that_resource_only_and_looks_at_green(self) -> None:
        before, after = two_releases(greenWeight=0), two_releases(greenWeight=10)
        changed = [
            node.name for node, then in zip(before.nodes, after.nodes, strict=True) if node.inputs != then.inputs
        ]
        assert changed == [ROUTE]
        assert len(after.reads) - len(before.reads) == len(GREEN_SERVICES)

    def test_the_price_is_the_same_at_every_weight(self) -> None:
        prices = {two_releases(greenWeight=weight).outputs["estimated_monthly_cost_usd"] for weight in WEIGHTS}
        assert len(prices) == 1


class TestReleasePolicies:
    """What the API server refuses of a deployment; tests/sandbox/test_release_policies.py has it refuse."""

    @pytest.mark.parametrize("policy", ["pyairtable-keep-rollbacks", "pyairtable-keep-blue"])
    def test_each_is_in_force_and_lets_through_what_it_cannot_read(self, policy: str) -> None:
        graph = two_releases()
        assert graph.object("ValidatingAdmissionPolicy", policy).inputs["spec"]["failurePolicy"] == "Ignore"
        binding = graph.object("ValidatingAdmissionPolicyBinding", policy).inputs["spec"]
        assert (binding["policyName"], binding["validationActions"]) == (policy, ["Deny"])

    @pytest.mark.parametrize(("given", "seconds"), [({}, 86400), ({"retireAfter": "30m"}, 1800)])
    def test_blue_stays_for_as_long_as_the_config_says(self, given: Mapping[str, Any], seconds: int) -> None:
        policy = two_releases(**given).object("ValidatingAdmissionPolicy", "pyairtable-keep-blue").inputs
        assert f'duration("{seconds}s")' in policy["spec"]["validations"][-1]["expression"]
        assert policy["metadata"]["annotations"] == {"pyairtable.io/retire-after-seconds": str(seconds)}

    def test_they_are_there_before_anything_that_comes_after_the_routes(self) -> None:
        graph = two_releases(greenWeight=100, stopped="blue")
        policies = {node.urn for node in graph.objects("ValidatingAdmissionPolicyBinding")}
        (stopped,) = (node for node in graph.objects("Deployment") if node.inputs["metadata"]["name"] == GATEWAY)
        assert policies <= graph.before(stopped)


READ = "blue-green-guard-auth-service-green-live"
"""The look at one of green's Deployments in the whole program."""
DEPLOYMENTS = {
    f"{service}-green": RunningDeployment(id=f"pyairtable/{service}-green", min_replicas=2)
    for service in ("auth-service", "user-service")
}


def guarded(
    weight: int,
    available: Mapping[str, int | None],
    replicas: Mapping[str, int] | None = None,
    *,
    preview: bool = False,
) -> Graph:
    """A weight behind the guard of two Deployments, where these have as many available replicas, of so many."""
    reads = {f"guard-{deployment}-live": number for deployment, number in available.items()}
    wanted = {f"guard-{deployment}-live": number for deployment, number in (replicas or {}).items()}

    def program() -> None:
        pulumi.export("weight", once_available("guard", weight, DEPLOYMENTS, pulumi.ResourceOptions()))

    return run(program, preview=preview, cloud=Cloud(reads, wanted))


class TestGuard:
    @pytest.mark.parametrize("available", [0, 1, None])
    @pytest.mark.parametrize("weight", [1, 50, 100])
    def test_green_gets_nothing_while_one_of_its_deployments_lacks_a_replica(
        self, weight: int, available: int | None
    ) -> None:
        with pytest.raises(GreenUnavailableError) as error:
            guarded(weight, {"user-service-green": available})
        assert str(error.value) == (
            f"giving green {weight} % of the requests: not available: user-service-green ({available or 0} of 2); mend "
            "green, or send all requests to blue with greenWeight: 0 or runbook rollback"
        )

    def test_all_that_are_missing_are_named_in_one_line(self) -> None:
        with pytest.raises(GreenUnavailableError) as error:
            guarded(10, {"auth-service-green": 1, "user-service-green": 0})
        assert "auth-service-green (1 of 2), user-service-green (0 of 2)" in str(error.value)
        assert len(str(error.value).splitlines()) == 1

    def test_as_many_replicas_as_a_deployment_has_at_least_are_enough(self) -> None:
        assert guarded(10, dict.fromkeys(DEPLOYMENTS, 2)).outputs["weight"] == 10

    def test_one_that_has_just_been_made_has_one_until_its_autoscaler_has_looked(self) -> None:
        assert guarded(10, dict.fromkeys(DEPLOYMENTS, 1), dict.fromkeys(DEPLOYMENTS, 1)).outputs["weight"] == 10

    def test_one_that_somebody_has_scaled_to_nothing_is_missing(self) -> None:
        with pytest.raises(GreenUnavailableError, match=r"user-service-green \(0 of 1\)"):
            guarded(10, {"user-service-green": None}, {"user-service-green": 0})

    def test_a_preview_only_warns_since_the_update_may_mend_it(self) -> None:
        graph = guarded(10, {"auth-service-green": 1}, preview=True)
        (warning,) = graph.warnings
        assert warning.startswith("giving green 10 % of the requests: not available: auth-service-green (1 of 2); ")
        assert graph.outputs["weight"] == 10

    def test_the_route_is_not_touched_then(self) -> None:
        seen: list[str] = []

        class Watching(Cloud):
            def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
                seen.append(args.name)
                return super().new_resource(args)

        settings = Settings.from_config("prod", config("prod", blueGreen=green(greenWeight=10)))
        with pytest.raises(GreenUnavailableError):
            run(lambda: Platform(settings), "prod", cloud=Watching({READ: 0}))
        assert READ in seen
        assert ROUTE not in seen

    def test_it_looks_at_each_of_greens_deployments_in_the_stacks_own_cluster(self) -> None:
        graph = two_releases(greenWeight=10)
        looks = {read.id: read.provider for read in graph.reads if read.type.endswith(":Deployment")}
        assert looks == {
            f"green-{service}-deployment-id": graph.only(KUBERNETES_PROVIDER).urn for service in GREEN_SERVICES
        }

    def test_at_weight_0_nobody_looks(self) -> None:
        assert [read for read in two_releases().reads if read.type.endswith(":Deployment")] == []


class Unknown(Cloud):
    """Tells nothing that only a cloud could, as in the preview of a stack that does not exist yet."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return "", dict(args.inputs)


class TestOutputs:
    """What the runbook compares the mesh with: what is there, and not what a failed `up` was to bring."""

    @pytest.mark.parametrize(("output", "resource"), [("green_weight", ROUTE), ("phase", "mutual-tls-peers")])
    def test_each_is_known_only_once_that_is_there_which_makes_it_true(self, output: str, resource: str) -> None:
        class Waiting(Cloud):
            def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
                made = super().new_resource(args)
                return ("", made[1]) if args.name == resource else made

        settings = Settings.from_config("prod", config("prod", blueGreen=green(greenWeight=10)))
        graph = run(lambda: Platform(settings), "prod", preview=True, cloud=Waiting())
        assert graph.outputs[output] is None
        assert graph.outputs["account_id"] is not None

    def test_both_are_numbers_after_an_update(self) -> None:
        outputs = two_releases(greenWeight=10).outputs
        assert (outputs["phase"], outputs["green_weight"]) == (4, 10)


@pytest.mark.parametrize(("stack", "weight"), [("dev", 0), ("dev", 50), ("prod", 0), ("prod", 50)])
def test_a_stack_from_scratch_can_be_previewed(stack: str, weight: int) -> None:
    settings = Settings.from_config(stack, config(stack, blueGreen=green(greenWeight=weight)))
    graph = run(lambda: Platform(settings), stack, preview=True, cloud=Unknown())
    assert {node.urn for node in graph.nodes} == {node.urn for node in two_releases(stack).nodes}
    assert graph.warnings == ()


class TestInside:
    """Calls between services."""

    @in_every_environment
    def test_every_service_has_its_pods_told_apart_by_colour(self, stack: str) -> None:
        names = {service["name"] for service in stack_file(stack)["pyairtable:services"]} | {*GREEN_SERVICES}
        found = {
            node.inputs["metadata"]["name"]: {
                subset["name"]: subset["labels"] for subset in node.inputs["spec"]["subsets"]
            }
            for node in two_releases(stack).objects("DestinationRule")
        }
        assert found == {name: {colour: {"version": colour} for colour in ("blue", "green")} for name in names}

    def test_a_service_that_one_colour_loses_keeps_the_subset_that_its_old_route_names(self) -> None:
        """An `up` deletes last, that route too."""
        left = stack_file("prod")["pyairtable:blueGreen"]["services"]
        both = two_releases("dev")
        fewer = two_releases("dev", services=[dict(s, calls=[]) for s in left if s["name"] == GATEWAY])
        gone = {node.inputs["metadata"]["name"] for node in both.objects("VirtualService")} - {GATEWAY}
        assert gone
        for name in gone:
            before, after = (graph.object("DestinationRule", name).inputs for graph in (both, fewer))
            assert before == after

    @pytest.mark.parametrize("stack", ["dev", "staging"])
    def test_a_call_stays_in_its_colour_where_both_have_the_service(self, stack: str) -> None:
        routes = {
            node.inputs["metadata"]["name"]: node.inputs["spec"]
            for node in two_releases(stack).objects("VirtualService")
        }
        assert routes.keys() == {*GREEN_SERVICES}
        for service in routes.keys() - {GATEWAY}:
            spec = routes[service]
            assert (spec["hosts"], spec["gateways"]) == ([f"{service}.pyairtable.svc.cluster.local"], ["mesh"])
            green_callers, others = spec["http"]
            assert (green_callers["match"], shares(green_callers)) == (from_pods_of("green"), {"green": None})
            assert ("match" in others, shares(others)) == (False, {"blue": None})

    def test_a_service_that_one_colour_has_needs_no_route_and_serves_both(self) -> None:
        graph = two_releases()
        assert [node.inputs["metadata"]["name"] for node in graph.objects("VirtualService")] == [GATEWAY]

    @in_every_environment
    def test_every_destination_is_the_services_own_name_and_a_subset_that_it_has(self, stack: str) -> None:
        graph = two_releases(stack)
        subsets = {
            (node.inputs["spec"]["host"], subset["name"])
            for node in graph.objects("DestinationRule")
            for subset in node.inputs["spec"]["subsets"]
        }
        used = {
            (to["destination"]["host"], to["destination"]["subset"])
            for _, rule in every_route(graph)
            for to in rule["route"]
        }
        assert used
        assert used <= subsets

    @in_every_environment
    def test_a_request_is_tried_again_only_where_no_service_has_seen_it(self, stack: str) -> None:
        retries = [rule["retries"] for _, rule in every_route(two_releases(stack))]
        assert retries
        assert all(r == {"attempts": 2, "retryOn": "connect-failure,refused-stream"} for r in retries)

    @in_every_environment
    def test_pods_that_fail_are_left_out_for_a_while_and_never_more_than_half_of_them(self, stack: str) -> None:
        for node in two_releases(stack).objects("DestinationRule"):
            outliers = node.inputs["spec"]["trafficPolicy"]["outlierDetection"]
            assert (outliers["consecutive5xxErrors"], outliers["consecutiveGatewayErrors"]) == (5, 5)
            assert outliers["maxEjectionPercent"] == 50

    @in_every_environment
    def test_connections_are_limited_and_given_up_soon(self, stack: str) -> None:
        for node in two_releases(stack).objects("DestinationRule"):
            pool = node.inputs["spec"]["trafficPolicy"]["connectionPool"]
            assert pool["tcp"] == {"connectTimeout": "1s", "maxConnections": 1024}
            assert pool["http"]["http1MaxPendingRequests"] == 1024
            assert pool["http"]["idleTimeout"] == "4s"

    @in_every_environment
    def test_no_destination_says_how_its_tls_is_so_that_the_mesh_does(self, stack: str) -> None:
        assert '"tls"' not in json.dumps([node.inputs for node in two_releases(stack).objects("DestinationRule")])


def urns(graph: Graph, *kinds: str, prefix: str = "") -> set[str]:
    return {node.urn for kind in kinds for node in graph.objects(kind) if node.name.startswith(prefix)}


class TestLeaving:
    LEAVING: ClassVar[dict[str, Any]] = {"mtls": "permissive", "stopped": "green"}

    def test_clients_reach_blue_past_the_mesh_which_still_has_its_gateway_and_routes(self) -> None:
        graph = two_releases(**self.LEAVING)
        service = graph.object("Service", "edge").inputs["spec"]
        assert service["selector"] == {"app": "api-gateway", "version": "blue"}
        assert [port["targetPort"] for port in service["ports"]] == [8080]
        (let_in,) = graph.object("NetworkPolicy", "edge").inputs["spec"]["ingress"]
        assert let_in["from"] == [{"ipBlock": {"cidr": "10.30.0.0/16"}}]
        assert graph.named("blue-green-gateway-release")
        assert graph.object("VirtualService", "api-gateway")

    def test_blue_takes_plain_text_before_they_do(self) -> None:
        graph = two_releases(**self.LEAVING)
        assert graph.object("PeerAuthentication", "default").inputs["spec"] == {"mtls": {"mode": "PERMISSIVE"}}
        assert graph.object("PeerAuthentication", "default").urn in graph.before(graph.object("Service", "edge"))

    @pytest.mark.parametrize("section", [{"mtls": "permissive"}, {"stopped": "green"}])
    def test_one_of_the_two_alone_leads_nobody_past_it(self, section: dict[str, Any]) -> None:
        graph = two_releases(**section)
        assert graph.object("Service", "edge").inputs["spec"]["selector"]["istio"] == "ingress-gateway"
        assert graph.object("Service", "edge").urn in graph.before(graph.object("PeerAuthentication", "default"))


class TestOrder:
    @in_every_environment
    def test_a_destination_rule_exists_before_the_routes_that_use_it_and_goes_after(self, stack: str) -> None:
        graph = two_releases(stack)
        for node in graph.objects("VirtualService"):
            used = {to["destination"]["host"] for rule in node.inputs["spec"]["http"] for to in rule["route"]}
            rules_ = {r.urn for r in graph.objects("DestinationRule") if r.inputs["spec"]["host"] in used}
            assert rules_
            assert rules_ <= graph.before(node)

    @in_every_environment
    def test_blues_calls_have_their_routes_before_green_has_a_pod(self, stack: str) -> None:
        graph = two_releases(stack)
        routes = urns(graph, "DestinationRule", "VirtualService", prefix="routes-")
        for node in graph.objects("Deployment"):
            if node.name.startswith("green-"):
                assert routes <= graph.before(node)

    @in_every_environment
    def test_istiod_is_there_before_a_pod_asks_for_its_sidecar(self, stack: str) -> None:
        graph = two_releases(stack)
        istiod = {graph.named("mesh-istiod-1-31-1").urn, graph.named("mesh-cni").urn, graph.named("mesh-policy").urn}
        asking = [node for node in graph.objects("Deployment") if node.name.startswith(("blue-", "green-"))]
        assert asking
        for node in (*asking, graph.named("blue-green-gateway-release")):
            assert istiod <= graph.before(node)

    @in_every_environment
    def test_green_comes_after_blue_and_the_route_only_after_both(self, stack: str) -> None:
        graph = two_releases(stack)
        blue, green_ = urns(graph, "Deployment", prefix="blue-"), urns(graph, "Deployment", prefix="green-")
        assert all(blue <= graph.before(graph.at(urn)) for urn in green_)
        assert blue | green_ <= graph.before(graph.named(ROUTE))

    @in_every_environment
    def test_on_the_way_down_the_gateways_pods_go_before_their_route_and_that_before_what_it_goes_by(
        self, stack: str
    ) -> None:
        graph = two_releases(stack)
        pods, route = graph.named("blue-green-gateway-release"), graph.named(ROUTE)
        assert route.urn in graph.before(pods)
        parts = {graph.named(f"blue-green-gateway-{part}").urn for part in ("gateway", "policy", "service-policy")}
        assert parts <= graph.before(route)

    @pytest.mark.parametrize(("stopped", "weight"), [("green", 0), ("blue", 100)])
    def test_a_colour_stops_only_when_the_routes_have_left_it(self, stopped: str, weight: int) -> None:
        graph = two_releases(stopped=stopped, greenWeight=weight)
        deployments = {colour: urns(graph, "Deployment", prefix=f"{colour}-") for colour in ("blue", "green")}
        serving = deployments["blue" if stopped == "green" else "green"]
        assert deployments[stopped]
        assert serving <= graph.before(graph.named(ROUTE))
        for urn in deployments[stopped]:
            assert graph.named(ROUTE).urn in graph.before(graph.at(urn))

    def test_the_edge_moves_to_the_gateway_once_gateway_routes_and_both_releases_are_there(self) -> None:
        graph = two_releases()
        deployments = urns(graph, "Deployment", prefix="blue-") | urns(graph, "Deployment", prefix="green-")
        gateway = {graph.named(f"blue-green-gateway-{part}").urn for part in ("release", "gateway", "policy")}
        before = graph.before(graph.object("Service", "edge"))
        assert deployments | gateway | urns(graph, "VirtualService", "DestinationRule") <= before

    @in_every_environment
    def test_plain_text_is_refused_only_when_nobody_has_to_speak_it(self, stack: str) -> None:
        graph = two_releases(stack)
        before = graph.before(graph.object("PeerAuthentication", "default"))
        edge = urns(graph, "Service", prefix="edge-")
        assert bool(edge) == (stack == "prod")
        assert (
            edge | urns(graph, "Deployment", "VirtualService") - urns(graph, "Deployment", prefix="secrets") <= before
        )

    @in_every_environment
    def test_istiod_is_the_last_of_the_mesh_to_go(self, stack: str) -> None:
        graph = two_releases(stack)
        for kind in ("VirtualService", "DestinationRule", "Gateway", "PeerAuthentication", "Sidecar"):
            for node in graph.objects(kind):
                assert graph.named("mesh-istiod-1-31-1").urn in graph.before(node)


class TestMutualTls:
    @pytest.mark.parametrize("mode", ["strict", "permissive"])
    def test_it_is_for_every_pod_of_the_namespace_as_the_config_says(self, mode: str) -> None:
        node = two_releases(mtls=mode).object("PeerAuthentication", "default")
        assert node.inputs["spec"] == {"mtls": {"mode": mode.upper()}}

    def test_it_is_strict_unless_something_else_is_said(self) -> None:
        assert two_releases().object("PeerAuthentication", "default").inputs["spec"]["mtls"]["mode"] == "STRICT"

    def test_the_first_step_back_changes_nothing_else(self) -> None:
        before, after = two_releases(mtls="strict"), two_releases(mtls="permissive")
        changed = [node.name for node, then in zip(before.nodes, after.nodes, strict=True) if node != then]
        assert changed == ["mutual-tls-peers"]
