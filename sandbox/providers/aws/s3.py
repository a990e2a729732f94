"""Amazon S3: buckets, and what is set on them by resources of their own."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, Tagging, absent, without
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties

NO_BUCKET = "NoSuchBucket"


class BucketTags(Tagging):
    """S3 knows a bucket's tags only as a whole."""

    def read(self, aws: Aws, target: str) -> dict[str, str]:
        answer = absent(lambda: aws.client("s3").get_bucket_tagging(Bucket=target), "NoSuchTagSet")
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]} if answer else {}

    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        if tags:
            tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
            aws.client("s3").put_bucket_tagging(Bucket=target, Tagging={"TagSet": tag_set})
        else:
            aws.client("s3").delete_bucket_tagging(Bucket=target)


class Bucket(Handler):
    """aws:s3/bucket:Bucket; the id is the name."""

    type = "aws:s3/bucket:Bucket"
    supported = frozenset({"bucket", "forceDestroy"})
    service = "s3"
    replace_on = frozenset({"bucket"})
    defaults: ClassVar[Properties] = {"forceDestroy": False}
    computed = ("arn", "bucketDomainName", "bucketRegionalDomainName", "bucketRegion")
    unreported = frozenset({"forceDestroy"})
    name = "bucket"
    tag_api = BucketTags()

    def create(self, inputs: Properties) -> str:
        region = self.aws.region
        elsewhere = None if region == "us-east-1" else {"locationConstraint": region}
        if not self.aws.is_dry and self.find(inputs):
            raise ProviderError(f"BucketAlreadyOwnedByYou: the bucket {inputs['bucket']} exists, and is yours")
        self.send("create_bucket", bucket=inputs["bucket"], createBucketConfiguration=elsewhere)
        return inputs["bucket"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        if absent(lambda: self.client.head_bucket(Bucket=id), "404", NO_BUCKET) is None:
            return None
        told = {
            "arn": f"arn:aws:s3:::{id}",
            "bucket": id,
            "bucketDomainName": f"{id}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{id}.s3.{self.aws.region}.amazonaws.com",
            "bucketRegion": self.aws.region,
        }
        return self.with_unreported(told, inputs)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        # Whether it is emptied when it is deleted is all that can change, and S3 is not told.
        self.client.head_bucket(Bucket=id)

    def delete(self, id: str, state: Properties) -> None:
        if state.get("forceDestroy"):
            self._empty(id)
        self.client.delete_bucket(Bucket=id)

    def tag_target(self, id: str, state: Properties) -> str:
        return id

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["bucket"])

    def _empty(self, id: str) -> None:
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=id):
            for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                self.client.delete_object(Bucket=id, Key=version["Key"], VersionId=version["VersionId"])


class _BucketSetting(Handler):
    """Something that is put on a bucket, read by a get and taken off by a delete; the id is the bucket's name."""

    service = "s3"
    replace_on = frozenset({"bucket"})
    put_call: ClassVar[str]
    get_call: ClassVar[str]
    delete_call: ClassVar[str]
    unset: ClassVar[str]
    """Error code of a get where nothing is set."""

    @abstractmethod
    def request(self, inputs: Properties) -> Properties:
        """Parameters of the put, without the bucket."""

    @abstractmethod
    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        """Properties that the get's answer tells; None where nothing is set."""

    def create(self, inputs: Properties) -> str:
        self.send(self.put_call, bucket=inputs["bucket"], **self.request(inputs))
        return inputs["bucket"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: getattr(self.client, self.get_call)(Bucket=id), NO_BUCKET, self.unset)
        told = None if answer is None else self.told(answer)
        return None if told is None else {"bucket": id, **told}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.create(new)

    def delete(self, id: str, state: Properties) -> None:
        getattr(self.client, self.delete_call)(Bucket=id)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(inputs["bucket"])


