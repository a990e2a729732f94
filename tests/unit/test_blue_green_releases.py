"""Phase 4's second release: green beside blue, one of them stopped, and the schema that both share."""

from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import MIGRATIONS, Graph, Node, fullest, platform, stack_file, two_releases

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
GREEN = {service["name"]: service for service in stack_file("prod")["pyairtable:blueGreen"]["services"]}
REGISTRY = "ghcr.io/pyairtable-org"


def names(graph: Graph, kind: str, colour: str) -> dict[str, Node]:
    """Objects of one colour by their names."""
    return {
        node.inputs["metadata"]["name"]: node
        for node in graph.objects(kind)
        if node.name.startswith(f"{colour}-") and not node.name.startswith("blue-green-")
    }


def blue_services(stack: str) -> set[str]:
    return {service["name"] for service in stack_file(stack)["pyairtable:services"]}


class TestGreen:
    @in_every_environment
    @pytest.mark.parametrize("kind", ["Deployment", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"])
    def test_its_objects_have_the_services_name_and_a_suffix(self, stack: str, kind: str) -> None:
        found = names(two_releases(stack), kind, "green").keys()
        assert found == {f"{service}-green" for service in GREEN}

    @in_every_environment
    def test_blue_keeps_the_plain_names(self, stack: str) -> None:
        assert names(two_releases(stack), "Deployment", "blue").keys() == blue_services(stack)

    def test_it_is_scaled_by_itself(self) -> None:
        scalers = names(two_releases(), "HorizontalPodAutoscaler", "green")
        assert {name: node.inputs["spec"]["scaleTargetRef"]["name"] for name, node in scalers.items()} == {
            f"{service}-green-hpa": f"{service}-green" for service in GREEN
        }
        assert {node.inputs["spec"]["minReplicas"] for node in scalers.values()} == {2}

    @in_every_environment
    def test_a_service_has_one_name_that_leads_to_the_pods_of_both(self, stack: str) -> None:
        services = {
            node.inputs["metadata"]["name"]: (node.name.partition("-")[0], node.inputs["spec"]["selector"])
            for node in two_releases(stack).objects("Service")
            if node.name.startswith(("blue-", "green-"))
        }
        assert services == {
            name: ("blue" if name in blue_services(stack) else "green", {"app": name})
            for name in blue_services(stack) | GREEN.keys()
        }

    def test_a_service_that_changes_its_colour_takes_its_name_along(self) -> None:
        """Otherwise it would be made while the other still has the name, and deleted with it at the end."""
        added = {"name": "billing", "image": GREEN["api-gateway"]["image"], "cpu": "100m", "memory": "128Mi"}
        green_ = [*GREEN.values(), added]
        in_green = two_releases(services=green_).object("Service", "billing")
        blue = [*stack_file("prod")["pyairtable:services"], added]
        second = {"enabled": True, "services": [*GREEN.values()]}
        in_blue = platform("prod", services=blue, blueGreen=second, edge={"plainHttp": True})
        moved = in_blue.object("Service", "billing")
        assert (in_green.name, moved.name) == ("green-billing-service", "blue-billing-service")
        for service, before in ((in_green, moved), (moved, in_green)):
            ((name, _),) = service.aliases
            assert service.urn.replace(service.name, name) == before.urn

    def test_its_pods_are_told_from_blues_by_their_version(self) -> None:
        for name, node in names(two_releases(), "Deployment", "green").items():
            own = {"app": name.removesuffix("-green"), "version": "green"}
            spec = node.inputs["spec"]
            assert spec["selector"]["matchLabels"] == own
            assert own.items() <= spec["template"]["metadata"]["labels"].items()
            assert spec["template"]["spec"]["serviceAccountName"] == name

    def test_it_is_the_go_services(self) -> None:
        images = {
            name: node.inputs["spec"]["template"]["spec"]["containers"][0]["image"]
            for name, node in names(two_releases(), "Deployment", "green").items()
        }
        assert images == {f"{name}-green": f"{REGISTRY}/microservices/{name}:v2.0.0" for name in GREEN}

    def test_a_service_may_call_one_that_only_blue_has(self) -> None:
        service = {**GREEN["auth-service"], "calls": ["mcp-server"]}
        graph = two_releases(services=[GREEN["api-gateway"] | {"calls": []}, service])
        out = graph.object("NetworkPolicy", "auth-service-green").inputs["spec"]["egress"]
        assert {"podSelector": {"matchLabels": {"app": "mcp-server"}}} in [rule["to"][0] for rule in out]
        into = graph.object("NetworkPolicy", "mcp-server").inputs["spec"]["ingress"][0]["from"]
        callers = {peer["podSelector"]["matchLabels"]["app"] for peer in into}
        assert callers == {"llm-orchestrator", "auth-service"}

    def test_its_secrets_bring_a_restart_to_it_too(self) -> None:
        restarted = {
            name
            for rule in two_releases().named("secrets-restarter-role").inputs["rules"]
            for name in rule.get("resourceNames", [])
        }
        readers = {f"{name}-green" for name, service in GREEN.items() if service.get("uses")}
        assert {name for name in restarted if name.endswith("-green")} == readers


class TestSecurity:
    @in_every_environment
    def test_every_pod_of_the_namespace_is_restricted_and_its_seccomp_profile_is_the_pods(self, stack: str) -> None:
        """The injected containers have none of their own."""
        for node in (*names(two_releases(stack), "Deployment", "green").values(), *jobs(fullest(stack)).values()):
            pod = node.inputs["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            for container in pod["containers"]:
                context = container["securityContext"]
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
                assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
                assert container["imagePullPolicy"] == "IfNotPresent"


def replicas(graph: Graph, colour: str) -> set[int | None]:
    return {node.inputs["spec"].get("replicas") for node in names(graph, "Deployment", colour).values()}


class TestStopped:
    def test_replicas_are_the_autoscalers_while_nothing_is_stopped(self) -> None:
        assert replicas(two_releases(), "blue") == replicas(two_releases(), "green") == {None}

    def test_green_that_gets_nothing_may_have_no_pods(self) -> None:
        graph = two_releases(stopped="green")
        assert (replicas(graph, "blue"), replicas(graph, "green")) == ({None}, {0})

    def test_blue_that_gets_nothing_may_have_no_pods(self) -> None:
        graph = two_releases(greenWeight=100, stopped="blue")
        assert (replicas(graph, "blue"), replicas(graph, "green")) == ({0}, {None})

    def test_it_changes_the_deployments_of_that_colour_only_and_what_is_waited_for_of_its_services(self) -> None:
        before, after = two_releases(), two_releases(stopped="green")
        changed = {
            node.name for node, then in zip(before.nodes, after.nodes, strict=True) if node.inputs != then.inputs
        }
        services = GREEN.keys() - blue_services("prod")
        assert changed == {
            *(f"green-{service}-deployment" for service in GREEN),
            *(f"green-{service}-service" for service in services),
        }

    def test_its_replicas_are_taken_from_the_autoscaler(self) -> None:
        graph = two_releases(stopped="green")
        for colour, forced in (("blue", None), ("green", {"pulumi.com/patchForce": "true"})):
            for node in names(graph, "Deployment", colour).values():
                assert node.inputs["metadata"].get("annotations") == forced

    def test_nobody_waits_for_the_pods_of_its_services(self) -> None:
        graph = two_releases(stopped="green")
        for colour, skipped in (("blue", None), ("green", {"pulumi.com/skipAwait": "true"})):
            for node in names(graph, "Service", colour).values():
                assert node.inputs["metadata"].get("annotations") == skipped

    def test_below_phase_4_blue_is_never_stopped(self) -> None:
        assert replicas(two_releases(phase=3, stopped="green"), "blue") == {None}


SIDECAR = (10, 40)
GATEWAY = (50, 64)
MIGRATION = (100, 256)


def quota(graph: Graph) -> tuple[int, int, int]:
    hard = graph.only("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    return int(hard["requests.cpu"][:-1]), int(hard["requests.memory"][:-2]), int(hard["pods"])


@in_every_environment
def test_the_quota_has_room_for_green_sidecars_gateways_and_a_migration(stack: str) -> None:
    before, after = quota(two_releases(stack, 3)), quota(two_releases(stack))
    gateways = 3 if stack == "prod" else 2
    green_pods = 6 * len(GREEN)
    sidecars = 6 * len(blue_services(stack)) + green_pods
    wanted = [
        6 * sum(int(str(service[what])[:-suffix]) for service in GREEN.values())
        + sidecars * SIDECAR[part]
        + gateways * GATEWAY[part]
        + MIGRATION[part]
        for part, (what, suffix) in enumerate((("cpu", 1), ("memory", 2)))
    ]
    more = tuple(now - then for then, now in zip(before, after, strict=True))
    assert more == (*wanted, green_pods + gateways + 1)


def jobs(graph: Graph) -> dict[str, Node]:
    return {node.inputs["metadata"]["name"]: node for node in graph.objects("Job")}


def environment(pod: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in pod["containers"][0]["env"]}


class TestMigrations:
    def test_there_is_a_job_for_each(self) -> None:
        images = {
            name: node.inputs["spec"]["template"]["spec"]["containers"][0]["image"].rpartition("/")[2]
            for name, node in jobs(fullest("prod")).items()
        }
        assert images == {
            "migration-add-workspaces": "workspace-service:v2.0.0",
            "migration-fill-workspaces": "workspace-service:v2.0.0",
            "migration-drop-bases": "workspace-service:v2.1.0",
        }

    def test_without_migrations_there_is_nothing_for_them(self) -> None:
        graph = two_releases()
        assert graph.objects("Job") == ()
        assert "migration" not in graph.text

    def test_its_entry_point_gets_its_arguments(self) -> None:
        given = {
            name: node.inputs["spec"]["template"]["spec"]["containers"][0].get("args")
            for name, node in jobs(fullest("prod")).items()
        }
        assert given.pop("migration-drop-bases") == ["migrate", "contract"]
        assert set(given.values()) == {None}

    def test_it_has_the_databases_credentials_as_a_service_has_them(self) -> None:
        graph = fullest("prod")
        service = graph.object("Deployment", "tenant-service-green").inputs["spec"]["template"]["spec"]
        for node in jobs(graph).values():
            pod = node.inputs["spec"]["template"]["spec"]
            assert environment(pod) == environment(service) - {"PORT"}
            assert {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} == {
                "/tmp",  # noqa: S108
                "/etc/pyairtable",
            }

    def test_it_has_no_sidecar_which_would_never_end(self) -> None:
        for node in jobs(fullest("prod")).values():
            assert "istio.io/rev" not in node.inputs["spec"]["template"]["metadata"]["labels"]

    def test_the_schema_grows_before_green_and_after_what_it_works_on(self) -> None:
        graph = fullest("prod")
        expanding = {jobs(graph)[f"migration-{name}"].urn for name in ("add-workspaces", "fill-workspaces")}
        for node in names(graph, "Deployment", "green").values():
            assert expanding <= graph.before(node)
        for urn in expanding:
            assert graph.object("StatefulSet", "postgres").urn in graph.before(graph.at(urn))

    def test_steps_of_a_kind_are_taken_in_the_order_of_the_config(self) -> None:
        graph = fullest("prod")
        first, second = (jobs(graph)[f"migration-{step['name']}"] for step in MIGRATIONS[:2])
        assert first.urn in graph.before(second)

    def test_what_blue_used_goes_last_once_all_requests_go_to_green_and_blue_is_stopped(self) -> None:
        graph = fullest("prod")
        before = graph.before(jobs(graph)["migration-drop-bases"])
        assert graph.named("blue-green-route").urn in before
        assert {node.urn for node in names(graph, "Deployment", "green").values()} <= before
        assert replicas(graph, "blue") == {0}
        assert {node.urn for node in names(graph, "Deployment", "blue").values()} <= before

    def test_one_that_failed_is_made_anew_by_the_next_update(self) -> None:
        for node in jobs(fullest("prod")).values():
            assert node.inputs["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}

    def test_it_is_tried_a_few_times_and_not_for_ever(self) -> None:
        for node in jobs(fullest("prod")).values():
            spec = node.inputs["spec"]
            assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (2, 900)
            assert spec["template"]["spec"]["restartPolicy"] == "Never"

    @pytest.mark.parametrize("kind", ["expand", "contract"])
    def test_it_reaches_the_database_and_nothing_else(self, kind: str) -> None:
        graph = fullest("prod")
        own = graph.object("NetworkPolicy", f"migrations-{kind}").inputs["spec"]
        database = {"podSelector": {"matchLabels": {"app": "postgres"}}}
        ports = [{"protocol": "TCP", "port": 5432}]
        assert own["podSelector"]["matchLabels"] == {"app": f"migrations-{kind}"}
        assert own["egress"] == [{"to": [database], "ports": ports}]
        into = graph.object("NetworkPolicy", f"postgres-from-migrations-{kind}").inputs["spec"]
        pods = {"podSelector": {"matchLabels": {"app": f"migrations-{kind}"}}}
        assert (into["podSelector"], into["ingress"]) == (database["podSelector"], [{"from": [pods], "ports": ports}])

    def test_its_image_is_pulled_as_a_services_is(self) -> None:
        for kind in ("expand", "contract"):
            account = fullest("prod").object("ServiceAccount", f"migrations-{kind}").inputs
            assert account["imagePullSecrets"] == [{"name": "registry-credentials"}]
            assert account["automountServiceAccountToken"] is False
        plain = platform("prod", blueGreen={**stack_file("prod")["pyairtable:blueGreen"], "migrations": MIGRATIONS[:1]})
        assert "imagePullSecrets" not in plain.object("ServiceAccount", "migrations-expand").inputs

    def test_below_phase_4_none_runs(self) -> None:
        assert two_releases(phase=3, migrations=MIGRATIONS[:1]).objects("Job") == ()
