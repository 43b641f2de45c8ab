"""Tests of one group share a worker; otherwise each worker would start what they share: servers, a browser."""

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_the_scheduler_knows_the_group(request: pytest.FixtureRequest) -> None:
    """xdist tells its scheduler by a suffix, which a pytest newer than xdist lost without a word."""
    is_distributed = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@groups") is is_distributed
