"""Pages: what was gathered, put into the templates, under a strict content-security policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from holdfast.report import text
from holdfast.report.compare import comparison
from holdfast.report.extras import report_module
from holdfast.report.figures import Figure
from holdfast.report.raw import raw_data
from holdfast.report.sections import RunPage, run_page
from holdfast.report.values import RunData
from holdfast.report.vega import PictureError, specs_by_id, still, vega_script

_ASSETS = resources.files("holdfast.report") / "assets"


@dataclass(frozen=True, slots=True)
class Asset:
    """A script or style sheet: its text, and its digest as a policy names it."""

    text: str

    @property
    def source(self) -> str:
        """ "'sha256-…'" """
        digest = hashlib.sha256(self.text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.cache
def asset(name: str) -> Asset:
    """One of the files beside the templates."""
    return Asset((_ASSETS / name).read_text(encoding="utf-8"))


def vega_asset() -> Asset:
    """The drawing library."""
    return Asset(vega_script())


def render_file(runs: Sequence[RunData]) -> str:
    """One self-contained page of one or several runs: no request leaves it, no script is foreign.

    Raises ConfigError if the extra `report` is not installed.
    """
    scripts = [vega_asset(), asset("report.js")]
    style = asset("report.css")
    policy = (
        "default-src 'none'; "
        f"script-src {' '.join(script.source for script in scripts)}; "
        f"style-src {style.source}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _render(
        runs, stills=True, policy=policy, style=style, scripts=scripts, live=None, nav=None
    )


def render_live(
    runs: Sequence[RunData], *, live: Mapping[str, Any], nav: Sequence[tuple[str, str]]
) -> str:
    """The same page for the local server, which sends scripts and policy itself.

    live: facts for the page's script, such as where to ask for changes. nav: labels and links.
    """
    return _render(runs, stills=False, policy=None, style=None, scripts=(), live=live, nav=nav)


def render_template(name: str, **context: Any) -> str:
    """A template of ours; everything put into it is escaped."""
    rendered: str = _environment().get_template(name).render(**context)
    return rendered


def _render(
    runs: Sequence[RunData],
    *,
    stills: bool,
    policy: str | None,
    style: Asset | None,
    scripts: Sequence[Asset],
    live: Mapping[str, Any] | None,
    nav: Sequence[tuple[str, str]] | None,
) -> str:
    pages = [run_page(run, f"r{index}") for index, run in enumerate(runs)]
    compared = comparison(runs, "all") if len(runs) > 1 else None
    figures = _figures(pages, compared)
    return render_template(
        "report.html.j2",
        title=_title(runs),
        pages=pages,
        compared=compared,
        stills=_stills(figures) if stills else {},
        specs=json_for_script(specs_by_id(figures)),
        raw=json_for_script(raw_data(runs)),
        policy=policy,
        style=style,
        scripts=scripts,
        live=None if live is None else json_for_script(live),
        keys={p.id: live["runs"][i] if live is not None else None for i, p in enumerate(pages)},
        nav=nav,
        gathered=text.moment(max((run.gathered_at for run in runs), default=None)),
    )


def _title(runs: Sequence[RunData]) -> str:
    if len(runs) == 1:
        return f"{runs[0].name}: holdfast report"
    return f"{text.plural(len(runs), 'run')}: holdfast report"


def _figures(pages: Sequence[RunPage], compared: Any) -> dict[str, Figure]:
    sections = [section for page in pages for section in page.sections]
    sections += compared.sections if compared is not None else []
    return {figure.id: figure for section in sections for figure in section.figures}


def _stills(figures: Mapping[str, Figure]) -> dict[str, Any]:
    safe = report_module("markupsafe").Markup
    found: dict[str, Any] = {}
    for index, (name, figure) in enumerate(figures.items()):
        try:
            found[name] = safe(still(figure, index=index))
        except PictureError:
            # The table twin says the same; one chart must not cost the whole report.
            continue
    return found


def json_for_script(value: object) -> Any:
    """JSON that can stand in a script element: nothing in it can end the element."""
    dumped = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return report_module("markupsafe").Markup(dumped)


@functools.cache
def _environment() -> Any:
    jinja = report_module("jinja2")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("holdfast.report"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["size"] = text.size
    return environment
