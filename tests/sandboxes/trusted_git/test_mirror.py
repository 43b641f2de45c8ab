"""The trusted mirror: what it accepts from a sandbox, what it refuses, and that many may use it at once."""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import sandboxes.trusted_git.mirror
from sandboxes.errors import (
    BaseBranchMissing,
    BundleRejected,
    GitError,
    LockTimeout,
    LockWaitStopped,
    PushRejected,
    PushTooLarge,
)
from sandboxes.processes.host_lock import exclusive_lock
from sandboxes.processes.run import ExitReason, ProcessControl, controlled_by
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import MOST_PACKS, RepositoryMirror
from tests.fakes.git_http import FakeGitServer, branches, git
from tests.sandboxes.trusted_git.history import Entry, History, raw_commit, raw_tree

TOKEN = "ghp_writeTokenForTests0123456789"
BRANCH = "agent-work-order-1"
REF = f"refs/heads/{BRANCH}"
KEPT = "refs/work-orders/wo-1"
AUTHOR = "A <a@b.example> 1 +0000"


@pytest.fixture(scope="module")
def trusted() -> TrustedGit:
    return TrustedGit(GitSettings(allow_local=True, network_seconds=20))


@dataclass
class Place:
    """A mirror that was refreshed once, its remote, and a repository such as a sandbox has."""

    data_dir: Path
    mirror: RepositoryMirror
    remote: RemoteRepository
    upstream: History
    sandbox: Path
    base: str

    def bundle(self, *arguments: str) -> Path:
        path = self.data_dir / "outbox" / "work.bundle"
        path.parent.mkdir(exist_ok=True)
        git("bundle", "create", "--quiet", str(path), *arguments, folder=self.sandbox)
        return path

    def accept(self, bundle: Path, *, since: str = "", keep_as: str = KEPT) -> str:
        return self.mirror.accept_bundle(
            bundle, git_branch_name=BRANCH, descends_from=since or self.base, keep_as=keep_as
        )

    def state(self) -> tuple[str, list[str], list[str]]:
        """Refs, object files, and what lies in quarantine: what a refusal must not change."""
        path = self.mirror.path
        objects = sorted(str(file) for file in (path / "objects").rglob("*") if file.is_file())
        left = [str(file) for file in (self.data_dir / "quarantine").rglob("*")]
        return git("for-each-ref", folder=path), objects, left

    def commit(self, tree: str, parent: str, *, ref: str = REF, message: str = "Work") -> str:
        """A commit in the sandbox's repository, of an existing tree."""
        parents = f"parent {parent}\n" if parent else ""
        text = f"tree {tree}\n{parents}author {AUTHOR}\ncommitter {AUTHOR}\n\n{message}\n"
        sha = raw_commit(self.sandbox, text.encode())
        git("update-ref", ref, sha, folder=self.sandbox)
        return sha

    def blob(self, data: bytes) -> str:
        return git("hash-object", "-w", "--stdin", folder=self.sandbox, stdin=data)

    def work(self, name: str = "work.txt", *, parent: str = "", ref: str = REF) -> str:
        """An honest commit: one more file."""
        blob = self.blob(name.encode())
        tree = git("mktree", folder=self.sandbox, stdin=f"100644 blob {blob}\t{name}\n".encode())
        return self.commit(tree, parent or self.base, ref=ref, message=name)


@dataclass(frozen=True)
class Template:
    """What every test starts from, made once and copied: `upstream.git`, `data`, `sandbox.git` in `folder`."""

    folder: Path
    upstream: History


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, trusted: TrustedGit) -> Template:
    folder = tmp_path_factory.mktemp("template")
    upstream = History(folder / "upstream.git")
    upstream.commit("first", files={"README.md": "# Shop\n"})
    upstream.commit("base", after="first", files={"a.txt": "a\n"}, branch="main")
    upstream.write()
    mirror = RepositoryMirror(folder / "data", "local-shop", trusted)
    remote = RemoteRepository(f"file://{upstream.path}")
    mirror.refresh(remote, base_branch=None, git_branch_name=BRANCH)
    git("clone", "--quiet", "--bare", "--shared", str(mirror.path), str(folder / "sandbox.git"))
    return Template(folder, upstream)


@pytest.fixture
def place(tmp_path: Path, trusted: TrustedGit, template: Template) -> Place:
    for name in ("upstream.git", "data", "sandbox.git"):
        shutil.copytree(template.folder / name, tmp_path / name)
    upstream = template.upstream.copy_at(tmp_path / "upstream.git")
    mirror = RepositoryMirror(tmp_path / "data", "local-shop", trusted)
    (tmp_path / "sandbox.git" / "objects" / "info" / "alternates").write_text(f"{mirror.path}/objects\n")
    remote = RemoteRepository(f"file://{upstream.path}")
    base = upstream.shas["base"]
    return Place(tmp_path / "data", mirror, remote, upstream, tmp_path / "sandbox.git", base)


