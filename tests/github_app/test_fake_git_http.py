"""The fake git host with the real git: what it lets through, what it refuses, and failing after an accepted push."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.git_http import FakeGitServer, branches, git_environment
from tests.support import require_program


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeGitServer]:
    require_program("git")
    with FakeGitServer(tmp_path / "remote") as fake:
        fake.add_token("writer")
        fake.add_token("reader", "read")
        yield fake


def run_git(folder: Path, *arguments: str, token: str = "writer") -> subprocess.CompletedProcess[str]:
    """git with the token as an askpass helper gives it."""
    helper = f"!f() {{ echo username=x-access-token; echo password={token}; }}; f"
    command = [
        "git",
        "-c",
        f"credential.helper={helper}",
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@x",
        *arguments,
    ]
    return subprocess.run(
        command, cwd=folder, env=git_environment(), capture_output=True, text=True, check=False
    )


@pytest.fixture
def clone(server: FakeGitServer, tmp_path: Path) -> Path:
    server.create_repository("octo", "sample", {"README.md": "hello\n", "src/a.txt": b"\x00\xff"})
    done = run_git(tmp_path, "clone", "--quiet", f"{server.base_url}/octo/sample.git", "clone")
    assert done.returncode == 0, done.stderr
    return tmp_path / "clone"


def commit(clone: Path, data: bytes = b"new\n") -> str:
    (clone / "new.bin").write_bytes(data)
    run_git(clone, "add", ".")
    run_git(clone, "commit", "--quiet", "-m", "New")
    return run_git(clone, "rev-parse", "HEAD").stdout.strip()


def test_clone_and_push_a_large_commit(server: FakeGitServer, clone: Path) -> None:
    assert (clone / "src" / "a.txt").read_bytes() == b"\x00\xff"
    sha = commit(
        clone, bytes(range(256)) * 12_000 + b"x" * 3_000_000
    )  # beyond http.postBuffer: sent in chunks
    pushed = run_git(clone, "-c", "core.compression=0", "push", "origin", "HEAD:refs/heads/feature")
    assert pushed.returncode == 0, pushed.stderr
    assert server.branch_sha("octo", "sample", "feature") == sha
    assert "git-receive-pack" in {request.service for request in server.requests}


@pytest.mark.parametrize(("token", "words"), [("wrong", "Authentication failed"), ("reader", "403")])
def test_push_is_refused(server: FakeGitServer, clone: Path, token: str, words: str) -> None:
    commit(clone)
    pushed = run_git(clone, "push", "origin", "HEAD:refs/heads/feature", token=token)
    assert pushed.returncode != 0
    assert words in pushed.stderr
    assert list(branches(server.repository_path("octo", "sample"))) == ["main"]


def test_reader_may_read_and_unknown_repositories_are_missing(server: FakeGitServer, clone: Path) -> None:
    assert run_git(clone, "ls-remote", "origin", token="reader").returncode == 0
    for url in ("octo/none.git", "octo/..%2fsample.git"):
        assert "not found" in run_git(clone, "ls-remote", f"{server.base_url}/{url}").stderr


def test_push_that_was_carried_out_before_the_connection_dropped(server: FakeGitServer, clone: Path) -> None:
    sha = commit(clone)
    server.fail("git-receive-pack$", drop=True, execute=True)
    assert run_git(clone, "push", "origin", "HEAD:refs/heads/feature").returncode != 0
    assert server.branch_sha("octo", "sample", "feature") == sha
    assert server.requests[-1].status == 0


def test_push_that_failed_before(server: FakeGitServer, clone: Path) -> None:
    commit(clone)
    server.fail("git-receive-pack$", status=502)
    assert "502" in run_git(clone, "push", "origin", "HEAD:refs/heads/feature").stderr
    assert server.branch_sha("octo", "sample", "feature") is None


def test_empty_repository(server: FakeGitServer, tmp_path: Path) -> None:
    server.create_repository("octo", "bare", {}, default_branch="trunk")
    assert list(branches(server.repository_path("octo", "bare"))) == ["trunk"]
