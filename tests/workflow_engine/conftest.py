"""Fixtures of the engine's tests."""

import sys
from pathlib import Path

import pytest
from django.conf import LazySettings

SCRIPTED = Path(__file__).parents[1] / "e2e" / "scripted_agent.py"


@pytest.fixture
def engine_settings(settings: LazySettings, tmp_path: Path) -> LazySettings:
    """Real parts on a folder of the test's own, with the scripted agent and without isolation."""
    settings.WORKORDERS_DATA_DIR = tmp_path / "data"
    settings.WORKORDERS_AGENT_COMMAND = (sys.executable, str(SCRIPTED))
    settings.WORKORDERS_AGENT_ISOLATION = "none"
    settings.WORKORDERS_LEASE_SECONDS = 30
    settings.WORKORDERS_DRAIN_SECONDS = 0.0
    settings.WORKORDERS_WORKER_PROCESSES = 1
    return settings