class TestRefresh:
    def test_the_default_branch(self, place: Place) -> None:
        point = place.mirror.refresh(place.remote, base_branch=None, git_branch_name=BRANCH)
        assert (point.default_branch, point.base_branch, point.base_sha) == ("main", "main", place.base)
        assert point.branch_sha is None

    def test_another_base_and_the_orders_branch(self, place: Place, trusted: TrustedGit) -> None:
        place.upstream.commit("release", after="first", branch="release/1")
        place.upstream.commit("order", after="base", branch=BRANCH)
        shas = place.upstream.write()
        point = place.mirror.refresh(place.remote, base_branch="release/1", git_branch_name=BRANCH)
        assert (point.base_branch, point.base_sha, point.branch_sha) == (
            "release/1",
            shas["release"],
            shas["order"],
        )
        assert all(trusted.has_commit(place.mirror.path, shas[name]) for name in ("release", "order"))

    def test_an_unknown_base_branch(self, place: Place) -> None:
        with pytest.raises(BaseBranchMissing, match="nowhere"):
            place.mirror.refresh(place.remote, base_branch="nowhere", git_branch_name=BRANCH)

    def test_a_detached_head_has_no_default_branch(self, place: Place) -> None:
        (place.upstream.path / "HEAD").write_text(place.base + "\n")
        with pytest.raises(BaseBranchMissing):
            place.mirror.refresh(place.remote, base_branch=None, git_branch_name=BRANCH)
        point = place.mirror.refresh(place.remote, base_branch="main", git_branch_name=BRANCH)
        assert point.base_sha == place.base

    def test_a_base_branch_that_was_rewritten(self, place: Place) -> None:
        place.upstream.commit("other", after="first", branch="main")
        shas = place.upstream.write()
        point = place.mirror.refresh(place.remote, base_branch=None, git_branch_name=BRANCH)
        assert point.base_sha == shas["other"]

    def test_a_branch_where_a_folder_of_branches_was(self, place: Place) -> None:
        for number, (new, old) in enumerate(
            (("topic", None), ("topic/one", "topic"), ("topic", "topic/one"))
        ):
            if old:
                git("update-ref", "-d", f"refs/heads/{old}", folder=place.upstream.path)
            place.upstream.commit(f"c{number}", f"{number}\n", after="base", branch=new)
            sha = place.upstream.write()[f"c{number}"]
            point = place.mirror.refresh(place.remote, base_branch=new, git_branch_name=BRANCH)
            assert point.base_sha == sha

    def test_nothing_is_fetched_twice(self, tmp_path: Path, trusted: TrustedGit) -> None:
        with FakeGitServer(tmp_path / "server") as server:
            server.add_token(TOKEN)
            server.create_repository("acme", "shop")
            mirror = RepositoryMirror(tmp_path / "data", "shop", trusted)
            remote = RemoteRepository(f"{server.base_url}/acme/shop.git", TOKEN)
            mirror.refresh(remote, base_branch=None, git_branch_name=BRANCH)
            before = len(server.requests)
            mirror.refresh(remote, base_branch=None, git_branch_name=BRANCH)
            # one ls-remote: refused without the token, advertised with it, listed
            assert len(server.requests) - before <= 3

    @pytest.mark.parametrize("half_made", ["empty", "no head", "empty head", "no objects", "junk"])
    def test_a_half_made_mirror_is_healed(
        self, tmp_path: Path, place: Place, trusted: TrustedGit, half_made: str
    ) -> None:
        mirror = RepositoryMirror(tmp_path / "other", "local-shop", trusted)
        mirror.path.mkdir(parents=True)
        if half_made != "empty":
            (mirror.path / "refs").mkdir()
        if half_made in {"empty head", "no head"}:
            (mirror.path / "objects").mkdir()
        if half_made in {"empty head", "no objects"}:
            (mirror.path / "HEAD").write_text("" if half_made == "empty head" else "ref: refs/heads/main\n")
        point = mirror.refresh(place.remote, base_branch=None, git_branch_name=BRANCH)
        assert trusted.has_commit(mirror.path, point.base_sha)

    def test_twelve_at_once_on_a_mirror_that_is_not_there(
        self, tmp_path: Path, place: Place, trusted: TrustedGit
    ) -> None:
        for number in range(12):
            place.upstream.commit(f"b{number}", after="base", branch=f"branch-{number}")
        shas = place.upstream.write()

        def refresh(number: int) -> str:
            mirror = RepositoryMirror(tmp_path / "other", "local-shop", trusted)
            point = mirror.refresh(place.remote, base_branch=f"branch-{number}", git_branch_name=BRANCH)
            assert trusted.has_commit(mirror.path, point.base_sha)
            return point.base_sha

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(refresh, range(12), timeout=60))
        assert found == [shas[f"b{number}"] for number in range(12)]
        assert [path.name for path in (tmp_path / "other" / "mirrors").iterdir()] == ["local-shop.git"]


