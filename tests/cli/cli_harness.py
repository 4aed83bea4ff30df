"""Running commands in this process, as the examples in their help pages have them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import typer
from typer.testing import CliRunner

from holdfast.cli.app import COMMANDS, app

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
EVERY_COMMAND = [name for names in COMMANDS.values() for name in names]
PREFIX = "Example: "

RUN_ELSEWHERE = {
    "demo": "tests/demo/test_demo_run.py runs it, which takes longer",
    "ui": "tests/report/test_ui_access.py runs it, which does not end by itself",
    "resume-check": "test_checking_up.py runs its example once, since that starts processes",
}
"""Commands whose examples are read here, but run by tests of their own."""


def command_named(name: str) -> Any:
    """The command as the group has it."""
    group: Any = typer.main.get_command(app)
    with group.make_context("holdfast", [name], resilient_parsing=True) as context:
        return group.get_command(context, name)


def examples_of(name: str) -> list[list[str]]:
    """The arguments of every example in the command's help page, without the program's name."""
    paragraphs = (command_named(name).epilog or "").split("\n\n")
    lines = [text.strip().removeprefix(PREFIX) for text in paragraphs if PREFIX in text]
    return [shlex.split(line)[1:] for line in lines]


EXAMPLES = [
    (name, arguments)
    for name in EVERY_COMMAND
    if name not in RUN_ELSEWHERE
    for arguments in examples_of(name)
]


def invoke(arguments: Sequence[str], **options: Any) -> Any:
    """Run a command; whatever it raises beyond an exit code passes through."""
    result = CliRunner().invoke(app, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(arguments: Sequence[str]) -> Any:
    """What a command prints with --json, proven to be of its checked-in schema."""
    result = invoke([*arguments, "--json"])
    data = json.loads(result.stdout)
    name, slash, version = data["schema"].removeprefix("holdfast-").partition("/")
    assert slash, data["schema"]
    schema = json.loads((SCHEMAS / f"{name}-{version}.json").read_text())
    jsonschema.validate(data, schema)
    return data
