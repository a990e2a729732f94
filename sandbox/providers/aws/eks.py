"""Amazon EKS: clusters with a real control plane, who may use them, and their add-ons."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sandbox import placeholders
from sandbox.aws_account import AwsAccount, note
from sandbox.control_plane import KUBERNETES_VERSION, SERVICE_NETWORK, ControlPlane, ControlPlanes
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler, TagApi, absent, without
from sandbox.providers.aws.paths import at, merged
from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import Properties, is_unknown

NOT_FOUND = "ResourceNotFoundException"
TAGS = TagApi(service="eks", target="resourceArn", tags="tags", keys="tagKeys", form="map")
POLL_SECONDS = 0.25
CREATE_SECONDS = 30

AUTHENTICATION_MODES = ("CONFIG_MAP", "API_AND_CONFIG_MAP", "API")
"""EKS moves a cluster forward among them, never back."""

ACCESS_POLICIES = frozenset(
    f"arn:aws:eks::aws:cluster-access-policy/AmazonEKS{name}Policy"
    for name in ("Admin", "AdminView", "ClusterAdmin", "Edit", "View")
)
"""https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html, the general ones."""

ADDON_SECONDS = 60
"""How long an add-on may take to have its pods; AWS gives it 20 minutes."""
ADDON_NAMESPACE = "kube-system"


class EksHandler(Handler):
    """A type of EKS that has to do with what runs in the cluster."""

    service = "eks"
    tag_api = TAGS

    def __init__(self, aws: Aws, planes: ControlPlanes) -> None:
        super().__init__(aws)
        self.planes = planes

    def running_plane(self, cluster: str) -> KubernetesApi:
        """The API of a cluster's control plane, which is started if it does not run."""
        return KubernetesApi(self.planes.ensure(cluster).kubeconfig)

    def plane_if_any(self, cluster: str) -> KubernetesApi | None:
        """The API of a cluster's control plane; None when it was never made, or is gone."""
        return self.running_plane(cluster) if self.planes.find(cluster) else None

    def completed(self, id: str, inputs: Properties) -> str | None:
        """Finish what a create that was cut off has left, or take it back."""
        try:
            self.configure(id, inputs)
        except (ProviderError, SandboxError):
            self.undo(id, inputs)
            return None
        return id


