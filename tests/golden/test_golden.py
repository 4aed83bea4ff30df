"""Checkpoints written by earlier versions are read by this one, the damaged ones refused.

What they hold is spelled out here, not computed by what wrote them.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch
from generate import write
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, errors
from holdfast.cli.checking import check
from holdfast.engine.catalog import read_catalog
from holdfast.session.components import read_component
from holdfast.session.folder import FolderSource
from holdfast.storage import LocalRun

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support")

HERE = Path(__file__).parent
V1 = HERE / "v1"
NAME = "checkpoint_epoch0003_step00000120"
SOUND = ("plain", "tied", "dtypes", "tags", "not_finite")
DAMAGED = json.loads((V1 / "damaged.json").read_text(encoding="ascii"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cases as the generator writes them today."""
    folder = tmp_path_factory.mktemp("fresh")
    write(folder)
    return folder


@pytest.fixture(params=["checked in", "written today"])
def root(request: pytest.FixtureRequest, fresh: Path) -> Path:
    """The golden checkpoints of version 1, and those that are to equal them."""
    return V1 if request.param == "checked in" else fresh


def read(root: Path, case: str, component: str) -> Any:
    """One component of a case, without any live object."""
    with FolderSource.open(LocalRun(root / case), NAME) as source:
        return read_component(source, component)


