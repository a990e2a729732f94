"""AWS KMS."""

from typing import Any, ClassVar

from sandbox.providers.aws.handler import Handler, TagApi, absent
from sandbox.providers.wire import Properties


class Key(Handler):
    """aws:kms/key:Key. Deleting schedules the deletion, as AWS does; a key in its waiting period counts as gone."""

    type = "aws:kms/key:Key"
    supported = frozenset({"description", "policy", "enableKeyRotation", "deletionWindowInDays"})
    service = "kms"
    defaults: ClassVar[Properties] = {"enableKeyRotation": False}
    computed = ("arn", "keyId", "policy")
    tag_api = TagApi(
        service="kms", target="KeyId", list_call="list_resource_tags", key="TagKey", value="TagValue", keys="TagKeys"
    )

    def create(self, inputs: Properties) -> str:
        request: dict[str, Any] = {"Description": inputs.get("description", "")}
        if "policy" in inputs:
            request["Policy"] = inputs["policy"]
        return self.client.create_key(**request)["KeyMetadata"]["KeyId"]

    def configure(self, id: str, inputs: Properties) -> None:
        if inputs.get("enableKeyRotation"):
            self.client.enable_key_rotation(KeyId=id)

    def read(self, id: str, inputs: Properties) -> Properties | None:
        client = self.client
        answer = absent(lambda: client.describe_key(KeyId=id), "NotFoundException")
        if answer is None or answer["KeyMetadata"]["KeyState"] == "PendingDeletion":
            return None
        return {
            "arn": answer["KeyMetadata"]["Arn"],
            "keyId": id,
            "policy": client.get_key_policy(KeyId=id, PolicyName="default")["Policy"],
            "description": answer["KeyMetadata"].get("Description"),
            "enableKeyRotation": client.get_key_rotation_status(KeyId=id)["KeyRotationEnabled"],
            # Only the deletion itself tells AWS the window.
            "deletionWindowInDays": inputs.get("deletionWindowInDays"),
        }

    def update(self, id: str, old: Properties, new: Properties) -> None:
        client = self.client
        if old.get("description") != new.get("description"):
            client.update_key_description(KeyId=id, Description=new.get("description", ""))
        if "policy" in new and old.get("policy") != new["policy"]:
            client.put_key_policy(KeyId=id, PolicyName="default", Policy=new["policy"])
        if old.get("enableKeyRotation", False) != new.get("enableKeyRotation", False):
            (client.enable_key_rotation if new.get("enableKeyRotation") else client.disable_key_rotation)(KeyId=id)

    def delete(self, id: str, state: Properties) -> None:
        self.client.schedule_key_deletion(KeyId=id, PendingWindowInDays=state.get("deletionWindowInDays", 30))

    def tag_target(self, id: str, state: Properties) -> str:
        return id

    def find(self, inputs: Properties) -> str | None:
        """Keys have no name: the description, which the program makes unique per stack, tells them apart."""
        client = self.client
        for page in client.get_paginator("list_keys").paginate():
            for key in page["Keys"]:
                found = self.read(key["KeyId"], {})
                if found and found.get("description") == inputs.get("description"):
                    return key["KeyId"]
        return None


class Alias(Handler):
    """aws:kms/alias:Alias; the id is the name."""

    type = "aws:kms/alias:Alias"
    supported = frozenset({"name", "targetKeyId"})
    service = "kms"
    replace_on = frozenset({"name"})
    computed = ("arn", "targetKeyArn")
    name = "name"

    def create(self, inputs: Properties) -> str:
        self.client.create_alias(AliasName=inputs["name"], TargetKeyId=inputs["targetKeyId"])
        return inputs["name"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        for page in self.client.get_paginator("list_aliases").paginate():
            for alias in page["Aliases"]:
                if alias["AliasName"] == id:
                    key_id = alias["TargetKeyId"]
                    return {
                        "arn": alias["AliasArn"],
                        "name": id,
                        "targetKeyId": key_id,
                        "targetKeyArn": f"arn:aws:kms:{self.aws.region}:{self.aws.account_id}:key/{key_id}",
                    }
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.client.update_alias(AliasName=id, TargetKeyId=new["targetKeyId"])

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_alias(AliasName=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["name"])
