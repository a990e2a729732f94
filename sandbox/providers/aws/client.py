"""boto3 clients of the emulator whose requests are held against botocore's own service models.

boto3 checks only the types of what it sends. The models know more: which values an enum has, which pattern and length
a string must have, which range a number. The official provider and AWS refuse what breaks those; so do these clients,
in a preview already, where values that AWS has yet to compute count as right.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import botocore.session
import botocore.validate
import regex
from botocore.config import Config
from botocore.model import ListShape, MapShape, StructureShape

from sandbox.providers.errors import ProviderError
from sandbox.providers.wire import is_unknown


class RequestIsValidError(Exception):
    """Raised in place of sending by clients of a dry run."""


SURROGATES = (r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
"""All characters beyond 16 bits, as Java's patterns write them, and as Python's do."""

NOTHING_OF_THE_USERS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""Where botocore would look for the user's own AWS settings."""


class Aws:
    """Clients of one account and region at the emulator; safe to use from several threads."""

    def __init__(self, endpoint: str, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region
        self._session = boto3.Session(
            botocore_session=botocore.session.Session(session_vars=NOTHING_OF_THE_USERS),
            # The emulator takes an access key of twelve digits for the account id.
            aws_access_key_id=account_id,
            aws_secret_access_key="test",  # noqa: S106 — the emulator checks no signatures
            region_name=region,
        )
        self.endpoint = endpoint
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def client(self, service: str) -> Any:
        """The client of a service; made once."""
        with self._lock:
            if service not in self._clients:
                client = self._session.client(
                    service,
                    endpoint_url=self.endpoint,
                    config=Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=30, proxies={}),
                )
                client.meta.events.register("before-parameter-build.*.*", self._check_request)
                self._clients[service] = client
            return self._clients[service]

    @property
    def is_dry(self) -> bool:
        """Whether this thread is in a dry run, in which no question is answered."""
        return getattr(self._local, "dry", False)

    def dry_run(self, call: Callable[[], object]) -> None:
        """Check the first request that `call` would send, and send nothing. Within another dry run, that one ends.

        Raises:
            ProviderError: the request breaks the service's model.
        """
        if self.is_dry:
            call()
            return
        self._local.dry = True
        try:
            call()
        except RequestIsValidError:
            pass
        finally:
            self._local.dry = False

    def _check_request(self, params: Mapping[str, Any], model: Any, **_: object) -> None:
        shape = model.input_shape
        if shape is not None:
            broken = [*_type_problems(params, shape), *constraint_problems(params, shape, "")]
            if broken:
                raise ProviderError(f"{model.service_model.service_id} {model.name} would refuse {'; '.join(broken)}")
        if self.is_dry:
            raise RequestIsValidError


def _type_problems(params: Mapping[str, Any], shape: Any) -> Iterator[str]:
    if is_unknown(params):
        return  # boto3 cannot look around an unknown value; the real request is checked again when it is sent
    report = botocore.validate.ParamValidator().validate(params, shape)
    if report.has_errors():
        yield report.generate_report().replace("\n", ", ")


def constraint_problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Where a value breaks an enum, pattern, length or range of its shape."""
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        members: Mapping[str, Any] = shape.members  # pyright: ignore[reportAssignmentType]
        for name, member in members.items():
            if name in value:
                yield from constraint_problems(value[name], member, f"{path}.{name}" if path else name)
    elif isinstance(shape, ListShape) and isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from constraint_problems(part, shape.member, f"{path}[{index}]")
    elif isinstance(shape, MapShape) and isinstance(value, Mapping):
        for key, part in value.items():
            yield from constraint_problems(key, shape.key, f"{path} key")
            yield from constraint_problems(part, shape.value, f"{path}.{key}")
    if not is_unknown(value):
        yield from _own_problems(value, shape, path)


def _own_problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    enum = getattr(shape, "enum", [])
    if enum and isinstance(value, str) and value not in enum:
        yield f"{path}: {value!r} is not one of {', '.join(enum)}"
    pattern = shape.metadata.get("pattern", "").replace(*SURROGATES)
    # Some models carry Java's own syntax, which the regex module reads and the standard one does not.
    if pattern and isinstance(value, str) and not regex.search(pattern, value, regex.V0 | regex.DOTALL):
        yield f"{path}: {value!r} does not match {pattern}"
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else None
    if size is not None:
        kind = "" if size is value else " long"
        if size < shape.metadata.get("min", size):
            yield f"{path}: {size}{kind} is less than {shape.metadata['min']}"
        if size > shape.metadata.get("max", size):
            yield f"{path}: {size}{kind} is more than {shape.metadata['max']}"
