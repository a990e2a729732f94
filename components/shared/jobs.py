"""What Jobs share, whoever starts them: the shape of their pods, their schedule, and what those that use AWS reach."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from components.shared.manifests import INTERNET, POD_IDENTITY_AGENT, labels, pod_security, tcp
from components.shared.stores import TO_DATABASE

START_SECONDS: Final = 3600
"""How late a scheduled Job may start."""

TO_DATABASE_AND_AWS: Final[Sequence[Mapping[str, Any]]] = (
    TO_DATABASE,
    {"to": [{"ip_block": {"cidr": POD_IDENTITY_AGENT}}], "ports": tcp(80)},
    {"to": [INTERNET], "ports": tcp(443)},
)
"""Egress of a Job that works on the database and, with an identity of its own, on S3, Secrets Manager, CloudWatch."""


def job_template(app: str, user: int, pod: Mapping[str, Any]) -> Any:
    """Template of a Job's pod under the service account of the app's name; one that fails is left to be looked at."""
    return {
        "metadata": {"labels": labels(app)},
        "spec": {
            "service_account_name": app,
            "automount_service_account_token": False,
            "enable_service_links": False,
            "restart_policy": "Never",
            "security_context": pod_security(user),
            **pod,
        },
    }


def cron_job_spec(schedule: str, template: Any, *, deadline_seconds: int) -> Any:
    """Spec of a CronJob, UTC, one at a time; a Job is tried four times, and has so long in all."""
    return {
        "schedule": schedule,
        "concurrency_policy": "Forbid",
        "starting_deadline_seconds": START_SECONDS,
        "successful_jobs_history_limit": 1,
        "failed_jobs_history_limit": 3,
        "job_template": {
            "spec": {"backoff_limit": 3, "active_deadline_seconds": deadline_seconds, "template": template}
        },
    }
