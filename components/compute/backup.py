"""Backup: a dump of PostgreSQL every night, in a bucket, and an alarm for the night without one."""

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from components.compute.tags import TAGS
from components.shared.apps import BACKUP as APP
from components.shared.jobs import TO_DATABASE_AND_AWS, cron_job_spec, job_template
from components.shared.manifests import CONTAINER_SECURITY, NAMESPACE, metadata, network_policy_spec, resources
from components.shared.pod_role import pod_identity
from components.shared.policies import allow, document, put_metrics
from components.shared.stores import (
    AWS_CLI_IMAGE,
    POSTGRES_IMAGE,
    POSTGRES_USER_ID,
    STORES_LABEL,
    authority_mount,
    authority_volume,
    database_login,
)
from infra.naming import Names
from infra.phases import Phase

BACKUP_CPU_MILLIS = 100
BACKUP_MEMORY_MIB = 256
"""The AWS CLI holds some parts of the file while it uploads them."""
SCRATCH_MIB = 128
METRIC_NAMESPACE = "PyAirtable/Backup"
METRIC = "DumpSucceeded"
HOUR_SECONDS = 3600
HOURS_OF_GRACE = 2
"""A dump may start late, and take longer than the one before."""
OLD_VERSION_DAYS = 7
DEADLINE_SECONDS = 3600
"""A backup that takes longer than the quiet hours is a problem to look at."""


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """Where dumps go, how long they stay, and who hears when one is missing."""

    names: Names
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    alert_topic_arn: pulumi.Input[str]
    schedule: str
    """Cron, UTC."""
    days_without: int
    """Days without a dump that raise the alarm."""
    retention_days: int
    dump_mib: int
    """Room for one compressed dump, on the node's disk of 20 GiB."""
    protect: bool