class Cluster(EksHandler):
    """aws:eks/cluster:Cluster; the id is the name. The emulator has the record of it, the sandbox the control plane."""

    type = "aws:eks/cluster:Cluster"
    supported = frozenset(
        {
            "accessConfig",
            "bootstrapSelfManagedAddons",
            "deletionProtection",
            "enabledClusterLogTypes",
            "encryptionConfig",
            "name",
            "roleArn",
            "upgradePolicy",
            "version",
            "vpcConfig",
        }
    )
    replace_on = frozenset(
        {"name", "roleArn", "bootstrapSelfManagedAddons", "accessConfig.bootstrapClusterCreatorAdminPermissions"}
    )
    defaults: ClassVar[Properties] = {
        "bootstrapSelfManagedAddons": True,
        "deletionProtection": False,
        "vpcConfig": {"endpointPrivateAccess": False, "endpointPublicAccess": True},
    }
    computed = (
        "accessConfig",
        "arn",
        "certificateAuthority",
        "createdAt",
        "endpoint",
        "identities",
        "kubernetesNetworkConfig",
        "platformVersion",
        "status",
        "upgradePolicy",
        "version",
        "vpcConfig.clusterSecurityGroupId",
        "vpcConfig.publicAccessCidrs",
        "vpcConfig.vpcId",
    )
    # The emulator keeps them as they were when the cluster was made, or not at all.
    unreported = frozenset(
        {
            "accessConfig",
            "bootstrapSelfManagedAddons",
            "deletionProtection",
            "enabledClusterLogTypes",
            "upgradePolicy",
            "version",
        }
    )
    name = "name"

    def create(self, inputs: Properties) -> str:
        _require_known_version(inputs)
        if inputs.get("bootstrapSelfManagedAddons", True):
            raise ProviderError(
                "the stand-in's clusters start without add-ons; set bootstrapSelfManagedAddons to false and make "
                "each add-on a resource"
            )
        self.send(
            "create_cluster",
            name=inputs["name"],
            roleArn=inputs["roleArn"],
            version=inputs.get("version", KUBERNETES_VERSION),
            resourcesVpcConfig=inputs["vpcConfig"],
            logging=_logging(inputs),
            encryptionConfig=_encryption(inputs),
            **{key: inputs.get(key) for key in ("accessConfig", "upgradePolicy", "deletionProtection")},
            bootstrapSelfManagedAddons=False,
        )
        return inputs["name"]

    def configure(self, id: str, inputs: Properties) -> None:
        self._wait_until_active(id)
        subnets = self._subnets(inputs)
        if len({subnet["AvailabilityZone"] for subnet in subnets}) < 2:  # noqa: PLR2004 — as EKS says
            raise ProviderError("InvalidParameterException: Subnets specified must be in at least two different AZs")
        if self._security_group(id) is None:
            self._make_security_group(id, subnets[0]["VpcId"])
        plane = self.planes.ensure(id, inputs.get("version", KUBERNETES_VERSION))
        note(plane, AwsAccount(self.aws.account_id, self.aws.region))

    def read(self, id: str, inputs: Properties) -> Properties | None:
        answer = absent(lambda: self.client.describe_cluster(name=id), NOT_FOUND)
        if answer is None:
            return None
        cluster = answer["cluster"]
        told = {
            "upgradePolicy": {"supportType": "EXTENDED"},  # what AWS chooses for those who do not
            **self.known_as(cluster),
            **self._of_the_plane(self.planes.find(id)),
            "identities": [{"oidcs": [{"issuer": cluster["identity"]["oidc"]["issuer"]}]}],
            "vpcConfig": self._vpc_config(id, cluster["resourcesVpcConfig"], inputs),
            "enabledClusterLogTypes": [
                kind
                for setup in cluster["logging"].get("clusterLogging", [])
                if setup["enabled"]
                for kind in setup["types"]
            ],
            "encryptionConfig": next(iter(cluster.get("encryptionConfig", [])), None),
        }
        return self.with_unreported(told, inputs)

    def replaces(self, old: Properties, new: Properties) -> frozenset[str]:
        """Encryption of Secrets is never taken off a cluster."""
        off = "encryptionConfig" in old and "encryptionConfig" not in new
        return super().replaces(old, new) | (frozenset({"encryptionConfig"}) if off else frozenset())

    def update(self, id: str, old: Properties, new: Properties) -> None:
        version = new.get("version", old["version"])
        if version != old["version"]:
            _require_next_version(old["version"], version)
            _require_known_version(new)
            self.aws.dry_run(lambda: self.client.update_cluster_version(name=id, version=version))
        for change in _config_changes(old, merged(self.defaults, new)):
            self.aws.dry_run(lambda change=change: self.send("update_cluster_config", name=id, **change))
        encryption = _encryption(new)
        if encryption and encryption != _encryption(old):
            if "encryptionConfig" in old:
                raise ProviderError(
                    f"InvalidRequestException: Cluster {id} already has encryption configuration associated"
                )
            self.send("associate_encryption_config", clusterName=id, encryptionConfig=encryption)

    def delete(self, id: str, state: Properties) -> None:
        if state.get("deletionProtection"):
            raise ProviderError(
                f"InvalidRequestException: Cluster {id} cannot be deleted because deletion protection is enabled; "
                "disable it first"
            )
        groups = self.client.list_nodegroups(clusterName=id)["nodegroups"]
        if groups:
            raise ProviderError(f"ResourceInUseException: Cluster has nodegroups attached: {', '.join(groups)}")
        self.undo(id, state)

    def undo(self, id: str, inputs: Properties) -> None:
        self.planes.remove(id)
        group = self._security_group(id)
        if group:
            self.aws.client("ec2").delete_security_group(GroupId=group["GroupId"])
        for addon in self.client.list_addons(clusterName=id)["addons"]:  # the emulator would keep them
            self.client.delete_addon(clusterName=id, addonName=addon)
        self.client.delete_cluster(name=id)

    def find(self, inputs: Properties) -> str | None:
        if absent(lambda: self.client.describe_cluster(name=inputs["name"]), NOT_FOUND) is None:
            return None
        return self.completed(inputs["name"], inputs)

    def _wait_until_active(self, id: str) -> None:
        deadline = time.monotonic() + CREATE_SECONDS
        while self.client.describe_cluster(name=id)["cluster"]["status"] != "ACTIVE":
            if time.monotonic() > deadline:
                raise ProviderError(f"the emulator's cluster {id} is not ACTIVE after {CREATE_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def _of_the_plane(self, plane: ControlPlane | None) -> Properties:
        if plane is None:
            return {}
        return {
            "endpoint": plane.url,
            "certificateAuthority": {"data": plane.certificate_authority},
            "kubernetesNetworkConfig": {"ipFamily": "ipv4", "serviceIpv4Cidr": SERVICE_NETWORK},
        }

    def _vpc_config(self, id: str, told: Mapping[str, Any], inputs: Properties) -> Properties:
        group = self._security_group(id) or {}
        return {
            **without(told, "clusterSecurityGroupId", "securityGroupIds", "vpcId"),
            **inputs.get("vpcConfig", {}),
            "clusterSecurityGroupId": group.get("GroupId", ""),
            "vpcId": group.get("VpcId", ""),
        }

    def _subnets(self, inputs: Properties) -> list[dict[str, Any]]:
        return self.aws.client("ec2").describe_subnets(SubnetIds=inputs["vpcConfig"]["subnetIds"])["Subnets"]

    def _security_group(self, id: str) -> dict[str, Any] | None:
        """The group of control plane and nodes, which EKS makes with the cluster."""
        filters = [{"Name": "tag:aws:eks:cluster-name", "Values": [id]}]
        found = self.aws.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
        return found[0] if found else None

    def _make_security_group(self, id: str, vpc_id: str) -> None:
        client = self.aws.client("ec2")
        name = f"eks-cluster-sg-{id}-{uuid.uuid4().int % 10**10:010}"
        tags = {"Name": name, "aws:eks:cluster-name": id, f"kubernetes.io/cluster/{id}": "owned"}
        group_id = client.create_security_group(
            GroupName=name,
            Description="EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, "
            "as well as any managed workloads.",
            VpcId=vpc_id,
            TagSpecifications=[
                {"ResourceType": "security-group", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
            ],
        )["GroupId"]
        among_themselves = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}
        client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[among_themselves])


