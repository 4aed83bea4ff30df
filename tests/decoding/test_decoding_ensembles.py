"""Several step models decoded as one."""

from __future__ import annotations

import numpy as np
import pytest
from decoding_toys import MARKS, RandomTable, plain_beam

from holdfast.decoding import Combine, Ensemble, beam, greedy
from holdfast.errors import DecodingError

SOURCES = np.arange(4)
LIMITS = np.full(4, 8)
SHARES = np.array([0.7, 0.3])


@pytest.fixture
def members() -> list[RandomTable]:
    """Two models of the same five tokens."""
    return [RandomTable(4, 5, 9, seed) for seed in (1, 2)]


@pytest.mark.parametrize("combine", ["probabilities", "log_probabilities"])
def test_a_step_is_the_mean_of_the_members(members: list[RandomTable], combine: Combine) -> None:
    """Arithmetic, or geometric and normalised again; in both cases a distribution."""
    tokens = np.zeros(4, dtype=np.int64)
    ensemble = Ensemble(members, weights=[7, 3], combine=combine)
    found, _ = ensemble.step(tokens, ensemble.start(SOURCES))
    first, second = (member.table[SOURCES, 0, tokens].astype(np.float64) for member in members)
    if combine == "probabilities":
        expected = SHARES[0] * np.exp(first) + SHARES[1] * np.exp(second)
    else:
        expected = np.exp(SHARES[0] * first + SHARES[1] * second)
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("combine", ["probabilities", "log_probabilities"])
def test_searches_reorder_every_member(members: list[RandomTable], combine: Combine) -> None:
    """Beams of an ensemble are those of a plain search over it."""
    ensemble = Ensemble(members, combine=combine)
    found = beam(ensemble, SOURCES, LIMITS, MARKS, width=3)
    assert [h.tokens for h in found] == [
        plain_beam(ensemble, source, 8, 3, 1.0)[0] for source in SOURCES
    ]


def test_an_ensemble_of_one_is_that_one(members: list[RandomTable]) -> None:
    """Tokens are the same; a member of weight zero has no say."""
    alone = [h.tokens for h in greedy(members[0], SOURCES, LIMITS, MARKS)]
    for ensemble in (Ensemble(members[:1]), Ensemble(members, weights=[1, 0])):
        assert [h.tokens for h in greedy(ensemble, SOURCES, LIMITS, MARKS)] == alone


def test_a_token_no_member_allows_stays_impossible(members: list[RandomTable]) -> None:
    """Not a number nowhere; what one member excludes keeps the share of the other."""
    members[0].table[..., 3] = members[1].table[..., 3] = -np.inf
    members[0].table[..., 4] = -np.inf
    ensemble = Ensemble(members)
    found, _ = ensemble.step(np.zeros(4, dtype=np.int64), ensemble.start(SOURCES))
    assert np.isneginf(found[:, 3]).all()
    np.testing.assert_allclose(found[:, 4], members[1].table[:, 0, 0, 4] + np.log(0.5), rtol=1e-5)


def test_members_of_other_vocabularies_are_refused(members: list[RandomTable]) -> None:
    """At the first step, with both sizes."""
    with pytest.raises(DecodingError, match=r"\[5, 6\]"):
        greedy(Ensemble([members[0], RandomTable(4, 6, 9, 0)]), SOURCES, LIMITS, MARKS)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [2.0, -1.0], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(
    members: list[RandomTable], weights: list[float]
) -> None:
    """One for each member, not negative, not all zero."""
    with pytest.raises(DecodingError):
        Ensemble(members, weights=weights)


def test_an_ensemble_has_members() -> None:
    """None is no ensemble."""
    with pytest.raises(DecodingError):
        Ensemble([])
