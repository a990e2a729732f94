"""Runs the containers of a CronJob as processes here: kwok says of its pods that they are done, and nothing ran."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sandbox import pods
from sandbox.control_plane import ControlPlanes
from sandbox.kubelet import Api
from sandbox.postgres import search_path
from sandbox.state import State
from tests.sandbox.harness import Cluster

TIMEOUT_SECONDS = 60


def run_job(cluster: Cluster, name: str, **instead: str) -> list[subprocess.CompletedProcess[str]]:
    """What each container of a CronJob's pod did, up to the first that failed; `instead` replaces variables.

    The scripts are the cluster's own, with `psql` and `aws` of this machine. PostgreSQL is reached on loopback and
    without TLS, which the sandbox's does not have.
    """
    plane = ControlPlanes(State(cluster.state)).find(f"pyairtable-{cluster.stack}")
    job = cluster.api.get("batch/v1", "CronJob", name, "pyairtable")
    assert plane
    assert job, f"there is no CronJob {name}"
    pod: dict[str, Any] = {
        "metadata": {"name": f"{name}-test", "namespace": "pyairtable", "uid": "test"},
        "spec": job["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    }
    objects = Api(plane)
    done: list[subprocess.CompletedProcess[str]] = []
    with tempfile.TemporaryDirectory(dir=cluster.state) as folder:
        volumes = Path(folder) / "volumes"
        pods.lay_out(pod, volumes, Path(folder) / "claims", objects)
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            folders = pods.folders(pod, container, volumes, Path(folder) / "claims")
            path = os.pathsep.join([str(Path(sys.executable).parent), search_path()])
            known = pods.environment(pod, container, folders, objects, {"PATH": path, "LANG": "C.UTF-8"})
            known |= {
                "AWS_ENDPOINT_URL": cluster.aws("sts").meta.endpoint_url,
                "AWS_ACCESS_KEY_ID": "123456789012",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",  # what version 1 of the CLI reads
                "AWS_MAX_ATTEMPTS": "2",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(plane.ports["postgres"]),
                "PGSSLMODE": "disable",
            }
            command, *words = pods.words(container, "command", folders, known)
            program = shutil.which(command, path=path)
            assert program, f"this machine has no {command}"
            done.append(
                subprocess.run(
                    [program, *words],
                    env=known | instead,
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_SECONDS,
                    check=False,
                )
            )
            if done[-1].returncode:
                break
    return done
