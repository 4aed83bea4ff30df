"""Proving the bytes of a checkpoint: whatever changed on disk is found and named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensor_file_helpers import Committed, commit, describe_file, sample_tensors

from holdfast.digest import digest_bytes
from holdfast.engine.ranges import BATCH_TENSOR_BYTES, CHUNK_BYTES, cut_units, run_units
from holdfast.engine.tensor_file import open_tensor_file
from holdfast.engine.verify import (
    find_damage,
    find_file_damage,
    prove_file,
    prove_tensors,
    read_proven,
)
from holdfast.errors import DamagedError, FormatError, LoadError
from holdfast.manifest import FileRecord
from holdfast.storage.memory import MemoryRun
from holdfast.storage.opened import LocalOpened
from holdfast.tensorfile import TensorSpec


@pytest.fixture
def committed(tmp_path: Path) -> Committed:
    """A file of sample tensors."""
    return commit(tmp_path, sample_tensors())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """A file small enough to damage at every byte."""
    tensors = {"a": torch.arange(5, dtype=torch.int16), "b": torch.tensor(True)}
    return commit(tmp_path_factory.mktemp("small"), tensors)


def _prove(committed: Committed) -> None:
    prove_tensors(committed.open())


def test_a_sound_file_is_proven(committed: Committed) -> None:
    """Nothing is reported of a file that is as it was committed."""
    _prove(committed)
    assert find_damage(committed.open()) == []


def test_every_flipped_bit_is_found(small: Committed) -> None:
    """No bit of header or data can change unnoticed."""
    sound = small.path.read_bytes()
    for position in range(len(sound)):
        for bit in (0x01, 0x80):
            damaged = bytearray(sound)
            damaged[position] ^= bit
            small.path.write_bytes(damaged)
            with pytest.raises(LoadError, match=r"model\.safetensors"):
                _prove(small)
    small.path.write_bytes(sound)
    _prove(small)


def test_every_truncation_and_any_extension_is_found(small: Committed) -> None:
    """A file that ends early, or goes on, is not the file that was committed."""
    sound = small.path.read_bytes()
    for length in range(len(sound)):
        small.path.write_bytes(sound[:length])
        with pytest.raises(DamagedError, match="committed were"):
            _prove(small)
    small.path.write_bytes(sound + b"\0")
    with pytest.raises(DamagedError, match="committed were"):
        _prove(small)
    small.path.write_bytes(sound)


def test_damage_names_the_tensor_and_both_digests(committed: Committed) -> None:
    """The error says which tensor of which file, what was committed and what was found."""
    file = committed.open()
    data = bytearray(committed.path.read_bytes())
    data[file.data_start + file.specs["image"].end - 1] ^= 1
    committed.path.write_bytes(data)
    expected = committed.entry.tensors["image"]
    with pytest.raises(DamagedError, match=rf"'image'.*xxh3-128:.*xxh3-128:{expected}"):
        prove_tensors(committed.open())


def test_all_damage_is_listed_in_file_order(committed: Committed) -> None:
    """Verification for people goes on after the first damage."""
    file = committed.open()
    names = ["embedding", "image", "layers.17.weight", "step"]
    data = bytearray(committed.path.read_bytes())
    for name in names:
        data[file.data_start + file.specs[name].begin] ^= 0xFF
    committed.path.write_bytes(data)
    found = find_damage(committed.open())
    assert [damage.tensor for damage in found] == [n for n in file.specs if n in names]
    assert all(damage.tensor in str(damage) for damage in found if damage.tensor)


def test_only_the_tensors_asked_for_are_read(committed: Committed) -> None:
    """A partial load is not stopped by damage elsewhere."""
    file = committed.open()
    data = bytearray(committed.path.read_bytes())
    data[file.data_start + file.specs["image"].begin] ^= 1
    committed.path.write_bytes(data)
    prove_tensors(committed.open(), ["embedding", "step"])


def test_unreadable_ranges_do_not_hide_what_lies_behind(committed: Committed) -> None:
    """Where the disk gives nothing back, that range is damage and the rest is still checked."""
    file = committed.open()
    last = list(file.specs)[-1]
    with committed.path.open("r+b") as stream:
        stream.truncate(file.data_start + file.specs[last].end - 1)
    found = find_damage(file)
    assert last in {damage.tensor for damage in found}
    assert all("ends at byte" in damage.found for damage in found)


def test_swapped_files_are_found(tmp_path: Path) -> None:
    """Two sound files under each other's names are both refused."""
    first = commit(tmp_path, {"w": torch.zeros(8)}, file="a.safetensors")
    second = commit(tmp_path, {"w": torch.ones(8)}, file="b.safetensors")
    spare = tmp_path / "spare"
    first.path.rename(spare)
    second.path.rename(first.path)
    spare.rename(second.path)
    for committed in (first, second):
        with pytest.raises(DamagedError):
            _prove(committed)


