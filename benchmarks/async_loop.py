"""A training loop on the CPU that saves every k steps, with holdfast and its peers.

    python -m benchmarks.async_loop [--layers 12] [--steps 60] [--every 20] [--rounds 3]
                                    [--ways ...] [--json FILE] [--folder DIR]

The model is a Transformer trained with AdamW: with the default 12 layers of width 768 and a
vocabulary of 24,000, 104 M parameters and 1.25 GB of state. The ways take turns, a stretch of
training each, for several rounds, so that a busy machine slows all alike. For each way:

  blocked    milliseconds the training thread spent in the save call, and in optimizer steps held up
             by it: median and worst
  overhead   how much longer the stretch took than the same stretch without saves, per save
  durable    seconds from the call until the checkpoint was on stable storage
  bytes, peak memory beyond what training itself takes

Peers at the best settings that work here: torch.save (with fsync and rename), DCP save and
async_save (with a cached stager, as its own documentation advises, and its writer's sync on).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager


class Net(nn.Module):
    """A decoder-like Transformer."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 12, 4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.layers(self.embed(tokens)))
        return logits


@dataclass
class Training:
    """The loop under test."""

    model: Net
    optimizer: torch.optim.Optimizer
    tokens: Tensor
    held: float = 0.0

    @classmethod
    def new(cls, options: argparse.Namespace) -> Training:
        """Fresh, and warmed up until the optimizer has its state."""
        torch.manual_seed(0)
        model = Net(options.layers, 768, options.vocabulary)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        tokens = torch.randint(options.vocabulary, (options.batch, 64))
        training = cls(model, optimizer, tokens)
        training.step()
        return training

    def step(self) -> float:
        """One step; returns the seconds the optimizer step took."""
        logits = self.model(self.tokens)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), self.tokens.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        began = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """What every way saves."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    @property
    def nbytes(self) -> int:
        """Bytes of tensors in the state."""
        moments = [v for s in self.optimizer.state.values() for v in s.values()]
        return sum(t.nbytes for t in [*self.model.parameters(), *moments])


class Way:
    """One way to save. save: returns when training may go on. settle: returns when durable."""

    name = "nothing"

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder = training, folder
        self.count = 0
        self.durable: list[float] = []
        self.bytes = 0

    def save(self, step: int) -> None:
        """Save."""

    def settle(self) -> None:
        """Wait for what is under way."""

    def close(self) -> None:
        """Free everything."""

    def _note(self, began: float, path: Path) -> None:
        self.durable.append(time.perf_counter() - began)
        self.bytes = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())

    def _next(self) -> Path:
        """A fresh place, the one before the last deleted."""
        self.count += 1
        shutil.rmtree(self.folder / f"{self.count - 2}", ignore_errors=True)
        return self.folder / f"{self.count}"


class TorchSave(Way):
    """torch.save, flushed and renamed."""

    name = "torch.save + fsync"

    def save(self, step: int) -> None:
        """Blocking."""
        began = time.perf_counter()
        path = self._next()
        path.mkdir(parents=True)
        with open(path / "tmp", "wb") as stream:
            torch.save(self.training.state(), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(path / "tmp", path / "state.pt")
        self._sync(path)
        self._note(began, path)

    @staticmethod
    def _sync(path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


class DcpSave(Way):
    """torch.distributed.checkpoint.save."""

    name = "dcp.save"

    def save(self, step: int) -> None:
        """Blocking."""
        import torch.distributed.checkpoint as dcp_module

        dcp: Any = dcp_module

        began = time.perf_counter()
        path = self._next()
        dcp.save(self.training.state(), storage_writer=dcp.FileSystemWriter(path), no_dist=True)
        self._note(began, path)


class DcpAsync(Way):
    """torch.distributed.checkpoint.async_save with a stager that keeps its buffers."""

    name = "dcp.async_save"

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        import torch.distributed as dist_module
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        dist: Any = dist_module
        if not dist.is_initialized():
            store = dist.HashStore()
            dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        self._stager = DefaultStager(StagingOptions(False, False, False, False))
        self._future: Any = None
        self._watcher: threading.Thread | None = None

    def save(self, step: int) -> None:
        """Wait for the one before, copy, return."""
        import torch.distributed.checkpoint as dcp_module

        dcp: Any = dcp_module

        self.settle()
        began = time.perf_counter()
        path = self._next()
        result: Any = dcp.async_save(
            self.training.state(),
            storage_writer=dcp.FileSystemWriter(path, single_file_per_rank=True),
            async_stager=self._stager,
        )
        self._future = getattr(result, "upload_completion", result)
        self._watcher = threading.Thread(target=self._watch, args=(self._future, began, path))
        self._watcher.start()

    def _watch(self, future: Any, began: float, path: Path) -> None:
        future.result()
        self._note(began, path)

    def settle(self) -> None:
        """Wait for the writer."""
        if self._watcher is not None:
            self._watcher.join()
            self._future.result()
            self._watcher = None

    def close(self) -> None:
        """End the stager."""
        self._stager.close()


class Holdfast(Way):
    """CheckpointManager."""

    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        config = CheckpointConfig(
            str(folder), progress=False, save_total_limit=2, save_rng_state=False, **self.options
        )
        self._manager = CheckpointManager(config, training.model, training.optimizer)

    def save(self, step: int) -> None:
        """Through the manager, with everything it always does."""
        self._manager.save(0, step, {"val_loss": 1.0})

    def settle(self) -> None:
        """Wait for the background."""
        self._manager.wait()
        saves = self._manager.stats.saves
        self.durable = [cost.durable_seconds for cost in saves]
        self.bytes = saves[-1].bytes_written if saves else 0

    def close(self) -> None:
        """Close the manager."""
        self._manager.close()


class HoldfastSync(Holdfast):
    """async_save=False."""

    name = "holdfast sync"


class HoldfastAsync(Holdfast):
    """async_save=True."""

    name = "holdfast async"
    options = MappingProxyType({"async_save": True})


class HoldfastCopy(Holdfast):
    """async_save=True, async_overlap=False."""

    name = "holdfast async, no overlap"
    options = MappingProxyType({"async_save": True, "async_overlap": False})


WAYS: list[type[Way]] = [
    Way,
    TorchSave,
    DcpSave,
    DcpAsync,
    HoldfastSync,
    HoldfastCopy,
    HoldfastAsync,
]


@dataclass
class Result:
    """What was measured of one way, over all rounds."""

    name: str
    blocked: list[float] = field(default_factory=list)
    stretch: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    bytes: int = 0
    peak: int = 0


def stretch(way: Way, result: Result, options: argparse.Namespace, typical_step: float) -> None:
    """Train on for some steps with saves in between, and measure."""
    training = way.training
    gc.collect()
    before = resident()
    watch = Watch()
    began = time.perf_counter()
    save_blocked: list[float] = []
    after_save = False
    for step in range(1, options.steps + 1):
        in_step = training.step()
        if after_save:
            # What the optimizer step took beyond its usual time was spent waiting for the copy.
            save_blocked[-1] += max(0.0, in_step - typical_step) if isinstance(way, Holdfast) else 0
            after_save = False
        if step % options.every == 0 and step < options.steps:
            start = time.perf_counter()
            way.save(way.count * 1000 + step + int(began))
            save_blocked.append(time.perf_counter() - start)
            after_save = True
    result.stretch.append(time.perf_counter() - began)
    way.settle()
    result.peak = max(result.peak, watch.stop() - before)
    result.blocked += save_blocked
    result.durable = list(way.durable)
    result.bytes = way.bytes


def resident() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """The greatest resident memory since it was made."""

    def __init__(self) -> None:
        self._peak = resident()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.02):
            self._peak = max(self._peak, resident())

    def stop(self) -> int:
        """End, and tell."""
        self._end.set()
        self._thread.join()
        return self._peak


def plain_copy(training: Training) -> float:
    """Seconds to copy the state once into memory that is there already: median of 5."""
    tensors = [t.detach() for t in training.model.parameters()]
    tensors += [v for s in training.optimizer.state.values() for v in s.values()]
    copies = [t.clone() for t in tensors]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch._foreach_copy_(copies, tensors)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[Result]]:
    """Run all ways in turn, round by round."""
    training = Training.new(options)
    chosen = [w for w in WAYS if w is Way or not options.ways or w.name in options.ways]
    ways = [way(training, folder / str(i)) for i, way in enumerate(chosen)]
    results = [Result(way.name) for way in ways]
    typical = statistics.median(training.step() for _ in range(5))
    for round_ in range(options.rounds):
        # Another order in each round, so that nobody always follows the same neighbour.
        for index in range(len(ways)):
            place = (index + round_) % len(ways)
            stretch(ways[place], results[place], options, typical)
            print(f"  round {round_ + 1}: {ways[place].name}", flush=True)
    for way in ways:
        way.close()
    facts = {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "state_bytes": training.nbytes,
        "plain_copy_seconds": plain_copy(training),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "steps": options.steps,
        "every": options.every,
        "rounds": options.rounds,
    }
    return facts, results


def report(facts: dict[str, Any], results: list[Result]) -> None:
    """Print a table."""
    print(
        f"{facts['parameters'] / 1e6:.0f} M parameters, {facts['state_bytes'] / 1e9:.2f} GB of "
        f"state; plain copy {1000 * facts['plain_copy_seconds']:.0f} ms; torch {facts['torch']}, "
        f"{facts['cores']} cores, load {facts['load']:.1f}; a save every {facts['every']} steps"
    )
    base = statistics.median(results[0].stretch)
    saves = max(1, (facts["steps"] - 1) // facts["every"])
    print(f"{'':28}{'blocked ms':>16}{'overhead':>12}{'durable s':>11}{'GB':>7}{'peak GB':>9}")
    for result in results:
        if not result.durable:
            print(f"{result.name:28}{'-':>16}{base:>10.2f} s")
            continue
        overhead = (statistics.median(result.stretch) - base) / saves
        blocked = (
            f"{1000 * statistics.median(result.blocked):.1f} /{1000 * max(result.blocked):.0f}"
        )
        print(
            f"{result.name:28}{blocked:>16}{1000 * overhead:>9.0f} ms"
            f"{statistics.median(result.durable):>11.2f}{result.bytes / 1e9:>7.2f}"
            f"{result.peak / 1e9:>9.2f}"
        )
    print("blocked: median / worst per save; overhead: per save, of the whole stretch")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=24_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=[])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        facts, results = measure(options, Path(folder))
    report(facts, results)
    if options.json is not None:
        document = {"facts": facts, "ways": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
