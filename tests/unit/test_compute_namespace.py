"""The namespace of phase 2: what it admits, how much fits in, and how images are pulled."""

import base64
import json
import re
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, fullest, platform, stack_file, varied_prod

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


def millis(cpu: str) -> int:
    return int(cpu[:-1]) if cpu.endswith("m") else 1000 * int(cpu)


def mib(memory: str) -> int:
    return int(memory.removesuffix("Mi"))


def requests(spec: dict[str, Any]) -> tuple[int, int]:
    """CPU and memory that a pod asks for: of its containers together, or of the init container that asks for more."""
    asked = [
        [container["resources"]["requests"] for container in spec.get(key, [])]
        for key in ("containers", "initContainers")
    ]
    together, before = ([(millis(r["cpu"]), mib(r["memory"])) for r in part] for part in asked)
    return (
        max([sum(cpu for cpu, _ in together), *(cpu for cpu, _ in before)]),
        max([sum(memory for _, memory in together), *(memory for _, memory in before)]),
    )


def most_replicas(graph: Graph, deployment: Node) -> int:
    """The autoscaler's most, or its own number where it has no autoscaler; and one more in a rollout that adds one."""
    spec = deployment.inputs["spec"]
    most = {
        hpa.inputs["spec"]["scaleTargetRef"]["name"]: hpa.inputs["spec"]["maxReplicas"]
        for hpa in graph.objects("HorizontalPodAutoscaler")
    }
    replicas = most[deployment.inputs["metadata"]["name"]] if "replicas" not in spec else spec["replicas"]
    surge = 0 if spec["strategy"] == {"type": "Recreate"} else spec["strategy"]["rollingUpdate"]["maxSurge"]
    return int(replicas + surge)


def namespace_of_pods(graph: Graph) -> Node:
    return graph.object("Namespace", "pyairtable")


