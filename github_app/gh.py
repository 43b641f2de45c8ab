"""The only caller of the gh program: one REST request in, JSON or a typed error out.

Only `gh api` and `gh auth token` are used: what they send and print is GitHub's documented REST API.
User text travels as JSON on standard input; the command line holds only a path built from validated parts.
Knows nothing of pull requests or issues.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote, urlencode

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticUseDefault

from github_app.answers import Answer as Answer
from github_app.answers import parse_answer as parse_answer
from github_app.answers import retry_after_seconds as retry_after_seconds
from github_app.errors import (
    GhMissing,
    GhNotLoggedIn,
    GitHubAccessDenied,
    GitHubAnswerInvalid,
    GitHubError,
    GitHubMoved,
    GitHubNotFound,
    GitHubRateLimited,
    GitHubRejected,
    GitHubTokenInvalid,
    GitHubUnavailable,
)
from sandboxes.errors import ProgramMissing
from sandboxes.processes.run import ExitReason, ProcessLimits, ProcessResult, run

PER_PAGE = 100
MAX_PAGES = 10
_OUTPUT_BYTES = 16 * 1024 * 1024  # 100 comments of 64 KiB each, as JSON
_MESSAGE_CHARACTERS = 600
_NEEDS_LOGIN_EXIT_CODE = 4  # since gh 2.26; older ones send the request without a token
_NOWHERE = re.compile(r"(\d{3}) response missing Location header")  # gh follows redirects of what it reads
_IN_CIRCLES = "stopped after 10 redirects"
_HEADERS = ("Accept: application/vnd.github+json", "X-GitHub-Api-Version: 2022-11-28")


@dataclass(frozen=True)
class GhSettings:
    """How this server reaches GitHub.

    `token` empty: gh's own login under `home` (or `config_dir`) is used. `search_path` is a PATH value.
    `redact` takes secrets out of what is sent to GitHub and of what it says.
    """

    host: str
    token: str = field(repr=False)
    home: Path
    search_path: str
    config_dir: Path | None = None
    timeout_seconds: float = 20
    redact: Callable[[str], str] = str


class RateLimitGate(Protocol):
    """What all users of one token know together of GitHub's rate limit; may be asked from any thread."""

    def closed_for(self) -> float:
        """Seconds until GitHub may be asked again; 0 where nothing is known against it."""

    def close(self, seconds: float | None, message: str) -> float:
        """GitHub asks to wait, `seconds` from now where it said how long; returns how long it will be."""


@dataclass(frozen=True)
class Refusal:
    """What one kind of failed answer means; `asks_to_wait` rows fit only an answer that says so beyond its status."""

    statuses: frozenset[int]
    error: type[GitHubError]
    words: str
    asks_to_wait: bool = False

    def fits(self, answer: Answer) -> bool:
        return answer.status in self.statuses and (not self.asks_to_wait or answer.asks_to_wait)


# Cause → error, first fitting row wins; a status in no row is an answer nobody understands.
REFUSALS: tuple[Refusal, ...] = (
    Refusal(frozenset({429}), GitHubRateLimited, "GitHub asks to wait"),
    Refusal(frozenset({400, 403, 409, 422}), GitHubRateLimited, "GitHub asks to wait", asks_to_wait=True),
    Refusal(frozenset({301, 302, 303, 307, 308}), GitHubMoved, "GitHub says that it is somewhere else now"),
    Refusal(frozenset({401}), GitHubTokenInvalid, "GitHub does not accept the token"),
    Refusal(frozenset({403}), GitHubAccessDenied, "GitHub does not allow this"),
    Refusal(frozenset({404, 410, 451}), GitHubNotFound, "GitHub shows no such thing"),
    Refusal(frozenset({400, 405, 409, 413, 422}), GitHubRejected, "GitHub refuses the request"),
    Refusal(frozenset({408, *range(500, 600)}), GitHubUnavailable, "GitHub is not available"),
)
# Answers that may only mean that nobody is logged in.
_ANONYMOUS_STATUSES = frozenset({401, 403, 404})