class TestLock:
    def test_excludes_and_times_out(self, tmp_path: Path) -> None:
        path = tmp_path / "locks" / "one.lock"
        with exclusive_lock(path):
            with pytest.raises(LockTimeout), exclusive_lock(path, timeout_seconds=0.05):
                raise AssertionError("both hold it")
            with exclusive_lock(path.with_name("two.lock"), timeout_seconds=0.05):
                pass
        with exclusive_lock(path, timeout_seconds=0.05):
            pass

    def test_is_let_go_after_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), exclusive_lock(tmp_path / "lock"):
            raise ZeroDivisionError
        with exclusive_lock(tmp_path / "lock", timeout_seconds=0.05):
            pass

    def test_a_stopped_step_waits_no_longer(self, tmp_path: Path) -> None:
        control = ProcessControl()
        control.exit_within(0.05, ExitReason.STOPPED)
        path = tmp_path / "lock"
        waiting = exclusive_lock(path, timeout_seconds=5)
        with exclusive_lock(path), controlled_by(control), pytest.raises(LockWaitStopped), waiting:
            raise AssertionError("both hold it")


class TestAccepts:
    def test_a_good_bundle(self, place: Place, trusted: TrustedGit) -> None:
        one = place.work("one")
        two = place.work("two", parent=one)
        before = place.state()
        assert place.accept(place.bundle(REF, f"^{place.base}")) == two
        refs, _, left = place.state()
        assert left == []
        assert trusted.ref_sha(place.mirror.path, KEPT) == two
        assert set(refs.splitlines()) - set(before[0].splitlines()) == {f"{two} commit\t{KEPT}"}
        found = trusted.commits(place.mirror.path, base=place.base, head=two)
        assert [commit.sha for commit in found] == [one, two]

    def test_again(self, place: Place) -> None:
        sha = place.work()
        bundle = place.bundle(REF, f"^{place.base}")
        assert [place.accept(bundle), place.accept(bundle)] == [sha, sha]

    def test_a_thin_pack(self, place: Place, trusted: TrustedGit) -> None:
        """A delta against the mirror's own objects."""
        text = "".join(f"line {number}\n" for number in range(2000))
        place.upstream.commit("big", after="base", files={"big.txt": text}, branch="main")
        base = place.upstream.write()["big"]
        place.mirror.refresh(place.remote, base_branch=None, git_branch_name=BRANCH)
        blob = place.blob((text + "one more\n").encode())
        tree = git("mktree", folder=place.sandbox, stdin=f"100644 blob {blob}\tbig.txt\n".encode())
        sha = place.commit(tree, base)
        bundle = place.bundle(REF, f"^{base}")
        assert bundle.stat().st_size < 2000
        assert place.accept(bundle, since=base) == sha
        assert trusted.read_file(place.mirror.path, sha, "big.txt") == (text + "one more\n").encode()

    def test_merges_links_submodules_and_odd_names(self, place: Place) -> None:
        side = place.work("side", ref="refs/heads/side")
        git_modules = place.blob(b'[submodule "x"]\n\tpath = x\n\turl = https://example.com/x\n')
        link, file = place.blob(b"/etc/passwd"), place.blob(b"x")
        lines = [
            f"100644 blob {git_modules}\t.gitmodules",
            f"120000 blob {link}\tlink",
            f"160000 commit {'1' * 40}\tx",
            f'100644 blob {file}\t"new\\nline"',
        ]
        tree = git("mktree", "--missing", folder=place.sandbox, stdin="\n".join(lines).encode() + b"\n")
        text = (
            f"tree {tree}\nparent {place.base}\nparent {side}\nauthor {AUTHOR}\ncommitter {AUTHOR}\n\nMerge\n"
        )
        sha = raw_commit(place.sandbox, text.encode())
        git("update-ref", REF, sha, folder=place.sandbox)
        assert place.accept(place.bundle(REF, f"^{place.base}")) == sha

    def test_the_whole_history_is_welcome_too(self, place: Place) -> None:
        sha = place.work()
        assert place.accept(place.bundle(REF)) == sha

    def test_nothing_new(self, place: Place) -> None:
        git("update-ref", REF, place.base, folder=place.sandbox)
        assert place.accept(place.bundle(REF)) == place.base

    def test_twelve_at_once(self, place: Place, trusted: TrustedGit) -> None:
        shas, bundles = [], []
        for number in range(12):
            shas.append(place.work(f"file-{number}"))
            bundle = place.bundle(REF, f"^{place.base}")
            bundles.append(bundle.rename(bundle.with_name(f"{number}.bundle")))
            place.upstream.commit(f"b{number}", after="base", branch=f"branch-{number}")
        place.upstream.write()

        def both(number: int) -> str:
            place.mirror.refresh(place.remote, base_branch=f"branch-{number}", git_branch_name=BRANCH)
            return place.accept(bundles[number], keep_as=f"refs/work-orders/wo-{number}")

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(both, range(12), timeout=60)) == shas
        for number, sha in enumerate(shas):
            assert trusted.ref_sha(place.mirror.path, f"refs/work-orders/wo-{number}") == sha
            assert trusted.ref_sha(place.mirror.path, f"refs/remotes/origin/branch-{number}")
            assert trusted.read_file(place.mirror.path, sha, f"file-{number}") == f"file-{number}".encode()
        git("fsck", "--connectivity-only", folder=place.mirror.path)
        assert place.state()[2] == []

    def test_the_same_bundle_many_times_at_once(self, place: Place) -> None:
        sha = place.work()
        bundle = place.bundle(REF, f"^{place.base}")
        with ThreadPoolExecutor(6) as pool:
            found = list(
                pool.map(lambda n: place.accept(bundle, keep_as=f"{KEPT}-{n}"), range(6), timeout=60)
            )
        assert found == [sha] * 6

    def test_a_dead_writers_lock_of_the_kept_ref_is_cleared_at_once(
        self, place: Place, trusted: TrustedGit
    ) -> None:
        sha = place.work()
        lock = place.mirror.path / f"{KEPT}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        bundle = place.bundle(REF, f"^{place.base}")
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(GitError, match="lock"):
                place.accept(bundle)  # its writer lives
        assert place.accept(bundle) == sha
        assert trusted.ref_sha(place.mirror.path, KEPT) == sha
        assert not lock.exists()


