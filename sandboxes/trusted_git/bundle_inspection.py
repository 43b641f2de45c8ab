"""Looks at what a bundle brings, in a quarantine folder, before any of it enters a mirror: whole, well-formed, bounded.

Every byte is an agent's. A few objects can stand for millions of paths (a tree that holds the same tree many times), so
paths are counted as git lists them, commit by commit, and git gets bounded memory for it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sandboxes.errors import BundleRejected, CommitsMalformed, PushTooLarge
from sandboxes.processes.concurrency import both
from sandboxes.processes.run import ProcessResult
from sandboxes.trusted_git.git import TrustedGit

NOT_TAKEN = "The agent's commits could not be taken over"
INSPECT_SECONDS = 300
MOST_PATHS = 100_000
MOST_PATHS_IN_ALL = 200_000
MOST_BYTES = 24 * 1024 * 1024
# Each commit is a line of its own after a NUL, which no path and no message holds.
_LISTED = (
    "-z",
    "--topo-order",
    "--reverse",
    "--name-only",
    "-r",
    "-c",
    "--root",
    "--no-renames",
    "--format=%x01%H %B",
)
_MARK_BYTES = 64
_FSCK = re.compile(r"error: object ([0-9a-f]{40,64}): (\w+): (.*)")
_OF_COMMITS = {
    "badDate": "its author or committer line holds no date git can read",
    "badDateOverflow": "the date in its author or committer line is beyond what git can keep",
    "zeroPaddedDate": "the date in its author or committer line starts with a zero",
    "missingSpaceBeforeDate": "its author or committer line holds no date git can read",
    "badTimezone": "the time zone in its author or committer line is none",
    "badName": "the name in its author or committer line is none git accepts",
    "badEmail": "the e-mail address in its author or committer line is none git accepts",
    "missingEmail": "its author or committer line holds no e-mail address",
    "missingNameBeforeEmail": "its author or committer line holds no name",
    "missingSpaceBeforeEmail": "its author or committer line holds no name",
    "missingAuthor": "it names no author",
    "missingCommitter": "it names no committer",
    "multipleAuthors": "it names more than one author",
    "missingTree": "it names no tree",
    "badTreeSha1": "it names no tree",
    "badParentSha1": "it names a parent that is none",
    "nulInCommit": "its message holds a NUL byte",
    "nulInHeader": "its header holds a NUL byte",
    "unterminatedHeader": "its header does not end",
}


@dataclass(frozen=True)
class Inspector:
    """Reads one bundle's objects in `quarantine`, which borrows the objects of the mirror at `git_dir`."""

    git: TrustedGit
    git_dir: Path
    quarantine: Path

    def inspect(self, pack: BinaryIO, *, head: str, descends_from: str) -> bool:
        """Whether the head descends from the given commit. Raises `BundleRejected` and `PushTooLarge`."""
        start = pack.tell()
        index = ("index-pack", "--stdin", "--fix-thin", "--threads=1")
        indexed = self._run(*index, "--strict", stdin=pack)
        if indexed.exit_code != 0 and "gitmodules" in indexed.stderr_text:
            pack.seek(start)
            indexed = self._run(*index, f"--strict=skiplist={self._known_modules(descends_from)}", stdin=pack)
        if indexed.exit_code != 0:
            raise _malformed(indexed.stderr_text)
        descends, _ = both(
            lambda: self._walk(head, descends_from), lambda: self._count_paths(head, descends_from)
        )
        return descends

    def _walk(self, head: str, descends_from: str) -> bool:
        """Whether the head descends from the given commit.

        One walk shows three things: every object is there; the head is a commit, for a tag would be peeled and its
        own name not come first; and where the given commit is an ancestor, the walk ends at it (at least there).
        """
        walked = self._run(
            "rev-list", "--objects", "--no-object-names", "--boundary", head, f"^{descends_from}"
        )
        if walked.exit_code < 0:  # git walks folders by recursion
            raise PushTooLarge(
                f"git broke off over the new commits (signal {-walked.exit_code}), as it does where folders are nested "
                "many thousands deep."
            )
        if walked.exit_code != 0:
            raise BundleRejected(
                f"{NOT_TAKEN}: something they need is missing ({_said(walked.stderr_text)})."
            )
        if walked.truncated:
            raise PushTooLarge("The commits hold too many new objects to be looked at.")
        found = walked.stdout.decode("ascii", "replace").split("\n")
        if head != descends_from and found[0] != head:
            raise BundleRejected(f"{NOT_TAKEN}: what its branch points to, {head[:12]}, is no commit.")
        return head == descends_from or f"-{descends_from}" in found

    def _known_modules(self, commit: str) -> Path:
        """A list with the `.gitmodules` a commit has already, which git checks again in every new tree that keeps it.

        The remote has it, this server reads it for what it is, and no order could end well that starts from it.
        """
        arguments = ("rev-parse", "--verify", "--quiet", f"{commit}:.gitmodules")
        listed = self.git.run(*arguments, git_dir=self.git_dir, check=False)
        path = self.quarantine / "known"
        path.write_bytes(listed.stdout)
        return path

    def _run(self, *arguments: str, stdin: bytes | BinaryIO = b"", **more: object) -> ProcessResult:
        return self.git.run(
            *arguments,
            git_dir=self.git_dir,
            quarantine=self.quarantine,
            stdin=stdin,
            check=False,
            timeout_seconds=INSPECT_SECONDS,
            **more,  # type: ignore[arg-type]  # passed on
        )

    def _count_paths(self, head: str, descends_from: str) -> None:
        counter = _PathCounter()
        try:
            listed = self._run("log", *_LISTED, *self._new(head, descends_from), on_stdout=counter.feed)
        except _Counted:
            raise
        except PushTooLarge as error:  # git keeps all paths of a commit in memory before it says the first
            raise PushTooLarge(
                f"A commit changes more paths than git can list in the memory it gets ({MOST_PATHS} are accepted): "
                f"{self._after(head, descends_from, counter.commit)}."
            ) from error
        if listed.exit_code != 0:
            raise BundleRejected(f"{NOT_TAKEN}: git cannot list them ({_said(listed.stderr_text)}).")

    @staticmethod
    def _new(head: str, descends_from: str) -> tuple[str, ...]:
        """What nobody has yet: a merge may well bring what the remote's own branches went on by."""
        return (head, f"^{descends_from}", "--not", "--remotes=origin", "--")

    def _after(self, head: str, descends_from: str, last_listed: str) -> str:
        """The commit at which listing failed: the first that was not listed."""
        listed = self._run("rev-list", "--topo-order", "--reverse", *self._new(head, descends_from))
        walk = listed.stdout.decode("ascii", "replace").split()
        at = walk.index(last_listed) + 1 if last_listed in walk else 0
        return f"commit {walk[at][:12]}" if at < len(walk) else "one of the new commits"


