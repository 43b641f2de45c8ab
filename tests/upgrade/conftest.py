"""The end-to-end fixtures: two databases, GitHub and git over the wire."""

from tests.e2e.conftest import database_url, world

__all__ = ["database_url", "world"]
