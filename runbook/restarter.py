"""What secret-restarter, which runs in the cluster, knows of workloads: its own script is asked."""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPT = Path(__file__).parent.parent / "components/secrets/scripts/restarter.py"


def load() -> Any:
    """The script as a module: `NOTE`, `annotations`, `digest`, `secrets_of`, `is_rolled_out`.

    It is loaded as a file, since its package loads Pulumi's SDK, which takes a second.
    """
    module = ModuleType("restarter")
    SourceFileLoader(module.__name__, str(SCRIPT)).exec_module(module)
    return module
