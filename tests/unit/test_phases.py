"""Every environment at every phase that is built has what the phases say, in the right places, and nothing else."""

import json
import re
import runpy
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from infra.phases import HIGHEST_BUILT, OUTPUTS, Phase
from tests.unit.graph import (
    ACCOUNT_ID,
    AWS_PROVIDER,
    KUBERNETES_PROVIDER,
    ROOT,
    Graph,
    Node,
    as_engine_passes,
    config,
    fullest,
    platform,
    run,
    stack_file,
    two_releases,
)

BUILT = [phase for phase in Phase if phase <= HIGHEST_BUILT]
EVERYWHERE = [(stack, phase) for stack in ENVIRONMENTS for phase in BUILT]

every_environment_and_phase = pytest.mark.parametrize(
    ("stack", "phase"), EVERYWHERE, ids=[f"{stack}-phase-{phase:d}" for stack, phase in EVERYWHERE]
)
every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)

TOP_OF_PHASE = {
    Phase.COST_FOUNDATION: {"pyairtable:cost_foundation:CostFoundation"},
    Phase.COMPUTE: {"pyairtable:compute:Compute", "pyairtable:compute:Workloads"},
    Phase.SECRETS: {"pyairtable:secrets:ManagedSecrets"},
    Phase.BLUE_GREEN: {
        f"pyairtable:blue_green:{component}" for component in ("ServiceMesh", "ColourRoutes", "BlueGreen", "MutualTls")
    },
}
"""The components of each phase that stand directly below the stack."""

COST_FOUNDATION = {
    "cost-foundation": "pyairtable:cost_foundation:CostFoundation",
    "cost-foundation-alerts": "pyairtable:cost_foundation:AlertTopic",
    "cost-foundation-alerts-topic": "aws:sns/topic:Topic",
    "cost-foundation-alerts-policy": "aws:sns/topicPolicy:TopicPolicy",
    "cost-foundation-alerts-ada@pyairtable.example": "aws:sns/topicSubscription:TopicSubscription",
    "cost-foundation-alerts-grace@pyairtable.example": "aws:sns/topicSubscription:TopicSubscription",
    "cost-foundation-monitoring": "pyairtable:cost_foundation:CostMonitoring",
    "cost-foundation-monitoring-budget": "aws:budgets/budget:Budget",
    "cost-foundation-monitoring-anomalies": "aws:costexplorer/anomalyMonitor:AnomalyMonitor",
    "cost-foundation-monitoring-anomaly-alerts": "aws:costexplorer/anomalySubscription:AnomalySubscription",
    "cost-foundation-monitoring-account-charges": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "cost-foundation-spend-report": "pyairtable:cost_foundation:SpendReport",
    "cost-foundation-spend-report-logs": "aws:cloudwatch/logGroup:LogGroup",
    "cost-foundation-spend-report-role": "aws:iam/role:Role",
    "cost-foundation-spend-report-policy": "aws:iam/rolePolicy:RolePolicy",
    "cost-foundation-spend-report-function": "aws:lambda/function:Function",
    "cost-foundation-spend-report-schedule": "aws:cloudwatch/eventRule:EventRule",
    "cost-foundation-spend-report-permission": "aws:lambda/permission:Permission",
    "cost-foundation-spend-report-target": "aws:cloudwatch/eventTarget:EventTarget",
    "cost-foundation-spend-report-failed": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "cost-foundation-dashboard": "pyairtable:cost_foundation:CostDashboard",
    "cost-foundation-dashboard-dashboard": "aws:cloudwatch/dashboard:Dashboard",
    "cost-foundation-registry": "pyairtable:cost_foundation:ImageRegistry",
}
OWN_KEY = {
    "cost-foundation-alerts-key": "aws:kms/key:Key",
    "cost-foundation-alerts-key-alias": "aws:kms/alias:Alias",
}

