"""Sandboxes for the tests: each in a folder of its own, and none left running."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.checkout import ROOT
from tests.program.harness import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox over this checkout, one per module of tests."""
    with Sandbox(ROOT, tmp_path_factory.mktemp("state")).stopping() as running:
        yield running


@pytest.fixture
def fresh_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox over this checkout that nobody has used."""
    with Sandbox(ROOT, tmp_path / "state").stopping() as running:
        yield running


@pytest.fixture
def copied_checkout(tmp_path: Path) -> Path:
    """A copy of the checkout whose files a test may edit."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("infra", "components", "cost", "sandbox", "go-tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("Pulumi*.yaml"):
        shutil.copy(file, copy)
    return copy
