"""The format page is enough to write a reader: this one knows nothing else, and no holdfast.

JSON, struct, XXH3 and numpy only; sections of the page are named where they are followed.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
NAME = "checkpoint_epoch0003_step00000120"
PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")

# "Notes on tensors"; those numpy lacks are left as the bytes they are.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "BOOL": "|b1",
    "C64": "<c8",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "F8_E4M3": "|u1",
    "F8_E4M3FNUZ": "|u1",
    "F8_E5M2": "|u1",
    "F8_E5M2FNUZ": "|u1",
}
Array = np.ndarray[Any, Any]


class Refused(Exception):
    """The checkpoint is not what was committed."""


def require(condition: bool, what: str) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise Refused(what)


def strict(data: bytes) -> Any:
    """Section "JSON"."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len({key for key, _ in pairs}) == len(pairs), "a key stands twice")
        return dict(pairs)

    def refuse(literal: str) -> None:
        raise Refused(literal)

    return json.loads(data, object_pairs_hook=unique, parse_constant=refuse)


def read_manifest(folder: Path) -> Any:
    """Section "manifest.json"."""
    data = (folder / "manifest.json").read_bytes()
    begin = data.rfind(b'  "digest": "xxh3-128:')
    require(begin > 0 and data.endswith(b'"\n}\n'), "manifest without its digest")
    found = "xxh3-128:" + xxh3_128_hexdigest(data[:begin])
    require(data[begin:] == f'  "digest": "{found}"\n}}\n'.encode(), "manifest digest")
    manifest = strict(data)
    require((manifest["format"], manifest["version"]) == ("holdfast", 1), "another format")
    files = manifest["files"]
    counts = {"files": len(files), "tensors": sum(file["tensors"] for file in files.values())}
    require(manifest["counts"] == counts, "counts")
    return manifest


def read_state(folder: Path, manifest: Any) -> Any:
    """Section "state.json"."""
    for file, record in manifest["files"].items():
        data = (folder / file).read_bytes()
        require(len(data) == record["bytes"], f"size of {file}")
        if record["digest"].startswith("xxh3-128:"):
            require(record["digest"] == "xxh3-128:" + xxh3_128_hexdigest(data), f"digest of {file}")
    state = strict((folder / "state.json").read_bytes())
    require((state["format"], state["version"]) == ("holdfast-state", 1), "another format")
    said = {n: (c["kind"], c["file"]) for n, c in manifest["components"].items()}
    found = {n: (c["kind"], c["file"]) for n, c in state["components"].items()}
    require(said == found, "components")
    return state


