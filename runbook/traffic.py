"""The VirtualService that splits the traffic between blue and green: what it says, since when, and how it is changed.

Its last route, named `weighted`, has both subsets and their weights; an annotation notes green's weight beside it. Who
changes the one changes the other, in one patch, so that a change by hand is noticed.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from components.shared.manifests import NAMESPACE
from components.shared.mesh import DEPLOYER, FULL_WEIGHT, RUNBOOK
from components.shared.mesh import WEIGHT_ANNOTATION as ANNOTATION
from runbook.errors import RunbookError
from runbook.kubectl import Kubectl, KubectlError, Manifest

SERVICE: Final = "api-gateway"
"""The public service, and the VirtualService in front of it."""
HOST: Final = f"{SERVICE}.{NAMESPACE}.svc.cluster.local"
PATH: Final = f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices/{SERVICE}"
ROUTE: Final = "weighted"
BLUE: Final = "blue"
GREEN: Final = "green"
ATTEMPTS: Final = 5
"""To change what somebody else changes at the same moment, such as a deployment."""


class NoTrafficError(RunbookError):
    """There is nothing that splits the traffic."""


class ConflictError(RunbookError):
    """Somebody else has changed it at the same moment."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the mesh does with the traffic."""

    weight: int | None
    """Green's share in per cent; None where the route is not as the program makes it."""
    annotation: str | None
    changed_by: str = ""
    changed_at: datetime | None = None
    """Who gave green the weight that it has, and when; unknown where the API server does not say."""
    is_deployed: bool = True
    """Whether a deployment has asked for this weight, too, since it was changed."""

    @property
    def is_noted(self) -> bool:
        """Whether the annotation says what the route does."""
        return self.weight is not None and self.annotation == str(self.weight)

    def is_in_step(self, *, deployed: object, config: object) -> bool:
        """Whether a deployment may go on: it changes nothing that it does not know of.

        Config that differs from the mesh is an edit, as long as the mesh is as it was deployed, and nobody has moved it
        back there since; and where the runbook has changed the mesh, it has changed the config, too.
        """
        return self.is_noted and (self.weight == config or (self.weight == deployed and self.is_deployed))


def read(kubectl: Kubectl) -> Traffic:
    """The traffic as it is split now.

    Raises:
        NoTrafficError: there is no VirtualService.
        KubectlError: the cluster does not say.
    """
    return of(_found(kubectl))


def of(service: Manifest) -> Traffic:
    """What a VirtualService says."""
    route = _route(service)
    owners = [entry for entry in service["metadata"].get("managedFields") or [] if _owns(entry)]
    # By an update one owns only what one changes. Who applies the same weight later owns it, too, and its entry may
    # be of long before.
    changers = [entry for entry in owners if entry.get("operation") == "Update"] or owners
    since, manager = max(
        ((datetime.fromisoformat(entry["time"]), entry["manager"]) for entry in changers if entry.get("time")),
        default=(None, ""),
    )
    return Traffic(
        weight=_weight(route) if route else None,
        annotation=(service["metadata"].get("annotations") or {}).get(ANNOTATION),
        changed_by=manager,
        changed_at=since,
        is_deployed=not owners or any(entry["manager"].startswith(DEPLOYER) for entry in owners),
    )


def set_weight(kubectl: Kubectl, weight: int, *, expected: int | None = None) -> Traffic:
    """Give green a weight, and note it, in one patch; how it was before.

    Whoever expects another one to be changed leaves alone what somebody else has set meanwhile.

    Raises:
        RunbookError: the VirtualService is not as the program makes it, or not as expected.
        KubectlError: the cluster does not take it.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(ConflictError):
            return _set_weight(kubectl, weight, expected)
    return _set_weight(kubectl, weight, expected)


def _set_weight(kubectl: Kubectl, weight: int, expected: int | None) -> Traffic:
    service = _found(kubectl)
    before = of(service)
    if expected is not None and before.weight != expected:
        raise RunbookError(f"{before.changed_by or 'somebody'} has moved the traffic to {before.weight} %")
    try:
        if before.is_noted and before.weight == weight and before.is_deployed:
            # A patch that changes nothing would leave it a deployment's, and one may be under way with another weight.
            service = kubectl.patch(PATH, _noted(service, None), field_manager=RUNBOOK)
        kubectl.patch(PATH, _change(service, weight), field_manager=RUNBOOK)
    except KubectlError as error:
        if error.reason == "Conflict":
            raise ConflictError(f"{error}; run it again") from None
        raise
    return before


def _found(kubectl: Kubectl) -> Manifest:
    service = kubectl.get(PATH)
    if service is None:
        raise NoTrafficError(
            f"looking for the VirtualService {SERVICE}: there is none; deploy at phase 4, with blueGreen.enabled"
        )
    return service


def _change(service: Manifest, weight: int) -> Manifest:
    """The merge patch. A list is replaced as a whole, so it must be that of the version that was read."""
    changed = _route(service)
    if changed is None or _weight(changed) is None:
        raise RunbookError(
            f"changing the VirtualService {SERVICE}: it has no route {ROUTE} with the subsets {BLUE} and {GREEN}; "
            "bring it back with a deployment"
        )
    weights = {BLUE: FULL_WEIGHT - weight, GREEN: weight}
    route = {**changed, "route": [{**part, "weight": weights[_subset(part)]} for part in changed["route"]]}
    http = [route if part is changed else part for part in service["spec"]["http"]]
    return {**_noted(service, str(weight)), "spec": {"http": http}}


def _noted(service: Manifest, note: str | None) -> Manifest:
    return {"metadata": {"resourceVersion": service["metadata"]["resourceVersion"], "annotations": {ANNOTATION: note}}}


def _route(service: Manifest) -> Manifest | None:
    return next((part for part in service["spec"].get("http") or [] if part.get("name") == ROUTE), None)


def _weight(route: Manifest) -> int | None:
    weights = {_subset(part): part.get("weight", 0) for part in route.get("route") or []}
    is_ours = weights.keys() == {BLUE, GREEN} and sum(weights.values()) == FULL_WEIGHT
    return weights[GREEN] if is_ours else None


def _subset(part: Manifest) -> str:
    return str((part.get("destination") or {}).get("subset", ""))


def _owns(entry: dict[str, Any]) -> bool:
    """Whether an entry of `managedFields` owns the annotation."""
    annotations = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations") or {}
    return f"f:{ANNOTATION}" in annotations
