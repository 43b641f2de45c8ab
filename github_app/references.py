"""Untrusted names of repositories, issues and branches become typed values, or are refused with a reason.

Pure: text in, values out; no network, no git, no Django. What is accepted is a short list of whole-text
patterns, so everything unforeseen is refused; the reasons below only explain a refusal that already stands.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_REFERENCE_LENGTH = 512
MAX_BRANCH_LENGTH = 200
MAX_ISSUE_NUMBER = 2**31 - 1

_OWNER = r"(?P<owner>[A-Za-z0-9][A-Za-z0-9_-]{0,38})"  # accounts of an enterprise have an underscore
_NAME = r"(?P<name>[A-Za-z0-9._][A-Za-z0-9._-]{0,99}?)(?:\.git)?"
_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252})"
# What GitHub shows of a repository under its address: an issue, a pull request, or a page that says no more.
# A mark of the sentence that a link was copied out of is no part of it.
_ITEM = r"(?:issues/(?P<issue>[0-9]{1,40})|pull/(?P<pull>[0-9]{1,40}))[).,;:!>\]'\"*]*"
_PAGES = (
    "actions|activity|agents|archive|attestations|blame|blob|branches|codespaces|commit|commits|community|compare|"
    "contributors|deployments|discussions|edit|find|forks|graphs|issues|labels|milestone|milestones|models|network|"
    "packages|projects|pull|pulls|pulse|raw|releases|rules|security|settings|stargazers|tags|tree|watchers|wiki"
)
# Behind a page's address anything may follow; behind the repository's own only what its page puts there itself.
_REST = (
    rf"(?:(?P<page>/(?:{_ITEM}|(?:{_PAGES}))(?P<below>/[!-~]*)?)/?(?:[?#][!-~]*)?"
    r"|/?(?P<extra>(?:\?tab=[\w-]+)?(?:#[\w.%-]{2,})?))"
)
_FORMS = (
    re.compile(rf"(?i:https)://{_HOST}/{_OWNER}/{_NAME}{_REST}", re.ASCII),
    re.compile(rf"(?i:ssh)://git@{_HOST}/{_OWNER}/{_NAME}(?<=\.git)/?", re.ASCII),
    re.compile(rf"git@{_HOST}:{_OWNER}/{_NAME}", re.ASCII),
    re.compile(rf"{_OWNER}/{_NAME}(?:#(?P<issue>[0-9]{{1,40}}))?", re.ASCII),
)
# One part of a local path: no colon, percent sign or control character.
_LOCAL = re.compile(r"(?:file://)?(?P<path>(?:/[A-Za-z0-9._ +@=,~-]+)+)/?", re.ASCII)


def _has_query(text: str) -> bool:
    return "?" in text or "#" in text


# Why a text matches none of the forms, first fitting row wins.
_REASONS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda text: not text, "is empty"),
    (lambda text: not text.isascii(), "holds characters beyond ASCII"),
    (lambda text: not text.isprintable(), "holds control characters or line breaks"),
    (lambda text: text.startswith("-"), "starts with '-'"),
    (lambda text: "%" in text, "uses percent-encoding"),
    (_has_query, "has a query or fragment"),
    (lambda text: "@{" in text, "holds '@{'"),
    (lambda text: ".." in text.split("/"), "holds '..'"),
    (lambda text: "::" in text, "names a transport helper"),
    (
        lambda text: "://" in text and not text.lower().startswith(("https://", "file://", "ssh://git@")),
        "is not an https address",
    ),
    (
        lambda text: "@" in text and not text.lower().startswith(("git@", "ssh://git@")),
        "carries a user name or password",
    ),
    (lambda text: bool(re.search(r":\d", text)), "carries a port"),
)
_EXPECTED = "give https://{host}/owner/name, git@{host}:owner/name.git or owner/name"


class ReferenceInvalid(ValueError):
    """The text names nothing the server accepts; the message says why and what to give instead."""


@dataclass(frozen=True)
class RepositoryReference:
    """Where a repository is.

    On GitHub: `host`, `owner`, `name`, no `local_path`. On this machine: `host` and `owner` are empty, `name`
    is the folder's name without `.git`, and `local_path` is absolute.
    """

    host: str
    owner: str
    name: str
    local_path: Path | None = None

    @property
    def is_local(self) -> bool:
        return self.local_path is not None

    @property
    def full_name(self) -> str:
        return str(self.local_path) if self.local_path else f"{self.owner}/{self.name}"

    @property
    def repository_url(self) -> str:
        """The one spelling under which the repository is stored; for a local one its absolute path."""
        return str(self.local_path) if self.local_path else f"https://{self.host}/{self.owner}/{self.name}"

    def clone_url(self, git_base_url: str) -> str:
        """Where git fetches from and pushes to, without credential; `git_base_url` is the base for `host`."""
        if self.local_path:
            return str(self.local_path)
        return f"{git_base_url.rstrip('/')}/{self.owner}/{self.name}.git"

    @property
    def key(self) -> Path:
        """A relative path that belongs to this repository alone, for its mirror and its lock.

        Lower case, because GitHub ignores case in names; local folders by digest. No host starts with '_'.
        """
        if self.local_path:
            return Path("_local", hashlib.sha256(str(self.local_path).encode()).hexdigest()[:16])
        return Path(self.host, self.owner.lower(), self.name.lower())


@dataclass(frozen=True)
class PastedLink:
    """What a person gave for a repository: the repository, and the issue or pull request that a link named, else "".

    `is_plain`: it named the repository and nothing more.
    """

    repository: RepositoryReference
    issue_number: str = ""
    pull_request_number: str = ""
    is_plain: bool = True


def parse_repository_reference(text: str, *, github_host: str, allow_local: bool) -> RepositoryReference:
    """The repository a person named, also by the link of one of its pages.

    Only `github_host` is known: one server, one GitHub, one credential. Raises `ReferenceInvalid`.
    """
    return parse_link(text, github_host=github_host, allow_local=allow_local).repository


def parse_link(text: str, *, github_host: str, allow_local: bool) -> PastedLink:
    """The repository and what a pasted link names of it. Raises `ReferenceInvalid`."""
    if len(text) > MAX_REFERENCE_LENGTH:
        raise ReferenceInvalid(f"A repository reference has at most {MAX_REFERENCE_LENGTH} characters.")
    if text.startswith(("/", "file:")):
        return PastedLink(_parse_local(text, github_host, allow_local))
    match = next((found for form in _FORMS if (found := form.fullmatch(text))), None)
    groups = match.groupdict() if match else {}
    if match is None or ".." in (groups.get("below") or "").partition("?")[0].split("/"):
        raise ReferenceInvalid(_refusal(text, github_host))
    given = (groups.get("host") or github_host).lower()
    host = given.removeprefix("www.") if given == f"www.{github_host.lower()}" else given
    if host != github_host.lower():
        raise ReferenceInvalid(f"This server works with {github_host}, not with {host}.")
    issue, pull = ((groups.get(kind) or "").lstrip("0") for kind in ("issue", "pull"))
    named = groups.get("issue") or groups.get("pull")
    if named and not 1 <= int(named) <= MAX_ISSUE_NUMBER:
        raise ReferenceInvalid(f"The link names #{named}, which is no number on GitHub.")
    return PastedLink(
        _on_github(host, groups["owner"], groups["name"], github_host),
        issue_number=issue,
        pull_request_number=pull,
        is_plain=given == host and not any(groups.get(part) for part in ("page", "extra", "issue")),
    )


def _on_github(host: str, owner: str, name: str, github_host: str) -> RepositoryReference:
    if name in {".", ".."} or name.lower().endswith(".git"):
        raise ReferenceInvalid(f"{name!r} is no repository name; {_EXPECTED.format(host=github_host)}.")
    return RepositoryReference(host=host, owner=owner, name=name)


def _parse_local(text: str, github_host: str, allow_local: bool) -> RepositoryReference:
    if not allow_local:
        raise ReferenceInvalid(
            "Local repositories are not allowed on this server "
            f"(WORKORDERS_ALLOW_LOCAL_REPOSITORIES=true allows them); {_EXPECTED.format(host=github_host)}."
        )
    match = _LOCAL.fullmatch(text)
    path = Path(match["path"]) if match else None
    if path is None or {".", ".."} & set(text.split("/")):
        raise ReferenceInvalid(
            "A local repository is an absolute path of plain ASCII characters without '.' or '..' parts, "
            "or file:// and that path."
        )
    if "@{" in text or any(part.startswith("-") for part in path.parts):
        raise ReferenceInvalid("No part of a local repository's path may start with '-' or hold '@{'.")
    return RepositoryReference(host="", owner="", name=path.name.removesuffix(".git"), local_path=path)


def _refusal(text: str, github_host: str) -> str:
    reason = next((words for fits, words in _REASONS if fits(text)), "is not one the server understands")
    return f"The repository reference {reason}; {_EXPECTED.format(host=github_host)}."


def parse_issue_number(value: str | int) -> str:
    """An issue's number as the product stores it: "42" for 42, "42" and "#42". Raises `ReferenceInvalid`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch(r"#?[0-9]{1,10}", text, re.ASCII):
        number = int(text.removeprefix("#"))
        if 1 <= number <= MAX_ISSUE_NUMBER:
            return str(number)
    raise ReferenceInvalid("An issue is given by its number, such as 42 or #42, or by its link.")


