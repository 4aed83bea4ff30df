"""What holds for every command: its help page, its examples, its JSON, and hostile contents."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from cli_harness import (
    EVERY_COMMAND,
    EXAMPLES,
    SCHEMAS,
    command_named,
    document,
    examples_of,
    invoke,
)

from holdfast.cli.app import COMMANDS
from holdfast.cli.common import WITHOUT_JSON
from holdfast.cli.group import load_module

_CONTROL = re.compile(
    r"[^\S\n]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufdd0-\ufddf]"
)
_SHOWN = pytest.mark.parametrize(
    ("name", "arguments"), [pytest.param(n, a, id=" ".join(a)) for n, a in EXAMPLES]
)


@pytest.mark.parametrize("module", COMMANDS)
def test_the_table_of_commands_is_what_the_modules_define(module: str) -> None:
    """Each module defines exactly the commands that the application looks for in it."""
    assert set(load_module(module)) == set(COMMANDS[module])


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_every_help_page_says_what_the_command_does_and_shows_it(name: str) -> None:
    """A help page begins with a sentence, explains every option and has an example."""
    command = command_named(name)
    assert re.match(r"[A-Z].*\.", command.help, re.DOTALL)
    assert examples_of(name), f"{name} has no paragraph that begins with 'Example: '"
    assert all(getattr(option, "help", None) for option in command.params), command.params
    page = invoke([name, "--help"]).stdout
    assert "Example: holdfast" in page


@_SHOWN
def test_every_example_runs(name: str, arguments: list[str], world: Path) -> None:
    """What a help page shows works as it stands."""
    result = invoke(arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


@_SHOWN
def test_every_document_is_of_its_schema(name: str, arguments: list[str], world: Path) -> None:
    """With --json a command prints one document of a schema in docs/schemas."""
    if name not in WITHOUT_JSON:
        assert document(arguments)["schema"].startswith("holdfast-")


@_SHOWN
@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_contents_do_not_reach_the_terminal(
    name: str, arguments: list[str], form: str, hostile_world: Path
) -> None:
    """Escape sequences, control characters and endless names are shown as what they are."""
    if form == "json" and name in WITHOUT_JSON:
        return
    result = invoke([*arguments, *(["--json"] if form == "json" else [])])
    for text in (result.stdout, result.stderr):
        found = _CONTROL.search(text.replace(" ", ""))
        assert found is None, repr(text[max(0, found.start() - 60) : found.end() + 20])
        assert form == "json" or max(map(len, text.split("\n"))) < 10_000


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_schemas_are_schemas_and_name_themselves(path: Path) -> None:
    """Each file is a JSON schema of documents that say so."""
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    name, _, version = path.stem.rpartition("-")
    assert schema["properties"]["schema"]["const"] == f"holdfast-{name}/{version}"