def plain_session() -> tuple[nn.Module, torch.optim.AdamW, Any]:
    """The objects of the case "plain", as a program would build them."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [9])


def test_a_whole_session_comes_back(root: Path) -> None:
    """Model, optimizer, scheduler and random streams of the plain case are what was saved."""
    model, optimizer, scheduler = plain_session()
    config = CheckpointConfig(str(root / "plain"), progress=False)
    loaded = CheckpointManager(config, model, optimizer, scheduler).load(root / "plain" / NAME)
    eighths = [[0.0, 0.125, 0.25], [0.375, 0.5, 0.625]]
    state = model.state_dict()
    assert state["0.weight"].tolist() == eighths
    assert state["1.running_var"].tolist() == [0.0, 0.125]
    assert state["1.num_batches_tracked"].item() == 0
    moments = optimizer.state_dict()["state"][0]
    assert moments["exp_avg"].tolist() == eighths
    assert moments["exp_avg_sq"].tolist() == [[0.0, 0.25, 0.5], [0.75, 1.0, 1.25]]
    assert moments["step"].item() == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert scheduler.milestones == Counter({2: 1, 4: 2})
    assert (scheduler.gamma, scheduler.last_epoch) == (0.5, 1)
    drawn = (random.random(), float(np.random.rand()), torch.rand(()).item())
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    assert drawn == (random.random(), float(np.random.rand()), torch.rand(()).item())
    assert {key: loaded[key] for key in ("epoch", "global_step", "timestamp")} == {
        "epoch": 3,
        "global_step": 120,
        "timestamp": "2026-11-23T14:00:00.250000Z",
    }
    assert loaded["model_config"] == {"width": 2}


def test_the_manifest_is_what_was_written(root: Path) -> None:
    """Listing alone gives ids, order, parents, metrics and reasons."""
    (entry,) = read_catalog(LocalRun(root / "plain")).entries
    info = entry.info
    assert (info.id, info.order, info.name) == ("a" * 32, (1, 120, 7), NAME)
    assert (info.parents[0].id, info.parents[0].global_step) == ("b" * 32, 80)
    assert (info.metrics, entry.manifest.directions) == ({"val_loss": 0.5}, {"val_loss": "min"})
    assert (info.reason.kind, info.pinned) == ("manual", None)
    assert entry.manifest.provenance == {"seed": 1}


def test_tied_weights_are_stored_once_and_come_back_tied(root: Path) -> None:
    """Both names lead to one tensor."""
    state = read(root, "tied", "model")
    assert state["out.weight"] is state["embed.weight"]
    assert state["embed.weight"].tolist() == [[0.0, 0.125], [0.25, 0.375], [0.5, 0.625]]


def test_every_dtype_and_layout_comes_back(root: Path) -> None:
    """The bytes 0 to 15 in every dtype; channels-last stays channels-last."""
    tensors: dict[str, Tensor] = read(root, "dtypes", "run")["extra_state"]
    strange = ("bool", "scalar", "empty", "channels_last", "transposed", "strided")
    plain = {name: tensor for name, tensor in tensors.items() if name not in strange}
    assert len(plain) == 21
    for name, tensor in plain.items():
        assert str(tensor.dtype) == f"torch.{name}"
        assert tensor.view(torch.uint8).tolist() == list(range(16))
    assert tensors["bool"].tolist() == [True, False, True]
    assert (tensors["scalar"].shape, tensors["scalar"].item()) == ((), 2.5)
    assert tensors["empty"].shape == (0, 3)
    wide = tensors["channels_last"]
    assert wide.is_contiguous(memory_format=torch.channels_last)
    assert wide.flatten().tolist() == [n / 8 for n in range(24)]
    assert tensors["transposed"].stride() == (1, 3)
    assert tensors["transposed"].tolist() == [[0.0, 0.375], [0.125, 0.5], [0.25, 0.625]]
    assert tensors["strided"].tolist() == [[0.125, 0.25], [1.125, 1.25]]


def test_every_tag_comes_back(root: Path) -> None:
    """One value of every tag of the codec, equal in value and in exact type."""
    found: dict[str, Any] = read(root, "tags", "run")["extra_state"]
    first, second = found.pop("tensor")
    assert first is second
    assert first.tolist() == [0.0, 0.125]
    *finite, nan, zero = found.pop("float")
    assert finite == [0.1, 1e-300, math.inf, -math.inf]
    assert math.isnan(nan)
    assert math.copysign(1.0, zero) == -1.0
    assert np.isnan(found.pop("np.float32"))
    arrays = {name: found.pop(name) for name in ("ndarray", "fortran", "large")}
    assert (arrays["ndarray"].dtype.str, arrays["ndarray"].tolist()) == (
        ">i4",
        [[0, 1, 2], [3, 4, 5]],
    )
    assert arrays["fortran"].flags.f_contiguous
    assert arrays["fortran"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert arrays["large"].tolist() == [float(n) for n in range(2500)]
    wanted = _values()
    assert found == wanted
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in wanted.items()
    }
    assert list(found["OrderedDict"]) == ["b", "a"]
    assert (found["deque"].maxlen, found["defaultdict"].default_factory) == (3, list)
    assert (found["time"].fold, found["datetime"].tzinfo) == (1, timezone.utc)
    assert found["timezone"].tzname(None) == "here"


def _values() -> dict[str, Any]:
    return {
        "int": [9007199254740992, 18446744073709551616, -18446744073709551616],
        "str": ["plain", "\udc80"],
        "complex": complex(1.5, math.inf),
        "bytes": bytes([0, 255]),
        "bytearray": bytearray([97, 98]),
        "decimal": Decimal("1.10"),
        "uuid": UUID("00000000-0000-0000-0000-000000000005"),
        "fraction": Fraction(2, 3),
        "tuple": (1, (2, "x")),
        "set": {1, 2, 3},
        "frozenset": frozenset({"a"}),
        "dict": {1: "one", (2, 3): "pair", "$": "text"},
        "OrderedDict": OrderedDict([("b", 1), ("a", 2)]),
        "Counter": Counter([4, 4]),
        "defaultdict": defaultdict(list, k=[1]),
        "deque": deque([1, 2]),
        "slice": slice(1, None, 2),
        "range": range(0, 10, 3),
        "date": date(2026, 11, 23),
        "datetime": datetime(2026, 11, 23, 14, 0, 0, 5, timezone.utc),
        "time": time(1, 2, 3),
        "timedelta": timedelta(microseconds=1) - timedelta(days=1),
        "timezone": timezone(timedelta(hours=2), "here"),
        "zoneinfo": ZoneInfo("Europe/Berlin"),
        "path": Path("runs", "a"),
        "PurePosixPath": PurePosixPath("/a/b"),
        "PureWindowsPath": PureWindowsPath("C:/a"),
        "np.bool": np.bool_(True),
        "np.int8": np.int8(-3),
        "np.uint64": np.uint64(18446744073709551615),
        "np.float16": np.float16(0.5),
        "np.complex64": np.complex64(complex(1, -2)),
        "np.datetime64": np.datetime64("2026-11-23"),
        "np.timedelta64": np.timedelta64(5, "ms"),
        "np.str": np.str_("text"),
        "np.bytes": np.bytes_(b"raw"),
        "torch.dtype": torch.bfloat16,
        "torch.device": torch.device("cuda:1"),
        "torch.Size": torch.Size((2, 3)),
        "torch.layout": torch.strided,
        "torch.memory_format": torch.channels_last,
    }


def test_metrics_that_are_no_numbers_come_back(root: Path) -> None:
    """NaN and infinities stand in the manifest and in the record."""
    record = read(root, "not_finite", "run")
    (entry,) = read_catalog(LocalRun(root / "not_finite")).entries
    for metrics in (record["metrics"], entry.info.metrics):
        assert math.isnan(metrics["val_loss"])
        rest = {name: metrics[name] for name in ("bleu", "ppl", "acc")}
        assert rest == {"bleu": math.inf, "ppl": -math.inf, "acc": 1e-7}
    assert not (root / "not_finite" / NAME / "config.json").exists()


@pytest.mark.parametrize("case", SOUND)
def test_every_sound_case_verifies(root: Path, case: str) -> None:
    """Every byte is what was committed."""
    assert check(root / case).found == {NAME: []}


@pytest.mark.parametrize("case", sorted(DAMAGED))
def test_every_damaged_case_is_refused(root: Path, case: str) -> None:
    """The error is of the kind that was promised and names what is damaged; verify says so too."""
    folder, expected = root / case / NAME, DAMAGED[case]
    manager = CheckpointManager(CheckpointConfig(str(root / case), progress=False), _tied())
    before = {name: tensor.clone() for name, tensor in manager.objects.model.state_dict().items()}
    with pytest.raises(getattr(errors, expected["error"]), match=expected["names"]):
        manager.load(folder)
    after = manager.objects.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert check(folder).damaged


def _tied() -> nn.Module:
    model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "out": nn.Linear(2, 3, bias=False)})
    model["out"].weight = model["embed"].weight
    return model


def test_the_generator_writes_the_same_tensors_and_trees(fresh: Path) -> None:
    """Writing the cases today gives the bytes that are checked in, scheduler versions aside."""
    for case in ("tied", "dtypes", "tags", "not_finite"):
        for path in sorted((V1 / case / NAME).iterdir()):
            assert (fresh / case / NAME / path.name).read_bytes() == path.read_bytes(), path
