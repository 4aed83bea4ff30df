"""Token ids in, token ids out, from exported graphs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.decoding import Combine, Ensemble, Hypothesis, StepModel, beam, greedy
from holdfast.errors import ConfigError, InputError
from holdfast.export.seq2seq.recipe import Recipe

_ROWS = 128


class SequenceModel:
    """A sequence model to be served: decodes any number of sources, in their order.

    steps: what computes; recipe: what it was exported with. rows: sources decoded at once; of like
    length, so that little is padded. With a beam it is rows x width that fills a call.
    """

    def __init__(
        self, steps: StepModel[NDArray[np.int64], Any], recipe: Recipe, *, rows: int = _ROWS
    ) -> None:
        self.steps = steps
        self.recipe = recipe
        self._rows = min(rows, recipe.rows_max)

    @classmethod
    def ensemble(
        cls,
        members: Sequence[SequenceModel],
        *,
        weights: Sequence[float] | None = None,
        combine: Combine = "probabilities",
    ) -> SequenceModel:
        """Several models decoded as one, which averages their distributions at every token.

        Raises ConfigError if their sources, marks or limits differ.
        """
        steps = Ensemble([member.steps for member in members], weights=weights, combine=combine)
        if len({_meaning(member.recipe) for member in members}) > 1:
            raise ConfigError(
                "The members read other sources or use other marks and limits",
                fix="ensemble models exported with the same vocabularies and the same ranges",
            )
        return cls(steps, members[0].recipe, rows=members[0]._rows)

    def decode(
        self,
        sources: Sequence[Sequence[int]],
        *,
        width: int = 1,
        length_penalty: float = 1.0,
        length_max: int | None = None,
    ) -> list[Hypothesis]:
        """Decode sources of ids; width 1 is greedy search.

        Each source ends as the sources of its training did (with an end mark, if they did).
        length_max: instead of the recipe's rule, within its longest. Raises InputError for ids,
        lengths and empty sources the model was not exported for, before anything is decoded.
        """
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        rows = min(self._rows, self.recipe.rows_max // max(width, 1))
        if width < 1 or rows < 1:
            raise InputError(
                f"A beam of {width} does not fit: the graphs take 1 to {self.recipe.rows_max} rows",
                fix="use a narrower beam, or export with more rows",
            )
        parts = [by_length[i : i + rows] for i in range(0, len(by_length), rows)]
        batches = [self._padded([sources[index] for index in part]) for part in parts]
        found: list[Hypothesis | None] = [None] * len(sources)
        for part, batch in zip(parts, batches, strict=True):
            limits = self._limits(batch, length_max)
            marks = self.recipe.marks
            if width == 1:
                decoded = greedy(self.steps, batch, limits, marks)
            else:
                decoded = beam(
                    self.steps, batch, limits, marks, width=width, length_penalty=length_penalty
                )
            for index, hypothesis in zip(part, decoded, strict=True):
                found[index] = hypothesis
        return [hypothesis for hypothesis in found if hypothesis is not None]

    def _padded(self, sources: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        longest = max(1, *(len(source) for source in sources), 1)
        batch = np.full((len(sources), longest), self.recipe.pad, dtype=np.int64)
        for row, source in enumerate(sources):
            batch[row, : len(source)] = source
        self.recipe.source.check([batch])
        return batch

    def _limits(self, batch: NDArray[np.int64], length_max: int | None) -> NDArray[np.int64]:
        if length_max is None:
            return self.recipe.lengths.limits(batch, self.recipe.pad)
        return np.full(len(batch), min(length_max, self.recipe.lengths.longest), dtype=np.int64)


def _meaning(recipe: Recipe) -> tuple[object, ...]:
    return (recipe.source.inputs, recipe.marks, recipe.pad, recipe.lengths, recipe.vocabulary)
