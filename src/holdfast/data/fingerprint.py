"""What the order of batches depended on, and a digest of what was consumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from holdfast.digest import raw_digest
from holdfast.errors import ConfigError, FormatError


@dataclass(frozen=True, slots=True)
class OrderMismatch:
    """One way in which the order of a checkpoint is not the order of this loader."""

    field: str
    stored: object
    found: object
    consequence: str

    def __str__(self) -> str:
        return (
            f"{self.field}: the checkpoint says {self.stored!r}, this run has {self.found!r}: "
            f"{self.consequence}"
        )


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """Everything the order of batches depends on.

    dataset_length: in samples. batch_size: in samples, None if the batch sampler decides.
    sampler: the ordering algorithm. dataset: what `dataset.fingerprint()` says of the content,
    None for a dataset without that method.
    """

    dataset_length: int
    batch_size: int | None
    drop_last: bool
    seed: int
    sampler: str
    dataset: str | None = None

    def compare(self, stored: OrderFacts) -> list[OrderMismatch]:
        """Return every field that differs from `stored`, with what follows from it."""
        return [
            OrderMismatch(field.name, before, now, _CONSEQUENCES[field.name])
            for field in fields(self)
            if (before := getattr(stored, field.name)) != (now := getattr(self, field.name))
        ]


_CONSEQUENCES = {
    "dataset_length": "every epoch has another order, so this one would repeat samples and "
    "miss others",
    "batch_size": "batches are other sets of samples, and the steps of an epoch are another number",
    "drop_last": "the last batch of an epoch appears or disappears",
    "seed": "the order of samples and the randomness in the workers are others",
    "sampler": "samples come in another order",
    "dataset": "the samples behind the same numbers are others",
}


class OrderFingerprint:
    """A running digest of the sample numbers consumed in one epoch.

    It starts as 16 zero bytes; each batch makes it XXH3-128 of (digest so far, the number of
    samples and the sample numbers, each a little-endian signed 64-bit integer).
    """

    def __init__(self) -> None:
        self._digest = bytes(16)
        self.batches = 0

    def update(self, samples: Iterable[int]) -> None:
        """Take in the sample numbers of one consumed batch."""
        try:
            numbers = np.fromiter(samples, dtype="<i8")
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"The sampler yields something else than sample numbers: {error}",
                fix="use a sampler of integers from 0 to len(dataset) - 1",
            ) from error
        count = len(numbers).to_bytes(8, "little")
        self._digest = raw_digest(self._digest + count + numbers.tobytes())
        self.batches += 1

    @classmethod
    def of(cls, batches: Iterable[Iterable[int]]) -> OrderFingerprint:
        """Return the fingerprint after all of `batches`."""
        fingerprint = cls()
        for batch in batches:
            fingerprint.update(batch)
        return fingerprint

    @property
    def digest(self) -> str:
        """The digest so far, as `xxh3-128-chain:<32 hex digits>`."""
        return f"xxh3-128-chain:{self._digest.hex()}"


@dataclass(frozen=True, slots=True)
class LoaderState:
    """Where a loader stands: `position` batches of `epoch` have been consumed."""

    epoch: int
    position: int
    consumed: str
    facts: OrderFacts

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values: strings, integers and None."""
        return {
            "version": 1,
            "epoch": self.epoch,
            "position": self.position,
            "order": {**asdict(self.facts), "consumed": self.consumed},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LoaderState:
        """Read what `to_dict` returned. Raises FormatError if it is anything else."""
        try:
            if state["version"] != 1:
                raise FormatError(
                    f"The loader's state is of version {state['version']!r}; this holdfast reads 1",
                    fix="resume with the holdfast that saved it, or a newer one",
                )
            order = dict(state["order"])
            consumed = order.pop("consumed")
            position = state["position"]
            epoch = state["epoch"]
            facts = OrderFacts(**order)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"Not the state of a ResumableLoader: {error!r}") from error
        sound = isinstance(consumed, str) and all(
            isinstance(number, int) and 0 <= number < 1 << 63 for number in (epoch, position)
        )
        if not sound:
            raise FormatError(
                f"Not the state of a ResumableLoader: epoch {epoch!r}, position {position!r}, "
                f"consumed {consumed!r}"
            )
        return cls(epoch, position, consumed, facts)
