"""Fixtures of the contract suite: one stand-in of each service for all of its tests."""

from collections.abc import Iterator

import pytest

from sandboxes.providers import ProviderSettings
from tests.contracts import services
from tests.fakes.dagger import FakeDagger
from tests.fakes.e2b import FakeE2B


@pytest.fixture(scope="session")
def e2b_service() -> Iterator[FakeE2B]:
    with FakeE2B() as service:
        yield service


@pytest.fixture
def e2b_providers(e2b_service: FakeE2B) -> Iterator[ProviderSettings]:
    yield from services.e2b_providers(e2b_service)


@pytest.fixture(scope="session")
def dagger_engine() -> Iterator[FakeDagger]:
    with FakeDagger() as engine:
        yield engine


@pytest.fixture
def dagger_providers(dagger_engine: FakeDagger, monkeypatch: pytest.MonkeyPatch) -> ProviderSettings:
    return services.dagger_providers(dagger_engine, monkeypatch)
