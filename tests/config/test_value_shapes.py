"""Values that are accepted and cannot be what was meant: `doctor` names them, and never quotes them."""

from pathlib import Path

import pytest

from config.value_shapes import odd_values
from config.values import database_words

GOOD = {
    "WORKORDERS_SECRET_KEY": "u3Vd0fJc8qZk1LrT5yXw9BnM2aHsG7eP4oRiQ6tU_vK-jDxCzWbNmYlE3gFhS8k",
    "GH_TOKEN": "github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-api03-aBcDeFgHiJkLmNoPqRsTuVwXyZ-0123456789_AA",
    "WORKORDERS_ALLOWED_HOSTS": "work-orders.example.org, localhost",
    "WORKORDERS_LOG_LEVEL": "INFO",
}


def test_good_ones() -> None:
    assert odd_values(GOOD) == []
    assert odd_values({"ANTHROPIC_CUSTOM_HEADERS": "X-Colour: #fff", "GH_TOKEN": ""}) == []


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "aB3" * 12,
        "gho_" + "aB3" * 12,
        "ghs_" + "aB3" * 12,
        "ghu_" + "aB3" * 12,
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_every_kind_of_token_that_github_gives(token: str) -> None:
    assert odd_values({"GH_TOKEN": token}) == []


@pytest.mark.parametrize(
    ("name", "value", "is_wrong", "words"),
    [
        ("WORKORDERS_SECRET_KEY", "abc", True, "too short"),
        ("WORKORDERS_SECRET_KEY", "changeme-changeme-changeme-changeme-changeme", True, "placeholder"),
        ("WORKORDERS_SECRET_KEY", "k" * 60, False, "too simple"),
        ("WORKORDERS_SECRET_KEY", "aZ3-k9_x" * 4, False, "32 characters"),
        ("WORKORDERS_SECRET_KEY", f"{GOOD['WORKORDERS_SECRET_KEY']}   # long and random", True, "a comment"),
        ("WORKORDERS_ALLOWED_HOSTS", "example.org # the public name", True, "a comment"),
        ("WORKORDERS_LOG_FORMAT", "# json", True, "a comment"),
        ("GH_TOKEN", f"{GOOD['GH_TOKEN']} # of the bot", True, "a comment"),
        ("GH_TOKEN", f'"{GOOD["GH_TOKEN"]}"', True, "quotes"),
        ("GH_TOKEN", "github_pat_…", True, "placeholder"),
        ("GH_TOKEN", "<token>", True, "placeholder"),
        ("GH_TOKEN", "ghp_ abcdefghijklmnopqrstuvwxyz", True, "spaces"),
        ("GH_TOKEN", "ghp_abcdefghijklmnopqrstuvwxyz\u200b", True, "characters"),
        ("GH_TOKEN", "sk-ant-api03-aBcDeFgHiJkLmNoPqRsTuVwXyZ", True, "does not look like"),
        ("GH_TOKEN", "hunter2", False, "does not look like"),
        ("ANTHROPIC_API_KEY", f"{GOOD['ANTHROPIC_API_KEY']} # or CLAUDE_CODE_OAUTH_TOKEN", True, "a comment"),
        ("ANTHROPIC_API_KEY", "sk-ant-oat01-aBcDeFgHiJkLmNoPqRsT", True, "does not look like"),
        ("ANTHROPIC_API_KEY", "key", False, "does not look like"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-api03-aBcDeFgHiJkLmNoPqRsT", True, "does not look like"),
        ("E2B_API_KEY", "e2b_ 123", True, "spaces"),
    ],
)
def test_odd_ones(name: str, value: str, is_wrong: bool, words: str) -> None:
    (odd,) = odd_values({name: value})
    assert (odd.name, odd.is_wrong) == (name, is_wrong)
    assert words in odd.message
    assert value not in odd.message + odd.hint


def test_another_provider_may_have_keys_of_any_shape() -> None:
    assert odd_values({"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": "https://models.example.org"}) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "SQLite /data/workorders.sqlite3"),
        ("sqlite:////srv/it.sqlite3", "SQLite /srv/it.sqlite3"),
        (
            "postgres://ann:s3cret@db.example.org:5433/orders",
            "Postgres orders on db.example.org, port 5433, as ann",
        ),
        ("postgres://ann:s3cret%40x@db/orders?sslmode=require", "Postgres orders on db, as ann"),
        ("postgres:///orders?host=/run/postgresql", "Postgres orders on /run/postgresql"),
        ("postgres://?service=orders", "Postgres of the service orders"),
    ],
)
def test_a_database_is_named_without_its_password(url: str, words: str) -> None:
    assert database_words(url, Path("/data/workorders.sqlite3")) == words
