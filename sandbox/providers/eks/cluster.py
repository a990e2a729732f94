"""pulumi_eks.Cluster without nodes, DNS and CNI of its own: the children that the official component makes of it.

The children are named by type token and not made of the SDK's classes, whose modules would take two seconds to load in
each preview and each up; the AWS stand-in holds their properties against those classes anyway.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pulumi

TYPE = "eks:index:Cluster"

SUPPORTED = frozenset(
    {
        "accessEntries",
        "authenticationMode",
        "bootstrapSelfManagedAddons",
        "clusterTags",
        "corednsAddonOptions",
        "createOidcProvider",
        "deletionProtection",
        "enableConfigMapMutable",
        "enabledClusterLogTypes",
        "encryptionConfigKeyArn",
        "endpointPrivateAccess",
        "endpointPublicAccess",
        "kubeProxyAddonOptions",
        "name",
        "privateSubnetIds",
        "providerCredentialOpts",
        "publicAccessCidrs",
        "publicSubnetIds",
        "skipDefaultNodeGroup",
        "skipDefaultSecurityGroups",
        "subnetIds",
        "tags",
        "upgradePolicy",
        "useDefaultVpcCni",
        "version",
        "vpcId",
    }
)
"""Arguments that the stand-in honours; it refuses the others rather than ignore them."""

FIXED: Mapping[str, tuple[Any, Any]] = {
    "authenticationMode": ("API", None),
    "createOidcProvider": (False, False),
    "skipDefaultNodeGroup": (True, False),
    "skipDefaultSecurityGroups": (True, False),
    "useDefaultVpcCni": (True, False),
}
"""Arguments for which the stand-in knows one value only, and what each is when it is not given."""

CLUSTER_POLICY = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"

EMPTY = (
    "autoModeNodeRoleName",
    "clusterIngressRuleId",
    "defaultNodeGroupAsgName",
    "fargateProfileId",
    "fargateProfileStatus",
    "oidcProviderArn",
)
"""Outputs that stand for what such a cluster does not have."""


class Cluster(pulumi.ComponentResource):
    """The component; `outputs` are those of the official one, except for `core`."""

    def __init__(self, name: str, args: pulumi.Inputs, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(TYPE, name, {}, opts)
        _require_supported(args, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        role = _ServiceRole(
            f"{name}-eksRole", pulumi.Output.concat(args["name"], "-eksRole-role"), args.get("tags"), self._child
        )
        cluster = self._cluster(role)
        self._kube_proxy(cluster)
        self._access_entries(cluster)
        kubeconfig = self._kubeconfig(cluster, with_profile=False)
        pulumi.ProviderResource(
            "kubernetes",
            f"{name}-eks-k8s",
            {
                "kubeconfig": self._kubeconfig(cluster, with_profile=True).apply(json.dumps),
                "enableConfigMapMutable": args.get("enableConfigMapMutable"),
            },
            pulumi.ResourceOptions(parent=self, version=importlib.metadata.version("pulumi-kubernetes")),
        )
        security_group_id = _output(cluster, "vpcConfig")["clusterSecurityGroupId"]
        issuer = _output(cluster, "identities").apply(_issuer)
        self.outputs: pulumi.Inputs = {
            **dict.fromkeys(EMPTY, ""),
            "clusterSecurityGroupId": security_group_id,
            "eksCluster": cluster,
            "instanceRoles": [],
            "kubeconfig": kubeconfig,
            "kubeconfigJson": kubeconfig.apply(json.dumps),
            "nodeSecurityGroupId": security_group_id,
            "oidcIssuer": issuer.apply(lambda url: url.removeprefix("https://")),
            "oidcProviderUrl": issuer,
        }
        self.register_outputs(self.outputs)

    def _cluster(self, role: "_ServiceRole") -> pulumi.CustomResource:
        args = self._args
        key = args.get("encryptionConfigKeyArn")
        tags = pulumi.Output.all(args.get("clusterTags"), args.get("tags"))
        return _resource(
            "aws:eks/cluster:Cluster",
            f"{self._name}-eksCluster",
            {
                "accessConfig": {
                    "authenticationMode": args["authenticationMode"],
                    "bootstrapClusterCreatorAdminPermissions": True,
                },
                "bootstrapSelfManagedAddons": args.get("bootstrapSelfManagedAddons", True),
                "deletionProtection": args.get("deletionProtection"),
                "enabledClusterLogTypes": args.get("enabledClusterLogTypes"),
                "encryptionConfig": key and {"provider": {"keyArn": key}, "resources": ["secrets"]},
                "name": args["name"],
                "roleArn": _output(role.role, "arn"),
                "tags": tags.apply(
                    lambda both: {"Name": f"{self._name}-eksCluster", **(both[0] or {}), **(both[1] or {})}
                ),
                "upgradePolicy": args.get("upgradePolicy"),
                "version": args.get("version"),
                "vpcConfig": {
                    "endpointPrivateAccess": args.get("endpointPrivateAccess"),
                    "endpointPublicAccess": args.get("endpointPublicAccess"),
                    "publicAccessCidrs": args.get("publicAccessCidrs"),
                    "subnetIds": self._subnet_ids(),
                },
            },
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[role.attachment],
                ignore_changes=["accessConfig.bootstrapClusterCreatorAdminPermissions", "bootstrapSelfManagedAddons"],
            ),
            outputs=("arn", "certificateAuthority", "endpoint", "identities"),
        )

    def _subnet_ids(self) -> pulumi.Input[Any]:
        given = self._args.get("subnetIds")
        if given is not None:
            return given
        both = pulumi.Output.all(self._args.get("publicSubnetIds"), self._args.get("privateSubnetIds"))
        return both.apply(lambda ids: [*(ids[0] or []), *(ids[1] or [])])

    def _kube_proxy(self, cluster: pulumi.CustomResource) -> None:
        options = _plain(self._args, "kubeProxyAddonOptions")
        if options.get("enabled") is False:
            return
        if "version" not in options:
            raise pulumi.InputPropertyError(
                "kubeProxyAddonOptions.version", "the sandbox wants it given; the component would ask AWS for it"
            )
        values = options.get("configurationValues")
        _resource(
            "aws:eks/addon:Addon",
            f"{self._name}-kube-proxy",
            {
                "addonName": "kube-proxy",
                "addonVersion": options["version"],
                "clusterName": _output(cluster, "name"),
                "configurationValues": values and pulumi.Output.from_input(values).apply(json.dumps),
                "preserve": True,
                "resolveConflictsOnCreate": options.get("resolveConflictsOnCreate", "OVERWRITE"),
                "resolveConflictsOnUpdate": options.get("resolveConflictsOnUpdate", "OVERWRITE"),
                "tags": self._args.get("tags"),
            },
            self._child,
        )

    def _access_entries(self, cluster: pulumi.CustomResource) -> None:
        for entry_name, entry in _plain(self._args, "accessEntries").items():
            made = _resource(
                "aws:eks/accessEntry:AccessEntry",
                f"{self._name}-{entry_name}",
                {
                    "clusterName": _output(cluster, "name"),
                    "kubernetesGroups": entry.get("kubernetesGroups"),
                    "principalArn": entry["principalArn"],
                    "tags": entry.get("tags"),
                    "type": entry.get("type"),
                    "userName": entry.get("username"),
                },
                pulumi.ResourceOptions(parent=self, depends_on=[cluster]),
            )
            for policy_name, policy in entry.get("accessPolicies", {}).items():
                _resource(
                    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
                    f"{self._name}-{entry_name}-{policy_name}",
                    {
                        "accessScope": policy["accessScope"],
                        "clusterName": _output(cluster, "name"),
                        "policyArn": policy["policyArn"],
                        "principalArn": entry["principalArn"],
                    },
                    pulumi.ResourceOptions(parent=self, depends_on=[made]),
                )

    def _kubeconfig(self, cluster: pulumi.CustomResource, *, with_profile: bool) -> pulumi.Output[dict[str, Any]]:
        """The official component's kubeconfig, which gets its tokens from the user's own aws."""

        def compose(known: Mapping[str, Any]) -> dict[str, Any]:
            credentials = known["credentials"] or {}
            arguments = ["--region", known["arn"].split(":")[3], "eks", "get-token", "--cluster-name", known["name"]]
            arguments += ["--output", "json"]
            if credentials.get("roleArn"):
                arguments += ["--role", credentials["roleArn"]]
            environment = [
                {"name": "KUBERNETES_EXEC_INFO", "value": '{"apiVersion": "client.authentication.k8s.io/v1beta1"}'}
            ]
            if with_profile and credentials.get("profileName"):
                environment.append({"name": "AWS_PROFILE", "value": credentials["profileName"]})
            executable = {
                "apiVersion": "client.authentication.k8s.io/v1beta1",
                "command": "aws",
                "args": arguments,
                "env": environment,
            }
            server = {
                "server": known["endpoint"],
                "certificate-authority-data": known["certificateAuthority"]["data"],
            }
            return {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "kubernetes", "cluster": server}],
                "contexts": [{"name": "aws", "context": {"cluster": "kubernetes", "user": "aws"}}],
                "current-context": "aws",
                "users": [{"name": "aws", "user": {"exec": executable}}],
            }

        outputs = {key: _output(cluster, key) for key in ("arn", "certificateAuthority", "endpoint", "name")}
        return pulumi.Output.all(**outputs, credentials=self._args.get("providerCredentialOpts")).apply(compose)


class _ServiceRole(pulumi.ComponentResource):
    """A role that EKS takes, with the policy that it needs."""

    def __init__(self, name: str, role_name: pulumi.Input[str], tags: Any, opts: pulumi.ResourceOptions) -> None:
        super().__init__("eks:index:ServiceRole", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        statement = {
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Effect": "Allow",
            "Principal": {"Service": ["eks.amazonaws.com"]},
        }
        self.role = _resource(
            "aws:iam/role:Role",
            f"{name}-role",
            {
                "assumeRolePolicy": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
                "description": "Allows EKS to manage clusters on your behalf.",
                "name": role_name,  # the official component leaves it to Pulumi
                "tags": tags,
            },
            child,
            outputs=("arn",),
        )
        digest = hashlib.sha1(CLUSTER_POLICY.encode()).hexdigest()[:8]  # noqa: S324 — part of a name
        self.attachment = _resource(
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            f"{name}-{digest}",
            {"policyArn": CLUSTER_POLICY, "role": _output(self.role, "name")},
            child,
        )
        self.register_outputs({})


def _resource(
    type: str, name: str, properties: pulumi.Inputs, opts: pulumi.ResourceOptions, outputs: Iterable[str] = ()
) -> pulumi.CustomResource:
    """A resource by its type token; outputs that are wanted of it, beside its inputs, have to be named."""
    return pulumi.CustomResource(type, name, {**dict.fromkeys(outputs), **properties}, opts)


def _output(resource: pulumi.CustomResource, name: str) -> pulumi.Output[Any]:
    return pulumi.get(resource, name)  # pyright: ignore[reportReturnType]


def _issuer(identities: Any) -> str:
    oidcs = (identities or [{}])[0].get("oidcs") or [{}]
    return oidcs[0].get("issuer", "")


def _plain(args: pulumi.Inputs, name: str) -> Mapping[str, Any]:
    """An argument whose names decide which children there are, so that it cannot be an output."""
    value = args.get(name) or {}
    if not isinstance(value, Mapping):
        raise pulumi.InputPropertyError(name, "the sandbox wants a plain map; only the values in it may be outputs")
    return value


def _require_supported(args: pulumi.Inputs, opts: pulumi.ResourceOptions | None) -> None:
    """Refuse what the stand-in, or the official component, does not do.

    Raises:
        InputPropertyError: names the argument.
    """
    for key in sorted(args.keys() - SUPPORTED):
        raise pulumi.InputPropertyError(key, f"the sandbox's stand-in for {TYPE} does not do {key}")
    for key, (wanted, default) in FIXED.items():
        if args.get(key, default) != wanted:
            raise pulumi.InputPropertyError(key, f"the sandbox's stand-in for {TYPE} does {json.dumps(wanted)} only")
    if _plain(args, "corednsAddonOptions").get("enabled", False):
        raise pulumi.InputPropertyError("corednsAddonOptions.enabled", "the sandbox's stand-in does false only")
    if "name" not in args:
        raise pulumi.InputPropertyError("name", "the sandbox wants it given; Pulumi would make one up")
    if opts and opts.providers and "providerCredentialOpts" not in args:
        raise pulumi.InputPropertyError(
            "providerCredentialOpts",
            "It looks like you're using an explicit AWS provider. "
            "Please specify this provider in providerCredentialOpts.",
        )
