"""Platform: the phases of one stack, in order, each wired to the ones before it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from cost import ResourceRecorder, estimate, require_within_budget, spot_share
from infra.phases import OUTPUTS, Phase
from infra.settings import Settings

if TYPE_CHECKING:
    from components.blue_green import BlueGreen, MutualTls, ServiceMesh
    from components.compute import Colour, Compute
    from components.cost_foundation import Images


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
        outputs["phase"] = settings.built_phase.value
        if settings.phase > settings.built_phase:
            pulumi.log.warn(
                f"phase {settings.phase} without blue-green is phase {settings.built_phase}; for a second release set "
                "enabled: true in pyairtable:blueGreen, with green's services"
            )
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

                mesh = None
                if settings.is_blue_green:
                    from components.blue_green import ServiceMesh

                    # Before the pods, which ask for a sidecar when they are made.
                    mesh = ServiceMesh("mesh", _in_cluster(compute, ready))
                    ready = [*ready, *mesh.ready]

                serving: list[pulumi.Resource]
                if mesh is not None:
                    serving, blue_green = _two_releases(settings, cost_foundation.images, compute, mesh, ready)
                    outputs["green_weight"] = blue_green.green_weight
                else:
                    workloads = workloads_args(settings, "blue", cost_foundation.images, compute.pull_secret, None)
                    serving = [Workloads("blue", workloads, _in_cluster(compute, ready))]

                outputs |= _entry(settings, compute, mesh, serving)
                outputs["cluster_name"] = compute.cluster_name
                outputs["kubeconfig"] = compute.kubeconfig

        if settings.protect and settings.phase < Phase.SECRETS:
            # What was there before is not known here; the engine's own advice would leave half of it behind.
            pulumi.log.info(
                "if this stack was at a higher phase, what it protects does not go: first set "
                'pyairtable:protect: "false" and run pulumi up at that phase, rather than pulumi state unprotect'
            )
        outputs |= _estimated(settings, recorder)
        for name, value in outputs.items():
            pulumi.export(name, value)


def _estimated(settings: Settings, recorder: ResourceRecorder) -> dict[str, float]:
    """What everything that has been recorded costs.

    Raises:
        OverBudgetError: more than the stack may, and the config enforces it.
    """
    monthly_cost = estimate(recorder.resources, stacks_per_account=settings.cost.stacks_per_account)
    require_within_budget(monthly_cost, Decimal(settings.monthly_budget_usd), enforce=settings.cost.enforce)
    outputs = {
        "estimated_monthly_cost_usd": float(monthly_cost.total_usd),
        "estimated_monthly_minimum_usd": float(monthly_cost.minimum_usd),
        "estimated_monthly_maximum_usd": float(monthly_cost.maximum_usd),
    }
    if settings.phase >= Phase.COMPUTE:
        outputs["spot_share_percent"] = float(spot_share(recorder.resources))
        outputs["compute_saving_percent"] = float(100 * monthly_cost.compute_saving)
    return outputs


def _in_cluster(compute: "Compute", after: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(providers={"kubernetes": compute.kubernetes_provider}, depends_on=list(after))


def _two_releases(
    settings: Settings, images: "Images", compute: "Compute", mesh: "ServiceMesh", ready: Sequence[pulumi.Resource]
) -> "tuple[list[pulumi.Resource], BlueGreen]":
    """Blue, green beside it, and the routes between the two: what clients need before they enter, and their shares."""
    from components.blue_green import BlueGreen, ColourRoutes, Migrations
    from components.compute import Workloads
    from infra.arguments.blue_green import blue_green_args, colour_routes_args, migrations_args
    from infra.arguments.compute import workloads_args

    def release(colour: "Colour") -> Workloads:
        args = workloads_args(settings, colour, images, compute.pull_secret, mesh)
        made = Workloads(colour, args, _in_cluster(compute, there))
        there.append(made)
        return made

    # Each part comes after all the parts before it.
    there = list(ready)
    # A colour that is stopped goes last, when the routes have left it.
    stopped = settings.blue_green.stopped
    if stopped != "blue":
        release("blue")
    # Blue's calls stay with blue from before there is anything else.
    there += ColourRoutes("routes", colour_routes_args(settings), _in_cluster(compute, there)).ready
    expanding = migrations_args(settings, "expand", images, compute.pull_secret)
    if expanding.migrations:
        there += Migrations("expand", expanding, _in_cluster(compute, there)).ready
    green = release("green") if stopped != "green" else None
    shares = BlueGreen(
        "blue-green",
        blue_green_args(settings, green, compute.edge),
        compute.kubernetes_provider,
        _in_cluster(compute, there),
    )
    there += shares.ready
    if stopped != "none":
        release(stopped)
    contracting = migrations_args(settings, "contract", images, compute.pull_secret)
    if contracting.migrations:
        Migrations("contract", contracting, _in_cluster(compute, there))
    return there, shares


def _entry(
    settings: Settings, compute: "Compute", mesh: "ServiceMesh | None", serving: Sequence[pulumi.Resource]
) -> dict[str, pulumi.Input[object] | None]:
    """How clients get in, and whether anybody may speak plain text; the outputs of both.

    The edge is the last of what serves, so that a move takes clients to what is there already. Plain text is refused
    only after that; on the way down it is taken before, since clients then come past the mesh.
    """
    from components.compute import EdgeService
    from infra.arguments.compute import edge_service_args

    outputs: dict[str, pulumi.Input[object] | None] = {}
    there = list(serving)
    tls: MutualTls | None = None
    if mesh is not None and settings.is_leaving_mesh:
        tls = _mutual_tls(settings, _in_cluster(compute, there))
        there.append(tls)
    if compute.edge is not None and settings.public_service is not None:
        args = edge_service_args(settings, settings.public_service, mesh)
        there += EdgeService("edge", args, compute.edge, _in_cluster(compute, there)).ready
        outputs["api_gateway_url"] = compute.edge.url
    if mesh is not None:
        tls = tls or _mutual_tls(settings, _in_cluster(compute, there))
        # Where an update fails before, the outputs stay what they were.
        outputs["phase"] = tls.made.apply(lambda _: settings.built_phase.value)
    return outputs


def _mutual_tls(settings: Settings, opts: pulumi.ResourceOptions) -> "MutualTls":
    from components.blue_green import MutualTls
    from infra.arguments.blue_green import mutual_tls_args

    return MutualTls("mutual-tls", mutual_tls_args(settings), opts)
