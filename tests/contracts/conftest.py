"""Fixtures of the contract suite: one stand-in of each service for all of its tests, and a yard for each."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxes.providers import ProviderSettings
from sandboxes.trusted_git.git import GitSettings, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.contracts import services
from tests.contracts.yard import KEY, Yard
from tests.fakes.dagger import FakeDagger
from tests.fakes.e2b import FakeE2B
from tests.fakes.git_http import git
from tests.sandboxes.trusted_git.history import Entry, History
from tests.support import require_program


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


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A mirror of a small repository, made once and copied for every test."""
    folder = tmp_path_factory.mktemp("template")
    history = History(folder / "mirrors" / f"{KEY}.git")
    history.commit(
        "base",
        "Base\n",
        files={
            "README.md": "# Shop\n",
            "src/app.py": "print('shop')\n",
            "run.sh": Entry("100755", b"#!/bin/sh\necho ran\n"),
            "link": Entry("120000", b"README.md"),
        },
        branch="main",
    )
    history.commit("later", "Later\n", after="base", files={"later.txt": "later\n"})
    shas = history.write()
    git("pack-refs", "--all", folder=history.path)
    return folder, shas


@pytest.fixture
def yard(
    request: pytest.FixtureRequest, tmp_path: Path, template: tuple[Path, dict[str, str]]
) -> Iterator[Yard]:
    sandbox_type, isolation = request.param
    if isolation != "none":
        require_program("bwrap")
    providers = services.provider_settings(request, sandbox_type)
    folder, shas = template
    shutil.copytree(folder, tmp_path / "data")
    trusted = TrustedGit(GitSettings())
    mirror = RepositoryMirror(tmp_path / "data", KEY, trusted)
    made = Yard(sandbox_type, isolation, tmp_path / "data", mirror, trusted, shas, providers)
    yield made
    for sandbox in made.made:
        sandbox.cleanup()
