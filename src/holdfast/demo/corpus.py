"""A parallel corpus: sentence pairs in three splits, and what must be said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from holdfast.digest import raw_digest
from holdfast.errors import ConfigError

HELD_OUT_MAX = 1000


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class Direction(NamedTuple):
    """From which language into which, as ISO 639-1 codes."""

    source: str
    target: str

    @classmethod
    def parse(cls, text: str) -> Direction:
        """Read "de-en". Raises ConfigError for anything but two different codes."""
        source, dash, target = text.lower().partition("-")
        codes = (source, target)
        if not dash or source == target or not all(c.isalpha() and len(c) in (2, 3) for c in codes):
            raise ConfigError(
                f"{text!r} is not a translation direction", fix="write it as two codes: de-en"
            )
        return cls(source, target)

    @property
    def foreign(self) -> str:
        """The language that is not English. Raises ConfigError if English is neither side."""
        if "en" not in self:
            raise ConfigError(
                f"This corpus pairs other languages with English; {self} has no English side",
                fix="use a direction such as de-en or en-de",
            )
        return self.source if self.target == "en" else self.target

    def pair(self, english: str, foreign: str) -> Pair:
        """A pair in this direction."""
        return Pair(foreign, english) if self.target == "en" else Pair(english, foreign)

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


class Overlap(NamedTuple):
    """Shares (0 to 1) of the test sentences that training has seen on that side."""

    source: float
    target: float


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs to train on, to choose checkpoints by, and to report a score on.

    origin: where they come from and under which terms, one sentence. notes: what a reader of the
    score must know.
    """

    name: str
    direction: Direction
    train: tuple[Pair, ...]
    valid: tuple[Pair, ...]
    test: tuple[Pair, ...]
    origin: str = ""
    notes: tuple[str, ...] = ()

    @property
    def overlap(self) -> Overlap:
        """How much of the test set occurs in training, each side by itself."""
        sources = {pair.source for pair in self.train}
        targets = {pair.target for pair in self.train}
        count = max(1, len(self.test))
        return Overlap(
            sum(pair.source in sources for pair in self.test) / count,
            sum(pair.target in targets for pair in self.test) / count,
        )

    def checked(self) -> Corpus:
        """This corpus, with its measured overlap among the notes.

        Raises ConfigError if a split is empty.
        """
        for split in ("train", "valid", "test"):
            if not getattr(self, split):
                raise ConfigError(f"The corpus {self.name} has no {split} sentences")
        return replace(self, notes=(*self.notes, *_overlap_notes(self)))

    def limited(self, train_max: int, held_out_max: int = HELD_OUT_MAX) -> Corpus:
        """This corpus with at most so many pairs per split, the first of each."""
        return replace(
            self,
            train=self.train[:train_max],
            valid=self.valid[:held_out_max],
            test=self.test[:held_out_max],
        )


def split_pairs(
    pairs: Iterable[Pair], *, by: Callable[[Pair], str]
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Divide into train, valid and test so that no `by(pair)` is in two of them.

    A twentieth each, at most 1,000, is held out, one pair for each key. Which key goes where
    depends on the key's own digest alone, not on the order or number of pairs before it.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(by(pair), []).append(pair)
    keys = sorted(groups, key=lambda key: (raw_digest(key.encode()), key))
    held = min(HELD_OUT_MAX, len(keys) // 20)
    test = tuple(groups[key][0] for key in keys[:held])
    valid = tuple(groups[key][0] for key in keys[held : 2 * held])
    train = tuple(pair for key in keys[2 * held :] for pair in groups[key])
    return train, valid, test


def one_line(texts: Sequence[str]) -> bool:
    """Whether every text is non-empty and fits on a line of a text file."""
    return all(text and not set(text) & {"\n", "\r", "\t"} for text in texts)


def _overlap_notes(corpus: Corpus) -> list[str]:
    share, languages = corpus.overlap, corpus.direction
    leaked = len(set(corpus.train) & set(corpus.test))
    notes = []
    if leaked:
        notes.append(f"{leaked} test pairs are also training pairs: the score is worth little")
    if share.source:
        notes.append(
            f"{share.source:.0%} of the {languages.source} test sentences also occur in training, "
            f"mostly with another {languages.target} side: this flatters the score"
        )
    if share.target:
        notes.append(
            f"{share.target:.0%} of the {languages.target} test sentences also occur in training: "
            "this flatters the score"
        )
    return notes
