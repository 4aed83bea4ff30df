"""A training run with every kind of state that a resume must bring back, and ways to kill it.

    python train_script.py RUN_FOLDER RESULT_FILE              trains to the end
    python train_script.py --serve                             forks one run for each job line

The training uses only the public names of holdfast. What it ends with is written to RESULT_FILE as
JSON, path by path, floats and tensors as the hex of their bytes: equal files are equal runs.

A server has imported torch once and trained nothing; each job it reads, one JSON object on a line,
it trains in a forked process that builds everything from scratch. The job may say where the process
is to be killed with SIGKILL: {"after_steps": n}, {"at_batch": n} (received, not trained on),
{"save_event": n} or {"resume_event": n} (the n-th time a file is opened, renamed, linked,
removed, ... inside the saves, or the resume, of this process), {"after_seconds": t} (by the server,
counted from the first step). Of several, the first to come.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, PowerFunction, ResumableLoader

EPOCHS = 6
SAVE_EVERY_STEPS = 3
SEED = 2024


class Augmented(Dataset[Any]):
    """48 samples with noise from each of the three global streams, drawn in the workers."""

    def __init__(self) -> None:
        self.inputs = torch.randn(48, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = random.gauss(0, 0.1) + np.random.randn() * 0.1 + torch.randn(()) * 0.1
        return self.inputs[sample] + noise, self.inputs[sample].sum().reshape(1)


class LossLog:
    """Every loss of the run, in order: a registered object of the user's own."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the losses."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the losses back."""
        self.losses = list(state["losses"])


class Run:
    """All objects of one training process, built from scratch."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        random.seed(SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        self.model = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, milestones=[15, 40, 40, 60], gamma=0.5
        )
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=7)
        self.generator = np.random.default_rng(SEED)
        self.ema = EMAModel(
            self.model, [0.9, PowerFunction(0.1)], update_every=2, segment_means=True
        )
        self.ema.attach(self.optimizer)
        self.log = LossLog()
        self.loader = ResumableLoader(
            Augmented(),
            batch_size=4,
            shuffle=True,
            seed=SEED,
            num_workers=2,
            multiprocessing_context="fork",
        )
        config = CheckpointConfig(str(folder), save_total_limit=3, provenance=False)
        self.manager = CheckpointManager(
            config,
            self.model,
            self.optimizer,
            self.scheduler,
            self.scaler,
            generators={"noise": self.generator},
        )
        self.manager.register("loader", self.loader)
        self.manager.register("log", self.log)
        self.manager.register("ema", self.ema)

    def train(self, kill: Kill) -> None:
        """Train from wherever the run folder stands to the end of the last epoch."""
        with kill.inside("resume_event"):
            step = self.manager.resume(verbose=False).global_step
        kill.started()
        for epoch in range(self.loader.epoch, EPOCHS):
            for inputs, targets in self.loader:
                kill.batch()
                self.log.losses.append(self.step(inputs, targets, step))
                step += 1
                if step % SAVE_EVERY_STEPS == 0:
                    metrics = {"val_loss": self.evaluate()}
                    with kill.inside("save_event"):
                        self.manager.save(epoch, step, metrics)
                kill.step()
        self.manager.save(EPOCHS, step, {"val_loss": self.evaluate()})

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, step: int) -> float:
        """Take one optimizer step that draws from every stream; every 17th overflows."""
        self.model.train()
        if random.random() < 0.3:
            inputs = inputs.flip(0)
            targets = targets.flip(0)
        inputs = inputs * float(np.random.uniform(0.9, 1.1)) + float(self.generator.normal()) * 0.01
        inputs = inputs + torch.randn_like(inputs) * 0.01
        loss = nn.functional.mse_loss(self.model(inputs), targets)
        if step % 17 == 5:
            loss = loss * float("inf")
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return float(loss.detach())

    def evaluate(self) -> float:
        """Return the loss on the clean samples; moves no state."""
        self.model.eval()
        inputs = Augmented().inputs
        with torch.no_grad():
            outputs = self.model(inputs)
            return float(nn.functional.mse_loss(outputs, inputs.sum(1, keepdim=True)))

    def result(self) -> dict[str, str]:
        """Return all that the run ends with, path by path."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=True),
            "torch": torch.get_rng_state(),
            "generator": self.generator.bit_generator.state,
            "loader": self.loader.state_dict(),
            "losses": self.log.losses,
            "ema": self.ema.state_dict(),
            "history": self.manager.load()["metrics_history"],
        }
        return dict(leaves(state))


def leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return (path, exact text) of every leaf of nested state; keys keep their type."""
    if isinstance(value, dict):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif isinstance(value, torch.Tensor):
        return [(path, f"{value.dtype} {tuple(value.shape)} {value.numpy().tobytes().hex()}")]
    elif isinstance(value, np.ndarray):
        return [(path, f"{value.dtype} {value.shape} {value.tobytes().hex()}")]
    else:
        return [(path, value.hex() if isinstance(value, float) else repr(value))]
    kind = (path, f"{type(value).__name__} of {len(items)}")
    return [kind, *(leaf for key, item in items for leaf in leaves(item, f"{path}/{key!r}"))]


class Kill:
    """Kills this process with SIGKILL where the job says."""

    def __init__(self, job: dict[str, Any], started: int | None = None) -> None:
        self._job = job
        self._started = started
        self._pid = os.getpid()
        self._place: str | None = None
        self._counts: Counter[str] = Counter()
        if "save_event" in job or "resume_event" in job:
            sys.addaudithook(self._event)

    def started(self) -> None:
        """Tell the server that training begins."""
        if self._started is not None:
            os.write(self._started, b"!")

    def batch(self) -> None:
        """Note that a batch was received."""
        self._count("at_batch")

    def step(self) -> None:
        """Note that a step, and the save after it, is done."""
        self._count("after_steps")

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Count file events as `place` while in this context."""
        self._place = place
        yield
        self._place = None

    def _event(self, name: str, args: tuple[Any, ...]) -> None:
        on_files = name == "open" or name.startswith("os.")
        if self._place is not None and on_files and os.getpid() == self._pid:
            self._count(self._place)

    def _count(self, what: str) -> None:
        self._counts[what] += 1
        if self._counts[what] == self._job.get(what):
            os.kill(self._pid, signal.SIGKILL)


def run(folder: Path, result: Path, kill: Kill) -> None:
    """Train to the end, or the kill, and write the result."""
    training = Run(folder)
    training.train(kill)
    result.write_text(json.dumps(training.result(), indent=0))


def serve() -> None:
    """Answer each job line with one line: "killed" or "finished", or "failed" and the reason."""
    importlib.import_module("torch._dynamo")  # building an optimizer does: two seconds, but once
    for line in sys.stdin:
        job = json.loads(line)
        ready, started = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ready)
            _forked(job, started)
        os.close(started)
        if "after_seconds" in job:
            _kill_after(child, ready, job["after_seconds"])
        _, status = os.waitpid(child, 0)
        os.close(ready)
        _end_workers(child)
        answer = "killed" if os.WIFSIGNALED(status) else "finished"
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
            answer = "failed"
        print(answer, flush=True)


def _forked(job: dict[str, Any], started: int) -> None:
    os.setsid()
    status = 1
    try:
        run(Path(job["folder"]), Path(job["result"]), Kill(job, started))
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


def _kill_after(child: int, ready: int, seconds: float) -> None:
    os.read(ready, 1)
    select.select([ready], [], [], seconds)
    os.kill(child, signal.SIGKILL)


def _end_workers(child: int) -> None:
    """End the loader's workers that a killed run leaves in its process group."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        run(Path(sys.argv[1]), Path(sys.argv[2]), Kill({}))
