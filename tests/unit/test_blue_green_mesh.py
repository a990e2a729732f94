"""Phase 4's mesh: what of Istio is installed, how large it is, who gets a sidecar, and who is let through."""

import json
from typing import Any

import pytest

from components.blue_green.istio import ISTIO_VERSION, REVISION
from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, stack_file, two_releases
from tests.unit.test_compute_network_policies import among_pods, configured, rules, with_outside

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
RELEASES = {
    "istio-base": ("base", "istio-system"),
    "istio-cni": ("cni", "istio-cni"),
    "istiod-1-31-1": ("istiod", "istio-system"),
    "ingress-gateway": ("gateway", "pyairtable"),
}
CAPTURE = "traffic.sidecar.istio.io/"


def values(graph: Graph, release: str) -> dict[str, Any]:
    (node,) = (node for node in graph.objects("Release") if node.inputs["name"] == release)
    return node.inputs["values"]


def templates(graph: Graph) -> dict[str, dict[str, Any]]:
    """Pod templates by the names of what makes the pods."""
    found = {
        node.inputs["metadata"]["name"]: node.inputs["spec"]["template"]
        for kind in ("Deployment", "StatefulSet", "Job")
        for node in graph.objects(kind)
    }
    jobs = {
        node.inputs["metadata"]["name"]: node.inputs["spec"]["jobTemplate"]["spec"]["template"]
        for node in graph.objects("CronJob")
    }
    return found | jobs


def meshed(graph: Graph) -> set[str]:
    return {name for name, pod in templates(graph).items() if "istio.io/rev" in pod["metadata"]["labels"]}


