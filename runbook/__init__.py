"""The operator's command line: every step of the runbook that is more than an edit and a `pulumi up`."""
