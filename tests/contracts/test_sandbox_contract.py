"""One suite for every `AgentSandbox`: what the engine may rely on, whatever the backend and its isolation."""

import base64
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest

import sandboxes.local
from sandboxes.base import AgentSandbox, CommandExecutionResult, SandboxCommand, SandboxSpec
from sandboxes.errors import BundleRejected, ProgramMissing, SandboxError
from sandboxes.git import GitSettings, TrustedGit
from sandboxes.isolation import IsolationSettings
from sandboxes.kinds import SandboxType
from sandboxes.mirror import RepositoryMirror
from sandboxes.process import ExitReason, ProcessControl
from sandboxes.providers import ProviderSettings
from sandboxes.registry import BACKENDS, create_sandbox
from tests.contracts.services import provider_settings
from tests.fakes.git_http import git
from tests.sandboxes.history import Entry, History
from tests.support import require_program

Isolation = Literal["bubblewrap", "none", "machine"]
KEY = "github.com--acme--shop"
LIMIT = 10 * 1024 * 1024
COMBINATIONS: tuple[tuple[SandboxType, Isolation], ...] = (
    (SandboxType.GIT_BRANCH, "bubblewrap"),
    (SandboxType.GIT_BRANCH, "none"),
    (SandboxType.GIT_WORKTREE, "bubblewrap"),
    (SandboxType.GIT_WORKTREE, "none"),
    (SandboxType.E2B, "machine"),
    (SandboxType.DAGGER, "machine"),
)
LOCAL = tuple(combination for combination in COMBINATIONS if combination[1] != "machine")
REMOTE = tuple(combination for combination in COMBINATIONS if combination[1] == "machine")
ISOLATED = tuple(combination for combination in COMBINATIONS if combination[1] == "bubblewrap")
EVERYWHERE = pytest.mark.parametrize("yard", COMBINATIONS, indirect=True, ids="-".join)
LOCALLY = pytest.mark.parametrize("yard", LOCAL, indirect=True, ids="-".join)
ATTACHABLE = pytest.mark.parametrize(
    "yard", [item for item in COMBINATIONS if item[0] != SandboxType.DAGGER], indirect=True, ids="-".join
)
ELSEWHERE = pytest.mark.parametrize("yard", REMOTE, indirect=True, ids=lambda item: item[0])
WHERE_ISOLATED = pytest.mark.parametrize("yard", ISOLATED, indirect=True, ids=lambda item: item[0])


@dataclass
class Yard:
    """A data folder with a mirror, in which sandboxes of one kind are made; all are removed at the end."""

    sandbox_type: SandboxType
    isolation: Isolation
    data_dir: Path
    mirror: RepositoryMirror
    git: TrustedGit
    shas: dict[str, str]
    providers: ProviderSettings = field(default_factory=ProviderSettings)
    made: list[AgentSandbox] = field(default_factory=list)

    @property
    def isolated(self) -> bool:
        return self.isolation != "none"

    @property
    def local(self) -> bool:
        return self.isolation != "machine"

    @property
    def base(self) -> str:
        return self.shas["base"]

    @property
    def shared_clone(self) -> Path:
        return self.data_dir / "clones" / f"{KEY}.git"

    def spec(self, name: str = "wo-00000001", *, start: str = "") -> SandboxSpec:
        kind = self.sandbox_type.replace("_", "-")
        return SandboxSpec(
            sandbox_identifier=f"{kind}-{name}",
            repository_key=KEY,
            git_branch_name=f"agent/{name}",
            base_branch="main",
            base_sha=self.base,
            start_sha=start or self.base,
            mirror_path=self.mirror.path,
            data_dir=self.data_dir,
            trailers=(f"Work-Order: {name}", "Work-Order-Phase: planning", "Agent-Session: s-1"),
            isolation=IsolationSettings("none" if self.isolation == "machine" else self.isolation),
            providers=self.providers,
        )

    def make(
        self, name: str = "wo-00000001", *, start: str = "", spec: SandboxSpec | None = None
    ) -> AgentSandbox:
        sandbox = create_sandbox(self.sandbox_type, spec or self.spec(name, start=start))
        self.made.append(sandbox)
        return sandbox

    def ready(self, name: str = "wo-00000001") -> AgentSandbox:
        sandbox = self.make(name)
        sandbox.setup()
        return sandbox

    def take(self, sandbox: AgentSandbox, name: str = "wo-00000001") -> str | None:
        """Export and accept, as the engine does; the head now in the mirror."""
        bundle = self.data_dir / "outbox" / f"{uuid4().hex}.bundle"
        if not sandbox.export_bundle(bundle, limit_bytes=LIMIT):
            return None
        return self.mirror.accept_bundle(
            bundle,
            git_branch_name=f"agent/{name}",
            descends_from=self.base,
            keep_as=f"refs/work-orders/{name}",
        )


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
    providers = provider_settings(request, sandbox_type)
    folder, shas = template
    shutil.copytree(folder, tmp_path / "data")
    trusted = TrustedGit(GitSettings())
    mirror = RepositoryMirror(tmp_path / "data", KEY, trusted)
    made = Yard(sandbox_type, isolation, tmp_path / "data", mirror, trusted, shas, providers)
    yield made
    for sandbox in made.made:
        sandbox.cleanup()


