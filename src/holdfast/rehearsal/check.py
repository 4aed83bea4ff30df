"""Rehearsing a resume: one process trains on, a fresh one resumes; they are compared by bits."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast.rehearsal.course import Order
from holdfast.rehearsal.launch import Launch, in_new_interpreter
from holdfast.rehearsal.records import Certificate
from holdfast.rehearsal.verdict import findings_of, first_difference, notes_of


def check_resume(
    entry: str,
    *,
    steps: int = 3,
    warm_up_steps: int = 3,
    folder: str | os.PathLike[str] = ".",
    launch: Launch = in_new_interpreter,
) -> Certificate:
    """Certify that a run resumes exactly, or name what makes it another run.

    entry: `module:function`; the function takes the folder for checkpoints and returns (manager,
    step): a CheckpointManager with everything registered, and a function that trains one step and
    may return the loss. One process trains `warm_up_steps`, saves, and trains `steps` more; another
    resumes and trains `steps`. If they differ, a third resumes as well, which tells chance from
    cause. folder: where the module is looked for. launch: starts a process.

    Raises ConfigError for an entry point that is none, and what the training raises.
    """
    if steps < 1 or warm_up_steps < 0:
        raise ConfigError("There is nothing to compare", fix="train at least one step")
    if ":" not in entry:
        raise ConfigError(f"{entry!r} is no entry point", fix="give module:function")
    here = str(Path(folder).resolve())
    with tempfile.TemporaryDirectory(prefix="holdfast-rehearsal-") as place:
        order = Order(entry, here, f"{place}/run", steps, warm_up_steps)
        whole = launch(order)
        resumed = launch(replace(order, warm_up_steps=None))
        exact = first_difference(whole, resumed) is None
        again = None if exact else launch(replace(order, warm_up_steps=None, probe=True))
    findings = findings_of(whole, resumed, again)
    return Certificate(
        entry,
        exact,
        warm_up_steps,
        steps,
        tuple(findings),
        tuple(notes_of(whole, resumed)) if exact else (),
        {
            "python": platform.python_version(),
            "torch": version("torch"),
            "holdfast": version("holdfast"),
            "machine": platform.machine(),
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        },
    )
