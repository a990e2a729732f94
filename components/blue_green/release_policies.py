"""ReleasePolicies: what the API server refuses of a deployment, so that none undoes a rollback or closes the way back.

A deployment goes by what it read when it began. The API server sees the traffic as it is when a change arrives, and by
`managedFields` who has brought it there and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components.blue_green.istio import NETWORKING
from components.shared.manifests import NAMESPACE
from components.shared.mesh import (
    DEPLOYER,
    FULL_WEIGHT,
    KEEP_BLUE,
    RETIRE_AFTER_ANNOTATION,
    RUNBOOK,
    WEIGHT_ANNOTATION,
)

KEEP_ROLLBACKS: Final = "pyairtable-keep-rollbacks"
SIDES: Final = ("oldObject", "object")
"""What CEL calls an object before a change, and after it."""
HOW_TO_STOP_BLUE: Final = "take blueGreen.stopped: blue out of the stack file: runbook retire puts it there in time"


@dataclass(frozen=True, kw_only=True)
class ReleasePoliciesArgs:
    """Whose route it is, and how long blue has to stay."""

    service: str
    """The public service, whose VirtualService of the same name holds the weights."""
    retire_after_seconds: int
    """For so long green has to have had all traffic before a deployment may stop blue."""


class ReleasePolicies(pulumi.ComponentResource):
    """Two ValidatingAdmissionPolicies. A change that lowers green's weight is never refused."""

    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: ReleasePoliciesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:ReleasePolicies", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.ready = [
            *_policy(f"{name}-rollbacks", {"name": KEEP_ROLLBACKS}, keep_rollbacks(args.service), {}, child),
            *_policy(
                f"{name}-blue",
                {"name": KEEP_BLUE, "annotations": {RETIRE_AFTER_ANNOTATION: str(args.retire_after_seconds)}},
                keep_blue(args.retire_after_seconds),
                {
                    "param_ref": {
                        "name": args.service,
                        "namespace": NAMESPACE,
                        "parameter_not_found_action": "Allow",  # without a route nobody has left blue
                    }
                },
                child,
            ),
        ]
        self.register_outputs({})


def keep_rollbacks(service: str) -> dict[str, Any]:
    """What the runbook has moved, only the runbook moves on to green, until a deployment has asked for the same."""
    old, new = (f'int({side}.metadata.?annotations[?"{WEIGHT_ANNOTATION}"].orValue("0"))' for side in SIDES)
    return {
        **_updates(NETWORKING, "virtualservices", resource_names=[service]),
        "match_conditions": [{"name": "gives-green-more", "expression": f"{new} > {old}"}],
        "variables": [
            {"name": name, "expression": f"{_owners(side)}.map(entry, entry.manager)"}
            for name, side in zip(("ownersBefore", "ownersAfter"), SIDES, strict=True)
        ],
        "validations": [
            {
                "expression": (
                    "size(variables.ownersBefore) == 0"
                    f' || variables.ownersBefore.exists(manager, manager.startsWith("{DEPLOYER}"))'
                    f' || "{RUNBOOK}" in variables.ownersAfter'
                ),
                "message_expression": (
                    f'"giving green " + string({new}) + " % of the requests: the runbook, or a hand, has moved it to "'
                    f' + string({old}) + " %, which no deployment has asked for since; if " + string({new})'
                    f' + " % is meant, go there with runbook shift --to " + string({new})'
                    f' + ", else deploy with blueGreen.greenWeight: " + string({old})'
                ),
            }
        ],
    }


def keep_blue(seconds: int) -> dict[str, Any]:
    """A deployment stops blue only once green has had all traffic for so long."""
    return {
        **_updates("apps/v1", "deployments"),
        "param_kind": {"api_version": NETWORKING, "kind": "VirtualService"},
        "match_conditions": [
            {"name": "of-blue", "expression": 'object.metadata.?labels[?"version"].orValue("") == "blue"'},
            {"name": "stops-it", "expression": "oldObject.spec.replicas > 0 && object.spec.replicas == 0"},
        ],
        "variables": [
            {"name": "owners", "expression": _owners("params")},
            # By an update one owns only what one changes. Who applies the same weight later owns it, too, and its entry
            # may be of long before.
            {"name": "updaters", "expression": 'variables.owners.filter(entry, entry.operation == "Update")'},
            {
                "name": "changers",
                "expression": "size(variables.updaters) > 0 ? variables.updaters : variables.owners",
            },
            # The change that is looked at is among its own entries: the latest is now.
            {
                "name": "times",
                "expression": (
                    "object.metadata.managedFields.filter(entry, has(entry.time)).map(entry, timestamp(entry.time))"
                ),
            },
        ],
        "validations": [
            {
                "expression": (
                    f'params.metadata.?annotations[?"{WEIGHT_ANNOTATION}"].orValue("") == "{FULL_WEIGHT}"'
                    f" && params.spec.http.exists(rule, rule.route.exists(to, to.?weight.orValue(0) == {FULL_WEIGHT}"
                    ' && to.destination.subset == "green"))'
                ),
                "message": f"stopping blue: green has not all requests; {HOW_TO_STOP_BLUE}",
            },
            {
                "expression": (
                    "size(variables.changers) > 0 && variables.changers.all(entry, has(entry.time)"
                    f' && variables.times.exists(now, now - timestamp(entry.time) >= duration("{seconds}s")))'
                ),
                "message": f"stopping blue: green has not had all requests for {seconds} s; {HOW_TO_STOP_BLUE}",
            },
        ],
    }


def _owners(what: str) -> str:
    """Entries of `managedFields`, as CEL: those that own the weight."""
    fields = f'?fieldsV1[?"f:metadata"][?"f:annotations"][?"f:{WEIGHT_ANNOTATION}"]'
    return f"{what}.metadata.?managedFields.orValue([]).filter(entry, entry.{fields}.hasValue())"


def _updates(api_version: str, resources: str, **more: list[str]) -> dict[str, Any]:
    """Which changes a policy looks at; what it cannot read it lets through, so as not to be in a rollback's way."""
    group, _, version = api_version.partition("/")
    rule = {
        "api_groups": [group],
        "api_versions": [version],
        "resources": [resources],
        "operations": ["UPDATE"],
        **more,
    }
    return {
        "failure_policy": "Ignore",
        "match_constraints": {
            "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "resource_rules": [rule],
        },
    }


def _policy(
    resource_name: str, metadata: Any, spec: Any, binding: Mapping[str, Any], opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """A policy, and what puts it in force."""
    policy = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicy(
        resource_name, metadata=metadata, spec=spec, opts=opts
    )
    bound: Any = {"policy_name": policy.metadata.name, "validation_actions": ["Deny"], **binding}
    return [
        policy,
        kubernetes.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{resource_name}-binding", metadata={"name": metadata["name"]}, spec=bound, opts=opts
        ),
    ]
