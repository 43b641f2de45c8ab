"""Fixtures for the whole suite. The environment is set here, before Django reads it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support_postgres import PostgresMissing, private_postgres

DATA_DIR = Path(tempfile.mkdtemp(prefix="wo-tests-"))
_PREFIXES = ("WORKORDERS_", "ANTHROPIC_", "CLAUDE", "GH_", "GITHUB_TOKEN", "E2B_", "DAGGER_", "DATABASE_URL")
_LONGEST_FIRST = ("test_on_postgres.py", "chaos", "e2e", "benchmarks", "browser", "contracts")
TEST_DATABASE_URL = os.environ.get("WORKORDERS_TEST_DATABASE_URL", "")

for _name in [name for name in os.environ if name.startswith(_PREFIXES)]:
    del os.environ[_name]
os.environ.update(
    {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "WORKORDERS_SECRET_KEY": "for-tests-only-for-tests-only-for-tests-only",
        "WORKORDERS_DATA_DIR": str(DATA_DIR),
        "WORKORDERS_AUTH": "none",
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_LOG_LEVEL": "WARNING",
    }
)
if TEST_DATABASE_URL:
    os.environ["DATABASE_URL"] = TEST_DATABASE_URL

from django.conf import settings  # noqa: E402  # only now: reading it loads the environment above
from django.core.signals import request_finished, request_started  # noqa: E402  # as above
from django.db import close_old_connections  # noqa: E402  # as above

from tests import emptied  # noqa: E402  # as above

if TEST_DATABASE_URL and "postgresql" not in settings.DATABASES["default"]["ENGINE"]:
    raise RuntimeError("Django read its settings before this conftest; unset DJANGO_SETTINGS_MODULE")
emptied.use()
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_unconfigure() -> None:
    shutil.rmtree(DATA_DIR, ignore_errors=True)


@pytest.fixture
def open_connections() -> Iterator[None]:
    """The WSGI application leaves the test's connection and its transaction open, as Django's test client does."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A `DATABASE_URL` of a private Postgres; missing programs skip, and fail where CI=true."""
    try:
        with private_postgres() as postgres:
            yield postgres.url
    except PostgresMissing as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of Postgres alone belong to the session that `test_on_postgres` starts, those of SQLite do not.

    Those marked `whole` run where `-m` names that mark.
    """
    elsewhere = {"sqlite" if TEST_DATABASE_URL else "postgres"}
    if "whole" not in config.option.markexpr:
        elsewhere.add("whole")
    left_out = [item for item in items if any(map(item.get_closest_marker, elsewhere))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):  # the longest first, so that all workers of a session end together
        items.sort(key=_place_in_session)
    for item in items:
        if item.get_closest_marker("e2e") or "browser" in item.path.parts:
            item.add_marker(pytest.mark.flaky(reruns=1))  # real clocks beside a whole suite on two cores


def _place_in_session(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)