class _Counted(PushTooLarge):
    """Too much was listed, as opposed to: git could not list it."""


class _PathCounter:
    """Counts what `git log` lists, from chunks of any size. Raises `PushTooLarge` where it is too much."""

    def __init__(self) -> None:
        self.commit = ""
        self._paths = 0
        self._all = 0
        self._bytes = 0
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MOST_BYTES:
            raise _Counted(
                f"The messages and paths of the new commits come to more than {MOST_BYTES >> 20} MiB; the last one "
                f"looked at was commit {self.commit[:12]}."
            )
        tokens = (self._rest + chunk).split(b"\0")
        self._rest = tokens.pop()[:_MARK_BYTES]  # a message may be long, and its start tells what it is
        for token in tokens:
            if token.startswith(b"\x01") and token[41:42] == b" ":
                self.commit, self._paths = token[1:41].decode("ascii", "replace"), 0
                continue
            self._paths += 1
            self._all += 1
        if self._paths > MOST_PATHS:
            raise _Counted(f"Commit {self.commit[:12]} changes more than {MOST_PATHS} paths.")
        if self._all > MOST_PATHS_IN_ALL:
            raise _Counted(
                f"The new commits change more than {MOST_PATHS_IN_ALL} paths; the last one looked at was commit "
                f"{self.commit[:12]}."
            )


def _said(stderr: str) -> str:
    """Git's last lines, as one."""
    return (
        " · ".join(line.strip() for line in stderr[-500:].splitlines() if line.strip())
        or "it does not say why"
    )


def _malformed(said: str) -> BundleRejected:
    found = _FSCK.search(said)
    if found is None:
        return BundleRejected(f"git does not accept the bundle's objects: {said[-500:]}")
    sha, name, text = found.groups()
    if words := _OF_COMMITS.get(name):
        return CommitsMalformed(f"git does not accept commit {sha[:12]}: {words} ({name}).")
    return CommitsMalformed(
        f"git does not accept object {sha[:12]} of the new commits: {text.strip()[:300]} ({name})."
    )
