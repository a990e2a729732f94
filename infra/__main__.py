"""Entry point of `pulumi up`: load the stack's settings, build the platform."""

from infra.program import Platform
from infra.settings import Settings

Platform(Settings.from_stack())
