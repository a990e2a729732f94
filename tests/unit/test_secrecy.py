"""Secrets do not stand in a stack file as they are, and the search for them finds them in any spelling."""

import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args
from urllib.parse import quote, quote_plus

import pulumi
import pytest
from pydantic import SecretStr

from infra.secrecy import SECRET_KEYS, SECRET_SETTINGS, PlainSecretError, require_encrypted
from infra.settings import Settings
from tests.secrecy import forms, places

VALUE = 'a "secret"/value+with=signs & ümläut?'


def test_the_secret_settings_are_those_that_are_kept_as_such() -> None:
    kept = {f.alias for f in Settings.model_fields.values() if SecretStr in (f.annotation, *get_args(f.annotation))}
    assert set(SECRET_SETTINGS) == kept


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("value", ["hush-hush", ["hush-hush"], {"token": "hush-hush"}, 5], ids=str)
def test_a_secret_in_plain_text_is_refused_with_key_file_and_remedy(key: str, value: object) -> None:
    with pytest.raises(PlainSecretError) as error:
        require_encrypted("alice-dev", {key: value}, lambda _: False)
    name = key.removeprefix("pyairtable:")
    assert str(error.value) == (
        f"{key}: must not be in plain text in Pulumi.alice-dev.yaml; encrypt it there with pulumi config set --secret "
        f"{name}"
    )
    assert isinstance(error.value, pulumi.RunError), "so that Pulumi prints no traceback"


def test_each_secret_in_plain_text_is_a_line() -> None:
    with pytest.raises(PlainSecretError) as error:
        require_encrypted("dev", dict.fromkeys(SECRET_KEYS, "x"), lambda key: key == SECRET_KEYS[1])
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [SECRET_KEYS[0], SECRET_KEYS[2]]


@pytest.mark.parametrize(
    "config", [{}, dict.fromkeys(SECRET_KEYS, ""), dict.fromkeys(SECRET_KEYS), {"pyairtable:costCenter": "x"}], ids=str
)
def test_what_is_absent_or_no_secret_passes(config: dict[str, object]) -> None:
    require_encrypted("dev", config, lambda _: False)


def test_the_engine_says_what_is_encrypted() -> None:
    pulumi.runtime.set_all_config(dict.fromkeys(SECRET_KEYS, "hush-hush"), list(SECRET_KEYS[:2]))
    try:
        with pytest.raises(PlainSecretError, match=f"^{SECRET_KEYS[2]}: [^\n]*$"):
            require_encrypted("dev", pulumi.runtime.config.CONFIG.get())
    finally:
        pulumi.runtime.set_all_config({}, [])


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in JSON with its own characters": lambda text: json.dumps(text, ensure_ascii=False),
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "in a URL": lambda text: f"https://u:{quote(text, safe='')}@host",
    "in a URL, lower case": lambda text: _lower(quote(text, safe="")),
    "in a path": quote,
    "in a form": lambda text: f"a=b&c={quote_plus(text)}&d=e",
    "in Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in Base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "in Base64 after a byte": lambda text: base64.b64encode(b"x" + text.encode()).decode(),
    "in Base64 after two bytes": lambda text: base64.b64encode(b"xy" + text.encode() + b"z").decode(),
    "in Base64 of JSON": lambda text: base64.b64encode(f'{{"p":"{text}","q":""}}'.encode()).decode(),
    "in folded Base64": lambda text: base64.encodebytes(b"x" * 70 + text.encode()).decode(),
    "in folded and quoted Base64": lambda text: json.dumps(base64.encodebytes(b"x" * 70 + text.encode()).decode()),
}


def _lower(text: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), text)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("before", ["", "{", "some text: "])
def test_a_secret_is_found_however_it_is_spelled(spelling: str, before: str) -> None:
    text = f"{before}{SPELLINGS[spelling](VALUE)} and more"
    found = places({"password": VALUE}, texts={"output": text, "other": "nothing of the kind"})
    assert {(place.secret, place.where) for place in found} == {("password", "output")}


@pytest.mark.parametrize("length", range(6, 30))
@pytest.mark.parametrize("before", range(4))
def test_base64_is_found_at_any_alignment_and_length(length: int, before: int) -> None:
    value = "abcdefghijklmnopqrstuvwxyz0123456789"[:length]
    for after in range(4):
        text = base64.b64encode(b"\xff" * before + value.encode() + b"\xff" * after).decode()
        assert places({"x": value}, texts={"t": text}), (before, after)


def test_what_is_not_there_is_not_found() -> None:
    texts = {"a": "a secret", "b": base64.b64encode(b"another value").decode(), "c": "%20", "d": VALUE[:-1], "e": ""}
    assert places({"x": VALUE, "y": "0123456789abcdef"}, texts=texts) == []


def test_every_place_is_told_without_the_value() -> None:
    found = places({"x": "hush-hush"}, texts={"t": "hush-hush and hush-hush", "u": "hush-hush"})
    assert [(place.where, place.form, place.at) for place in found] == [
        ("t", "plain", 0),
        ("t", "plain", 14),
        ("u", "plain", 0),
    ]
    assert "hush" not in repr(found)


def test_lines_of_a_secret_are_found_where_they_are_indented() -> None:
    lines = "-----BEGIN KEY-----\nabcdef\nghijkl\n-----END KEY-----"
    (place,) = places({"key": lines}, texts={"yaml": "key: |\n  " + lines.replace("\n", "\n  ")})
    assert place.form == "plain, folded"


def test_folders_are_looked_through_at_any_depth_names_of_files_too(tmp_path: Path) -> None:
    for path, content in {
        "a/b/log": "x hush-hush",
        "state": "{}",
        "left/etcd/db": "hush-hush",
        "left/file": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (tmp_path / "a/hush-hush.txt").touch()
    (tmp_path / "binary").write_bytes(b"\xff\x00hush-hush\x00")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    found = places({"x": "hush-hush"}, [tmp_path], leave_out=[tmp_path / "left/etcd"])
    assert sorted(place.where for place in found) == [
        f"{tmp_path}/a/b/log",
        f"{tmp_path}/binary",
        f"name of {tmp_path}/a/hush-hush.txt",
    ]
    assert places({"x": "hush-hush"}, [tmp_path / "left"], leave_out=[tmp_path / "left/etcd"]) == []


def test_a_search_that_could_not_find_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a value of 5 characters would be found everywhere"):
        places({"x": "short"}, texts={"t": "short"})
    with pytest.raises(ValueError, match="nothing to look for"):
        places({}, texts={"t": "short"})
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError):
            places({"x": "hush-hush"}, [folder])


def test_forms_of_plain_letters_are_few() -> None:
    assert list(forms("abcdef123")) == ["plain", "Base64 after 0", "Base64 after 1", "Base64 after 2"]
