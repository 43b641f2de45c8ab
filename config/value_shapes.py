"""Values that are accepted and still look wrong: comments, quotes and spaces in them, keys of another kind.

What reads an environment file decides what belongs to a value: systemd and Docker take a comment behind it as part of
it, Docker the quotes around it, too. Pure; no message quotes a value, which may be a secret.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

COMMENT = re.compile(r"(?:^|\s)#")
_LINE_OF_ITS_OWN = "Put the comment on a line of its own: what reads the file takes it as part of the value."
_PLACEHOLDER = re.compile(
    r"…|\.\.\.|[<>]|changeme|change-me|your[-_ ]|x{8}|placeholder|insecure", re.IGNORECASE
)
# What can only be one word of visible ASCII.
_WORDS = frozenset(
    {
        *("GH_TOKEN", "E2B_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        *("WORKORDERS_ALLOWED_HOSTS", "WORKORDERS_GITHUB_HOST"),
    }
)
_SECRETS = _WORDS - {"WORKORDERS_ALLOWED_HOSTS", "WORKORDERS_GITHUB_HOST"} | {"WORKORDERS_SECRET_KEY"}
_TEXTS = frozenset({"ANTHROPIC_CUSTOM_HEADERS"})  # `#` may be in them
_VISIBLE = re.compile(r"[!-~]+")
_GITHUB = re.compile(
    r"gh[opsu]_[A-Za-z0-9_.-]{16,}|ghr_\w{16,}|github_pat_\w{20,}|[0-9a-f]{40}|v1\.[0-9a-f]{40}"
)
_LEAST_SECRET, _GOOD_SECRET = 24, 50
_LEAST_DIFFERENT = 8
_MAKE_ANOTHER = (
    "Make one with `python3 -c 'import secrets; print(secrets.token_urlsafe(50))'`; people must sign in anew."
)


@dataclass(frozen=True)
class OddValue:
    """`is_wrong`: it cannot be what was meant; else it may be."""

    name: str
    message: str
    hint: str
    is_wrong: bool = True


def odd_values(given: Mapping[str, str]) -> list[OddValue]:
    """One for each variable at most, the first that is found, by their names."""
    found = (next(_oddities(name, value, given), None) for name, value in sorted(given.items()) if value)
    return [odd for odd in found if odd]


def _oddities(name: str, value: str, given: Mapping[str, str]) -> Iterator[OddValue]:
    if name not in _TEXTS and COMMENT.search(value):
        yield OddValue(name, "holds a comment (` #…`).", _LINE_OF_ITS_OWN)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        yield OddValue(name, "has quotes around it, which are part of the value.", "Leave the quotes out.")
    if name in _SECRETS and _PLACEHOLDER.search(value):
        yield OddValue(name, "looks like the placeholder of an example.", "Put the real value there.")
    if name in _WORDS and not _VISIBLE.fullmatch(value.replace(", ", ",")):
        hint = "Copy it again: it is one word of letters, digits and signs."
        yield OddValue(name, "has spaces or characters in it that it cannot have.", hint)
    yield from _shape(name, value, given)


def _shape(name: str, value: str, given: Mapping[str, str]) -> Iterator[OddValue]:
    if name == "GH_TOKEN" and not _GITHUB.fullmatch(value):
        yield OddValue(
            name,
            "does not look like a token of GitHub.",
            "They begin with github_pat_, ghp_, gho_, ghs_ or ghu_; README.md says which permissions it needs.",
            is_wrong=value.startswith(("sk-", "e2b_", "AKIA")),
        )
    if name in {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"}:
        yield from _model_key(name, value, bool(given.get("ANTHROPIC_BASE_URL")))
    if name == "WORKORDERS_SECRET_KEY":
        yield from _secret_key(name, value)


def _model_key(name: str, value: str, is_elsewhere: bool) -> Iterator[OddValue]:
    """A provider of one's own may have keys of any shape."""
    begins, other = ("sk-ant-oat", "ANTHROPIC_API_KEY") if name != "ANTHROPIC_API_KEY" else ("sk-ant-", "")
    if name == "ANTHROPIC_API_KEY" and value.startswith("sk-ant-oat"):
        other = "CLAUDE_CODE_OAUTH_TOKEN"
    elif value.startswith(begins) and len(value) >= 20:
        return
    is_known = value.startswith("sk-ant-") and bool(other)
    hint = (
        f"It looks like one for {other}: put it there." if is_known else f"Anthropic's begin with {begins}."
    )
    if is_known or not is_elsewhere:
        yield OddValue(name, "does not look like what belongs there.", hint, is_wrong=is_known)


def _secret_key(name: str, value: str) -> Iterator[OddValue]:
    guessed = "who guesses it can sign in as anybody."
    if len(value) < _LEAST_SECRET:
        yield OddValue(name, f"is too short ({len(value)} characters): {guessed}", _MAKE_ANOTHER)
    elif len(set(value)) < _LEAST_DIFFERENT:
        yield OddValue(name, f"is too simple: {guessed}", _MAKE_ANOTHER, is_wrong=False)
    elif len(value) < _GOOD_SECRET:
        words = f"has {len(value)} characters; {_GOOD_SECRET} are good."
        yield OddValue(name, words, _MAKE_ANOTHER, is_wrong=False)
