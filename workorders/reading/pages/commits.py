"""Commits as pages list them."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from github_app.models import Repository
from workorders.models import WorkOrderCommit
from workorders.reading.pages.naming import github_address

_TRAILERS = ("Work-Order:", "Work-Order-Phase:", "Work-Order-Sweep:", "Agent-Session:")


@dataclass(frozen=True)
class CommitLine:
    """`body`: the message below its first line, without the product's trailers. `url` '' off GitHub."""

    sha: str
    subject: str
    body: str
    url: str
    phase: str
    author_name: str
    committed_at: datetime


def commit_line(repository: Repository, commit: WorkOrderCommit) -> CommitLine:
    base = github_address(repository)
    _subject, _, rest = commit.message.partition("\n")
    body = "\n".join(line for line in rest.splitlines() if not line.startswith(_TRAILERS))
    has_subject = bool(commit.subject) and not commit.subject.startswith(_TRAILERS)
    return CommitLine(
        sha=commit.sha,
        subject=commit.subject if has_subject else "(no message)",
        body=body.strip(),
        url=f"{base}/commit/{quote(commit.sha)}" if base else "",
        phase=commit.phase or "",
        author_name=commit.author_name,
        committed_at=commit.committed_at,
    )
