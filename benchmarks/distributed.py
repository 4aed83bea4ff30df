"""Saves and loads by several processes, beside stock torch.distributed.checkpoint.

    python -m benchmarks.distributed [--ranks 4] [--size 1024] [--rounds 3] [--tensors 10000]
                                     [--quick] [--folder DIR]

The processes are connected by gloo and share one folder. Three questions, both taking turns:

  planning   processor time of rank 0 on deciding who writes what, for many small tensors, after
             the first save; DCP with its plan cache switched on
  save/load  seconds until a replicated state of `size` MiB is durable (DCP with its own sync on),
             until it is back and verified (DCP verifies nothing), and how long the call that
             begins a save in the background blocks
  memory     peak of each rank beyond what it held before, and bytes written in all
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as stock_load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as stock_save

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.engine.rank_part import part_of
from holdfast.manager.ranked_request import _layout
from holdfast.state import capture_module

MIB = 1 << 20
_PARAMETERS = 16


def main() -> int:
    """Run everything; 0 if every limit was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--size", type=int, default=1024, help="MiB of weights, replicated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tensors", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", default=None, help="where to write (a disk)")
    options = parser.parse_args()
    if options.quick:
        options.ranks, options.size, options.rounds = 2, 128, 2
    folder = Path(tempfile.mkdtemp(prefix="holdfast-ranks-", dir=options.folder))
    try:
        found = run(options.ranks, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report(found, options)


def run(ranks: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of rank 0, with the worst memory of all."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=work, args=(rank, ranks, folder, options, queue))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    found: dict[str, Any] = json.loads(queue.get(timeout=1800))
    for process in processes:
        process.join(60)
    return found


def work(rank: int, ranks: int, folder: Path, options: argparse.Namespace, queue: Any) -> None:
    """One rank."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    found: dict[str, Any] = planning(options.tensors)
    found |= saving(rank, ranks, folder, options)
    if rank == 0:
        queue.put(json.dumps(found))
    dist.barrier()
    os._exit(0)


def planning(tensors: int) -> dict[str, Any]:
    """Milliseconds of processor time per save on rank 0, of both."""
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

    module = nn.Module()
    for number in range(tensors):
        module.register_parameter(f"layer{number}", nn.Parameter(torch.zeros(16)))
    state = module.state_dict()
    component = capture_module("model", module)
    rank, size = dist.get_rank(), dist.get_world_size()

    def ours() -> None:
        _layout(component, {})
        part_of([component], rank, size, frozenset())

    def stock() -> None:
        planner = DefaultSavePlanner(enable_plan_caching=True)
        planner.set_up_planner(state, None, rank == 0)
        local = planner.create_local_plan()
        gathered: list[Any] = [None] * size
        dist.all_gather_object(gathered, local)
        if rank == 0:
            plans, _ = planner.create_global_plan(gathered)
            local = plans[0]
        planner.finish_plan(local)

    times: dict[str, list[float]] = {"ours": [], "stock": []}
    for _ in range(4):
        for name, function in (("ours", ours), ("stock", stock)):
            dist.barrier()
            began = time.process_time()
            function()
            times[name].append((time.process_time() - began) * 1000)
    return {f"planning {name}": min(values[1:]) for name, values in times.items()}


def saving(rank: int, ranks: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Durable save, verified load, blocked time, memory and bytes."""
    model = replicated(options.size)
    turns = Turns(rank, folder, model)
    for step in range(1, options.rounds + 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        turns.take(step, keep=step > 1)
    found: dict[str, Any] = {n: statistics.median(values) for n, values in turns.times.items()}
    everyone: list[Any] = [None] * ranks
    dist.all_gather_object(everyone, turns.memory)
    for name in turns.memory:
        found[f"memory {name}"] = max(one[name] for one in everyone)
    return found | {"written": turns.written / (options.size * MIB)}


def replicated(size_mib: int) -> nn.Module:
    """The same weights on every rank."""
    torch.manual_seed(0)
    model = nn.Module()
    rows = size_mib * MIB // _PARAMETERS // (1024 * 4)
    for number in range(_PARAMETERS):
        model.register_parameter(f"w{number}", nn.Parameter(torch.randn(rows, 1024)))
    return model


class Turns:
    """Both libraries do the same, one after the other."""

    def __init__(self, rank: int, folder: Path, model: nn.Module) -> None:
        self.times: dict[str, list[float]] = {}
        self.memory: dict[str, float] = {}
        self.written = 0
        self._rank, self._folder, self._model = rank, folder, model
        self._sync = CheckpointManager(_config(folder / "direct"), model)
        self._later = CheckpointManager(_config(folder / "behind", async_save=True), model)

    def take(self, step: int, *, keep: bool) -> None:
        """Everything once. keep: whether it counts; the first turn warms caches up."""
        state = {"model": self._model.state_dict()}
        stock, aside = self._folder / f"stock-{step}", self._folder / f"aside-{step}"
        writer = FileSystemWriter(str(stock), sync_files=True)
        other = FileSystemWriter(str(aside), sync_files=True)
        metrics = {"val_loss": 1.0}
        ours = self._note("save ours", lambda: self._sync.save(0, step, metrics), keep)
        self._note("save stock", lambda: stock_save(state, storage_writer=writer), keep)
        self._note("load ours", lambda: self._sync.load(ours), keep)
        self._note("load stock", lambda: stock_load(state, checkpoint_id=str(stock)), keep)
        self._note("blocked ours", lambda: self._later.save(0, step, metrics), keep)
        self._later.wait()
        future = self._note("blocked stock", lambda: async_save(state, storage_writer=other), keep)
        future.result()
        self.written = sum(path.stat().st_size for path in Path(ours).iterdir())
        dist.barrier()
        if self._rank == 0:
            for old in (stock, aside, Path(ours)):
                shutil.rmtree(old, ignore_errors=True)
        dist.barrier()

    def _note(self, name: str, function: Callable[[], Any], keep: bool) -> Any:
        dist.barrier()
        reset_peak()
        before = peak()
        began = time.monotonic()
        result = function()
        if keep:
            self.times.setdefault(name, []).append(time.monotonic() - began)
            extra = (peak() - before) / MIB
            self.memory[name] = max(self.memory.get(name, 0.0), extra)
        return result


def _config(folder: Path, *, async_save: bool = False) -> CheckpointConfig:
    return CheckpointConfig(
        str(folder),
        save_total_limit=1,
        async_save=async_save,
        provenance=False,
        progress=False,
        link_unchanged=False,
    )


def reset_peak() -> None:
    """Let the kernel forget this process's peak, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> int:
    """Peak resident bytes since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(found: dict[str, Any], options: argparse.Namespace) -> int:
    """Print the figures with the limits; 1 if one was missed."""
    share = options.size / options.ranks
    print(f"{options.ranks} processes, {options.size} MiB, {options.tensors} tensors to plan")
    for name in ("planning", "save", "load", "blocked"):
        unit = "ms" if name == "planning" else "s"
        ours, stock = found[f"{name} ours"], found[f"{name} stock"]
        print(f"{name:<10} holdfast {ours:8.3f} {unit}   DCP {stock:8.3f} {unit}")
    for name in ("save", "load", "blocked"):
        ours, stock = found[f"memory {name} ours"], found[f"memory {name} stock"]
        print(f"memory of {name:<8} holdfast {ours:8.1f} MiB  DCP {stock:8.1f} MiB")
    limits = [
        ("planning under 100 ms", found["planning ours"] < 100),
        ("durable save no slower than DCP", found["save ours"] <= found["save stock"]),
        ("verified load no slower than DCP", found["load ours"] <= found["load stock"]),
        ("blocked at most 1/5 of DCP", found["blocked ours"] <= found["blocked stock"] / 5),
        (f"written {found['written']:.4f}x of the state, at most 1.02x", found["written"] <= 1.02),
    ]
    limits += [
        (f"memory of {name} at most its share + 256 MiB", found[f"memory {name} ours"] <= room)
        for name, room in (("save", share + 256), ("load", share + 256), ("blocked", share + 256))
    ]
    for text, met in limits:
        print(f"{'PASS' if met else 'MISSED'}  {text}")
    return 0 if all(met for _, met in limits) else 1


if __name__ == "__main__":
    sys.exit(main())
