"""A quantity or an amount three times: as little as it can be, as it is expected to be, as much as it can be."""

from decimal import Decimal
from typing import NamedTuple


class Figures(NamedTuple):
    """Three figures of one thing. The autoscalers move it between the bounds; the budget holds what is expected."""

    minimum: Decimal
    expected: Decimal
    maximum: Decimal

    @classmethod
    def fixed(cls, figure: Decimal) -> "Figures":
        """A figure that no autoscaler moves."""
        return cls(figure, figure, figure)

    def times(self, factor: Decimal) -> "Figures":
        """Each figure, multiplied."""
        return Figures(*(figure * factor for figure in self))

    def minus(self, other: "Figures") -> "Figures":
        """Each figure less the other's."""
        return Figures(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def smaller_of(self, other: "Figures") -> "Figures":
        """Figure by figure, the smaller one."""
        return Figures(*map(min, self, other))
