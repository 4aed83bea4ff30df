"""Durable saves to a local folder, beside the fastest ways found to make the same bytes durable.

    python -m benchmarks.save_local [--size MIB] [--repeats N] [--json FILE]

Every repeat runs every way once, in an order that rotates, so that a busy machine slows all alike;
figures are medians of seconds and their ratios. What is measured ends with the bytes on stable
storage; removing files between runs is not measured.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.distributed.checkpoint.state_dict_saver
from safetensors.torch import save_file

from benchmarks._limits import judge
from holdfast.engine.tensor_writer import write_tensor_file
from holdfast.storage import LocalRun
from holdfast.tensorfile import plan_file

STEP = 8 << 20
SMALL_TENSORS = 10_000
Tensors = dict[str, torch.Tensor]
Way = Callable[[Path], None]


def fsync(path: Path) -> None:
    """Flush one file or folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def buffered(data: memoryview, *, preallocate: bool) -> Way:
    """Large writes through the page cache, then fsync."""

    def way(folder: Path) -> None:
        fd = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
        if preallocate:
            os.posix_fallocate(fd, 0, len(data))
        for offset in range(0, len(data), STEP):
            os.pwrite(fd, data[offset : offset + STEP], offset)
        os.fsync(fd)
        os.close(fd)

    return way


def direct(data: memoryview, *, threads: int, preallocate: bool) -> Way:
    """Large aligned writes past the page cache, straight from aligned memory, then fsync."""

    def way(folder: Path) -> None:
        fd = os.open(folder / "file", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        if preallocate:
            os.posix_fallocate(fd, 0, len(data))

        def write(offset: int) -> None:
            os.pwrite(fd, data[offset : offset + STEP], offset)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, range(0, len(data), STEP)))
        os.fsync(fd)
        os.close(fd)

    return way


def holdfast_way(tensors: Tensors) -> Way:
    """Plan, stage, write with digests, publish: all flushes of the commit included."""

    def way(folder: Path) -> None:
        plan = plan_file(tensors, {})
        with LocalRun(folder).stage("checkpoint", needed_bytes=plan.total_bytes) as staged:
            write_tensor_file(staged, "model.safetensors", tensors, plan)
            staged.publish()

    return way


def safetensors_way(tensors: Tensors, *, flush: bool = True) -> Way:
    """Stock save_file, then fsync."""

    def way(folder: Path) -> None:
        save_file(tensors, folder / "model.safetensors")
        if flush:
            fsync(folder / "model.safetensors")

    return way


def torch_save_way(tensors: Tensors) -> Way:
    """torch.save to a temporary name, fsync, rename, fsync of the folder."""

    def way(folder: Path) -> None:
        torch.save(tensors, folder / "model.tmp")
        fsync(folder / "model.tmp")
        os.rename(folder / "model.tmp", folder / "model.pt")
        fsync(folder)

    return way


