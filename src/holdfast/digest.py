"""XXH3-128 digests: how holdfast recognises bytes it has seen before.

XXH3 (https://github.com/Cyan4973/xxHash, canonical big-endian form) finds damage, not forgery:
it is no protection against somebody who may rewrite both the data and its digest.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash
from typing_extensions import Buffer

DIGEST_BYTES = 16
PREFIX = "xxh3-128:"
PARTS_PREFIX = "xxh3-128-parts:"


def raw_digest(data: Buffer) -> bytes:
    """The 16 bytes of the digest of `data`, any contiguous buffer; releases the GIL if large."""
    return xxhash.xxh3_128_digest(data)


def digest_bytes(data: Buffer) -> str:
    """The digest of `data`, any contiguous buffer, as "xxh3-128:<32 hex digits>"."""
    return PREFIX + xxhash.xxh3_128_hexdigest(data)


def combine(parts: Iterable[bytes]) -> str:
    """The digest of something hashed in parts, as "xxh3-128-parts:<32 hex digits>".

    parts: the raw digest (16 bytes) of each part, in order. The result is the digest of their
    concatenation, so the parts may be hashed in parallel and each byte is hashed once.
    Raises ValueError if a part is not 16 bytes long.
    """
    whole = bytearray()
    for part in parts:
        if len(part) != DIGEST_BYTES:
            raise ValueError(f"a raw digest has {DIGEST_BYTES} bytes, not {len(part)}")
        whole += part
    return PARTS_PREFIX + xxhash.xxh3_128_hexdigest(whole)


class Hasher:
    """The digest of data that arrives in pieces; equal to that of the pieces joined."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = xxhash.xxh3_128()

    def update(self, data: Buffer) -> None:
        """Take in the next piece, any contiguous buffer."""
        self._state.update(data)

    def raw(self) -> bytes:
        """The 16 bytes of the digest of all pieces so far; more may follow."""
        return self._state.digest()

    def text(self) -> str:
        """The digest of all pieces so far as "xxh3-128:<32 hex digits>"; more may follow."""
        return PREFIX + self._state.hexdigest()
