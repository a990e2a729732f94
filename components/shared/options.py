"""Options of resources that components of several phases give."""

import pulumi
import pulumi_kubernetes as kubernetes


def in_cluster(
    parent: pulumi.Resource, provider: kubernetes.Provider, *after: pulumi.Resource
) -> pulumi.ResourceOptions:
    """Options of a component's child that makes things in the cluster, after others."""
    return pulumi.ResourceOptions(parent=parent, providers={"kubernetes": provider}, depends_on=list(after))
