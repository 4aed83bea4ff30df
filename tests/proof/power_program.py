"""Programs whose system calls are recorded; each operation is acknowledged on standard output.

A power loss may take whatever was not flushed, but nothing that was acknowledged before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from proof_world import put_a_stranger

from holdfast.engine.catalog import read_manifest
from holdfast.manifest import MANIFEST_FILE, checkpoint_name, render_manifest
from holdfast.storage import LocalRun, NameTakenError

ACKNOWLEDGED = "acknowledged: "


def acknowledge(label: str) -> None:
    """Tell the world, in one write, that everything up to here is done."""
    os.write(1, f"{ACKNOWLEDGED}{label}\n".encode())


def storage_steps(run: LocalRun, model: Path) -> Iterator[str]:
    """Each promise of the storage on its own, with the files of the checkpoint `model`."""
    first, second, third = (checkpoint_name(0, step) for step in (11, 12, 13))
    _copy_through(run, model, first)
    yield "save the first"
    run.append_line("history.jsonl", b'{"global_step":11}')
    yield "append 11"
    _copy_through(run, model, second)
    yield "save the second"
    run.append_line("history.jsonl", b'{"global_step":12}')
    yield "append 12"
    with run.open(second) as opened:
        manifest = read_manifest(opened)
    changed = dataclasses.replace(manifest, metrics={"test_bleu": 27.1})
    run.replace_bytes(second, MANIFEST_FILE, render_manifest(changed))
    yield "replace"
    run.point("latest", second)
    yield "point"
    run.rename(second, third)
    yield "rename"
    put_a_stranger(run.path / first)
    yield "a stranger's file"
    run.discard(first, owned=[*manifest.files, MANIFEST_FILE])
    yield "discard"


def retry_steps(run: LocalRun, model: Path) -> Iterator[str]:
    """What follows on a process that was killed just before its last flush: the same save again."""
    with contextlib.suppress(NameTakenError):
        _copy_through(run, model, checkpoint_name(0, 11))
    yield "the save was done already"


def restart_steps(run: LocalRun, model: Path) -> Iterator[str]:
    """What follows on a process that was killed before the flushes of its first history line."""
    run.append_line("history.jsonl", b'{"global_step":12}')
    yield "append 12"
    _copy_through(run, model, checkpoint_name(0, 12))
    yield "save"


def leave_half_done(program: str, run: LocalRun, model: Path) -> None:
    """Leave what such a process leaves."""
    if program == "retry":
        _copy_through(run, model, checkpoint_name(0, 11))
    elif program == "restart":
        run.append_line("history.jsonl", b'{"global_step":11}')


def _copy_through(run: LocalRun, model: Path, name: str) -> None:
    """Save the model's files under a name and an id of their own."""
    with LocalRun(model.parent).open(model.name) as opened, run.stage(name) as staged:
        manifest = read_manifest(opened)
        for file, record in manifest.files.items():
            data = opened.read_bytes(file, record.bytes)
            staged.write_blocks(file, len(data), [data[: len(data) // 2], data[len(data) // 2 :]])
        step = int(name[-8:])
        named = dataclasses.replace(manifest, id=f"{step:032x}", global_step=step)
        staged.write_bytes(MANIFEST_FILE, render_manifest(named))
        staged.publish()


def manager_steps(run: LocalRun, model: Path, style: str = "sync") -> Iterator[str]:
    """The operations of the sequence as a training makes them, without the rotting disk."""
    from proof_sequence import BESIDE_TRAINING, OPERATIONS, STYLES, InTurn, begin, silently

    training = begin(run.path, STYLES[style])
    yield "begin"
    for label, operation in BESIDE_TRAINING if STYLES[style].goes_on else OPERATIONS:
        if label in ("a bit rots", "quarantine"):
            continue
        parts = operation.parts if isinstance(operation, InTurn) else (operation,)
        for number, part in enumerate(parts, 1):
            silently(part, training, close=number == len(parts))
            yield label if len(parts) == 1 else f"{label}, {number}"


def naive_steps(run: LocalRun, model: Path) -> Iterator[str]:
    """The usual idiom: write under a temporary name, rename, flush nothing."""
    run.path.mkdir(parents=True)
    for step in (11, 12):
        hidden = run.path / ".new"
        hidden.mkdir()
        for file in sorted(model.iterdir()):
            (hidden / file.name).write_bytes(file.read_bytes())
        os.rename(hidden, run.path / checkpoint_name(0, step))
        yield f"save {step}"


PROGRAMS: dict[str, Callable[[LocalRun, Path], Iterator[str]]] = {
    "storage": storage_steps,
    "retry": retry_steps,
    "restart": restart_steps,
    "manager": manager_steps,
    "async": functools.partial(manager_steps, style="async"),
    "naive": naive_steps,
}


def main() -> None:
    """Do the program named first, in the run folder named second."""
    program, folder, model = sys.argv[1:]
    for label in PROGRAMS[program](LocalRun(folder), Path(model)):
        acknowledge(label)


if __name__ == "__main__":
    main()
