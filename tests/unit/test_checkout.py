"""The sandbox's own config lies over the stack files."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from pydantic import SecretStr

from infra.secrecy import SECRET_KEYS
from sandbox import checkout
from sandbox.encryption import Encryption
from sandbox.errors import BadInputError, SandboxError
from sandbox.private_config import MADE_UP, PrivateConfig
from sandbox.state import State
from tests.unit.graph import config


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "state")
    made.prepare()
    return made


def test_sections_are_merged_and_everything_else_is_replaced() -> None:
    below = {"a": {"x": 1, "y": [1]}, "b": 1}
    assert checkout.overlay(below, {"a": {"y": [2]}, "c": 3}) == {"a": {"x": 1, "y": [2]}, "b": 1, "c": 3}
    assert below == {"a": {"x": 1, "y": [1]}, "b": 1}


@pytest.mark.parametrize(
    ("key", "overlay"),
    [
        ("phase", {"pyairtable:phase": 1}),
        ("pyairtable:phase", {"pyairtable:phase": 1}),
        ("cost.enforce", {"pyairtable:cost": {"enforce": 1}}),
        ("other:a.b.c", {"other:a": {"b": {"c": 1}}}),
    ],
)
def test_a_dotted_key_is_an_overlay(key: str, overlay: checkout.Config) -> None:
    assert checkout.nested(key, 1) == overlay


@pytest.mark.parametrize("key", ["", "a..b", "cost.", ".cost", "pyairtable:"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with pytest.raises(BadInputError, match="a part of the key is empty"):
        checkout.nested(key, 1)


def test_taking_a_setting_out_takes_out_the_section_it_leaves_empty() -> None:
    config = {"pyairtable:cost": {"enforce": False}, "pyairtable:phase": 1}
    assert checkout.without(config, "cost.enforce") == {"pyairtable:phase": 1}
    assert checkout.without(config, "cost") == {"pyairtable:phase": 1}


def test_taking_a_setting_out_keeps_its_neighbours() -> None:
    config = {"pyairtable:cost": {"enforce": False, "stacksPerAccount": 2}}
    assert checkout.without(config, "cost.enforce") == {"pyairtable:cost": {"stacksPerAccount": 2}}


@pytest.mark.parametrize("key", ["phase", "cost.stacksPerAccount", "cost.enforce.x"])
def test_taking_out_what_is_not_there_is_refused(key: str) -> None:
    with pytest.raises(BadInputError, match=r"the sandbox has no value of its own for it; it has pyairtable:cost"):
        checkout.without({"pyairtable:cost": {"enforce": False}}, key)


def test_overrides_are_kept_per_stack_and_can_be_taken_back(state: State) -> None:
    checkout.write_overrides(state, "dev", {"pyairtable:phase": 0})
    assert checkout.overrides(state, "dev") == {"pyairtable:phase": 0}
    assert checkout.overrides(state, "prod") == {}
    checkout.write_overrides(state, "dev", {})
    assert checkout.overrides(state, "dev") == {}


def test_the_phase_of_the_run_lies_over_everything(state: State) -> None:
    checkout.write_overrides(state, "dev", {"pyairtable:phase": 1})
    assert checkout.effective(state, "dev", 0)[1].phase == 0
    assert checkout.effective(state, "dev", None)[1].phase == 1


@pytest.mark.parametrize("stack", ["../dev", "a b", "", "x/y", "dev.yaml"])
def test_a_stack_name_that_is_no_name_is_refused(stack: str) -> None:
    with pytest.raises(BadInputError):
        checkout.stack_config(stack)


@pytest.mark.parametrize(
    "content",
    [
        "\x00",
        "config: [",
        "config: 3",
        "config:\n  1: 2\n",
        "- a",
        "config: {a: b}",
        "config:\n  {x: y}: z\n",
        "&a [*a]",
    ],
)
def test_what_is_no_stack_file_is_bad_input(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(content)
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    with pytest.raises(BadInputError, match=r"^reading Pulumi\.dev\.yaml"):
        checkout.stack_config("dev")


TOKEN, OTHER = SECRET_KEYS[:2]
ENCRYPTED = {"secure": "v1:bm9uY2U=:Y2lwaGVydGV4dA=="}


@pytest.fixture
def stack_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the stack file of dev, which is right but for the changes."""
    monkeypatch.setattr(checkout, "ROOT", tmp_path)

    def write(changes: checkout.Config) -> None:
        content = {"config": {**config(), **changes}}
        (tmp_path / "Pulumi.dev.yaml").write_text(checkout.dump_yaml(content))

    return write


