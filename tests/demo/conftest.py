"""Fixtures of the tests here; kept apart because a type checker takes one `conftest` only."""

from demo_fixtures import model, one_thread

__all__ = ["model", "one_thread"]