class TestReleases:
    @in_every_environment
    def test_istio_is_four_charts_of_one_pinned_version_from_its_own_repository(self, stack: str) -> None:
        found = {
            node.inputs["name"]: node.inputs
            for node in two_releases(stack).objects("Release")
            if "istio" in json.dumps(node.inputs["repositoryOpts"])
        }
        assert {name: (inputs["chart"], inputs["namespace"]) for name, inputs in found.items()} == RELEASES
        assert {inputs["version"] for inputs in found.values()} == {ISTIO_VERSION}
        repositories = {inputs["repositoryOpts"]["repo"] for inputs in found.values()}
        assert repositories == {"https://istio-release.storage.googleapis.com/charts"}

    @pytest.mark.parametrize("release", ["istio-cni", "istiod-1-31-1"])
    def test_its_images_come_from_where_nodes_are_not_rate_limited(self, release: str) -> None:
        images = values(two_releases(), release)["global"]
        assert (images["hub"], images["tag"]) == ("registry.istio.io/release", ISTIO_VERSION)

    def test_the_revision_is_the_version_so_that_the_next_one_can_stand_beside_it(self) -> None:
        graph = two_releases()
        assert ISTIO_VERSION.replace(".", "-") == REVISION
        assert values(graph, f"istiod-{REVISION}")["revision"] == REVISION
        assert values(graph, "ingress-gateway")["revision"] == REVISION

    def test_objects_without_a_revision_are_validated_by_it(self) -> None:
        assert values(two_releases(), "istio-base") == {"defaultRevision": REVISION}

    @in_every_environment
    @pytest.mark.parametrize(
        ("release", "requests", "limits"),
        [
            ("istio-cni", {"cpu": "10m", "memory": "64Mi"}, {"cpu": "200m", "memory": "128Mi"}),
            ("istiod-1-31-1", {"cpu": "100m", "memory": "256Mi"}, {"cpu": "1000m", "memory": "512Mi"}),
            ("ingress-gateway", {"cpu": "50m", "memory": "64Mi"}, {"cpu": "1000m", "memory": "256Mi"}),
        ],
    )
    def test_its_parts_are_sized_for_the_budget(
        self, stack: str, release: str, requests: dict[str, str], limits: dict[str, str]
    ) -> None:
        assert values(two_releases(stack), release)["resources"] == {"requests": requests, "limits": limits}

    def test_a_sidecar_is_sized_for_the_budget(self) -> None:
        proxy = values(two_releases(), "istiod-1-31-1")["global"]["proxy"]
        assert proxy["resources"] == {
            "requests": {"cpu": "10m", "memory": "40Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        }

    def test_istiod_never_blocks_a_drain_and_goes_before_services(self) -> None:
        istiod = values(two_releases(), "istiod-1-31-1")
        assert (istiod["autoscaleEnabled"], istiod["replicaCount"]) == (False, 1)
        assert istiod["global"]["priorityClassName"] == "system-cluster-critical"

    def test_sidecars_are_native_and_the_cni_plugin_spares_them_privileges(self) -> None:
        istiod = values(two_releases(), "istiod-1-31-1")
        assert istiod["env"] == {"ENABLE_NATIVE_SIDECARS": "true"}
        assert istiod["cni"]["enabled"] is True

    def test_istiod_watches_the_mesh_only(self) -> None:
        selectors = values(two_releases(), "istiod-1-31-1")["meshConfig"]["discoverySelectors"]
        names = [selector["matchLabels"]["kubernetes.io/metadata.name"] for selector in selectors]
        assert names == ["pyairtable", "istio-system"]

    def test_what_has_no_route_of_its_own_is_not_tried_again_either(self) -> None:
        policy = values(two_releases(), "istiod-1-31-1")["meshConfig"]["defaultHttpRetryPolicy"]
        assert policy == {"attempts": 2, "retryOn": "connect-failure,refused-stream"}

    def test_requests_are_not_logged_one_by_one(self) -> None:
        istiod = values(two_releases(), "istiod-1-31-1")
        assert istiod["meshConfig"]["accessLogFile"] == ""
        assert istiod["telemetry"] == {"enabled": False}


class TestNamespaces:
    def test_only_the_nodes_plugin_is_privileged(self) -> None:
        namespaces = {
            node.inputs["metadata"]["name"]: node.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            for node in two_releases().objects("Namespace")
        }
        assert namespaces == {
            "pyairtable": "restricted",
            "external-secrets-system": "restricted",
            "istio-system": "restricted",
            "istio-cni": "privileged",
        }

    def test_no_namespace_asks_for_sidecars(self) -> None:
        labels = {
            key for node in two_releases().objects("Namespace") for key in node.inputs["metadata"].get("labels", {})
        }
        assert not [label for label in labels if label.startswith(("istio", "sidecar"))]


class TestSidecars:
    @in_every_environment
    def test_the_services_of_both_colours_ask_for_one_and_nothing_else_does(self, stack: str) -> None:
        graph = two_releases(stack, greenWeight=0)
        services = {
            node.inputs["metadata"]["name"]
            for node in graph.objects("Deployment")
            if node.name.startswith(("blue-", "green-"))
        }
        assert meshed(graph) == services
        assert {"postgres", "redis", "secret-restarter", "postgres-backup"} <= templates(graph).keys() - services

    @in_every_environment
    def test_before_phase_4_none_does(self, stack: str) -> None:
        graph = two_releases(stack, 3)
        assert meshed(graph) == set()
        assert CAPTURE not in graph.text

    def test_a_pod_names_the_revision_by_which_it_moves_to_the_next(self) -> None:
        graph = two_releases()
        for name in meshed(graph):
            labels = templates(graph)[name]["metadata"]["labels"]
            assert (labels["istio.io/rev"], labels["sidecar.istio.io/inject"]) == (REVISION, "true")

    def test_stores_and_the_pod_identity_agent_are_reached_without_it(self) -> None:
        graph = two_releases()
        for name in meshed(graph):
            assert templates(graph)[name]["metadata"]["annotations"] == {
                f"{CAPTURE}excludeOutboundIPRanges": "169.254.170.23/32",
                f"{CAPTURE}excludeOutboundPorts": "5432,6379",
            }

    @in_every_environment
    def test_a_sidecar_knows_its_own_namespace_only(self, stack: str) -> None:
        node = two_releases(stack).object("Sidecar", "default")
        assert node.inputs["spec"] == {"egress": [{"hosts": ["./*", "istio-system/*"]}]}

    def test_a_selector_never_depends_on_the_mesh(self) -> None:
        for node in two_releases().objects("Deployment"):
            assert not [key for key in node.inputs["spec"]["selector"]["matchLabels"] if "istio" in key]


class TestGateway:
    @pytest.mark.parametrize(("stack", "replicas"), [("dev", 1), ("staging", 1), ("prod", 2)])
    def test_there_are_as_many_as_a_service_has_replicas(self, stack: str, replicas: int) -> None:
        gateway = values(two_releases(stack), "ingress-gateway")
        assert (gateway["replicaCount"], gateway["autoscaling"]) == (replicas, {"enabled": False})

    def test_it_is_behind_the_programs_own_edge(self) -> None:
        service = values(two_releases(), "ingress-gateway")["service"]
        assert service["type"] == "ClusterIP"
        assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(80, 8080)]

    def test_the_edge_leads_to_its_pods(self) -> None:
        graph = two_releases()
        spec = graph.object("Service", "edge").inputs["spec"]
        labels = values(graph, "ingress-gateway")["labels"]
        assert spec["selector"] == labels == {"app": "ingress-gateway", "istio": "ingress-gateway"}
        assert [(port["port"], port["targetPort"], port["nodePort"]) for port in spec["ports"]] == [(80, 8080, 30080)]

    @in_every_environment
    def test_it_takes_http_where_its_chart_opens_a_port(self, stack: str) -> None:
        spec = two_releases(stack).object("Gateway", "ingress-gateway").inputs["spec"]
        assert spec["selector"] == {"istio": "ingress-gateway"}
        assert spec["servers"] == [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]

    def test_it_fits_pod_security_restricted(self) -> None:
        security = values(two_releases(), "ingress-gateway")["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1337)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}

    def test_it_reads_no_secret(self) -> None:
        assert values(two_releases(), "ingress-gateway")["rbac"] == {"enabled": False}

    def test_a_drain_takes_one_at_a_time_and_a_rollout_brings_the_new_one_first(self) -> None:
        gateway = values(two_releases(), "ingress-gateway")
        assert gateway["podDisruptionBudget"] == {"maxUnavailable": 1}
        assert gateway["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}

    def test_one_that_goes_answers_until_the_load_balancer_has_forgotten_it(self) -> None:
        gateway = values(two_releases(), "ingress-gateway")
        drain = proxy_config(gateway)["terminationDrainDuration"]
        (target,) = two_releases().of_type("aws:lb/targetGroup:TargetGroup")
        assert drain == f"{target.inputs['deregistrationDelay']:.0f}s"
        assert gateway["terminationGracePeriodSeconds"] > target.inputs["deregistrationDelay"]

    def test_it_keeps_the_statistics_by_which_a_shift_is_judged(self) -> None:
        kept = proxy_config(values(two_releases(), "ingress-gateway"))["proxyStatsMatcher"]
        assert kept == {"inclusionPrefixes": ["cluster.outbound", "control_plane"]}


def proxy_config(gateway: dict[str, Any]) -> dict[str, Any]:
    return json.loads(gateway["podAnnotations"]["proxy.istio.io/config"])


def called() -> set[tuple[str, str, int]]:
    """The flows that green's services say they have."""
    ports = {"database": ("postgres", 5432), "redis": ("redis", 6379)}
    green = stack_file("prod")["pyairtable:blueGreen"]["services"]
    calls = {(service["name"], callee, 8080) for service in green for callee in service.get("calls", [])}
    return calls | {(s["name"], *ports[used]) for s in green for used in s.get("uses", []) if used in ports}


class TestNetwork:
    @in_every_environment
    def test_pods_of_both_colours_reach_each_other_exactly_as_the_config_says(self, stack: str) -> None:
        graph = two_releases(stack)
        # The gateway's pods are its chart's.
        own = {flow for flow in among_pods(graph, gateway=True) if "ingress-gateway" in flow[:2]}
        assert own == {("ingress-gateway", "api-gateway", 8080)}
        assert among_pods(graph, gateway=True) - own == configured(stack) | called()

    @in_every_environment
    def test_from_the_vpc_only_the_gateway_is_reached_for_requests_and_statistics(self, stack: str) -> None:
        graph = two_releases(stack)
        vpc = graph.only("aws:ec2/vpc:Vpc").inputs["cidrBlock"]
        assert with_outside(graph, "ingress", gateway=True) == {
            ("ingress-gateway", vpc, 8080),
            ("ingress-gateway", vpc, 15090),
        }

    @in_every_environment
    def test_every_proxy_and_nothing_else_reaches_istiod(self, stack: str) -> None:
        graph = two_releases(stack)
        istiod = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}},
            "podSelector": {"matchLabels": {"app": "istiod"}},
        }
        reaching = {(app, *ports) for app, peer, ports in rules(graph, "egress", gateway=True) if peer == istiod}
        services = {templates(graph)[name]["metadata"]["labels"]["app"] for name in meshed(graph)}
        assert reaching == {(app, 15012) for app in services | {"ingress-gateway"}}

    def test_a_policy_is_of_one_colour_only(self) -> None:
        """So that one may reach what the other may not."""
        graph = two_releases()
        for node in graph.objects("NetworkPolicy"):
            colour = node.name.removeprefix("blue-green-").partition("-")[0]
            if colour in {"blue", "green"}:
                assert node.inputs["spec"]["podSelector"]["matchLabels"]["version"] == colour