class Backup(pulumi.ComponentResource):
    """CronJob `postgres-backup`, its bucket and identity, and the alarm."""

    app: str
    bucket: pulumi.Output[str]

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:compute:Backup", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        self.app = APP
        bucket = self._bucket()
        self.bucket = bucket.bucket
        identity = self._identity(bucket)
        self._cron_job(identity)
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-policy",
            metadata=metadata(APP),
            spec=network_policy_spec(APP, egress=TO_DATABASE_AND_AWS),
            opts=self._child,
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-missing",
            name=args.names.of("backup-missing"),
            alarm_description=f"No dump of {args.names.prefix}'s PostgreSQL has succeeded in time.",
            namespace=METRIC_NAMESPACE,
            metric_name=METRIC,
            dimensions={"Stack": args.names.stack},
            statistic="Sum",
            # By the hour: CloudWatch looks back a few periods further than asked, which of days would be days.
            period=HOUR_SECONDS,
            evaluation_periods=24 * args.days_without + HOURS_OF_GRACE,
            comparison_operator="LessThanThreshold",
            threshold=1,
            treat_missing_data="breaching",  # a night without a dump sends nothing
            alarm_actions=[args.alert_topic_arn],
            tags=TAGS,
            opts=self._child,
        )
        self.register_outputs({"bucket": self.bucket})

    def _bucket(self) -> aws.s3.Bucket:
        name, args = self._name, self._args
        bucket = aws.s3.Bucket(
            f"{name}-bucket",
            # Bucket names are everybody's: the account makes this one ours.
            bucket=f"{args.names.of('backup')}-{args.account_id}",
            # Where nothing is protected a step back takes the dumps along; where it is, nothing does.
            force_destroy=not args.protect,
            tags=TAGS,
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        aws.s3.BucketPublicAccessBlock(
            f"{name}-bucket-private",
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-bucket-encryption",
            bucket=bucket.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=self._child,
        )
        versioning = aws.s3.BucketVersioning(
            f"{name}-bucket-versioning",
            bucket=bucket.bucket,
            versioning_configuration={"status": "Enabled"},
            opts=self._child,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-bucket-lifecycle",
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "expire",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": args.retention_days},
                    "noncurrent_version_expiration": {"noncurrent_days": OLD_VERSION_DAYS},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning]),
        )
        aws.s3.BucketPolicy(
            f"{name}-bucket-policy",
            bucket=bucket.bucket,
            policy=pulumi.Output.json_dumps(_tls_only(bucket.arn)),
            opts=self._child,
        )
        return bucket

    def _identity(self, bucket: aws.s3.Bucket) -> aws.eks.PodIdentityAssociation:
        args = self._args
        return pod_identity(
            self._name,
            names=args.names,
            phase=Phase.COMPUTE,
            suffix="backup",
            purpose=f"Lets the backup of {args.names.prefix} add dumps and say so",
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=APP,
            statements=[
                allow("AddDumps", ["s3:PutObject"], pulumi.Output.concat(bucket.arn, "/*")),
                put_metrics("SaySo", METRIC_NAMESPACE),
            ],
            parent=self,
        )

    def _cron_job(self, identity: aws.eks.PodIdentityAssociation) -> None:
        account = kubernetes.core.v1.ServiceAccount(
            f"{self._name}-service-account",
            metadata=metadata(APP, app=APP),
            automount_service_account_token=False,
            opts=self._child,
        )
        kubernetes.batch.v1.CronJob(
            f"{self._name}-cron-job",
            metadata=metadata(APP, app=APP),
            spec=cron_job_spec(
                self._args.schedule,
                job_template(APP, POSTGRES_USER_ID, self._pod()),
                deadline_seconds=DEADLINE_SECONDS,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity, account]),
        )

    def _pod(self) -> dict[str, Any]:
        """Dumps in one container, uploads in the other: no one image has both tools."""
        shared = {
            "image_pull_policy": "IfNotPresent",
            # What is on the shared disk counts for either container.
            "resources": resources(
                BACKUP_CPU_MILLIS, BACKUP_MEMORY_MIB, cpu_burst=10, disk_mib=self._args.dump_mib + SCRATCH_MIB
            ),
            "security_context": dict(CONTAINER_SECURITY),
        }
        dump = {"name": "dump", "mount_path": "/dump"}
        return {
            "node_selector": {STORES_LABEL: "true"},
            "init_containers": [
                {
                    **shared,
                    "name": "dump",
                    "image": POSTGRES_IMAGE,
                    "command": [
                        "pg_dump",
                        "--format=custom",
                        "--no-owner",
                        "--exclude-schema=credentials",  # every stack makes its own
                        "--file=/dump/pyairtable.dump",
                    ],
                    "env": database_login(),
                    "volume_mounts": [dump, authority_mount()],
                }
            ],
            "containers": [
                {
                    **shared,
                    "name": "upload",
                    "image": AWS_CLI_IMAGE,
                    "command": ["sh", "-c", UPLOAD],
                    "env": [
                        {"name": "BUCKET", "value": self.bucket},
                        {"name": "STACK", "value": self._args.names.stack},
                        {"name": "AWS_REGION", "value": self._args.region},
                        {"name": "HOME", "value": "/dump"},
                    ],
                    "volume_mounts": [dump],
                }
            ],
            "volumes": [
                {"name": "dump", "empty_dir": {"size_limit": f"{self._args.dump_mib}Mi"}},
                authority_volume(),
            ],
        }


UPLOAD = f"""set -eu
aws s3 cp /dump/pyairtable.dump "s3://$BUCKET/$(date -u +%Y/%m/%d/%H%M%S).dump"
aws cloudwatch put-metric-data --namespace {METRIC_NAMESPACE} --metric-name {METRIC} \\
  --value 1 --dimensions "Stack=$STACK"
"""


def _tls_only(bucket_arn: pulumi.Output[str]) -> dict[str, Any]:
    return document(
        {
            "Sid": "RefusePlainText",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket_arn, pulumi.Output.concat(bucket_arn, "/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )
