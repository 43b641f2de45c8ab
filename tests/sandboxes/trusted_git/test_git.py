"""The trusted git against real repositories, local and over real HTTP: typed values and typed failures."""

import base64
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandboxes.errors import (
    BaseBranchMissing,
    GitError,
    GitTimeout,
    ProgramMissing,
    PushRejected,
    RemoteAccessDenied,
    RemoteNotFound,
    RepositoryEmpty,
)
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit, find_git, is_sha
from sandboxes.trusted_git.objects import FileChange
from tests.fakes.git_http import FakeGitServer, branches, git
from tests.sandboxes.trusted_git.history import Entry, History, raw_commit, raw_tree

TOKEN = "ghp_writeTokenForTests0123456789"
READ_TOKEN = "ghp_readTokenForTests0123456789"
BRANCH = "agent-work-order-1"


@pytest.fixture(scope="module")
def trusted() -> TrustedGit:
    return TrustedGit(GitSettings(allow_local=True, network_seconds=20))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeGitServer]:
    with FakeGitServer(tmp_path / "server") as running:
        running.add_token(TOKEN)
        running.add_token(READ_TOKEN, "read")
        running.create_repository("acme", "shop", {"README.md": "# Shop\n"})
        yield running


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "repository.git")


def remote(server: FakeGitServer, name: str = "acme/shop", *, token: str = TOKEN) -> RemoteRepository:
    return RemoteRepository(f"{server.base_url}/{name}.git", token)


def local(history: History) -> RemoteRepository:
    return RemoteRepository(f"file://{history.path}")


def test_is_sha() -> None:
    assert is_sha("a" * 40)
    assert is_sha("0" * 64)
    assert not any(is_sha(text) for text in ("", "a" * 39, "A" * 40, "g" * 40, "a" * 40 + "\nx", "--all"))


def test_missing_git_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="git is not installed"):
        find_git(str(tmp_path))


