"""Sandboxes for the tests: each in a folder of its own, and none left running."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.checkout import ROOT
from tests.program.cloud import Cloud, running_cloud
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


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An emulator, and programs of the tests' own that are deployed into it; one per module of tests."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def copied_checkout(tmp_path: Path) -> Path:
    """A copy of the checkout whose files a test may edit, its stacks at phase 1: no control plane runs in this tier."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("infra", "components", "cost", "sandbox", "go-tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("Pulumi*.yaml"):
        (copy / file.name).write_text(re.sub(r"(pyairtable:phase:) \d", r"\1 1", file.read_text()))
    return copy
