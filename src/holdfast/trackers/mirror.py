"""What trackers are told, and the callbacks that tell them."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from typing_extensions import Self

from holdfast.engine.catalog import read_catalog
from holdfast.errors import ConfigError, HoldfastError, HoldfastWarning
from holdfast.policy import Metric, Mode, best
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo

_LOG = logging.getLogger("holdfast")


class Tracker(Protocol):
    """What a tracker can be told. It may raise anything: the mirror warns and goes on.

    Called from the thread that commits saves, one call at a time.
    """

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """A checkpoint is durable. cost: what the save cost, as in its manifest."""
        ...

    def best(self, metric: str, path: Path, info: CheckpointInfo) -> None:
        """This checkpoint is now the best by `metric`."""
        ...

    def failed(self, path: Path, error: BaseException) -> None:
        """A save failed; earlier checkpoints stand."""
        ...

    def selected(self, selection: Mapping[str, Any]) -> None:
        """A model was chosen; the record is that of the schema "holdfast-select/1"."""
        ...

    def close(self) -> None:
        """Write out what is buffered."""
        ...


class TrackerMirror:
    """Tells trackers of saves, bests and selections.

    Give `on_commit` and `on_failure` to a `CheckpointManager`. track: metrics whose best is told,
    name to "min" or "max"; None takes those that the run tracks, from its manifests. Raises
    ConfigError without trackers or for another direction.
    """

    def __init__(
        self, trackers: Sequence[Tracker], *, track: Mapping[str, str] | None = None
    ) -> None:
        if not trackers:
            raise ConfigError("There is no tracker to tell", fix="give one or more trackers")
        self._trackers = tuple(trackers)
        self._track = None if track is None else _metrics(track)
        self._winners: dict[str, str] = {}
        self._telling = threading.Lock()
        self._warned: set[tuple[int, str]] = set()

    def on_commit(self, path: Path, info: CheckpointInfo) -> None:
        """Tell of a committed save, and of each metric it is now the best by."""
        cost, metrics = self._facts(path)
        with self._telling:
            self._each("saved", lambda tracker: tracker.saved(path, info, cost))
            for metric in metrics:
                if self._is_new_best(path, info, metric):
                    name = metric.name
                    self._each("best", lambda t, name=name: t.best(name, path, info))  # type: ignore[misc]

    def on_failure(self, path: Path, error: BaseException) -> None:
        """Tell of a save that failed."""
        with self._telling:
            self._each("failed", lambda tracker: tracker.failed(path, error))

    def selected(self, selection: Any) -> None:
        """Tell of a selection: what `select_model` returned, or its record as plain values."""
        record = selection if isinstance(selection, Mapping) else selection.as_json()
        with self._telling:
            self._each("selected", lambda tracker: tracker.selected(record))

    def close(self) -> None:
        """Let every tracker write out what it holds."""
        with self._telling:
            self._each("close", lambda tracker: tracker.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _facts(self, path: Path) -> tuple[Mapping[str, Any], Sequence[Metric]]:
        """Cost and tracked metrics of a commit; without them if it has been pruned already."""
        try:
            manifest = read_catalog(LocalRun(path.parent)).named(path.name).manifest
        except (HoldfastError, OSError):
            return {}, self._track or ()
        return manifest.cost, _metrics(manifest.directions) if self._track is None else self._track

    def _is_new_best(self, path: Path, info: CheckpointInfo, metric: Metric) -> bool:
        """Ranked among all checkpoints there are, so that a restart does not forget the best."""
        if not math.isfinite(info.metrics.get(metric.name, math.nan)):
            return False
        infos = read_catalog(LocalRun(path.parent)).infos
        winner = best(infos, metric.name, metric.mode)
        fresh = winner is not None and winner.id == info.id
        if fresh and self._winners.get(metric.name) == info.id:
            return False
        if fresh:
            self._winners[metric.name] = info.id
        return fresh

    def _each(self, what: str, tell: Callable[[Tracker], None]) -> None:
        for place, tracker in enumerate(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # noqa: BLE001 (told to the user, and the others are told)
                name = type(tracker).__name__
                _LOG.exception("%s could not be told (%s)", name, what)
                if (place, what) not in self._warned:
                    self._warned.add((place, what))
                    warnings.warn(
                        f"{name} could not be told of what was {what} and will be missing it; "
                        f"checkpoints are not concerned: {type(error).__name__}: {error}",
                        HoldfastWarning,
                        stacklevel=4,
                    )


def _metrics(track: Mapping[str, str]) -> tuple[Metric, ...]:
    found = []
    for name, mode in track.items():
        if mode != "min" and mode != "max":
            raise ConfigError(f"The direction of {name!r} is {mode!r}", fix='use "min" or "max"')
        found.append(Metric(name, cast(Mode, mode)))
    return tuple(found)
