"""Arguments of phase 1's component."""

from decimal import Decimal

from components.cost_foundation import CostFoundationArgs, RegistryArgs
from infra.settings import Settings


def cost_foundation_args(settings: Settings) -> CostFoundationArgs:
    """What CostFoundation has to know of the settings."""
    return CostFoundationArgs(
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
    )
