"""The program stands alone: who may import what, and where config is read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.graph import ROOT

PROGRAM = sorted(path for folder in ("infra", "components", "cost") for path in (ROOT / folder).rglob("*.py"))
COMPONENTS = ROOT / "components"
HANDLER = COMPONENTS / "cost_foundation" / "spend_reporter" / "handler.py"
RESTARTER = COMPONENTS / "secrets" / "scripts" / "restarter.py"
SHARED = "shared"
"""What all phases may use, and no phase's own."""
PHASES = [path.name for path in COMPONENTS.iterdir() if (path / "__init__.py").exists() and path.name != SHARED]

of_every_module = pytest.mark.parametrize("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, and of what it imports from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports_below(path: Path, *packages: str) -> set[str]:
    return {name for name in imports(path) if any(f"{name}.".startswith(f"{package}.") for package in packages)}


@of_every_module
def test_the_program_needs_neither_the_sandbox_nor_the_automation_api(path: Path) -> None:
    assert imports_below(path, "sandbox", "pulumi.automation", "tests") == set()


@of_every_module
def test_the_program_talks_to_aws_through_its_provider_only(path: Path) -> None:
    allowed = {"boto3"} if path == HANDLER else set[str]()
    assert imports_below(path, "boto3", "botocore") <= allowed


@of_every_module
def test_only_settings_read_config(path: Path) -> None:
    text = path.read_text()
    reads = any(way in text for way in ("pulumi.Config", "runtime.config", "get_config"))
    assert reads == (path == ROOT / "infra" / "settings.py")


@pytest.mark.parametrize(
    "path", [path for path in PROGRAM if path.is_relative_to(COMPONENTS)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_component_knows_neither_the_settings_nor_another_phase(path: Path) -> None:
    others = [f"components.{phase}" for phase in PHASES if phase not in path.parts]
    assert imports_below(path, "infra.settings", "infra.program", "cost", *others) == set()


def test_what_phases_share_belongs_to_none_of_them() -> None:
    assert sorted(PHASES) == ["blue_green", "compute", "cost_foundation", "secrets"]
    assert list((COMPONENTS / SHARED).glob("*.py"))


def test_no_module_of_the_programs_folder_hides_one_of_pythons() -> None:
    assert {path.stem for path in (ROOT / "infra").glob("*.py")} & sys.stdlib_module_names == set()


def test_the_handler_needs_only_what_the_lambda_runtime_has() -> None:
    packages = {name.partition(".")[0] for name in imports(HANDLER)}
    assert packages - sys.stdlib_module_names == {"boto3"}


def test_the_restarter_needs_only_what_python_has() -> None:
    assert {name.partition(".")[0] for name in imports(RESTARTER)} - sys.stdlib_module_names == set()


def loaded_by(phase: int) -> set[str]:
    """Modules that a graph of a phase needs."""
    program = f"import sys; from tests.unit.graph import platform; platform('dev', phase={phase}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_phase_1_loads_what_it_needs_and_no_more() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(1)}
    assert "pulumi_aws" in loaded
    assert loaded & {"pulumi_eks", "pulumi_kubernetes", "pulumi_random", "pulumi_tls"} == set()


def test_phase_2_loads_nothing_of_phase_3() -> None:
    loaded = loaded_by(2)
    assert "components.compute" in loaded
    assert {
        name for name in loaded if f"{name}.".startswith(("components.secrets.", "infra.arguments.secrets."))
    } == set()
    assert {name for name in loaded if name.startswith("pulumi_aws.secretsmanager.")} == set()
