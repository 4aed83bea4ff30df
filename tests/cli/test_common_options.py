"""Options, errors, colours and references that all commands share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from cli_harness import SCHEMAS, document, invoke

from holdfast.cli import output
from holdfast.cli.refs import locate
from holdfast.errors import CheckpointNotFoundError, ConfigError

RUN = "runs/translate"


def test_options_stand_before_or_after_the_command(world: Path) -> None:
    """`holdfast --json ls` and `holdfast ls --json` are the same."""
    assert invoke(["--json", "ls", RUN]).stdout == invoke(["ls", RUN, "--json"]).stdout


def test_errors_end_in_exit_codes_and_say_what_to_do(world: Path) -> None:
    """2 for wrong use, 3 for damage, 4 for what is not there; data stays off standard output."""
    missing = invoke(["ls", "nowhere"])
    assert (missing.exit_code, missing.stdout) == (4, "")
    assert "There is no such run folder [nowhere]" in missing.stderr
    assert invoke(["best", RUN, "--metric", "val_blue"]).exit_code == 2
    assert invoke(["best", RUN, "--metric", "test_bleu", "--mode", "min"]).exit_code == 0
    model = world / RUN / "latest" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.resolve().write_bytes(data)
    damaged = invoke(["verify", f"{RUN}@latest"])
    assert damaged.exit_code == 3
    assert "DAMAGED" in damaged.stdout


def test_errors_are_documents_for_those_who_asked_for_json(world: Path) -> None:
    """With --json standard error holds the error as one document."""
    result = invoke(["ls", "nowhere", "--json"])
    data = json.loads(result.stderr)
    jsonschema.validate(data, json.loads((SCHEMAS / "error-1.json").read_text()))
    assert data["exit_code"] == result.exit_code == 4


def test_typos_get_a_suggestion(world: Path) -> None:
    """A command or option that is nearly right is named."""
    assert "Did you mean verify?" in invoke(["verfy"]).output
    assert "--limit" in invoke(["ls", "--limt", "3"]).output


def test_what_cannot_be_tried_is_not_done(world: Path) -> None:
    """--dry-run before a command without a trial run is refused."""
    result = invoke(["--dry-run", "ls", RUN])
    assert result.exit_code == 2
    assert "ls cannot be tried" in result.stderr


@pytest.mark.parametrize(
    ("environment", "options", "colored"),
    [
        ({}, [], False),
        ({}, ["--color", "always"], True),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
    ],
)
def test_colours_are_for_terminals_and_for_those_who_ask(
    environment: dict[str, str], options: list[str], colored: bool, world: Path
) -> None:
    """The option decides, then NO_COLOR, then FORCE_COLOR, then whether it is a terminal."""
    result = invoke(
        [*options, "ls", RUN], env={"NO_COLOR": None, "FORCE_COLOR": None} | environment
    )
    assert ("\x1b[32m" in result.stdout) is colored


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("runs/translate@latest", "checkpoint_epoch0006_step00006000"),
        ("runs/translate@latest~2", "checkpoint_epoch0004_step00004000"),
        ("runs/translate@best", "checkpoint_epoch0006_step00006000"),
        ("runs/translate@best:val_bleu", "checkpoint_epoch0004_step00004000"),
        ("runs/translate@step:3000", "checkpoint_epoch0003_step00003000"),
        ("runs/translate", "checkpoint_epoch0006_step00006000"),
        ("runs/translate/best-val_bleu", "checkpoint_epoch0004_step00004000"),
        (
            "runs/translate/checkpoint_epoch0001_step00001000",
            "checkpoint_epoch0001_step00001000",
        ),
        (
            "runs/translate@checkpoint_epoch0001_step00001000",
            "checkpoint_epoch0001_step00001000",
        ),
    ],
)
def test_references_name_checkpoints(ref: str, name: str, world: Path) -> None:
    """A path, a place in time, a rank or a step leads to one checkpoint."""
    assert locate(ref).resolve().name == name


def test_without_a_run_references_are_about_the_variable_or_the_current_folder(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`latest` alone works inside a run, and anywhere once HOLDFAST_RUN is set."""
    with pytest.raises(CheckpointNotFoundError):
        locate("latest")
    monkeypatch.setenv("HOLDFAST_RUN", RUN)
    assert locate("latest").name == "checkpoint_epoch0006_step00006000"
    assert document(["ls"])["newest"] == "checkpoint_epoch0006_step00006000"


def test_what_is_no_reference_is_refused_with_the_forms_there_are(world: Path) -> None:
    """Nonsense is wrong use; a well-formed reference to nothing is not found."""
    with pytest.raises(ConfigError, match="latest~2"):
        locate("runs/translate@lastest")
    for nothing in ("latest~6", "step:17", "checkpoint_epoch0009_step00009000"):
        with pytest.raises(CheckpointNotFoundError):
            locate(f"runs/translate@{nothing}")


def test_the_table_aligns_what_is_painted() -> None:
    """Styles take no room, and foreign marks end with their line."""
    text = output.table(["a", "b"], [[output.paint("xx", "red"), "1"], ["y", "22"]], " r")
    assert [line.replace("\ufdd3", "").replace("\ufdd0", "") for line in text.split("\n")] == [
        "a    b",
        "xx   1",
        "y   22",
    ]


def test_help_and_reading_commands_do_not_import_torch(world: Path) -> None:
    """Listing, ranking, verifying and every help page start without torch."""
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from holdfast.cli.app import COMMANDS, app\n"
        "run = lambda *a, **o: CliRunner().invoke(app, list(a), **o)\n"
        "names = [name for names in COMMANDS.values() for name in names]\n"
        "assert all(run(name, '--help').exit_code == 0 for name in names)\n"
        "for name in ('ls', 'show', 'best', 'history', 'status', 'du', 'why', 'prune'):\n"
        "    result = run(name, 'runs/translate')\n"
        "    assert result.exit_code == 0, result.output\n"
        "result = run('diff', 'runs/translate', 'runs/translate')\n"
        "assert result.exit_code == 0, result.output\n"
        "late = ('latest', 'x=1'), ('latest', '--reason', 'x'), ('latest',)\n"
        "for name, arguments in zip(('record', 'pin', 'unpin'), late):\n"
        "    result = run(name, *arguments, env={'HOLDFAST_RUN': 'runs/translate'})\n"
        "    assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert run('verify', 'runs/translate').exit_code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_offers_commands(world: Path) -> None:
    """The shell asks for completions through the environment."""
    words = {"COMP_WORDS": "holdfast ver", "COMP_CWORD": "1", "_HOLDFAST_COMPLETE": "complete_bash"}
    result = invoke([], env=words, prog_name="holdfast")
    assert result.stdout.split() == ["verify"]
