"""One suite for every `AgentSandbox`: what the engine may rely on, whatever the backend and its isolation."""

import base64
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from sandboxes.base import SandboxCommand
from sandboxes.errors import CheckoutLost, CommitsMalformed, ProgramMissing, PushTooLarge, SandboxError
from sandboxes.kinds import SandboxType
from sandboxes.processes.run import ExitReason, ProcessControl
from sandboxes.registry import BACKENDS
from tests.contracts.yard import (
    ATTACHABLE,
    COMBINATIONS,
    EVERYWHERE,
    LIMIT,
    LOCALLY,
    ONE_OF_EACH,
    Yard,
    commit,
    none_left,
    said,
    sh,
    tree_of,
)


@EVERYWHERE
class TestSetup:
    def test_a_checkout_on_the_orders_branch(self, yard: Yard) -> None:
        sandbox = yard.ready()
        assert said(sandbox, "cat README.md; ./run.sh; readlink link") == "# Shop\nran\nREADME.md"
        assert said(sandbox, "git symbolic-ref HEAD") == "refs/heads/agent/wo-00000001"
        assert said(sandbox, "git rev-parse HEAD origin/main").split() == [yard.base, yard.base]
        assert said(sandbox, "git status --porcelain") == ""
        assert said(sandbox, "git log --format=%s") == "Base"
        assert said(sandbox, "pwd") == sandbox.workspace

    def test_from_a_later_commit(self, yard: Yard) -> None:
        sandbox = yard.make(start=yard.shas["later"])
        sandbox.setup()
        assert said(sandbox, "git rev-parse HEAD") == yard.shas["later"]
        assert said(sandbox, "cat later.txt") == "later"

    def test_again_is_a_fresh_checkout(self, yard: Yard) -> None:
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "echo dirty > README.md; touch untracked")
        for again in (sandbox, yard.make()):
            again.setup()
            assert said(again, "git rev-parse HEAD") == yard.base
            assert said(again, "git status --porcelain; ls") == "README.md\nlink\nrun.sh\nsrc"

    def test_a_missing_start_is_a_typed_error(self, yard: Yard) -> None:
        with pytest.raises(SandboxError):
            yard.make(start="1" * 40).setup()
        yard.ready()

    def test_several_at_once_stay_separate(self, yard: Yard) -> None:
        names = [f"wo-0000000{number}" for number in range(8 if yard.local else 2)]

        def work(name: str) -> str | None:
            sandbox = yard.make(name)
            sandbox.setup()
            for number in range(3):
                commit(sandbox, f"{name}-{number}")
            assert said(sandbox, "git log --format=%s origin/main..").count("\n") == 2
            assert said(sandbox, "git status --porcelain; ls wo-*").count("wo-") == 3
            return yard.take(sandbox, name)

        with ThreadPoolExecutor(8) as pool:
            heads = list(pool.map(work, names, timeout=60))
        for name, head in zip(names, heads, strict=True):
            assert head is not None
            found = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
            assert [item.subject for item in found] == [f"Add {name}-{number}" for number in range(3)]
            assert {item.trailer("Work-Order") for item in found} == {name}


@LOCALLY
class TestLocalSetup:
    def test_after_a_crash_in_the_middle(self, yard: Yard) -> None:
        workspace = Path(yard.make().workspace)
        (workspace / ".git").mkdir(parents=True)
        (workspace / ".git" / "index.lock").touch()
        (workspace / "half").write_text("half")
        sandbox = yard.ready()
        assert not (workspace / "half").exists()
        shutil.rmtree(workspace.parent)  # the folder is gone, what is elsewhere stayed
        again = yard.ready()
        commit(again)
        assert said(sandbox, "git status --porcelain; cat README.md") == "# Shop"

    def test_a_full_or_forbidden_disk_is_a_typed_error(self, yard: Yard) -> None:
        (yard.data_dir / "homes").write_text("a file in the way")
        with pytest.raises(SandboxError):
            yard.make().setup()
        (yard.data_dir / "homes").unlink()


