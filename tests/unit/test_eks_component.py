"""The stand-in for pulumi_eks.Cluster makes the children that the official component makes, and refuses the rest."""

import json
from typing import Any

import pulumi
import pytest

from sandbox.providers.eks.cluster import Cluster
from tests.unit.graph import Graph, run

ARGUMENTS: dict[str, Any] = {
    "accessEntries": {
        "admins": {
            "principalArn": "arn:aws:iam::123456789012:role/admin",
            "accessPolicies": {
                "admin": {
                    "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                    "accessScope": {"type": "cluster"},
                }
            },
        }
    },
    "authenticationMode": "API",
    "bootstrapSelfManagedAddons": False,
    "clusterTags": {"Kind": "cluster"},
    "corednsAddonOptions": {"enabled": False},
    "createOidcProvider": False,
    "deletionProtection": True,
    "enabledClusterLogTypes": ["audit"],
    "encryptionConfigKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1",
    "endpointPrivateAccess": True,
    "kubeProxyAddonOptions": {"version": "v1.36.0-eksbuild.2"},
    "name": "pyairtable-dev",
    "providerCredentialOpts": {},
    "publicAccessCidrs": ["203.0.113.0/24"],
    "publicSubnetIds": ["subnet-1", "subnet-2"],
    "skipDefaultNodeGroup": True,
    "skipDefaultSecurityGroups": True,
    "tags": {"Phase": "2"},
    "upgradePolicy": {"supportType": "STANDARD"},
    "useDefaultVpcCni": True,
    "version": "1.36",
    "vpcId": "vpc-1",
}


def made(**change: object) -> Graph:
    """What comes of a component with changed arguments; those that are None are left out."""
    arguments = {key: value for key, value in {**ARGUMENTS, **change}.items() if value is not None}

    def program() -> None:
        for name, value in Cluster("eks", arguments, None).outputs.items():
            if name != "eksCluster":
                pulumi.export(name, value)

    return run(program)


def test_the_children_are_those_of_the_official_component() -> None:
    assert {(node.type, node.name) for node in made().nodes} == {
        ("eks:index:Cluster", "eks"),
        ("eks:index:ServiceRole", "eks-eksRole"),
        ("aws:iam/role:Role", "eks-eksRole-role"),
        ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "eks-eksRole-4b490823"),
        ("aws:eks/cluster:Cluster", "eks-eksCluster"),
        ("aws:eks/addon:Addon", "eks-kube-proxy"),
        ("aws:eks/accessEntry:AccessEntry", "eks-admins"),
        ("aws:eks/accessPolicyAssociation:AccessPolicyAssociation", "eks-admins-admin"),
        ("pulumi:providers:kubernetes", "eks-eks-k8s"),
    }


def test_the_cluster_has_what_was_asked_for() -> None:
    graph = made()
    cluster = graph.only("aws:eks/cluster:Cluster")
    assert cluster.inputs == {
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
        "bootstrapSelfManagedAddons": False,
        "deletionProtection": True,
        "enabledClusterLogTypes": ["audit"],
        "encryptionConfig": {"provider": {"keyArn": ARGUMENTS["encryptionConfigKeyArn"]}, "resources": ["secrets"]},
        "name": "pyairtable-dev",
        "roleArn": graph.only("aws:iam/role:Role").outputs["arn"],
        "tags": {"Kind": "cluster", "Name": "eks-eksCluster", "Phase": "2"},
        "upgradePolicy": {"supportType": "STANDARD"},
        "version": "1.36",
        "vpcConfig": {
            "endpointPrivateAccess": True,
            "publicAccessCidrs": ["203.0.113.0/24"],
            "subnetIds": ["subnet-1", "subnet-2"],
        },
    }
    assert graph.only("aws:iam/rolePolicyAttachment:RolePolicyAttachment").urn in cluster.dependencies


def test_the_kubeconfig_gets_its_tokens_from_aws() -> None:
    graph = made(providerCredentialOpts={"profileName": "ci", "roleArn": "arn:aws:iam::1:role/deploy"})
    kubeconfig = graph.outputs["kubeconfig"]
    assert json.loads(graph.outputs["kubeconfigJson"]) == kubeconfig
    assert kubeconfig["clusters"][0]["cluster"] == {
        "server": "https://cluster.example",
        "certificate-authority-data": "Q0E=",
    }
    executable = kubeconfig["users"][0]["user"]["exec"]
    command = "aws --region us-east-1 eks get-token --cluster-name pyairtable-dev --output json"
    assert f"{executable['command']} {' '.join(executable['args'])}" == f"{command} --role arn:aws:iam::1:role/deploy"
    assert "AWS_PROFILE" not in [variable["name"] for variable in executable["env"]]
    own = graph.only("pulumi:providers:kubernetes").json("kubeconfig")
    assert {"name": "AWS_PROFILE", "value": "ci"} in own["users"][0]["user"]["exec"]["env"]


def test_outputs_stand_for_what_there_is() -> None:
    outputs = made().outputs
    assert outputs["clusterSecurityGroupId"] == outputs["nodeSecurityGroupId"] == "sg-cluster"
    assert outputs["oidcIssuer"] == "oidc.example/id/1"
    assert outputs["clusterIngressRuleId"] == outputs["defaultNodeGroupAsgName"] == ""


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"fargate": True}, "fargate", "does not do fargate"),
        ({"authenticationMode": "CONFIG_MAP"}, "authenticationMode", 'does "API" only'),
        ({"skipDefaultNodeGroup": None}, "skipDefaultNodeGroup", "does true only"),
        ({"useDefaultVpcCni": False}, "useDefaultVpcCni", "does true only"),
        ({"createOidcProvider": True}, "createOidcProvider", "does false only"),
        ({"corednsAddonOptions": {"enabled": True}}, "corednsAddonOptions.enabled", "does false only"),
        ({"kubeProxyAddonOptions": {}}, "kubeProxyAddonOptions.version", "the sandbox wants it given"),
        ({"name": None}, "name", "the sandbox wants it given"),
    ],
)
def test_what_the_stand_in_does_not_do_is_refused_by_name(change: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(pulumi.InputPropertyError) as refused:
        made(**change)
    assert refused.value.property_path == path
    assert reason in refused.value.reason
