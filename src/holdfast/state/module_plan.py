"""Restoring modules: names, ties and dtypes proven first, then written where they belong."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.codec import Codec
from holdfast.errors import AverageError, FormatError, InterruptedLoadError
from holdfast.state._entangled import prove_entangled, write_entangled
from holdfast.state._live_module import LiveModule, inspect_module, is_extra
from holdfast.state._match import Match, match_names
from holdfast.state._regions import Region
from holdfast.state._tree import Outline, filled, outline
from holdfast.state.component import StoredComponent, StoredTensor
from holdfast.state.displaced import is_displaced
from holdfast.state.names import CanonicalNames
from holdfast.state.plan import CastPolicy, RestorePlan
from holdfast.state.problems import Problem
from holdfast.state.sharded import is_sharded, new_like
from holdfast.state.torch_tags import torch_codec


def plan_module(
    stored: StoredComponent,
    module: nn.Module,
    *,
    codec: Codec | None = None,
    strict: bool = True,
    only: Callable[[str], bool] | None = None,
    cast: CastPolicy = "refuse",
) -> RestorePlan:
    """Plan to load a module component into `module`, wrapped or not.

    Every name, shape and dtype is compared here; the problems of the plan are all there are.
    Parameters and buffers are filled in place. Modules with load hooks or a loader of their own
    get fresh tensors and their own `load_state_dict` in `finish()`; this holds for extra state
    too. strict: whether missing and unexpected names are problems (otherwise they are tolerated,
    and handed to modules that load by code of their own). only: which FQNs to load, for a part of
    the model; others are neither read nor required. cast: whether floating dtypes may differ.

    Ties: a tensor saved as tied fills every live tensor of its names. A checkpoint without the
    tie fits a tied module only if digests prove the values equal.
    Raises FormatError if the stored tree is not that of a module, AverageError while an average is
    swapped into it.
    """
    if stored.kind != "module":
        kind = Problem("kind", stored.name, "", "module", stored.kind)
        return RestorePlan(stored.name, problems=(kind,))
    if is_displaced(module):
        raise AverageError(
            "An average is swapped into the model, so it cannot be loaded into just now",
            where=stored.name,
            fix="leave `with ema.applied():`, or call ema.restore(), before loading",
        )
    codec = codec or torch_codec()
    wanted = only or (lambda _: True)
    tree = outline(stored, codec)
    extra, _ = _parts(stored, tree.value)
    live = inspect_module(module)
    match = match_names(
        stored,
        live,
        private=tree.names - live.tensors.keys(),
        strict=strict,
        only=wanted,
        cast=cast,
    )
    extras = _match_extras(stored, live, extra, match, strict=strict, only=wanted)
    restore = _ModuleRestore(stored, live, match, extras, codec, exact=strict and only is None)
    restore.allocate(tree)
    return RestorePlan(
        component=stored.name,
        targets={} if match.problems else restore.targets,
        problems=tuple(match.problems),
        tolerated=tuple(match.tolerated),
        report=(*restore.report(), *match.report),
        live=True,
        fresh=frozenset(restore.targets.keys() - restore.filled_in_place.keys()),
        proven_by=() if match.problems else restore.proven_by(),
        _prove=restore.prove,
        _finish=restore.finish,
    )


def _parts(stored: StoredComponent, value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree's extra state and versions, after a check of their form."""
    if isinstance(value, dict):
        extra, versions = value.get("extra"), value.get("versions")
        if isinstance(extra, dict) and isinstance(versions, dict):
            local = all(isinstance(metadata, dict) for metadata in versions.values())
            if local and all(name in stored.tensors for name in stored.aliases.values()):
                return extra, versions
    raise FormatError("The state tree is not that of a module", where=stored.name)


def _match_extras(
    stored: StoredComponent,
    live: LiveModule,
    extra: Mapping[str, object],
    match: Match,
    *,
    strict: bool,
    only: Callable[[str], bool],
) -> list[str]:
    """Names of extra state on both sides; a problem for each that is on one side only."""
    there = set(extra) | {name for name in stored.tensors if is_extra(name)}
    there |= {name for name in stored.aliases if is_extra(name)}
    for name in sorted(there ^ live.extras):
        if only(name):
            sides = ("in the module", "") if name in live.extras else ("", "in the checkpoint")
            problem = Problem("extra_state", stored.name, name, sides[0], sides[1])
            (match.problems if strict else match.tolerated).append(problem)
    return [name for name in live.extras if name in there and only(name)]


