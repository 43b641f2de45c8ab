"""What stands between inspected commits and the remote: no secret leaves, and protected paths need a person's word.

Looks at every commit a push would add, in the trusted mirror. Fails closed: what cannot be read is not pushed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from github_app.protected_paths import protected_among
from sandboxes.errors import PushContentRefused, PushTooLarge
from sandboxes.extras.lfs_pointers import LfsPointer, parse_pointer
from sandboxes.trusted_git.git import MOST_COMMITS, TrustedGit
from sandboxes.trusted_git.objects import Commit, Touched
from sandboxes.trusted_git.outgoing import FileTooLarge, Outgoing, object_sizes, outgoing_among, read_objects
from workorders.domain.errors import WorkOrderError
from workorders.text.redaction import Redactor, shapes_in

_NAMED_FINDINGS = 5
_MOST_PATHS = 200
_MOST_FINDINGS = 200
_TOKENS_LOOKED_UP = 20
_LIMIT_ADVICE = "WORKORDERS_PUSH_FILE_MAX_MB is this server's limit."


class SecretInCommits(WorkOrderError):
    """The order's commits hold a secret; nothing of them was pushed."""

    category = "secret_in_commits"
    retryable = True  # where only its looks give it away: the agent may have meant well
    advice = (
        "Replace the secret where it was made, since an agent has seen it, and find out how it got there; then retry: "
        "the order starts again from what was pushed before."
    )


REFUSED_CONTENT = (SecretInCommits, PushTooLarge, PushContentRefused)
"""What the commits hold is why they were not pushed: the agent may do it again without, from what was pushed before."""


@dataclass(frozen=True)
class ProtectedChange:
    """A protected path and the newest of the new commits that changes it."""

    path: str
    commit_sha: str


@dataclass(frozen=True)
class _Finding:
    """`path` is empty for a commit's own message, author or header. `token` is what a shape matched."""

    name: str
    commit_sha: str
    path: str
    token: bytes = b""

    @property
    def words(self) -> str:
        place = f"in {self.path!r} of" if self.path else "in the message or header of"
        return f"{self.name} {place} commit {self.commit_sha[:12]}"


class PushGate:
    """Inspects what pushing to one repository would add; `known` are commits that the remote has already."""

    def __init__(
        self, git: TrustedGit, git_dir: Path, *, redactor: Redactor, file_limit_bytes: int = 0
    ) -> None:
        self._git = git
        self._git_dir = git_dir
        self._redactor = redactor
        self._file_limit = file_limit_bytes
        self.lfs_pointers: dict[LfsPointer, str] = {}
        """What the new commits that were inspected point to in Git LFS, each with one of its paths."""

    def inspect(
        self,
        *,
        head: str,
        known: Sequence[str],
        base_sha: str,
        patterns: tuple[str, ...],
        net_paths: Sequence[str] = (),
        commits: Sequence[Commit] = (),
    ) -> tuple[ProtectedChange, ...]:
        """The protected paths that the new commits change. Raises `SecretInCommits`, `PushTooLarge`, `GitError`.

        `commits` are the newest of those that `head` reaches and the base branch does not, where they were read.
        `net_paths` are those in which the head differs from where it met the base branch: a merge that only keeps
        the order's side of a path changes nothing itself and takes the base branch's change back all the same.
        """
        if head in known:
            return ()
        if not 0 < len(commits) < MOST_COMMITS:  # not read, or cut off
            commits = self._git.commits(self._git_dir, head=head, base=base_sha, without=known, limit=-1)
        outgoing = outgoing_among(commits, pushed=known)
        self._refuse_secrets(outgoing, base_sha)
        touched = {at.path: at.commit_sha for at in outgoing.touched}
        if outgoing.has_merge:
            touched = {**dict.fromkeys(net_paths, head), **touched}
        found = protected_among(touched, patterns) if patterns else ()
        return tuple(ProtectedChange(path, touched[path]) for path in sorted(found)[:_MOST_PATHS])

    def _refuse_secrets(self, outgoing: Outgoing, base_sha: str) -> None:
        places: defaultdict[str, list[Touched]] = defaultdict(list)
        for touched in outgoing.touched:
            places[touched.blob].append(touched)
        own = [Touched(sha, "", sha) for sha in outgoing.commits]
        for commit in own:
            places[commit.blob].append(commit)
        places.pop("", None)
        findings = [
            _Finding(f"{name} is", touched.commit_sha, touched.path)
            for touched in outgoing.touched
            for name in self._redactor.find(touched.path.encode("utf-8", "surrogateescape"))
        ]

        def look(sha: str, data: bytes) -> None:
            if (pointer := parse_pointer(data)) is not None:
                self.lfs_pointers[pointer] = places[sha][0].path
            for name in self._redactor.find(data):
                findings.extend(_Finding(f"{name} is", at.commit_sha, at.path) for at in places[sha])
            for name, token in shapes_in(data) if len(findings) < _MOST_FINDINGS else ():
                words = f"What looks like a secret ({name}) is"
                findings.extend(_Finding(words, at.commit_sha, at.path, token) for at in places[sha])

        try:
            read_objects(self._git, self._git_dir, list(places), look, limit_bytes=self._file_limit)
        except FileTooLarge as error:
            raise self._too_large(places) from error
        known = [finding for finding in findings if not finding.token]
        tokens = dict.fromkeys(finding.token for finding in findings if finding.token)
        old = {token for token in list(tokens)[:_TOKENS_LOOKED_UP] if self._is_old(token, base_sha)}
        others = [finding for finding in findings if finding.token and finding.token not in old]
        if known or others:
            words = list(dict.fromkeys(finding.words for finding in (*known, *others)))
            more = f" and {len(words) - _NAMED_FINDINGS} more" if len(words) > _NAMED_FINDINGS else ""
            message = f"{'; '.join(words[:_NAMED_FINDINGS])}{more}. Nothing was pushed."
            raise SecretInCommits(self._redactor.redact(message), retryable=not known)

    def _too_large(self, places: Mapping[str, Sequence[Touched]]) -> PushTooLarge:
        """All files over the limit, by path, size and commit: the agent may well have made more than one."""
        sizes = object_sizes(self._git, self._git_dir, list(places))
        large = [
            (at, sizes[sha]) for sha, found in places.items() for at in found if sizes[sha] > self._file_limit
        ]
        words = [
            f"{at.path!r} in commit {at.commit_sha[:12]} has {size / (1 << 20):.1f} MiB"
            if at.path
            else f"the message of commit {at.commit_sha[:12]} has {size / (1 << 20):.1f} MiB"
            for at, size in large[:_NAMED_FINDINGS]
        ]
        more = f" and {len(large) - len(words)} more" if len(large) > len(words) else ""
        limit = f"{self._file_limit / (1 << 20):g} MiB"
        return PushTooLarge(
            f"Git hosts take no file over {limit}: {'; '.join(words)}{more}. Nothing was pushed.",
            advice=(
                "Ask for a change without these files (git is no place for what is generated or downloaded), or "
                "let them be "
                f"kept with Git LFS; then retry: the agent starts again from what was pushed before. {_LIMIT_ADVICE}"
            ),
        )

    def _is_old(self, token: bytes, base_sha: str) -> bool:
        """Whether the base commit has it already, such as a test's example: pushing it again tells nobody more."""
        line = max(token.splitlines(), key=len)
        pattern = ("--quiet", "--text", "--fixed-strings", "-f", "/dev/stdin")
        found = self._git.run(
            "grep", *pattern, base_sha, "--", git_dir=self._git_dir, stdin=line + b"\n", check=False
        )
        return found.exit_code == 0
