"""A model of 10,000 small tensors, saved and loaded by the manager, beside stock safetensors.

    python -m benchmarks.small_tensors [--repeats N] [--json FILE]

What is timed of holdfast is the whole call a training loop makes: the state captured, named,
hashed, written, flushed and committed with its manifest; opened, proven twice and placed in the
live model. Every repeat runs every way once, in an order that rotates, with all weights changed
before each save so that nothing can be linked; figures are medians. The model has 100 blocks of 50
small layers: with all layers side by side `Module.load_state_dict` takes seconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from benchmarks._limits import judge
from holdfast import CheckpointConfig, CheckpointManager

BLOCKS, LAYERS = 100, 50


@dataclass(frozen=True)
class Figures:
    """Median seconds by way: by the clock, and of this process's cores."""

    wall: dict[str, float]
    cpu: dict[str, float]

    def show(self, title: str, against: str) -> None:
        """Print a table, with ratios to one of the ways."""
        print(f"\n{title}")
        for name, seconds in sorted(self.wall.items(), key=lambda item: item[1]):
            cpu = self.cpu[name]
            ratio = seconds / self.wall[against]
            print(f"  {name:42} {seconds:8.3f} s  {cpu:8.3f} s of CPU  {ratio:6.2f} x")


class Trial:
    """One model with its optimizer, and every way to save and load it in one folder."""

    def __init__(self, place: Path, *, with_optimizer: bool) -> None:
        torch.manual_seed(0)
        self.place = place
        self.model = nn.Sequential(
            *(nn.Sequential(*(nn.Linear(4, 4) for _ in range(LAYERS))) for _ in range(BLOCKS))
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters()) if with_optimizer else None
        if self.optimizer is not None:
            for parameter in self.model.parameters():
                parameter.grad = torch.ones_like(parameter)
            self.optimizer.step()
            self.optimizer.zero_grad()
        config = CheckpointConfig(str(place / "run"), save_total_limit=2, progress=False)
        self.manager = CheckpointManager(config, self.model, self.optimizer)
        self.step = 0

    @torch.no_grad()
    def change(self) -> None:
        """As a training step would: every tensor has other values afterwards."""
        torch._foreach_add_(list(self.model.parameters()), 1.0)
        if self.optimizer is not None:
            state = self.optimizer.state.values()
            torch._foreach_add_([t for entry in state for t in entry.values()], 1.0)

    def save_ours(self) -> None:
        """The manager's save, durable."""
        self.step += 1
        self.manager.save(0, self.step, {"val_loss": 1.0})

    def load_ours(self) -> None:
        """The manager's load, verified, into the live objects."""
        self.manager.load()

    def save_stock(self) -> None:
        """save_file of the model, torch.save of the optimizer; nothing is flushed."""
        save_file(self.model.state_dict(), self.place / "stock.safetensors")
        if self.optimizer is not None:
            torch.save(self.optimizer.state_dict(), self.place / "stock.pt")

    def save_flushed(self) -> None:
        """The same, and the files flushed."""
        self.save_stock()
        for file in self.place.glob("stock.*"):
            flush(file)

    def save_torch(self) -> None:
        """torch.save to a temporary name, flush, rename, flush of the folder."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        torch.save([self.model.state_dict(), optimizer], self.place / "torch.tmp")
        flush(self.place / "torch.tmp")
        os.rename(self.place / "torch.tmp", self.place / "torch.pt")
        flush(self.place)

    def load_stock(self) -> None:
        """load_file, whose tensors are in no model yet; torch.load of the optimizer's state."""
        load_file(self.place / "stock.safetensors")
        if self.optimizer is not None:
            torch.load(self.place / "stock.pt", weights_only=True)

    def load_stock_into(self) -> None:
        """The same, into the live objects: what a resumed run needs."""
        load_model(self.model, self.place / "stock.safetensors")
        if self.optimizer is not None:
            state = torch.load(self.place / "stock.pt", weights_only=True)
            self.optimizer.load_state_dict(state)

    def load_torch(self) -> None:
        """torch.load, into the live objects."""
        model, optimizer = torch.load(self.place / "torch.pt", weights_only=True)
        self.model.load_state_dict(model)
        if self.optimizer is not None:
            self.optimizer.load_state_dict(optimizer)

    def saves(self) -> dict[str, Callable[[], None]]:
        """Every way to save, by name."""
        return {
            "holdfast": self.save_ours,
            "stock": self.save_stock,
            "stock + fsync": self.save_flushed,
            "torch.save + fsync + rename": self.save_torch,
        }

    def loads(self) -> dict[str, Callable[[], None]]:
        """Every way to load what was saved, by name."""
        return {
            "holdfast, verified, into the model": self.load_ours,
            "stock, into no model": self.load_stock,
            "stock, into the model": self.load_stock_into,
            "torch.load, into the model": self.load_torch,
        }

    def measure(self, ways: dict[str, Callable[[], None]], repeats: int) -> Figures:
        """Interleaved repeats, after one unmeasured round."""
        wall: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        names = list(ways)
        for repeat in range(repeats + 1):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                self.change()
                gc.collect()
                began, worked = time.perf_counter(), time.process_time()
                ways[name]()
                if repeat:
                    wall[name].append(time.perf_counter() - began)
                    cpu[name].append(time.process_time() - worked)
        return Figures(
            {name: statistics.median(found) for name, found in wall.items()},
            {name: statistics.median(found) for name, found in cpu.items()},
        )


def flush(path: Path) -> None:
    """fsync one file or folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def compare(kind: str, place: Path, repeats: int, *, with_optimizer: bool) -> dict[str, Figures]:
    """All ways in one place; limits are on the model alone, as stock safetensors can save it."""
    trial = Trial(place, with_optimizer=with_optimizer)
    saves = trial.measure(trial.saves(), repeats)
    loads = trial.measure(trial.loads(), repeats)
    count = len(list(trial.model.parameters())) * (4 if with_optimizer else 1)
    beside = "optimizer by torch.save" if with_optimizer else "safetensors"
    saves.show(f"{kind}: saving {count} tensors (stock: {beside})", "stock + fsync")
    loads.show(f"{kind}: loading {count} tensors (stock: {beside})", "stock, into the model")
    ours, into = "holdfast, verified, into the model", "stock, into the model"
    judge("save over stock + fsync", saves.wall["holdfast"] / saves.wall["stock + fsync"], 1.0)
    judge("load over stock, into the model", loads.wall[ours] / loads.wall[into], 1.0)
    if not with_optimizer:
        bare = loads.wall["stock, into no model"]
        judge("load over load_file alone", loads.wall[ours] / bare, 1.0)
    return {"save": saves, "load": loads}


def main() -> None:
    """Run on disk and on tmpfs, without and with an optimizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--disk", type=Path, default=Path.cwd())
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    figures: dict[str, object] = {}
    for kind, parent in (("disk", options.disk), ("tmpfs", options.tmpfs)):
        if not parent.is_dir():
            continue
        for with_optimizer in (False, True):
            place = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=parent))
            try:
                found = compare(kind, place, options.repeats, with_optimizer=with_optimizer)
            finally:
                shutil.rmtree(place)
            what = "with optimizer" if with_optimizer else "model"
            figures[f"{kind}, {what}"] = {
                name: {"wall": each.wall, "cpu": each.cpu} for name, each in found.items()
            }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
