"""Watches a share of traffic while it is held: what the gateways count, whether green is there, whether others act."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from runbook import gateways, traffic
from runbook.checks import is_available, of_colour
from runbook.errors import RunbookError
from runbook.kubectl import KubectlError, Objects
from runbook.lease import now
from runbook.statistics import COLOURS, Count, Statistics, nothing
from runbook.target import Place

ERROR_RATE: Final = 0.001
"""The runbook's success metrics: Error Rate < 0.1%."""
P95_MS: Final = 200.0
"""The runbook's success metrics: Response Time < 200ms p95."""
SURE_FAILURES: Final = 5
"""From so many on, failed requests are no accident, and nobody waits for the end of the step."""
WINDOW_SECONDS: Final = 10.0
WINDOW_REQUESTS: Final = 100
"""Fewer than that say little of a percentile; Envoy brings them every five seconds."""
HANGING_SECONDS: Final = 10.0
HANGING_REQUESTS: Final = 5
"""So many requests under way, and no answer for so long: no single slow one, and no lull."""
UNAVAILABLE_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 3.0
"""istiod ends every connection from time to time, and the next is there within a second."""
AWAY_SECONDS: Final = 30.0
"""An API server that is replaced is back by then; the traffic does not depend on it."""

GATEWAY: Final = "gateway "
"""How that of which a gateway is the name begins, of all that may be wrong."""


class CrossedError(RunbookError):
    """Green is not as good as it has to be: the traffic goes back."""


class StopError(RunbookError):
    """Nobody knows any more whether green is good enough: the traffic stays as it is."""


class Meter:
    """Counts of all gateways since it was read last, whichever of them have come, gone or started anew meanwhile."""

    def __init__(self, found: Mapping[str, Statistics | None]) -> None:
        self._last: dict[str, Statistics] = {}
        self.read(found)

    def read(self, found: Mapping[str, Statistics | None]) -> dict[str, Count]:
        """What each colour got meanwhile. A gateway that does not answer is counted when it does."""
        counts = nothing()
        for name, counted in found.items():
            if counted is None:
                continue
            before = self._last.get(name)
            for colour in COLOURS:
                counts[colour] += counted.colours[colour].since(before.colours[colour] if before else Count())
            self._last[name] = counted
        return counts


@dataclass(kw_only=True)
class Figures:
    """What one step has shown so far."""

    weight: int
    began: datetime = field(default_factory=now)
    """When the mesh had the weight."""
    seconds: float = 0.0
    counts: dict[str, Count] = field(default_factory=nothing)
    result: str = "stopped"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "weight": self.weight,
            "began": self.began.isoformat(),
            "seconds": round(self.seconds, 3),
            "result": self.result,
            **{colour: _figures(count) for colour, count in self.counts.items()},
        }


