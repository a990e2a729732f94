"""What the committed stacks cost, as docs/cost.md has it, and what it costs them to look at their secrets.

`python -m tests.unit.cost_table` prints both tables; the second is that of decision 22.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import yaml

from cost import Estimate, Line, Resource, baseline_millis, estimate, resources_of_deployment, spot_share
from infra.environments import ENVIRONMENTS
from infra.naming import PROJECT
from tests.unit.graph import ROOT, Graph, platform, release_of

COLUMNS = (
    *("environment", "budget", "at least", "expected", "at most", "on demand"),
    *("nodes", "nodes on demand", "saved", "spot nodes", "sustained CPU"),
)
EXTERNAL_SECRET = "kubernetes:external-secrets.io/v1:ExternalSecret"  # noqa: S105 - a type
INTERVALS = ("5s", "15s", "60s", "5m", "1h")


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
    """The settings in an environment's stack file, and prod's edge, which costs as much without its certificate."""
    config: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{environment}.yaml").read_text())["config"]
    given = {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items() if key.startswith(f"{PROJECT}:")}
    return given | release_of(environment)


def stack_of(environment: str) -> tuple[tuple[Resource, ...], Estimate]:
    """The resources of an environment's committed stack, and what they cost."""
    graph = platform(environment, **committed(environment))
    resources = resources_of_deployment(deployment(graph))
    return resources, estimate(resources, stacks_per_account=3)


def table() -> str:
    """Markdown; US dollars a month."""
    return _markdown(COLUMNS, (_row(environment) for environment in ENVIRONMENTS))


def refresh_table() -> str:
    """What the requests to Secrets Manager and KMS cost by refresh interval: Markdown; US dollars a month."""
    columns = ("refresh interval", "calls", *(text for name in ENVIRONMENTS for text in (name, "of it KMS")))
    return _markdown(columns, map(_refresh_row, INTERVALS))


def refreshed(environment: str, interval: str) -> Estimate:
    """What an environment's committed stack would cost with another refresh interval."""
    resources = [
        replace(resource, inputs={**resource.inputs, "spec": {**resource.inputs["spec"], "refreshInterval": interval}})
        if resource.type == EXTERNAL_SECRET
        else resource
        for resource in stack_of(environment)[0]
    ]
    return estimate(resources, stacks_per_account=3)


def _refresh_row(interval: str) -> tuple[str, ...]:
    costs = [refreshed(environment, interval) for environment in ENVIRONMENTS]
    # The same in all: the number of secrets and the interval make them.
    (calls,) = {sum(line.quantity for line in cost.lines if _is_call(line)) for cost in costs}
    prices = ({"secrets_manager_request", "kms_request"}, {"kms_request"})
    return (interval, f"{calls:,.0f}", *(_usd(cost, names) for cost in costs for names in prices))


def _is_call(line: Line) -> bool:
    return (line.type, line.price) == (EXTERNAL_SECRET, "secrets_manager_request")


def _usd(cost: Estimate, prices: set[str]) -> str:
    return f"{sum((line.usd for line in cost.lines if line.price in prices), Decimal(0)):.2f}"


def _markdown(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))


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
    sys.stdout.write(f"{table()}\n\n{refresh_table()}\n")
