"""The trusted git: one hardened way to run it, typed values out.

Runs only against bare repositories that no agent can reach (`mirror.py`) and against remotes. Law 2: no call
here ever names a folder an agent could write.
"""

import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from sandboxes.errors import (
    BaseBranchMissing,
    GitError,
    GitTimeout,
    ProgramMissing,
    PushTooLarge,
    RemoteAccessDenied,
    RemoteNotFound,
    RepositoryEmpty,
)
from sandboxes.processes import run as process
from sandboxes.processes.run import ExitReason, ProcessLimits, ProcessResult
from sandboxes.trusted_git.objects import (
    DIFFERENCE,
    LOG_FORMAT,
    LOG_PATHS,
    REGULAR_MODES,
    Commit,
    Difference,
    FileChange,
    parse_changes,
    parse_difference,
    parse_log,
)
from sandboxes.trusted_git.push_words import push_error

# A credential helper that git runs through its shell; the token is in the environment of that one git call.
_HELPER = """!printf 'username=x-access-token\\npassword=%s\\n' "$WORKORDERS_GIT_TOKEN"; :"""
_SERVER = "Work Orders <server@work-orders.invalid>"
LOCAL_SECONDS = 60.0
NETWORK_SECONDS = 600.0
OUTPUT_BYTES = 32 * 1024 * 1024
PATCHES_BYTES = 8 * 1024 * 1024
ERROR_BYTES = 64 * 1024
MEMORY_BYTES = 352 * 1024 * 1024  # of data; with what is mapped of packs, a git stays under 512 MiB
PUSH_ERROR_BYTES = 1024 * 1024  # the remote's sentence stands before lists that may be long
_STREAMED_FROM = "core.bigFileThreshold=32m"  # larger objects never come whole into git's memory
# What git maps and caches of packs, and what it compares when it makes one for a push.
_CACHED = (
    "core.deltaBaseCacheLimit=32m",
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=128m",
    "pack.windowMemory=64m",
    "pack.deltaCacheSize=16m",
    "pack.threads=2",
)
_FIRST_READ = "GIT_CONFIG_GLOBAL"  # before any object, and so until its memory is bounded from outside
_SHA = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
MOST_COMMITS = 2000
_MOST_DESCENTS = 1000
_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|error: 40[13]|Permission denied|"
    r"Invalid username or (password|token)|Write access to repository not granted|denied to ",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    r"Repository not found|does not appear to be a git repository|not found|error: 404|does not exist",
    re.IGNORECASE,
)
_UNREADABLE = (
    "Could not read from remote repository"  # of any folder git does not serve from, whatever the reason
)
_LOCAL_ADVICE = (
    "Check the path, and that it is a git repository which the server's account owns and can read."
)
_REMOTE_COMMANDS = frozenset({"ls-remote", "fetch", "push"})
_DOING: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"fetch"}), "fetch from the repository's remote"),
    (frozenset({"ls-remote"}), "ask the repository's remote for its branches"),
    (frozenset({"push"}), "push to the repository's remote"),
    (frozenset({"cat-file", "ls-tree"}), "read a file of a commit"),
    (
        frozenset({"log", "rev-list", "rev-parse", "diff-tree", "merge-base", "merge-tree", "for-each-ref"}),
        "read the order's commits",
    ),
    (frozenset({"update-ref", "hash-object", "write-tree", "read-tree", "update-index"}), "store a commit"),
)
_AT_WORK = "do its work on the server's copy of the repository"
_UNBOUNDED = _REMOTE_COMMANDS | {"repack", "pack-refs", "pack-objects", "verify-pack"}
_OUT_OF_MEMORY = re.compile(
    r"[Oo]ut of memory|[Cc]annot allocate memory|std::bad_alloc|unable to create (?:async )?thread"
)


@dataclass(frozen=True)
class RemoteRepository:
    """Where to fetch and push. `token` reaches git through a credential helper only, and no other host."""

    url: str
    token: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_local(self) -> bool:
        """A folder of this machine: an absolute path, or `file://` and one."""
        return urlsplit(self.url).scheme in {"", "file"}


