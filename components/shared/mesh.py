"""Names of the mesh that the program gives and the runbook's commands look for."""

from typing import Final

WEIGHT_ANNOTATION: Final = "pyairtable.io/green-weight"
"""Of the public service's VirtualService: green's weight, noted by whoever changes it."""
FULL_WEIGHT: Final = 100
"""Of the colour that gets all requests, in per cent."""
SYSTEM_NAMESPACE: Final = "istio-system"
GATEWAY: Final = "ingress-gateway"
GATEWAY_SELECTOR: Final = {"app": GATEWAY, "istio": GATEWAY}
STATISTICS_PORT: Final = 15090
"""Where Istio's proxies show their statistics."""
