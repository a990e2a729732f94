"""AlertTopic: the SNS topic that everything about cost is announced on (runbook step 1.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from components.cost_foundation.tags import TAGS
from components.shared.keys import own_key
from components.shared.policies import document
from infra.naming import Names
from infra.phases import Phase

PUBLISHERS: Mapping[str, tuple[str, str | None]] = {
    "Budgets": ("budgets.amazonaws.com", "arn:aws:budgets::{account_id}:*"),
    "CostAnomalyDetection": ("costalerts.amazonaws.com", None),
    "CloudWatchAlarms": ("cloudwatch.amazonaws.com", "arn:aws:cloudwatch:{region}:{account_id}:alarm:*"),
}
"""The services that may publish: service principal, and the ARNs they publish on behalf of.

AWS documents no source ARN for Cost Anomaly Detection; a condition on a key that is not sent would refuse every alert.
"""


@dataclass(frozen=True, kw_only=True)
class AlertTopicArgs:
    """Who hears of alerts, and how they are encrypted at rest."""

    names: Names
    account_id: str
    region: str
    emails: tuple[str, ...]
    own_key: bool
    """Encrypt with a customer-managed key ($1 a month): the AWS-managed one silently stops Budgets."""


class AlertTopic(pulumi.ComponentResource):
    """Topic `pyairtable-{stack}-cost-alerts`, its policy, its key where it has one, its e-mail subscriptions."""

    arn: pulumi.Output[str]
    """Known once the topic admits its publishers, so what alerts through it can rely on being heard."""

    def __init__(self, name: str, args: AlertTopicArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:cost_foundation:AlertTopic", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        key = self._key(name, args) if args.own_key else None
        topic = aws.sns.Topic(
            f"{name}-topic",
            name=args.names.of("cost-alerts"),
            display_name=f"{args.names.prefix} cost alerts",
            kms_master_key_id=key.arn if key else None,
            tags=TAGS,
            opts=child,
        )
        policy = aws.sns.TopicPolicy(
            f"{name}-policy",
            arn=topic.arn,
            policy=pulumi.Output.json_dumps(_publish_policy(args, topic.arn)),
            opts=child,
        )
        for email in args.emails:
            aws.sns.TopicSubscription(f"{name}-{email}", topic=topic.arn, protocol="email", endpoint=email, opts=child)

        self.arn = policy.arn
        self.register_outputs({"arn": self.arn})

    def _key(self, name: str, args: AlertTopicArgs) -> aws.kms.Key:
        return own_key(
            name,
            names=args.names,
            phase=Phase.COST_FOUNDATION,
            alias="cost-alerts",
            description=f"Encrypts the cost alerts of {args.names.prefix}",
            deletion_days=7,
            policy=_key_policy(args),
            parent=self,
        )


def _publish_policy(args: AlertTopicArgs, topic_arn: pulumi.Output[str]) -> dict[str, Any]:
    return document(
        *(
            {
                "Sid": f"Allow{sid}",
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": _on_behalf_of(args, source),
            }
            for sid, (service, source) in PUBLISHERS.items()
        )
    )


def _key_policy(args: AlertTopicArgs) -> dict[str, Any]:
    return document(
        {
            "Sid": "AllowAccountToManage",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{args.account_id}:root"},
            "Action": "kms:*",
            "Resource": "*",
        },
        *(
            {
                "Sid": f"Allow{sid}",
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
                # No source ARN here: not every publisher documents that it passes one on to the key.
                "Condition": _on_behalf_of(args, None),
            }
            for sid, (service, _) in PUBLISHERS.items()
        ),
    )


def _on_behalf_of(args: AlertTopicArgs, source: str | None) -> dict[str, dict[str, str]]:
    """Only for this account: otherwise anyone's budget could use our topic (the confused deputy)."""
    condition = {"StringEquals": {"aws:SourceAccount": args.account_id}}
    if source:
        condition["ArnLike"] = {"aws:SourceArn": source.format(account_id=args.account_id, region=args.region)}
    return condition
