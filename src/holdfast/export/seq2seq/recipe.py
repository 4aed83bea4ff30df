"""How the two graphs of a sequence model are run together: plain facts, stored beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from holdfast import jsontext
from holdfast.decoding import LengthRule, Marks
from holdfast.errors import ConfigError, FormatError
from holdfast.export.signature import Signature

SCHEMA = "holdfast-decoding/1"
SUFFIX = ".decoding.json"
ROWS = "rows"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One tensor handed from step to step.

    shape: a number for a size that never varies, otherwise the name of the axis. made_by: "start"
    if the start graph returns it; "runner" if it begins with a size of zero, so that whoever runs
    the graphs makes it. changes: whether the step graph returns it anew.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    made_by: str
    changes: bool

    @property
    def row_axis(self) -> int:
        """Which of its axes counts the rows being decoded."""
        return self.shape.index(ROWS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a runner must know of a start graph and a step graph.

    start, step: their names, which are the stems of their files. source: the signature of the
    start graph, whose one input are source ids [rows, source]. cache: in the order in which the
    step graph takes it, after the tokens. pad: of the source. vocabulary: tokens it can make.
    """

    start: str
    step: str
    source: Signature
    cache: tuple[CacheEntry, ...]
    marks: Marks
    pad: int
    lengths: LengthRule
    vocabulary: int

    @property
    def rows_max(self) -> int:
        """Most rows in one call, hypotheses of a beam counted one by one."""
        return self.source.axes[ROWS].max

    @property
    def source_max(self) -> int:
        """Most tokens of a source."""
        axis = self.source.inputs[0].axes[1]
        return axis if isinstance(axis, int) else axis.max

    def write(self, folder: Path, name: str) -> Path:
        """Write `<name>.decoding.json` into the folder; returns the file."""
        path = folder / f"{name}{SUFFIX}"
        path.write_bytes(self.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        """What `write` writes."""
        values = {
            "schema": SCHEMA,
            "start": self.start,
            "step": self.step,
            "source": self.source.to_dict(),
            "cache": [{**asdict(entry), "shape": list(entry.shape)} for entry in self.cache],
            "marks": {**asdict(self.marks), "never": list(self.marks.never)},
            "pad": self.pad,
            "lengths": asdict(self.lengths),
            "vocabulary": self.vocabulary,
        }
        return jsontext.dump(cast(jsontext.Json, values), indent=2)

    @classmethod
    def read(cls, folder: Path, name: str) -> Recipe:
        """The inverse of `write`. Raises FormatError if the file is not such a recipe."""
        path = folder / f"{name}{SUFFIX}"
        values = cast(dict[str, Any], jsontext.parse(path.read_bytes(), where=str(path)))
        try:
            return _recipe(values)
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"Not a recipe for decoding of schema {SCHEMA}: {error}", where=str(path)
            ) from error


def _recipe(values: Mapping[str, Any]) -> Recipe:
    if values["schema"] != SCHEMA:
        raise ConfigError(f"its schema is {values['schema']!r}")
    recipe = Recipe(
        start=str(values["start"]),
        step=str(values["step"]),
        source=Signature.from_dict(values["source"]),
        cache=tuple(
            CacheEntry(**{**entry, "shape": tuple(entry["shape"])}) for entry in values["cache"]
        ),
        marks=Marks(**{**values["marks"], "never": tuple(values["marks"]["never"])}),
        pad=int(values["pad"]),
        lengths=LengthRule(**values["lengths"]),
        vocabulary=int(values["vocabulary"]),
    )
    for entry in recipe.cache:
        entry.row_axis  # noqa: B018 (raises ValueError if it has none)
    return recipe
