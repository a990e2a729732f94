"""NodeRole: the identity of the nodes, which may join the cluster and pull images, and nothing else."""

import pulumi
import pulumi_aws as aws

from components.compute.tags import TAGS
from components.shared.policies import trust
from infra.naming import Names

NODE_POLICIES = {
    "worker": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "images": "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
}
"""The CNI's and the disks' permissions are not here: their pods have identities of their own."""


class NodeRole(pulumi.ComponentResource):
    """Role of every node group of a stack."""

    arn: pulumi.Output[str]
    """Known once the policies are attached: a node that starts earlier cannot join."""

    def __init__(self, name: str, names: Names, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:NodeRole", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-role",
            name=names.of("node"),
            description=f"Lets the nodes of {names.prefix} join the cluster and pull images",
            assume_role_policy=pulumi.Output.json_dumps(trust("ec2.amazonaws.com")),
            tags=TAGS,
            opts=child,
        )
        attachments = [
            aws.iam.RolePolicyAttachment(f"{name}-{key}", role=role.name, policy_arn=arn, opts=child)
            for key, arn in NODE_POLICIES.items()
        ]
        attached = pulumi.Output.all(*[attachment.policy_arn for attachment in attachments])
        self.arn = pulumi.Output.all(role.arn, attached).apply(lambda parts: str(parts[0]))
        self.register_outputs({"arn": self.arn})
