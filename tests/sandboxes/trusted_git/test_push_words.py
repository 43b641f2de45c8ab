"""What git hosts say when they refuse a push, in their own words, and what is made of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.errors import (
    GitError,
    GitHostFailed,
    PushContentRefused,
    PushRejected,
    RemoteAccessDenied,
)
from sandboxes.files.disk import says_disk_full
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from sandboxes.trusted_git.push_words import (
    WORDS_LIMIT,
    as_another_matter,
    names_one_of,
    presentable,
    push_error,
)
from tests.fakes.git_http import FakeGitServer, branches, git
from tests.sandboxes.trusted_git.history import raw_commit

TOKEN = "ghp_example-token"
HOOK = "pre-receive hook declined"
RULES = "push declined due to repository rule violations"
SHAS = [f"{number:x}{'0a1b2c3d4e' * 4}"[:40] for number in range(1, 9)]


@dataclass(frozen=True)
class Said:
    """What the remote says to a push, and the kind of refusal; `first` begins the message, `advice` is in advice."""

    name: str
    lines: Sequence[str]
    kind: type[GitError]
    first: str = ""
    advice: str = ""
    reason: str = HOOK

    @property
    def error(self) -> GitError:
        found = push_error(*heard(self.lines, self.reason))
        assert found is not None
        return found


def heard(lines: Sequence[str], reason: str) -> tuple[str, str]:
    """Standard output and error of `git push --porcelain`, as git writes them."""
    url = "https://github.com/o/r.git"
    told = "".join(f"remote: {line}        \x1b[K\n" for line in lines)
    progress = "remote: Resolving deltas:  50% (1/2)\rremote: Resolving deltas: 100% (2/2), done.\x1b[K\n"
    stderr = f"{progress}{told}error: failed to push some refs to '{url}'\n"
    ref = "refs/heads/feat-wo-1"
    return f"To {url}\n!\t{'a' * 40}:{ref}\t[remote rejected] ({reason})\nDone\n", stderr


SECRET = [
    "error: GH013: Repository rule violations found for refs/heads/feat-wo-1.",
    "",
    "- GITHUB PUSH PROTECTION",
    "  —————————————————————————————————————————",
    "    Resolve the following violations before pushing again",
    "",
    "    - Push cannot contain secrets",
    "",
    "     (?) Learn how to resolve a blocked push",
    "     https://docs.github.com/code-security/secret-scanning/resolving-a-blocked-push",
    "",
    "      —— Stripe API Key ————————————————————————",
    "       locations:",
    *(line for sha in SHAS for line in (f"         - commit: {sha}", "           path: config.py:3")),
    "",
    "       (?) To push, remove secret from commit(s) or follow this URL to allow the secret.",
    "       https://github.com/o/r/security/secret-scanning/unblock-secret/2abcDEF",
    "",
]
LARGE = [
    "warning: See https://gh.io/lfs for more information.",
    "error: Trace: 0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "error: See https://gh.io/lfs for more information.",
    "error: File big.bin is 105.00 MB; this exceeds GitHub's file size limit of 100.00 MB",
    "error: GH001: Large files detected. You may want to try Git Large File Storage - https://git-lfs.github.com.",
]
Content, Rule, Access, Host = PushContentRefused, PushRejected, RemoteAccessDenied, GitHostFailed
TABLE = [
    Said("GH001", LARGE, Content, advice="without the large file"),
    Said(
        "GH013 secrets",
        SECRET,
        Content,
        "GH013: Repository rule violations found",
        "Replace the secret",
        RULES,
    ),
    Said(
        "GH007",
        [
            "error: GH007: Your push would publish a private email address.",
            "You can make your email public or disable this protection by visiting:",
            "https://github.com/settings/emails",
        ],
        Content,
        "GH007: Your push would publish a private email address.",
        "address",
        "push declined due to email privacy restrictions",
    ),
    Said(
        "GH008",
        ["error: GH008: Your push referenced at least 1 unknown Git LFS object:", *SHAS[:1]],
        Content,
        "GH008",
        "LFS",
    ),
    Said(
        "GH013 file paths",
        [
            "error: GH013: Repository rule violations found for refs/heads/x.",
            "",
            "- File path is restricted",
            "  Found 1 violation:",
            "  secrets/prod.env",
        ],
        Content,
        "GH013",
        "named files",
        RULES,
    ),
    Said(
        "GH013 merge commits",
        ["error: GH013: Repository rule violations found.", "- This branch must not contain merge commits."],
        Content,
        "GH013",
        "plain commits",
        RULES,
    ),
    Said(
        "a hook about names",
        ["File names with spaces are not allowed: 'my file.txt'"],
        Content,
        "File names",
        "named files",
    ),
    Said(
        "a hook about extensions",
        ["*** [POLICY] *.exe files are forbidden: tool.exe ***"],
        Content,
        "[POLICY] *.exe files",
    ),
    Said(
        "a hook about messages",
        ["ERROR: commit message does not match ^(feat|fix): "],
        Content,
        "commit message",
        "commit messages",
    ),
    Said(
        "a hook about tickets",
        ["[abc] Commit a1b2c3d: no JIRA ticket in the subject"],
        Content,
        "",
        "commit messages",
    ),
    Said(
        "update hook",
        ["Missing licence header in src/a.py"],
        Content,
        "Missing licence header",
        "follow-up",
        "hook declined",
    ),
    Said(
        "a hook about DCO",
        ["Commit a1b2c3d must be signed-off (Signed-off-by missing)"],
        Content,
        "",
        "commit messages",
    ),
    Said(
        "Gerrit",
        ["ERROR: commit a1b2c3d: missing Change-Id in message footer"],
        Content,
        "commit a1b2c3d",
        "commit messages",
    ),
    Said(
        "GitLab message",
        ["GitLab: Commit message does not follow the pattern '^JIRA-\\d+'"],
        Content,
        "GitLab: Commit",
    ),
    Said(
        "GitLab file",
        ['GitLab: File name id_rsa was prohibited by the pattern "id_rsa$".'],
        Content,
        "GitLab: File",
        "named files",
    ),
    Said(
        "GitLab secrets",
        ["PUSH BLOCKED: Secrets detected in code changes", "-- GitLab Personal Access Token in a.py:1"],
        Content,
        "PUSH BLOCKED",
        "Replace the secret",
    ),
    Said(
        "GitLab size",
        [
            "GitLab: You are attempting to check in one or more blobs which exceed the 100MiB limit:",
            "- " + SHAS[0] + " (105 MiB)",
        ],
        Content,
        "GitLab:",
        "large file",
    ),
    Said(
        "GitLab LFS",
        [
            'GitLab: LFS objects are missing. Ensure LFS is properly set up or try a manual "git lfs push --all".'
        ],
        Content,
        "GitLab: LFS",
        "LFS",
    ),
    Said(
        "Gitea protected file",
        ["Gitea: branch feat-wo-1 is protected from changing file .gitea/x.yml"],
        Content,
        "Gitea:",
    ),
    Said(
        "Azure secrets",
        ["VS403654: The push was rejected because it contains one or more secrets."],
        Content,
        "VS403654",
        "Replace the secret",
    ),
    Said(
        "receive.maxInputSize",
        ["fatal: pack exceeds maximum allowed size (50.00 MiB)"],
        Content,
        "",
        "large file",
        "unpacker error",
    ),
    Said(
        "receive.fsckObjects",
        [
            "error: object a1b2c3d: badTimezone: invalid author/committer line - bad time zone",
            "fatal: fsck error in packed object",
        ],
        Content,
        "",
        "plain commits",
        "unpacker error",
    ),
    Said(
        "a secret in billing",
        [
            "error: GH013: Repository rule violations found.",
            "- Push cannot contain secrets",
            "path: src/payment/billing.py:3",
        ],
        Content,
        "GH013",
        "Replace the secret",
        RULES,
    ),
    Said(
        "fix it and try again",
        ["Commit message must name a ticket. Please fix it and try again."],
        Content,
        "",
        "messages",
    ),
    Said(
        "temporary files",
        ["Temporary files are not allowed: a.tmp"],
        Content,
        "Temporary files",
        "named files",
    ),
    Said(
        "a file named like trouble",
        ["File timeout.py is forbidden", "File archived.zip is forbidden"],
        Content,
        "File",
        "named files",
    ),
    Said(
        "pip freeze",
        ["requirements.txt must be the output of pip freeze"],
        Content,
        "requirements.txt",
        "follow-up",
    ),
    Said("try again later", ["GitLab: The server cannot take this now, try again later"], Host, "GitLab"),
    Said(
        "GH006",
        [
            "error: GH006: Protected branch update failed for refs/heads/x.",
            "error: Changes must be made through a pull request.",
        ],
        Rule,
        "GH006",
        "branch rules",
        "protected branch hook declined",
    ),
    Said(
        "GH013 creations",
        [
            "error: GH013: Repository rule violations found for refs/heads/x.",
            "- Cannot create ref due to creations being restricted.",
        ],
        Rule,
        "GH013",
        "branch names",
        RULES,
    ),
    Said(
        "GH013 signatures",
        [
            "error: GH013: Repository rule violations found for refs/heads/x.",
            "- Commits must have verified signatures.",
            "  Found 8 violations:",
            "",
            *SHAS,
        ],
        Rule,
        "GH013",
        "signs no commits",
        RULES,
    ),
    Said(
        "GH013 a secret and a pull request",
        [*SECRET, "- Changes must be made through a pull request."],
        Rule,
        "GH013",
        "branch rules",
        RULES,
    ),
    Said(
        "GitLab branch name",
        ["GitLab: Branch name does not follow the pattern '^feature/'"],
        Rule,
        "GitLab",
        "branch names",
    ),
    Said(
        "a hook about branches",
        ["branch feat-wo-1 does not match the naming convention"],
        Rule,
        "",
        "branch names",
    ),
    Said(
        "GitLab protected",
        ["GitLab: You are not allowed to push code to protected branches on this project."],
        Rule,
        "GitLab",
        "branch rules",
    ),
    Said(
        "Gitea protected",
        ["Gitea: Not allowed to push to protected branch main"],
        Rule,
        "Gitea",
        "branch rules",
    ),
    Said(
        "archived",
        ["ERROR: This repository was archived so it is read-only."],
        Rule,
        "This repository was archived",
        "writable",
    ),
    Said("a freeze", ["Code freeze until Monday"], Rule, "Code freeze", "time of a push"),
    Said(
        "a full quota",
        ["GitLab: Your push has been rejected, because this repository has exceeded its size limit of 10 MB"],
        Rule,
        "GitLab",
        "used up",
    ),
    Said("nothing said", [], Rule, HOOK),
    Said("non-fast-forward", [], Rule, "non-fast-forward", "", "non-fast-forward"),
    Said(
        "workflow scope",
        [],
        Access,
        "refusing to allow",
        "Workflows, read and write",
        "refusing to allow an OAuth App to create or update workflow `.github/workflows/x.yml` without "
        "`workflow` scope",
    ),
    Said("Gitea permission", ["Gitea: User permission denied for writing."], Access, "Gitea", "write access"),
    Said(
        "Azure permission",
        ["TF401027: You need the Git 'GenericContribute' permission to perform this action."],
        Access,
        "TF401027",
        "write access",
    ),
    Said(
        "internal error",
        ["Internal Server Error"],
        Host,
        "Internal Server Error",
        "status",
        "Internal Server Error",
    ),
    Said("GitLab's API", ["GitLab: Internal API error (502)"], Host, "GitLab"),
    Said("a hook's time-out", ["pre-receive hook timed out after 5 s"], Host, "pre-receive hook timed out"),
    Said(
        "a full disk",
        ["fatal: write error: No space left on device", "fatal: index-pack abnormal exit"],
        Host,
        "",
        "disk space",
        "unpacker error",
    ),
    Said(
        "a lock",
        ["error: cannot lock ref 'refs/heads/x': Unable to create 'x.lock': File exists."],
        Host,
        "",
        "",
        "failed to update ref",
    ),
    Said("a policy daemon that is down", ["Error: cannot connect to policy server"], Host, "cannot connect"),
    Said("maintenance", ["GitHub Enterprise is in maintenance mode"], Host, "GitHub Enterprise"),
]


@pytest.mark.parametrize("said", TABLE, ids=lambda said: said.name)
def test_a_refusal_is_told_apart_and_its_advice_fits(said: Said) -> None:
    error = said.error
    assert type(error) is said.kind, error
    words = str(error).removeprefix("The remote refused the push: ")
    assert words.startswith(said.first), words
    assert said.advice in error.advice
    assert not says_disk_full(error), "it is another machine's disk"
    for plumbing in (
        "remote:",
        "\x1b",
        "failed to push",
        "Resolving deltas",
        "[remote rejected]",
        "——",
        "locations",
    ):
        assert plumbing not in words
    assert error.retryable is (said.kind in {Content, Host})


def test_a_branch_in_the_way_is_named() -> None:
    ref = "refs/heads/feat-wo-1"
    reason = f"cannot lock ref '{ref}': '{ref}/mine' exists; cannot create '{ref}'"
    error = push_error(*heard([], reason))
    assert type(error) is PushRejected
    assert str(error) == (
        "The remote has a branch feat-wo-1/mine, and beside it git can have none called feat-wo-1."
    )
    assert error.advice.startswith("Rename or delete feat-wo-1/mine on the remote, then retry")


def test_a_hook_without_a_word_is_not_said_to_have_given_its_reason() -> None:
    error = push_error(*heard([], HOOK))
    assert type(error) is PushRejected
    assert error.advice.startswith("The remote gives no reason")


@pytest.mark.parametrize(
    ("line", "is_guess"),
    [
        ("Computer says no", True),
        ("Talk to Anna before you push", True),
        ("Policy 7", True),
        ("Trailing whitespace in line 7", False),
        ("error: GH001: Large files detected.", False),
        ("Commits by robots are not taken", False),
        ("Your tests fail", False),
    ],
)
def test_what_may_be_about_anything_is_a_guess(line: str, is_guess: bool) -> None:
    error = push_error(*heard([line], HOOK))
    assert isinstance(error, PushContentRefused)
    assert error.is_guess is is_guess
    assert str(as_another_matter(error)) == str(error)


def test_names_of_the_commits_own_are_found_in_what_a_hook_says() -> None:
    words = "The remote refused the push: No way: 'a/tool.exe', see abcdef1."
    assert names_one_of(words, ["tool", "a/tool.exe"])
    assert names_one_of(words, ["abcdef1" + "0" * 33])
    assert not names_one_of(words, ["tool", "exe", "a", "0" * 40])


def test_the_sentence_comes_first_and_the_list_last() -> None:
    words = str(next(said for said in TABLE if said.name == "GH013 signatures").error)
    assert words.index("verified signatures") < words.index(SHAS[0][:12])
    assert "and 5 more" in words
    assert SHAS[5][:12] not in words


def test_what_was_found_where_and_how_to_allow_it_is_kept() -> None:
    words = str(next(said for said in TABLE if said.name == "GH013 secrets").error)
    for part in ("Push cannot contain secrets", "Stripe API Key", "config.py:3", "unblock-secret/2abcDEF"):
        assert part in words
    assert words.count("config.py:3") == 1
    assert words.index("Stripe API Key") < words.index(SHAS[0][:12])


def test_a_very_long_list_leaves_the_sentence_and_the_link() -> None:
    paths = [f"a long/way/to/file number {number}.bin" for number in range(5000)]
    link = "https://github.com/o/r/security/secret-scanning/unblock-secret/2abc"
    words = presentable(["error: GH013: Rule violations found.", *paths, "To push, follow this URL:", link])
    assert words.startswith("GH013: Rule violations found. a long/way/to/file number 0.bin")
    assert link in words
    assert "lines more" in words
    assert len(words) <= WORDS_LIMIT


@pytest.mark.parametrize(
    ("status", "lines", "kind"),
    [
        (403, ["Permission to o/r.git denied to robot."], RemoteAccessDenied),
        (403, ["This repository was archived so it is read-only."], PushRejected),
        (403, ["The 'acme' organization has enabled or enforced SAML SSO."], RemoteAccessDenied),
        (413, [], PushContentRefused),
        (500, [], GitHostFailed),
        (503, ["Service is unavailable"], GitHostFailed),
        (429, [], GitHostFailed),
    ],
)
def test_a_refusal_by_http(status: int, lines: Sequence[str], kind: type[GitError]) -> None:
    told = "".join(f"remote: {line}\n" for line in lines)
    fatal = f"fatal: unable to access 'https://h/o/r.git/': The requested URL returned error: {status}\n"
    error = push_error("", told + fatal)
    assert type(error) is kind
    assert not lines or lines[0] in str(error)


def test_a_failure_without_a_word_of_the_remote_is_another_matter() -> None:
    assert push_error("", "fatal: unable to access 'https://h/': Could not resolve host: h\n") is None
    assert push_error("", "") is None


@pytest.mark.parametrize("piece", ["x", "a.b", "/", "=", "- ", "branch ", "remote: ", "\x1b[", "file-"])
def test_a_megabyte_of_anything_is_read_at_once(piece: str) -> None:
    started = time.monotonic()
    push_error(*heard([piece * (1_000_000 // len(piece))], HOOK))
    push_error(*heard([f"{piece * 20}{number}" for number in range(5000)], HOOK))
    assert time.monotonic() - started < 20


@given(st.lists(st.text(max_size=200), max_size=50), st.text(max_size=100))
def test_whatever_a_hook_says_is_bounded_and_readable(lines: list[str], reason: str) -> None:
    error = push_error(*heard(lines, reason))
    assert error is None or (len(str(error)) < 3000 and "\x1b" not in str(error))
    assert len(presentable(lines)) <= WORDS_LIMIT


HOOKS = {
    "a short word": (
        "echo 'error: GH001: Large files detected.' >&2; exit 1",
        PushContentRefused,
        "GH001: Large files",
    ),
    "a list of 300 kB": (
        "echo 'GitLab: 9000 files were prohibited by the pattern'; "
        "seq -f 'some/long/path/to/a/file-%06g.exe' 9000; exit 1",
        PushContentRefused,
        "GitLab: 9000 files were prohibited by the pattern",
    ),
    "nothing": ("exit 1", PushRejected, "pre-receive hook declined"),
    "a hook that crashes": ("kill -9 $$", PushRejected, "pre-receive hook declined"),
    "colours": (
        "printf '\\033[31;1mprotected branch\\033[0m\\r\\n' >&2; exit 1",
        PushRejected,
        "protected branch",
    ),
}


@pytest.mark.parametrize("how", HOOKS)
def test_over_the_wire(how: str, tmp_path: Path) -> None:
    script, kind, first = HOOKS[how]
    with FakeGitServer(tmp_path / "server") as server:
        server.add_token(TOKEN)
        server.create_repository("acme", "shop")
        bare = server.repository_path("acme", "shop")
        hook = bare / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
        hook.chmod(0o755)
        remote = RemoteRepository(f"{server.base_url}/acme/shop.git", TOKEN)
        mirror = RepositoryMirror(tmp_path / "data", "shop", TrustedGit(GitSettings()))
        base = mirror.refresh(remote, base_branch=None, git_branch_name="work").base_sha
        tree = git("rev-parse", f"{base}^{{tree}}", folder=mirror.path)
        who = "A <a@example.com> 5 +0000"
        text = f"tree {tree}\nparent {base}\nauthor {who}\ncommitter {who}\n\nM\n"
        head = raw_commit(mirror.path, text.encode())
        with pytest.raises(GitError) as caught:
            mirror.push(remote, sha=head, git_branch_name="work")
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"The remote refused the push: {first}")
        assert len(str(caught.value)) < WORDS_LIMIT + 100
        assert "work" not in branches(bare)