def read_tensors(folder: Path, file: str, entry: Any, digest: str) -> dict[str, Array]:
    """Sections "Tensor files", "Digests" and "Notes on tensors"."""
    data = (folder / file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    start = 8 + length
    require(start % 4096 == 0, "alignment")
    require(entry["header"] == "xxh3-128:" + xxh3_128_hexdigest(data[:start]), f"header of {file}")
    header = strict(data[8:start])
    require(header.pop("__metadata__") == {"format": "pt"}, "metadata")
    rows = sorted(header.items(), key=lambda row: row[1]["data_offsets"])
    require([name for name, _ in rows] == list(entry["tensors"]), f"names in {file}")
    parts, tensors, end = [xxh3_128_digest(data[:start])], {}, 0
    for name, spec in rows:
        begin, before = spec["data_offsets"][0], end
        end = spec["data_offsets"][1]
        require(begin == before, f"hole before {name}")
        raw = data[start + begin : start + end]
        require(xxh3_128_hexdigest(raw) == entry["tensors"][name], f"{file}: {name}")
        parts.append(xxh3_128_digest(raw))
        array = np.frombuffer(raw, DTYPES[spec["dtype"]]).reshape(spec["shape"])
        if entry["notes"].get(name, {}).get("dtype") == "complex128":
            array = array[..., 0] + 1j * array[..., 1]
        tensors[name] = array
    require(start + end == len(data), f"end of {file}")
    whole = "xxh3-128-parts:" + xxh3_128_hexdigest(b"".join(parts))
    require(whole == digest, f"digest of {file}")
    return tensors


def value_of(tree: Any, tensors: dict[str, Array]) -> Any:
    """Section "Trees: tagged JSON", for the tags that need no Python to be told."""
    if isinstance(tree, list):
        return [value_of(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$" not in tree:
        return {key: value_of(item, tensors) for key, item in tree.items()}
    tag, payload = tree["$"], tree["v"]
    if tag == "tensor":
        return tensors[payload]
    if tag == "int":
        return int(payload, 16)
    if tag == "float":
        bits = payload.removeprefix("nan:")
        return float(bits) if len(bits) < 16 else struct.unpack(">d", bytes.fromhex(bits))[0]
    if tag in ("bytes", "bytearray", "np.bytes"):
        return base64.b64decode(payload)
    if tag in ("dict", "OrderedDict", "Counter"):
        pairs = [(value_of(key, tensors), value_of(item, tensors)) for key, item in payload]
        return {tuple(key) if isinstance(key, list) else key: item for key, item in pairs}
    if tag == "ndarray":
        return array_of(payload, tensors)
    if tag in ("defaultdict", "deque"):
        items = payload["items"]
        return value_of({"$": "dict", "v": items} if tag == "defaultdict" else items, tensors)
    return value_of(payload, tensors)


def array_of(payload: Any, tensors: dict[str, Array]) -> Array:
    """The paragraph on `ndarray`."""
    dtype, shape = np.dtype(payload["dtype"]), payload["shape"]
    if isinstance(payload["data"], dict):
        raw = tensors[payload["data"]["v"]].tobytes()
    else:
        raw = base64.b64decode(payload["data"])
    stored = shape[::-1] if payload["order"] == "F" else shape
    array: Array = np.frombuffer(raw, dtype).reshape(stored)
    return array.T if payload["order"] == "F" else array


def read(case: str) -> tuple[Any, dict[str, Any], dict[str, dict[str, Array]]]:
    """Manifest, trees by component and tensors by file of one golden checkpoint."""
    folder = GOLDEN / case / NAME
    manifest = read_manifest(folder)
    state = read_state(folder, manifest)
    tensors = {
        file: read_tensors(folder, file, entry, manifest["files"][file]["digest"])
        for file, entry in state["files"].items()
    }
    trees = {
        name: value_of(component["tree"], tensors.get(component["file"], {}))
        for name, component in state["components"].items()
    }
    return manifest, trees, tensors


def test_a_session_is_read_from_the_page_alone() -> None:
    """Weights, optimizer moments, scheduler, record and metrics of the plain case."""
    manifest, trees, tensors = read("plain")
    assert (manifest["epoch"], manifest["global_step"], manifest["sequence"]) == (3, 120, 7)
    assert manifest["time"] == "2026-11-23T14:00:00.250000Z"
    assert list(manifest["components"]) == ["model", "optimizer", "scheduler", "rng", "run"]
    eighths = [[0.0, 0.125, 0.25], [0.375, 0.5, 0.625]]
    assert tensors["model.safetensors"]["0.weight"].tolist() == eighths
    assert tensors["optimizer.safetensors"]["state.0.weight.exp_avg"].tolist() == eighths
    entry = trees["optimizer"]["state_dict"]["state"][0]
    assert entry["exp_avg_sq"].tolist() == [[0.0, 0.25, 0.5], [0.75, 1.0, 1.25]]
    assert trees["optimizer"]["parameters"][0][0] == ["0.weight", [2, 3], "torch.float32"]
    assert trees["scheduler"]["milestones"] == {2: 1, 4: 2}
    assert trees["model"] == {"extra": {}, "versions": {"1": {"version": 2}}}
    assert trees["run"]["metrics_history"][0]["metrics"] == {"val_loss": 0.5}
    assert trees["rng"]["torch:cpu"]["state"].dtype == np.uint8


def test_ties_are_aliases() -> None:
    """The second name of a tied weight leads to the first."""
    _, _, tensors = read("tied")
    state = strict((GOLDEN / "tied" / NAME / "state.json").read_bytes())
    assert state["components"]["model"]["aliases"] == {"out.weight": "embed.weight"}
    assert list(tensors["model.safetensors"]) == ["embed.weight"]


def test_dtypes_and_layouts_are_read_from_the_page_alone() -> None:
    """Every stored dtype holds the bytes 0 to 15; values are row-major whatever the layout was."""
    _, trees, _ = read("dtypes")
    state = strict((GOLDEN / "dtypes" / NAME / "state.json").read_bytes())
    notes = state["files"]["state.safetensors"]["notes"]
    extra = trees["run"]["extra_state"]
    for name in ("float64", "bfloat16", "uint16", "complex64", "complex128", "complex32"):
        assert extra[name].tobytes() == bytes(range(16)), name
    assert notes["run/extra_state.channels_last"] == {"order": [0, 2, 3, 1]}
    assert extra["channels_last"].flatten().tolist() == [n / 8 for n in range(24)]
    assert notes["run/extra_state.float8_e8m0fnu"] == {"dtype": "float8_e8m0fnu"}
    assert (extra["scalar"].shape, extra["empty"].shape) == ((), (0, 3))


def test_tags_are_read_from_the_page_alone() -> None:
    """Numbers beyond JSON, keys of any type, arrays of both orders."""
    _, trees, _ = read("tags")
    extra = trees["run"]["extra_state"]
    assert extra["int"] == [2**53, 2**64, -(2**64)]
    assert extra["float"][2:4] == [np.inf, -np.inf]
    assert extra["dict"] == {1: "one", (2, 3): "pair", "$": "text"}
    assert extra["ndarray"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert extra["fortran"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert extra["large"].tolist() == [float(n) for n in range(2500)]


def test_every_tag_in_the_golden_files_is_in_the_table() -> None:
    """No file holds a tag that the page does not describe."""
    text = (GOLDEN / "tags" / NAME / "state.json").read_text(encoding="ascii")
    tags: set[str] = set()

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if isinstance(found.get("$"), str) and "v" in found:
            tags.add(found["$"])
        return found

    json.loads(text, object_pairs_hook=collect)
    table = PAGE.partition("## Trees: tagged JSON")[2].partition("## Notes")[0]
    assert len(tags) > 40
    assert {tag for tag in tags if f"`{tag}`" not in table} == set()


@pytest.mark.parametrize("case", ["truncated", "flipped", "missing", "dropped_entry"])
def test_the_page_suffices_to_notice_damage(case: str) -> None:
    """The reader of the page refuses every damaged golden checkpoint."""
    with pytest.raises((Refused, FileNotFoundError)):
        read(case)
