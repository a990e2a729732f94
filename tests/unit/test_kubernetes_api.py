"""What the API server says is told in its own words, on one line."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError

from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError


class Server:
    """Stands for the library's client: answers every request in one way."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def resources(self) -> "Server":
        return self

    def get(self, *, kind: str, **_: str) -> "Server":
        self.namespaced = kind != "Node"
        return self

    def path(self, name: str | None, namespace: str | None) -> str:
        return "".join(f"/{part}" for part in (namespace, name) if part)

    def request(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append((method, path, dict(options["query_params"])))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Answer:
    """A response."""

    def __init__(self, body: object, *warnings: str) -> None:
        self.data = json.dumps(body)
        self.headers = self
        self._warnings = list(warnings)

    def getlist(self, _: str) -> list[str]:
        return self._warnings


def api(answer: Any) -> tuple[KubernetesApi, Server]:
    """An API whose server answers every request in one way."""
    made, server = KubernetesApi(Path("kubeconfig")), Server(answer)
    cast("Any", made)._dynamic = server
    return made, server


def refusal(status: int, body: object) -> ApiException:
    """What the library raises."""
    error = ApiException(status=status, reason="Refused")
    error.body = body if isinstance(body, str) else json.dumps(body)
    return error


THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n"}}


def test_an_apply_is_strict_and_takes_nothing_by_force() -> None:
    made, server = api(Answer(THING))
    made.apply(THING, field_manager="me", dry_run=True)
    query = {"fieldManager": "me", "fieldValidation": "Strict", "force": "false", "dryRun": "All"}
    assert server.asked == [("PATCH", "/n/x", query)]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ('299 - "unknown field \\"spec.a\\""', 'unknown field "spec.a"'),
        (
            '299 - "would violate PodSecurity \\"restricted:latest\\": x"',
            'would violate PodSecurity "restricted:latest": x',
        ),
        ("299 - not quoted", "299 - not quoted"),
    ],
)
def test_warnings_are_collected(header: str, text: str) -> None:
    made, _ = api(Answer(THING, header))
    warnings: list[str] = []
    made.apply(THING, warnings=warnings)
    assert warnings == [text]


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (
            refusal(409, {"message": "Apply failed with 1 conflict:\n- .data.a", "reason": "Conflict"}),
            "Apply failed with 1 conflict: - .data.a",
            409,
        ),
        (refusal(503, "no backend"), "no backend", 503),
        (refusal(500, ""), "500 Refused", 500),
        (MaxRetryError(cast("Any", None), "/", None), "PATCH /n/x: the cluster's API server does not answer", 0),
    ],
)
def test_an_error_is_one_line(error: Exception, message: str, status: int) -> None:
    made, _ = api(error)
    with pytest.raises(KubernetesApiError) as raised:
        made.apply(THING)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert raised.value.status == status


def test_what_is_absent_is_none_and_deleting_it_is_no_error() -> None:
    made, _ = api(refusal(404, {"message": "not found", "reason": "NotFound"}))
    assert made.get("v1", "ConfigMap", "x", "n") is None
    assert made.delete("v1", "ConfigMap", "x", "n") is False


@pytest.mark.parametrize(("status", "evicted"), [(429, False), (404, True)])
def test_an_eviction_may_have_to_wait(status: int, evicted: bool) -> None:
    made, _ = api(refusal(status, {"message": "Cannot evict pod as it would violate the pod's disruption budget."}))
    assert made.evict("n", "x") == evicted


def test_objects_of_a_list_say_what_they_are() -> None:
    made, _ = api(Answer({"items": [{"metadata": {"name": "x"}}]}))
    assert made.list("v1", "Node") == [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}}]


def test_a_namespaced_object_without_a_namespace_is_in_the_default_one() -> None:
    made, server = api(Answer({"items": []}))
    made.get("v1", "ConfigMap", "x")
    made.get("v1", "Node", "x", "ignored")
    made.list("v1", "ConfigMap")
    assert [path for _, path, _ in server.asked] == ["/default/x", "/x", ""]
