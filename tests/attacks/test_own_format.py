"""Hostile checkpoints in our own format are refused, or loaded as what they say, harmlessly.

The rule for each: an error of holdfast's own that names the file, or a load that brings back what
was saved; within ten seconds and 512 MiB; nothing executed, nothing outside the folder opened; and
after a refusal every live object and random stream bit for bit as before. Tried through `load`,
`resume` (which walks back to the older checkpoint), `verify` and the listing. `make test` runs a
sample drawn by a fixed seed; `make soak` runs all.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attack_files
import attack_headers
import pytest
from attack_forge import (
    MANIFEST,
    STATE,
    read_manifest,
    read_state,
    replace,
    seal,
    write_manifest,
    write_plain,
    write_state,
    write_tensors,
)
from attack_leaves import ESCAPES, HOSTILE, Place, doubled, dropped, keys, leaves, renamed, replaced
from attack_session import NEWER, OLDER, save_run, session
from attack_trial import Attack, Range

from holdfast.policy import KeepLast

NOTHING: frozenset[str] = frozenset()
Case = tuple[str, Attack, frozenset[str]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    """A pristine run to attack, copied for each attack; in memory where that can be had."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(prefix="holdfast-attacked-", dir=place) as folder:
        yield Range(Path(folder))


def drawn(cases: Iterator[Case], count: int) -> list[Case]:
    """A sample by a fixed seed."""
    return random.Random(11).sample(list(cases), count)


def faults_of(target: Range, cases: list[Case]) -> list[str]:
    """What went wrong in any of the cases, each line with the name of its case."""
    found = []
    for name, attack, may_differ in cases:
        verdict = target.attempt(attack, may_differ=may_differ)
        found += [f"{name}: {fault}" for fault in verdict.faults]
    return found


def forgeable(place: Place) -> frozenset[str]:
    """The component whose state is forged by a change at this place of state.json."""
    inside = len(place) > 2 and place[0] == "components" and place[2] == "tree"
    return frozenset({str(place[1])}) - {"model", "run"} if inside else NOTHING


def manifest_leaves(target: Range) -> Iterator[Case]:
    """Every place of the manifest with every hostile value, sealed again."""
    fields = read_manifest(target.pristine / NEWER)
    for place in leaves(fields):
        for name, value in HOSTILE.items():
            attack = writer(write_manifest, partial(replaced, fields, place, value))
            yield f"{place} {name}", attack, NOTHING


def state_leaves(target: Range) -> Iterator[Case]:
    """Every place of state.json with every hostile value, all digests made right."""
    state = read_state(target.pristine / NEWER)
    for place in leaves(state):
        for name, value in HOSTILE.items():
            attack = writer(write_state, partial(replaced, state, place, value))
            yield f"{place} {name}", attack, forgeable(place)


def key_changes(target: Range) -> Iterator[Case]:
    """Every key of both documents dropped, renamed and doubled."""
    folder = target.pristine / NEWER
    fields, state = read_manifest(folder), read_state(folder)
    for place in keys(fields):
        for name, change in key_change(fields, place, ("other", ESCAPES, "../x")).items():
            yield f"{place} {name}", writer(write_manifest, change), NOTHING
        yield f"{place} doubled", text_writer(write_sealed, fields, place), NOTHING
    for place in keys(state):
        scope = forgeable(place)
        for name, change in key_change(state, place, ("other", ESCAPES, "$")).items():
            yield f"{place} {name}", writer(write_state, change), scope
        yield f"{place} doubled", text_writer(write_state_text, state, place), scope


def key_change(
    document: object, place: Place, names: tuple[str, ...]
) -> dict[str, Callable[[], object]]:
    """The document without a key, and with it called otherwise."""
    made: dict[str, Callable[[], object]] = {"dropped": partial(dropped, document, place)}
    return made | {f"renamed {n!r}": partial(renamed, document, place, n) for n in names}


def writer(write: Callable[[Path, object], None], make: Callable[[], object]) -> Attack:
    """An attack that writes one document with all that vouches for it."""
    return lambda folder: write(folder, make())


def text_writer(write: Callable[[Path, bytes], None], document: object, place: Place) -> Attack:
    """An attack that writes a document in which a key stands twice."""
    return lambda folder: write(folder, doubled(document, place))


def write_sealed(folder: Path, body: bytes) -> None:
    """Seal a manifest of this text."""
    replace(folder / MANIFEST, seal(body))


def write_state_text(folder: Path, text: bytes) -> None:
    """Write a state.json of this text with all that vouches for it."""
    write_plain(folder, STATE, text)


def test_hostile_values_in_the_manifest(target: Range) -> None:
    """A sealed manifest with a hostile value anywhere is refused or means what it says."""
    assert faults_of(target, drawn(manifest_leaves(target), 50)) == []


def test_hostile_values_in_the_state(target: Range) -> None:
    """A state.json with a hostile value anywhere, rightly digested, is refused or harmless."""
    assert faults_of(target, drawn(state_leaves(target), 100)) == []


def test_dropped_renamed_and_doubled_keys(target: Range) -> None:
    """A key that is gone, called otherwise or there twice is refused or harmless."""
    assert faults_of(target, drawn(key_changes(target), 60)) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cases", [manifest_leaves, state_leaves, key_changes])
def test_every_change_of_the_documents(
    target: Range, cases: Callable[[Range], Iterator[Case]]
) -> None:
    """Every place with every hostile value, and every key dropped, renamed and doubled."""
    assert faults_of(target, list(cases(target))) == []


@pytest.mark.parametrize(
    ("file", "slow"),
    [
        ("model.safetensors", False),
        pytest.param("model.safetensors", True, marks=pytest.mark.soak),
        pytest.param("state.safetensors", True, marks=pytest.mark.soak),
    ],
)
def test_hostile_tensor_headers(target: Range, file: str, slow: bool) -> None:
    """Every lie a safetensors header can tell is refused, with all digests made right."""
    sound = (target.pristine / NEWER / file).read_bytes()
    for name, data in attack_headers.cases(sound, slow=slow):
        verdict = target.attempt(partial(write_tensors, file=file, data=data))
        assert verdict.faults == [], name
        # A tensor that nothing in the shared file refers to is no lie.
        stranger = file == "state.safetensors" and name == "one tensor more"
        assert (verdict.outcomes["load"] == "ok") == stranger, name


def test_hostile_files(target: Range) -> None:
    """Links, fifos, folders, sockets, devices, sparse and swapped files are refused or ignored."""
    for name, attack, allowed in attack_files.cases(target):
        verdict = target.attempt(attack)
        assert verdict.faults == [], name
        assert verdict.outcomes["load"] in allowed, name


def test_a_copied_checkpoint_stops_no_save(tmp_path: Path) -> None:
    """A folder copied within the run has the id of its original; saving goes on, both stay."""
    run = tmp_path / "run"
    save_run(run)
    shutil.copytree(run / OLDER, run / "checkpoint_backup")
    live = session(run, 5)
    live.manager.resume(verbose=False)
    live.manager.retention = KeepLast(1)
    live.manager.save(3, 3, {"val_loss": 0.5, "bleu": 3.0})
    names = [info.name for info in live.manager.checkpoints()]
    # NEWER is what the session was restored from.
    assert sorted(names) == [
        "checkpoint_backup",
        OLDER,
        NEWER,
        "checkpoint_epoch0003_step00000003",
    ]
