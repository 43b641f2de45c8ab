"""The API's own fixture, for the tests of who may use it."""

from tests.api.conftest import api

__all__ = ["api"]
