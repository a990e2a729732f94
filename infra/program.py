"""Platform: the phases of one stack, in order, each wired to the ones before it."""

from decimal import Decimal

import pulumi
import pulumi_aws as aws

from cost import ResourceRecorder, estimate, require_within_budget, spot_share
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
        providers = {"aws": aws_provider}
        outputs: dict[str, pulumi.Input[object] | None] = dict.fromkeys(OUTPUTS)
        outputs["phase"] = settings.phase.value
        outputs["account_id"] = settings.account_id

        # Each phase is imported where it begins, so that a preview loads only what its phase needs.
        if settings.phase >= Phase.COST_FOUNDATION:
            from components.cost_foundation import CostFoundation
            from infra.arguments.cost_foundation import cost_foundation_args

            cost_foundation = CostFoundation(
                "cost-foundation", cost_foundation_args(settings), pulumi.ResourceOptions(providers=providers)
            )
            outputs["budget_name"] = cost_foundation.budget_name
            outputs["cost_alerts_topic_arn"] = cost_foundation.alert_topic_arn
            outputs["dashboard_name"] = cost_foundation.dashboard_name

            if settings.phase >= Phase.COMPUTE:
                from components.compute import Compute, Workloads
                from infra.arguments.compute import compute_args, workloads_args

                compute = Compute(
                    "compute",
                    compute_args(settings, cost_foundation.alert_topic_arn),
                    pulumi.ResourceOptions(providers=providers),
                )
                ready = compute.ready

                if settings.phase >= Phase.SECRETS:
                    from components.secrets import ManagedSecrets
                    from infra.arguments.secrets import managed_secrets_args

                    managed_secrets = ManagedSecrets(
                        "secrets",
                        managed_secrets_args(settings, compute, cost_foundation.alert_topic_arn),
                        compute.kubernetes_provider,
                        pulumi.ResourceOptions(providers=providers, depends_on=compute.ready),
                    )
                    ready = [*ready, *managed_secrets.ready]
                Workloads(
                    "blue",
                    workloads_args(settings, cost_foundation.images, compute.pull_secret),
                    pulumi.ResourceOptions(providers={"kubernetes": compute.kubernetes_provider}, depends_on=ready),
                )
                outputs["api_gateway_url"] = compute.api_gateway_url
                outputs["cluster_name"] = compute.cluster_name
                outputs["kubeconfig"] = compute.kubeconfig

        if settings.protect and settings.phase < Phase.SECRETS:
            # What was there before is not known here; the engine's own advice would leave half of it behind.
            pulumi.log.info(
                "if this stack was at a higher phase, what it protects does not go: first set "
                'pyairtable:protect: "false" and run pulumi up at that phase, rather than pulumi state unprotect'
            )
        monthly_cost = estimate(recorder.resources, stacks_per_account=settings.cost.stacks_per_account)
        require_within_budget(monthly_cost, Decimal(settings.monthly_budget_usd), enforce=settings.cost.enforce)
        outputs["estimated_monthly_cost_usd"] = float(monthly_cost.total_usd)
        outputs["estimated_monthly_minimum_usd"] = float(monthly_cost.minimum_usd)
        outputs["estimated_monthly_maximum_usd"] = float(monthly_cost.maximum_usd)
        if settings.phase >= Phase.COMPUTE:
            outputs["spot_share_percent"] = float(spot_share(recorder.resources))
            outputs["compute_saving_percent"] = float(100 * monthly_cost.compute_saving)
        for name, value in outputs.items():
            pulumi.export(name, value)
