"""Fresh processes for a rehearsal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from holdfast.errors import HoldfastError
from holdfast.rehearsal.course import Order, order_to_json
from holdfast.rehearsal.records import Course

Launch: TypeAlias = Callable[[Order], Course]
"""Carries out an order in a process that shares nothing with this one but its files."""

_OUTPUT_MAX = 4_000


class RehearsalError(HoldfastError):
    """The training that was to be rehearsed failed by itself."""


def in_new_interpreter(order: Order) -> Course:
    """Start Python anew. Raises RehearsalError with the end of what it printed if it fails."""
    with tempfile.TemporaryDirectory(prefix="holdfast-rehearsal-") as place:
        answer = Path(place) / "course.json"
        run = subprocess.run(
            [sys.executable, "-m", "holdfast.rehearsal.course", order_to_json(order), str(answer)],
            cwd=order.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if run.returncode != 0:
            what = "resumed" if order.warm_up_steps is None else "uninterrupted"
            raise RehearsalError(
                f"The {what} training ended with {run.returncode}: {run.stderr[-_OUTPUT_MAX:]}",
                where=order.entry,
                fix="make the entry point run by itself first",
            )
        return Course.from_json(json.loads(answer.read_text(encoding="utf-8")))
