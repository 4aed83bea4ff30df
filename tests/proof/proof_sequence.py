"""The operations that crashes and faults are tried on, each a line in `OPERATIONS`.

The training is a tiny one whose whole state is a function of the step, so that what a restored
session must hold is known without having stored it.
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from proof_world import SPOILT, put_a_stranger
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.engine.catalog import read_manifest
from holdfast.manager.background import OnCommit
from holdfast.manifest import MANIFEST_FILE, checkpoint_name
from holdfast.storage import LocalRun

EARLIER = (1, 2, 3)
"""Steps saved before the sequence begins; step 1 is the best and must outlive all rotation."""

BEYOND = 1000
"""How far ahead training is while a save is still carried out."""

Operation: TypeAlias = "tuple[str, Callable[[Training], object]]"
"""What it is called, and the doing of it."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a training saves. width: of its one layer; options: of the configuration."""

    name: str
    width: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goes_on(self) -> bool:
        """Whether training goes on while a save is carried out."""
        return bool(self.options.get("async_save"))


SYNC = Style("sync", 3)
ASYNC = Style("async", 128, {"async_save": True})
"""The width makes weights and moments just large enough to be copied beside training."""

STYLES = {style.name: style for style in (SYNC, ASYNC)}


class PlacingOptimizer(torch.optim.AdamW):
    """Its step puts weights and moments where they are to be at a global step, as any step does."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Draw everything anew, in place, from the random state."""
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.copy_(torch.randn(parameter.shape))
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"].fill_(float(torch.initial_seed()))
                state["exp_avg"].copy_(torch.randn(parameter.shape))
                state["exp_avg_sq"].copy_(torch.rand(parameter.shape))


@dataclass
class Training:
    """Live objects at some step, and the manager that saves them into `folder`."""

    folder: Path
    style: Style
    model: nn.Module
    optimizer: torch.optim.Optimizer
    manager: CheckpointManager

    @property
    def run(self) -> LocalRun:
        """The run's storage."""
        return LocalRun(self.folder)

    def go_to(self, step: int) -> None:
        """Make all live state that of `step`."""
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step)
        self.optimizer.step()

    def save(self, step: int) -> Path | None:
        """Go to `step` and save it; the first one is the best. Training may go on at once."""
        self.go_to(step)
        try:
            return self.manager.save(0, step, {"val_loss": 0.5 if step == 1 else 1.0 + step % 7})
        finally:
            if self.style.goes_on:
                self.go_to(step + BEYOND)

    def state(self) -> list[Any]:
        """All live state by value, random generator included."""
        states = [self.optimizer.state[p] for p in self.model.parameters()]
        tensors = [
            *(value for value in self.model.state_dict().values()),
            *(state[key] for state in states for key in sorted(state)),
            torch.get_rng_state(),
        ]
        numpy_state: Any = np.random.get_state()
        others = [list(random.getstate()[1]), numpy_state[1].tolist()]
        return [*(tensor.numpy().tobytes() for tensor in tensors), *others]


def new_training(
    folder: Path, style: Style = SYNC, on_commit: OnCommit | None = None, **options: Any
) -> Training:
    """A training that stands at step 0. options: of the configuration, beside those of `style`."""
    torch.manual_seed(0)
    model = nn.Linear(style.width, style.width - 1 if style is SYNC else style.width)
    optimizer = PlacingOptimizer(model.parameters(), foreach=False)
    settings = {
        "save_total_limit": 3,
        "save_retries": 0,
        "progress": False,
        "provenance": False,
        **style.options,
    } | options
    config = CheckpointConfig(str(folder), **settings)
    manager = CheckpointManager(config, model, optimizer, on_commit=on_commit)
    training = Training(folder, style, model, optimizer, manager)
    training.go_to(0)
    return training


def state_at(step: int, style: Style = SYNC) -> list[Any]:
    """The state every training has at `step`."""
    training = new_training(Path("nowhere"), style)
    training.go_to(step)
    return training.state()


