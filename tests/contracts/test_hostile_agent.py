"""What an agent cannot see, reach or leave behind, in each kind of sandbox that isolates it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

import sandboxes.local.sandbox
from sandboxes.errors import BundleRejected, SandboxError
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.registry import create_sandbox
from tests.contracts.yard import (
    WHERE_ISOLATED,
    Yard,
    commit,
    said,
    sh,
    tree_of,
)
from tests.support import require_program


@WHERE_ISOLATED
class TestIsolation:
    def test_what_cannot_be_seen(self, yard: Yard, tmp_path: Path) -> None:
        other = yard.ready("wo-00000002")
        said(other, "echo secret > ~/.secret; echo secret > secret")
        sandbox = yard.ready()
        (yard.data_dir / "workorders.sqlite3").write_text("secret")
        (tmp_path / "outside").write_text("secret")
        # the mirror's objects are readable, so that they can be borrowed; its refs and configuration are not
        hidden = [
            yard.data_dir / "workorders.sqlite3",
            yard.data_dir / "homes" / other.sandbox_identifier,
            yard.data_dir / "sandboxes" / other.sandbox_identifier,
            yard.data_dir / "sandboxes" / sandbox.sandbox_identifier / "trusted",
            yard.data_dir / "locks",
            yard.mirror.path / "HEAD",
            yard.mirror.path / "config",
            tmp_path / "outside",
            Path("/root/.bashrc"),
            Path("/etc/shadow"),
            Path("/home"),
            Path("/root"),
            Path("/var"),
            Path(__file__),
        ]
        result = sh(sandbox, 'for path; do [ -e "$path" ] && echo "$path"; done; true', *map(str, hidden))
        assert result.stdout == b""
        assert said(sandbox, "cat /etc/passwd").count("\n") == 0
        # an operator who lets agents read the folder above does not show them the data folder
        spec = replace(yard.spec("wo-00000003"), isolation=IsolationSettings("bubblewrap", (tmp_path,)))
        sandbox = yard.make(spec=spec)
        sandbox.setup()
        result = sh(sandbox, 'for path; do [ -e "$path" ] && echo "$path"; done; true', *map(str, hidden))
        assert result.stdout.decode().split() == [str(tmp_path / "outside")]

    def test_a_planted_link_leads_nowhere(self, yard: Yard, tmp_path: Path) -> None:
        sandbox = yard.ready()
        outside, inside = tmp_path / "outside", yard.data_dir / "database"
        for path in (outside, inside):
            path.write_text("before")
        other = Path(yard.ready("wo-00000002").workspace)
        said(sandbox, 'ln -s "$1" one; ln -s "$2" two; ln -s "$3" three', *map(str, (outside, inside, other)))
        for name in ("one", "two", "three/README.md", str(outside), "../../../database", "~/../../database"):
            try:
                sandbox.write_file(name, b"after")
            except SandboxError:
                continue
        assert (outside.read_text(), inside.read_text()) == ("before", "before")
        assert (other / "README.md").read_text() == "# Shop\n"

    def test_what_cannot_be_written(self, yard: Yard, tmp_path: Path) -> None:
        sandbox = yard.ready()
        outside = tmp_path / "outside"
        outside.mkdir()
        mirror = yard.mirror.path
        script = """
for path; do echo x > "$path/canary-written"; done 2>/dev/null
for file in $(find "$OBJECTS" -type f); do echo x >> "$file"; rm -f "$file"; chmod u+w "$file"; done 2>/dev/null
echo x > "$OBJECTS/info/alternates"
true
"""
        places = [outside, yard.data_dir, mirror, mirror / "objects", yard.data_dir / "homes"]
        before = tree_of(tmp_path / "data" / "mirrors")
        sh(
            sandbox,
            script,
            *map(str, [*places, "/usr", "/etc", "/opt", "/root", "/"]),
            OBJECTS=str(mirror / "objects"),
        )
        assert tree_of(tmp_path / "data" / "mirrors") == before
        assert list(tmp_path.rglob("canary-written")) == []
        assert not any(
            Path(place, "canary-written").exists() for place in ("/usr", "/etc", "/opt", "/root", "/")
        )

    def test_processes_of_the_server_cannot_be_seen_nor_ended(self, yard: Yard) -> None:
        sandbox = yard.ready()
        token = f"8{uuid4().int % 10**8}"
        bystander = subprocess.Popen(["sleep", token])
        try:
            ours = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # a name, no path
            # without a name space of its own it must not end all processes of this machine's account
            script = f"""
