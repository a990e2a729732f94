"""Amazon ECR."""

from typing import ClassVar

from sandbox.providers.aws.handler import Handler, TagApi, absent
from sandbox.providers.wire import Properties


class Repository(Handler):
    """aws:ecr/repository:Repository; the id is the name."""

    type = "aws:ecr/repository:Repository"
    supported = frozenset({"name", "imageTagMutability", "imageScanningConfiguration", "forceDelete"})
    service = "ecr"
    defaults: ClassVar[Properties] = {
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
    }
    replace_on = frozenset({"name"})
    computed = ("arn", "registryId", "repositoryUrl")
    name = "name"
    tag_api = TagApi(service="ecr", target="resourceArn", tags="tags", keys="tagKeys")

    def create(self, inputs: Properties) -> str:
        self.client.create_repository(
            repositoryName=inputs["name"],
            imageTagMutability=inputs.get("imageTagMutability", "MUTABLE"),
            imageScanningConfiguration=inputs.get("imageScanningConfiguration", {"scanOnPush": False}),
        )
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.describe_repositories(repositoryNames=[id]), "RepositoryNotFoundException")
        if answer is None:
            return None
        repository = answer["repositories"][0]
        return {
            "arn": repository["repositoryArn"],
            "registryId": repository["registryId"],
            "repositoryUrl": repository["repositoryUri"],
            "name": id,
            "imageTagMutability": repository["imageTagMutability"],
            "imageScanningConfiguration": repository["imageScanningConfiguration"],
            "forceDelete": inputs.get("forceDelete"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        client = self.client
        client.put_image_tag_mutability(repositoryName=id, imageTagMutability=new.get("imageTagMutability", "MUTABLE"))
        client.put_image_scanning_configuration(
            repositoryName=id,
            imageScanningConfiguration=new.get("imageScanningConfiguration", {"scanOnPush": False}),
        )

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_repository(repositoryName=id, force=state.get("forceDelete", False))

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])


class LifecyclePolicy(Handler):
    """aws:ecr/lifecyclePolicy:LifecyclePolicy; the id is the repository's name."""

    type = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
    supported = frozenset({"repository", "policy"})
    service = "ecr"
    replace_on = frozenset({"repository"})
    computed = ("registryId",)

    def create(self, inputs: Properties) -> str:
        self.client.put_lifecycle_policy(repositoryName=inputs["repository"], lifecyclePolicyText=inputs["policy"])
        return inputs["repository"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        policy = absent(
            lambda: self.client.get_lifecycle_policy(repositoryName=id),
            "LifecyclePolicyNotFoundException",
            "RepositoryNotFoundException",
        )
        if policy is None:
            return None
        return {"registryId": policy["registryId"], "repository": id, "policy": policy["lifecyclePolicyText"]}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_lifecycle_policy(repositoryName=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["repository"])