@EVERYWHERE
class TestCommits:
    def test_carry_the_trailers(self, yard: Yard) -> None:
        sandbox = yard.ready()
        commit(sandbox, "one")
        said(
            sandbox,
            "echo 2 > two; git add two; git commit --no-verify -q -m 'Two' -m 'Work-Order-Phase: planning'",
        )
        said(sandbox, "git commit -q --amend --no-edit; git commit -q --allow-empty -m Three")
        said(
            sandbox, "git checkout -q -b side HEAD~1; git commit -q --allow-empty -m Side; git checkout -q -"
        )
        said(sandbox, "git merge -q --no-ff side -m Merge")
        head = yard.take(sandbox)
        assert head is not None
        found = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
        assert sorted(item.subject for item in found) == ["Add one", "Merge", "Side", "Three", "Two"]
        for item in found:
            assert sorted(item.trailers) == [
                ("Agent-Session", "s-1"),
                ("Work-Order", "wo-00000001"),
                ("Work-Order-Phase", "planning"),
            ], item.subject

    def test_without_hooks_are_still_commits(self, yard: Yard) -> None:
        sandbox = yard.ready()
        said(sandbox, "git -c core.hooksPath=/dev/null commit -q --allow-empty -m Bare")
        head = yard.take(sandbox)
        assert head is not None
        (found,) = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
        assert (found.subject, found.trailers, found.author_name) == ("Bare", (), "Work Orders agent")

    def test_none_is_no_bundle(self, yard: Yard, tmp_path: Path) -> None:
        sandbox = yard.ready()
        said(sandbox, "echo changed > README.md")
        assert not sandbox.export_bundle(tmp_path / "out" / "x.bundle", limit_bytes=LIMIT)

    def test_a_bundle_over_the_limit_is_a_typed_error(self, yard: Yard, tmp_path: Path) -> None:
        sandbox = yard.ready()
        said(sandbox, "head -c 200000 /dev/urandom > big; git add big; git commit -q -m Big")
        with pytest.raises(PushTooLarge, match="over 100000 bytes"):
            sandbox.export_bundle(tmp_path / "x.bundle", limit_bytes=100_000)

    def test_the_state_says_when_head_moved(self, yard: Yard) -> None:
        sandbox = yard.make()
        assert not sandbox.get_current_state().exists
        sandbox.setup()
        markers = [sandbox.get_current_state().change_marker]
        assert sandbox.get_current_state().exists
        said(sandbox, "echo x > untracked; git add untracked; git status >/dev/null")
        assert sandbox.get_current_state().change_marker == markers[0]
        for name in ("one", "two"):
            commit(sandbox, name)
            markers.append(sandbox.get_current_state().change_marker)
        assert len(set(markers)) == 3
        assert all(markers[1:])

    def test_export_while_a_command_runs(self, yard: Yard) -> None:
        sandbox = yard.ready()
        script = "git commit -q --allow-empty -m Early; echo made; while [ ! -e go ]; do sleep 0.02; done"
        command = SandboxCommand(("sh", "-c", script), timeout_seconds=60)
        made = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(sandbox.execute_command, command, on_stdout=lambda _chunk: made.set())
            assert made.wait(30)
            head = yard.take(sandbox)
            assert sandbox.get_current_state().exists
            sandbox.write_file("go", b"")
            assert running.result(30).ok
        assert head == said(sandbox, "git rev-parse HEAD")


