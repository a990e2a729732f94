"""The config of a stack as the runbook changes it: one value, and every other line as it was."""

import stat
from pathlib import Path

import pytest

from runbook import stack_config
from runbook.errors import RunbookError
from runbook.stack_config import StackConfig
from sandbox import checkout
from sandbox.state import State

WEIGHT = "blueGreen.greenWeight"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stack_config, "ROOT", tmp_path)
    return tmp_path / "Pulumi.prod.yaml"


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_in_the_checkouts_own_files_every_other_line_stays(stack: str, file: Path) -> None:
    before = (checkout.ROOT / f"Pulumi.{stack}.yaml").read_text()
    file.write_text(before)
    StackConfig("prod").set({"monthlyBudgetUsd": 7})
    lines = zip(before.splitlines(), file.read_text().splitlines(), strict=True)
    assert [now.strip() for was, now in lines if was != now] == ["pyairtable:monthlyBudgetUsd: 7"]


@pytest.mark.parametrize("indent", ["", "  "])
def test_lists_keep_their_indent_and_comments_their_place(file: Path, indent: str) -> None:
    rest = f"  # above\n  pyairtable:list:\n  {indent}- a # beside\n  {indent}- 'b'\n  pyairtable:x: [1, 2]\n"
    file.write_text(f"config:\n  pyairtable:blueGreen:\n    greenWeight: 0 # note\n{rest}")
    StackConfig("prod").set({WEIGHT: 50})
    assert file.read_text() == f"config:\n  pyairtable:blueGreen:\n    greenWeight: 50 # note\n{rest}"


def test_what_is_not_there_is_made(file: Path) -> None:
    file.write_text("config:\n  pyairtable:phase: 4\n  pyairtable:blueGreen:\n")
    StackConfig("prod").set({WEIGHT: 50, "edge.port": 80})
    assert StackConfig("prod").get(WEIGHT, 0) == 50
    assert StackConfig("prod").get("edge.port", 0) == 80
    assert StackConfig("prod").get("phase", 0) == 4


def test_a_setting_that_is_not_there_has_its_default(file: Path) -> None:
    file.write_text("config:\n  pyairtable:phase: 4\n")
    assert StackConfig("prod").get(WEIGHT, 0) == 0
    assert StackConfig("prod").get("phase.sub", "x") == "x"
    file.write_text("config:\n")
    assert StackConfig("prod").get("phase", 3) == 3


def test_a_file_that_cannot_be_written_as_it_is_is_written_all_the_same(file: Path) -> None:
    file.write_text("config:\n    pyairtable:phase:   4\n")
    StackConfig("prod").set({WEIGHT: 50})
    assert StackConfig("prod").get(WEIGHT, 0) == 50


def test_permissions_and_links_stay(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text("config: {}\n")
    real.chmod(0o640)
    file.symlink_to(real)
    StackConfig("prod").set({WEIGHT: 50})
    assert file.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "greenWeight: 50" in real.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "reading Pulumi.prod.yaml: it is no stack file"),
        ("config: 3\n", "reading Pulumi.prod.yaml: it is no stack file"),
        ("config: [\n", "reading Pulumi.prod.yaml: while parsing"),
        ("config: {a: 1, a: 2}\n", "reading Pulumi.prod.yaml: while constructing a mapping"),
    ],
)
def test_a_file_that_is_none_is_named(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(RunbookError, match=told):
        StackConfig("prod").set({WEIGHT: 50})
    assert file.read_text() == text


@pytest.mark.usefixtures("file")
def test_a_file_that_is_gone_is_named() -> None:
    with pytest.raises(RunbookError, match=r"reading Pulumi\.prod\.yaml: .*No such file"):
        StackConfig("prod").get(WEIGHT, 0)


def test_a_file_that_cannot_be_replaced_stays_as_it_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file.write_text("config: {}\n")
    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(RunbookError, match=r"writing Pulumi\.prod\.yaml: No space left on device"):
        StackConfig("prod").set({WEIGHT: 50})
    assert file.read_text() == "config: {}\n"
    assert list(tmp_path.iterdir()) == [file]


# In the sandbox


@pytest.fixture
def sandboxs(tmp_path: Path) -> StackConfig:
    State(tmp_path / "state").prepare()
    return StackConfig("prod", tmp_path / "state")


def test_in_the_sandbox_the_overrides_are_changed_and_lie_over_the_file(sandboxs: StackConfig, tmp_path: Path) -> None:
    before = checkout.stack_file("prod").read_text()
    sandboxs.set({WEIGHT: 50, "phase": 3})
    assert checkout.overrides(State(tmp_path / "state"), "prod") == {
        "pyairtable:blueGreen": {"greenWeight": 50},
        "pyairtable:phase": 3,
    }
    assert sandboxs.get(WEIGHT, 0) == 50
    assert sandboxs.get("region", "") == "us-east-1"
    assert checkout.stack_file("prod").read_text() == before
    assert sandboxs.name == "the sandbox's overrides of prod"


def test_other_overrides_stay(sandboxs: StackConfig) -> None:
    sandboxs.set({"blueGreen.stopped": "none"})
    sandboxs.set({WEIGHT: 50})
    assert sandboxs.get("blueGreen.stopped", "") == "none"


def test_overrides_that_are_damaged_are_named(sandboxs: StackConfig, tmp_path: Path) -> None:
    (State(tmp_path / "state").overrides / "prod.yaml").write_text("[")
    with pytest.raises(RunbookError, match=r"reading prod\.yaml"):
        sandboxs.get(WEIGHT, 0)
    with pytest.raises(RunbookError, match=r"writing the sandbox's overrides of prod: reading prod\.yaml"):
        sandboxs.set({WEIGHT: 50})
