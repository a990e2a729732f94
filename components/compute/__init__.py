"""Phase 2: the cluster, the stores in it, and the microservices."""

from components.compute.backup import BACKUP_CPU_MILLIS, BACKUP_MEMORY_MIB
from components.compute.cluster import Access
from components.compute.compute import Compute, ComputeArgs, EdgePlan, NodeGroupPlan
from components.compute.data_stores import StoreSize
from components.compute.namespace import Quota, RegistryLogin
from components.compute.node_group import Schedule
from components.compute.workloads import ServiceArgs, Workloads, WorkloadsArgs

__all__ = [
    "BACKUP_CPU_MILLIS",
    "BACKUP_MEMORY_MIB",
    "Access",
    "Compute",
    "ComputeArgs",
    "EdgePlan",
    "NodeGroupPlan",
    "Quota",
    "RegistryLogin",
    "Schedule",
    "ServiceArgs",
    "StoreSize",
    "Workloads",
    "WorkloadsArgs",
]
