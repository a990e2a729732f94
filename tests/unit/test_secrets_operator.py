"""External Secrets in phase 3: the controller, what it may read, and which secret fills which."""

from itertools import pairwise
from typing import Any, cast

import pytest

from components.secrets import secret_bindings
from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, LIVE, REGION, Graph, Node, fullest, platform, varied_prod

NAMESPACE = "external-secrets-system"
BINDINGS = {
    "database-secret": ("database-credentials", "database", {"username", "password"}),
    "redis-secret": ("redis-credentials", "redis", {"password"}),
    "api-keys-secret": ("api-keys", "api-keys", {"jwt_secret", "api_key", "airtable_token", "gemini_api_key"}),
}
"""Name -> the Secret that it fills, the last part of the secret's name, and the keys."""

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
of_each_release = pytest.mark.parametrize("release", ["crds", "controller"])
of_each_binding = pytest.mark.parametrize("name", BINDINGS)


def definitions(graph: Graph) -> Node:
    return graph.named("secrets-operator-crds")


def controller(graph: Graph) -> Node:
    return graph.named("secrets-operator-controller")


def bindings(graph: Graph) -> dict[str, Node]:
    return {node.inputs["metadata"]["name"]: node for node in graph.objects("ExternalSecret")}


def spec(graph: Graph, name: str) -> dict[str, Any]:
    return bindings(graph)[name].inputs["spec"]


def store(graph: Graph) -> Node:
    (only,) = graph.objects("SecretStore")
    return only


class TestReleases:
    @in_every_environment
    def test_there_are_two_of_one_chart_at_one_pinned_version(self, stack: str) -> None:
        graph = platform(stack)
        found = [node for node in graph.objects("Release") if graph.top_of(node).name == "secrets"]
        assert {node.inputs["name"] for node in found} == {"external-secrets-crds", "external-secrets"}
        for node in found:
            assert node.inputs["chart"] == "external-secrets"
            assert node.inputs["version"] == "0.20.4"
            assert node.inputs["repositoryOpts"] == {"repo": "https://charts.external-secrets.io"}
            assert node.inputs["namespace"] == NAMESPACE

    @in_every_environment
    def test_the_first_is_the_definitions_and_nothing_that_runs(self, stack: str) -> None:
        assert definitions(platform(stack)).inputs["values"] == {
            "installCRDs": True,
            "createOperator": False,
            "rbac": {"create": False},
            "serviceAccount": {"create": False},
            "webhook": {"create": False},
            "certController": {"create": False},
            "crds": {
                "createClusterExternalSecret": False,
                "createClusterGenerator": False,
                "createClusterPushSecret": False,
                "createClusterSecretStore": False,
                "createPushSecret": False,
            },
        }

    @in_every_environment
    def test_the_second_is_the_controller_without_what_is_not_used(self, stack: str) -> None:
        values = controller(platform(stack)).inputs["values"]
        assert values["installCRDs"] is False, "they are the first one's, and stay while this one is replaced"
        assert "createOperator" not in values
        assert values["fullnameOverride"] == "external-secrets"
        for part in ("webhook", "certController"):
            assert values[part] == {"create": False}
        off = {"processClusterExternalSecret", "processClusterPushSecret", "processClusterStore", "processPushSecret"}
        assert {key for key, value in values.items() if key.startswith("process") and value is False} >= off
        assert [key for key, value in values.items() if key.startswith("process") and value] == []

    @in_every_environment
    def test_it_looks_after_the_one_namespace_with_a_role_in_it(self, stack: str) -> None:
        values = controller(platform(stack)).inputs["values"]
        assert (values["scopedNamespace"], values["scopedRBAC"]) == ("pyairtable", True)

    @in_every_environment
    def test_it_is_small_and_its_memory_is_not_overcommitted(self, stack: str) -> None:
        resources = controller(platform(stack)).inputs["values"]["resources"]
        assert resources["requests"] == {"cpu": "20m", "memory": "128Mi"}
        assert resources["limits"]["memory"] == resources["requests"]["memory"]

    @in_every_environment
    @of_each_release
    def test_no_security_of_the_chart_is_loosened(self, stack: str, release: str) -> None:
        values = platform(stack).named(f"secrets-operator-{release}").inputs["values"]
        assert not {"securityContext", "podSecurityContext", "hostNetwork", "image", "extraArgs"} & values.keys()


