"""Averaging checkpoints, beside the plain ways to do it: time, memory and error.

    python -m benchmarks.averaging [--members K] [--size MIB] [--repeats N] [--json FILE]

Each way runs in a process of its own, with the page cache asked to drop every file before (cold),
and in an order that rotates; figures are medians and ratios within one run. Memory is what a way
adds to the process's peak: anonymous (its own) and resident (which counts mapped files too).

    holdfast            average(): stream, prove, write a checkpoint
    read once + write   read every model byte of the members once, write and flush one result:
                        what no way can do without
    seed's way          torch.load all checkpoints, sum the state dicts, divide, torch.save
    running sum         torch.load one after the other, add in place, divide, torch.save: the method
                        of the public averaging scripts
    swa_utils           torch.load one after the other into AveragedModel.update_parameters

Limits: 1.5 times reading once and writing, cold; 256 MiB and the largest tensor (64 MiB), anonymous
and resident; half a unit in the last place of the exact mean; the same bits in any order.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.selection import average
from holdfast.state import component_of_module_state
from holdfast.storage import LocalRun
from holdfast.values import SaveReason

MIB = 1 << 20
TENSOR_BYTES = 64 * MIB
WAYS = ("holdfast", "read once + write", "running sum", "swa_utils", "seed's way")
State = dict[str, torch.Tensor]


def state_of(member: int, size: int) -> State:
    """Weights of about the size real ones have, `size` bytes in tensors of 64 MiB."""
    generator = torch.Generator().manual_seed(member)
    count = max(1, size // TENSOR_BYTES)
    rows = size // count // 4 // 1024
    return {
        f"layers.{i}.weight": torch.randn(rows, 1024, generator=generator).mul_(0.02)
        for i in range(count)
    }


def write_members(place: Path, members: int, size: int, *, originals_too: bool = True) -> None:
    """The same members as checkpoints of ours and as .pt files."""
    run = LocalRun(place / "run")
    for member in range(members):
        state = state_of(member, size)
        request = SaveRequest(
            epoch=member,
            global_step=member,
            branch=0,
            sequence=member,
            time=time.time(),
            reason=SaveReason("manual", "benchmark"),
            components=[component_of_module_state("model", state)],
            metrics={},
            directions={},
        )
        save_checkpoint(run, request)
        if originals_too:
            torch.save({"model_state_dict": state}, place / f"member{member}.pt")
    os.sync()


def folders(place: Path) -> list[Path]:
    """Checkpoints of ours."""
    return sorted(place.glob("run/checkpoint_*"))


def originals(place: Path) -> list[Path]:
    """The .pt files."""
    return sorted(place.glob("member*.pt"))


def load(path: Path) -> State:
    """The model of a .pt file."""
    state: State = torch.load(path, weights_only=True)["model_state_dict"]
    return state


def save(place: Path, state: State) -> None:
    """Write a result and make it durable, as ours is."""
    target = place / "out.pt"
    torch.save({"model_state_dict": state}, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


def by_holdfast(place: Path) -> None:
    """Ours."""
    average(folders(place), place / "averages")


def by_reading_once(place: Path) -> None:
    """The floor: read, keep the last member's bytes going to the result, flush."""
    buffer = memoryview(bytearray(4 * MIB))
    paths = [folder / "model.safetensors" for folder in folders(place)]
    with (place / "out.bin").open("wb", buffering=0) as out:
        for path in paths:
            with path.open("rb", buffering=0) as stream:
                while count := stream.readinto(buffer):
                    if path is paths[-1]:
                        out.write(buffer[:count])
        os.fsync(out.fileno())


def by_loading_all(place: Path) -> None:
    """The seed's way."""
    states = [load(path) for path in originals(place)]
    mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    save(place, mean)  # type: ignore[arg-type]


def by_running_sum(place: Path) -> None:
    """As the public scripts do it: one checkpoint at a time, summed as stored."""
    total: State = {}
    paths = originals(place)
    for path in paths:
        for name, tensor in load(path).items():
            total[name] = total[name] + tensor if name in total else tensor.clone()
    for tensor in total.values():
        tensor.div_(len(paths))
    save(place, total)


