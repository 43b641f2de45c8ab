"""What must not leave: every place of a commit a secret can be in, every way a protected path can change."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from github_app.protected_paths import DEFAULT_PROTECTED_PATHS, parse_patterns, protected_among
from sandboxes.errors import GitError
from sandboxes.trusted_git import outgoing
from sandboxes.trusted_git.git import GitSettings, TrustedGit
from sandboxes.trusted_git.objects import Commit
from sandboxes.trusted_git.outgoing import OutgoingTooLarge, outgoing_among, read_objects
from tests.sandboxes.trusted_git.history import Entry, History
from workorders.text.redaction import Redactor
from workorders.workflow_engine.outward.push_gate import PushGate, SecretInCommits

KEY = "Vx7kQ2mPz9TnR4wLsB8cYd3FhJ6gA1eU"
TOKEN = "ghp_" + "a1B2c3" * 6
WORKFLOW = ".github/workflows/ci.yml"
Files = Mapping[str | bytes, str | bytes | Entry | None]
PATTERNS = parse_patterns(DEFAULT_PROTECTED_PATHS)


@dataclass
class Story:
    """A history that grows from `base`; `gate` inspects what lies between it and the last commit."""

    history: History
    git: TrustedGit
    head: str = "base"

    def add(
        self, name: str, files: Files | None = None, *, after: str | list[str] = "", **more: object
    ) -> str:
        at = after or self.head
        self.history.commit(name, after=at, files=files or {f"{name}.txt": "x\n"}, **more)  # type: ignore[arg-type]  # passed on
        self.head = name
        return name

    def inspect(self, *, known: tuple[str, ...] = ("base",), net: tuple[str, ...] = ()) -> tuple[str, ...]:
        """What the gate finds; the same whether it reads the commits itself or is given the order's own."""
        shas = self.history.write()
        head, base = shas[self.head], shas["base"]
        gate = PushGate(self.git, self.history.path, redactor=Redactor({KEY: "MODEL_KEY"}))

        def paths(commits: Sequence[Commit]) -> tuple[str, ...]:
            changes = gate.inspect(
                head=head,
                known=[shas[name] for name in known],
                base_sha=base,
                patterns=PATTERNS,
                net_paths=net,
                commits=commits,
            )
            return tuple(change.path for change in changes)

        upstream = [shas[name] for name in known if name == "upstream"]
        found = paths(self.git.commits(self.history.path, head=head, base=base, without=upstream))
        assert paths(()) == found
        return found


@pytest.fixture
def story(tmp_path: Path) -> Story:
    history = History(tmp_path / "mirror.git")
    files: Files = {
        "README.md": f"An example token: {TOKEN}\n",
        WORKFLOW: "on: push\n",
        ".github/dependabot.yml": "version: 2\n",
    }
    history.commit("base", files=files)
    return Story(history, TrustedGit(GitSettings()))


SECRETS: dict[str, Callable[[Story], object]] = {
    "a text file": lambda story: story.add("one", {"a.txt": f"line\nkey={KEY}\n"}),
    "a binary file": lambda story: story.add("one", {"a.bin": b"\0\1\2" + KEY.encode() + b"\0\xff"}),
    "UTF-16": lambda story: story.add("one", {"a.txt": KEY.encode("utf-16")}),
    "base64": lambda story: story.add("one", {"a.txt": base64.b64encode(b"k:" + KEY.encode())}),
    "wrapped base64": lambda story: story.add("one", {"a": base64.encodebytes(b"k" * 50 + KEY.encode() * 2)}),
    "hexadecimal": lambda story: story.add("one", {"a.txt": KEY.encode().hex()}),
    "a symbolic link": lambda story: story.add("one", {"link": Entry("120000", KEY.encode())}),
    "the message": lambda story: story.add("one", message=f"Use {KEY}\n"),
    "the author": lambda story: story.add("one", author=f"{KEY} <a@example.com>".encode()),
    "a file's name": lambda story: story.add("one", {f"{KEY}.txt": "x"}),
    "a folder's name": lambda story: story.add("one", {f"x/{KEY}/y.txt": ""}),
    "what the next commit takes away": lambda story: (
        story.add("one", {"a.txt": KEY}),
        story.add("two", {"a.txt": None}),
    ),
    "an old file under a new name": lambda story: story.add(
        "one", {f"{KEY}/README.md": f"An example token: {TOKEN}\n"}
    ),
    "a merge alone": lambda story: (
        story.add("one"),
        story.add("two", after="base"),
        story.add("merge", {"evil.txt": KEY}, after=["one", "two"]),
    ),
    "the far end of a large file": lambda story: story.add("one", {"a": b"x" * 3_000_000 + KEY.encode()}),
    "a piece's border": lambda story: story.add(
        "one", {"a": b"x" * (1024 * 1024 - 10) + KEY.encode() + b"y" * 50}
    ),
    "a token's shape": lambda story: story.add("one", {"a.txt": f"t={TOKEN.replace('a', 'Z')}"}),
    "a private key": lambda story: story.add(
        "one",
        {
            "id": "-----BEGIN RSA PRIVATE KEY-----\n"
            + "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7\n" * 3
        },
    ),
}


