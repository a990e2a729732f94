"""MutualTls: whether meshed services take plain text (runbook step 4.1)."""

from dataclasses import dataclass
from typing import Literal

import pulumi

from components.blue_green.istio import SECURITY, istio_object


@dataclass(frozen=True, kw_only=True)
class MutualTlsArgs:
    """How strict the mesh is."""

    mode: Literal["strict", "permissive"]


class MutualTls(pulumi.ComponentResource):
    """PeerAuthentication `default`, once all sidecars and the gateway are there, and nobody has to speak plain text.

    Without one the mesh is permissive, which is what a rollout needs.
    """

    made: pulumi.Output[str]
    """Its id, once it is there."""

    def __init__(self, name: str, args: MutualTlsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pyairtable:blue_green:MutualTls", name, None, opts)
        peers = istio_object(
            f"{name}-peers",
            "PeerAuthentication",
            "default",
            {"mtls": {"mode": args.mode.upper()}},
            pulumi.ResourceOptions(parent=self),
            api_version=SECURITY,
        )
        self.made = peers.id
        self.register_outputs({})