def test_swapped_digests_in_the_state_are_found(small: Committed) -> None:
    """A digest table that is not the one the manifest was committed with is refused."""
    names = list(small.entry.tensors)
    swapped = dict(zip(names, reversed(list(small.entry.tensors.values())), strict=True))
    with pytest.raises(DamagedError, match="manifest"):
        _prove(small._replace(entry=replace(small.entry, tensors=swapped)))


def test_a_tensor_missing_from_the_state_is_found(small: Committed) -> None:
    """File and state must name the same tensors, in either direction."""
    fewer = {"a": small.entry.tensors["a"]}
    more = {**small.entry.tensors, "c": "0" * 32}
    for tensors in (fewer, more):
        with pytest.raises(FormatError, match="different tensors"):
            _prove(small._replace(entry=replace(small.entry, tensors=tensors)))


def test_a_wrong_tensor_count_in_the_manifest_is_found(small: Committed) -> None:
    """The manifest's own count must agree, so that a smaller file cannot pass for it."""
    record = replace(small.record, tensors=3)
    with pytest.raises(FormatError, match="3"):
        _prove(small._replace(record=record))


def test_progress_counts_every_byte_once(committed: Committed) -> None:
    """Progress adds up to the data section."""
    file = committed.open()
    counts: list[int] = []
    prove_tensors(file, progress=counts.append)
    assert sum(counts) == committed.record.bytes - file.data_start


def test_files_in_memory_are_proven_the_same_way(small: Committed) -> None:
    """Proof needs the storage seam only, not a disk."""
    data = small.path.read_bytes()
    run = MemoryRun()
    with run.stage("step1") as staged:
        staged.write_bytes("model.safetensors", data)
        staged.publish()
    with run.open("step1") as opened:
        prove_tensors(open_tensor_file(opened, "model.safetensors", small.entry, small.record))


def test_plain_files_are_proven_by_size_and_digest(tmp_path: Path) -> None:
    """Files without tensors are compared as a whole."""
    data = os.urandom(CHUNK_BYTES + 5)
    (tmp_path / "state.json").write_bytes(data)
    record = FileRecord(len(data), digest_bytes(data))
    with LocalOpened(tmp_path) as opened:
        prove_file(opened, "state.json", record)
        assert read_proven(opened, "state.json", record, max_bytes=1 << 20) == data
        for wrong in (replace(record, bytes=1), replace(record, digest=digest_bytes(b""))):
            damage = find_file_damage(opened, "state.json", wrong)
            assert damage is not None
            assert damage.file == "state.json"
            with pytest.raises(DamagedError, match=r"state\.json"):
                read_proven(opened, "state.json", wrong, max_bytes=1 << 20)


def test_a_file_without_tensors_is_proven_by_its_header(tmp_path: Path) -> None:
    """An empty tensor file is sound and has nothing to read."""
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    committed = describe_file(tmp_path / "model.safetensors")
    _prove(committed)
    assert committed.open().specs == {}


@given(
    st.lists(
        st.one_of(
            st.integers(0, 40),
            st.integers(BATCH_TENSOR_BYTES - 1, BATCH_TENSOR_BYTES + 1),
            st.integers(CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        ),
        max_size=40,
    ),
    st.data(),
)
def test_units_cover_each_wanted_tensor_once(sizes: list[int], data: st.DataObject) -> None:
    """However sizes fall, every wanted tensor is in one unit, and small units fit one chunk."""
    specs: dict[str, TensorSpec] = {}
    offset = 0
    for index, size in enumerate(sizes):
        specs[str(index)] = TensorSpec("U8", (size,), offset, offset + size)
        offset += size
    wanted = data.draw(st.sets(st.sampled_from(list(specs)))) if specs else set()
    units = cut_units(specs, wanted)
    assert [name for unit in units for name in unit.names] == [n for n in specs if n in wanted]
    for unit in units:
        assert unit.begin == specs[unit.names[0]].begin
        assert unit.end == specs[unit.names[-1]].end
        assert len(unit.names) == 1 or unit.end - unit.begin <= CHUNK_BYTES
        assert unit.end - unit.begin == sum(specs[name].nbytes for name in unit.names)


def test_the_first_failure_stops_the_other_threads() -> None:
    """One thread's error reaches the caller and no thread goes on to the end."""
    done: list[int] = []

    def work(items: Iterator[int]) -> None:
        for item in items:
            if item == 3:
                raise LoadError("three")
            done.append(item)

    with pytest.raises(LoadError, match="three"):
        run_units(list(range(1_000_000)), work, threads=2)
    assert len(done) < 999_999


def test_proving_needs_no_torch() -> None:
    """The command line verifies checkpoints without the seconds torch takes to import."""
    script = (
        "import sys; import holdfast.engine.verify, holdfast.engine.tensor_file, "
        "holdfast.storage.opened; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
