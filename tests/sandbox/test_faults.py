"""What happens when an up of phase 2 dies in the middle, or the sandbox's processes do."""

import psutil
import pytest

from sandbox.services import recorded
from sandbox.state import State
from tests.program.harness import TIMEOUT_SECONDS
from tests.sandbox.harness import Cluster, wait_for


def killed_while_creating(cluster: Cluster, what: str) -> None:
    """Start an up, and kill command and engine once it creates something of a kind."""
    process = cluster.start("up", "--stack", cluster.stack, "--phase", "2")
    assert process.stdout is not None
    for line in process.stdout:
        if what in line and "creating" in line:
            break
    engines = [c for c in psutil.Process(process.pid).children() if "pulumi" in " ".join(c.cmdline()[:1])]
    process.kill()
    for engine in engines:
        engine.kill()
    process.communicate(timeout=TIMEOUT_SECONDS)
    wait_for(lambda: not any(e.is_running() and e.status() != psutil.STATUS_ZOMBIE for e in engines), "its end")


@pytest.mark.parametrize("what", ["aws:eks:Addon", "kubernetes:apps/v1:Deployment"])
def test_an_up_that_is_killed_in_the_middle_is_ended_by_the_next(dev: Cluster, what: str) -> None:
    killed_while_creating(dev, what)
    dev.up(2)
    assert dev.not_running() == []
    assert dev.plan("--stack", "dev", "--phase", "2") == set()
    dev.up(1)
    assert dev.compute_left() == {}


def test_an_api_server_that_died_is_back_for_the_next_command(dev: Cluster) -> None:
    dev.up(2)
    service = recorded(State(dev.state))["pyairtable-dev-kube-apiserver"]
    assert service.process
    service.process.kill()
    assert dev.plan("--stack", "dev", "--phase", "2") == set()
