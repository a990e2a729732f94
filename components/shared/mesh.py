"""Names of the mesh that the program gives and the runbook's commands look for."""

from typing import Final

WEIGHT_ANNOTATION: Final = "pyairtable.io/green-weight"
"""Of the public service's VirtualService: green's weight, noted by whoever changes it."""
FULL_WEIGHT: Final = 100
"""Of the colour that gets all requests, in per cent."""
KEEP_BLUE: Final = "pyairtable-keep-blue"
"""The policy by which the API server keeps blue."""
RETIRE_AFTER_ANNOTATION: Final = "pyairtable.io/retire-after-seconds"
"""Of that policy: for how long green has to have had everything."""
RUNBOOK: Final = "runbook"
"""Who the runbook is in the API server's `managedFields`."""
DEPLOYER: Final = "pulumi"
"""How the name of a deployment's manager begins there."""
SYSTEM_NAMESPACE: Final = "istio-system"
GATEWAY: Final = "ingress-gateway"
GATEWAY_SELECTOR: Final = {"app": GATEWAY, "istio": GATEWAY}
STATISTICS_PORT: Final = 15090
"""Where Istio's proxies show their statistics."""
