"""What a training worker is told: one JSON file, the same before and after the kill."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from holdfast import jsontext
from holdfast.demo.corpus import Direction
from holdfast.errors import FormatError

FILE = "plan.json"


@dataclass(frozen=True)
class RunPlan:
    """Paths, sizes and intervals of one training run.

    corpus, checkpoints: folders. Times are seconds of training: the clock stands still during
    evaluations and saves. save_every_steps counts optimizer steps. dev_sentences: evaluated each
    time. tokens_per_batch: of the longer side, padding included. averaged: checkpoints kept for the
    average at the end. ema_snapshots: kept over the run to make EMAs of other lengths from.
    step_seconds: what a step counts, None for as long as it takes. export: release the chosen model
    at the end.
    """

    corpus: str
    checkpoints: str
    direction: str
    seed: int
    threads: int
    budget_seconds: float
    save_every_seconds: float
    evaluate_every_seconds: float
    save_every_steps: int = 500
    dev_sentences: int = 300
    tokens_per_batch: int = 1000
    learning_rate: float = 2e-3
    warmup_steps: int = 150
    label_smoothing: float = 0.1
    save_total_limit: int = 5
    averaged: int = 5
    ema_snapshots: int = 6
    step_seconds: float | None = None
    export: bool = True

    @classmethod
    def for_budget(
        cls,
        place: Path,
        direction: Direction,
        *,
        minutes: float,
        seed: int,
        threads: int,
        steps: int | None = None,
        export: bool = True,
    ) -> RunPlan:
        """The plan of a run in the folder `place`: about 20 saves, 10 of them evaluated.

        steps: how many fill the budget, None for as many as there is time for.
        """
        seconds = 60.0 * minutes
        save_every = min(15.0, seconds / 20)
        return cls(
            corpus=str(place / "corpus"),
            checkpoints=str(place / "checkpoints"),
            direction=str(direction),
            seed=seed,
            threads=threads,
            budget_seconds=seconds,
            save_every_seconds=save_every,
            evaluate_every_seconds=2 * save_every,
            # A trifle more, so that rounding never asks for one step too many.
            step_seconds=None if steps is None else seconds / steps * (1 + 1e-9),
            export=export,
        )

    def write(self, place: Path) -> Path:
        """Write to `plan.json` in the folder `place`; returns the file."""
        path = place / FILE
        path.write_bytes(jsontext.dump(asdict(self), indent=2))
        return path

    @classmethod
    def read(cls, path: Path) -> RunPlan:
        """The inverse of `write`. Raises FormatError if the file is not such a plan."""
        values = jsontext.parse(path.read_bytes(), where=str(path))
        try:
            return cls(**cast(dict[str, Any], values))
        except TypeError as error:
            raise FormatError(f"Not a plan of a demo run: {error}", where=str(path)) from error
