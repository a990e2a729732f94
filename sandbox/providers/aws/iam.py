"""AWS IAM."""

from sandbox.providers.aws.handler import Handler, TagApi, absent, policy_text
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

OF_AWS = "arn:aws:iam::aws:policy/"
MANAGED_POLICIES = frozenset(
    OF_AWS + name
    for name in (
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEC2ContainerRegistryReadOnly",
        "AmazonEKSClusterPolicy",
        "AmazonEKSServicePolicy",
        "AmazonEKSVPCResourceController",
        "AmazonEKSWorkerNodeMinimalPolicy",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEKS_CNI_Policy",
        "AmazonSSMManagedInstanceCore",
        "CloudWatchAgentServerPolicy",
        "service-role/AWSLambdaBasicExecutionRole",
        "service-role/AmazonEBSCSIDriverPolicy",
    )
)
"""Policies of AWS's own that the stand-in knows: the emulator attaches any ARN, AWS only those that exist."""


class Role(Handler):
    """aws:iam/role:Role; the id is the name."""

    type = "aws:iam/role:Role"
    supported = frozenset({"name", "assumeRolePolicy", "description"})
    service = "iam"
    replace_on = frozenset({"name"})
    computed = ("arn", "uniqueId", "createDate")
    name = "name"
    tag_api = TagApi(
        service="iam", target="RoleName", list_call="list_role_tags", tag_call="tag_role", untag_call="untag_role"
    )

    def create(self, inputs: Properties) -> str:
        self.client.create_role(
            RoleName=inputs["name"],
            AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
            Description=inputs.get("description", ""),
        )
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.get_role(RoleName=id), "NoSuchEntity")
        if answer is None:
            return None
        role = answer["Role"]
        return {
            "arn": role["Arn"],
            "uniqueId": role["RoleId"],
            "createDate": f"{role['CreateDate']:%Y-%m-%dT%H:%M:%SZ}",
            "name": id,
            "assumeRolePolicy": policy_text(role["AssumeRolePolicyDocument"]),
            "description": role.get("Description"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        client = self.client
        if old.get("assumeRolePolicy") != new.get("assumeRolePolicy"):
            client.update_assume_role_policy(RoleName=id, PolicyDocument=new["assumeRolePolicy"])
        if old.get("description") != new.get("description"):
            client.update_role(RoleName=id, Description=new.get("description", ""))

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_role(RoleName=id)

    def tag_target(self, id: str, state: Properties) -> str:
        return id

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class RolePolicy(Handler):
    """aws:iam/rolePolicy:RolePolicy; the id is `role:name`."""

    type = "aws:iam/rolePolicy:RolePolicy"
    supported = frozenset({"name", "role", "policy"})
    service = "iam"
    replace_on = frozenset({"name", "role"})
    name = "name"

    def create(self, inputs: Properties) -> str:
        self.client.put_role_policy(RoleName=inputs["role"], PolicyName=inputs["name"], PolicyDocument=inputs["policy"])
        return f"{inputs['role']}:{inputs['name']}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        role, name = id.split(":")
        answer = absent(lambda: self.client.get_role_policy(RoleName=role, PolicyName=name), "NoSuchEntity")
        if answer is None:
            return None
        return {"role": role, "name": name, "policy": policy_text(answer["PolicyDocument"])}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        role, name = id.split(":")
        self.client.delete_role_policy(RoleName=role, PolicyName=name)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(f"{inputs['role']}:{inputs['name']}")


class RolePolicyAttachment(Handler):
    """aws:iam/rolePolicyAttachment:RolePolicyAttachment; the id is `role/policy ARN`."""

    type = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    supported = frozenset({"role", "policyArn"})
    service = "iam"
    replace_on = frozenset({"role", "policyArn"})

    def create(self, inputs: Properties) -> str:
        role, arn = inputs["role"], inputs["policyArn"]
        if arn.startswith(OF_AWS) and arn not in MANAGED_POLICIES:
            raise ProviderError(
                f"NoSuchEntity: Policy {arn} does not exist or is not attachable, as far as the stand-in knows; if AWS "
                "has it, add it to sandbox/providers/aws/iam.py"
            )
        self.client.attach_role_policy(RoleName=role, PolicyArn=arn)
        return f"{role}/{arn}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        role, _, arn = id.partition("/")
        answer = absent(lambda: self.client.list_attached_role_policies(RoleName=role), "NoSuchEntity")
        attached = [policy["PolicyArn"] for policy in answer["AttachedPolicies"]] if answer else []
        return {"role": role, "policyArn": arn} if arn in attached else None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of an attachment is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        role, _, arn = id.partition("/")
        self.client.detach_role_policy(RoleName=role, PolicyArn=arn)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(f"{inputs['role']}/{inputs['policyArn']}")