class Watch:
    """Watches one step; a look a second."""

    def __init__(self, place: Place, meter: Meter, weight: int) -> None:
        self._place, self._meter = place, meter
        self.figures = Figures(weight=weight)
        self._recent: deque[tuple[float, Count]] = deque()
        self._since: dict[str, float] = {}
        """Since when something has been wrong without a break."""

    def look(self, at: float) -> str:
        """Look, so many seconds after the step began; what is in the way of looking, if anything.

        Raises:
            CrossedError: green is not as good as it has to be.
            StopError: it cannot be told any more, or somebody else has moved the traffic.
        """
        self.figures.seconds = at
        try:
            objects = self._place.kubectl.read([f"virtualservice/{traffic.SERVICE}"], ["deployment"])
            found = gateways.statistics(self._place)
            if not any(found.values()):
                raise KubectlError("looking at the gateways: none of them answers")
        except KubectlError as error:
            if self._lasts("away", at, wrong=True) >= AWAY_SECONDS:
                raise StopError(f"{error}; waited {AWAY_SECONDS:.0f} s") from None
            return str(error)
        self._lasts("away", at, wrong=False)
        for colour, count in self._meter.read(found).items():
            self.figures.counts[colour] += count
            if colour == traffic.GREEN:
                self._recent.append((at, count))
        while self._recent[0][0] <= at - WINDOW_SECONDS:
            self._recent.popleft()
        self._judge(objects, found, at)
        return ""

    def judge_all(self, min_requests: int) -> bool:
        """Judge the whole step at its end; False where too few requests came for that.

        Raises:
            CrossedError: green has failed too many of them.
            StopError: a gateway would not hear of the next step.
        """
        green = self.figures.counts[traffic.GREEN]
        if green.error_rate > ERROR_RATE:
            raise CrossedError(self._too_many_failed(green))
        if lost := sorted(self._gateways()):
            raise StopError(f"gateway {', '.join(lost)} hears nothing of istiod")
        return green.requests >= min_requests

    def _judge(self, objects: Objects, found: Mapping[str, Statistics | None], at: float) -> None:
        self._judge_weight(objects)
        green = self.figures.counts[traffic.GREEN]
        if green.failed >= SURE_FAILURES and green.error_rate > ERROR_RATE:
            raise CrossedError(self._too_many_failed(green))
        recent = sum((count for _, count in self._recent), Count())
        p95 = recent.percentile(0.95)
        if p95 is not None and p95 > P95_MS and recent.timed >= WINDOW_REQUESTS:
            raise CrossedError(
                f"green's p95 was {p95:.0f} ms over the last {WINDOW_SECONDS:.0f} s, more than {P95_MS:.0f} ms"
            )
        self._judge_hanging(found, at)
        for name, deployment in of_colour(objects, traffic.GREEN).items():
            if self._lasts(name, at, wrong=not is_available(deployment)) >= UNAVAILABLE_SECONDS:
                raise CrossedError(f"{name} has had no available pod for {UNAVAILABLE_SECONDS:.0f} s")
        lost = gateways.unconnected(found)
        for name in self._gateways() - found.keys():  # it is gone, and sends nothing any more
            del self._since[f"{GATEWAY}{name}"]
        for name in found:
            if self._lasts(f"{GATEWAY}{name}", at, wrong=name in lost) >= SILENT_SECONDS:
                raise StopError(f"gateway {name} hears nothing of istiod; see kubectl -n istio-system get pods")

    def _gateways(self) -> set[str]:
        """Those that have heard nothing of istiod since some time."""
        return {name.removeprefix(GATEWAY) for name in self._since if name.startswith(GATEWAY)}

    def _judge_hanging(self, found: Mapping[str, Statistics | None], at: float) -> None:
        """Requests that never end have not failed, and took no time yet."""
        active = sum(counted.active[traffic.GREEN] for counted in found.values() if counted)
        _, count = self._recent[-1]
        wrong = active >= HANGING_REQUESTS and not count.requests
        if self._lasts("hanging", at, wrong=wrong) >= HANGING_SECONDS:
            raise CrossedError(f"green holds {active:.0f} requests and has answered none for {HANGING_SECONDS:.0f} s")

    def _judge_weight(self, objects: Objects) -> None:
        service = objects.get(f"virtualservice/{traffic.SERVICE}")
        if service is None:
            raise StopError(f"the VirtualService {traffic.SERVICE} is gone")
        now = traffic.of(service)
        if not now.is_noted or now.weight != self.figures.weight:
            who = now.changed_by or "somebody"
            raise StopError(f"{who} has moved the traffic to {now.weight} %, the annotation says {now.annotation}")

    def _lasts(self, what: str, at: float, *, wrong: bool) -> float:
        """For how many seconds something has been wrong without a break."""
        if not wrong:
            self._since.pop(what, None)
            return 0.0
        return at - self._since.setdefault(what, at)

    def _too_many_failed(self, green: Count) -> str:
        return (
            f"green failed {green.failed:.0f} of {green.requests:.0f} requests, {green.error_rate:.2%}, more than "
            f"{ERROR_RATE:.1%}"
        )


def _figures(count: Count) -> dict[str, Any]:
    percentiles = {name: count.percentile(share) for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95))}
    return {
        "requests": round(count.requests),
        "failed": round(count.failed),
        "error_rate": round(count.error_rate, 6),
        **{name: value if value is None else round(value, 2) for name, value in percentiles.items()},
    }
