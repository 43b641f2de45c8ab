"""A place that an agent spoiled mends itself: all work comes out of it, and the order's next step goes on in it.

Tried the other way, too: the step failed, and another attempt takes what is there and makes the place anew.
"""

from pathlib import Path

import pytest

from sandboxes.base import AgentSandbox
from sandboxes.kinds import SandboxType
from tests.contracts.test_neighbours import FOLDERS
from tests.contracts.yard import LOCALLY, WHERE_ISOLATED, Yard, commit, said, sh

# Shell scripts in the workspace, after a commit and with a file left uncommitted.
SPOILS: dict[str, str] = {
    "signing": "git config commit.gpgsign true; git config gpg.program false; git config user.signingKey x",
    "hooks elsewhere": "git config core.hooksPath /nonexistent",
    "hooks that fail": """
for name in pre-commit commit-msg prepare-commit-msg post-checkout reference-transaction post-index-change; do
  printf '#!/bin/sh\\nexit 1\\n' > "$common/hooks/$name"; chmod 755 "$common/hooks/$name"; done""",
    "hooks that are a link": 'rm -rf "$common/hooks"; ln -s /usr/bin "$common/hooks"',
    "a broken configuration": 'echo "[core" > "$common/config"',
    "no configuration": 'rm "$common/config"',
    "a configuration that is a folder": 'rm "$common/config"; mkdir -p "$common/config/x"',
    "a configuration that is a link": 'rm "$common/config"; ln -s /dev/zero "$common/config"',
    "a configuration that is a pipe": 'rm "$common/config"; mkfifo "$common/config"',
    "a configuration that is closed": 'chmod 000 "$common/config"',
    "a bare repository": "git config core.bare true",
    "another work tree": "git config core.worktree /etc",
    "an unknown extension": "git config core.repositoryFormatVersion 1; git config extensions.evil true",
    "one configuration for each worktree": """
git config extensions.worktreeConfig true; git config --worktree core.hooksPath /nonexistent
git config --worktree core.bare true""",
    "a filter that is missing": """
git config filter.x.clean no-such-program; git config filter.x.required true; mkdir -p "$common/info"
echo '* filter=x' > "$common/info/attributes" """,
    "everything excluded": 'mkdir -p "$common/info"; echo "*" > "$common/info/exclude"',
    "everything excluded in HOME": """
mkdir -p ~/.config/git; echo '*' > ~/.config/git/ignore; echo '* filter=x' > ~/.config/git/attributes
git config --global filter.x.clean false; git config --global commit.gpgsign true""",
    "no head": 'rm "$git_dir/HEAD"',
    "a head that holds words": 'echo words > "$git_dir/HEAD"',
    "a head that is a pipe": 'rm "$git_dir/HEAD"; mkfifo "$git_dir/HEAD"',
    "a head that is a folder": 'rm "$git_dir/HEAD"; mkdir "$git_dir/HEAD"',
    "a detached head": "git checkout -q --detach; echo x > detached; git add detached; git commit -qm Detached",
    "another branch": "git checkout -q -b other; echo x > other; git add other; git commit -qm Other",
    "a renamed branch": "git branch -m other",
    "a deleted branch": "git checkout -q -b other; git branch -D agent/wo-00000001",
    "a branch that holds words": 'rm -f "$common/packed-refs"; echo words > "$common/refs/heads/agent/wo-00000001"',
    "no refs": 'rm -rf "$common/refs" "$common/packed-refs"',
    "packed refs that hold words": 'git pack-refs --all; echo words > "$common/packed-refs"',
    "forbidden folders": 'chmod 000 "$common/refs/heads" "$common/refs" "$common/objects" "$git_dir" "$common" src .',
    "a forbidden HOME": "mkdir -p ~/.claude/skills; chmod 000 ~/.claude/skills ~/.claude ~",
    "locks": """
for name in config packed-refs HEAD index shallow refs/heads/agent/wo-00000001; do
  mkdir -p "$common/$(dirname "$name")"; touch "$common/$name.lock" "$git_dir/$(basename "$name").lock"; done""",
    "alternates elsewhere": 'echo /nonexistent > "$common/objects/info/alternates"',
    "no alternates": 'rm -r "$common/objects/info"',
    "indexes of objects that lie": """
mkdir -p "$common/objects/info" "$common/objects/pack"; echo words > "$common/objects/info/commit-graph"
echo words > "$common/objects/pack/multi-pack-index" """,
    "grafts and replaced objects": """
git update-ref "refs/replace/$(git rev-parse HEAD)" "$(git commit-tree -m Fake HEAD~1^{tree})"
mkdir -p "$common/info"; git rev-parse HEAD > "$common/info/grafts" """,
    "a shallow history": 'git rev-parse HEAD > "$common/shallow"',
    "no index": 'rm "$git_dir/index"',
    "an index of noise": 'seq 500 > "$git_dir/index"',
    "an index that was cut off": 'truncate -s 60 "$git_dir/index"',
    "an index without a hash": "git config index.skipHash true; touch more; git add -N more; git rm -q --cached more",
    "an index that is a folder": 'rm "$git_dir/index"; mkdir "$git_dir/index"',
    "an index that is a pipe": 'rm "$git_dir/index"; mkfifo "$git_dir/index"',
    "another common folder": 'echo /etc > "$git_dir/commondir"',
    "no common folder": 'rm -f "$git_dir/commondir" "$git_dir/gitdir"',
}
# Where the workspace has but a file that leads to its git folder.
OF_WORKTREES: dict[str, str] = {
    "a .git that is a folder": "rm .git; git init -q; git add -A; git commit -qm Own",
    "a .git that is a link": "mv .git ~/moved; ln -s ~/moved .git",
    "a .git that is a link to a folder": "rm .git; ln -s /etc .git",
    "a .git that leads elsewhere": "echo 'gitdir: /etc' > .git",
    "no .git": "rm .git",
    "no folder of the worktree": 'rm -rf "$git_dir"',
    "a worktree's folder that is a link": 'rm -rf "$common/worktrees"; ln -s /tmp "$common/worktrees"',
    "a common head that is gone": 'rm "$common/HEAD"',
}
_SETTINGS = f"""{FOLDERS}
git config --local --list; ls -A "$common/hooks"; cat "$common/hooks/"*; ls -A "$common/info" 2> /dev/null
ls -A ~; git symbolic-ref HEAD; git status --porcelain; ls -A "$git_dir" | grep -e lock$ -e config.worktree; true
"""


