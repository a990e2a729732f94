"""Monthly cost estimate from the resources of a stack and a dated price list."""

from cost.catalog import UnknownTypeError
from cost.estimate import Estimate, Line, OverBudgetError, estimate, require_within_budget
from cost.resources import Resource, ResourceRecorder, resources_of_deployment

__all__ = [
    "Estimate",
    "Line",
    "OverBudgetError",
    "Resource",
    "ResourceRecorder",
    "UnknownTypeError",
    "estimate",
    "require_within_budget",
    "resources_of_deployment",
]
