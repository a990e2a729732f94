"""The runbook's command line: one line where it fails, exit codes, a clean end on Ctrl-C."""

import gc
import re
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook import __main__ as entry
from runbook import cli
from runbook.cli import main
from runbook.errors import BadInputError, RunbookError, StoppedError, leaving
from runbook.steps import Steps
from runbook.target import ROOT


def run(*arguments: str, **more: Any) -> Any:
    return CliRunner().invoke(main, [*arguments], **more)


def raising(error: BaseException) -> Any:
    def opened(*_: object, **__: object) -> Any:
        raise error

    return opened


BAD_ARGUMENTS = {
    "no stack": (["rotate", "redis"], "Missing option '--stack'"),
    "nothing to rotate": (["rotate", "--stack", "dev"], "Missing argument '{api-keys|database|redis}'"),
    "something else": (["rotate", "mysql", "--stack", "dev"], "'mysql' is not one of"),
    "an unknown command": (["deploy"], "No such command 'deploy'"),
    "an unknown stack": (["secrets", "--stack", "qa"], 'error: looking for the stack "qa": the stacks are'),
    "a bad duration": (
        ["rotate", "redis", "--stack", "dev", "--timeout", "soon"],
        '"soon" is no duration, such as 90s, 2m or 1h',
    ),
    "the sandbox's folder without the sandbox": (
        ["secrets", "--stack", "dev", "--state-dir", "/tmp/x"],  # noqa: S108 — nothing is written there
        "error: reading the options: --state-dir is the sandbox's; give --sandbox, too",
    ),
    "no sandbox": (
        ["secrets", "--stack", "dev", "--sandbox", "--state-dir", "/nonexistent"],
        "error: looking for the sandbox: none runs in /nonexistent; run sandbox up --stack dev",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_input_ends_with_2(case: str) -> None:
    arguments, message = BAD_ARGUMENTS[case]
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_folder_from_the_environment_does_not_turn_a_real_stack_into_the_sandboxs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYAIRTABLE_SANDBOX_STATE_DIR", "/nonexistent")
    asked: dict[str, Any] = {}

    def opened(_: str, **how: Any) -> Any:
        asked.update(how)
        raise BadInputError("enough")

    monkeypatch.setattr(cli, "opened", opened)
    run("secrets", "--stack", "dev")
    assert not asked["sandbox"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RunbookError("one\n  line"), 1, "error: one line\n"),
        (BadInputError("x"), 2, "error: x\n"),
        (StoppedError("x"), 130, "error: x\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, told: str
) -> None:
    monkeypatch.setattr(cli, "opened", raising(error))
    done = run("secrets", "--stack", "dev")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", told)


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "opened", raising(BrokenPipeError()))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # is replaced
    with pytest.raises(SystemExit) as ended:
        main(["secrets", "--stack", "dev"])
    assert ended.value.code == 0
    sys.stdout.close()


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_explains_itself(command: list[str]) -> None:
    shown = run(*command, "--help").stdout
    assert "Usage: main" in shown
    assert "Example" in shown


@pytest.fixture
def signals() -> Any:
    """What signals do is put back, and when garbage is looked for."""
    collections = gc.get_threshold()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield before
    for number, what in before.items():
        signal.signal(number, what)
    gc.set_threshold(*collections)


@pytest.mark.usefixtures("signals")
def test_it_can_be_run_as_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["runbook", "secrets", "--stack", "qa"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "runbook" / "__main__.py"), run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err == 'error: looking for the stack "qa": the stacks are dev, prod, staging\n'


@pytest.mark.usefixtures("signals")
def test_an_interrupt_before_anything_has_begun_is_one_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "main", raising(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as ended:
        entry.run()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.usefixtures("signals")
def test_a_closed_terminal_is_an_interrupt_unless_it_is_to_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda **_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    entry.run()
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.usefixtures("signals")
def test_no_garbage_is_looked_for_while_modules_load(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(cli, "main", lambda **_: seen.append(gc.get_threshold()[0]))
    entry.run()
    assert seen == [entry.OBJECTS_BETWEEN_COLLECTIONS]


def test_what_is_left_is_told_with_the_error_and_its_code() -> None:
    with pytest.raises(BadInputError, match=r"^a; b$"), leaving("b"):
        raise BadInputError("a")
    with pytest.raises(StoppedError, match=r"^interrupted; b$"), leaving("b"):
        raise KeyboardInterrupt
    with leaving("b"):
        pass


def test_on_a_terminal_the_step_under_way_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    steps = Steps()
    with steps.step("a", "first"):
        steps.note("half")
        steps.note("half")
    with pytest.raises(ValueError, match="x"), steps.step("b", "second"):
        raise ValueError("x")
    shown = re.sub(r"\d\.\d\d", "N", capsys.readouterr().err)
    begun, green, red = "\r\033[K…  ", "\r\033[K\033[32mdone  \033[0m", "\r\033[K\033[31mfailed\033[0m"
    assert shown == f"{begun}first{begun}half{green}   N s   first\n{begun}second{red}   N s   second\n"
    assert [step["step"] for step in steps.done] == ["a"]


def test_elsewhere_what_is_new_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    with steps.step("a", "first"):
        for note in ("half", "half", "more"):
            steps.note(note)
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines[:2]] == ["half", "more"]
    assert re.fullmatch(r"done {5}\d\.\d\d s   first", lines[2])


def test_the_docs_name_every_command() -> None:
    page = Path(ROOT / "docs/runbook.md").read_text()
    for command in main.commands:
        assert f"runbook {command}" in page