@EVERYWHERE
class TestCommands:
    def test_exit_codes_streams_and_input(self, yard: Yard) -> None:
        sandbox = yard.ready()
        result = sh(sandbox, "echo out; echo err >&2; exit 7")
        assert (result.exit_code, result.reason, result.ok) == (7, ExitReason.EXITED, False)
        assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
        data = os.urandom(300_000)
        command = SandboxCommand(("cat",), timeout_seconds=20, stdin=data)
        assert sandbox.execute_command(command).stdout == data
        chunks: list[bytes] = []
        result = sandbox.execute_command(command, on_stdout=chunks.append)
        assert (b"".join(chunks), result.stdout) == (data, b"")
        cut = sandbox.execute_command(replace(command, output_limit_bytes=1000))
        assert (len(cut.stdout), cut.truncated) == (1000, True)

    def test_clocks_and_stop(self, yard: Yard) -> None:
        sandbox = yard.ready()
        token = f"6{uuid4().int % 10**8}"
        assert sh(sandbox, f"sleep {token}", seconds=0.4).reason is ExitReason.TIMED_OUT
        silent = SandboxCommand(("sleep", token), timeout_seconds=20, silence_seconds=0.3)
        assert sandbox.execute_command(silent).reason is ExitReason.SILENT
        control = ProcessControl()
        threading.Timer(0.3, control.stop).start()
        started = time.monotonic()
        result = sandbox.execute_command(
            SandboxCommand(("sleep", token), timeout_seconds=20), control=control
        )
        assert result.reason is ExitReason.STOPPED
        assert time.monotonic() - started < (3 if yard.local else 5)
        assert none_left(sandbox, token)

    def test_a_hostile_process_is_gone_when_the_call_returns(self, yard: Yard) -> None:
        sandbox = yard.ready()
        token = f"7{uuid4().int % 10**8}"
        script = (
            f"trap '' TERM HUP; (setsid sh -c \"trap '' TERM HUP; while :; do sleep {token}; done\" &) ; "
        )
        for ending, reason in (("sleep 0.3", ExitReason.EXITED), ("sleep 60", ExitReason.TIMED_OUT)):
            started = time.monotonic()
            assert sh(sandbox, script + ending, seconds=0.6 if yard.local else 3).reason is reason
            assert time.monotonic() - started < (6 if yard.local else 12)
            assert none_left(sandbox, token)

    def test_a_missing_program(self, yard: Yard) -> None:
        """`ProgramMissing` where the server starts it itself; bubblewrap says so by its exit code."""
        sandbox = yard.ready()
        command = SandboxCommand(("no-such-program",), timeout_seconds=5)
        if yard.isolated:
            result = sandbox.execute_command(command)
            assert not result.ok
            assert b"no-such-program" in result.stderr
        else:
            with pytest.raises(ProgramMissing):
                sandbox.execute_command(command)

    def test_a_clean_environment(self, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVER_CANARY", "canary-4711")
        monkeypatch.setenv("GH_TOKEN", "canary-4711")
        monkeypatch.setenv("GIT_DIR", "/nonexistent-canary-4711")
        sandbox = yard.ready()
        script = "env; cat /proc/self/environ /proc/1/environ 2>/dev/null | tr '\\0' '\\n'"
        command = SandboxCommand(
            ("sh", "-c", script if yard.isolated else "env"),
            timeout_seconds=10,
            environment={"GIVEN": "yes"},
            secrets={"MODEL_TOKEN": "step-token"},
        )
        seen = sandbox.execute_command(command).stdout.decode()
        assert "GIVEN=yes\n" in seen
        assert "MODEL_TOKEN=step-token\n" in seen
        assert "canary-4711" not in seen
        assert "step-token" not in repr(command)

    def test_home_is_private_and_outlives_the_workspace(self, yard: Yard) -> None:
        sandbox = yard.ready()
        said(sandbox, "echo kept > ~/.transcript")
        sandbox.write_file("~/deep/er/file", b"written")
        sandbox.cleanup()
        sandbox.setup()
        assert said(sandbox, "cat ~/.transcript ~/deep/er/file") == "kept\nwritten"
        other = yard.ready("wo-00000002")
        assert said(other, "ls -A ~") == ""

    @pytest.mark.parametrize("how", ["attached", "set up"])
    def test_settings_left_in_home_do_not_rule_the_next_step(self, yard: Yard, how: str) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        assert yard.take(sandbox) == head
        left = "~/.gitconfig ~/.claude/settings.json ~/.claude/skills/x"
        said(sandbox, f"mkdir -p ~/.claude/skills ~/.claude/projects; touch ~/.claude/projects/kept {left}")
        sandbox.mark_idle(head)
        following = yard.make(start=head)
        if how == "set up" or not following.attach(sandbox.handle):
            following.setup()
        assert said(following, f"cd; ls .claude/projects; ls -d {left} 2> /dev/null || true") == "kept"


@EVERYWHERE
class TestWriteFile:
    def test_below_the_workspace(self, yard: Yard) -> None:
        sandbox = yard.ready()
        data = b"\xff\0" + os.urandom(100_000)
        for path in ("new", "a/b c/d\ne", "-dash", "$(touch x)", "quo'te\"s", "README.md"):
            sandbox.write_file(path, data)
            assert base64.b64decode(said(sandbox, 'base64 -w 0 -- "$1"', path)) == data
        sandbox.write_file(f"{sandbox.workspace}/absolute", b"x")
        assert said(sandbox, "cat absolute; ls x 2>/dev/null || true") == "x"

    def test_where_it_cannot_be_written(self, yard: Yard) -> None:
        sandbox = yard.ready()
        with pytest.raises(SandboxError, match=r"README\.md/x"):
            sandbox.write_file("README.md/x", b"x")


@pytest.mark.parametrize("yard", [(SandboxType.DAGGER, "machine")], indirect=True, ids="-".join)
def test_a_dagger_container_is_never_attached_to(yard: Yard) -> None:
    """Its engine may have forgotten it; whoever comes next starts from the commits."""
    sandbox = yard.ready()
    sandbox.mark_idle(yard.base)
    assert sandbox.handle
    assert not yard.make().attach(sandbox.handle)


@ATTACHABLE
class TestAttach:
    def test_only_where_a_step_ended(self, yard: Yard) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        said(sandbox, "touch left-over")
        following = yard.make(start=head)
        assert not following.attach(following.handle), "nobody said the place is in order"
        sandbox.mark_idle(head)
        assert not yard.make(start=yard.base).attach(sandbox.handle), "at another commit"
        assert not following.attach(sandbox.handle), "the claim is used up"
        sandbox.mark_idle(head)
        assert not following.attach("git-branch-wo-99999999")
        assert following.attach(sandbox.handle)
        assert (
            said(following, "git rev-parse HEAD; ls")
            == f"{head}\nREADME.md\nleft-over\nlink\nrun.sh\nsrc\nwork.txt"
        )
        assert not following.attach(sandbox.handle)

    def test_the_next_steps_trailers_count(self, yard: Yard) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        assert yard.take(sandbox) == head
        sandbox.mark_idle(head)
        spec = replace(
            yard.spec(start=head), trailers=("Work-Order: wo-00000001", "Work-Order-Phase: testing")
        )
        following = yard.make(spec=spec)
        assert following.attach(sandbox.handle)
        commit(following, "two")
        taken = yard.take(following)
        assert taken is not None
        found = yard.git.commits(yard.mirror.path, base=yard.base, head=taken)
        assert [item.trailer("Work-Order-Phase") for item in found] == ["planning", "testing"]

    def test_not_where_nothing_is(self, yard: Yard) -> None:
        sandbox = yard.make()
        assert not sandbox.attach(sandbox.handle)
        sandbox.mark_idle(yard.base)
        assert not sandbox.attach(sandbox.handle)

    def test_not_after_a_cleanup_nor_a_setup(self, yard: Yard) -> None:
        sandbox = yard.ready()
        sandbox.mark_idle(yard.base)
        sandbox.setup()
        assert not sandbox.attach(sandbox.handle)
        sandbox.mark_idle(yard.base)
        sandbox.cleanup()
        assert not sandbox.attach(sandbox.handle)


@ONE_OF_EACH
class TestLeftovers:
    def test_locks_of_a_git_that_was_killed_are_in_nobodys_way(self, yard: Yard) -> None:
        sandbox = yard.ready()
        said(
            sandbox,
            'echo new > new; dir="$(git rev-parse --git-dir)"; common="$(git rev-parse --git-common-dir)"; '
            'mkdir -p "$common/refs/heads/agent"; touch "$dir/index.lock" "$common/refs/heads/agent/wo-00000001.lock"; '
            'ln -s nowhere "$dir/HEAD.lock"',
        )
        head = yard.take(sandbox, leftovers="planning: keep")
        assert head is not None
        assert sandbox.left_out == ()
        assert yard.git.read_file(yard.mirror.path, head, "new", limit_bytes=9) == b"new\n"
        commit(sandbox)

    def test_a_hook_that_refuses_keeps_no_work_back(self, yard: Yard) -> None:
        sandbox = yard.ready()
        said(
            sandbox,
            "echo new > new; hook=.hooks/pre-commit; mkdir .hooks; printf '#!/bin/sh\\nexit 1\\n' > $hook; "
            "chmod 755 $hook; git config core.hooksPath .hooks",
        )
        assert yard.take(sandbox, leftovers="planning: keep")
        assert sandbox.left_out == ()

    @pytest.mark.parametrize(
        ("what", "script"),
        [
            ("nested_repository", "git init -q nested; echo x > nested/x"),
            ("refused", "echo x > closed; chmod 000 closed"),
            ("commits_elsewhere", "git checkout -q --orphan x; git commit -q -m X"),
            ("too_many_files", "mkdir g; for i in $(seq 501); do echo $i > g/$i; done"),
            ("too_large", "truncate -s 11M large"),
            ("cache", "mkdir -p a/__pycache__ node_modules/x; touch a/__pycache__/x.pyc node_modules/x/y"),
            (
                "unfinished_operation",
                'cp "$(git rev-parse --git-dir)/HEAD" "$(git rev-parse --git-dir)/MERGE_HEAD"',
            ),
        ],
    )
    def test_what_git_does_not_take_is_told_and_the_commits_come(
        self, yard: Yard, what: str, script: str
    ) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        said(sandbox, f"echo changed > README.md; {script}")
        taken = yard.take(sandbox, leftovers="planning: keep")
        assert taken is not None
        assert yard.git.is_ancestor(yard.mirror.path, head, taken)
        assert what in [item.rule for item in sandbox.left_out]
        if what not in {"commits_elsewhere", "unfinished_operation"}:
            read = yard.git.read_file(yard.mirror.path, taken, "README.md", limit_bytes=20)
            assert read == b"changed\n", "the rest is committed"


@EVERYWHERE
def test_the_sweep_is_the_same_everywhere(yard: Yard) -> None:
    sandbox = yard.ready()
    script = (
        "git checkout -q -b feature; echo w > work; git add work; git commit -q -m W; git config commit.gpgsign true; "
        "git config core.excludesFile /nowhere; echo '[broken' >> \"$(git rev-parse --git-path config)\"; "
        "mkdir -p node_modules vendor/x; touch node_modules/a; truncate -s 11M large; echo l > 'left \u00e4'"
    )
    said(sandbox, f"git init -q vendor/y; {script}")
    head = yard.take(sandbox, leftovers="chore: keep")
    assert head is not None
    listed = yard.git.run(
        "ls-tree", "-r", "-z", "--name-only", head, git_dir=yard.mirror.path
    ).stdout.decode()
    assert set(listed.split("\0")) - {""} == {
        "README.md",
        "left \u00e4",
        "link",
        "run.sh",
        "src/app.py",
        "work",
    }
    assert {item.rule for item in sandbox.left_out} == {"cache", "nested_repository", "too_large"}
    assert sandbox.last_export.swept
    assert sandbox.last_export.settled
    [newest] = yard.git.commits(yard.mirror.path, base=yard.base, head=head, limit=1)
    assert newest.subject == "chore: keep"
    assert newest.trailer("Work-Order-Sweep") == "leftovers"
    assert newest.trailer("Work-Order") == "wo-00000001"


@EVERYWHERE
class TestReclaim:
    def test_by_the_attempt_that_worked_there(self, yard: Yard) -> None:
        sandbox = yard.ready()
        remains = sandbox.reclaim(sandbox.handle)
        assert remains is not None
        assert (remains.start_sha, remains.left_out) == (yard.base, "")
        sandbox.mark_taken()
        assert sandbox.reclaim(sandbox.handle) is None
        sandbox.cleanup()
        assert yard.make().reclaim("") is None
        assert yard.make().reclaim("git-branch-wo-00000001") is None


@ATTACHABLE
class TestReclaimLater:
    def test_by_another_attempt_whatever_it_would_start_from(self, yard: Yard) -> None:
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "touch left-over")
        following = yard.make(start=yard.shas["later"])
        assert not following.attach(sandbox.handle)
        remains = following.reclaim(sandbox.handle)
        assert remains is not None
        assert remains.start_sha == yard.base
        head = yard.take(following, leftovers="planning: keep")
        assert head is not None
        assert yard.git.read_file(yard.mirror.path, head, "left-over", limit_bytes=9) == b""
        found = yard.git.commits(yard.mirror.path, base=yard.base, head=head)
        assert {item.trailer("Work-Order") for item in found} == {"wo-00000001"}

    def test_not_after_a_step_that_ended_well(self, yard: Yard) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        assert yard.take(sandbox, leftovers="planning: keep") == head
        sandbox.mark_taken()
        sandbox.mark_idle(head)
        assert yard.make(start=head).reclaim(sandbox.handle) is None
        following = yard.make(start=head)
        assert following.attach(sandbox.handle)
        remains = yard.make().reclaim(sandbox.handle)
        assert remains is not None
        assert remains.start_sha == head


