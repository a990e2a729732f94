"""The types that the AWS stand-in implements. Another type is refused by name."""

from sandbox.providers.aws import budgets, cloudwatch, costexplorer, ecr, iam, kms, lambda_, sns
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler
from sandbox.providers.records import Records

EMULATED: tuple[type[Handler], ...] = (
    budgets.Budget,
    cloudwatch.Dashboard,
    cloudwatch.EventRule,
    cloudwatch.EventTarget,
    cloudwatch.LogGroup,
    cloudwatch.MetricAlarm,
    ecr.LifecyclePolicy,
    ecr.Repository,
    iam.Role,
    iam.RolePolicy,
    kms.Alias,
    kms.Key,
    lambda_.Function,
    lambda_.Permission,
    sns.Topic,
    sns.TopicPolicy,
    sns.TopicSubscription,
)
RECORDED: tuple[type[costexplorer.Recorded], ...] = (costexplorer.AnomalyMonitor, costexplorer.AnomalySubscription)


SERVICES = tuple(sorted({kind.service for kind in (*EMULATED, *RECORDED)}))
"""boto3's names of the services behind all of them."""


def handlers(aws: Aws, records: Records) -> dict[str, Handler]:
    """Every handler by its type's token."""
    made = [*(kind(aws) for kind in EMULATED), *(kind(aws, records) for kind in RECORDED)]
    return {handler.type: handler for handler in made}
