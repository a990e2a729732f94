"""What resources take of the price list where it depends on how they are set up: one function for each such type."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cost.disks import gp3
from cost.external_secrets import reads
from cost.figures import Figures
from cost.nodes import GROUP_SUFFIX, NODE_GROUP, node_group
from cost.prices import HOURS_A_MONTH
from cost.resources import Resource, Stack

Rule = Callable[[Resource, Stack], dict[str, Figures]]
"""Quantities a month of each price; raises UnknownCostError for what nobody can tell or has priced."""


def _cluster(resource: Resource, _: Stack) -> dict[str, Figures]:
    if resource.plain("upgradePolicy.supportType") != "STANDARD":
        raise resource.unknown(
            "with extended support the control plane costs 0.60 USD an hour instead of 0.10; set "
            "upgradePolicy.supportType to STANDARD"
        )
    return {"eks_control_plane": Figures.fixed(HOURS_A_MONTH)}


def _cluster_component(resource: Resource, stack: Stack) -> dict[str, Figures]:
    """The component is priced whole, since a running program does not see its children; so it may have no nodes."""
    compute = [name for name in ("autoMode", "fargate") if resource.plain(name)]
    if compute or not resource.plain("skipDefaultNodeGroup"):
        raise resource.unknown(
            f"{', '.join(compute) or 'its default node group'} makes nodes that the program does not see; set "
            "skipDefaultNodeGroup to true and make node groups beside it"
        )
    return _cluster(resource, stack)


def _node_group(resource: Resource, stack: Stack) -> dict[str, Figures]:
    return node_group(resource, stack).quantities


def _schedule(resource: Resource, stack: Stack) -> dict[str, Figures]:
    group, _, action = resource.name.rpartition("-")
    if action not in ("stop", "start") or (NODE_GROUP, group + GROUP_SUFFIX) not in stack:
        raise resource.unknown("what it scales is unknown; name it N-stop or N-start after a node group N-group")
    return {}


def _volume(resource: Resource, _: Stack) -> dict[str, Figures]:
    return {price: Figures.fixed(quantity) for price, quantity in gp3(resource, type_="type", size="size").items()}


def _load_balancer(resource: Resource, _: Stack) -> dict[str, Figures]:
    if resource.plain("loadBalancerType") != "network":
        raise resource.unknown("only load balancers of type network have a price here; set loadBalancerType")
    if resource.plain("subnetMappings"):
        raise resource.unknown("the addresses of subnetMappings cannot be told; give subnets")
    addresses = 0 if resource.plain("internal") else len(resource.plain("subnets", []))
    return {
        "network_load_balancer": Figures.fixed(HOURS_A_MONTH),
        "public_ipv4": Figures.fixed(addresses * HOURS_A_MONTH),
    }


def _vpc_endpoint(resource: Resource, _: Stack) -> dict[str, Figures]:
    if resource.plain("vpcEndpointType", "Gateway") != "Gateway":
        raise resource.unknown("only gateway endpoints are free; take one, or give the others a price")
    return {}


def _service(resource: Resource, _: Stack) -> dict[str, Figures]:
    if resource.plain("spec.type") == "LoadBalancer":
        raise resource.unknown(f"type LoadBalancer {OUTSIDE}; take a NodePort behind a load balancer of the program's")
    return {}


def _release(resource: Resource, _: Stack) -> dict[str, Figures]:
    if _has_load_balancer(resource.plain("values", {})):
        raise resource.unknown(f"type LoadBalancer among its values {OUTSIDE}; give its Services another type")
    return {}


def _claim(resource: Resource, _: Stack) -> dict[str, Figures]:
    return _claims(resource.part("spec"))


def _stateful_set(resource: Resource, _: Stack) -> dict[str, Figures]:
    return _claims(*(template.part("spec") for template in resource.parts("spec.volumeClaimTemplates")))


def _external_secret(resource: Resource, stack: Stack) -> dict[str, Figures]:
    return {price: Figures.fixed(quantity) for price, quantity in reads(resource, stack).items()}


def _claims(*specs: Resource) -> dict[str, Figures]:
    for spec in specs:
        if spec.plain("storageClassName") != "" and not spec.plain("volumeName"):
            raise spec.unknown(f'a claim with a storage class {OUTSIDE}; bind it to a volume, with storageClassName ""')
    return {}


def _has_load_balancer(values: Any) -> bool:
    match values:
        case {"type": "LoadBalancer"}:
            return True
        case Mapping():
            return any(_has_load_balancer(value) for value in values.values())
        case list():
            return any(_has_load_balancer(value) for value in values)
        case _:
            return False


OUTSIDE: Final = "makes the cluster create something on AWS that is not in the estimate"

RULES: Final[Mapping[str, Rule]] = {
    "aws:autoscaling/schedule:Schedule": _schedule,
    "aws:ebs/volume:Volume": _volume,
    "aws:ec2/vpcEndpoint:VpcEndpoint": _vpc_endpoint,
    "aws:eks/cluster:Cluster": _cluster,
    "aws:eks/nodeGroup:NodeGroup": _node_group,
    "aws:lb/loadBalancer:LoadBalancer": _load_balancer,
    "eks:index:Cluster": _cluster_component,
    "kubernetes:apps/v1:StatefulSet": _stateful_set,
    "kubernetes:core/v1:PersistentVolumeClaim": _claim,
    "kubernetes:core/v1:Service": _service,
    "kubernetes:external-secrets.io/v1:ExternalSecret": _external_secret,
    "kubernetes:helm.sh/v3:Release": _release,
}
