"""A checkpoint folder as a source to restore from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType

from torch import Tensor
from typing_extensions import Self

from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.state import StoredComponent
from holdfast.storage import LocalRun
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo


class FolderSource:
    """One committed checkpoint, opened once and read until it is closed."""

    def __init__(self, checkpoint: OpenCheckpoint, *, prove: bool = True) -> None:
        self._checkpoint = checkpoint
        self._prove = prove

    @classmethod
    def open(
        cls,
        run: RunStorage,
        name: str,
        progress: Callable[[int, int], None] | None = None,
        *,
        prove: bool = True,
    ) -> FolderSource:
        """Open the checkpoint `name` of a run. Raises CheckpointNotFoundError or LoadError.

        prove: False leaves out the pass that proves tensor data before anything live is touched;
        the bytes are still proven as they arrive.
        """
        return cls(open_checkpoint(run, name, progress=progress), prove=prove)

    @classmethod
    def at(cls, path: Path, progress: Callable[[int, int], None] | None = None) -> FolderSource:
        """Open a checkpoint folder wherever it is; links in the path itself are followed."""
        real = path.resolve()
        return cls.open(LocalRun(real.parent), real.name, progress)

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

    def stored(self, component: str) -> StoredComponent:
        """Everything about a component but the data of its tensors."""
        return self._checkpoint.stored(component)

    def verify(self, component: str, *, but: Collection[str] = ()) -> None:
        """Prove every byte of a component, all tensors or all `but` some. Raises DamagedError."""
        if self._prove:
            self._checkpoint.verify(component, but=but)

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
