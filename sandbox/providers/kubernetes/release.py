"""A Helm release: recorded in the cluster as Helm records it, with placeholders for what the chart would run."""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

from sandbox.charts import chart_lacks, chart_objects, chart_problems, install_chart, remove_chart
from sandbox.kubernetes_api import KubernetesApi
from sandbox.providers.errors import NotReadyError, ProviderError
from sandbox.providers.kubernetes.cluster import Cluster
from sandbox.providers.kubernetes.readiness import DEFAULT_SECONDS, Waiting, lacking, left_of
from sandbox.providers.kubernetes.trees import differences, lies_on
from sandbox.providers.provider import Call, Comparison, Problem, Resource
from sandbox.providers.schema import input_types, problems
from sandbox.providers.wire import UNKNOWN, Properties, is_unknown

RELEASE = "kubernetes:helm.sh/v3:Release"

SUPPORTED = frozenset(
    {
        "chart",
        "compat",  # the SDK's own
        "createNamespace",
        "description",
        "maxHistory",
        "name",
        "namespace",
        "repositoryOpts",
        "skipAwait",
        "timeout",
        "values",
        "version",
    }
)
"""Inputs that mean something here; another is refused rather than ignored."""

COMPUTED = ("manifest", "resourceNames", "status")


class Release(Resource):
    """kubernetes:helm.sh/v3:Release; the id is namespace/name."""

    def __init__(self, cluster: Cluster, call: Call) -> None:
        self._cluster = cluster
        self._call = call

    def problems(self, inputs: Properties) -> list[Problem]:
        found = problems(RELEASE, inputs)
        found += [
            (key, f"the sandbox's stand-in for {RELEASE} does not do {key}")
            for key in sorted(inputs.keys() & input_types(RELEASE).keys() - SUPPORTED)
        ]
        found += [
            (key, f"the sandbox wants {key} given; Pulumi would make one up")
            for key in ("name", "namespace", "version")
            if key not in inputs
        ]
        chart, values = inputs.get("chart"), inputs.get("values", {})
        if isinstance(chart, str) and isinstance(values, Mapping) and "version" in inputs and not is_unknown(chart):
            found += chart_problems(_chart(inputs), inputs["version"], values)
        return found

    def compare(self, old_inputs: Properties, inputs: Properties, state: Properties) -> Comparison:
        changed = dict(differences(old_inputs, inputs))
        return Comparison(
            changed=changed,
            replacing={path for path in changed if any(lies_on(path, field) for field in ("name", "namespace"))},
        )

    def plan(self, inputs: Properties) -> Properties:
        return {**inputs, **dict.fromkeys(COMPUTED, UNKNOWN)}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        id = _id(inputs)
        if _recorded(self._cluster.required, id):
            raise ProviderError(f"cannot re-use a name that is still in use: {id}")
        return id, self._install(inputs, revision=1)

    def read(self, id: str, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        record = _recorded(self._cluster.api, id) if self._cluster.api else None
        if record is None:
            return None
        metadata = record["chart"]["metadata"]
        found = {
            **inputs,
            "chart": inputs.get("chart", metadata["name"]),
            "name": record["name"],
            "namespace": record["namespace"],
            "version": metadata["version"],
            **({"values": record["config"]} if record["config"] or "values" in inputs else {}),
        }
        return found, {**state, **found, "status": _status(record)}

    def plan_update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        return self.plan(inputs)

    def update(self, id: str, old_inputs: Properties, inputs: Properties, state: Properties) -> Properties:
        record = _recorded(self._cluster.required, id)
        if record is None:
            raise ProviderError("it is gone from the cluster; run a refresh")
        return self._install(inputs, revision=record["version"] + 1)

    def delete(self, id: str, inputs: Properties, state: Properties) -> None:
        api = self._cluster.api
        namespace, _, name = id.rpartition("/")
        if api is not None:
            remove_chart(api, name, namespace)
            if not inputs.get("skipAwait"):
                self._waiting(inputs).until_empty(
                    lambda: "; ".join(left_of(live) for live in chart_objects(api, name, namespace))
                )
            _forget(api, namespace, name)

    def find(self, inputs: Properties) -> str | None:
        """Id of the release that a create with these inputs has made, if it is there."""
        return _id(inputs) if self._cluster.api and _recorded(self._cluster.api, _id(inputs)) else None

    def _install(self, inputs: Properties, revision: int) -> Properties:
        api = self._cluster.required
        name, namespace, values = inputs["name"], inputs["namespace"], inputs.get("values", {})
        if inputs.get("createNamespace"):
            api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        objects = install_chart(api, name, _chart(inputs), inputs["version"], namespace=namespace, values=values)
        record = {
            "name": name,
            "namespace": namespace,
            "version": revision,
            "info": {"status": "deployed"},
            "chart": {"metadata": {"name": _chart(inputs), "version": inputs["version"]}},
            "config": values,
        }
        _record(api, record)
        names: dict[str, list[str]] = {}
        for item in objects:
            metadata = item["metadata"]
            where = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
            names.setdefault(f"{item['kind']}/{item['apiVersion']}", []).append(where)
        state = {**inputs, "resourceNames": names, "status": _status(record)}
        if not inputs.get("skipAwait"):
            self._wait(api, objects, inputs, state)
        return state

    def _wait(self, api: KubernetesApi, objects: list[dict[str, Any]], inputs: Properties, state: Properties) -> None:
        def missing() -> str:
            live = (
                api.get(o["apiVersion"], o["kind"], o["metadata"]["name"], o["metadata"].get("namespace"))
                for o in objects
            )
            what = "; ".join(filter(None, (lacking(api, found) for found in live if found)))
            return what or chart_lacks(api, _chart(inputs), objects)

        try:
            self._waiting(inputs).until_empty(missing)
        except ProviderError as error:
            raise NotReadyError(f"it is installed, and not ready: {error}", _id(inputs), state) from None

    def _waiting(self, inputs: Properties) -> Waiting:
        seconds = self._call.timeout_seconds or inputs.get("timeout", DEFAULT_SECONDS)
        return Waiting(f"{RELEASE} {self._call.name}", seconds, self._call.cancelled)


def _id(inputs: Properties) -> str:
    return f"{inputs['namespace']}/{inputs['name']}"


def _chart(inputs: Properties) -> str:
    """The chart's name without the registry or path that it comes from."""
    return inputs["chart"].rpartition("/")[2]


def _status(record: Mapping[str, Any]) -> dict[str, Any]:
    metadata = record["chart"]["metadata"]
    return {
        "chart": metadata["name"],
        "name": record["name"],
        "namespace": record["namespace"],
        "revision": record["version"],
        "status": record["info"]["status"],
        "version": metadata["version"],
    }


def _recorded(api: KubernetesApi, id: str) -> dict[str, Any] | None:
    namespace, _, name = id.rpartition("/")
    selector = f"owner=helm,name={name},status=deployed"
    secrets = api.list("v1", "Secret", namespace=namespace, label_selector=selector)
    if not secrets:
        return None
    packed = base64.b64decode(base64.b64decode(secrets[-1]["data"]["release"]))
    return json.loads(gzip.decompress(packed))


def _record(api: KubernetesApi, record: Mapping[str, Any]) -> None:
    """Keep a release as Helm does, where `helm list` finds it; of its history only the last revision."""
    name, namespace, revision = record["name"], record["namespace"], record["version"]
    packed = base64.b64encode(gzip.compress(json.dumps(record).encode()))
    _forget(api, namespace, name)
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "helm.sh/release.v1",
            "metadata": {
                "name": f"sh.helm.release.v1.{name}.v{revision}",
                "namespace": namespace,
                "labels": {"owner": "helm", "name": name, "status": "deployed", "version": str(revision)},
            },
            "data": {"release": base64.b64encode(packed).decode()},
        }
    )


def _forget(api: KubernetesApi, namespace: str, name: str) -> None:
    for secret in api.list("v1", "Secret", namespace=namespace, label_selector=f"owner=helm,name={name}"):
        # In the foreground it would stay until the garbage collector has looked, and be a record of what is gone.
        api.delete("v1", "Secret", secret["metadata"]["name"], namespace, propagation="Background")