@WHERE_ISOLATED
@pytest.mark.parametrize("spoil", [*SPOILS, *OF_WORKTREES])
def test_all_work_comes_out_and_the_next_step_goes_on(yard: Yard, spoil: str) -> None:
    if spoil in OF_WORKTREES and yard.sandbox_type is not SandboxType.GIT_WORKTREE:
        pytest.skip("its .git is a folder with everything in it: what is gone then is gone")
    script = (SPOILS | OF_WORKTREES)[spoil]
    trusted = said(yard.ready("wo-00000009"), _SETTINGS).replace("wo-00000009", "wo-00000001")
    sandbox = yard.ready()
    head = _spoilt_and_taken(yard, sandbox, script, "one")
    sandbox.mark_taken()
    sandbox.mark_idle(head)

    following = yard.make(start=head)
    assert following.attach(sandbox.handle)
    assert said(following, "git rev-parse HEAD") == head
    expected = trusted.replace("locked\n", "").strip()
    left = [line for line in said(following, _SETTINGS).splitlines() if line not in expected.splitlines()]
    assert set(left) <= {".claude", ".config", "moved"}, "what else is in HOME stays"
    assert said(following, "ls -d src left-one work-one; cat src/app.py").startswith(
        "left-one\nsrc\nwork-one"
    )
    commit(following, "two")
    _spoilt_and_taken(yard, following, script, "three")

    # as if that step had failed: another attempt
    third = yard.make(start=head)
    assert not third.attach(sandbox.handle)
    assert third.reclaim(third.handle)
    assert yard.take(third, leftovers="planning: keep")
    third.setup()
    assert said(third, "git rev-parse HEAD; git status --porcelain") == head
    commit(third, "four")
    assert yard.take(third)


def _spoilt_and_taken(yard: Yard, sandbox: AgentSandbox, script: str, name: str) -> str:
    commit(sandbox, f"work-{name}")
    said(sandbox, f"echo left > left-{name}")
    sh(sandbox, FOLDERS + script)
    head = yard.take(sandbox, leftovers="planning: keep")
    assert sandbox.left_out == ()
    assert head is not None
    for path, content in (
        (f"left-{name}", b"left\n"),
        (f"work-{name}", f"work-{name}\n".encode()),
        ("src/app.py", b"print('shop')\n"),
    ):
        assert yard.git.read_file(yard.mirror.path, head, path, limit_bytes=20) == content
    [newest, *_rest] = reversed(yard.git.commits(yard.mirror.path, base=yard.base, head=head))
    assert newest.trailer("Work-Order") == "wo-00000001"
    return head


