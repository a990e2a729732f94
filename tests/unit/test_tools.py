"""The sandbox finds or builds its Go binaries; tried on a program of a few lines."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from sandbox import tools
from sandbox.errors import SandboxError
from sandbox.tools import Tool

HELLO = Tool(
    name="hello", package="pyairtable/tools/hello", module="example.com/hello", version_arguments=("--version",)
)
GO_MOD = "module pyairtable/tools/hello\n\ngo 1.21\n\n// require example.com/hello v1.2.3\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules with the source of one tool, and a cache of its own."""
    go_cache = subprocess.run(["go", "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("GOCACHE", go_cache)  # Go's own follows XDG_CACHE_HOME, and would start cold each time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "modules" / "hello"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(GO_MOD)
    (folder / "main.go").write_text('package main\n\nfunc main() { println("hello v1.2.3") }\n')
    return folder.parent


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    """A binary of the tool's name at the head of PATH that answers with a version."""
    folder.mkdir()
    binary = folder / "hello"
    binary.write_text(f"#!/bin/sh\necho '{answer}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return binary


def test_a_tool_is_built_once_and_then_found(modules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = tools.find(HELLO, modules)
    built = first.stat().st_mtime_ns
    assert "building hello" in capfd.readouterr().err
    assert tools.find(HELLO, modules) == first
    assert first.stat().st_mtime_ns == built
    assert capfd.readouterr().err == ""


def test_other_pins_are_another_build(modules: Path) -> None:
    first = tools.find(HELLO, modules)
    (modules / "hello/go.mod").write_text(GO_MOD.replace("v1.2.3", "v1.2.4"))
    assert tools.find(HELLO, modules) != first


@pytest.mark.parametrize("version", ["hello v1.2.3", "1.9.0"])
def test_a_binary_on_the_path_is_used_where_its_version_fits(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    assert tools.find(HELLO, modules) != (binary := on_path(tmp_path / "bin", monkeypatch, version))
    assert tools.find(HELLO, modules) == binary


@pytest.mark.parametrize("version", ["hello v1.2.2", "v2.0.0", "no version at all"])
def test_a_binary_on_the_path_is_passed_over_where_its_version_does_not_fit(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    binary = on_path(tmp_path / "bin", monkeypatch, version)
    assert tools.find(HELLO, modules) != binary


def test_a_build_that_fails_says_why_and_leaves_nothing(modules: Path, tmp_path: Path) -> None:
    (modules / "hello/main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(SandboxError, match=r"building hello: .*undefined: undefined.*; the whole output is in .*\.log"):
        tools.find(HELLO, modules)
    assert not list((tmp_path / "cache").rglob("hello"))


def test_without_go_it_says_how_to_get_it(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxError, match=r"there is no Go on PATH; install Go, or its wheel .*: uv sync --group go"):
        tools.find(HELLO, modules)


def test_a_go_that_is_too_old_is_named(modules: Path) -> None:
    (modules / "hello/go.mod").write_text(GO_MOD.replace("go 1.21", "go 1.99"))
    with pytest.raises(SandboxError, match=r"building hello: Go 1\.\d+ is too old"):
        tools.find(HELLO, modules)


def test_every_tool_has_its_pins() -> None:
    for tool in tools.TOOLS.values():
        assert tools.wanted_version(tool) > (0, 0, 0)
        assert (tools.MODULES / tool.name / "go.sum").is_file()


def test_an_unknown_tool_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["hammer"]) == 2
    assert "finding the tool hammer: the tools are pulumi, actionlint" in capsys.readouterr().err