def test_many_bundles_leave_few_packs_and_every_commit(place: Place, trusted: TrustedGit) -> None:
    def accept(number: int, parent: str) -> str:
        place.work(f"{number}.txt", parent=parent)
        bundle = place.bundle(BRANCH, f"^{parent}")
        return place.accept(bundle, since=parent, keep_as=f"refs/work-orders/{number}")

    packs = place.mirror.path / "objects" / "pack"
    heads = [place.base]
    with exclusive_lock(place.data_dir / "locks" / "local-shop.lock"):  # a fetch, say: joining packs can wait
        for number in range(MOST_PACKS + 1):
            heads.append(accept(number, heads[-1]))
    assert len(list(packs.glob("*.pack"))) > MOST_PACKS
    heads.append(accept(MOST_PACKS + 1, heads[-1]))
    assert len(list(packs.glob("*.pack"))) <= 3
    assert not list((place.mirror.path / "refs" / "work-orders").rglob("*"))
    assert (
        len(git("for-each-ref", "refs/work-orders", folder=place.mirror.path).splitlines()) == len(heads) - 1
    )
    found = trusted.commits(place.mirror.path, base=place.base, head=heads[-1])
    assert [commit.sha for commit in found] == heads[1:]


def two_refs(place: Place) -> Path:
    place.work("one")
    place.work("two", ref="refs/heads/second")
    return place.bundle(REF, "refs/heads/second", f"^{place.base}")


def no_refs(place: Place) -> Path:
    place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    header, _, pack = bundle.read_bytes().partition(b"\n\n")
    lines = [line for line in header.split(b"\n") if not line.endswith(REF.encode())]
    bundle.write_bytes(b"\n".join(lines) + b"\n\n" + pack)
    return bundle


def other_ref(place: Place) -> Path:
    place.work(ref="refs/heads/main-2")
    return place.bundle("refs/heads/main-2", f"^{place.base}")


def a_ref_that_only_ends_alike(place: Place) -> Path:
    place.work(ref=f"refs/heads/x/{REF}")
    return place.bundle(f"refs/heads/x/{REF}", f"^{place.base}")


def not_descending(place: Place) -> Path:
    place.work(parent=place.upstream.shas["first"])
    return place.bundle(REF, f"^{place.upstream.shas['first']}")


def without_any_parent(place: Place) -> Path:
    tree = git("mktree", folder=place.sandbox)
    place.commit(tree, "")
    return place.bundle(REF)


def truncated(place: Place) -> Path:
    place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    bundle.write_bytes(bundle.read_bytes()[:-30])
    return bundle


def cut_in_the_header(place: Place) -> Path:
    place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    bundle.write_bytes(bundle.read_bytes()[:50])
    return bundle


