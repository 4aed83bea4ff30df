"""Ways to get a model out of a run, written as people say them: "best", "average:5", "ensemble:3".

best[:METRIC[:MODE]]         the best checkpoint; without a metric, by each tracked one
last                         the newest checkpoint
average:K[:METRIC[:MODE]]    the mean of the weights of the best K
ema                          every EMA that the newest checkpoint with one holds
ensemble:K[:METRIC[:MODE]]   the best K, all of them asked
PATH                         a checkpoint folder, such as an average that was written before
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from holdfast.decay import ConstantDecay, PowerFunction, Schedule, SegmentMean, read_schedule
from holdfast.ema import read_record
from holdfast.engine.catalog import Catalog
from holdfast.engine.open_checkpoint import open_checkpoint
from holdfast.errors import CheckpointNotFoundError, ConfigError, HoldfastError
from holdfast.policy import Mode
from holdfast.selection.candidates import Candidate
from holdfast.selection.ranking import rank_checkpoints
from holdfast.storage import LocalRun

DEFAULT_STRATEGIES = ("best", "average:5", "last", "ema", "ensemble:3")
_AVERAGED_BY = "val_loss"


@dataclass(frozen=True, slots=True)
class Ground:
    """The run that candidates come from."""

    run: Path
    catalog: Catalog

    @property
    def directions(self) -> Mapping[str, str]:
        """Tracked metrics, the deciding one first, each "min" or "max"."""
        newest = self.catalog.newest
        return {} if newest is None else newest.manifest.directions

    def paths(self, metric: str, mode: Mode, k: int) -> tuple[Path, ...]:
        """The best k. Raises PolicyError if no checkpoint has a finite value."""
        ranking = rank_checkpoints(self.catalog.infos, metric, mode)
        return tuple(self.run / info.name for info in ranking.infos[:k])

    def metric(self, given: Sequence[str], text: str, *, default: str | None) -> tuple[str, Mode]:
        """The metric and direction a strategy names. Raises ConfigError if they are not known."""
        name = given[0] if given else default
        if name is None:
            raise ConfigError(
                f"The run tracks no metric, so {text!r} must name one",
                where=str(self.run),
                fix=f"write {text}:val_loss:min",
            )
        mode = given[1] if len(given) > 1 else self.directions.get(name)
        if mode not in ("min", "max"):
            raise ConfigError(
                f"The direction of {name!r} is not known",
                where=str(self.run),
                fix=f"write {text}:min or {text}:max" if given else f"write {text}:{name}:min",
            )
        return name, cast(Mode, mode)

    @property
    def averaged_by(self) -> str | None:
        """The metric that members are chosen by: the validation loss, or else the deciding one."""
        if _AVERAGED_BY in self.directions:
            return _AVERAGED_BY
        return next(iter(self.directions), None)


def candidates_of(
    ground: Ground, strategies: Sequence[str]
) -> tuple[list[Candidate], dict[str, HoldfastError]]:
    """The candidates of all strategies, and why a strategy has none, by its text.

    Raises ConfigError for a text that is no strategy.
    """
    found: list[Candidate] = []
    without: dict[str, HoldfastError] = {}
    for text in strategies:
        try:
            found += _candidates(ground, text)
        except _Misspelt:
            raise
        except HoldfastError as error:
            without[text] = error
    return found, without


class _Misspelt(ConfigError):
    """A text that means nothing anywhere, as opposed to one that means nothing in this run."""


def _candidates(ground: Ground, text: str) -> list[Candidate]:
    word, *given = text.split(":")
    if word == "best" and len(given) < 3:
        return list(_best(ground, given, text))
    if text == "last":
        newest = _newest(ground)
        return [Candidate("last", "checkpoint", (newest,))]
    if text == "ema":
        return _averages(ground)
    if word in ("average", "ensemble") and given and given[0].isdecimal() and len(given) < 4:
        return [_several(ground, word, int(given[0]), given[1:], text)]
    if Path(text).is_dir():
        return [Candidate(Path(text).name, "checkpoint", (Path(text),))]
    raise _Misspelt(
        f"{text!r} is no strategy, and no folder of that name is there",
        fix="use best, best:METRIC, last, average:5, ema, ensemble:3 or a checkpoint's folder",
    )


def _best(ground: Ground, given: Sequence[str], text: str) -> Iterator[Candidate]:
    wanted = (
        [ground.metric(given, text, default=None)]
        if given or not ground.directions
        else [(name, cast(Mode, mode)) for name, mode in ground.directions.items()]
    )
    for name, mode in wanted:
        paths = ground.paths(name, mode, 1)
        yield Candidate(f"best {name}", "checkpoint", paths)


def _several(ground: Ground, word: str, k: int, given: Sequence[str], text: str) -> Candidate:
    if k < 2:
        raise _Misspelt(f"{text!r} is of fewer than two", fix=f"write {word}:5")
    metric, mode = ground.metric(given, text, default=ground.averaged_by)
    paths = ground.paths(metric, mode, k)
    if len(paths) < 2:
        raise ConfigError(
            f"Only {len(paths)} checkpoint has a finite {metric}, which is too few for {text}",
            where=str(ground.run),
            fix=f'keep more while training: KeepBest({k}, "{metric}", mode="{mode}")',
        )
    name = f"{word} of {len(paths)} by {metric}"
    return Candidate(name, "average" if word == "average" else "ensemble", paths)


def _averages(ground: Ground) -> list[Candidate]:
    """The EMAs of the newest checkpoint that holds any; means of segments are none."""
    run = LocalRun(ground.run)
    for entry in reversed(ground.catalog.entries):
        found = []
        with open_checkpoint(run, entry.name) as checkpoint:
            for name, component in entry.manifest.components.items():
                if component.kind != "module" or name == "model":
                    continue
                stored = checkpoint.stored(name)
                if "average" not in _keys(stored.tree):
                    continue
                record = read_record(stored)
                schedule = read_schedule(record["schedule"])
                if record["updates"] and not isinstance(schedule, SegmentMean):
                    title = f"EMA {_width(schedule)}"
                    found.append(Candidate(title, "ema", (ground.run / entry.name,), name))
        if found:
            return found
    raise ConfigError(
        "No checkpoint holds an EMA with updates",
        where=str(ground.run),
        fix='train with manager.register("ema", EMAModel(model))',
    )


def _width(schedule: Schedule) -> str:
    """What tells an EMA from others, in a few characters."""
    if isinstance(schedule, PowerFunction):
        return f"{schedule.sigma_rel:g}"
    if isinstance(schedule, ConstantDecay):
        return f"{schedule.decay:g}"
    return str(schedule)


def _keys(tree: object) -> set[str]:
    return set(tree) if isinstance(tree, Mapping) else set()


def _newest(ground: Ground) -> Path:
    newest = ground.catalog.newest
    if newest is None:
        raise CheckpointNotFoundError("The run holds no checkpoint", where=str(ground.run))
    return ground.run / newest.name
