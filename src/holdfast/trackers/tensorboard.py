"""TensorBoard, by torch's own writer of event files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.trackers.clients import PREFIX, chosen_text, client, cost_numbers, finite, scores
from holdfast.values import CheckpointInfo


class TensorBoardTracker:
    """Writes scalars and texts named `holdfast/...` to event files in `log_dir`.

    Raises ConfigError if tensorboard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        module = client("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(log_dir))
        self._step = 0

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """Metrics, size and cost as scalars at the global step."""
        self._step = info.global_step
        numbers = {f"{PREFIX}checkpoint_bytes": float(info.bytes)}
        for name, value in (finite(info.metrics) | numbers | cost_numbers(cost)).items():
            self._writer.add_scalar(name, value, info.global_step)
        self._writer.add_text(f"{PREFIX}saved", f"{path.name}: {info.reason.text}", self._step)
        self._writer.flush()

    def best(self, metric: str, path: Path, info: CheckpointInfo) -> None:
        """The best value so far as a curve of its own, and whose it is."""
        self._writer.add_scalar(f"{PREFIX}best/{metric}", info.metrics[metric], info.global_step)
        self._writer.add_text(f"{PREFIX}best/{metric}", path.name, info.global_step)
        self._writer.flush()

    def failed(self, path: Path, error: BaseException) -> None:
        """The error as a text."""
        self._writer.add_text(f"{PREFIX}failed", f"{path.name}: {error}", self._step)
        self._writer.flush()

    def selected(self, selection: Mapping[str, Any]) -> None:
        """The scores of the candidates, who was chosen, and the whole record."""
        for name, score in scores(selection).items():
            self._writer.add_scalar(f"{PREFIX}selection/{name}", score, self._step)
        text = f"{chosen_text(selection)}\n\n    {json.dumps(selection, default=str)[:100_000]}"
        self._writer.add_text(f"{PREFIX}selected", text, self._step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