KUBERNETES = {kind: f"kubernetes:core/v1:{kind}" for kind in ("ConfigMap", "Namespace", "Secret", "Service")} | {
    "CronJob": "kubernetes:batch/v1:CronJob",
    "Deployment": "kubernetes:apps/v1:Deployment",
    "HorizontalPodAutoscaler": "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
    "NetworkPolicy": "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    "PersistentVolume": "kubernetes:core/v1:PersistentVolume",
    "PersistentVolumeClaim": "kubernetes:core/v1:PersistentVolumeClaim",
    "PodDisruptionBudget": "kubernetes:policy/v1:PodDisruptionBudget",
    "Release": "kubernetes:helm.sh/v3:Release",
    "ResourceQuota": "kubernetes:core/v1:ResourceQuota",
    "Role": "kubernetes:rbac.authorization.k8s.io/v1:Role",
    "RoleBinding": "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "ServiceAccount": "kubernetes:core/v1:ServiceAccount",
    "StatefulSet": "kubernetes:apps/v1:StatefulSet",
    "ValidatingAdmissionPolicy": "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding": "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicyBinding",
}
NETWORK = {
    "compute-network": "pyairtable:compute:Network",
    "compute-network-vpc": "aws:ec2/vpc:Vpc",
    "compute-network-default-group": "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "compute-network-gateway": "aws:ec2/internetGateway:InternetGateway",
    "compute-network-public-routes": "aws:ec2/routeTable:RouteTable",
    "compute-network-public-out": "aws:ec2/route:Route",
    "compute-network-public-us-east-1a": "aws:ec2/subnet:Subnet",
    "compute-network-public-us-east-1b": "aws:ec2/subnet:Subnet",
    "compute-network-public-us-east-1a-routes": "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "compute-network-public-us-east-1b-routes": "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "compute-network-s3": "aws:ec2/vpcEndpoint:VpcEndpoint",
}
FLOW_LOGS = {
    "compute-network-flow-log": "aws:ec2/flowLog:FlowLog",
    "compute-network-flow-logs": "aws:cloudwatch/logGroup:LogGroup",
    "compute-network-flow-logs-role": "aws:iam/role:Role",
    "compute-network-flow-logs-policy": "aws:iam/rolePolicy:RolePolicy",
}
PRIVATE_NODES = {
    "compute-network-nat": "aws:ec2/natGateway:NatGateway",
    "compute-network-nat-address": "aws:ec2/eip:Eip",
    "compute-network-private-routes": "aws:ec2/routeTable:RouteTable",
    "compute-network-private-out": "aws:ec2/route:Route",
    "compute-network-private-us-east-1a": "aws:ec2/subnet:Subnet",
    "compute-network-private-us-east-1b": "aws:ec2/subnet:Subnet",
    "compute-network-private-us-east-1a-routes": "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "compute-network-private-us-east-1b-routes": "aws:ec2/routeTableAssociation:RouteTableAssociation",
}
CLUSTER = {
    "compute-cluster": "pyairtable:compute:Cluster",
    "compute-cluster-cluster": "eks:index:Cluster",
    "compute-kubernetes": KUBERNETES_PROVIDER,
    "compute-nodeless-addons": "pyairtable:compute:NodelessAddons",
    "compute-nodeless-addons-pod-identity": "aws:eks/addon:Addon",
    "compute-nodeless-addons-vpc-cni": "aws:eks/addon:Addon",
    "compute-nodeless-addons-vpc-cni-role": "pyairtable:compute:PodRole",
    "compute-nodeless-addons-vpc-cni-role-role": "aws:iam/role:Role",
    "compute-nodeless-addons-vpc-cni-role-policy": "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "compute-node": "pyairtable:compute:NodeRole",
    "compute-node-role": "aws:iam/role:Role",
    "compute-node-images": "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "compute-node-worker": "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "compute-addons": "pyairtable:compute:Addons",
    "compute-addons-coredns": "aws:eks/addon:Addon",
    "compute-addons-metrics-server": "aws:eks/addon:Addon",
    "compute-addons-ebs-csi": "aws:eks/addon:Addon",
    "compute-addons-ebs-csi-role": "pyairtable:compute:PodRole",
    "compute-addons-ebs-csi-role-role": "aws:iam/role:Role",
    "compute-addons-ebs-csi-role-policy": "aws:iam/rolePolicy:RolePolicy",
    "compute-addons-autoscaler": KUBERNETES["Release"],
    "compute-addons-autoscaler-identity": "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    "compute-addons-autoscaler-role": "pyairtable:compute:PodRole",
    "compute-addons-autoscaler-role-role": "aws:iam/role:Role",
    "compute-addons-autoscaler-role-policy": "aws:iam/rolePolicy:RolePolicy",
}
PROD_CLUSTER = {
    "compute-cluster-key": "aws:kms/key:Key",
    "compute-cluster-key-alias": "aws:kms/alias:Alias",
    "compute-cluster-logs": "aws:cloudwatch/logGroup:LogGroup",
}
NAMESPACE = {
    "compute-namespace": "pyairtable:compute:Namespace",
    "compute-namespace-namespace": KUBERNETES["Namespace"],
    "compute-namespace-quota": KUBERNETES["ResourceQuota"],
    "compute-namespace-default-deny": KUBERNETES["NetworkPolicy"],
    "compute-namespace-dns": KUBERNETES["NetworkPolicy"],
    "compute-certificates": "pyairtable:compute:Certificates",
    "compute-certificates-authority-key": "tls:index/privateKey:PrivateKey",
    "compute-certificates-authority": "tls:index/selfSignedCert:SelfSignedCert",
    "compute-credentials": "pyairtable:compute:Credentials",
    **{
        f"compute-credentials-{password}": "random:index/randomPassword:RandomPassword"
        for password in ("api-key", "database-password", "jwt-secret", "redis-password")
    },
    "compute-credentials-database-credentials": KUBERNETES["Secret"],
    "compute-credentials-redis-credentials": KUBERNETES["Secret"],
    "compute-credentials-api-keys": KUBERNETES["Secret"],
    "compute-credentials-connections": KUBERNETES["ConfigMap"],
}
BACKUP = {
    "compute-stores-priority": "kubernetes:scheduling.k8s.io/v1:PriorityClass",
    "compute-stores-backup": "pyairtable:compute:Backup",
    "compute-stores-backup-bucket": "aws:s3/bucket:Bucket",
    **{
        f"compute-stores-backup-bucket-{name}": f"aws:s3/{type[0].lower()}{type[1:]}:{type}"
        for name, type in (
            ("encryption", "BucketServerSideEncryptionConfiguration"),
            ("lifecycle", "BucketLifecycleConfiguration"),
            ("policy", "BucketPolicy"),
            ("private", "BucketPublicAccessBlock"),
            ("versioning", "BucketVersioning"),
        )
    },
    "compute-stores-backup-role": "pyairtable:compute:PodRole",
    "compute-stores-backup-role-role": "aws:iam/role:Role",
    "compute-stores-backup-role-policy": "aws:iam/rolePolicy:RolePolicy",
    "compute-stores-backup-identity": "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    "compute-stores-backup-service-account": KUBERNETES["ServiceAccount"],
    "compute-stores-backup-policy": KUBERNETES["NetworkPolicy"],
    "compute-stores-backup-cron-job": KUBERNETES["CronJob"],
    "compute-stores-backup-missing": "aws:cloudwatch/metricAlarm:MetricAlarm",
}
EDGE = {
    "compute-edge": "pyairtable:compute:Edge",
    "compute-edge-group": "aws:ec2/securityGroup:SecurityGroup",
    "compute-edge-from-clients": "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "compute-edge-to-nodes": "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    "compute-edge-into-nodes": "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "compute-edge-balancer": "aws:lb/loadBalancer:LoadBalancer",
    "compute-edge-target": "aws:lb/targetGroup:TargetGroup",
    "compute-edge-listener": "aws:lb/listener:Listener",
    "compute-edge-nodes-general": "aws:autoscaling/attachment:Attachment",
    "compute-edge-nodes-stores": "aws:autoscaling/attachment:Attachment",
}
EDGE_SERVICE = {"edge": "pyairtable:compute:EdgeService", "edge-service": KUBERNETES["Service"]}
EDGE_POLICY = {"edge-policy": KUBERNETES["NetworkPolicy"]}
"""Below phase 4; then the gateway has its own."""

