"""Disk: an EBS volume of the program's own, bound to one claim."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.compute.tags import TAGS
from components.shared.manifests import NAMESPACE, metadata
from infra.naming import Names


@dataclass(frozen=True, kw_only=True)
class DiskArgs:
    """Which store's disk, how large, where."""

    names: Names
    store: str
    size_gib: int
    availability_zone: str
    protect: bool


class Disk(pulumi.ComponentResource):
    """Volume, PersistentVolume and claim: priced, tagged, encrypted, and never left behind by a cluster that goes."""

    claim_name: str
    claim: kubernetes.core.v1.PersistentVolumeClaim

    def __init__(
        self,
        name: str,
        args: DiskArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pyairtable:compute:Disk", name, None, opts)
        size = f"{args.size_gib}Gi"
        self.claim_name = f"{args.store}-data"

        volume = aws.ebs.Volume(
            f"{name}-volume",
            availability_zone=args.availability_zone,
            size=args.size_gib,
            type="gp3",
            encrypted=True,
            tags={**TAGS, "Name": args.names.of(self.claim_name)},
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        persistent_volume = kubernetes.core.v1.PersistentVolume(
            f"{name}-persistent-volume",
            metadata={"name": args.names.of(self.claim_name)},
            spec={
                "capacity": {"storage": size},
                "access_modes": ["ReadWriteOncePod"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                "claim_ref": {"namespace": NAMESPACE, "name": self.claim_name},
                "csi": {"driver": "ebs.csi.aws.com", "volume_handle": volume.id, "fs_type": "ext4"},
                # The scheduler then never puts the store where its disk is not.
                "node_affinity": {
                    "required": {
                        "node_selector_terms": [
                            {
                                "match_expressions": [
                                    {
                                        "key": "topology.kubernetes.io/zone",
                                        "operator": "In",
                                        "values": [args.availability_zone],
                                    }
                                ]
                            }
                        ]
                    }
                },
            },
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect, ignore_changes=["spec.capacity"]),
        )
        # Kubernetes refuses another size for a claim that it did not provision itself, and needs none: the volume grows
        # in place, and its file system with it when the driver mounts it again.
        self.claim = kubernetes.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=metadata(self.claim_name),
            spec={
                "access_modes": ["ReadWriteOncePod"],
                "storage_class_name": "",
                "volume_name": args.names.of(self.claim_name),
                "resources": {"requests": {"storage": size}},
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect,
                depends_on=[persistent_volume],
                ignore_changes=["spec.resources"],
            ),
        )
        self.register_outputs({"claim_name": self.claim_name})
