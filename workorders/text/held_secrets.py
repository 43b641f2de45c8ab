"""Finds what must not be in a request for an agent, with its line: this server's secrets and tokens in earnest.

Examples, placeholders, passwords of loopback or of a host that only a company's or a container's network knows are
what people write in requests every day; they pass. Must not know which text it looks at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workorders.domain.errors import RequestHoldsSecret
from workorders.text.redaction import current
from workorders.text.token_shapes import REFUSED, is_example

_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@'\"<>]{0,100}:(?P<password>[^\s/@'\"<>]{16,200})@(?P<host>[A-Za-z0-9.-]{4,253})"
)
# Reserved for examples and tests (RFC 2606, 6761, 8375), or only known where the name is looked up.
_NOBODYS = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|org|net|edu))?|test|invalid|localhost|local|internal|svc|intranet|lan|home|corp|arpa|domain\.com)\.?$"
    r"|^[0-9.]+$",
    re.IGNORECASE,
)
_NO_PASSWORD = re.compile(
    r"pass|secret|change|example|placeholder|\$|\{|%\(|\*\*|xxxx|your|hunter", re.IGNORECASE
)
# What nobody sees in a text, and what is taken out of it where it is shown: no token has it, and none is hidden by it.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_FEWEST_DIFFERENT = 10
_NAMED_SECRETS = 5


@dataclass(frozen=True)
class HeldSecret:
    """`line` counts from 1; `kind` says what it is and never holds a part of it."""

    line: int
    kind: str

    @property
    def words(self) -> str:
        return f"line {self.line} holds {self.kind}"


def held_secrets(text: str) -> list[HeldSecret]:
    """In the order of their lines, one for each kind and line."""
    text = _UNSEEN.sub("", text)
    found = sorted((*_own(text), *_tokens(text), *_passwords(text)))
    return list(dict.fromkeys(HeldSecret(text.count("\n", 0, at) + 1, kind) for at, kind in found))


def _own(text: str) -> Iterator[tuple[int, str]]:
    for at, name in current().places(text):
        yield at, f"a secret of this server ({name})"


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    for shape in REFUSED:
        if shape.anchor in text:
            for found in shape.text.finditer(text):
                if not is_example(found[0]):
                    yield found.start(), f"what looks like a secret ({shape.name})"


def _passwords(text: str) -> Iterator[tuple[int, str]]:
    """A long random password of a host that anybody can look up."""
    for found in _ADDRESS.finditer(text) if "://" in text else ():
        if _is_earnest(found["password"]) and "." in found["host"] and not _NOBODYS.search(found["host"]):
            yield found.start(), "what looks like a secret (password in a URL)"


def _is_earnest(password: str) -> bool:
    kinds = (str.islower, str.isupper, str.isdigit)
    mixed = all(any(kind(character) for character in password) for kind in kinds)
    return mixed and len(set(password)) >= _FEWEST_DIFFERENT and _NO_PASSWORD.search(password) is None


def require_no_secrets(**texts: str) -> None:
    """Raises `RequestHoldsSecret` for the first of the named texts that holds one, with its lines and kinds."""
    for name, text in texts.items():
        if found := held_secrets(text):
            words = "; ".join(secret.words for secret in found[:_NAMED_SECRETS])
            more = f"; and {len(found) - _NAMED_SECRETS} more" if len(found) > _NAMED_SECRETS else ""
            raise RequestHoldsSecret(
                name,
                f"{words[0].upper()}{words[1:]}{more}. Nothing was stored; put a placeholder in its place.",
            )
