"""Fixtures of the tests here; kept apart because a type checker takes one `conftest` only."""

from report_fixtures import browser, finished_run, hostile_run, open_page, report_file, visit

__all__ = ["browser", "finished_run", "hostile_run", "open_page", "report_file", "visit"]