def header_only(place: Place) -> Path:
    place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    bundle.write_bytes(bundle.read_bytes().partition(b"\n\n")[0] + b"\n\n")
    return bundle


def flipped_bits(place: Place) -> Path:
    place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    data = bytearray(bundle.read_bytes())
    data[-40] ^= 0xFF
    bundle.write_bytes(data)
    return bundle


def _file(place: Place, data: bytes) -> Path:
    path = place.data_dir / "outbox" / "any.bundle"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def garbage(place: Place) -> Path:
    return _file(place, os.urandom(5000))


def empty(place: Place) -> Path:
    return _file(place, b"")


def endless_header(place: Place) -> Path:
    return _file(place, b"# v2 git bundle\n" + b"-" + b"0" * 40 + b" x\n" * 100_000)


def endless_line(place: Place) -> Path:
    return _file(place, b"# v2 git bundle\n" + b"0" * 5_000_000)


def version_3(place: Place) -> Path:
    place.work()
    path = place.data_dir / "outbox" / "v3.bundle"
    path.parent.mkdir(exist_ok=True)
    git("bundle", "create", "--quiet", "--version=3", str(path), REF, f"^{place.base}", folder=place.sandbox)
    assert path.read_bytes().startswith(b"# v3 git bundle")
    return path


def _with_header(place: Place, *lines: str, pack: bool = True) -> Path:
    """A good bundle's pack under another header."""
    sha = place.work()
    _, _, data = place.bundle(REF, f"^{place.base}").read_bytes().partition(b"\n\n")
    header = "\n".join(lines).format(sha=sha, base=place.base)
    return _file(place, header.encode() + b"\n\n" + (data if pack else b""))


