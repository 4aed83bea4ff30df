"""A loader that would not continue the saved order says so, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from loader_helpers import Squares, rows, run, run_until, streams
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from holdfast.data import OrderFingerprint, OrderMismatch, ResumableLoader
from holdfast.errors import FormatError, MismatchError

CHAIN = "xxh3-128-chain:aa501007c45bc2f11aec3a218e40aad9"


def _saved(**options: Any) -> dict[str, Any]:
    _, state = run_until(ResumableLoader(Squares(20, "v1"), 4, True, seed=1, **options), 7)
    return state


def _loader(length: int = 20, content: str | None = "v1", **changed: Any) -> ResumableLoader:
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 1, **changed}
    return ResumableLoader(Squares(length, content), **options)


def test_state_is_small_and_plain() -> None:
    """The state is a few strings and integers: strict JSON holds it as it is."""
    state = _saved()
    assert json.loads(json.dumps(state)) == state
    assert (state["epoch"], state["position"]) == (1, 2)
    assert state["order"]["dataset_length"] == 20


@pytest.mark.parametrize(
    ("loader", "field", "stored", "found"),
    [
        (_loader(length=21), "dataset_length", 20, 21),
        (_loader(batch_size=5), "batch_size", 4, 5),
        (_loader(drop_last=True), "drop_last", False, True),
        (_loader(seed=2), "seed", 1, 2),
        (_loader(shuffle=False), "sampler", "shuffled-philox/1", "sequential"),
        (_loader(content="v2"), "dataset", "v1", "v2"),
        (_loader(content=None), "dataset", "v1", None),
    ],
)
def test_changed_order_is_reported_and_refused(
    loader: ResumableLoader, field: str, stored: object, found: object
) -> None:
    """Each thing the order depends on is compared; load refuses and leaves the loader alone."""
    state = _saved()
    (problem,) = loader.mismatches(state)
    assert (problem.field, problem.stored, problem.found) == (field, stored, found)
    assert problem.consequence in str(problem)
    with pytest.raises(MismatchError, match=field) as caught:
        loader.load_state_dict(state)
    assert caught.value.problems == (problem,)
    assert (loader.epoch, loader.position) == (0, 0)


def test_every_mismatch_is_listed_at_once() -> None:
    """Several changes are several records of one error."""
    loader = _loader(length=30, batch_size=3, seed=5)
    fields = [problem.field for problem in loader.mismatches(_saved())]
    assert fields == ["dataset_length", "batch_size", "seed"]


def test_caller_may_go_on_in_the_new_order() -> None:
    """strict=False goes to the same number of samples, rounded down to a whole batch."""
    loader = _loader(batch_size=3)
    loader.load_state_dict(_saved(), strict=False)
    assert (loader.epoch, loader.position) == (1, 2)
    whole = _loader(batch_size=3)
    whole.set_epoch(1)
    assert run(loader, 2) == run(whole, 2)[2:]


def test_position_beyond_a_shrunken_dataset_ends_the_epoch() -> None:
    """strict=False with a dataset that ended before the stored position leaves no batch."""
    loader = _loader(length=5)
    loader.load_state_dict(_saved(), strict=False)
    assert list(loader) == []
    assert (loader.epoch, loader.position) == (2, 0)


class _Moody(Sampler[int]):
    """Has set_epoch and ignores it: shuffles by the global stream."""

    def __len__(self) -> int:
        return 20

    def set_epoch(self, epoch: int) -> None:
        """Do nothing."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(20).tolist())


def test_sampler_that_does_not_repeat_is_found_out() -> None:
    """Nothing declared has changed, but the consumed samples were others: the digest tells."""
    options: dict[str, Any] = {"shuffle": False, "sampler": _Moody()}
    stopped = _loader(**options)
    next(iter(stopped))
    (problem,) = _loader(**options).mismatches(stopped.state_dict())
    assert problem.field == "consumed"
    assert isinstance(problem, OrderMismatch)


def test_tampered_position_is_found_out() -> None:
    """A position that does not go with the digest of the consumed order is refused."""
    with pytest.raises(MismatchError, match="consumed"):
        _loader().load_state_dict({**_saved(), "position": 3})


@pytest.mark.parametrize(
    "state",
    [
        {},
        {**_saved(), "version": 2},
        {**_saved(), "position": -1},
        {**_saved(), "position": 2**63},
        {**_saved(), "epoch": 2**64},
        {**_saved(), "epoch": "3"},
        {**_saved(), "order": {"seed": 1}},
        {**_saved(), "order": 7},
    ],
)
def test_foreign_state_is_refused(state: dict[str, Any]) -> None:
    """What is not a loader's state is a format error, not a crash."""
    with pytest.raises(FormatError):
        _loader().load_state_dict(state)


def test_digest_tells_batches_apart() -> None:
    """The digest depends on the samples, their order, and where batches end."""
    orders: list[list[list[int]]] = [
        [],
        [[]],
        [[1, 2], [3]],
        [[1], [2, 3]],
        [[1, 2, 3]],
        [[2, 1], [3]],
    ]
    assert len({OrderFingerprint.of(order).digest for order in orders}) == len(orders)
    assert OrderFingerprint.of([[1, 2], [3]]).digest == CHAIN


@pytest.mark.filterwarnings("ignore:'set_vital':UserWarning")
def test_stateful_dataloader_with_a_generator_resumes_exactly() -> None:
    """torchdata's loader goes through the same two methods; given a generator it resumes whole."""

    def fresh() -> StatefulDataLoader[Any]:
        generator = torch.Generator().manual_seed(3)
        return StatefulDataLoader(Squares(20), 4, shuffle=True, generator=generator)

    expected = [rows(batch) for batch in fresh()]
    stopped = fresh()
    batches = iter(stopped)
    before = [rows(next(batches)) for _ in range(2)]
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())
    untouched = streams()
    assert before + [rows(batch) for batch in resumed] == expected
    assert streams() == untouched
