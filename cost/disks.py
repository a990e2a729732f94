"""What a gp3 disk takes of the price list, be it a volume or the root disk of a node."""

from decimal import Decimal
from typing import Final

from cost.resources import Resource

FREE_IOPS: Final = 3000
FREE_THROUGHPUT: Final = 125
"""What every gp3 disk has at no further charge, MiB/s; https://aws.amazon.com/ebs/pricing/"""


def gp3(disk: Resource, *, type_: str, size: str) -> dict[str, Decimal]:
    """Quantities of one disk, whose type and size in GiB are the inputs of those names.

    Raises:
        UnknownCostError: its type is another, or an input is missing or not known yet.
    """
    if disk.plain(type_) != "gp3":
        raise disk.unknown(f"{type_} is not gp3, the only disk with a price here; take gp3")
    return {
        "gp3_storage": disk.number(size),
        "gp3_iops": max(disk.number("iops", FREE_IOPS) - FREE_IOPS, Decimal(0)),
        "gp3_throughput": max(disk.number("throughput", FREE_THROUGHPUT) - FREE_THROUGHPUT, Decimal(0)),
    }