def _require_known_version(inputs: Properties) -> None:
    version = inputs.get("version", KUBERNETES_VERSION)
    if not is_unknown(version) and version != KUBERNETES_VERSION:
        raise ProviderError(
            f"the sandbox has a control plane of Kubernetes {KUBERNETES_VERSION} only, not of {version}"
        )


def _require_next_version(old: str, new: str) -> None:
    if is_unknown(new):
        return
    before, after = (int(version.partition(".")[2]) for version in (old, new))
    if after != before + 1:
        raise ProviderError(
            f"InvalidParameterException: Unsupported Kubernetes minor version update from {old} to {new}; EKS takes "
            "one step up at a time"
        )


def _logging(inputs: Properties) -> Properties | None:
    types = inputs.get("enabledClusterLogTypes")
    return {"clusterLogging": [{"types": types, "enabled": True}]} if types else None


def _encryption(inputs: Properties) -> list[Properties] | None:
    config = inputs.get("encryptionConfig")
    return [config] if config else None


def _config_changes(old: Properties, new: Properties) -> Iterator[Properties]:
    """Parameters of requests that lead from one configuration to another: EKS takes one kind of change at a time."""

    def differs(*paths: str) -> bool:
        return any(at(new, path) is not None and at(old, path) != at(new, path) for path in paths)

    mode = "accessConfig.authenticationMode"
    if differs(mode):
        before, after = at(old, mode) or AUTHENTICATION_MODES[0], at(new, mode)
        if AUTHENTICATION_MODES.index(after) < AUTHENTICATION_MODES.index(before):
            raise ProviderError(
                f"InvalidParameterException: Unsupported authentication mode update from {before} to {after}"
            )
        yield {"accessConfig": {"authenticationMode": after}}
    if old.get("enabledClusterLogTypes", []) != new.get("enabledClusterLogTypes", []):
        gone = sorted({*old.get("enabledClusterLogTypes", [])} - {*new.get("enabledClusterLogTypes", [])})
        setups = [
            *(_logging(new) or {}).get("clusterLogging", []),
            *([{"types": gone, "enabled": False}] if gone else []),
        ]
        yield {"logging": {"clusterLogging": setups}}
    reach = ("endpointPrivateAccess", "endpointPublicAccess", "publicAccessCidrs")
    if differs(*(f"vpcConfig.{key}" for key in reach)):
        yield {"resourcesVpcConfig": {key: new["vpcConfig"].get(key) for key in reach}}
    for key in ("subnetIds", "securityGroupIds"):
        if differs(f"vpcConfig.{key}"):
            yield {"resourcesVpcConfig": {key: new["vpcConfig"][key]}}
    for key in ("upgradePolicy", "deletionProtection"):
        if differs(key):
            yield {key: new[key]}


