"""A fake GitHub on a Unix socket, for the real gh program: `http_unix_socket` in gh's config leads there.

It keeps its state in memory, validates as GitHub does, records every request, and fails on demand: with an
answer, a delay or a dropped connection, before or after doing what was asked. Its answers are checked against
GitHub's own description in `tests/github_app/test_fake_github.py`.
"""

import json
import re
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes import github_answers as answers
from tests.fakes.lost_clients import ForgivesLostClients

# (owner, name, branch) → commit, or None where the branch does not exist.
BranchSha = Callable[[str, str, str], str | None]
Access = Literal["write", "read", "none"]
MAX_BODY_CHARACTERS = 65_536


@dataclass
class Account:
    """Who a token belongs to and what it may do; `access` per "owner/name", else `default_access`."""

    login: str
    default_access: Access = "write"
    access: dict[str, Access] = field(default_factory=dict)


@dataclass
class Issue:
    number: int
    title: str
    body: str | None
    author: str
    state: str = "open"
    labels: tuple[str, ...] = ()
    is_pull_request = False


@dataclass
class PullRequest:
    number: int
    title: str
    body: str | None
    author: str
    head_branch: str
    base_branch: str
    head_sha: str
    base_sha: str
    is_draft: bool = False
    state: str = "open"
    is_merged: bool = False
    merge_commit_sha: str | None = None
    labels: tuple[str, ...] = ()
    is_pull_request = True


@dataclass
class Comment:
    id: int
    issue_number: int
    body: str
    author: str


@dataclass
class Repository:
    owner: str
    name: str
    default_branch: str = "main"
    is_private: bool = False
    is_archived: bool = False
    drafts_supported: bool = True
    branches: dict[str, str] = field(default_factory=lambda: {"main": "1" * 40})
    issues: dict[int, Issue] = field(default_factory=dict)
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    id: int = 0
    transferred: dict[int, str] = field(default_factory=dict)  # issue number → where its API address is now

    def __post_init__(self) -> None:
        self.id = self.id or answers.identifier(self.full_name)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def next_number(self) -> int:
        return max([0, *self.issues, *self.pull_requests]) + 1

    def comments_of(self, number: int) -> list[Comment]:
        return [comment for comment in self.comments if comment.issue_number == number]

    def item(self, number: int) -> "Issue | PullRequest | None":
        return self.issues.get(number) or self.pull_requests.get(number)


@dataclass
class Fault:
    """What goes wrong with requests that match, `times` often, after the first `skip` of them.

    `execute`: what was asked for is done first. Then a delay, and a dropped connection or an answer. `stale`: a
    list's answer is a moment old and lacks its newest item.
    """

    method: str
    path: re.Pattern[str]
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    drop: bool = False
    delay_seconds: float = 0
    execute: bool = False
    skip: int = 0
    stale: bool = False


class Moved(Exception):
    """GitHub's answer to a request for what has another address now."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


@dataclass(frozen=True)
class RecordedRequest:
    """`status` is the answer's, 0 where the connection was dropped; `token` is what came as credential."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    token: str
    status: int


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    account: Account | None


