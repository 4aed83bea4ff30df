"""Weights & Biases, by its client; works offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.trackers.clients import PREFIX, chosen_text, client, cost_numbers, finite, scores
from holdfast.values import CheckpointInfo

_STEP = f"{PREFIX}step"


class WandbTracker:
    """Logs to one W&B run, with the global step as an axis of its own, `holdfast/step`.

    run: a run to go on with; None starts one with `options`, those of `wandb.init`, such as
    mode="offline" or project="translate". Checkpoints are named, not uploaded. Raises ConfigError
    if wandb is not installed.
    """

    def __init__(self, run: Any = None, **options: Any) -> None:
        self._owned = run is None
        self.run = client("wandb", "wandb").init(**options) if run is None else run
        # The run's own step only rises, and the training loop logs with it.
        self.run.define_metric(_STEP)
        self.run.define_metric(f"{PREFIX}*", step_metric=_STEP)

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """Metrics, size and cost; the newest checkpoint in the summary."""
        numbers = {_STEP: info.global_step, f"{PREFIX}checkpoint_bytes": float(info.bytes)}
        self.run.log(finite(info.metrics) | numbers | cost_numbers(cost))
        self.run.summary[f"{PREFIX}latest"] = str(path)

    def best(self, metric: str, path: Path, info: CheckpointInfo) -> None:
        """The best value so far and whose it is, in the summary too."""
        value = info.metrics[metric]
        self.run.log({f"{PREFIX}best/{metric}": value, _STEP: info.global_step})
        self.run.summary[f"{PREFIX}best/{metric}/checkpoint"] = str(path)

    def failed(self, path: Path, error: BaseException) -> None:
        """The last error in the summary."""
        self.run.summary[f"{PREFIX}failed"] = f"{path.name}: {error}"

    def selected(self, selection: Mapping[str, Any]) -> None:
        """Scores and who was chosen, in the summary."""
        for name, score in scores(selection).items():
            self.run.summary[f"{PREFIX}selection/{name}"] = score
        self.run.summary[f"{PREFIX}selected"] = chosen_text(selection)

    def close(self) -> None:
        """Finish a run that was started here."""
        if self._owned:
            self.run.finish()