@LOCALLY
class TestSetAside:
    def test_all_of_it_and_out_of_the_way(self, yard: Yard) -> None:
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "touch left-over")
        kept = Path(sandbox.set_aside())
        assert (kept / sandbox.sandbox_identifier / "left-over").exists()
        assert kept.parent == yard.data_dir / "kept"
        again = yard.ready()
        assert said(again, "git rev-parse HEAD; git status --porcelain") == yard.base

    def test_not_by_who_has_lost_it(self, yard: Yard) -> None:
        sandbox, later = yard.ready(), yard.make(spec=replace(yard.spec(), attempt=2))
        assert later.reclaim(sandbox.handle)
        with pytest.raises(SandboxError, match="Another attempt"):
            sandbox.set_aside()
        sandbox.mark_taken()
        assert later.reclaim(sandbox.handle)
        yard.made.remove(sandbox)


@LOCALLY
class TestLocalAttach:
    def test_not_with_a_broken_mark(self, yard: Yard) -> None:
        sandbox = yard.ready()
        for marker in ("", "{", "[]", "null", '"x"', "{}"):
            sandbox.mark_idle(yard.base)
            (path,) = Path(sandbox.workspace).parent.glob("trusted/*.json")
            path.write_text(marker)
            assert not sandbox.attach(sandbox.handle)