@pytest.mark.parametrize("place", SECRETS)
def test_a_secret_is_found_wherever_it_is(story: Story, place: str) -> None:
    SECRETS[place](story)
    with pytest.raises(SecretInCommits) as caught:
        story.inspect()
    words = str(caught.value)
    assert KEY not in words
    assert "ghp_" not in words
    assert any(sha[:12] in words for sha in story.history.shas.values())
    assert caught.value.retryable == (place in {"a token's shape", "a private key"})


EVERYDAY = {
    "settings.py": 'URL = "postgres://postgres:postgres@localhost:5432/app"\n',
    ".env.example": "DATABASE_URL=postgres://user:password@db.example.com/app\nGH_TOKEN=ghp_"
    + "x" * 36
    + "\n",
    "compose.yaml": "amqp: amqp://guest:guest@rabbitmq:5672\nurl: https://${USER}:${TOKEN}@github.com\n",
    "docs/aws.md": "AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    "docs/keys.md": "-----BEGIN PRIVATE KEY-----\n" + "EXAMPLE0" * 8 + "\n-----END PRIVATE KEY-----\n",
    "docs/api.md": "Authorization: Bearer <token>, sk-ant-api03-your-key-goes-here-please, sk_live_"
    + "x" * 24,
}


def test_examples_and_loopback_may_be_pushed(story: Story) -> None:
    for name, text in EVERYDAY.items():
        story.add(f"Add {name}", {name: text})
    assert story.inspect() == ()


def test_the_message_names_file_and_commit(story: Story) -> None:
    story.add("one", {"config/settings.py": KEY})
    with pytest.raises(SecretInCommits) as caught:
        story.inspect()
    sha = story.history.shas["one"]
    assert (
        str(caught.value) == f"MODEL_KEY is in 'config/settings.py' of commit {sha[:12]}. Nothing was pushed."
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda story: story.add("one", {"README.md": f"The same example: {TOKEN}\n"}),
        lambda story: story.add("one", {"docs/moved.md": f"{TOKEN}\n", "README.md": None}),
        lambda story: story.add("one", {"sub": Entry("160000", b"a" * 40)}),
        lambda story: story.add(
            "one", {"deploy.md": "postgres://user:password@localhost/db Bearer of news\n"}
        ),
    ],
)
def test_what_the_base_commit_has_already_and_examples_pass(
    story: Story, make: Callable[[Story], object]
) -> None:
    make(story)
    assert story.inspect() == ()


def test_what_the_remote_has_is_not_read_again(story: Story) -> None:
    story.add("pushed", {"a.txt": KEY, WORKFLOW: "on: [push, pull_request]\n"})
    assert story.inspect(known=("base", "pushed")) == ()
    story.add("next")
    assert story.inspect(known=("base", "pushed")) == ()


@settings(max_examples=25, deadline=None)
@given(
    at=st.integers(0, 400_000), kind=st.sampled_from(["plain", "base64", "hex"]), noise=st.binary(max_size=3)
)
def test_a_secret_anywhere_in_a_stream_of_any_chunks(at: int, kind: str, noise: bytes) -> None:
    """The reader's own property, without git: pieces overlap, so no border hides anything."""
    data = KEY.encode()
    data = (
        base64.b64encode(noise + data) if kind == "base64" else data.hex().encode() if kind == "hex" else data
    )
    content = b"." * at + data + b"." * 1000
    found: list[str] = []
    redactor = Redactor({KEY: "k"})
    reader = outgoing._BatchReader(lambda _sha, piece: found.extend(redactor.find(piece)))
    stream = b"%s blob %d\n%s\n" % (b"a" * 40, len(content), content)
    for start in range(0, len(stream), 65_521):
        reader.feed(stream[start : start + 65_521])
    reader.finish(1)
    assert found