class Refused(Exception):
    """GitHub's answer to a request it does not carry out."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def _not_found() -> Refused:
    return Refused(404, answers.error("Not Found", 404))


def _invalid(resource: str, detail: str) -> Refused:
    return Refused(422, answers.validation_error(resource, detail))


class FakeGitHub:
    """Use as a context manager; `gh_config_dir` is then ready for GH_CONFIG_DIR.

    `branch_sha` answers for real bare repositories; without it a repository's `branches` are asked.
    """

    def __init__(self, *, branch_sha: BranchSha | None = None) -> None:
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.requests: list[RecordedRequest] = []
        self.faults: list[Fault] = []
        self.former_names: dict[str, int] = {}
        self._branch_sha = branch_sha
        self._lock = threading.RLock()
        self._comment_id = 1000
        self._folder: Path | None = None
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._folder = Path(
            tempfile.mkdtemp(prefix="gh-", dir="/tmp")
        )  # a socket's path has 107 bytes at most
        self._server = _Server(str(self._folder / "s"), self)
        self.gh_config_dir.mkdir()
        (self.gh_config_dir / "config.yml").write_text(f"http_unix_socket: {self._folder / 's'}\n")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._folder is not None
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def gh_config_dir(self) -> Path:
        assert self._folder is not None, "enter the fake first"
        return self._folder / "config"

    # Arranging

    def add_token(self, token: str, login: str = "robot", default_access: Access = "write") -> Account:
        self.accounts[token] = account = Account(login, default_access)
        return account

    def add_repository(self, owner: str, name: str, **values: Any) -> Repository:
        repo = Repository(owner, name, **values)
        self.repositories[repo.full_name.lower()] = repo
        return repo

    def rename(self, repo: Repository, owner: str, name: str) -> None:
        """A rename or transfer: the old name leads to the new one, until another repository takes it."""
        with self._lock:
            self.former_names[repo.full_name.lower()] = repo.id
            self.repositories.pop(repo.full_name.lower())
            repo.owner, repo.name = owner, name
            self.repositories[repo.full_name.lower()] = repo

    def transfer_issue(self, repo: Repository, number: int, other: Repository) -> int:
        """The issue goes to another repository under a number of its own, which is returned."""
        with self._lock:
            item = repo.issues.pop(number)
            item.number = other.next_number
            other.issues[item.number] = item
            repo.transferred[number] = f"/repositories/{other.id}/issues/{item.number}"
            return item.number

    def add_issue(
        self, repo: Repository, title: str, body: str | None = "", *, labels: tuple[str, ...] = ()
    ) -> Issue:
        with self._lock:
            item = Issue(repo.next_number, title, body, "someone", labels=labels)
            repo.issues[item.number] = item
            return item

    def add_comment(self, repo: Repository, number: int, body: str, author: str = "someone") -> Comment:
        with self._lock:
            self._comment_id += 1
            comment = Comment(self._comment_id, number, body, author)
            repo.comments.append(comment)
            return comment

    def fail(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        drop: bool = False,
        delay_seconds: float = 0,
        execute: bool = False,
        skip: int = 0,
        stale: bool = False,
    ) -> Fault:
        """Programs a fault for requests whose path (without /api/v3) matches the regular expression."""
        pattern = re.compile(path)
        fault = Fault(
            method, pattern, times, status, headers or {}, body, drop, delay_seconds, execute, skip, stale
        )
        self.faults.append(fault)
        return fault

    def recorded(self, method: str, path: str) -> list[RecordedRequest]:
        """Requests whose whole path matches the regular expression."""
        with self._lock:
            return [it for it in self.requests if it.method == method and re.fullmatch(path, it.path)]

    # Answering

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method in {method, "*"} and fault.path.search(path):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def record(self, request: RecordedRequest) -> None:
        with self._lock:
            self.requests.append(request)

    def execute(self, request: Request) -> tuple[int, Any]:
        with self._lock:
            path = self._by_name(request.path)
            try:
                for method, pattern, handler in _ROUTES:
                    match = pattern.fullmatch(path)
                    if match and method == request.method:
                        return handler(self, request, **match.groupdict())
            except Refused as refused:
                return refused.status, refused.body
            except Moved as moved:
                return 301 if request.method == "GET" else 307, answers.moved(moved.location)
        return 404, answers.error("Not Found", 404)

    def _by_name(self, path: str) -> str:
        """`/repositories/<id>` is the same as the repository's name."""
        found = re.match(r"/repositories/([0-9]+)(?=/|$)", path)
        for repo in self.repositories.values() if found else ():
            if found and str(repo.id) == found[1]:
                return f"/repos/{repo.full_name}{path[found.end() :]}"
        return path

    def access(self, account: Account | None, repo: Repository) -> Access:
        if account is None:
            return "none" if repo.is_private else "read"
        granted = account.access.get(repo.full_name, account.default_access)
        return "read" if granted == "none" and not repo.is_private else granted

    def repository(self, request: Request, owner: str, name: str, *, write: bool = False) -> Repository:
        repo = self.repositories.get(f"{owner}/{name}".lower())
        if repo is None and (number := self.former_names.get(f"{owner}/{name}".lower())):
            raise Moved(re.sub(r"^/repos/[^/]+/[^/]+", f"/repositories/{number}", request.path))
        if repo is None or self.access(request.account, repo) == "none":
            raise _not_found()
        if write and (request.account is None or self.access(request.account, repo) != "write"):
            raise Refused(403, answers.error("Resource not accessible by personal access token", 403))
        if write and repo.is_archived:
            raise Refused(403, answers.error("Repository was archived so is read-only.", 403))
        return repo

    def sha(self, repo: Repository, branch: str) -> str | None:
        if self._branch_sha is not None:
            return self._branch_sha(repo.owner, repo.name, branch)
        return repo.branches.get(branch)

    def refresh(self, repo: Repository, item: PullRequest) -> PullRequest:
        """An open pull request follows its branch."""
        if item.state == "open":
            item.head_sha = self.sha(repo, item.head_branch) or item.head_sha
        return item

    def get_user(self, request: Request) -> tuple[int, Any]:
        if request.account is None:
            raise Refused(401, answers.error("Requires authentication", 401))
        return 200, answers.account(request.account.login)

    def get_rate_limit(self, request: Request) -> tuple[int, Any]:
        return 200, answers.rate_limit()

    def get_repository(self, request: Request, owner: str, name: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        if request.account is None:
            return 200, answers.repository(repo, None)
        push = self.access(request.account, repo) == "write"
        permissions = {"admin": False, "maintain": False, "push": push, "triage": push, "pull": True}
        return 200, answers.repository(repo, permissions)

    def list_issues(self, request: Request, owner: str, name: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        items: list[Issue | PullRequest] = [*repo.issues.values(), *repo.pull_requests.values()]
        state = request.query.get("state", "open")
        items = [item for item in items if state in {"all", item.state}]
        items.sort(key=lambda item: item.number, reverse=request.query.get("direction", "desc") == "desc")
        return 200, [
            answers.issue(repo, item, len(repo.comments_of(item.number))) for item in _page(items, request)
        ]

    def get_issue(self, request: Request, owner: str, name: str, number: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        item = self._item(repo, number)
        return 200, answers.issue(repo, item, len(repo.comments_of(item.number)))

    def list_comments(self, request: Request, owner: str, name: str, number: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        comments = repo.comments_of(self._item(repo, number).number)
        return 200, [answers.comment(repo, comment) for comment in _page(comments, request)]

    def post_comment(self, request: Request, owner: str, name: str, number: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        item = self._item(repo, number)
        if request.account is None:
            raise Refused(401, answers.error("Requires authentication", 401))
        body = _text(request, "IssueComment", "body")
        if not body.strip():
            raise _invalid("IssueComment", "Body cannot be blank")
        return 201, answers.comment(
            repo, self.add_comment(repo, item.number, body, author=request.account.login)
        )

    def list_pull_requests(self, request: Request, owner: str, name: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        state, head = request.query.get("state", "open"), request.query.get("head", "")
        items = [self.refresh(repo, item) for item in repo.pull_requests.values()]
        items = [item for item in items if state in {"all", item.state}]
        if ":" in head:  # without an owner GitHub ignores the filter
            user, _, branch = head.partition(":")
            items = [it for it in items if it.head_branch == branch and user.lower() == repo.owner.lower()]
        if "base" in request.query:
            items = [item for item in items if item.base_branch == request.query["base"]]
        items.sort(key=lambda item: item.number, reverse=request.query.get("direction", "desc") == "desc")
        return 200, [answers.pull_request_in_list(repo, item) for item in _page(items, request)]

    def get_pull_request(self, request: Request, owner: str, name: str, number: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name)
        return 200, answers.pull_request(repo, self._pull_request(repo, number))

    def post_pull_request(self, request: Request, owner: str, name: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name, write=True)
        assert request.account is not None
        title, head = (_text(request, "PullRequest", key) for key in ("title", "head"))
        base = _text(request, "PullRequest", "base")
        body = _text(request, "PullRequest", "body") if request.body.get("body") is not None else None
        head = head.removeprefix(f"{repo.owner}:")
        head_sha, base_sha = self._ends(repo, head, base)
        if request.body.get("draft") and not repo.drafts_supported:
            raise _invalid("PullRequest", "Draft pull requests are not supported in this repository.")
        item = PullRequest(
            repo.next_number,
            title,
            body,
            request.account.login,
            head,
            base,
            head_sha,
            base_sha,
            is_draft=bool(request.body.get("draft")),
        )
        repo.pull_requests[item.number] = item
        return 201, answers.pull_request(repo, item)

    def patch_pull_request(self, request: Request, owner: str, name: str, number: str) -> tuple[int, Any]:
        repo = self.repository(request, owner, name, write=True)
        item = self._pull_request(repo, number)
        if "title" in request.body:
            item.title = _text(request, "PullRequest", "title")
        if "body" in request.body:
            item.body = _text(request, "PullRequest", "body")
        if "state" in request.body:
            item.state = _text(request, "PullRequest", "state")
        return 200, answers.pull_request(repo, item)

    def _ends(self, repo: Repository, head: str, base: str) -> tuple[str, str]:
        head_sha, base_sha = self.sha(repo, head), self.sha(repo, base)
        for name, sha in (("base", base_sha), ("head", head_sha)):
            if sha is None:
                detail = {"resource": "PullRequest", "field": name, "code": "invalid"}
                raise Refused(422, {**answers.validation_error("PullRequest", ""), "errors": [detail]})
        assert head_sha is not None
        assert base_sha is not None
        if head_sha == base_sha:
            raise _invalid("PullRequest", f"No commits between {base} and {head}")
        for item in repo.pull_requests.values():
            if (item.head_branch, item.base_branch, item.state) == (head, base, "open"):
                raise _invalid("PullRequest", f"A pull request already exists for {repo.owner}:{head}.")
        return head_sha, base_sha

    def _item(self, repo: Repository, number: str) -> Issue | PullRequest:
        if int(number) in repo.transferred:
            raise Moved(repo.transferred[int(number)])
        item = repo.item(int(number))
        if item is None:
            raise _not_found()
        return item

    def _pull_request(self, repo: Repository, number: str) -> PullRequest:
        item = repo.pull_requests.get(int(number))
        if item is None:
            raise _not_found()
        return self.refresh(repo, item)


_REPO = r"/repos/(?P<owner>[^/]+)/(?P<name>[^/]+)"
_NUMBER = r"(?P<number>[0-9]{1,12})"
_ROUTES: tuple[tuple[str, re.Pattern[str], Callable[..., tuple[int, Any]]], ...] = (
    ("GET", re.compile("/user"), FakeGitHub.get_user),
    ("GET", re.compile("/rate_limit"), FakeGitHub.get_rate_limit),
    ("GET", re.compile(_REPO), FakeGitHub.get_repository),
    ("GET", re.compile(f"{_REPO}/issues"), FakeGitHub.list_issues),
    ("GET", re.compile(f"{_REPO}/issues/{_NUMBER}"), FakeGitHub.get_issue),
    ("GET", re.compile(f"{_REPO}/issues/{_NUMBER}/comments"), FakeGitHub.list_comments),
    ("POST", re.compile(f"{_REPO}/issues/{_NUMBER}/comments"), FakeGitHub.post_comment),
    ("GET", re.compile(f"{_REPO}/pulls"), FakeGitHub.list_pull_requests),
    ("POST", re.compile(f"{_REPO}/pulls"), FakeGitHub.post_pull_request),
    ("GET", re.compile(f"{_REPO}/pulls/{_NUMBER}"), FakeGitHub.get_pull_request),
    ("PATCH", re.compile(f"{_REPO}/pulls/{_NUMBER}"), FakeGitHub.patch_pull_request),
)


def _page[Item](items: list[Item], request: Request) -> list[Item]:
    size = min(int(request.query.get("per_page", "30")), 100)
    start = (int(request.query.get("page", "1")) - 1) * size
    return items[start : start + size]


def _text(request: Request, resource: str, key: str) -> str:
    value = request.body.get(key) if isinstance(request.body, dict) else None
    if not isinstance(value, str):
        raise Refused(422, answers.error(f"Invalid request. {key!r} wasn't supplied.", 422))
    if len(value) > MAX_BODY_CHARACTERS:
        raise _invalid(resource, f"{key} is too long (maximum is {MAX_BODY_CHARACTERS} characters)")
    return value


class _Server(ForgivesLostClients, socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, github: FakeGitHub) -> None:
        super().__init__(address, _Handler)
        self.github = github


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the requests are recorded."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        assert isinstance(self.server, _Server)
        github = self.server.github
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/api/v3")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        raw = self._body()
        token = self.headers.get("Authorization", "").partition(" ")[2]
        fault = github.take_fault(self.command, path)
        status, body = 0, None
        if fault is None or fault.execute or (fault.status is None and not fault.drop):
            status, body = self._carry_out(github, path, query, raw, token)
        if fault is not None and fault.stale and isinstance(body, list) and body:
            body = sorted(body, key=lambda item: item["id"])[:-1]
        if fault is not None and fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if fault is not None and fault.status is not None:
            status, body = fault.status, fault.body
        dropped = fault is not None and fault.drop
        github.record(
            RecordedRequest(
                self.command,
                path,
                query,
                dict(self.headers.items()),
                _parsed(raw),
                token,
                0 if dropped else status,
            )
        )
        if dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        headers = dict(fault.headers) if fault else {}
        if status in {301, 307} and fault is None and isinstance(body, dict):
            headers["Location"] = body["url"] + (f"?{parts.query}" if parts.query else "")
        self._answer(status, body, headers)

    def _carry_out(
        self, github: FakeGitHub, path: str, query: Mapping[str, str], raw: bytes, token: str
    ) -> tuple[int, Any]:
        account = github.accounts.get(token)
        if token and account is None:
            return 401, answers.error("Bad credentials", 401)
        body = _parsed(raw)
        if raw and not isinstance(body, dict):
            return 400, answers.error("Problems parsing JSON", 400)
        return github.execute(Request(self.command, path, query, body or {}, account))

    def _answer(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        if body is None and status >= 400:
            body = answers.error("Simulated failure", status)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json; charset=utf-8"
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):  # gh did not wait
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None
