"""The control plane of phase 2: who reaches it, what it writes down, how it is kept, and who gets its kubeconfig."""

import pytest

from components.compute.cluster import KUBE_PROXY_VERSION
from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, KUBERNETES_PROVIDER, platform, varied_prod

CLUSTER = "eks:index:Cluster"
LOG_GROUP = "compute-cluster-logs"
KEY = "compute-cluster-key"

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)
outside_of_prod = pytest.mark.parametrize("stack", ["dev", "staging"])


@in_every_environment
def test_its_version_is_pinned_and_never_in_extended_support(stack: str) -> None:
    inputs = platform(stack).only(CLUSTER).inputs
    assert inputs["version"] == "1.36"
    assert inputs["upgradePolicy"] == {"supportType": "STANDARD"}


@in_every_environment
def test_access_is_by_entries_only(stack: str) -> None:
    assert platform(stack).only(CLUSTER).inputs["authenticationMode"] == "API"


@in_every_environment
def test_it_makes_nothing_that_has_its_own_place_in_the_order(stack: str) -> None:
    inputs = platform(stack).only(CLUSTER).inputs
    assert inputs["skipDefaultNodeGroup"] is True
    assert inputs["skipDefaultSecurityGroups"] is True
    assert inputs["createOidcProvider"] is False
    assert inputs["bootstrapSelfManagedAddons"] is False
    assert inputs["useDefaultVpcCni"] is True
    assert inputs["corednsAddonOptions"] == {"enabled": False}


@in_every_environment
def test_its_kube_proxy_is_pinned_to_its_own_minor_version(stack: str) -> None:
    inputs = platform(stack).only(CLUSTER).inputs
    assert inputs["kubeProxyAddonOptions"] == {"version": KUBE_PROXY_VERSION}
    assert KUBE_PROXY_VERSION.startswith(f"v{inputs['version']}.")


@in_every_environment
def test_its_private_endpoint_is_on_and_its_public_one_limited(stack: str) -> None:
    inputs = platform(stack).only(CLUSTER).inputs
    assert inputs["endpointPrivateAccess"] is True
    assert inputs["endpointPublicAccess"] is True
    assert inputs["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_without_public_networks_there_is_no_public_endpoint() -> None:
    inputs = varied_prod().only(CLUSTER).inputs
    assert inputs["endpointPrivateAccess"] is True
    assert inputs["endpointPublicAccess"] is False
    assert "publicAccessCidrs" not in inputs


def test_in_prod_it_logs_to_a_group_that_forgets_and_that_is_there_first() -> None:
    graph = platform("prod")
    cluster, group = graph.only(CLUSTER), graph.named(LOG_GROUP)
    assert cluster.inputs["enabledClusterLogTypes"] == ["api", "audit", "authenticator"]
    assert group.inputs["name"] == f"/aws/eks/{cluster.inputs['name']}/cluster"
    assert group.inputs["retentionInDays"] == 30
    assert group.urn in graph.before(cluster)


def test_in_prod_its_secrets_are_encrypted_with_a_key_of_its_own_that_rotates() -> None:
    graph = platform("prod")
    key = graph.named(KEY)
    assert graph.only(CLUSTER).inputs["encryptionConfigKeyArn"] == key.outputs["arn"]
    assert key.inputs["enableKeyRotation"] is True
    assert key.inputs["deletionWindowInDays"] == 30
    assert graph.named(f"{KEY}-alias").inputs["name"] == "alias/pyairtable-prod-eks"


def test_in_prod_it_cannot_be_deleted() -> None:
    assert platform("prod").only(CLUSTER).inputs["deletionProtection"] is True


@outside_of_prod
def test_outside_of_prod_it_has_neither_logs_nor_key_and_can_be_deleted(stack: str) -> None:
    inputs = platform(stack).only(CLUSTER).inputs
    assert not inputs.keys() & {"enabledClusterLogTypes", "encryptionConfigKeyArn"}
    assert inputs["deletionProtection"] is False


ACCESS_ENTRY = "aws:eks/accessEntry:AccessEntry"


@in_every_environment
def test_nobody_has_access_unless_the_config_says_so(stack: str) -> None:
    assert platform(stack).of_type(ACCESS_ENTRY) == ()


def test_the_access_of_the_config_is_the_whole_clusters() -> None:
    graph = varied_prod()
    pipeline, engineers = (f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("deploy", "engineer"))
    assert {node.inputs["principalArn"] for node in graph.of_type(ACCESS_ENTRY)} == {pipeline, engineers}
    policies = graph.of_type("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    prefix = "arn:aws:eks::aws:cluster-access-policy"
    assert {node.inputs["principalArn"]: node.inputs["policyArn"] for node in policies} == {
        pipeline: f"{prefix}/AmazonEKSClusterAdminPolicy",
        engineers: f"{prefix}/AmazonEKSViewPolicy",
    }
    assert all(node.inputs["accessScope"] == {"type": "cluster"} for node in policies)


def test_access_can_be_taken_away_where_the_cluster_is_protected() -> None:
    assert all(not node.protect for node in varied_prod().of_type(ACCESS_ENTRY))


@in_every_environment
def test_it_is_given_credential_options_as_an_explicit_provider_demands(stack: str) -> None:
    assert platform(stack).only(CLUSTER).inputs["providerCredentialOpts"] == {}


@in_every_environment
def test_its_kubeconfig_is_a_secret_of_the_provider(stack: str) -> None:
    graph = platform(stack)
    provider = graph.only(KUBERNETES_PROVIDER)
    assert provider.inputs["kubeconfig"] == graph.only(CLUSTER).outputs["kubeconfigJson"]
    assert provider.secrets == {"kubeconfig"}


@in_every_environment
def test_what_pods_read_is_changed_in_place(stack: str) -> None:
    inputs = platform(stack).only(KUBERNETES_PROVIDER).inputs
    assert inputs["enableConfigMapMutable"] == inputs["enableSecretMutable"] == "true"


@in_every_environment
def test_its_name_is_no_secret(stack: str) -> None:
    named = [node for node in platform(stack).aws if "clusterName" in node.inputs]
    assert named
    assert {node.inputs["clusterName"] for node in named} == {f"pyairtable-{stack}"}
    assert [node.name for node in named if "clusterName" in node.secrets] == []
