"""Local repositories to measure on: a small remote, and one with a large history."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@work-orders.invalid",
    "GIT_COMMITTER_NAME": "Benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@work-orders.invalid",
}
_WHEN = "Benchmark <benchmark@work-orders.invalid> 1767225600 +0000"


def git(*arguments: str | Path, stdin: bytes = b"", timeout: float = 120) -> str:
    """Plain git to its end; its trimmed output."""
    done = subprocess.run(
        ["git", *map(str, arguments)],
        input=stdin,
        env=GIT_ENVIRONMENT,
        capture_output=True,
        check=False,
        timeout=timeout,
    )
    if done.returncode != 0:
        raise RuntimeError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout.decode().strip()


def make_remote(path: Path, *, files: int = 20, commits: int = 1, blob_bytes: int = 0) -> Path:
    """A bare repository with a branch main: `files` small files, and in each commit a new large random blob.

    The blobs cannot be compressed and replace each other, so history is large and a checkout moderate.
    """
    git("init", "--quiet", "--bare", "--initial-branch=main", path)
    stream = b"".join(_history(random.Random(20261122), files, commits, blob_bytes))
    git(f"--git-dir={path}", "fast-import", "--quiet", stdin=stream)
    return path


def _history(source: random.Random, files: int, commits: int, blob_bytes: int) -> Iterator[bytes]:
    for number in range(commits):
        yield f"commit refs/heads/main\ncommitter {_WHEN}\n".encode() + _data(f"Commit {number}".encode())
        if number == 0:
            yield b"M 100644 inline README.md\n" + _data(b"# Measured\n")
            for index in range(files):
                words = " ".join(str(source.random()) for _ in range(60)).encode()
                yield f"M 100644 inline src/part{index % 40}/file{index}.txt\n".encode() + _data(words)
        if blob_bytes:
            yield b"M 100644 inline data/large.bin\n" + _data(source.randbytes(blob_bytes))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
