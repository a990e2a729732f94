"""The phases of the migration and what the number in a stack file means."""

from collections.abc import Mapping
from enum import IntEnum


class Phase(IntEnum):
    """How far a stack has got: everything of phases 1..n exists, nothing of the later ones."""

    NOTHING = 0
    COST_FOUNDATION = 1
    COMPUTE = 2
    SECRETS = 3
    BLUE_GREEN = 4


HIGHEST_BUILT = Phase.BLUE_GREEN
"""The last phase; a stack file that asks for more is refused."""

OUTPUTS: Mapping[str, Phase] = {
    "account_id": Phase.NOTHING,
    "api_gateway_url": Phase.COMPUTE,
    "budget_name": Phase.COST_FOUNDATION,
    "cluster_name": Phase.COMPUTE,
    "compute_saving_percent": Phase.COMPUTE,
    "cost_alerts_topic_arn": Phase.COST_FOUNDATION,
    "dashboard_name": Phase.COST_FOUNDATION,
    "green_weight": Phase.BLUE_GREEN,
    "estimated_monthly_cost_usd": Phase.NOTHING,
    "estimated_monthly_maximum_usd": Phase.NOTHING,
    "estimated_monthly_minimum_usd": Phase.NOTHING,
    "kubeconfig": Phase.COMPUTE,
    "phase": Phase.NOTHING,
    "spot_share_percent": Phase.COMPUTE,
}
"""Outputs of a stack and the phase from which each has a value; below it, it is null."""
