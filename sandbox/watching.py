"""Objects of a control plane as they are now, from watches: what changes is here within milliseconds, at no cost."""

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from sandbox.control_plane import ADMIN, KUBE_APISERVER, ControlPlane
from sandbox.kubernetes_api import Manifest

WATCH_SECONDS = 60
"""How long one request watches."""
AGAIN_SECONDS = 0.3
"""Before the next request, where the kind is not served, or nobody answers."""
ALL_SENT = "k8s.io/initial-events-end"


class Watch:
    """Objects of one kind, by name. What is read from it is never changed: it is replaced."""

    def __init__(
        self, plane: ControlPlane, path: str, changed: Callable[[], None], *, label: str = "", names_only: bool = False
    ) -> None:
        self.objects: Mapping[str, Manifest] | None = None
        """None until they are known, and while the API server serves no such kind."""
        self.synced = False
        """Whether it has been told, at least once, what there is, or that there is no such kind."""
        self._plane = plane
        self._changed = changed
        query = {
            "watch": "1",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **({"labelSelector": label} if label else {}),
        }
        self._path = f"{path}?{urlencode(query)}"
        form = ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io" if names_only else ""
        self._headers = {"Accept": f"application/json{form}"}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch {path}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no other request; the thread does not outlive the process."""
        self._ended.set()

    def follow(self, lines: Iterator[bytes]) -> None:
        """Take in what the API server sends in answer to one request."""
        found: dict[str, Manifest] = {}
        complete = False
        for line in lines:
            event = json.loads(line)
            kind, thing = event["type"], event["object"]
            if kind == "ERROR":
                return
            metadata = thing["metadata"]
            if kind == "BOOKMARK":
                complete = complete or ALL_SENT in metadata.get("annotations", {})
            elif kind == "DELETED":
                found.pop(metadata["name"], None)
            else:
                found[metadata["name"]] = thing
            if complete:
                self._tell(dict(found))

    def _tell(self, objects: Mapping[str, Manifest] | None) -> None:
        if not self.synced or objects != self.objects:
            self.objects, self.synced = objects, True
            self._changed()

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=self._plane.keys / "ca.crt")
        context.load_cert_chain(self._plane.keys / f"{ADMIN}.crt", self._plane.keys / f"{ADMIN}.key")
        while not self._ended.is_set():
            watched = False
            # What was known stays known while nobody answers.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                watched = self._watch(context)
            if not watched:
                self._ended.wait(AGAIN_SECONDS)

    def _watch(self, context: ssl.SSLContext) -> bool:
        port = self._plane.ports[KUBE_APISERVER]
        connection: Any = http.client.HTTPSConnection("127.0.0.1", port, timeout=2 * WATCH_SECONDS, context=context)
        try:
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            if answer.status == HTTPStatus.NOT_FOUND:
                self._tell(None)
            elif answer.status == HTTPStatus.OK:
                self.follow(iter(answer.readline, b""))
            return answer.status == HTTPStatus.OK
        finally:
            connection.close()
