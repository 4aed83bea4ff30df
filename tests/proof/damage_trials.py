"""Every way a checkpoint's bytes can rot, and whether reading it notices. Without torch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.engine.checkpoint_files import open_files
from holdfast.errors import HoldfastError, LoadError
from holdfast.storage import MemoryRun

Files: TypeAlias = Mapping[str, bytes]
_PAGE_BYTES = 4096
_NAME = "checkpoint"


@dataclass(frozen=True, slots=True)
class Trial:
    """One damaged file: what was done to it, and its content now; None: it is gone."""

    kind: str
    file: str
    content: bytes | None


@dataclass
class Tally:
    """What was tried, and what went unnoticed or was reported without saying where."""

    tried: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


Damage: TypeAlias = Callable[[random.Random, bytes, Sequence[bytes]], "bytes | None"]


def _flipped(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    bit = chooser.randrange(8 * len(data))
    return flip(data, bit)


def _truncated(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: chooser.randrange(len(data))]


def _extended(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    count = chooser.choice([1, 2, 7, 512, _PAGE_BYTES])
    return data + (bytes(count) if chooser.random() < 0.5 else chooser.randbytes(count))


def _zeroed(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    begin = chooser.randrange(0, len(data), _PAGE_BYTES)
    end = min(begin + _PAGE_BYTES, len(data))
    return data[:begin] + bytes(end - begin) + data[end:]


def _swapped(chooser: random.Random, _: bytes, others: Sequence[bytes]) -> bytes:
    return chooser.choice(others)


def _shuffled(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Two pieces in each other's place."""
    size = chooser.randrange(1, max(2, len(data) // 3))
    first = chooser.randrange(0, len(data) - 2 * size + 1)
    second = chooser.randrange(first + size, len(data) - size + 1)
    middle = data[first + size : second]
    parts = data[second : second + size], middle, data[first : first + size]
    return data[:first] + b"".join(parts) + data[second + size :]


def _removed(_: random.Random, __: bytes, ___: Sequence[bytes]) -> None:
    return None


DAMAGES: dict[str, tuple[int, Damage]] = {
    "flipped bit": (70, _flipped),
    "truncated": (8, _truncated),
    "extended": (6, _extended),
    "zeroed page": (4, _zeroed),
    "swapped file": (4, _swapped),
    "exchanged pieces": (7, _shuffled),
    "missing file": (1, _removed),
}
"""How often in a hundred, and how."""


def flip(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def every_bit(files: Files, step: int) -> Iterator[Trial]:
    """Each `step`-th bit of each file, flipped."""
    for file, data in files.items():
        for bit in range(0, 8 * len(data), step):
            yield Trial("flipped bit", file, flip(data, bit))


def random_trials(files: Files, twin: Files, count: int, seed: int) -> Iterator[Trial]:
    """Damages of all kinds; every file is as likely. twin: another checkpoint of the same run."""
    chooser = random.Random(seed)
    names = sorted(files)
    kinds, weights = list(DAMAGES), [weight for weight, _ in DAMAGES.values()]
    for _ in range(count):
        kind, file = chooser.choices(kinds, weights)[0], chooser.choice(names)
        others = [files[name] for name in names if name != file] + [twin[file]]
        yield Trial(kind, file, DAMAGES[kind][1](chooser, files[file], others))


def judge(files: Files, trials: Iterator[Trial]) -> Tally:
    """Read and prove a copy with each damage; it must be reported, with the file's name.

    A manifest that is a whole other one makes the other files the wrong ones: then any is right.
    """
    run = MemoryRun()
    tally = Tally()
    for trial in trials:
        if trial.content == files[trial.file]:
            continue
        copy = dict(files)
        if trial.content is None:
            del copy[trial.file]
        else:
            copy[trial.file] = trial.content
        run.checkpoints[_NAME] = copy
        tally.tried[trial.kind] += 1
        found = _reported(run)
        if not found:
            tally.problems.append(f"{trial.kind} of {trial.file} went unnoticed")
        elif trial.file not in found and not (trial.kind == "swapped file" and ".json" in found):
            tally.problems.append(f"{trial.kind} of {trial.file}: not told where: {found[:200]}")
    return tally


def _reported(run: MemoryRun) -> str:
    """What reading the checkpoint says is wrong; empty if it takes every byte for good."""
    try:
        with open_files(run, _NAME) as opened:
            return "; ".join(opened.damage())
    except LoadError as error:
        return str(error)
    except HoldfastError as error:
        return f"not a load error: {error!r}"
