"""One attack tried in every way in: load, resume, verify, catalog."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attack_guard import Watch, bounded
from attack_session import NEWER, OLDER, Session, save_run, session

from holdfast.cli.checking import check
from holdfast.cli.listing import as_data, as_table, catalog_of
from holdfast.cli.output import plain
from holdfast.errors import HoldfastError, InterruptedLoadError

Attack = Callable[[Path], None]
"""Changes the newer checkpoint's folder, which it is given."""

ALL = frozenset({"model", "optimizer", "scheduler", "counter", "rng"})


@dataclass
class Verdict:
    """What became of one attack. faults: everything that broke the rule."""

    outcomes: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Range:
    """A pristine run, copied for every attack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pristine = folder / "pristine"
        self.saved = save_run(self.pristine)
        self.watch = Watch()
        self.secret = folder / "secret"
        self.secret.write_text("nobody may read this", encoding="utf-8")
        warm = self.attempt(lambda folder: None)
        assert warm.outcomes == {"load": "ok", "resume": "newer", "verify": "ok"}, warm
        again = self.attempt(lambda folder: None)
        assert not again.faults, again

    def attempt(self, attack: Attack, *, may_differ: frozenset[str] = frozenset()) -> Verdict:
        """Try one attack. may_differ: components that a successful load may bring back changed,
        because the attack forged what they are."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.pristine, run, symlinks=True)
        attack(run / NEWER)
        verdict = Verdict()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._load(run, verdict, may_differ)
            self._resume(run, verdict, may_differ)
            self._look(run, verdict)
        if (self.folder / "executed").exists():
            verdict.faults.append("code was executed")
        return verdict

    def _load(self, run: Path, verdict: Verdict, may_differ: frozenset[str]) -> None:
        live = session(run, 2)
        before = live.fingerprint()
        error = self._guarded(run, verdict, "load", lambda: live.manager.load(run / NEWER))
        verdict.outcomes["load"] = "ok" if error is None else type(error).__name__
        if error is None:
            self._same(verdict, "load", live, self.saved[NEWER], may_differ)
            return
        self._same(verdict, "refused load", live, before, frozenset())
        if isinstance(error, HoldfastError):
            text = str(error)
            if str(run / NEWER) not in text:
                verdict.faults.append(f"load: the error does not name the file: {text}")
            if not text.replace("\n", "").isprintable():
                verdict.faults.append(f"load: control characters in the error: {text!r}")
            if isinstance(error, InterruptedLoadError):
                verdict.faults.append(f"load: broke off half-way: {text}")

    def _resume(self, run: Path, verdict: Verdict, may_differ: frozenset[str]) -> None:
        live = session(run, 3)
        before = live.fingerprint()
        reports: list[Any] = []
        error = self._guarded(
            run, verdict, "resume", lambda: reports.append(live.manager.resume(verbose=False))
        )
        if error is not None:
            verdict.outcomes["resume"] = type(error).__name__
            self._same(verdict, "refused resume", live, before, frozenset())
            return
        report = reports[0]
        if not report.checklist.replace("\n", "").isprintable():
            verdict.faults.append("resume: control characters in the checklist")
        if report.info.name == NEWER:
            verdict.outcomes["resume"] = "newer"
            self._same(verdict, "resume", live, self.saved[NEWER], may_differ)
        else:
            verdict.outcomes["resume"] = "older"
            self._same(verdict, "resume", live, self.saved[OLDER], frozenset())

    def _look(self, run: Path, verdict: Verdict) -> None:
        def look() -> None:
            catalog = catalog_of(run)
            as_data(catalog)
            text = plain(as_table(catalog) + (found := check(run)).as_text())
            if not text.replace("\n", "").isprintable():
                verdict.faults.append("control characters in a listing")
            verdict.outcomes["verify"] = "damaged" if found.damaged else "ok"

        self._guarded(run, verdict, "look", look)

    def _guarded(
        self, run: Path, verdict: Verdict, what: str, act: Callable[[], object]
    ) -> Exception | None:
        try:
            with bounded(), self.watch.over(run):
                act()
        except HoldfastError as error:
            return error
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
            verdict.faults.append(f"{what}: {type(error).__name__}: {error}")
            return error
        finally:
            verdict.faults += [f"{what}: {seen}" for seen in self.watch.seen]
        return None

    @staticmethod
    def _same(
        verdict: Verdict,
        what: str,
        live: Session,
        expected: dict[str, str],
        may_differ: frozenset[str],
    ) -> None:
        now = live.fingerprint()
        changed = [n for n in now if now[n] != expected[n] and n not in may_differ]
        if changed:
            verdict.faults.append(f"{what}: {', '.join(changed)} not as expected")