SECRETS = {
    "secrets": "pyairtable:secrets:ManagedSecrets",
    "secrets-aws": "pyairtable:secrets:AwsSecrets",
    **{
        f"secrets-aws-{secret}{part}": f"aws:secretsmanager/{type[0].lower()}{type[1:]}:{type}"
        for secret in ("api-keys", "database-credentials", "redis-credentials")
        for part, type in (("", "Secret"), ("-policy", "SecretPolicy"), ("-version", "SecretVersion"))
    },
    "secrets-operator": "pyairtable:secrets:ExternalSecretsOperator",
    "secrets-operator-namespace": KUBERNETES["Namespace"],
    "secrets-operator-crds": KUBERNETES["Release"],
    "secrets-operator-controller": KUBERNETES["Release"],
    "secrets-operator-identity": "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    "secrets-operator-role": "pyairtable:compute:PodRole",
    "secrets-operator-role-role": "aws:iam/role:Role",
    "secrets-operator-role-policy": "aws:iam/rolePolicy:RolePolicy",
    "secrets-bindings": "pyairtable:secrets:SecretBindings",
    "secrets-bindings-store": "kubernetes:external-secrets.io/v1:SecretStore",
    **{
        f"secrets-bindings-{name}-secret": "kubernetes:external-secrets.io/v1:ExternalSecret"
        for name in ("api-keys", "database", "redis")
    },
    "secrets-restarter": "pyairtable:secrets:SecretRestarter",
    "secrets-restarter-script": KUBERNETES["ConfigMap"],
    "secrets-restarter-service-account": KUBERNETES["ServiceAccount"],
    "secrets-restarter-role": KUBERNETES["Role"],
    "secrets-restarter-role-binding": KUBERNETES["RoleBinding"],
    "secrets-restarter-policy": KUBERNETES["NetworkPolicy"],
    "secrets-restarter-deployment": KUBERNETES["Deployment"],
    "secrets-rotation": "pyairtable:secrets:DatabaseRotation",
    "secrets-rotation-scripts": KUBERNETES["ConfigMap"],
    "secrets-rotation-service-account": KUBERNETES["ServiceAccount"],
    "secrets-rotation-policy": KUBERNETES["NetworkPolicy"],
    "secrets-rotation-database-policy": KUBERNETES["NetworkPolicy"],
    "secrets-rotation-cron-job": KUBERNETES["CronJob"],
    "secrets-rotation-overdue": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "secrets-rotation-identity": "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    "secrets-rotation-role": "pyairtable:compute:PodRole",
    "secrets-rotation-role-role": "aws:iam/role:Role",
    "secrets-rotation-role-policy": "aws:iam/rolePolicy:RolePolicy",
}
SECRETS_KEY = {"secrets-aws-key": "aws:kms/key:Key", "secrets-aws-key-alias": "aws:kms/alias:Alias"}


def node_group(name: str) -> dict[str, str]:
    return {
        f"compute-nodes-{name}": "pyairtable:compute:NodeGroup",
        f"compute-nodes-{name}-launch-template": "aws:ec2/launchTemplate:LaunchTemplate",
        f"compute-nodes-{name}-group": "aws:eks/nodeGroup:NodeGroup",
    }


