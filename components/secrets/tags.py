"""The tag that marks a resource as phase 3's own."""

from infra.naming import Names
from infra.phases import Phase

TAGS = Names.phase_tags(Phase.SECRETS)
