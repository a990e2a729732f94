"""The stand-in for pulumi-kubernetes, over the sandbox's control planes."""
