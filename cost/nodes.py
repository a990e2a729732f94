"""Node groups: what their nodes take of the price list, how many are spot, and how much CPU they sustain."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cost.disks import gp3
from cost.figures import Figures
from cost.instance_types import INSTANCE_TYPES, InstanceType
from cost.prices import HOURS_A_MONTH, Lifecycle, instance_price, instance_usd
from cost.resources import Resource, Stack, by_type_and_name
from cost.schedule import running_share

NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
SCHEDULE: Final = "aws:autoscaling/schedule:Schedule"

GROUP_SUFFIX: Final = "-group"
"""A group `N-group` is billed with its `N-launch-template`, `N-stop` and `N-start`: inputs relate them by ids only."""
PUBLIC_ADDRESS_TAG: Final = "PublicAddress"
"""Tag of a group, "true" or "false": its inputs name its subnets, which decide, by ids only."""

LIFECYCLES: Final[Mapping[str, Lifecycle]] = {"SPOT": "spot", "ON_DEMAND": "on-demand"}


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """A managed node group as it is billed."""

    nodes: Figures
    lifecycle: Lifecycle
    instance_types: tuple[InstanceType, ...]
    """The cheapest first."""
    disks: Mapping[str, Decimal]
    """Quantities of the disks of one node."""
    public_address: bool
    running: Decimal
    """Share of the week in which its schedule, if it has one, leaves it nodes."""

    @property
    def quantities(self) -> dict[str, Figures]:
        """What the group takes in a month.

        At the least its smallest size of the cheapest type, at the most its largest size of the dearest; the expected
        nodes are spread evenly over the types.
        """
        nodes = self.nodes.times(self.running)
        hours = nodes.times(HOURS_A_MONTH)
        cheapest, dearest = self.instance_types[0], self.instance_types[-1]
        instances = {
            instance_price(type_, self.lifecycle): Figures(
                minimum=hours.minimum if type_ is cheapest else Decimal(0),
                expected=hours.expected / len(self.instance_types),
                maximum=hours.maximum if type_ is dearest else Decimal(0),
            )
            for type_ in self.instance_types
        }
        disks = {price: nodes.times(quantity) for price, quantity in self.disks.items()}
        addresses = {"public_ipv4": hours} if self.public_address else {}
        return {**instances, **disks, **addresses}

    @property
    def sustained_millis(self) -> int:
        """CPU that an expected number of the weakest type's instances sustains, in thousandths of a vCPU."""
        return int(self.nodes.expected * min(_sustained_millis(type_) for type_ in self.instance_types))


def node_group(resource: Resource, stack: Stack) -> NodeGroup:
    """The node group that a resource of the type describes, with what belongs to it.

    Raises:
        UnknownCostError: something that decides about the price is unknown or nowhere priced.
    """
    lifecycle = LIFECYCLES.get(resource.plain("capacityType", "ON_DEMAND"))
    if lifecycle is None:
        raise resource.unknown(f"capacityType is not one of those with a price: {', '.join(LIFECYCLES)}")
    types = _instance_types(resource, lifecycle)
    name = resource.name.removesuffix(GROUP_SUFFIX)
    template = stack.get((LAUNCH_TEMPLATE, f"{name}-launch-template"))
    if name == resource.name or template is None:
        raise resource.unknown(
            "its disk and CPU credits are those of a launch template that is not there; name them N-group and "
            "N-launch-template"
        )
    _require_no_extras(template, types)
    return NodeGroup(
        nodes=Figures(*(resource.number(f"scalingConfig.{size}") for size in ("minSize", "desiredSize", "maxSize"))),
        lifecycle=lifecycle,
        instance_types=types,
        disks=_disks(template),
        public_address=_has_public_address(resource),
        running=_running_share(resource, stack.get((SCHEDULE, f"{name}-stop")), stack.get((SCHEDULE, f"{name}-start"))),
    )


def node_groups(resources: Iterable[Resource]) -> tuple[NodeGroup, ...]:
    """All node groups of a stack."""
    stack = by_type_and_name(resources)
    return tuple(node_group(resource, stack) for (type_, _), resource in stack.items() if type_ == NODE_GROUP)


def spot_share(resources: Iterable[Resource]) -> Decimal:
    """Percentage of the expected nodes that are spot instances, to a tenth; 0 where there are no nodes."""
    count: Counter[Lifecycle] = Counter()
    for group in node_groups(resources):
        count[group.lifecycle] += int(group.nodes.expected)
    return (Decimal(100 * count["spot"]) / max(count.total(), 1)).quantize(Decimal("0.1"))


def baseline_millis(resources: Iterable[Resource]) -> int:
    """CPU that the expected nodes sustain on standard credits, in thousandths of a vCPU: 400 of a t3.medium's 2000."""
    return sum(group.sustained_millis for group in node_groups(resources))


def _sustained_millis(type_: InstanceType) -> Decimal:
    return 1000 * type_.vcpus * (Decimal(1) if type_.baseline is None else type_.baseline)


def _instance_types(resource: Resource, lifecycle: Lifecycle) -> tuple[InstanceType, ...]:
    names: list[str] = resource.plain("instanceTypes", [])
    unknown = [name for name in names if name not in INSTANCE_TYPES]
    if unknown or not names:
        raise resource.unknown(
            f"instanceTypes has {', '.join(map(str, unknown)) or 'nothing'}, which has no price; take one of "
            f"{', '.join(INSTANCE_TYPES)}, or add it to cost/instance_types.toml"
        )
    types = [INSTANCE_TYPES[name] for name in names]
    return tuple(sorted(types, key=lambda type_: instance_usd(type_, lifecycle)))


def _require_no_extras(template: Resource, types: Iterable[InstanceType]) -> None:
    """Refuse what would be billed by a use that nobody has estimated."""
    bursting = [type_.name for type_ in types if type_.baseline is not None]
    if bursting and template.plain("creditSpecification.cpuCredits") != "standard":
        raise template.unknown(
            f"{bursting[0]} bills CPU above its baseline unless creditSpecification.cpuCredits is standard; set it"
        )
    if template.plain("monitoring.enabled", default=False):
        raise template.unknown("monitoring.enabled bills seven metrics for each instance; leave it out")


def _disks(template: Resource) -> Mapping[str, Decimal]:
    devices = template.parts("blockDeviceMappings")
    if not devices:
        raise template.unknown("blockDeviceMappings is missing; give the size of the root disk")
    disks = [gp3(device.part("ebs"), type_="volumeType", size="volumeSize") for device in devices]
    return {price: sum((disk[price] for disk in disks), Decimal(0)) for price in disks[0]}


def _has_public_address(resource: Resource) -> bool:
    tag = resource.plain(f"tags.{PUBLIC_ADDRESS_TAG}")
    if tag not in ("true", "false"):
        raise resource.unknown(
            f'the tag {PUBLIC_ADDRESS_TAG} does not say whether its nodes have public addresses; set it to "true" or '
            '"false"'
        )
    return tag == "true"


def _running_share(group: Resource, stop: Resource | None, start: Resource | None) -> Decimal:
    if stop is None and start is None:
        return Decimal(1)
    if stop is None or start is None:
        raise group.unknown("it is stopped or started by a schedule, but not both; add the other one")
    if stop.number("desiredCapacity") != 0:
        raise stop.unknown("desiredCapacity is not 0; let it stop all nodes")
    try:
        return running_share(stop.plain("recurrence", ""), start.plain("recurrence", ""))
    except ValueError as error:
        raise group.unknown(
            f"the hours of its schedule cannot be told: {error}; write it as 0 20 * * MON-FRI"
        ) from None
