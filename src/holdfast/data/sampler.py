"""A shuffling sampler that can be stopped anywhere and continued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from holdfast.data.order import checked_word, epoch_permutation
from holdfast.errors import ConfigError, FormatError, MismatchError

_CHUNK = 4096


class ResumableSampler(Sampler[int]):
    """Sample numbers of a sized dataset, in an order that depends only on (seed, epoch).

    dataset: anything with a length. shuffle: the permutation of `data.order.epoch_permutation`,
    or 0, 1, 2, ... without. seed: in [0, 2**64). No global random stream is read or moved.

    `epoch` and `position` (samples of this epoch that training has consumed) say where the next
    iteration starts. Drawing does not move `position`: the workers of a DataLoader draw ahead of
    what training has seen. Whoever consumes reports it: `resumable(DataLoader(...))` does, and a
    loop of one's own calls `advance(samples)` after each batch.
    """

    def __init__(self, dataset: Sized, *, shuffle: bool = True, seed: int = 0) -> None:
        self.shuffle = shuffle
        self.seed = checked_word(seed, "seed")
        self.epoch = 0
        self.position = 0
        self._dataset = dataset
        self._unreported = False
        self._lent = False
        self._drawn: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Samples in a whole epoch, wherever this one stands."""
        return len(self._dataset)

    def __iter__(self) -> Iterator[int]:
        """Yield the rest of the epoch, from `position` on."""
        self._unreported = True
        return self.draw(self.epoch, self.position)

    def draw(self, epoch: int, start: int) -> Iterator[int]:
        """Yield the samples of `epoch` from the `start`-th on; changes nothing here."""
        length = len(self)
        if not self.shuffle:
            yield from range(start, length)
            return
        order = self._order(epoch, length)
        for at in range(start, length, _CHUNK):
            yield from order[at : at + _CHUNK].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; nothing happens if this is the current one."""
        if checked_word(epoch, "epoch") != self.epoch:
            self.epoch, self.position = epoch, 0
            self._unreported = False

    def advance(self, samples: int) -> None:
        """Report that training has consumed `samples` more of this epoch's samples."""
        self.position += checked_word(samples, "samples")
        self._unreported = False

    def lend(self) -> None:
        """Leave epoch and position to the loader that draws from this sampler from now on."""
        self._lent = True

    def state_dict(self) -> dict[str, Any]:
        """Return seed, epoch, position, shuffle and the dataset's length.

        Raises ConfigError if this sampler does not know what training consumed: samples were
        drawn and none reported (a position taken from the draws would skip what the workers had
        prefetched), or a ResumableLoader draws from it and keeps the position itself.
        """
        if self._lent:
            raise ConfigError(
                "A ResumableLoader draws from this sampler and keeps the position",
                fix="register the loader instead of its sampler",
            )
        if self._unreported:
            raise ConfigError(
                "The sampler was drawn from, but nobody told it what training consumed",
                fix="iterate over resumable(dataloader) and register that, or call "
                "sampler.advance(samples) after each batch",
            )
        return {**self._facts(), "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` stands.

        Raises MismatchError, and changes nothing, if it is of another seed, order or length.
        """
        facts = self._facts()
        missing = [name for name in (*facts, "epoch", "position") if name not in state]
        if missing:
            raise FormatError(f"Not the state of a ResumableSampler: it lacks {missing}")
        problems = [
            f"{name}: the state says {state[name]!r}, this sampler has {found!r}"
            for name, found in facts.items()
            if state[name] != found
        ]
        if problems:
            raise MismatchError(
                "The state is of another order of samples",
                problems=problems,
                fix="build the sampler with the dataset, seed and shuffle of the saved run",
            )
        self.epoch = checked_word(state["epoch"], "epoch")
        self.position = checked_word(state["position"], "position")
        self._unreported = False

    def _order(self, epoch: int, length: int) -> npt.NDArray[np.int64]:
        if self._drawn is None or self._drawn[0] != epoch or len(self._drawn[1]) != length:
            self._drawn = (epoch, epoch_permutation(self.seed, epoch, length))
        return self._drawn[1]

    def _facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "shuffle": self.shuffle, "dataset_length": len(self)}