class Holder(nn.Module):
    """Tensors as parameters, so that torch's own averaging can take them."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.layers = nn.ParameterList(nn.Parameter(t, requires_grad=False) for t in state.values())


def by_swa_utils(place: Path) -> None:
    """torch.optim.swa_utils.AveragedModel."""
    paths = originals(place)
    first = load(paths[0])
    model = Holder(first)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    for path in paths:
        for parameter, tensor in zip(model.parameters(), load(path).values(), strict=True):
            parameter.data.copy_(tensor)
        averaged.update_parameters(model)
    save(place, dict(zip(first, averaged.module.parameters(), strict=True)))


RUN: dict[str, Callable[[Path], None]] = {
    "holdfast": by_holdfast,
    "read once + write": by_reading_once,
    "seed's way": by_loading_all,
    "running sum": by_running_sum,
    "swa_utils": by_swa_utils,
}


class Peak:
    """The peak of this process's memory while it runs, sampled every few milliseconds."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._base = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.anonymous -= self._base[0]
        self.resident -= self._base[1]

    def _watch(self) -> None:
        while not self._stop.wait(0.004):
            anonymous, resident = self._now()
            self.anonymous = max(self.anonymous, anonymous)
            self.resident = max(self.resident, resident)

    @staticmethod
    def _now() -> tuple[int, int]:
        fields = {}
        for line in Path("/proc/self/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("RssAnon", "VmRSS"):
                fields[key] = int(value.split()[0]) << 10
        return fields["RssAnon"], fields["VmRSS"]


def run_one(way: str, place: Path) -> None:
    """Measure one way in this process and print its figures."""
    torch.zeros(1).add_(1)
    with Peak() as peak:
        began = time.perf_counter()
        RUN[way](place)
        seconds = time.perf_counter() - began
    print(json.dumps([seconds, peak.anonymous / MIB, peak.resident / MIB]))


def forget(place: Path) -> None:
    """Remove results and ask the page cache to drop the members."""
    shutil.rmtree(place / "averages", ignore_errors=True)
    for name in ("out.pt", "out.bin"):
        (place / name).unlink(missing_ok=True)
    for path in place.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def measure(place: Path, repeats: int, ways: list[str], *, cold: bool) -> dict[str, list[float]]:
    """Median seconds, anonymous and resident MiB of every way."""
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
            if cold:
                forget(place)
            command = [sys.executable, __file__, "--way", way, "--place", str(place)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        way: [statistics.median(row[i] for row in rows) for i in range(3)]
        for way, rows in found.items()
    }


def errors() -> dict[str, float]:
    """Worst error over 10 members in units in the last place of the exact mean, ours by dtype.

    Means below a thousandth count as a thousandth, or cancellation alone would decide.
    """
    from holdfast.weights import mean_of

    torch.manual_seed(0)
    found: dict[str, float] = {}
    for dtype, bits in ((torch.float32, 24), (torch.bfloat16, 8), (torch.float16, 11)):
        tensors = [(torch.randn(1 << 18) * 0.02).to(dtype) for _ in range(10)]
        exact = torch.stack([t.double() for t in tensors]).mean(0)
        exponents = torch.frexp(exact.abs().clamp(1e-3)).exponent
        unit = torch.ldexp(torch.ones_like(exact), exponents - bits)
        running = tensors[0].clone()
        for tensor in tensors[1:]:
            running += tensor
        name = str(dtype).removeprefix("torch.")
        for way, result in (("holdfast", mean_of(tensors)), ("summed as stored", running / 10)):
            found[f"{way}, {name}"] = float(((result.double() - exact).abs() / unit).max())
    return found


def show(title: str, found: dict[str, list[float]]) -> None:
    """Print one table."""
    floor = found["read once + write"][0]
    print(f"\n{title}\n  {'':20} {'s':>8} {'x floor':>8} {'anon MiB':>9} {'RSS MiB':>9}")
    for way, (seconds, anonymous, resident) in sorted(found.items(), key=lambda item: item[1][0]):
        print(f"  {way:20} {seconds:8.2f} {seconds / floor:8.2f} {anonymous:9.0f} {resident:9.0f}")


def same_bits() -> bool:
    """Whether every order of the members gives the same bits, for each dtype."""
    from holdfast.weights import mean_of

    torch.manual_seed(1)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tensors = [(torch.randn(1 << 16) * 0.02).to(dtype) for _ in range(10)]
        first = mean_of(tensors)
        for turn in range(1, 10):
            if not torch.equal(first, mean_of(tensors[turn:] + tensors[:turn])):
                return False
    return True


def verdicts(cold: dict[str, list[float]], worst: dict[str, float], size_mib: int) -> int:
    """Print a line for each limit; 1 if any is missed."""
    seconds, anonymous, resident = cold["holdfast"]
    ratio = seconds / cold["read once + write"][0]
    memory = 256 + min(TENSOR_BYTES // MIB, size_mib)
    limits = [
        ("cold, at most 1.5 x reading once and writing", ratio <= 1.5, f"{ratio:.2f} x"),
        (f"anonymous memory at most {memory} MiB", anonymous <= memory, f"{anonymous:.0f} MiB"),
        (f"resident memory at most {memory} MiB", resident <= memory, f"{resident:.0f} MiB"),
        (
            "within half a unit in the last place",
            all(error <= 0.5 for way, error in worst.items() if way.startswith("holdfast")),
            ", ".join(f"{e:.3g}" for way, e in worst.items() if way.startswith("holdfast")),
        ),
        ("the same bits in any order", same_bits(), "ten rotations of three dtypes"),
    ]
    for what, good, found in limits:
        print(f"{'PASS' if good else 'MISSED'}  {what}: {found}")
    return int(not all(good for _, good, _ in limits))


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--size", type=int, default=256, help="MiB per member; full: 1024")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--disk", type=Path, default=Path.cwd())
    parser.add_argument("--skip", action="append", default=[], choices=WAYS)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        run_one(options.way, options.place)
        return 0
    ways = [way for way in WAYS if way not in options.skip]
    place = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=options.disk))
    try:
        peers = set(ways) - {"holdfast", "read once + write"}
        write_members(place, options.members, options.size * MIB, originals_too=bool(peers))
        figures: dict[str, Any] = {}
        for cold in (True, False):
            found = measure(place, options.repeats, ways, cold=cold)
            kind = "cold" if cold else "warm"
            show(f"{kind}: {options.members} x {options.size} MiB", found)
            figures[kind] = found
    finally:
        shutil.rmtree(place)
    worst = errors()
    figures["worst_error_units"] = worst
    shown = ", ".join(f"{way} {error:.4g}" for way, error in worst.items())
    print(f"\nworst error of the mean of 10, in units in the last place: {shown}\n")
    missed = verdicts(figures["cold"], worst, options.size)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return missed


if __name__ == "__main__":
    sys.exit(main())
