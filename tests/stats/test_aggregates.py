"""Corpus BLEU and chrF from summed statistics equal sacrebleu's own scores, corners included."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from holdfast.errors import ConfigError
from holdfast.stats import bleu, chrf, corpus_bleu, corpus_chrf, require_comparable

REFERENCES = [
    "the cat sat on the mat .",
    "a dog barked at the moon",
    "yes",
    "it rained all day long",
]
HYPOTHESES = ["the cat sat on a mat .", "a dog barked", "no", "it rained the day long ago"]

BLEU_OPTIONS: list[dict[str, Any]] = [
    {},
    {"lowercase": True, "tokenize": "none"},
    {"smooth_method": "none"},
    {"smooth_method": "floor"},
    {"smooth_method": "floor", "smooth_value": 0.5},
    {"smooth_method": "add-k", "smooth_value": 2},
    {"effective_order": True},
    {"max_ngram_order": 2, "tokenize": "char"},
]
CHRF_OPTIONS: list[dict[str, Any]] = [
    {},
    {"word_order": 2},
    {"char_order": 3, "beta": 1, "lowercase": True, "whitespace": True},
    {"eps_smoothing": True},
]

lines = st.lists(st.text("ab .", max_size=8), min_size=4, max_size=4)


@pytest.mark.parametrize("options", BLEU_OPTIONS, ids=str)
@settings(max_examples=40, deadline=None)
@given(hypotheses=lines, references=lines)
def test_bleu_equals_sacrebleu(
    options: dict[str, Any], hypotheses: list[str], references: list[str]
) -> None:
    """The score is sacrebleu's for any text and every smoothing, empty lines included."""
    theirs = BLEU(force=True, **options).corpus_score(hypotheses, [references]).score
    assert corpus_bleu(hypotheses, references, **options).score == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("options", CHRF_OPTIONS, ids=str)
@settings(max_examples=40, deadline=None)
@given(hypotheses=lines, references=lines)
def test_chrf_equals_sacrebleu(
    options: dict[str, Any], hypotheses: list[str], references: list[str]
) -> None:
    """The score is sacrebleu's for any text, chrF++ and both smoothings included."""
    theirs = CHRF(**options).corpus_score(hypotheses, [references]).score
    assert corpus_chrf(hypotheses, references, **options).score == pytest.approx(theirs, abs=1e-9)


def test_many_sums_are_scored_at_once_as_one_by_one() -> None:
    """An aggregate is vectorised: rows of sums score as sacrebleu scores each sentence corpus."""
    system = corpus_bleu(HYPOTHESES, REFERENCES)
    metric = BLEU()
    one_by_one = [
        metric.corpus_score([hypothesis], [[reference]]).score
        for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    assert system.scores_of(system.values) == pytest.approx(one_by_one, abs=1e-9)


def test_several_references_with_gaps() -> None:
    """Several reference streams are taken as sacrebleu takes them, None where one is missing."""
    streams: list[Any] = [REFERENCES, ["the cat sat on a mat .", None, "no", None]]
    theirs = BLEU().corpus_score(HYPOTHESES, streams).score
    assert corpus_bleu(HYPOTHESES, streams).score == pytest.approx(theirs, abs=1e-9)


def test_the_signature_travels_with_the_statistics() -> None:
    """The signature is sacrebleu's, after the metric's name."""
    metric = BLEU(references=[REFERENCES])
    assert bleu(REFERENCES).signature == f"BLEU|{metric.get_signature()}"
    assert chrf(REFERENCES, word_order=2).signature.startswith("chrF2++|nrefs:1|")


def test_mixed_signatures_are_refused() -> None:
    """Scores of different tokenisations are not comparable."""
    a = corpus_bleu(HYPOTHESES, REFERENCES)
    b = corpus_bleu(HYPOTHESES, REFERENCES, tokenize="char")
    with pytest.raises(ConfigError, match=r"scored differently.*tok:13a.*tok:char"):
        require_comparable({"a": a, "b": b})


def test_an_order_the_signature_does_not_tell_is_refused_too() -> None:
    """sacrebleu's signature omits the n-gram order, yet BLEU-2 against BLEU-4 is refused."""
    a = corpus_bleu(HYPOTHESES, REFERENCES)
    b = corpus_bleu(HYPOTHESES, REFERENCES, max_ngram_order=2)
    assert a.signature == b.signature
    with pytest.raises(ConfigError, match="scored differently"):
        require_comparable({"a": a, "b": b})


def test_other_references_are_refused() -> None:
    """Two systems scored against different references are not on the same test set."""
    a = corpus_bleu(HYPOTHESES, REFERENCES)
    b = corpus_bleu(HYPOTHESES, REFERENCES[::-1])
    with pytest.raises(ConfigError, match="different references"):
        require_comparable({"a": a, "b": b})


def test_an_empty_reference_is_not_a_missing_one() -> None:
    """The test set's digest tells "" from None, which score differently."""
    gap: list[Any] = [REFERENCES, ["", None, "no", None]]
    empty: list[Any] = [REFERENCES, ["", "", "no", ""]]
    assert bleu(gap).test_set != bleu(empty).test_set


def test_references_are_prepared_once_for_several_systems() -> None:
    """One prepared metric gives the statistics that separate calls give."""
    metric = bleu(REFERENCES)
    for hypotheses in (HYPOTHESES, REFERENCES):
        again = corpus_bleu(hypotheses, REFERENCES)
        assert np.array_equal(metric.statistics(hypotheses).values, again.values)


def test_statistics_are_extracted_in_example_order() -> None:
    """Row i belongs to example i, so that systems can be paired."""
    shuffled = list(range(4))
    random.Random(1).shuffle(shuffled)
    system = corpus_bleu(HYPOTHESES, REFERENCES)
    moved = corpus_bleu([HYPOTHESES[i] for i in shuffled], [REFERENCES[i] for i in shuffled])
    assert np.array_equal(moved.values, system.values[shuffled])


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (HYPOTHESES[:3], REFERENCES, "3 hypotheses for 4 references"),
        (HYPOTHESES, [], "no references"),
        (HYPOTHESES, [[]], "lengths"),
        (HYPOTHESES, [REFERENCES, REFERENCES[:2]], r"lengths \[2, 4\]"),
        (HYPOTHESES, [[*REFERENCES[:3], None]], "Example 3 has no reference"),
        (HYPOTHESES, [*REFERENCES[:3], 7], "references of example 3|not an|one string"),
        ([*HYPOTHESES[:3], None], REFERENCES, "hypotheses of example 3 are NoneType"),
        ("a string", REFERENCES, "one string"),
    ],
)
def test_texts_that_do_not_fit_are_refused(hypotheses: Any, references: Any, message: str) -> None:
    """Peers cut the longer of two lists short in silence; here every misfit is an error."""
    with pytest.raises(ConfigError, match=message):
        corpus_bleu(hypotheses, references)


@pytest.mark.parametrize(
    "options", [{"tokenize": "nonsense"}, {"smooth_method": "more"}, {"max_ngram_order": 0}]
)
def test_unknown_options_are_refused(options: dict[str, Any]) -> None:
    """A mistyped option names itself and the choices."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        bleu(REFERENCES, **options)


def test_without_sacrebleu_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLEU without the optional dependency asks for holdfast[demo]."""
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ConfigError, match=r"holdfast\[demo\]"):
        bleu(REFERENCES)
