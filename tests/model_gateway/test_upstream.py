"""What passes up and down, which credential goes where, and what an agent is given."""

import pytest

from sandboxes.kinds import SandboxType
from workorders.model_gateway.access import REMOTE, CredentialKind, ModelAccess
from workorders.model_gateway.upstream import Upstream, parse_custom_headers, response_headers

SENT = [
    ("Accept", "application/json"),
    ("Anthropic-Beta", "a,oauth-2025-04-20"),
    ("anthropic-beta", "b"),
    ("anthropic-version", "2023-06-01"),
    ("X-Stainless-Lang", "js"),
    ("Authorization", "Bearer wo-step-token"),
    ("X-Api-Key", "wo-step-token"),
    ("Cookie", "a=b"),
    ("Host", "127.0.0.1"),
    ("Proxy-Authorization", "x"),
    ("X-Forwarded-For", "x"),
    ("Accept-Encoding", "gzip, br"),
    ("Connection", "keep-alive"),
    ("Content-Length", "5"),
]


@pytest.mark.parametrize(
    ("upstream", "signs_in", "beta"),
    [
        (Upstream(api_key="real"), {"x-api-key": "real"}, "a,oauth-2025-04-20,b"),
        (Upstream(oauth_token="real"), {"authorization": "Bearer real"}, "a,b,oauth-2025-04-20"),
        (
            Upstream(bearer_token="real", api_key="other"),
            {"authorization": "Bearer real"},
            "a,oauth-2025-04-20,b",
        ),
        (Upstream(custom_headers={"X-Portkey": "real"}), {"x-portkey": "real"}, "a,oauth-2025-04-20,b"),
    ],
)
def test_only_the_agents_words_go_up(upstream: Upstream, signs_in: dict[str, str], beta: str) -> None:
    assert upstream.request_headers(SENT) == {
        "accept": "application/json",
        "anthropic-beta": beta,
        "anthropic-version": "2023-06-01",
        "x-stainless-lang": "js",
        "accept-encoding": "identity",
        **signs_in,
    }
    assert "real" not in repr(upstream)


def test_nothing_of_the_account_comes_down() -> None:
    given = [
        ("Content-Type", "text/event-stream"),
        ("Retry-After", "7"),
        ("anthropic-ratelimit-unified-reset", "1"),
        ("request-id", "req_1"),
        ("anthropic-organization-id", "secret"),
        ("Set-Cookie", "a=b"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "7"),
        ("Server", "x"),
    ]
    assert sorted(response_headers(given)) == [
        "Content-Type",
        "Retry-After",
        "anthropic-ratelimit-unified-reset",
        "request-id",
    ]


def test_addresses_keep_their_path() -> None:
    upstream = Upstream(base_url="https://proxy.example/anthropic/")
    assert (
        upstream.url("/v1/messages", "beta=true") == "https://proxy.example/anthropic/v1/messages?beta=true"
    )
    assert parse_custom_headers("A: b:c\n\nbroken\n : x\nD:e") == {"A": "b:c", "D": "e"}


PROVIDER = {
    "ANTHROPIC_API_KEY": "real-key",
    "ANTHROPIC_AUTH_TOKEN": "real-token",
    "CLAUDE_CODE_OAUTH_TOKEN": "real-oauth",
    "ANTHROPIC_BASE_URL": "https://real.example",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Key: real-header",
    "ANTHROPIC_FOUNDRY_API_KEY": "real-foundry",
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "sonnet-of-mine",
}


@pytest.mark.parametrize("sandbox_type", SandboxType)
@pytest.mark.parametrize("public_url", ["", "https://gateway.example"])
@pytest.mark.parametrize("loopback_url", ["", "http://127.0.0.1:9"])
def test_what_an_agent_is_given(sandbox_type: SandboxType, public_url: str, loopback_url: str) -> None:
    access = ModelAccess(loopback_url, public_url, PROVIDER)
    given = access.credential_for(sandbox_type, "step-token")
    seen = {**given.environment, **given.secrets}
    url = public_url if sandbox_type in REMOTE else loopback_url
    if url:
        assert given.kind is CredentialKind.GATEWAY_TOKEN
        assert seen == {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "step-token",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "sonnet-of-mine",
        }
    elif sandbox_type in REMOTE:
        assert given.kind is CredentialKind.PROVIDER_KEY
        assert seen == PROVIDER
    else:  # without a gateway a local agent holds nothing, rather than the real thing
        assert given.kind is CredentialKind.NONE
        assert seen == {"ANTHROPIC_DEFAULT_SONNET_MODEL": "sonnet-of-mine"}
    assert "real-key" not in repr(access)
    assert "step-token" not in repr(given)