grep -l {token} /proc/[0-9]*/cmdline 2>/dev/null
kill -9 {bystander.pid}; [ "$(readlink /proc/self/ns/pid)" = "{ours}" ] || kill -9 -1
"""
            result = sh(sandbox, script)
            assert str(bystander.pid).encode() not in result.stdout
            assert bystander.poll() is None
            pids = said(sandbox, "echo /proc/[0-9]*").split()
            assert len(pids) < 5
            assert said(sandbox, "readlink /proc/self/ns/pid") != ours
        finally:
            bystander.kill()
            bystander.wait(5)

    def test_an_ordinary_user_without_capabilities(self, yard: Yard) -> None:
        sandbox = yard.ready()
        assert said(sandbox, "id -u; id -un") == "1000\nagent"
        assert said(sandbox, "grep CapEff /proc/self/status").split()[1] == "0" * 16
        assert not sh(sandbox, "mount -t tmpfs x /mnt").ok
        assert not sh(sandbox, "chroot / true").ok

    def test_a_missing_bubblewrap_is_a_typed_error(self, yard: Yard, tmp_path: Path) -> None:
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "git").symlink_to(require_program("git"))
        spec = replace(yard.spec("wo-00000009"), isolation=IsolationSettings("bubblewrap", (), str(programs)))
        with pytest.raises(SandboxError, match="bubblewrap"):
            create_sandbox(yard.sandbox_type, spec).setup()


# What a hostile agent leaves behind; `git_dir` and `common` are its git folders, $1 a canary outside.
HOSTILE: dict[str, str] = {
    "hooks": """
for name in pre-commit post-checkout post-index-change reference-transaction post-commit pre-auto-gc \\
    prepare-commit-msg post-rewrite fsmonitor-watchman post-merge update pre-push; do
  printf '#!/bin/sh\\ntouch "%s"\\n' "$1" > "$common/hooks/$name"; chmod 755 "$common/hooks/$name"
done""",
    "configuration that names programs": """
mkdir -p evil; printf '#!/bin/sh\\ntouch "%s"\\ncat\\n' "$1" > evil/run; chmod 755 evil/run
for key in core.fsmonitor core.pager core.sshCommand core.editor core.askPass uploadpack.packObjectsHook \\
    filter.evil.clean filter.evil.smudge filter.evil.process diff.external diff.evil.textconv gpg.program \\
    credential.helper core.alternateRefsCommand merge.evil.driver trailer.x.command; do
  git config "$key" "$PWD/evil/run"
done
git config core.hooksPath "$PWD/evil"; git config alias.rev-list '!touch canary'
git config core.alternateRefsCommand "$PWD/evil/run"
echo '* filter=evil diff=evil merge=evil' > .gitattributes""",
    "configuration in HOME": """
mkdir -p ~/evil; printf '#!/bin/sh\\ntouch "%s"\\n' "$1" > ~/evil/post-checkout; chmod 755 ~/evil/post-checkout
git config --global core.hooksPath ~/evil; git config --global core.fsmonitor "touch $1"
git config --global core.worktree /; git config --global init.templateDir ~/evil""",
    "broken configuration in HOME": "echo '[[[' > ~/.gitconfig",
    "broken configuration": "echo '[[[' > \"$common/config\"",
    "configuration of another repository": "git config core.worktree /etc; git config core.bare true",
    "an unknown extension": "git config core.repositoryFormatVersion 1; git config extensions.evil true",
    "an included device": "git config include.path /dev/zero",
    "alternates elsewhere": 'echo "$1" > "$common/objects/info/alternates"',
    "no alternates": 'rm "$common/objects/info/alternates"',
    "alternates in a circle": 'echo "$common/objects" > "$common/objects/info/alternates"',
    "replace refs and grafts": """
git commit -q --allow-empty -m Fake; git update-ref "refs/replace/$(git rev-parse HEAD~1)" HEAD
git rev-parse HEAD > "$common/info-grafts"; mkdir -p "$common/info"; git rev-parse HEAD > "$common/info/grafts"
""",
    "a shallow file": 'git rev-parse HEAD > "$common/shallow"',
    "a .git that is a link": 'mv .git "$HOME/moved"; ln -s /etc .git',
    "a .git that is a link to the mirror": 'rm -rf .git; ln -s "$MIRROR" .git',
    "a .git file that leads elsewhere": "rm -rf .git; echo 'gitdir: /etc' > .git",
    "a .git file that leads to the mirror": 'rm -rf .git; echo "gitdir: $MIRROR" > .git',
    "no .git": "rm -rf .git",
    "an empty workspace": "rm -rf .git * .[!.]*",
    "a removed branch": "git update-ref -d refs/heads/agent/wo-00000001",
    "a branch that is a link": "git symbolic-ref refs/heads/agent/wo-00000001 refs/remotes/origin/main",
    "a branch that holds words": 'rm -rf "$common/packed-refs"; echo words > "$common/refs/heads/agent/wo-00000001"',
    "a detached head": "git checkout -q --detach; git commit -q --allow-empty -m Detached",
    "a head that holds words": 'echo words > "$git_dir/HEAD"',
    "no head": 'rm "$git_dir/HEAD" "$common/HEAD" 2>/dev/null; true',
    "a head that is a pipe": 'rm "$git_dir/HEAD"; mkfifo "$git_dir/HEAD"',
    "a branch that is a pipe": """