@LOCALLY
class TestLocalCleanup:
    def test_leaves_nothing_but_the_home_and_the_neighbours(self, yard: Yard) -> None:
        neighbour = yard.ready("wo-00000002")
        kept = commit(neighbour)
        before = tree_of(yard.data_dir)
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "git checkout -q -b another; mkdir -p deep/deeper; chmod 000 deep")
        sandbox.cleanup()
        sandbox.cleanup()
        assert not Path(sandbox.workspace).parent.exists()
        assert not sandbox.get_current_state().exists
        assert list((yard.data_dir / "trash").iterdir()) == []
        assert said(neighbour, "git rev-parse HEAD; git status --porcelain") == kept
        after = tree_of(yard.data_dir)
        own = [path for path in set(after) - set(before) if "/objects/" not in f"/{path}/"]
        assert [
            path for path in own if sandbox.sandbox_identifier in path and not path.startswith("homes/")
        ] == []


_TREE = 'git update-ref HEAD "$(git commit-tree -p HEAD -m Odd "$1")"; echo left > left'
# How a tree is made that git, reading it, cannot take; and a word of what is said of it.
MALFORMED: dict[str, tuple[str, str]] = {
    "a blob that is nowhere": (
        f"printf '100644 blob {'1' * 40}\\ta\\n' | git mktree --missing",
        "missing or damaged",
    ),
    "no tree": ("printf hello | git hash-object -w -t tree --stdin --literally", "missing or damaged"),
    "a file twice": (
        'blob=$(git rev-parse HEAD:README.md); printf "100644 blob $blob\\ta\\n100644 blob $blob\\ta\\n" | git mktree',
        "duplicateEntries",
    ),
    "a git folder": ('printf "040000 tree $(git rev-parse HEAD:src)\\t.git\\n" | git mktree', "hasDotgit"),
}


