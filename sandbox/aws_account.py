"""The AWS account that a cluster belongs to: what runs in its pods asks the emulator in that account's name."""

from typing import NamedTuple

from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.state import read_json, write_json

FILE = "account.json"


class AwsAccount(NamedTuple):
    """An account, and the region of the cluster."""

    id: str
    region: str


def note(plane: ControlPlane, account: AwsAccount) -> None:
    """Keep a cluster's account beside its control plane, for as long as the cluster exists."""
    write_json(plane.folder / FILE, account._asdict())


def account_of(plane: ControlPlane) -> AwsAccount:
    """The account that was noted.

    Raises:
        SandboxError: none was.
    """
    noted = read_json(plane.folder / FILE)
    if not noted:
        raise SandboxError(
            f"looking for the account of the cluster {plane.cluster}: {plane.folder / FILE} is not there; run sandbox "
            "up once more"
        )
    return AwsAccount(**noted)
