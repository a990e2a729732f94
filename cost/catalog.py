"""What each type of resource costs: fixed quantities, rules, expected use, or free on purpose. Others are errors."""

from collections.abc import Mapping
from decimal import Decimal

from cost.errors import UnknownTypeError
from cost.figures import Figures
from cost.prices import HOURS_A_MONTH, read_toml
from cost.resources import Resource, Stack
from cost.rules import RULES

FIXED: Mapping[str, Mapping[str, Decimal]] = {
    "aws:cloudwatch/dashboard:Dashboard": {"cloudwatch_dashboard": Decimal(1)},
    "aws:cloudwatch/metricAlarm:MetricAlarm": {"cloudwatch_alarm": Decimal(1)},
    # A NAT gateway's address is an Eip, and billed as one.
    "aws:ec2/eip:Eip": {"public_ipv4": HOURS_A_MONTH},
    "aws:ec2/natGateway:NatGateway": {"nat_gateway": HOURS_A_MONTH},
    "aws:kms/key:Key": {"kms_key": Decimal(1)},
    "aws:secretsmanager/secret:Secret": {"secrets_manager_secret": Decimal(1)},
}
"""Prices of existing at all: quantity a month of each price, for one resource of the type."""

FREE: Mapping[str, str] = {
    "aws:autoscaling/attachment:Attachment": "a link, not a thing",
    "aws:budgets/budget:Budget": "budgets without actions, and their alerts, are free",
    "aws:cloudwatch/eventRule:EventRule": "scheduled rules on the default bus are free",
    "aws:cloudwatch/eventTarget:EventTarget": "delivery to a Lambda of the same account is free",
    "aws:costexplorer/anomalyMonitor:AnomalyMonitor": "Cost Anomaly Detection is free",
    "aws:costexplorer/anomalySubscription:AnomalySubscription": "Cost Anomaly Detection is free",
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": "security groups are free",
    "aws:ec2/flowLog:FlowLog": "billed by what it delivers, counted at its log group",
    "aws:ec2/internetGateway:InternetGateway": "internet gateways are free; their traffic is not in the estimate",
    "aws:ec2/launchTemplate:LaunchTemplate": "what is launched from it is counted at its node group",
    "aws:ec2/route:Route": "a rule, not a thing",
    "aws:ec2/routeTable:RouteTable": "route tables are free",
    "aws:ec2/routeTableAssociation:RouteTableAssociation": "a link, not a thing",
    "aws:ec2/securityGroup:SecurityGroup": "security groups are free",
    "aws:ec2/subnet:Subnet": "subnets are free",
    "aws:ec2/vpc:Vpc": "VPCs are free",
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": "a rule, not a thing",
    "aws:eks/accessEntry:AccessEntry": "a permission, not a thing",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": "a permission, not a thing",
    "aws:eks/addon:Addon": "AWS's own add-ons are free; their pods run on the nodes",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": "a permission, not a thing",
    "aws:iam/role:Role": "IAM is free",
    "aws:iam/rolePolicy:RolePolicy": "IAM is free",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "IAM is free",
    "aws:kms/alias:Alias": "aliases are free",
    "aws:lambda/permission:Permission": "a policy statement, not a thing",
    "aws:lb/listener:Listener": "part of its load balancer",
    "aws:lb/targetGroup:TargetGroup": "part of its load balancer",
    "aws:route53/record:Record": "an alias to a load balancer: questions for it are free, and the zone is the user's",
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": "deleting old versions is free",
    "aws:s3/bucketPolicy:BucketPolicy": "a policy, not a thing",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "a setting, not a thing",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": "a setting, not a thing",
    "aws:s3/bucketVersioning:BucketVersioning": "a setting; the versions are in the bucket's expected size",
    "aws:secretsmanager/secretPolicy:SecretPolicy": "a policy, not a thing",
    "aws:secretsmanager/secretVersion:SecretVersion": "part of its secret, whatever the number of versions",
    "aws:sns/topic:Topic": "billed by message, counted at its subscriptions",
    "aws:sns/topicPolicy:TopicPolicy": "a policy, not a thing",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": "security groups are free",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": "security groups are free",
}
"""Types that cost nothing, with the reason."""

UNPRICED_PACKAGES: Mapping[str, str] = {
    "kubernetes": "runs on the nodes, which are priced; rules count what calls AWS, and refuse what makes things there",
    "pulumi": "the stack and its providers exist in Pulumi only",
    "pyairtable": "this program's components exist in Pulumi only",
    "random": "exists in Pulumi only",
    "tls": "exists in Pulumi only",
}
"""Packages whose resources cost nothing, with the reason."""


def quantities(resource: Resource, stack: Stack) -> Mapping[str, Figures]:
    """How much of each price one resource of a stack takes in a month; nothing for what is free.

    Raises:
        UnknownTypeError: nobody has said what the type costs.
        UnknownCostError: what it costs cannot be told from its inputs.
    """
    rule = RULES.get(resource.type)
    by_rule = rule(resource, stack) if rule else {}
    constant = {**FIXED.get(resource.type, {}), **_usage(resource)}
    if not (rule or constant or _is_free(resource)):
        raise UnknownTypeError(
            f"estimating the monthly cost: nobody has said what {resource.type} ({resource.name}) costs; "
            "add it to FIXED or FREE in cost/catalog.py, to cost/rules.py or to cost/usage.toml"
        )
    taken = {**by_rule, **{price: Figures.fixed(quantity) for price, quantity in constant.items()}}
    return {price: quantity for price, quantity in taken.items() if any(quantity)}


def _is_free(resource: Resource) -> bool:
    return resource.type in FREE or resource.type.partition(":")[0] in UNPRICED_PACKAGES


def _usage(resource: Resource) -> Mapping[str, Decimal]:
    """Expected use of a resource: tables with a quantity belong to the type, tables of such tables to one name."""
    entries = read_toml("usage.toml").get(resource.type, {})
    named = entries.get(resource.name, {})
    return {price: Decimal(entry["quantity"]) for price, entry in {**entries, **named}.items() if "quantity" in entry}
