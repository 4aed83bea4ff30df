"""A training loop that saves every k steps, with holdfast and its peers.

    python -m benchmarks.async_loop [--steps 60] [--every 20] [--rounds 3] [--synthetic GB]
                                    [--device cuda] [--ways ...] [--json FILE] [--plot FILE]

The model is a Transformer trained with AdamW: with the default 12 layers of width 768 and a
vocabulary of 24,000, 104 M parameters and 1.24 GB of state. `--synthetic GB` is a large state whose
steps leave the host idle. The ways take turns, a stretch of training each, for several rounds, so
that a busy machine slows all alike. Peers run at the best settings that work here; those that are
not installed are named. Our limits are printed with PASS or MISSED.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._async_peers import PEERS
from benchmarks._async_report import Result, document, limits, plot, rows, show, show_limits
from benchmarks._async_training import Training, new_training
from benchmarks._async_ways import OF_TORCH, OURS, Unavailable, Way
from benchmarks._process_tree import PeakMemory, cpu_seconds, resident

WAYS = [*OF_TORCH, *PEERS, *OURS]
_AFTER = 3


def stretch(way: Way, result: Result, options: argparse.Namespace) -> None:
    """Train on for some steps with saves in between, and measure."""
    training = way.training
    training.guard = contextlib.nullcontext
    gc.collect()
    before, watch = resident(), PeakMemory()
    cpu, began = cpu_seconds(), time.perf_counter()
    known = len(way.held)
    blocked: list[float] = []
    since = _AFTER
    for step in range(1, options.steps + 1):
        start = time.perf_counter()
        waited = training.step()
        seconds = time.perf_counter() - start
        if since == 0 and blocked:
            blocked[-1] += waited
        if since < _AFTER:
            result.after.append(seconds)
        result.steps.append(seconds)
        since += 1
        if step % options.every == 0 and step < options.steps and type(way) is not Way:
            start = time.perf_counter()
            way.save(way.count * 1000 + step + int(began))
            blocked.append(time.perf_counter() - start)
            since = 0
    result.stretches.append(time.perf_counter() - began)
    way.settle()
    result.cpu.append(cpu_seconds() - cpu)
    result.peak_bytes = max(result.peak_bytes, watch.stop() - before)
    held = way.held[known:] or [0.0] * len(blocked)
    result.blocked += [call + step for call, step in zip(blocked, held, strict=True)]
    result.durable = list(way.durable)
    result.bytes = way.bytes


def plain_copy(training: Training) -> float:
    """Seconds to copy the state once into memory that is there already: median of 5."""
    tensors = training.tensors()
    copies = [tensor.to("cpu", copy=True) for tensor in tensors]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch._foreach_copy_(copies, tensors)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def prepared(
    training: Training, options: argparse.Namespace, folder: Path
) -> tuple[list[Way], list[Result]]:
    """The ways chosen that can be run, and a result for each way chosen."""
    ways, results = [], []
    for number, kind in enumerate(WAYS):
        if kind is not Way and options.ways and kind.name not in options.ways:
            continue
        result = Result(kind.name, kind.ours, kind.flushes)
        results.append(result)
        try:
            ways.append(kind(training, folder / str(number)))
        except Unavailable as error:
            result.why_not = str(error)
        except Exception as error:  # noqa: BLE001 - a peer that does not work here is told of
            result.why_not = f"{type(error).__name__}: {error}"
    return ways, results


def measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[Result]]:
    """Run all ways in turn, round by round."""
    training = new_training(options)
    copied = [plain_copy(training)]
    ways, results = prepared(training, options, folder)
    by_name = {result.name: result for result in results}
    for round_ in range(options.rounds):
        # Another order in each round, so that nobody always follows the same neighbour.
        for index in range(len(ways)):
            way = ways[(index + round_) % len(ways)]
            result = by_name[way.name]
            if result.why_not is not None:
                continue
            try:
                stretch(way, result, options)
            except Exception as error:
                # A peer that does not work here is told of; nothing of ours is.
                if way.ours:
                    raise
                result.why_not = f"{type(error).__name__}: {error}"
            print(f"  round {round_ + 1}: {way.name}", flush=True)
        copied.append(plain_copy(training))
    for way in ways:
        way.close()
    facts = {
        "loop": "synthetic" if options.synthetic else "Transformer, AdamW",
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
        "state_bytes": training.nbytes,
        "step_seconds": statistics.median(by_name[Way.name].steps),
        "plain_copy_seconds": statistics.median(copied),
        "device": options.device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "steps": options.steps,
        "every": options.every,
        "rounds": options.rounds,
    }
    return facts, results


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=24_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--synthetic", type=float, default=0.0, help="GB of state; 0: Transformer")
    parser.add_argument("--step-seconds", type=float, default=0.2, help="of a synthetic step")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=[], help=", ".join(way.name for way in WAYS))
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None, help="an .svg or .png to draw")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as folder:
        facts, results = measure(options, Path(folder))
    saves = (options.steps - 1) // options.every
    results = [r if r.why_not is None else Result(r.name, why_not=r.why_not) for r in results]
    found = rows(results, saves)
    show(facts, results, found)
    show_limits(limits(facts, found))
    if options.json is not None:
        options.json.write_text(json.dumps(document(facts, results, saves), indent=1) + "\n")
    if options.plot is not None:
        plot(facts, found, options.plot)


if __name__ == "__main__":
    main()
