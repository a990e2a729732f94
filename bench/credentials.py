"""Seconds from a changed secret in Secrets Manager, and from `runbook rotate`, to the Secret in the cluster."""

import base64
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from sandbox.control_plane import ControlPlanes
from sandbox.kubernetes_api import KubernetesApi
from sandbox.state import State, read_json

ROUNDS = 20
REFRESH_SECONDS = 15
UPDATE_LIMIT = REFRESH_SECONDS + 1
ROTATE_LIMIT = 2
TIMEOUT_SECONDS = 60
SECRET = "pyairtable/dev/database"  # noqa: S105 - a name
SERVICES = [
    {
        "name": "auth-service",
        "image": "microservices/auth-service:v2.0.0",
        "cpu": "50m",
        "memory": "64Mi",
        "uses": ["database"],
    }
]


def credentials(sandbox: list[str], state: Path) -> dict[str, Any]:
    """Median and longest of three ways, ROUNDS each; a forced sync by itself is the floor of a rotation."""
    run([*sandbox, "config", "set", "--stack", "dev", "services", json.dumps(SERVICES)])
    run([*sandbox, "up", "--stack", "dev", "--phase", "3"])
    cluster = _Cluster(state)
    seconds = {
        "update_secret": _rounds("update-secret to Secret", lambda: cluster.seconds_to_password(cluster.update)),
        "forced_sync": _rounds("forced sync to Secret", lambda: cluster.seconds_to_password(cluster.force)),
    }
    cluster.settle()
    rotate = [sys.executable, "-m", "runbook", "rotate", "database", "--stack", "dev"]
    rotate += ["--sandbox", "--state-dir", str(state)]
    seconds["runbook_rotate"] = _rounds("runbook rotate to Secret", lambda: cluster.seconds_to_username(rotate))
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        **{f"{way}_seconds": round(medians[way], 2) for way in seconds},
        **{f"{way}_longest": round(max(values), 2) for way, values in seconds.items()},
        "ratio": round(medians["runbook_rotate"] / medians["forced_sync"], 2),
    }


class _Cluster:
    """Secrets Manager and the Secret that it fills."""

    def __init__(self, state: Path) -> None:
        plane = ControlPlanes(State(state)).find("pyairtable-dev")
        if plane is None:
            raise SystemExit("measuring rotations: the stack dev has no control plane")
        self._api = KubernetesApi(plane.kubeconfig)
        self._secrets = boto3.client(
            "secretsmanager",
            endpoint_url=f"http://127.0.0.1:{read_json(State(state).services)['ministack']['port']}",
            region_name="us-east-1",
            aws_access_key_id="123456789012",
            aws_secret_access_key="test",  # noqa: S106 - the emulator checks no signatures
        )

    def held(self, key: str) -> str:
        """A value of the Secret."""
        secret = self._api.get("v1", "Secret", "database-credentials", "pyairtable")
        return base64.b64decode(secret["data"][key]).decode() if secret else ""

    def update(self, value: str) -> None:
        """Change the secret as the runbook does, at any moment between two polls."""
        time.sleep(random.uniform(0, REFRESH_SECONDS))  # noqa: S311 - no secret
        self._secrets.update_secret(SecretId=SECRET, SecretString=value)

    def force(self, value: str) -> None:
        """Change the secret and have it fetched at once."""
        self._secrets.update_secret(SecretId=SECRET, SecretString=value)
        self._api.patch(
            "external-secrets.io/v1",
            "ExternalSecret",
            "database-secret",
            {"metadata": {"annotations": {"force-sync": datetime.now(UTC).isoformat()}}},
            namespace="pyairtable",
        )

    def seconds_to_password(self, change: Callable[[str], None]) -> float:
        """Seconds from a change of the secret to the Secret."""
        password = f"measured-{time.time_ns()}"
        change(json.dumps({"username": self.held("username"), "password": password}))
        return _until(lambda: self.held("password") == password)

    def seconds_to_username(self, rotate: list[str]) -> float:
        """Seconds from the start of a rotation to the Secret; the rotation has ended when this returns."""
        before = self.held("username")
        with subprocess.Popen(rotate, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            seconds = _until(lambda: self.held("username") != before or process.poll() is not None)
            said, _ = process.communicate(timeout=10 * TIMEOUT_SECONDS)
        if process.returncode:
            raise SystemExit(f"measuring rotations: runbook rotate has failed: {said}")
        return seconds

    def settle(self) -> None:
        """Wait until the restarts that the updates have caused are over."""
        mark = "pyairtable.io/secrets-digest"

        def over() -> bool:
            found = self._api.get("apps/v1", "Deployment", "auth-service", "pyairtable") or {}
            template = found["spec"]["template"]["metadata"].get("annotations", {})
            status = found["status"]
            return (
                template.get(mark) == found["metadata"]["annotations"].get(mark)
                and status.get("updatedReplicas") == status.get("replicas") == status.get("readyReplicas")
                and status.get("observedGeneration") == found["metadata"]["generation"]
            )

        time.sleep(REFRESH_SECONDS)
        _until(over)


def _rounds(title: str, call: Callable[[], float]) -> list[float]:
    seconds: list[float] = []
    for round_ in range(ROUNDS):
        print(f"{title}: round {round_ + 1} of {ROUNDS}", file=sys.stderr)
        seconds.append(call())
    return seconds


def _until(condition: Callable[[], bool]) -> float:
    """Seconds until a condition holds."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > TIMEOUT_SECONDS:
            raise SystemExit(f"measuring rotations: nothing has arrived within {TIMEOUT_SECONDS} s")
        time.sleep(0.02)
    return time.perf_counter() - began


def run(command: list[str]) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, text=True)
