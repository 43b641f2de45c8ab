"""Addresses of submodules: a stranger's text names a repository of this GitHub, or nothing."""

import pytest

from github_app.references import ReferenceInvalid, RepositoryReference, parse_repository_reference
from github_app.submodule_addresses import parse_allowed, submodule_reference

HOST = "github.com"
PARENT = RepositoryReference(HOST, "acme", "widgets")


def resolved(address: str, parent: RepositoryReference = PARENT, host: str = HOST) -> str:
    return submodule_reference(address, parent=parent, github_host=host).full_name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/other/lib.git", "other/lib"),
        ("https://github.com/other/lib", "other/lib"),
        ("https://github.com/other/lib/", "other/lib"),
        ("HTTPS://GitHub.com/other/lib", "other/lib"),
        ("../lib.git", "acme/lib"),
        ("../../other/lib", "other/lib"),
        ("./../lib", "acme/lib"),
        ("../widgets", "acme/widgets"),
        ("../.github", "acme/.github"),
    ],
)
def test_accepted(address: str, name: str) -> None:
    assert resolved(address) == name


@pytest.mark.parametrize(
    "address",
    [
        *(
            "git@github.com:acme/lib.git",
            "ssh://git@github.com/acme/lib.git",
            "git://github.com/acme/lib.git",
        ),
        *(
            "http://github.com/acme/lib.git",
            "ftp://github.com/acme/lib",
            "file:///etc",
            "/etc",
            "lib",
            "acme/lib",
        ),
        *("ext::sh -c 'touch x'", "fd::3", "--upload-pack=x", "-ux", "https://evil.example/acme/lib.git"),
        *("https://github.com.evil.example/acme/lib", "https://evil.example/github.com/acme/lib"),
        *(
            "https://github.com:443/acme/lib",
            "https://github.com:8443/acme/lib",
            "https://x:y@github.com/acme/lib",
        ),
        *("https://github.com@evil.example/acme/lib", "https://github.com\\@evil.example/acme/lib"),
        *(
            "https://github.com/acme/lib/../../other/x",
            "https://github.com/acme/..",
            "https://github.com/../x",
        ),
        *("https://github.com/acme%2flib", "https://github.com/acme/lib?x", "https://github.com/acme/lib#x"),
        *(
            "https://github.com/acme/lib\n",
            "https://github.com/acme/li\u200bb",
            "https://github.com/acme/a/b",
        ),
        *("https://github.com/acme", "https://github.com//acme/lib", "https:///acme/lib"),
        *("..", ".", "../", "./lib", "../../lib", "../../../lib", "../../../evil.example/acme/lib"),
        *(
            "../../../../evil.example/acme/lib",
            "..//lib",
            "../a/b",
            "../../a/../b",
            "../lib.git.git",
            "../-x",
        ),
        "",
    ],
)
def test_refused(address: str) -> None:
    with pytest.raises(ReferenceInvalid):
        resolved(address)


def test_reasons_are_a_phrase_each() -> None:
    reasons = {
        "git@github.com:a/b": "its address is not https://github.com/owner/name",
        "https://evil.example/a/b": "its address is not one on github.com: it is on evil.example",
        "https://x:y@github.com/a/b": "its address is not one on github.com: it carries a user name or password",
        "../../../x/y": "its relative address leaves the host",
    }
    for address, reason in reasons.items():
        with pytest.raises(ReferenceInvalid) as caught:
            resolved(address)
        assert str(caught.value) == reason


def test_of_a_folder_of_this_machine_only_absolute_ones() -> None:
    local = parse_repository_reference("/srv/git/x.git", github_host=HOST, allow_local=True)
    assert resolved("https://github.com/a/b", local) == "a/b"
    with pytest.raises(ReferenceInvalid, match="folder of this machine"):
        resolved("../y.git", local)


def test_on_another_github() -> None:
    host = "github.example.org"
    parent = RepositoryReference(host, "acme", "widgets")
    assert resolved("../lib", parent, host) == "acme/lib"
    with pytest.raises(ReferenceInvalid, match=r"it is on github\.com"):
        resolved("https://github.com/acme/lib", parent, host)


def test_the_list_of_allowed_ones() -> None:
    assert parse_allowed("Acme/Lib\n\n# a comment\nacme/lib\n  o/n  ") == ("acme/lib", "o/n")
    assert parse_allowed("") == ()
    for wrong in ("acme", "acme/*", "*", "https://github.com/a/b", "a/b/c", "a/..", "a/b.git", "a b/c"):
        with pytest.raises(ValueError, match="not a repository"):
            parse_allowed(wrong)
    with pytest.raises(ValueError, match="more than"):
        parse_allowed("\n".join(f"a/b{number}" for number in range(200)))
