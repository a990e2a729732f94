"""Microservices of phase 2: what keeps each up, what it may, and what one more of them changes."""

import re
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, fullest, platform, stack_file, varied_prod

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def deployments(graph: Graph) -> dict[str, Node]:
    """Those of the services; the restarter of phase 3 is none."""
    workloads = graph.only("pyairtable:compute:Workloads")
    return {
        node.inputs["metadata"]["name"]: node for node in graph.objects("Deployment") if graph.top_of(node) == workloads
    }


def template(node: Node) -> dict[str, Any]:
    return node.inputs["spec"]["template"]


def pods(graph: Graph) -> dict[str, dict[str, Any]]:
    """The spec of each service's pod."""
    return {name: template(node)["spec"] for name, node in deployments(graph).items()}


def containers(graph: Graph) -> dict[str, dict[str, Any]]:
    """The only container of each service's pod."""
    found: dict[str, dict[str, Any]] = {}
    for name, pod in pods(graph).items():
        (found[name],) = pod["containers"]
    return found


def configured(stack: str) -> dict[str, dict[str, Any]]:
    return {service["name"]: service for service in stack_file(stack)["pyairtable:services"]}


@in_every_environment
def test_there_is_a_deployment_for_each_service_of_the_config(stack: str) -> None:
    assert deployments(platform(stack, phase=3)).keys() == configured(stack).keys()


@in_every_environment
def test_its_image_and_size_are_the_configs(stack: str) -> None:
    for name, container in containers(platform(stack, phase=3)).items():
        service = configured(stack)[name]
        assert container["image"] == f"ghcr.io/pyairtable-org/{service['image']}"
        asked = container["resources"]["requests"]
        assert (asked["cpu"], asked["memory"]) == (service["cpu"], service["memory"])


@in_every_environment
def test_its_image_comes_from_the_mirror_where_there_is_one(stack: str) -> None:
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    for name, container in containers(fullest(stack, 3)).items():
        assert container["image"] == f"{host}/pyairtable-alice-{stack}/{configured(stack)[name]['image']}"


@in_every_environment
def test_it_comes_after_nodes_add_ons_stores_and_credentials(stack: str) -> None:
    graph = platform(stack, phase=3)
    needed = [*graph.of_type("aws:eks/nodeGroup:NodeGroup"), *graph.of_type("aws:eks/addon:Addon")]
    needed += [graph.object("StatefulSet", store) for store in ("postgres", "redis")]
    needed += [graph.object("Secret", name) for name in ("database-credentials", "redis-credentials", "api-keys")]
    needed += [graph.object("ConfigMap", "connections"), graph.named("compute-addons-autoscaler")]
    for node in deployments(graph).values():
        assert {before.urn for before in needed} <= graph.before(node)


@in_every_environment
def test_it_starts_under_its_own_network_policy_and_service_account(stack: str) -> None:
    graph = platform(stack, phase=3)
    for name, node in deployments(graph).items():
        account = graph.object("ServiceAccount", name)
        assert template(node)["spec"]["serviceAccountName"] == name
        assert {account.urn, graph.object("NetworkPolicy", name).urn} <= graph.before(node)


