"""The namespace of phase 2: what it admits, how much fits in, and how images are pulled."""

import base64
import json
import re
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import Graph, Node, fullest, platform, varied_prod

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


def pod_specs(graph: Graph) -> list[tuple[Node, dict[str, Any], int]]:
    """Everything that makes pods, with the spec of one and the most that there are at once."""
    most = {
        hpa.inputs["spec"]["scaleTargetRef"]["name"]: hpa.inputs["spec"]["maxReplicas"]
        for hpa in graph.objects("HorizontalPodAutoscaler")
    }
    services = [
        (node, node.inputs["spec"]["template"]["spec"], int(most[node.inputs["metadata"]["name"]]) + 1)
        for node in graph.objects("Deployment")
    ]
    stores = [(node, node.inputs["spec"]["template"]["spec"], 1) for node in graph.objects("StatefulSet")]
    jobs = [
        (node, node.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"], 1) for node in graph.objects("CronJob")
    ]
    return services + stores + jobs


@in_every_environment
def test_pods_are_admitted_under_the_restricted_profile_only(stack: str) -> None:
    labels = platform(stack).only("kubernetes:core/v1:Namespace").inputs["metadata"]["labels"]
    assert labels == {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn", "audit")
        for suffix, value in (("", "restricted"), ("-version", "v1.36"))
    }


@in_every_environment
def test_the_profile_is_of_the_clusters_version(stack: str) -> None:
    graph = platform(stack)
    labels = graph.only("kubernetes:core/v1:Namespace").inputs["metadata"]["labels"]
    version = graph.only("eks:index:Cluster").inputs["version"]
    assert labels["pod-security.kubernetes.io/enforce-version"] == f"v{version}"


@pytest.mark.parametrize("stack", [*ENVIRONMENTS, "varied"])
def test_the_quota_holds_every_service_at_its_most_a_rollout_the_stores_and_a_backup(stack: str) -> None:
    graph = varied_prod() if stack == "varied" else platform(stack)
    hard = graph.only("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    asked = [(requests(spec), count) for _, spec, count in pod_specs(graph)]
    assert millis(hard["requests.cpu"]) == sum(cpu * count for (cpu, _), count in asked)
    assert mib(hard["requests.memory"]) == sum(memory * count for (_, memory), count in asked)
    assert int(hard["pods"]) >= sum(count for _, count in asked)


@in_every_environment
def test_no_service_opens_a_load_balancer_of_its_own(stack: str) -> None:
    hard = platform(stack).only("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    assert hard["services.loadbalancers"] == "0"
    kinds = {service.inputs["spec"]["type"] for service in platform(stack).objects("Service")}
    assert kinds == ({"ClusterIP", "NodePort"} if stack == "prod" else {"ClusterIP"})


@in_every_environment
def test_everything_in_it_comes_after_it_its_quota_and_its_policies(stack: str) -> None:
    graph = platform(stack)
    rules = {graph.named(f"compute-namespace-{name}").urn for name in ("namespace", "quota", "default-deny", "dns")}
    for node, _, _ in pod_specs(graph):
        assert rules <= graph.before(node)
    namespace = graph.named("compute-namespace-namespace").urn
    inside = [node for node in graph.kubernetes if node.inputs.get("metadata", {}).get("namespace") == "pyairtable"]
    assert [node.name for node in inside if namespace not in graph.before(node)] == []


class TestPullSecret:
    @in_every_environment
    def test_there_is_none_without_a_token(self, stack: str) -> None:
        graph = platform(stack)
        assert [
            s.name for s in graph.objects("Secret") if s.inputs.get("type") == "kubernetes.io/dockerconfigjson"
        ] == []
        assert [a.name for a in graph.objects("ServiceAccount") if "imagePullSecrets" in a.inputs] == []

    @in_every_environment
    def test_it_logs_the_configured_user_in_to_the_registry(self, stack: str) -> None:
        secret = fullest(stack).object("Secret", "registry-credentials")
        assert secret.inputs["type"] == "kubernetes.io/dockerconfigjson"
        assert json.loads(secret.inputs["stringData"][".dockerconfigjson"]) == {
            "auths": {"ghcr.io": {"auth": base64.b64encode(b"pyairtable-bot:pull-token").decode()}}
        }
        assert secret.secrets == {"stringData"}

    @in_every_environment
    def test_every_service_pulls_with_it_and_comes_after_it(self, stack: str) -> None:
        graph = fullest(stack)
        secret = graph.object("Secret", "registry-credentials")
        for deployment in graph.objects("Deployment"):
            account = graph.object(
                "ServiceAccount", deployment.inputs["spec"]["template"]["spec"]["serviceAccountName"]
            )
            assert account.inputs["imagePullSecrets"] == [{"name": "registry-credentials"}]
            assert secret.urn in graph.before(deployment)


@in_every_environment
def test_no_secret_value_is_anywhere_but_where_it_is_hidden(stack: str) -> None:
    graph = fullest(stack)
    plain = ("pull-token", "airtable-token", "gemini-key", "generated ", "pyairtable-bot:pull-token")
    encoded = (base64.b64encode(value.encode()).decode().rstrip("=")[:-1] for value in plain)
    values = "|".join((*plain, *encoded))
    found = {
        (node.name, key): key in node.secrets
        for node in graph.nodes
        for key, value in node.inputs.items()
        if re.search(values, json.dumps(value))
    }
    assert {("compute-credentials-api-keys", "data"), ("compute-namespace-pull-secret", "stringData")} <= found.keys()
    assert [place for place, hidden in found.items() if not hidden] == []


@in_every_environment
def test_no_pod_is_told_a_secret_value_in_its_own_spec(stack: str) -> None:
    for _, spec, _ in pod_specs(fullest(stack)):
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            told = {entry["name"] for entry in container.get("env", []) if "value" in entry}
            assert [name for name in told if re.search(r"PASSWORD|SECRET|TOKEN|KEY", name)] == []