class AccessEntry(Handler):
    """aws:eks/accessEntry:AccessEntry; the id is `cluster:principal`. It does not bind the sandbox's kubeconfig."""

    type = "aws:eks/accessEntry:AccessEntry"
    supported = frozenset({"clusterName", "principalArn", "kubernetesGroups", "type", "userName"})
    service = "eks"
    replace_on = frozenset({"clusterName", "principalArn", "type"})
    defaults: ClassVar[Properties] = {"type": "STANDARD"}
    computed = ("accessEntryArn", "createdAt", "modifiedAt", "kubernetesGroups", "userName")
    recomputed = ("modifiedAt",)
    tag_api = TAGS

    def create(self, inputs: Properties) -> str:
        self.send("create_access_entry", **_entry(inputs), type=inputs.get("type"))
        return f"{inputs['clusterName']}:{inputs['principalArn']}"

    def read(self, id: str, inputs: Properties) -> Properties | None:
        cluster, _, principal = id.partition(":")
        answer = absent(
            lambda: self.client.describe_access_entry(clusterName=cluster, principalArn=principal), NOT_FOUND
        )
        if answer is None:
            return None
        entry = answer["accessEntry"]
        return {**self.known_as(entry), "userName": entry.get("username")}

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.send("update_access_entry", **_entry(new))

    def delete(self, id: str, state: Properties) -> None:
        cluster, _, principal = id.partition(":")
        self.client.delete_access_entry(clusterName=cluster, principalArn=principal)

    def tag_target(self, id: str, state: Properties) -> str:
        return state["accessEntryArn"]

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read(f"{inputs['clusterName']}:{inputs['principalArn']}")


def _entry(inputs: Properties) -> Properties:
    entry = {key: inputs.get(key) for key in ("clusterName", "principalArn", "kubernetesGroups")}
    return {**entry, "username": inputs.get("userName")}


class AccessPolicyAssociation(Handler):
    """aws:eks/accessPolicyAssociation:AccessPolicyAssociation; the id is `cluster#principal#policy`."""

    type = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    supported = frozenset({"clusterName", "principalArn", "policyArn", "accessScope"})
    service = "eks"
    replace_on = supported
    computed = ("associatedAt", "modifiedAt")

    def create(self, inputs: Properties) -> str:
        policy = inputs["policyArn"]
        if not is_unknown(policy) and policy not in ACCESS_POLICIES:
            raise ProviderError(
                f"ResourceNotFoundException: the stand-in knows no access policy {policy}; EKS has "
                f"{', '.join(sorted(ACCESS_POLICIES))}"
            )
        self.send("associate_access_policy", **inputs)
        return "#".join(inputs[key] for key in ("clusterName", "principalArn", "policyArn"))

    def read(self, id: str, inputs: Properties) -> Properties | None:
        cluster, principal, policy = id.split("#")
        answer = absent(
            lambda: self.client.list_associated_access_policies(clusterName=cluster, principalArn=principal), NOT_FOUND
        )
        for associated in answer["associatedAccessPolicies"] if answer else []:
            if associated["policyArn"] == policy:
                return {**self.known_as(associated), "clusterName": cluster, "principalArn": principal}
        return None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        raise AssertionError("every property of an association is in replace_on")

    def delete(self, id: str, state: Properties) -> None:
        cluster, principal, policy = id.split("#")
        self.client.disassociate_access_policy(clusterName=cluster, principalArn=principal, policyArn=policy)

    def find(self, inputs: Properties) -> str | None:
        return self.find_by_read("#".join(inputs[key] for key in ("clusterName", "principalArn", "policyArn")))


