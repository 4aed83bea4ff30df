"""The corpus generated from locale data."""

from __future__ import annotations

import re
from random import Random

import pytest

from holdfast.demo.cldr import generate
from holdfast.demo.cldr_frames import FRAMES
from holdfast.demo.cldr_names import NAMES
from holdfast.demo.cldr_quantities import QUANTITIES
from holdfast.demo.cldr_times import TIMES
from holdfast.demo.corpus import Corpus, Direction, one_line
from holdfast.demo.sources import embedded_corpus, open_corpus
from holdfast.errors import ConfigError

SLOTS = {**TIMES, **QUANTITIES, **NAMES}
SLOT = re.compile(r"\{(\w+?)\d?\}")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Small enough to be quick, large enough to meet every frame many times."""
    return open_corpus(None, Direction.parse("de-en"), seed=1, pairs=6000)


def test_the_same_seed_gives_the_same_sentences() -> None:
    """And another seed gives others: the order in memory plays no part."""
    assert generate(300, seed=5) == generate(300, seed=5)
    assert generate(300, seed=5) != generate(300, seed=6)


def test_no_sentence_occurs_twice_on_either_side(corpus: Corpus) -> None:
    """So the splits cannot share one, and the score is not flattered."""
    pairs = [*corpus.train, *corpus.valid, *corpus.test]
    assert len({pair.source for pair in pairs}) == len({pair.target for pair in pairs}) == 6000
    assert corpus.overlap == (0.0, 0.0)
    assert corpus.notes == ()


def test_sentences_are_plain_lines(corpus: Corpus) -> None:
    """No line breaks, no odd spaces, no unfilled slots."""
    for pair in corpus.train:
        assert one_line(pair)
        for text in pair:
            assert re.search(r"[{}\u00a0\u2009\u202f]|  |^ | $", text) is None


def test_both_sides_of_a_frame_use_the_same_slots() -> None:
    """A value missing on one side would be untranslatable, and an unknown one an error."""
    for german, english in FRAMES:
        assert set(SLOT.findall(german)) == set(SLOT.findall(english))
        assert set(SLOT.findall(german)) <= set(SLOTS)


@pytest.mark.parametrize("name", sorted(SLOTS))
def test_every_slot_is_worded_in_both_languages(name: str) -> None:
    """Twenty draws of each give text on both sides."""
    rng = Random(name)
    assert all(all(SLOTS[name](rng).with_plain_spaces()) for _ in range(20))


def test_values_follow_the_customs_of_each_language() -> None:
    """Figures agree while separators, order and words differ."""
    time = {TIMES["time"](Random(n)).with_plain_spaces() for n in range(500)}
    assert ("15:45", "3:45 PM") in time
    since = {TIMES["since"](Random(n)) for n in range(500)}
    assert ("3 Jahren", "3 years") in since
    number = QUANTITIES["number"](Random(1))
    assert number.de.replace(".", ",") == number.en


def test_the_other_direction_is_the_same_corpus_turned_round(corpus: Corpus) -> None:
    """en-de has the English side as its source."""
    turned = open_corpus(None, Direction.parse("en-de"), seed=1, pairs=6000)
    assert {
        (pair.target, pair.source) for pair in (*turned.train, *turned.valid, *turned.test)
    } == {tuple(pair) for pair in (*corpus.train, *corpus.valid, *corpus.test)}


def test_other_languages_are_refused() -> None:
    """The frames are German and English."""
    with pytest.raises(ConfigError, match="German and English"):
        embedded_corpus(Direction.parse("fr-en"), seed=1, pairs=100)
