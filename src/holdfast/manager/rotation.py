"""Retention carried out: only after a commit, never against a reader, always explainable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.engine.catalog import Catalog
from holdfast.engine.prune import Pruned, carry_out, plan_unread, refresh_pointers
from holdfast.engine.save import SaveRequest
from holdfast.manager.context import Context
from holdfast.policy import KeepAnyOf, KeepAtMostBytes, PrunePlan, best
from holdfast.values import CheckpointInfo

_TO_COME = "0" * 32
_MANY = 5


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What retention would do: folder name -> reason, oldest first, and remarks on the rule.

    Prints as a table.
    """

    keep: Mapping[str, str]
    delete: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("delete", name, why) for name, why in self.delete.items()]
        rows += [("keep", name, why) for name, why in self.keep.items()]
        lines = [f"{what:<6}  {name}  {why}" for what, name, why in rows]
        return "\n".join([*lines, *(f"note    {text}" for text in self.warnings)])


class Rotation:
    """Plans and carries out the retention rule of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._warned: set[str] = set()

    def report(self) -> PruneReport:
        """What `prune` would do now, by name; deletes nothing."""
        catalog = self._context.catalog.read()
        plan = self._plan(catalog)
        names: dict[str, list[str]] = {}
        for entry in catalog.entries:
            names.setdefault(entry.manifest.id, []).append(entry.name)
        unreadable = {
            item.name: f"its manifest cannot be trusted: {item.error.what}"
            for item in catalog.unreadable
        }
        keep = {name: why for identity, why in plan.keep.items() for name in names[identity]}
        delete = {name: why for identity, why in plan.delete.items() for name in names[identity]}
        return PruneReport(unreadable | keep, delete, plan.warnings)

    def prune_now(self) -> list[str]:
        """`prune` because it was asked for; of many ranks, rank 0 does it. Raises LockedError."""
        if self._context.ranks.many and not self._context.ranks.leads:
            return []
        self._context.writer.ensure()
        return self.prune()

    def prune(self) -> list[str]:
        """Delete what the rule gives up and refresh the pointers.

        What fails stays; what is being read stays until it is not. Returns what to warn the user
        of, each sentence once.
        """
        catalog = self._context.catalog.read()
        plan = self._plan(catalog)
        if not self._holds(plan, catalog):
            catalog = self._context.catalog.read()
            plan = self._plan(catalog)
        pruned = self._carry_out(plan, catalog)
        texts = list(plan.warnings) if self._matters(plan) else []
        for name, problem in pruned.failed.items():
            texts.append(f"{name} could not be deleted and stays: {problem}")
        texts += [pruned.unlogged] if pruned.unlogged else []
        left = [info for info in catalog.infos if info.name not in pruned.removed]
        refresh_pointers(self._context.run, left, self._context.config.tracked)
        return [text for text in texts if self._is_new(text)]

    def make_room(self, request: SaveRequest) -> bool:
        """Delete already now what the rule would give up after this save; whether any went.

        The present newest, the best, pinned and restored ones stay, whatever the rule says: the
        new checkpoint does not exist yet.
        """
        catalog = self._context.catalog.read()
        newest = catalog.newest
        if newest is None:
            return False
        to_come = CheckpointInfo(
            id=_TO_COME,
            name="the checkpoint to be saved",
            epoch=request.epoch,
            global_step=request.global_step,
            branch=request.branch,
            sequence=request.sequence,
            time=request.time,
            bytes=newest.info.bytes,
            metrics=request.metrics,
        )
        protected = {newest.manifest.id: "the newest until the next is saved"}
        for metric in self._context.config.tracked:
            # Without the one to come: as long as it is not saved it is best at nothing.
            winner = best(catalog.infos, metric.name, metric.mode)
            if winner is not None:
                protected[winner.id] = f"the best by {metric} until the next is saved"
        plan = self._plan(catalog, extra=to_come, protected=protected)
        if not self._holds(plan, catalog):
            return False
        delete = {identity: why for identity, why in plan.delete.items() if identity != _TO_COME}
        return bool(self._carry_out(replace(plan, delete=delete), catalog).removed)

    def _plan(
        self,
        catalog: Catalog,
        *,
        extra: CheckpointInfo | None = None,
        protected: Mapping[str, str] | None = None,
    ) -> PrunePlan:
        """The plan, with everything that is being read protected."""
        context = self._context
        return plan_unread(
            context.run,
            catalog,
            context.retention,
            now=context.clock.time(),
            tracked=context.config.tracked,
            protected={**context.restored, **(protected or {})},
            extra=extra,
        )

    def _holds(self, plan: PrunePlan, catalog: Catalog) -> bool:
        """Whether what is to be deleted is still what the plan was made for."""
        doomed = [entry for entry in catalog.entries if entry.manifest.id in plan.delete]
        return self._context.catalog.still(doomed)

    def _carry_out(self, plan: PrunePlan, catalog: Catalog) -> Pruned:
        context = self._context
        rule, now = repr(context.retention), context.clock.time()
        return carry_out(context.run, plan, catalog, rule=rule, now=now)

    def _matters(self, plan: PrunePlan) -> bool:
        """Whether remarks on the rule are worth a warning yet.

        Before the first evaluation no checkpoint has a score, and nothing is lost by that until
        some are deleted or many have piled up.
        """
        rule = self._context.retention
        parts = rule.rules if isinstance(rule, KeepAnyOf) else (rule,)
        capped = any(isinstance(part, KeepAtMostBytes) for part in parts)
        return capped or bool(plan.delete) or len(plan.keep) > _MANY

    def _is_new(self, text: str) -> bool:
        # Figures behind the first clause change from save to save; the remark is the same.
        remark = re.split("[:;]", text)[0]
        fresh = remark not in self._warned
        self._warned.add(remark)
        return fresh