def store(name: str) -> dict[str, str]:
    return {
        f"compute-certificates-{name}-key": "tls:index/privateKey:PrivateKey",
        f"compute-certificates-{name}-request": "tls:index/certRequest:CertRequest",
        f"compute-certificates-{name}-certificate": "tls:index/locallySignedCert:LocallySignedCert",
        f"compute-stores-{name}-disk": "pyairtable:compute:Disk",
        f"compute-stores-{name}-disk-volume": "aws:ebs/volume:Volume",
        f"compute-stores-{name}-disk-persistent-volume": KUBERNETES["PersistentVolume"],
        f"compute-stores-{name}-disk-claim": KUBERNETES["PersistentVolumeClaim"],
        f"compute-stores-{name}-configuration": KUBERNETES["ConfigMap"],
        f"compute-stores-{name}-certificate": KUBERNETES["Secret"],
        f"compute-stores-{name}-service": KUBERNETES["Service"],
        f"compute-stores-{name}-stateful-set": KUBERNETES["StatefulSet"],
        f"compute-stores-{name}-policy": KUBERNETES["NetworkPolicy"],
    }


def microservice(name: str, colour: str = "blue", *, has_service: bool = True) -> dict[str, str]:
    return {
        f"{colour}-{name}": "pyairtable:compute:Microservice",
        f"{colour}-{name}-service-account": KUBERNETES["ServiceAccount"],
        f"{colour}-{name}-deployment": KUBERNETES["Deployment"],
        **({f"{colour}-{name}-service": KUBERNETES["Service"]} if has_service else {}),
        f"{colour}-{name}-autoscaler": KUBERNETES["HorizontalPodAutoscaler"],
        f"{colour}-{name}-disruption-budget": KUBERNETES["PodDisruptionBudget"],
        f"{colour}-{name}-policy": KUBERNETES["NetworkPolicy"],
    }


def istio(kind: str, api: str = "networking") -> str:
    return f"kubernetes:{api}.istio.io/v1:{kind}"


MESH = {
    "mesh": "pyairtable:blue_green:ServiceMesh",
    "mesh-system-namespace": KUBERNETES["Namespace"],
    "mesh-nodes-namespace": KUBERNETES["Namespace"],
    "mesh-base": KUBERNETES["Release"],
    "mesh-cni": KUBERNETES["Release"],
    "mesh-istiod-1-31-1": KUBERNETES["Release"],
    "mesh-scope": istio("Sidecar"),
    "mesh-policy": KUBERNETES["NetworkPolicy"],
    "mutual-tls": "pyairtable:blue_green:MutualTls",
    "mutual-tls-peers": istio("PeerAuthentication", "security"),
    "blue-green": "pyairtable:blue_green:BlueGreen",
    "blue-green-gateway": "pyairtable:blue_green:IngressGateway",
    "blue-green-gateway-policy": KUBERNETES["NetworkPolicy"],
    "blue-green-gateway-service-policy": KUBERNETES["NetworkPolicy"],
    "blue-green-gateway-release": KUBERNETES["Release"],
    "blue-green-gateway-gateway": istio("Gateway"),
    "blue-green-policies": "pyairtable:blue_green:ReleasePolicies",
    "blue-green-policies-rollbacks": KUBERNETES["ValidatingAdmissionPolicy"],
    "blue-green-policies-rollbacks-binding": KUBERNETES["ValidatingAdmissionPolicyBinding"],
    "blue-green-policies-blue": KUBERNETES["ValidatingAdmissionPolicy"],
    "blue-green-policies-blue-binding": KUBERNETES["ValidatingAdmissionPolicyBinding"],
    "blue-green-route": istio("VirtualService"),
}


def second_release(stack: str) -> dict[str, str]:
    """What phase 4 makes in a stack: the mesh, green, and the routes between the colours."""
    blue = {service["name"] for service in stack_file(stack)["pyairtable:services"]}
    green = {service["name"] for service in stack_file("prod")["pyairtable:blueGreen"]["services"]}
    inside = blue & green - {"api-gateway"}
    return {
        **MESH,
        "green": "pyairtable:compute:Workloads",
        **{k: v for name in green for k, v in microservice(name, "green", has_service=name not in blue).items()},
        "routes": "pyairtable:blue_green:ColourRoutes",
        **{f"routes-{name}-subsets": istio("DestinationRule") for name in blue | green},
        **{f"routes-{name}-route": istio("VirtualService") for name in inside},
    }


def compute(stack: str) -> dict[str, str]:
    """What phase 2 makes in every stack of these services."""
    parts = [
        {"compute": "pyairtable:compute:Compute", "compute-stores": "pyairtable:compute:DataStores"},
        *(NETWORK, CLUSTER, NAMESPACE, BACKUP, store("postgres"), store("redis"), node_group("general")),
        {"blue": "pyairtable:compute:Workloads"},
        *(microservice(service["name"]) for service in stack_file(stack)["pyairtable:services"]),
    ]
    return {name: type for part in parts for name, type in part.items()}


def at(stack: str, phase: Phase) -> Graph:
    """The graph of an environment at a phase: all have a second release at the last one, as any may."""
    return two_releases(stack, phase)


def without_revision(name: str) -> str:
    """A logical name less what tells one set of outside keys from another, which differs between stacks."""
    return re.sub(r"^(secrets-aws-api-keys)-[0-9a-f]{8}-version$", r"\1-version", name)


def types_by_name(graph: Graph) -> dict[str, str]:
    return {without_revision(node.name): node.type for node in graph.nodes}


@every_environment
def test_phase_0_makes_only_the_provider(stack: str) -> None:
    assert types_by_name(platform(stack, phase=0)) == {"aws": AWS_PROVIDER}


@pytest.mark.parametrize("stack", ["dev", "staging"])
def test_phase_1_makes_the_cost_foundation(stack: str) -> None:
    assert types_by_name(platform(stack, phase=1)) == {"aws": AWS_PROVIDER} | COST_FOUNDATION


