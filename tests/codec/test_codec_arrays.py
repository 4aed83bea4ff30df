"""numpy arrays: inline when small, stored as tensors when not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codec_values import crossed, fingerprint

from holdfast.codec import INLINE_MAX_BYTES, Codec
from holdfast.errors import FormatError, UnsavableError

CODEC = Codec.standard()
ELEMENTS = 4000


class TensorStore:
    """Stands for the state package: takes arrays under their place, gives them back by name."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def refer(self, value: object, path: str) -> str:
        """Take `value` in as a tensor library would: plain numbers in C order, no copy needed."""
        assert isinstance(value, np.ndarray)
        assert value.flags.c_contiguous
        assert value.flags.writeable
        assert value.dtype.isnative
        assert value.dtype.kind in "biufc"
        self.held[path] = value.copy()
        return path

    def resolve(self, name: str, path: str) -> object:
        """Give the array back."""
        assert name == path
        return self.held[name]


def test_an_array_of_the_limit_is_inline_and_a_larger_one_is_referred() -> None:
    """INLINE_MAX_BYTES is the largest array kept in the JSON text."""
    store = TensorStore()
    value = {"small": np.zeros(INLINE_MAX_BYTES, np.uint8), "big": np.zeros((2, 9999), np.uint8)}
    tree: Any = CODEC.encode(value, where="loader", refer=store.refer)
    assert list(store.held) == ["loader.big"]
    assert type(tree["small"]["v"]["data"]) is str
    assert tree["big"]["v"]["data"] == {"$": "tensor", "v": "loader.big"}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(ELEMENTS, dtype="<f8"),
        np.arange(ELEMENTS, dtype=">f8"),
        np.arange(ELEMENTS, dtype="c16")[::-1],
        np.arange(ELEMENTS).view("M8[s]"),
        np.arange(ELEMENTS).astype("m8[ns]").astype(">m8[ns]"),
        np.arange(ELEMENTS).astype("U6"),
        np.arange(ELEMENTS).astype(">U6"),
        np.arange(ELEMENTS).astype("S6"),
        np.arange(ELEMENTS * 8).reshape(80, -1) % 3 == 0,
        np.asfortranarray(np.arange(ELEMENTS * 8, dtype="u2").reshape(80, -1)),
        np.asfortranarray(np.arange(ELEMENTS, dtype=">u8").reshape(80, -1)),
        np.asfortranarray(np.arange(ELEMENTS * 8).reshape(80, -1) % 3 == 0),
        np.broadcast_to(np.arange(3.0), (ELEMENTS, 3)),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_a_referred_array_comes_back_exactly(array: Any) -> None:
    """Whatever its dtype, byte order and layout, the store sees plain numbers only."""
    assert array.nbytes > INLINE_MAX_BYTES
    store = TensorStore()
    back = crossed(array, refer=store.refer, resolve=store.resolve)
    assert fingerprint(back) == fingerprint(array)
    assert back.flags.writeable


def test_loaded_arrays_can_be_written_to() -> None:
    """An inline array comes back with memory of its own."""
    back = crossed(np.arange(3))
    back += 1
    assert back.tolist() == [1, 2, 3]


def test_an_array_viewed_as_bool_comes_back_with_proper_truth_values() -> None:
    """Trues that are not stored as 1 compare equal and are stored as 1."""
    odd = np.array([0, 2, 255], np.uint8).view(bool)
    assert crossed(odd).view(np.uint8).tolist() == [0, 1, 1]


def test_a_stand_in_for_a_tensor_stands_for_the_array_too() -> None:
    """A tree can be decoded before any tensor is read, with names in place of tensors."""
    big = np.zeros(99_999)
    tree = CODEC.encode([big], where="value", refer=lambda _, path: path)
    assert CODEC.decode(tree, where="value", resolve=lambda name, _: ("stored", name)) == [
        ("stored", "value[0]")
    ]