@dataclass(frozen=True)
class RemoteRefs:
    """What the remote says now. `default_branch` is None where HEAD points nowhere; values are full shas."""

    default_branch: str | None
    branches: dict[str, str]


@dataclass(frozen=True)
class GitSettings:
    """`search_path` to find git; `timeout_seconds` for calls that cross the network."""

    search_path: str = "/usr/local/bin:/usr/bin:/bin"
    network_seconds: float = NETWORK_SECONDS
    allow_local: bool = False


@lru_cache(maxsize=8)
def find_git(search_path: str) -> str:
    found = shutil.which("git", path=search_path)
    if found is None:
        raise ProgramMissing(
            "git is not installed.", advice="Install git 2.39 or newer on every worker machine."
        )
    return found


def is_sha(text: str) -> bool:
    return bool(_SHA.match(text))


class TrustedGit:
    """Hardened git calls: absolute path, minimal environment, explicit repository, time-out, output cap."""

    def __init__(self, settings: GitSettings) -> None:
        self._settings = settings
        self._program = find_git(settings.search_path)
        protocols = "https:http:file" if settings.allow_local else "https:http"
        self._environment = {
            "PATH": settings.search_path,
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": protocols,
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_ADVICE": "0",
            "GIT_DEFAULT_REF_FORMAT": "files",  # the mirror writes some by itself
        }
        self._descents: OrderedDict[tuple[Path, str, str], None] = OrderedDict()

    def run(
        self,
        *arguments: str,
        git_dir: Path | None = None,
        timeout_seconds: float = LOCAL_SECONDS,
        credential: RemoteRepository | None = None,
        stdin: bytes | BinaryIO = b"",
        work_tree: Path | None = None,
        check: bool = True,
        output_bytes: int = OUTPUT_BYTES,
        quarantine: Path | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        error_bytes: int = ERROR_BYTES,
        memory_bytes: int | None = MEMORY_BYTES,
        largest_file_bytes: int = 0,
        index_file: Path | None = None,
    ) -> ProcessResult:
        """Run git; with `quarantine`, new objects go to that folder while the repository's stay readable.

        It is ended once it said more than `output_bytes`, and gets no more than `memory_bytes` for its data; nothing
        that crosses the network is bounded so, for a first fetch is as large as the repository. With
        `largest_file_bytes`, no file it writes becomes larger (where util-linux is installed).
        Raises `GitTimeout`; `PushTooLarge` where the memory did not do; and `GitError` (or the typed reason) when
        `check` and it failed or said more than `output_bytes`: half an answer is none.
        """
        argv = [
            *self._bounds(largest_file_bytes),
            self._program,
            "--literal-pathspecs",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "gc.auto=0",
            "-c",
            "core.fsmonitor=false",
            "-c",
            _STREAMED_FROM,
            *(part for setting in _CACHED for part in ("-c", setting)),
        ]
        argv += ["-c", "maintenance.auto=false", "-c", "protocol.allow=user", "-c", "credential.helper="]
        argv += ["-c", "fetch.fsckObjects=false"]
        if git_dir is not None:
            argv.append(f"--git-dir={git_dir}")
        if work_tree is not None:
            argv.append(f"--work-tree={work_tree}")
        environment = dict(self._environment)
        if credential is not None and credential.token:
            # for this origin only: a redirect to another host is followed, but not with the token
            argv += ["-c", f"credential.{credential.origin}.helper={_HELPER}"]
            environment["WORKORDERS_GIT_TOKEN"] = credential.token
        if index_file is not None:
            environment["GIT_INDEX_FILE"] = str(index_file)
        if quarantine is not None:
            environment["GIT_OBJECT_DIRECTORY"] = str(quarantine)
            environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f"{git_dir}/objects"
        memory_bytes = None if arguments[0] in _UNBOUNDED else memory_bytes
        limits = ProcessLimits(
            total_seconds=timeout_seconds,
            output_bytes=output_bytes,
            error_bytes=error_bytes,
            memory_bytes=memory_bytes,
            ends_full=True,
        )
        result = process.run(
            [*argv, *arguments],
            env=environment,
            cwd=git_dir or Path("/"),
            stdin=stdin,
            limits=limits,
            on_stdout=on_stdout,
            waits_at=_FIRST_READ if memory_bytes is not None else "",
        )
        if result.reason is ExitReason.OVERFULL:  # what it said so far is whole
            result = replace(result, reason=ExitReason.EXITED, exit_code=0)
        if result.reason is ExitReason.STOPPED:
            raise GitError(f"The step was stopped, and with it git (git {arguments[0]}).")
        if result.reason is not ExitReason.EXITED:
            words = (
                f"Git could not {_doing(arguments[0])} within {timeout_seconds:.0f} s (git {arguments[0]})."
            )
            raise GitTimeout(words)
        if result.exit_code != 0 and memory_bytes is not None and _OUT_OF_MEMORY.search(result.stderr_text):
            raise PushTooLarge(
                "The order's commits or files are more than git can read within "
                f"{memory_bytes >> 20} MiB: too many paths, or a very large tree or file."
            )
        if check and result.exit_code != 0:
            raise _typed_error(arguments[0], result, credential)
        if check and result.truncated:
            raise PushTooLarge(
                f"The order's commits are too much to be read: what git says of them has more than "
                f"{output_bytes} bytes (git {arguments[0]}).",
                retryable=False,
            )
        return result

    def _bounds(self, largest_file_bytes: int) -> list[str]:
        """A pack of any size would be written before anybody could look at it."""
        if not largest_file_bytes:
            return []
        prlimit = shutil.which("prlimit", path=self._settings.search_path)
        return [prlimit, f"--fsize={largest_file_bytes}", "--"] if prlimit else []

    def text(self, *arguments: str, git_dir: Path) -> str:
        return self.run(*arguments, git_dir=git_dir).stdout.decode("utf-8", "replace").strip()

    # --- remotes ---

    def remote_refs(self, remote: RemoteRepository, branches: Sequence[str]) -> RemoteRefs:
        """HEAD and the named branches. Raises the typed reasons of `errors` when the remote cannot be read."""
        patterns = ["HEAD", *(f"refs/heads/{name}" for name in branches)]

        def ask() -> str:
            limit = min(60.0, self._settings.network_seconds)
            arguments = ("ls-remote", "--symref", remote.url, *patterns)
            result = self.run(*arguments, credential=remote, timeout_seconds=limit)
            return result.stdout.decode("utf-8", "replace")

        # A connection cut within the answer's headers looks to git like a remote without any refs.
        return _parse_ls_remote(ask().strip() or ask())

    def default_branch_refs(
        self, remote: RemoteRepository, branches: Sequence[str], *, seen: RemoteRefs | None = None
    ) -> tuple[str, RemoteRefs]:
        """Like `remote_refs`, with the default branch resolved. Raises `RepositoryEmpty` or `BaseBranchMissing`.

        `seen` is the remote's answer to just that, where the caller has it.
        """
        refs = seen or self.remote_refs(remote, branches)
        if not _names_head(refs):
            listed = self.run("ls-remote", "--heads", remote.url, credential=remote).stdout
            if not listed.strip():
                raise RepositoryEmpty("The repository is empty: it has no branch and no commit yet.")
            refs = self.remote_refs(remote, branches)  # the first answers may have been cut
        if not _names_head(refs):
            raise BaseBranchMissing(
                "The repository has no default branch: its HEAD points to a missing branch."
            )
        default = refs.default_branch or ""
        if default and default not in refs.branches:
            sha = refs.branches.get("HEAD", "")
            refs = RemoteRefs(default, {**refs.branches, default: sha})
        return default, refs

    def fetch(
        self, git_dir: Path, remote: RemoteRepository, refspecs: Sequence[str], *, again: bool = False
    ) -> None:
        """`again`: all of their objects, not only those that seem to be missing."""
        self.run(
            "fetch",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--quiet",
            *(["--refetch"] if again else []),
            remote.url,
            *refspecs,
            git_dir=git_dir,
            credential=remote,
            timeout_seconds=self._settings.network_seconds,
        )

    def fetch_commit(
        self,
        git_dir: Path,
        remote: RemoteRepository,
        sha: str,
        *,
        ref: str,
        limit_bytes: int,
        seconds: float,
    ) -> None:
        """One commit without its history, under that ref; no redirect is followed. Raises the typed reasons."""
        result = self.run(
            *("-c", "http.followRedirects=false", "-c", "fetch.unpackLimit=1", "fetch", "--no-tags"),
            *("--no-write-fetch-head", "--no-recurse-submodules", "--quiet", "--depth=1"),
            *(remote.url, f"+{sha}:{ref}"),
            git_dir=git_dir,
            credential=remote,
            timeout_seconds=seconds,
            check=False,
            largest_file_bytes=limit_bytes,
        )
        if result.exit_code != 0:
            raise _typed_error("fetch", result, remote)

    def push(
        self, git_dir: Path, remote: RemoteRepository, *, sha: str, git_branch_name: str, expected: str
    ) -> None:
        """Move exactly one ref to exactly this sha, if it still is at `expected` ("" for: does not exist)."""
        ref = f"refs/heads/{git_branch_name}"
        result = self.run(
            "push",
            "--no-verify",
            "--porcelain",
            "--recurse-submodules=no",
            f"--force-with-lease={ref}:{expected}",
            remote.url,
            f"{sha}:{ref}",
            git_dir=git_dir,
            credential=remote,
            timeout_seconds=self._settings.network_seconds,
            check=False,
            error_bytes=PUSH_ERROR_BYTES,
        )
        if result.exit_code != 0:
            output = result.stdout.decode("utf-8", "replace")
            raise push_error(output, result.stderr_text) or _typed_error("push", result, remote)

    # --- reading a bare repository ---

    def has_commit(self, git_dir: Path, sha: str) -> bool:
        return self.run("cat-file", "-e", f"{sha}^{{commit}}", git_dir=git_dir, check=False).exit_code == 0

    def known_commits(self, git_dir: Path, names: Sequence[str]) -> dict[str, str]:
        """Those of the shas and full ref names that are commits here, with their shas; one process for all."""
        wanted = list(dict.fromkeys(name for name in names if name))
        if not wanted:
            return {}
        question = "".join(f"{name}^{{commit}}\n" for name in wanted).encode()
        batch = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
        result = self.run(*batch, git_dir=git_dir, stdin=question, check=False)
        if result.exit_code != 0:  # not a repository (any more): nothing is known
            return {}
        answer = result.stdout.decode("utf-8", "replace")
        lines = (line.split(" ") for line in answer.split("\n")[:-1])
        return {name: line[0] for name, line in zip(wanted, lines, strict=True) if line[-1] == "commit"}

    def ref_sha(self, git_dir: Path, ref: str) -> str | None:
        result = self.run(
            "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", git_dir=git_dir, check=False
        )
        return result.stdout.decode().strip() or None

    def is_ancestor(self, git_dir: Path, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` descends from `ancestor`. Both are full shas, so a yes stays true and is remembered."""
        if ancestor == descendant:
            return self.has_commit(git_dir, ancestor)
        if (git_dir, ancestor, descendant) in self._descents:
            return True
        result = self.run("merge-base", "--is-ancestor", ancestor, descendant, git_dir=git_dir, check=False)
        if result.exit_code == 0:
            self.note_descent(git_dir, ancestor, descendant)
        return result.exit_code == 0

    def note_descent(self, git_dir: Path, ancestor: str, descendant: str) -> None:
        """Remember that `descendant` descends from `ancestor`, as git has just shown."""
        self._descents[git_dir, ancestor, descendant] = None
        while len(self._descents) > _MOST_DESCENTS:
            with suppress(KeyError):  # another thread was first
                self._descents.popitem(last=False)

    def merge_base(self, git_dir: Path, one: str, other: str) -> str | None:
        found = self.run("merge-base", one, other, git_dir=git_dir, check=False).stdout.decode().strip()
        return found or None

    def new_shas(self, git_dir: Path, heads: Sequence[str], *, without: str) -> frozenset[str]:
        """Commits reachable from any of `heads`, all of which are here, and not from `without`."""
        if not heads:
            return frozenset()
        output = self.run("rev-list", *heads, f"^{without}", "--", git_dir=git_dir).stdout
        return frozenset(output.decode("ascii", "replace").split())

    def adds_nothing(self, git_dir: Path, *, onto: str, head: str) -> bool:
        """Whether merging `head` into `onto` would leave the files there as they are; False where it conflicts."""
        merged = self.run("merge-tree", "--write-tree", onto, head, git_dir=git_dir, check=False)
        tree = self.text("rev-parse", f"{onto}^{{tree}}", git_dir=git_dir)
        return merged.exit_code == 0 and merged.stdout.decode("ascii", "replace").strip() == tree

    def join(self, git_dir: Path, *, onto: str, past: str, message: str) -> str:
        """A commit with the files of `onto` that descends from both; the same one for the same two. No ref moves."""
        tree, seconds = self.text("log", "-1", "--format=%T %ct", onto, "--", git_dir=git_dir).split(" ")
        by = f"{_SERVER} {seconds} +0000"
        text = f"tree {tree}\nparent {onto}\nparent {past}\nauthor {by}\ncommitter {by}\n\n{message}\n"
        written = self.run(
            "hash-object", "-t", "commit", "-w", "--stdin", git_dir=git_dir, stdin=text.encode()
        )
        return written.stdout.decode().strip()

    def commits(
        self,
        git_dir: Path,
        *,
        head: str,
        base: str,
        without: Sequence[str] = (),
        limit: int = MOST_COMMITS,
    ) -> tuple[Commit, ...]:
        """Commits reachable from `head`, not from `base` nor any of `without`; oldest first, the `limit` newest."""
        options = ("-z", "--topo-order", f"--max-count={limit}", *LOG_PATHS, f"--format={LOG_FORMAT}")
        exclude = tuple(f"^{sha}" for sha in dict.fromkeys((base, *without)) if sha)
        output = self.run("log", *options, head, *exclude, "--", git_dir=git_dir).stdout
        return tuple(reversed(list(parse_log(output))))

    def count_commits(self, git_dir: Path, *, head: str, base: str, without: Sequence[str] = ()) -> int:
        """How many `commits` there are, without their limit."""
        exclude = tuple(f"^{sha}" for sha in dict.fromkeys((base, *without)) if sha)
        return int(self.text("rev-list", "--count", head, *exclude, "--", git_dir=git_dir))

    def last_commit_of(self, git_dir: Path, path: str, *, head: str, without: str) -> str:
        """The newest commit of `head`, not of `without`, that changed this path; '' where none did."""
        return self.text("rev-list", "-1", head, f"^{without}", "--", path, git_dir=git_dir)

    def changes(self, git_dir: Path, *, base: str, head: str) -> tuple[FileChange, ...]:
        """Paths that differ between two commits' trees, renames taken apart."""
        options = ("-r", "-z", "--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
        return parse_changes(self.run("diff-tree", *options, base, head, git_dir=git_dir).stdout)

    def difference(
        self, git_dir: Path, *, base: str, head: str, limit_bytes: int = PATCHES_BYTES
    ) -> Difference:
        """`changes` and a unified diff for each of them, from one process; diffs are cut at `limit_bytes` in all."""
        arguments = ("diff-tree", *DIFFERENCE, base, head)
        result = self.run(*arguments, git_dir=git_dir, output_bytes=limit_bytes, check=False)
        if result.exit_code != 0:
            raise _typed_error("diff-tree", result)
        if (
            result.truncated and b"\0\0" not in result.stdout
        ):  # very many files: their names alone are too much
            return self.changes(git_dir, base=base, head=head), ()
        return parse_difference(result.stdout)

    def differences(
        self, git_dir: Path, *, bases: Sequence[str], head: str, limit_bytes: int = PATCHES_BYTES
    ) -> tuple[Difference, ...]:
        """`difference` from each of the bases; from one process, unless they are large together."""
        arguments = ("diff-tree", "--stdin", "--always", *DIFFERENCE)
        result = self.run(
            *arguments,
            git_dir=git_dir,
            stdin="".join(f"{head} {base}\n" for base in bases).encode(),
            output_bytes=limit_bytes,
            check=False,
        )
        # Before each answer stands the head's own name, which no path in it can know.
        answers = re.split(rb"(?m)(?:^|(?<=\0))%b\0" % head.encode(), result.stdout)[1:]
        if result.exit_code != 0 or result.truncated or len(answers) != len(bases):
            return tuple(self.difference(git_dir, base=base, head=head) for base in bases)
        return tuple(parse_difference(answer) for answer in answers)

    def read_file(
        self, git_dir: Path, sha: str, path: str, *, limit_bytes: int = 1024 * 1024
    ) -> bytes | None:
        """A blob's content at a commit, cut at `limit_bytes`; None where there is no regular file."""
        if not path or {"", ".", ".."} & set(path.split("/")):
            return None
        listed = self.run("ls-tree", "-z", sha, "--", path, git_dir=git_dir).stdout.decode("utf-8", "replace")
        mode, _, rest = listed.partition(" ")
        if mode not in REGULAR_MODES:
            return None
        return self.read_blob(git_dir, rest.split("\t", 1)[0].split(" ")[1], limit_bytes=limit_bytes)

    def read_blob(self, git_dir: Path, blob: str, *, limit_bytes: int) -> bytes:
        """A blob's content, cut at `limit_bytes`."""
        result = self.run("cat-file", "blob", blob, git_dir=git_dir, output_bytes=limit_bytes, check=False)
        if result.exit_code != 0:
            raise _typed_error("cat-file", result)
        return result.stdout

    def read_files(
        self, git_dir: Path, sha: str, paths: Sequence[str], *, limit_bytes: int
    ) -> dict[str, bytes]:
        """Those of the paths that are regular files at a commit; one process where there are none."""
        output = self.run("ls-tree", "-z", sha, "--", *paths, git_dir=git_dir).stdout
        listed = {entry.partition("\t")[2] for entry in output.decode("utf-8", "replace").split("\0")}
        found = {
            path: self.read_file(git_dir, sha, path, limit_bytes=limit_bytes)
            for path in paths
            if path in listed
        }
        return {path: content for path, content in found.items() if content is not None}

    def list_files(self, git_dir: Path, sha: str, folder: str) -> tuple[str, ...]:
        """Paths of regular files below a folder of a commit's tree; symlinks and submodules are left out."""
        output = self.run("ls-tree", "-r", "-z", sha, "--", folder, git_dir=git_dir).stdout
        entries = (entry.partition("\t") for entry in output.decode("utf-8", "replace").split("\0") if entry)
        return tuple(path for head, _, path in entries if head.startswith(("100644", "100755")))


def _typed_error(command: str, result: ProcessResult, remote: RemoteRepository | None = None) -> GitError:
    text = result.stderr_text
    if remote is not None and remote.is_local and _UNREADABLE in text:
        first_line = text.partition("\n")[0].strip()[:500]
        return RemoteNotFound(
            f"The server cannot read a git repository at {remote.url} ({first_line}).", advice=_LOCAL_ADVICE
        )
    detail = f"Git could not {_doing(command)}: {_last_lines(text)} (git {command})"
    if command in _REMOTE_COMMANDS and _DENIED.search(text):
        return RemoteAccessDenied(detail)
    if command in _REMOTE_COMMANDS and _NOT_FOUND.search(text):
        return RemoteNotFound(detail)
    return GitError(detail)


def _doing(command: str) -> str:
    """What a git command was for, as whoever gets its failure would say it."""
    return next((words for commands, words in _DOING if command in commands), _AT_WORK)


def _last_lines(text: str, count: int = 6) -> str:
    lines = [said for line in text.splitlines() if (said := line.strip().removeprefix("remote:").strip())]
    return " · ".join(lines[-count:])[:1000] or "no output"


def _parse_ls_remote(output: str) -> RemoteRefs:
    default: str | None = None
    branches: dict[str, str] = {}
    for line in output.split("\n"):  # not splitlines: a ref's name may hold U+2028
        value, _, name = line.partition("\t")
        if value.startswith("ref: refs/heads/") and name == "HEAD":
            default = value.removeprefix("ref: refs/heads/")
        elif name == "HEAD":
            branches["HEAD"] = value
        elif name.startswith("refs/heads/"):
            branches.setdefault(name.removeprefix("refs/heads/"), value)  # a branch "HEAD" is not the HEAD
    return RemoteRefs(default, branches)


def _names_head(refs: RemoteRefs) -> bool:
    return refs.default_branch is not None or "HEAD" in refs.branches