def test_phase_1_in_prod_also_makes_a_key_for_the_alerts() -> None:
    assert types_by_name(platform("prod", phase=1)) == {"aws": AWS_PROVIDER} | COST_FOUNDATION | OWN_KEY


def test_phase_2_in_dev_makes_the_compute_platform_and_its_workloads() -> None:
    before = {"aws": AWS_PROVIDER} | COST_FOUNDATION
    assert types_by_name(platform("dev", phase=2)) == before | compute("dev")


def test_phase_2_in_staging_also_makes_a_group_for_the_stores_and_flow_logs() -> None:
    before = {"aws": AWS_PROVIDER} | COST_FOUNDATION
    assert types_by_name(platform("staging", phase=2)) == before | compute("staging") | node_group("stores") | FLOW_LOGS


def test_phase_2_in_prod_also_makes_private_subnets_logs_a_key_and_the_edge() -> None:
    before = {"aws": AWS_PROVIDER} | COST_FOUNDATION | OWN_KEY
    own = node_group("stores") | FLOW_LOGS | PRIVATE_NODES | PROD_CLUSTER | EDGE | EDGE_SERVICE | EDGE_POLICY
    assert types_by_name(platform("prod", phase=2)) == before | compute("prod") | own


def test_phase_3_in_dev_makes_the_managed_secrets() -> None:
    assert types_by_name(platform("dev", phase=3)) == types_by_name(platform("dev", phase=2)) | SECRETS


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_phase_3_in_staging_and_prod_also_makes_a_key_for_the_secrets(stack: str) -> None:
    assert types_by_name(platform(stack, phase=3)) == types_by_name(platform(stack, phase=2)) | SECRETS | SECRETS_KEY


@every_environment
def test_phase_4_makes_the_mesh_green_and_the_routes(stack: str) -> None:
    before, after = types_by_name(at(stack, Phase.SECRETS)), types_by_name(at(stack, Phase.BLUE_GREEN))
    assert after == {name: type for name, type in before.items() if name not in EDGE_POLICY} | second_release(stack)


@every_environment
def test_phase_4_without_blue_green_is_phase_3_and_says_so(stack: str) -> None:
    graph = platform(stack, phase=4, blueGreen={"enabled": False})
    assert graph.text == platform(stack, phase=3, blueGreen={"enabled": False}).text
    assert (graph.outputs["phase"], graph.outputs["green_weight"]) == (3, None)
    (warning,) = graph.warnings
    assert warning.startswith("phase 4 without blue-green is phase 3; ")


@every_environment_and_phase
def test_a_stack_that_is_what_it_says_is_built_without_a_warning(stack: str, phase: Phase) -> None:
    assert at(stack, phase).warnings == ()


@every_environment
def test_secrets_a_schedule_and_a_mirror_make_no_more_than_what_they_are_for(stack: str) -> None:
    own = types_by_name(fullest(stack, 3)).keys() - types_by_name(platform(stack, phase=3)).keys()
    groups = ("general",) if stack == "dev" else ("general", "stores")
    assert types_by_name(platform(stack, phase=3)).keys() - types_by_name(fullest(stack, 3)).keys() == set()
    assert {name for name in own if not name.startswith("cost-foundation-registry-")} == {
        "compute-namespace-pull-secret",
        *(f"compute-nodes-{group}-{action}" for group in groups for action in ("stop", "start")),
    }


@every_environment_and_phase
def test_every_output_is_exported_and_is_null_exactly_below_its_phase(stack: str, phase: Phase) -> None:
    outputs = at(stack, phase).outputs
    absent = {"api_gateway_url"} if stack != "prod" else set()  # without an edge there is no address
    assert {name: value is None for name, value in outputs.items()} == {
        name: first > phase or name in absent for name, first in OUTPUTS.items()
    }


@every_environment_and_phase
def test_the_outputs_of_the_stack_itself_say_its_phase_and_account(stack: str, phase: Phase) -> None:
    outputs = at(stack, phase).outputs
    assert (outputs["phase"], outputs["account_id"]) == (phase.value, ACCOUNT_ID)


@every_environment
def test_the_outputs_of_phase_1_are_those_of_its_resources(stack: str) -> None:
    graph = platform(stack, phase=1)
    assert graph.outputs["budget_name"] == f"pyairtable-{stack}-monthly-budget"
    assert graph.outputs["cost_alerts_topic_arn"] == graph.only("aws:sns/topic:Topic").outputs["arn"]
    assert graph.outputs["dashboard_name"] == f"pyairtable-{stack}-cost-optimization"


@pytest.mark.parametrize(("stack", "spot"), [("dev", 100.0), ("staging", 100.0), ("prod", 80.0)])
def test_the_outputs_of_phase_2_are_those_of_its_resources(stack: str, spot: float) -> None:
    graph = platform(stack, phase=2)
    cluster = graph.only("eks:index:Cluster")
    assert graph.outputs["cluster_name"] == cluster.inputs["name"] == f"pyairtable-{stack}"
    assert graph.outputs["kubeconfig"] == cluster.outputs["kubeconfigJson"]
    assert graph.outputs["spot_share_percent"] == spot