def pod_specs(graph: Graph) -> list[tuple[Node, dict[str, Any], int]]:
    """Everything that makes pods, with the spec of one and the most that there are at once."""
    services = [
        (node, node.inputs["spec"]["template"]["spec"], most_replicas(graph, node))
        for node in graph.objects("Deployment")
    ]
    stores = [(node, node.inputs["spec"]["template"]["spec"], 1) for node in graph.objects("StatefulSet")]
    jobs = [
        (node, node.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"], 1) for node in graph.objects("CronJob")
    ]
    return services + stores + jobs


@in_every_environment
def test_pods_are_admitted_under_the_restricted_profile_only(stack: str) -> None:
    labels = namespace_of_pods(platform(stack, phase=3)).inputs["metadata"]["labels"]
    assert labels == {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn", "audit")
        for suffix, value in (("", "restricted"), ("-version", "v1.36"))
    }


@in_every_environment
def test_the_profile_is_of_the_clusters_version(stack: str) -> None:
    graph = platform(stack, phase=3)
    labels = namespace_of_pods(graph).inputs["metadata"]["labels"]
    version = graph.only("eks:index:Cluster").inputs["version"]
    assert labels["pod-security.kubernetes.io/enforce-version"] == f"v{version}"


@pytest.mark.parametrize("stack", [*ENVIRONMENTS, "varied"])
def test_the_quota_holds_every_service_at_its_most_a_rollout_the_stores_the_jobs_and_the_restarter(stack: str) -> None:
    graph = varied_prod() if stack == "varied" else platform(stack, phase=3)
    hard = graph.only("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    asked = [(requests(spec), count) for _, spec, count in pod_specs(graph)]
    assert millis(hard["requests.cpu"]) == sum(cpu * count for (cpu, _), count in asked)
    assert mib(hard["requests.memory"]) == sum(memory * count for (_, memory), count in asked)
    assert int(hard["pods"]) >= sum(count for _, count in asked)


@in_every_environment
def test_the_quota_of_phase_2_already_has_room_for_what_phase_3_adds(stack: str) -> None:
    quotas = [platform(stack, phase=phase).only("kubernetes:core/v1:ResourceQuota").inputs for phase in (2, 3)]
    assert quotas[0] == quotas[1]
    before, after = (
        {node.inputs["metadata"]["name"] for node, _, _ in pod_specs(platform(stack, phase=phase))} for phase in (2, 3)
    )
    assert after - before == {"database-rotation", "secret-restarter"}


@in_every_environment
def test_no_service_opens_a_load_balancer_of_its_own(stack: str) -> None:
    hard = platform(stack, phase=3).only("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    assert hard["services.loadbalancers"] == "0"
    kinds = {service.inputs["spec"]["type"] for service in platform(stack, phase=3).objects("Service")}
    assert kinds == ({"ClusterIP", "NodePort"} if stack == "prod" else {"ClusterIP"})


@in_every_environment
def test_everything_in_it_comes_after_it_its_quota_and_its_policies(stack: str) -> None:
    graph = platform(stack, phase=3)
    rules = {graph.named(f"compute-namespace-{name}").urn for name in ("namespace", "quota", "default-deny", "dns")}
    for node, _, _ in pod_specs(graph):
        assert rules <= graph.before(node)
    namespace = graph.named("compute-namespace-namespace").urn
    inside = [node for node in graph.kubernetes if node.inputs.get("metadata", {}).get("namespace") == "pyairtable"]
    assert [node.name for node in inside if namespace not in graph.before(node)] == []


class TestPullSecret:
    @in_every_environment
    def test_there_is_none_without_a_token(self, stack: str) -> None:
        graph = platform(stack, phase=3)
        assert [
            s.name for s in graph.objects("Secret") if s.inputs.get("type") == "kubernetes.io/dockerconfigjson"
        ] == []
        assert [a.name for a in graph.objects("ServiceAccount") if "imagePullSecrets" in a.inputs] == []

    @in_every_environment
    def test_it_logs_the_configured_user_in_to_the_registry(self, stack: str) -> None:
        secret = fullest(stack, 3).object("Secret", "registry-credentials")
        assert secret.inputs["type"] == "kubernetes.io/dockerconfigjson"
        assert json.loads(secret.inputs["stringData"][".dockerconfigjson"]) == {
            "auths": {"ghcr.io": {"auth": base64.b64encode(b"pyairtable-bot:pull-token").decode()}}
        }
        assert secret.secrets == {"stringData"}

    @in_every_environment
    def test_every_service_pulls_with_it_and_comes_after_it(self, stack: str) -> None:
        graph = fullest(stack, 3)
        secret = graph.object("Secret", "registry-credentials")
        services = [node for node in graph.objects("Deployment") if graph.top_of(node).name == "blue"]
        assert len(services) == len(stack_file(stack)["pyairtable:services"])
        for deployment in services:
            account = graph.object(
                "ServiceAccount", deployment.inputs["spec"]["template"]["spec"]["serviceAccountName"]
            )
            assert account.inputs["imagePullSecrets"] == [{"name": "registry-credentials"}]
            assert secret.urn in graph.before(deployment)


@in_every_environment
def test_no_secret_value_is_anywhere_but_where_it_is_hidden(stack: str) -> None:
    graph = fullest(stack, 3)
    plain = ("pull-token", "airtable-token", "gemini-key", "generated ", "rotated ", "pyairtable-bot:pull-token")
    encoded = (base64.b64encode(value.encode()).decode().rstrip("=")[:-1] for value in plain)
    values = "|".join((*plain, *encoded))
    found = {
        (node.name, key): key in node.secrets
        for node in graph.nodes
        for key, value in node.inputs.items()
        if re.search(values, json.dumps(value))
    }
    assert {("compute-credentials-api-keys", "data"), ("compute-namespace-pull-secret", "stringData")} <= found.keys()
    assert {("secrets-aws-database-credentials-version", "secretString")} <= found.keys()
    assert [place for place, hidden in found.items() if not hidden] == []
    assert re.search(values, json.dumps([node.urn for node in graph.nodes])) is None


@in_every_environment
def test_no_pod_is_told_a_secret_value_in_its_own_spec(stack: str) -> None:
    graph = fullest(stack, 3)
    told = {
        (node.inputs["metadata"]["name"], container["name"], entry["name"]): entry["value"]
        for node, spec, _ in pod_specs(graph)
        for container in (*spec["containers"], *spec.get("initContainers", ()))
        for entry in container.get("env", [])
        if "value" in entry and re.search(r"PASSWORD|SECRET|TOKEN|KEY", entry["name"])
    }
    arn = graph.named("secrets-aws-database-credentials").outputs["arn"]
    assert told == {
        ("postgres", "postgres", "POSTGRES_PASSWORD_FILE"): "/etc/credentials/password",
        ("secret-restarter", "restarter", "SECRETS"): "database-credentials,redis-credentials,api-keys",
        ("database-rotation", "read", "SECRET"): arn,
        ("database-rotation", "store", "SECRET"): arn,
    }, "where it is and what it is called, and not what it is"
