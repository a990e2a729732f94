"""The cluster that a configured Kubernetes provider works on."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.kubernetes_api import KubernetesApi
from sandbox.providers.errors import ProviderError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster of the sandbox and the provider's options; without an `api` when there is none any more."""

    url: str
    api: KubernetesApi | None
    options: Mapping[str, str]

    @property
    def required(self) -> KubernetesApi:
        """The API server.

        Raises:
            ProviderError: the cluster does not exist.
        """
        if self.api is None:
            raise ProviderError(f"the sandbox has no cluster at {self.url}; run a refresh")
        return self.api

    def is_on(self, option: str) -> bool:
        """Whether an option of the provider is true."""
        return self.options.get(option) == "true"
