"""Secrets in text: every encoding a shell makes, every border a text is cut at, and nothing taken that is none."""

import base64
import html
import json
import textwrap
import time
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.factories import make_log, make_order, make_run
from workorders.models import AgentPrompt, AgentWorkOrder, PhaseRun, WorkOrderFile
from workorders.models.git_cache import PatchState
from workorders.text import redaction
from workorders.text.held_secrets import held_secrets
from workorders.text.redaction import SHAPES, Redactor, is_distinctive, shapes_in

KEY = "Vx7kQ2mPz9TnR4wLsB8cYd3FhJ6gA1eU"  # no shape of any provider: only the value itself gives it away
TOKEN_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
secrets = st.one_of(
    st.text(TOKEN_LETTERS, min_size=16, max_size=80),
    st.text(TOKEN_LETTERS + "-_+/=.:!&%\\\"'<> ", min_size=16, max_size=60),
    st.text(min_size=12, max_size=40),
).filter(lambda value: is_distinctive(value) and len(set(value)) > 6 and value.isprintable())
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WAYS: dict[str, Any] = {
    "plain": lambda data: data,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 in lines": lambda data: base64.encodebytes(b"#" * 40 + data + b"#" * 40),
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "hex in lines": lambda data: textwrap.fill((b"#" * 25 + data + b"#" * 25).hex(), 60).encode(),
    "hex with colons": lambda data: data.hex(":").encode(),
    "escaped bytes": lambda data: "".join(f"\\x{byte:02x}" for byte in data).encode(),
    "URL": lambda data: quote(data, safe="").encode(),
    "URL, all of it": lambda data: "".join(f"%{byte:02X}" for byte in data).encode(),
    "JSON": lambda data: json.dumps(data.decode()).encode(),
    "JSON of other programs": lambda data: json.dumps(data.decode()).replace("/", "\\/").encode(),
    "HTML": lambda data: html.escape(data.decode()).encode(),
    "JSON, raw": lambda data: json.dumps(data.decode(), ensure_ascii=False).encode(),
}


def windows(text: str, length: int) -> set[str]:
    return {text[at : at + length] for at in range(len(text) - length + 1)}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(secret=secrets, before=st.integers(0, 5), after=texts)
def test_a_known_secret_is_masked_and_found_in_every_encoding(
    way: str, secret: str, before: int, after: str
) -> None:
    encoded = WAYS[way](b"x" * before + secret.encode() + b"yyy").decode()
    redactor = Redactor({secret: "the key"})
    text = f"first line\nexport A={encoded}\n{after}"
    masked = redactor.redact(text)
    assert "[redacted: the key]" in masked
    assert not windows(secret, 12) & windows(masked, 12) - windows(
        f"export A= {after}[redacted: the key]", 12
    )
    assert redactor.find(text.encode()) == ("the key",)


@settings(max_examples=80, deadline=None)
@given(secret=secrets, text=texts, data=st.data())
def test_no_border_lets_a_part_through(secret: str, text: str, data: st.DataObject) -> None:
    """A text that is stored in two pieces, or cut to a length: each piece alone hides its part."""
    whole = f"{text} {secret} {text}"
    at = data.draw(st.integers(len(text) + 1, len(text) + 1 + len(secret)))
    redactor = Redactor({secret: "the key"})
    for piece in (whole[:at], whole[at:], whole[:at] + " … [truncated]", whole[:at] + "… [cut]"):
        left = windows(redactor.redact(piece), 8)
        assert not windows(secret, 8) & left - windows(f"{text} {text}[redacted: the key] … [truncated]", 8)


@settings(max_examples=80, deadline=None)
@given(st.one_of(texts, st.from_regex(r"[a-z0-9_/.-]{1,200}", fullmatch=True)))
@example("postgres://localhost/workorders and sk- and ghp_ and a task-list of ask-ant-farm")
@example(f"git commit {'a1' * 20} of https://github.com/acme/widgets/pull/2")
def test_other_text_stays_as_it_is(text: str) -> None:
    redactor = Redactor({KEY: "the key", "postgres": "database password"})
    assert redactor.redact(text) == text
    assert redactor.find(text.encode()) == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(texts, st.just(KEY), st.just("ghp_" + "a1B2" * 9)), max_size=6).map("".join))
def test_what_is_redacted_stays_the_same(text: str) -> None:
    redactor = Redactor({KEY: "the key"})
    once = redactor.redact(text)
    assert redactor.redact(once) == once


