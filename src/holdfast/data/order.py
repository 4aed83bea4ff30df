"""Everything random about batch order, derived from (seed, epoch) and nothing else.

The algorithms are part of what a checkpoint relies on, so they use only what numpy promises never
to change (the raw stream of the Philox4x64-10 bit generator, NEP 19) and XXH3-128, never
`Generator.permutation` or `random.shuffle`, whose streams may change between releases.

Permutation: draw one 64-bit word per sample from Philox with key (seed, epoch) and counter 0, and
sort the sample numbers by their word, ties by sample number. Philox: Salmon et al., "Parallel
Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from holdfast.digest import raw_digest
from holdfast.errors import ConfigError

_WORD = 1 << 64


def epoch_permutation(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0..length-1 in the shuffled order of one epoch; int64, shape (length,)."""
    if length == 0:
        return np.empty(0, np.int64)
    philox = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.argsort(philox.random_raw(length), kind="stable").astype(np.int64, copy=False)


def worker_seed(seed: int, epoch: int) -> int:
    """Return the 63-bit `base_seed` the workers started for this epoch get."""
    return int.from_bytes(_derive(b"workers", seed, epoch, 0)[:8], "little") >> 1


def batch_seed(seed: int, epoch: int, batch: int) -> bytes:
    """Return the 16 bytes that seed whatever is random in making one batch of one epoch."""
    return _derive(b"batch", seed, epoch, batch)


def checked_word(value: object, name: str) -> int:
    """Return `value` if it is an integer in [0, 2**64). Raises ConfigError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _WORD:
        raise ConfigError(
            f"{name} must be an integer from 0 to 2**64 - 1, found {value!r}",
            fix=f"give a non-negative integer {name}",
        )
    return value


def _derive(purpose: bytes, seed: int, epoch: int, batch: int) -> bytes:
    return raw_digest(b"holdfast." + purpose + struct.pack("<QQQ", seed, epoch, batch))
