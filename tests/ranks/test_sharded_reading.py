"""A sharded checkpoint read by one process, as if one process had written it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_threads import make_ranks, on_all
from safetensors import safe_open
from sharded_runs import save_sharded, session

from holdfast.coordination import Coordination
from holdfast.digest import digest_bytes
from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.open_checkpoint import Reader, open_checkpoint
from holdfast.engine.rank_part import Part
from holdfast.engine.save import SaveReceipt
from holdfast.errors import FormatError, HoldfastError, LoadError, SaveError
from holdfast.manifest import parse_manifest, render_manifest
from holdfast.manifest.record import FileRecord
from holdfast.selection import average, average_state, verify_recipe
from holdfast.session import LiveObjects, load_into
from holdfast.session.components import read_component
from holdfast.session.folder import FolderSource
from holdfast.storage import LocalRun
from holdfast.weights import mean_of


@pytest.fixture(scope="module")
def objects() -> LiveObjects:
    """What was saved."""
    return session()


@pytest.fixture(scope="module")
def folder(objects: LiveObjects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three ranks."""
    run = tmp_path_factory.mktemp("run")
    (first, *_) = save_sharded(run, 3, objects)
    assert isinstance(first, SaveReceipt), first
    return run / first.name


def test_a_live_session_is_restored_bit_for_bit(folder: Path, objects: LiveObjects) -> None:
    """Weights, buffers, ties and optimizer state come back; random states say why they do not."""
    fresh = session(seed=1)
    loaded = load_into(folder, fresh)
    for name, value in objects.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name]), name
    assert objects.optimizer is not None
    assert fresh.optimizer is not None
    state = fresh.optimizer.state_dict()["state"]
    for index, entry in objects.optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            assert torch.equal(value, state[index][key])
    lines = {line.item: line for line in loaded.lines}
    assert lines["rng"].status == "mismatch"
    assert "saved by 3 ranks, here are 1" in lines["rng"].detail


def test_components_are_read_whole(folder: Path, objects: LiveObjects) -> None:
    """State dicts are put together from the pieces; what ranks kept for themselves is rank 0's."""
    with FolderSource.at(folder) as source:
        found = read_component(source, "model")
        assert found.keys() == objects.model.state_dict().keys()
        assert found["head.weight"] is found["tied.weight"]
        assert set(read_component(source, "rng")) >= {"python", "numpy", "torch:cpu"}


def test_nothing_is_stored_twice(folder: Path, objects: LiveObjects) -> None:
    """All ranks together write each element once, and each about as much as the others."""
    with open_files(LocalRun(folder.parent), folder.name) as files:
        sizes = {n: r.bytes for n, r in files.manifest.files.items() if n.startswith("model-")}
        unique = files.manifest.components["model"].bytes
    overhead = 4096 * len(sizes)
    assert sum(sizes.values()) <= 1.02 * unique + overhead
    assert max(sizes.values()) <= unique / 3 + 4 * 4096


