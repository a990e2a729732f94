"""The estimate as a table for people."""

from decimal import Decimal

from cost.estimate import CENT, Estimate


def render(estimate: Estimate, *, budget_usd: Decimal | int) -> str:
    """The total against the budget, bounds and savings where there are nodes, sums by phase, lines of a cent or more.

    US dollars a month.
    """
    shown = [line for line in estimate.lines if line.usd.quantize(CENT)]
    width = max((len(line.resource) for line in shown), default=0)
    rows = [
        f"  {line.resource:<{width}}  {_number(line.quantity)} {line.unit} of {line.price}  {line.usd.quantize(CENT)}"
        for line in shown
    ]
    phases = [f"  phase {phase.value}: {usd}" for phase, usd in estimate.by_phase.items()]
    return "\n".join(
        [
            f"Estimated monthly cost: {estimate.total_usd} of {budget_usd} USD (prices of {estimate.prices_as_of})",
            *_of_the_nodes(estimate),
            *phases,
            *rows,
        ]
    )


def _of_the_nodes(estimate: Estimate) -> list[str]:
    on_demand_usd = estimate.compute_on_demand_usd
    if not on_demand_usd:
        return []
    return [
        f"  from {estimate.minimum_usd} to {estimate.maximum_usd} as the nodes scale",
        f"  {estimate.on_demand_usd} at on-demand prices",
        f"  nodes {estimate.compute_usd}, {estimate.compute_saving:.1%} below the {on_demand_usd} of on-demand ones",
    ]


def _number(quantity: Decimal) -> str:
    return f"{round(quantity, 3).normalize():f}"
