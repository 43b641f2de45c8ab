"""Two orders of one repository: whatever one does to its place, the other neither sees nor feels it.

Every trick is tried on a neighbour that is at work already and on one that is set up afterwards. Each must look like a
place that was made before anybody did anything, and must take work as one.
"""

import pytest

from sandboxes.base import AgentSandbox
from tests.contracts.yard import LOCALLY, WHERE_ISOLATED, Yard, commit, said, sh

FOLDERS = """
git_dir="$(git rev-parse --absolute-git-dir)"; common="$(cd "$(git rev-parse --git-common-dir)" && pwd)"
"""
# What an agent can see of git, HOME and the temporary folder; in words that do not depend on times.
_LOOK = f"""set -e{FOLDERS}
git config --local --list
git for-each-ref --format='ref %(refname) %(objectname)'
git worktree list --porcelain
git stash list
git reflog --all --format='log %gD %gs' --date=iso | sed 's/@{{[^}}]*}}//'
git remote -v
git count-objects
git status --porcelain --ignored
git log --format='%H %an %s'
git var GIT_COMMITTER_IDENT | sed 's/>.*//'
cat "$common/objects/info/alternates"
(cd "$common" && find . -path ./objects/pack -prune -o -print | LC_ALL=C sort)
(cd "$common" && find hooks info -type f -exec cat -- {{}} + 2> /dev/null || true)
echo home; ls -A ~; echo temporary; ls -A "$TMPDIR"
[ "$1" != bubblewrap ] || ls -A /dev/shm /tmp /run ..
"""

# Shell scripts in the workspace of order one; what fails on the way does not matter. Order two is wo-00000002.
TRICKS: dict[str, str] = {
    "signing": "git config commit.gpgsign true; git config gpg.program false",
    "another identity": "git config user.name Mallory; git config user.email m@example.com",
    "hooks elsewhere": "git config core.hooksPath /nonexistent",
    "hooks that fail": """
for name in pre-commit commit-msg prepare-commit-msg post-checkout reference-transaction; do
  printf '#!/bin/sh\\nexit 1\\n' > "$common/hooks/$name"; chmod 755 "$common/hooks/$name"; done""",
    "no hooks": 'rm -rf "$common/hooks"',
    "a broken configuration": 'echo "[core" > "$common/config"',
    "a bare repository": "git config core.bare true",
    "another work tree": "git config core.worktree /etc",
    "an unknown extension": "git config core.repositoryFormatVersion 1; git config extensions.evil true",
    "one configuration for each worktree": """
git config extensions.worktreeConfig true; git config --worktree core.sparseCheckout true
git sparse-checkout set src""",
    "line ends": "git config core.autocrlf true; git config core.eol crlf; git config core.fileMode false",
    "attributes": 'mkdir -p "$common/info"; echo "* text eol=crlf filter=x" > "$common/info/attributes"',
    "exclusions": 'mkdir -p "$common/info"; echo "*" > "$common/info/exclude"',
    "a filter": "git config filter.x.clean false; git config filter.x.required true",
    "a stash": "echo mine >> README.md; git stash -q; git stash list",
    "tags and branches": "git tag v1; git tag -a v2 -m 2; git branch release; git branch -f agent/wo-00000003",
    "the neighbour's branch": """
git commit -q --allow-empty -m Mine; git branch -f agent/wo-00000002; git branch -f agent/wo-00000003
git update-ref refs/remotes/origin/main HEAD""",
    "names in the neighbour's way": "git branch agent/wo-00000003/deeper; git branch -m agent; git branch agent",
    "notes": "git notes add -m Secret",
    "replaced objects": """
git commit -q --allow-empty -m Fake; git update-ref "refs/replace/$(git rev-parse HEAD~1)" HEAD
mkdir -p "$common/info"; git rev-parse HEAD > "$common/info/grafts" """,
    "a shallow history": 'git rev-parse HEAD > "$common/shallow"',
    "a remote": """
git init -q -b other fork; git -C fork commit -q --allow-empty -m Fork; git remote add fork ./fork
git fetch -q fork; git config remote.origin.url ./fork; git config url.ext::.insteadOf x""",
    "a partial clone": """
git config core.repositoryFormatVersion 1; git config extensions.partialClone origin
git config remote.origin.promisor true; git config remote.origin.partialCloneFilter blob:none""",
    "rerere": """
git config rerere.enabled true; mkdir -p "$common/rr-cache/0000"; echo x > "$common/rr-cache/0000/preimage" """,
    "git-lfs": """
mkdir -p "$common/lfs/objects"; echo x > "$common/lfs/objects/x"; git config lfs.url https://example.com
git config filter.lfs.process 'git-lfs filter-process'; git config filter.lfs.required true""",
    "gc and prune": """
git commit -q --allow-empty -m Mine; git reset -q --hard HEAD~1; git worktree prune --expire=now
git reflog expire --expire=now --all; git gc -q --prune=now; git pack-refs --all; git repack -adq""",
    "maintenance": """
git config maintenance.auto true; git config gc.auto 1; git maintenance run -q --task=commit-graph
git multi-pack-index write; echo broken > "$common/gc.log"; echo 1 host > "$common/gc.pid" """,
    "indexes of objects that lie": """
mkdir -p "$common/objects/info" "$common/objects/pack"; echo words > "$common/objects/info/commit-graph"
echo words > "$common/objects/pack/multi-pack-index" """,
    "worktrees": "git worktree add -q .claude/one; git worktree add -q ../two; git worktree lock .claude/one",
    "the worktrees' folder": 'rm -rf "$common/worktrees"; echo x > "$common/worktrees"',
    "alternates elsewhere": 'echo /nonexistent > "$common/objects/info/alternates"',
    "packed refs that hold words": 'echo words > "$common/packed-refs"',
    "locks": """
for name in config packed-refs HEAD index shallow refs/heads/agent/wo-00000002 refs/heads/agent/wo-00000003; do
  mkdir -p "$(dirname "$common/$name")"; touch "$common/$name.lock" "$git_dir/$(basename "$name").lock"; done""",
    "a merge and a rebase": """
git branch side; git commit -q --allow-empty -m A; git checkout -q side; echo x > README.md; git commit -qam X
git checkout -q -; echo y > README.md; git commit -qam Y; git merge -q side; git rebase side""",
    "no head": 'rm -f "$git_dir/HEAD" "$common/HEAD"',
    "no refs": 'rm -rf "$common/refs" "$common/packed-refs"',
    "nothing": 'chmod -R u+rwx "$common"; rm -rf "$common"/*',
    "forbidden folders": 'chmod 000 "$common/refs" "$common/objects" "$common/hooks" "$common" src .',
    "links": 'rm -rf "$common/refs" "$common/hooks"; ln -s /nonexistent "$common/refs"; ln -s /tmp "$common/hooks"',
    "settings and files in HOME": """
git config --global commit.gpgsign true; git config --global core.hooksPath /nonexistent
mkdir -p ~/.config/git ~/.cache; echo '*' > ~/.config/git/ignore; echo '* eol=crlf' > ~/.config/git/attributes""",
    "temporary files": 'echo x > "$TMPDIR/work-order-trick"; mkdir -p "$TMPDIR/claude"',
    "shared memory": "echo x > /dev/shm/work-order-trick",
    "the folders above": 'for up in .. ../.. "$HOME/.."; do echo x > "$up/work-order-trick"; rm -rf "$up"/*; done',
}
OUTSIDE = frozenset({"shared memory", "the folders above"})


