"""What happens when things die in the middle."""

import signal
import subprocess

import psutil
import pytest

from sandbox.services import recorded
from sandbox.state import State
from tests.program.harness import TIMEOUT_SECONDS, Sandbox, children, is_alive, wait_for

COMPLETE = {
    "budgets": ["pyairtable-dev-monthly-budget"],
    "topics": ["arn:aws:sns:us-east-1:123456789012:pyairtable-dev-cost-alerts"],
    "subscriptions": ["platform@pyairtable.example"],
    "dashboards": ["pyairtable-dev-cost-optimization"],
    "alarms": ["pyairtable-dev-account-wide-estimated-charges", "pyairtable-dev-spend-report-failed"],
    "log groups": ["/aws/lambda/pyairtable-dev-spend-report"],
    "rules": ["pyairtable-dev-spend-report"],
    "functions": ["pyairtable-dev-spend-report"],
    "roles": ["pyairtable-dev-spend-report"],
    "aliases": [],
    "repositories": [],
    "recorded": ["pyairtable-dev-cost-anomalies", "pyairtable-dev-cost-anomaly-alerts"],
}
"""All of phase 1, once each."""

UP = ("up", "--stack", "dev", "--phase", "1")


def up_in_the_middle(sandbox: Sandbox) -> tuple[subprocess.Popen[str], psutil.Process]:
    """An up that has begun to create, and its engine."""
    process = sandbox.start(*UP)
    assert process.stdout is not None
    for line in process.stdout:
        if "aws:" in line and "creating" in line:
            break
    (engine,) = children(process, "pulumi")
    return process, engine


def assert_converges(sandbox: Sandbox) -> None:
    """The next up ends the work of the one before: everything is there, once."""
    sandbox.run(*UP)
    assert sandbox.inventory() == COMPLETE


@pytest.mark.parametrize("victim", ["command", "engine", "both"])
def test_an_up_that_is_killed_in_the_middle_is_ended_by_the_next(fresh_sandbox: Sandbox, victim: str) -> None:
    process, engine = up_in_the_middle(fresh_sandbox)
    if victim in ("engine", "both"):
        engine.kill()
    if victim in ("command", "both"):
        process.kill()
    process.communicate(timeout=TIMEOUT_SECONDS)
    wait_for(lambda: not is_alive(engine), "the engine to end")
    assert_converges(fresh_sandbox)
    if victim == "both":
        assert fresh_sandbox.plan("--stack", "dev", "--phase", "1") == set()


def test_ctrl_c_ends_an_up_cleanly(fresh_sandbox: Sandbox) -> None:
    process, engine = up_in_the_middle(fresh_sandbox)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert not engine.is_running()
    assert not list((fresh_sandbox.state / "backend/.pulumi/locks").rglob("*.json")), "the engine let go of its lock"
    assert_converges(fresh_sandbox)


def test_ctrl_c_leaves_nothing_running_but_the_emulator(sandbox: Sandbox) -> None:
    process = preview_in_the_middle(sandbox)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    wait_for(lambda: only_the_emulator_runs(sandbox), "the end of the engine, which a dead command takes along")


def only_the_emulator_runs(sandbox: Sandbox) -> bool:
    running = sandbox.processes()
    service = recorded(State(sandbox.state))["ministack"]
    return running == [service.process]


def preview_in_the_middle(sandbox: Sandbox) -> subprocess.Popen[str]:
    """A preview whose engine has started."""
    process = sandbox.start("preview", "--stack", "dev", "--phase", "1")
    wait_for(lambda: bool(children(process, "pulumi")), "the engine to start")
    return process


def test_ctrl_c_while_the_emulator_starts_leaves_no_emulator(fresh_sandbox: Sandbox) -> None:
    process = fresh_sandbox.start(*UP)
    wait_for(lambda: bool(children(process, "ministack")), "the emulator to start")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert fresh_sandbox.processes() == []


def test_two_ups_at_once_wait_for_each_other(fresh_sandbox: Sandbox) -> None:
    process, _ = up_in_the_middle(fresh_sandbox)
    fresh_sandbox.run(*UP)
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert fresh_sandbox.inventory() == COMPLETE


def test_a_preview_of_something_else_does_not_get_into_a_running_up(fresh_sandbox: Sandbox) -> None:
    process, _ = up_in_the_middle(fresh_sandbox)
    fresh_sandbox.run("preview", "--stack", "dev", "--phase", "0")
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert fresh_sandbox.inventory() == COMPLETE


def test_a_stack_that_is_worked_on_keeps_its_emulator(sandbox: Sandbox) -> None:
    sandbox.run(*UP)
    with State(sandbox.state).stack_locked("dev"):  # as every command that works on it does
        done = sandbox.run("stop", expect=1)
    assert "stopping: a command works on dev; let it end, or interrupt it" in done.stderr
    assert sandbox.inventory() == COMPLETE


def test_an_emulator_that_another_command_started_again_is_noticed(fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.run(*UP)
    for process in fresh_sandbox.processes():
        process.kill()
        process.wait()
    fresh_sandbox.run("preview", "--stack", "staging", "--phase", "0")  # starts it, empty
    assert not any(fresh_sandbox.inventory()["topics"])
    assert_converges(fresh_sandbox)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ways_to_end_a_command_are_as_clean(sandbox: Sandbox, number: signal.Signals) -> None:
    process = preview_in_the_middle(sandbox)
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in output


def test_destroy_takes_everything_even_what_is_gone_already(sandbox: Sandbox) -> None:
    sandbox.run(*UP)
    sandbox.aws("lambda").delete_function(FunctionName="pyairtable-dev-spend-report")
    sandbox.run("destroy", "--stack", "dev")
    assert {kind: names for kind, names in sandbox.inventory().items() if names} == {}


def test_two_sandboxes_run_side_by_side(sandbox: Sandbox, fresh_sandbox: Sandbox) -> None:
    sandbox.run(*UP)
    fresh_sandbox.run("up", "--stack", "dev", "--phase", "0")
    assert sandbox.inventory() == COMPLETE
    assert not any(fresh_sandbox.inventory().values())


def test_services_listen_on_loopback_only(sandbox: Sandbox) -> None:
    sandbox.run(*UP)
    listening = {
        connection.laddr.ip
        for process in sandbox.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
