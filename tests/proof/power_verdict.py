"""Whether a disk after a power loss keeps every promise made before it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from power_models import Crash, Model, Tree, crashes, tree_of
from power_trace import AckOp, Op, Record
from proof_world import STRANGER, between, look

from holdfast.manifest import HISTORY_FILE, is_checkpoint_name
from holdfast.storage import MemoryRun

MODELS: tuple[Model, ...] = ("strict", "journal")


@dataclass
class Verdicts:
    """How many states were judged, and everything wrong with them."""

    states: Counter[Model] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    losing: Counter[Model] = field(default_factory=Counter)


class PowerGate:
    """Judges crash states of one recorded program. run: the run folder, below the record's root."""

    def __init__(self, record: Record, run: str) -> None:
        self._record = record
        self._run = f"{run}/"
        self._known: dict[int, tuple[str, list[str]]] = {}
        self._trees = [{}, *(tree for _, tree in _acknowledged(record))]
        self._labels = ["the start", *(label for label, _ in _acknowledged(record))]
        self._worlds = [self._look(tree)[0] for tree in self._trees]

    def judge(self, crash: Crash) -> list[str]:
        """Everything wrong with one state, after what was acknowledged before it."""
        done = len(crash.acks)
        following = min(done + 1, len(self._worlds) - 1)
        found, problems = self._look(crash.tree)
        problems += between(self._worlds[done], self._worlds[following], found)
        lines, told = self._lines(self._trees[done]), self._lines(crash.tree)
        problems += [f"the history lost {line!r}" for line in lines if line not in told]
        for pointer in self._pointers(self._trees[done]):
            allowed = {self._trees[n].get(pointer) for n in (done, following)}
            if crash.tree.get(pointer) not in allowed:
                problems.append(f"the pointer {pointer} leads elsewhere")
        kept = all(self._strangers(self._trees[n]) for n in (done, following))
        if kept and not self._strangers(crash.tree):
            problems.append("the user's own file is lost")
        return [f"after {self._labels[done]}: {problem}" for problem in problems]

    def run(self, ops: Sequence[Op], *, most: int, until_first: bool = False) -> Verdicts:
        """Judge crash states of `ops`, which are the record's or a mutation of them."""
        verdicts = Verdicts()
        for model in MODELS:
            for crash in crashes(self._record, ops, model, most=most):
                problems = self.judge(crash)
                verdicts.states[model] += 1
                verdicts.losing[model] += bool(problems)
                verdicts.problems += [f"{model}: {problem}" for problem in problems]
                if problems and until_first:
                    return verdicts
        return verdicts

    def _look(self, tree: Tree) -> tuple[dict[str, str], list[str]]:
        world: dict[str, str] = {}
        problems: list[str] = []
        for name, files in self._checkpoints(tree):
            key = hash((name, tuple(sorted(files.items()))))
            if key not in self._known:
                memory = MemoryRun()
                memory.checkpoints[name] = files
                content = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
                self._known[key] = content, look(memory)[1]
            world[name], wrong = self._known[key]
            problems += wrong
        return world, problems

    def _checkpoints(self, tree: Tree) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Visible checkpoint folders of the run and their files, the user's own left out."""
        folders: dict[str, dict[str, bytes]] = {}
        for path, content in tree.items():
            name, _, file = path.removeprefix(self._run).partition("/")
            if not path.startswith(self._run) or not is_checkpoint_name(name):
                continue
            if content is None and not file:
                folders.setdefault(name, {})
            elif isinstance(content, bytes) and file != STRANGER:
                folders.setdefault(name, {})[file] = content
        yield from folders.items()

    def _lines(self, tree: Tree) -> list[bytes]:
        content = tree.get(self._run + HISTORY_FILE)
        return content.split(b"\n")[:-1] if isinstance(content, bytes) else []

    def _pointers(self, tree: Tree) -> list[str]:
        return [
            path
            for path, content in tree.items()
            if isinstance(content, str) and path.removeprefix(self._run).isidentifier()
        ]

    def _strangers(self, tree: Tree) -> list[str]:
        return [
            path
            for path in tree
            if path.endswith(f"/{STRANGER}") and "/." not in path and tree[path]
        ]


def _acknowledged(record: Record) -> Iterator[tuple[str, Tree]]:
    """Each acknowledgement, with the tree as it stood then."""
    for index, op in enumerate(record.ops):
        if isinstance(op, AckOp):
            yield op.label, tree_of(record, record.ops[:index])