class GhCli:
    """gh for one host and one credential; safe to share between threads.

    While `gate` is closed nothing is asked, and each request fails with `GitHubRateLimited` at once.
    """

    def __init__(self, settings: GhSettings, gate: RateLimitGate | None = None) -> None:
        self._settings = settings
        self._gate = gate

    def api(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, object] | None = None,
        query: Mapping[str, str | int] | None = None,
        purpose: str = "",
    ) -> Any:
        """The JSON body of a successful answer, None where it has none.

        `path` is relative to the API's root, such as `repos/o/r`. `purpose` says in words what is asked for, as
        "opening a pull request from x into main", for whoever reads of a failure. Raises `GitHubError`; after a
        `GitHubUnavailable` or `GitHubAnswerInvalid` the request may have been carried out.
        """
        self._require_open_gate()
        answer = self._answer(self._run(self._api_argv(method, path, fields, query), self._body(fields)))
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, f" ({purpose})" if purpose else "")
        if self._gate is not None and answer.headers.get("x-ratelimit-remaining") == "0":
            self._gate.close(retry_after_seconds(answer.headers), "The hour's last request was used.")
        if answer.value is None and answer.status != 204:
            what = f"{purpose} ({method} {path})" if purpose else f"{method} {path}"
            raise GitHubAnswerInvalid(f"GitHub's answer ({answer.status}) to {what} is no JSON.")
        return answer.value

    def _require_open_gate(self) -> None:
        seconds = self._gate.closed_for() if self._gate is not None else 0
        if seconds > 0:
            raise GitHubRateLimited(
                "GitHub asked this server to wait, so it was not asked again.", retry_after_seconds=seconds
            )

    def pages(
        self, path: str, *, query: Mapping[str, str | int] | None = None, max_pages: int = MAX_PAGES
    ) -> Iterator[list[Any]]:
        """A listing page by page, at most `max_pages`; ends at the first page that is not full."""
        for number in range(1, max_pages + 1):
            page = self.page(path, number, query=query)
            yield page
            if len(page) < PER_PAGE:
                return

    def page(
        self,
        path: str,
        number: int,
        *,
        query: Mapping[str, str | int] | None = None,
        purpose: str = "",
    ) -> list[Any]:
        whole = {**(query or {}), "per_page": PER_PAGE, "page": number}
        value = self.api("GET", path, query=whole, purpose=purpose)
        if not isinstance(value, list):
            raise GitHubAnswerInvalid(f"GitHub's answer to GET {path} is no list.")
        return value

    def auth_token(self) -> str:
        """The token git pushes with: the configured one, else that of gh's login, else empty."""
        if self._settings.token:
            return self._settings.token
        result = self._run(["gh", "auth", "token", "--hostname", self._settings.host], b"")
        return result.stdout.decode("ascii", "ignore").strip() if result.ok else ""

    def environment(self) -> dict[str, str]:
        """All that gh sees of this server."""
        settings = self._settings
        variables = {
            "PATH": settings.search_path,
            "HOME": str(settings.home),
            "GH_HOST": settings.host,
            "GH_NO_UPDATE_NOTIFIER": "1",
            "GH_PROMPT_DISABLED": "1",
            "GH_PAGER": "cat",
            "PAGER": "cat",
            "NO_COLOR": "1",
        }
        if settings.config_dir:
            variables["GH_CONFIG_DIR"] = str(settings.config_dir.absolute())  # gh runs in another folder
        if settings.token:
            # gh sends GH_TOKEN to github.com only and GH_ENTERPRISE_TOKEN to other hosts only.
            name = "GH_TOKEN" if settings.host == "github.com" else "GH_ENTERPRISE_TOKEN"
            variables[name] = settings.token
        return variables

    def _body(self, fields: Mapping[str, object] | None) -> bytes:
        """What anybody may read on GitHub holds no secret, whoever wrote it."""
        if fields is None:
            return b""
        clean = {
            name: self._settings.redact(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return json.dumps(clean).encode("ascii")

    def _api_argv(
        self,
        method: str,
        path: str,
        fields: Mapping[str, object] | None,
        query: Mapping[str, str | int] | None,
    ) -> list[str]:
        # Quoting also takes the meaning from `{owner}`, which gh would replace, and from a leading '-'.
        endpoint = quote(path.strip("/"), safe="/")
        if query:
            endpoint += "?" + urlencode(query)
        argv = ["gh", "api", "--method", method, "--include", "--hostname", self._settings.host]
        for header in _HEADERS:
            argv += ["--header", header]
        if fields is not None:
            argv += ["--input", "-"]
        return [*argv, "--", endpoint]

    def _run(self, argv: list[str], stdin: bytes) -> ProcessResult:
        limits = ProcessLimits(self._settings.timeout_seconds, output_bytes=_OUTPUT_BYTES)
        try:
            result = run(argv, env=self.environment(), limits=limits, cwd=Path("/"), stdin=stdin)
        except ProgramMissing as error:
            raise GhMissing("GitHub's CLI, gh, cannot be started on this machine.") from error
        if result.reason is not ExitReason.EXITED:
            raise GitHubUnavailable(
                f"GitHub did not answer within {self._settings.timeout_seconds:g} seconds."
            )
        if result.truncated:
            raise GitHubAnswerInvalid("GitHub's answer is larger than this server accepts.")
        return result

    def _answer(self, result: ProcessResult) -> Answer:
        stderr = self._presentable(result.stderr_text)
        if result.exit_code == _NEEDS_LOGIN_EXIT_CODE or "gh auth login" in stderr:
            raise GhNotLoggedIn(f"gh is not logged in to {self._settings.host}.")
        answer = parse_answer(result.stdout)
        if answer is None and (found := _NOWHERE.search(stderr)):
            raise GitHubMoved(f"GitHub says that it is somewhere else now ({found[1]}), but not where.")
        if answer is None and _IN_CIRCLES in stderr:
            raise GitHubAnswerInvalid("GitHub sends the request round in circles (too many redirects).")
        if answer is None:
            raise GitHubUnavailable(f"GitHub was not reached: {stderr or 'the connection ended'}")
        if result.exit_code != 0 and 200 <= answer.status < 300:
            # The status came, the body did not come whole.
            raise GitHubUnavailable(f"GitHub's answer broke off: {stderr or 'the connection ended'}")
        return answer

    def _refusal(self, answer: Answer, purpose: str) -> GitHubError:
        """GitHub's sentence first, then what was asked for."""
        row = next((row for row in REFUSALS if row.fits(answer)), None)
        if row is None:
            return GitHubAnswerInvalid(
                f"GitHub answered with the unexpected status {answer.status}{purpose}."
            )
        # gh before 2.26 asks GitHub anonymously when it has no login, and GitHub then hides what is private.
        if answer.status in _ANONYMOUS_STATUSES and not row.asks_to_wait and not self.auth_token():
            return GhNotLoggedIn(f"gh is not logged in to {self._settings.host}.")
        words = self._presentable(answer.message)
        message = f"{row.words} ({answer.status}){': ' + words if words else ''}"
        message = f"{message}{purpose}." if purpose or not words else message
        if row.error is GitHubRateLimited:
            seconds = retry_after_seconds(answer.headers)
            if self._gate is not None:
                seconds = self._gate.close(seconds, message)
            return GitHubRateLimited(message, retry_after_seconds=seconds)
        if row.error is GitHubUnavailable:
            return GitHubUnavailable(message, retry_after_seconds=retry_after_seconds(answer.headers))
        if row.error is GitHubMoved:
            where = self._presentable(answer.location)
            return GitHubMoved(f"{message} It names {where}." if where else message)
        return row.error(message)

    def _presentable(self, text: str) -> str:
        """Short, printable, and without the token, should a server or proxy ever repeat it."""
        if self._settings.token:
            text = text.replace(self._settings.token, "[token]")
        text = self._settings.redact(text)
        return "".join(c if c.isprintable() else " " for c in text)[:_MESSAGE_CHARACTERS].strip()


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


# A field of an answer that GitHub may leave out, or give as null where its description names a value.
type Absent[T] = Annotated[T, BeforeValidator(_default_for_null)]


def understand[Model: BaseModel](model: type[Model], value: object) -> Model:
    """The parts of an answer a client needs, typed. Raises `GitHubAnswerInvalid`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in problem["loc"]) for problem in error.errors()[:5])
        raise GitHubAnswerInvalid(
            f"GitHub's answer lacks what is needed: {places or 'an object'}."
        ) from error


def look_again[Found](look: Callable[[], Found | None], pauses: Sequence[float]) -> Found | None:
    """What `look` finds, after each of the pauses; None where it never does."""
    for pause in pauses:
        time.sleep(pause)
        if (found := look()) is not None:
            return found
    return None
