"""The local pages in a real browser, while a run is saving."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from report_runs import Training

from holdfast.engine.catalog import read_catalog
from holdfast.report.serve import ReportServer
from holdfast.storage import LocalRun

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

Start: TypeAlias = Callable[..., Any]
_KEPT = "#r0-curve-0 .ckpt_kept_marks path, #r0-curve-0 .ckpt_best_marks path"
_ALL = f"{_KEPT}, #r0-curve-0 .ckpt_deleted_marks path"


def test_the_page_follows_a_run_that_is_saving(visit: Start, tmp_path: Path) -> None:
    """New checkpoints and values appear by themselves; what the reader set stays set."""
    from playwright.sync_api import expect

    training = Training(tmp_path / "live")
    training.run(0, 60)
    with ReportServer(tmp_path) as server:
        seen = visit()
        page = seen.page
        page.goto(server.address)
        page.get_by_role("link", name="live").click()
        page.wait_for_selector("html[data-ready]")
        expect(page.locator(_ALL)).to_have_count(6)
        page.locator("#r0-curve-0").locator("xpath=..").locator("button.key").nth(1).click()
        page.locator("figure details summary").first.click()
        for end in (80, 100, 120):
            training.run(end - 20, end)
            expect(page.locator(_ALL)).to_have_count(end // 10, timeout=60_000)
        kept = len(read_catalog(LocalRun(tmp_path / "live")).entries)
        assert page.locator(_KEPT).count() == kept
        expect(page.locator("html")).to_have_attribute("data-renewed", re.compile("[3-9]"))
        assert page.locator("button.key[aria-pressed=false]").count() == 1
        assert page.locator("figure details[open]").count() == 1
        assert "120" in page.locator("dl.facts").first.inner_text()
        assert seen.complaints == []
        assert {address.split("/")[2] for address in seen.requests} == {f"127.0.0.1:{server.port}"}
        seen.shot("ui-live")
    training.manager.close()


def test_a_click_pins_and_another_unpins(visit: Start, finished_run: Path, tmp_path: Path) -> None:
    """The button asks for the reason, writes the pin, and shows that it is there."""
    shutil.copytree(finished_run, tmp_path / "one", symlinks=True)
    run = LocalRun(tmp_path / "one")
    newest = read_catalog(run).infos[-1].name
    with ReportServer(tmp_path) as server:
        seen = visit()
        page = seen.page
        page.goto(server.address)
        page.get_by_role("link", name="one").click()
        page.wait_for_selector("html[data-ready]")
        page.once("dialog", lambda dialog: dialog.accept("for the paper"))
        button = page.locator(f"button[data-pin='{newest}']")
        button.click()
        page.locator(".pins em", has_text="for the paper").wait_for()
        assert read_catalog(run).infos[-1].pinned == "for the paper"
        page.locator(f"button[data-pin='{newest}'][data-on='no']").click()
        page.locator(".pins em", has_text="for the paper").wait_for(state="detached")
        assert read_catalog(run).infos[-1].pinned is None
        assert seen.complaints == []


def test_runs_are_listed_and_compared(visit: Start, finished_run: Path, tmp_path: Path) -> None:
    """Two marked runs stand on one page, with common charts; hostile folder names are text."""
    evil = "<img src=x onerror=alert(1)>"
    for name in ("one", "two", evil):
        shutil.copytree(finished_run, tmp_path / name, symlinks=True)
    with ReportServer(tmp_path) as server:
        seen = visit(375, 800)
        page = seen.page
        page.goto(server.address)
        assert page.locator("tbody tr").count() == 3
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        seen.shot("ui-list")
        page.get_by_label("Compare one", exact=True).check()
        page.get_by_label(f"Compare {evil}").check()
        page.get_by_role("button", name="Compare", exact=True).click()
        page.wait_for_selector("html[data-ready]")
        assert page.locator("article.run").count() == 2
        assert page.locator("#all-compare-0 .lines_marks path[d*='L']").count() == 2
        assert page.locator("img").count() == 0
        assert seen.complaints == []
        seen.shot("ui-compare")


def test_the_page_says_when_the_server_is_gone(visit: Start, tmp_path: Path) -> None:
    """A reader is not left with old figures that look alive."""
    server = ReportServer(tmp_path)
    with server:
        seen = visit()
        seen.page.goto(server.address)
        seen.page.get_by_text("There is no run here yet").wait_for()
    seen.page.locator("#state", has_text="the server is gone").wait_for()
