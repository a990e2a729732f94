"""The AWS emulator: ministack, as a service of the sandbox."""

import sys
import urllib.error
import urllib.request
from http import HTTPStatus

from sandbox import services
from sandbox.services import Service
from sandbox.state import State

NAME = "ministack"


DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses of this machine, whatever proxy the environment names."""


def endpoint(service: Service) -> str:
    """What AWS_ENDPOINT_URL is set to."""
    return f"http://127.0.0.1:{service.port}"


def ensure(state: State) -> Service:
    """The running emulator, started if need be. The caller holds the lock.

    It keeps what it holds in the state directory when it is stopped, not when it is killed: a stack that was deployed
    into another process of it has to be refreshed.
    """
    service = services.running(state, NAME)
    if service:
        services.wait_until_ready(service, _is_ready)
        return service
    command = [sys.executable, "-m", "ministack"]
    return services.start(state, NAME, command, lambda port: _environment(state, port), _is_ready)


def _environment(state: State, port: int) -> dict[str, str]:
    return {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",  # the default is every interface
        "IOT_MTLS_ENABLED": "0",  # further listeners that nothing here needs
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state.folder / "ministack"),
        "TMPDIR": str(state.temporary),
        "DOCKER_HOST": "unix:///nonexistent",  # containers would outlive the sandbox
    }


def _is_ready(port: int) -> bool:
    try:
        with DIRECTLY.open(f"http://127.0.0.1:{port}/_ministack/ready", timeout=2) as answer:
            return answer.status == HTTPStatus.OK
    except (urllib.error.URLError, OSError):
        return False
