"""Places of release 0.1, where the `git_worktree` orders of a repository shared a git folder."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxes.base import AgentSandbox, SweepScope
from sandboxes.git_texts import HOOK
from sandboxes.kinds import SandboxType
from sandboxes.local.leftovers import sweep_orphans
from sandboxes.local.place_note import PlaceNote
from tests.contracts.yard import Yard, commit, said
from tests.fakes.git_http import git_environment

KEY = "github.com/acme/shop"
WORKTREES = pytest.mark.parametrize(
    "yard",
    [(SandboxType.GIT_WORKTREE, "bubblewrap"), (SandboxType.GIT_WORKTREE, "none")],
    indirect=True,
    ids="-".join,
)


def clone_of(yard: Yard) -> Path:
    return yard.data_dir / "clones" / f"{KEY}.git"


def made(yard: Yard, name: str = "wo-00000001", *, start: str = "") -> AgentSandbox:
    return yard.make(spec=replace(yard.spec(name, start=start), repository_key=KEY))


def git_in(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=git_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def old_place(yard: Yard, name: str, *, note: PlaceNote | None = None) -> Path:
    """What release 0.1's `setup` made, with its commands; the workspace."""
    clone, identifier = clone_of(yard), f"git-worktree-{name}"
    if not clone.is_dir():
        clone.mkdir(parents=True)
        git_in(clone, "init", "--quiet", "--bare", "--template=", ".")
        (clone / "objects/info").mkdir(exist_ok=True)
        (clone / "objects/info/alternates").write_text(f"{yard.mirror.path / 'objects'}\n")
        (clone / "hooks").mkdir()
        (clone / "hooks/prepare-commit-msg").write_text(HOOK)
        (clone / "hooks/prepare-commit-msg").chmod(0o755)
    root = yard.data_dir / "sandboxes" / identifier
    workspace = root / identifier
    workspace.mkdir(parents=True)
    (yard.data_dir / "homes" / identifier).mkdir(parents=True)
    git_in(clone, "update-ref", f"refs/heads/agent/{name}", yard.base)
    git_in(clone, "update-ref", "refs/remotes/origin/main", yard.base)
    add = ("worktree", "add", "--quiet", "--force", "--no-checkout", "--lock")
    git_in(clone, *add, "--", str(workspace), f"agent/{name}")
    git_in(workspace, "reset", "--quiet", "--hard")
    (root / "trusted").mkdir()
    (root / "trusted/trailers").write_text(f"Work-Order: {name}\n")
    (note or PlaceNote(start_sha=yard.base)).write(root / "trusted/note.json")
    (workspace / "made").write_text("made\n")
    git_in(workspace, "add", "made")
    identity = ("-c", "user.name=Agent", "-c", "user.email=agent@example.com")
    git_in(workspace, *identity, "commit", "--quiet", "-m", f"Made by {name}")
    (workspace / "left").write_text("left\n")
    return workspace


def sweep(yard: Yard, *active: str, dry_run: bool = False) -> tuple[str, ...]:
    alive = frozenset(f"git-worktree-{name}" for name in active)
    return sweep_orphans(
        SweepScope(
            data_dir=yard.data_dir,
            isolation=yard.spec().isolation,
            providers=yard.providers,
            active_identifiers=lambda: alive,
            identifiers_at_work_here=lambda: alive,
            may_remove=lambda _identifier: True,
            dry_run=dry_run,
        )
    )


@WORKTREES
def test_its_work_is_taken_and_the_place_is_made_in_the_new_way(yard: Yard) -> None:
    for name in ("wo-00000001", "wo-00000002"):
        old_place(yard, name)
    git_in(clone_of(yard), "config", "commit.gpgsign", "true")  # of one of the two; it ruled both
    git_in(clone_of(yard), "config", "gpg.program", "false")
    for name in ("wo-00000001", "wo-00000002"):
        sandbox = made(yard, name)
        assert not sandbox.attach(sandbox.handle)
        remains = sandbox.reclaim(sandbox.handle)
        assert remains is not None
        head = yard.take(sandbox, name, leftovers="planning: keep")
        assert sandbox.left_out == ()
        assert head is not None
        for path in ("made", "left"):
            assert yard.git.read_file(yard.mirror.path, head, path, limit_bytes=9) == f"{path}\n".encode()
        found = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
        assert {item.subject for item in found} == {f"Made by {name}", "planning: keep"}
        assert [item.trailer("Work-Order") for item in found if item.subject == "planning: keep"] == [name]
        sandbox.mark_taken()
        following = made(yard, name, start=head)
        following.setup()
        common = Path(said(following, 'cd "$(git rev-parse --git-common-dir)" && pwd'))
        assert common == Path(following.workspace).parent / "repository.git"
        assert said(following, "git rev-parse HEAD; git worktree list | wc -l; git branch") == (
            f"{head}\n2\n* agent/{name}"
        )
        commit(following)
        assert yard.take(following, name)
        rest = ["wo-00000002"] if name == "wo-00000001" else []
        swept = sweep(yard, "wo-00000001", "wo-00000002")
        assert clone_of(yard).is_dir() == bool(rest), swept
    assert sweep(yard, "wo-00000001", "wo-00000002") == ()


@WORKTREES
def test_an_idle_one_is_not_gone_on_in(yard: Yard) -> None:
    workspace = old_place(yard, "wo-00000001", note=PlaceNote())
    head = git_in(workspace, "rev-parse", "HEAD")
    PlaceNote(head_sha=head).write(workspace.parent / "trusted/note.json")
    sandbox = made(yard, start=head)
    assert sandbox.get_current_state().change_marker
    assert not sandbox.attach(sandbox.handle)
    assert sandbox.reclaim(sandbox.handle) is None


@WORKTREES
def test_one_that_was_set_aside_keeps_its_clone(yard: Yard) -> None:
    old_place(yard, "wo-00000001")
    sandbox = made(yard)
    assert sandbox.reclaim(sandbox.handle)
    kept = Path(sandbox.set_aside())
    assert sweep(yard, "wo-00000001") == ()
    assert clone_of(yard).is_dir()
    shutil.rmtree(clone_of(yard) / "worktrees")  # an agent could: then it may need any clone
    assert sweep(yard, "wo-00000001") == ()
    shutil.rmtree(kept)
    assert sweep(yard, "wo-00000001", dry_run=True) == (f"shared clone {KEY}.git",)
    assert clone_of(yard).is_dir()
    assert sweep(yard, "wo-00000001") == (f"shared clone {KEY}.git",)
    assert not clone_of(yard).exists()
    assert list((yard.data_dir / "trash").iterdir()) == []


@WORKTREES
def test_a_place_of_today_needs_none(yard: Yard) -> None:
    old_place(yard, "wo-00000009")
    sandbox = made(yard)
    sandbox.setup()
    commit(sandbox)
    swept = sweep(yard, "wo-00000001")
    assert set(swept) == {"workspace git-worktree-wo-00000009", f"shared clone {KEY}.git"}
    kept = Path(sandbox.set_aside())
    # wherever it is moved git still finds its way in it, which is what a person needs who looks after the work
    assert git_in(kept / sandbox.sandbox_identifier, "log", "-1", "--format=%s") == "Add work.txt"
