"""The sandbox's own config lies over the stack files."""

from pathlib import Path

import pytest

from sandbox import checkout
from sandbox.errors import BadInputError
from sandbox.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "state")
    made.prepare()
    return made


def test_sections_are_merged_and_everything_else_is_replaced() -> None:
    below = {"a": {"x": 1, "y": [1]}, "b": 1}
    assert checkout.overlay(below, {"a": {"y": [2]}, "c": 3}) == {"a": {"x": 1, "y": [2]}, "b": 1, "c": 3}
    assert below == {"a": {"x": 1, "y": [1]}, "b": 1}


@pytest.mark.parametrize(
    ("key", "overlay"),
    [
        ("phase", {"pyairtable:phase": 1}),
        ("pyairtable:phase", {"pyairtable:phase": 1}),
        ("cost.enforce", {"pyairtable:cost": {"enforce": 1}}),
        ("other:a.b.c", {"other:a": {"b": {"c": 1}}}),
    ],
)
def test_a_dotted_key_is_an_overlay(key: str, overlay: checkout.Config) -> None:
    assert checkout.nested(key, 1) == overlay


@pytest.mark.parametrize("key", ["", "a..b", "cost.", ".cost", "pyairtable:"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with pytest.raises(BadInputError, match="a part of the key is empty"):
        checkout.nested(key, 1)


def test_taking_a_setting_out_takes_out_the_section_it_leaves_empty() -> None:
    config = {"pyairtable:cost": {"enforce": False}, "pyairtable:phase": 1}
    assert checkout.without(config, "cost.enforce") == {"pyairtable:phase": 1}
    assert checkout.without(config, "cost") == {"pyairtable:phase": 1}


def test_taking_a_setting_out_keeps_its_neighbours() -> None:
    config = {"pyairtable:cost": {"enforce": False, "stacksPerAccount": 2}}
    assert checkout.without(config, "cost.enforce") == {"pyairtable:cost": {"stacksPerAccount": 2}}


@pytest.mark.parametrize("key", ["phase", "cost.stacksPerAccount", "cost.enforce.x"])
def test_taking_out_what_is_not_there_is_refused(key: str) -> None:
    with pytest.raises(BadInputError, match=r"the sandbox has no value of its own for it; it has pyairtable:cost"):
        checkout.without({"pyairtable:cost": {"enforce": False}}, key)


def test_overrides_are_kept_per_stack_and_can_be_taken_back(state: State) -> None:
    checkout.write_overrides(state, "dev", {"pyairtable:phase": 0})
    assert checkout.overrides(state, "dev") == {"pyairtable:phase": 0}
    assert checkout.overrides(state, "prod") == {}
    checkout.write_overrides(state, "dev", {})
    assert checkout.overrides(state, "dev") == {}


def test_the_phase_of_the_run_lies_over_everything(state: State) -> None:
    checkout.write_overrides(state, "dev", {"pyairtable:phase": 1})
    assert checkout.effective(state, "dev", 0)[1].phase == 0
    assert checkout.effective(state, "dev", None)[1].phase == 1


@pytest.mark.parametrize("stack", ["../dev", "a b", "", "x/y", "dev.yaml"])
def test_a_stack_name_that_is_no_name_is_refused(stack: str) -> None:
    with pytest.raises(BadInputError):
        checkout.stack_config(stack)


@pytest.mark.parametrize(
    "content",
    [
        "\x00",
        "config: [",
        "config: 3",
        "config:\n  1: 2\n",
        "- a",
        "config: {a: b}",
        "config:\n  {x: y}: z\n",
        "&a [*a]",
    ],
)
def test_what_is_no_stack_file_is_bad_input(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(content)
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    with pytest.raises(BadInputError, match=r"^reading Pulumi\.dev\.yaml"):
        checkout.stack_config("dev")


@pytest.mark.parametrize("text", ["012345678905", "1e3", "0o17", "089", "12:30", "v1", "plain", "yes", ""])
def test_text_is_written_so_that_every_reader_of_yaml_sees_text(text: str) -> None:
    dumped = checkout.dump_yaml({"key": text})
    assert checkout.parse_yaml(dumped) == {"key": text}
    assert not any(character.isdigit() for character in text) or f'"{text}"' in dumped
