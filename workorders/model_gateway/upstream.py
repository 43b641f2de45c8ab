"""The model's real API as the gateway talks to it: address, credential, and which headers pass. Pure.

The one value in the product that holds the model's credential in use; its text forms never show it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

OFFICIAL_URL = "https://api.anthropic.com"
OTHER_PROVIDER_HINT = (
    "{name} is set, but the model gateway speaks the Anthropic Messages API only. Unset it, and name a proxy that "
    "speaks this API to your provider (such as LiteLLM) in ANTHROPIC_BASE_URL, its key in ANTHROPIC_AUTH_TOKEN."
)
_OAUTH_BETA = "oauth-2025-04-20"
_BETA = "anthropic-beta"
# Everything else an agent sends stays here: above all what it would sign in with.
_REQUEST_HEADERS = frozenset({"accept", "content-type", "user-agent", "x-app"})
_REQUEST_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-code-")
_SHOULD_RETRY = "x-should-retry"
_REFUSED_FOR_GOOD = frozenset({401, 402, 403})
_RESPONSE_HEADERS = frozenset(
    {"cache-control", "content-type", "request-id", "retry-after", "retry-after-ms", _SHOULD_RETRY}
)
_RESPONSE_PREFIXES = ("anthropic-ratelimit-", "anthropic-priority-")


@dataclass(frozen=True)
class Upstream:
    """Where the model is and what signs in there; `refusal` says why nobody may ask it, '' where one may."""

    base_url: str = OFFICIAL_URL
    api_key: str = field(default="", repr=False)
    bearer_token: str = field(default="", repr=False)
    oauth_token: str = field(default="", repr=False)
    custom_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    refusal: str = ""

    @property
    def has_credential(self) -> bool:
        return bool(self.api_key or self.bearer_token or self.oauth_token or self.custom_headers)

    def url(self, path: str, query: str) -> str:
        return f"{self.base_url.rstrip('/')}{path}{'?' + query if query else ''}"

    def request_headers(self, given: Iterable[tuple[str, str]]) -> dict[str, str]:
        """What goes up: the agent's own words where they may pass, and the real credential."""
        headers: dict[str, str] = {}
        for name, value in given:
            lower = name.lower()
            if lower in _REQUEST_HEADERS or lower.startswith(_REQUEST_PREFIXES):
                headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        headers["accept-encoding"] = "identity"  # a compressed stream could not be read on its way
        headers.update({name.lower(): value for name, value in self.custom_headers.items()})
        if self.bearer_token:
            headers["authorization"] = f"Bearer {self.bearer_token}"
        elif self.api_key:
            headers["x-api-key"] = self.api_key
        elif self.oauth_token:
            headers["authorization"] = f"Bearer {self.oauth_token}"
            betas = [item for item in headers.get(_BETA, "").split(",") if item and item != _OAUTH_BETA]
            headers[_BETA] = ",".join([*betas, _OAUTH_BETA])
        return headers


def response_headers(given: Iterable[tuple[str, str]], status: int = 200) -> dict[str, str]:
    """What comes down: nothing of the account (its organisation, cookies) but its limits.

    A refused credential is no better the next time: Claude Code would ask eleven times, over minutes, unless told so.
    """
    headers = {
        name: value
        for name, value in given
        if name.lower() in _RESPONSE_HEADERS or name.lower().startswith(_RESPONSE_PREFIXES)
    }
    if status in _REFUSED_FOR_GOOD and _SHOULD_RETRY not in map(str.lower, headers):
        headers[_SHOULD_RETRY] = "false"
    return headers


def parse_custom_headers(text: str) -> dict[str, str]:
    """ANTHROPIC_CUSTOM_HEADERS as Claude Code reads it: a `Name: value` on each line."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip():
            found[name.strip()] = value.strip()
    return found
