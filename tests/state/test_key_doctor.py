"""Why a checkpoint's names do not fit a model, and mappings that make them fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import CheckpointNotFoundError, FormatError, MismatchError
from holdfast.state.key_doctor import diagnose
from holdfast.state.key_mapping import KeyMapping, MappingEntry

Shapes = dict[str, tuple[int, ...]]


class Apart(nn.Module):
    """Queries, keys and values in layers of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.attn.add_module(name, nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)


def _fused(model: Apart) -> dict[str, Tensor]:
    """Its weights with the three projections fused."""
    state = dict(model.state_dict())
    for kind in ("weight", "bias"):
        parts = [state.pop(f"attn.{name}_proj.{kind}") for name in "qkv"]
        state[f"attn.in_proj_{kind}"] = torch.cat(parts)
    return state


_HEAD = '{"format": "holdfast-mapping", "version": 1, "entries": '


def _shapes(state: dict[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_a_checkpoint_that_fits_needs_nothing() -> None:
    """No proposals, nothing missing."""
    shapes = _shapes(dict(Apart().state_dict()))
    assert diagnose(shapes, shapes).fits
    assert diagnose(shapes, shapes).fitting == len(shapes)


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
@pytest.mark.parametrize("direction", ["split", "fuse"])
def test_fused_and_split_projections_are_proposed_and_apply(
    prefix: str, direction: str, tmp_path: Path
) -> None:
    """Both ways, also below a prefix; the mapping survives its file and loads the very values."""
    torch.manual_seed(0)
    source = Apart()
    apart, fused = dict(source.state_dict()), _fused(source)
    stored, wanted = (fused, apart) if direction == "split" else (apart, fused)
    stored = {f"{prefix}{name}": tensor for name, tensor in stored.items()}
    torch.save(stored, tmp_path / "other.pt")
    found = diagnose(_shapes(wanted), _shapes(stored))
    assert not found.missing
    assert not found.unexpected
    assert [proposal.confidence for proposal in found.proposals] == sorted(
        (proposal.confidence for proposal in found.proposals), reverse=True
    )
    (tmp_path / "names.json").write_bytes(found.mapping(0.5).to_bytes())
    model = _holding(wanted)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "run"), progress=False), model)
    if prefix != "module.":  # which reading such a file cuts off by itself
        manager.load(tmp_path / "other.pt", mapping=tmp_path / "names.json")
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, wanted[name]), name


def _holding(state: dict[str, Tensor]) -> nn.Module:
    """A module with zeros under these names."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, nn.Parameter(torch.zeros_like(tensor)))
    return root


def test_a_checkpoint_of_ours_loads_through_a_mapping_too(tmp_path: Path) -> None:
    """Parts are read straight into their places, proven as ever; the optimizer stays as it is."""
    torch.manual_seed(0)
    source = Apart()
    config = CheckpointConfig(str(tmp_path / "run"), progress=False)
    saved = CheckpointManager(config, source, torch.optim.SGD(source.parameters())).save(0, 1)
    wanted = _fused(source)
    model = _holding(wanted)
    names = diagnose(_shapes(wanted), _shapes(dict(source.state_dict()))).mapping()
    manager = CheckpointManager(config, model, torch.optim.SGD(model.parameters()))
    manager.load(saved, mapping=names)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_other_names_are_matched_by_spelling_and_by_shape_with_less_confidence() -> None:
    """Weaker evidence ranks lower; what nothing explains is listed."""
    wanted: Shapes = {"layer1.weight": (3, 4), "emb": (9, 2), "a.bias": (5,), "same": (2,)}
    found: Shapes = {"layer_1.weight": (3, 4), "table": (9, 2), "b.bias": (6,), "same": (3,)}
    diagnosis = diagnose(wanted, found)
    pairs = {e.to: (e.sources, e.confidence) for p in diagnosis.proposals for e in p.entries}
    assert pairs == {
        "layer1.weight": (("layer_1.weight",), 0.6),
        "emb": (("table",), 0.3),
    }
    assert (diagnosis.missing, diagnosis.unexpected) == (("a.bias",), ("b.bias",))
    assert diagnosis.reshaped == {"same": ((2,), (3,))}
    assert [entry.to for entry in diagnosis.mapping(0.5).entries] == ["layer1.weight"]


def test_a_mapping_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """Every entry that leads nowhere is listed, before anything live changes."""
    model = nn.Linear(2, 3)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model)
    saved = manager.save(0, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    entries = (
        MappingEntry("weight", ("gone",)),
        MappingEntry("bias", ("bias",), rows=(0, 9)),
        MappingEntry("other", ("weight", "bias")),
    )
    with pytest.raises(MismatchError, match="'gone'") as caught:
        manager.load(saved, mapping=KeyMapping(entries))
    assert len(caught.value.problems) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        _HEAD.replace("1", "2") + "[]}",
        _HEAD + "{}}",
        _HEAD + '[{"to": "a", "from": []}]}',
        _HEAD + '[{"to": "a", "from": ["b"], "rows": [3, 1]}]}',
        _HEAD + '[{"to": "a", "from": ["b"]}, {"to": "a", "from": ["c"]}]}',
    ],
)
def test_files_that_are_no_mapping_are_refused(text: str, tmp_path: Path) -> None:
    """A mapping is read strictly."""
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(FormatError):
        KeyMapping.read(tmp_path / "names.json")
    with pytest.raises(CheckpointNotFoundError):
        KeyMapping.read(tmp_path / "nothing.json")
