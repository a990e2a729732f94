"""Monthly cost estimate from the resources of a stack and a dated price list."""

from cost.errors import OverBudgetError, UnknownCostError, UnknownTypeError
from cost.estimate import Estimate, Line, estimate, require_within_budget
from cost.nodes import baseline_millis, spot_share
from cost.resources import Resource, ResourceRecorder, resources_of_deployment

__all__ = [
    "Estimate",
    "Line",
    "OverBudgetError",
    "Resource",
    "ResourceRecorder",
    "UnknownCostError",
    "UnknownTypeError",
    "baseline_millis",
    "estimate",
    "require_within_budget",
    "resources_of_deployment",
    "spot_share",
]
