"""ImageRegistry: where container images are read from (runbook step 1.1)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from components.cost_foundation.tags import TAGS
from infra.naming import ImageGroup, Names

UNTAGGED_DAYS = 1
TAGGED_IMAGES_KEPT = 10


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """The structure of the registry; `mirror` adds a copy of it in the account's ECR."""

    names: Names
    account_id: str
    region: str
    host: str
    organization: str
    mirror: bool
    repositories: Mapping[ImageGroup, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Images:
    """References of the images: plain text, so that a preview shows which image runs."""

    prefix: str
    repositories: Mapping[ImageGroup, tuple[str, ...]]

    def reference(self, group: ImageGroup, service: str, tag: str) -> str:
        """For example `ghcr.io/pyairtable-org/legacy/api-gateway:v1.0.0`.

        Raises:
            KeyError: the registry has no such repository.
        """
        if service not in self.repositories.get(group, ()):
            raise KeyError(f"the image registry has no repository {group}/{service}; add it to pyairtable:registry")
        return f"{self.prefix}/{group}/{service}:{tag}"


class ImageRegistry(pulumi.ComponentResource):
    """The registry's structure as data and, with a mirror, an ECR repository for each of its repositories."""

    images: Images

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:ImageRegistry", name, None, opts)
        prefix = f"{args.host}/{args.organization}"
        if args.mirror:
            prefix = f"{args.account_id}.dkr.ecr.{args.region}.amazonaws.com/{args.names.prefix}"
            for group, services in args.repositories.items():
                for service in services:
                    self._mirror(f"{name}-{group}-{service}", f"{args.names.prefix}/{group}/{service}")

        self.images = Images(prefix=prefix, repositories=args.repositories)
        self.register_outputs({"prefix": prefix})

    def _mirror(self, name: str, repository_name: str) -> None:
        child = pulumi.ResourceOptions(parent=self)
        repository = aws.ecr.Repository(
            name,
            name=repository_name,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            # A mirror holds copies: going back must not stop at images that GHCR still has.
            force_delete=True,
            tags=TAGS,
            opts=child,
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-lifecycle", repository=repository.name, policy=json.dumps(_lifecycle()), opts=child
        )


def _lifecycle() -> dict[str, Any]:
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": "Untagged images are left-overs of a push",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": UNTAGGED_DAYS,
                },
                "action": {"type": "expire"},
            },
            {
                "rulePriority": 2,
                "description": "Enough images to roll back to",
                "selection": {
                    "tagStatus": "any",
                    "countType": "imageCountMoreThan",
                    "countNumber": TAGGED_IMAGES_KEPT,
                },
                "action": {"type": "expire"},
            },
        ]
    }
