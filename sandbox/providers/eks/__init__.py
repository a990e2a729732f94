"""The stand-in for pulumi-eks: its component, as a provider of its own that the engine starts."""
