"""The services behind remote sandboxes: stand-ins, or the real ones where `tests.contracts.real` asks so."""

import os
from collections.abc import Iterator

import pytest

from sandboxes.kinds import SandboxType
from sandboxes.providers import DaggerSettings, E2BSettings, ProviderSettings
from tests.fakes.dagger import FakeDagger
from tests.fakes.e2b import API_KEY, FakeE2B

REAL = os.environ.get("WO_CONTRACT_REAL", "")
"""The sandbox type that runs against the real service; its settings are in `WO_REAL_…` variables."""


def real(name: str) -> str:
    return os.environ.get(f"WO_REAL_{name}", "")


def provider_settings(request: pytest.FixtureRequest, kind: SandboxType) -> ProviderSettings:
    """Settings that lead to the service of a sandbox type; it is started on first use."""
    if kind not in {SandboxType.E2B, SandboxType.DAGGER}:
        return ProviderSettings()
    settings: ProviderSettings = request.getfixturevalue(f"{kind}_providers")
    return settings


def stand_in_settings(service: FakeE2B) -> ProviderSettings:
    e2b = E2BSettings(api_key=API_KEY, api_url=service.url, sandbox_url=service.url)
    return ProviderSettings(owner="contract", allowed_hosts=("localhost",), e2b=e2b)


def e2b_providers(service: FakeE2B) -> Iterator[ProviderSettings]:
    if REAL != SandboxType.E2B:
        yield stand_in_settings(service)
        return
    e2b = E2BSettings(
        api_key=real("E2B_API_KEY"),
        template=real("WORKORDERS_E2B_TEMPLATE") or "work-orders",
        domain=real("E2B_DOMAIN"),
        api_url=real("E2B_API_URL"),
        sandbox_url=real("E2B_SANDBOX_URL"),
    )
    yield ProviderSettings(owner="contract", e2b=e2b)


def dagger_providers(engine: FakeDagger, monkeypatch: pytest.MonkeyPatch) -> ProviderSettings:
    """The SDK finds the session by its own variables."""
    if REAL != SandboxType.DAGGER:
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)
        return ProviderSettings(owner="contract", dagger=DaggerSettings(image=engine.images[0]))
    for name in ("DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN", "_EXPERIMENTAL_DAGGER_RUNNER_HOST"):
        if value := real(name):
            monkeypatch.setenv(name, value)
    return ProviderSettings(owner="contract", dagger=DaggerSettings(image=real("WORKORDERS_DAGGER_IMAGE")))
