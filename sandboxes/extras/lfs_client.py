"""Git LFS over HTTP: the batch API of a repository's own endpoint, downloads, uploads.

The credential goes to the endpoint's own host, and nowhere else; no redirect is followed, and an address on another
host is used only where the operator has named that host (docs/adr/0018). Every answer is bounded. Knows no orders.
"""

import base64
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from sandboxes.errors import GitError
from sandboxes.extras.lfs_pointers import LfsPointer
from sandboxes.processes.run import step_is_stopped
from sandboxes.trusted_git.git import RemoteRepository

BATCH_OBJECTS = 100
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_ANSWER_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_REDIRECTS = range(300, 400)
_NO_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_WORDS = {
    401: "the server refused the credential",
    403: "the server refused the credential",
    404: "the server has no LFS for this repository",
    413: "the server takes no content of that size",
    422: "the server did not accept the request",
    429: "the server asked to slow down",
    507: "the server's storage is full",
    509: "the repository's LFS bandwidth is used up",
}


class LfsUnavailable(GitError):
    """The repository's Git LFS did not give, or take, what it should."""

    category = "lfs_unavailable"
    retryable = True
    advice = "Check that LFS works for this repository and that GH_TOKEN may use it, then retry."


@dataclass(frozen=True)
class LfsSettings:
    """`hosts`: other hosts that may hold contents. `max_bytes`: of all contents of one order; 0: no LFS."""

    hosts: tuple[str, ...] = ()
    max_bytes: int = 1024 * 1024 * 1024
    answer_seconds: float = 30.0
    total_seconds: float = 600.0


@dataclass(frozen=True)
class LfsAction:
    """Where one content is to be got from, put to, or said to be there; `headers` go along."""

    href: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authenticated: bool = False


@dataclass(frozen=True)
class LfsObject:
    """What the endpoint answered of one pointer: what can be done (`actions` by name), or why nothing (`reason`)."""

    pointer: LfsPointer
    actions: Mapping[str, LfsAction]
    reason: str = ""


