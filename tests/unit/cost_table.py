"""The cost of the committed stacks as docs/cost.md has it: `python -m tests.unit.cost_table` prints the table."""

import sys
from functools import cache
from typing import Any

import yaml

from cost import Estimate, Resource, baseline_millis, estimate, resources_of_deployment, spot_share
from infra.environments import ENVIRONMENTS
from infra.naming import PROJECT
from infra.phases import Phase
from tests.unit.graph import ROOT, Graph, platform

COLUMNS = (
    *("environment", "budget", "at least", "expected", "at most", "on demand"),
    *("nodes", "nodes on demand", "saved", "spot nodes", "sustained CPU"),
)


def deployment(graph: Graph) -> dict[str, Any]:
    """The graph as the engine would export it."""
    stack = graph.top_of(graph.nodes[0]).parent
    return {
        "manifest": {},
        "resources": [
            {"urn": stack, "type": "pulumi:pulumi:Stack", "custom": False},
            *(
                {"urn": node.urn, "type": node.type, "parent": node.parent, "inputs": dict(node.inputs)}
                for node in graph.nodes
            ),
        ],
    }


@cache
def committed(environment: str) -> dict[str, Any]:
    """The settings in an environment's stack file."""
    config: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{environment}.yaml").read_text())["config"]
    return {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items() if key.startswith(f"{PROJECT}:")}


def stack_of(environment: str) -> tuple[tuple[Resource, ...], Estimate]:
    """The resources of an environment's committed stack at phase 2, and what they cost."""
    graph = platform(environment, **{**committed(environment), "phase": int(Phase.COMPUTE)})
    resources = resources_of_deployment(deployment(graph))
    return resources, estimate(resources, stacks_per_account=3)


def table() -> str:
    """Markdown; US dollars a month."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(environment) for environment in ENVIRONMENTS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(environment: str) -> tuple[str, ...]:
    resources, cost = stack_of(environment)
    budget = committed(environment)["monthlyBudgetUsd"]
    totals = (cost.minimum_usd, cost.total_usd, cost.maximum_usd, cost.on_demand_usd)
    compute = (cost.compute_usd, cost.compute_on_demand_usd)
    return (
        *(environment, str(budget), *map(str, totals), *map(str, compute)),
        *(f"{cost.compute_saving:.1%}", f"{spot_share(resources)}%", f"{baseline_millis(resources)}m"),
    )


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
