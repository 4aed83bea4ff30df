"""Random streams and the resampled scores that every bootstrap figure is read from.

Streams are a documented part of the contract: with one seed, every system sees the same resamples,
so intervals, paired tests and P(best) of one call agree with each other.

    bootstrap       PCG64(seed): the very resamples sacrebleu draws with SACREBLEU_SEED=seed
    randomisation   PCG64(SeedSequence(seed, spawn_key=(1,)))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from holdfast.errors import ConfigError
from holdfast.stats._aggregates import FloatArray
from holdfast.stats.sufficient import SufficientStatistics

DEFAULT_SEED = 12345
DEFAULT_RESAMPLES = 2_000
DEFAULT_CONFIDENCE = 0.95

# Small enough for a core's cache and for BLAS to stay on one thread: larger pieces took 3 to 5
# times as long on a busy machine.
CHUNK_VALUES = 1 << 15


def resample_scores(
    systems: Sequence[SufficientStatistics],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> FloatArray:
    """Scores [n_systems, resamples] of the systems on the same bootstrap resamples.

    systems: comparable (see `require_comparable`). Each resample draws n_examples examples with
    replacement. Time is proportional to resamples x n_examples; memory beyond the result is bounded
    by a few arrays of 256 KiB, or of n_examples values if that is more.

    Raises ConfigError for fewer than two examples, or an unusable `resamples` or `seed`.
    """
    check_count("resamples", resamples, least=1)
    examples = systems[0].examples
    if examples < 2:
        raise ConfigError(
            "The test set has one example: a bootstrap cannot say anything about its variation",
            where=systems[0].signature,
            fix="Evaluate on more examples; some hundreds at least for a useful interval.",
        )
    table = np.concatenate([system.values for system in systems], axis=1)
    edges = np.cumsum([0, *(system.values.shape[1] for system in systems)])
    scores = np.empty((len(systems), resamples))
    start = 0
    for counts in bootstrap_counts(examples, resamples, seed):
        sums = counts @ table
        stop = start + len(counts)
        for row, system in enumerate(systems):
            scores[row, start:stop] = system.scores_of(sums[:, edges[row] : edges[row + 1]])
        start = stop
    return scores


def bootstrap_counts(examples: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each resample holds each example: [rows, examples] until `resamples` rows."""
    check_seed(seed)
    generator = np.random.Generator(np.random.PCG64(seed))
    rows_max = max(1, CHUNK_VALUES // examples)
    offsets = np.arange(rows_max)[:, None] * examples
    for start in range(0, resamples, rows_max):
        rows = min(rows_max, resamples - start)
        drawn = generator.integers(0, examples, size=(rows, examples))
        drawn += offsets[:rows]
        counts = np.bincount(drawn.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def random_swaps(examples: int, trials: int, seed: int) -> Iterator[FloatArray]:
    """Yield fair coin flips as 0.0 and 1.0: [rows, examples] until `trials` rows."""
    check_seed(seed)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1,))))
    words = -(-examples // 64)
    rows_max = max(1, CHUNK_VALUES // examples)
    for start in range(0, trials, rows_max):
        rows = min(rows_max, trials - start)
        drawn = generator.integers(0, 1 << 64, size=(rows, words), dtype=np.uint64)
        octets = drawn.astype("<u8", copy=False).view(np.uint8)
        yield np.unpackbits(octets, axis=1, count=examples).astype(np.float64)


def check_count(option: str, value: object, *, least: int) -> None:
    """Raise ConfigError unless value is an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{option} is {value!r}", fix=f"Use a whole number, {least} or more.")


def check_seed(seed: int) -> None:
    """Raise ConfigError unless seed is an int of at least zero."""
    check_count("seed", seed, least=0)


def check_share(option: str, value: float) -> None:
    """Raise ConfigError unless value lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{option} is {value!r}", fix="Use a number between 0 and 1.")
