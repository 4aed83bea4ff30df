"""Trees that no load could read are found without loading, and without torch."""

from __future__ import annotations

from holdfast.codec import Codec
from holdfast.engine.state_file import ComponentEntry, TensorFileEntry
from holdfast.engine.trees import TORCH_TAGS, unreadable_trees
from holdfast.jsontext import Json
from holdfast.state import torch_codec

FILES = {"state.safetensors": TensorFileEntry("", {"box/there": "0" * 32})}


def problems(tree: Json) -> list[str]:
    """Of one component that stores the tensor `box/there`."""
    return unreadable_trees([ComponentEntry("box", "object", "state.safetensors", tree)], FILES)


def test_a_tree_with_all_it_refers_to_is_readable() -> None:
    """Torch's values and references to stored tensors are known by their tags."""
    tree: Json = {
        "tensor": {"$": "tensor", "v": "box/there"},
        "dtype": {"$": "torch.dtype", "v": "torch.float32"},
        "size": {"$": "torch.Size", "v": [2, 3]},
    }
    assert problems(tree) == []


def test_unknown_tags_and_references_to_nothing_are_said() -> None:
    """The component, the place in it and the reason are named."""
    (unknown,) = problems({"inner": [{"$": "martian", "v": 1}]})
    assert "box.inner[0]" in unknown
    assert "'martian' is not known" in unknown
    (missing,) = problems({"inner": {"$": "tensor", "v": "box/gone"}})
    assert "'box/gone' not stored" in missing
    (malformed,) = problems({"inner": {"$": "torch.dtype", "v": {}}})
    assert "expected a name" in malformed


def test_every_tag_of_torch_is_stood_in_for() -> None:
    """The list beside the one that needs torch is complete."""
    standard = {tag.name for tag in Codec.standard().tags}
    assert {tag.name for tag in torch_codec().tags} - standard == set(TORCH_TAGS)
