"""Whatever happens to a committed checkpoint's bytes is noticed, and told where."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from damage_trials import Files, Tally, Trial, every_bit, judge, random_trials
from proof_ground import Tell
from proof_sequence import begin, new_training

from holdfast.errors import LoadError
from holdfast.manifest import checkpoint_name


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a checkpoint."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def twins(ground: Path) -> tuple[Files, Files]:
    """Two checkpoints of one run."""
    begin(ground / "run")
    first, second = (files_of(ground / "run" / checkpoint_name(0, step)) for step in (2, 3))
    return first, second


def show(tally: Tally, tell: Tell) -> None:
    """Tell the figures; everything must have been noticed."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.tried.most_common())
    wrong = len(tally.problems)
    tell(f"damage: {tally.tried.total()} trials, {wrong} unnoticed or misplaced ({kinds})")
    assert not tally.problems, "\n".join(tally.problems[:20])


def test_a_sample_of_damage_is_noticed(twins: tuple[Files, Files], tell: Tell) -> None:
    """Flipped bits, cuts, extensions, zeroed pages, swapped, exchanged and missing parts."""
    show(judge(twins[0], random_trials(*twins, 3000, seed=1)), tell)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_all_damage_is_noticed(twins: tuple[Files, Files], tell: Tell, seed: int) -> None:
    """The same, fifty thousand times over."""
    show(judge(twins[0], random_trials(*twins, 15_000, seed=seed)), tell)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_flipped_bit_is_noticed(twins: tuple[Files, Files], tell: Tell) -> None:
    """Every single bit of every file of a small checkpoint."""
    show(judge(twins[0], every_bit(twins[0], step=1)), tell)


def load_damaged(ground: Path, count: int, tell: Tell) -> None:
    """Load damaged folders into live objects: refused, or bit-identical; nothing half-loaded."""
    folder = ground / "run"
    begin(folder)
    victim = folder / checkpoint_name(0, 2)
    files, twin = files_of(victim), files_of(folder / checkpoint_name(0, 3))
    training = new_training(folder)
    before, problems, refused = training.state(), [], 0
    for trial in random_trials(files, twin, count, seed=7):
        if trial.content == files[trial.file]:
            continue
        _apply(trial, victim)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                training.manager.load(victim)
        except LoadError as error:
            refused += 1
            if trial.file not in str(error) and trial.kind != "swapped file":
                problems.append(f"{trial.kind} of {trial.file}: not told where: {error}")
        else:
            # The copy of the configuration for other tools takes no part in restoring.
            if trial.file != "config.json":
                problems.append(f"{trial.kind} of {trial.file} was loaded")
        if training.state() != before:
            problems.append(f"{trial.kind} of {trial.file}: live state changed")
        shutil.rmtree(victim)
        victim.mkdir()
        for name, data in files.items():
            (victim / name).write_bytes(data)
    tell(f"damage, loading: {count} damaged folders, {refused} refused, {len(problems)} problems")
    assert not problems, "\n".join(problems[:20])


def _apply(trial: Trial, folder: Path) -> None:
    if trial.content is None:
        (folder / trial.file).unlink()
    else:
        (folder / trial.file).write_bytes(trial.content)


def test_a_damaged_checkpoint_never_reaches_live_objects(ground: Path, tell: Tell) -> None:
    """A load of damaged bytes raises, names the file, and leaves everything as it was."""
    load_damaged(ground, 200, tell)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_damaged_checkpoints_never_reach_live_objects(ground: Path, tell: Tell) -> None:
    """The same, thousands of times."""
    load_damaged(ground, 5000, tell)