@pytest.mark.parametrize("refer", [None, lambda value, path: None])
def test_a_large_array_nobody_takes_is_refused(refer: Any) -> None:
    """Without a place for tensors a large array is not written into the text."""
    with pytest.raises(UnsavableError, match=r"value\[1\]"):
        CODEC.encode([0, np.zeros(99_999)], where="value", refer=refer)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([object()]), "of objects"),
        (np.array([1, "a"], dtype=object), "of objects"),
        (np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]), "structured dtype"),
        (np.zeros(2, dtype="V4"), "structured dtype"),
        (np.zeros(2, np.longdouble), np.dtype(np.longdouble).name),
        (np.zeros(2, np.clongdouble), np.dtype(np.clongdouble).name),
        (np.zeros(2).view(np.recarray), "numpy.asarray"),
        (np.ma.masked_array([1, 2]), "numpy.asarray"),
    ],
    ids=["objects", "mixed", "structured", "void", "longdouble", "clongdouble", "rec", "masked"],
)
def test_arrays_that_do_not_cross_are_refused_by_name(array: Any, said: str) -> None:
    """What other readers could not know, or what would come back as something else, is named."""
    with pytest.raises(UnsavableError, match=r"value\.buffer") as caught:
        CODEC.encode({"buffer": array}, where="value")
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", [np.longdouble, np.clongdouble])
def test_numpy_scalars_that_do_not_cross_are_refused_by_name(kind: Any) -> None:
    """Extended precision differs between machines."""
    with pytest.raises(UnsavableError, match=r"longdouble|float128|complex256|float96"):
        CODEC.encode(kind(1), where="value")


def _array(**changes: object) -> Any:
    payload = {"dtype": "<i2", "shape": [2], "order": "C", "data": "AQACAA==", **changes}
    return {"$": "ndarray", "v": {key: item for key, item in payload.items() if item != "absent"}}


def test_the_hostile_arrays_below_differ_from_a_sound_one() -> None:
    """The array they are made from is read."""
    decoded: Any = CODEC.decode(_array(), where="value")
    assert decoded.tolist() == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": dtype}
        for dtype in (
            "O|", "|O", "|O8", "V4", "<f16", "<c32", "i2", "<i2,<i2", "(2,)<i2", "int16", "",
            "<U0", "|S0", "<U999999999", "<U9999999999", "<M8[x]", "<M8[0s]", "<M8[1s/2]", "<M8",
            "<i2\n", "<i२", 3, None, ["<i2"], {"a": 1},
        )
    ]
    + [
        {"shape": shape}
        for shape in (
            [3], [], [1], [2, 2], [-2], [-1, -2], [2.0], ["2"], [True, 2], [None], 2, None, "2",
            [2, 0], [1 << 52, 1 << 52], [0, 1 << 53], [0] * 65, [1 << 62], [[2]], [2] + [1] * 64,
        )
    ]
    + [{"order": order} for order in ("K", "A", "", None, 1, ["C"])]
    + [
        {"data": data}
        for data in (
            "", "AQAC", "AQACAA", "AQACAA=", "AQACAA==\n", " AQACAA==", "AQACAB==", "AQAC*AA==",
            "é", 3, None, ["AQACAA=="], {"v": "x"}, {"$": "dict", "v": []},
        )
    ]
    + [{"extra": 1}, {"data": "absent"}, {"dtype": "absent"}, {"order": "absent"}],
    ids=repr,
)  # fmt: skip
def test_arrays_that_lie_are_refused(changes: dict[str, object]) -> None:
    """Dtype, shape, order and data are checked against each other before memory is taken."""
    with pytest.raises(FormatError, match="value"):
        CODEC.decode(_array(**changes), where="value")


@pytest.mark.parametrize(
    ("dtype", "data"), [("|b1", "Ag=="), ("<U1", "AAARAA=="), (">U1", "/////w==")]
)
def test_bytes_that_are_no_value_of_their_dtype_are_refused(dtype: str, data: str) -> None:
    """A truth value of 2 or a character beyond Unicode would fail later, far from here."""
    with pytest.raises(FormatError, match="no value of its dtype"):
        CODEC.decode(_array(dtype=dtype, shape=[1], data=data), where="value")


@pytest.mark.parametrize(
    "found",
    [
        np.zeros(3, "<i2"),
        np.zeros(2, "<i4"),
        np.zeros(5, "u1"),
        np.zeros((2, 2), "u1"),
        np.int16(1),
    ],
    ids=repr,
)
def test_a_stored_array_of_another_kind_is_refused(found: Any) -> None:
    """The tensor that an array refers to must have its dtype and shape."""
    tree: Any = _array(data={"$": "tensor", "v": "name"})
    with pytest.raises(FormatError, match="the tensor it refers to"):
        CODEC.decode(tree, where="value", resolve=lambda name, path: found)
