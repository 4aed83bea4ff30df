"""The demo's vocabulary, which servers need without the rest: `holdfast.decoding.pieces`."""

from holdfast.decoding.pieces import (
    BOS,
    EOS,
    PAD,
    REPLACEMENT,
    SPECIAL,
    UNKNOWN,
    Vocabulary,
    join,
    tokenize,
)

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "REPLACEMENT",
    "SPECIAL",
    "UNKNOWN",
    "Vocabulary",
    "join",
    "tokenize",
]
