"""DatabaseRotation: a new login for the database once a month, and an alarm for the month without one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.secrets.key_use import use_key
from components.secrets.tags import TAGS
from components.shared.apps import ROTATION as APP
from components.shared.jobs import TO_DATABASE_AND_AWS, cron_job_spec, job_template
from components.shared.manifests import (
    CONTAINER_SECURITY,
    NAMESPACE,
    metadata,
    network_policy_spec,
    pods,
    resources,
    tcp,
)
from components.shared.pod_role import pod_identity
from components.shared.policies import allow, put_metrics
from components.shared.stores import (
    AWS_CLI_IMAGE,
    POSTGRES_IMAGE,
    POSTGRES_PORT,
    POSTGRES_USER_ID,
    STORES_LABEL,
    authority_mount,
    authority_volume,
    database_login,
)
from infra.naming import Names
from infra.phases import Phase

ROTATION_CPU_MILLIS = 100
ROTATION_MEMORY_MIB = 256
"""The AWS CLI is the largest of the three, as in the backup."""
METRIC_NAMESPACE = "PyAirtable/Secrets"
METRIC = "DatabasePasswordAgeDays"
DAYS_OF_GRACE = 2
"""Days over the due one before the alarm: a spot node may be away at the hour of the job."""
HOUR_SECONDS = 3600
HOURS_OF_GRACE = 2
DEADLINE_SECONDS = 900
SCRIPTS = Path(__file__).parent / "scripts"
SCRIPT_FILES = ("read.sh", "rotate.sh", "rotate.sql", "store.sh")
FOLDER = f"/etc/{APP}"
WORK = "/work"


@dataclass(frozen=True, kw_only=True)
class DatabaseRotationArgs:
    """Which secret is rotated, how often, and who hears when it is not."""

    names: Names
    region: str
    cluster_name: pulumi.Input[str]
    alert_topic_arn: pulumi.Input[str]
    secret_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str] | None
    schedule: str
    """Cron, UTC, daily: the job itself sees whether it is due, and reports the password's age."""
    days: int
    days_without: int
    """Days without a report that raise the alarm."""


class DatabaseRotation(pulumi.ComponentResource):
    """CronJob `database-rotation`, its identity, and the alarm.

    It prepares the login that nobody uses, and then makes it the secret's: whatever fails, and whenever, there is one
    login that works and the secret names it.
    """

    def __init__(self, name: str, args: DatabaseRotationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:secrets:DatabaseRotation", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        self._cron_job()
        aws.cloudwatch.MetricAlarm(
            f"{name}-overdue",
            name=args.names.of("database-password-old"),
            alarm_description=(
                f"The database password of {args.names.prefix} is older than {args.days} days, or nothing says how old."
            ),
            namespace=METRIC_NAMESPACE,
            metric_name=METRIC,
            dimensions={"Stack": args.names.stack},
            statistic="Maximum",
            period=HOUR_SECONDS,
            evaluation_periods=24 * args.days_without + HOURS_OF_GRACE,
            comparison_operator="GreaterThanThreshold",
            threshold=args.days + DAYS_OF_GRACE,
            treat_missing_data="breaching",  # a job that never ran sends nothing
            alarm_actions=[args.alert_topic_arn],
            tags=TAGS,
            opts=self._child,
        )
        self.register_outputs({})

    def _cron_job(self) -> None:
        scripts = kubernetes.core.v1.ConfigMap(
            f"{self._name}-scripts",
            metadata=metadata(APP, app=APP),
            data={file: (SCRIPTS / file).read_text() for file in SCRIPT_FILES},
            opts=self._child,
        )
        account = kubernetes.core.v1.ServiceAccount(
            f"{self._name}-service-account",
            metadata=metadata(APP, app=APP),
            automount_service_account_token=False,
            opts=self._child,
        )
        policies = [
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-policy",
                metadata=metadata(APP),
                spec=network_policy_spec(APP, egress=TO_DATABASE_AND_AWS),
                opts=self._child,
            ),
            # Of this phase's own: phase 2's policy of PostgreSQL stays as it is.
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-database-policy",
                metadata=metadata(f"postgres-from-{APP}"),
                spec=network_policy_spec("postgres", ingress=[{"from_": [pods(APP)], "ports": tcp(POSTGRES_PORT)}]),
                opts=self._child,
            ),
        ]
        kubernetes.batch.v1.CronJob(
            f"{self._name}-cron-job",
            metadata=metadata(APP, app=APP),
            spec=cron_job_spec(
                self._args.schedule,
                job_template(APP, POSTGRES_USER_ID, self._pod()),
                deadline_seconds=DEADLINE_SECONDS,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._identity(), account, scripts, *policies]),
        )

    def _identity(self) -> aws.eks.PodIdentityAssociation:
        args = self._args
        statements: list[Mapping[str, Any]] = [
            allow("RotateIt", ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"], args.secret_arn),
            put_metrics("SaySo", METRIC_NAMESPACE),
        ]
        if args.key_arn is not None:
            statements.append(use_key("UseItsKey", ["kms:Decrypt", "kms:GenerateDataKey"], args.key_arn, args.region))
        return pod_identity(
            self._name,
            names=args.names,
            phase=Phase.SECRETS,
            suffix=APP,
            purpose=f"Lets the rotation of {args.names.prefix} change the database's secret",
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=APP,
            statements=statements,
            parent=self,
        )

    def _pod(self) -> dict[str, Any]:
        """Three containers in turn: no one image has both the AWS CLI and psql."""
        scripts = {"name": "scripts", "mount_path": FOLDER, "read_only": True}
        shared = {
            "image_pull_policy": "IfNotPresent",
            "resources": resources(ROTATION_CPU_MILLIS, ROTATION_MEMORY_MIB, cpu_burst=10),
            "security_context": dict(CONTAINER_SECURITY),
        }
        work = {"name": "work", "mount_path": WORK}
        aws_cli = {
            **shared,
            "image": AWS_CLI_IMAGE,
            "volume_mounts": [scripts, work],
            "env": [
                {"name": "WORK", "value": WORK},
                {"name": "HOME", "value": WORK},
                {"name": "AWS_REGION", "value": self._args.region},
                {"name": "SECRET", "value": self._args.secret_arn},
                {"name": "STACK", "value": self._args.names.stack},
                {"name": "METRIC_NAMESPACE", "value": METRIC_NAMESPACE},
                {"name": "METRIC", "value": METRIC},
            ],
        }
        psql = {
            **shared,
            "image": POSTGRES_IMAGE,
            "volume_mounts": [scripts, work, authority_mount()],
            "env": [
                {"name": "WORK", "value": WORK},
                {"name": "ROTATION_DAYS", "value": str(self._args.days)},
                {"name": "SQL", "value": f"{FOLDER}/rotate.sql"},
                *database_login(),
            ],
        }
        return {
            "node_selector": {STORES_LABEL: "true"},  # where both images are
            "init_containers": [
                {**aws_cli, "name": "read", "command": ["sh", f"{FOLDER}/read.sh"]},
                {**psql, "name": "rotate", "command": ["sh", f"{FOLDER}/rotate.sh"]},
            ],
            "containers": [{**aws_cli, "name": "store", "command": ["sh", f"{FOLDER}/store.sh"]}],
            "volumes": [
                {"name": "scripts", "config_map": {"name": APP}},
                # In memory: a password never lies on a disk.
                {"name": "work", "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}},
                authority_volume(),
            ],
        }