class LfsClient:
    """One repository's LFS. `remote` is the repository itself: its address with `.git/info/lfs` is the endpoint."""

    def __init__(self, remote: RemoteRepository, settings: LfsSettings) -> None:
        self._remote = remote
        self._settings = settings
        self._endpoint = urlsplit(f"{remote.url}/info/lfs/objects/batch")
        self._until = time.monotonic() + settings.total_seconds

    def batch(
        self, operation: Literal["download", "upload"], pointers: Sequence[LfsPointer], *, ref: str
    ) -> tuple[LfsObject, ...]:
        """What can be done with each of the pointers, in their order. Raises `LfsUnavailable`."""
        found: list[LfsObject] = []
        for start in range(0, len(pointers), BATCH_OBJECTS):
            some = pointers[start : start + BATCH_OBJECTS]
            question = {
                "operation": operation,
                "transfers": ["basic"],
                "hash_algo": "sha256",
                "ref": {"name": ref},
                "objects": [{"oid": pointer.oid, "size": pointer.size} for pointer in some],
            }
            headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE, **self._authorization()}
            body = json.dumps(question).encode()
            with self._request("POST", self._endpoint, headers, body) as response:
                self._require_success(response)
                answer = self._read_answer(response)
            found += _objects(answer, some)
        return tuple(found)

    def download(self, item: LfsObject) -> Iterator[bytes]:
        """The content in pieces, unverified and without end. Raises `LfsUnavailable`."""
        action = item.actions["download"]
        with self._request("GET", self._checked(action), self._headers(action), b"") as response:
            self._require_success(response)
            while piece := self._read(response):
                yield piece

    def upload(self, item: LfsObject, content: Path) -> None:
        """Nothing where the server has it already. Raises `LfsUnavailable`."""
        if (action := item.actions.get("upload")) is None:
            return
        headers = {"Content-Type": "application/octet-stream", **self._headers(action)}
        with self._request("PUT", self._checked(action), headers, content) as response:
            self._require_success(response)
        if (verify := item.actions.get("verify")) is not None:
            said = {"oid": item.pointer.oid, "size": item.pointer.size}
            headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE, **self._headers(verify)}
            with self._request("POST", self._checked(verify), headers, json.dumps(said).encode()) as response:
                self._require_success(response)

    def refusal_of(self, action: LfsAction) -> str:
        """Why the address is not used; '' where it is."""
        try:
            self._checked(action)
        except LfsUnavailable as error:
            return str(error)
        return ""

    # --- addresses and credentials ---

    def _checked(self, action: LfsAction) -> SplitResult:
        try:
            parts = urlsplit(action.href)
            own = _origin(parts) == _origin(self._endpoint)
            named = parts.scheme == "https" and (parts.port or 443) == 443
        except ValueError as error:
            raise LfsUnavailable("the server named an address that is none") from error
        host = parts.hostname or ""
        plain = action.href.isascii() and action.href.isprintable() and " " not in action.href
        if not plain or "@" in parts.netloc or not host:
            raise LfsUnavailable("the server named an address that is not accepted")
        if own or (named and host in self._settings.hosts):
            return parts
        raise LfsUnavailable(
            f"the server keeps them on another host, {host[:100]}, which WORKORDERS_LFS_HOSTS does not name"
        )

    def _headers(self, action: LfsAction) -> dict[str, str]:
        """Those the server asked for; to its own host the credential as well, where they hold none."""
        own = _origin(urlsplit(action.href)) == _origin(self._endpoint)
        given = {
            name: value
            for name, value in action.headers.items()
            if name.lower() not in _NO_HEADERS and (own or not self._holds_credential(value))
        }
        signed = action.authenticated or any(name.lower() == "authorization" for name in given)
        return {**(self._authorization() if own and not signed else {}), **given}

    def _holds_credential(self, value: str) -> bool:
        token = self._remote.token
        return bool(token) and (token in value or self._basic() in value)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Basic {self._basic()}"} if self._remote.token else {}

    def _basic(self) -> str:
        return base64.b64encode(f"x-access-token:{self._remote.token}".encode()).decode()

    # --- requests ---

    @contextmanager
    def _request(
        self, method: str, parts: SplitResult, headers: Mapping[str, str], body: bytes | Path
    ) -> Iterator[HTTPResponse]:
        connection = self._connection(parts)
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        more = {"User-Agent": "work-orders", "Accept-Encoding": "identity"}
        if method != "GET":
            more["Content-Length"] = str(size)
        try:
            if isinstance(body, bytes):
                connection.request(method, target, body or None, {**headers, **more})
            else:
                with body.open("rb") as file:
                    connection.request(method, target, self._sent(file), {**headers, **more})
            yield connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            words = str(error)[:200] or type(error).__name__
            raise LfsUnavailable(f"the connection to {parts.hostname} failed ({words})") from error
        finally:
            connection.close()

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        self._require_time()
        seconds = self._settings.answer_seconds
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return HTTPSConnection(parts.hostname or "", parts.port, timeout=seconds, context=context)
        return HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)

    def _sent(self, file: Any) -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            self._require_time()
            yield piece

    def _read(self, response: HTTPResponse) -> bytes:
        self._require_time()
        return response.read1(_PIECE_BYTES)

    def _read_answer(self, response: HTTPResponse) -> bytes:
        answer = b""
        while len(answer) <= _ANSWER_BYTES and (piece := self._read(response)):
            answer += piece
        return answer

    def _require_time(self) -> None:
        if step_is_stopped():
            raise LfsUnavailable("the step was stopped meanwhile")
        if time.monotonic() > self._until:
            raise LfsUnavailable(f"it took more than {self._settings.total_seconds:.0f} s")

    def _require_success(self, response: HTTPResponse) -> None:
        if response.status in _REDIRECTS:
            raise LfsUnavailable("the server redirects to another address, which is not followed")
        if response.status not in range(200, 300):
            words = _WORDS.get(response.status, "the server failed" if response.status >= 500 else "refused")
            retryable = response.status >= 500 or response.status == 429
            raise LfsUnavailable(f"{words} (HTTP {response.status})", retryable=retryable)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    ports = {"https": 443, "http": 80}
    return parts.scheme, parts.hostname or "", parts.port or ports.get(parts.scheme, 0)


def _objects(answer: bytes, asked: Sequence[LfsPointer]) -> list[LfsObject]:
    """Only what was asked for, each once."""
    if len(answer) > _ANSWER_BYTES:
        raise LfsUnavailable("the server's answer is too long")
    try:
        said = json.loads(answer)
        transfer, listed = said.get("transfer", "basic"), said["objects"]
        by_oid = {str(item["oid"]): item for item in listed}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LfsUnavailable("the server's answer is not one of Git LFS") from error
    if transfer not in {"basic", None}:
        raise LfsUnavailable("the server wants a way of transfer that was not offered")
    return [_object(pointer, by_oid.get(pointer.oid)) for pointer in asked]


def _object(pointer: LfsPointer, item: Any) -> LfsObject:
    if item is None:
        return LfsObject(pointer, {}, "the server did not answer for them")
    if item.get("error"):
        error = item["error"] if isinstance(item["error"], dict) else {}
        missing = error.get("code") in {404, 410}
        code = error.get("code")
        return LfsObject(
            pointer, {}, "the server does not have them" if missing else f"the server refused them ({code})"
        )
    try:
        actions = {
            name: LfsAction(
                str(action["href"]),
                {str(key): str(value) for key, value in (action.get("header") or {}).items()},
                item.get("authenticated") is True,
            )
            for name, action in (item.get("actions") or {}).items()
            if name in {"download", "upload", "verify"}
        }
    except (KeyError, TypeError, AttributeError):
        return LfsObject(pointer, {}, "the server's answer is not one of Git LFS")
    return LfsObject(pointer, actions)
