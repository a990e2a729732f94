"""The monthly estimate of a stack, line by line, and the check against its budget."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import pulumi

from cost.catalog import Price, price_list, price_list_date, quantities
from cost.resources import Resource
from infra.phases import Phase

CENT = Decimal("0.01")


class OverBudgetError(pulumi.RunError):
    """The estimate exceeds the budget; Pulumi prints it without a traceback."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one resource takes of one price. US dollars a month, the stack's share of free allowances taken off."""

    phase: Phase
    resource: str
    type: str
    price: str
    quantity: Decimal
    unit: str
    usd: Decimal


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """All lines of a stack. US dollars a month at the prices of `prices_as_of`."""

    lines: tuple[Line, ...]
    prices_as_of: str

    @property
    def total_usd(self) -> Decimal:
        """The whole stack, rounded to cents."""
        return sum((line.usd for line in self.lines), Decimal(0)).quantize(CENT)

    @property
    def by_phase(self) -> Mapping[Phase, Decimal]:
        """Sum of each phase that costs anything, rounded to cents."""
        sums: defaultdict[Phase, Decimal] = defaultdict(Decimal)
        for line in self.lines:
            sums[line.phase] += line.usd
        return {phase: sums[phase].quantize(CENT) for phase in sorted(sums)}

    def largest(self, count: int) -> tuple[Line, ...]:
        """The most expensive lines first."""
        return tuple(sorted(self.lines, key=lambda line: -line.usd)[:count])


def estimate(resources: Iterable[Resource], *, stacks_per_account: int) -> Estimate:
    """What the resources cost in a month.

    An account's free allowances are shared out equally among its stacks, so that the estimates of all of them add up
    to the account's bill.

    Raises:
        UnknownTypeError: a resource is of a type that nobody has priced.
    """
    prices = price_list()
    left = {name: price.free_per_account / stacks_per_account for name, price in prices.items()}
    lines: list[Line] = []
    for resource in resources:
        for name, quantity in quantities(resource).items():
            free = min(quantity, left[name])
            left[name] -= free
            lines.append(_line(resource, name, prices[name], quantity, quantity - free))
    return Estimate(lines=tuple(lines), prices_as_of=price_list_date())


def require_within_budget(estimate: Estimate, budget_usd: Decimal, *, enforce: bool) -> None:
    """Fail, or warn where the stack does not enforce, when the estimate exceeds the budget.

    Raises:
        OverBudgetError: names the three largest lines.
    """
    if estimate.total_usd <= budget_usd:
        return
    largest = ", ".join(f"{line.resource} {line.price} {line.usd.quantize(CENT)}" for line in estimate.largest(3))
    message = (
        f"the estimate of {estimate.total_usd} USD a month exceeds the budget of {budget_usd} USD; largest: {largest}; "
        "make the stack smaller, raise pyairtable:monthlyBudgetUsd, or only warn, with "
        "pyairtable:cost.enforce: false"
    )
    if enforce:
        raise OverBudgetError(message)
    pulumi.log.warn(message)


def _line(resource: Resource, name: str, price: Price, quantity: Decimal, billed: Decimal) -> Line:
    return Line(
        phase=resource.phase,
        resource=resource.name,
        type=resource.type,
        price=name,
        quantity=quantity,
        unit=price.unit,
        usd=billed * price.usd,
    )
