"""What holds for every tier: workers that run side by side keep out of each other's ports."""

import os

import pytest

from sandbox.services import PORT_RANGE

PORTS_A_WORKER = 1000


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker's sandboxes a range of their own: they choose ports that they listen on only later."""
    worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
    first = 20000 + PORTS_A_WORKER * (int(worker.removeprefix("gw")) % 10)
    os.environ[PORT_RANGE] = f"{first}-{first + PORTS_A_WORKER - 1}"