class BucketVersioning(_BucketSetting):
    """aws:s3/bucketVersioning:BucketVersioning; it cannot be taken off, only suspended."""

    type = "aws:s3/bucketVersioning:BucketVersioning"
    supported = frozenset({"bucket", "versioningConfiguration"})
    put_call = "put_bucket_versioning"
    get_call = "get_bucket_versioning"
    unset = NO_BUCKET

    def request(self, inputs: Properties) -> Properties:
        return {"versioningConfiguration": inputs["versioningConfiguration"]}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        return {"versioningConfiguration": {"status": answer["Status"]}} if "Status" in answer else None

    def delete(self, id: str, state: Properties) -> None:
        self.client.put_bucket_versioning(Bucket=id, VersioningConfiguration={"Status": "Suspended"})


class BucketServerSideEncryptionConfiguration(_BucketSetting):
    """aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration."""

    type = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    supported = frozenset({"bucket", "rules"})
    put_call = "put_bucket_encryption"
    get_call = "get_bucket_encryption"
    delete_call = "delete_bucket_encryption"
    unset = "ServerSideEncryptionConfigurationNotFoundError"

    def request(self, inputs: Properties) -> Properties:
        return {"serverSideEncryptionConfiguration": {"rules": inputs["rules"]}}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        rules = self.known_as(answer["ServerSideEncryptionConfiguration"])["rules"]
        # S3 says false where the program said nothing.
        return {
            "rules": [rule if rule.get("bucketKeyEnabled") else without(rule, "bucketKeyEnabled") for rule in rules]
        }


class BucketLifecycleConfiguration(_BucketSetting):
    """aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration."""

    type = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    supported = frozenset({"bucket", "rules"})
    defaults: ClassVar[Properties] = {"transitionDefaultMinimumObjectSize": "all_storage_classes_128K"}
    put_call = "put_bucket_lifecycle_configuration"
    get_call = "get_bucket_lifecycle_configuration"
    delete_call = "delete_bucket_lifecycle"
    unset = "NoSuchLifecycleConfiguration"

    def request(self, inputs: Properties) -> Properties:
        # S3 wants a filter in every rule; an empty one takes everything.
        return {"lifecycleConfiguration": {"rules": [{"filter": {}, **rule} for rule in inputs["rules"]]}}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        return self.known_as(answer)


class BucketPublicAccessBlock(_BucketSetting):
    """aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock."""

    type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    supported = frozenset(
        {"bucket", "blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"}
    )
    defaults: ClassVar[Properties] = dict.fromkeys(supported - {"bucket"}, False)
    put_call = "put_public_access_block"
    get_call = "get_public_access_block"
    delete_call = "delete_public_access_block"
    unset = "NoSuchPublicAccessBlockConfiguration"

    def request(self, inputs: Properties) -> Properties:
        return {"publicAccessBlockConfiguration": {**self.defaults, **without(inputs, "bucket")}}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        return self.known_as(answer["PublicAccessBlockConfiguration"])


class BucketPolicy(_BucketSetting):
    """aws:s3/bucketPolicy:BucketPolicy."""

    type = "aws:s3/bucketPolicy:BucketPolicy"
    supported = frozenset({"bucket", "policy"})
    put_call = "put_bucket_policy"
    get_call = "get_bucket_policy"
    delete_call = "delete_bucket_policy"
    unset = "NoSuchBucketPolicy"

    def request(self, inputs: Properties) -> Properties:
        return {"policy": inputs["policy"]}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        return {"policy": answer["Policy"]}


class BucketOwnershipControls(_BucketSetting):
    """aws:s3/bucketOwnershipControls:BucketOwnershipControls."""

    type = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    supported = frozenset({"bucket", "rule"})
    put_call = "put_bucket_ownership_controls"
    get_call = "get_bucket_ownership_controls"
    delete_call = "delete_bucket_ownership_controls"
    unset = "OwnershipControlsNotFoundError"

    def request(self, inputs: Properties) -> Properties:
        return {"ownershipControls": {"rules": [inputs["rule"]]}}

    def told(self, answer: Mapping[str, Any]) -> Properties | None:
        rule = answer["OwnershipControls"]["Rules"][0]
        return {"rule": {"objectOwnership": rule["ObjectOwnership"]}}
