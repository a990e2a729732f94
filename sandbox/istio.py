"""How istiod runs here: a process of this machine, with its container's arguments and its service account's rights."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from sandbox.control_plane import ControlPlane
from sandbox.tools import TOOLS, wanted_version

VERSION = "{}.{}.{}".format(*wanted_version(TOOLS["istiod"]))

ISTIOD_LISTENERS = {
    "--grpcAddr": "istiod-grpc",
    "--httpAddr": "istiod-http",
    "--httpsAddr": "istiod-webhooks",
    "--monitoringAddr": "istiod-monitoring",
}
"""Options for what istiod listens on, and the names of the ports; by default it is every interface."""


def istiod(
    plane: ControlPlane, binary: Path, arguments: Sequence[str], kubeconfig: Path
) -> tuple[list[str], dict[str, str]]:
    """Words and more variables of istiod's process; `arguments` are its container's."""
    # The last of several equal options counts.
    listeners = (f"{option}=127.0.0.1:{plane.ports[port]}" for option, port in ISTIOD_LISTENERS.items())
    words = [
        str(binary),
        *arguments,
        *listeners,
        "--secureGRPCAddr=",  # nobody here has a certificate to show
        "--ctrlz_address=127.0.0.1",
        f"--ctrlz_port={plane.ports['istiod-introspection']}",
        f"--caCertFile={plane.keys / 'ca.crt'}",
        f"--tlsCertFile={plane.keys / 'server.crt'}",
        f"--tlsKeyFile={plane.keys / 'server.key'}",
    ]
    variables = {
        "KUBECONFIG": str(kubeconfig),
        # Filters that only Istio's own Envoy has.
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
        # A new gateway gets what has been so for a second, even while much changes: see sandbox/gateways.py.
        "PILOT_DEBOUNCE_MAX": "1s",
    }
    return words, variables


def kubeconfig_of_account(plane: ControlPlane, folder: Path, token: Path) -> Path:
    """A kubeconfig with which a process is who its pod's service account is, with its rights; the file."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": plane.cluster,
        "contexts": [{"name": plane.cluster, "context": {"cluster": plane.cluster, "user": "account"}}],
        "clusters": [
            {
                "name": plane.cluster,
                "cluster": {"server": plane.url, "certificate-authority-data": plane.certificate_authority},
            }
        ],
        "users": [{"name": "account", "user": {"tokenFile": str(token)}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file
