"""The types that the AWS stand-in implements. Another type is refused by name."""

from sandbox.control_plane import ControlPlanes
from sandbox.providers.aws import (
    autoscaling,
    budgets,
    cloudwatch,
    costexplorer,
    ebs,
    ec2,
    ecr,
    eks,
    elbv2,
    iam,
    kms,
    lambda_,
    node_group,
    route53,
    s3,
    secretsmanager,
    security_group,
    sns,
    vpc,
)
from sandbox.providers.aws.client import Aws
from sandbox.providers.aws.handler import Handler
from sandbox.providers.aws.recorded import Recorded
from sandbox.providers.records import Records

EMULATED: tuple[type[Handler], ...] = (
    autoscaling.Schedule,
    budgets.Budget,
    cloudwatch.Dashboard,
    cloudwatch.EventRule,
    cloudwatch.EventTarget,
    cloudwatch.LogGroup,
    cloudwatch.MetricAlarm,
    ebs.Volume,
    ec2.LaunchTemplate,
    ecr.LifecyclePolicy,
    ecr.Repository,
    eks.AccessEntry,
    eks.AccessPolicyAssociation,
    eks.PodIdentityAssociation,
    elbv2.LoadBalancer,
    elbv2.TargetGroup,
    iam.Role,
    iam.RolePolicy,
    iam.RolePolicyAttachment,
    kms.Alias,
    kms.Key,
    lambda_.Function,
    lambda_.Permission,
    route53.Record,
    s3.Bucket,
    s3.BucketLifecycleConfiguration,
    s3.BucketOwnershipControls,
    s3.BucketPolicy,
    s3.BucketPublicAccessBlock,
    s3.BucketServerSideEncryptionConfiguration,
    s3.BucketVersioning,
    secretsmanager.Secret,
    secretsmanager.SecretPolicy,
    secretsmanager.SecretVersion,
    security_group.DefaultSecurityGroup,
    security_group.SecurityGroup,
    security_group.SecurityGroupEgressRule,
    security_group.SecurityGroupIngressRule,
    sns.Topic,
    sns.TopicPolicy,
    sns.TopicSubscription,
    vpc.Eip,
    vpc.FlowLog,
    vpc.InternetGateway,
    vpc.NatGateway,
    vpc.Route,
    vpc.RouteTable,
    vpc.RouteTableAssociation,
    vpc.Subnet,
    vpc.Vpc,
    vpc.VpcEndpoint,
)
RECORDED: tuple[type[Recorded], ...] = (
    autoscaling.Attachment,
    costexplorer.AnomalyMonitor,
    costexplorer.AnomalySubscription,
)
ON_PLANES: tuple[type[eks.EksHandler | elbv2.Listener], ...] = (
    eks.Addon,
    eks.Cluster,
    elbv2.Listener,
    node_group.NodeGroup,
)
"""Types that are emulated, and have something in or before a cluster's own control plane besides."""


SERVICES = tuple(sorted({kind.service for kind in (*EMULATED, *RECORDED, *ON_PLANES)}))
"""boto3's names of the services behind all of them."""


def handlers(aws: Aws, records: Records, planes: ControlPlanes) -> dict[str, Handler]:
    """Every handler by its type's token."""
    made = [
        *(kind(aws) for kind in EMULATED),
        *(kind(aws, records) for kind in RECORDED),
        *(kind(aws, planes) for kind in ON_PLANES),
    ]
    return {handler.type: handler for handler in made}
