"""The pure parts of submodules and Git LFS: names, pointers, attributes, a store that believes nothing."""

import io
import tarfile
from hashlib import sha256
from itertools import repeat
from pathlib import Path

import pytest

from sandboxes.errors import SandboxError
from sandboxes.extras.lfs_client import LfsAction, LfsClient, LfsObject, LfsSettings, LfsUnavailable, _objects
from sandboxes.extras.lfs_pointers import LfsPointer, asks_for_lfs, leads_elsewhere, parse_pointer
from sandboxes.extras.lfs_store import LfsStore
from sandboxes.extras.placed import Extras, PlacedSubmodule, git_settings
from sandboxes.extras.submodule_names import is_plain_path, named_submodules, parse_listed_config
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from tests.fakes.git_http import git
from tests.fakes.lfs import pointer

OID = sha256(b"x").hexdigest()
LIB = {"path": "libs/a", "url": "https://github.com/acme/lib"}


class TestNames:
    @pytest.mark.parametrize("text", ["a", "a/b c", "vendor/ünicode", "a.b/c-d", "..a", "a/.gitignore"])
    def test_plain(self, text: str) -> None:
        assert is_plain_path(text)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "-a", "a/-b", ".git", "a/.GIT/hooks"),
            *("a\\b", "a\nb", "a\0b", "a\x1bb", "\udcff", "x" * 201),
        ],
    )
    def test_not_plain(self, text: str) -> None:
        assert not is_plain_path(text)

    def test_listed_settings(self, tmp_path: Path) -> None:
        file = tmp_path / "modules"
        file.write_text('[submodule "a.b"]\n\tpath = x\n\turl = one\n\turl = two\n[other]\n\tpath = y\n')
        listed = git("config", "--file", str(file), "--list", "-z").encode()
        assert parse_listed_config(listed) == {"a.b": {"path": "x", "url": "two"}}

    def test_only_gitlinks_count(self) -> None:
        found = named_submodules({"lib": LIB, "file": {"path": "README", "url": "x"}}, ["libs/a", "libs/b"])
        assert [one.name for one in found.submodules] == ["lib"]
        assert [(one.path, one.reason) for one in found.refused] == [
            ("libs/b", "the base commit's .gitmodules does not name it")
        ]


class TestPointers:
    def test_a_pointer(self) -> None:
        assert parse_pointer(pointer(b"x").encode()) == LfsPointer(OID, 1)
        assert parse_pointer(pointer(b"x").rstrip("\n").encode()) == LfsPointer(OID, 1)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            pointer(b"x") + "more\n",
            pointer(b"x").replace("sha256", "md5"),
            pointer(b"x").replace(OID, OID.upper()),
            pointer(b"x").replace("size 1", "size -1"),
            pointer(b"x").replace("size 1", "size " + "9" * 30),
            "\n" + pointer(b"x"),
            pointer(b"x") + " " * 2000,
        ],
    )
    def test_none(self, text: str) -> None:
        assert parse_pointer(text.encode()) is None

    @pytest.mark.parametrize(
        "text", ["*.png filter=lfs", "a\n*.bin -text  filter=lfs diff=lfs\r\n", "[attr]big filter=lfs"]
    )
    def test_attributes_that_ask(self, text: str) -> None:
        assert asks_for_lfs(text.encode())

    @pytest.mark.parametrize(
        "text", ["", "# *.png filter=lfs", "*.png -filter=lfs", "*.c filter=lfsx", "filter=lfs"]
    )
    def test_attributes_that_do_not(self, text: str) -> None:
        assert not asks_for_lfs(text.encode())

    @pytest.mark.parametrize(
        "key", ["lfs.url", "LFS.pushurl", "remote.origin.lfsurl", "remote.a.b.lfspushurl"]
    )
    def test_settings_that_lead_elsewhere(self, key: str) -> None:
        assert leads_elsewhere(f"lfs.fetchexclude\nx\0{key}\nhttps://evil.example\0".encode())

    def test_settings_that_do_not(self) -> None:
        assert not leads_elsewhere(b"lfs.fetchexclude\nurl\0lfs.locksverify\nfalse\0")


