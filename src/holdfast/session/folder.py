"""A checkpoint folder as a source to restore from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType

from torch import Tensor
from typing_extensions import Self

from holdfast.engine.open_checkpoint import ALONE, OpenCheckpoint, Reader, open_checkpoint
from holdfast.session.objects import RNG, RUN
from holdfast.state import StoredComponent
from holdfast.storage import LocalRun
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo


class FolderSource:
    """One committed checkpoint, opened once and read until it is closed."""

    def __init__(self, checkpoint: OpenCheckpoint, *, prove: bool = True, readers: int = 1) -> None:
        self._checkpoint = checkpoint
        self._prove = prove
        self._readers = readers

    @classmethod
    def open(
        cls,
        run: RunStorage,
        name: str,
        progress: Callable[[int, int], None] | None = None,
        *,
        prove: bool = True,
        reader: Reader = ALONE,
    ) -> FolderSource:
        """Open the checkpoint `name` of a run. Raises CheckpointNotFoundError or LoadError.

        prove: False leaves out the pass that proves tensor data before anything live is touched;
        the bytes are still proven as they arrive. reader: which of several ranks this is.
        """
        checkpoint = open_checkpoint(run, name, progress=progress, reader=reader)
        return cls(checkpoint, prove=prove, readers=reader.size)

    @classmethod
    def at(
        cls,
        path: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        reader: Reader = ALONE,
    ) -> FolderSource:
        """Open a checkpoint folder wherever it is; links in the path itself are followed."""
        real = path.resolve()
        return cls.open(LocalRun(real.parent), real.name, progress, reader=reader)

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        return self._checkpoint.place

    @property
    def info(self) -> CheckpointInfo:
        """The manifest's view of it."""
        return self._checkpoint.manifest.info(self._checkpoint.name)

    def components(self) -> Collection[str]:
        """Names of the components it holds."""
        return self._checkpoint.manifest.components.keys()

    def elsewhere(self, component: str) -> str | None:
        """Why what is stored of a component is not this rank's own; None if it is.

        Random states, and what each rank kept for itself, go back to as many ranks as saved them.
        """
        saved, here = self._checkpoint.world_size, self._readers
        if saved == here or component == RUN:
            return None
        if component == RNG or self._checkpoint.kept_per_rank(component):
            return f"saved by {saved} rank{'s'[: saved > 1]}, here are {here}: it stays as it is"
        return None

    def stored(self, component: str) -> StoredComponent:
        """Everything about a component but the data of its tensors."""
        return self._checkpoint.stored(component)

    def verify(
        self, components: Collection[str], *, but: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Prove every byte of these components; `but`: what `fill_fresh` will prove as well.

        Raises DamagedError naming file and tensor.
        """
        if self._prove:
            self._checkpoint.verify(components, but=but)

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its tensor; touches none. Raises MismatchError."""
        self._checkpoint.check(component, targets)

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into memory nobody uses yet, proven in the same pass."""
        self._checkpoint.fill_fresh(component, targets)

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into live targets, hashed again on the way."""
        self._checkpoint.fill(component, targets)

    def close(self) -> None:
        """Release the folder."""
        self._checkpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
