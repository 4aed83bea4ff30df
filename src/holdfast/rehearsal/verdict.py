"""Comparing the courses of two processes: what differs first, and why that is. Without torch."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.rehearsal.records import Course, Finding, Mark, Observation

# What makes other things differ comes before what is made to differ.
_RANK: dict[str, int] = {
    kind: rank
    for rank, kind in enumerate(
        (
            "random stream",
            "loader",
            "scheduler",
            "scaler",
            "module",
            "optimizer",
            "buffer",
            "stateful",
            "tensor",
            "value",
            "iterator",
            "loss",
        )
    )
}
_FIXES: dict[str, str] = {
    "random stream": 'pass it to the manager: generators={"name": generator}',
    "loader": 'make it resumable and register it: manager.register("loader", resumable(loader))',
    "scheduler": "pass it to the manager as scheduler, or register it",
    "scaler": "pass it to the manager as scaler, or register it",
    "module": "register it: manager.register(name, module)",
    "optimizer": "pass it to the manager as optimizer, or register it",
    "buffer": "register it as a persistent buffer: register_buffer(name, tensor)",
    "stateful": "register it: manager.register(name, object)",
    "iterator": "take batches from a registered loader, which knows where it stands",
    "tensor": "make it a buffer of a registered module, or pass it as extra_state",
    "value": "keep it in a registered object with state_dict(), or pass it as extra_state",
    "loss": "",
}


def first_difference(one: Course, other: Course) -> tuple[int, str] | None:
    """After how many steps two courses first show another effect, and where; None if never.

    Effects are losses, what the optimizers stepped with, and what checkpoints hold. Hidden state
    alone, and random streams that nothing saved comes to depend on, are none.
    """
    for number, (a, b) in enumerate(zip(one.steps, other.steps, strict=True), start=1):
        if a.loss != b.loss:
            return number, "the loss"
        if a.used != b.used:
            return number, "what the optimizer stepped with"
        for name in dict.fromkeys((*a.marks, *b.marks)):
            before, after = a.marks.get(name), b.marks.get(name)
            if before != after and _is_effect(before or after):
                return number, name
    return None


def _is_effect(mark: Mark | None) -> bool:
    return mark is not None and mark.saved and mark.kind != "random stream"


def differences(one: Observation, other: Observation) -> Iterator[tuple[str, Mark]]:
    """Names whose marks differ, with the mark of the uninterrupted run if it has one."""
    for name in dict.fromkeys((*one.marks, *other.marks)):
        before, after = one.marks.get(name), other.marks.get(name)
        if before != after:
            yield name, before or after  # type: ignore[misc]


def findings_of(whole: Course, resumed: Course, again: Course | None) -> list[Finding]:
    """Why the resumed course is another one, the likeliest first; `again`: resumed once more.

    State that differs right after restoring comes first, by what may have made the rest differ. If
    nothing differs there, either the steps do something else (a scheduler that steps at another
    place), or the two that resumed differ from each other: then an operation is not deterministic.
    """
    effect = first_difference(whole, resumed)
    if effect is None:
        return []
    at, where = effect
    found = [_at_restore(name, mark) for name, mark in differences(whole.start, resumed.start)]
    found.sort(key=lambda finding: _rank(finding, whole))
    chance = _chance(resumed, again)
    if chance is not None:
        return [chance, *found]
    order = _order(whole, resumed)
    if order is not None and not any(f.kind in ("scheduler", "random stream") for f in found):
        return [order, *found]
    strong = [finding for finding in found if finding.kind not in ("value", "iterator", "tensor")]
    if strong or found:
        return found
    return [
        Finding(
            "unknown",
            where,
            at,
            f"{where} differs first, after {at} steps, though everything visible was restored",
            "look for state outside of Python objects: files, environment, compiled extensions",
        )
    ]


def _rank(finding: Finding, whole: Course) -> tuple[bool, int, str]:
    """A random stream that nobody drew from may differ, and explains nothing: it comes last."""
    marks = (whole.start.marks.get(finding.name), whole.steps[-1].marks.get(finding.name))
    idle = finding.kind == "random stream" and marks[0] == marks[1]
    return (idle, _RANK.get(finding.kind, 99), finding.name)


def notes_of(whole: Course, resumed: Course) -> list[str]:
    """Hidden state that differed right after restoring, for a run that resumed exactly."""
    return [
        f"{name} ({mark.kind}) is not saved and differed after restoring, without effect"
        for name, mark in differences(whole.start, resumed.start)
        if mark.kind not in ("value", "iterator")
    ]


def _at_restore(name: str, mark: Mark) -> Finding:
    if mark.saved:
        what = f"{name} is saved, but is not the same after restoring"
        fix = "see that nothing changes it between resume() and the first step"
        return Finding(mark.kind, name, 0, what, fix)
    if name.startswith("random "):
        what = (
            f"the {name.removeprefix('random ')} random stream is not saved (save_rng_state=False)"
        )
        return Finding(mark.kind, name, 0, what, "leave save_rng_state=True")
    what = f"{name}, a {mark.kind} that the step uses, is not saved and differs after restoring"
    return Finding(mark.kind, name, 0, what, _FIXES[mark.kind])


def _chance(resumed: Course, again: Course | None) -> Finding | None:
    """A finding if two processes that resumed alike went apart."""
    if again is None or any(differences(resumed.start, again.start)):
        return None
    effect = first_difference(resumed, again)
    if effect is None:
        return None
    at, where = effect
    told = [text for text in again.warnings if "determinis" in text]
    named = f": torch says {told[0]!r}" if told else ""
    return Finding(
        "nondeterministic operator",
        where,
        at,
        f"two processes that resumed alike went apart after {at} steps, first in {where}{named}",
        "torch.use_deterministic_algorithms(True) names such operators; else look for time, "
        "os.urandom, threads and the order of sets",
    )


def _order(whole: Course, resumed: Course) -> Finding | None:
    """A finding if the optimizer stepped with another schedule though none differed before."""
    before = {name: mark for name, mark in whole.start.marks.items() if mark.kind == "scheduler"}
    if any(resumed.start.marks.get(name) != mark for name, mark in before.items()):
        return None
    for number, (a, b) in enumerate(zip(whole.steps, resumed.steps, strict=True), start=1):
        if a.used != b.used:
            return Finding(
                "scheduler",
                "scheduler order",
                number,
                "the schedule is stepped at another place after the resume: uninterrupted, "
                f"{_told(a.used)}; resumed, {_told(b.used)}",
                "call scheduler.step() at one place, after optimizer.step(), before saving",
            )
        if a.loss != b.loss:
            return None
    return None


def _told(used: tuple[str, ...]) -> str:
    return "; ".join(used) or "no optimizer stepped"
