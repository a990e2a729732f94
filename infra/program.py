"""Platform: the phases of one stack, in order, each wired to the ones before it."""

from decimal import Decimal

import pulumi
import pulumi_aws as aws

from cost import ResourceRecorder, estimate, require_within_budget
from infra.phases import OUTPUTS, Phase
from infra.settings import Settings


class Platform:
    """Everything that one stack's settings ask for; the only place that knows the phases."""

    def __init__(self, settings: Settings) -> None:
        recorder = ResourceRecorder()
        pulumi.runtime.register_stack_transformation(recorder.record)

        aws_provider = aws.Provider(
            "aws",
            region=settings.region,
            # Credentials of another account fail here, before anything is touched.
            allowed_account_ids=[settings.account_id],
            default_tags={"tags": settings.names.default_tags},
        )
        providers = pulumi.ResourceOptions(providers={"aws": aws_provider})
        outputs: dict[str, pulumi.Input[object] | None] = dict.fromkeys(OUTPUTS)
        outputs["phase"] = settings.phase.value
        outputs["account_id"] = settings.account_id

        if settings.phase >= Phase.COST_FOUNDATION:
            # Imported here and not above, so that a preview loads only what its phase needs.
            from components.cost_foundation import CostFoundation, CostFoundationArgs, RegistryArgs

            cost_foundation = CostFoundation(
                "cost-foundation",
                CostFoundationArgs(
                    names=settings.names,
                    account_id=settings.account_id,
                    region=settings.region,
                    monthly_limit_usd=Decimal(settings.monthly_budget_usd),
                    account_wide_limit_usd=Decimal(settings.account_wide_limit_usd),
                    alert_emails=settings.alert_emails,
                    encrypt_alerts_with_own_key=settings.environment == "prod",
                    registry=RegistryArgs(
                        names=settings.names,
                        account_id=settings.account_id,
                        region=settings.region,
                        host=settings.registry.host,
                        organization=settings.registry.organization,
                        mirror=settings.registry.mirror == "ecr",
                        repositories=settings.registry.repositories,
                    ),
                ),
                providers,
            )
            outputs["budget_name"] = cost_foundation.budget_name
            outputs["cost_alerts_topic_arn"] = cost_foundation.alert_topic_arn
            outputs["dashboard_name"] = cost_foundation.dashboard_name

        monthly_cost = estimate(recorder.resources, stacks_per_account=settings.cost.stacks_per_account)
        require_within_budget(monthly_cost, Decimal(settings.monthly_budget_usd), enforce=settings.cost.enforce)
        outputs["estimated_monthly_cost_usd"] = float(monthly_cost.total_usd)
        for name, value in outputs.items():
            pulumi.export(name, value)
