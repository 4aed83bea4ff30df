"""The manifest: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.digest import digest_bytes
from holdfast.errors import DamagedError, FormatError
from holdfast.manifest import (
    ComponentRecord,
    FileRecord,
    Manifest,
    checkpoint_name,
    is_checkpoint_name,
    iso_time,
    parse_manifest,
    parse_time,
    render_manifest,
)
from holdfast.values import Parent, SaveReason

EXAMPLE = Manifest(
    id="0123456789abcdef" * 2,
    epoch=3,
    global_step=12000,
    branch=1,
    sequence=41,
    time=1_790_000_000.25,
    reason=SaveReason("best", "val_loss improved to 1.5"),
    components={
        "model": ComponentRecord("module", "model.safetensors", 2, 4096),
        "scheduler": ComponentRecord("object", None, 0, 0),
    },
    files={
        "model.safetensors": FileRecord(8192, "xxh3-128-parts:" + "a" * 32, 2),
        "state.json": FileRecord(300, "xxh3-128:" + "b" * 32),
    },
    metrics={"val_loss": 1.5, "val_bleu": 30.25},
    directions={"val_loss": "min", "val_bleu": "max"},
    parents=(Parent("resumed_from", "f" * 32, "checkpoint_epoch0002_step00011000", 11000),),
    world={"size": 1, "layout": "single"},
    provenance={"host": "somewhere", "git": None},
)


def test_a_manifest_comes_back_as_it_was() -> None:
    """Every field survives rendering and parsing."""
    assert parse_manifest(render_manifest(EXAMPLE), where="m") == EXAMPLE


@given(
    st.dictionaries(
        st.text(max_size=20), st.floats(allow_nan=True, allow_infinity=True), max_size=5
    )
)
def test_any_metric_comes_back_exactly(metrics: dict[str, float]) -> None:
    """Finite metrics are exact; NaN and infinities come back as what they are."""
    found = parse_manifest(render_manifest(replace(EXAMPLE, metrics=metrics)), where="m").metrics
    assert list(found) == list(metrics)
    for name, value in metrics.items():
        assert repr(found[name]) == repr(value) or (math.isnan(value) and math.isnan(found[name]))


def test_it_is_strict_json_that_other_tools_read() -> None:
    """The stock parser reads it, and finds the digest last."""
    document = json.loads(render_manifest(EXAMPLE))
    assert document["format"] == "holdfast"
    assert list(document)[-1] == "digest"


def test_unknown_keys_survive_a_rewrite() -> None:
    """A key that a later version added is kept when this version writes the manifest again."""
    newer = replace(EXAMPLE, extra={"verified_by": {"host": "elsewhere"}})
    again = parse_manifest(render_manifest(newer), where="m")
    assert again.extra == {"verified_by": {"host": "elsewhere"}}
    assert render_manifest(again) == render_manifest(newer)


def test_every_single_damaged_byte_is_noticed() -> None:
    """Whichever byte is changed, dropped or added, the manifest is refused."""
    good = render_manifest(EXAMPLE)
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 0x04
        shorter = good[:position] + good[position + 1 :]
        longer = good[:position] + b" " + good[position:]
        for bad in (bytes(flipped), shorter, longer, good[:position]):
            with pytest.raises((DamagedError, FormatError), match="m"):
                parse_manifest(bad, where="m")


def _forged(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A manifest with a change and a digest that fits it: damage cannot do this, malice can."""
    document = json.loads(render_manifest(EXAMPLE))
    del document["digest"]
    change(document)
    covered = json.dumps(document, indent=2).encode()[:-2] + b",\n"
    return covered + b'  "digest": "' + digest_bytes(covered).encode() + b'"\n}\n'


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda d: d.update(format="elsewhere"),
    "a later version": lambda d: d.update(version=2),
    "a dropped file list": lambda d: d.pop("files"),
    "a dropped file": lambda d: d["files"].pop("state.json"),
    "an emptied file list": lambda d: d.update(files={}),
    "a path as a file name": lambda d: d["files"].update({"../x": d["files"]["state.json"]}),
    "a hidden file name": lambda d: d["files"].update({".x": d["files"]["state.json"]}),
    "itself as a file": lambda d: d["files"].update({"manifest.json": d["files"]["state.json"]}),
    "a negative size": lambda d: d["files"]["state.json"].update(bytes=-1),
    "an absurd size": lambda d: d["files"]["state.json"].update(bytes=2**70),
    "a boolean size": lambda d: d["files"]["state.json"].update(bytes=True),
    "a digest of another kind": lambda d: d["files"]["state.json"].update(digest="md5:00"),
    "a component without its file": lambda d: d["components"]["model"].update(file="x"),
    "a component of no kind": lambda d: d["components"]["model"].update(kind="pickle"),
    "a wrong tensor count": lambda d: d["counts"].update(tensors=3),
    "a textual step": lambda d: d.update(global_step="12000"),
    "a textual metric": lambda d: d["metrics"].update(val_loss="best"),
    "a boolean metric": lambda d: d["metrics"].update(val_loss=True),
    "a huge integer metric": lambda d: d["metrics"].update(val_loss=10**400),
    "a third direction": lambda d: d["directions"].update(val_loss="auto"),
    "an id of another form": lambda d: d.update(id="latest"),
    "a time of another form": lambda d: d.update(time="yesterday"),
    "parents that are no records": lambda d: d.update(parents=["x"]),
    "a list in place of an object": lambda d: d.update(components=[]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_well_digested_lie_is_refused(case: str) -> None:
    """A manifest that breaks a rule is refused by name even when its digest fits."""
    with pytest.raises(FormatError, match="m"):
        parse_manifest(_forged(HOSTILE[case]), where="m")


def test_names_sort_by_epoch_and_step_and_tell_namesakes_apart() -> None:
    """Folder names are for people, and say which save of an epoch and step they are."""
    assert checkpoint_name(3, 12000) == "checkpoint_epoch0003_step00012000"
    assert checkpoint_name(3, 12000, 2) == "checkpoint_epoch0003_step00012000_2"
    assert sorted([checkpoint_name(10, 5), checkpoint_name(2, 7)])[0] == checkpoint_name(2, 7)
    assert is_checkpoint_name(checkpoint_name(3, 12000))
    for other in ("latest", ".holdfast-tmp-checkpoint_x", "checkpoint_", "checkpoint_a/b"):
        assert not is_checkpoint_name(other)


def test_times_are_utc_and_exact_to_the_microsecond() -> None:
    """A time survives being written, and anything else is refused."""
    assert parse_time(iso_time(1_790_000_000.25)) == 1_790_000_000.25
    with pytest.raises(ValueError, match="match"):
        parse_time("2026-11-23 14:00")
