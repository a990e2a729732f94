"""What the sandbox changes in objects on their way into a cluster."""

from infra.naming import PROJECT
from sandbox.kubernetes_api import Manifest, Manifests

SERVICE_OF = "kubernetes.io/service-name"
IGNORED_BY_MESH = "multicluster.kubernetes.io/service-name"
"""Label of slices that come from another cluster. istiod leaves them alone."""
NOT_THE_APPLICATION = ("postgres", "redis", "edge", "ingress-gateway")
"""Services of the namespace with other pods behind them. Of the gateway's, istiod has to know the ports."""
POLICY = "sandbox-endpoint-slices"


def manifests() -> Manifests:
    """Let istiod leave alone where Kubernetes says that pods are: nothing can be reached there.

    Where they really are, on this machine, it hears from the WorkloadEntries of `sandbox.releases`.
    """
    others = ", ".join(f"'{service}'" for service in NOT_THE_APPLICATION)
    of_service = f"has(object.metadata.labels) && '{SERVICE_OF}' in object.metadata.labels"
    of_the_application = f"!(object.metadata.labels['{SERVICE_OF}'] in [{others}])"
    path = f'"/metadata/labels/" + jsonpatch.escapeKey("{IGNORED_BY_MESH}")'
    patch = f'[JSONPatch{{op: "add", path: {path}, value: object.metadata.labels["{SERVICE_OF}"]}}]'
    rule = {
        "apiGroups": ["discovery.k8s.io"],
        "apiVersions": ["v1"],
        "resources": ["endpointslices"],
        "operations": ["CREATE", "UPDATE"],
    }
    return [
        _of_kind(
            "MutatingAdmissionPolicy",
            {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": PROJECT}},
                    "resourceRules": [rule],
                },
                "matchConditions": [
                    {"name": "of-a-service", "expression": of_service},
                    {"name": "of-the-application", "expression": of_the_application},
                ],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
            },
        ),
        _of_kind("MutatingAdmissionPolicyBinding", {"policyName": POLICY}),
    ]


def _of_kind(kind: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": POLICY},
        "spec": spec,
    }
