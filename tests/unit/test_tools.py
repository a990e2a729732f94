"""The sandbox finds or builds its Go binaries; tried on a program of a few lines."""

import os
import stat
import subprocess
from dataclasses import replace
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


def test_files_of_the_module_are_kept_beside_the_binary(modules: Path) -> None:
    (modules / "hello/stages").mkdir()
    (modules / "hello/stages/node.yaml").write_text("kind: Stage\n")
    binary = tools.find(HELLO, modules)
    made = binary.stat().st_mtime_ns
    # The tool of these files was built before they were asked for: only they are added.
    with_files = replace(HELLO, module="pyairtable/tools/hello", files=("stages/node.yaml",))
    assert tools.find(with_files, modules) == binary
    assert binary.with_name("node.yaml").read_text() == "kind: Stage\n"
    assert binary.stat().st_mtime_ns == made


def test_a_folder_of_the_module_is_kept_as_it_is_and_can_be_changed(modules: Path) -> None:
    chart = modules / "hello/manifests/charts/base"
    chart.mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: base\n")
    (chart / "Chart.yaml").chmod(0o444)
    chart.chmod(0o555)
    own, pinned = "pyairtable/tools/hello", "example.com/hello"
    binary = tools.find(replace(HELLO, module=own, version_module=pinned, files=("manifests/charts",)), modules)
    chart.chmod(0o755)
    kept = binary.with_name("charts") / "base/Chart.yaml"
    kept.write_text(f"{kept.read_text()}version: 1\n")
    assert kept.read_text() == "name: base\nversion: 1\n"


def test_build_tags_take_part_in_the_build_and_tell_it_from_others(modules: Path) -> None:
    (modules / "hello/tagged.go").write_text('//go:build loud\n\npackage main\n\nfunc init() { println("HELLO") }\n')
    plain, loud = tools.find(HELLO, modules), tools.find(replace(HELLO, tags=("loud", "clear")), modules)
    said = [subprocess.run([binary], capture_output=True, text=True, check=True).stderr for binary in (plain, loud)]
    assert said == ["hello v1.2.3\n", "HELLO\nhello v1.2.3\n"]


def test_a_tool_may_have_another_modules_version_and_that_modules_replacement_counts(modules: Path) -> None:
    pins = modules / "hello/go.mod"
    tool = replace(HELLO, version_module="example.com/api", version_variables=("main.version",), version_prefix="")
    pins.write_text(f"{GO_MOD}// require example.com/api v1.3.0-rc.1\n")
    assert tools.wanted_version(tool, modules) == (1, 3, 0)
    pins.write_text(f"{pins.read_text()}// replace example.com/api => example.com/api v1.31.1\n")
    assert tools.wanted_version(tool, modules) == (1, 31, 1)
    source = 'package main\n\nvar version = "unknown"\n\nfunc main() { println(version) }\n'
    (modules / "hello/main.go").write_text(source)
    binary = tools.find(tool, modules)
    assert subprocess.run([binary], capture_output=True, text=True, check=True).stderr == "1.31.1\n"


def test_a_tool_with_files_is_never_taken_from_the_path(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (modules / "hello/node.yaml").write_text("kind: Stage\n")
    (modules / "hello/go.mod").write_text(f"{GO_MOD}// require pyairtable/tools/hello v1.2.3\n")
    with_files = replace(HELLO, module="pyairtable/tools/hello", files=("node.yaml",))
    assert tools.find(with_files, modules) != on_path(tmp_path / "bin", monkeypatch, "hello v1.2.3")


def test_several_tools_are_found_in_the_order_asked_for(modules: Path) -> None:
    other = replace(HELLO, name="other", folder="hello")
    assert tools.find_all([other, HELLO], modules) == [tools.find(other, modules), tools.find(HELLO, modules)]


@pytest.mark.parametrize(
    ("cores", "free_gib", "builds"), [(1, 64, 1), (2, 64, 1), (8, 64, 4), (8, 9, 2), (64, 1, 1), (16, 64, 8)]
)
def test_as_many_builds_go_side_by_side_as_the_machine_has_room_for(cores: int, free_gib: int, builds: int) -> None:
    assert tools.builds_at_once(cores, free_gib * 2**30) == builds


@pytest.mark.parametrize(
    ("version", "fits"), [("v1.36.3", True), ("v1.36.9", True), ("v1.36.2", False), ("v1.37.0", False)]
)
def test_kubernetes_from_the_path_is_of_the_same_minor_version(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    (modules / "hello/go.mod").write_text(GO_MOD.replace("v1.2.3", "v1.36.3"))
    binary = on_path(tmp_path / "bin", monkeypatch, version)
    assert (tools.find(replace(HELLO, exact_minor=True), modules) == binary) is fits


def test_every_tool_has_its_pins() -> None:
    for tool in tools.TOOLS.values():
        assert tools.wanted_version(tool) > (0, 0, 0)
        assert (tools.MODULES / tool.pins / "go.sum").is_file()


def test_an_unknown_tool_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["hammer"]) == 2
    assert "finding the tool hammer: the tools are pulumi, actionlint" in capsys.readouterr().err
