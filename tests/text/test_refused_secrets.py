"""A secret in a request is refused, with its line and kind, and leaves no trace; what people write every day is not."""

import base64
import json
import sys
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client, RequestFactory
from django.utils.html import escape
from django.views.debug import technical_500_response

from sandboxes.kinds import SandboxType
from tests.api.conftest import Api, problem
from tests.factories import SHA, make_order
from workorders.domain.errors import RequestHoldsSecret
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentPrompt, AgentWorkOrder, IdempotencyRecord
from workorders.models.written_text import WrittenText, keep_issue, shown, written_request
from workorders.services import work_orders as services
from workorders.text import redaction
from workorders.text.held_secrets import HeldSecret, held_secrets, require_no_secrets

pytestmark = pytest.mark.django_db
KEY = "Vx7kQ2mPz9TnR4wLsB8cYd3FhJ6gA1eU"  # no shape of any provider
TOKEN = "ghp_" + "a1B2" * 9
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq98Kf\n" * 3 + "-----END RSA PRIVATE KEY-----"
PAGE = "/work-orders/new/"


@pytest.fixture(autouse=True)
def _known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction._Known())
    redaction.register(("MODEL_KEY", KEY))


@pytest.fixture
def api() -> Api:
    return Api(Client(raise_request_exception=False))


def everything() -> str:
    return "\n".join(repr(list(model._default_manager.values())) for model in apps.get_models())


REFUSED = {
    KEY: "a secret of this server (MODEL_KEY)",
    base64.b64encode(f"key={KEY}".encode()).decode(): "a secret of this server (MODEL_KEY)",
    KEY.encode().hex(): "a secret of this server (MODEL_KEY)",
    TOKEN: "what looks like a secret (GitHub token)",
    "github_pat_" + "11ABCDEFG0" * 8: "what looks like a secret (GitHub token)",
    "AKIA" + "ABCD2345" * 2: "what looks like a secret (AWS key id)",
    "aws_secret_access_key = " + "aB3/dE6+gH" * 4: "what looks like a secret (AWS secret key)",
    "sk-ant-api03-" + "Ab1-" * 20: "what looks like a secret (Anthropic key)",
    "sk-proj-" + "aB1-c" * 12: "what looks like a secret (OpenAI key)",
    "xoxb-" + "123456789012-" * 2 + "abcdef": "what looks like a secret (Slack token)",
    "sk_live_" + "Ab12" * 8: "what looks like a secret (Stripe key)",
    "AIza" + "Ab1-_" * 7: "what looks like a secret (Google key)",
    "npm_" + "Ab12" * 9: "what looks like a secret (npm token)",
    PEM: "what looks like a secret (private key)",
    PEM.replace("\n", "\r\n"): "what looks like a secret (private key)",
    PEM.replace("\n", "\\n"): "what looks like a secret (private key)",
    "postgres://app:kJ8mQ2xW9zLpT4vN7rB3@db.acme.io/app": "what looks like a secret (password in a URL)",
    "> " + PEM.replace("\n", "\n> "): "what looks like a secret (private key)",
    "sk-or-v1-" + "0a1b2c3d" * 8: "what looks like a secret (OpenRouter key)",
    "xapp-1-A0B1C2D3E4F-1234567890123-" + "0a1b2c3d" * 8: "what looks like a secret (Slack token)",
    json.dumps(
        json.dumps({"SecretAccessKey": "aB3/dE6+gH" * 4})
    ): "what looks like a secret (AWS secret key)",
    "secretAccessKey: '" + "aB3/dE6+gH" * 4 + "'": "what looks like a secret (AWS secret key)",
    json.dumps({"env": f"A=b\n{TOKEN}"}): "what looks like a secret (GitHub token)",
    "?token%3D" + "xoxb-" + "123456789012-" * 2 + "abcdef": "what looks like a secret (Slack token)",
    f"\x1b[31m{TOKEN}\x1b[0m": "what looks like a secret (GitHub token)",
    f"{TOKEN[:9]}\u200b{TOKEN[9:]}": "what looks like a secret (GitHub token)",
}
ACCEPTED = [
    "postgres://postgres:postgres@localhost:5432/app",
    "postgres://postgres:hunter2hunter2@db.example.com:5432/app",
    "postgresql://app:kJ8mQ2xW9zLpT4vN7rB3@127.0.0.1/app",
    "postgresql://app:kJ8mQ2xW9zLpT4vN7rB3@[::1]/app",
    "mysql://root:kJ8mQ2xW9zLpT4vN7rB3@db/app",  # a container's name
    "amqp://guest:guest@rabbitmq:5672//",
    "https://user:password@example.com",
    "https://${USER}:${PASSWORD_OF_THE_DATABASE1}@db.acme.io",
    "https://<user>:<token>@github.com/acme/widgets",
    "DATABASE_URL=postgres://app:change-me-please-Now1@db.acme.io/app\nSECRET_KEY=dev\nAPI_KEY=your-api-key-here",
    "AKIAIOSFODNN7EXAMPLE / wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "Authorization: Bearer abcdefABCDEF0123456789abcdefABCDEF",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQ…\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nEXAMPLE0EXAMPLE0EXAMPLE0EXAMPLE0EXAMPLE0EXAMPLE0\n-----END PRIVATE KEY-----",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, sk-..., sk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "sk-ant-test-key-for-the-fake-server-only-1, sk-ant-fake-key-for-unit-tests-1234",
    "sk-ant-api03-my-secret-key-goes-into-dot-env, sk-ant-api03-" + "0" * 30,
    "sk-ant-api03-"
    + "a" * 50
    + ", ghp_"
    + "a" * 36
    + ", ghp_AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHIIII, gho_"
    + "test" * 9,
    "AKIA0123456789ABCDEF, AKIA" + "A" * 16 + ", AIzaSyDUMMY_KEY_FOR_TESTS_AAAAAAAAAAAAA",
    "gho_16C7e42F292c6912E7710c838347Ae178B4a, glpat-ABCDEFGHIJKLMNOPQRST, xoxp-not-a-real-token-at-all",
    "class sk-this_is_a_long_snake_case_identifier_name_in_code",
    "aws_secret_access_key = YOURSECRETKEYYOURSECRETKEYYOURSECRETKEYY",
    "accept -----BEGIN PRIVATE KEY----- followed by lines that have base64 and then the footer line of it",
    "postgres://app:kJ8mQ2xW9zLpT4vN7rB3@postgres.default.svc/app",
    f"commit {'0123456789abcdef' * 2} sha256:{'ab12' * 16}",
    "  trailing \t\r\nü 漢字 👩‍👩‍👧 \u202e \x1b[31m\x0c\x85",
]


