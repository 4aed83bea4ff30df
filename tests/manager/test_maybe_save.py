"""When `maybe_save` saves, what it says of its reasons, and what survives a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import FakeClock, new_manager, new_session

from holdfast import (
    AtExit,
    EarlyStopper,
    EarlyStopping,
    EveryEpochs,
    EverySeconds,
    EverySteps,
    Measurement,
    WhenBelow,
    WhenImproves,
)
from holdfast.errors import ConfigError


def saved_steps(manager: Any) -> list[int]:
    """The global steps of all checkpoints."""
    return [info.global_step for info in manager.checkpoints()]


def test_it_saves_when_a_trigger_is_due_and_says_why(tmp_path: Path) -> None:
    """The reason stands in the manifest; a refusal has its reason too."""
    manager = new_manager(tmp_path, new_session(), triggers=EverySteps(10))
    assert manager.maybe_save(0, 9) is None
    assert manager.last_decision is not None
    assert manager.last_decision.reason.text == "the next multiple is step 10"
    path = manager.maybe_save(0, 10)
    assert path is not None
    reason = json.loads((path / "manifest.json").read_text())["reason"]
    assert reason == {"kind": "every_steps", "text": "step 10 was reached (every 10 steps)"}
    assert manager.maybe_save(0, 10) is None


def test_without_triggers_it_is_an_error(tmp_path: Path) -> None:
    """A manager that would never save says so at the first question."""
    manager = new_manager(tmp_path, new_session())
    with pytest.raises(ConfigError, match="triggers"):
        manager.maybe_save(0, 1)


def test_trigger_state_survives_a_resume(tmp_path: Path) -> None:
    """Periods, thresholds and bests go on from the checkpoint, not from the new process."""
    clock = FakeClock()
    triggers = EverySeconds(100) | WhenBelow("val_loss", [2.0, 1.0]) | WhenImproves("b", "max")
    first = new_manager(tmp_path, new_session(), triggers=triggers, clock=clock)
    assert first.maybe_save(0, 1, {"val_loss": 1.5, "b": 10.0}) is not None
    clock.now += 60
    second = new_manager(tmp_path, new_session(1), triggers=triggers, clock=clock)
    second.resume(verbose=False)
    assert second.maybe_save(0, 2, {"val_loss": 1.4, "b": 9.0}) is None
    clock.now += 60
    assert second.maybe_save(0, 3) is not None
    assert second.maybe_save(0, 4, {"val_loss": 0.9}) is not None
    assert second.checkpoints()[-1].reason.kind == "when_below"


def test_any_save_counts_for_the_triggers(tmp_path: Path) -> None:
    """`save` answers for the multiple it falls on."""
    manager = new_manager(tmp_path, new_session(), triggers=EverySteps(10))
    manager.save(0, 10, {})
    assert manager.maybe_save(0, 11) is None
    assert manager.maybe_save(0, 20) is not None


def test_a_stale_metric_is_not_ranked_as_fresh(tmp_path: Path) -> None:
    """A value measured at another step neither triggers nor scores a save of this one."""
    triggers = EverySteps(10) | WhenBelow("val_loss", [2.0])
    manager = new_manager(tmp_path, new_session(), triggers=triggers)
    assert manager.maybe_save(0, 10, {"val_loss": 5.0, "n": 1.0}) is not None
    assert manager.maybe_save(0, 11, {"val_loss": Measurement(1.0, step=10)}) is None
    assert manager.last_decision is not None
    assert "measured at step 10, not at 11" in manager.last_decision.reason.text
    assert manager.maybe_save(0, 20) is not None
    assert [dict(info.metrics) for info in manager.checkpoints()] == [
        {"val_loss": 5.0, "n": 1.0},
        {},
    ]
    assert manager.get_best_checkpoint() == tmp_path / "checkpoint_epoch0000_step00000010"


def test_a_metric_of_this_very_step_counts_whichever_call_brought_it(tmp_path: Path) -> None:
    """Evaluating and saving may be two calls at the same step."""
    manager = new_manager(tmp_path, new_session(), triggers=EveryEpochs(1))
    assert manager.maybe_save(0, 10, {"val_loss": 3.0}) is None
    assert manager.maybe_save(0, 10, end_of_epoch=True) is not None
    assert dict(manager.checkpoints()[0].metrics) == {"val_loss": 3.0}


def test_the_end_of_an_epoch_is_said_by_the_loop(tmp_path: Path) -> None:
    """EveryEpochs saves at the end of each epoch, once."""
    manager = new_manager(tmp_path, new_session(), triggers=EveryEpochs(1))
    for epoch in range(2):
        for step in range(3 * epoch + 1, 3 * epoch + 4):
            manager.maybe_save(epoch, step, end_of_epoch=step % 3 == 0)
    assert saved_steps(manager) == [3, 6]


def test_save_best_only_still_serves_requests(tmp_path: Path) -> None:
    """Periodic saves need an improvement; what is asked for from outside does not."""
    clock = FakeClock()
    manager = new_manager(
        tmp_path, new_session(), triggers=EverySteps(1), save_best_only=True, clock=clock
    )
    assert manager.maybe_save(0, 1, {"val_loss": 2.0}) is not None
    assert manager.maybe_save(0, 2, {"val_loss": 3.0}) is None
    (tmp_path / "save-now").touch()
    clock.now += 2
    assert manager.maybe_save(0, 3, {"val_loss": 3.0}) is not None
    assert manager.checkpoints()[-1].reason.text == "requested by the file save-now"
    assert not (tmp_path / "save-now").exists()


def test_metrics_that_are_not_saved_stand_in_the_history(tmp_path: Path) -> None:
    """Every record reaches history.jsonl; tracked ones also every later checkpoint."""
    manager = new_manager(tmp_path, new_session(), triggers=EverySteps(10))
    manager.maybe_save(0, 1, {"val_loss": 3.0})
    manager.maybe_save(0, 2, {"train_loss": 4.0})
    manager.maybe_save(0, 10, {"train_loss": 2.0})
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["global_step"] for line in lines] == [1, 2, 10]
    history = manager.load()["metrics_history"]
    assert [record["global_step"] for record in history] == [1, 10]


def test_at_exit_saves_the_last_state_once(tmp_path: Path) -> None:
    """Leaving the manager saves what is not saved yet, under the step the optimizer reached."""
    session = new_session()
    with new_manager(tmp_path, session, triggers=EverySteps(4) | AtExit()) as manager:
        for step in range(1, 6):
            session.step()
            manager.maybe_save(0, step)
        session.step()
    assert saved_steps(manager) == [4, 6]
    assert manager.checkpoints()[-1].reason.text == "training is ending: training finished"
    manager.close()
    assert saved_steps(manager) == [4, 6]
    other = new_session(1)
    new_manager(tmp_path, other).resume(verbose=False)
    assert torch.equal(other.model.state_dict()["0.weight"], session.model.state_dict()["0.weight"])


def test_at_exit_does_not_save_a_saved_step_again(tmp_path: Path) -> None:
    """A loop that ends on a checkpoint leaves just that one."""
    with new_manager(tmp_path, new_session(), triggers=EverySteps(2) | AtExit()) as manager:
        manager.maybe_save(0, 2)
    assert saved_steps(manager) == [2]


def test_an_exception_can_save_the_state_marked_as_such(tmp_path: Path) -> None:
    """The exception passes on, the checkpoint says what it is, and resume says so too."""
    session = new_session()
    manager = new_manager(tmp_path, session, triggers=EverySteps(100), save_on_exception=True)

    def train() -> None:
        with manager:
            for step in range(1, 4):
                session.step()
                manager.maybe_save(0, step)
            session.step()
            raise ZeroDivisionError("in the loss")

    with pytest.raises(ZeroDivisionError):
        train()
    info = manager.checkpoints()[-1]
    assert (info.global_step, info.reason.kind) == (4, "exception")
    assert info.reason.text == "ZeroDivisionError: in the loss"
    report = new_manager(tmp_path, new_session(1)).resume(verbose=False)
    assert "saved while training broke off (ZeroDivisionError" in report.checklist


def test_a_step_that_broke_off_half_way_is_not_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights in the middle of an optimizer step are neither old nor new, so nothing is saved."""
    session = new_session()
    manager = new_manager(tmp_path, session, triggers=EverySteps(100), save_on_exception=True)

    def closure() -> float:
        raise RuntimeError("out of memory")

    manager.maybe_save(0, 1)
    with pytest.raises(RuntimeError, match="out of memory"), manager:
        session.optimizer.step(closure)
    assert manager.checkpoints() == []
    assert "middle of a step" in caplog.text


def test_a_failing_save_does_not_hide_the_exception(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What ended training is what the caller sees; the failed save is told in the log."""
    manager = new_manager(tmp_path, new_session(), triggers=EverySteps(9), save_on_exception=True)
    manager.maybe_save(0, 1, extra_state={"hook": lambda: None})
    with pytest.raises(KeyError, match="mine"), manager:
        raise KeyError("mine")
    assert "could not be saved while KeyError" in caplog.text


def test_early_stopping_state_is_restored_with_the_run(tmp_path: Path) -> None:
    """A registered stopper does not get its patience back by a resume."""
    rule = EarlyStopping("val_loss", "min", patience=2)
    stoppers = [EarlyStopper(rule), EarlyStopper(rule)]
    managers = [new_manager(tmp_path, new_session(seed)) for seed in (0, 1)]
    for manager, stopper in zip(managers, stoppers, strict=True):
        manager.register("early_stopping", stopper)
    for step, loss in ((1, 1.0), (2, 1.5)):
        assert not stoppers[0].observe(step, loss).stop
        managers[0].save(0, step, {"val_loss": loss})
    managers[1].resume(verbose=False)
    assert stoppers[1].observe(3, 1.2).stop