def dcp_way(tensors: Tensors) -> Way:
    """torch.distributed.checkpoint, one process, no process group; its own flushes."""

    def way(folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.distributed.checkpoint.state_dict_saver.save(
                dict(tensors), checkpoint_id=folder / "dcp", no_dist=True
            )

    return way


def measure(ways: dict[str, Way], place: Path, repeats: int) -> dict[str, float]:
    """Median seconds of each way, interleaved, after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for repeat in range(repeats + 1):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            folder = Path(tempfile.mkdtemp(dir=place))
            began = time.perf_counter()
            ways[name](folder)
            if repeat:
                seconds[name].append(time.perf_counter() - began)
            shutil.rmtree(folder)
    return {name: statistics.median(found) for name, found in seconds.items()}


def large(place: Path, size: int, repeats: int) -> dict[str, float]:
    """Large tensors; the first way is ours, those marked "bytes" write the same amount raw."""
    tensors = {f"layer.{number}": torch.rand(size // 8 // 4) for number in range(8)}
    area = mmap.mmap(-1, size)
    data = memoryview(area)
    for offset in range(0, size, STEP):
        data[offset : offset + STEP] = os.urandom(64) * (min(STEP, size - offset) // 64)
    ways = {
        "holdfast": holdfast_way(tensors),
        "bytes: buffered": buffered(data, preallocate=False),
        "bytes: buffered, preallocated": buffered(data, preallocate=True),
        "bytes: direct": direct(data, threads=1, preallocate=False),
        "bytes: direct, preallocated": direct(data, threads=1, preallocate=True),
        "bytes: direct, preallocated, 2 threads": direct(data, threads=2, preallocate=True),
        "safetensors + fsync": safetensors_way(tensors),
        "torch.save + fsync + rename": torch_save_way(tensors),
        "torch.distributed.checkpoint": dcp_way(tensors),
    }
    return measure(ways, place, repeats)


def small(place: Path, repeats: int) -> dict[str, float]:
    """Ten thousand tensors of sixteen numbers."""
    tensors = {f"layer.{number}.weight": torch.rand(16) for number in range(SMALL_TENSORS)}
    ways = {
        "holdfast": holdfast_way(tensors),
        "safetensors, no fsync": safetensors_way(tensors, flush=False),
        "safetensors + fsync": safetensors_way(tensors),
        "torch.save + fsync + rename": torch_save_way(tensors),
        "torch.distributed.checkpoint": dcp_way(tensors),
    }
    return measure(ways, place, repeats)


def peak_mib(place: Path, size: int) -> float:
    """Memory a save of `size` bytes adds to the process's peak, in MiB, in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.save_local",
        "--peak",
        str(size),
        "--disk",
        str(place),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _peak_kib() -> int:
    """Peak resident memory; ru_maxrss would be inherited from the process that started us."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def print_peak(place: Path, size: int) -> None:
    """Measure in this process; see `peak_mib`."""
    half = torch.ones(size // 8)
    side = int((size // 8) ** 0.5)
    tensors = {"plain": half, "strided": torch.ones(side, side).t()}
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        holdfast_way({"small": torch.ones(4, 4).t()})(folder / "warm")
        before = _peak_kib()
        holdfast_way(tensors)(folder / "run")
        print((_peak_kib() - before) / 1024)
    finally:
        shutil.rmtree(folder)


def show(title: str, found: dict[str, float], against: str) -> float:
    """Print a table; return our time over that of the fastest way whose name has `against`."""
    rivals = {
        name: seconds
        for name, seconds in found.items()
        if name.startswith(("bytes", "safetensors")) and against in name
    }
    best = min(rivals, key=rivals.__getitem__)
    print(f"\n{title}")
    for name, seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"  {name:42} {seconds:8.3f} s   {seconds / rivals[best]:5.2f} x")
    ratio = found["holdfast"] / rivals[best]
    print(f"  holdfast / {best}: {ratio:.2f}")
    return ratio


def main() -> None:
    """Run all comparisons on disk and on tmpfs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB in large tensors")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--disk", type=Path, default=Path.cwd())
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        print_peak(options.disk, options.peak)
        return
    figures: dict[str, dict[str, object]] = {}
    for kind, parent in (("disk", options.disk), ("tmpfs", options.tmpfs)):
        if not parent.is_dir():
            print(f"{kind}: no folder {parent}, left out")
            continue
        place = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=parent))
        try:
            size = options.size << 20
            bulk = large(place, size, options.repeats)
            many = small(place, options.repeats)
            peak = peak_mib(place, size)
        finally:
            shutil.rmtree(place)
        large_ratio = show(f"{kind}: {options.size} MiB in 8 tensors", bulk, "")
        judge("over the fastest way to make the same bytes durable", large_ratio, 1.10)
        small_ratio = show(f"{kind}: {SMALL_TENSORS} small tensors", many, "no fsync")
        judge("over stock save_file, which flushes nothing", small_ratio, 1.0)
        judge(f"{kind}: peak extra memory of a save", peak, 128, unit=" MiB")
        figures[kind] = {
            "large": bulk,
            "small": many,
            "peak_mib": peak,
            "large_ratio": large_ratio,
            "small_ratio": small_ratio,
        }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
