"""Listing and ranking 1,000 checkpoints from their manifests alone.

    python -m benchmarks.catalog [--count 1000] [--repeats 7] [--parameters MILLIONS] [--json]

Beside it: loading every checkpoint to see its metrics, as the original code does. One file of the
original layout (weights and two moments of a model of 58 million parameters) is loaded a few times,
warm, and the median is taken a thousand times: a thousand such files would be 700 GB. And reading
every model file of the folders that are ranked, which hold tiny models and so flatter that way.

Limit: 1,000 times faster than loading.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.engine.catalog import read_catalog
from holdfast.manifest import MANIFEST_FILE, checkpoint_name, parse_manifest, render_manifest
from holdfast.policy import top_k
from holdfast.storage import LocalRun

_LIMIT = 1_000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--parameters", type=float, default=58.0, help="millions")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        _make(run, options.count)
        ours: list[float] = []
        loading: list[float] = []
        for _ in range(options.repeats):
            ours.append(_timed(lambda: _rank(run, options.count)))
            loading.append(_timed(lambda: _load_all(run)))
        seed = _seed_seconds(Path(folder) / "original.pt", int(options.parameters * 1e6))
    result = {
        "load_as_the_original_seconds": seed * options.count,
        "checkpoints": options.count,
        "list_and_top_k_seconds": statistics.median(ours),
        "load_every_model_seconds": statistics.median(loading),
    }
    ratio = result["load_every_model_seconds"] / result["list_and_top_k_seconds"]
    faster = result["load_as_the_original_seconds"] / result["list_and_top_k_seconds"]
    if options.json:
        print(json.dumps(result | {"ratio": ratio, "faster_than_the_original": faster}))
    else:
        print(
            f"{options.count} checkpoints: list and top 5 in "
            f"{result['list_and_top_k_seconds']:.3f} s (median of {options.repeats}, "
            f"{min(ours):.3f} to {max(ours):.3f}); reading their models {ratio:.1f}x as long"
        )
        print(
            f"loading {options.count} files of {options.parameters:g} M parameters as the original "
            f"does: {result['load_as_the_original_seconds']:.0f} s ({seed:.2f} s each)"
        )
        good = faster >= _LIMIT
        print(f"{'PASS' if good else 'MISSED'}  at least {_LIMIT:,} x faster: {faster:,.0f} x")
    return int(faster < _LIMIT)


def _make(run: Path, count: int) -> None:
    """One real checkpoint, and copies of it whose manifests differ."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    manager = CheckpointManager(CheckpointConfig(str(run)), model, optimizer)
    first = manager.save(0, 0, {"val_loss": 1.0, "val_bleu": 30.0})
    assert first is not None
    manifest = parse_manifest((first / MANIFEST_FILE).read_bytes(), where="first")
    for step in range(1, count):
        folder = run / checkpoint_name(0, step)
        folder.mkdir()
        for file in first.iterdir():
            (folder / file.name).hardlink_to(file)
        (folder / MANIFEST_FILE).unlink()
        metrics = {"val_loss": 1.0 + (step * 7919 % 997) / 997, "val_bleu": 30.0}
        copy = replace(
            manifest, id=f"{step:032x}", global_step=step, sequence=step, metrics=metrics
        )
        (folder / MANIFEST_FILE).write_bytes(render_manifest(copy))


def _rank(run: Path, count: int) -> None:
    infos = read_catalog(LocalRun(run)).infos
    best = top_k(infos, "val_loss", "min", 5)
    assert len(infos) == count
    assert len(best) == 5


def _load_all(run: Path) -> None:
    for folder in run.glob("checkpoint_*"):
        load_file(folder / "model.safetensors")


def _seed_seconds(path: Path, parameters: int) -> float:
    """Median of loading one checkpoint of the original layout, warm."""
    weights = {f"layers.{i}.weight": torch.zeros(parameters // 8) for i in range(8)}
    moments = {
        i: {"step": torch.tensor(1.0), "exp_avg": w.clone(), "exp_avg_sq": w.clone()}
        for i, w in enumerate(weights.values())
    }
    content = {
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": moments, "param_groups": []},
        "metrics": {"val_loss": 1.0},
    }
    torch.save(content, path)
    del content, weights, moments
    return statistics.median(_timed(lambda: torch.load(path, weights_only=True)) for _ in range(3))


def _timed(work: object) -> float:
    began = time.perf_counter()
    assert callable(work)
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
