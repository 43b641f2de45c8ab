"""Git LFS of repositories, in memory: the batch API with basic transfers, and what a hostile server would answer."""

import json
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

_MEDIA_TYPE = "application/vnd.git-lfs+json"


@dataclass(frozen=True)
class LfsAnswer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def pointer(content: bytes) -> str:
    """What git has in the place of the content."""
    oid = sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


class FakeLfs:
    """`contents`: repository (`owner/name`) → oid → bytes. Tests may bend what is answered.

    `href_base` puts all transfers on another host; `redirect` answers each batch with 302 to it; `garbled` serves other
    bytes than were asked for; `refuses_upload` is a status for as many uploads as there are `refusals`.
    """

    def __init__(self) -> None:
        self.contents: dict[str, dict[str, bytes]] = {}
        self.href_base = ""
        self.redirect = ""
        self.garbled = b""
        self.action_headers: dict[str, str] = {}
        self.refuses_upload, self.refusals = 0, 1
        self.batches: list[dict[str, Any]] = []
        self.uploads: list[str] = []
        self.verified: list[str] = []
        self._lock = threading.Lock()

    def add(self, repository: str, content: bytes) -> str:
        """Keep a content; the pointer to it."""
        self.contents.setdefault(repository, {})[sha256(content).hexdigest()] = content
        return pointer(content)

    @staticmethod
    def refused(status: int) -> LfsAnswer:
        return LfsAnswer(status, b'{"message": "refused"}', {"Content-Type": _MEDIA_TYPE})

    def answer(
        self, repository: str, method: str, path: str, body: bytes, own: str, *, can_write: bool
    ) -> LfsAnswer:
        with self._lock:
            held = self.contents.setdefault(repository, {})
            if path.endswith("/objects/batch") and method == "POST":
                return self._batch(repository, held, json.loads(body), own, can_write)
            oid = path.rpartition("/")[2]
            if method == "GET" and oid in held:
                return LfsAnswer(200, self.garbled or held[oid])
            if method == "PUT" and can_write:
                if self.refuses_upload and self.refusals:
                    self.refusals -= 1
                    return self.refused(self.refuses_upload)
                if sha256(body).hexdigest() != oid:
                    return self.refused(422)
                held[oid] = body
                self.uploads.append(oid)
                return LfsAnswer(200)
            if method == "POST" and path.endswith("/verify"):
                said = json.loads(body)
                self.verified.append(said["oid"])
                return LfsAnswer(200 if len(held.get(said["oid"], b"")) == said["size"] else 404)
        return self.refused(404)

    def _batch(
        self, repository: str, held: dict[str, bytes], question: dict[str, Any], own: str, can_write: bool
    ) -> LfsAnswer:
        self.batches.append(question)
        if self.redirect:
            return LfsAnswer(302, b"", {"Location": self.redirect})
        if question["operation"] == "upload" and not can_write:
            return self.refused(403)
        base = f"{self.href_base or own}/{repository}.git/info/lfs"
        objects = [self._object(question["operation"], item, held, base) for item in question["objects"]]
        answer = {"transfer": "basic", "objects": objects}
        return LfsAnswer(200, json.dumps(answer).encode(), {"Content-Type": _MEDIA_TYPE})

    def _object(
        self, operation: str, item: dict[str, Any], held: dict[str, bytes], base: str
    ) -> dict[str, Any]:
        oid = item["oid"]
        storage = {"href": f"{base}/storage/{oid}", "header": self.action_headers}
        if operation == "download":
            if oid not in held:
                return {**item, "error": {"code": 404, "message": "Object does not exist"}}
            return {**item, "actions": {"download": storage}}
        if oid in held:
            return dict(item)
        return {**item, "actions": {"upload": storage, "verify": {"href": f"{base}/verify"}}}
