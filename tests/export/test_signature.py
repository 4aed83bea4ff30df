"""What a request must be, checked without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.errors import ConfigError, InputError
from holdfast.export import Axis, Input, Signature, tokens

BATCH, LENGTH = Axis("batch", 1, 4), Axis("length", 1, 8)
IDS = tokens("ids", (BATCH, LENGTH), 100)
MASK = Input("mask", (BATCH, LENGTH), "int64", 0, 1, mask=True)
SIGNATURE = Signature((IDS, MASK), ("logits",))
GOOD = np.array([[5, 6, 0], [7, 0, 0]])
KEPT = np.array([[1, 1, 0], [1, 0, 0]])


def test_a_sound_request_passes() -> None:
    """Nothing is said of it."""
    SIGNATURE.check([GOOD, KEPT])


@pytest.mark.parametrize(
    ("ids", "mask", "reason"),
    [
        (GOOD.astype(np.int32), KEPT, "ids is int32; the graph takes int64"),
        (GOOD[0], KEPT, "has 1 dimensions; the graph takes 2"),
        (np.ones((2, 9), np.int64), np.ones((2, 9), np.int64), "length of the input ids is 9"),
        (np.ones((5, 3), np.int64), np.ones((5, 3), np.int64), "batch of the input ids is 5"),
        (np.ones((0, 3), np.int64), np.ones((0, 3), np.int64), "batch of the input ids is 0"),
        (GOOD, np.ones((2, 4), np.int64), "length of the input mask is 4, that of another input 3"),
        (GOOD + 96, KEPT, "holds values from 96 to 103; the graph takes 0 to 99"),
        (-GOOD, KEPT, "holds values from -7 to 0"),
        (np.array([[5, 6], [0, 0]]), np.ones((2, 2), np.int64), "Row 1 of the input ids is all"),
        (GOOD, np.array([[1, 1, 0], [0, 0, 0]]), "Row 1 of the input mask is all padding"),
    ],
)
def test_every_other_request_is_refused_with_the_reason(
    ids: NDArray[Any], mask: NDArray[Any], reason: str
) -> None:
    """Wrong dtype, rank, size, sizes that disagree, unknown ids and empty rows are not run."""
    with pytest.raises(InputError, match=reason):
        SIGNATURE.check([ids, mask])


def test_a_missing_input_is_refused() -> None:
    """All inputs are named."""
    with pytest.raises(InputError, match="takes 2 inputs, given were 1") as caught:
        SIGNATURE.check([GOOD])
    assert "ids, mask" in str(caught.value)


def test_empty_rows_may_be_allowed() -> None:
    """For models that give them a meaning."""
    allowing = Signature((IDS,), ("y",), all_padding="allow")
    allowing.check([np.zeros((1, 2), np.int64)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Axis("two words", 1, 2),
        lambda: Axis("batch", 3, 2),
        lambda: Axis("batch", -1, 2),
        lambda: Input("x", (2,), "complex64"),
        lambda: Input("x", (2,), low=1, high=0),
        lambda: Signature((IDS, IDS)),
        lambda: Signature((IDS, tokens("more", (Axis("batch", 1, 9),), 5))),
        lambda: Signature((), ("y",)),
        lambda: Signature((IDS,), ("ids",)),
        lambda: Signature((IDS,), all_padding="perhaps"),
        lambda: Signature.from_dict({"inputs": 5}),
        lambda: Signature.from_dict({"inputs": [{"name": "x"}], "outputs": [], "all_padding": ""}),
    ],
)
def test_what_contradicts_itself_is_no_signature(make: Any) -> None:
    """Ranges, names and dtypes are checked when it is written down."""
    with pytest.raises(ConfigError):
        make()


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(
        st.builds(
            Input,
            st.from_regex(r"[a-z]{1,5}", fullmatch=True),
            st.lists(st.integers(1, 9) | st.just(BATCH) | st.just(LENGTH), max_size=3).map(tuple),
            st.sampled_from(["int64", "float32", "bool", "bfloat16"]),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one.name,
    )
)
def test_signatures_survive_json(inputs: list[Input]) -> None:
    """What is in a release is what was exported."""
    signature = Signature(tuple(inputs), ("THE_OUTPUT",))
    assert Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) == signature


def test_checking_and_running_need_no_torch() -> None:
    """Whoever serves ONNX needs NumPy and ONNX Runtime."""
    code = (
        "import sys, holdfast.export.running, holdfast.export.verifying\n"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