class TestStore:
    def archive(self, folder: Path, *members: tuple[str, bytes, bytes]) -> Path:
        path = folder / "x.tar"
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as packed:
            for name, kind, data in members:
                member = tarfile.TarInfo(name)
                member.type, member.size = kind, len(data) if kind == tarfile.REGTYPE else 0
                member.linkname = "/etc/passwd"
                packed.addfile(member, io.BytesIO(data))
        return path

    def test_only_what_is_what_its_name_says(self, tmp_path: Path) -> None:
        store = LfsStore(tmp_path, "github.com/acme/widgets")
        archive = self.archive(
            tmp_path,
            (f"/tmp/a/{OID}", tarfile.REGTYPE, b"x"),
            (f"../../{'ab' * 32}", tarfile.REGTYPE, b"lie"),
            (f"a/{'cd' * 32}", tarfile.SYMTYPE, b""),
            (f"a/{'ef' * 32}", tarfile.LNKTYPE, b""),
            (f"a/{'01' * 32}", tarfile.CHRTYPE, b""),
            ("../../../etc/cron.d/x", tarfile.REGTYPE, b"x"),
        )
        assert store.take_archive(archive) == (LfsPointer(OID, 1),)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
        assert files == [store.place_of(OID)]

    @pytest.mark.parametrize("data", [b"", b"no archive" * 100, b"\xff" * 2048])
    def test_no_archive(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "x.tar"
        path.write_bytes(data)
        with pytest.raises(SandboxError, match="cannot be read"):
            LfsStore(tmp_path, "k").take_archive(path)

    def test_never_more_than_the_size(self, tmp_path: Path) -> None:
        store = LfsStore(tmp_path, "k")

        pieces = iter(repeat(b"x" * 1000, 10_000))
        assert not store.take(LfsPointer(OID, 5000), pieces)
        assert sum(1 for _piece in pieces) > 9_990
        assert not [path for path in store.path.rglob("*") if path.is_file()]


class TestAddresses:
    def client(self, *hosts: str) -> LfsClient:
        remote = RemoteRepository("https://github.com/acme/widgets.git", token="ghp_canary")
        return LfsClient(remote, LfsSettings(hosts=hosts))

    @pytest.mark.parametrize(
        "href",
        [
            "https://github.com/x",
            "https://github.com:443/x?y=z",
            "https://objects.example/x",
        ],
    )
    def test_accepted(self, href: str) -> None:
        assert self.client("objects.example").refusal_of(LfsAction(href)) == ""

    @pytest.mark.parametrize(
        "href",
        [
            "https://evil.example/x",
            "http://github.com/x",
            "https://github.com:8443/x",
            "http://objects.example/x",
            "https://objects.example:8443/x",
            "https://objects.example.evil.example/x",
            "https://u@objects.example/x",
            "https://objects.example@evil.example/x",
            "https://evil.example#@objects.example/",
            "file:///etc/passwd",
            "https://objects.example/a b",
            "https://objects.example/\r\nx",
            "https://[::1/x",
            "https:///x",
            "//objects.example/x",
            "",
        ],
    )
    def test_refused(self, href: str) -> None:
        assert self.client("objects.example").refusal_of(LfsAction(href))

    def test_the_credential_stays_with_its_host(self) -> None:
        client = self.client("objects.example")
        own, other = "https://github.com/x", "https://objects.example/x"
        assert "Authorization" in client._headers(LfsAction(own))
        assert "Authorization" not in client._headers(LfsAction(own, authenticated=True))
        assert client._headers(LfsAction(own, {"authorization": "RemoteAuth 1"})) == {
            "authorization": "RemoteAuth 1"
        }
        assert client._headers(LfsAction(other)) == {}
        stolen = {"Authorization": client._authorization()["Authorization"], "X-A": "ghp_canary", "X-B": "b"}
        assert client._headers(LfsAction(other, stolen)) == {"X-B": "b"}

    def test_odd_headers_and_answers_are_typed(self) -> None:
        asked = [LfsPointer(OID, 1)]
        for answer in (b"", b"[]", b"{}", b'{"objects": 3}', b'{"objects": [{}]}', b"[" * 10_000, b"\xff"):
            with pytest.raises(LfsUnavailable):
                _objects(answer, asked)
        odd = (b'{"objects": []}', b'{"objects": [{"oid": "%s", "actions": 3}]}' % OID.encode())
        for answer in odd:
            [found] = _objects(answer, asked)
            assert found == LfsObject(asked[0], {}, found.reason)
            assert found.reason


def test_settings_hold_whatever_names_they_are_given(tmp_path: Path) -> None:
    """What a name would break out of its section with is quoted, as git reads it."""
    name = 'a"]\\ b'
    one = PlacedSubmodule(name, "x", "1" * 40, tmp_path, "https://github.com/a/b.git")
    text = git_settings(Extras((one,), tmp_path / "it's here"), lfs_filter="/run/a b", own_lfs="/c")
    file = tmp_path / "config"
    file.write_text(text)
    assert git("config", "--file", str(file), f"submodule.{name}.url") == one.url
    assert git("config", "--file", str(file), "filter.lfs.clean") == (
        f"sh '/run/a b' clean '{tmp_path}/it'\"'\"'s here' /c"
    )


def test_a_git_that_writes_too_much_is_ended(tmp_path: Path) -> None:
    trusted = TrustedGit(GitSettings())
    trusted.run("init", "--quiet", "--bare", str(tmp_path / "x.git"))
    done = trusted.run(
        *("hash-object", "-w", "--stdin"),
        git_dir=tmp_path / "x.git",
        stdin=b"".join(sha256(bytes([n % 256, n // 256])).digest() for n in range(9000)),
        check=False,
        largest_file_bytes=1000,
    )
    assert done.exit_code != 0
