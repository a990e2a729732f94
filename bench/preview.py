"""One preview in a process of its own: `python -m bench.preview program|floor STATE_DIRECTORY`.

`program` previews the checkout's dev stack at phase 1. `floor` is the same engine, the same provider and the same
imports, with a program that makes nothing. Both print the modules of the program that they loaded.
"""

import importlib
import json
import sys
from pathlib import Path

from sandbox import checkout, emulator
from sandbox.engine import Backends, Engine, Target, run_program
from sandbox.state import State
from sandbox.tools import TOOLS, find

COUNTED = ("pulumi_aws", "infra", "components", "cost")


def main(kind: str, folder: str) -> None:
    """Preview once."""
    state = State(Path(folder))
    state.prepare()
    with state.locked():
        service = emulator.ensure(state)
    config, settings = checkout.effective(state, "dev", 1)
    backends = Backends(aws_endpoint=emulator.endpoint(service), log_hint="")
    program, stack = (run_program, "dev") if kind == "program" else (load_what_the_program_loads, "floor-dev")
    Engine(state, find(TOOLS["pulumi"]), stack, echo=lambda _: None, program=program).preview(
        Target(config=config, settings=settings, backends=backends)
    )
    print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in COUNTED)))


def load_what_the_program_loads() -> None:
    """Import the program, and of the SDK, which loads lazily, what phase 1 uses; make nothing."""
    import pulumi_aws as aws

    for module in ("infra.program", "components.cost_foundation"):
        importlib.import_module(module)
    for loaded in (
        aws.Provider,
        aws.budgets.Budget,
        aws.cloudwatch.Dashboard,
        aws.costexplorer.AnomalyMonitor,
        aws.iam.Role,
        aws.lambda_.Function,
        aws.sns.Topic,
    ):
        loaded.__name__  # noqa: B018 — touching a class loads its module


if __name__ == "__main__":
    main(*sys.argv[1:])
