"""One cluster's API server, for everything in the sandbox that talks to it: plain manifests in, plain objects out."""

import importlib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from sandbox.errors import SandboxError

Manifest = dict[str, Any]
Manifests = list[Manifest]
Warnings = list[str]

Propagation = Literal["Foreground", "Background", "Orphan"]

FIELD_MANAGER = "sandbox"
DEFAULT_NAMESPACE = "default"
REQUEST_SECONDS = 30

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"


class KubernetesApiError(SandboxError):
    """The API server refused, with its own words and HTTP status; 0 when it did not answer."""

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NoSuchKindError(KubernetesApiError):
    """The API server serves no such kind, at least not yet: its CRD may come later."""


_LOADING = threading.Lock()


def load() -> None:
    """Import the client library, which takes half a second; two threads at it may each see half of its modules."""
    with _LOADING:
        for module in ("kubernetes.config", "kubernetes.dynamic"):
            importlib.import_module(module)


class KubernetesApi:
    """One cluster's API server, as the kubeconfig's user; safe to use from several threads.

    Every call may raise KubernetesApiError. Where a call takes `warnings`, what the API server says in its Warning
    headers is appended to it.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._discovering = threading.Lock()

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
        subresource: str = "",
        warnings: Warnings | None = None,
    ) -> Manifest:
        """Server-side apply; unknown and repeated fields are refused, and so are other managers' unless forced."""
        metadata = manifest["metadata"]
        path = self._path(
            manifest["apiVersion"], manifest["kind"], metadata.get("namespace"), metadata["name"], subresource
        )
        query = {"fieldManager": field_manager, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self._request("PATCH", path, manifest, query, content_type=APPLY, warnings=warnings)

    def create(
        self,
        manifest: Manifest,
        *,
        field_manager: str = FIELD_MANAGER,
        dry_run: bool = False,
        warnings: Warnings | None = None,
    ) -> Manifest:
        """Create an object; it is an error when it exists."""
        namespace = manifest.get("metadata", {}).get("namespace") or DEFAULT_NAMESPACE
        path = self._path(manifest["apiVersion"], manifest["kind"], namespace)
        query = {"fieldManager": field_manager, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._request("POST", path, manifest, query, warnings=warnings)

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """An object; None when there is no such object, or no such kind."""
        return self._unless_absent(lambda: self._request("GET", self._path(api_version, kind, namespace, name)))

    def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, label_selector: str | None = None
    ) -> Manifests:
        """Objects of a kind, of all namespaces unless one is given."""
        query = {"labelSelector": label_selector} if label_selector else {}
        items = self._request("GET", self._path(api_version, kind, namespace), query=query)["items"]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str = "",
        field_manager: str = FIELD_MANAGER,
    ) -> Manifest:
        """JSON merge patch: null removes a field, a list is replaced as a whole."""
        path = self._path(api_version, kind, namespace, name, subresource)
        query = {"fieldManager": field_manager, "fieldValidation": "Strict"}
        return self._request("PATCH", path, patch, query, content_type=MERGE_PATCH)

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Foreground",
    ) -> bool:
        """Ask for an object's deletion, its dependents first, without waiting; False when there was none."""
        path = self._path(api_version, kind, namespace, name)
        query = {"propagationPolicy": propagation}
        return self._unless_absent(lambda: self._request("DELETE", path, query=query)) is not None

    def evict(self, namespace: str, pod: str) -> bool:
        """Evict a pod as a drain does; False while a PodDisruptionBudget forbids it. A pod that is gone is evicted."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        try:
            self._request("POST", self._path("v1", "Pod", namespace, pod, "eviction"), eviction)
        except KubernetesApiError as error:
            if error.status == HTTPStatus.TOO_MANY_REQUESTS:
                return False
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        return True

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the API server knows a kind."""
        try:
            self._resource(api_version, kind)
        except NoSuchKindError:
            return False
        return True

    def raw(self, path: str) -> Any:
        """What a GET of a path answers, such as /apis/metrics.k8s.io/v1beta1/nodes."""
        return self._request("GET", path)

    @cached_property
    def _client(self) -> Any:
        from kubernetes.config import new_client_from_config

        return new_client_from_config(config_file=str(self.kubeconfig))

    @cached_property
    def _dynamic(self) -> Any:
        from kubernetes.dynamic import DynamicClient, LazyDiscoverer

        class InMemory(LazyDiscoverer):
            """The library's own writes what it finds into /tmp, by host and port, where another cluster finds it."""

            def _write_cache(self) -> None:
                pass

        return DynamicClient(
            self._client, cache_file=str(self.kubeconfig.with_suffix(".never-written")), discoverer=InMemory
        )

    def _resource(self, api_version: str, kind: str) -> Any:
        load()
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        group, _, version = api_version.rpartition("/")
        prefix = {"prefix": "apis", "group": group} if group else {"prefix": "api"}
        with self._discovering, self._telling(f"finding {api_version} {kind}"):
            try:
                # Looks again by itself when it does not know the kind: a CRD may have come in the meantime.
                return self._dynamic.resources.get(**prefix, api_version=version, kind=kind)
            except ResourceNotFoundError:
                raise NoSuchKindError(
                    f"the cluster has no kind {kind} in {api_version}; is its CRD installed?", HTTPStatus.NOT_FOUND
                ) from None

    def _path(self, api_version: str, kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
        resource = self._resource(api_version, kind)
        if not resource.namespaced:
            namespace = None
        elif name:
            namespace = namespace or DEFAULT_NAMESPACE
        path = resource.path(name=name or None, namespace=namespace)
        return f"{path}/{subresource}" if subresource else path

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        content_type: str = "application/json",
        warnings: Warnings | None = None,
    ) -> Any:
        with self._telling(f"{method} {path}"):
            answer = self._dynamic.request(
                method,
                path,
                body=body,
                query_params=[*(query or {}).items()],
                header_params={"Accept": "application/json"},
                content_type=content_type,
                serialize=False,
                _request_timeout=REQUEST_SECONDS,
            )
        if warnings is not None:
            warnings += [_warning_text(header) for header in answer.headers.getlist("Warning")]
        return json.loads(answer.data)

    @contextmanager
    def _telling(self, doing: str) -> Generator[None]:
        """Make what goes wrong one line, in the API server's own words where it has answered."""
        load()
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            answer = _answer_of(error.body)
            message = answer.get("message") or f"{error.status} {error.reason}"
            raise KubernetesApiError(" ".join(message.split()), error.status or 0, answer.get("reason", "")) from None
        except HTTPError as error:
            raise KubernetesApiError(f"{doing}: the cluster's API server does not answer: {error}") from None

    def _unless_absent(self, call: Callable[[], Manifest]) -> Manifest | None:
        try:
            return call()
        except KubernetesApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise


def _answer_of(body: str | bytes | None) -> Mapping[str, str]:
    """The Status object of an error, where the API server sent one."""
    try:
        answer = json.loads(body or "{}")
    except ValueError:
        return {"message": str(body)}
    return answer if isinstance(answer, dict) else {}


def _warning_text(header: str) -> str:
    """The text in a Warning header: 299 - "text", with quotes in it escaped."""
    quoted = header[header.index('"') + 1 : header.rindex('"')] if header.count('"') > 1 else header
    return quoted.replace('\\"', '"').replace("\\\\", "\\")
