"""The contract of `RunStorage`, for any implementation to inherit.

    class TestMyRun(StorageContract):
        @pytest.fixture
        def run(self): return MyRun(...)

Needs pytest, which nothing else in holdfast imports.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    NoSpaceError,
    SaveError,
)
from holdfast.storage.protocol import Block, NameTakenError, RunStorage

_BAD_NAMES = ["", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\0b", "a\nb", "x" * 300]


def commit(run: RunStorage, name: str, files: dict[str, bytes]) -> None:
    """Publish a checkpoint of small files."""
    with run.stage(name) as staged:
        for file, data in files.items():
            staged.write_bytes(file, data)
        staged.publish()


def content(run: RunStorage, name: str) -> dict[str, bytes]:
    """Every file of a committed checkpoint."""
    with run.open(name) as opened:
        return {file: opened.read_bytes(file, 1 << 20) for file in opened.files()}


def _refuse(data: bytes) -> bytes:
    raise KeyError(data)


class StorageContract:
    """Tests every storage passes; a subclass gives the fixture `run`, an empty storage."""

    @pytest.fixture
    def run(self) -> RunStorage:
        """An empty storage; to be overridden."""
        raise TypeError("a subclass of StorageContract must define the fixture `run`")

    def test_a_new_run_is_empty(self, run: RunStorage) -> None:
        """A run nobody has written to lists nothing and reads as empty."""
        assert run.names() == []
        assert run.read_lines("history.jsonl") == []
        assert run.sweep() == []

    def test_published_files_read_back(self, run: RunStorage) -> None:
        """What was written is what is read, after publishing and not before."""
        with run.stage("a") as staged:
            staged.write_bytes("small", b"abc")
            staged.write_blocks("large", 5, [b"12", bytearray(b"3"), memoryview(b"45")])
            staged.write_blocks("empty", 0, [])
            assert run.names() == []
            assert staged.publish() == "a"
        assert run.names() == ["a"]
        assert content(run, "a") == {"small": b"abc", "large": b"12345", "empty": b""}

    def test_leaving_without_publishing_leaves_nothing(self, run: RunStorage) -> None:
        """A staged checkpoint that is not published never existed."""
        with run.stage("a") as staged:
            staged.write_bytes("file", b"abc")
        assert run.names() == []
        with pytest.raises(CheckpointNotFoundError):
            run.open("a")

    def test_publishing_never_replaces(self, run: RunStorage) -> None:
        """A taken name is refused, and the same staged checkpoint may take another."""
        commit(run, "a", {"file": b"old"})
        with run.stage("a") as staged:
            staged.write_bytes("file", b"new")
            with pytest.raises(NameTakenError) as caught:
                staged.publish()
            assert isinstance(caught.value, SaveError)
            assert isinstance(caught.value, FileExistsError)
            assert staged.publish("a_2") == "a_2"
        assert content(run, "a") == {"file": b"old"}
        assert content(run, "a_2") == {"file": b"new"}

    def test_a_published_checkpoint_is_finished(self, run: RunStorage) -> None:
        """Nothing can be written through a staged checkpoint after it was published."""
        with run.stage("a") as staged:
            staged.publish()
            with pytest.raises(SaveError):
                staged.write_bytes("late", b"")
            with pytest.raises(SaveError):
                staged.publish("b")
            staged.abort()
            staged.abort()
        assert run.names() == ["a"]

    def test_a_file_is_written_once(self, run: RunStorage) -> None:
        """Writing a file that was already staged is refused."""
        with run.stage("a") as staged:
            staged.write_bytes("file", b"abc")
            with pytest.raises(NameTakenError):
                staged.write_bytes("file", b"def")

    def test_blocks_must_add_up(self, run: RunStorage) -> None:
        """A file whose blocks are not as many bytes as announced fails."""
        for blocks in ([b"123"], [b"1234", b"5"]):
            with run.stage("a") as staged, pytest.raises(SaveError, match="announced"):
                staged.write_blocks("file", 4, blocks)

    def test_an_error_in_the_blocks_passes_through(self, run: RunStorage) -> None:
        """What the producer of blocks raises is what the caller sees, and nothing is left."""

        def blocks() -> Iterator[Block]:
            yield b"12"
            raise KeyError("producer")

        with pytest.raises(KeyError, match="producer"), run.stage("a") as staged:
            staged.write_blocks("file", 4, blocks())
        assert run.names() == []

    def test_progress_counts_up_to_the_whole(self, run: RunStorage) -> None:
        """Progress never goes back and ends at the size of the file."""
        seen: list[int] = []
        with run.stage("a") as staged:
            staged.write_blocks("file", 30, [b"0123456789"] * 3, progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 30

    def test_linked_files_outlive_their_source(self, run: RunStorage) -> None:
        """A file taken over from an earlier checkpoint stays when that one is discarded."""
        commit(run, "a", {"file": b"abc"})
        with run.stage("b") as staged:
            assert not staged.link_from("a", "absent")
            assert not staged.link_from("absent", "file")
            linked = staged.link_from("a", "file")
            staged.publish()
        run.discard("a", owned=["file"])
        assert content(run, "b") == ({"file": b"abc"} if linked else {})

    def test_discarding_removes_the_checkpoint(self, run: RunStorage) -> None:
        """A discarded checkpoint is gone, and its name is free again."""
        commit(run, "a", {"file": b"abc"})
        assert run.discard("a", owned=["file"]) == []
        assert run.names() == []
        with pytest.raises(CheckpointNotFoundError):
            run.discard("a", owned=[])
        commit(run, "a", {"file": b"def"})

    def test_discarding_keeps_what_is_not_ours(self, run: RunStorage) -> None:
        """A file holdfast did not write survives the checkpoint it was put into."""
        commit(run, "a", {"file": b"abc", "notes of mine.txt": b"precious"})
        kept = run.discard("a", owned=["file"])
        assert [path.rpartition("/")[2] for path in kept] == ["notes of mine.txt"]
        assert "a" not in run.names()

    def test_an_opened_checkpoint_stays_readable(self, run: RunStorage) -> None:
        """Renaming a checkpoint does not disturb who has it open."""
        commit(run, "a", {"file": b"abc"})
        with run.open("a") as opened:
            run.rename("a", "b")
            assert opened.read_bytes("file", 10) == b"abc"

    def test_renaming(self, run: RunStorage) -> None:
        """A checkpoint can be given a free name, and only a free one."""
        commit(run, "a", {"file": b"a"})
        commit(run, "b", {"file": b"b"})
        with pytest.raises(NameTakenError):
            run.rename("a", "b")
        with pytest.raises(CheckpointNotFoundError):
            run.rename("absent", "c")
        run.rename("a", "c")
        assert run.names() == ["b", "c"]
        assert content(run, "c") == {"file": b"a"}

    def test_reading_is_exact_and_bounded(self, run: RunStorage) -> None:
        """Parts are read where asked; missing bytes, missing files and excess are errors."""
        commit(run, "a", {"file": b"0123456789"})
        part = bytearray(4)
        with run.open("a") as opened:
            assert opened.size("file") == 10
            opened.read_into("file", 3, memoryview(part))
            assert part == b"3456"
            with pytest.raises(DamagedError):
                opened.read_into("file", 8, memoryview(part))
            with pytest.raises(DamagedError):
                opened.read_bytes("absent", 10)
            with pytest.raises(FormatError):
                opened.read_bytes("file", 9)

    def test_replacing_a_small_file(self, run: RunStorage) -> None:
        """A small file of a committed checkpoint can be replaced as a whole."""
        commit(run, "a", {"manifest.json": b"old", "file": b"abc"})
        run.replace_bytes("a", "manifest.json", b"newer")
        assert content(run, "a") == {"manifest.json": b"newer", "file": b"abc"}

    def test_a_small_file_can_be_changed_in_place(self, run: RunStorage) -> None:
        """The change sees the old content; one that raises changes nothing."""
        commit(run, "a", {"manifest.json": b"old", "file": b"abc"})
        run.update_bytes("a", "manifest.json", lambda data: data + b"er", max_bytes=10)
        with pytest.raises(KeyError):
            run.update_bytes("a", "manifest.json", _refuse, max_bytes=10)
        with pytest.raises(FormatError):
            run.update_bytes("a", "manifest.json", lambda data: data, max_bytes=4)
        assert content(run, "a") == {"manifest.json": b"older", "file": b"abc"}

    def test_the_lock_is_held_until_released(self, run: RunStorage) -> None:
        """Objects of one process share the lock; each release gives back its own."""
        first, second = run.lock(), run.lock()
        first.release()
        assert [first.valid, second.valid] == [False, True]
        second.release()
        second.release()
        assert not second.valid
        assert run.names() == []

    def test_nobody_reads_what_is_not_open(self, run: RunStorage) -> None:
        """A closed checkpoint, and one that does not exist, is in nobody's use."""
        commit(run, "a", {})
        run.open("a").close()
        assert [run.in_use("a"), run.in_use("absent")] == [False, False]
        assert not run.take("save-now")

    def test_lines_are_appended(self, run: RunStorage) -> None:
        """Lines come back in the order they were appended, beside the checkpoints."""
        for line in (b"one", b"two", b""):
            run.append_line("history.jsonl", line)
        assert run.read_lines("history.jsonl") == [b"one", b"two", b""]
        assert run.names() == []

    def test_pointers_never_count_as_checkpoints(self, run: RunStorage) -> None:
        """A pointer can be set, moved and removed, and is never listed."""
        commit(run, "a", {})
        commit(run, "b", {})
        for name in ("a", "b", None, None):
            assert run.point("latest", name)
            assert run.names() == ["a", "b"]

    def test_a_need_beyond_the_free_space_is_refused_at_once(self, run: RunStorage) -> None:
        """Staging more than is free fails before a byte is written, with both figures."""
        free = run.free_bytes()
        if free is None:
            pytest.skip("this storage cannot say how much is free")
        with pytest.raises(NoSpaceError) as caught:
            run.stage("a", needed_bytes=free + (1 << 40))
        assert caught.value.needed_bytes == free + (1 << 40)
        assert caught.value.available_bytes < caught.value.needed_bytes
        assert run.names() == []

    @pytest.mark.parametrize("name", _BAD_NAMES)
    def test_names_are_plain(self, run: RunStorage, name: str) -> None:
        """No name leads out of the run's folder or into hiding."""
        with pytest.raises(ConfigError):
            run.stage(name)
        with run.stage("a") as staged:
            with pytest.raises(ConfigError):
                staged.write_bytes(name, b"")
            with pytest.raises(ConfigError):
                staged.publish(name)
