"""What a stand-in says when it cannot, or will not, do what the engine asks."""


class ProviderError(Exception):
    """A refusal or a failure, told to the user as it stands."""
