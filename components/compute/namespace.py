"""Namespace: where stores and microservices live, closed by default."""

import base64
import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.shared.manifests import NAMESPACE, metadata, pod_security_labels

PULL_SECRET = "registry-credentials"  # noqa: S105 - a name


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The most that the namespace may ask for: what the autoscalers can reach, and a rollout on top."""

    cpu_millis: int
    memory_mib: int
    pods: int


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """Who pulls images, and from where."""

    host: str
    username: str
    token: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class NamespaceArgs:
    """How much fits in, and how images are pulled."""

    quota: Quota
    registry_login: RegistryLogin | None


class Namespace(pulumi.ComponentResource):
    """Namespace `pyairtable` under Pod Security `restricted`, with quota, default-deny policies and pull secret."""

    ready: list[pulumi.Resource]
    """What has to be there before the first pod."""
    pull_secret: str | None

    def __init__(self, name: str, args: NamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Namespace", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": pod_security_labels()},
            opts=pulumi.ResourceOptions(parent=self),
        )
        inside = pulumi.ResourceOptions(parent=self, depends_on=[namespace])
        quota = kubernetes.core.v1.ResourceQuota(
            f"{name}-quota",
            metadata=metadata("pyairtable"),
            spec={
                "hard": {
                    "requests.cpu": f"{args.quota.cpu_millis}m",
                    "requests.memory": f"{args.quota.memory_mib}Mi",
                    "pods": str(args.quota.pods),
                    "services.loadbalancers": "0",  # they would open node ports and escape tags and the estimate
                }
            },
            opts=inside,
        )
        deny = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-default-deny",
            metadata=metadata("default-deny"),
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=inside,
        )
        dns = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-dns",
            metadata=metadata("dns"),
            spec={
                "pod_selector": {},
                "policy_types": ["Egress"],
                "egress": [
                    {
                        "to": [
                            {
                                "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": "kube-system"}},
                                "pod_selector": {"match_labels": {"k8s-app": "kube-dns"}},
                            }
                        ],
                        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
                    }
                ],
            },
            opts=inside,
        )
        self.ready = [namespace, quota, deny, dns]
        self.pull_secret = None
        if args.registry_login:
            self.pull_secret = PULL_SECRET
            self.ready.append(self._pull_secret(name, args.registry_login, inside))
        self.register_outputs({})

    def _pull_secret(self, name: str, login: RegistryLogin, inside: pulumi.ResourceOptions) -> pulumi.Resource:
        def docker_config(token: str) -> str:
            auth = base64.b64encode(f"{login.username}:{token}".encode()).decode()
            return json.dumps({"auths": {login.host: {"auth": auth}}})

        return kubernetes.core.v1.Secret(
            f"{name}-pull-secret",
            metadata=metadata(PULL_SECRET),
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": pulumi.Output.secret(login.token).apply(docker_config)},
            opts=inside,
        )
