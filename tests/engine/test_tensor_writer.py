"""Tensor files written by holdfast are whole, digested, and readable with stock safetensors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, load_model
from torch import Tensor

from holdfast.digest import combine, digest_bytes, raw_digest
from holdfast.engine.tensor_writer import TensorFileDigests, write_tensor_file
from holdfast.errors import SaveError
from holdfast.storage import LocalRun, MemoryRun
from holdfast.tensorfile import FilePlan, dtype_name, plan_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tensorfile"))
from tensor_strategies import DTYPES, LAYOUTS, bits, laid_out, named_tensors

FILE = "model.safetensors"


def write(tensors: Mapping[str, Tensor]) -> tuple[bytes, FilePlan, TensorFileDigests]:
    """Write a file in memory; its bytes, plan and digests."""
    run = MemoryRun()
    plan = plan_file(tensors, {})
    with run.stage("a") as staged:
        digests = write_tensor_file(staged, FILE, tensors, plan)
        staged.publish()
    return run.checkpoints["a"][FILE], plan, digests


def write_to(folder: Path, tensors: Mapping[str, Tensor], *, direct_io: bool | None = None) -> Path:
    """Write a file to disk and publish it; its path."""
    run = LocalRun(folder, direct_io=direct_io)
    with run.stage("a") as staged:
        write_tensor_file(staged, FILE, tensors, plan_file(tensors, {}))
        staged.publish()
    return folder / "a" / FILE


@given(named_tensors)
def test_the_file_holds_every_tensor_where_planned(tensors: dict[str, Tensor]) -> None:
    """Each planned byte range holds the tensor's row-major bytes."""
    data, plan, _ = write(tensors)
    assert data[: len(plan.header)] == plan.header
    assert len(data) == plan.total_bytes
    for name, spec in plan.specs.items():
        begin = len(plan.header) + spec.begin
        assert data[begin : begin + spec.nbytes] == bits(tensors[name])


@given(named_tensors)
def test_digests_are_those_of_the_bytes(tensors: dict[str, Tensor]) -> None:
    """Header, tensors and file are digested as the format says, in offset order."""
    data, plan, digests = write(tensors)
    assert digests.header == digest_bytes(plan.header)
    assert list(digests.tensors) == list(plan.specs)
    for name, digest in digests.tensors.items():
        assert digest == raw_digest(bits(tensors[name]))
    parts = [raw_digest(data[: len(plan.header)]), *digests.tensors.values()]
    assert digests.digest == combine(parts)


def test_stock_safetensors_reads_every_dtype_and_layout(tmp_path: Path) -> None:
    """Each tensor comes back equal bit for bit; raw ones under the dtype they are stored as."""
    tensors = {
        f"{dtype} {layout}": laid_out(dtype, layout) for dtype in DTYPES for layout in LAYOUTS
    }
    path = write_to(tmp_path, tensors)
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        stored = dtype_name(tensor.dtype)
        assert loaded[name].shape == (*tensor.shape, *stored.trailing), name
        assert stored.raw or loaded[name].dtype == tensor.dtype, name
        assert bits(loaded[name]) == bits(tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 300_000), max_size=12), st.booleans())
def test_sizes_around_every_limit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], strided: bool
) -> None:
    """Tensors smaller and larger than the gathering limits lie in the right places."""
    tensors = {
        f"t{number}": torch.arange(size, dtype=torch.int32) for number, size in enumerate(sizes)
    }
    if strided:
        tensors = {name: tensor.flip(0)[::2] for name, tensor in tensors.items()}
    loaded = load_file(write_to(tmp_path_factory.mktemp("run"), tensors))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("direct_io", [True, False])
def test_large_tensors_and_small_ones_between(tmp_path: Path, direct_io: bool) -> None:
    """A file large enough for direct I/O is exact, also where tensors straddle its blocks."""
    torch.manual_seed(0)
    tensors = {
        "large": torch.randn(5_000_001),
        "small": torch.randn(3),
        "transposed": torch.randn(1500, 3001).t(),
        "odd": torch.randint(0, 255, (1_234_567,), dtype=torch.uint8),
    }
    loaded = load_file(write_to(tmp_path, tensors, direct_io=direct_io))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_stock_load_model_reads_a_model_file(tmp_path: Path) -> None:
    """`safetensors.torch.load_model` takes the file as the model's own."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = write_to(tmp_path, model.state_dict())
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    missing, unexpected = load_model(other, path)
    assert not missing
    assert not unexpected
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    """The bytes done grow to the file's size."""
    tensors = {"a": torch.zeros(3_000_000), "b": torch.zeros(10)}
    plan = plan_file(tensors, {})
    seen: list[int] = []
    with LocalRun(tmp_path).stage("a") as staged:
        write_tensor_file(staged, FILE, tensors, plan, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == plan.total_bytes


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    """An error raised by progress stops the save and no trace of it stays."""

    def cancel(done: int) -> None:
        raise KeyboardInterrupt

    tensors = {"a": torch.zeros(8_000_000)}
    with pytest.raises(KeyboardInterrupt), LocalRun(tmp_path).stage("a") as staged:
        write_tensor_file(staged, FILE, tensors, plan_file(tensors, {}), progress=cancel)
    assert os.listdir(tmp_path) == []


def test_a_failing_storage_is_reported(tmp_path: Path) -> None:
    """An error of the storage reaches the caller while tensors are still being hashed."""
    tensors = {f"t{number}": torch.zeros(100_000) for number in range(50)}
    with MemoryRun(capacity_bytes=1000).stage("a") as staged, pytest.raises(SaveError):
        write_tensor_file(staged, FILE, tensors, plan_file(tensors, {}))


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Saving a large strided tensor holds small pieces of it at a time, never a second copy."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of resident memory is read from /proc")
    script = """
import sys, torch
from pathlib import Path
from holdfast.engine.tensor_writer import write_tensor_file
from holdfast.storage import LocalRun
from holdfast.tensorfile import plan_file
torch.set_num_threads(1)
def peak_kib():
    # Not ru_maxrss: that is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
def save(name, tensors):
    with LocalRun(sys.argv[1]).stage(name) as staged:
        write_tensor_file(staged, "m.safetensors", tensors, plan_file(tensors, {}))
base = torch.ones(6000, 8200)
tensors = {"strided": base.t(), "plain": base}
save("warm", {"small": base[:10].t()})
before = peak_kib()
save("a", tensors)
print((peak_kib() - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert 1 <= int(done.stdout) <= 128
