"""What all parts of a manager share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.clock import Clock
from holdfast.engine.catalog import CatalogReader
from holdfast.manager.config import CheckpointConfig
from holdfast.manager.decisions import Decisions
from holdfast.manager.history import MetricsHistory
from holdfast.manager.ranks import Ranks
from holdfast.manager.timeline import Timeline
from holdfast.manager.writer import Writer
from holdfast.policy import Metric, Retention
from holdfast.session import LiveObjects
from holdfast.storage.protocol import RunStorage


@dataclass
class Context:
    """One run as one manager sees it. restored: id -> why it is the last that was restored."""

    config: CheckpointConfig
    run: RunStorage
    objects: LiveObjects
    clock: Clock
    retention: Retention
    history: MetricsHistory
    timeline: Timeline
    decisions: Decisions
    writer: Writer
    ranks: Ranks
    catalog: CatalogReader
    restored: Mapping[str, str] = field(default_factory=dict)

    @property
    def deciding(self) -> Metric:
        """The metric that decides what is best."""
        return self.config.tracked[0]

    @property
    def best_metric(self) -> float:
        """Best finite value of the deciding metric so far; the worst possible if there is none."""
        found = self.history.best(self.deciding)
        worst = float("inf") if self.deciding.mode == "min" else float("-inf")
        return worst if found is None else found

    def path(self, name: str) -> Path:
        """The folder of a checkpoint."""
        return Path(self.config.checkpoint_dir) / name
