"""The tag that marks a resource as phase 2's own."""

from infra.naming import Names
from infra.phases import Phase

TAGS = Names.phase_tags(Phase.COMPUTE)