@pytest.mark.parametrize("secret", REFUSED)
def test_kind_and_line_are_told(secret: str) -> None:
    assert held_secrets(f"Use this:\r\n\n  x='{secret}' now") == [HeldSecret(3, REFUSED[secret])]


@pytest.mark.parametrize("text", ACCEPTED)
def test_examples_and_loopback_arrive_as_written(text: str) -> None:
    assert held_secrets(text) == []
    answer = Api(Client()).create(initial_prompt=text, github_issue_number="7")
    assert answer.status_code == 201, answer.content
    order = AgentWorkOrder.objects.get()
    assert answer.json()["agent_work_order"]["initial_prompt"] == order.initial_prompt == shown(text)
    prompt = services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text=text, by="ann")
    written = written_request(order.pk, prompt_pk=prompt.pk)
    assert (written.initial_prompt, written.follow_up) == (text, text)
    assert WrittenText.objects.count() == (0 if shown(text) == text else 2)


@pytest.mark.parametrize("secret", REFUSED)
@pytest.mark.parametrize("headers", [None, {"Idempotency-Key": "once"}])
def test_the_api_answers_422_and_keeps_nothing(
    api: Api, secret: str, headers: dict[str, str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = everything()
    for _ in range(2):
        response = api.create(headers, initial_prompt=f"one\ntwo {secret}")
        document = problem(response, 422)
        assert document["code"] == "request_holds_secret"
        assert document["errors"][0]["field"] == "initial_prompt"
        assert document["errors"][0]["message"].startswith(f"Line 2 holds {REFUSED[secret]}")
        assert "placeholder" in document["advice"]
        assert secret not in response.content.decode() + caplog.text
        assert json.dumps(secret)[1:-1] not in response.content.decode()
    assert everything() == before


def test_so_does_a_follow_up_and_a_key_that_was_used(api: Api) -> None:
    order = make_order(status="completed")
    path, once = f"/agent-work-orders/{order}/prompt", {"Idempotency-Key": "once"}
    assert api.post(path, {"prompt_text": "More"}, once).status_code == 200
    assert api.create(once, initial_prompt="Do it").status_code == 201
    before = everything()
    for response in (
        api.post(path, {"prompt_text": f"More\n\n{TOKEN}"}),
        api.post(path, {"prompt_text": f"More\n\n{TOKEN}"}, once),
        api.create(once, initial_prompt=f"\n\n{TOKEN}"),
    ):
        document = problem(response, 422)
        assert document["code"] == "request_holds_secret"
        assert "Line 3 holds" in document["detail"]
    assert everything() == before
    assert IdempotencyRecord.objects.count() == 2


@pytest.mark.parametrize("field", ["base_branch", "model", "repository_url"])
def test_no_other_field_takes_one(api: Api, field: str) -> None:
    before = everything()
    value = f"https://x:{TOKEN}@github.com/octo/spoon" if field == "repository_url" else TOKEN
    changes: dict[str, Any] = {field: value}
    response = api.create(**changes)
    assert response.status_code == 422
    assert TOKEN not in response.content.decode()
    assert everything() == before


@pytest.mark.parametrize(
    "path",
    [
        f"/agent-work-orders/{KEY}",
        "/agent-work-orders?repository_url=" + KEY,
        "/agent-work-orders?status=" + KEY,
    ],
)
def test_no_problem_repeats_one(api: Api, path: str) -> None:
    response = api.client.get(f"/api{path}")
    assert response.status_code in {404, 422}
    assert KEY not in response.content.decode()


def test_several_are_told_together_and_bounded() -> None:
    with pytest.raises(RequestHoldsSecret) as caught:
        require_no_secrets(initial_prompt="\n".join([TOKEN] * 9))
    assert str(caught.value).count("holds") == 5
    assert "and 4 more" in str(caught.value)


def test_the_form_gives_the_text_back_to_its_author_alone(client: Client) -> None:
    before = everything()
    text = f"Do it\nwith {TOKEN}\n"
    fields = {
        "repository_url": "octo/spoon",
        "initial_prompt": text,
        "sandbox_type": "git_branch",
        "workflow_type": "agent_workflow_plan",
        "key": "k" * 24,
    }
    for headers in ({}, {"HX-Request": "true"}):
        response = client.post(PAGE, fields, headers=headers)
        assert response.status_code == 422
        page = response.content.decode()
        assert "Line 2 holds what looks like a secret (GitHub token)" in page
        assert page.count(escape(TOKEN)) == 1  # in the field it was typed into
        assert f"\n{escape(text)}</textarea>" in page
    assert everything() == before
    assert TOKEN not in client.get(PAGE).content.decode()


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_so_does_the_prompts_field(client: Client, headers: dict[str, str]) -> None:
    order = make_order(status="completed", head_sha=SHA)
    before = everything()
    path = f"/work-orders/{order}/prompt/"
    response = client.post(path, {"prompt_text": f"Use\r\n{TOKEN}"}, headers=headers)
    assert response.status_code == 422
    page = response.content.decode()
    assert "Line 2 holds what looks like a secret (GitHub token)" in page
    assert page.count(TOKEN) == 1
    assert everything() == before
    assert TOKEN not in client.get(f"/work-orders/{order}/").content.decode()


def test_the_command_ends_with_2_and_one_line() -> None:
    before, out = everything(), StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(
            *("create_work_order", "--repository", "octo/spoon", "--prompt", f"a\nb {TOKEN}"),
            stdout=out,
            stderr=out,
        )
    assert caught.value.returncode == 2
    words = str(caught.value)
    assert words.startswith("initial_prompt: Line 2 holds what looks like a secret (GitHub token)")
    assert "\n" not in words
    assert TOKEN not in words + out.getvalue()
    assert everything() == before


@pytest.mark.parametrize(("text", "words"), [("a\x00b", "NUL"), ("a\ud800b", "valid string")])
def test_what_no_database_can_store_is_refused_in_words(api: Api, text: str, words: str) -> None:
    before = everything()
    assert words in problem(api.create(initial_prompt=text), 422)["detail"]
    assert everything() == before


def test_forms_keep_white_space_and_take_line_ends_back_to_what_was_typed(client: Client) -> None:
    fields = {
        "repository_url": "octo/spoon",
        "sandbox_type": "git_branch",
        "workflow_type": "agent_workflow_plan",
    }
    assert client.post(PAGE, {**fields, "initial_prompt": "  a \r\n\r\n\tb  \r\n"}).status_code == 302
    assert AgentWorkOrder.objects.get().initial_prompt == "  a \n\n\tb  \n"


@pytest.mark.parametrize("text", ["hunter2hunter2", "hunter2", "nter2hu"])
def test_searching_tells_nothing_of_what_is_masked(client: Client, admin_client: Client, text: str) -> None:
    prompt = "Use postgres://app:hunter2hunter2@db.example.com/app for the spoons"
    order = make_order(initial_prompt=prompt)
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text=prompt, by="ann")
    assert client.get("/api/agent-work-orders", {"q": text}).json()["total_count"] == 0
    assert client.get("/api/agent-work-orders", {"q": "for the spoons"}).json()["total_count"] == 1
    assert str(order) not in client.get("/", {"q": text}).content.decode()
    for listing in ("agentworkorder", "agentprompt"):
        path = f"/admin/workorders/{listing}/"
        assert str(order) not in admin_client.get(path, {"q": text}).content.decode()
        column = "initial_prompt" if listing == "agentworkorder" else "prompt_text"
        looked = admin_client.get(path, {f"{column}__contains": text}, follow=True).content.decode()
        assert str(order) not in looked
    assert admin_client.get(
        "/admin/workorders/agentworkorder/?writtentext__text__contains=a"
    ).status_code in {302, 400}


def test_nothing_leads_from_an_order_to_its_originals() -> None:
    names = {field.name for model in (AgentWorkOrder, AgentPrompt) for field in model._meta.get_fields()}
    assert not any("written" in name for name in names)
    assert WrittenText not in site._registry


def test_a_secret_of_the_server_in_an_issue_is_not_told_to_the_agent() -> None:
    order = make_order(github_issue_number="3")
    for _ in range(2):  # a task may run twice
        keep_issue(order.pk, title=f"Broken {TOKEN}", body=f"postgres://a:hunter2@h {KEY}\r\n")
    written = written_request(order.pk, prompt_pk=None)
    assert written.issue_title == f"Broken {TOKEN}"
    assert written.issue_body == "postgres://a:hunter2@h [redacted: MODEL_KEY]\r\n"
    assert KEY not in everything()


def test_an_order_from_before_keeps_what_was_stored() -> None:
    order = make_order()
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="Use [redacted: GH_TOKEN]")
    assert written_request(order.pk, prompt_pk=None).initial_prompt == "Use [redacted: GH_TOKEN]"