rm -f "$common/refs/heads/agent/wo-00000001"; mkfifo "$common/refs/heads/agent/wo-00000001" """,
    "stale locks": """
for name in HEAD index config packed-refs refs/heads/agent/wo-00000001 refs/remotes/origin/main; do
  mkdir -p "$(dirname "$common/$name")"; touch "$common/$name.lock" "$git_dir/$(basename $name).lock"
done""",
    "no objects": 'find "$common/objects" -type f -delete',
    "no refs": 'rm -rf "$common/refs" "$common/packed-refs"',
    "a git folder that is gone": 'rm -rf "$common"/* 2>/dev/null; true',
    "packed refs that hold words": 'echo words > "$common/packed-refs"',
    "a rewritten history": "git checkout -q --orphan x; git commit -q -m X; git branch -f agent/wo-00000001",
    "forbidden folders": 'chmod 000 "$git_dir"; mkdir -p a/b; chmod 000 a .',
    "a deep tree": "i=0; while [ $i -lt 1100 ]; do mkdir d && cd d || break; i=$((i+1)); done",
    "a nested repository": """
mkdir nested; cd nested; git init -q; git config core.fsmonitor "touch $1"; echo x > x; git add x; git commit -q -m x
cd ..; git add nested 2>/dev/null; git commit -q -m Nested""",
    "trailers file that is a link": 'rm -f "$git_dir/work-order-trailers"; ln -s "$1" "$git_dir/work-order-trailers"',
}
_FOLDERS = """
git_dir="$(git rev-parse --absolute-git-dir)"
common="$(realpath "$(git rev-parse --git-common-dir)")"
"""


@WHERE_ISOLATED
class TestHostileGitState:
    @pytest.mark.parametrize("trick", HOSTILE)
    def test_ends_in_a_typed_error_or_a_healed_place(
        self, yard: Yard, trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "pipe" in trick:
            monkeypatch.setattr(sandboxes.local.sandbox, "_SMALL_SECONDS", 1.0)
            monkeypatch.setattr(sandboxes.local.sandbox, "_BUNDLE_SECONDS", 1.0)
        canary = tmp_path / "canary"
        mirror = tree_of(yard.mirror.path)
        sandbox = yard.ready()
        commit(sandbox)
        sh(sandbox, _FOLDERS + HOSTILE[trick], str(canary), MIRROR=str(yard.mirror.path))

        head = _outcome(lambda: yard.take(sandbox))
        sandbox.get_current_state()
        sandbox.mark_idle(yard.base)
        _outcome(lambda: yard.make().attach(sandbox.handle))
        _outcome(lambda: sandbox.write_file("~/prompt", b"text"))
        if head is None:
            assert tree_of(yard.mirror.path) == mirror

        again = yard.make()
        again.setup()
        assert said(again, "git rev-parse HEAD; git status --porcelain") == yard.base
        commit(again, "after")
        assert yard.take(again) is not None
        again.cleanup()
        assert not Path(sandbox.workspace).exists()
        assert list((yard.data_dir / "trash").iterdir()) == []
        assert not canary.exists()


def test_locked_folders_are_removed_without_roots_powers(tmp_path: Path) -> None:
    """As an ordinary account, that cannot look into what an agent locked."""
    trash = tmp_path / "trash"
    (trash / "deep" / "er").mkdir(parents=True)
    (trash / "deep" / "er" / "file").touch()
    (tmp_path / "kept").touch()
    (trash / "link").symlink_to(tmp_path)
    for folder in (trash / "deep" / "er", trash / "deep", trash):
        folder.chmod(0o000)
    script = "import sys, pathlib, sandboxes.files.disk as it; it.remove_tree(pathlib.Path(sys.argv[1]))"
    ordinary = (require_program("bwrap"), "--dev-bind", "/", "/", "--unshare-user", "--uid", "1000")
    argv = (*ordinary, "--cap-drop", "ALL", sys.executable, "-c", script, str(trash))
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], timeout=30, check=False)
    assert done.returncode == 0
    assert not trash.exists()
    assert (tmp_path / "kept").exists()


def _outcome(action: Callable[[], object]) -> object:
    """What it returns, or None where it ends in an error the engine knows."""
    try:
        return action()
    except (SandboxError, BundleRejected):
        return None