class _ModuleRestore:
    """The targets of one module and the last step that hands them over."""

    def __init__(
        self,
        stored: StoredComponent,
        live: LiveModule,
        match: Match,
        extras: list[str],
        codec: Codec,
        *,
        exact: bool,
    ) -> None:
        self.stored = stored
        self.live = live
        self.match = match
        self.extras = extras
        self.codec = codec
        self.exact = exact
        self.targets: dict[str, Tensor] = {}
        self.filled_in_place: dict[str, Region] = {}
        self.passengers = [name for name in match.unmatched if live.loads_itself(name)]

    def allocate(self, tree: Outline) -> None:
        """Choose live memory for each stored tensor where possible, fresh memory otherwise."""
        if self.match.problems:
            return
        there, live, targets = self.stored.tensors, self.live, self.targets
        probes = set(self.proven_by())
        usable = live.in_place.difference(self.match.converted)
        for name, source in self.match.sources.items():
            tensor = live.tensors[name]
            if source in targets:
                continue
            if name in usable and source not in probes:
                targets[source] = tensor.detach()
                self.filled_in_place[source] = live.regions[name]
            else:
                targets[source] = _fresh(there[source], tensor)
        needed = {self._source(name) for name in (*self.passengers, *self.extras)} & there.keys()
        if self.extras:
            needed |= tree.names
        for name in needed - self.targets.keys():
            self.targets[name] = there[name].allocate(torch.device("cpu"))

    def report(self) -> list[str]:
        """What goes where, in a line or two."""
        converted = self.match.converted
        lines = [f"{self.stored.name}: {len(self.match.sources)} tensors"]
        if converted:
            lines.append(f"{len(converted)} tensors converted to another dtype: {converted[0]}, …")
        if self.match.tolerated:
            lines.append(f"{len(self.match.tolerated)} names that fit nothing were let pass")
        return lines

    def proven_by(self) -> tuple[str, ...]:
        """Stored names of what goes to memory that live tensors share in part."""
        entangled = self.live.entangled
        if not entangled:
            return ()
        sources = self.match.sources
        return tuple({sources[name]: None for name in sources if name in entangled})

    def prove(self) -> None:
        """Whether shared memory can hold what was saved for each of its tensors."""
        prove_entangled(self.stored.name, self._entangled())

    def _entangled(self) -> list[tuple[str, Tensor, Tensor]]:
        if not self.live.entangled:
            return []
        return [
            (name, self.live.tensors[name], self.targets[source])
            for name, source in self.match.sources.items()
            if name in self.live.entangled
        ]

    @torch.no_grad()
    def finish(self) -> None:
        live, filled = self.live, self.filled_in_place
        write_entangled(self.stored.name, self._entangled())
        for name, source in self.match.sources.items():
            if filled.get(source) != live.regions[name] and name in live.in_place:
                live.tensors[name].copy_(self.targets[source])
        written = live.in_place | live.entangled
        own = not written.issuperset(self.match.sources)
        if own or self.passengers or live.after_load:
            state = {name: self._value(name) for name in self.match.sources}
            state.update({name: self.targets[self._source(name)] for name in self.passengers})
            self._load({**state, **self._extra_values()}, strict=self.exact)
        elif self.extras:
            self._load(self._extra_values(), strict=False)

    def _value(self, name: str) -> Tensor:
        if name in self.live.in_place or name in self.live.entangled:
            return self.live.tensors[name]
        return self.targets[self.match.sources[name]]

    def _source(self, name: str) -> str:
        return self.stored.aliases.get(name, name)

    def _extra_values(self) -> dict[str, object]:
        if not self.extras:
            return {}
        tree = filled(self.stored, self.codec, self.targets.__getitem__)
        extra, _ = _parts(self.stored, tree)
        return {
            name: extra[name] if name in extra else self.targets[self._source(name)]
            for name in self.extras
        }

    def _load(self, state: Mapping[str, object], *, strict: bool) -> None:
        """Call the module's own `load_state_dict` with raw keys and the saved versions."""
        canonical = CanonicalNames(self.live.module)
        _, versions = _parts(self.stored, outline(self.stored, self.codec).value)
        raw_state = OrderedDict((self._raw(name), value) for name, value in state.items())
        raw_state._metadata = OrderedDict(  # type: ignore[attr-defined]
            (raw, dict(versions.get(canonical.of_module(raw), {"version": 1})))
            for raw in self.live.metadata
        )
        try:
            self.live.module.load_state_dict(raw_state, strict=strict)
        except Exception as error:
            raise InterruptedLoadError(
                f"The module's own load_state_dict refused the state: {error}",
                where=self.stored.name,
                fix="load a checkpoint that fits its load hooks before going on",
            ) from error

    def _raw(self, name: str) -> str:
        """The raw key of an FQN; for one the module does not have, as its neighbours' would be."""
        if name in self.live.raw:
            return self.live.raw[name]
        parent, _, last = name.rpartition(".")
        canonical = CanonicalNames(self.live.module)
        raws = [raw for raw in self.live.metadata if canonical.of_module(raw) == parent]
        return f"{raws[-1]}.{last}" if raws and raws[-1] else name


def _fresh(facts: StoredTensor, live: Tensor) -> Tensor:
    """New memory for a stored tensor, spread over the ranks as the live one is."""
    return new_like(live, facts.dtype) if is_sharded(live) else facts.allocate(live.device)
