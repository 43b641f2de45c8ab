"""The repository's own template is found in each spelling and place that GitHub accepts."""

from pathlib import Path

import pytest

from sandboxes.trusted_git.git import GitSettings, TrustedGit
from tests.fakes.git_http import create_bare_repository, git
from workorders.workflow_engine.outward.pull_request_template import find_template


def repository(folder: Path, files: dict[str, str]) -> tuple[Path, str]:
    path = folder / "bare.git"
    return path, create_bare_repository(path, {"README.md": "x", **files})


def found(folder: Path, files: dict[str, str]) -> str:
    return find_template(TrustedGit(GitSettings()), *repository(folder, files))


@pytest.mark.parametrize("place", ["", ".github/", "docs/"])
@pytest.mark.parametrize(
    "name",
    [
        "pull_request_template.md",
        "PULL_REQUEST_TEMPLATE.md",
        "Pull_Request_Template.md",
        "PULL_REQUEST_TEMPLATE",
        "pull_request_template.txt",
        "pull-request-template.md",
        "PULL_REQUEST_TEMPLATE.MD",
        "PULL_REQUEST_TEMPLATE/pull_request_template.md",
        "PULL_REQUEST_TEMPLATE/change.md",
    ],
)
def test_each_spelling_in_each_place(tmp_path: Path, place: str, name: str) -> None:
    assert found(tmp_path, {place + name: "\ufeff## Checklist\n"}) == "## Checklist"


@pytest.mark.parametrize(
    "name",
    [
        "pull_request_template.yml",
        "my_pull_request_template.md",
        "pull_request_templates.md",
        "src/pull_request_template.md",
        ".github/ISSUE_TEMPLATE/pull_request_template.md",
    ],
)
def test_what_is_no_template(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {name: "no"}) == ""


def test_githubs_order_and_a_choice_that_nobody_makes(tmp_path: Path) -> None:
    files = {"docs/pull_request_template.md": "docs", "pull_request_template.md": "root"}
    assert found(tmp_path / "a", files) == "root"
    assert found(tmp_path / "b", {**files, ".github/PULL_REQUEST_TEMPLATE.md": "github"}) == "github"
    several = {".github/PULL_REQUEST_TEMPLATE/a.md": "a", ".github/PULL_REQUEST_TEMPLATE/b.md": "b"}
    assert found(tmp_path / "c", several) == ""
    assert found(tmp_path / "d", {**several, ".github/PULL_REQUEST_TEMPLATE/default.md": "d"}) == "d"
    assert (
        found(tmp_path / "e", {"pull_request_template.md": " \n", "docs/pull_request_template.md": "x"})
        == "x"
    )


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("../docs/t.md", "the text"),
        ("../README.md", "x"),
        ("../../etc/passwd", ""),
        ("/etc/passwd", ""),
        ("pull_request_template.md", ""),
        ("missing.md", ""),
        ("../docs", ""),
    ],
)
def test_a_link_is_followed_inside_the_tree_only(tmp_path: Path, target: str, text: str) -> None:
    path, sha = repository(tmp_path, {"docs/t.md": "the text"})
    stream = b"commit refs/heads/main\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
    link = f"M 120000 inline .github/pull_request_template.md\ndata {len(target)}\n{target}\n"
    stream += f"from {sha}\n{link}".encode()
    git("fast-import", "--quiet", folder=path, stdin=stream)
    head = git("rev-parse", "main", folder=path).strip()
    assert find_template(TrustedGit(GitSettings()), path, head) == text


def test_a_long_one_is_bounded(tmp_path: Path) -> None:
    assert len(found(tmp_path, {"pull_request_template.md": "x" * 100_000})) == 30_000
