"""Takes secrets out of text before it is stored or sent, and finds them in bytes that are about to be pushed.

Pure: it knows the values it was told (`register`) in the encodings a program or a shell easily makes of them, and
the shapes of well-known tokens. Everything that stores text goes through `redact`: the model fields of
`models.fields`, the log processor of `config.logging`, and requests to GitHub (`wiring.gh_cli`).
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, quote_plus

from workorders.text.token_shapes import ALL_SHAPES, BLOCKING, SHAPES, Shape, shapes_in

__all__ = ["SHAPES", "Needle", "Redactor", "Shape", "current", "encodings", "mark", "redact", "redact_value"]
__all__ += ["is_distinctive", "register", "shapes_in"]

SHORTEST_SECRET = 8  # shorter ones would take words out of ordinary text
SHORTEST_PART = 6  # of a secret that the border of a text cuts through
_LONGEST_SECRET = 4096
_WRAPPED_WIDTH = 32
# What the product puts where it cuts a text: a secret may end there as at the text's own end.
_CUTS = (" … [truncated]", "… [cut]", "… <trimmed", "… &lt;trimmed")
# Between two characters of a secret that a program wrapped (`base64`, `xxd -p`), also inside a diff.
_WRAP = r"(?:\n[+>|#*]|\s)*"


def is_distinctive(value: str) -> bool:
    """Whether a value can be searched for without taking it for an ordinary word (`postgres`, `workorders`)."""
    kinds = (str.islower, str.isupper, str.isdigit, lambda character: not character.isalnum())
    mixed = sum(any(kind(character) for character in value) for kind in kinds) > 1
    return len(value) >= SHORTEST_SECRET and (mixed or len(value) >= 20)


@dataclass(frozen=True)
class Needle:
    """One way in which a secret may be written. `name` says which secret.

    `guard` is in every text of that writing and in few others; empty: look always. `dense`: it may be wrapped.
    """

    text: str
    name: str
    guard: str = ""
    dense: bool = False

    @property
    def mark(self) -> str:
        return mark(self.name)

    @cached_property
    def data(self) -> tuple[bytes, ...]:
        forms = (self.text.encode("utf-8", "replace"), self.text.encode("utf-16-le", "replace"))
        return forms if self.dense and not self.guard else forms[:1]

    @cached_property
    def wrapped(self) -> re.Pattern[str]:
        return re.compile(_WRAP.join(map(re.escape, self.text)))


def encodings(value: str, name: str) -> Iterator[Needle]:
    """The value as programs write it: plain, escaped, hexadecimal, and base64 wherever it starts in its text."""
    data = value.encode("utf-8", "surrogatepass")
    yield Needle(value, name, dense=True)
    for before in range(3):
        encoded = _base64(data, before)
        yield from (Needle(form, name, dense=True) for form in (encoded, encoded.translate(_URL_SAFE)))
    for letters in (data.hex(), data.hex().upper()):
        yield Needle(letters, name, dense=True)
        pairs = [letters[at : at + 2] for at in range(0, len(letters), 2)]
        yield Needle(":".join(pairs), name, guard=":".join(pairs[:2]))
        yield from (Needle("".join(sign + pair for pair in pairs), name, guard=sign) for sign in _ESCAPES)
    for text in (quote(value, safe=""), quote_plus(value), quote(value, safe="").lower()):
        yield Needle(text, name, guard="%" if "%" in text else "")
    json_text = json.dumps(value)[1:-1]
    for text in (json_text, json.dumps(value, ensure_ascii=False)[1:-1], json_text.replace("/", "\\/")):
        yield Needle(text, name, guard="\\" if "\\" in text else "")
    yield Needle(html.escape(value), name)


_ESCAPES = ("%", "\\x", "\\u00")
_URL_SAFE = str.maketrans("+/", "-_")


def _base64(data: bytes, before: int) -> str:
    """The characters that are the same whatever the `before` bytes in front and those behind are."""
    encoded = base64.b64encode(b"\0" * before + data).decode()
    return encoded[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]


def mark(name: str) -> str:
    """What stands in the secret's place."""
    return f"[redacted: {name}]"


_REMEMBERED, _REMEMBERED_LENGTH = 2000, 200


