"""docs/configuration.md names every setting, with the default that it has and an example that works."""

import re
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from infra.sections import MigrationSettings, NodeGroupSettings, Section, ServiceSettings
from infra.settings import RESERVED_NAMES, Settings
from tests.unit.graph import ROOT, config

TEXT = (ROOT / "docs" / "configuration.md").read_text()

Row = tuple[str, ...]


def table(heading: str) -> dict[str, Row]:
    """Rows of the table below a heading, by each of the names in the first cell."""
    (below,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in below.splitlines() if line[:3] == "| `"
    ]
    return {name: row for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def aliases(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def keys() -> dict[str, FieldInfo]:
    """Settings by their paths: those of sections one by one, optional sections and lists as a whole."""
    found: dict[str, FieldInfo] = {}
    for name, field in aliases(Settings).items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= {f"{name}.{part}": inner for part, inner in aliases(kind).items()}
        elif name != "stack":  # which is the stack's own name
            found[name] = field
    return found


TABLES = {
    "Keys": keys(),
    "Node groups": aliases(NodeGroupSettings),
    "Services": aliases(ServiceSettings),
    "Migrations": aliases(MigrationSettings),
}
of_each_table = pytest.mark.parametrize("heading", TABLES)


@of_each_table
def test_it_names_every_setting_and_nothing_else(heading: str) -> None:
    assert table(heading).keys() == TABLES[heading].keys()


@of_each_table
def test_every_row_has_a_cell_for_each_column(heading: str) -> None:
    columns = {"Keys": 5}.get(heading, 4)
    assert {name: len(row) for name, row in table(heading).items()} == dict.fromkeys(table(heading), columns)


@of_each_table
def test_a_default_is_the_settings(heading: str) -> None:
    plain = {
        name: yaml.safe_dump(field.default).splitlines()[0].strip("'\"")
        for name, field in TABLES[heading].items()
        if isinstance(field.default, str | int)
    }
    assert plain or heading == "Migrations"  # where everything has to be said
    assert {name: table(heading)[name][2].strip("`") for name in plain} == plain


@of_each_table
def test_what_is_required_is_said_to_be_or_to_be_the_environments(heading: str) -> None:
    required = {name for name, field in TABLES[heading].items() if field.is_required()}
    assert {name for name, row in table(heading).items() if row[2] == "required"} <= required
    others = {name: table(heading)[name][2] for name in required if table(heading)[name][2] != "required"}
    assert {
        name for name, default in others.items() if default not in ("environment", "none", "end of the stack's name")
    } == set()


EXAMPLES = {
    name: row[4].strip("`")
    for name, row in table("Keys").items()
    if row[4].startswith("`") and len(re.findall("`", row[0])) == 2
}
MOVED: dict[str, Any] = {
    "stores": {"backupSchedule": "17 12 * * MON-FRI"},
    "secrets": {"rotationSchedule": "47 12 * * MON-FRI"},
}
"""What has to be said where nodes stop at night."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_works(name: str) -> None:
    value: Any = yaml.safe_load(EXAMPLES[name])
    key, *depth = name.split(".")
    for part in reversed(depth):
        value = {part: value}
    besides = MOVED if key == "nightSchedule" else {}
    given: dict[str, Any] = {"phase": 1, "services": [], **besides, key: value}
    assert Settings.from_config("dev", config(**given))


def test_it_names_the_names_that_a_service_cannot_have() -> None:
    names = table("Services")["name"][1].partition("; not ")[2].partition("; ")[0]
    assert re.findall(r"`([^`]+)`", names) == [*RESERVED_NAMES]


def test_every_table_has_as_many_cells_in_each_row() -> None:
    for lines in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}) == 1, lines
