"""Tensors without bytes of their own are refused by name, all at once, before any write."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from holdfast.errors import UnsavableError
from holdfast.tensorfile import plan_file
from holdfast.tensorfile.refusals import refusal

SUB_BYTE = "uint4"


class Wrapper(Tensor):
    """A subclass that answers operations itself, as DTensor and quantised weights do."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        """Wrap a tensor without storage of its own."""
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape)

    @classmethod
    def __torch_dispatch__(cls, *arguments: object) -> object:
        """Answer nothing."""
        return NotImplemented


class Marked(Tensor):
    """A subclass that only adds a name to an ordinary tensor."""


def freed() -> Tensor:
    """A tensor whose memory was taken away, as FSDP does between uses."""
    tensor = torch.ones(4, 4)
    tensor.untyped_storage().resize_(0)
    return tensor


def cut_off() -> Tensor:
    """A strided tensor whose last elements lie beyond its storage."""
    tensor = torch.ones(4, 4).t()
    tensor.untyped_storage().resize_(60)
    return tensor


def fake() -> Tensor:
    """A tensor without values, made while tracing."""
    with FakeTensorMode():
        return torch.ones(2)


def quantised() -> Tensor:
    """A quantised tensor, whose values are integers with a scale elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def nested() -> Tensor:
    """Tensors of different lengths in one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def compressed() -> Tensor:
    """A sparse tensor by rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(2).to_sparse_csr()


REFUSED: dict[str, tuple[Callable[[], Tensor], str]] = {
    "sparse": (lambda: torch.eye(2).to_sparse(), "sparse_coo"),
    "compressed": (compressed, "sparse_csr"),
    "quantised": (quantised, "quantised"),
    "nested": (nested, "nested"),
    "meta": (lambda: torch.empty(2, device="meta"), "meta device"),
    "fake": (fake, "FakeTensor"),
    "wrapper": (lambda: Wrapper(torch.ones(2)), "Wrapper"),
    "lazy parameter": (lambda: torch.nn.UninitializedParameter(), "lazy module"),
    "lazy buffer": (lambda: torch.nn.UninitializedBuffer(), "lazy module"),
    "bits": (lambda: torch.empty(2, dtype=torch.bits8), "bits8"),
    "sub-byte": (lambda: torch.empty(2, dtype=getattr(torch, SUB_BYTE)), "uint4"),
    "freed": (freed, "storage is smaller"),
    "cut off": (cut_off, "storage is smaller"),
    "deep": (lambda: torch.ones((1,) * 64).unsqueeze(0), "65 dimensions"),
}
if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
    REFUSED["mkldnn"] = (lambda: torch.ones(2, 2).to_mkldnn(), "mkldnn")


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_its_reason(kind: str) -> None:
    """The error names the tensor and says what about it cannot be saved."""
    make, reason = REFUSED[kind]
    with pytest.raises(UnsavableError) as caught:
        plan_file({"fine": torch.ones(1), f"the {kind}": make()}, {})
    assert f"'the {kind}'" in str(caught.value)
    assert reason in str(caught.value)
    assert "fine" not in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    """All unsavable tensors are listed in one error, the first twenty by name."""
    tensors = {f"t{number}": torch.empty(1, device="meta") for number in range(25)}
    with pytest.raises(UnsavableError, match="25 of 25") as caught:
        plan_file(tensors, {})
    assert "'t19'" in str(caught.value)
    assert "and 5 more" in str(caught.value)


def test_inside_a_functorch_transform() -> None:
    """A tensor seen inside vmap or grad stands for others and is refused."""
    reasons: list[str | None] = []

    def look(tensor: Tensor) -> Tensor:
        reasons.append(refusal(tensor))
        return tensor.sum()

    torch.func.grad(look)(torch.ones(2))
    torch.func.vmap(look)(torch.ones(2, 2))
    assert all(reason is not None and "functorch" in reason for reason in reasons)
    assert len(reasons) == 2


def test_ordinary_subclasses_are_saved() -> None:
    """Parameters, buffers and subclasses that merely mark a tensor are plain data."""
    tensors = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "buffer": torch.nn.Buffer(torch.ones(2)),
        "marked": torch.ones(2).as_subclass(Marked),
    }
    assert set(plan_file(tensors, {}).specs) == set(tensors)


def test_what_is_no_tensor_is_refused() -> None:
    """A value of another type under a tensor's name is refused, not converted."""
    with pytest.raises(UnsavableError, match="it is a int, not a tensor"):
        plan_file({"number": 3}, {})  # type: ignore[dict-item]