class Redactor:
    """Masks and finds the secrets it was made with. Immutable, safe to share between threads."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets`: each value and its name; values that are no more than a word are left out."""
        found: dict[str, Needle] = {}
        for value, name in secrets.items():
            if is_distinctive(value) and len(value) <= _LONGEST_SECRET:
                for needle in encodings(value, name):
                    if len(needle.text) >= SHORTEST_SECRET:
                        found.setdefault(needle.text, needle)
        self.needles = tuple(sorted(found.values(), key=lambda needle: len(needle.text), reverse=True))
        self._dense = tuple(needle for needle in self.needles if needle.dense)
        self._reach = max((len(needle.text) for needle in self._dense), default=0)
        self._starts = frozenset(needle.text[:SHORTEST_PART] for needle in self._dense)
        self._ends = frozenset(needle.text[-SHORTEST_PART:] for needle in self._dense)
        self._clean: set[str] = set()  # texts found without any: most come again and again

    def redact(self, text: str) -> str:
        """The text with a mark for each secret in it, also one that the text's border or a line's end cuts."""
        if len(text) < SHORTEST_PART or text in self._clean:
            return text
        redacted = self._redacted(text)
        if redacted == text and len(text) <= _REMEMBERED_LENGTH:
            if len(self._clean) >= _REMEMBERED:
                self._clean = set()
            self._clean.add(text)
        return redacted

    def _redacted(self, text: str) -> str:
        text = self.without_known(text)
        for shape in ALL_SHAPES:
            if shape.anchor in text:
                text = shape.text.sub(mark(shape.name), text)
        return self._redact_borders(text)

    def without_known(self, text: str) -> str:
        """Only the secrets it was made with are masked: what merely looks like one stays."""
        for needle in self.needles:
            if (not needle.guard or needle.guard in text) and needle.text in text:
                text = text.replace(needle.text, needle.mark)
        for needle in self._wrapped_in(text):
            text = needle.wrapped.sub(needle.mark, text)
        return text

    def places(self, text: str) -> list[tuple[int, str]]:
        """Where in the text each of the secrets it was made with begins first, and its name."""
        found: dict[str, int] = {}
        for needle in self.needles:
            if (not needle.guard or needle.guard in text) and (at := text.find(needle.text)) >= 0:
                found[needle.name] = min(at, found.get(needle.name, at))
        for wrapped in self._wrapped_in(text):
            if wrapped.name not in found and (match := wrapped.wrapped.search(text)):
                found[wrapped.name] = match.start()
        return sorted((at, name) for name, at in found.items())

    def _wrapped_in(self, text: str) -> list[Needle]:
        """Those that are there once white space is taken away; programs wrap at 60 characters and more."""
        if not self._dense or "\n" not in text:
            return []
        words = text.split()
        if not any(len(word) >= _WRAPPED_WIDTH for word in words):
            return []
        forms = ["".join(words)]
        forms += ["".join(text.replace(border, "\n").split()) for border in ("\n+", "\n>") if border in text]
        return [needle for needle in self._dense if any(needle.text in form for form in forms)]

    def _redact_borders(self, text: str) -> str:
        if self._dense:
            text = self._redact_start(text)
        for border in ("", *(cut for cut in _CUTS if cut in text)):
            before, separator, after = text.partition(border) if border else (text, "", "")
            text = self._redact_end(before) + separator + after
        return text

    def _redact_start(self, text: str) -> str:
        window = text[: self._reach]
        if self._ends.isdisjoint(_parts(window)):
            return text
        for needle in self._dense:
            if cut := _cut_in_front(needle.text, window):
                return needle.mark + text[cut:]
        return text

    def _redact_end(self, text: str) -> str:
        window = text[-self._reach :] if self._reach else ""
        if not self._starts.isdisjoint(_parts(window)):
            for needle in self._dense:
                if cut := _cut_at_end(needle.text, window):
                    return text[:-cut] + needle.mark
        last = _TOKEN_AT_END.search(text, max(0, len(text) - 300))
        for shape in BLOCKING if last else ():
            assert last is not None
            start = last[0].find(shape.anchor)
            if (
                start >= 0
                and len(last[0]) >= start + len(shape.anchor) + SHORTEST_PART
                and len(shape.anchor) > 3
            ):
                return text[: last.start() + start] + mark(shape.name)
        return _PASSWORD_AT_END.sub(mark("password in a URL"), text) if "://" in text[-300:] else text

    def value(self, value: Any) -> Any:
        """The same for every text in a JSON value, keys included."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def find(self, data: bytes) -> tuple[str, ...]:
        """Names of the known secrets in the bytes, wrapped by white space or not."""
        names = [needle.name for needle in self.needles if _is_in(needle, data)]
        words = data.split() if self._dense and b"\n" in data else []
        if any(len(word) >= _WRAPPED_WIDTH for word in words):
            compact = b"".join(words)
            names += [needle.name for needle in self._dense if needle.data[0] in compact]
        return tuple(dict.fromkeys(names))


def _is_in(needle: Needle, data: bytes) -> bool:
    if needle.guard and needle.guard.encode() not in data:
        return False
    return any(written in data for written in needle.data)


def _parts(window: str) -> set[str]:
    return {window[at : at + SHORTEST_PART] for at in range(len(window) - SHORTEST_PART + 1)}


# An address whose end is cut off behind its password's first characters; a port is none.
_PASSWORD_AT_END = re.compile(r"(?<=://)[^\s/:@'\"<>\[\]]{0,100}:(?!\d{1,5}\Z)[^\s/'\"<>\[\]]{3,200}\Z")
_TOKEN_AT_END = re.compile(r"[A-Za-z0-9_-]{8,}\Z")


def _cut_in_front(secret: str, window: str) -> int:
    """How many of the window's first characters are the end of a secret whose start is not there."""
    start = window.find(secret[-SHORTEST_PART:])
    while start >= 0:
        length = start + SHORTEST_PART
        if length < len(secret) and secret.endswith(window[:length]):
            return length
        start = window.find(secret[-SHORTEST_PART:], start + 1)
    return 0


def _cut_at_end(secret: str, window: str) -> int:
    """How many of the window's last characters are the start of a secret whose end is not there."""
    start = window.find(secret[:SHORTEST_PART])
    while start >= 0:
        if len(window) - start < len(secret) and secret.startswith(window[start:]):
            return len(window) - start
        start = window.find(secret[:SHORTEST_PART], start + 1)
    return 0


class _Known:
    """The secrets of this process; grows when a setting, a login or a step's token becomes known."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.redactor = Redactor({})

    def register(self, secrets: Iterable[tuple[str, str]]) -> None:
        new = {value: name for name, value in secrets if value and value not in self._names}
        if new:
            self._names = {**self._names, **new}
            self.redactor = Redactor(self._names)


_known = _Known()


def register(*secrets: tuple[str, str]) -> None:
    """Tell this process of secrets, each a name that may be shown and its value; again is fine."""
    _known.register(secrets)


def current() -> Redactor:
    """The redactor of all that was registered so far."""
    return _known.redactor


def redact(text: str) -> str:
    return _known.redactor.redact(text)


def redact_value(value: Any) -> Any:
    return _known.redactor.value(value)
