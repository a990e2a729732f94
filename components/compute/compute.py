"""Compute: the cluster of phase 2, its nodes, its stores and its public entry (runbook section 2)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.compute.addons import Addons, AddonsArgs, NodelessAddons, NodelessAddonsArgs
from components.compute.certificates import Certificates
from components.compute.cluster import Access, Cluster, ClusterArgs
from components.compute.credentials import Credentials, CredentialsArgs
from components.compute.data_stores import DataStores, DataStoresArgs, DataStoresPlan
from components.compute.edge import Edge, EdgeArgs, EdgePlan
from components.compute.namespace import Namespace, NamespaceArgs, Quota, RegistryLogin
from components.compute.network import Network, NetworkArgs
from components.compute.node_group import NodeGroup, NodeGroupArgs, NodeGroupPlan, Schedule
from components.compute.node_role import NodeRole
from components.shared.options import in_cluster
from infra.naming import Names


@dataclass(frozen=True, kw_only=True)
class ComputeArgs:
    """What phase 2 needs to know about its stack."""

    names: Names
    account_id: str
    region: str
    alert_topic_arn: pulumi.Input[str]
    vpc_cidr: str
    availability_zones: tuple[str, ...]
    data_availability_zone: str
    private_nodes: bool
    flow_logs: bool
    kubernetes_version: str
    public_access_cidrs: tuple[str, ...]
    access: Mapping[str, Access]
    control_plane_logs: bool
    encrypt_secrets_with_own_key: bool
    node_groups: tuple[NodeGroupPlan, ...]
    schedule: Schedule | None
    stores: DataStoresPlan
    quota: Quota
    registry_login: RegistryLogin | None
    airtable_token: pulumi.Output[str] | None
    gemini_api_key: pulumi.Output[str] | None
    edge: EdgePlan | None
    protect: bool


class Compute(pulumi.ComponentResource):
    """Network, cluster, nodes, add-ons, stores, credentials and edge of one stack."""

    cluster_name: str
    kubeconfig: pulumi.Output[str]
    kubernetes_provider: kubernetes.Provider
    credential_ids: Mapping[str, pulumi.Output[str]]
    """Of the Secrets that pods read, by name."""
    edge: Edge | None
    pull_secret: str | None
    ready: list[pulumi.Resource]
    """What a microservice needs before it starts."""

    def __init__(self, name: str, args: ComputeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Compute", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        network = self._network()
        cluster = self._cluster(network)
        self.cluster_name, self.kubeconfig = cluster.name, cluster.kubeconfig
        self.kubernetes_provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=cluster.kubeconfig,
            # By itself the provider takes the kubeconfig for its identity, and an unknown one in a preview would plan
            # to replace everything in the cluster.
            cluster_identifier=args.names.prefix,
            # In place: replacing one takes it from under the pods that read it.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=self._child,
        )
        self._in_cluster = functools.partial(in_cluster, self, self.kubernetes_provider)
        nodeless = NodelessAddons(
            f"{name}-nodeless-addons", NodelessAddonsArgs(names=args.names, cluster_name=cluster.made_name), self._child
        )
        groups = self._node_groups(network, cluster.made_name, nodeless.ready)
        nodes = [group.resource for group in groups.values()]
        addons = Addons(
            f"{name}-addons",
            AddonsArgs(
                names=args.names,
                account_id=args.account_id,
                region=args.region,
                cluster_name=cluster.made_name,
                replicas=2 if sum(group.desired_size for group in args.node_groups) > 1 else 1,
            ),
            self.kubernetes_provider,
            nodes,
            self._child,
        )
        namespace = Namespace(
            f"{name}-namespace",
            NamespaceArgs(quota=args.quota, registry_login=args.registry_login),
            self._in_cluster(),
        )
        certificates = Certificates(f"{name}-certificates", args.names, ("postgres", "redis"), self._child)
        credentials = Credentials(
            f"{name}-credentials",
            CredentialsArgs(
                airtable_token=args.airtable_token,
                gemini_api_key=args.gemini_api_key,
                certificate_authority_pem=certificates.authority,
            ),
            self._in_cluster(*namespace.ready),
        )
        self.credential_ids = credentials.ids
        stores = DataStores(
            f"{name}-stores",
            self._data_stores_args(cluster.made_name),
            certificates,
            credentials.ready,
            self._in_cluster(*namespace.ready, *nodes, *addons.ready),
        )
        self.edge = self._edge(args.edge, network, cluster, groups) if args.edge else None
        self.pull_secret = namespace.pull_secret
        self.ready = [*namespace.ready, *credentials.ready, *stores.ready, *addons.ready]
        self.register_outputs({"cluster_name": self.cluster_name, "kubeconfig": self.kubeconfig})

    def _network(self) -> Network:
        args = self._args
        return Network(
            f"{self._name}-network",
            NetworkArgs(
                names=args.names,
                region=args.region,
                cidr_block=args.vpc_cidr,
                availability_zones=args.availability_zones,
                private_nodes=args.private_nodes,
                flow_logs=args.flow_logs,
            ),
            self._child,
        )

    def _cluster(self, network: Network) -> Cluster:
        args = self._args
        return Cluster(
            f"{self._name}-cluster",
            ClusterArgs(
                names=args.names,
                version=args.kubernetes_version,
                vpc_id=network.vpc_id,
                subnet_ids=list(network.node_subnets.values()),
                public_access_cidrs=args.public_access_cidrs,
                access=args.access,
                logs=args.control_plane_logs,
                encrypt_secrets_with_own_key=args.encrypt_secrets_with_own_key,
                protect=args.protect,
            ),
            self._child,
        )

    def _node_groups(
        self, network: Network, cluster_name: pulumi.Output[str], after: list[pulumi.Resource]
    ) -> dict[str, NodeGroup]:
        args = self._args
        role = NodeRole(f"{self._name}-node", args.names, self._child)
        # A disk lives in one zone: the group that hosts the stores has no other to start a node in.
        data_subnet = [network.node_subnets[args.data_availability_zone]]
        return {
            plan.name: NodeGroup(
                f"{self._name}-nodes-{plan.name}",
                NodeGroupArgs(
                    names=args.names,
                    plan=plan,
                    cluster_name=cluster_name,
                    kubernetes_version=args.kubernetes_version,
                    role_arn=role.arn,
                    subnet_ids=data_subnet if plan.hosts_stores else list(network.node_subnets.values()),
                    public_addresses=not args.private_nodes,
                    schedule=args.schedule,
                ),
                pulumi.ResourceOptions(parent=self, depends_on=after),
            )
            for plan in args.node_groups
        }

    def _data_stores_args(self, cluster_name: pulumi.Output[str]) -> DataStoresArgs:
        args = self._args
        return DataStoresArgs(
            names=args.names,
            account_id=args.account_id,
            region=args.region,
            cluster_name=cluster_name,
            alert_topic_arn=args.alert_topic_arn,
            availability_zone=args.data_availability_zone,
            plan=args.stores,
            protect=args.protect,
        )

    def _edge(self, plan: EdgePlan, network: Network, cluster: Cluster, groups: Mapping[str, NodeGroup]) -> Edge:
        return Edge(
            f"{self._name}-edge",
            EdgeArgs(
                names=self._args.names,
                vpc_id=network.vpc_id,
                public_subnets=list(network.public_subnets.values()),
                node_security_group_id=cluster.security_group_id,
                autoscaling_groups={key: group.autoscaling_group for key, group in groups.items()},
                plan=plan,
            ),
            self._child,
        )
