"""The commands shown in the guide run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_harness import RUN_ELSEWHERE, invoke

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
_BLOCKS = re.findall(r"^```\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
_LINES = [line for block in _BLOCKS for line in block.splitlines() if line.startswith("holdfast ")]
SHOWN = [shlex.split(line, comments=True)[1:] for line in _LINES]


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_the_command_runs(arguments: list[str], world: Path) -> None:
    """Each line of the guide works in the world of the examples."""
    if arguments[0] not in RUN_ELSEWHERE:
        result = invoke(arguments)
        assert result.exit_code == 0, result.output
