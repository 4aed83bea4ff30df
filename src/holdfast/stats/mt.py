"""Corpus BLEU and chrF as sufficient statistics, extracted by sacrebleu itself.

The score equals sacrebleu's own, and its signature travels with the statistics. sacrebleu is an
optional dependency (`holdfast[demo]`) and is imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xxhash

from holdfast.errors import ConfigError
from holdfast.stats._aggregates import Bleu, BleuSmoothing, Chrf
from holdfast.stats.sufficient import Aggregate, SufficientStatistics

References: TypeAlias = Sequence[str] | Sequence[Sequence[str | None]]

_SACREBLEU_DECIMALS = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class CorpusMetric:
    """A metric with its references prepared once, for any number of systems.

    Made by `bleu` and `chrf`. signature: sacrebleu's, with the metric's name before it.
    test_set: digest of the references.
    """

    signature: str
    test_set: str
    examples: int
    aggregate: Aggregate
    _metric: Any

    def statistics(self, hypotheses: Sequence[str]) -> SufficientStatistics:
        """Extract the statistics of one system's outputs, one string per example, in order.

        Raises ConfigError if the number of hypotheses is not that of the references, or if one is
        not a string.
        """
        _check_strings(hypotheses, "hypotheses")
        if len(hypotheses) != self.examples:
            raise ConfigError(
                f"There are {len(hypotheses)} hypotheses for {self.examples} references",
                where=self.signature,
                fix="Give each reference one hypothesis, an empty string where there is no output.",
            )
        rows = self._metric._extract_corpus_statistics(hypotheses, None)
        statistics = SufficientStatistics(
            values=np.array(rows, dtype=np.float64),
            aggregate=self.aggregate,
            signature=self.signature,
            test_set=self.test_set,
        )
        theirs = float(self._metric._compute_score_from_stats(np.sum(rows, axis=0).tolist()).score)
        if abs(theirs - statistics.score) > _SACREBLEU_DECIMALS:
            raise ConfigError(
                f"This sacrebleu computes {theirs} where holdfast computes {statistics.score}",
                where=self.signature,
                fix="Install a sacrebleu version that holdfast was tested with.",
            )
        return statistics


def bleu(
    references: References,
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    smooth_method: BleuSmoothing = "exp",
    smooth_value: float | None = None,
    max_ngram_order: int = 4,
    effective_order: bool = False,
) -> CorpusMetric:
    """Corpus BLEU against `references`: one string per example, or several streams of them.

    Several references per example are given as sacrebleu takes them, [n_streams][n_examples], with
    None where an example has fewer. The options are sacrebleu's.

    Raises ConfigError if sacrebleu is absent, an option is unknown, or the references are empty or
    of different lengths.
    """
    metrics = _sacrebleu()
    streams = _streams(references)
    _check_choice("tokenize", tokenize, metrics.BLEU.TOKENIZERS)
    _check_choice("smooth_method", smooth_method, metrics.BLEU.SMOOTH_DEFAULTS)
    _check_at_least("max_ngram_order", max_ngram_order, 1)
    if smooth_value is None:
        smooth_value = metrics.BLEU.SMOOTH_DEFAULTS[smooth_method]
    metric = metrics.BLEU(
        references=streams,
        tokenize=tokenize,
        lowercase=lowercase,
        smooth_method=smooth_method,
        smooth_value=smooth_value,
        max_ngram_order=max_ngram_order,
        effective_order=effective_order,
        force=True,
    )
    aggregate = Bleu(max_ngram_order, smooth_method, float(smooth_value or 0.0), effective_order)
    return _prepared("BLEU", metric, aggregate, streams)


def chrf(
    references: References,
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: int = 2,
    lowercase: bool = False,
    whitespace: bool = False,
    eps_smoothing: bool = False,
) -> CorpusMetric:
    """Corpus chrF (chrF++ with word_order=2) against `references`, given as to `bleu`.

    Raises ConfigError as `bleu` does.
    """
    metrics = _sacrebleu()
    streams = _streams(references)
    _check_at_least("char_order", char_order, 1)
    _check_at_least("word_order", word_order, 0)
    _check_at_least("beta", beta, 1)
    metric = metrics.CHRF(
        references=streams,
        char_order=char_order,
        word_order=word_order,
        beta=beta,
        lowercase=lowercase,
        whitespace=whitespace,
        eps_smoothing=eps_smoothing,
    )
    aggregate = Chrf(char_order + word_order, beta, eps_smoothing)
    return _prepared(f"chrF{beta}" + "+" * word_order, metric, aggregate, streams)


def corpus_bleu(
    hypotheses: Sequence[str], references: References, **options: Any
) -> SufficientStatistics:
    """Statistics of one system; `bleu(references, **options)` prepares references for several."""
    return bleu(references, **options).statistics(hypotheses)


def corpus_chrf(
    hypotheses: Sequence[str], references: References, **options: Any
) -> SufficientStatistics:
    """Statistics of one system; `chrf(references, **options)` prepares references for several."""
    return chrf(references, **options).statistics(hypotheses)


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError as error:
        raise ConfigError(
            "BLEU and chrF are computed by sacrebleu, which is not installed",
            fix='Install it with `pip install "holdfast[demo]"`, or score examples yourself '
            "and use mean_scores.",
        ) from error
    return sacrebleu.metrics


def _prepared(
    name: str, metric: Any, aggregate: Aggregate, streams: list[Sequence[str | None]]
) -> CorpusMetric:
    return CorpusMetric(
        signature=f"{name}|{metric.get_signature()}",
        test_set=_digest(streams),
        examples=len(streams[0]),
        aggregate=aggregate,
        _metric=metric,
    )


def _streams(references: References) -> list[Sequence[str | None]]:
    if isinstance(references, str) or not len(references):
        raise ConfigError(
            "There are no references",
            fix="Pass one reference string for each example, or several such sequences.",
        )
    if isinstance(references[0], str):
        references = [references]  # type: ignore[list-item]
    streams: list[Sequence[str | None]] = [list(stream) for stream in references]
    lengths = sorted({len(stream) for stream in streams})
    if len(lengths) > 1 or lengths == [0]:
        raise ConfigError(
            f"The reference streams have lengths {lengths}, expected one length above zero",
            fix="Pass [n_streams][n_examples], with None where an example has fewer references.",
        )
    for example, options in enumerate(zip(*streams, strict=True)):
        if all(option is None for option in options):
            raise ConfigError(f"Example {example} has no reference", fix="Leave the example out.")
        _check_strings([option for option in options if option is not None], "references", example)
    return streams


def _check_strings(lines: Iterable[object], what: str, example: int | None = None) -> None:
    if isinstance(lines, str):
        raise ConfigError(
            f"The {what} are one string, expected a sequence of strings",
            fix="Pass one string for each example.",
        )
    for index, line in enumerate(lines):
        if not isinstance(line, str):
            place = index if example is None else example
            raise ConfigError(
                f"The {what} of example {place} are {type(line).__name__}, expected a string",
                fix="Decode token ids and bytes to text first; use an empty string for no output.",
            )


def _check_choice(option: str, value: object, known: Any) -> None:
    if value not in known:
        raise ConfigError(
            f"{option} is {value!r}", fix=f"Use one of {', '.join(sorted(map(str, known)))}."
        )


def _check_at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{option} is {value}", fix=f"Use {least} or more.")


def _digest(streams: list[Sequence[str | None]]) -> str:
    hasher = xxhash.xxh3_128()
    for stream in streams:
        for line in stream:
            data = b"" if line is None else line.encode("utf-8", "surrogatepass")
            hasher.update(b"-" if line is None else b"%d:" % len(data))
            hasher.update(data)
        hasher.update(b";")
    return f"xxh3-128:{hasher.hexdigest()}"
