"""Latency, failures and shares while `runbook shift` moves traffic, and how soon `runbook rollback` takes it back."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.sandbox.traffic import HEARD_SECONDS, POINTS, RATE, ROLLBACK_SECONDS, Answer, Traffic

PICTURE = Path(__file__).parent / "shift.png"
FLOOR_SECONDS = 20
HOLD_SECONDS = 30
WEIGHTS = (10, 50, 100)
AFTER_SECONDS = 5
COLOURS = {"blue": "tab:blue", "green": "tab:green"}
MILLISECONDS = 1000


class Span(NamedTuple):
    """A time during which green had one weight; seconds of time.time()."""

    weight: int
    began: float
    ended: float


def shift(sandbox: list[str], state: Path) -> dict[str, Any]:
    """Figures of each weight, the first of which, 0, is the floor; and those of the rollback. Draws bench/shift.png."""
    _run([*sandbox, "up", "--stack", "prod", "--phase", "4"])
    outputs = json.loads(_run([*sandbox, "outputs", "--stack", "prod", "--json"]))
    runbook = [sys.executable, "-m", "runbook"]
    where = ["--stack", "prod", "--sandbox", "--state-dir", str(state)]
    steps = ",".join(map(str, WEIGHTS))
    print(f"shifting to {steps} at {RATE} requests a second", file=sys.stderr)
    with Traffic(f"{outputs['api_gateway_url']}/api/v1/users", rate=RATE) as traffic:
        began = time.time() + 1
        time.sleep(FLOOR_SECONDS + 1)
        spans = [Span(0, began, time.time())]
        told = json.loads(_run([*runbook, "shift", "--to", steps, "--hold", f"{HOLD_SECONDS}s", *where, "--json"]))
        for step in told["steps"]:
            at = datetime.fromisoformat(step["began"]).timestamp()
            spans.append(Span(step["weight"], at + HEARD_SECONDS, at + step["seconds"]))
        rollback = time.time()
        _run([*runbook, "rollback", *where])
        time.sleep(AFTER_SECONDS)
    answers = traffic.answers
    draw(answers, spans, rollback)
    floor, *weights = [_figures(traffic, span) for span in spans]
    last_green = max(answer.ended for answer in answers if answer.colour == "green")
    return {
        "requests": len(answers),
        "requests_per_second": round(len(answers) / (answers[-1].ended - answers[0].began), 1),
        "failed": len(traffic.failed),
        "floor": floor,
        "steps": weights,
        "p95_ratio": round(max(step["p95_ms"] for step in weights) / floor["p95_ms"], 2),
        "points_off": max(step["points_off"] for step in weights),
        "rollback_seconds": round(last_green - rollback, 3),
    }


def kept(measured: dict[str, Any]) -> bool:
    """Whether nothing has failed, and shares and the rollback are as they have to be."""
    return (
        not measured["failed"] and measured["points_off"] <= POINTS and measured["rollback_seconds"] <= ROLLBACK_SECONDS
    )


def draw(answers: Sequence[Answer], spans: Sequence[Span], rollback: float) -> None:
    """The latencies of each weight by colour, over the answers' times and colours."""
    import matplotlib as mpl  # takes half a second, and a display where it is not told otherwise

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 8), height_ratios=(2, 3), layout="constrained")
    ticks: dict[float, str] = {}
    for place, span in enumerate(spans):
        for side, (colour, paint) in enumerate(COLOURS.items()):
            seconds = [a.seconds * MILLISECONDS for a in answers if a.colour == colour and _is_in(a, span)]
            if seconds:
                box = above.boxplot(
                    [seconds], positions=[place + 0.3 * side], widths=0.25, whis=(5, 95), showfliers=False,
                    patch_artist=True, medianprops={"color": "black"},
                )  # fmt: skip
                box["boxes"][0].set_facecolor(paint)
        ticks[place + 0.15] = f"{span.weight} % green"
    above.set_xticks([*ticks], [*ticks.values()])
    above.set_ylabel("ms (box: quarters, whiskers: 5 and 95 %)")
    above.set_title("Latency at the edge by weight and colour")
    zero = answers[0].began
    for colour, paint in COLOURS.items():
        mine = [answer for answer in answers if answer.colour == colour]
        below.scatter(
            [answer.ended - zero for answer in mine], [answer.seconds * MILLISECONDS for answer in mine],
            s=3, color=paint, label=colour, alpha=0.5, linewidths=0,
        )  # fmt: skip
    for span in spans[1:]:
        below.axvline(span.began - zero, color="grey", linewidth=0.8)
        below.text(span.began - zero, 0.98, f" {span.weight} %", transform=below.get_xaxis_transform(), va="top")
    below.axvline(rollback - zero, color="tab:red", linewidth=0.8)
    below.text(rollback - zero, 0.98, " rollback", transform=below.get_xaxis_transform(), va="top", color="tab:red")
    below.set_yscale("log")
    below.set_xlabel("seconds")
    below.set_ylabel("ms of each request")
    below.legend(loc="lower left", markerscale=3)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def _figures(traffic: Traffic, span: Span) -> dict[str, Any]:
    answers = traffic.between(span.began, span.ended)
    percentiles = statistics.quantiles((answer.seconds * MILLISECONDS for answer in answers), n=100)
    share = traffic.share("green", span.began, span.ended)
    return {
        "weight": span.weight,
        "requests": len(answers),
        "share": round(share, 2),
        "points_off": round(abs(share - span.weight), 2),
        **{f"p{n}_ms": round(percentiles[n - 1], 2) for n in (50, 95, 99)},
    }


def _is_in(answer: Answer, span: Span) -> bool:
    return span.began <= answer.began and answer.ended <= span.ended


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
