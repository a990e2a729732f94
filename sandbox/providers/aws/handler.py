"""What the stand-in knows about one type of AWS resource, and how it reads and writes tags."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from botocore.exceptions import ClientError

from sandbox.providers.aws.client import Aws
from sandbox.providers.wire import Properties


@dataclass(frozen=True, kw_only=True)
class TagApi:
    """How one service spells the three calls about tags, which differ in nothing but their names."""

    service: str
    list_call: str = "list_tags_for_resource"
    tag_call: str = "tag_resource"
    untag_call: str = "untag_resource"
    target: str = "ResourceARN"
    tags: str = "Tags"
    keys: str = "TagKeys"
    form: Literal["list", "map"] = "list"
    key: str = "Key"
    value: str = "Value"

    def read(self, aws: Aws, target: str) -> dict[str, str]:
        """Tags that the resource has."""
        tags = getattr(aws.client(self.service), self.list_call)(**{self.target: target})[self.tags]
        return dict(tags) if self.form == "map" else {tag[self.key]: tag[self.value] for tag in tags}

    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        """Make the resource's tags these, and no others."""
        client = aws.client(self.service)
        gone = self.read(aws, target).keys() - tags.keys()
        if gone:
            getattr(client, self.untag_call)(**{self.target: target, self.keys: sorted(gone)})
        if tags:
            written = tags if self.form == "map" else [{self.key: k, self.value: v} for k, v in tags.items()]
            getattr(client, self.tag_call)(**{self.target: target, self.tags: written})


class Handler(ABC):
    """One type of resource. A handler translates; checking, diffing and state are the provider's."""

    type: ClassVar[str]
    service: ClassVar[str]
    """boto3's name of the service."""
    supported: ClassVar[frozenset[str]]
    """Inputs that the handler carries out, besides tags; it refuses the others rather than drop them."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Inputs that AWS cannot change in place."""
    defaults: ClassVar[Properties] = {}
    """What AWS fills in for inputs that are not given; what it leaves empty need not be listed."""
    computed: ClassVar[tuple[str, ...]] = ()
    """Outputs that only AWS knows: unknown in a preview."""
    name: ClassVar[str] = ""
    """Input that holds the name; the old resource must go first when a replacement keeps it."""
    tag_api: ClassVar[TagApi | None] = None

    def __init__(self, aws: Aws) -> None:
        self.aws = aws

    @property
    def client(self) -> Any:
        """The service's client."""
        return self.aws.client(self.service)

    @abstractmethod
    def create(self, inputs: Properties) -> str:
        """Create the resource in one request and return its id."""

    def configure(self, id: str, inputs: Properties) -> None:
        """What creating takes beyond that request; when it fails the resource is deleted again."""

    @abstractmethod
    def read(self, id: str, inputs: Properties) -> Properties | None:
        """Properties that AWS reports; None when there is no such resource.

        `inputs` are the ones known so far, empty in an import.
        """

    @abstractmethod
    def update(self, id: str, old: Properties, new: Properties) -> None:
        """Change the resource in place."""

    @abstractmethod
    def delete(self, id: str, state: Properties) -> None:
        """Delete the resource."""

    @abstractmethod
    def find(self, inputs: Properties) -> str | None:
        """Id of the resource that `create` with these inputs would have made, if it exists."""

    def tag_target(self, id: str, state: Properties) -> str:
        """What the tag calls name the resource by."""
        return state["arn"]

    def find_by_read(self, id: str) -> str | None:
        """The id, where it follows from the inputs and the resource exists."""
        return id if self.read(id, {}) is not None else None


def absent(call: Callable[[], Any], *codes: str) -> Any:
    """The call's answer, or None when AWS answers with one of the error codes that mean «no such thing»."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in codes:
            return None
        raise


def pascal(properties: Mapping[str, Any], **renamed: str) -> dict[str, Any]:
    """Request parameters from properties: camelCase to PascalCase, except for those renamed."""
    return {renamed.get(key, key[0].upper() + key[1:]): value for key, value in properties.items()}


def without(properties: Mapping[str, Any], *keys: str) -> Properties:
    """The properties except some."""
    return {key: value for key, value in properties.items() if key not in keys}


def policy_text(policy: str | Mapping[str, Any]) -> str:
    """A policy document as text, whichever way a service returns it."""
    return policy if isinstance(policy, str) else json.dumps(policy)
