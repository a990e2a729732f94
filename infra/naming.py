"""Names and tags of everything the program creates, in one place."""

from dataclasses import dataclass
from typing import Final, Literal

from infra.phases import Phase

PROJECT: Final = "pyairtable"
GREEN_SUFFIX: Final = "-green"
"""Ends the names of green's Deployments, service accounts and policies; blue's are plain."""

ImageGroup = Literal["legacy", "microservices"]
"""The parts of the image registry."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names and tags of one stack. Names carry the stack, so personal stacks share an account with the others."""

    stack: str
    environment: str
    cost_center: str

    @property
    def prefix(self) -> str:
        """What every AWS name of this stack begins with, for example `pyairtable-dev`."""
        return f"{PROJECT}-{self.stack}"

    def of(self, suffix: str) -> str:
        """Name of one resource: `pyairtable-{stack}-{suffix}`."""
        return f"{self.prefix}-{suffix}"

    @property
    def default_tags(self) -> dict[str, str]:
        """Tags that the AWS provider puts on every resource; budgets and spend reports filter on `Stack`."""
        return {
            "Project": PROJECT,
            "Stack": self.stack,
            "Environment": self.environment,
            "ManagedBy": "pulumi",
            "CostCenter": self.cost_center,
        }

    @staticmethod
    def phase_tags(phase: Phase) -> dict[str, str]:
        """Tag of the phase that owns a resource. Never the stack's current phase: a move must touch nothing else."""
        return {"Phase": str(phase.value)}
