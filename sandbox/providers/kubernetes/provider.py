"""The Kubernetes stand-in: which cluster a provider's kubeconfig means, and what its resources are."""

from pathlib import Path

import yaml

from sandbox.control_plane import ControlPlane, ControlPlanes
from sandbox.kubernetes_api import KubernetesApi, load
from sandbox.providers.errors import ProviderError
from sandbox.providers.kubernetes.cluster import Cluster
from sandbox.providers.kubernetes.kubernetes_object import KubernetesObject
from sandbox.providers.kubernetes.release import RELEASE, Release
from sandbox.providers.provider import Call, Comparison, Connection, Provider, changes
from sandbox.providers.wire import Properties, is_unknown


class KubernetesProvider(Provider):
    """The stand-in for pulumi-kubernetes. `cluster` is the name of the stack's own cluster.

    Of a kubeconfig only the server's address is used: credentials of AWS have no counterpart in the sandbox.
    """

    title = "Kubernetes"
    options = frozenset(
        {
            "clusterIdentifier",
            "deleteUnreachable",
            "enableConfigMapMutable",
            "enablePatchForce",
            "enableSecretMutable",
            "enableServerSideApply",
            "kubeconfig",
            "suppressDeprecationWarnings",
            "suppressHelmHookWarnings",
            "upsertExistingObjects",
            "version",
        }
    )

    def __init__(self, planes: ControlPlanes, cluster: str, *, version: str, hint: str = "") -> None:
        super().__init__(version=version, hint=hint)
        self._planes = planes
        self._own = cluster
        self._apis: dict[Path, KubernetesApi] = {}

    def warm_up(self) -> None:
        """Load the client library, which takes half a second, before the engine asks for anything."""
        load()

    def connect(self, options: Properties) -> Connection:
        if options.get("enableServerSideApply") == "false":
            raise ProviderError("the sandbox's stand-in applies server-side only; leave enableServerSideApply out")
        url = _server(options.get("kubeconfig", ""))
        cluster = self._cluster(self._planes.at(url), url, options)
        return lambda call: _resource(cluster, call)

    def compare_options(self, olds: Properties, news: Properties) -> Comparison:
        """As the official provider: the identifier alone tells clusters apart, or else the server in the kubeconfig."""
        changed = changes(olds, news)
        old, new = olds.get("clusterIdentifier"), news.get("clusterIdentifier")
        if old and new:
            replacing = {"clusterIdentifier"}
        elif "kubeconfig" in changed and (is_unknown(news.get("kubeconfig")) or _moved(olds, news)):
            replacing = {"kubeconfig"}
        else:
            replacing = set[str]()
        return Comparison(changed=changed, replacing=replacing)

    def find(self, urn: str, inputs: Properties) -> str | None:
        """Id of the object in the stack's own cluster that a create with these inputs has made, if there is one."""
        cluster = self._cluster(self._planes.find(self._own), self._own, {})
        return _resource(cluster, Call(urn=urn)).find(inputs)

    def _cluster(self, plane: ControlPlane | None, url: str, options: Properties) -> Cluster:
        api = self._apis.setdefault(plane.kubeconfig, KubernetesApi(plane.kubeconfig)) if plane else None
        return Cluster(url=url, api=api, options=options)


def _resource(cluster: Cluster, call: Call) -> KubernetesObject | Release:
    return Release(cluster, call) if call.type == RELEASE else KubernetesObject(cluster, call)


def _server(kubeconfig: str) -> str:
    """Address of the API server that a kubeconfig's current context means."""
    try:
        config = yaml.safe_load(kubeconfig)
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
        return clusters[contexts[config["current-context"]]["cluster"]]["server"]
    except (yaml.YAMLError, KeyError, TypeError):
        raise ProviderError("the provider's kubeconfig is none; give its content, not the path of a file") from None


def _moved(olds: Properties, news: Properties) -> bool:
    return _server(olds.get("kubeconfig", "")) != _server(news["kubeconfig"])
