"""Amazon EBS."""

from collections.abc import Mapping
from typing import Any

from sandbox.providers.aws.ec2 import Ec2Resource
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

CHANGEABLE = ("size", "iops", "throughput")


class Volume(Ec2Resource):
    """aws:ebs/volume:Volume."""

    type = "aws:ebs/volume:Volume"
    supported = frozenset({"availabilityZone", "encrypted", "kmsKeyId", "type", *CHANGEABLE})
    replace_on = frozenset({"availabilityZone", "encrypted", "kmsKeyId"})
    computed = ("arn", "createTime", "size", "type", "iops", "throughput", "encrypted", "kmsKeyId")
    unreported = frozenset({"kmsKeyId", "throughput"})
    noun = "volume"
    listing = ("describe_volumes", "Volumes")
    id_name = "VolumeId"

    def create(self, inputs: Properties) -> str:
        answer = self.send(
            "create_volume",
            availabilityZone=inputs["availabilityZone"],
            encrypted=inputs.get("encrypted"),
            kmsKeyId=inputs.get("kmsKeyId"),
            volumeType=inputs.get("type"),
            **{key: inputs.get(key) for key in CHANGEABLE},
            tagSpecifications=self.tag_specifications(inputs),
        )
        return answer["VolumeId"]

    def told(self, item: Mapping[str, Any]) -> Properties:
        return {**self.known_as(item), "arn": self.arn(item["VolumeId"]), "type": item["VolumeType"]}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        if new.get("size", old["size"]) < old["size"]:
            raise ProviderError(
                f"InvalidParameterValue: New size cannot be smaller than existing size, {old['size']} GiB"
            )
        self.send("modify_volume", volumeId=id, volumeType=new.get("type"), **{key: new.get(key) for key in CHANGEABLE})

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_volume(VolumeId=id)