def test_a_secret_in_plain_text_is_refused_with_key_file_and_remedy(
    state: State, stack_file: Callable[..., None]
) -> None:
    stack_file({TOKEN: "hush-hush", OTHER: ENCRYPTED})
    with pytest.raises(BadInputError) as error:
        checkout.effective(state, "dev", None)
    assert str(error.value) == (
        "pyairtable:imagePullToken: must not be in plain text in Pulumi.dev.yaml; encrypt it there with pulumi config "
        "set --secret imagePullToken, or take it out there and give it to the sandbox alone with sandbox config set "
        "--secret pyairtable:imagePullToken --stack dev"
    )


def test_a_secret_in_plain_text_among_the_overrides_is_refused(state: State) -> None:
    checkout.write_overrides(state, "dev", {TOKEN: "hush-hush"})
    with pytest.raises(BadInputError) as error:
        checkout.effective(state, "dev", None)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{TOKEN}: must not be in plain text in {state.overrides}/dev.yaml; forget it with ")
    assert "hush-hush" not in line


def test_encrypted_secrets_get_values_of_the_sandboxs_own(state: State, stack_file: Callable[..., None]) -> None:
    stack_file({TOKEN: ENCRYPTED, OTHER: ENCRYPTED, "github:token": ENCRYPTED})
    PrivateConfig(state, "dev").choose({OTHER: "hush-hush"})
    found, settings = checkout.effective(state, "dev", None)
    assert set(checkout.made_up(found)) == {TOKEN, "github:token"}
    assert found[OTHER] == SecretStr("hush-hush")
    assert settings.image_pull_token
    assert settings.airtable_token == SecretStr("hush-hush")
    assert checkout.shown(found).items() >= dict.fromkeys((TOKEN, OTHER, "github:token"), "[secret]").items()
    assert "hush-hush" not in f"{found} {settings} {checkout.shown(found)}"


def test_a_secret_of_the_sandboxs_own_needs_none_in_the_stack_file(
    state: State, stack_file: Callable[..., None]
) -> None:
    stack_file({})
    PrivateConfig(state, "dev").choose({TOKEN: "hush-hush"})
    assert checkout.effective(state, "dev", None)[1].image_pull_token == SecretStr("hush-hush")


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("pyairtable:costCenter", ENCRYPTED, "pyairtable:costCenter"),
        ("pyairtable:registry", {"username": ENCRYPTED}, "pyairtable:registry.username"),
        ("pyairtable:alertEmails", ["a@b.example", ENCRYPTED], "pyairtable:alertEmails"),
        ("pyairtable:services", [{"name": ENCRYPTED}], "pyairtable:services"),
    ],
)
def test_an_encrypted_setting_that_is_no_secret_has_to_be_given(
    state: State, stack_file: Callable[..., None], key: str, value: object, path: str
) -> None:
    stack_file({key: value})
    with pytest.raises(BadInputError) as error:
        checkout.effective(state, "dev", None)
    assert str(error.value) == (
        f"reading {path}: it is encrypted for the stack's own backend; give the sandbox a value of its own: sandbox "
        f"config set {path} VALUE"
    )


def test_what_is_given_takes_the_place_of_an_encrypted_setting(state: State, stack_file: Callable[..., None]) -> None:
    stack_file({"pyairtable:costCenter": ENCRYPTED, "pyairtable:registry": ENCRYPTED})
    checkout.write_overrides(state, "dev", {"pyairtable:costCenter": "x", "pyairtable:registry": {"mirror": "ecr"}})
    settings = checkout.effective(state, "dev", None)[1]
    assert (settings.cost_center, settings.registry.mirror) == ("x", "ecr")


def test_clients_arrive_in_plain_text_at_a_port_that_stays(state: State) -> None:
    first = checkout.effective(state, "prod", None)[1].edge
    assert first.plain_http
    assert 20000 <= first.listener_port < 30000
    assert checkout.effective(state, "prod", None)[1].edge == first


def test_bad_input_leaves_no_port_behind(state: State) -> None:
    checkout.write_overrides(state, "prod", {"pyairtable:blueGreen": {"greenWeight": 101}})
    with pytest.raises(BadInputError, match="greenWeight"):
        checkout.effective(state, "prod", None)
    assert not (state.folder / "edges").exists()