class PodIdentityAssociation(Handler):
    """aws:eks/podIdentityAssociation:PodIdentityAssociation; the id is EKS's. The emulator tags it once only."""

    type = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    supported = frozenset({"clusterName", "namespace", "serviceAccount", "roleArn"})
    service = "eks"
    replace_on = frozenset({"clusterName", "namespace", "serviceAccount"})
    computed = ("associationArn", "associationId")
    unreported = frozenset({"tags"})

    def create(self, inputs: Properties) -> str:
        return self.send("create_pod_identity_association", **inputs)["association"]["associationId"]

    def read(self, id: str, inputs: Properties) -> Properties | None:
        if not inputs:
            raise ProviderError(f"the stand-in cannot import the association {id}: its id does not name the cluster")
        cluster = inputs["clusterName"]
        answer = absent(
            lambda: self.client.describe_pod_identity_association(clusterName=cluster, associationId=id), NOT_FOUND
        )
        return self.with_unreported(self.known_as(answer["association"]), inputs) if answer else None

    def update(self, id: str, old: Properties, new: Properties) -> None:
        self.send(
            "update_pod_identity_association",
            clusterName=new["clusterName"],
            associationId=id,
            roleArn=new["roleArn"],
        )

    def delete(self, id: str, state: Properties) -> None:
        self.client.delete_pod_identity_association(clusterName=state["clusterName"], associationId=id)

    def find(self, inputs: Properties) -> str | None:
        return association_of(self.client, inputs["clusterName"], inputs["namespace"], inputs["serviceAccount"])


def association_of(client: Any, cluster: str, namespace: str, service_account: str) -> str | None:
    """Id of the association that gives a service account its role; a service account has one at most."""
    answer = absent(
        lambda: client.list_pod_identity_associations(
            clusterName=cluster, namespace=namespace, serviceAccount=service_account
        ),
        NOT_FOUND,
    )
    return answer["associations"][0]["associationId"] if answer and answer["associations"] else None


