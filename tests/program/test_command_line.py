"""The sandbox's command line: bad input ends before anything is touched, and says what to do."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.cli import main
from sandbox.state import cache_folder
from sandbox.tools import TOOLS, find
from tests.program.harness import Sandbox
from tests.secrecy import places

BAD_STACK_FILES = {
    "a tab for indentation": (
        "config:\n\tpyairtable:phase: 1\n",
        "error: reading Pulumi.dev.yaml line 2, column 1: found character '\\t' that cannot start any token;",
    ),
    "phase as a word": (
        "config:\n  pyairtable:phase: two\n",
        'pyairtable:phase: must be a whole number from 0 to 4, not "two"; for example pyairtable:phase: 1',
    ),
    "an empty file": ("", "error: reading Pulumi.dev.yaml: it is not a mapping of keys to values"),
    "no config": (
        "encryptionsalt: v1:x\n",
        "error: reading Pulumi.dev.yaml: it has no `config:` with the stack's settings below it",
    ),
    "a key without namespace": (
        "config:\n  phase: 1\n",
        "error: reading Pulumi.dev.yaml: the key phase has no namespace; write pyairtable:phase",
    ),
    "a key twice": (
        "config:\n  pyairtable:phase: 1\n  pyairtable:phase: 2\n",
        "error: reading Pulumi.dev.yaml line 3, column 3: pyairtable:phase stands here twice",
    ),
    "a secret of another backend": (
        "config:\n  pyairtable:costCenter:\n    secure: v1:abc\n",
        "give the sandbox a value of its own: sandbox config set pyairtable:costCenter VALUE",
    ),
    "a secret in plain text": (
        "config:\n  pyairtable:airtableToken: hush-hush\n",
        "must not be in plain text in Pulumi.dev.yaml; encrypt it there with pulumi config set --secret airtableToken",
    ),
    "the wrong place for the region": (
        "config:\n  aws:region: eu-west-1\n",
        "aws:region: has no effect, the program makes its own providers; remove it; set pyairtable:region",
    ),
}


@pytest.mark.parametrize("case", BAD_STACK_FILES)
def test_a_bad_stack_file_is_refused_before_anything_starts(copied_checkout: Path, tmp_path: Path, case: str) -> None:
    content, message = BAD_STACK_FILES[case]
    (copied_checkout / "Pulumi.dev.yaml").write_text(content)
    with Sandbox(copied_checkout, tmp_path / "state").stopping() as sandbox:
        done = sandbox.run("up", "--stack", "dev", expect=2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert "hush-hush" not in done.stderr
        assert sandbox.untouched()


BAD_ARGUMENTS = {
    "phase 7": (["up", "--stack", "dev", "--phase", "7"], 'must be a whole number from 0 to 4, not "7"'),
    "phase two": (["up", "--stack", "dev", "--phase", "two"], "'two' is not a valid integer"),
    "a weight of 101 per cent": (
        ["config", "set", "blueGreen.greenWeight", "101", "--stack", "dev"],
        "pyairtable:blueGreen.greenWeight: must be at most 100",
    ),
    "no stack": (["up"], "Missing option '--stack'"),
    "an unknown stack": (["preview", "--stack", "qa"], "there is no Pulumi.qa.yaml; the stacks are dev, prod, staging"),
    "an unknown command": (["deploy"], "No such command 'deploy'"),
    "an unknown setting": (["config", "set", "phaze", "1", "--stack", "dev"], "did you mean pyairtable:phase?"),
    "a bad value": (["config", "set", "cost.enforce", "maybe", "--stack", "dev"], "must be true or false"),
    "a value that is no YAML": (["config", "set", "costCenter", "'x", "--stack", "dev"], "is no YAML value"),
    "a value that JSON does not have": (
        ["config", "set", "costCenter", "2020-01-01", "--stack", "dev"],
        "is no YAML value",
    ),
    "a number that is none": (["config", "set", "monthlyBudgetUsd", ".nan", "--stack", "dev"], "is no YAML value"),
    "the environment of an unknown stack": (
        ["env", "--stack", "qa"],
        "there is no Pulumi.qa.yaml; the stacks are dev, prod, staging",
    ),
    "a stack name that is a path": (["up", "--stack", "../x"], "a stack's name is up to 30 lower-case letters"),
    "an empty key": (["config", "set", "cost.", "1", "--stack", "dev"], "a part of the key is empty"),
    "a secret for everybody to read": (
        ["config", "set", "airtableToken", "hush-hush", "--stack", "dev"],
        "it is secret, and would be kept in plain text; say sandbox config set --secret airtableToken\n",
    ),
    "an empty secret": (["config", "set", "--secret", "airtableToken", "", "--stack", "dev"], "the value is empty"),
    "a secret that is none": (
        ["config", "set", "--secret", "costCenter", "x", "--stack", "dev"],
        "it is no secret; leave out --secret, the secret settings are imagePullToken, airtableToken, geminiApiKey\n",
    ),
    "a setting without a value": (["config", "set", "costCenter", "--stack", "dev"], "there is no value; say sandbox"),
    "resetting what is not set": (["config", "reset", "costCenter", "--stack", "dev"], "no value of its own for it"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_and_change_nothing(fresh_sandbox: Sandbox, case: str) -> None:
    arguments, message = BAD_ARGUMENTS[case]
    done = fresh_sandbox.run(*arguments, expect=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert fresh_sandbox.untouched()


def test_outputs_of_a_stack_that_was_never_deployed_say_how_to_deploy_it(fresh_sandbox: Sandbox) -> None:
    done = fresh_sandbox.run("outputs", "--stack", "dev", expect=1)
    assert "nothing of it is deployed here; run sandbox up --stack dev" in done.stderr


def test_the_environment_of_a_sandbox_that_does_not_run_says_how_to_start_it(fresh_sandbox: Sandbox) -> None:
    done = fresh_sandbox.run("env", expect=1)
    assert done.stdout == ""
    assert "start it: sandbox up --stack dev" in done.stderr


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path, fresh_sandbox: Sandbox) -> None:
    file = tmp_path / "file"
    file.touch()
    done = Sandbox(fresh_sandbox.checkout, file / "state").run("status", expect=2)
    assert f"preparing the state directory {file / 'state'}" in done.stderr
    assert "choose another with --state-dir" in done.stderr


@pytest.mark.parametrize("command", [[], ["up"], ["preview"], ["outputs"], ["config", "set"], ["env"], ["stop"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"]).output
    assert "Usage: main" in shown
    assert "Example" in shown


def test_an_override_lies_over_the_stack_file_until_it_is_reset(fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.run("config", "set", "cost.enforce", "false", "--stack", "dev")
    shown = json.loads(fresh_sandbox.run("config", "show", "--stack", "dev", "--json").stdout)
    assert shown["config"]["pyairtable:cost"] == {"enforce": False}
    assert shown["overrides"] == {"pyairtable:cost": {"enforce": False}}
    fresh_sandbox.run("config", "reset", "cost", "--stack", "dev")
    shown = json.loads(fresh_sandbox.run("config", "show", "--stack", "dev", "--json").stdout)
    assert "pyairtable:cost" not in shown["config"]


def test_a_secret_of_the_sandboxs_own_is_kept_where_only_its_user_can_read_it(fresh_sandbox: Sandbox) -> None:
    outputs = [_typed(fresh_sandbox, "hush-hush-1\n", "config", "set", "--secret", "airtableToken", "--stack", "dev")]
    set_again = ("config", "set", "pyairtable:geminiApiKey", "hush-hush-2", "--secret", "--stack", "dev")
    outputs.append(fresh_sandbox.run(*set_again).stdout)
    shown = json.loads(fresh_sandbox.run("config", "show", "--stack", "dev", "--json").stdout)
    hidden = {"pyairtable:airtableToken": "[secret]", "pyairtable:geminiApiKey": "[secret]"}
    assert shown["overrides"] == hidden
    assert shown["config"].items() >= hidden.items()
    text = fresh_sandbox.run("config", "show", "--stack", "dev").stdout
    assert "pyairtable:airtableToken: '[secret]'" in text
    assert "with the sandbox's own pyairtable:airtableToken, pyairtable:geminiApiKey" in text
    outputs.append(text)

    private = fresh_sandbox.state / "secrets"
    assert sorted(json.loads((private / "dev.json").read_text())["chosen"].values()) == ["hush-hush-1", "hush-hush-2"]
    values = {"one": "hush-hush-1", "two": "hush-hush-2"}
    assert places(values, texts={"output": "".join(outputs)}) == []
    assert {path.parent for path in fresh_sandbox.state.rglob("*") if path.is_file()} == {private}
    fresh_sandbox.run("config", "reset", "airtableToken", "--stack", "dev")
    assert [place.secret for place in places(values, [private])] == ["two"]
    assert "1 settings reset" in fresh_sandbox.run("config", "reset", "--stack", "dev").stdout
    assert places(values, [private]) == []


def _typed(sandbox: Sandbox, text: str, *arguments: str) -> str:
    """What a command prints that is given its standard input."""
    done = subprocess.run(
        sandbox.command(*arguments), cwd=sandbox.checkout, input=text, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_values_are_made_up_for_what_is_encrypted_for_another_backend(copied_checkout: Path, tmp_path: Path) -> None:
    file = copied_checkout / "Pulumi.dev.yaml"
    content = file.read_text() + "  pyairtable:imagePullToken:\n    secure: v1:abc\nencryptionsalt: v1:def\n"
    file.write_text(content)
    with Sandbox(copied_checkout, tmp_path / "state").stopping() as sandbox:
        private = sandbox.state / "secrets"
        assert "pyairtable:imagePullToken: '[secret]'" in sandbox.run("config", "show", "--stack", "dev").stdout
        assert not private.exists(), "looking makes nothing up"
        runs = [sandbox.run("preview", "--stack", "dev", "--json")]
        value = json.loads((private / "dev.json").read_text())["made_up"]["pyairtable:imagePullToken"]
        runs.append(sandbox.run("up", "--stack", "dev"))
        assert json.loads((private / "dev.json").read_text())["made_up"] == {"pyairtable:imagePullToken": value}
        for run in runs:
            (line,) = (line for line in run.stderr.splitlines() if "encrypted" in line)
            assert line == (
                "made up values for pyairtable:imagePullToken, encrypted for another backend; sandbox config set "
                "--secret gives others"
            )
        prelude = json.loads(runs[0].stdout.splitlines()[0])
        assert prelude["preludeEvent"]["config"]["pyairtable:imagePullToken"] == "[secret]"
        sandbox.run("config", "set", "--secret", "imagePullToken", "hush-hush", "--stack", "dev")
        runs.append(sandbox.run("preview", "--stack", "dev"))
        assert "made up" not in runs[-1].stderr
        sandbox.run("stop")  # the emulator writes what it holds
        printed = "".join(run.stdout + run.stderr for run in runs)
        assert places({"1": value, "2": "hush-hush"}, [sandbox.state], {"output": printed}, leave_out=[private]) == []
        assert file.read_text() == content


def test_an_estimate_over_the_budget_stops_the_up_in_its_preview(fresh_sandbox: Sandbox) -> None:
    # The cheapest phase costs less than a dollar, so only the customer-managed key can exceed a budget of one.
    fresh_sandbox.run("config", "set", "monthlyBudgetUsd", "1", "--stack", "prod")
    done = fresh_sandbox.run("up", "--stack", "prod", "--phase", "1", expect=1)
    assert "\x1b[" not in done.stdout + done.stderr, "output to a file has no colours"
    assert "exceeds the budget of 1 USD; largest: cost-foundation-alerts-key kms_key 1.00" in done.stderr
    assert not any(fresh_sandbox.inventory().values())
    fresh_sandbox.run("config", "set", "cost.enforce", "false", "--stack", "prod")
    done = fresh_sandbox.run("preview", "--stack", "prod", "--phase", "1")
    assert "exceeds the budget of 1 USD" in done.stdout


@pytest.mark.parametrize("file", ["services.json", "recorded.json", "last-stack.json"])
@pytest.mark.parametrize("content", ["", "{", "3", "[]", '{"x": 3}'])
def test_a_damaged_file_of_the_sandbox_is_named(fresh_sandbox: Sandbox, file: str, content: str) -> None:
    fresh_sandbox.state.mkdir(parents=True)
    (fresh_sandbox.state / file).write_text(content)
    for command in ("status", "env"):
        done = subprocess.run(
            fresh_sandbox.command(command), cwd=fresh_sandbox.checkout, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1)
    (fresh_sandbox.state / file).unlink()


def test_a_destroy_builds_nothing_for_what_is_not_deployed(
    fresh_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_sandbox.run("up", "--stack", "dev", "--phase", "1")  # the stack file says 3
    engine = find(TOOLS["pulumi"]).parent
    tools = tmp_path / "cache" / cache_folder().name / "tools"
    tools.mkdir(parents=True)
    (tools / engine.name).symlink_to(engine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fresh_sandbox.run("destroy", "--stack", "dev")
    assert [path.name for path in tools.iterdir()] == [engine.name]


def test_the_users_own_aws_settings_and_proxies_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied_checkout: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    odd = tmp_path / "a state #1 100%25 ü?"
    with Sandbox(copied_checkout, odd).stopping() as sandbox:
        sandbox.run("up", "--stack", "dev", "--phase", "1")
        assert sandbox.outputs()["phase"] == 1


def test_a_state_directory_in_the_checkout_is_refused(fresh_sandbox: Sandbox) -> None:
    inside = fresh_sandbox.checkout / "state"
    done = Sandbox(fresh_sandbox.checkout, inside).run("status", expect=2)
    assert "it lies in the checkout; choose another" in done.stderr
    assert not inside.exists()
