"""What happens when an up of phase 2 dies in the middle, or the sandbox's processes do."""

from sandbox.services import recorded
from sandbox.state import State
from tests.program.harness import TIMEOUT_SECONDS, children, is_alive, wait_for
from tests.sandbox.harness import Cluster


def killed_while_creating(cluster: Cluster, what: str, *, engine_too: bool) -> None:
    """Start an up, and kill the command, with or without its engine, once it creates something of a kind."""
    process = cluster.start("up", "--stack", cluster.stack, "--phase", "2")
    assert process.stdout is not None
    for line in process.stdout:
        if what in line and "creating" in line:
            break
    engines = children(process, "pulumi")
    process.kill()
    for engine in engines if engine_too else ():
        engine.kill()
    process.communicate(timeout=TIMEOUT_SECONDS)
    wait_for(lambda: not any(map(is_alive, engines)), "its end")


def test_an_up_whose_command_is_killed_is_ended_by_the_next(dev: Cluster) -> None:
    killed_while_creating(dev, "aws:eks:Addon compute-addons", engine_too=False)
    dev.up(2)
    assert dev.not_running() == []
    dev.up(1)
    assert dev.compute_left() == {}


def test_an_up_that_is_killed_with_its_engine_is_ended_by_the_next(dev: Cluster) -> None:
    killed_while_creating(dev, "kubernetes:apps/v1:Deployment", engine_too=True)
    dev.up(2)
    assert dev.not_running() == []
    assert dev.plan("--stack", "dev", "--phase", "2") == set()


def test_an_api_server_that_died_is_back_for_the_next_command(dev: Cluster) -> None:
    process = recorded(State(dev.state))["pyairtable-dev-kube-apiserver"].process
    assert process
    process.kill()
    wait_for(lambda: not is_alive(process), "its end")
    assert dev.plan("--stack", "dev", "--phase", "2") == set()


def test_a_preview_for_another_account_leaves_the_cluster_alone(dev: Cluster) -> None:
    dev.override("accountId", "210987654321")
    dev.run("preview", "--stack", "dev", "--phase", "2")
    dev.run("config", "reset", "--stack", "dev", "accountId")
    assert dev.not_running() == []
    assert dev.plan("--stack", "dev", "--phase", "2") == set()


def test_a_stack_without_a_cluster_gets_no_other_stacks_kubeconfig(dev: Cluster) -> None:
    dev.up(1)
    assert "KUBECONFIG=/dev/null" in dev.run("env", "--stack", "dev").stdout