def a_head_instead_of_a_branch(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", "-{base} base", "{sha} HEAD")


def a_head_beside_the_branch(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", "-{base} base", f"{{sha}} {REF}", "{sha} HEAD")


def the_same_ref_twice(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", f"{{sha}} {REF}", f"{{base}} {REF}")


def a_ref_with_more_behind_it(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", f"{{sha}} {REF}\0refs/heads/main")


def a_symbolic_ref(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", f"ref: refs/heads/main {REF}")


def a_short_sha(place: Place) -> Path:
    sha = place.work()[:12]
    return _with_header(place, "# v2 git bundle", f"{sha} {REF}")


def sha256_objects(place: Place) -> Path:
    return _with_header(place, "# v3 git bundle", "@object-format=sha256", f"{'a' * 64} {REF}")


def a_filter(place: Place) -> Path:
    return _with_header(place, "# v3 git bundle", "@filter=blob:none", f"{{sha}} {REF}")


def a_version_of_the_future(place: Place) -> Path:
    return _with_header(place, "# v4 git bundle", "-{base} base", f"{{sha}} {REF}")


def a_capability_in_version_2(place: Place) -> Path:
    return _with_header(place, "# v2 git bundle", "@filter=blob:none", f"{{sha}} {REF}")


def two_bundles_in_one(place: Place) -> Path:
    first = _with_header(place, "# v2 git bundle", f"{{sha}} {REF}", pack=False).read_bytes()
    return _file(place, first * 2)


def a_thin_pack_without_its_base(place: Place) -> Path:
    """A delta against a file that only the sandbox has."""
    text, parent = "".join(f"line {number}\n" for number in range(2000)).encode(), place.base
    for content in (text, text + b"one more\n"):
        entry = f"100644 blob {place.blob(content)}\tbig.txt\n"
        tree = git("mktree", folder=place.sandbox, stdin=entry.encode())
        parent, hidden = place.commit(tree, parent), parent
    git("update-ref", REF, parent, folder=place.sandbox)
    bundle = place.bundle(REF, f"^{hidden}")
    assert bundle.stat().st_size < 2000
    return bundle


def missing_prerequisites(place: Place) -> Path:
    """Commits on top of one that only the sandbox has."""
    middle = place.work("one")
    place.work("two", parent=middle)
    return place.bundle(REF, f"^{middle}")


def lying_about_the_head(place: Place) -> Path:
    """The header names a commit that is in no pack."""
    sha = place.work()
    bundle = place.bundle(REF, f"^{place.base}")
    bundle.write_bytes(bundle.read_bytes().replace(sha.encode(), b"1" * 40, 1))
    return bundle


def missing_blob(place: Place) -> Path:
    tree = raw_tree(place.sandbox, [(b"100644", b"file", "1" * 40)])
    sha = place.commit(tree, place.base)
    return _packed(place, [sha, tree], sha)


def _packed(place: Place, objects: list[str], head: str) -> Path:
    """A bundle by hand, of exactly these objects."""
    stem = place.data_dir / "outbox" / "pack"
    stem.parent.mkdir(exist_ok=True)
    name = git(
        "pack-objects", "-q", str(stem), folder=place.sandbox, stdin="\n".join(objects).encode() + b"\n"
    )
    pack = Path(f"{stem}-{name}.pack").read_bytes()
    return _file(place, f"# v2 git bundle\n-{place.base} base\n{head} {REF}\n\n".encode() + pack)


def a_tag_instead_of_a_commit(place: Place) -> Path:
    sha = place.work()
    tree = git("rev-parse", f"{sha}^{{tree}}", folder=place.sandbox)
    blob = git("rev-parse", f"{sha}:work.txt", folder=place.sandbox)
    text = f"object {sha}\ntype commit\ntag v1\ntagger {AUTHOR}\n\nA tag\n"
    tag = git("hash-object", "-t", "tag", "-w", "--stdin", folder=place.sandbox, stdin=text.encode())
    return _packed(place, [sha, tree, blob, tag], tag)


def a_tree_instead_of_a_commit(place: Place) -> Path:
    sha = place.work()
    tree = git("rev-parse", f"{sha}^{{tree}}", folder=place.sandbox)
    blob = git("rev-parse", f"{sha}:work.txt", folder=place.sandbox)
    return _packed(place, [sha, tree, blob], tree)


def _bad_tree(place: Place, entries: list[tuple[bytes, bytes]]) -> Path:
    blob = place.blob(b"[core]\n\tfsmonitor = touch /tmp/canary\n")
    tree = raw_tree(place.sandbox, [(mode, name, blob) for mode, name in entries])
    sha = place.commit(tree, place.base)
    return _packed(place, [sha, tree, blob], sha)


def tree_with_dot_git(place: Place) -> Path:
    return _bad_tree(place, [(b"100644", b".git")])


def tree_with_dot_git_in_disguise(place: Place) -> Path:
    return _bad_tree(place, [(b"100644", "\u200c.Git".encode())])


def tree_with_dot_dot(place: Place) -> Path:
    return _bad_tree(place, [(b"100644", b"..")])


def tree_with_a_slash(place: Place) -> Path:
    return _bad_tree(place, [(b"100644", b"../../etc/cron.d/x")])


def tree_with_an_entry_twice(place: Place) -> Path:
    return _bad_tree(place, [(b"100644", b"a"), (b"100644", b"a")])


def tree_with_a_null_sha(place: Place) -> Path:
    tree = raw_tree(place.sandbox, [(b"160000", b"sub", "0" * 40)])
    sha = place.commit(tree, place.base)
    return _packed(place, [sha, tree], sha)


def git_modules_that_are_a_link(place: Place) -> Path:
    blob = place.blob(b"elsewhere")
    tree = raw_tree(place.sandbox, [(b"120000", b".gitmodules", blob)])
    sha = place.commit(tree, place.base)
    return _packed(place, [sha, tree, blob], sha)


def git_modules_with_an_option_as_url(place: Place) -> Path:
    blob = place.blob(b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch /tmp/canary\n')
    tree = raw_tree(place.sandbox, [(b"100644", b".gitmodules", blob)])
    sha = place.commit(tree, place.base)
    return _packed(place, [sha, tree, blob], sha)


def _bad_commit(place: Place, text: bytes) -> Path:
    tree = git("mktree", folder=place.sandbox)
    sha = raw_commit(
        place.sandbox, text.replace(b"TREE", tree.encode()).replace(b"BASE", place.base.encode())
    )
    return _packed(place, [sha, tree], sha)


def commit_with_a_nul(place: Place) -> Path:
    author = AUTHOR.encode()
    return _bad_commit(
        place, b"tree TREE\nparent BASE\nauthor %b\ncommitter %b\n\nshown\0hidden\n" % (author, author)
    )


def commit_without_an_author(place: Place) -> Path:
    return _bad_commit(place, b"tree TREE\nparent BASE\ncommitter A <a@b> 1 +0000\n\nx\n")


REFUSED: tuple[Callable[[Place], Path], ...] = (
    two_refs,
    no_refs,
    other_ref,
    a_ref_that_only_ends_alike,
    not_descending,
    without_any_parent,
    truncated,
    cut_in_the_header,
    header_only,
    flipped_bits,
    garbage,
    empty,
    endless_header,
    endless_line,
    version_3,
    a_head_instead_of_a_branch,
    a_head_beside_the_branch,
    the_same_ref_twice,
    a_ref_with_more_behind_it,
    a_symbolic_ref,
    a_short_sha,
    sha256_objects,
    a_filter,
    a_version_of_the_future,
    a_capability_in_version_2,
    two_bundles_in_one,
    a_thin_pack_without_its_base,
    missing_prerequisites,
    lying_about_the_head,
    missing_blob,
    a_tag_instead_of_a_commit,
    a_tree_instead_of_a_commit,
    tree_with_dot_git,
    tree_with_dot_git_in_disguise,
    tree_with_dot_dot,
    tree_with_a_slash,
    tree_with_an_entry_twice,
    tree_with_a_null_sha,
    git_modules_that_are_a_link,
    git_modules_with_an_option_as_url,
    commit_with_a_nul,
    commit_without_an_author,
)


class TestRefuses:
    @pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
    def test_and_changes_nothing(self, place: Place, make: Callable[[Place], Path]) -> None:
        bundle = make(place)
        before = place.state()
        with pytest.raises(BundleRejected) as caught:
            place.accept(bundle)
        assert caught.value.retryable
        assert place.state() == before
        assert before[2] == []

    def test_what_is_over_the_limit(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandboxes.trusted_git.mirror, "BUNDLE_LIMIT_BYTES", 100)
        place.work()
        before = place.state()
        with pytest.raises(PushTooLarge, match="over the limit of 100"):
            place.accept(place.bundle(REF, f"^{place.base}"))
        assert place.state() == before

    def test_a_sandbox_that_vanished_left_no_bundle(self, place: Place) -> None:
        with pytest.raises(BundleRejected, match="no bundle"):
            place.accept(place.data_dir / "outbox" / "missing.bundle")

    def test_a_rewritten_history_of_an_earlier_step(self, place: Place) -> None:
        first = place.work("planned")
        place.accept(place.bundle(REF, f"^{place.base}"))
        place.work("rewritten")
        with pytest.raises(BundleRejected, match="rewritten"):
            place.accept(place.bundle(REF, f"^{place.base}"), since=first)

    def test_hooks_and_configuration_of_the_bundle_do_not_exist(self, place: Place) -> None:
        """Nothing but objects crosses: the mirror's folder holds only what `git init` made, and packs."""
        place.work()
        (place.sandbox / "hooks").mkdir(exist_ok=True)
        (place.sandbox / "hooks" / "post-index-change").write_text("#!/bin/sh\n")
        place.accept(place.bundle(REF, f"^{place.base}"))
        assert not (place.mirror.path / "hooks").exists()
        assert "alternates" not in os.listdir(place.mirror.path / "objects" / "info")  # noqa: PTH208  # names alone


class TestPush:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[FakeGitServer]:
        with FakeGitServer(tmp_path / "server") as running:
            running.add_token(TOKEN)
            running.create_repository("acme", "shop")
            yield running

    @pytest.fixture
    def pushing(self, place: Place, server: FakeGitServer, trusted: TrustedGit) -> Place:
        """The place with the HTTP remote, two accepted commits, and a mirror that knows both."""
        place.remote = RemoteRepository(f"{server.base_url}/acme/shop.git", TOKEN)
        git(
            "push",
            "--quiet",
            "--force",
            str(server.repository_path("acme", "shop")),
            "main:main",
            folder=place.upstream.path,
        )
        return place

    def remote_branches(self, server: FakeGitServer) -> dict[str, str]:
        return branches(server.repository_path("acme", "shop"))

    def pushes(self, server: FakeGitServer) -> int:
        return sum(
            request.method == "POST" and request.service == "git-receive-pack" for request in server.requests
        )

    def test_moves_one_ref_and_is_idempotent(self, pushing: Place, server: FakeGitServer) -> None:
        before = self.remote_branches(server)
        sha = pushing.work()
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        for _ in range(3):
            pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
        assert self.remote_branches(server) == {**before, BRANCH: sha}
        assert self.pushes(server) == 1

    def test_goes_forward(self, pushing: Place, server: FakeGitServer) -> None:
        one = pushing.work("one")
        two = pushing.work("two", parent=one)
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        pushing.mirror.push(pushing.remote, sha=one, git_branch_name=BRANCH)
        pushing.mirror.push(pushing.remote, sha=two, git_branch_name=BRANCH)
        assert self.remote_branches(server)[BRANCH] == two

    def test_never_back_nor_aside(self, pushing: Place, server: FakeGitServer) -> None:
        one = pushing.work("one")
        two = pushing.work("two", parent=one)
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        aside = pushing.work("aside")
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        pushing.mirror.push(pushing.remote, sha=two, git_branch_name=BRANCH)
        for sha in (one, aside):
            with pytest.raises(PushRejected, match="Somebody else moved"):
                pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
        assert self.remote_branches(server)[BRANCH] == two

    def test_a_commit_the_mirror_does_not_know(self, pushing: Place, server: FakeGitServer) -> None:
        sha = pushing.work()
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        path = server.repository_path("acme", "shop")
        tree = git("rev-parse", "main^{tree}", folder=path)
        theirs = raw_commit(path, f"tree {tree}\nauthor {AUTHOR}\ncommitter {AUTHOR}\n\nTheirs\n".encode())
        git("update-ref", REF, theirs, folder=path)
        with pytest.raises(PushRejected) as caught:
            pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
        assert not caught.value.retryable
        assert self.remote_branches(server)[BRANCH] == theirs

    def test_moved_between_the_look_and_the_push(
        self, pushing: Place, server: FakeGitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha = pushing.work()
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        honest = TrustedGit.push

        def late(self: TrustedGit, *arguments: Path | RemoteRepository, **named: str) -> None:
            git("update-ref", REF, pushing.base, folder=server.repository_path("acme", "shop"))
            honest(self, *arguments, **named)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr(TrustedGit, "push", late)
        with pytest.raises(PushRejected):
            pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
        assert self.remote_branches(server)[BRANCH] == pushing.base

    def test_what_was_seen_a_moment_ago_spares_the_look(self, pushing: Place, server: FakeGitServer) -> None:
        one = pushing.work("one")
        two = pushing.work("two", parent=one)
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        pushing.mirror.push(pushing.remote, sha=one, git_branch_name=BRANCH, seen="")
        assert {request.service for request in server.requests} == {"git-receive-pack"}
        before = len(server.requests)
        pushing.mirror.push(pushing.remote, sha=one, git_branch_name=BRANCH, seen=one)
        assert len(server.requests) == before
        with pytest.raises(PushRejected):
            pushing.mirror.push(pushing.remote, sha=two, git_branch_name=BRANCH, seen=pushing.base)
        assert self.remote_branches(server)[BRANCH] == one

    @pytest.mark.parametrize("fault", ["dropped", "bad gateway"])
    def test_done_but_the_answer_was_lost(self, pushing: Place, server: FakeGitServer, fault: str) -> None:
        sha = pushing.work()
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        server.fail("/git-receive-pack$", drop=fault == "dropped", status=502, execute=True)
        pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
        assert self.remote_branches(server)[BRANCH] == sha
        assert self.pushes(server) == 1

    def test_a_look_that_was_cut_is_worth_another_try(self, pushing: Place, server: FakeGitServer) -> None:
        one = pushing.work("one")
        two = pushing.work("two", parent=one)
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        pushing.mirror.push(pushing.remote, sha=one, git_branch_name=BRANCH, seen="")
        server.fail("info/refs", drop=True)
        with pytest.raises(GitError) as caught:
            pushing.mirror.push(pushing.remote, sha=two, git_branch_name=BRANCH, seen=one)
        assert not isinstance(caught.value, PushRejected)
        assert caught.value.retryable
        pushing.mirror.push(pushing.remote, sha=two, git_branch_name=BRANCH, seen=one)
        assert self.remote_branches(server)[BRANCH] == two

    def test_six_at_once(self, pushing: Place, server: FakeGitServer) -> None:
        sha = pushing.work()
        pushing.accept(pushing.bundle(REF, f"^{pushing.base}"))
        errors: list[Exception] = []

        def push() -> None:
            try:
                pushing.mirror.push(pushing.remote, sha=sha, git_branch_name=BRANCH)
            except GitError as error:
                errors.append(error)

        threads = [threading.Thread(target=push) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert self.remote_branches(server)[BRANCH] == sha


def test_what_the_helper_makes_is_what_git_reads(place: Place) -> None:
    """The hostile trees above are really hostile: git's own fsck names them."""
    place.upstream.commit("odd", after="base", files={"link": Entry("120000", b"/etc/passwd")})
    sha = place.upstream.write()["odd"]
    assert git("ls-tree", sha, "link", folder=place.upstream.path).startswith("120000 blob")


def test_a_gitmodules_that_was_there_before_is_no_work_of_the_agents(place: Place) -> None:
    """git looks at it again in every tree that keeps it; one that an agent changes is looked at as ever."""

    def kept(url: str, parent: str) -> str:
        odd = place.blob(f'[submodule "x"]\n\tpath = x\n\turl = {url}\n'.encode())
        work = place.blob(url.encode() + parent.encode())
        tree = raw_tree(place.sandbox, [(b"100644", b".gitmodules", odd), (b"100644", b"work", work)])
        return place.commit(tree, parent)

    base = kept("--upload-pack=touch /tmp/canary", place.base)
    git("fetch", "--quiet", str(place.sandbox), f"{base}:refs/heads/odd", folder=place.mirror.path)
    head = kept("--upload-pack=touch /tmp/canary", base)
    assert place.accept(place.bundle(REF, f"^{base}"), since=base) == head
    kept("--upload-pack=touch /tmp/other", base)
    with pytest.raises(BundleRejected, match="gitmodulesUrl"):
        place.accept(place.bundle(REF, f"^{base}"), since=base)
