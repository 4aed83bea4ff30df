"""Writes the golden checkpoints: `python tests/golden/generate.py [folder]`.

They are checked in as written by the version that made each format version, and every later version
must read them. Ids, times and values are fixed, so that a run of this script gives the same files.
Version 1 is finished: this script may gain cases, and must not change those there are.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.state import (
    ComponentState,
    capture_module,
    capture_object,
    capture_optimizer,
    capture_rng,
    parameter_names,
)
from holdfast.storage import LocalRun
from holdfast.values import Parent, SaveReason

HERE = Path(__file__).parent / "v1"
NAME = "checkpoint_epoch0003_step00000120"
DTYPES = (
    *("float64", "float32", "float16", "bfloat16"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    *("complex64", "complex128", "complex32"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    *("float8_e8m0fnu", "float4_e2m1fn_x2"),
)
TIME = 1_795_442_400.25


def counted(*shape: int) -> Tensor:
    """0, 1/8, 2/8, ... in row-major order."""
    count = int(np.prod(shape, dtype=np.int64))
    return (torch.arange(count, dtype=torch.float32) / 8).reshape(shape)


def filled(module: nn.Module) -> nn.Module:
    """The module with every floating tensor counted from 0."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(counted(*tensor.shape))
    return module


def run_record(**changes: Any) -> ComponentState:
    """The component "run"."""
    metrics = {"val_loss": 0.5}
    record = {
        "epoch": 3,
        "global_step": 120,
        "metrics": metrics,
        "best_metric": 0.5,
        "metrics_history": [{"epoch": 3, "global_step": 120, "metrics": metrics}],
        "model_config": {"width": 2},
        "extra_state": None,
    }
    return capture_object("run", record | changes)


def request(*components: ComponentState, **changes: Any) -> SaveRequest:
    """A save of these components with everything else fixed."""
    fields: dict[str, Any] = {
        "epoch": 3,
        "global_step": 120,
        "branch": 1,
        "sequence": 7,
        "time": TIME,
        "reason": SaveReason("manual", "save() was called"),
        "components": components,
        "metrics": {"val_loss": 0.5},
        "directions": {"val_loss": "min"},
        "config": {"width": 2},
        "parents": (Parent("resumed_from", "b" * 32, "checkpoint_epoch0002_step00000080", 80),),
        "provenance": {"seed": 1},
        "id": "a" * 32,
    }
    return SaveRequest(**(fields | changes))


def plain() -> SaveRequest:
    """A whole session: model, optimizer, scheduler, random streams, record."""
    model = filled(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4, 4], gamma=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scheduler.step()
    for owner, state in optimizer.state.items():
        state["exp_avg"].copy_(counted(*owner.shape))
        state["exp_avg_sq"].copy_(counted(*owner.shape) * 2)
    filled(model)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    return request(
        capture_module("model", model),
        capture_optimizer("optimizer", optimizer, parameter_names(model)),
        capture_object("scheduler", scheduler),
        capture_rng("rng"),
        run_record(),
    )


def tied() -> SaveRequest:
    """A model whose output layer is its embedding."""
    model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "out": nn.Linear(2, 3, bias=False)})
    model["out"].weight = model["embed"].weight
    return request(capture_module("model", filled(model)), run_record())


def dtypes() -> SaveRequest:
    """Every dtype that can be saved, and layouts that are not row-major."""
    bits = torch.arange(16, dtype=torch.uint8)
    tensors: dict[str, Tensor] = {name: bits.clone().view(getattr(torch, name)) for name in DTYPES}
    tensors["bool"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.empty(0, 3)
    tensors["channels_last"] = counted(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    tensors["transposed"] = counted(2, 3).t()
    tensors["strided"] = counted(4, 4)[::2, 1:3]
    return request(run_record(extra_state=tensors))


def tags() -> SaveRequest:
    """A value of every tag of the codec."""
    shared = counted(2)
    values = {
        "tensor": [shared, shared],
        "int": [1 << 53, 1 << 64, -(1 << 64)],
        "float": [0.1, 1e-300, float("inf"), float("-inf"), float("nan"), -0.0],
        "str": ["plain", "\udc80"],
        "complex": complex(1.5, float("inf")),
        "bytes": b"\x00\xff",
        "bytearray": bytearray(b"ab"),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=5),
        "fraction": Fraction(2, 3),
        "tuple": (1, (2, "x")),
        "set": {3, 1, 2},
        "frozenset": frozenset({"a"}),
        "dict": {1: "one", (2, 3): "pair", "$": "text"},
        "OrderedDict": OrderedDict([("b", 1), ("a", 2)]),
        "Counter": Counter({4: 2}),
        "defaultdict": defaultdict(list, {"k": [1]}),
        "deque": deque([1, 2], maxlen=3),
        "slice": slice(1, None, 2),
        "range": range(0, 10, 3),
        "date": date(2026, 11, 23),
        "datetime": datetime(2026, 11, 23, 14, 0, 0, 5, timezone.utc),
        "time": time(1, 2, 3, fold=1),
        "timedelta": timedelta(days=-1, microseconds=1),
        "timezone": timezone(timedelta(hours=2), "here"),
        "zoneinfo": ZoneInfo("Europe/Berlin"),
        "path": Path("runs/a"),
        "PurePosixPath": PurePosixPath("/a/b"),
        "PureWindowsPath": PureWindowsPath("C:\\a"),
        "np.bool": np.bool_(True),
        "np.int8": np.int8(-3),
        "np.uint64": np.uint64(2**64 - 1),
        "np.float16": np.float16(0.5),
        "np.float32": np.float32("nan"),
        "np.complex64": np.complex64(1 - 2j),
        "np.datetime64": np.datetime64("2026-11-23", "D"),
        "np.timedelta64": np.timedelta64(5, "ms"),
        "np.str": np.str_("text"),
        "np.bytes": np.bytes_(b"raw"),
        "ndarray": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "large": np.arange(2500, dtype="<f8"),
        "torch.dtype": torch.bfloat16,
        "torch.device": torch.device("cuda", 1),
        "torch.Size": torch.Size([2, 3]),
        "torch.layout": torch.strided,
        "torch.memory_format": torch.channels_last,
    }
    return request(run_record(extra_state=values))


def not_finite() -> SaveRequest:
    """Metrics that are no finite numbers."""
    metrics = {"val_loss": float("nan"), "bleu": float("inf"), "ppl": float("-inf"), "acc": 1e-7}
    return request(run_record(metrics=metrics), metrics=metrics, config=None)


SOUND: dict[str, Callable[[], SaveRequest]] = {
    "plain": plain,
    "tied": tied,
    "dtypes": dtypes,
    "tags": tags,
    "not_finite": not_finite,
}


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def _flipped(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)


def _missing(folder: Path) -> None:
    (folder / "state.json").unlink()


def _dropped(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["files"]["model.safetensors"]
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="ascii")


DAMAGED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (_truncated, "DamagedError", "model.safetensors"),
    "flipped": (_flipped, "DamagedError", "embed.weight"),
    "missing": (_missing, "DamagedError", "state.json"),
    "dropped_entry": (_dropped, "DamagedError", "manifest.json"),
}


def write(root: Path) -> None:
    """Write every case as a run folder of its own below `root`, and the index of the damaged."""
    for name, case in SOUND.items():
        save_checkpoint(LocalRun(root / name), case())
    for name, (damage, _, _) in DAMAGED.items():
        shutil.copytree(root / "tied", root / name)
        damage(root / name / NAME)
    index = {name: {"error": error, "names": word} for name, (_, error, word) in DAMAGED.items()}
    (root / "damaged.json").write_text(json.dumps(index, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
