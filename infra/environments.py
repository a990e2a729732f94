"""What each environment takes where its stack file says nothing; in the words of a stack file."""

from collections.abc import Mapping
from typing import Any, Final, Literal, cast, get_args

Environment = Literal["dev", "staging", "prod"]
ENVIRONMENTS: Final = cast(tuple[Environment, ...], get_args(Environment))

_SPOT_4_GIB: Final = ["t3a.medium", "t3.medium"]
_SPOT_4_GIB_STEADY: Final = ["c6a.large", "c5a.large", "c6i.large", "c5.large"]
"""Prod's nodes do not burst: a T type on standard credits is throttled just when the load comes."""
_TWO_ZONES: Final = {"availabilityZones": ["us-east-1a", "us-east-1b"], "dataAvailabilityZone": "us-east-1a"}

DEFAULTS: Final[Mapping[Environment, Mapping[str, Any]]] = {
    "dev": {
        "protect": False,
        "network": {"cidrBlock": "10.10.0.0/16", **_TWO_ZONES},
        "cluster": {"version": "1.36", "publicAccessCidrs": []},
        "nodeGroups": [
            {
                "name": "general",
                "capacityType": "spot",
                "instanceTypes": _SPOT_4_GIB,
                "minSize": 1,
                "desiredSize": 1,
                "maxSize": 2,
                "hostsStores": True,
            }
        ],
        "stores": {
            "postgres": {"cpu": "250m", "memory": "512Mi", "diskGib": 10},
            "redis": {"cpu": "50m", "memory": "128Mi", "diskGib": 1},
            "backupRetentionDays": 7,
        },
        "blueGreen": {"enabled": False},
        "edge": {"enabled": False},
    },
    "staging": {
        "protect": False,
        "network": {"cidrBlock": "10.20.0.0/16", **_TWO_ZONES},
        "cluster": {"version": "1.36", "publicAccessCidrs": []},
        "nodeGroups": [
            {
                "name": "stores",
                "capacityType": "spot",
                "instanceTypes": _SPOT_4_GIB,
                "minSize": 1,
                "desiredSize": 1,
                "maxSize": 2,
                "hostsStores": True,
            },
            {
                "name": "general",
                "capacityType": "spot",
                "instanceTypes": _SPOT_4_GIB,
                "minSize": 1,
                "desiredSize": 1,
                "maxSize": 3,
            },
        ],
        "stores": {
            "postgres": {"cpu": "500m", "memory": "1Gi", "diskGib": 20},
            "redis": {"cpu": "100m", "memory": "256Mi", "diskGib": 2},
            "backupRetentionDays": 7,
        },
        "blueGreen": {"enabled": False},
        "edge": {"enabled": False},
    },
    "prod": {
        "protect": True,
        "network": {"cidrBlock": "10.30.0.0/16", **_TWO_ZONES},
        "cluster": {"version": "1.36", "publicAccessCidrs": []},
        "nodeGroups": [
            {
                "name": "stores",
                "capacityType": "on-demand",
                "instanceTypes": ["c6a.large"],
                "minSize": 1,
                "desiredSize": 1,
                "maxSize": 2,
                "hostsStores": True,
            },
            {
                "name": "general",
                "capacityType": "spot",
                "instanceTypes": _SPOT_4_GIB_STEADY,
                "minSize": 2,
                "desiredSize": 4,
                "maxSize": 6,
            },
        ],
        "stores": {
            "postgres": {"cpu": "1", "memory": "1536Mi", "diskGib": 50},
            "redis": {"cpu": "100m", "memory": "256Mi", "diskGib": 4},
            "backupRetentionDays": 35,
        },
        "blueGreen": {"enabled": True},
        "edge": {"enabled": True},
    },
}


MIN_REPLICAS: Final[Mapping[Environment, int]] = {"dev": 1, "staging": 1, "prod": 2}
"""Replicas of a service that says nothing else."""


def with_defaults(environment: object, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config's values over its environment's defaults: sections key by key, everything else as a whole.

    An empty list or text is the schema's default in Pulumi.yaml, and means the environment's. An unknown environment
    takes dev's defaults, so that it is all that validation complains about.
    """
    merged = dict(values)
    for key, default in DEFAULTS[environment if environment in ENVIRONMENTS else "dev"].items():
        given = values.get(key)
        if given in (None, "", [], ()):
            merged[key] = default
        elif isinstance(default, Mapping) and isinstance(given, Mapping):
            merged[key] = {**default, **given}
    return merged
