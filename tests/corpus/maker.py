"""Makes bare repositories of any shape that git can store, by plumbing, with a fixed clock and no configuration."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fakes.git_http import git_environment

_DATE = "1767225600 +0000"
_AUTHOR = "Sample <sample@example.com>"
# a path's bytes → (mode, content or target); a plain str or bytes is a file of mode 100644
Content = str | bytes | tuple[str, str | bytes]
LINK, EXECUTABLE, SUBMODULE = "120000", "100755", "160000"


class Maker:
    """One bare repository at `path`. Shas are full, messages and paths may be any bytes."""

    def __init__(self, path: Path, default_branch: str = "main") -> None:
        self.path = path
        self.branch = default_branch
        path.parent.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--bare", f"--initial-branch={default_branch}", str(path), bare=False)

    def git(self, *arguments: str, stdin: bytes = b"", bare: bool = True) -> str:
        """Its output, without the last newline. Raises `AssertionError` where it fails."""
        place = [f"--git-dir={self.path}"] if bare else []
        done = subprocess.run(
            ["git", *place, *arguments], env=git_environment(), input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def blob(self, content: str | bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=_bytes(content))

    def tree(self, files: Mapping[str | bytes, Content]) -> str:
        """Written through an index, so that nested paths become trees."""
        index = self.path / "corpus-index"
        lines = b""
        for path, content in files.items():
            mode, data = content if isinstance(content, tuple) else ("100644", content)
            sha = str(data) if mode == SUBMODULE else self.blob(data)
            lines += f"{mode} {sha}\t".encode() + _bytes(path) + b"\0"
        environment = git_environment() | {"GIT_INDEX_FILE": str(index)}
        done = subprocess.run(
            ["git", f"--git-dir={self.path}", "update-index", "-z", "--index-info"],
            env=environment,
            input=lines,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        written = subprocess.run(
            ["git", f"--git-dir={self.path}", "write-tree", "--missing-ok"],
            env=environment,
            capture_output=True,
            check=True,
        )
        index.unlink()
        return written.stdout.decode().strip()

    def commit_of(
        self,
        tree: str,
        *,
        parents: Sequence[str] = (),
        message: str | bytes = "Initial commit\n",
        author: str = _AUTHOR,
        date: str = _DATE,
        headers: bytes = b"",
    ) -> str:
        """A commit object as it is given, which need not be one that today's git would make."""
        lines = [f"tree {tree}", *(f"parent {sha}" for sha in parents)]
        lines += [f"author {author} {date}", f"committer {author} {date}"]
        raw = "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n" + headers + b"\n" + _bytes(message)
        return self.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw)

    def commit(
        self,
        files: Mapping[str | bytes, Content],
        message: str | bytes = "Initial commit\n",
        *,
        author: str = _AUTHOR,
        date: str = _DATE,
        headers: bytes = b"",
    ) -> str:
        """The whole tree, on top of the default branch where there is one."""
        found = self.heads().get(self.branch)
        parents = [found] if found else []
        tree = self.tree(files)
        sha = self.commit_of(
            tree, parents=parents, message=message, author=author, date=date, headers=headers
        )
        self.point(self.branch, sha)
        return sha

    def point(self, branch: str, sha: str) -> None:
        self.git("update-ref", f"refs/heads/{branch}", sha)

    def import_(self, stream: bytes) -> None:
        """For long histories: `git fast-import`."""
        self.git("fast-import", "--quiet", "--force", stdin=stream)

    def heads(self) -> dict[str, str]:
        return {name.removeprefix("refs/heads/"): sha for name, sha in self.refs().items()}

    def refs(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else os.fsencode(text)
