"""What goes wrong when an estimate is made; Pulumi prints each without a traceback."""

import pulumi


class UnknownCostError(pulumi.RunError):
    """What a resource costs cannot be told from its inputs."""


class UnknownTypeError(UnknownCostError):
    """A type of resource that is neither priced nor listed as free."""


class OverBudgetError(pulumi.RunError):
    """The estimate exceeds the budget."""
