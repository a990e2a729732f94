"""What a stand-in says when it cannot, or will not, do what the engine asks."""

from collections.abc import Mapping
from typing import Any


class ProviderError(Exception):
    """A refusal or a failure, told to the user as it stands."""


class NotReadyError(ProviderError):
    """A resource exists, and did not become ready: the engine keeps it and goes on with it in the next update."""

    def __init__(self, message: str, id: str, state: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.id = id
        self.state = state
