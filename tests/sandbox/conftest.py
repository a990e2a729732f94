"""A sandbox with a control plane for each module of tests, and none left running."""

from collections.abc import Iterator

import pytest

from tests.sandbox.harness import Cluster, running


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The dev stack in a sandbox of its own, with nothing deployed yet."""
    with running("dev", tmp_path_factory.mktemp("state")) as cluster:
        yield cluster
