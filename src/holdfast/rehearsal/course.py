"""One process of a rehearsal: the run that is not interrupted, or the one that resumes."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError
from holdfast.rehearsal.entry import build
from holdfast.rehearsal.records import Course


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do. warm_up_steps: before the save; None: resume instead.

    probe: ask torch to warn of operators that are not deterministic.
    """

    entry: str
    folder: str
    checkpoints: str
    steps: int
    warm_up_steps: int | None = None
    probe: bool = False


def run_course(order: Order) -> Course:
    """Build, then train and save or resume, then train on, observing. In a process of its own."""
    import torch

    from holdfast.rehearsal.watching import Watcher

    caught: list[warnings.WarningMessage]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if order.probe:
            torch.use_deterministic_algorithms(True, warn_only=True)
        manager, step = build(order.entry, Path(order.folder), Path(order.checkpoints))
        watcher = Watcher(manager, step)
        if order.warm_up_steps is None:
            report = manager.resume(verbose=False, allow_fresh=False)
            position = report.global_step
        else:
            position = order.warm_up_steps
            for _ in range(position):
                step()
            if manager.save(0, position, {}) is None:
                raise ConfigError(
                    "The manager did not save", fix="leave out save_best_only in the rehearsal"
                )
            manager.wait()
        start = watcher.observe()
        observations = []
        for _ in range(order.steps):
            loss = step()
            observations.append(watcher.observe(loss))
        if order.warm_up_steps is not None:
            manager.close()
    texts = dict.fromkeys(str(warning.message) for warning in caught)
    return Course(start, tuple(observations), tuple(texts))


def order_to_json(order: Order) -> str:
    """The order as one line."""
    return json.dumps(asdict(order))


def main(arguments: list[str]) -> None:
    """Carry out the order in the first argument; write the course to the file in the second."""
    data: dict[str, Any] = json.loads(arguments[0])
    course = run_course(Order(**data))
    Path(arguments[1]).write_text(json.dumps(course.to_json()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
