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


# What may stand right in front of a token although it ends in a letter or a digit: an escape of JSON or a shell (`\\n`,
# `\\x22`, `\\u0022`), of a URL (`%3D`), a terminal's colour (`[31m`).
_ESCAPES = (
    r"\\[nrtbf]",
    r"\\x[0-9A-Fa-f]{2}",
    r"\\u[0-9A-Fa-f]{4}",
    "%[0-9A-Fa-f]{2}",
    r"\[[0-9]m",
    r"[\[;][0-9]{2}m",
)


def _token(prefix: str, body: str) -> str:
    """A token that does not begin within a word. The prefix comes first, since that is what `re` finds fastest."""
    behind = "|".join([f"(?<![A-Za-z0-9]{prefix})", *(f"(?<={escape}{prefix})" for escape in _ESCAPES)])
    return f"{prefix}(?:{behind}){body}"


_OPENAI = _token("sk-", r"(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,255}|[A-Za-z0-9_]{40,255})")
_PEM_SPACE = r"(?:[\s+>|#*]|\\[nr])"
SHAPES = (
    *(Shape("GitHub token", f"gh{kind}_", _token(f"gh{kind}_", "[A-Za-z0-9]{36,255}")) for kind in "pousr"),
    Shape("GitHub token", "github_pat_", _token("github_pat_", "[A-Za-z0-9_]{22,255}")),
    Shape("GitLab token", "glpat-", _token("glpat-", "[A-Za-z0-9_-]{20,64}")),
    Shape("Anthropic key", "sk-ant-", _token("sk-ant-", "[A-Za-z0-9_-]{24,255}")),
    Shape("OpenRouter key", "sk-or-", _token("sk-or-", "v1-[0-9a-f]{64}")),
    Shape("OpenAI key", "sk-", _OPENAI),
    Shape("AWS key id", "AKIA", _token("AKIA", "[A-Z0-9]{16}(?![A-Za-z0-9])")),
    Shape("AWS key id", "ASIA", _token("ASIA", "[A-Z0-9]{16}(?![A-Za-z0-9])")),
    Shape("Google key", "AIza", _token("AIza", "[0-9A-Za-z_-]{35}")),
    Shape("Slack token", "xox", _token("xox[abeoprs]-", "[A-Za-z0-9-]{20,255}")),
    Shape("Slack token", "xapp-", _token("xapp-", "[0-9]-[A-Za-z0-9-]{40,255}")),
    Shape("Stripe key", "k_live_", _token("[rs]k_live_", "[0-9A-Za-z]{20,255}")),
    Shape("npm token", "npm_", _token("npm_", "[A-Za-z0-9]{36}")),
    Shape("PyPI token", "pypi-", _token("pypi-", "AgE[A-Za-z0-9_-]{50,}")),
    Shape("Hugging Face token", "hf_", _token("hf_", "[A-Za-z0-9]{34,64}")),
    Shape("Work Orders key", "wok_", _token("wok_", "[a-z2-7]{8}_[A-Za-z0-9_-]{43}")),
    Shape("step token", "wo-step-", _token("wo-step-", "[A-Za-z0-9_-]{40,64}")),
    Shape("E2B key", "e2b_", _token("e2b_", "[0-9a-f]{40}")),
    Shape(
        "private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----"
        rf"{_PEM_SPACE}{{1,8}}[A-Za-z0-9+/=:, \\\r\n>|#*-]{{40,}}",
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
        rf"(?<={name})\\?[\"']?\s{{0,4}}[:=]\s{{0,4}}\\?[\"']?[A-Za-z0-9/+]{{40}}",
        blocks=False,
    )
    for name in ("secret_access_key", "SECRET_ACCESS_KEY", "SecretAccessKey", "secretAccessKey")
)
_JSON_WEB_TOKEN = Shape(
    "JSON web token",
    "eyJ",
    _token("eyJ", r"[A-Za-z0-9_-]{8,1000}+\.eyJ[A-Za-z0-9_-]{8,4000}+\.[A-Za-z0-9_-]{8,2000}"),
    blocks=False,
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

# What people write where a secret would stand. Longer words, which no random token has by chance; shorter ones count
# between separators. The last is GitHub's own, in its documentation.
_PLACEHOLDER = re.compile(
    r"example|placeholder|change[-_]?me|redacted|dummy|sample|your[-_]|[-_]here\b|xxxx|\*\*\*|\.\.\.|"
    r"abcdefghijklmnopqrst|[01]234567890?abcdef|0123456789abcdef|(?:^|[-_])(?:tests?|testing|fake|mock|stub|secret)(?:[-_]|$)|"
    r"16c7e42f292c6912e7710c838347ae178b4a",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"(?:sk-ant-(?:[a-z]{3,6}[0-9]{2}-)?|sk-(?:proj|svcacct|admin)-|[rs]k_live_|github_pat_|pypi-AgE|AKIA|ASIA|AIza(?:Sy)?|"
    r"[A-Za-z0-9]{2,10}[_-])"
)
_FILLING = frozenset("xX0*.-_#")
_PEM_HEADER = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
_PEM_LINE = re.compile(r"[A-Za-z0-9+/=]{20}")
_SHORTEST_WORDS = 16


def is_example(token: str) -> bool:
    """Whether a token with a well-known look is one that documentation shows: AWS's own, `ghp_xxxx…`, `…your-key…`."""
    body = _PEM_HEADER.sub("", token, count=1)
    is_pem = body != token
    if not is_pem:
        body = token[found.end() :] if (found := _PREFIX.match(token)) else token
    letters = set(re.sub(r"\s|\\[nr]", "", body))
    if letters <= _FILLING or len(letters) == 1 or _PLACEHOLDER.search(body):
        return True
    return _PEM_LINE.search(re.sub(r"\\[nr]", " ", body)) is None if is_pem else _is_words(body)


def _is_words(body: str) -> bool:
    """Letters of one case and separators only: random characters of that number would hold a digit or another case."""
    plain = re.sub(r"[\W_]", "", body)
    return len(plain) >= _SHORTEST_WORDS and plain.isalpha() and (plain.islower() or plain.isupper())


def shapes_in(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and text of each token that must not be pushed, by its looks; examples may be."""
    for shape in BLOCKING:
        if shape.anchor.encode() in data:
            for found in shape.data.finditer(data):
                if not is_example(found[0].decode("ascii", "replace")):
                    yield shape.name, found[0]
