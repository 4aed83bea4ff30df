"""One checkpoint: what it holds, where it came from, what it cost. Without torch."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.listing import checkpoint_data
from holdfast.cli.output import clean, paint, size_text, strict, table
from holdfast.engine.checkpoint_files import open_files
from holdfast.manifest import Manifest, iso_time
from holdfast.storage import LocalRun


@dataclass(frozen=True)
class Shown:
    """A checkpoint to print. tensors: (component file, name, dtype, shape, bytes), if asked for."""

    name: str
    manifest: Manifest
    tensors: list[tuple[str, str, str, tuple[int, ...], int]] | None

    def as_data(self) -> dict[str, Any]:
        """Everything the manifest says, as plain data."""
        m = self.manifest
        return {
            "schema": "holdfast-show/1",
            **checkpoint_data(m.info(self.name)),
            "id": m.id,
            "directions": dict(m.directions),
            "components": {
                name: {
                    "kind": record.kind,
                    "files": [f for f in (record.file, *record.more_files) if f is not None],
                    "tensors": record.tensors,
                    "bytes": record.bytes,
                }
                for name, record in m.components.items()
            },
            "files": {
                name: {"bytes": record.bytes, "digest": record.digest, "tensors": record.tensors}
                for name, record in m.files.items()
            },
            "parents": [
                {"relation": p.relation, "id": p.id, "name": p.name, "global_step": p.global_step}
                for p in m.parents
            ],
            "world": dict(m.world),
            "provenance": dict(m.provenance),
            "cost": dict(m.cost),
            "other": dict(m.extra),
            "tensors": None
            if self.tensors is None
            else [
                {"file": file, "name": name, "dtype": dtype, "shape": list(shape), "bytes": nbytes}
                for file, name, dtype, shape, nbytes in self.tensors
            ],
        }

    def as_text(self) -> str:
        """A page for people."""
        m = self.manifest
        facts = [
            ["epoch, step", f"{m.epoch}, {m.global_step}"],
            ["saved", f"{iso_time(m.time)}, because {m.reason.text}"],
            ["metrics", ", ".join(f"{k} {v:.6g}" for k, v in m.metrics.items()) or "none"],
            ["pinned", m.pinned or "no"],
            ["id", m.id],
        ]
        facts += [
            [p.relation.replace("_", " "), f"{p.name} (step {p.global_step})"] for p in m.parents
        ]
        for label, mapping in (("cost", m.cost), ("provenance", m.provenance), ("other", m.extra)):
            facts += [[f"{label} {key}", _brief(value)] for key, value in mapping.items()]
        parts = [
            [
                name,
                r.kind,
                ", ".join(f for f in (r.file, *r.more_files) if f),
                str(r.tensors),
                size_text(r.bytes),
            ]
            for name, r in m.components.items()
        ]
        files = [[name, size_text(r.bytes), r.digest] for name, r in m.files.items()]
        sections = [
            paint(clean(self.name), "bold") + "\n" + _facts(facts),
            table(["component", "kind", "files", "tensors", "size"], parts, "   rr"),
            table(["file", "size", "digest"], files, " r"),
        ]
        if self.tensors is not None:
            rows = [
                [name, dtype, str(list(shape)), size_text(nbytes), file]
                for file, name, dtype, shape, nbytes in self.tensors
            ]
            sections.append(table(["tensor", "dtype", "shape", "size", "file"], rows, "   r"))
        return "\n\n".join(sections)


def show(folder: Path, patterns: list[str] | None) -> Shown:
    """Open the checkpoint at `folder`. patterns: list the stored tensors that one of them fits."""
    folder = folder.resolve()
    with open_files(LocalRun(folder.parent), folder.name) as files:
        tensors = None
        if patterns is not None:
            tensors = [
                (file, name, spec.dtype, spec.shape, spec.end - spec.begin)
                for file in files.state.files
                for name, spec in files.tensor_file(file).specs.items()
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            ]
        return Shown(folder.name, files.manifest, tensors)


def _facts(rows: list[list[str]]) -> str:
    width = max(len(clean(label, 40)) for label, _ in rows)
    return "\n".join(f"  {clean(label, 40):<{width}}  {clean(text, 400)}" for label, text in rows)


def _brief(value: object) -> str:
    return str(value) if isinstance(value, (str, int, float)) else str(strict(value))