def test_stock_readers_read_the_folder(folder: Path, objects: LiveObjects) -> None:
    """torch.distributed.checkpoint with its own safetensors reader, and stock safetensors."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    wanted = {
        name: torch.zeros_like(value)
        for name, value in objects.model.state_dict().items()
        if not value.is_complex() and value.numel() and name != "tied.weight"
    }
    reader = HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        load(wanted, storage_reader=reader, no_dist=True)
    for name, value in wanted.items():
        assert torch.equal(value, objects.model.state_dict()[name]), name
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert all(file.get_tensor(name) is not None for name in file.keys())  # noqa: SIM118


def test_readers_share_the_proof(folder: Path) -> None:
    """Ranks that read together prove every tensor between them, and none all of it."""
    run = LocalRun(folder.parent)
    for size in (2, 3):
        seen: list[int] = []
        for rank in range(size):
            counted: list[int] = [0]

            def count(done: int, total: int, counted: list[int] = counted) -> None:
                counted[0] = done

            with open_checkpoint(
                run, folder.name, progress=count, reader=Reader(rank, size)
            ) as checkpoint:
                checkpoint.verify(["model", "optimizer"])
            seen.append(counted[0])
        with open_files(run, folder.name) as files:
            parts = files.manifest.components
            assert sum(seen) == parts["model"].bytes + parts["optimizer"].bytes
        assert max(seen) < 0.6 * sum(seen) if size == 2 else max(seen) < 0.4 * sum(seen)


def test_flipped_bits_are_found(folder: Path, tmp_path: Path) -> None:
    """Damage in any rank's file is found and named."""
    for victim in sorted(path.name for path in folder.iterdir()):
        copy = _copied(folder, tmp_path / victim)
        data = bytearray((copy / victim).read_bytes())
        data[len(data) * 2 // 3] ^= 1
        (copy / victim).write_bytes(data)
        if victim == "manifest.json":
            with pytest.raises(LoadError):
                open_files(LocalRun(copy.parent), copy.name)
            continue
        with open_files(LocalRun(copy.parent), copy.name) as files:
            assert any(victim in text for text in files.damage()), victim
        if victim.startswith(("model", "optimizer")):
            with pytest.raises(LoadError, match=victim):
                load_into(copy, session(seed=1))


def _copied(folder: Path, to: Path) -> Path:
    target = to / folder.name
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


Edit = Callable[[dict[str, Any]], object]


def _edited(folder: Path, to: Path, file: str, edit: Edit, drop: str | None = None) -> Path:
    """A checkpoint whose digests are right and whose content is not: what a bug would write."""
    copy = _copied(folder, to)
    document = json.loads((copy / file).read_bytes())
    edit(document)
    data = json.dumps(document).encode()
    (copy / file).write_bytes(data)
    manifest = parse_manifest((copy / "manifest.json").read_bytes(), where="")
    files = dict(manifest.files)
    files[file] = FileRecord(len(data), digest_bytes(data))
    if drop is not None:
        del files[drop]
        (copy / drop).unlink()
    (copy / "manifest.json").write_bytes(render_manifest(replace(manifest, files=files)))
    return copy


RANK = "rank-00002-of-00003.json"
MODEL = "model-00002-of-00003.safetensors"


def _shift(document: dict[str, Any]) -> None:
    document["files"][MODEL]["offsets"]["wide.weight"][0] += 1


def _forget_offset(document: dict[str, Any]) -> None:
    del document["files"][MODEL]["offsets"]["wide.weight"]


def _forget_file(document: dict[str, Any]) -> None:
    del document["files"][MODEL]


def _of_another_save(document: dict[str, Any]) -> None:
    document["save"] = "cd" * 16


def _of_another_rank(document: dict[str, Any]) -> None:
    document["rank"] = 0


def _grown(document: dict[str, Any]) -> None:
    document["components"]["model"]["shapes"]["wide.weight"][0] += 1


def _fewer_ranks(document: dict[str, Any]) -> None:
    document["ranks"].pop()


def _without_shard(document: dict[str, Any]) -> None:
    document["components"]["model"]["more_files"].remove(MODEL)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (RANK, _shift, "not whole"),
        (RANK, _forget_offset, "overlap"),
        (RANK, _forget_file, "No part holds"),
        (RANK, _of_another_save, "two saves cannot be put together"),
        (RANK, _of_another_rank, "not of rank 1"),
        ("state.json", _grown, "not whole"),
        ("state.json", _fewer_ranks, "rank 0 of 2"),
        ("state.json", _without_shard, "components"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_refused(
    folder: Path, tmp_path: Path, file: str, edit: Edit, message: str
) -> None:
    """Holes, overlaps, parts of other saves: refused, and listed by a full verification."""
    copy = _edited(folder, tmp_path, file, edit)
    fresh = session(seed=1)
    before = {name: value.clone() for name, value in fresh.model.state_dict().items()}
    with pytest.raises(FormatError) as caught:
        load_into(copy, fresh)
    assert message in str(caught.value)
    assert all(torch.equal(before[n], v) for n, v in fresh.model.state_dict().items())
    with open_files(LocalRun(copy.parent), copy.name) as files:
        assert files.damage()


def test_a_missing_shard_is_no_silent_hole(folder: Path, tmp_path: Path) -> None:
    """Stock DCP keeps the target's old rows where a shard is missing; here it is an error."""
    copy = _copied(folder, tmp_path)
    (copy / MODEL).unlink()
    with pytest.raises(LoadError, match=MODEL):
        load_into(copy, session(seed=1))


def test_ranks_that_do_not_fit_commit_nothing(tmp_path: Path) -> None:
    """If the pieces do not add up to the tensors, the save fails everywhere and shows nothing."""

    def lose_a_piece(rank: Coordination, part: Part) -> Part:
        if rank.rank == 0:
            return part
        components = [
            replace(c, tensors={n: t for n, t in c.tensors.items() if n != "wide.weight"})
            for c in part.components
        ]
        return replace(part, components=components)

    results = save_sharded(tmp_path, 2, session(), alter=lose_a_piece)
    assert all(isinstance(result, SaveError) for result in results)
    assert all("elements of model" in str(result) for result in results)
    assert LocalRun(tmp_path).names() == []
    assert not list(tmp_path.glob(".holdfast-tmp-*"))


def test_threads_as_ranks_agree_on_failures() -> None:
    """A rank's exception is every rank's, by name; the next operation is not troubled by it."""
    ranks = make_ranks(3)

    def fail_in_the_second(rank: Coordination) -> list[bytes]:
        answers = []
        for number in range(3):
            try:
                with rank.begin("test", timeout_seconds=10) as operation:
                    if number == 1 and rank.rank == 2:
                        raise SaveError("the disk is on fire")
                    answers.append(operation.round("one", bytes([rank.rank]), b"".join))
            except HoldfastError as error:
                answers.append(str(error).encode())
        return answers

    results = on_all(ranks, fail_in_the_second)
    for result in results:
        assert not isinstance(result, Exception), result
        assert result[0] == result[2] == bytes([0, 1, 2])
        assert b"the disk is on fire" in result[1]


def test_averages_are_made_of_whole_tensors(objects: LiveObjects, tmp_path: Path) -> None:
    """A checkpoint of three ranks and one of two average as those of one process do."""
    states = []
    for place, (size, seed) in enumerate(((3, 1), (2, 2))):
        found = session(seed)
        save_sharded(tmp_path / str(place), size, found)
        states.append({k: v.clone() for k, v in found.model.state_dict().items()})
    folders = [next((tmp_path / str(place)).glob("checkpoint_*")) for place in range(2)]
    rules = {"waves": "newest", "count": "newest"}
    made = average_state(folders, rules=rules)
    assert made.keys() == states[0].keys()
    for name in ("wide.weight", "wide.bias", "head.weight", "norm.running_mean"):
        assert torch.equal(made[name], mean_of([state[name] for state in states])), name
    written = average(folders, tmp_path / "averages", rules=rules).path
    assert verify_recipe(written, search=[tmp_path / "0", tmp_path / "1"]).holds
