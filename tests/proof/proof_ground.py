"""Where proofs run, what they need, and how they tell their figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest

_HERE = Path(__file__).parent

Tell: TypeAlias = Callable[[str], None]
"""The fixture that takes a line of figures."""


def cannot(reason: str) -> NoReturn:
    """Skip with the reason; in continuous integration, where everything must be there, fail."""
    if os.environ.get("HOLDFAST_CI"):
        pytest.fail(f"this may not be skipped here: {reason}")
    pytest.skip(reason)


def need_program(name: str) -> str:
    """The path of a program, or the test is skipped."""
    found = shutil.which(name)
    return found if found is not None else cannot(f"{name} is not installed")


def run_program(program: str, *arguments: object) -> dict[str, Any]:
    """Run one of the programs beside this file; return the figures it prints as JSON."""
    command = [sys.executable, str(_HERE / program), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        if "Operation not permitted" in done.stderr:
            cannot("processes may not be traced here")
        pytest.fail(done.stderr[-3000:])
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