def test_where_clients_arrive_can_be_said(state: State) -> None:
    checkout.write_overrides(state, "prod", {"pyairtable:edge": {"port": 8088, "plainHttp": False}})
    edge = checkout.effective(state, "prod", 3)[1].edge
    assert (edge.port, edge.plain_http, edge.enabled) == (8088, False, True)


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("stack", "own"),
    [("dev", {}), ("prod", {"enabled": False}), ("prod", {"certificateArn": CERTIFICATE, "domain": "api.x.example"})],
)
def test_an_edge_that_is_off_or_has_a_certificate_stays_as_it_is(
    state: State, stack: str, own: checkout.Config
) -> None:
    checkout.write_overrides(state, stack, {"pyairtable:edge": own})
    edge = checkout.effective(state, stack, None)[1].edge
    assert (edge.port, edge.plain_http) == (None, False)
    assert not (state.folder / "edges").exists()


def test_an_edge_that_is_encrypted_has_to_be_given(state: State, stack_file: Callable[..., None]) -> None:
    stack_file({"pyairtable:edge": ENCRYPTED})
    with pytest.raises(BadInputError, match=r"^reading pyairtable:edge: it is encrypted"):
        checkout.effective(state, "dev", None)


@pytest.mark.parametrize(
    ("key", "full"),
    [
        ("imagePullToken", TOKEN),
        (TOKEN, TOKEN),
        ("other:imagePullToken", None),
        ("imagePullToken.x", None),
        ("phase", None),
        ("", None),
    ],
)
def test_a_key_tells_whether_its_setting_is_secret(key: str, full: str | None) -> None:
    assert checkout.secret_key(key) == full


def test_what_is_made_up_stays_and_only_the_user_may_read_it(state: State) -> None:
    dev = PrivateConfig(state, "dev")
    value = dev.value(TOKEN, MADE_UP)
    assert len(value) >= 32
    dev.choose({OTHER: "hush-hush"})
    assert PrivateConfig(state, "dev").value(TOKEN, MADE_UP) == value
    assert dev.value(TOKEN, SecretStr("given")) == "given"
    others = [dev.value(OTHER, MADE_UP), PrivateConfig(state, "prod").value(TOKEN, MADE_UP)]
    assert len({value, *others}) == 3
    assert dev.chosen == {OTHER: "hush-hush"}
    files = list((state.folder / "secrets").glob("*.json"))
    assert [path.name for path in sorted(files)] == ["dev.json", "prod.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (state.folder / "secrets").stat().st_mode & 0o777 == 0o700


def test_reading_private_values_writes_nothing(state: State) -> None:
    assert PrivateConfig(state, "dev").chosen == {}
    PrivateConfig(state, "dev").choose({})
    assert not (state.folder / "secrets").exists()


@pytest.mark.parametrize("content", ["", "{", "3", "[]", '{"chosen": 3}', '{"made_up": []}', '{"chosen": {"x": 3}}'])
def test_a_damaged_file_of_private_values_is_named(state: State, content: str) -> None:
    path = state.folder / "secrets/dev.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(SandboxError, match=f"^reading {path}: "):
        _ = PrivateConfig(state, "dev").chosen


def test_values_are_encrypted_as_the_engine_does_it() -> None:
    first = Encryption("passphrase")
    second = Encryption("passphrase", first.salt)
    assert second.salt == first.salt
    version, salt, proof = first.salt.split(":", 2)
    assert version == "v1"
    key = PBKDF2HMAC(SHA256(), 32, base64.b64decode(salt), 1_000_000).derive(b"passphrase")

    def decrypted(text: str) -> str:
        version, *parts = text.split(":")
        nonce, content = map(base64.b64decode, parts)
        assert version == "v1"
        return AESGCM(key).decrypt(nonce, content, None).decode()

    assert decrypted(proof) == "pulumi"
    for value in ("hush-hush", "ümläut 🎉", "x" * 10_000, "a\nb"):
        assert {decrypted(encryption.encrypt(value)) for encryption in (first, second)} == {value}
        assert first.encrypt(value) != first.encrypt(value), "each has a nonce of its own"


@pytest.mark.parametrize("text", ["012345678905", "1e3", "0o17", "089", "12:30", "v1", "plain", "yes", ""])
def test_text_is_written_so_that_every_reader_of_yaml_sees_text(text: str) -> None:
    dumped = checkout.dump_yaml({"key": text})
    assert checkout.parse_yaml(dumped) == {"key": text}
    assert not any(character.isdigit() for character in text) or f'"{text}"' in dumped
