"""What is particular to single kinds, as tables: which changes replace an object, what the cluster computes."""

from collections.abc import Mapping

IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")

REPLACING: Mapping[str, tuple[str, ...]] = {
    "apps/v1 DaemonSet": ("spec.selector",),
    "apps/v1 Deployment": ("spec.selector",),
    "apps/v1 StatefulSet": (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    "batch/v1 Job": ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding": ("roleRef",),
    "rbac.authorization.k8s.io/v1 RoleBinding": ("roleRef",),
    "storage.k8s.io/v1 StorageClass": ("parameters", "provisioner"),
    "v1 PersistentVolume": (
        "spec.awsElasticBlockStore",
        "spec.csi",
        "spec.fc",
        "spec.hostPath",
        "spec.iscsi",
        "spec.local",
        "spec.nfs",
    ),
    "v1 PersistentVolumeClaim": (
        "spec.accessModes",
        "spec.dataSource",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeMode",
        "spec.volumeName",
    ),
    "v1 Pod": ("spec",),
    "v1 ResourceQuota": ("spec.scopes",),
    "v1 Service": ("spec.clusterIP",),
}
"""Fields whose change replaces an object, besides its identity: the official provider's list of what cannot change.

Source: pulumi-kubernetes, provider/pkg/provider/diff.go. A claim may grow, which newer versions leave to the cluster.
"""

MUTABLE_BY_OPTION: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "v1 ConfigMap": ("enableConfigMapMutable", ("binaryData", "data")),
    "v1 Secret": ("enableSecretMutable", ("data", "stringData", "type")),
}
"""Kinds whose content replaces them unless the provider's option is set and they are not `immutable`."""

COMPUTED = (
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.resourceVersion",
    "metadata.uid",
    "status",
)
"""What only the cluster knows of any object: unknown in a preview."""

ALLOCATED: Mapping[str, tuple[str, ...]] = {
    "v1 PersistentVolumeClaim": ("spec.volumeName",),
    "v1 Pod": ("spec.nodeName",),
    "v1 Service": ("spec.clusterIP", "spec.clusterIPs"),
}
"""What the cluster chooses where the program does not: a dry run makes up values that will not be the real ones."""

NOT_INPUTS = (*COMPUTED, "metadata.managedFields", "metadata.selfLink")
"""What an import leaves out of the inputs."""