class Addon(EksHandler):
    """aws:eks/addon:Addon; the id is `cluster:name`. Its workloads are placeholders with the real ones' requests."""

    type = "aws:eks/addon:Addon"
    supported = frozenset(
        {
            "clusterName",
            "addonName",
            "addonVersion",
            "configurationValues",
            "podIdentityAssociations",
            "preserve",
            "resolveConflictsOnCreate",
            "resolveConflictsOnUpdate",
        }
    )
    replace_on = frozenset({"clusterName", "addonName"})
    computed = ("arn", "createdAt", "modifiedAt", "configurationValues")
    recomputed = ("modifiedAt",)
    unreported = frozenset({"preserve", "resolveConflictsOnCreate", "resolveConflictsOnUpdate"})

    def create(self, inputs: Properties) -> str:
        if "addonVersion" not in inputs:
            raise ProviderError("the sandbox wants addonVersion given; AWS would choose one")
        self.send("create_addon", **self._request(inputs), resolveConflicts=inputs.get("resolveConflictsOnCreate"))
        return f"{inputs['clusterName']}:{inputs['addonName']}"

    def configure(self, id: str, inputs: Properties) -> None:
        cluster, addon = inputs["clusterName"], inputs["addonName"]
        self.client.describe_addon(clusterName=cluster, addonName=addon)
        for association in inputs.get("podIdentityAssociations", []):
            self._associate(cluster, association["serviceAccount"], association["roleArn"])
        self._install(id, inputs, "create")

    def read(self, id: str, inputs: Properties) -> Properties | None:
        cluster, _, name = id.partition(":")
        answer = absent(lambda: self.client.describe_addon(clusterName=cluster, addonName=name), NOT_FOUND)
        if answer is None:
            return None
        addon = answer["addon"]
        return self.with_unreported({**self.known_as(addon), "arn": addon["addonArn"]}, inputs)

    def update(self, id: str, old: Properties, new: Properties) -> None:
        cluster = new["clusterName"]
        self.send(
            "update_addon",
            **self._request({"configurationValues": "", "podIdentityAssociations": [], **new}),
            resolveConflicts=new.get("resolveConflictsOnUpdate"),
        )
        kept = {association["serviceAccount"]: association for association in new.get("podIdentityAssociations", [])}
        for association in old.get("podIdentityAssociations", []):
            if association["serviceAccount"] not in kept:
                self._dissociate(cluster, association["serviceAccount"])
        for service_account, association in kept.items():
            self._associate(cluster, service_account, association["roleArn"])
        self._install(id, new, "update")

    def delete(self, id: str, state: Properties) -> None:
        cluster, addon = state["clusterName"], state["addonName"]
        api = self.plane_if_any(cluster)
        if api and not state.get("preserve"):
            placeholders.remove_addon(api, addon)
        for association in state.get("podIdentityAssociations", []):
            self._dissociate(cluster, association["serviceAccount"])
        self.client.delete_addon(clusterName=cluster, addonName=addon)

    def find(self, inputs: Properties) -> str | None:
        id = self.find_by_read(f"{inputs['clusterName']}:{inputs['addonName']}")
        return self.completed(id, inputs) if id else None

    def _request(self, inputs: Properties) -> Properties:
        keys = ("clusterName", "addonName", "addonVersion", "configurationValues", "podIdentityAssociations")
        _configuration(inputs)
        return {key: inputs.get(key) for key in keys}

    def _install(self, id: str, inputs: Properties, doing: str) -> None:
        """Make the workloads, and wait for them as AWS does until the add-on is ACTIVE."""
        name = inputs["addonName"]
        api = self.running_plane(inputs["clusterName"])
        placeholders.install_addon(api, name, inputs["addonVersion"], _configuration(inputs))
        deadline = time.monotonic() + ADDON_SECONDS
        while not placeholders.addon_is_healthy(api, name):
            if time.monotonic() > deadline:
                raise ProviderError(
                    f"waiting for EKS Add-On ({id}) {doing}: unexpected state 'DEGRADED', wanted target 'ACTIVE'. last "
                    f"error: InsufficientNumberOfReplicas: The add-on is unhealthy because it doesn't have the desired "
                    f"number of replicas after {ADDON_SECONDS} s; see kubectl get pods -n {ADDON_NAMESPACE}"
                )
            time.sleep(POLL_SECONDS)

    def _associate(self, cluster: str, service_account: str, role_arn: str) -> None:
        known = association_of(self.client, cluster, ADDON_NAMESPACE, service_account)
        if known:
            self.client.update_pod_identity_association(clusterName=cluster, associationId=known, roleArn=role_arn)
        else:
            self.client.create_pod_identity_association(
                clusterName=cluster, namespace=ADDON_NAMESPACE, serviceAccount=service_account, roleArn=role_arn
            )

    def _dissociate(self, cluster: str, service_account: str) -> None:
        known = association_of(self.client, cluster, ADDON_NAMESPACE, service_account)
        if known:
            self.client.delete_pod_identity_association(clusterName=cluster, associationId=known)


def _configuration(inputs: Properties) -> dict[str, Any]:
    """The add-on's configuration, which is JSON, or in other words YAML without its comforts."""
    text = inputs.get("configurationValues") or "{}"
    if is_unknown(text):
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ProviderError(f"InvalidParameterException: ConfigurationValue provided is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ProviderError("InvalidParameterException: ConfigurationValue provided is no JSON object")
    return values
