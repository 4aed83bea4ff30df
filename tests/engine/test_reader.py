"""Reading stored tensors into live ones and into new memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensor_file_helpers import Committed, commit, same_bits, sample_tensors
from torch import Tensor

from holdfast.engine.ranges import CHUNK_BYTES
from holdfast.engine.reader import check_targets, iter_tensors, read_into, read_new
from holdfast.errors import DamagedError, FormatError, InterruptedLoadError, MismatchError
from holdfast.jsontext import Json


@pytest.fixture
def committed(tmp_path: Path) -> Committed:
    """A file of sample tensors."""
    return commit(tmp_path, sample_tensors())


def _flip(committed: Committed, name: str) -> None:
    """Flip one bit in the data of a tensor after its file was opened."""
    file = committed.open()
    data = bytearray(committed.path.read_bytes())
    data[file.data_start + file.specs[name].begin] ^= 0x10
    with committed.path.open("r+b") as stream:
        stream.write(data)


def test_targets_receive_the_stored_bits(committed: Committed) -> None:
    """Every tensor, small or large, 0-d or empty, arrives bit for bit."""
    expected = sample_tensors()
    targets = {name: torch.ones_like(tensor) for name, tensor in expected.items()}
    read_into(committed.open(), targets)
    assert all(same_bits(targets[name], expected[name]) for name in expected)


def test_targets_keep_their_memory(committed: Committed) -> None:
    """Loading writes into the tensors given, so optimizers and views keep seeing them."""
    target = torch.zeros(700, 500)
    view = target[3]
    read_into(committed.open(), {"embedding": target})
    assert torch.equal(view, sample_tensors()["embedding"][3])


def _strided(tensor: Tensor) -> Tensor:
    return torch.zeros(*tensor.shape[:-1], tensor.shape[-1] * 2, dtype=tensor.dtype)[..., ::2]


def _transposed(tensor: Tensor) -> Tensor:
    return torch.zeros(*reversed(tensor.shape), dtype=tensor.dtype).permute(
        *reversed(range(tensor.dim()))
    )


@pytest.mark.parametrize("layout", [_strided, _transposed])
@pytest.mark.parametrize("name", ["embedding", "half", "image", "mask", "layers.4.weight"])
def test_non_contiguous_targets_keep_their_layout(
    committed: Committed, name: str, layout: object
) -> None:
    """A strided or permuted target gets the values at the right places, through small chunks."""
    expected = sample_tensors()[name]
    target: Tensor = layout(expected)  # type: ignore[operator]
    strides = target.stride()
    read_into(committed.open(), {name: target})
    assert torch.equal(target, expected)
    assert target.stride() == strides


def test_lazily_conjugated_and_negated_targets_mean_the_stored_values(tmp_path: Path) -> None:
    """What the caller reads from a conjugated or negated view is what was stored."""
    values = {"z": torch.randn(9, dtype=torch.complex64), "x": torch.randn(9)}
    file = commit(tmp_path, values).open()
    conjugated = torch.zeros(9, dtype=torch.complex64).conj()
    negated = torch.zeros(9, dtype=torch.complex64).conj().imag
    read_into(file, {"z": conjugated, "x": negated})
    assert torch.equal(conjugated, values["z"])
    assert torch.equal(negated, values["x"])


def test_parameters_and_inference_tensors_are_written(committed: Committed) -> None:
    """Leaves that require grad and tensors made in inference mode can be loaded into."""
    with torch.inference_mode():
        frozen = torch.zeros(500, 700).t()
        plain = torch.zeros(700, 500)
    for target in (torch.nn.Parameter(torch.zeros(700, 500)), frozen, plain):
        read_into(committed.open(), {"embedding": target})
        assert torch.equal(target, sample_tensors()["embedding"])


def test_autograd_notices_the_load(committed: Committed) -> None:
    """A load counts as an in-place change: backward through old values is an error, not wrong."""
    weight = torch.zeros(700, 500)
    other = torch.ones(700, 500, requires_grad=True)
    product = (weight * other).sum()
    read_into(committed.open(), {"embedding": weight})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()  # type: ignore[no-untyped-call]


def test_casting_happens_only_when_allowed(committed: Committed) -> None:
    """A double target is refused by default and filled with the same values when allowed."""
    target = torch.zeros(700, 500, dtype=torch.float64)
    with pytest.raises(MismatchError, match="float64"):
        read_into(committed.open(), {"embedding": target})
    assert not target.any()
    read_into(committed.open(), {"embedding": target}, cast=True)
    assert torch.equal(target, sample_tensors()["embedding"].double())


def test_floats_never_become_integers(committed: Committed) -> None:
    """Even with casting allowed, a cast that loses the nature of the values is refused."""
    target = torch.zeros(700, 500, dtype=torch.int8)
    with pytest.raises(MismatchError, match="int8"):
        check_targets(committed.open(), {"embedding": target}, cast=True)


def test_all_unfit_targets_are_listed_and_none_is_touched(committed: Committed) -> None:
    """Shape, dtype, unknown name, missing memory: every problem in one error, before any write."""
    targets = {
        "step": torch.tensor(0),
        "embedding": torch.zeros(700, 501),
        "half": torch.zeros(300, 1001),
        "nothing": torch.zeros(1),
        "mask": torch.zeros(33, dtype=torch.bool, device="meta"),
        "layers.0.weight": torch.zeros(1, 1).expand(3, 1),
        "layers.5.weight": torch.zeros(3, 1).to_sparse(),
    }
    freed = torch.zeros(3, 2)
    freed.untyped_storage().resize_(0)
    targets["layers.1.weight"] = freed
    with pytest.raises(MismatchError) as caught:
        read_into(committed.open(), targets)
    assert len(caught.value.problems) == len(targets) - 1
    assert targets["step"] == 0


def test_damage_in_the_second_pass_says_that_live_tensors_may_have_changed(
    committed: Committed,
) -> None:
    """Bytes that change between proof and placing are noticed, by name."""
    file = committed.open()
    for name in ("embedding", "step"):
        _flip(committed, name)
        with pytest.raises(InterruptedLoadError, match=name):
            read_into(file, {name: torch.zeros_like(sample_tensors()[name])})


def test_damaged_small_tensors_never_reach_their_target(committed: Committed) -> None:
    """A batched tensor is proven in the buffer, before its target is written."""
    file = committed.open()
    _flip(committed, "step")
    target = torch.tensor(5)
    with pytest.raises(InterruptedLoadError):
        read_into(file, {"step": target})
    assert target == 5


def test_a_file_cut_short_between_the_passes_is_an_error(committed: Committed) -> None:
    """Truncation under an open reader is a typed error, not a crash."""
    file = committed.open()
    with committed.path.open("r+b") as stream:
        stream.truncate(file.data_start + 10)
    with pytest.raises(InterruptedLoadError, match="ends at byte"):
        read_into(file, {"embedding": torch.zeros(700, 500)})


def test_new_tensors_are_read_and_proven_in_one_pass(committed: Committed) -> None:
    """Reading without targets gives what was stored, in the order asked for."""
    expected = sample_tensors()
    found = read_new(committed.open(), ["step", "image"])
    assert list(found) == ["step", "image"]
    assert all(same_bits(found[name], expected[name]) for name in found)
    everything = read_new(committed.open())
    assert all(same_bits(everything[name], expected[name]) for name in expected)


def test_damaged_tensors_are_never_returned(committed: Committed) -> None:
    """One flipped bit, and neither reading at once nor streaming yields the tensor."""
    file = committed.open()
    _flip(committed, "image")
    with pytest.raises(DamagedError, match="image"):
        read_new(file, ["image"])
    with pytest.raises(DamagedError, match="image"):
        dict(iter_tensors(file))


def test_streaming_yields_each_tensor_once_in_file_order(committed: Committed) -> None:
    """Selection reads one tensor at a time."""
    file = committed.open()
    assert [name for name, _ in iter_tensors(file)] == list(file.specs)


def test_an_unknown_name_is_refused(committed: Committed) -> None:
    """Asking for a tensor that is not there is a typed error naming it."""
    with pytest.raises(FormatError, match="absent"):
        read_new(committed.open(), ["absent"])


def test_notes_bring_back_dtype_and_memory_order(tmp_path: Path) -> None:
    """Raw-stored dtypes and permuted layouts come back as they were, old targets included."""
    values = torch.randn(5, 4, dtype=torch.complex128)
    image = torch.randn(2, 3, 8, 8)
    notes: dict[str, dict[str, Json]] = {
        "z": {"dtype": "complex128"},
        "image": {"order": [0, 2, 3, 1]},
    }
    stored = {"z": torch.view_as_real(values), "image": image}
    file = commit(tmp_path, stored, notes=notes).open()
    found = read_new(file)
    assert same_bits(found["z"], values)
    assert torch.equal(found["image"], image)
    assert found["image"].is_contiguous(memory_format=torch.channels_last)
    target = torch.zeros(4, 5, dtype=torch.complex128).t()
    read_into(file, {"z": target})
    assert torch.equal(target, values)


def test_rows_larger_than_a_chunk_are_divided(tmp_path: Path) -> None:
    """A non-contiguous target whose single row exceeds the buffer is filled piecewise."""
    columns = CHUNK_BYTES // 2 + 3
    expected = torch.arange(2 * columns, dtype=torch.float32).reshape(2, columns)
    file = commit(tmp_path, {"wide": expected}).open()
    target = torch.zeros(columns, 2).t()
    read_into(file, {"wide": target})
    assert torch.equal(target, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_on_a_device_are_filled_through_pinned_memory(committed: Committed) -> None:
    """Contiguous, strided and new CUDA tensors all end with the stored bits."""
    expected = sample_tensors()
    targets = {name: torch.ones_like(tensor, device="cuda") for name, tensor in expected.items()}
    targets["embedding"] = torch.zeros(500, 700, device="cuda").t()
    read_into(committed.open(), targets)
    found = read_new(committed.open(), device="cuda")
    for name, tensor in expected.items():
        assert same_bits(targets[name].cpu(), tensor)
        assert same_bits(found[name].cpu(), tensor)


def test_progress_adds_up_to_the_bytes_read(committed: Committed) -> None:
    """Progress counts every byte of the tensors once."""
    counts: list[int] = []
    expected = sample_tensors()
    targets = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    read_into(committed.open(), targets, progress=counts.append)
    assert sum(counts) == sum(tensor.nbytes for tensor in expected.values())
