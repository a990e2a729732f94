"""How the controller of External Secrets runs here: a process of this machine that takes the emulator for AWS."""

import os
from collections.abc import Sequence
from pathlib import Path

from sandbox.aws_account import account_of
from sandbox.control_plane import ControlPlane

LISTENERS = {"--metrics-addr": "external-secrets-metrics", "--live-addr": "external-secrets-health"}
"""The controller's options for what it listens on, and the names of the ports; by default it is every interface."""

ENDPOINTS = ("AWS_SECRETSMANAGER_ENDPOINT", "AWS_SSM_ENDPOINT", "AWS_STS_ENDPOINT")
"""All of AWS that a SecretStore can name."""


def command(
    plane: ControlPlane, binary: Path, emulator_port: int, arguments: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Words and variables of the controller's process; `arguments` are its container's.

    Raises:
        SandboxError: nobody has noted which account the cluster belongs to.
    """
    account = account_of(plane)
    # The last of several equal options counts.
    listeners = (f"{option}=127.0.0.1:{plane.ports[port]}" for option, port in LISTENERS.items())
    variables = {
        "KUBECONFIG": str(plane.kubeconfig),
        **dict.fromkeys(ENDPOINTS, f"http://127.0.0.1:{emulator_port}"),
        # In place of what EKS Pod Identity would give the pod. The emulator takes twelve digits for the account.
        "AWS_ACCESS_KEY_ID": account.id,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": account.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return [str(binary), *arguments, *listeners], variables
