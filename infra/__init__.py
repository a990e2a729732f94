"""The Pulumi program: settings in, phases out."""
