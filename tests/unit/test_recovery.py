"""What a crash leaves in a stack's state is put in order."""

from typing import Any

import pytest

from sandbox.engine import _settled, revealed  # pyright: ignore[reportPrivateUsage]


def resource(name: str, id: str = "", **more: Any) -> dict[str, Any]:
    """A resource of a state; without an id, one that is being created."""
    made = {"id": id, "outputs": {"of": id}} if id else {}
    return {"urn": f"urn::{name}", "inputs": {"name": name}, **made, **more}


def creating(name: str) -> dict[str, Any]:
    """A create that never ended."""
    return {"type": "creating", "resource": resource(name)}


def made(name: str, id: str) -> dict[str, Any]:
    """A resource whose create had ended after all."""
    return {**resource(name), "id": id, "outputs": {"name": name}}


@pytest.mark.parametrize(
    ("resources", "pending", "created", "settled"),
    [
        ([resource("a", "1")], [creating("b")], {}, [resource("a", "1")]),
        ([resource("a", "1")], [creating("b")], {"urn::b": "2"}, [resource("a", "1"), made("b", "2")]),
        (
            [resource("a", "1"), resource("b", "2")],
            [creating("a")],
            {"urn::a": "3"},
            [made("a", "3"), resource("b", "2"), resource("a", "1", delete=True)],
        ),
        ([resource("a", "1")], [creating("a")], {"urn::a": "1"}, [resource("a", "1")]),
        (
            [resource("a", "1", delete=True)],
            [creating("a")],
            {"urn::a": "2"},
            [resource("a", "1", delete=True), made("a", "2")],
        ),
        ([resource("a", "1")], [{"type": "updating", "resource": resource("a", "1")}], {}, [resource("a", "1")]),
    ],
    ids=["not made", "made", "made to replace", "is the old one", "deleted besides", "no create"],
)
def test_pending_operations_go_and_what_they_created_stays(
    resources: list[Any], pending: list[Any], created: dict[str, str], settled: list[Any]
) -> None:
    deployment = {"manifest": {}, "resources": resources, "pending_operations": pending}
    assert _settled(deployment, created) == {"manifest": {}, "resources": settled}


def test_an_export_in_plain_text_reads_as_what_it_stands_for() -> None:
    mark = "4dabf18193072939515e22adb298388d"
    shown = {mark: "1b47061264138c4ac30d75fd1eb44270", "plaintext": '{"a": ["b"]}'}
    assert revealed({"x": [shown, 1], "y": {"z": shown}}) == {"x": [{"a": ["b"]}, 1], "y": {"z": {"a": ["b"]}}}
