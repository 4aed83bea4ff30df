"""Small real runs to report on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, KeepBest, KeepLast

EVIL = "<script>window.stolen=1</script><img src=x onerror=window.stolen=1>\x1b[31m\u202e"


class Classifier(nn.Module):
    """A model with layers worth telling apart."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores of two classes."""
        found: torch.Tensor = self.head(self.encoder(features))
        return found


class Training:
    """A training process: the objects, and a loop that saves every ten steps."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = Classifier()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        config = CheckpointConfig(
            str(folder),
            metric_name="val_loss",
            track={"val_bleu": "max"},
            save_total_limit=None,
            progress=False,
        )
        self.manager = CheckpointManager(
            config,
            self.model,
            self.optimizer,
            retention=KeepLast(3)
            | KeepBest(1, "val_loss", mode="min")
            | KeepBest(1, "val_bleu", mode="max"),
        )

    def step(self) -> None:
        """One optimizer step on random data."""
        features = torch.randn(16, 6)
        loss = nn.functional.cross_entropy(self.model(features), (features[:, 0] > 0).long())
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def run(self, begin: int, end: int) -> None:
        """Save every ten steps after `begin`, up to `end`; validate every twenty."""
        for step in range(begin + 10, end + 1, 10):
            self.step()
            metrics = {"train_loss": 3.0 * math.exp(-step / 60) + 0.05 * (step % 20 == 0)}
            if step % 20 == 0:
                metrics["val_loss"] = 3.0 * math.exp(-step / 60) + 0.3 + 0.0004 * max(0, step - 120)
                metrics["val_bleu"] = 40 * (1 - math.exp(-step / 80))
            self.manager.save(step // 50, step, metrics)


def make_run(folder: Path) -> Path:
    """A run of 160 steps that was resumed at 80 from a checkpoint, and at 60 in another branch."""
    first = Training(folder)
    first.run(0, 80)
    first.manager.close()
    second = Training(folder, seed=1)
    second.manager.resume(verbose=False)
    second.manager.pin(80, "before the change of data")
    second.run(80, 160)
    second.manager.close()
    return folder


def add_selection(folder: Path) -> None:
    """What a selection leaves in a run: candidates, comparisons, samples, an EMA sweep."""
    (folder / "selection").mkdir()
    (folder / "selection" / "test.json").write_text(json.dumps(selection()))


def selection() -> dict[str, Any]:
    """A selection's record."""
    names = {"best val_bleu": 34.1, "average of 3 by val_loss": 34.9, "last": 34.0}
    return {
        "schema": "holdfast-select/1",
        "metric": "BLEU",
        "signature": "nrefs:1|case:mixed|tok:13a",
        "examples": 1000,
        "higher_is_better": True,
        "candidates": [
            {
                "name": name,
                "kind": "average" if "average" in name else "checkpoint",
                "score": score,
                "interval": {"low": score - 1.2, "high": score + 1.2},
                "p_best": 0.8 if "average" in name else 0.1,
                "tied": True,
            }
            for name, score in names.items()
        ],
        "comparisons": [
            {
                "baseline": "last",
                "candidate": name,
                "higher_is_better": True,
                "p_adjusted": 0.2,
                "bootstrap": {"delta": score - 34.0, "interval": {"low": -0.4, "high": 1.4}},
            }
            for name, score in names.items()
            if name != "last"
        ],
        "recommendation": {
            "name": "average of 3 by val_loss",
            "reason": "It has the best score, with no evidence of a difference from the others.",
        },
        "samples": [
            {
                "source": "Guten Morgen.",
                "reference": "Good morning.",
                "outputs": dict.fromkeys(names, "Good morning."),
            }
        ],
        "sweep": {
            "higher_is_better": True,
            "points": [
                {
                    "sigma_rel": s,
                    "score": 34 - 40 * (s - 0.1) ** 2,
                    "low": 33.0,
                    "high": 35.0,
                    "best": s == 0.1,
                    "tied": True,
                }
                for s in (0.05, 0.1, 0.15, 0.2)
            ],
        },
    }


def add_release(folder: Path) -> None:
    """The card of a release made of the run."""
    release = folder / "release"
    release.mkdir()
    card = {"format": "onnx", "checks": {"parity": True, "max_abs_difference": 1.2e-6}}
    (release / "card.json").write_text(json.dumps(card))


def make_hostile_run(folder: Path) -> Path:
    """A run whose every name and text tries to become markup, a script or a terminal command."""
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    model.add_module("x</script><b>", nn.Linear(1, 1))
    config = CheckpointConfig(
        str(folder), metric_name="loss<b>&\"'", metric_mode="min", progress=False
    )
    manager = CheckpointManager(config, model, retention=KeepLast(2))
    for step in range(1, 5):
        metrics = {"loss<b>&\"'": 1.0 / step, "__proto__": 1.0, EVIL: float("nan")}
        manager.save(0, step, metrics)
        with torch.no_grad():
            model.weight += 1
    manager.pin(4, EVIL * 3)
    manager.close()
    lines = [
        b"not json",
        b"[" * 4000,
        json.dumps({"global_step": 2, "epoch": 0, "metrics": {"x" * 5000: 1e308}}).encode(),
        json.dumps({"global_step": 3, "resumed_from": EVIL}).encode(),
        json.dumps(
            {"global_step": 4, "epoch": 0, "metrics": {"constructor": 1, "y": 10**400}}
        ).encode(),
    ]
    with (folder / "history.jsonl").open("ab") as stream:
        stream.write(b"\n".join(lines) + b"\n")
    (folder / "selection").mkdir()
    evil = selection()
    evil["recommendation"] = {"name": EVIL, "reason": "]]></svg>" + EVIL + "z" * 100_000}
    evil["candidates"][0]["name"] = EVIL
    evil["samples"][0]["outputs"] = {EVIL: EVIL, "url(javascript:1)": "</textarea>"}
    (folder / "selection" / "evil.json").write_text(json.dumps(evil))
    (folder / "selection" / "torn.json").write_text('{"schema": "holdfast-select/1", ')
    (folder / "release").mkdir()
    (folder / "release" / "card.json").write_text(json.dumps({EVIL: [EVIL, {"a": EVIL}]}))
    return folder
