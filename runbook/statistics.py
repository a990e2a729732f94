"""What Envoy counts for each colour, and what that means: requests, failed ones, how long they took."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from runbook.traffic import BLUE, GREEN, HOST

COLOURS: Final = (BLUE, GREEN)
REQUESTS: Final = ("envoy_cluster_upstream_rq_xx", "envoy_cluster_upstream_rq")
"""As Envoy names it by itself, and as it does where Istio says how; the second has series of single codes, too."""
CLASSES: Final = ("envoy_response_code_class", "response_code_class")
"""The label that has the class of the status code: `5`, or `5xx` as Istio has it."""
LATENCY: Final = "envoy_cluster_upstream_rq_time_bucket"
ACTIVE: Final = "envoy_cluster_upstream_rq_active"
"""Requests that are under way: those that never end are counted nowhere else."""
CONNECTED: Final = "envoy_control_plane_connected_state"
WANTED: Final = (*(f"{name}{{" for name in (*REQUESTS, LATENCY, ACTIVE)), CONNECTED)
FAILED: Final = "5"
"""The class of status codes that counts as an error, Envoy's own 503 for want of a healthy pod included."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """Requests to one colour: since a gateway began, or within a time."""

    requests: float = 0
    failed: float = 0
    buckets: Mapping[float, float] = field(default_factory=dict[float, float])
    """Requests that took at most so many milliseconds."""

    def __add__(self, other: "Count") -> "Count":
        bounds = sorted(self.buckets.keys() | other.buckets.keys())
        return Count(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            buckets={bound: self.buckets.get(bound, 0) + other.buckets.get(bound, 0) for bound in bounds},
        )

    def since(self, before: "Count") -> "Count":
        """What has come since an earlier count of the same gateway; all of it where it has started anew."""
        if self.requests < before.requests or any(self.buckets.get(b, 0) < n for b, n in before.buckets.items()):
            return self
        return Count(
            requests=self.requests - before.requests,
            failed=self.failed - before.failed,
            buckets={bound: count - before.buckets.get(bound, 0) for bound, count in self.buckets.items()},
        )

    @property
    def error_rate(self) -> float:
        """Share of failed requests."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def timed(self) -> float:
        """Requests whose time is known; Envoy brings the times every few seconds."""
        return max(self.buckets.values(), default=0)

    def percentile(self, share: float) -> float | None:
        """Milliseconds within which a share of the requests was answered, interpolated within its bucket."""
        if not self.timed:
            return None
        wanted = share * self.timed
        bounds = pairwise([(0.0, 0.0), *sorted(self.buckets.items())])
        (below, fewer), (bound, count) = next(pair for pair in bounds if pair[1][1] >= wanted)
        if bound == float("inf"):
            return below  # of what took longer than the longest bound, that much is known
        return below + (bound - below) * (wanted - fewer) / (count - fewer)


def nothing() -> dict[str, Count]:
    """No requests, for each colour."""
    return {colour: Count() for colour in COLOURS}


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One gateway, since it started."""

    colours: Mapping[str, Count]
    connected: bool
    """Whether it hears of istiod; if not, it goes on with what it has heard last."""
    active: Mapping[str, float]
    """Requests that are under way to each colour."""


def parse(text: str) -> Statistics:
    """A gateway's statistics from what its Envoy shows to Prometheus."""
    from prometheus_client.parser import text_string_to_metric_families  # takes a tenth of a second

    counts = nothing()
    active: dict[str, float] = dict.fromkeys(COLOURS, 0.0)
    connected = False
    wanted = "".join(f"{line}\n" for line in _lines(text))
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            if sample.name == CONNECTED:
                connected = sample.value > 0
            elif not (colour := _colour(sample.labels)):
                continue
            elif sample.name == ACTIVE:
                active[colour] += sample.value
            else:
                counts[colour] += _count(sample.name, sample.labels, sample.value)
    return Statistics(colours=counts, connected=connected, active=active)


def _lines(text: str) -> Iterator[str]:
    """The lines that matter, of thousands. Without the types, which would have to match what is left."""
    return (line for line in text.splitlines() if line.startswith(WANTED))


def _count(name: str, labels: Mapping[str, str], value: float) -> Count:
    if name == LATENCY:
        return Count(buckets={float(labels["le"]): value})
    kind = next((labels[label] for label in CLASSES if label in labels), "")
    return Count(requests=value, failed=value if kind.startswith(FAILED) else 0) if kind else Count()


def _colour(labels: Mapping[str, str]) -> str:
    """Which colour of the public service a sample is about; Istio names clusters `outbound|PORT|SUBSET|HOST`."""
    cluster = labels.get("cluster_name") or labels.get("envoy_cluster_name") or ""
    match cluster.rstrip(";").split("|"):
        case ["outbound", _, colour, host] if host.rstrip(";") == HOST and colour in COLOURS:
            return colour
        case _:
            return ""
