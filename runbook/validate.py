"""Validation: the runbook's health checks and its load test, held against its success metrics."""

import csv
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import click

from runbook.errors import BadInputError, RunbookError
from runbook.watch import ERROR_RATE, P95_MS

HEALTH: Final = ("/health", "/api/v1/auth/health", "/api/v1/users/health")
"""The endpoints of the runbook's section 4.4; the first is also what the load test asks for."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
SECONDS: Final = 10.0
LOAD_SECONDS: Final = 600.0
SHARES: Final = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What one endpoint answered."""

    path: str
    status: int | None
    told: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it answered as `curl --fail` wants it."""
        return self.status is not None and self.status < HTTPStatus.BAD_REQUEST


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load test measured."""

    requests: int
    failed: int
    seconds: float
    milliseconds: Sequence[float]
    """How long each answer took, sorted."""

    @property
    def error_rate(self) -> float:
        """Share of requests without a good answer."""
        return self.failed / self.requests

    def percentile(self, share: float) -> float:
        """Milliseconds within which a share of the answers came."""
        return self.milliseconds[max(0, -(-round(share * 1000) * len(self.milliseconds) // 1000) - 1)]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """All of it."""

    url: str
    health: Sequence[Health]
    load: Load

    @property
    def kept(self) -> dict[str, bool]:
        """Which of the success metrics are kept."""
        return {
            "health": all(found.is_well for found in self.health),
            "error_rate": self.load.error_rate < ERROR_RATE,
            "p95": bool(self.load.milliseconds) and self.load.percentile(0.95) < P95_MS,
        }

    @property
    def is_well(self) -> bool:
        """Whether all of them are."""
        return all(self.kept.values())

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "url": self.url,
            "health": [{"path": h.path, "status": h.status, "told": h.told} for h in self.health],
            "requests": self.load.requests,
            "failed": self.load.failed,
            "error_rate": round(self.load.error_rate, 6),
            "requests_per_second": round(self.load.requests / self.load.seconds, 1),
            "percentiles_ms": self._percentiles(),
            "kept": self.kept,
        }

    def render(self) -> str:
        """A table, for people."""
        kept = self.kept
        rows = [(found.path, str(found.status or found.told), found.is_well) for found in self.health]
        rows.append(
            (f"failed of {self.load.requests}", f"{self.load.failed} ({self.load.error_rate:.2%})", kept["error_rate"])
        )
        times = self._percentiles()
        rows += [(f"p95, below {P95_MS:.0f} ms", f"{times.pop('p95', 0):.1f} ms", kept["p95"])]
        lines = [f"{_mark(well)}  {name:<24} {value}" for name, value, well in rows]
        return "\n".join([self.url, *lines, *(f"{'':6}  {name:<24} {value:.1f} ms" for name, value in times.items())])

    def _percentiles(self) -> dict[str, float]:
        if not self.load.milliseconds:
            return {}
        return {f"p{share * 100:.0f}": round(self.load.percentile(share), 3) for share in SHARES}


def validate(url: str, *, requests: int, connections: int, in_sandbox: bool) -> Validation:
    """Ask the endpoints, then put load on the first.

    Raises:
        BadInputError: the URL is none, or not of the sandbox, or there is nothing that makes load.
        RunbookError: the load test does not run.
    """
    _check(url, in_sandbox=in_sandbox)
    if requests < connections:
        raise BadInputError(f"reading the options: {requests} requests are too few for {connections} connections")
    hey = _hey(in_sandbox=in_sandbox)
    base = url.rstrip("/")
    health = [_ask(base, path) for path in HEALTH]
    return Validation(url=base, health=health, load=_load(hey, base + HEALTH[0], requests, connections))


def _check(url: str, *, in_sandbox: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInputError(f'validating: "{url[:60]}" is no URL, such as https://api.example.com')
    if in_sandbox and parts.hostname not in LOOPBACK:
        raise BadInputError(
            f"validating: {parts.hostname} is not of the sandbox, which is on 127.0.0.1; leave out --url"
        )


def _hey(*, in_sandbox: bool) -> str:
    found = shutil.which("hey")
    if found:
        return found
    if in_sandbox:
        from sandbox.errors import SandboxError
        from sandbox.tools import TOOLS, find

        try:
            return str(find(TOOLS["hey"]))
        except SandboxError as error:
            raise RunbookError(str(error)) from None
    raise BadInputError(
        "validating: hey, which makes the load, is not on PATH; go install github.com/rakyll/hey@v0.1.5"
    )


def _ask(base: str, path: str) -> Health:
    try:
        with urllib.request.urlopen(base + path, timeout=SECONDS) as answer:  # noqa: S310 — the scheme is checked
            return Health(path=path, status=answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return Health(path=path, status=error.code)
    except OSError as error:
        return Health(path=path, status=None, told=str(getattr(error, "reason", error)))


def _load(hey: str, url: str, requests: int, connections: int) -> Load:
    sent = requests // connections * connections  # as hey does
    click.echo(f"{sent} requests over {connections} connections to {url}", err=True)
    command = [hey, "-n", str(requests), "-c", str(connections), "-o", "csv", url]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunbookError(f"validating {url}: hey has not ended within {LOAD_SECONDS:.0f} s") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunbookError(f"validating {url}: hey says: {told[0]}")
    try:
        answers = [
            (1000 * float(row["response-time"]), float(row["offset"]), int(row["status-code"]))
            for row in csv.DictReader(done.stdout.splitlines())
        ]
    except (KeyError, TypeError, ValueError):
        raise RunbookError(f"validating {url}: hey's answer is no CSV that is known here; is it hey 0.1?") from None
    good = sum(status < HTTPStatus.BAD_REQUEST for _, _, status in answers)
    return Load(
        requests=sent,
        failed=sent - good,  # what got no answer is not in the list
        seconds=max((offset + taken / 1000 for taken, offset, _ in answers), default=1.0),
        milliseconds=sorted(taken for taken, _, _ in answers),
    )


def _mark(well: bool) -> str:
    return click.style("ok    ", fg="green") if well else click.style("FAILED", fg="red", bold=True)
