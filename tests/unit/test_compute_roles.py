"""AWS identities of phases 2 and 3: who may take each, and what each may do."""

import json
from typing import Any

import pytest

from infra.environments import ENVIRONMENTS
from tests.unit.graph import ACCOUNT_ID, REGION, Graph, Node, fullest, platform

ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
ADDON = "aws:eks/addon:Addon"
ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation"

in_every_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)

CNI = "kube-system/aws-node"
DISKS = "kube-system/ebs-csi-controller-sa"
AUTOSCALER = "kube-system/cluster-autoscaler"
BACKUP = "pyairtable/postgres-backup"
ROTATION = "pyairtable/database-rotation"
OPERATOR = "external-secrets-system/external-secrets"

ON_EVERYTHING: dict[str, set[str]] = {
    DISKS: {
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstances",
        "ec2:DescribeTags",
        "ec2:DescribeVolumes",
        "ec2:DescribeVolumesModifications",
        "ec2:DescribeVolumeStatus",
    },
    AUTOSCALER: {
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
    },
    BACKUP: {"cloudwatch:PutMetricData"},
    ROTATION: {"cloudwatch:PutMetricData"},
}
"""Actions for which AWS knows no narrower resource than all."""

ON_OWN: dict[str, set[str]] = {
    DISKS: {"ec2:AttachVolume", "ec2:DetachVolume", "ec2:ModifyVolume"},
    AUTOSCALER: {
        "autoscaling:SetDesiredCapacity",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "eks:DescribeNodegroup",
    },
    BACKUP: {"s3:PutObject"},
    ROTATION: {"secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"},
    OPERATOR: {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"},
}
"""Actions on what the stack itself has made."""

ON_OWN_KEY = {ROTATION: {"kms:Decrypt", "kms:GenerateDataKey"}, OPERATOR: {"kms:Decrypt"}}
"""Actions on the key of the secrets, where there is one."""

MANAGED = {
    CNI: {"arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"},
    "nodes": {
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
        "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    },
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def trust(role: Node) -> dict[str, Any]:
    (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    return statement


def pod_roles(graph: Graph) -> dict[str, Node]:
    """Roles that a service account has, by namespace and name, as EKS is told them."""
    by_arn = {role.outputs["arn"]: role for role in graph.of_type(ROLE)}
    told = {
        f"{node.inputs['namespace']}/{node.inputs['serviceAccount']}": node.inputs["roleArn"]
        for node in graph.of_type(ASSOCIATION)
    } | {
        f"kube-system/{association['serviceAccount']}": association["roleArn"]
        for node in graph.of_type(ADDON)
        for association in node.inputs.get("podIdentityAssociations", [])
    }
    return {account: by_arn[arn] for account, arn in told.items()}


def statements(graph: Graph, role: Node) -> list[dict[str, Any]]:
    """What a role's own policies allow."""
    return [
        statement
        for policy in graph.of_type(ROLE_POLICY)
        if policy.inputs["role"] == role.outputs["name"]
        for statement in policy.json()["Statement"]
    ]


def attached(graph: Graph, role: Node) -> set[str]:
    return {
        node.inputs["policyArn"] for node in graph.of_type(ATTACHMENT) if node.inputs["role"] == role.outputs["name"]
    }


def actions(found: list[dict[str, Any]], *, everywhere: bool) -> set[str]:
    return {
        action
        for statement in found
        if (statement["Resource"] == "*") == everywhere
        for action in as_list(statement["Action"])
    }


def of_action(graph: Graph, account: str, action: str) -> dict[str, Any]:
    found = statements(graph, pod_roles(graph)[account])
    (statement,) = (statement for statement in found if action in as_list(statement["Action"]))
    return statement


@in_every_environment
def test_each_pod_that_calls_aws_has_a_role_of_its_own(stack: str) -> None:
    roles = pod_roles(platform(stack))
    assert roles.keys() == {CNI, DISKS, AUTOSCALER, BACKUP, ROTATION, OPERATOR}
    assert len({role.name for role in roles.values()}) == 6


@in_every_environment
def test_phase_3_gives_no_pod_of_phase_2_another_role(stack: str) -> None:
    before, after = (pod_roles(platform(stack, phase=phase)) for phase in (2, 3))
    assert after.keys() - before.keys() == {ROTATION, OPERATOR}
    assert {account: after[account].urn for account in before} == {
        account: role.urn for account, role in before.items()
    }


@in_every_environment
def test_a_pods_role_is_for_its_service_account_of_this_cluster_only(stack: str) -> None:
    for account, role in pod_roles(platform(stack)).items():
        namespace, _, name = account.partition("/")
        assert trust(role) == {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {
                    "aws:RequestTag/eks-cluster-name": f"pyairtable-{stack}",
                    "aws:RequestTag/kubernetes-namespace": namespace,
                    "aws:RequestTag/kubernetes-service-account": name,
                }
            },
        }


@pytest.mark.parametrize(
    ("name", "service"),
    [("compute-node-role", "ec2.amazonaws.com"), ("compute-network-flow-logs-role", "vpc-flow-logs.amazonaws.com")],
)
def test_another_role_is_for_one_service_of_aws(name: str, service: str) -> None:
    statement = trust(platform("prod").named(name))
    assert statement == {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}


@in_every_environment
def test_no_role_is_left_that_nobody_takes(stack: str) -> None:
    graph = platform(stack)
    own = {role.name for role in graph.of_type(ROLE) if role.name.startswith(("compute-", "secrets-"))}
    others = {"compute-node-role", "compute-network-flow-logs-role"}
    assert own - others == {role.name for role in pod_roles(graph).values()}


@in_every_environment
def test_a_role_may_do_what_its_pod_does_and_no_more(stack: str) -> None:
    graph = platform(stack)
    for account, role in pod_roles(graph).items():
        found = statements(graph, role)
        assert actions(found, everywhere=True) == ON_EVERYTHING.get(account, set())
        on_key = ON_OWN_KEY.get(account, set()) if stack != "dev" else set[str]()
        assert actions(found, everywhere=False) == ON_OWN.get(account, set()) | on_key
        assert attached(graph, role) == MANAGED.get(account, set())


@in_every_environment
def test_nodes_may_join_and_pull_images_and_no_more(stack: str) -> None:
    graph = platform(stack)
    role = graph.named("compute-node-role")
    assert attached(graph, role) == MANAGED["nodes"]
    assert statements(graph, role) == []


@in_every_environment
def test_no_policy_of_any_phase_allows_every_action(stack: str) -> None:
    graph = fullest(stack)
    found = [statement for policy in graph.of_type(ROLE_POLICY) for statement in policy.json()["Statement"]]
    assert found
    assert [s["Sid"] for s in found if any("*" in action for action in as_list(s["Action"]))] == []
    assert {s["Effect"] for s in found} == {"Allow"}


@in_every_environment
def test_no_role_has_policies_inside_of_it(stack: str) -> None:
    for role in platform(stack).of_type(ROLE):
        assert not role.inputs.keys() & {"managedPolicyArns", "inlinePolicies"}


@in_every_environment
def test_only_disks_and_instances_of_the_stack_are_attached(stack: str) -> None:
    statement = of_action(platform(stack), DISKS, "ec2:AttachVolume")
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT_ID}"
    assert statement["Resource"] == [f"{ec2}:volume/*", f"{ec2}:instance/*"]
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/Stack": stack}}


@in_every_environment
def test_only_disks_of_the_stack_grow(stack: str) -> None:
    statement = of_action(platform(stack), DISKS, "ec2:ModifyVolume")
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/Stack": stack}}


@in_every_environment
def test_only_groups_of_the_cluster_are_scaled(stack: str) -> None:
    statement = of_action(platform(stack), AUTOSCALER, "autoscaling:SetDesiredCapacity")
    assert statement["Resource"] == f"arn:aws:autoscaling:{REGION}:{ACCOUNT_ID}:autoScalingGroup:*"
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/eks:cluster-name": f"pyairtable-{stack}"}}


@in_every_environment
def test_only_groups_of_the_cluster_are_described_to_the_autoscaler(stack: str) -> None:
    statement = of_action(platform(stack), AUTOSCALER, "eks:DescribeNodegroup")
    assert statement["Resource"] == f"arn:aws:eks:{REGION}:{ACCOUNT_ID}:nodegroup/pyairtable-{stack}/*"


@in_every_environment
def test_a_backup_adds_objects_to_its_own_bucket_and_reads_none(stack: str) -> None:
    graph = platform(stack)
    statement = of_action(graph, BACKUP, "s3:PutObject")
    assert statement["Resource"] == f"{graph.only('aws:s3/bucket:Bucket').outputs['arn']}/*"


@in_every_environment
def test_a_backup_puts_metrics_into_its_own_namespace_only(stack: str) -> None:
    statement = of_action(platform(stack), BACKUP, "cloudwatch:PutMetricData")
    assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "PyAirtable/Backup"}}


@in_every_environment
def test_a_pods_role_is_complete_before_eks_is_told_it(stack: str) -> None:
    graph = platform(stack)
    for node in (
        *graph.of_type(ASSOCIATION),
        *(n for n in graph.of_type(ADDON) if "podIdentityAssociations" in n.inputs),
    ):
        roles = {role.outputs["name"] for role in pod_roles(graph).values() if role.urn in graph.before(node)}
        policies = [*graph.of_type(ROLE_POLICY), *graph.of_type(ATTACHMENT)]
        own = [policy for policy in policies if policy.inputs["role"] in roles]
        assert own
        assert {policy.urn for policy in own} <= graph.before(node)


def test_flow_logs_are_written_to_their_own_group_only() -> None:
    graph = platform("prod")
    (statement,) = statements(graph, graph.named("compute-network-flow-logs-role"))
    assert statement["Resource"] == f"{graph.named('compute-network-flow-logs').outputs['arn']}:*"
    assert set(statement["Action"]) == {"logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"}
