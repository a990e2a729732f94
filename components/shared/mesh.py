"""Names of the mesh that the program gives and the runbook's commands look for."""

from typing import Final

WEIGHT_ANNOTATION: Final = "pyairtable.io/green-weight"
"""Of the public service's VirtualService: green's weight, noted by whoever changes it."""
FULL_WEIGHT: Final = 100
"""Of the colour that gets all requests, in per cent."""
RETIRE_AFTER: Final = "24h"
"""How long green has had all traffic before blue may be stopped, where the config does not say."""
RUNBOOK: Final = "runbook"
"""Who the runbook is in the API server's `managedFields`."""
DEPLOYER: Final = "pulumi"
"""How the name of a deployment's manager begins there."""
SYSTEM_NAMESPACE: Final = "istio-system"
GATEWAY: Final = "ingress-gateway"
GATEWAY_SELECTOR: Final = {"app": GATEWAY, "istio": GATEWAY}
STATISTICS_PORT: Final = 15090
"""Where Istio's proxies show their statistics."""
