"""The engine's run: which stand-ins a stack needs, and what is told of a failure."""

from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from sandbox.deployments import package_of
from sandbox.engine import Backends, Engine, Target, _last_words  # pyright: ignore[reportPrivateUsage]
from sandbox.state import State, write_json
from tests.unit.graph import config


@pytest.mark.parametrize(
    ("type", "package"),
    [
        ("aws:sns/topic:Topic", "aws"),
        ("kubernetes:core/v1:Secret", "kubernetes"),
        ("pulumi:providers:kubernetes", "kubernetes"),
        ("pulumi:pulumi:Stack", "pulumi"),
        ("pyairtable:compute:Compute", "pyairtable"),
    ],
)
def test_a_type_tells_its_package(type: str, package: str) -> None:
    assert package_of(type) == package


@pytest.mark.parametrize(
    ("phase", "deployed", "packages"),
    [
        (1, [], {"aws"}),
        (1, ["aws:sns/topic:Topic", "random:index/randomPassword:RandomPassword"], {"aws", "random"}),
        (1, ["pulumi:providers:kubernetes"], {"aws", "kubernetes"}),
        (2, [], {"aws", "kubernetes", "random", "tls"}),
    ],
)
def test_a_stack_is_given_the_stand_ins_that_it_needs(
    tmp_path: Path, phase: int, deployed: list[str], packages: set[str]
) -> None:
    state = State(tmp_path)
    state.prepare()
    file = state.backend / ".pulumi/stacks/pyairtable/dev.json"
    file.parent.mkdir(parents=True)
    write_json(file, {"checkpoint": {"latest": {"resources": [{"type": type} for type in deployed]}}})
    values: dict[str, Any] = config("dev", phase=phase)
    target = Target(
        config=values,
        settings=Settings.from_config("dev", values),
        backends=Backends(aws_endpoint="http://127.0.0.1:1", log_hint=""),
    )
    engine = Engine(state, Path("pulumi"), "dev", echo=print)
    assert set(engine.providers(target)) == packages


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("error: preview failed\n  error: creating x: no such thing\n", "creating x: no such thing"),
        ("error: 1 error occurred:\n\t* creating x: not ready\nerror: update failed", "creating x: not ready"),
        ("error: update failed", "update failed"),
        ("error: an unhandled error occurred: out of memory", "out of memory"),
        ("what now", "what now"),
        (
            "code: -9\nstdout: updating\nstderr:",
            "the engine was ended by signal 9; run the command again, which goes on where it was",
        ),
        ("", "the engine failed without a word"),
    ],
)
def test_the_last_words_of_the_engine_name_what_went_wrong(printed: str, words: str) -> None:
    assert _last_words(printed) == words
