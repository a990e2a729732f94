"""What the stand-in knows about one type of AWS resource, and how it reads and writes tags."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from botocore.exceptions import ClientError

from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.paths import at, drop, merged, told
from sandbox.providers.aws.spelling import send, to_properties
from sandbox.providers.schema import input_types
from sandbox.providers.wire import UNKNOWN, Properties, same


class Tagging(ABC):
    """How the tags of resources are read and written."""

    @abstractmethod
    def read(self, aws: Aws, target: str) -> dict[str, str]:
        """Tags that the resource has."""

    @abstractmethod
    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        """Make the resource's tags these, and no others."""


@dataclass(frozen=True, kw_only=True)
class TagApi(Tagging):
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
        tags = getattr(aws.client(self.service), self.list_call)(**{self.target: target})[self.tags]
        return dict(tags) if self.form == "map" else {tag[self.key]: tag[self.value] for tag in tags}

    def write(self, aws: Aws, target: str, tags: Mapping[str, str]) -> None:
        client = aws.client(self.service)
        # One at a time: the emulator's EKS takes off the first only.
        for gone in sorted(self.read(aws, target).keys() - tags.keys()):
            getattr(client, self.untag_call)(**{self.target: target, self.keys: [gone]})
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
    """Inputs that AWS cannot change in place; `a.b` is one at depth."""
    defaults: ClassVar[Properties] = {}
    """What AWS fills in for inputs that are not given; what it leaves empty need not be listed."""
    computed: ClassVar[tuple[str, ...]] = ()
    """Outputs, `a.b` at depth, that only AWS knows unless the program gives them: unknown in a preview."""
    recomputed: ClassVar[tuple[str, ...]] = ()
    """Those of them that an update changes too."""
    unreported: ClassVar[frozenset[str]] = frozenset()
    """Inputs that AWS, or only the emulator, takes and never tells: what was last asked for counts as the truth."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Properties that are secret whatever the program says."""
    name: ClassVar[str] = ""
    """Input that holds the name; the old resource must go first when a replacement keeps it."""
    tag_api: ClassVar[Tagging | None] = None

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

    def undo(self, id: str, inputs: Properties) -> None:
        """Take back what a create that failed has made."""
        self.delete(id, inputs)

    @abstractmethod
    def find(self, inputs: Properties) -> str | None:
        """Id of the resource that `create` with these inputs would have made, if it exists."""

    def tag_target(self, id: str, state: Properties) -> str:
        """What the tag calls name the resource by."""
        return state["arn"]

    def replaces(self, old: Properties, new: Properties) -> frozenset[str]:
        """Changed inputs, by their names at the top, that force a replacement."""
        return frozenset(path.partition(".")[0] for path in self.replace_on if not same(at(old, path), at(new, path)))

    def planned(self, inputs: Properties, kept: Properties) -> Properties:
        """What a preview knows of the resource; `kept` are outputs that an update leaves as they are."""
        planned = merged(self.defaults, inputs)
        for path in self.computed:
            inside, _, name = path.rpartition(".")
            owner = at(planned, inside) if inside else planned
            if at(inputs, path) is None and isinstance(owner, dict):
                known = at(kept, path)
                owner[name] = UNKNOWN if known is None else known
        return planned

    def inputs_of(self, state: Properties, inputs: Properties) -> Properties:
        """The inputs that would have led to a state: without what only AWS knows and what goes without saying."""
        found = told({key: state[key] for key in input_types(self.type) if key in state}, inputs, self.defaults)
        for path in (*self.computed, "region"):
            if at(inputs, path) is None:
                drop(found, path)
        return found

    def with_unreported(self, told: Properties, inputs: Properties) -> Properties:
        """What AWS tells, and what was last asked for of what it does not; all that it tells where nothing is known."""
        if not inputs:
            return told
        asked = {key: inputs[key] for key in self.unreported if key in inputs}
        return {**without(told, *(self.unreported - {*self.computed})), **asked}

    def send(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call the service with parameters whose names may be spelled as properties, at any depth; None is left out."""
        return send(self.client, operation, parameters)

    def known_as(self, answer: Mapping[str, Any]) -> Properties:
        """What AWS says of the resource, as far as its names are those of the handler's inputs and computed outputs."""
        wanted = {*self.supported, *(path.partition(".")[0] for path in self.computed)}
        return {key: value for key, value in to_properties(self.type, answer).items() if key in wanted}

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