class TestRemoteRefs:
    def test_head_and_the_named_branches(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        path = server.repository_path("acme", "shop")
        sha = branches(path)["main"]
        git("update-ref", "refs/heads/other", sha, folder=path)
        git("update-ref", "refs/heads/unasked", sha, folder=path)
        refs = trusted.remote_refs(remote(server), ["other", "missing"])
        assert refs.default_branch == "main"
        assert refs.branches == {"HEAD": sha, "other": sha}

    def test_the_default_branch_is_filled_in(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        default, refs = trusted.default_branch_refs(remote(server), [])
        assert default == "main"
        assert refs.branches["main"] == server.branch_sha("acme", "shop", "main")

    def test_a_default_branch_of_another_name(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        server.create_repository("acme", "old", default_branch="release/2.x")
        default, refs = trusted.default_branch_refs(remote(server, "acme/old"), [])
        assert default == "release/2.x"
        assert refs.branches[default] == server.branch_sha("acme", "old", "release/2.x")

    def test_an_empty_repository(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        git("init", "--quiet", "--bare", str(server.root / "acme" / "empty.git"))
        with pytest.raises(RepositoryEmpty) as caught:
            trusted.default_branch_refs(remote(server, "acme/empty"), ["main"])
        assert "first commit" in caught.value.advice

    def test_a_head_that_points_nowhere(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        path = server.repository_path("acme", "shop")
        git("symbolic-ref", "HEAD", "refs/heads/gone", folder=path)
        with pytest.raises(BaseBranchMissing, match="HEAD points to a missing branch"):
            trusted.default_branch_refs(remote(server), [])

    def test_names_that_only_end_alike_do_not_count(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        path = server.repository_path("acme", "shop")
        main, tree = git("rev-parse", "main", "main^{tree}", folder=path).split()
        other = git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-m", "x", folder=path)
        for ref in ("refs/heads/refs/heads/topic", "refs/odd/refs/heads/topic", "refs/heads/HEAD"):
            git("update-ref", ref, other, folder=path)
        git("update-ref", "refs/heads/x\u2028", other, folder=path)
        default, refs = trusted.default_branch_refs(remote(server), ["topic"])
        assert "topic" not in refs.branches
        assert refs.branches[default] == main

    @pytest.mark.parametrize("token", ["", "ghp_wrong"])
    def test_a_denied_token(self, server: FakeGitServer, trusted: TrustedGit, token: str) -> None:
        with pytest.raises(RemoteAccessDenied) as caught:
            trusted.remote_refs(remote(server, token=token), ["main"])
        assert not caught.value.retryable
        assert "GH_TOKEN" in caught.value.advice

    def test_a_repository_that_is_not_there(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        with pytest.raises(RemoteNotFound):
            trusted.remote_refs(remote(server, "acme/nothing"), ["main"])

    @pytest.mark.parametrize("scheme", ["", "file://"])
    @pytest.mark.parametrize("name", ["missing", "folder", "file"])
    def test_a_path_without_a_repository_asks_to_check_the_path(
        self, trusted: TrustedGit, tmp_path: Path, scheme: str, name: str
    ) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("no gitfile")
        url = f"{scheme}{tmp_path / name}"
        with pytest.raises(RemoteNotFound, match=f"cannot read a git repository at {url} ") as caught:
            trusted.remote_refs(RemoteRepository(url), ["main"])
        assert "Check the path" in caught.value.advice
        assert "token" not in caught.value.advice
        assert "access rights" not in str(caught.value)

    def test_a_server_error_is_worth_another_try(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        server.fail("info/refs", status=502)
        with pytest.raises(GitError) as caught:
            trusted.remote_refs(remote(server), ["main"])
        assert type(caught.value) is GitError
        assert caught.value.retryable

    def test_a_server_that_is_not_there(self, trusted: TrustedGit) -> None:
        with pytest.raises(GitError) as caught:
            trusted.remote_refs(RemoteRepository("http://127.0.0.1:1/acme/shop.git", TOKEN), ["main"])
        assert caught.value.retryable

    def test_other_protocols_are_refused(self, tmp_path: Path, history: History) -> None:
        canary = tmp_path / "canary"
        strict = TrustedGit(GitSettings())
        for url in (f"ext::touch {canary}", f"file://{history.path}", str(history.path), "git://127.0.0.1/x"):
            with pytest.raises(GitError):
                strict.remote_refs(RemoteRepository(url), ["main"])
        assert not canary.exists()

    def test_a_time_out_is_typed(self, server: FakeGitServer) -> None:
        hurried = TrustedGit(GitSettings(network_seconds=0.001))
        with pytest.raises(GitTimeout):
            hurried.remote_refs(remote(server), ["main"])


class TestToken:
    def test_never_in_an_argument_nor_in_the_repository(
        self, history: History, server: FakeGitServer, trusted: TrustedGit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve, seen, fetching = server._state.take_fault, set[bytes](), threading.Event()

        def slowly(path: str) -> object:
            fetching.set()
            time.sleep(0.4)
            return serve(path)

        monkeypatch.setattr(server._state, "take_fault", slowly)
        thread = threading.Thread(
            target=trusted.fetch, args=(history.path, remote(server), ["+refs/heads/main:refs/x/main"])
        )
        thread.start()
        assert fetching.wait(5)
        while thread.is_alive():
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        seen.add((entry / "cmdline").read_bytes())
                    except OSError:
                        continue
            time.sleep(0.02)
        thread.join()
        lines = [line for line in seen if server.base_url.encode() in line]
        assert any(b"remote-http" in line for line in lines)
        assert not [line for line in seen if TOKEN.encode() in line]
        assert TOKEN not in (history.path / "config").read_text()
        assert TOKEN in {request.token for request in server.requests}

    def test_never_to_another_host(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        """A redirect on the same host is followed with the token, as GitHub does for renamed repositories."""
        asked: list[str] = []

        class Elsewhere(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.headers.get("Authorization", ""))
                self.answer(401, "WWW-Authenticate", 'Basic realm="Elsewhere"')

            def answer(self, status: int, name: str, value: str) -> None:
                self.send_response(status)
                self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Redirect(Elsewhere):
            def do_GET(self) -> None:
                place = (
                    f"localhost:{elsewhere.server_port}" if "acme/shop" in self.path else self.headers["Host"]
                )
                if "renamed" in self.path or "acme/shop" in self.path:
                    self.answer(302, "Location", f"http://{place}{self.path.replace('renamed', 'found')}")
                else:
                    super().do_GET()

        with (
            ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere,
            ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as redirect,
        ):
            for running in (elsewhere, redirect):
                threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
            base = f"http://127.0.0.1:{redirect.server_port}"
            with pytest.raises(RemoteAccessDenied):
                trusted.remote_refs(RemoteRepository(f"{base}/acme/shop.git", TOKEN), ["main"])
            assert asked == [""]
            asked.clear()
            with pytest.raises(RemoteAccessDenied):
                trusted.remote_refs(RemoteRepository(f"{base}/acme/renamed.git", TOKEN), ["main"])
            told = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
            assert asked == ["", f"Basic {told}"]
            for running in (elsewhere, redirect):
                running.shutdown()

    @pytest.mark.parametrize("token", ["quo'te\"s", "$(id) `id` %s \\n", "-dash", "x=y=z"])
    def test_arrives_as_it_is(self, server: FakeGitServer, trusted: TrustedGit, token: str) -> None:
        server.add_token(token)
        assert trusted.remote_refs(remote(server, token=token), []).default_branch == "main"

    def test_never_in_a_message(self, server: FakeGitServer, trusted: TrustedGit) -> None:
        with pytest.raises(RemoteNotFound) as caught:
            trusted.remote_refs(remote(server, "acme/nothing"), [])
        assert TOKEN not in str(caught.value)
        assert TOKEN not in repr(remote(server))

    def test_the_servers_environment_is_not_passed_on(
        self, history: History, trusted: TrustedGit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        canary = tmp_path / "canary"
        monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {canary}")
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "alias.version")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"!touch {canary}")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".gitconfig").write_text(f'[core]\n\tfsmonitor = "touch {canary}"\n')
        listed = trusted.text("config", "--list", "--show-scope", git_dir=history.path)
        assert "global" not in listed
        assert "alias.version" not in listed
        assert not canary.exists()


class TestFetchAndPush:
    @pytest.fixture
    def mirror(self, tmp_path: Path, server: FakeGitServer, trusted: TrustedGit) -> History:
        """A bare repository that has the server's main and two commits on top of it."""
        history = History(tmp_path / "mirror.git")
        trusted.fetch(history.path, remote(server), ["+refs/heads/main:refs/heads/main"])
        base = git("rev-parse", "main", folder=history.path)
        tree = git("rev-parse", "main^{tree}", folder=history.path)
        for name, parent in (("one", base), ("two", "")):
            text = f"tree {tree}\nparent {parent or history.shas['one']}\nauthor A <a@b> 1 +0000\n"
            text += f"committer A <a@b> 1 +0000\n\n{name}\n"
            history.shas[name] = raw_commit(history.path, text.encode())
        history.shas["base"] = base
        return history

    def push(
        self,
        trusted: TrustedGit,
        mirror: History,
        server: FakeGitServer,
        name: str,
        expected: str,
        **extra: str,
    ) -> None:
        trusted.push(
            mirror.path,
            remote(server, **extra),
            sha=mirror.shas[name],
            git_branch_name=BRANCH,
            expected=expected,
        )

    def test_exactly_one_ref_moves(self, server: FakeGitServer, trusted: TrustedGit, mirror: History) -> None:
        before = branches(server.repository_path("acme", "shop"))
        git("update-ref", "refs/heads/secret", mirror.shas["two"], folder=mirror.path)
        git("update-ref", "refs/tags/v1", mirror.shas["two"], folder=mirror.path)
        self.push(trusted, mirror, server, "one", "")
        path = server.repository_path("acme", "shop")
        assert branches(path) == {**before, BRANCH: mirror.shas["one"]}
        assert git("for-each-ref", "refs/tags", folder=path) == ""
        self.push(trusted, mirror, server, "two", mirror.shas["one"])
        assert branches(path)[BRANCH] == mirror.shas["two"]

    def test_again_is_no_error(self, server: FakeGitServer, trusted: TrustedGit, mirror: History) -> None:
        self.push(trusted, mirror, server, "one", "")
        self.push(trusted, mirror, server, "one", mirror.shas["one"])

    def test_a_branch_that_somebody_else_moved(
        self, server: FakeGitServer, trusted: TrustedGit, mirror: History
    ) -> None:
        self.push(trusted, mirror, server, "two", "")
        for expected in ("", mirror.shas["base"]):
            with pytest.raises(PushRejected):
                self.push(trusted, mirror, server, "one", expected)
        assert server.branch_sha("acme", "shop", BRANCH) == mirror.shas["two"]

    def test_a_read_only_token(self, server: FakeGitServer, trusted: TrustedGit, mirror: History) -> None:
        with pytest.raises(RemoteAccessDenied) as caught:
            self.push(trusted, mirror, server, "one", "", token=READ_TOKEN)
        assert not caught.value.retryable
        assert server.branch_sha("acme", "shop", BRANCH) is None

    def test_a_fetch_has_the_same_typed_reasons(
        self, server: FakeGitServer, trusted: TrustedGit, mirror: History
    ) -> None:
        refspecs = ["+refs/heads/main:refs/heads/main"]
        words = r"^Git could not fetch from the repository's remote: .+ \(git fetch\)$"
        with pytest.raises(RemoteAccessDenied, match=words):
            trusted.fetch(mirror.path, remote(server, token="ghp_wrong"), refspecs)
        with pytest.raises(RemoteNotFound, match=words):
            trusted.fetch(mirror.path, remote(server, "acme/nothing"), refspecs)

    def test_a_hook_that_declines(self, server: FakeGitServer, trusted: TrustedGit, mirror: History) -> None:
        hook = server.repository_path("acme", "shop") / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'GH013: Repository rule violations' >&2\nexit 1\n")
        hook.chmod(0o755)
        with pytest.raises(PushRejected, match="GH013"):
            self.push(trusted, mirror, server, "one", "")

    def test_a_branch_below_another_branch(
        self, server: FakeGitServer, trusted: TrustedGit, mirror: History
    ) -> None:
        git(
            "update-ref",
            f"refs/heads/{BRANCH}/x",
            mirror.shas["base"],
            folder=server.repository_path("acme", "shop"),
        )
        with pytest.raises(PushRejected):
            self.push(trusted, mirror, server, "one", "")

    def test_a_missing_branch_is_not_a_missing_repository(
        self, server: FakeGitServer, trusted: TrustedGit, mirror: History
    ) -> None:
        with pytest.raises(GitError) as caught:
            trusted.fetch(mirror.path, remote(server), ["+refs/heads/gone:refs/x/gone"])
        assert type(caught.value) is GitError

    def test_a_dropped_connection_is_worth_another_try(
        self, server: FakeGitServer, trusted: TrustedGit, mirror: History
    ) -> None:
        server.fail("git-receive-pack", drop=True, times=5)
        with pytest.raises(GitError) as caught:
            self.push(trusted, mirror, server, "one", "")
        assert caught.value.retryable

    def test_trouble_with_the_local_disk_is_no_matter_of_access(
        self, trusted: TrustedGit, mirror: History, tmp_path: Path
    ) -> None:
        (mirror.path / "refs" / "x").write_text("a file in the way")
        with pytest.raises(GitError) as caught:
            trusted.run("update-ref", "refs/x/y", mirror.shas["one"], git_dir=mirror.path)
        assert type(caught.value) is GitError


ODD_MESSAGES = {
    "empty": b"",
    "only newlines": b"\n\n\n",
    "no newline at the end": b"Subject only",
    "record separator": b"A\x1eb\n\nbody \x1e\x1f more\x1f\n",
    "looks like a record": b"x\x1e"
    + b"0" * 40
    + b"\x1f\x1fEve\x1fnow\x1fnow\x1fforged\x1fWork-Order: eve\x1f\n",
    "control characters": b"bell \x07 escape \x1b[31mred \x08\x0b\x0c \x7f\n",
    "carriage returns": b"Subject\r\n\r\nbody\r\n",
    "unicode": "Grüße, 世界 🎉 \u2028 \u202e rtl\n".encode(),
    "not unicode": b"caf\xe9 \xff\xfe\n",
    "looks like a diff": b"---\n+++ b/x\n@@ -1 +1 @@\n",
    "looks like a format": b"%H %x00 %n $(touch x) `id`\n",
    "long": b"x" * 200_000 + b"\n\n" + b"y\n" * 1000,
}


class TestCommits:
    def test_order_parents_and_times(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base", "Base\n", files={"a": "1"})
        history.commit("one", "One\n\nWith a body.\n", after="base", files={"a": "2"})
        history.commit("side", "Side\n", after="base", files={"b": "1"})
        history.commit("merge", "Merge\n", after=["one", "side"])
        shas = history.write()
        found = trusted.commits(history.path, base=shas["base"], head=shas["merge"])
        assert {commit.sha for commit in found} == {shas["one"], shas["side"], shas["merge"]}
        assert found[-1].parents == (shas["one"], shas["side"])
        one = next(commit for commit in found if commit.sha == shas["one"])
        assert (one.message, one.subject, one.author_name) == ("One\n\nWith a body.", "One", "Agent")
        assert one.authored_at == "2026-01-01T01:02:00+01:00"
        assert one.committed_at == "2026-01-01T00:02:00+00:00"

    def test_nothing_new(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        sha = history.write()["base"]
        assert trusted.commits(history.path, base=sha, head=sha) == ()
        assert trusted.changes(history.path, base=sha, head=sha) == ()

    def test_without_the_base_branchs_new_commits(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        history.commit("mine", after="base")
        history.commit("upstream", after="base")
        history.commit("merge", after=["mine", "upstream"])
        shas = history.write()
        found = trusted.commits(
            history.path, base=shas["base"], head=shas["merge"], without=[shas["upstream"]]
        )
        assert [commit.sha for commit in found] == [shas["mine"], shas["merge"]]

    def test_the_newest_where_there_are_too_many(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        previous = "base"
        for number in range(12):
            previous = history.commit(f"c{number}", f"Commit {number}\n", after=previous)
        shas = history.write()
        found = trusted.commits(history.path, base=shas["base"], head=shas["c11"], limit=5)
        assert [commit.subject for commit in found] == [f"Commit {number}" for number in range(7, 12)]

    def test_odd_messages_stay_in_their_commit(self, history: History, trusted: TrustedGit) -> None:
        previous = history.commit("base")
        for name, message in ODD_MESSAGES.items():
            previous = history.commit(name, message, after=previous)
        history.commit("last", "Last\n\nWork-Order: wo-1\n", after=previous)
        shas = history.write()
        found = trusted.commits(history.path, base=shas["base"], head=shas["last"])
        assert [commit.sha for commit in found] == [shas[name] for name in (*ODD_MESSAGES, "last")]
        for commit, (name, message) in zip(found, ODD_MESSAGES.items(), strict=False):
            assert commit.message == message.decode("utf-8", "replace").strip(), name
            assert commit.trailers == (), name
            assert commit.author_name == "Agent", name
        assert found[-1].trailer("work-order") == "wo-1"

    @pytest.mark.parametrize(
        "name", [b"", b"\x1e\x1f", b"Line\x0bTab\x0c", "Zoë \u2028 X".encode(), b"caf\xe9", b"x" * 5000]
    )
    def test_odd_authors(self, history: History, trusted: TrustedGit, name: bytes) -> None:
        history.commit("base")
        tree = git("mktree", folder=history.path)
        base = history.write()["base"]
        text = b"tree %b\nparent %b\nauthor %b <> 0 +0000\ncommitter C <c@d> 0 +0000\n\nMessage\n"
        odd = raw_commit(history.path, text % (tree.encode(), base.encode(), name))
        (found,) = trusted.commits(history.path, base=base, head=odd)
        assert (found.sha, found.message, found.parents) == (odd, "Message", (base,))
        assert found.author_name == name.decode("utf-8", "replace").strip(" ")

    def test_a_nul_in_a_message_cuts_it_and_nothing_else(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        tree = git("mktree", folder=history.path)
        base = history.write()["base"]
        text = f"tree {tree}\nparent {base}\nauthor A <a@b> 0 +0000\ncommitter C <c@d> 0 +0000\n\nShown"
        odd = raw_commit(history.path, text.encode() + b"\0hidden\n\nWork-Order: wo-1\n")
        (found,) = trusted.commits(history.path, base=base, head=odd)
        assert (found.message, found.trailers) == ("Shown", ())

    def test_broken_author_lines_and_impossible_dates(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        tree = git("mktree", folder=history.path)
        previous = base = history.write()["base"]
        for author in ("A <a@b> 99999999999999999999 +0000", "A <a@b", "A <a@b> -5 +9999", ""):
            text = f"tree {tree}\nparent {previous}\nauthor {author}\ncommitter {author}\n\nMessage\n"
            previous = raw_commit(history.path, text.encode())
        assert len(trusted.commits(history.path, base=base, head=previous)) == 4

    def test_more_than_can_be_read_is_an_error_and_not_half_an_answer(
        self, history: History, trusted: TrustedGit
    ) -> None:
        previous = history.commit("base")
        for number in range(3):
            previous = history.commit(f"c{number}", b"x" * 12_000_000, after=previous)
        shas = history.write()
        with pytest.raises(GitError, match="more than") as caught:
            trusted.commits(history.path, base=shas["base"], head=shas["c2"])
        assert not caught.value.retryable

    def test_an_unknown_sha_is_a_typed_error(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        base = history.write()["base"]
        with pytest.raises(GitError):
            trusted.commits(history.path, base=base, head="1" * 40)
        assert not trusted.has_commit(history.path, "1" * 40)


class TestTrailers:
    def read(self, history: History, trusted: TrustedGit, message: str) -> tuple[tuple[str, str], ...]:
        history.commit("base")
        history.commit("one", message, after="base")
        shas = history.write()
        return trusted.commits(history.path, base=shas["base"], head=shas["one"])[0].trailers

    def test_in_order(self, history: History, trusted: TrustedGit) -> None:
        message = "Subject\n\nBody\n\nWork-Order: wo-1\nWork-Order-Phase: planning\nAgent-Session: a:b c\n"
        assert self.read(history, trusted, message) == (
            ("Work-Order", "wo-1"),
            ("Work-Order-Phase", "planning"),
            ("Agent-Session", "a:b c"),
        )

    def test_the_last_value_counts(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        history.commit("one", "S\n\nWork-Order: a\nwork-order: b\n", after="base")
        shas = history.write()
        (commit,) = trusted.commits(history.path, base=shas["base"], head=shas["one"])
        assert commit.trailer("WORK-ORDER") == "b"
        assert commit.trailer("Work-Order-Phase") is None

    def test_folded_lines(self, history: History, trusted: TrustedGit) -> None:
        assert self.read(history, trusted, "S\n\nNote: one\n two\n") == (("Note", "one two"),)

    @pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
    def test_only_a_newline_ends_a_trailer(
        self, history: History, trusted: TrustedGit, separator: str
    ) -> None:
        message = f"S\n\nWork-Order: wo-1{separator}Work-Order-Phase: testing\nAgent-Session: s\n"
        names = [name for name, _ in self.read(history, trusted, message)]
        assert names == ["Work-Order", "Agent-Session"]

    def test_not_in_the_middle_of_the_body(self, history: History, trusted: TrustedGit) -> None:
        message = "S\n\nWork-Order: wo-1\nWork-Order-Phase: testing\n\nMore words at the end.\n"
        assert self.read(history, trusted, message) == ()


WEIRD_PATHS = (
    b"new\nline",
    b'quo"te',
    b"tab\there",
    b"back\\slash",
    b"not utf-8 \xff\xfe",
    b"not utf-8 \xfe\xff",
    b" leading and trailing ",
    b"-dash",
    b":(glob)*",
    b"{old => new}",
    "ünï/世界".encode(),
    b"\x01\x1b[31m",
    b"a" * 200 + b"/" + b"b" * 200,
)


def plain(change: FileChange) -> FileChange:
    return replace(change, mode="", blob="")


class TestChanges:
    def test_renames_are_taken_apart(self, history: History, trusted: TrustedGit) -> None:
        text = "".join(f"line {number}\n" for number in range(50))
        history.commit("base", files={"old.txt": text, "kept.txt": "1\n"})
        history.commit("one", after="base", files={"old.txt": None, "new.txt": text})
        shas = history.write()
        new, old = trusted.changes(history.path, base=shas["base"], head=shas["one"])
        assert plain(new) == FileChange("new.txt", "A", 50, 0)
        assert plain(old) == FileChange("old.txt", "D", 0, 50)
        assert trusted.read_blob(history.path, new.blob, limit_bytes=100) == text.encode()[:100]
        assert (new.mode, old.mode, int(old.blob, 16)) == ("100644", "000000", 0)
        assert (new.is_regular_file, old.is_regular_file) == (True, False)

    def test_binary_modes_links_and_submodules(self, history: History, trusted: TrustedGit) -> None:
        history.commit(
            "base", files={"data.bin": b"\0\1\2", "run.sh": "echo\n", "turned": "text\n", "lines": "a\nb\n"}
        )
        history.commit(
            "one",
            after="base",
            files={
                "data.bin": b"\0\1\3",
                "run.sh": Entry("100755", b"echo\n"),
                "turned": Entry("120000", b"/etc/passwd"),
                "sub": Entry("160000", b"1" * 40),
                "lines": "a\nc\nd",
            },
        )
        shas = history.write()
        found = {
            change.path: change
            for change in trusted.changes(history.path, base=shas["base"], head=shas["one"])
        }
        assert {path: change.mode for path, change in found.items()} == {
            "data.bin": "100644",
            "run.sh": "100755",
            "turned": "120000",
            "sub": "160000",
            "lines": "100644",
        }
        assert plain(found["data.bin"]) == FileChange("data.bin", "M", None, None)
        assert plain(found["run.sh"]) == FileChange("run.sh", "M", 0, 0)
        assert found["turned"].status == "T"
        assert plain(found["sub"]) == FileChange("sub", "A", 1, 0)
        assert plain(found["lines"]) == FileChange("lines", "M", 2, 1)

    def test_weird_paths(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base", files={WEIRD_PATHS[4]: "old\n"})
        history.commit("one", after="base", files=dict.fromkeys(WEIRD_PATHS, "text\n"))
        shas = history.write()
        found = trusted.changes(history.path, base=shas["base"], head=shas["one"])
        assert sorted(change.path for change in found) == sorted(
            path.decode("utf-8", "replace") for path in WEIRD_PATHS
        )
        assert sorted(change.status for change in found) == ["A"] * (len(WEIRD_PATHS) - 1) + ["M"]
        for change in found:
            change.path.encode()  # storable

    def test_attributes_of_the_repository_start_nothing(
        self, history: History, trusted: TrustedGit, tmp_path: Path
    ) -> None:
        canary = tmp_path / "canary"
        git("config", "diff.evil.textconv", f"touch {canary}; cat", folder=history.path)
        git("config", "diff.evil.command", f"touch {canary}; cat", folder=history.path)
        (history.path / "info").mkdir(exist_ok=True)
        (history.path / "info" / "attributes").write_text("* diff=evil\n")
        history.commit("base", files={"a": "1\n"})
        history.commit("one", after="base", files={"a": "2\n"})
        shas = history.write()
        (change,) = trusted.changes(history.path, base=shas["base"], head=shas["one"])
        assert plain(change) == FileChange("a", "M", 1, 1)
        assert not canary.exists()

    def test_ten_thousand_files(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        history.commit("one", after="base", files={f"d{n % 100}/f{n}": f"{n}\n" for n in range(10_000)})
        shas = history.write()
        found = trusted.changes(history.path, base=shas["base"], head=shas["one"])
        assert len(found) == sum(change.lines_added or 0 for change in found) == 10_000


class TestReadFile:
    @pytest.fixture
    def sha(self, history: History) -> str:
        history.commit(
            "one",
            files={
                "plain": b"text\xff\0",
                "run": Entry("100755", b"#!/bin/sh\n"),
                "link": Entry("120000", b"/etc/passwd"),
                "inside": Entry("120000", b"plain"),
                "sub": Entry("160000", b"1" * 40),
                "folder/file": "below",
                "huge": b"h" * 3_000_000,
                ":(glob)*": "magic",
                "*": "star",
                "empty": b"",
            },
        )
        return history.write()["one"]

    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("plain", b"text\xff\0"),
            ("run", b"#!/bin/sh\n"),
            ("folder/file", b"below"),
            ("empty", b""),
            (":(glob)*", b"magic"),
            ("*", b"star"),
            ("link", None),
            ("inside", None),
            ("sub", None),
            ("folder", None),
            ("folder/", None),
            ("absent", None),
            ("folder/absent", None),
            ("link/x", None),
            ("/etc/passwd", None),
            ("../config", None),
            ("", None),
        ],
    )
    def test_only_a_regular_file(
        self, history: History, trusted: TrustedGit, sha: str, path: str, content: bytes | None
    ) -> None:
        assert trusted.read_file(history.path, sha, path) == content

    def test_a_huge_file_is_cut(self, history: History, trusted: TrustedGit, sha: str) -> None:
        assert trusted.read_file(history.path, sha, "huge", limit_bytes=1000) == b"h" * 1000

    def test_list_files(self, history: History, trusted: TrustedGit, sha: str) -> None:
        assert trusted.list_files(history.path, sha, "folder/") == ("folder/file",)
        assert "link" not in trusted.list_files(history.path, sha, "link")
        assert trusted.list_files(history.path, sha, "absent/") == ()

    def test_names_that_look_like_patterns(self, history: History, trusted: TrustedGit) -> None:
        names = (":(top)a", ":!a", ":/a", "*", "[ab]", "?")
        history.commit("base", files={"a": "other\n", **dict.fromkeys(names, "x\n")})
        sha = history.write()["base"]
        for name in names:
            assert trusted.read_file(history.path, sha, name) == b"x\n"
            assert trusted.list_files(history.path, sha, name) == (name,)

    def test_names_that_no_file_system_would_take(self, history: History, trusted: TrustedGit) -> None:
        blob = git("hash-object", "-w", "--stdin", folder=history.path, stdin=b"x")
        tree = raw_tree(history.path, [(b"100644", b"..", blob), (b"100644", b".git", blob)])
        text = f"tree {tree}\nauthor A <a@b> 0 +0000\ncommitter A <a@b> 0 +0000\n\nx\n"
        sha = raw_commit(history.path, text.encode())
        assert trusted.read_file(history.path, sha, ".git") == b"x"
        assert trusted.list_files(history.path, sha, ".git") == (".git",)


class TestAncestry:
    def test_ancestors_and_bases(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base", branch="main")
        history.commit("one", after="base")
        history.commit("two", after="base")
        history.commit("alone")
        shas = history.write()
        path = history.path
        assert trusted.is_ancestor(path, shas["base"], shas["one"])
        assert trusted.is_ancestor(path, shas["one"], shas["one"])
        assert not trusted.is_ancestor(path, shas["one"], shas["two"])
        assert trusted.merge_base(path, shas["one"], shas["two"]) == shas["base"]
        assert trusted.merge_base(path, shas["one"], shas["alone"]) is None
        assert trusted.ref_sha(path, "refs/heads/main") == shas["base"]
        assert trusted.ref_sha(path, "refs/heads/none") is None

    def test_known_commits(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base", files={"a": "1"}, branch="main")
        history.commit("one", after="base")
        shas = history.write()
        tree = git("rev-parse", "main^{tree}", folder=history.path)
        names = [shas["one"], "refs/heads/main", "1" * 40, "refs/heads/a\u2028b", tree, "", shas["one"]]
        assert trusted.known_commits(history.path, names) == {
            shas["one"]: shas["one"],
            "refs/heads/main": shas["base"],
        }
        assert trusted.known_commits(history.path, []) == {}
        assert trusted.known_commits(history.path.parent, [shas["one"]]) == {}

    def test_replace_refs_and_grafts_do_not_count(self, history: History, trusted: TrustedGit) -> None:
        history.commit("base")
        history.commit("one", "Honest\n", after="base")
        history.commit("fake", "Forged\n", after="base")
        shas = history.write()
        git("update-ref", f"refs/replace/{shas['one']}", shas["fake"], folder=history.path)
        (commit,) = trusted.commits(history.path, base=shas["base"], head=shas["one"])
        assert commit.subject == "Honest"


def test_the_difference_is_the_changes_with_a_patch_for_each(tmp_path: Path) -> None:
    """Odd files: binary, empty, mode only, deleted, a path that looks like a header, no newline at the end."""
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    (work / "gone.txt").write_text("gone\n")
    (work / "mode.sh").write_text("true\n")
    (work / "text.txt").write_text("one\ntwo\n")
    run("add", "-A")
    run("commit", "-qm", "before")
    before = run("rev-parse", "HEAD")
    (work / "gone.txt").unlink()
    (work / "mode.sh").chmod(0o755)
    (work / "text.txt").write_text("diff --git a/x b/x\nno newline")
    (work / "empty").write_text("")
    (work / "binary").write_bytes(b"\x00\x01\x00")
    (work / 'new\nline\t"quote').write_text("x\n")
    run("add", "-A")
    run("commit", "-qm", "after")
    after = run("rev-parse", "HEAD")
    trusted = TrustedGit(GitSettings(allow_local=True))
    changes, patches = trusted.difference(work / ".git", base=before, head=after)
    assert changes == trusted.changes(work / ".git", base=before, head=after)
    assert len(changes) == len(patches) == 6
    for change, patch in zip(changes, patches, strict=True):
        assert patch.startswith("diff --git ")
        assert change.path.split("\n")[0] in patch
    assert trusted.difference(work / ".git", base=after, head=after) == ((), ())
    cut = trusted.difference(work / ".git", base=before, head=after, limit_bytes=20)
    assert cut == (changes, ())
    whole, nothing = (changes, patches), ((), ())
    size = sum(len(patch) for patch in patches)
    for limit in (100 * size, 3 * size):  # from one process, and one by one
        found = trusted.differences(
            work / ".git", bases=[after, before, before], head=after, limit_bytes=limit
        )
        assert found == (nothing, whole, whole)
    with pytest.raises(GitError):
        trusted.differences(work / ".git", bases=[before, "1" * 40], head=after)


@pytest.mark.parametrize("cuts", [1, 2])
def test_an_answer_that_was_cut_is_not_a_remote_without_branches(tmp_path: Path, cuts: int) -> None:
    """git takes headers that end early for an old server's empty list of refs, and says nothing."""
    with FakeGitServer(tmp_path / "remotes") as server:
        server.add_token("token")
        server.create_repository("acme", "widgets")
        for _ in range(cuts):
            server.fail("info/refs", drop=True)
        remote = RemoteRepository(f"{server.base_url}/acme/widgets.git", token="token")
        default, refs = TrustedGit(GitSettings(network_seconds=20)).default_branch_refs(remote, ["feat-x"])
    assert default == "main"
    assert set(refs.branches) == {"HEAD", "main"}
