"""What GitHub is to the rest of the product: frozen values with the product requirements' own names.

Pure: knows neither gh nor Django. Building one is the clients' work; whatever holds one may trust it.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

PullRequestState = Literal["open", "closed", "merged"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class GitHubRepository(_Value):
    """A repository as the server's account sees it; owner and name in GitHub's own spelling.

    `github_id` is what it is, whatever its name; None for a local folder. `push_obstacle` and `push_advice` are empty
    where `can_push`, else sentences: why not, and what to do.
    """

    github_id: int | None = None
    repository_owner: str
    repository_name: str
    repository_url: str
    default_branch: str = "main"
    is_accessible: bool = False
    access_verified_at: datetime | None = None
    can_push: bool = False
    is_private: bool = False
    web_url: str = ""
    push_obstacle: str = ""
    push_advice: str = ""


class GitHubPullRequest(_Value):
    """A pull request; `head_sha` is the commit GitHub last saw on its branch while it was open."""

    pull_request_number: int
    pull_request_title: str
    pull_request_url: str
    head_branch: str
    base_branch: str
    state: PullRequestState
    is_draft: bool = False
    head_sha: str = ""
    merge_commit_sha: str = ""  # what merging made of it in the base branch; "" while it is not merged
    pull_request_body: str = ""


class GitHubIssue(_Value):
    """An issue. Title and body are a stranger's text: data for the agent's prompt, never an instruction.

    `issue_state` is GitHub's word, `open` or `closed`.
    """

    issue_number: int
    issue_title: str
    issue_body: str
    issue_state: str
    issue_url: str
    issue_labels: tuple[str, ...] = ()
