"""Secret settings reach the program as secrets, and as what they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pydantic import SecretStr

from infra.secrecy import SECRET_KEYS, require_encrypted
from sandbox.engine import Backends, Engine, Target
from sandbox.errors import SandboxError
from sandbox.private_config import MADE_UP, SHOWN, PrivateConfig
from sandbox.state import State
from sandbox.tools import TOOLS, find
from tests.program.cloud import CONFIG, SETTINGS
from tests.secrecy import places

CHOSEN = "hush-hush: ümläut, 'quotes' and\nlines"


class Reader:
    """A program that reads its config, and makes nothing."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.state.prepare()
        self.lines: list[str] = []
        self.read: dict[str, Any] = {}
        self.engine = Engine(self.state, find(TOOLS["pulumi"]), "dev", echo=self.lines.append, program=self._program)

    def up(self, config: Mapping[str, Any]) -> None:
        """Deploy it."""
        backends = Backends(aws_endpoint="http://127.0.0.1:1", log_hint="")
        self.engine.up(Target(config={**CONFIG, **config}, settings=SETTINGS, backends=backends))

    def _program(self) -> None:
        config = pulumi.runtime.config.CONFIG.get()
        require_encrypted("dev", config)
        self.read = {key: config.get(key) for key in SECRET_KEYS}
        pulumi.export("token", pulumi.Config("pyairtable").get_secret("imagePullToken"))


def test_secrets_reach_the_program_and_no_file(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    first, second, third = SECRET_KEYS
    reader.up({first: MADE_UP, second: SecretStr(CHOSEN)})
    made_up = PrivateConfig(reader.state, "dev").value(first, MADE_UP)
    assert reader.read == {first: made_up, second: CHOSEN, third: ""}
    assert reader.engine.outputs()["token"] == SHOWN
    reader.up({first: MADE_UP, third: SecretStr(CHOSEN)})
    assert reader.read == {first: made_up, second: "", third: CHOSEN}
    private = tmp_path / "secrets"
    values = {"made up": made_up, "chosen": CHOSEN}
    assert places(values, [tmp_path], {"output": "\n".join(reader.lines)}, leave_out=[private]) == []


def test_the_program_refuses_a_secret_in_plain_text_in_one_line(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(SandboxError) as error:
        reader.up({SECRET_KEYS[0]: "hush-hush"})
    assert str(error.value).endswith(
        "pyairtable:imagePullToken: must not be in plain text in Pulumi.dev.yaml; encrypt it there with pulumi config "
        "set --secret imagePullToken"
    )
    assert "Traceback" not in "\n".join(reader.lines)
