"""Digests: known answers, pieces, parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.digest import Hasher, combine, digest_bytes, raw_digest

EMPTY = "99aa06d3014798d86001c324468d497f"


def test_the_digest_is_xxh3_128_in_canonical_form() -> None:
    """The digest of nothing is the published one, high half first."""
    assert digest_bytes(b"") == f"xxh3-128:{EMPTY}"
    assert raw_digest(b"") == bytes.fromhex(EMPTY)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.binary(max_size=600)))
def test_pieces_hash_like_the_whole(pieces: list[bytes]) -> None:
    """A hasher fed in pieces agrees with the digest of the pieces joined."""
    hasher = Hasher()
    for piece in pieces:
        hasher.update(piece)
    whole = b"".join(pieces)
    assert hasher.text() == digest_bytes(whole)
    assert hasher.raw() == raw_digest(whole)
    assert hasher.raw().hex() == hasher.text().removeprefix("xxh3-128:")


def test_reading_a_digest_does_not_end_the_hashing() -> None:
    """More pieces may follow after the digest so far was read."""
    hasher = Hasher()
    hasher.update(b"ab")
    assert hasher.text() == digest_bytes(b"ab")
    hasher.update(b"c")
    assert hasher.text() == digest_bytes(b"abc")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data)])
def test_any_contiguous_buffer_is_hashed_by_its_bytes(kind: type) -> None:
    """The kind of buffer does not matter, only its bytes do."""
    data = bytes(range(64))
    assert raw_digest(kind(data)) == raw_digest(data)


def test_parts_are_combined_by_the_digest_of_their_digests() -> None:
    """A file hashed in parts has the digest of its raw digests joined, under its own prefix."""
    parts = [raw_digest(b"header"), raw_digest(b"tensor")]
    joined = digest_bytes(b"".join(parts)).removeprefix("xxh3-128:")
    assert combine(iter(parts)) == f"xxh3-128-parts:{joined}"
    assert combine(reversed(parts)) != combine(parts)
    assert combine([]) == f"xxh3-128-parts:{EMPTY}"


@pytest.mark.parametrize("part", [b"", b"x" * 15, b"x" * 32, EMPTY.encode()])
def test_a_part_that_is_no_raw_digest_is_refused(part: bytes) -> None:
    """Parts that are not 16 bytes long cannot be told apart once joined."""
    with pytest.raises(ValueError, match="16 bytes"):
        combine([raw_digest(b""), part])