TOKENS = {
    "GitHub token": ["ghp_" + "a1B2" * 9, "ghs_" + "Z9y8" * 9, "github_pat_" + "11ABCDEFG0" * 8],
    "GitLab token": ["glpat-" + "x1Y2z3" * 4],
    "Anthropic key": ["sk-ant-api03-" + "Ab1-" * 20, "sk-ant-oat01-" + "Ab1_" * 20],
    "OpenAI key": ["sk-proj-" + "Ab1_" * 12, "sk-" + "Ab12" * 12],
    "OpenRouter key": ["sk-or-v1-" + "0a1b2c3d" * 8],
    "AWS key id": ["AKIA" + "ABCD2345" * 2, "ASIA" + "WXYZ2345" * 2],
    "Google key": ["AIza" + "Ab1-_" * 7],
    "Slack token": ["xoxb-" + "123456789012-" * 2 + "abcdef"],
    "Stripe key": ["sk_live_" + "Ab12" * 8, "rk_live_" + "Ab12" * 8],
    "npm token": ["npm_" + "Ab12" * 9],
    "PyPI token": ["pypi-AgEIcHlwaS5vcmc" + "Ab12" * 20],
    "Hugging Face token": ["hf_" + "AbCd" * 9],
    "Work Orders key": ["wok_ab2cd3ef_" + "aB3-_" * 8 + "xyz"],
    "step token": ["wo-step-" + "Ab1-_" * 8 + "xyz"],
    "E2B key": ["e2b_" + "0123456789" * 4],
    "private key": ["-----BEGIN OPENSSH PRIVATE KEY-----\n" + "b3BlbnNzaC1rZXktdjEA\n" * 4],
    "password in a URL": ["//", "://someone:hunter2hunter2@"],
    "bearer token": ["Bearer " + "abc.DEF-123" * 3],
}


@pytest.mark.parametrize(
    "shape", {shape.name: shape for shape in SHAPES}.values(), ids=lambda shape: shape.name
)
def test_well_known_tokens(shape: redaction.Shape) -> None:
    redactor = Redactor({})
    for token in TOKENS[shape.name]:
        masked = redactor.redact(f'a="{token}"')
        found = list(shapes_in(f'a = "{token}"\n'.encode()))
        if token.startswith("//"):
            continue
        assert f"[redacted: {shape.name}]" in masked
        assert not windows(token, 14) & windows(masked.replace("PRIVATE KEY", ""), 14) or not shape.blocks
        assert [name for name, _ in found] == ([shape.name] if shape.blocks else [])


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("mysql://root:p@ss:word@db/app", "p@ss:word"),
        ("redis://:pw@cache", ":pw"),
        ("amqp://guest:x@queue", ":x"),
        ("see postgres://app:hunter2hun", "hunter2hun"),  # cut off in front of the at sign
        ("see postgres://app:hunter2hun … [truncated] more", "hunter2hun"),
        ("jdbc:postgresql://db/app?user=app&password=hunter2hunter2&ssl=true", "hunter2"),
        ("Server=db;User Id=sa;Password=hunter2hunter2;Encrypt=no", "hunter2"),
        ("host=db port=5432 user=app password=hunter2hunter2 dbname=app", "hunter2"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + "lQOYBGPq3dEBCADh\n" * 3, "lQOYBGPq3dEBCADh"),
        ("AKIA0189QWERTYUIOP01", "QWERTY"),
        (r'{"log": "done\nsk-proj-' + "Ab1_" * 12 + r'\n"}', "Ab1_"),  # an escape ends in a letter
        ("k%3Dhf_" + "AbCd" * 9 + "&b", "AbCd"),
        ("\x1b[31mghp_" + "a1B2" * 9 + "\x1b[0m", "a1B2"),
        ("[1;31mghp_" + "a1B2" * 9 + "[0m", "a1B2"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtn"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3In0.SflKxwRJSMeKKF2QT4fwpM", "SflKxw"),
    ],
)
def test_passwords_and_tokens_in_context_are_masked(text: str, hidden: str) -> None:
    masked = Redactor({}).redact(text)
    assert "[redacted: " in masked
    assert hidden not in masked
    assert Redactor({}).redact(masked) == masked