def test_the_gateways_url_is_the_load_balancers() -> None:
    balancer = platform("prod", phase=2).only("aws:lb/loadBalancer:LoadBalancer")
    assert platform("prod", phase=2).outputs["api_gateway_url"] == f"http://{balancer.outputs['dnsName']}"


@every_environment_and_phase
def test_the_kubeconfig_is_the_only_secret_output(stack: str, phase: Phase) -> None:
    expected = {"kubeconfig"} if phase >= Phase.COMPUTE else set[str]()
    assert at(stack, phase).secret_outputs == expected


@every_environment_and_phase
def test_every_parent_chain_begins_at_a_component_of_a_phase_that_exists(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    tops = {graph.top_of(node).type for node in graph.nodes}
    edge = {EDGE_SERVICE["edge"]} if stack == "prod" and phase >= Phase.COMPUTE else set[str]()
    assert tops == {AWS_PROVIDER}.union(edge, *(TOP_OF_PHASE[below] for below in TOP_OF_PHASE if below <= phase))


@every_environment_and_phase
def test_every_aws_resource_is_a_child_of_a_component(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    components = {node.urn for node in graph.components}
    assert [node.name for node in graph.aws if node.parent not in components] == []


@every_environment_and_phase
def test_children_are_named_after_their_component(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    below = [node for node in graph.nodes if graph.top_of(node) != node]
    assert [node.name for node in below if not node.name.startswith(f"{graph.at(node.parent).name}-")] == []


@every_environment_and_phase
def test_every_component_registers_its_outputs(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    assert [node.name for node in graph.components if node.urn not in graph.finished] == []


@every_environment_and_phase
def test_every_aws_resource_uses_the_explicit_provider(stack: str, phase: Phase) -> None:
    graph = fullest(stack, phase)
    provider = graph.only(AWS_PROVIDER).urn
    assert {node.name: node.provider for node in graph.aws} == dict.fromkeys((n.name for n in graph.aws), provider)


@every_environment
def test_what_is_read_of_the_cluster_is_read_through_the_stacks_own_provider(stack: str) -> None:
    graph = fullest(stack)
    assert {read.type.rpartition(":")[2] for read in graph.reads} == {"Deployment", "Secret"}
    assert {read.provider for read in graph.reads} == {graph.only(KUBERNETES_PROVIDER).urn}
    assert fullest(stack, Phase.COMPUTE).reads == ()


@every_environment
def test_every_object_of_kubernetes_goes_through_the_stacks_own_provider(stack: str) -> None:
    graph = fullest(stack)
    provider = graph.only(KUBERNETES_PROVIDER).urn
    assert {node.name: node.provider for node in graph.kubernetes} == dict.fromkeys(
        (node.name for node in graph.kubernetes), provider
    )


@every_environment
def test_the_clusters_component_makes_its_children_with_the_explicit_provider(stack: str) -> None:
    graph = platform(stack, phase=2)
    assert graph.only("eks:index:Cluster").providers == {graph.only(AWS_PROVIDER).urn}


@every_environment
def test_the_identity_of_the_kubernetes_provider_is_known_in_every_preview(stack: str) -> None:
    provider = platform(stack, phase=2).only(KUBERNETES_PROVIDER)
    assert provider.inputs["clusterIdentifier"] == f"pyairtable-{stack}"
    assert "clusterIdentifier" not in provider.secrets


@every_environment_and_phase
def test_no_logical_name_is_used_twice(stack: str, phase: Phase) -> None:
    graph = fullest(stack, phase)
    assert [name for name, times in Counter(node.name for node in graph.nodes).items() if times > 1] == []


def objects(graph: Graph) -> list[Node]:
    """Objects of Kubernetes, without charts."""
    return [node for node in graph.kubernetes if "helm" not in node.type]


@every_environment_and_phase
def test_no_name_on_aws_is_used_twice_for_a_type(stack: str, phase: Phase) -> None:
    graph = fullest(stack, phase)
    names = Counter(
        (node.type, node.inputs["name"], node.inputs.get("role")) for node in graph.aws if "name" in node.inputs
    )
    assert [name for name, times in names.items() if times > 1] == []


@every_environment_and_phase
def test_every_name_on_aws_carries_the_stack(stack: str, phase: Phase) -> None:
    graph = fullest(stack, phase)
    of_one_parent = {"aws:iam/rolePolicy:RolePolicy"}
    named = {"name", "bucket", "dashboardName", "nodeGroupName", "clusterName"}
    names = [
        node.inputs[key] for node in graph.aws for key in named & node.inputs.keys() if node.type not in of_one_parent
    ]
    assert [name for name in names if not re.search(rf"pyairtable[-/]alice-{stack}\b", name)] == []


@every_environment_and_phase
def test_no_object_of_kubernetes_has_the_name_of_another_of_its_kind(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    names = Counter((node.inputs["kind"], node.inputs["metadata"]["name"]) for node in objects(graph))
    assert [name for name, times in names.items() if times > 1] == []


@every_environment_and_phase
def test_every_object_of_kubernetes_is_named_and_in_the_namespace(stack: str, phase: Phase) -> None:
    graph = at(stack, phase)
    everywhere = {
        "Namespace",
        "PersistentVolume",
        "PriorityClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    outside = [
        node.name
        for node in objects(graph)
        if not node.inputs["metadata"]["name"]
        or (node.inputs["metadata"].get("namespace") == "pyairtable") == (node.inputs["kind"] in everywhere)
    ]
    assert outside == []


@every_environment
def test_the_provider_is_bound_to_the_stacks_account_and_region(stack: str) -> None:
    provider = platform(stack, phase=0).only(AWS_PROVIDER)
    assert json.loads(provider.inputs["allowedAccountIds"]) == [ACCOUNT_ID]
    assert provider.inputs["region"] == "us-east-1"


@pytest.mark.parametrize("phase", [Phase.NOTHING, Phase.COST_FOUNDATION, Phase.COMPUTE])
@every_environment
def test_a_move_between_phases_changes_nothing_of_what_both_have(stack: str, phase: Phase) -> None:
    after = {node.urn: node.inputs for node in at(stack, Phase.SECRETS).nodes}
    before = {node.urn: node.inputs for node in at(stack, phase).nodes}
    assert before == {urn: after[urn] for urn in before}


@every_environment
def test_phase_4_changes_only_pods_that_get_a_sidecar_what_is_behind_the_edge_and_who_and_how_much_is_let_in(
    stack: str,
) -> None:
    before = {node.name: node.inputs for node in at(stack, Phase.SECRETS).nodes}
    after = {node.name: node.inputs for node in at(stack, Phase.BLUE_GREEN).nodes}
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    blue = {service["name"] for service in stack_file(stack)["pyairtable:services"]}
    assert {name for name in changed if not name.endswith("-policy")} == {
        *(f"blue-{name}-deployment" for name in blue),
        *({"edge-service"} if stack == "prod" else set[str]()),
        "compute-namespace-quota",
        "secrets-restarter-role",
    }
    stores = {"compute-stores-postgres-policy", "compute-stores-redis-policy"} if stack == "prod" else set[str]()
    assert {name for name in changed if name.endswith("-policy")} == stores


@every_environment
def test_phase_4_changes_of_blues_deployments_only_labels_and_annotations_of_their_pods(stack: str) -> None:
    before, after = at(stack, Phase.SECRETS), at(stack, Phase.BLUE_GREEN)
    for node in (node for node in before.objects("Deployment") if node.name.startswith("blue-")):
        then, now = node.inputs["spec"], after.at(node.urn).inputs["spec"]
        assert {**then, "template": None} == {**now, "template": None}
        assert then["template"]["spec"] == now["template"]["spec"]
        assert then["template"]["metadata"]["labels"].items() < now["template"]["metadata"]["labels"].items()


@every_environment
def test_phase_3_adds_its_own_component_and_changes_nothing_at_all_of_what_is_there(stack: str) -> None:
    """No Deployment, StatefulSet, quota or policy, and nothing that the engine knows of them but their order."""
    before, after = fullest(stack, Phase.COMPUTE), fullest(stack, Phase.SECRETS)
    kept = {node.urn: node for node in after.nodes if node.urn in {node.urn for node in before.nodes}}
    assert {urn: replace(node, dependencies=frozenset()) for urn, node in kept.items()} == {
        node.urn: replace(node, dependencies=frozenset()) for node in before.nodes
    }
    assert {after.top_of(node).name for node in after.nodes if node.urn not in kept} == {"secrets"}


@every_environment
def test_of_phase_2_only_the_services_wait_for_phase_3(stack: str) -> None:
    before, after = fullest(stack, Phase.COMPUTE), fullest(stack, Phase.SECRETS)
    more = {
        node.name: after.at(node.urn).dependencies - node.dependencies
        for node in before.nodes
        if after.at(node.urn).dependencies != node.dependencies
    }
    bindings = {node.urn for node in after.nodes if node.name.startswith("secrets-bindings-")}
    assert more == {"blue": bindings}
    for node in before.nodes:
        waits = {after.top_of(after.at(urn)).name for urn in after.before(after.at(node.urn))}
        assert ("secrets" in waits) == (before.top_of(node).name in {"blue", "edge"})  # the edge is what leads to blue


@every_environment
def test_the_secrets_that_pods_read_are_phase_2s_and_stay_with_their_values_when_phase_3_goes(stack: str) -> None:
    before, after = fullest(stack, Phase.COMPUTE), fullest(stack, Phase.SECRETS)
    assert [node.urn for node in before.objects("Secret")] == [node.urn for node in after.objects("Secret")]
    filled = {binding.inputs["spec"]["target"]["name"] for binding in after.objects("ExternalSecret")}
    assert filled == {"database-credentials", "redis-credentials", "api-keys"}
    for name in filled:
        assert before.object("Secret", name).ignored == after.object("Secret", name).ignored == ("data",)
    # Neither owns the Secret: what goes takes nothing along.
    targets = [binding.inputs["spec"]["target"] for binding in after.objects("ExternalSecret")]
    assert {(target["creationPolicy"], target["deletionPolicy"]) for target in targets} == {("Merge", "Retain")}


def inputs_without_the_stacks_name(stack: str, phase: Phase) -> dict[str, Mapping[str, Any]]:
    """Inputs of AWS resources by logical name, with the stack's name replaced wherever it is a word of its own."""
    return {
        without_revision(node.name): json.loads(re.sub(rf"\b{stack}\b", "STACK", json.dumps(node.inputs)))
        for node in at(stack, phase).nodes
    }


def differences(one: str, other: str, phase: Phase) -> dict[str, set[str]]:
    """Which inputs of which resources differ between two stacks; all of them where only one has the resource."""
    left, right = inputs_without_the_stacks_name(one, phase), inputs_without_the_stacks_name(other, phase)
    found: dict[str, set[str]] = {}
    for name in left.keys() | right.keys():
        mine, yours = left.get(name, {}), right.get(name, {})
        changed = {key for key in mine.keys() | yours.keys() if mine.get(key) != yours.get(key)}
        if changed:
            found[name] = changed
    return found


def test_in_phase_1_dev_and_staging_differ_only_in_the_budgets_limit() -> None:
    assert differences("dev", "staging", Phase.COST_FOUNDATION) == {
        "cost-foundation-monitoring-budget": {"limitAmount"}
    }


def test_in_phase_1_prod_differs_only_in_the_budgets_limit_and_in_the_key_of_its_topic() -> None:
    found = differences("dev", "prod", Phase.COST_FOUNDATION)
    assert found.keys() - OWN_KEY.keys() == {"cost-foundation-monitoring-budget", "cost-foundation-alerts-topic"}
    assert found["cost-foundation-monitoring-budget"] == {"limitAmount"}
    assert found["cost-foundation-alerts-topic"] == {"kmsMasterKeyId"}


SIZED = re.compile(
    r"blue-.*-deployment|compute-namespace-quota|compute-addons-(coredns|ebs-csi)|compute-stores-backup-cron-job"
    r"|compute-stores-(postgres|redis)-(disk-.*|stateful-set|configuration)|compute-nodes-general-launch-template"
)
"""What is larger where a stack is larger."""


def test_in_phase_2_staging_differs_from_dev_in_sizes_addresses_flow_logs_and_the_stores_group() -> None:
    found = differences("dev", "staging", Phase.COMPUTE)
    assert {
        name for name in found.keys() - FLOW_LOGS.keys() - node_group("stores").keys() if not SIZED.fullmatch(name)
    } == {
        "cost-foundation-monitoring-budget",
        "compute-network-vpc",
        "compute-network-public-us-east-1a",
        "compute-network-public-us-east-1b",
        "compute-nodes-general-group",
    }
    assert found["compute-nodes-general-group"] == {"labels", "scalingConfig", "subnetIds"}


def test_in_phase_2_prod_differs_from_staging_also_in_where_its_nodes_are_and_in_how_it_is_kept() -> None:
    found = differences("staging", "prod", Phase.COMPUTE)
    own = OWN_KEY.keys() | PRIVATE_NODES.keys() | PROD_CLUSTER.keys() | EDGE.keys() | EDGE_SERVICE.keys()
    own |= EDGE_POLICY.keys()
    same_kind = {name for name in found.keys() - own if not (SIZED.fullmatch(name) or name.startswith("blue-"))}
    assert same_kind == {
        "cost-foundation-monitoring-budget",
        "cost-foundation-alerts-topic",
        "compute-network-vpc",
        "compute-network-public-us-east-1a",
        "compute-network-public-us-east-1b",
        "compute-network-s3",
        "compute-cluster-cluster",
        "compute-nodes-general-group",
        "compute-nodes-stores-group",
        "compute-nodes-stores-launch-template",
        "compute-stores-postgres-policy",
        "compute-stores-redis-policy",
        "compute-stores-backup-bucket",
        "compute-stores-backup-bucket-lifecycle",
    }
    assert found["compute-cluster-cluster"] == {
        "deletionProtection",
        "enabledClusterLogTypes",
        "encryptionConfigKeyArn",
        "subnetIds",
    }


def of_phase_3(found: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: keys for name, keys in found.items() if name in SECRETS}


def test_in_phase_3_staging_differs_from_dev_in_who_encrypts_the_secrets_and_where_the_api_server_is() -> None:
    found = differences("dev", "staging", Phase.SECRETS)
    encrypted = ("secrets-aws-api-keys", "secrets-aws-database-credentials", "secrets-aws-redis-credentials")
    assert of_phase_3(found) == {
        **{name: {"kmsKeyId"} for name in encrypted},
        "secrets-operator-role-policy": {"policy"},
        "secrets-rotation-role-policy": {"policy"},
        "secrets-restarter-policy": {"spec"},
    }
    assert found.keys() - differences("dev", "staging", Phase.COMPUTE).keys() == of_phase_3(found).keys() | {
        *SECRETS_KEY
    }


def test_in_phase_3_prod_differs_from_staging_in_how_long_a_deleted_secret_can_be_had_back() -> None:
    found = differences("staging", "prod", Phase.SECRETS)
    kept = ("secrets-aws-api-keys", "secrets-aws-database-credentials", "secrets-aws-redis-credentials")
    assert of_phase_3(found) == {
        **{name: {"recoveryWindowInDays"} for name in kept},
        "secrets-restarter-policy": {"spec"},
        "secrets-restarter-role": {"rules"},
    }


def test_a_personal_stack_of_prods_has_prods_key() -> None:
    assert OWN_KEY.items() <= types_by_name(platform("alice-prod", phase=1)).items()


def test_the_entry_point_builds_the_platform_that_the_stacks_config_asks_for() -> None:
    graph = run(
        lambda: runpy.run_path(str(ROOT / "infra"), run_name="__main__"),
        "prod",
        as_engine_passes(config("prod", phase=1)),
    )
    assert graph.text == platform("prod", phase=1).text
    assert graph.outputs == platform("prod", phase=1).outputs
