"""Restarts the workloads whose environment comes from a Secret when that has changed: one after the other, rolling.

Runs in the cluster as this one file, with the standard library alone. What a workload's pods were started with is noted
in an annotation of the workload; to restart it, the same annotation of its pods' template is changed along.
"""

import hashlib
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

NOTE = "pyairtable.io/secrets-digest"
KINDS = ("statefulsets", "deployments")
"""In the order of restarting: a store that takes a new password comes before its clients."""
POLL_SECONDS = 3
ROLLOUT_SECONDS = 600
"""After that the next workload is taken on: one that cannot start must not keep the others on an old password."""
REQUEST_SECONDS = 10

Object = Mapping[str, Any]


class Cluster:
    """The API server as this pod's service account reaches it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._account = Path(environment["SERVICE_ACCOUNT_FOLDER"])
        self._server = f"https://{environment['KUBERNETES_SERVICE_HOST']}:{environment['KUBERNETES_SERVICE_PORT']}"
        context = ssl.create_default_context(cafile=self._account / "ca.crt")
        # Python 3.13 and later also demand extensions that the authorities of clusters on EKS do not always have.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> dict[str, Any] | None:
        """An object or a list; None where there is none."""
        try:
            return self._call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def patch(self, path: str, change: Object) -> None:
        """Merge a change into an object."""
        self._call("PATCH", path, change)

    def _call(self, method: str, path: str, body: Object | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self._server + path, method=method)  # noqa: S310 - https, see above
        # Read anew each time: the kubelet replaces it before it expires.
        request.add_header("Authorization", f"Bearer {(self._account / 'token').read_text()}")
        request.add_header("Content-Type", "application/merge-patch+json")
        data = None if body is None else json.dumps(body).encode()
        with self._opener.open(request, data, timeout=REQUEST_SECONDS) as answer:
            return json.load(answer)


class Restarter:
    """Keeps the workloads of one namespace on the Secrets as they are."""

    def __init__(self, cluster: Cluster, namespace: str, secrets: tuple[str, ...], nudged: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._core, self._apps = (f"{api}/namespaces/{namespace}" for api in ("/api/v1", "/apis/apps/v1"))
        self._secrets = secrets
        self._nudged = nudged
        self._foreign: set[str] = set()

    def reconcile(self) -> None:
        """Restart what runs with another Secret than there is, and wait for each before the next."""
        secrets = {name: secret for name in self._secrets if (secret := self._cluster.get(self._secret(name)))}
        for pod, name in self._nudged.items():
            if name in secrets:
                self._nudge(pod, digest({name: secrets[name]}))
        for kind in KINDS:
            for workload in (self._cluster.get(f"{self._apps}/{kind}") or {}).get("items", ()):
                read = secrets_of(workload) & {*self._secrets}
                # While a Secret is missing, or a value in it, new pods could not do without what the old ones have.
                if read and read <= secrets.keys() and has_all(workload, secrets):
                    path = f"{self._apps}/{kind}/{workload['metadata']['name']}"
                    self._bring_up_to_date_if_allowed(path, workload, {name: secrets[name] for name in read})

    def _secret(self, name: str) -> str:
        return f"{self._core}/secrets/{name}"

    def _nudge(self, pod: str, wanted: str) -> None:
        """A pod that mounts the Secret gets it at once, not within two minutes, when an annotation of it changes."""
        path = f"{self._core}/pods/{pod}"
        found = self._cluster.get(path)
        if found and annotations(found).get(NOTE) != wanted:
            self._cluster.patch(path, {"metadata": {"annotations": {NOTE: wanted}}})

    def _bring_up_to_date_if_allowed(self, path: str, workload: Object, read: Mapping[str, Object]) -> None:
        """One that somebody has made by hand is not this one's to restart, and must not keep it from the others."""
        try:
            self._bring_up_to_date(path, workload, read)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            if path not in self._foreign:
                self._foreign.add(path)
                say(f"{path.rpartition('/')[2]}: is none of those that may be restarted here; restart it by hand")

    def _bring_up_to_date(self, path: str, workload: Object, read: Mapping[str, Object]) -> None:
        wanted, noted = digest(read), annotations(workload).get(NOTE)
        if noted == wanted:
            return
        note = {"annotations": {NOTE: wanted}}
        if noted is None:  # seen for the first time: its pods started with what there is
            self._cluster.patch(path, {"metadata": note})
            return
        name = path.rpartition("/")[2]
        say(f"{name}: restarting, since {' or '.join(sorted(read))} has changed")
        self._cluster.patch(path, {"metadata": note, "spec": {"template": {"metadata": note}}})
        deadline = time.monotonic() + ROLLOUT_SECONDS
        while (found := self._cluster.get(path)) and not is_rolled_out(found):
            if time.monotonic() > deadline:
                say(f"{name}: not all of its pods are ready after {ROLLOUT_SECONDS} s; going on with the next")
                return
            time.sleep(1)
        say(f"{name}: restarted")


def annotations(thing: Object) -> Mapping[str, str]:
    """The annotations of an object."""
    return thing["metadata"].get("annotations") or {}


def references(workload: Object) -> Iterator[Object]:
    """What the environment of a workload's containers comes from: keys of Secrets, and, without `key`, whole ones."""
    pod = workload["spec"]["template"]["spec"]
    for container in (*pod["containers"], *(pod.get("initContainers") or ())):
        for variable in container.get("env") or ():
            if reference := (variable.get("valueFrom") or {}).get("secretKeyRef"):
                yield reference
        for source in container.get("envFrom") or ():
            if reference := source.get("secretRef"):
                yield reference


def secrets_of(workload: Object) -> set[str]:
    """Names of the Secrets that the environment of a workload's containers comes from."""
    return {reference["name"] for reference in references(workload)}


def has_all(workload: Object, secrets: Mapping[str, Object]) -> bool:
    """Whether each value is there that a workload's containers ask these Secrets for, and that is not optional."""
    return all(
        (secrets[reference["name"]].get("data") or {}).get(reference["key"])
        for reference in references(workload)
        if "key" in reference and reference["name"] in secrets and not reference.get("optional")
    )


def digest(secrets: Mapping[str, Object]) -> str:
    """Tells one content of Secrets from another; salted with what is nobody's to guess from the outside.

    An empty key is as good as none: External Secrets adds those that nobody has set, which is nothing to restart for.
    """
    content = {
        name: [secret["metadata"]["uid"], {key: value for key, value in (secret.get("data") or {}).items() if value}]
        for name, secret in secrets.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def is_rolled_out(workload: Object) -> bool:
    """Whether all pods of a workload are of its template, and ready."""
    status, wanted = workload.get("status") or {}, workload["spec"].get("replicas", 1)
    return (
        status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("readyReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
    )


def say(message: str) -> None:
    """One line of the log."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


def main(environment: Mapping[str, str]) -> None:
    """Go on until the pod is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    restarter = Restarter(
        Cluster(environment),
        environment["NAMESPACE"],
        tuple(environment["SECRETS"].split(",")),
        dict(pair.split("=", 1) for pair in environment["NUDGED_PODS"].split(",")),
    )
    trouble = ""
    while True:
        try:
            restarter.reconcile()
            trouble = ""
        except (OSError, ValueError, HTTPException) as error:  # the API server is away, or will not have it
            if str(error) != trouble:
                trouble = str(error)
                say(f"the API server does not answer as it should: {trouble}; trying again")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(os.environ)
