"""An average as a component of a checkpoint: a model whose tree has one more entry, `average`.

Its tensor file holds every FQN of the model, so that stock tools load it as one: averaged tensors
in the dtype they are averaged in, copied buffers, and the model's own where nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from holdfast.decay import SegmentMean, read_schedule
from holdfast.ema._average import Average, read_clock
from holdfast.ema._roster import Entry, memory
from holdfast.errors import AverageError, FormatError
from holdfast.state import (
    ComponentState,
    Problem,
    RestorePlan,
    SavesItself,
    StoredComponent,
    capture_module,
    torch_codec,
    unwrap,
)
from holdfast.state._tree import outline
from holdfast.state.sharded import is_sharded, local_part, new_like, placed_as

if TYPE_CHECKING:
    from holdfast.ema.model import EMAModel

RECORD = "average"


@dataclass(frozen=True)
class StoredAverage:
    """One average of an `EMAModel`, as `SavesItself`."""

    ema: EMAModel
    average: Average

    def capture_component(self, name: str) -> ComponentState:
        """See `SavesItself`."""
        state = capture_module(
            name, self.ema.model, values=self._values(), further={RECORD: self._record()}
        )
        self.average.close_segment()
        return state

    def plan_component(
        self,
        stored: StoredComponent,
        *,
        strict: bool = True,
        only: Callable[[str], bool] | None = None,
    ) -> RestorePlan:
        """See `SavesItself`."""
        self.ema._refuse_swapped("load")
        self.ema._shadows.settle()
        if stored.kind != "module":
            kind = Problem("kind", stored.name, "", "an average of a model", stored.kind)
            return RestorePlan(stored.name, problems=(kind,))
        restore = _AverageRestore(self, stored, strict=strict, only=only)
        return RestorePlan(
            component=stored.name,
            targets=restore.targets if not restore.problems else {},
            problems=tuple(restore.problems),
            tolerated=tuple(restore.tolerated),
            report=(restore.report(),),
            live=True,
            _finish=restore.finish,
        )

    def start_afresh(self) -> None:
        """See `SavesItself`."""
        self.ema._shadows.restart([self.average])

    def announced_tensors(self) -> Iterable[Tensor]:
        """See `SavesItself`: none, the `EMAModel` has told of them."""
        return ()

    def companions(self) -> Mapping[str, SavesItself]:
        """See `SavesItself`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The model's state dict with the average in it."""
        values = self._values()
        return {
            name: values.get(name, value)
            for name, value in unwrap(self.ema.model).state_dict().items()
        }

    def load_state_dict(self, state_dict: object) -> None:
        """Refuse: averages are restored as components."""
        raise AverageError("An average of several is loaded by the EMAModel it belongs to")

    def _values(self) -> dict[str, Tensor]:
        shadows = self.ema._shadows
        shadows.refresh()
        training = {} if self.ema._swap is None else self.ema._swap.training()
        values: dict[str, Tensor] = {}
        for name, entry in shadows.entries.items():
            found = self.average.shadow.get(name, shadows.copies.get(name, training.get(name)))
            if found is not None:
                values.update(dict.fromkeys((name, *entry.aliases), found))
        return values

    def _record(self) -> dict[str, Any]:
        ema = self.ema
        return {
            **self.average.record(),
            "clock": [ema.clock.steps, ema.clock.samples],
            "update_every": ema.update_every,
            "since_update": ema._since_update,
            "uncounted": ema._uncounted,
            "averaged": list(self.average.shadow),
        }