def fail(request: Any) -> None:
    text = request.POST["initial_prompt"]
    raise ValueError(f"It said {text}")


def test_a_debug_page_shows_no_secret(settings: Any) -> None:
    settings.DEBUG = True
    password = "hunter2" * 2  # the page shows this file's lines too
    text = f"Use postgres://app:{password}@db.example.com/app and {KEY}"
    request = RequestFactory().post(PAGE, {"initial_prompt": text})
    for accept in ("text/html", "text/plain"):
        request.META["HTTP_ACCEPT"] = accept
        try:
            fail(request)
        except ValueError:
            page = technical_500_response(request, *sys.exc_info()).content.decode()
        assert "ValueError" in page
        assert password not in page.replace(f"password = {password!r}", "").replace(
            f"&#x27;{password}&#x27;", ""
        )
        assert KEY not in page


def test_no_value_that_holds_the_request_shows_it_when_it_is_printed() -> None:
    request = services.NewWorkOrder(
        services.parse_repository("octo/spoon"),
        SandboxType.GIT_BRANCH,
        AgentWorkflowType.PLAN,
        initial_prompt="hunter2",
    )
    order = make_order(initial_prompt="hunter2")
    assert "hunter2" not in repr(request) + repr(written_request(order.pk, prompt_pk=None)) + repr(order)