class TestNamespace:
    @in_every_environment
    def test_it_is_its_own_under_the_restricted_profile(self, stack: str) -> None:
        graph = platform(stack)
        labels = graph.object("Namespace", NAMESPACE).inputs["metadata"]["labels"]
        assert labels == graph.object("Namespace", "pyairtable").inputs["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    @in_every_environment
    def test_both_releases_come_after_it(self, stack: str) -> None:
        graph = platform(stack)
        namespace = graph.object("Namespace", NAMESPACE).urn
        for node in (definitions(graph), controller(graph)):
            assert namespace in graph.before(node)


class TestOrder:
    @in_every_environment
    def test_definitions_controller_store_bindings(self, stack: str) -> None:
        """And going, the other way: without the controller a binding could not be taken away."""
        graph = platform(stack)
        chain = [definitions(graph), controller(graph), store(graph)]
        for before, after in pairwise(chain):
            assert before.urn in graph.before(after)
            assert after.urn not in graph.before(before)
        for node in bindings(graph).values():
            assert {before.urn for before in chain} <= graph.before(node)

    @in_every_environment
    def test_the_bindings_come_after_what_they_fetch_and_what_they_fill(self, stack: str) -> None:
        graph = platform(stack)
        needed = {node.urn for node in graph.nodes if "secretVersion" in node.type or "secretPolicy" in node.type}
        needed |= {graph.object("Secret", name).urn for name, _, _ in BINDINGS.values()}
        assert len(needed) == 9
        for node in bindings(graph).values():
            assert needed <= graph.before(node)

    @in_every_environment
    def test_the_controller_comes_after_the_nodes_and_the_add_ons(self, stack: str) -> None:
        graph = platform(stack)
        needed = [*graph.of_type("aws:eks/nodeGroup:NodeGroup"), *graph.of_type("aws:eks/addon:Addon")]
        assert {node.urn for node in needed} <= graph.before(controller(graph))

    @in_every_environment
    def test_services_of_a_stack_from_scratch_start_with_what_secrets_manager_has(self, stack: str) -> None:
        graph = platform(stack)
        bound = {node.urn for node in bindings(graph).values()}
        services = [node for node in graph.objects("Deployment") if graph.top_of(node).name == "blue"]
        assert services
        for node in services:
            assert bound <= graph.before(node)

    @in_every_environment
    def test_phase_2_waits_for_nothing_of_it(self, stack: str) -> None:
        graph = platform(stack)
        own = {node.urn for node in graph.nodes if graph.top_of(node).name == "secrets"}
        compute = [node for node in graph.nodes if graph.top_of(node).name == "compute"]
        assert [node.name for node in compute if own & graph.before(node)] == []


class TestIdentity:
    @in_every_environment
    def test_it_is_the_controllers_service_account_and_is_there_before_its_pod(self, stack: str) -> None:
        """It is injected when a pod is admitted."""
        graph = platform(stack)
        identity = graph.named("secrets-operator-identity")
        account = controller(graph).inputs["values"]["serviceAccount"]
        assert account == {"create": True, "name": "external-secrets"}
        assert (identity.inputs["namespace"], identity.inputs["serviceAccount"]) == (NAMESPACE, account["name"])
        assert identity.inputs["roleArn"] == graph.named("secrets-operator-role-role").outputs["arn"]
        assert {identity.urn, graph.named("secrets-operator-role-policy").urn} <= graph.before(controller(graph))
        assert identity.urn not in graph.before(definitions(graph)), "which have no pod"

    @in_every_environment
    def test_it_reads_the_stacks_own_secrets_and_no_others(self, stack: str) -> None:
        graph = platform(stack)
        (statement, *_) = graph.named("secrets-operator-role-policy").json()["Statement"]
        own = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:pyairtable/{stack}/"
        assert statement["Resource"] == f"{own}*"
        assert set(statement["Action"]) == {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"}
        assert "Condition" not in statement

    def test_a_stack_whose_name_begins_with_anothers_is_another(self) -> None:
        """pyairtable/dev/* is not pyairtable/dev-two/*."""
        for stack in ("dev", "staging", "prod"):
            (statement, *_) = platform(stack).named("secrets-operator-role-policy").json()["Statement"]
            assert statement["Resource"].endswith(f":secret:pyairtable/{stack}/*")

    def test_in_dev_that_is_all(self) -> None:
        assert len(platform("dev").named("secrets-operator-role-policy").json()["Statement"]) == 1

    @pytest.mark.parametrize("stack", ["staging", "prod"])
    def test_with_an_own_key_it_decrypts_by_secrets_manager_only(self, stack: str) -> None:
        graph = platform(stack)
        (_, statement) = graph.named("secrets-operator-role-policy").json()["Statement"]
        assert statement["Action"] == ["kms:Decrypt"]
        assert statement["Resource"] == graph.named("secrets-aws-key").outputs["arn"]
        assert statement["Condition"] == {"StringEquals": {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}}


class TestStore:
    @in_every_environment
    def test_it_is_secrets_manager_as_whoever_the_controller_is(self, stack: str) -> None:
        found = store(platform(stack)).inputs
        assert (found["apiVersion"], found["kind"]) == ("external-secrets.io/v1", "SecretStore")
        assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("aws-secretsmanager", "pyairtable")
        assert found["spec"] == {"provider": {"aws": {"service": "SecretsManager", "region": REGION}}}, "without auth"

    @in_every_environment
    def test_there_is_none_for_the_whole_cluster(self, stack: str) -> None:
        graph = fullest(stack)
        own = {node.type for node in graph.nodes if "external-secrets.io" in node.type}
        assert own == {f"kubernetes:external-secrets.io/v1:{kind}" for kind in ("ExternalSecret", "SecretStore")}


class TestBindings:
    @in_every_environment
    def test_there_are_just_three_since_each_poll_is_paid_for(self, stack: str) -> None:
        for graph in (platform(stack), fullest(stack), varied_prod()):
            assert bindings(graph).keys() == BINDINGS.keys()

    @in_every_environment
    @of_each_binding
    def test_it_is_of_the_stable_api_in_the_namespace_of_the_pods(self, stack: str, name: str) -> None:
        found = bindings(platform(stack))[name].inputs
        assert found["apiVersion"] == "external-secrets.io/v1"
        assert found["metadata"]["namespace"] == "pyairtable"
        assert found["spec"]["secretStoreRef"] == {"name": "aws-secretsmanager", "kind": "SecretStore"}

    @in_every_environment
    @of_each_binding
    def test_it_merges_into_the_secret_that_phase_2_made_and_leaves_it_behind(self, stack: str, name: str) -> None:
        target = spec(platform(stack), name)["target"]
        secret, _, _ = BINDINGS[name]
        assert target == {"name": secret, "creationPolicy": "Merge", "deletionPolicy": "Retain", "template": {}}
        assert platform(stack, phase=2).object("Secret", secret)

    @in_every_environment
    @of_each_binding
    def test_it_fills_each_key_from_the_property_of_its_name(self, stack: str, name: str) -> None:
        _, path, keys = BINDINGS[name]
        data = spec(platform(stack), name)["data"]
        assert {entry["secretKey"] for entry in data} == keys
        for entry in data:
            assert entry["remoteRef"] == {"key": f"pyairtable/{stack}/{path}", "property": entry["secretKey"]}
        assert "dataFrom" not in spec(platform(stack), name), "host, port and database are not secret"

    @in_every_environment
    @of_each_binding
    def test_what_it_fetches_is_in_the_secret_that_it_names(self, stack: str, name: str) -> None:
        graph = platform(stack)
        for entry in spec(graph, name)["data"]:
            (secret,) = (
                node
                for node in graph.of_type("aws:secretsmanager/secret:Secret")
                if node.inputs["name"] == entry["remoteRef"]["key"]
            )
            (version,) = (
                node
                for node in graph.of_type("aws:secretsmanager/secretVersion:SecretVersion")
                if secret.urn in graph.before(node)
            )
            assert entry["remoteRef"]["property"] in version.json("secretString")

    @in_every_environment
    @of_each_binding
    def test_no_key_of_the_cluster_is_left_that_it_does_not_fill(self, stack: str, name: str) -> None:
        secret, _, keys = BINDINGS[name]
        assert LIVE[secret].keys() <= keys
        assert platform(stack, phase=2).object("Secret", secret).inputs["data"].keys() <= keys

    @in_every_environment
    @of_each_binding
    def test_it_looks_every_15_seconds_unless_the_config_says_otherwise(self, stack: str, name: str) -> None:
        assert spec(platform(stack), name)["refreshInterval"] == "15s"

    def test_how_often_it_looks_is_the_configs(self) -> None:
        graph = platform("dev", services=[], secrets={"refreshInterval": "90s"})
        assert {node.inputs["spec"]["refreshInterval"] for node in bindings(graph).values()} == {"1m30s"}

    @pytest.mark.parametrize(
        ("seconds", "written"),
        [(5, "5s"), (59, "59s"), (60, "1m0s"), (90, "1m30s"), (3600, "1h0m0s"), (3661, "1h1m1s"), (86400, "24h0m0s")],
    )
    def test_a_time_is_written_as_the_controller_writes_it_back(self, seconds: int, written: str) -> None:
        """Another spelling of the same would be changed by it, and changed back by the next `up`."""
        assert cast(Any, secret_bindings)._as_go_writes(seconds) == written

    @in_every_environment
    def test_an_up_ends_when_store_and_bindings_are_ready(self, stack: str) -> None:
        graph = platform(stack)
        for node in (store(graph), *bindings(graph).values()):
            assert node.inputs["metadata"]["annotations"] == {"pulumi.com/waitFor": "condition=Ready"}
