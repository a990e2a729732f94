"""Phase 2: the cluster, the stores in it, and the microservices."""

from components.compute.backup import BACKUP_CPU_MILLIS, BACKUP_MEMORY_MIB
from components.compute.cluster import Access
from components.compute.compute import Compute, ComputeArgs
from components.compute.data_stores import DataStoresPlan, StoreSize
from components.compute.edge import Edge, EdgePlan, EdgeService, EdgeServiceArgs
from components.compute.microservice import OTHERS, Colour
from components.compute.namespace import Quota, RegistryLogin
from components.compute.node_group import NodeGroupPlan, Schedule
from components.compute.workloads import ServiceArgs, Workloads, WorkloadsArgs

__all__ = [
    "BACKUP_CPU_MILLIS",
    "BACKUP_MEMORY_MIB",
    "OTHERS",
    "Access",
    "Colour",
    "Compute",
    "ComputeArgs",
    "DataStoresPlan",
    "Edge",
    "EdgePlan",
    "EdgeService",
    "EdgeServiceArgs",
    "NodeGroupPlan",
    "Quota",
    "RegistryLogin",
    "Schedule",
    "ServiceArgs",
    "StoreSize",
    "Workloads",
    "WorkloadsArgs",
]
