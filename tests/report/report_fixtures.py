"""Runs, their pages, and one browser, made once a session."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from report_runs import add_release, add_selection, make_hostile_run, make_run

from holdfast.report import write_report

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-dev-shm-usage"),
]
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"


def cannot(reason: str) -> NoReturn:
    """Skip with the reason; in continuous integration, where everything must be there, fail."""
    if os.environ.get("HOLDFAST_CI"):
        pytest.fail(f"this may not be skipped here: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with a resume, a pin, deletions, a selection and a release. Not to be changed."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "translate")
    add_selection(folder)
    add_release(folder)
    return folder


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose names and texts are attacks. Not to be changed."""
    return make_hostile_run(tmp_path_factory.mktemp("runs") / "<img src=x onerror=alert(1)>")


@pytest.fixture(scope="session")
def report_file(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the finished run."""
    return write_report([finished_run], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, the machine's own."""
    program = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if program is None:
        cannot("no Chromium is installed (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        cannot("Playwright for Python is not installed")
    with sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        except Error as error:
            cannot(f"Chromium does not start: {str(error)[:300]}")
        yield launched
        launched.close()


class Visit:
    """A page opened in the browser: what it asked for, and what it complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, address: str) -> None:
        """Go there and wait until every chart is drawn."""
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    def shot(self, name: str, *, full: bool = True) -> None:
        """Keep a picture, to be looked at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=full)


@contextlib.contextmanager
def _pages(browser: Any) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def start(width: int = 1280, height: int = 900, **options: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        return Visit(context.new_page())

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a fresh page of a given width and theme; arguments as of Playwright's contexts."""
    with _pages(browser) as start:
        yield start


@pytest.fixture(scope="module")
def open_page(browser: Any) -> Iterator[Callable[..., Visit]]:
    """As `visit`, for pages that several tests share."""
    with _pages(browser) as start:
        yield start
