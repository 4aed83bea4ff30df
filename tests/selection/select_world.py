"""A finished run with averages beside its models, and a test set to choose on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, PowerFunction
from holdfast.stats import SufficientStatistics, mean_scores

CLASSES = 3
METRICS = [
    {"val_loss": 1.5, "val_acc": 0.2},
    {"val_loss": 1.1, "val_acc": 0.9},
    {"val_loss": 0.9, "val_acc": 0.5},
    {"val_loss": 1.0, "val_acc": 0.4},
    {"val_loss": float("nan"), "val_acc": 0.3},
]


def classifier(width: int = 4) -> nn.Module:
    """Features [n, width] -> logits [n, CLASSES]."""
    return nn.Sequential(nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, CLASSES))


class Trial:
    """The evaluation: log-probability of the right class, example by example."""

    def __init__(self, identity: str | None = "test set 1") -> None:
        self.identity = identity
        generator = torch.Generator().manual_seed(5)
        self.features = torch.randn(64, 4, generator=generator)
        self.labels = torch.randint(CLASSES, (64,), generator=generator)
        self.scored = 0

    def build(self, config: Any) -> nn.Module:
        """As the configuration says."""
        return classifier(**(config or {}))

    def evaluate(self, model: Any) -> SufficientStatistics:
        """The mean over the test set is the score."""
        self.scored += 1
        assert not torch.is_grad_enabled()
        assert not (isinstance(model, nn.Module) and model.training)
        logs: Tensor = model(self.features).log_softmax(-1)
        return mean_scores(logs[range(64), self.labels].tolist(), name="log-probability")


def save_run(folder: Path, metrics: list[Mapping[str, float]] | None = None) -> list[Path]:
    """Save checkpoints of a classifier that learns, with two EMAs and segment means."""
    torch.manual_seed(3)
    trial, model = Trial(), classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    ema = EMAModel(model, [PowerFunction(0.05), PowerFunction(0.10)], segment_means=True)
    ema.attach(optimizer)
    config = CheckpointConfig(
        str(folder),
        save_total_limit=None,
        progress=False,
        provenance=False,
        track={"val_acc": "max"},
    )
    paths = []
    with CheckpointManager(config, model, optimizer) as manager:
        manager.register("ema", ema)
        for epoch, found in enumerate(METRICS if metrics is None else metrics):
            for _ in range(3):
                optimizer.zero_grad()
                loss: Any = nn.functional.cross_entropy(model(trial.features), trial.labels)
                loss.backward()
                optimizer.step()
            path = manager.save(epoch, 3 * (epoch + 1), found, model_config={"width": 4})
            assert path is not None
            paths.append(path)
    return paths


def copied(run: Path, place: Path) -> Path:
    """A run of one's own to damage."""
    return Path(shutil.copytree(run, place, symlinks=True))
