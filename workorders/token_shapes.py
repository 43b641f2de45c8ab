"""How well-known tokens look, and which of them are only examples. Pure text, no state.

`redaction` masks whatever has such a look. Only what is no example is held against a commit or a request.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Shape:
    """A kind of token known by how it looks. `anchor` is in each of them; `pattern` is a whole one.

    `blocks`: it is never anything else, so that a commit with one is not pushed.
    """

    name: str
    anchor: str
    pattern: str
    blocks: bool = True

    @cached_property
    def text(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def data(self) -> re.Pattern[bytes]:
        return re.compile(self.pattern.encode())


_START = r"(?<![A-Za-z0-9])"
_OPENAI = rf"{_START}sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{{40,255}}|[A-Za-z0-9_]{{40,255}})"
SHAPES = (
    *(Shape("GitHub token", f"gh{kind}_", rf"{_START}gh{kind}_[A-Za-z0-9]{{36,255}}") for kind in "pousr"),
    Shape("GitHub token", "github_pat_", rf"{_START}github_pat_[A-Za-z0-9_]{{22,255}}"),
    Shape("GitLab token", "glpat-", rf"{_START}glpat-[A-Za-z0-9_-]{{20,64}}"),
    Shape("Anthropic key", "sk-ant-", rf"{_START}sk-ant-[A-Za-z0-9_-]{{24,255}}"),
    Shape("OpenAI key", "sk-", _OPENAI),
    Shape("AWS key id", "AKIA", rf"{_START}AKIA[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
    Shape("AWS key id", "ASIA", rf"{_START}ASIA[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
    Shape("Google key", "AIza", rf"{_START}AIza[0-9A-Za-z_-]{{35}}"),
    Shape("Slack token", "xox", rf"{_START}xox[abeoprs]-[A-Za-z0-9-]{{20,255}}"),
    Shape("Stripe key", "k_live_", rf"{_START}[rs]k_live_[0-9A-Za-z]{{20,255}}"),
    Shape("npm token", "npm_", rf"{_START}npm_[A-Za-z0-9]{{36}}"),
    Shape("PyPI token", "pypi-", rf"{_START}pypi-AgE[A-Za-z0-9_-]{{50,}}"),
    Shape("Hugging Face token", "hf_", rf"{_START}hf_[A-Za-z0-9]{{34,64}}"),
    Shape("Work Orders key", "wok_", rf"{_START}wok_[a-z2-7]{{8}}_[A-Za-z0-9_-]{{43}}"),
    Shape("step token", "wo-step-", rf"{_START}wo-step-[A-Za-z0-9_-]{{40,64}}"),
    Shape("E2B key", "e2b_", rf"{_START}e2b_[0-9a-f]{{40}}"),
    Shape(
        "private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----[\s\\nr+]{1,8}[A-Za-z0-9+/=:, \\\r\n-]{40,}",
    ),
    # In examples more often than in earnest, so it is masked and not held against a commit.
    Shape("password in a URL", "://", r"(?<=://)[^\s/:@'\"<>]{0,100}:[^\s/'\"<>]{1,200}(?=@)", blocks=False),
    Shape("bearer token", "earer ", r"(?<=earer )[A-Za-z0-9._~+/-]{24,2000}=*", blocks=False),
)
# Known by the name in front of it: the secret itself looks like any base64.
_AWS_SECRETS = tuple(
    Shape(
        "AWS secret key",
        name,
        rf"(?<={name})[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?[A-Za-z0-9/+]{{40}}",
        blocks=False,
    )
    for name in ("secret_access_key", "SECRET_ACCESS_KEY", "SecretAccessKey")
)
_JSON_WEB_TOKEN = Shape(
    "JSON web token", "eyJ", rf"{_START}eyJ[\w-]{{8,4000}}\.eyJ[\w-]{{8,4000}}\.[\w-]{{8,2000}}", blocks=False
)
# As drivers write addresses: `…?user=a&password=b`, `Server=a;Password=b`, `host=a user=b password=c`.
_WORD = r"=[^\s,()]{1,100} "
_CONNECTIONS = tuple(
    Shape(
        "password in a connection string",
        word,
        rf"(?:(?<=[?&;]{word})|\b(?:host|user|dbname|port|sslmode){_WORD}(?:\w{{1,30}}{_WORD}){{0,6}}{word})"
        r"[^\s&;'\"<>${%\[]{3,200}",
        blocks=False,
    )
    for word in ("password=", "Password=", "PASSWORD=", "Pwd=", "pwd=")
)
ALL_SHAPES = (*SHAPES, *_AWS_SECRETS, *_CONNECTIONS, _JSON_WEB_TOKEN)
BLOCKING = tuple(shape for shape in SHAPES if shape.blocks)
REFUSED = (*BLOCKING, *_AWS_SECRETS)  # in what a person asks for, who knows what it is

# What people write where a secret would stand. Longer words, which no random token has by chance.
_PLACEHOLDER = re.compile(
    r"example|placeholder|change[-_]?me|redacted|dummy|sample|your[-_]|[-_]here\b|xxxx|\*\*\*|\.\.\.|"
    r"abcdefghijklmnopqrstuvwxyz|1234567890abcdef",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"[A-Za-z0-9]{2,10}[_-]")
_FILLING = frozenset("xX0*.-_#")
_PEM_HEADER = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")


def is_example(token: str) -> bool:
    """Whether a token with a well-known look is one that documentation shows: AWS's own, `ghp_xxxx…`, `…your-key…`."""
    body = _PEM_HEADER.sub("", token, count=1)
    if body == token:
        body = _PREFIX.sub("", token, count=1) or token
    letters = set(re.sub(r"\s|\\[nr]", "", body))
    return letters <= _FILLING or _PLACEHOLDER.search(body) is not None


def shapes_in(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and text of each token that must not be pushed, by its looks; examples may be."""
    for shape in BLOCKING:
        if shape.anchor.encode() in data:
            for found in shape.data.finditer(data):
                if not is_example(found[0].decode("ascii", "replace")):
                    yield shape.name, found[0]
