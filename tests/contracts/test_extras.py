"""Submodules and Git LFS in a checkout, in every local backend: there, clean, and what an agent adds comes out."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxes.errors import SandboxError
from sandboxes.extras.lfs_pointers import LfsPointer
from sandboxes.extras.lfs_store import LfsStore
from sandboxes.extras.placed import Extras, PlacedSubmodule
from sandboxes.local.sandbox import LocalSandbox
from sandboxes.sweep.rules import LeftOut
from tests.contracts.yard import COMBINATIONS, KEY, LOCALLY, Yard, said, sh
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.fakes.lfs import pointer

PICTURE = b"\x89PNG\r\n\x1a\n\x00" + bytes(range(256)) * 40
TEXT = b"a large text\n"
ATTRIBUTES = "*.png filter=lfs diff=lfs merge=lfs -text\n*.big filter=lfs\n"


def base_with(yard: Yard, files: dict[str, str], links: dict[str, str]) -> str:
    """A commit in the mirror with those files and gitlinks."""
    stream = b"commit refs/heads/extras\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
    for path, text in files.items():
        stream += f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n".encode()
    for path, sha in links.items():
        stream += f"M 160000 {sha} {path}\n".encode()
    git("fast-import", "--quiet", folder=yard.mirror.path, stdin=stream + b"\n")
    return branches(yard.mirror.path)["extras"]


def made(yard: Yard, extras: Extras, sha: str) -> LocalSandbox:
    sandbox = yard.make(spec=replace(yard.spec(start=sha), base_sha=sha, extras=extras))
    assert isinstance(sandbox, LocalSandbox)
    sandbox.setup()
    return sandbox


def stored(yard: Yard, *contents: bytes) -> LfsStore:
    store = LfsStore(yard.data_dir, KEY)
    store.prepare()
    for content in contents:
        assert store.take(LfsPointer(sha256(content).hexdigest(), len(content)), [content])
    return store


@pytest.fixture
def library(yard: Yard) -> PlacedSubmodule:
    path = yard.data_dir / "mirrors" / "_submodules" / "lib.git"
    sha = create_bare_repository(path, {"lib.c": "int lib;\n", "deep/er.txt": "x\n"})
    return PlacedSubmodule("vendor/lib", "libs/x", sha, path / "objects", "https://github.com/acme/lib.git")


@LOCALLY
class TestSubmodules:
    def test_are_filled_and_git_says_so(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha, "libs/other": "1" * 40})
        sandbox = made(yard, Extras(submodules=(library,)), sha)
        assert said(sandbox, "cat libs/x/lib.c libs/x/deep/er.txt") == "int lib;\nx"
        assert said(sandbox, "git status --porcelain") == ""
        assert said(sandbox, "git -C libs/x status --porcelain; git -C libs/x rev-parse HEAD") == library.sha
        assert said(sandbox, "git -C libs/x log --format=%s") == "Initial commit"
        assert said(sandbox, "git -C libs/x fsck") == ""
        lines = said(sandbox, "git submodule--helper status 2>/dev/null || git ls-files -s libs").split("\n")
        assert any(library.sha in line for line in lines)
        assert said(sandbox, "git config submodule.vendor/lib.url") == "https://github.com/acme/lib.git"
        assert said(sandbox, "ls -A libs/other") == ""
        assert sh(sandbox, "git submodule update libs/x").ok, "nothing has to be fetched"
        assert sandbox.unplaced == ()

    def test_nothing_of_it_is_work(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha})
        sandbox = made(yard, Extras(submodules=(library,)), sha)
        bundle = yard.data_dir / "outbox" / "x.bundle"
        assert not sandbox.export_bundle(bundle, limit_bytes=10**7, leftovers_message="chore: keep")
        assert sandbox.left_out == ()

    def test_its_mirror_cannot_be_written(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha})
        sandbox = made(yard, Extras(submodules=(library,)), sha)
        if yard.isolated:
            assert not sh(sandbox, f"echo x > {library.objects}/planted").ok
        said(sandbox, "cd libs/x && echo more >> lib.c && git commit -qam More")
        assert list(library.objects.glob("??/*")) + list((library.objects / "pack").glob("*.idx"))
        assert not [path for path in library.objects.rglob("*") if path.name == "planted"]

    def test_one_that_cannot_be_checked_out_is_left_empty(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha, "libs/y": "2" * 40})
        missing = replace(library, name="y", path="libs/y", sha="2" * 40)
        sandbox = made(yard, Extras(submodules=(missing, library)), sha)
        assert sandbox.unplaced == ("libs/y",)
        assert said(sandbox, "ls -A libs/y; ls libs/x") == "deep\nlib.c"
        assert said(sandbox, "git status --porcelain") == ""

    def test_what_is_left_inside_one_is_said(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha})
        sandbox = made(yard, Extras(submodules=(library,)), sha)
        said(sandbox, "echo more >> libs/x/lib.c")
        later = yard.make(spec=replace(sandbox.spec, extras=Extras()))
        bundle = yard.data_dir / "outbox" / "x.bundle"
        assert not later.export_bundle(bundle, limit_bytes=10**7, leftovers_message="chore: keep")
        assert later.left_out == (LeftOut("submodule_changes", "libs/x"),)

    def test_a_later_worker_finds_them(self, yard: Yard, library: PlacedSubmodule) -> None:
        sha = base_with(yard, {"a.txt": "a\n"}, {"libs/x": library.sha})
        first = made(yard, Extras(submodules=(library,)), sha)
        first.mark_idle(sha)
        again = yard.make(spec=replace(yard.spec(start=sha), base_sha=sha))
        assert again.attach(first.handle)
        assert (
            said(again, "git -C libs/x status --porcelain; git status --porcelain; ls libs/x")
            == "deep\nlib.c"
        )


@LOCALLY
class TestLfs:
    def test_contents_stand_in_the_checkout_and_pointers_in_git(self, yard: Yard) -> None:
        store = stored(yard, PICTURE)
        files = {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE), "b.big": pointer(TEXT)}
        sandbox = made(yard, Extras(lfs_objects=store.path), base_with(yard, files, {}))
        digest = sha256(PICTURE).hexdigest()
        assert said(sandbox, "sha256sum < a.png").split()[0] == digest
        assert said(sandbox, "cat b.big") == pointer(TEXT).strip(), "what was not fetched stays a pointer"
        assert said(sandbox, "git status --porcelain") == ""
        said(sandbox, "touch a.png b.big && cp a.png c && mv c a.png")
        assert said(sandbox, "git status --porcelain; git add -A; git diff --cached --stat") == ""

    def test_a_pointer_that_would_not_come_back_the_same_stays_one(self, yard: Yard) -> None:
        store = stored(yard, PICTURE)
        text = pointer(PICTURE)
        odd = {
            "size.png": text.replace("size ", "size 1"),
            "line.png": text.rstrip("\n"),
            "ext.png": text.replace("oid", f"ext-0-x sha256:{'0' * 64}\noid"),
            "more.png": text + "more\n",
        }
        files = {".gitattributes": ATTRIBUTES, "a.png": text, **odd}
        sandbox = made(yard, Extras(lfs_objects=store.path), base_with(yard, files, {}))
        said(sandbox, "touch *.png")
        assert said(sandbox, "git status --porcelain; git add -A; git diff --cached --stat") == ""
        assert said(sandbox, "sha256sum < a.png").split()[0] == sha256(PICTURE).hexdigest()
        for name, content in odd.items():
            assert said(sandbox, f"cat {name}") == content.strip()

    def test_untouched_or_only_touched_files_are_no_work(self, yard: Yard) -> None:
        store = stored(yard, PICTURE)
        files = {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE), "b.big": pointer(TEXT)}
        sandbox = made(yard, Extras(lfs_objects=store.path), base_with(yard, files, {}))
        said(sandbox, "touch -d '2001-01-01' a.png b.big")
        sandbox.mark_idle("")
        later = yard.make(spec=replace(sandbox.spec, extras=Extras()))  # another worker, for salvage
        bundle = yard.data_dir / "outbox" / "x.bundle"
        assert not later.export_bundle(bundle, limit_bytes=10**7, leftovers_message="chore: keep")
        archive = yard.data_dir / "outbox" / "x.tar"
        if later.export_lfs(archive, limit_bytes=10**7):
            assert store.take_archive(archive) == ()

    def test_what_an_agent_adds_is_a_pointer_and_its_content_comes_out(self, yard: Yard) -> None:
        store = stored(yard, PICTURE)
        files = {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE)}
        sandbox = made(yard, Extras(lfs_objects=store.path), base_with(yard, files, {}))
        said(sandbox, "printf 'new\\000content' > new.png; : > empty.png; git add -A; git commit -qm New")
        new = b"new\0content"
        assert said(sandbox, "git show HEAD:new.png") == pointer(new).strip()
        assert said(sandbox, "git show HEAD:empty.png | wc -c") == "0"
        assert said(sandbox, "rm new.png && git checkout -q new.png && sha256sum < new.png").split()[0] == (
            sha256(new).hexdigest()
        )
        archive = yard.data_dir / "outbox" / "x.tar"
        assert sandbox.export_lfs(archive, limit_bytes=10**7)
        assert store.take_archive(archive) == (LfsPointer(sha256(new).hexdigest(), len(new)),)
        assert store.place_of(sha256(new).hexdigest()).read_bytes() == new
        assert sandbox.export_lfs(archive, limit_bytes=10**7)
        assert store.take_archive(archive) == (), "it need not come twice"

    def test_hostile_contents_are_not_taken(self, yard: Yard) -> None:
        store = stored(yard, PICTURE)
        sandbox = made(
            yard, Extras(lfs_objects=store.path), base_with(yard, {".gitattributes": ATTRIBUTES}, {})
        )
        name, git_dir = "ab" * 32, "$(git rev-parse --absolute-git-dir)/lfs/objects"
        said(
            sandbox,
            f'o="{git_dir}"; mkdir -p "$o/ab/ab" "$o/cd/cd" "$o/ef/ef"; echo lie > "$o/ab/ab/{name}";'
            f'ln -s /etc/passwd "$o/cd/cd/{"cd" * 32}"; ln -s / "$o/ef/ef/{"ef" * 32}";'
            'n="$(printf "x\\ny")"; mkdir -p "$o/$n/ab"; '
            f'echo lie > "$o/$n/ab/{name}"',
        )
        archive = yard.data_dir / "outbox" / "x.tar"
        assert sandbox.export_lfs(archive, limit_bytes=10**7)
        assert store.take_archive(archive) == ()
        held = [path for path in store.path.rglob("*") if path.is_file()]
        assert [path.name for path in held] == [sha256(PICTURE).hexdigest()]

    def test_too_much_is_a_typed_error(self, yard: Yard) -> None:
        store = stored(yard)
        sandbox = made(
            yard, Extras(lfs_objects=store.path), base_with(yard, {".gitattributes": ATTRIBUTES}, {})
        )
        said(sandbox, "head -c 3000000 /dev/urandom > new.png; git add -A; git commit -qm New")
        with pytest.raises(Exception, match="are over 1000000 bytes"):
            sandbox.export_lfs(yard.data_dir / "outbox" / "x.tar", limit_bytes=1_000_000)


@pytest.mark.parametrize(
    "yard", [item for item in COMBINATIONS if item[1] == "machine"], indirect=True, ids="-".join
)
class TestElsewhere:
    def test_both_are_brought_along_and_new_contents_come_out(
        self, yard: Yard, library: PlacedSubmodule
    ) -> None:
        store = stored(yard, PICTURE)
        files = {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE), "b.big": pointer(TEXT)}
        sha = base_with(yard, files, {"libs/x": library.sha, "libs/y": "2" * 40})
        extras = Extras((library,), store.path, (sha256(PICTURE).hexdigest(),))
        sandbox = yard.make(spec=replace(yard.spec(start=sha), base_sha=sha, extras=extras))
        sandbox.setup()
        assert said(sandbox, "sha256sum < a.png").split()[0] == sha256(PICTURE).hexdigest()
        assert said(sandbox, "cat b.big") == pointer(TEXT).strip()
        assert said(sandbox, "cat libs/x/lib.c; git -C libs/x rev-parse HEAD") == f"int lib;\n{library.sha}"
        assert said(sandbox, "touch a.png b.big; git status --porcelain; ls -A libs/y") == ""
        said(sandbox, "printf new > new.png; git add -A; git commit -qm New; echo x >> libs/x/lib.c")
        assert said(sandbox, "git show HEAD:new.png") == pointer(b"new").strip()
        archive = yard.data_dir / "outbox" / "x.tar"
        assert sandbox.export_lfs(archive, limit_bytes=10**7)
        assert store.take_archive(archive) == (LfsPointer(sha256(b"new").hexdigest(), 3),)
        bundle = yard.data_dir / "outbox" / "x.bundle"
        assert sandbox.export_bundle(bundle, limit_bytes=10**7, leftovers_message="chore: keep")
        assert sandbox.left_out == (LeftOut("submodule_changes", "libs/x"),)
        with pytest.raises(SandboxError):
            sandbox.export_lfs(archive, limit_bytes=10)


@LOCALLY
def test_what_git_lfs_itself_put_aside_comes_out_too(yard: Yard) -> None:
    """In a repository that had no LFS before; it keeps contents in the git folder that worktrees share."""
    sandbox, oid = yard.ready(), sha256(b"new").hexdigest()
    folder = f"$(git rev-parse --path-format=absolute --git-common-dir)/lfs/objects/{oid[:2]}/{oid[2:4]}"
    said(sandbox, f'mkdir -p "{folder}"; printf new > "{folder}/{oid}"')
    archive = yard.data_dir / "outbox" / "x.tar"
    assert sandbox.export_lfs(archive, limit_bytes=10**7)
    assert LfsStore(yard.data_dir, KEY).take_archive(archive) == (LfsPointer(oid, 3),)


@LOCALLY
def test_a_checkout_without_extras_sees_nothing_of_them(yard: Yard, tmp_path: Path) -> None:
    sandbox = yard.ready()
    assert said(sandbox, "env | grep GIT_CONFIG_SYSTEM || echo none") == "none"
    assert said(sandbox, "git config filter.lfs.clean || echo none") == "none"
    assert not sandbox.export_lfs(tmp_path / "x.tar", limit_bytes=1000)
