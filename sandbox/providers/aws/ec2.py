"""Amazon EC2: what its many types have in common, and launch templates."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, Tagging, without
from sandbox.providers.wire import Properties, same


class Ec2Tags(Tagging):
    """EC2 keeps the tags of everything in one place, by id."""

    def read(self, aws: Aws, target: str) -> dict[str, str]:
        filters = [{"Name": "resource-id", "Values": [target]}]
        return {tag["Key"]: tag["Value"] for tag in aws.client("ec2").describe_tags(Filters=filters)["Tags"]}

    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        client = aws.client("ec2")
        gone = self.read(aws, target).keys() - tags.keys()
        if gone:
            client.delete_tags(Resources=[target], Tags=[{"Key": key} for key in sorted(gone)])
        if tags:
            client.create_tags(Resources=[target], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])


class Ec2Resource(Handler):
    """A type whose resources EC2 lists and tells apart by ids of its own; most have no other name."""

    service = "ec2"
    tag_api = Ec2Tags()
    noun: ClassVar[str]
    """Kind of resource in ARNs and tag specifications."""
    listing: ClassVar[tuple[str, str]]
    """The call that lists resources, and the list's name in its answer."""
    id_name: ClassVar[str]
    """The id's name in an entry of the list; its plural is the parameter that asks for single ones."""

    @abstractmethod
    def told(self, item: Mapping[str, Any]) -> Properties:
        """Properties of an entry of the list."""

    def exists(self, item: Mapping[str, Any]) -> bool:
        """Whether an entry of the list is more than a memory of what was deleted."""
        return True

    def read(self, id: str, inputs: Properties) -> Properties | None:
        item = self.item(id)
        return None if item is None else self.with_unreported(self.told(item), inputs)

    def find(self, inputs: Properties) -> str | None:
        """The only one with the same inputs and tags; where there are two it stays open which was meant."""
        found = [item[self.id_name] for item in self.items() if self._could_be(item, inputs)]
        return found[0] if len(found) == 1 else None

    def tag_target(self, id: str, state: Properties) -> str:
        return id

    def item(self, id: str) -> dict[str, Any] | None:
        """The list's entry of one resource, or None."""
        try:
            found = [item for item in self.items(**{f"{self.id_name}s": [id]}) if item[self.id_name] == id]
        except ClientError as error:
            if "NotFound" in error.response["Error"]["Code"]:
                return None
            raise
        return found[0] if found else None

    def items(self, **parameters: Any) -> list[dict[str, Any]]:
        """Entries of the list."""
        call, key = self.listing
        return [item for item in getattr(self.client, call)(**parameters)[key] if self.exists(item)]

    def arn(self, id: str) -> str:
        """ARN of a resource; EC2 itself tells few."""
        return f"arn:aws:ec2:{self.aws.region}:{self.aws.account_id}:{self.noun}/{id}"

    def tag_specifications(self, inputs: Properties) -> list[Properties] | None:
        """The program's own tags, for the request that creates: without them a resource cannot be found again."""
        tags = inputs.get("tags")
        return [{"resourceType": self.noun, "tags": tags}] if tags else None

    def _could_be(self, item: Mapping[str, Any], inputs: Properties) -> bool:
        wanted = without(inputs, "tags", *self.unreported)
        told = self.told(item)
        if not all(same(told.get(key), value) for key, value in wanted.items()):
            return False
        tags = Ec2Tags().read(self.aws, item[self.id_name])
        return inputs.get("tags", {}).items() <= tags.items()


TEMPLATE = ("name", "tags", "description", "updateDefaultVersion", "vpcSecurityGroupIds")
"""Inputs of a launch template that are not spelled the same in its data."""


class LaunchTemplate(Ec2Resource):
    """aws:ec2/launchTemplate:LaunchTemplate; every change makes a version."""

    type = "aws:ec2/launchTemplate:LaunchTemplate"
    supported = frozenset(
        {
            "name",
            "description",
            "updateDefaultVersion",
            "vpcSecurityGroupIds",
            "blockDeviceMappings",
            "creditSpecification",
            "imageId",
            "instanceType",
            "metadataOptions",
            "monitoring",
            "tagSpecifications",
            "userData",
        }
    )
    replace_on = frozenset({"name"})
    defaults: ClassVar[Properties] = {"updateDefaultVersion": False}
    computed = ("arn", "latestVersion", "defaultVersion")
    recomputed = ("latestVersion", "defaultVersion")
    unreported = frozenset({"updateDefaultVersion", "creditSpecification"})
    name = "name"
    noun = "launch-template"
    listing = ("describe_launch_templates", "LaunchTemplates")
    id_name = "LaunchTemplateId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_launch_template",
            launchTemplateName=inputs["name"],
            tagSpecifications=self.tag_specifications(inputs),
            **_version(inputs),
        )
        return answer["LaunchTemplate"]["LaunchTemplateId"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        state = super().read(id, inputs)
        # The emulator does not keep which key a disk is encrypted with.
        for told, asked in zip(
            (state or {}).get("blockDeviceMappings", []), inputs.get("blockDeviceMappings", []), strict=False
        ):
            if "kmsKeyId" in asked.get("ebs", {}):
                told["ebs"]["kmsKeyId"] = asked["ebs"]["kmsKeyId"]
        return state

    def told(self, item: Mapping[str, Any]) -> Properties:
        id = item["LaunchTemplateId"]
        versions = self.client.describe_launch_template_versions(LaunchTemplateId=id, Versions=["$Latest"])
        latest = versions["LaunchTemplateVersions"][0]
        data = latest["LaunchTemplateData"]
        return {
            **self.known_as(data),
            "arn": self.arn(id),
            "name": item["LaunchTemplateName"],
            "description": latest.get("VersionDescription"),
            "latestVersion": item["LatestVersionNumber"],
            "defaultVersion": item["DefaultVersionNumber"],
            "vpcSecurityGroupIds": data.get("SecurityGroupIds"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        made = self.send("create_launch_template_version", launchTemplateId=id, **_version(new))
        if new.get("updateDefaultVersion"):
            number = made["LaunchTemplateVersion"]["VersionNumber"]
            self.client.modify_launch_template(LaunchTemplateId=id, DefaultVersion=str(number))

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_launch_template(LaunchTemplateId=id)

    def find(self, inputs: Properties) -> str | None:
        named = [item for item in self.items() if item["LaunchTemplateName"] == inputs["name"]]
        return named[0]["LaunchTemplateId"] if named else None


def _version(inputs: Properties) -> Properties:
    return {
        "versionDescription": inputs.get("description"),
        "launchTemplateData": {
            **without(inputs, *TEMPLATE),
            "securityGroupIds": inputs.get("vpcSecurityGroupIds"),
        },
    }
