"""Fixtures of the tests here; kept apart because a type checker takes one `conftest` only."""

from cli_fixtures import hostile_template, hostile_world, template, world

__all__ = ["hostile_template", "hostile_world", "template", "world"]
