"""Every error holdfast raises: a small paragraph of what happened, where, and what to do.

    HoldfastError
    ├── ConfigError (ValueError)              an option or argument that cannot work
    │   └── PolicyError                       a trigger, retention or ranking rule that cannot work
    ├── UnsavableError (TypeError)            a value the format cannot represent, before any write
    ├── SaveError                             a save that failed; every earlier checkpoint stands
    │   ├── NoSpaceError                      refused before writing, or the disk filled up
    │   ├── TornSnapshotError                 tensors changed while they were being copied
    │   └── WaitTimeoutError (TimeoutError)   not done in the time given; it goes on
    ├── LoadError                             a load that failed
    │   ├── FormatError (ValueError)          not holdfast's, or against the format's rules
    │   │   └── NewerFormatError              written by a newer holdfast, and perhaps sound
    │   ├── DamagedError                      bytes are missing or differ from what was committed
    │   ├── MismatchError                     sound checkpoint, but not of these objects
    │   └── InterruptedLoadError              failed while live tensors were being written
    ├── CheckpointNotFoundError (FileNotFoundError)   no such checkpoint
    │   └── NothingToResumeError              no usable checkpoint in the run folder
    ├── LockedError                           another live process writes this run folder
    ├── AverageError (RuntimeError)           an average of weights used so that it would mislead
    ├── ExportError                           an export that failed; nothing has its final name
    │   └── GateError                         an artifact that differs from the model, with the list
    ├── InputError (ValueError)               an input that an exported model was not made for
    └── DecodingError (ValueError)            no sequence can be decoded from this
    ├── RankFailedError                       another rank failed, ended, or did not answer
    └── AverageError (RuntimeError)           an average of weights used so that it would mislead

Callers who know the built-in family in brackets may catch that instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence


class HoldfastError(Exception):
    """Base of all holdfast errors.

    what: one sentence saying what happened. where: the place (file, FQN, rank, step), shown in
    brackets. fix: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        remedy = f"\n  What to do: {self.fix}" if self.fix else ""
        lines = f"{self.what}{place}{remedy}".split("\n")
        return "\n".join(map(printable, lines))


class ConfigError(HoldfastError, ValueError):
    """An option or argument that cannot work."""


class PolicyError(ConfigError):
    """A trigger, retention or ranking rule that cannot work on what it was given."""


class UnsavableError(HoldfastError, TypeError):
    """A value the format cannot represent. Raised before anything is written."""


class SaveError(HoldfastError):
    """A save failed. Every earlier checkpoint stands and nothing half-made is visible."""


class NoSpaceError(SaveError):
    """Not enough room: `needed_bytes` were wanted, `available_bytes` were free."""

    def __init__(
        self,
        what: str,
        *,
        needed_bytes: int,
        available_bytes: int,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        super().__init__(what, where=where, fix=fix)


class TornSnapshotError(SaveError):
    """Tensors changed while they were copied beside training; `names` are theirs."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        shown = ", ".join(self.names[:3])
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        super().__init__(
            f"Nothing was committed: {shown}{more} changed while being copied, outside of an "
            "optimizer step that holdfast could delay",
            fix="nothing for the next saves, which copy before they return; to say so from the "
            "start use async_overlap=False, and do not edit weights between save() and the step",
        )


class WaitTimeoutError(SaveError, TimeoutError):
    """A save was still pending after the time given; it goes on."""


class LoadError(HoldfastError):
    """A load failed. Unless the subclass says otherwise, no live object was changed."""


class FormatError(LoadError, ValueError):
    """Not a holdfast file, or one that breaks a rule of the format."""


class NewerFormatError(FormatError):
    """A checkpoint of a format version this holdfast does not know: nothing says it is damaged."""


class DamagedError(LoadError):
    """A committed checkpoint lacks bytes, or holds other bytes than were committed."""


class MismatchError(LoadError):
    """The checkpoint is sound but does not fit the objects given; `problems` lists every reason."""

    def __init__(
        self,
        what: str,
        *,
        problems: Sequence[object] = (),
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problems = tuple(problems)
        listing = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{what}{listing}", where=where, fix=fix)


class InterruptedLoadError(LoadError):
    """Reading failed after live tensors had begun to change: load again before going on."""


class CheckpointNotFoundError(HoldfastError, FileNotFoundError):
    """No checkpoint answers to this path or reference."""


class NothingToResumeError(CheckpointNotFoundError):
    """The run folder holds no usable checkpoint and a fresh start was not allowed."""


class LockedError(HoldfastError):
    """Another live process is the writer of this run folder."""


class RankFailedError(HoldfastError):
    """What all ranks do together failed because of `rank`, for `reason`.

    Saves and loads raise it as the cause of a SaveError or LoadError.
    """

    def __init__(
        self,
        what: str,
        *,
        rank: int,
        reason: str,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.rank = rank
        self.reason = reason
        super().__init__(what, where=where, fix=fix)


class AverageError(HoldfastError, RuntimeError):
    """An average of weights used in a way that would lose weights or mislead; nothing changed."""


class ExportError(HoldfastError):
    """An export failed. Nothing got its final name."""


class GateError(ExportError):
    """What was written does not do what the model does; `problems` lists every difference."""

    def __init__(
        self,
        what: str,
        *,
        problems: Sequence[str] = (),
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problems = tuple(problems)
        listing = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{what}{listing}", where=where, fix=fix)


class InputError(HoldfastError, ValueError):
    """An input that an exported model was not made for; it was not run."""


class DecodingError(HoldfastError, ValueError):
    """A sequence cannot be decoded: unusable input, limits or probabilities. None was returned."""


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Put `place` before what load errors raised inside say of where, if they do not name it.

    Parts of a checkpoint are checked by code that knows their names only, not whose they are.
    """
    try:
        yield
    except LoadError as error:
        if place not in (error.where or ""):
            error.where = f"{place}: {error.where}" if error.where else place
        raise


def printable(text: str) -> str:
    """The text with control characters escaped: a checkpoint must not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class HoldfastWarning(UserWarning):
    """Something worth a look that did not stop the run."""
