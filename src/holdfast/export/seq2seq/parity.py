"""A check of the gate: exported graphs must decode to the tokens that the model decodes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from holdfast.errors import ConfigError, HoldfastError
from holdfast.export.graph import CheckResult, Runner
from holdfast.export.seq2seq.graphs import SequenceGraphs
from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.recipe import Recipe
from holdfast.export.seq2seq.steps import Array, Call, GraphSteps

Score = Callable[[Sequence[Sequence[int]]], float]


class DecodingParity:
    """Greedy and beam search over a check set, by eager graphs and by an artifact's.

    sources: ids of at least one source. widths: of beams, 1 is greedy search. score: of all decoded
    ids of the check set together, BLEU for example. drop_max: without it every sequence must be
    identical; with it, sequences may differ if the score falls by no more (for 16-bit weights).
    Raises ConfigError for an empty check set or a drop without a score.
    """

    def __init__(
        self,
        graphs: SequenceGraphs,
        sources: Sequence[Sequence[int]],
        *,
        widths: Sequence[int] = (1,),
        score: Score | None = None,
        drop_max: float | None = None,
    ) -> None:
        if not sources or not widths:
            raise ConfigError("A comparison of decoding needs sources and at least one beam width")
        if drop_max is not None and score is None:
            raise ConfigError("drop_max needs a score to fall", fix="pass score=")
        self._recipe = graphs.recipe
        self._sources, self._widths = sources, widths
        self._score, self._drop_max = score, drop_max
        self._expected: dict[int, list[list[int]]] = {}

    def __call__(self, eager: Mapping[str, Runner], artifact: Mapping[str, Runner]) -> CheckResult:
        """Decode with both. An artifact that cannot decode has failed, with the reason."""
        model, found = (sequence_model(self._recipe, one) for one in (eager, artifact))
        results = []
        try:
            for width in self._widths:
                if width not in self._expected:
                    self._expected[width] = self._decode(model, width)
                results.append(self._compare(width, self._decode(found, width)))
        except HoldfastError as error:
            return CheckResult("decoding", False, f"it cannot decode: {error.what}")
        return CheckResult(
            "decoding",
            all(passed for passed, _, _ in results),
            "; ".join(text for _, text, _ in results),
            {key: value for _, _, data in results for key, value in data.items()},
        )

    def _decode(self, model: SequenceModel, width: int) -> list[list[int]]:
        return [hypothesis.tokens for hypothesis in model.decode(self._sources, width=width)]

    def _compare(self, width: int, found: list[list[int]]) -> tuple[bool, str, dict[str, float]]:
        expected = self._expected[width]
        search = "greedy" if width == 1 else f"beam of {width}"
        different = sum(one != other for one, other in zip(expected, found, strict=True))
        text = f"{search}: {len(expected) - different} of {len(expected)} sequences identical"
        data: dict[str, float] = {f"{search} sequences": len(expected)}
        data[f"{search} different"] = different
        passed = not different
        if self._score is not None:
            before, after = self._score(expected), self._score(found)
            text += f", score {after:.2f} ({after - before:+.2f})"
            data |= {f"{search} score": after, f"{search} score difference": after - before}
            if self._drop_max is not None:
                passed = bool(before - after <= self._drop_max)
        return passed, text, data


def sequence_model(recipe: Recipe, runners: Mapping[str, Runner]) -> SequenceModel:
    """A model to decode with, over whatever runs the two graphs on tensors."""
    start, step = (_call(runners[name]) for name in (recipe.start, recipe.step))
    return SequenceModel(GraphSteps(recipe, start, step), recipe)


def _call(runner: Runner) -> Call:
    def call(arrays: Sequence[Array]) -> Sequence[Array]:
        tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        with torch.no_grad():
            return [output.numpy() for output in runner(*tensors)]

    return call