@WHERE_ISOLATED
@pytest.mark.parametrize("trick", TRICKS)
def test_what_one_order_does_is_neither_seen_nor_felt_by_another(yard: Yard, trick: str) -> None:
    _neighbours_feel_nothing(yard, [trick])


@LOCALLY
def test_nor_is_all_of_it_together(yard: Yard) -> None:
    """Also without isolation, but for what an agent does there outside of its own folders."""
    _neighbours_feel_nothing(yard, [trick for trick in TRICKS if yard.isolated or trick not in OUTSIDE])


def _neighbours_feel_nothing(yard: Yard, tricks: list[str]) -> None:
    untouched = _look(yard, yard.ready("wo-00000009"))
    at_work = yard.ready("wo-00000002")
    for trick in tricks:
        sh(yard.ready("wo-00000001"), FOLDERS + TRICKS[trick])
    after = yard.ready("wo-00000003")
    for neighbour, name in ((at_work, "wo-00000002"), (after, "wo-00000003")):
        assert _look(yard, neighbour) == untouched
        made = commit(neighbour)
        said(neighbour, "echo left > left-over")
        head = yard.take(neighbour, name, leftovers="planning: keep")
        assert neighbour.left_out == ()
        assert head is not None
        found = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
        assert [item.subject for item in found] == ["Add work.txt", "planning: keep"]
        assert found[0].sha == made
        assert {item.trailer("Work-Order") for item in found} == {name}
        assert {item.author_name for item in found} == {"Work Orders agent"}


@LOCALLY
def test_a_stash_is_popped_by_its_own_order_only(yard: Yard) -> None:
    one, two = yard.ready("wo-00000001"), yard.ready("wo-00000002")
    said(one, "echo 'of order one' > README.md; git stash -q")
    assert not sh(two, "git stash pop").ok
    assert said(two, "cat README.md") == "# Shop"
    said(one, "git stash pop -q")
    assert said(one, "cat README.md") == "of order one"


def _look(yard: Yard, sandbox: AgentSandbox) -> str:
    seen = said(sandbox, _LOOK, yard.isolation)
    return seen.replace(sandbox.sandbox_identifier[-11:], "THE-ORDER")
