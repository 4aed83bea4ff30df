"""The report of a real run in a real browser, opened from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from holdfast.engine.catalog import read_catalog
from holdfast.engine.events import read_events
from holdfast.report import write_report
from holdfast.storage import LocalRun

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

Start: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="module")
def wide(open_page: Start, report_file: Path) -> Any:
    """The page of the finished run, opened once; tests leave it as they found it."""
    seen = open_page()
    seen.open(report_file.as_uri())
    return seen


def curve(page: Any, title: str) -> Any:
    """The figure of this title."""
    heading = page.locator("figure.figure h4").filter(has_text=title).first
    return heading.locator("xpath=ancestor::figure")


def marks(figure: Any, name: str) -> int:
    """How many marks a layer of the live chart has."""
    count: int = figure.locator(f".chart .{name}_marks path").count()
    return count


def test_the_page_opens_from_a_file_without_a_request_or_a_complaint(
    wide: Any, report_file: Path
) -> None:
    """One file is asked for, the console stays silent, every chart is drawn, nothing is NaN."""
    seen = wide
    assert seen.requests == [report_file.as_uri()]
    assert seen.complaints == []
    charts = seen.page.locator(".chart").count()
    assert charts >= 9
    assert seen.page.locator("figure.live .chart svg").count() == charts
    drawn = seen.page.evaluate("[...document.querySelectorAll('svg')].map(s => s.outerHTML).join()")
    assert "NaN" not in drawn
    assert "Infinity" not in drawn
    seen.shot("report-wide")


def test_there_is_one_mark_for_every_checkpoint(wide: Any, finished_run: Path) -> None:
    """Kept and best marks together are as many as manifests, hollow ones as many as deletions."""
    kept = len(read_catalog(LocalRun(finished_run)).entries)
    gone = len(read_events(LocalRun(finished_run)))
    assert kept > 3
    assert gone > 3
    seen = wide
    for title in ("loss", "bleu"):
        figure = curve(seen.page, title)
        assert marks(figure, "ckpt_kept") + marks(figure, "ckpt_best") == kept
        assert marks(figure, "ckpt_best") == len({*_best_names(finished_run)})
        assert marks(figure, "ckpt_deleted") == gone
        assert marks(figure, "ckpt_resumed") == 1
    rows = seen.page.locator("table[id$=-checkpoints] tbody tr").count()
    assert rows == kept + gone


def _best_names(run: Path) -> list[str]:
    catalog = read_catalog(LocalRun(run))
    loss = min(
        (i for i in catalog.infos if "val_loss" in i.metrics), key=lambda i: i.metrics["val_loss"]
    )
    bleu = max(
        (i for i in catalog.infos if "val_bleu" in i.metrics), key=lambda i: i.metrics["val_bleu"]
    )
    return [loss.name, bleu.name]


def test_hovering_a_checkpoint_tells_its_story(wide: Any) -> None:
    """Over a deleted checkpoint stand its step, why it was saved and why it went."""
    seen = wide
    seen.page.locator(".chart .ckpt_deleted_marks path").first.hover(force=True)
    tip = seen.page.locator("#tip")
    tip.wait_for(state="visible")
    assert "deleted: KeepLast(3)" in tip.inner_text()
    assert "save() was called" in tip.inner_text()
    seen.page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_zooming_moving_and_showing_all_again(wide: Any) -> None:
    """Buttons, the keyboard and dragging change which steps a chart shows; "All" restores them."""
    seen = wide
    figure = curve(seen.page, "loss")
    domain = (
        f"holdfast.views.get('{figure.locator('.chart').get_attribute('id')}').scale('x').domain()"
    )
    low, high = seen.page.evaluate(domain)
    figure.locator("[data-zoom=in]").click()
    seen.page.wait_for_function(f"{domain}[0] > {low}")
    nearer = seen.page.evaluate(domain)
    assert nearer[1] - nearer[0] == pytest.approx((high - low) / 2)
    figure.locator("[data-zoom=right]").focus()
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_function(f"{domain}[0] > {nearer[0]}")
    box = figure.locator(".chart svg").bounding_box()
    seen.page.mouse.move(box["x"] + 200, box["y"] + 100)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 300, box["y"] + 100, steps=4)
    seen.page.mouse.up()
    seen.page.wait_for_function(f"{domain}[0] < {nearer[0] + (nearer[1] - nearer[0]) / 4}")
    figure.locator("[data-zoom=all]").click()
    seen.page.wait_for_function(f"{domain}[0] === {low} && {domain}[1] === {high}")


def test_a_series_is_switched_off_and_on(wide: Any) -> None:
    """The legend's switch takes a curve away, says so to screen readers, and brings it back."""
    seen = wide
    figure = curve(seen.page, "loss")
    switch = figure.locator("button.key", has_text="train_loss")
    lines = figure.locator(".chart .lines_marks path[d*='L']")
    assert lines.count() == 2
    switch.focus()
    seen.page.keyboard.press("Space")
    assert switch.get_attribute("aria-pressed") == "false"
    seen.page.wait_for_function(
        "document.querySelectorAll('#r0-curve-0 .lines_marks path[d*=L]').length === 1"
    )
    switch.click()
    seen.page.wait_for_function(
        "document.querySelectorAll('#r0-curve-0 .lines_marks path[d*=L]').length === 2"
    )


