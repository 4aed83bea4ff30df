"""Forging checkpoints: files changed at will, with the digest chain made right again.

Knows the format by its page alone and uses nothing of holdfast, so that a mistake there cannot
hide here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_digest, xxh3_128_hexdigest

MANIFEST, STATE = "manifest.json", "state.json"


def seal(body: bytes) -> bytes:
    """A manifest from its JSON text: the digest of itself as its last key."""
    covered = body.rstrip()[:-1].rstrip() + b",\n"
    return covered + b'  "digest": "xxh3-128:' + xxh3_128_hexdigest(covered).encode() + b'"\n}\n'


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's fields without its digest."""
    fields: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    del fields["digest"]
    return fields


def read_state(folder: Path) -> dict[str, Any]:
    """The content of state.json."""
    state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    return state


def write_manifest(folder: Path, fields: object) -> None:
    """Write a sealed manifest of these fields."""
    replace(folder / MANIFEST, seal(json.dumps(fields, indent=2).encode()))


def write_plain(folder: Path, file: str, data: bytes) -> None:
    """Write a plain file and everything that vouches for it."""
    replace(folder / file, data)
    fields = read_manifest(folder)
    digest = "xxh3-128:" + xxh3_128_hexdigest(data)
    fields["files"][file] = {"bytes": len(data), "digest": digest, "tensors": 0}
    fields["counts"]["files"] = len(fields["files"])
    write_manifest(folder, fields)


def write_state(folder: Path, state: object) -> None:
    """Write a state.json and everything that vouches for it."""
    write_plain(folder, STATE, json.dumps(state).encode())


def write_tensors(folder: Path, file: str, data: bytes) -> None:
    """Write a tensor file and everything that vouches for it, as far as its header can be read."""
    replace(folder / file, data)
    length = int.from_bytes(data[:8], "little")
    header = data[: 8 + length]
    tensors = _tensor_digests(header[8:], data[8 + length :])
    state = read_state(folder)
    entry = state["files"][file]
    entry["header"] = "xxh3-128:" + xxh3_128_hexdigest(header)
    entry["tensors"] = tensors or entry["tensors"]
    entry["notes"] = {name: n for name, n in entry["notes"].items() if name in entry["tensors"]}
    write_state(folder, state)
    parts = [xxh3_128_digest(header), *map(bytes.fromhex, entry["tensors"].values())]
    fields = read_manifest(folder)
    before = fields["files"][file]["tensors"]
    fields["files"][file] = {
        "bytes": len(data),
        "digest": "xxh3-128-parts:" + xxh3_128_hexdigest(b"".join(parts)),
        "tensors": len(entry["tensors"]),
    }
    fields["counts"]["tensors"] += len(entry["tensors"]) - before
    write_manifest(folder, fields)


def replace(path: Path, data: bytes) -> None:
    """Put a new file in place of whatever has the name; never writes through a link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _tensor_digests(header: bytes, data: bytes) -> dict[str, str]:
    """Digest by name in offset order, where the header makes any sense; else nothing."""
    try:
        table = json.loads(header)
        rows = [(entry["data_offsets"], name) for name, entry in table.items() if name[:2] != "__"]
        return {name: xxh3_128_hexdigest(data[begin:end]) for (begin, end), name in sorted(rows)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return {}
