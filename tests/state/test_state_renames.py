"""Suggestions for names that do not match, and wrapper prefixes in files of unknown origin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.state import find_renames
from holdfast.state.renames import strip_wrapper_prefixes

NAMES = ["encoder.0.weight", "encoder.0.bias", "head.weight"]
SHAPES = {"encoder.0.weight": (4, 3), "encoder.0.bias": (4,), "head.weight": (2, 4)}

segment = st.sampled_from(["encoder", "layer", "0", "1", "attn", "weight", "bias", "module"])
names = st.lists(segment, min_size=1, max_size=4).map(".".join)
tables = st.dictionaries(names, st.sampled_from([(2,), (3,), (2, 3)]), max_size=12)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.backbone."])
def test_a_prefix_on_either_side_is_found(prefix: str) -> None:
    """All names pair up by the prefix one side has, and one sentence says so."""
    prefixed = {prefix + name: shape for name, shape in SHAPES.items()}
    there = find_renames(SHAPES, prefixed)
    here = find_renames(prefixed, SHAPES)
    assert there.pairs == {name: prefix + name for name in SHAPES}
    assert here.pairs == {prefix + name: name for name in SHAPES}
    assert prefix in there.rule
    assert prefix in here.rule


def test_wrapper_segments_inside_names_are_found() -> None:
    """A layer that was compiled by itself is recognised."""
    found = {"encoder._orig_mod.0.weight": (4, 3)}
    assert find_renames({"encoder.0.weight": (4, 3)}, found).pairs == {
        "encoder.0.weight": "encoder._orig_mod.0.weight"
    }


def test_spelling_counts_only_among_equal_shapes() -> None:
    """Of names spelled alike, the one with the wanted shape is suggested."""
    found = {"encoders.0.weight": (9, 9), "enc.0.weight": (4, 3), "zzz.weight": (4, 3)}
    assert find_renames({"encoder.0.weight": (4, 3)}, found).pairs == {
        "encoder.0.weight": "enc.0.weight"
    }


def test_nothing_alike_gives_no_suggestion() -> None:
    """Unrelated names are left without one."""
    renames = find_renames({"a.weight": (1,)}, {"qqq.bias": (1,)})
    assert (renames.pairs, renames.rule) == ({}, "")


@given(wanted=tables, found=tables)
def test_suggestions_pair_names_of_equal_shape(
    wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> None:
    """Whatever is suggested exists on both sides with one shape."""
    pairs = find_renames(wanted, found).pairs
    assert all(wanted[name] == found[other] for name, other in pairs.items())


def test_ten_thousand_unknown_names_are_bounded() -> None:
    """Names that resemble each other everywhere end in some suggestions, not in a hang."""
    wanted = {f"a{number}.block.weight": (2,) for number in range(10_000)}
    found = {f"b{number}.block.weight": (2,) for number in range(10_000)}
    assert len(find_renames(wanted, found).pairs) < 10_000


def test_wrapper_prefixes_are_cut_from_files() -> None:
    """Nested wrappers go, at the top and inside; the order of the keys stays."""
    state = {"module._orig_mod.a._orig_mod.weight": 1, "module._orig_mod.b": 2}
    assert list(strip_wrapper_prefixes(state).items()) == [("a.weight", 1), ("b", 2)]


@pytest.mark.parametrize(
    "state",
    [
        {"module.a": 1, "b": 2},
        {"a.module.weight": 1},
        {"_orig_mod.a": 1, "a": 2},
        {},
    ],
)
def test_names_that_may_be_the_users_stay(state: dict[str, int]) -> None:
    """`module` is cut only where it leads every key, and never if two keys would become one."""
    assert strip_wrapper_prefixes(state) == state
