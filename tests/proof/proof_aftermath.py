"""Going on after a crash: resume in a new session, save again, sweep."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from proof_sequence import STYLES, SYNC, Style, new_training, state_at
from proof_world import SPOILT, leftovers, look

from holdfast.errors import HoldfastError

_LATER_STEP = 90_000


def aftermath(folder: Path, style: Style = SYNC) -> list[str]:
    """Everything wrong with going on in a run folder that a crash left behind."""
    survivor = new_training(folder, style)
    try:
        report = survivor.manager.resume(verbose=False)
        problems = [f"passed over: {text}" for text in report.passed_over if SPOILT not in text]
        if survivor.state() != _known_state(report.global_step, style.name):
            problems.append("the resumed state is not the one that was saved")
        survivor.save(_LATER_STEP)
        survivor.manager.wait()
    except HoldfastError as error:
        return [f"going on failed: {error}"]
    finally:
        survivor.manager.close()
    survivor.run.sweep()
    problems += [f"left over after a sweep: {name}" for name in leftovers(folder)]
    later, wrong = look(survivor.run)
    if not any(f"step{_LATER_STEP:08d}" in name for name in later):
        problems.append("the save after the crash is not there")
    return problems + wrong


@functools.cache
def _known_state(step: int, style: str) -> list[Any]:
    return state_at(step, STYLES[style])
