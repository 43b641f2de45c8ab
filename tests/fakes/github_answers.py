"""The shapes of GitHub's answers, from the fake's state; a test checks them against GitHub's description."""

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.github import Comment, Issue, PullRequest, Repository

API = "https://api.github.com"
DOCUMENTATION = "https://docs.github.com/rest"
CREATED_AT = "2026-01-02T03:04:05Z"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_USER_URLS = _words(
    """events followers following gists organizations received_events repos starred
    subscriptions"""
)
_REPOSITORY_URLS = _words(
    """archive assignees blobs branches collaborators comments commits compare contents contributors deployments
    downloads events forks git_commits git_refs git_tags hooks issue_comment issue_events issues keys labels
    languages merges milestones notifications pulls releases stargazers statuses subscribers subscription tags
    teams trees"""
)
_REPOSITORY_COUNTS = _words(
    """forks forks_count open_issues open_issues_count size stargazers_count watchers watchers_count
    network_count subscribers_count"""
)
_PULL_REQUEST_URLS = _words("comments commits review_comments statuses")
_PULL_REQUEST_COUNTS = _words("additions changed_files comments commits deletions review_comments")


def identifier(text: str) -> int:
    """A stable number for a name, as GitHub's ids are."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def user(login: str) -> dict[str, Any]:
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": identifier(login),
        "node_id": f"U_{identifier(login)}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{identifier(login)}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"https://github.com/{login}",
        "type": "User",
        "site_admin": False,
        **{f"{name}_url": f"{url}/{name}" for name in _USER_URLS},
    }


def account(login: str) -> dict[str, Any]:
    """GET /user: a user with its public profile."""
    empty = ("bio", "blog", "company", "email", "hireable", "location", "name")
    counts = ("followers", "following", "public_gists", "public_repos")
    return {
        **user(login),
        **dict.fromkeys(empty),
        **dict.fromkeys(counts, 0),
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
    }


def repository(repo: "Repository", permissions: dict[str, bool] | None) -> dict[str, Any]:
    url = f"{API}/repos/{repo.full_name}"
    web = f"https://github.com/{repo.full_name}"
    answer = {
        "id": repo.id,
        "node_id": f"R_{repo.id}",
        "name": repo.name,
        "full_name": repo.full_name,
        "owner": user(repo.owner),
        "private": repo.is_private,
        "archived": repo.is_archived,
        "disabled": False,
        "fork": False,
        "default_branch": repo.default_branch,
        "description": None,
        "homepage": None,
        "language": None,
        "license": None,
        "mirror_url": None,
        "url": url,
        "html_url": web,
        "clone_url": f"{web}.git",
        "git_url": f"git://github.com/{repo.full_name}.git",
        "ssh_url": f"git@github.com:{repo.full_name}.git",
        "svn_url": web,
        **{f"{name}_url": f"{url}/{name}" for name in _REPOSITORY_URLS},
        **dict.fromkeys(_REPOSITORY_COUNTS, 0),
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("has_pages", "has_discussions"), False),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), CREATED_AT),
    }
    return answer | ({"permissions": permissions} if permissions is not None else {})


def issue(repo: "Repository", item: "Issue | PullRequest", comments: int) -> dict[str, Any]:
    """An issue; a pull request, too, is listed as one."""
    kind = "pull" if item.is_pull_request else "issues"
    url = f"{API}/repos/{repo.full_name}/issues/{item.number}"
    answer = {
        **_common(repo, item, url),
        "html_url": f"https://github.com/{repo.full_name}/{kind}/{item.number}",
        "repository_url": f"{API}/repos/{repo.full_name}",
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "comments": comments,
        "labels": [_label(repo, name) for name in item.labels],
    }
    if item.is_pull_request:
        address = f"{API}/repos/{repo.full_name}/pulls/{item.number}"
        web = answer["html_url"]
        answer["pull_request"] = {
            "url": address,
            "html_url": web,
            "diff_url": f"{web}.diff",
            "patch_url": f"{web}.patch",
        }
    return answer


def comment(repo: "Repository", item: "Comment") -> dict[str, Any]:
    issue_url = f"{API}/repos/{repo.full_name}/issues/{item.issue_number}"
    web = f"https://github.com/{repo.full_name}/issues/{item.issue_number}#issuecomment-{item.id}"
    return {
        "id": item.id,
        "node_id": f"IC_{item.id}",
        "url": f"{API}/repos/{repo.full_name}/issues/comments/{item.id}",
        "html_url": web,
        "issue_url": issue_url,
        "body": item.body,
        "user": user(item.author),
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
        "author_association": "OWNER",
    }


def pull_request_in_list(repo: "Repository", item: "PullRequest") -> dict[str, Any]:
    url = f"{API}/repos/{repo.full_name}/pulls/{item.number}"
    web = f"https://github.com/{repo.full_name}/pull/{item.number}"
    issue_url = f"{API}/repos/{repo.full_name}/issues/{item.number}"
    links = {
        "self": url,
        "html": web,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{url}/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{API}/repos/{repo.full_name}/statuses/{item.head_sha}",
    }
    return {
        **_common(repo, item, url),
        "html_url": web,
        "issue_url": issue_url,
        "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch",
        "review_comment_url": f"{url}/comments{{/number}}",
        **{f"{name}_url": f"{url}/{name}" for name in _PULL_REQUEST_URLS},
        "labels": [_label(repo, name) for name in item.labels],
        "assignees": [],
        "requested_reviewers": [],
        "draft": item.is_draft,
        "auto_merge": None,
        "merge_commit_sha": item.merge_commit_sha,
        "merged_at": CREATED_AT if item.is_merged else None,
        "head": _end(repo, item.head_branch, item.head_sha),
        "base": _end(repo, item.base_branch, item.base_sha),
        "_links": {name: {"href": href} for name, href in links.items()},
    }


def pull_request(repo: "Repository", item: "PullRequest") -> dict[str, Any]:
    return {
        **pull_request_in_list(repo, item),
        **dict.fromkeys(_PULL_REQUEST_COUNTS, 0),
        "merged": item.is_merged,
        "merged_by": user(item.author) if item.is_merged else None,
        "mergeable": None,
        "mergeable_state": "unknown",
        "maintainer_can_modify": False,
    }


def rate_limit() -> dict[str, Any]:
    limit = {"limit": 5000, "used": 1, "remaining": 4999, "reset": 1_800_000_000}
    return {"resources": {"core": limit, "search": limit}, "rate": limit}


def error(message: str, status: int) -> dict[str, Any]:
    return {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}


def moved(path: str) -> dict[str, Any]:
    return {"message": "Moved Permanently", "url": f"{API}{path}", "documentation_url": DOCUMENTATION}


def validation_error(resource: str, detail: str) -> dict[str, Any]:
    return {
        "message": "Validation Failed",
        "errors": [{"resource": resource, "code": "custom", "message": detail}],
        "documentation_url": DOCUMENTATION,
    }


def _common(repo: "Repository", item: "Issue | PullRequest", url: str) -> dict[str, Any]:
    kind = "PR" if item.is_pull_request else "I"
    return {
        "id": identifier(url),
        "node_id": f"{kind}_{identifier(url)}",
        "url": url,
        "number": item.number,
        "title": item.title,
        "body": item.body,
        "state": item.state,
        "locked": False,
        "user": user(item.author),
        "assignee": None,
        "milestone": None,
        "author_association": "OWNER",
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
        "closed_at": None if item.state == "open" else CREATED_AT,
    }


def _label(repo: "Repository", name: str) -> dict[str, Any]:
    number = identifier(f"{repo.full_name}/{name}")
    return {
        "id": number,
        "node_id": f"LA_{number}",
        "url": f"{API}/repos/{repo.full_name}/labels/{number}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def _end(repo: "Repository", branch: str, sha: str) -> dict[str, Any]:
    return {
        "label": f"{repo.owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": user(repo.owner),
        "repo": repository(repo, None),
    }
