"""What the sandbox changes in objects on their way into a cluster."""

from infra.naming import PROJECT
from sandbox.kubernetes_api import Manifest, Manifests

SERVICE_OF = "kubernetes.io/service-name"
IGNORED_BY_MESH = "multicluster.kubernetes.io/service-name"
"""Label of slices that come from another cluster. istiod leaves them alone."""
STORES = ("postgres", "redis")
POLICY = "sandbox-endpoint-slices"


def manifests() -> Manifests:
    """Let istiod leave alone where Kubernetes says that pods are: nothing can be reached there.

    Where they really are, on this machine, it hears from the WorkloadEntries of `sandbox.releases`.
    """
    stores = ", ".join(f"'{store}'" for store in STORES)
    of_service = f"has(object.metadata.labels) && '{SERVICE_OF}' in object.metadata.labels"
    not_of_a_store = f"!(object.metadata.labels['{SERVICE_OF}'] in [{stores}])"
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
                    {
                        "name": "not-of-a-store",
                        "expression": not_of_a_store,
                    },
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
