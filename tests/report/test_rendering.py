"""Pages and pictures as text: what may stand in them, and what is said when they cannot be made."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import pytest

from holdfast.errors import CheckpointNotFoundError, ConfigError, SaveError
from holdfast.report import write_report
from holdfast.report.charts_curves import families
from holdfast.report.page import json_for_script
from holdfast.report.vega import PictureError, checked_svg

pytestmark = [pytest.mark.xdist_group("browser")]


def test_the_policy_names_exactly_the_scripts_and_the_style_of_the_page(report_file: Path) -> None:
    """Two scripts and one style sheet run, by digest; nothing inline, foreign or evaluated."""
    page = report_file.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    assert "unsafe" not in allowed
    assert "default-src 'none'" in allowed
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert (len(scripts), len(styles)) == (2, 1)
    for text in scripts + styles:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\s(style|on[a-z]+|src|href)=\"(?!#)", markup)


def test_the_page_is_of_a_size_to_send(report_file: Path) -> None:
    """A small run's page is little more than the drawing library."""
    assert report_file.stat().st_size < 2_000_000


def test_a_picture_keeps_only_what_charts_are_made_of() -> None:
    """Scripts, handlers, links, foreign elements and styles do not come out of the check."""
    hostile = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'width="10" height="5" onload="x()"><script>x()</script>'
        '<foreignObject><b xmlns="http://www.w3.org/1999/xhtml">x</b></foreignObject>'
        '<a xlink:href="javascript:x()"><text>link</text></a>'
        '<image href="http://x/"/><g onclick="x()" style="a:b" fill="url(http://x/)">'
        '<path id="p" d="M0,0" clip-path="url(#clip1)" class="mark"/>'
        "<text>&lt;b&gt;</text></g></svg>"
    )
    found = checked_svg(hostile, label='a "label"', index=3)
    for banned in ("script", "foreign", "onload", "onclick", "href", "http://x", "style", "<a"):
        assert banned not in found
    assert 'clip-path="url(#f3-clip1)"' in found
    assert 'id="f3-p"' in found
    assert "&lt;b&gt;" in found
    assert 'aria-label="a &quot;label&quot;"' in found


@pytest.mark.parametrize(
    "markup",
    ['<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>', "<svg"],
)
def test_what_is_no_plain_picture_is_refused(markup: str) -> None:
    """Entities and torn markup are errors, not pictures."""
    with pytest.raises(PictureError):
        checked_svg(markup, label="", index=0)


def test_data_in_a_script_element_cannot_end_it() -> None:
    """Neither a closing tag nor a comment nor a line separator survives as itself."""
    dumped = str(json_for_script({"a": "</script><!--\u2028&"}))
    assert not set("<>&\u2028") & set(dumped)
    assert json.loads(dumped) == {"a": "</script><!--\u2028&"}
    with pytest.raises(ValueError, match="JSON"):
        json_for_script(float("nan"))


def test_metrics_of_one_kind_share_a_panel() -> None:
    """The data a metric is measured on does not make it another kind; tracked kinds come first."""
    names = ["lr", "train_loss", "val_loss", "test/loss", "eval.bleu", "val_bleu", "training"]
    assert families(names, ["val_bleu"]) == {
        "bleu": ["val_bleu", "eval.bleu"],
        "lr": ["lr"],
        "loss": ["test/loss", "train_loss", "val_loss"],
        "training": ["training"],
    }


def test_what_cannot_be_reported_is_said(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run, no folder, no place to write, no library: each has its error, and leaves no file."""
    with pytest.raises(ConfigError, match="no run"):
        write_report([])
    with pytest.raises(CheckpointNotFoundError):
        write_report([tmp_path / "none"], tmp_path / "x.html")
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="could not be written"):
        write_report([tmp_path], tmp_path / "file" / "x.html", layers=False)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ConfigError, match="vl_convert") as caught:
        write_report([finished_run], tmp_path / "x.html")
    assert "holdfast[report]" in str(caught.value)
    assert not (tmp_path / "x.html").exists()


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    """Before the first save there is little to say, and it is said."""
    page = write_report([tmp_path], tmp_path / "x.html").read_text(encoding="utf-8")
    assert "No selection was made" in page
