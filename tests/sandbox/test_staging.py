"""The staging stack, from nothing to phase 3 in one up."""

from collections.abc import Iterator

import pytest

from tests.sandbox.checks import CommittedEnvironment
from tests.sandbox.harness import Cluster, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The stack, deployed."""
    with running("staging", tmp_path_factory.mktemp("state")) as made:
        made.up(3)
        yield made


class TestStaging(CommittedEnvironment):
    """What holds of every environment holds of this one."""