def sh(
    sandbox: AgentSandbox, script: str, *arguments: str, seconds: float = 20, **rest: str
) -> CommandExecutionResult:
    """What an agent does: a shell script in the workspace."""
    command = SandboxCommand(
        argv=("sh", "-c", script, "sh", *arguments), timeout_seconds=seconds, environment=rest
    )
    return sandbox.execute_command(command)


def said(sandbox: AgentSandbox, script: str, *arguments: str) -> str:
    result = sh(sandbox, script, *arguments)
    assert result.ok, result.stderr
    return result.stdout.decode().strip()


def commit(sandbox: AgentSandbox, name: str = "work.txt") -> str:
    script = 'echo "$1" > "$1" && git add -- "$1" && git commit --quiet -m "Add $1" && git rev-parse HEAD'
    return said(sandbox, script, name)


def tree_of(path: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content, to compare before and after."""
    return {
        str(entry.relative_to(path)): entry.read_bytes()
        if entry.is_file() and not entry.is_symlink()
        else None
        for entry in path.rglob("*")
    }


def processes_with(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if token.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def none_left(sandbox: AgentSandbox, token: str, *, seconds: float = 2.0) -> bool:
    """On this host, where stand-ins run too; and asked inside, where the machine is really elsewhere."""
    deadline = time.monotonic() + seconds
    while processes_with(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not sandbox.shares_host:
        script = 'for file in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$file"; done 2> /dev/null; true'
        assert token not in said(sandbox, script)
    return processes_with(token) == []


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
        with pytest.raises(SandboxError, match="over 100000 bytes"):
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
        if yard.sandbox_type is SandboxType.GIT_WORKTREE:
            refs = git("for-each-ref", "--format=%(refname)", folder=yard.shared_clone)
            assert "refs/heads/agent/wo-00000001" not in refs.split()
            assert "refs/heads/agent/wo-00000002" in refs.split()
            assert os.listdir(yard.shared_clone / "worktrees") == [neighbour.sandbox_identifier]  # noqa: PTH208  # names alone


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
        if yard.sandbox_type is SandboxType.GIT_WORKTREE:
            assert "agent/wo" not in git("for-each-ref", "refs/heads", folder=yard.shared_clone)
            assert not list((yard.shared_clone / "worktrees").glob("*"))

    def test_the_mirror_is_as_it_was(self, yard: Yard) -> None:
        before = tree_of(yard.mirror.path)
        sandbox = yard.ready()
        commit(sandbox)
        said(sandbox, "git gc -q --prune=now; git repack -adq; git prune --expire=now; git fsck 2>/dev/null")
        sandbox.cleanup()
        assert tree_of(yard.mirror.path) == before


_READ_UNTIL_STOPPED = """
reads=0
while [ ! -e stop ]; do git cat-file -e "$1^{tree}" || exit 1; reads=$((reads+1)); done
echo $reads
"""
_LEAVE_A_LOCK = """
heads="$(git rev-parse --git-common-dir)/refs/heads/agent"; mkdir -p "$heads"; touch "$heads/$1.lock"
"""


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

    def test_what_is_mended_for_one_is_never_missing_for_another(self, yard: Yard) -> None:
        reader = yard.ready("wo-00000001")
        with ThreadPoolExecutor(1) as beside:
            reads = beside.submit(sh, reader, _READ_UNTIL_STOPPED, yard.base)
            try:
                for number in range(2, 8):
                    name = f"wo-0000000{number}"
                    said(reader, _LEAVE_A_LOCK, name)  # what a killed git leaves
                    assert said(yard.ready(name), "git rev-parse HEAD") == yard.base
            finally:
                Path(reader.workspace, "stop").touch()
        assert int(reads.result().stdout) > 10, reads.result().stderr

    def test_base_branches_that_do_not_fit_beside_each_other(self, yard: Yard) -> None:
        for number, base_branch in enumerate(("release", "release/1", "release")):
            name = f"wo-0000000{number}"
            sandbox = yard.make(spec=replace(yard.spec(name), base_branch=base_branch))
            sandbox.setup()
            commit(sandbox)
            assert yard.take(sandbox, name)


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
            monkeypatch.setattr(sandboxes.local, "_SMALL_SECONDS", 1.0)
            monkeypatch.setattr(sandboxes.local, "_BUNDLE_SECONDS", 1.0)
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
    script = "import sys, pathlib, sandboxes.disk as it; it.remove_tree(pathlib.Path(sys.argv[1]))"
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


def test_every_registered_backend_is_under_contract() -> None:
    assert {kind for kind, _ in COMBINATIONS} == set(BACKENDS)
