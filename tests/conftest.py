"""Fixtures for the whole suite; the environment is set before Django reads it."""

import os
import tempfile
from pathlib import Path

_DATA = Path(tempfile.mkdtemp(prefix="wo-tests-"))
for _name in [name for name in os.environ if name.startswith(("WORKORDERS_", "ANTHROPIC_", "GH_", "E2B_", "CLAUDE"))]:
    if _name != "WORKORDERS_TEST_DATABASE_URL":
        del os.environ[_name]
os.environ.pop("DATABASE_URL", None)
os.environ.update(
    {
        "WORKORDERS_SECRET_KEY": "for-tests-only",
        "WORKORDERS_DATA_DIR": str(_DATA),
        "WORKORDERS_AUTH": "none",
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_LOG_LEVEL": "WARNING",
    }
)
if url := os.environ.get("WORKORDERS_TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = url
