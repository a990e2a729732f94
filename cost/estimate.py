"""The monthly estimate of a stack, line by line, and the check against its budget."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import pulumi

from cost.catalog import quantities
from cost.errors import OverBudgetError
from cost.figures import Figures
from cost.prices import Price, price_list, price_list_date
from cost.resources import Resource, by_type_and_name
from infra.phases import Phase

CENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one resource takes of one price. US dollars a month, the stack's share of free allowances taken off."""

    phase: Phase
    resource: str
    type: str
    price: str
    quantity: Decimal
    """Expected."""
    unit: str
    usd: Decimal
    """Expected. Only sums lie between their bounds, not each line: at the most, all nodes are of the dearest type."""
    minimum_usd: Decimal
    maximum_usd: Decimal
    on_demand_usd: Decimal
    """Expected, were every spot instance an on-demand one."""
    is_compute: bool
    """Whether it is the hours of nodes."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """All lines of a stack. US dollars a month at the prices of `prices_as_of`, each sum rounded to cents once."""

    lines: tuple[Line, ...]
    prices_as_of: str
    phases: frozenset[Phase] = frozenset()
    """Those that have resources, even if nothing but free ones."""

    @property
    def total_usd(self) -> Decimal:
        """The whole stack as it is expected to run; what the budget holds."""
        return _sum(line.usd for line in self.lines)

    @property
    def minimum_usd(self) -> Decimal:
        """The whole stack with every node group at its smallest size and cheapest type."""
        return _sum(line.minimum_usd for line in self.lines)

    @property
    def maximum_usd(self) -> Decimal:
        """The whole stack with every node group at its largest size and dearest type."""
        return _sum(line.maximum_usd for line in self.lines)

    @property
    def on_demand_usd(self) -> Decimal:
        """The whole stack as it is expected to run, with on-demand instances only."""
        return _sum(line.on_demand_usd for line in self.lines)

    @property
    def compute_usd(self) -> Decimal:
        """The expected hours of the nodes."""
        return _sum(line.usd for line in self.lines if line.is_compute)

    @property
    def compute_on_demand_usd(self) -> Decimal:
        """The expected hours of the nodes at on-demand prices."""
        return _sum(line.on_demand_usd for line in self.lines if line.is_compute)

    @property
    def compute_saving(self) -> Decimal:
        """Share of the on-demand price of the nodes' hours that spot saves, from 0 to 1; 0 where there are no nodes."""
        if not self.compute_on_demand_usd:
            return Decimal(0)
        return (1 - self.compute_usd / self.compute_on_demand_usd).quantize(Decimal("0.001"))

    @property
    def by_phase(self) -> Mapping[Phase, Decimal]:
        """Sum of each phase that has resources."""
        sums: defaultdict[Phase, Decimal] = defaultdict(Decimal, dict.fromkeys(self.phases, Decimal(0)))
        for line in self.lines:
            sums[line.phase] += line.usd
        return {phase: sums[phase].quantize(CENT) for phase in sorted(sums)}

    def largest(self, count: int) -> tuple[Line, ...]:
        """The most expensive lines first."""
        return tuple(sorted(self.lines, key=lambda line: -line.usd)[:count])


def estimate(resources: Iterable[Resource], *, stacks_per_account: int) -> Estimate:
    """What the resources of a stack cost in a month.

    An account's free allowances are shared out equally among its stacks, so that the estimates of all of them add up
    to the account's bill.

    Raises:
        UnknownTypeError: a resource is of a type that nobody has priced.
        UnknownCostError: what a resource costs cannot be told from its inputs.
    """
    resources = tuple(resources)
    stack = by_type_and_name(resources)
    prices = price_list()
    left = {name: Figures.fixed(price.free_per_account / stacks_per_account) for name, price in prices.items()}
    lines: list[Line] = []
    for resource in resources:
        for name, quantity in quantities(resource, stack).items():
            free = quantity.smaller_of(left[name])
            left[name] = left[name].minus(free)
            lines.append(_line(resource, name, prices[name], quantity.expected, quantity.minus(free)))
    phases = frozenset(resource.phase for resource in resources) - {Phase.NOTHING}
    return Estimate(lines=tuple(lines), prices_as_of=price_list_date(), phases=phases)


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


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0)).quantize(CENT)


def _line(resource: Resource, name: str, price: Price, quantity: Decimal, billed: Figures) -> Line:
    usd = billed.times(price.usd)
    return Line(
        phase=resource.phase,
        resource=resource.name,
        type=resource.type,
        price=name,
        quantity=quantity,
        unit=price.unit,
        usd=usd.expected,
        minimum_usd=usd.minimum,
        maximum_usd=usd.maximum,
        on_demand_usd=usd.expected if price.on_demand_usd is None else billed.expected * price.on_demand_usd,
        is_compute=price.on_demand_usd is not None,
    )