def test_tables_sort_by_number_and_back(wide: Any) -> None:
    """A heading sorts by value, empty cells last; again, the other way; and it says which."""
    seen = wide
    table = seen.page.locator("table[id$=-checkpoints]")
    heading = table.locator("th", has_text="val_bleu")
    column = heading.evaluate("head => head.cellIndex")

    def values() -> list[str]:
        return [
            cell.inner_text()
            for cell in table.locator(f"tbody tr td:nth-child({column + 1})").all()
        ]

    heading.locator("button").click()
    rising = [float(text) for text in values() if text]
    assert rising == sorted(rising)
    assert values()[-1] == ""
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").press("Enter")
    assert [float(text) for text in values() if text] == rising[::-1]
    assert values()[-1] == ""


def test_a_phone_needs_no_sideways_scrolling(visit: Start, report_file: Path) -> None:
    """At 375 pixels nothing sticks out, charts fill the width, and controls are big enough."""
    seen = visit(375, 800, has_touch=True, is_mobile=True)
    seen.open(report_file.as_uri())
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    widths = page.evaluate(
        "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert min(widths) > 280
    small = page.evaluate(
        "[...document.querySelectorAll('.tools button')].map(b => b.getBoundingClientRect())"
        ".filter(r => r.width < 24 || r.height < 24).length"
    )
    assert small == 0
    seen.shot("report-phone")
    page.emulate_media(color_scheme="dark")
    seen.shot("report-phone-dark")


def test_dark_follows_the_system_and_the_switch(wide: Any) -> None:
    """The charts change colours with the page, by the system's wish or by the button."""
    seen, page = wide, wide.page
    page.emulate_media(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('.chart .role-axis-label text')).fill"
    dark = [page.evaluate(ground), page.evaluate(label)]
    seen.shot("report-dark")
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark[0]
    page.locator("#theme").click()
    light = [page.evaluate(ground), page.evaluate(label)]
    page.locator("#theme").click()
    page.emulate_media(color_scheme="light")
    assert light[0] != dark[0]
    assert light[1] != dark[1]


def test_print_shows_still_pictures_on_white_paper(wide: Any) -> None:
    """In print the controls are gone and every chart is its still picture, whatever the theme."""
    seen, page = wide, wide.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".tools").first.is_visible()
    assert not page.locator(".chart").first.is_visible()
    assert page.locator("svg.still").count() == page.locator(".chart").count()
    assert all(still.is_visible() for still in page.locator("svg.still").all())
    seen.shot("report-print")
    page.emulate_media(media="screen", color_scheme="light")


def test_without_scripts_everything_can_still_be_read(visit: Start, report_file: Path) -> None:
    """Scripts off: still pictures with one mark for each checkpoint, and every table twin."""
    seen = visit(java_script_enabled=False)
    seen.page.goto(report_file.as_uri())
    page = seen.page
    assert page.locator("svg.still").count() == page.locator(".chart").count()
    assert page.locator("svg.still").first.is_visible()
    first = page.locator("svg.still .ckpt_kept_marks, svg.still .mark-symbol").count()
    assert first > 0
    page.locator("details.twin summary").first.click()
    assert page.locator("details.twin table").first.is_visible()
    assert not page.locator("#download").is_visible()
    seen.shot("report-without-scripts")


def test_every_chart_is_titled_described_and_has_a_table_twin(wide: Any) -> None:
    """A person who cannot see a chart finds its title, its gist and its numbers; in order."""
    seen = wide
    page = seen.page
    for figure in page.locator("figure.figure").all():
        assert figure.locator("h4").inner_text()
        assert len(figure.locator("figcaption p").inner_text()) > 10
        assert figure.locator("[role=graphics-document][aria-label]").count() == 1
        section = figure.locator("xpath=ancestor::section")
        assert section.locator("table").count() > 0
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button')]"
        ".filter(b => !(b.textContent.trim() || b.ariaLabel)).length"
    )
    assert unnamed == 0