def names_a_repository(text: str) -> bool:
    """Whether what was given for an issue is a link, or `owner/name#3`, and no bare number."""
    return "/" in text


# What `git check-ref-format --branch` refuses, and what this product refuses beyond it.
_BRANCH_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[\x00-\x20\x7f]"), "holds a space or control character"),
    (re.compile(r"[^\x00-\x7f]"), "holds characters beyond ASCII"),
    (re.compile(r"[~^:?*\[\\]"), "holds one of ~ ^ : ? * [ \\"),
    (re.compile(r"\A-"), "starts with '-'"),
    (re.compile(r"\A/|/\Z|//"), "has an empty part"),
    (re.compile(r"\.\."), "holds '..'"),
    (re.compile(r"@\{"), "holds '@{'"),
    (re.compile(r"\A@\Z|\AHEAD\Z"), "is a name git keeps for itself"),
    (re.compile(r"\Arefs/"), "is a full ref; leave out 'refs/heads/'"),
    (re.compile(r"(?:\A|/)\."), "has a part that starts with '.'"),
    (re.compile(r"\.lock(?:/|\Z)"), "has a part that ends with '.lock'"),
    (re.compile(r"\.\Z"), "ends with '.'"),
)


def validate_branch_name(text: str) -> str:
    """The text itself if git takes it as a branch and it cannot be mistaken for an option or another ref.

    Raises `ReferenceInvalid`.
    """
    if not 1 <= len(text) <= MAX_BRANCH_LENGTH:
        raise ReferenceInvalid(f"A branch name has 1 to {MAX_BRANCH_LENGTH} characters.")
    for pattern, reason in _BRANCH_RULES:
        if pattern.search(text):
            raise ReferenceInvalid(f"The branch name {reason}.")
    return text
