"""Which committed checkpoints to delete, and why each stays or goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.errors import PolicyError
from holdfast.policy import _checks
from holdfast.policy._text import listing, size
from holdfast.policy.ranking import Metric, best, score
from holdfast.policy.retention import Judgement, KeepAll, KeepAnyOf, KeepAtMostBytes, Retention
from holdfast.policy.retention_rules import KeepBest, KeepLast
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """Every checkpoint id of the history under `keep` or `delete`, each with its reason.

    Both are in ascending order, oldest first: delete in that order. warnings: sentences about the
    rule itself, such as a metric that no checkpoint carries.
    """

    keep: Mapping[str, str]
    delete: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def default_retention(
    save_total_limit: int | None = 5, tracked: Sequence[Metric] = ()
) -> Retention:
    """Rotate all but the newest `save_total_limit`; the best by each tracked metric is extra.

    The best does not count towards the limit: were it within the limit, `save_total_limit=1` could
    hold either the best or the newest but not both, and one of them is needed to resume and the
    other to deploy. So at most `save_total_limit` + len(tracked) checkpoints stay. None: keep all.
    Raises PolicyError for a limit below 1: 0 could mean all or none, so it means neither.
    """
    if save_total_limit is None:
        return KeepAll()
    if type(save_total_limit) is not int or save_total_limit < 1:
        raise PolicyError(
            f"save_total_limit must be a whole number of at least 1, not {save_total_limit!r}",
            fix="use None to keep every checkpoint",
        )
    bests = [KeepBest(1, metric.name, mode=metric.mode) for metric in tracked]
    return KeepAnyOf((KeepLast(save_total_limit), *bests)) if bests else KeepLast(save_total_limit)


def plan_prune(
    history: Sequence[CheckpointInfo],
    rule: Retention,
    *,
    now: float,
    protected: Mapping[str, str] | None = None,
    tracked: Sequence[Metric] = (),
) -> PrunePlan:
    """Decide which committed checkpoints to delete; deletes nothing itself.

    history: the committed checkpoints, in any order. now: seconds since the epoch, UTC.
    protected: ids that must stay whatever the rule says, each with the reason (being read, newest
    verified, parent of an unfinished operation). tracked: metrics whose best always stays, besides
    those that the rule ranks by.

    Always kept: the newest by `CheckpointInfo.order`, the best of each metric, pinned and protected
    ones. A rule that keeps nothing because no checkpoint has a finite value of its metric cannot
    tell good from bad, so then all are kept, with a warning: a misspelt metric costs disk space,
    not checkpoints. Raises PolicyError if two checkpoints share an id or `now` is not finite.
    """
    _checks.finite_number(now, name="now")
    ordered = sorted(history, key=lambda info: info.order)
    if len({info.id for info in ordered}) != len(ordered):
        raise PolicyError("Two checkpoints of the history have the same id")
    parts = rule.rules if isinstance(rule, KeepAnyOf) else (rule,)
    caps = [part for part in parts if isinstance(part, KeepAtMostBytes)]
    keepers = tuple(part for part in parts if not isinstance(part, KeepAtMostBytes))
    ranking = [part.tracked for part in keepers if isinstance(part, KeepBest)]
    metrics = tuple(dict.fromkeys([*tracked, *ranking]))

    judged = KeepAnyOf(keepers or (KeepAll(),)).judge(ordered, now=now)
    blind = [metric for metric in metrics if _blind(ordered, metric)]
    if not any(judgement.keep for judgement in judged) and not set(blind).isdisjoint(ranking):
        why = f"{rule!r} cannot tell which are good, so all are kept"
        judged = [Judgement(True, why)] * len(ordered)
    held = _held(ordered, metrics, protected or {})
    keep, delete = _split(ordered, judged, held)
    warnings = [_blind_warning(ordered, metric) for metric in blind]
    for cap in caps:
        warnings += _cap(cap, ordered, keep, delete, held)
    return PrunePlan(_in_order(ordered, keep), _in_order(ordered, delete), tuple(warnings))


def _held(
    ordered: Sequence[CheckpointInfo], metrics: Sequence[Metric], protected: Mapping[str, str]
) -> dict[str, str]:
    """Ids that no rule may delete, each with its reasons."""
    reasons: dict[str, list[str]] = {}
    if ordered:
        reasons[ordered[-1].id] = ["the newest"]
    for metric in metrics:
        winner = best(ordered, metric.name, metric.mode)
        if winner is not None:
            value = f"{winner.metrics[metric.name]:.6g}"
            reasons.setdefault(winner.id, []).append(f"the best by {metric}: {value}")
    for info in ordered:
        if info.pinned is not None:
            reasons.setdefault(info.id, []).append(f"pinned: {info.pinned}")
        if info.id in protected:
            reasons.setdefault(info.id, []).append(f"protected: {protected[info.id]}")
    return {id: "; ".join(parts) for id, parts in reasons.items()}


def _split(
    ordered: Sequence[CheckpointInfo], judged: Sequence[Judgement], held: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Divide by what the rule says and by what is held, each with its reason."""
    keep: dict[str, str] = {}
    delete: dict[str, str] = {}
    for info, judgement in zip(ordered, judged, strict=True):
        if judgement.keep:
            reasons = [held[info.id]] if info.id in held else []
            keep[info.id] = "; ".join([*reasons, judgement.why])
        elif info.id in held:
            keep[info.id] = held[info.id]
        else:
            delete[info.id] = judgement.why
    return keep, delete


def _blind(ordered: Sequence[CheckpointInfo], metric: Metric) -> bool:
    return bool(ordered) and all(score(info, metric.name) is None for info in ordered)


def _blind_warning(ordered: Sequence[CheckpointInfo], metric: Metric) -> str:
    known = sorted({name for info in ordered for name in info.metrics})
    recorded = f"recorded are {listing(known)}" if known else "no metric is recorded at all"
    return f"No checkpoint has a finite value of {metric.name!r}, so none is best; {recorded}."


def _cap(
    cap: KeepAtMostBytes,
    ordered: Sequence[CheckpointInfo],
    keep: dict[str, str],
    delete: dict[str, str],
    held: Mapping[str, str],
) -> list[str]:
    """Move the oldest that may go from `keep` to `delete` until the rest fits; warn if not."""
    total = sum(info.bytes for info in ordered if info.id in keep)
    for info in ordered:
        if total <= cap.max_bytes:
            return []
        if info.id in keep and info.id not in held:
            del keep[info.id]
            delete[info.id] = (
                f"{cap!r}: with this one {size(total)} would be kept, and it is the oldest that "
                "may go"
            )
            total -= info.bytes
    if total <= cap.max_bytes:
        return []
    return [
        f"{cap!r} is exceeded: the checkpoints that always stay take {size(total)} "
        "(the newest, the best, pinned and protected ones)."
    ]


def _in_order(ordered: Sequence[CheckpointInfo], reasons: Mapping[str, str]) -> dict[str, str]:
    return {info.id: reasons[info.id] for info in ordered if info.id in reasons}