def test_every_control_is_reached_with_the_keyboard(wide: Any) -> None:
    """Tab goes to every visible button, link, summary and wide table, and shows where it is."""
    seen = wide
    page = seen.page
    reachable = page.evaluate(
        "[...document.querySelectorAll('button,a[href],summary,.scroll')]"
        ".filter(e => e.tabIndex >= 0 && e.checkVisibility()).length"
    )
    page.locator("body").focus()
    found: set[str] = set()
    for _ in range(reachable + 5):
        page.keyboard.press("Tab")
        found.add(
            page.evaluate(
                "(() => { const all = [...document.querySelectorAll('*')]; "
                "return String(all.indexOf(document.activeElement)); })()"
            )
        )
    assert len(found) >= reachable
    outline = page.evaluate(
        "(() => { const b = document.querySelector('#download'); b.focus({focusVisible: true}); "
        "return getComputedStyle(b).outlineStyle; })()"
    )
    assert outline == "solid"


def test_the_raw_data_is_downloaded_whole(wide: Any, finished_run: Path, tmp_path: Path) -> None:
    """The button saves strict JSON with every checkpoint and every value of every curve."""
    seen = wide
    with seen.page.expect_download() as started:
        seen.page.locator("#download").click()
    started.value.save_as(tmp_path / "raw.json")
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert raw["schema"] == "holdfast-report-data/1"
    (run,) = raw["runs"]
    there = read_catalog(LocalRun(finished_run)).infos
    kept = [c for c in run["checkpoints"] if c["status"] == "kept"]
    assert {c["name"]: c["metrics"] for c in kept} == {i.name: dict(i.metrics) for i in there}
    assert len(run["series"]["train_loss"]["step"]) == 16


def test_the_verdict_shows_who_was_chosen_and_how_sure_that_is(wide: Any) -> None:
    """Chosen model, intervals, differences, sweep, samples and the deployment card are there."""
    seen = wide
    page = seen.page
    assert "average of 3 by val_loss" in page.locator(".verdict .chosen").inner_text()
    assert marks(curve(page, "The candidates"), "candidates") == 3
    assert marks(curve(page, "Compared with last"), "differences") == 2
    assert marks(curve(page, "How long to average"), "lengths") == 4
    assert "no evidence of a difference" in page.content()
    assert "Guten Morgen." in page.locator("table[id$=-samples]").inner_text()
    assert "onnx" in page.locator("section[id$=-releases]").inner_text()
    assert curve(page, "Which layers changed").locator(".changes_marks path").count() > 3


def test_hostile_contents_are_only_text(visit: Start, hostile_run: Path, tmp_path: Path) -> None:
    """Markup, scripts and control characters in names and values neither run nor break the page."""
    page_file = write_report([hostile_run], tmp_path / "hostile.html")
    seen = visit()
    seen.open(page_file.as_uri())
    page = seen.page
    assert seen.requests == [page_file.as_uri()]
    assert seen.complaints == []
    assert page.evaluate("window.stolen === undefined && ({}).polluted === undefined")
    assert page.locator("img, b, iframe, object, embed, textarea, [onerror]").count() == 0
    text = page.locator("body").inner_text()
    assert "<script>window.stolen=1</script>" in text
    assert "\x1b" not in page.content()
    assert "\u202e" not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.locator(".chart .ckpt_kept_marks path").first.hover(force=True)
    page.locator("#tip").wait_for(state="visible")
    for key in page.locator("button.key").all()[:6]:
        key.click()
    assert page.evaluate("window.stolen === undefined")
    assert page_file.stat().st_size < 6_000_000
    seen.shot("report-hostile")


def test_several_runs_stand_on_one_page(visit: Start, finished_run: Path, tmp_path: Path) -> None:
    """Common metrics share a chart, each run has its part, and ids stay unique."""
    page_file = write_report([finished_run, finished_run], tmp_path / "both.html")
    seen = visit()
    seen.open(page_file.as_uri())
    page = seen.page
    assert seen.complaints == []
    assert page.locator("article.run").count() == 2
    assert curve(page, "val_bleu").locator(".chart .lines_marks path[d*='L']").count() == 2
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    seen.shot("report-compared")