@ONE_OF_EACH
class TestSpoiltCheckouts:
    @pytest.mark.parametrize("tree", MALFORMED)
    def test_a_malformed_tree_is_said_to_be_one(self, yard: Yard, tree: str) -> None:
        make, word = MALFORMED[tree]
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, f'set -- "$({make})"; {_TREE}')
        for leftovers in ("chore: keep", ""):
            with pytest.raises(CommitsMalformed, match=word) as caught:
                yard.take(sandbox, leftovers=leftovers)
            assert "fatal:" not in str(caught.value)

    def test_what_is_no_file_is_said(self, yard: Yard) -> None:
        sandbox = yard.ready()
        commit(sandbox)
        said(
            sandbox,
            "mkfifo pipe; mkdir run; mkfifo run/p2; echo run/ > .gitignore",
        )
        assert yard.take(sandbox, leftovers="chore: keep")
        assert [(item.rule, item.path) for item in sandbox.left_out] == [("special_file", "pipe")]
        said(sandbox, "git status --porcelain | grep . && exit 1; mkfifo p4")
        yard.take(sandbox, leftovers="chore: keep")
        assert [item.path for item in sandbox.left_out] == ["p4", "pipe"], "also where nothing else was left"

    def test_a_git_folder_moved_aside_is_found(self, yard: Yard) -> None:
        sandbox = yard.ready()
        head = commit(sandbox)
        said(sandbox, "mv .git .git.bak; echo left > left")
        assert yard.take(sandbox, leftovers="chore: keep")
        assert sandbox.left_out == ()
        assert said(sandbox, "git rev-parse HEAD~1; git status --porcelain") == head


