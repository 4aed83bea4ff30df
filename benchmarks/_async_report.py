"""What `async_loop` found: a table, our limits, and a plot."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BASE = "nothing"
OURS = "holdfast async"
COPY = "holdfast async, no overlap"
SYNC = "torch.save + fsync"
_AFTER = 3


@dataclass
class Result:
    """What was measured of one way, over all rounds. Seconds and bytes.

    blocked: per save. stretches, cpu: per round. after: of the steps following a save, one list per
    place behind it. durable: per save. why_not: why it was not run.
    """

    name: str
    ours: bool = False
    flushes: bool = True
    blocked: list[float] = field(default_factory=list)
    stretches: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    bytes: int = 0
    peak_bytes: int = 0
    why_not: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table; per save where it can be."""

    name: str
    ours: bool
    flushes: bool
    blocked: float
    blocked_max: float
    overhead: float
    cpu: float
    slowdown: float
    durable: float
    bytes: int
    peak_bytes: int


def rows(results: list[Result], saves: int) -> list[Row]:
    """A row for every way that saved. saves: in a stretch."""
    base = next(result for result in results if result.name == BASE)
    usual = statistics.median(base.steps)
    found = []
    for result in results:
        if not result.durable or result is base:
            continue
        pairs = zip(result.stretches, base.stretches, strict=True)
        cpu = zip(result.cpu, base.cpu, strict=True)
        found.append(
            Row(
                result.name,
                result.ours,
                result.flushes,
                statistics.median(result.blocked),
                max(result.blocked),
                statistics.median((with_saves - without) / saves for with_saves, without in pairs),
                statistics.median((with_saves - without) / saves for with_saves, without in cpu),
                statistics.median(result.after) / usual - 1,
                statistics.median(result.durable),
                result.bytes,
                result.peak_bytes,
            )
        )
    return found


def show(facts: dict[str, Any], results: list[Result], found: list[Row]) -> None:
    """Print the table."""
    print(
        f"\n{facts['loop']}: {facts['state_bytes'] / 1e9:.2f} GB of state, a step "
        f"{1000 * facts['step_seconds']:.0f} ms, a save every {facts['every']} steps, "
        f"{facts['rounds']} rounds; plain copy of the state "
        f"{1000 * facts['plain_copy_seconds']:.0f} ms; torch {facts['torch']} on "
        f"{facts['device']}, {facts['cores']} cores, load {facts['load']:.1f}"
    )
    print(
        f"{'':28}{'blocked ms':>16}{'overhead':>10}{'cpu s':>7}{'after':>8}{'durable s':>11}"
        f"{'GB':>6}{'peak GB':>9}"
    )
    for row in sorted(found, key=lambda row: row.overhead):
        blocked = f"{1000 * row.blocked:.1f} /{1000 * row.blocked_max:.0f}"
        late = "" if row.flushes else " *"
        print(
            f"{row.name:28}{blocked:>16}{1000 * row.overhead:>7.0f} ms{row.cpu:>7.2f}"
            f"{100 * row.slowdown:>+7.0f}%{row.durable:>11.2f}{row.bytes / 1e9:>6.2f}"
            f"{row.peak_bytes / 1e9:>9.2f}{late}"
        )
    for result in results:
        if result.why_not is not None:
            print(f"{result.name:28}not run: {result.why_not}")
    print(
        "blocked: per save, median / worst. overhead: how much longer the loop took, per save. "
        f"cpu: processor time\nper save. after: how much longer the {_AFTER} steps after a save "
        "took. peak: memory beyond the loop's own.\n* does not flush by itself; durable once the "
        "benchmark had flushed its files"
    )


def limits(facts: dict[str, Any], found: list[Row]) -> list[dict[str, Any]]:
    """Each limit we set ourselves, with what was measured."""
    by_name = {row.name: row for row in found}
    peers = [row for row in found if not row.ours]
    checks: list[tuple[str, float, float]] = []
    ours, copied, sync = by_name.get(OURS), by_name.get(COPY), by_name.get(SYNC)
    copy = facts["plain_copy_seconds"]
    if ours is not None:
        checks.append(("blocked with overlap / plain copy", ours.blocked / copy, 0.1))
        if sync is not None:
            checks.append((f"blocked with overlap / {SYNC}", ours.blocked / sync.blocked, 0.02))
    if copied is not None:
        checks.append(("blocked without overlap / plain copy", copied.blocked / copy, 1.3))
    if ours is not None and peers:
        best = min(peers, key=lambda row: row.overhead)
        ratio = ours.overhead / best.overhead if best.overhead > 0 else float("inf")
        checks.append((f"overhead / that of the best peer ({best.name})", ratio, 0.5))
        cpu = min(peers, key=lambda row: row.cpu)
        checks.append(
            (f"processor time / the least of a peer ({cpu.name})", ours.cpu / cpu.cpu, 0.5)
        )
        checks.append((f"durable / {best.name}", ours.durable / best.durable, 1.0))
        soonest = min(peers, key=lambda row: row.durable)
        checks.append(
            (f"durable / the soonest peer ({soonest.name})", ours.durable / soonest.durable, 1.0)
        )
    return [
        {"limit": name, "ratio": ratio, "at_most": most, "passed": ratio <= most}
        for name, ratio, most in checks
    ]


def show_limits(checks: list[dict[str, Any]]) -> None:
    """Print them."""
    for check in checks:
        verdict = "PASS" if check["passed"] else "MISSED"
        print(f"{verdict:7}{check['limit']}: {check['ratio']:.3f}, at most {check['at_most']}")


def document(facts: dict[str, Any], results: list[Result], saves: int) -> dict[str, Any]:
    """All of it, for JSON."""
    found = rows(results, saves)
    return {
        "facts": facts,
        "rows": [asdict(row) for row in found],
        "limits": limits(facts, found),
        "measured": [asdict(result) for result in results],
    }


def plot(facts: dict[str, Any], found: list[Row], path: Path) -> None:
    """Draw blocked time, overhead and time to durable, one bar a way."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "holdfast"
    ordered = sorted(found, key=lambda row: -row.overhead)
    figure, axes = plt.subplots(1, 3, figsize=(11, 0.38 * len(ordered) + 1.4), sharey=True)
    panels = [
        ("training blocked per save, ms (log)", [1000 * row.blocked for row in ordered]),
        ("whole loop longer per save, ms", [1000 * row.overhead for row in ordered]),
        ("until durable, s", [row.durable for row in ordered]),
    ]
    colours = ["#1b6ca8" if row.ours else "#a9b4bf" for row in ordered]
    for axis, (title, values) in zip(axes, panels, strict=True):
        axis.barh([row.name for row in ordered], values, color=colours)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_xscale("log")
    figure.suptitle(
        f"{facts['loop']}, {facts['state_bytes'] / 1e9:.2f} GB of state, {facts['device']}, torch "
        f"{facts['torch']}",
        fontsize=9,
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
