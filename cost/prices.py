"""The dated price list: AWS's list prices from prices.toml, and those of the instance types."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from cost.instance_types import INSTANCE_TYPES, InstanceType

FOLDER: Final = Path(__file__).parent

HOURS_A_MONTH: Final = Decimal(730)
"""What AWS's own calculator takes for a month."""

Lifecycle = Literal["spot", "on-demand"]
INSTANCE_SOURCES: Final[Mapping[Lifecycle, str]] = {
    "spot": "https://aws.amazon.com/ec2/spot/pricing/",
    "on-demand": "https://aws.amazon.com/ec2/pricing/on-demand/",
}


@dataclass(frozen=True, kw_only=True)
class Price:
    """One entry of the price list; `free_per_account` units a month are free in each account."""

    usd: Decimal
    unit: str
    source: str
    free_per_account: Decimal = Decimal(0)
    on_demand_usd: Decimal | None = None
    """What an hour of the same instance costs on demand; None for what is no instance."""


@cache
def price_list() -> Mapping[str, Price]:
    """The price list, by the names that quantities refer to."""
    listed = {
        name: Price(
            usd=entry["usd"],
            unit=entry["unit"],
            source=entry["source"],
            free_per_account=Decimal(entry.get("free_per_account", 0)),
        )
        for name, entry in read_toml("prices.toml")["prices"].items()
    }
    instances = {
        instance_price(type_, lifecycle): Price(
            usd=instance_usd(type_, lifecycle),
            unit="hour",
            source=source,
            on_demand_usd=type_.on_demand_usd_per_hour,
        )
        for type_ in INSTANCE_TYPES.values()
        for lifecycle, source in INSTANCE_SOURCES.items()
    }
    return {**listed, **instances}


@cache
def price_list_date() -> str:
    """The day on which the prices were true, as YYYY-MM-DD."""
    return str(read_toml("prices.toml")["as_of"])


def instance_price(type_: InstanceType, lifecycle: Lifecycle) -> str:
    """Name of the price of an instance's hour."""
    return f"{type_.name} {lifecycle}"


def instance_usd(type_: InstanceType, lifecycle: Lifecycle) -> Decimal:
    """US dollars an hour."""
    return type_.spot_usd_per_hour if lifecycle == "spot" else type_.on_demand_usd_per_hour


@cache
def read_toml(file_name: str) -> dict[str, Any]:
    """A data file of this package, with exact fractions."""
    return tomllib.loads((FOLDER / file_name).read_text(), parse_float=Decimal)
