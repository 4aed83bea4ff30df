"""The command line on a folder of 1,000 checkpoints: `ls` and `best` as whole processes.

    python -m benchmarks.cli [--count 1000] [--repeats 7] [--quick]

Limit: under 0.5 s each (the median), the interpreter's start included. The manifests are real and
have been read before: what is measured is the command line, not the disk.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.manifest import MANIFEST_FILE, checkpoint_name, parse_manifest, render_manifest

SECONDS_MAX = 0.5


def main() -> int:
    """Measure and print; the exit status says whether the limits were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _make(run, options.count)
        start = [_timed(["--version"]) for _ in range(options.repeats)]
        print(f"      {statistics.median(start):.3f} s for --version, which reads nothing")
        for command in (["ls"], ["best", "--metric", "val_loss"], ["status"]):
            took = statistics.median(
                _timed([command[0], str(run), *command[1:]])
                for _ in range(3 if options.quick else options.repeats)
            )
            limited = command[0] != "status"
            fine = took < SECONDS_MAX
            kept = kept and (fine or not limited)
            mark = ("PASS" if fine else "MISSED") if limited else "     "
            limit = f" (limit: under {SECONDS_MAX} s)" if limited else ""
            print(f"{mark}  {took:.3f} s for {command[0]} of {options.count} checkpoints{limit}")
    return 0 if kept else 1


def _make(run: Path, count: int) -> None:
    """One real checkpoint, and folders whose manifests are edited copies of its own."""
    model = nn.Linear(8, 8)
    config = CheckpointConfig(str(run), track={"val_bleu": "max"}, progress=False)
    first = CheckpointManager(config, model, torch.optim.AdamW(model.parameters())).save(0, 0)
    assert first is not None
    manifest = parse_manifest((first / MANIFEST_FILE).read_bytes(), where="first")
    for step in range(1, count):
        folder = run / checkpoint_name(0, step)
        folder.mkdir()
        metrics = {"val_loss": 1.0 + (step * 7919 % 997) / 997, "val_bleu": 30.0}
        copy = replace(
            manifest, id=f"{step:032x}", global_step=step, sequence=step, metrics=metrics
        )
        (folder / MANIFEST_FILE).write_bytes(render_manifest(copy))


def _timed(arguments: list[str]) -> float:
    command = [sys.executable, "-m", "holdfast.cli", *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
