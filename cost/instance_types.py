"""EC2 instance types: their size as Kubernetes sees it and their price; the only list of them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

MEMORY_FOR_THE_SYSTEM: Final = Decimal("0.06")
"""Share of the memory that an AL2023 node does not report: 3850 of a t3.medium's 4096 MiB arrive."""
RESERVED_MIB: Final = 255
RESERVED_MIB_PER_POD: Final = 11
EVICTION_MIB: Final = 100
"""https://docs.aws.amazon.com/eks/latest/userguide/choosing-instance-type.html#node-reservations"""


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """One type of EC2 instance. Prices in US dollars an hour."""

    name: str
    vcpus: int
    memory_mib: int
    pod_limit: int
    """Pods with an address each and no prefix delegation; the kubelet reserves memory for as many."""
    architecture: Literal["amd64", "arm64"]
    baseline: Decimal | None
    """Share of each vCPU that a burstable type sustains with standard credits; None for one that does not burst."""
    on_demand_usd_per_hour: Decimal
    spot_usd_per_hour: Decimal

    @property
    def allocatable_cpu_millis(self) -> int:
        """CPU for pods, in thousandths of a vCPU: less 6 % of the first, 1 % of the second, 0.5 % of the next two."""
        shares = [Decimal("0.06"), Decimal("0.01"), Decimal("0.005"), Decimal("0.005")]
        reserved = sum(shares[: self.vcpus], Decimal(0)) + Decimal("0.0025") * max(0, self.vcpus - len(shares))
        return int(1000 * (self.vcpus - reserved))

    @property
    def allocatable_memory_mib(self) -> int:
        """Memory for pods."""
        reported = int(self.memory_mib * (1 - MEMORY_FOR_THE_SYSTEM))
        return reported - RESERVED_MIB - RESERVED_MIB_PER_POD * self.pod_limit - EVICTION_MIB


def _read() -> Mapping[str, InstanceType]:
    text = Path(__file__).with_suffix(".toml").read_text()
    return {
        name: InstanceType(
            name=name,
            vcpus=entry["vcpus"],
            memory_mib=entry["memory_mib"],
            pod_limit=entry["pod_limit"],
            architecture=entry["architecture"],
            baseline=entry.get("baseline"),
            on_demand_usd_per_hour=entry["on_demand_usd"],
            spot_usd_per_hour=entry["spot_usd"],
        )
        for name, entry in tomllib.loads(text, parse_float=Decimal)["types"].items()
    }


INSTANCE_TYPES: Final = _read()