@pytest.mark.parametrize(
    "yard", [(SandboxType.E2B, "machine"), (SandboxType.DAGGER, "machine")], indirect=True, ids="-".join
)
def test_a_git_folder_that_is_gone_elsewhere_is_said_to_be(yard: Yard) -> None:
    sandbox = yard.ready()
    said(sandbox, "rm -rf .git")
    with pytest.raises(CheckoutLost):
        yard.take(sandbox, leftovers="chore: keep")


@EVERYWHERE
class TestCleanup:
    def test_is_gone_and_the_neighbour_is_not(self, yard: Yard) -> None:
        neighbour, sandbox = yard.ready("wo-00000002"), yard.ready()
        kept = commit(neighbour)
        sandbox.cleanup()
        sandbox.cleanup()
        assert not yard.make().get_current_state().exists
        with pytest.raises(SandboxError):
            sh(sandbox, "true")
        assert said(neighbour, "git rev-parse HEAD; git status --porcelain") == kept

    def test_of_what_was_never_made(self, yard: Yard) -> None:
        yard.make().cleanup()

    def test_after_the_home_was_removed_too(self, yard: Yard) -> None:
        sandbox = yard.ready()
        shutil.rmtree(yard.data_dir / "homes", ignore_errors=True)
        sandbox.cleanup()
        assert not yard.local or list((yard.data_dir / "sandboxes").iterdir()) == []

    def test_the_mirror_is_as_it_was(self, yard: Yard) -> None:
        before = tree_of(yard.mirror.path)
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "git gc -q --prune=now; git repack -adq; git prune --expire=now; git fsck 2>/dev/null")
        sandbox.cleanup()
        assert tree_of(yard.mirror.path) == before


@LOCALLY
class TestNeighbours:
    def test_gc_and_prune_break_no_neighbour(self, yard: Yard) -> None:
        one, two = yard.ready("wo-00000001"), yard.ready("wo-00000002")
        kept = commit(two)
        said(two, "echo staged > staged; git add staged")
        said(
            one,
            "git worktree prune --expire=now; git reflog expire --expire=now --all;"
            "git gc -q --prune=now; git pack-refs --all; git commit -q --allow-empty -m After",
        )
        assert said(two, "git rev-parse HEAD; git status --porcelain") == f"{kept}\nA  staged"
        said(two, "git commit -q -m Staged; git fsck --connectivity-only 2>/dev/null")
        assert yard.take(two, "wo-00000002") == said(two, "git rev-parse HEAD")
        assert yard.take(one) == said(one, "git rev-parse HEAD")
        third = yard.ready("wo-00000003")
        assert said(third, "git rev-parse HEAD") == yard.base

    def test_base_branches_that_do_not_fit_beside_each_other(self, yard: Yard) -> None:
        for number, base_branch in enumerate(("release", "release/1", "release")):
            name = f"wo-0000000{number}"
            sandbox = yard.make(spec=replace(yard.spec(name), base_branch=base_branch))
            sandbox.setup()
            commit(sandbox)
            assert yard.take(sandbox, name)


def test_every_registered_backend_is_under_contract() -> None:
    assert {kind for kind, _ in COMBINATIONS} == set(BACKENDS)
