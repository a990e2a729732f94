"""A local cloud for this checkout: the real Pulumi engine over local stand-ins, no AWS account needed."""