def begin(folder: Path, style: Style = SYNC) -> Training:
    """A training in a new run folder with the EARLIER checkpoints."""
    training = new_training(folder, style)
    for step in EARLIER:
        training.save(step)
    training.manager.close()
    return training


def _spoil(training: Training) -> None:
    """A bit rots in the newest checkpoint, which the disk will not tell."""
    path = training.folder / SPOILT / "model.safetensors"
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")
        os.fsync(stream.fileno())


def _put_a_stranger(training: Training) -> None:
    """The user puts a file of their own into a checkpoint's folder."""
    put_a_stranger(training.folder / checkpoint_name(0, 5))


def _discard(training: Training) -> None:
    """Delete that checkpoint."""
    name = checkpoint_name(0, 5)
    with training.run.open(name) as opened:
        owned = [*read_manifest(opened).files, MANIFEST_FILE]
    training.run.discard(name, owned=owned)


def _save_in_place(training: Training) -> None:
    """What many do: write the files under the final name, one after the other."""
    target = training.folder / checkpoint_name(0, 6)
    shutil.copytree(training.folder / checkpoint_name(0, 1), target)


def _delete_in_place(training: Training) -> None:
    """What many do: remove the files under the final name, one after the other."""
    shutil.rmtree(training.folder / checkpoint_name(0, 2))


def _sweep_litter(training: Training) -> None:
    """Remove what a writer left that died in the middle of a save."""
    litter = training.folder / ".holdfast-tmp-litter-0-0"
    litter.mkdir(exist_ok=True)
    (litter / MANIFEST_FILE).write_bytes(b"half")
    training.run.sweep()


def _refused_save(training: Training) -> None:
    """A save that is refused half-way removes what it had staged."""
    with training.run.stage("abandoned") as staged:
        staged.write_bytes("half", b"half a checkpoint")


def _resume(training: Training) -> None:
    """Go on from the newest checkpoint."""
    training.manager.resume(verbose=False)


OPERATIONS: list[Operation] = [
    ("save and rotate", lambda training: training.save(4)),
    ("record a late metric", lambda t: t.manager.record(4, {"test_bleu": 27.1})),
    ("pin", lambda t: t.manager.pin(2, "a milestone")),
    ("save again", lambda training: training.save(5)),
    ("resume", _resume),
    ("rename", lambda t: t.run.rename(checkpoint_name(0, 4), checkpoint_name(0, 4, 2))),
    ("save the same step once more", lambda training: training.save(5)),
    ("refused save", _refused_save),
    ("a stranger's file", _put_a_stranger),
    ("discard", _discard),
    ("sweep", _sweep_litter),
    ("save a third", lambda training: training.save(6)),
    ("a bit rots", _spoil),
    ("quarantine", _resume),
    ("unpin", lambda t: t.manager.unpin(2)),
    ("prune", lambda training: training.manager.prune()),
]


class InTurn:
    """Several operations as one; a crash may leave what any of them leaves."""

    def __init__(self, *parts: Callable[[Training], object]) -> None:
        self.parts = parts

    def __call__(self, training: Training) -> None:
        """Do all."""
        for part in self.parts:
            part(training)


BESIDE_TRAINING: list[Operation] = [
    *OPERATIONS,
    ("save beside training", InTurn(lambda t: t.save(8), lambda t: t.save(9))),
]
"""For ASYNC: only the second save of a session is copied while training goes on."""

NAIVE: list[Operation] = [
    ("save in place", _save_in_place),
    ("delete in place", _delete_in_place),
]
"""What the harness must find fault with."""


def silently(
    operation: Callable[[Training], object], training: Training, *, close: bool = True
) -> None:
    """Do it, all of it, and let others write unless told not to close.

    Its warnings are not what is being tested.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operation(training)
        training.manager.wait()
        if close:
            training.manager.close()