class TestAutoscaling:
    @pytest.mark.parametrize(("stack", "least"), [("dev", 1), ("staging", 1), ("prod", 2)])
    def test_it_has_from_its_environments_least_to_five_replicas_at_70_percent_cpu(
        self, stack: str, least: int
    ) -> None:
        graph = platform(stack, phase=3)
        for name in deployments(graph):
            spec = graph.object("HorizontalPodAutoscaler", f"{name}-hpa").inputs["spec"]
            assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
            assert (spec["minReplicas"], spec["maxReplicas"]) == (least, 5)
            assert spec["metrics"] == [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ]

    def test_its_replicas_are_the_configs_where_it_says_so(self) -> None:
        specs = {
            hpa.inputs["metadata"]["name"]: hpa.inputs["spec"]
            for hpa in varied_prod().objects("HorizontalPodAutoscaler")
        }
        assert {name: (spec["minReplicas"], spec["maxReplicas"]) for name, spec in specs.items()} == {
            "gateway-hpa": (1, 1),
            "lonely-hpa": (3, 5),
            "silent-hpa": (2, 5),
        }

    @in_every_environment
    def test_the_number_of_replicas_is_the_autoscalers(self, stack: str) -> None:
        assert [
            name for name, node in deployments(platform(stack, phase=3)).items() if "replicas" in node.inputs["spec"]
        ] == []

    @in_every_environment
    def test_a_drain_takes_one_pod_at_a_time_and_is_never_blocked(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, node in deployments(graph).items():
            spec = graph.object("PodDisruptionBudget", name).inputs["spec"]
            assert spec == {"maxUnavailable": 1, "selector": node.inputs["spec"]["selector"]}


class TestRollout:
    @in_every_environment
    def test_a_new_pod_is_ready_before_an_old_one_goes(self, stack: str) -> None:
        for node in deployments(platform(stack, phase=3)).values():
            assert node.inputs["spec"]["strategy"] == {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            }

    @in_every_environment
    def test_a_pod_answers_while_its_service_forgets_it_and_then_has_time_to_stop(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, container in containers(graph).items():
            drain = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert 0 < drain < pods(graph)[name]["terminationGracePeriodSeconds"]

    @in_every_environment
    def test_it_gets_requests_while_it_says_that_it_is_well(self, stack: str) -> None:
        for container in containers(platform(stack, phase=3)).values():
            for kind in ("startup", "readiness"):
                assert container[f"{kind}Probe"]["httpGet"] == {"path": "/health", "port": "http"}

    @in_every_environment
    def test_it_is_restarted_only_when_it_does_not_even_listen(self, stack: str) -> None:
        """A restart does not bring back a database that is away."""
        for container in containers(platform(stack, phase=3)).values():
            assert container["livenessProbe"]["tcpSocket"] == {"port": "http"}

    def test_where_it_is_asked_is_the_configs(self) -> None:
        gateway = containers(varied_prod())["gateway"]
        assert gateway["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert gateway["ports"] == [{"name": "http", "containerPort": 9000}]

    @in_every_environment
    def test_its_pods_are_spread_over_nodes_and_zones_as_far_as_there_are_any(self, stack: str) -> None:
        for name, node in deployments(platform(stack, phase=3)).items():
            constraints = template(node)["spec"]["topologySpreadConstraints"]
            assert {c["topologyKey"] for c in constraints} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
            assert {c["whenUnsatisfiable"] for c in constraints} == {"ScheduleAnyway"}
            assert all(c["labelSelector"] == {"matchLabels": {"app": name, "version": "blue"}} for c in constraints)


class TestColour:
    @in_every_environment
    def test_every_pod_says_its_version_and_its_deployment_is_of_that_version_only(self, stack: str) -> None:
        for name, node in deployments(platform(stack, phase=3)).items():
            assert node.inputs["spec"]["selector"] == {"matchLabels": {"app": name, "version": "blue"}}
            assert template(node)["metadata"]["labels"].items() >= {("app", name), ("version", "blue")}

    @in_every_environment
    def test_its_service_is_for_every_version(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name in deployments(graph):
            spec = graph.object("Service", name).inputs["spec"]
            assert (spec["type"], spec["selector"]) == ("ClusterIP", {"app": name})
            assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(8080, "http")]


class TestSecurity:
    @in_every_environment
    def test_it_is_not_root_and_has_no_privileges(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, container in containers(graph).items():
            pod = pods(graph)[name]["securityContext"]
            assert pod["runAsNonRoot"] is True
            assert pod["runAsUser"] > 1000
            assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
            }

    @in_every_environment
    def test_it_writes_to_scratch_space_of_bounded_size_only(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, container in containers(graph).items():
            writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
            assert writable == ["scratch"]
            (scratch,) = (volume for volume in pods(graph)[name]["volumes"] if volume["name"] == "scratch")
            assert "sizeLimit" in scratch["emptyDir"]

    @in_every_environment
    def test_it_has_no_token_of_the_cluster(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, pod in pods(graph).items():
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False
            assert graph.object("ServiceAccount", name).inputs["automountServiceAccountToken"] is False

    @in_every_environment
    def test_it_has_limits_and_its_memory_is_not_overcommitted(self, stack: str) -> None:
        for container in containers(platform(stack, phase=3)).values():
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests.keys() == limits.keys() == {"cpu", "memory", "ephemeral-storage"}
            assert requests["memory"] == limits["memory"]

    @in_every_environment
    def test_its_image_has_a_tag_that_stays(self, stack: str) -> None:
        for container in containers(platform(stack, phase=3)).values():
            assert re.search(r":v\d+\.\d+\.\d+$", container["image"])


SECRETS = {
    "database": {
        "DB_USERNAME": ("database-credentials", "username"),
        "DB_PASSWORD": ("database-credentials", "password"),
    },
    "redis": {"REDIS_PASSWORD": ("redis-credentials", "password")},
    "api-keys": {
        "JWT_SECRET": ("api-keys", "jwt_secret"),
        "API_KEY": ("api-keys", "api_key"),
        "AIRTABLE_TOKEN": ("api-keys", "airtable_token"),
        "GEMINI_API_KEY": ("api-keys", "gemini_api_key"),
    },
}
PLACES = {
    "database": {"DB_HOST", "DB_PORT", "DB_NAME", "DB_SSLMODE"},
    "redis": {"REDIS_HOST", "REDIS_PORT"},
    "api-keys": set[str](),
}


class TestEnvironment:
    @in_every_environment
    def test_it_gets_the_credentials_of_what_it_uses_and_no_others(self, stack: str) -> None:
        for name, container in containers(platform(stack, phase=3)).items():
            told = {
                entry["name"]: (reference["name"], reference["key"])
                for entry in container["env"]
                if (reference := entry.get("valueFrom", {}).get("secretKeyRef"))
            }
            uses = configured(stack)[name].get("uses", [])
            assert told == {variable: value for used in uses for variable, value in SECRETS[used].items()}

    @in_every_environment
    def test_it_is_told_where_what_it_uses_is(self, stack: str) -> None:
        keys = platform(stack, phase=3).object("ConfigMap", "connections").inputs["data"].keys()
        for name, container in containers(platform(stack, phase=3)).items():
            told = {
                entry["name"]: reference
                for entry in container["env"]
                if (reference := entry.get("valueFrom", {}).get("configMapKeyRef"))
            }
            uses = configured(stack)[name].get("uses", [])
            assert told.keys() == set().union(*(PLACES[used] for used in uses))
            assert all(reference == {"name": "connections", "key": variable} for variable, reference in told.items())
            assert told.keys() <= keys

    @in_every_environment
    def test_keys_that_a_stack_may_not_have_yet_do_not_keep_it_from_starting(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        there = {
            (secret.inputs["metadata"]["name"], key)
            for secret in graph.objects("Secret")
            for key in (*secret.inputs.get("data", {}), *secret.inputs.get("stringData", {}))
        }
        for container in containers(graph).values():
            for entry in container["env"]:
                if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference.get("optional", False) == ((reference["name"], reference["key"]) not in there)

    @in_every_environment
    def test_who_uses_a_store_can_verify_it(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        for name, container in containers(graph).items():
            files = {
                entry["value"] for entry in container["env"] if entry["name"] in {"DB_SSLROOTCERT", "REDIS_CA_FILE"}
            }
            uses = {"database", "redis"} & {*configured(stack)[name].get("uses", [])}
            assert files == ({"/etc/pyairtable/ca.crt"} if uses else set())
            mounts = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "authority"]
            assert mounts == (["/etc/pyairtable"] if uses else [])
            volumes = [volume for volume in pods(graph)[name]["volumes"] if volume["name"] == "authority"]
            assert [volume["configMap"]["items"] for volume in volumes] == (
                [[{"key": "ca.crt", "path": "ca.crt"}]] if uses else []
            )

    @in_every_environment
    def test_it_is_told_its_port(self, stack: str) -> None:
        for container in containers(platform(stack, phase=3)).values():
            (port,) = container["ports"]
            assert {"name": "PORT", "value": f"{port['containerPort']:.0f}"} in container["env"]


def test_one_more_service_is_its_own_resources_the_quota_the_policies_of_whom_it_talks_to_and_who_restarts_it() -> None:
    more = {
        "name": "billing-service",
        "image": "microservices/user-service:v2.0.0",
        "cpu": "50m",
        "memory": "64Mi",
        "calls": ["tenant-service"],
        "uses": ["database"],
    }
    services = [*stack_file("dev")["pyairtable:services"], more]
    before = {node.name: node for node in platform("dev", phase=3).nodes}
    after = {node.name: node for node in platform("dev", services=services, cost={"enforce": False}).nodes}
    own = {name for name in after if name.startswith("blue-billing-service")}
    assert after.keys() - before.keys() == own
    assert before.keys() - after.keys() == set()
    assert {name for name in before if before[name] != after[name]} == {
        "compute-namespace-quota",
        "compute-stores-postgres-policy",
        "blue-tenant-service-policy",
        "secrets-restarter-role",
    }
    assert len(own) == 7
