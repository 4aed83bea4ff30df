"""No legal loss of what was not flushed takes anything that was acknowledged.

Programs are recorded call by call; then the power is cut after each call, and every loss that the
strict POSIX model or the model of journaling file systems allows is played and judged.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from power_models import crashes, lay_out
from power_program import leave_half_done
from power_trace import AckOp, Found, NameOp, Record, SyncOp, record_program
from power_verdict import MODELS, PowerGate, Verdicts
from proof_aftermath import aftermath
from proof_ground import Tell
from proof_sequence import STYLES, begin

from holdfast.manifest import checkpoint_name
from holdfast.storage import LocalRun

RUN = "runs/one"
PROGRAMS = ["storage", "retry", "restart"]
MANAGERS = {"sync": "manager", "async": "async"}


@pytest.fixture
def model(ground: Path) -> Path:
    """A checkpoint whose files the programs save again."""
    begin(ground / "model")
    return ground / "model" / checkpoint_name(0, 1)


def recorded(program: str, ground: Path, model: Path) -> Record:
    """What a program of power_program.py does, in a new folder."""
    root = ground / "root"
    root.mkdir()
    leave_half_done(program, LocalRun(root / RUN), model)
    found = Found(
        {
            str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
            for path in root.rglob("*")
        },
        durable=f"{RUN}/{checkpoint_name(0, 11)}",
    )
    record = record_program(program, root / RUN, model, root=root, log=ground / "log", found=found)
    assert record.unseen == [], "calls whose effect the record lacks"
    assert any(isinstance(op, AckOp) for op in record.ops)
    return record


def figures(program: str, verdicts: Verdicts) -> str:
    """One line of figures."""
    parts = [f"{verdicts.losing[m]} of {verdicts.states[m]} lost ({m})" for m in MODELS]
    return f"power loss, {program}: " + ", ".join(parts)


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_acknowledged_is_lost(program: str, ground: Path, model: Path, tell: Tell) -> None:
    """Committed checkpoints, late metrics, history lines, pointers and users' files survive."""
    record = recorded(program, ground, model)
    verdicts = PowerGate(record, RUN).run(record.ops, most=32)
    tell(figures(program, verdicts))
    assert all(verdicts.states[model] > 0 for model in MODELS)
    assert verdicts.problems == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("program", [*PROGRAMS, "manager", "async"])
def test_nothing_acknowledged_is_lost_in_thousands_of_states(
    program: str, ground: Path, model: Path, tell: Tell
) -> None:
    """The same with every combination of losses up to thousands at each instant."""
    record = recorded(program, ground, model)
    verdicts = PowerGate(record, RUN).run(record.ops, most=4096 if program in PROGRAMS else 512)
    tell(figures(program, verdicts))
    assert verdicts.problems == []


def go_on_after_crashes(
    record: Record, style: str, ground: Path, tell: Tell, *, most: int | None
) -> None:
    """Lay out crash states as real files, `most` of them evenly, resume there, save and sweep."""
    problems: list[str] = []
    states = [crash for model in MODELS for crash in crashes(record, record.ops, model, most=8)]
    chosen = states if most is None else states[:: max(1, len(states) // most)]
    for crash in chosen:
        disk = ground / "disk"
        disk.mkdir()
        lay_out(crash.tree, disk)
        problems += aftermath(disk / RUN, STYLES[style])
        shutil.rmtree(disk)
    tell(
        f"power loss, {style}, going on: {len(problems)} problems after resuming from "
        f"{len(chosen)} states"
    )
    assert problems == []


@pytest.mark.parametrize(("style", "most"), [("sync", 8), ("async", 2)])
def test_training_survives_a_power_loss(
    style: str, most: int, ground: Path, model: Path, tell: Tell
) -> None:
    """A training loses nothing, and resumes from, saves to and sweeps what a crash leaves."""
    program = MANAGERS[style]
    record = recorded(program, ground, model)
    verdicts = PowerGate(record, RUN).run(record.ops, most=most)
    tell(figures(program, verdicts))
    assert verdicts.problems == []
    go_on_after_crashes(record, style, ground, tell, most=25)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", STYLES)
def test_training_goes_on_after_every_power_loss(
    style: str, ground: Path, model: Path, tell: Tell
) -> None:
    """The same from every state."""
    go_on_after_crashes(recorded(MANAGERS[style], ground, model), style, ground, tell, most=None)


def test_a_rename_without_flushes_is_found_out(ground: Path, model: Path, tell: Tell) -> None:
    """The gate can fail: the usual idiom loses acknowledged checkpoints under both models."""
    record = recorded("naive", ground, model)
    verdicts = PowerGate(record, RUN).run(record.ops, most=32)
    tell(figures("renaming without a flush", verdicts))
    assert all(verdicts.losing[model] > 0 for model in MODELS)


def is_of_use(record: Record, index: int) -> bool:
    """Whether the flush at `index` has anything to make durable that anybody will see.

    Not before the first change (except after a process that was killed: there it is the program
    `restart` that needs it), nor in a hidden folder that was given up.
    """
    op = record.ops[index]
    assert isinstance(op, SyncOp)
    if not any(isinstance(earlier, NameOp) for earlier in record.ops[:index]):
        return False
    changes = [op for op in record.ops if isinstance(op, NameOp)]
    arrived = {change.changes[-1][2] for change in changes if change.call == "rename"}
    home = {change.changes[0][2]: change.changes[0][0] for change in changes}
    return "/.holdfast-" not in op.path or bool({op.node, home.get(op.node)} & arrived)


def test_without_any_one_flush_the_gate_fails(ground: Path, model: Path, tell: Tell) -> None:
    """Mutation: of all flushes of the protocol each is needed, and its absence is found out."""
    removed, unnoticed = 0, []
    for program in PROGRAMS:
        record = recorded(program, ground, model)
        shutil.rmtree(ground / "root")
        gate = PowerGate(record, RUN)
        for index, op in enumerate(record.ops[record.found :], record.found):
            if isinstance(op, SyncOp) and is_of_use(record, index):
                removed += 1
                mutation = [*record.ops[:index], *record.ops[index + 1 :]]
                if not gate.run(mutation, most=32, until_first=True).problems:
                    unnoticed.append(f"{program}: operation {index}, {op.path}")
    tell(f"power loss, mutation: {removed - len(unnoticed)} of {removed} missing flushes noticed")
    assert removed > 30
    assert unnoticed == []