LOST: dict[str, str] = {
    "removed": "rm -rf .git",
    "moved to HOME": "mv .git ~/moved; ln -s ~/moved .git",
    "a file that leads elsewhere": "rm -rf .git; echo 'gitdir: /etc' > .git",
    "begun again, and removed": "rm -rf .git; git init -q; git add -A; git commit -qm Own; rm -rf .git",
    "moved aside": "mv .git .realgit",
    "moved aside, and a link left": "mv .git .realgit; ln -s .realgit .git",
}


@LOCALLY
@pytest.mark.parametrize("how", LOST)
def test_a_git_folder_that_is_gone_is_made_anew(yard: Yard, how: str) -> None:
    """The files are the agent's work, and are taken; commits too, where they are anywhere in the workspace."""
    sandbox = yard.ready()
    commit(sandbox, "one")
    said(sandbox, "echo left > left; echo changed > src/app.py; rm README.md")
    sh(sandbox, LOST[how])
    head = yard.take(sandbox, leftovers="planning: keep")
    assert head is not None
    assert sandbox.left_out == ()
    commits = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
    keeps_commits = "aside" in how or yard.sandbox_type is SandboxType.GIT_WORKTREE
    assert len(commits) == (2 if keeps_commits else 1)
    changed = {
        change.path: change.status for change in yard.git.changes(yard.mirror.path, base=yard.base, head=head)
    }
    assert changed == {"README.md": "D", "left": "A", "one": "A", "src/app.py": "M"}
    sandbox.mark_taken()
    sandbox.mark_idle(head)
    following = yard.make(start=head)
    assert following.attach(sandbox.handle)
    assert said(following, "git rev-parse HEAD; git status --porcelain") == head


@LOCALLY
@pytest.mark.parametrize(
    "spoil", ["signing", "hooks that fail", "a broken configuration", "everything excluded"]
)
def test_settings_left_in_git_do_not_rule_the_next_step(yard: Yard, spoil: str) -> None:
    """Also where nothing was mended at the step's end, as by a server of release 0.1."""
    sandbox = yard.ready()
    head = commit(sandbox)
    assert yard.take(sandbox) == head
    sh(sandbox, FOLDERS + SPOILS[spoil])
    sandbox.mark_idle(head)
    following = yard.make(start=head)
    assert following.attach(sandbox.handle)
    said(following, "echo new > new; git status --porcelain | grep -q new")
    commit(following, "two")
    assert yard.take(following)


@LOCALLY
def test_attributes_left_in_home_do_not_rule_a_checkout(yard: Yard) -> None:
    sandbox = yard.ready()
    head = commit(sandbox)
    said(sandbox, "mkdir -p ~/.config/git && echo '* text eol=crlf' > ~/.config/git/attributes")
    assert yard.take(sandbox) == head
    again = yard.make(start=head)
    again.setup()
    assert "\\r" not in said(again, "od -c src/app.py")


@LOCALLY
def test_a_place_whose_head_is_elsewhere_is_not_gone_on_in(yard: Yard) -> None:
    sandbox = yard.ready()
    head = commit(sandbox)
    said(sandbox, "git checkout -q HEAD~1")
    assert yard.take(sandbox, leftovers="planning: keep") == head
    sandbox.mark_idle(head)
    assert not yard.make(start=head).attach(sandbox.handle)


@LOCALLY
def test_what_the_workspace_leads_to_is_left_alone(yard: Yard, tmp_path: Path) -> None:
    """Law 2: the trusted side follows no link in there, whatever it mends."""
    outside = tmp_path / "outside"
    for name in ("hooks", "objects/info", "refs/heads", "worktrees"):
        (outside / name).mkdir(parents=True)
    for name in ("config", "HEAD", "packed-refs", "hooks/pre-commit", "refs/heads/x.lock", "info"):
        (outside / name).write_text("before")
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    script = """
for name in config HEAD packed-refs hooks refs objects info worktrees; do
  rm -rf "$common/$name" "$git_dir/$name"; ln -s "$1/$name" "$common/$name"; ln -s "$1/$name" "$git_dir/$name"
done; rm -rf .git; ln -s "$1" .git; mv "$common" "$common.moved"; ln -s "$1" "$common" """
    sandbox = yard.ready()
    head = commit(sandbox)
    sh(sandbox, FOLDERS + script, str(outside))
    sandbox.mark_idle(head)
    yard.make(start=head).attach(sandbox.handle)
    yard.ready()
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before
