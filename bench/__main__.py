"""`make bench`: measure, print, and write bench/results.json."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import shift
from bench.credentials import ROTATE_LIMIT, UPDATE_LIMIT, credentials

RESULTS = Path(__file__).parent / "results.json"
ROUNDS = 7
PREVIEW_LIMIT = 1.3
"""The program's own share of a preview may be three tenths of what engine and imports take anyway."""

SERVICE_COUNTS = (5, 50, 200)
SERVICE_ROUNDS = 3
LINEARITY_LIMIT = 1.5
"""A service among 200 may take half as long again as one among 50; quadratic growth would take four times as long."""


BENCHMARKS: dict[str, Callable[[Path, list[str]], dict[str, Any]]] = {
    "preview": lambda folder, _: preview(str(folder)),
    "start": lambda _, sandbox: start(sandbox),
    "services": lambda _, sandbox: services(sandbox),
    "credentials": lambda folder, sandbox: credentials(sandbox, folder),
    "shift": lambda folder, sandbox: shift.shift(sandbox, folder),
}
"""By name; each takes the state folder, and the words that the sandbox's commands begin with."""

KEPT: dict[str, Callable[[dict[str, Any]], bool]] = {
    "preview": lambda found: found["ratio"] <= PREVIEW_LIMIT,
    "services": lambda found: found["linearity"] <= LINEARITY_LIMIT,
    "credentials": lambda found: (
        found["update_secret_longest"] <= UPDATE_LIMIT and found["runbook_rotate_longest"] <= ROTATE_LIMIT
    ),
    "shift": shift.kept,
}
"""Whether what was measured keeps its limit."""

EXAMPLES = """\
examples:
  python -m bench                all of them, in half an hour
  python -m bench credentials    one of them; the results of the others stay as they were
"""


def main() -> int:
    """Run the benchmarks asked for; 1 when a result exceeds its limit."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Measure, print, and write {RESULTS.parent.name}/{RESULTS.name}.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", nargs="*", choices=list(BENCHMARKS), metavar="|".join(BENCHMARKS))
    names = parser.parse_args().benchmark or list(BENCHMARKS)
    with tempfile.TemporaryDirectory(prefix="pyairtable-bench-") as folder:
        sandbox = [sys.executable, "-m", "sandbox", "--state-dir", folder]
        try:
            measured = {name: BENCHMARKS[name](Path(folder), sandbox) for name in names}
        finally:
            run([*sandbox, "stop"])
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = {
        **earlier,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "rounds": ROUNDS,
        **measured,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    return 0 if all(KEPT[name](measured[name]) for name in measured if name in KEPT) else 1


def preview(folder: str) -> dict[str, Any]:
    """Seconds of a whole preview process of dev at phase 1, against the same process with an empty program."""
    commands = {kind: [sys.executable, "-m", "bench.preview", kind, folder] for kind in ("floor", "program")}
    loaded = {kind: json.loads(run(command)) for kind, command in commands.items()}  # also warms the disk's cache
    if loaded["floor"] != loaded["program"]:
        different = sorted(set(loaded["floor"]) ^ set(loaded["program"]))
        raise SystemExit(f"measuring the preview: floor and program load different modules: {', '.join(different)}")
    return compared("preview of dev at phase 1", {kind: lambda c=command: run(c) for kind, command in commands.items()})


def start(sandbox: list[str]) -> dict[str, Any]:
    """Seconds of a command that finds the sandbox stopped and starts it, against one that finds it running."""
    shown = [*sandbox, "preview", "--stack", "dev", "--phase", "0"]

    def stopped_first() -> None:
        run([*sandbox, "stop"])
        run(shown)

    return compared("warm start of the sandbox", {"floor": lambda: run(shown), "program": stopped_first})


def services(sandbox: list[str]) -> dict[str, Any]:
    """Seconds of a preview of dev at phase 2 with so many services, and what one service more takes."""
    shown = [*sandbox, "preview", "--stack", "dev", "--phase", "2"]
    seconds: dict[int, float] = {}
    for count in SERVICE_COUNTS:
        print(f"preview with {count} services", file=sys.stderr)
        entries = [
            {"name": f"service-{i}", "image": "microservices/auth-service:v2.0.0", "cpu": "50m", "memory": "64Mi"}
            for i in range(count)
        ]
        run([*sandbox, "config", "set", "--stack", "dev", "services", json.dumps(entries)])
        seconds[count] = statistics.median(timed(shown) for _ in range(SERVICE_ROUNDS))
    few, some, many = SERVICE_COUNTS
    slopes = [(seconds[b] - seconds[a]) / (b - a) for a, b in ((few, some), (some, many))]
    return {
        **{f"seconds_with_{count}": round(value, 3) for count, value in seconds.items()},
        "seconds_per_service": round((seconds[many] - seconds[few]) / (many - few), 4),
        "linearity": round(slopes[1] / slopes[0], 3),
    }


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    run(command)
    return time.perf_counter() - began


def compared(title: str, calls: dict[str, Callable[[], object]]) -> dict[str, Any]:
    """Median seconds of floor and program, taken in turns, and their ratio."""
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for round_ in range(ROUNDS):
        print(f"{title}: round {round_ + 1} of {ROUNDS}", file=sys.stderr)
        for kind, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[kind].append(time.perf_counter() - began)
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "floor_seconds": round(medians["floor"], 3),
        "seconds": round(medians["program"], 3),
        "ratio": round(medians["program"] / medians["floor"], 3),
    }


def run(command: list[str]) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