EXAMPLES = [
    "AKIAIOSFODNN7EXAMPLE",
    "AKIAXXXXXXXXXXXXXXXX",
    "ghp_" + "x" * 36,
    "ghp_" + "0" * 36,
    "ghp_your_token_here",
    "github_pat_" + "X" * 60,
    "sk-ant-api03-your-key-goes-here-0000000000",
    "sk_live_" + "xxxxXXXX" * 4,
    "xoxb-your-slack-bot-token-goes-here",
    "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "-----BEGIN PRIVATE KEY-----\nEXAMPLEKEYEXAMPLEKEYEXAMPLEKEYEXAMPLEKEYEXAMPLEKEY\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\n" + "x" * 64 + "\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize(
    "text",
    [
        "password=get_password()",
        "f(user=name, password=word)",
        "?password=${PASSWORD}",
        "host=db; password: no",
    ],
)
def test_code_that_has_no_password_stays_readable(text: str) -> None:
    assert Redactor({}).redact(text) == text


@pytest.mark.parametrize("token", EXAMPLES)
def test_examples_may_be_pushed_and_asked_for(token: str) -> None:
    assert list(shapes_in(f'a = "{token}"\n'.encode())) == []
    assert held_secrets(f"Use {token} here") == []


def test_a_token_that_the_border_cuts_is_masked_too() -> None:
    token = "ghp_" + "a1B2" * 9
    assert (
        Redactor({}).redact(f"token {token[:20]} … [truncated]")
        == "token [redacted: GitHub token] … [truncated]"
    )


@pytest.mark.parametrize("value", ["", "dummy", "postgres", "workorders", "short1", "localhost"])
def test_words_are_no_secrets(value: str) -> None:
    assert Redactor({value: "x"}).needles == ()


def test_it_is_cheap() -> None:
    """1 MB of text in pieces, by processor time; generous, since other tests share the machine."""
    redactor = Redactor({f"{KEY}{number}": "key" for number in range(6)})
    text = "def total(items: list[Item]) -> int:\n    return sum(item.price for item in items)\n" * 25
    started = time.process_time()
    for _ in range(500):
        redactor.redact(text)
    assert time.process_time() - started < 2


# --- the one place ---


@pytest.fixture
def known_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(redaction, "_known", redaction._Known())
    redaction.register(("MODEL_KEY", KEY))
    return KEY


def everything(order: AgentWorkOrder) -> str:
    rows: list[Any] = [*AgentWorkOrder.objects.filter(pk=order.pk).values()]
    for name in ("phase_runs", "log_entries", "prompts", "git_commits", "git_files", "transitions"):
        rows += getattr(order, name).values()
    return repr(rows)


@pytest.mark.django_db
def test_no_row_keeps_a_secret_whichever_way_it_is_written(known_key: str) -> None:
    order = make_order()
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt=f"Use {known_key} please")
    encoded = base64.b64encode(f"key={known_key}".encode()).decode()
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        error_message=f"It said {known_key}", latest_commit_message=encoded, github_issue_body=known_key
    )
    run = make_run(
        order, result_text=known_key, plan_text=f"# Plan\n{encoded}", test_results={"tests": [known_key]}
    )
    PhaseRun.objects.filter(pk=run.pk).update(error_message=known_key.encode().hex())
    make_log(order, "agent_message", summary=known_key, nested={"deep": [encoded, {known_key: 1}]})
    WorkOrderFile.objects.bulk_create(
        [
            WorkOrderFile(
                agent_work_order=order,
                position=0,
                path=f"{known_key}.txt",
                status="A",
                patch=f"+{known_key}",
                patch_state=PatchState.STORED,
            )
        ]
    )
    AgentPrompt.objects.create(agent_work_order=order, prompt_text=f"And {known_key}", by="ann")
    make_log(order, "agent_prompt_queued", prompt_text=f"And {known_key}")
    stored = everything(order)
    assert stored.count("[redacted: MODEL_KEY]") == 15
    for form in (known_key, known_key.encode().hex(), base64.b64encode(known_key.encode())[:20].decode()):
        assert form not in stored


def test_no_line_of_a_log_keeps_a_secret(known_key: str, settings: Any) -> None:
    logger = structlog.get_logger("workorders")
    try:
        raise ValueError(f"It said {known_key}")
    except ValueError as error:
        logger.exception(
            "broken",
            agent_work_order_id="wo-logtest1",
            words=known_key,
            more={"deep": [known_key]},
            why=error,
        )
    (line,) = (settings.WORKORDERS_DATA_DIR / "logs" / "agent_work_orders").rglob("wo-logtest1.jsonl")
    logged = line.read_text()
    assert logged.count("[redacted: MODEL_KEY]") == 4
    assert known_key not in logged


def test_a_clean_text_is_looked_at_once_and_never_for_a_later_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a name of thirty letters and no secret"
    redactor = Redactor({})
    assert redactor.redact(text) is text
    looks: list[str] = []
    monkeypatch.setattr(redactor, "_redacted", looks.append)
    assert redactor.redact(text) is text
    assert not looks
    remembering = Redactor({})
    for number in range(5000):
        remembering.redact(f"clean text {number}")
    assert len(remembering._clean) <= 2000
    assert Redactor({text: "login"}).redact(text) == "[redacted: login]"