def test_too_much_is_refused_and_so_is_what_git_cannot_show(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.add("one", {"a": b"x" * 100_000})
    story.history.write()
    with pytest.raises(GitError, match="could not read a part"):
        read_objects(story.git, story.history.path, ["b" * 40], lambda *_: None)
    monkeypatch.setattr(outgoing, "SCAN_LIMIT_BYTES", 50_000)
    with pytest.raises(OutgoingTooLarge):
        story.inspect()


# --- protected paths ---

CHANGED = "on: workflow_dispatch\n"
PROTECTED: dict[str, tuple[Callable[[Story], object], tuple[str, ...]]] = {
    "a change": (lambda story: story.add("one", {WORKFLOW: CHANGED}), (WORKFLOW,)),
    "a new file": (
        lambda story: story.add("one", {".github/workflows/x/y.yml": "x"}),
        (".github/workflows/x/y.yml",),
    ),
    "a deletion": (lambda story: story.add("one", {WORKFLOW: None}), (WORKFLOW,)),
    "a move away": (lambda story: story.add("one", {WORKFLOW: None, "ci.yml": "on: push\n"}), (WORKFLOW,)),
    "a move there": (
        lambda story: story.add(
            "one", {".github/dependabot.yml": None, ".github/workflows/d.yml": "version: 2\n"}
        ),
        (".github/workflows/d.yml",),
    ),
    "another case": (
        lambda story: story.add("one", {".GitHub/WorkFlows/ci.yml": "x"}),
        (".GitHub/WorkFlows/ci.yml",),
    ),
    "invisible letters": (
        lambda story: story.add("one", {".git\u200chub/workflows/ci.yml": "x"}),
        (".git\u200chub/workflows/ci.yml",),
    ),
    "a trailing dot": (
        lambda story: story.add("one", {".github/workflows./a.yml": "x"}),
        (".github/workflows./a.yml",),
    ),
    "a link": (lambda story: story.add("one", {WORKFLOW: Entry("120000", b"../../evil.yml")}), (WORKFLOW,)),
    "a link in the folder's place": (
        lambda story: story.add("one", {WORKFLOW: None, ".github/workflows": Entry("120000", b"../evil")}),
        (".github/workflows", WORKFLOW),
    ),
    "a submodule in the folder's place": (
        lambda story: story.add(
            "one", {WORKFLOW: None, ".github/dependabot.yml": None, ".github": Entry("160000", b"a" * 40)}
        ),
        (".github", WORKFLOW),
    ),
    "its mode": (lambda story: story.add("one", {WORKFLOW: Entry("100755", b"on: push\n")}), (WORKFLOW,)),
    "gitmodules": (lambda story: story.add("one", {".gitmodules": "[submodule]\n"}), (".gitmodules",)),
    "taken back by the next commit": (
        lambda story: (story.add("one", {WORKFLOW: CHANGED}), story.add("two", {WORKFLOW: "on: push\n"})),
        (WORKFLOW,),
    ),
    "a merge alone": (
        lambda story: (
            story.add("one"),
            story.add("two", after="base"),
            story.add("merge", {WORKFLOW: CHANGED}, after=["one", "two"]),
        ),
        (WORKFLOW,),
    ),
    "beside it": (lambda story: story.add("one", {".github/workflow.md": "x", "workflows/ci.yml": "x"}), ()),
}


@pytest.mark.parametrize("way", PROTECTED)
def test_every_way_to_change_a_protected_path(story: Story, way: str) -> None:
    make, expected = PROTECTED[way]
    make(story)
    assert story.inspect() == expected


def test_merging_the_base_branch_is_no_change_of_the_orders(story: Story) -> None:
    story.add("upstream", {WORKFLOW: CHANGED})
    story.add("own", after="base")
    story.add("merge", {WORKFLOW: CHANGED}, after=["own", "upstream"])
    assert story.inspect(known=("base", "upstream")) == ()


def test_a_merge_that_takes_the_base_branchs_change_back_is_one(story: Story) -> None:
    story.add("upstream", {WORKFLOW: CHANGED})
    story.add("own", after="base")
    story.add("merge", {"own.txt": "x\n"}, after=["own", "upstream"])  # with the workflow as in `own`
    assert story.inspect(known=("base", "upstream")) == ()
    assert story.inspect(known=("base", "upstream"), net=(WORKFLOW, "own.txt")) == (WORKFLOW,)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("Makefile", ["Makefile", "a/b/makefile"], ["Makefile.am", "a/Makefile/b"]),
        ("/Makefile", ["Makefile"], ["a/Makefile"]),
        ("deploy/", ["deploy/a", "deploy/a/b", "x/deploy/y"], ["deployment"]),
        ("*.tf", ["main.tf", "infra/x.tf"], ["main.tfx", "x.tf/y"]),
        ("src/**/secret?.py", ["src/secret1.py", "src/a/b/secretX.py"], ["src/secret.py", "src/secret12.py"]),
        ("a[b]c", ["a[b]c"], ["abc"]),
        ("**/*.key", ["a.key", "x/y.key"], ["a.keys"]),
        ("café/**", ["café/x", "cafe\u0301/x", "ＣＡＦÉ/x"], ["cafe/x"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    patterns = parse_patterns(f"# a comment\n\n{pattern}\n")
    assert list(protected_among([*yes, *no], patterns)) == yes


@pytest.mark.parametrize(
    "text", ["../x", "a//b", "!x", "a/./b", "a\0b", "*" * 9, "x" * 201, "\n".join(map(str, range(101)))]
)
def test_patterns_that_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_patterns(text)


def test_the_whole_history_is_read_where_nothing_is_known(story: Story) -> None:
    story.add("one")
    shas = story.history.write()
    commits = story.git.commits(story.history.path, head=shas["one"], base="")
    found = outgoing_among(commits, pushed=("",))
    assert found.commits == (shas["base"], shas["one"])
    assert {at.path for at in found.touched} == {"one.txt", "README.md", WORKFLOW, ".github/dependabot.yml"}
