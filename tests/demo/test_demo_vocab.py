"""Tokens that join back, and the table of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.demo.vocab import EOS, REPLACEMENT, UNKNOWN, Vocabulary, join, tokenize
from holdfast.errors import ConfigError, MismatchError

SENTENCES = (
    "Der Zug fährt um 15:45 Uhr ab.",
    "Der Zug kostet 1.234,50 Euro!",
    "I don't know.",
    "She doesn't know (yet).",
)

ALPHABET = "abcdé.'12 "
SPELLING = Vocabulary.build([" ".join(ALPHABET), 2 * ALPHABET.strip(), "  "])


@given(st.text())
def test_tokens_of_any_text_join_to_that_text(text: str) -> None:
    """Tokenising loses nothing: not spaces at either end, not newlines, not odd characters."""
    assert join(tokenize(text)) == text


@given(st.text(alphabet=ALPHABET))
def test_ids_of_known_characters_decode_to_the_text(text: str) -> None:
    """A word that is not in the table is spelled, so that any text in its characters survives."""
    ids = SPELLING.encode(text)
    assert UNKNOWN not in ids
    assert SPELLING.decode(ids) == text


def test_words_carry_their_space_and_digits_stand_alone() -> None:
    """Tokens are words with the space before them, single digits, and punctuation."""
    assert tokenize("I don't owe 12.5.") == [
        " I",
        " don",
        "'t",
        " owe",
        " 1",
        "2",
        ".",
        "5",
        ".",
    ]


def test_rare_words_are_spelled_in_characters() -> None:
    """A word below the count becomes its characters, and comes back whole."""
    vocabulary = Vocabulary.build(["ab ab ba"], count_min=2)
    assert [vocabulary.pieces[i] for i in vocabulary.encode("ab ba")] == [" ab", " b", "a"]
    assert vocabulary.decode(vocabulary.encode("ab ba")) == "ab ba"


def test_the_share_of_unknown_words_is_that_of_spelled_ones() -> None:
    """Of three words one is not in the table."""
    vocabulary = Vocabulary.build(["ab ab ba"], count_min=2)
    assert vocabulary.unknown_rate("ab ab ba") == pytest.approx(1 / 3)
    assert vocabulary.unknown_rate("ab") == 0.0


def test_an_unknown_character_is_shown_as_such() -> None:
    """A character never seen in training decodes to the replacement character."""
    vocabulary = Vocabulary.build(["abc"])
    assert vocabulary.decode(vocabulary.encode("a∞c")) == f"a{REPLACEMENT}c"


def test_decoding_stops_at_the_end_mark() -> None:
    """What follows the first end mark is not text."""
    vocabulary = Vocabulary.build(["ab ab ab"])
    ids = vocabulary.encode("ab")
    assert vocabulary.decode([*ids, EOS, *ids]) == "ab"


def test_the_table_does_not_depend_on_the_order_of_sentences() -> None:
    """Counts decide, ties by spelling: a resumed run builds the same table."""
    assert Vocabulary.build(SENTENCES) == Vocabulary.build(reversed(SENTENCES))


def test_the_size_limit_drops_the_rarest_words_first() -> None:
    """Characters stay, so nothing becomes unwritable."""
    full = Vocabulary.build(["aa aa aa bb bb"])
    small = Vocabulary.build(["aa aa aa bb bb"], size_max=len(full) - 1)
    assert " aa" in small.pieces
    assert " bb" not in small.pieces
    assert small.decode(small.encode("bb")) == "bb"


def test_a_table_accepts_only_its_own_state() -> None:
    """Weights trained with another table are refused, since their ids mean other words."""
    vocabulary = Vocabulary.build(["aa aa"])
    vocabulary.load_state_dict(vocabulary.state_dict())
    with pytest.raises(MismatchError, match="another vocabulary"):
        vocabulary.load_state_dict(Vocabulary.build(["bb bb"]).state_dict())


def test_a_table_with_a_token_twice_is_refused() -> None:
    """Every id stands for one token."""
    pieces = Vocabulary.build(["aa"]).pieces
    with pytest.raises(ConfigError):
        Vocabulary([*pieces, pieces[-1]])
