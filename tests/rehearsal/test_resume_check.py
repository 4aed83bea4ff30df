"""`resume-check` certifies a sound training and names what is wrong with any other."""

from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.rehearsal import Certificate, RehearsalError, check_resume
from holdfast.rehearsal.course import Order, run_course
from holdfast.rehearsal.records import Course

HERE = Path(__file__).parent
_FORKS = multiprocessing.get_context("forkserver")


def in_a_fork(order: Order) -> Course:
    """A process of its own from a server that has imported torch and nothing else: quicker."""
    _FORKS.set_forkserver_preload(["torch._dynamo", "holdfast.rehearsal.watching", "holdfast.data"])
    with warnings.catch_warnings(), _FORKS.Pool(1) as pool:
        warnings.simplefilter("ignore")
        return pool.apply(run_course, (order,))


def rehearse(name: str) -> Certificate:
    """Three steps, a save, two steps."""
    return check_resume(
        f"rehearsal_trainings:{name}", steps=2, warm_up_steps=3, folder=HERE, launch=in_a_fork
    )


def test_a_training_that_saves_everything_is_certified() -> None:
    """Losses, weights, optimizer, schedule, streams and batches are the same, bit for bit."""
    certificate = rehearse("sound")
    assert certificate.exact
    assert certificate.findings == ()
    assert certificate.environment["torch"]


@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ("unsaved_python_stream", "random stream", "random python"),
        ("unsaved_generator", "random stream", "step.noise"),
        ("unsaved_global_generator", "random stream", "_shared_noise"),
        ("unsaved_loader", "loader", "step.batches"),
        ("unregistered_module", "module", "step.critic"),
        ("unregistered_in_an_object", "module", "Trainer.teacher"),
        ("unregistered_scheduler", "scheduler", "step.scheduler"),
        ("unregistered_scaler", "scaler", "step.scaler"),
        ("wrong_scheduler_order", "scheduler", "scheduler order"),
        ("unsaved_buffer", "buffer", "model: buffer 0.mean"),
        ("unsaved_counter", "value", "step.count"),
        ("nondeterministic_operator", "nondeterministic operator", "the loss"),
    ],
)
def test_each_planted_fault_is_named(fault: str, kind: str, name: str) -> None:
    """The first finding is the fault itself, with what to do about it."""
    certificate = rehearse(fault)
    assert not certificate.exact
    first = certificate.findings[0]
    assert (first.kind, first.name) == (kind, name), certificate.findings
    assert first.fix
    assert first.what


def test_what_fails_by_itself_is_told_as_it_is() -> None:
    """An entry point that does not run, or is none, is no verdict on resuming."""
    with pytest.raises(RehearsalError, match="no data here"):
        check_resume("rehearsal_trainings:broken", folder=HERE)
    for entry in ("rehearsal_trainings", "rehearsal_trainings:", ":x"):
        with pytest.raises(ConfigError):
            check_resume(entry, folder=HERE, launch=in_a_fork)
    with pytest.raises(ConfigError):
        check_resume("rehearsal_trainings:sound", steps=0, folder=HERE)