class _AverageRestore:
    """Where each stored tensor of an average goes, and what is done once they are there.

    only: the FQNs wanted, None for all. Counters are those of a whole average, so a part of one
    leaves them as they are.
    """

    def __init__(
        self,
        owner: StoredAverage,
        stored: StoredComponent,
        *,
        strict: bool,
        only: Callable[[str], bool] | None,
    ) -> None:
        self.ema, self.average = owner.ema, owner.average
        self.stored = stored
        self._only = only
        self.record = read_record(stored)
        self.targets: dict[str, Tensor] = {}
        self.problems: list[Problem] = []
        self.tolerated: list[Problem] = []
        self._copies: list[tuple[Tensor, str]] = []
        self._new: dict[str, tuple[Entry, str]] = {}
        self._check_schedule()
        self._match(strict=strict)

    def _check_schedule(self) -> None:
        """Profiles that depend on the whole history cannot change their width on the way."""
        saved, here = read_schedule(self.record["schedule"]), self.average.schedule
        self.changed = saved != here
        if self.changed and type(saved) is not type(here):
            self.problems.append(
                Problem("kind", self.stored.name, "", repr(here), repr(saved), "use the saved one")
            )

    def _match(self, *, strict: bool) -> None:
        shadows = self.ema._shadows
        shadows.refresh()
        averaged = set(self.record["averaged"])
        there, aliases = self.stored.tensors, self.stored.aliases
        used = set()
        for name, entry in shadows.entries.items():
            if not self._wanted(name, *entry.aliases):
                continue
            source = aliases.get(name, name)
            used |= {aliases.get(other, other) for other in (name, *entry.aliases)}
            if source not in there:
                found = Problem("missing", self.stored.name, name)
                (self.problems if strict else self.tolerated).append(found)
            elif there[source].shape != tuple(entry.live.shape):
                self.problems.append(
                    Problem(
                        "shape",
                        self.stored.name,
                        name,
                        str(list(entry.live.shape)),
                        str(list(there[source].shape)),
                    )
                )
            else:
                self._aim(name, entry, source, averaged=name in averaged)
        for name in there.keys() - used - outline(self.stored, torch_codec()).names:
            if not self._wanted(name):
                continue
            found = Problem("unexpected", self.stored.name, name)
            (self.problems if strict else self.tolerated).append(found)

    def _wanted(self, *names: str) -> bool:
        return self._only is None or any(self._only(name) for name in names)

    def _aim(self, name: str, entry: Entry, source: str, *, averaged: bool) -> None:
        shadows = self.ema._shadows
        home = self.average.shadow.get(name, shadows.copies.get(name))
        if home is None and not averaged:
            return
        facts = self.stored.tensors[source]
        if home is not None and home.dtype == facts.dtype and source not in self.targets:
            self.targets[source] = placed_as(home, entry.live) if is_sharded(entry.live) else home
            return
        if source not in self.targets:
            device = memory(entry.live).device if home is None else home.device
            sharded = is_sharded(entry.live)
            fresh = new_like(entry.live, facts.dtype) if sharded else facts.allocate(device)
            self.targets[source] = fresh
        if home is None:
            self._new[name] = (entry, source)
        else:
            self._copies.append((home, source))

    @torch.no_grad()
    def finish(self) -> None:
        for home, source in self._copies:
            home.copy_(local_part(self.targets[source]))
        for name, (_, source) in self._new.items():
            self.average.shadow[name] = local_part(self.targets[source])
        self.ema._shadows.forget_batches()
        if self._only is not None:
            return
        self.average.take_record(self.record)
        if self.average is self.ema._shadows.averages[0]:
            self.ema.clock = read_clock(self.record["clock"])
            self.ema._since_update = self.record["since_update"]
            self.ema._uncounted = self.record["uncounted"]

    def report(self) -> str:
        clock = read_clock(self.record["clock"])
        if self._only is not None:
            return f"{self.stored.name}: {len(self.targets)} tensors, counters as they were"
        line = f"{self.stored.name}: {self.record['updates']} updates in {clock.steps} steps"
        if isinstance(self.average.schedule, SegmentMean):
            return line + " since the checkpoint before"
        if self.changed:
            line += f"; was {read_schedule(self.record['schedule'])}, from here on "
            line += repr(self.average.schedule)
        return line


def read_record(stored: StoredComponent) -> dict[str, Any]:
    """The counters and the schedule of a stored average. Raises FormatError if it is none."""
    value = outline(stored, torch_codec()).value
    record = value.get(RECORD) if isinstance(value, dict) else None
    if not isinstance(record, dict):
        raise FormatError(
            "The component is a plain model, not an average with its counters",
            where=stored.name,
            fix="load it into a module, or bring it in with ema.import_state()",
        )
    counts = [record.get(key) for key in ("since_update", "uncounted", "update_every", "updates")]
    averaged = record.get("averaged")
    if (
        not all(type(count) is int and count >= 0 for count in counts)
        or not isinstance(averaged, list)
        or not all(isinstance(name, str) for name in averaged)
        or not isinstance(record.get("pending"), float)
    ):
        raise FormatError("The record of the average is not sound", where=stored.name)
    read_clock(record.get("clock"))
    if record.get("origin") is not None:
        read_clock(record["origin"])
    else:
        record["origin"] = None
    return record
