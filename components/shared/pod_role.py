"""PodRole and pod_identity: the AWS identity of one service account, through EKS Pod Identity."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from components.shared.policies import document, trust
from infra.naming import Names
from infra.phases import Phase


class PodRole(pulumi.ComponentResource):
    """Role that only pods of this stack's cluster can have, with just these statements or one managed policy."""

    arn: pulumi.Output[str]
    """Known once the role has its permissions."""
    service_account: str

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        phase: Phase,
        suffix: str,
        purpose: str,
        namespace: str,
        service_account: str,
        statements: Sequence[Mapping[str, Any]] = (),
        managed_policy: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        # The type is part of what the engine knows its parts by: it stays, although other phases have pods too.
        super().__init__("pyairtable:compute:PodRole", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service_account = service_account
        # Pod Identity tags the session: without these conditions any cluster of the account could use the role.
        session = {
            "StringEquals": {
                "aws:RequestTag/eks-cluster-name": names.prefix,
                "aws:RequestTag/kubernetes-namespace": namespace,
                "aws:RequestTag/kubernetes-service-account": service_account,
            }
        }
        role = aws.iam.Role(
            f"{name}-role",
            name=names.of(suffix),
            description=purpose,
            assume_role_policy=pulumi.Output.json_dumps(
                trust("pods.eks.amazonaws.com", "sts:AssumeRole", "sts:TagSession", conditions=session)
            ),
            tags=Names.phase_tags(phase),
            opts=child,
        )
        granted: pulumi.Output[Any]
        if managed_policy:
            attachment = aws.iam.RolePolicyAttachment(
                f"{name}-policy", role=role.name, policy_arn=managed_policy, opts=child
            )
            granted = attachment.policy_arn
        else:
            policy = aws.iam.RolePolicy(
                f"{name}-policy",
                name=suffix,
                role=role.name,
                policy=pulumi.Output.json_dumps(document(*statements)),
                opts=child,
            )
            granted = policy.name
        self.arn = pulumi.Output.all(role.arn, granted).apply(lambda parts: str(parts[0]))
        self.register_outputs({"arn": self.arn})


def pod_identity(
    name: str,
    *,
    names: Names,
    phase: Phase,
    suffix: str,
    purpose: str,
    cluster_name: pulumi.Input[str],
    namespace: str,
    service_account: str,
    statements: Sequence[Mapping[str, Any]],
    parent: pulumi.Resource,
) -> aws.eks.PodIdentityAssociation:
    """A role for a service account that is no add-on's, and what gives it to its pods.

    They get it when they are admitted: it has to exist before them.
    """
    child = pulumi.ResourceOptions(parent=parent)
    role = PodRole(
        f"{name}-role",
        names=names,
        phase=phase,
        suffix=suffix,
        purpose=purpose,
        namespace=namespace,
        service_account=service_account,
        statements=statements,
        opts=child,
    )
    return aws.eks.PodIdentityAssociation(
        f"{name}-identity",
        cluster_name=cluster_name,
        namespace=namespace,
        service_account=service_account,
        role_arn=role.arn,
        tags=Names.phase_tags(phase),
        opts=child,
    )
