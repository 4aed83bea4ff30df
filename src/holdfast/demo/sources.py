"""`--data`: which corpus is meant."""

from __future__ import annotations

from pathlib import Path

from holdfast.demo.corpus import Corpus, Direction, Pair, split_pairs
from holdfast.demo.corpus_files import read_corpus
from holdfast.demo.corpus_tatoeba import tatoeba_corpus
from holdfast.demo.extras import demo_module
from holdfast.errors import ConfigError

EMBEDDED = "embedded"
EMBEDDED_PAIRS = 42_000


def open_corpus(
    data: str | None, direction: Direction, *, seed: int, pairs: int | None = None
) -> Corpus:
    """The corpus `data` names: "embedded" (or None), "tatoeba", "gettext:<language>" or a path.

    seed: of the embedded corpus. pairs: use or generate at most so many sentence pairs.
    Raises ConfigError if the source does not exist, has nothing for the direction or is unusable.
    """
    if data is None or data == EMBEDDED:
        corpus = embedded_corpus(direction, seed=seed, pairs=pairs or EMBEDDED_PAIRS)
    elif data == "tatoeba":
        corpus = tatoeba_corpus(direction)
    elif data.startswith("gettext:"):
        language = data.removeprefix("gettext:")
        if language != direction.foreign:
            raise ConfigError(
                f"--data {data} does not go with the direction {direction}",
                fix=f"use --direction {language}-en or en-{language}",
            )
        corpus = demo_module("holdfast.demo.corpus_gettext").gettext_corpus(direction)
    else:
        corpus = read_corpus(Path(data).expanduser(), direction)
    if pairs is not None:
        corpus = corpus.limited(pairs)
    return corpus.checked()


def embedded_corpus(direction: Direction, *, seed: int, pairs: int) -> Corpus:
    """Sentences generated from CLDR, German and English. Raises ConfigError for other languages."""
    if set(direction) != {"de", "en"}:
        raise ConfigError(
            f"The embedded corpus is German and English; it has nothing for {direction}",
            fix="use --direction de-en or en-de, or give --data",
        )
    cldr = demo_module("holdfast.demo.cldr")
    found = (
        Pair(*(getattr(both, side) for side in direction))
        for both in cldr.generate(pairs, seed=seed)
    )
    train, valid, test = split_pairs(found, by=lambda pair: pair.target)
    return Corpus(EMBEDDED, direction, train, valid, test, origin=f"sentences {cldr.source_note()}")
