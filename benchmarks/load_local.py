"""Verified loads from a local folder, beside a plain read of the same bytes and beside peers.

    python -m benchmarks.load_local [--size MIB] [--repeats N] [--json FILE]

Every repeat runs every way once, in an order that rotates, so that a busy machine slows all alike;
figures are medians of seconds and their ratios. All ways end with the values in tensors that were
there before (as a resumed run needs them), except the plain read, which fills one preallocated and
already touched piece of memory, and those marked "lazy", which may only have mapped the file.
"Cold" means that the page cache was asked to drop the files before each load.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from benchmarks._limits import judge
from holdfast.engine.reader import read_into
from holdfast.engine.state_file import TensorFileEntry
from holdfast.engine.tensor_file import open_tensor_file
from holdfast.engine.tensor_writer import write_tensor_file
from holdfast.engine.verify import prove_tensors
from holdfast.manifest import FileRecord
from holdfast.storage import LocalRun
from holdfast.tensorfile import plan_file

FILE = "model.safetensors"
NAME = "checkpoint_epoch0000_step00000001"
SMALL_TENSORS = 10_000
Tensors = dict[str, torch.Tensor]
Way = Callable[[], object]


class Written:
    """The same tensors as a holdfast file, a torch.save file and a DCP folder, and targets."""

    def __init__(self, place: Path, tensors: Tensors) -> None:
        self.place = place
        self.file = place / NAME / FILE
        plan = plan_file(tensors, {})
        with LocalRun(place).stage(NAME) as staged:
            digests = write_tensor_file(staged, FILE, tensors, plan)
            staged.publish()
        self.entry = TensorFileEntry(
            digests.header, {name: raw.hex() for name, raw in digests.tensors.items()}
        )
        self.record = FileRecord(plan.total_bytes, digests.digest, len(tensors))
        torch.save(tensors, place / "model.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp_save(dict(tensors), checkpoint_id=place / "dcp", no_dist=True)
        os.sync()
        self.targets = {name: torch.ones_like(tensor) for name, tensor in tensors.items()}

    def forget(self) -> None:
        """Ask the page cache to drop all files."""
        for path in self.place.rglob("*"):
            if path.is_file():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def holdfast(self) -> None:
        """Prove every byte, then read into the targets, hashing again."""
        with LocalRun(self.place).open(NAME) as opened:
            file = open_tensor_file(opened, FILE, self.entry, self.record)
            prove_tensors(file)
            read_into(file, self.targets)

    def fill(self, loaded: Tensors) -> None:
        """Copy what a peer loaded into the targets."""
        for name, target in self.targets.items():
            target.copy_(loaded[name])

    def dcp(self) -> None:
        """torch.distributed.checkpoint loads in place; one process, no process group."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp_load(self.targets, checkpoint_id=self.place / "dcp", no_dist=True)

    def ways(self) -> dict[str, Way]:
        """Every way to load, by name."""
        memory = memoryview(bytearray(os.urandom(64)) * (self.file.stat().st_size // 64 + 1))
        size = self.file.stat().st_size

        def plain() -> None:
            with self.file.open("rb", buffering=0) as stream:
                filled = 0
                while filled < size:
                    filled += stream.readinto(memory[filled:size])

        archive = self.place / "model.pt"
        return {
            "holdfast, verified": self.holdfast,
            "plain read": plain,
            "safetensors": lambda: self.fill(load_file(self.file)),
            "safetensors, lazy": lambda: load_file(self.file),
            "torch.load": lambda: self.fill(torch.load(archive, weights_only=True)),
            "torch.load mmap": lambda: self.fill(torch.load(archive, weights_only=True, mmap=True)),
            "torch.distributed.checkpoint": self.dcp,
        }


def measure(written: Written, repeats: int, *, cold: bool) -> dict[str, float]:
    """Median seconds of each way, interleaved, after one unmeasured round."""
    ways = written.ways()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for repeat in range(repeats + 1):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            if cold:
                written.forget()
            began = time.perf_counter()
            ways[name]()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def large_tensors(size: int) -> Tensors:
    """`size` bytes in eight tensors."""
    return {f"layer.{number}": torch.rand(size // 8 // 4) for number in range(8)}


def small_tensors() -> Tensors:
    """Ten thousand tensors of sixteen numbers."""
    return {f"layer.{number}.weight": torch.rand(16) for number in range(SMALL_TENSORS)}


def peak_mib(place: Path, size: int) -> float:
    """Memory a load of `size` bytes adds to the process's peak, in MiB, in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.load_local",
        "--peak",
        str(size),
        "--disk",
        str(place),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(place: Path, size: int) -> None:
    """Measure in this process; see `peak_mib`. Half of the targets are not contiguous."""
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        written = Written(folder, large_tensors(size))
        for number, (name, target) in enumerate(written.targets.items()):
            if number % 2:
                written.targets[name] = torch.ones(len(target), 2)[:, 0]
        Path("/proc/self/clear_refs").write_text("5")
        before = resident_peak()
        written.holdfast()
        print((resident_peak() - before) / 1024)
    finally:
        shutil.rmtree(folder)


def resident_peak() -> int:
    """The peak of resident memory in KiB since it was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def show(title: str, found: dict[str, float], against: str) -> float:
    """Print a table; return the time of `against` over ours: our relative speed."""
    print(f"\n{title}")
    for name, seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"  {name:34} {seconds:8.3f} s   {seconds / found[against]:6.2f} x")
    speed = found[against] / found["holdfast, verified"]
    print(f"  speed of holdfast relative to {against}: {speed:.2f}")
    return speed


def compare(kind: str, parent: Path, size_mib: int, repeats: int) -> dict[str, object]:
    """All comparisons in one place."""
    place = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=parent))
    figures: dict[str, object] = {}
    try:
        bulk = Written(place / "large", large_tensors(size_mib << 20))
        for state in ("warm", "cold") if kind == "disk" else ("warm",):
            found = measure(bulk, repeats, cold=state == "cold")
            title = f"{kind}, {state}: {size_mib} MiB in 8 tensors"
            figures[f"large_{state}"] = found
            speed = show(title, found, "plain read")
            judge("speed relative to a plain read", speed, 0.8, at_most=False)
            figures[f"large_{state}_speed"] = speed
        del bulk
        many = measure(Written(place / "small", small_tensors()), repeats, cold=False)
        figures["small"] = many
        small = f"{kind}, warm: {SMALL_TENSORS} small tensors"
        figures["small_speed"] = show(small, many, "safetensors, lazy")
        ratio = many["holdfast, verified"] / many["safetensors, lazy"]
        judge("over stock load_file, into no model", ratio, 1.0)
        peak = figures["peak_mib"] = peak_mib(place, size_mib << 20)
        judge(f"{kind}: peak extra memory of a load", peak, 128, unit=" MiB")
    finally:
        shutil.rmtree(place)
    return figures


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
    figures = {
        kind: compare(kind, parent, options.size, options.repeats)
        for kind, parent in (("disk", options.disk), ("tmpfs", options.tmpfs))
        if parent.is_dir()
    }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
