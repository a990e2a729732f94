"""The estimate as a table for people."""

from decimal import Decimal

from cost.estimate import CENT, Estimate


def render(estimate: Estimate, *, budget_usd: Decimal | int) -> str:
    """Lines that cost a cent or more, sums by phase, and the total against the budget; US dollars a month."""
    shown = [line for line in estimate.lines if line.usd.quantize(CENT)]
    width = max((len(line.resource) for line in shown), default=0)
    rows = [
        f"  {line.resource:<{width}}  {line.quantity.normalize():f} {line.unit} of {line.price}  "
        f"{line.usd.quantize(CENT)}"
        for line in shown
    ]
    phases = [f"  phase {phase.value}: {usd}" for phase, usd in estimate.by_phase.items()]
    return "\n".join(
        [
            f"Estimated monthly cost: {estimate.total_usd} of {budget_usd} USD (prices of {estimate.prices_as_of})",
            *phases,
            *rows,
        ]
    )
