"""Comparing two checkpoints of 1 GiB: speed beside a cold read of the same bytes, memory, and the
time when all digests are equal.

    python -m benchmarks.diff [--size 1024] [--repeats 3] [--folder DIR] [--quick]

Limits: at least 0.7 of the cold read rate of the disk, at most 256 MiB of extra memory, under 0.3 s
for a whole process where digests are equal. The page cache is emptied of the files before every
repeat (by advice for each file, which needs no rights); reading and comparing take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager

RATE_MIN = 0.7
EXTRA_MIB_MAX = 256
EQUAL_SECONDS_MAX = 0.3
_READ_BYTES = 8 << 20


class Layers(nn.Module):
    """A model of float32 tensors of 16 MiB and their biases."""

    def __init__(self, mebibytes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2048, 2048) for _ in range(max(1, mebibytes // 16)))


def main() -> int:
    """Measure and print; the exit status says whether every limit was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each checkpoint")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write; default: the temporary folder")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    size = 128 if options.quick else options.size
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        left, right, same = _make(Path(folder), size)
        files = [path / "model.safetensors" for path in (left, right)]
        reads, compares, extra = [], [], 0.0
        for _ in range(options.repeats):
            _forget(files)
            reads.append(_timed_read(files))
            _forget(files)
            result = _compare(left, right)
            compares.append(result["seconds"])
            extra = max(extra, result["extra_mib"])
        equal = statistics.median(_whole_process(left, same) for _ in range(options.repeats))
    ratio = statistics.median(r / c for r, c in zip(reads, compares, strict=True))
    reading, comparing = 2 * size / statistics.median(reads), 2 * size / statistics.median(compares)
    print(f"2 x {size} MiB: cold read {reading:.0f} MiB/s, diff {comparing:.0f} MiB/s")
    kept = [
        _limit(f"{ratio:.2f} of the cold read rate", ratio >= RATE_MIN, f"at least {RATE_MIN}"),
        _limit(f"{extra:.0f} MiB extra", extra <= EXTRA_MIB_MAX, f"at most {EXTRA_MIB_MAX}"),
        _limit(
            f"{equal:.2f} s for a whole process with equal digests",
            equal < EQUAL_SECONDS_MAX,
            f"under {EQUAL_SECONDS_MAX}",
        ),
    ]
    return 0 if all(kept) else 1


def _limit(figure: str, kept: bool, limit: str) -> bool:
    print(f"{'PASS' if kept else 'MISSED'}  {figure} (limit: {limit})")
    return kept


def _make(folder: Path, mebibytes: int) -> tuple[Path, Path, Path]:
    """Two checkpoints that differ in every tensor, and a third equal to the first."""
    torch.manual_seed(0)
    model = Layers(mebibytes)
    config = CheckpointConfig(
        str(folder / "run"), save_total_limit=None, progress=False, save_rng_state=False
    )
    with CheckpointManager(config, model) as manager:
        first = manager.save(0, 0)
        same = manager.save(0, 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=1e-3)
        second = manager.save(1, 100)
    assert first is not None
    assert second is not None
    assert same is not None
    os.sync()
    return first, second, same


def _forget(files: list[Path]) -> None:
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _timed_read(files: list[Path]) -> float:
    """Seconds to read both files, one after the other, into one buffer."""
    buffer = bytearray(_READ_BYTES)
    began = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - began


def _compare(left: Path, right: Path) -> dict[str, float]:
    """Compare in a fresh process, which tells its time and how much memory it added."""
    code = (
        "import json, re, sys, time\n"
        "from pathlib import Path\n"
        "from holdfast.compare import compare\n"
        "import holdfast.compare.arithmetic\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024\n"
        "before, began = peak(), time.perf_counter()\n"
        "found = compare(sys.argv[1], sys.argv[2])\n"
        "seconds = time.perf_counter() - began\n"
        "assert found.counts()['changed'] > 0\n"
        "print(json.dumps({'seconds': seconds, 'extra_mib': peak() - before}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(left), str(right)],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, float] = json.loads(run.stdout)
    return result


def _whole_process(left: Path, right: Path) -> float:
    """Seconds of `holdfast diff`, start and end of the interpreter included."""
    command = [sys.executable, "-m", "holdfast.cli", "diff", str(left), str(right)]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
