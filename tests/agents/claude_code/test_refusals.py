"""Who must act on a refusal, from its words before its status: payer, owner, operator, or nobody but time."""

import json

import pytest

from sandboxes.base import CommandExecutionResult
from sandboxes.processes.run import ExitReason
from workorders.agents.base import AgentFailure
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.claude_code.failures import Ending, classify, explained_by_model
from workorders.agents.claude_code.refusals import is_prose, refused_in_words
from workorders.agents.claude_code.stream import ResponseParser

PAYER = [
    "Credit balance is too low",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
    "API Error: 402 Payment required: your last invoice is past due.",
    'API Error: 402 {"type":"error","error":{"type":"billing_error","message":"Account past due"}}',
    "This request would exceed your workspace's monthly spend limit",
    "You have reached your specified API usage limits.",
    "Error code: 429 insufficient_quota: You exceeded your current quota, please check your plan and billing details.",
    "This API method requires billing to be enabled. Please enable billing on project #1",
    "INVALID_PAYMENT_INSTRUMENT: A valid payment instrument must be provided.",
    "You're out of usage credits",
    "Your balance is insufficient to complete this request.",
    "Insufficient account balance",
    "API Error: 400 You have run out of prepaid credits, top up your account.",
    "Your free trial credits have expired",
    "403 Forbidden: Your trial has ended",
    "Your card was declined",
    "Budget has been exceeded! Current cost: 10.0, Max budget: 10.0",
    "This request requires more credits, or fewer max_tokens.",
    "Key limit exceeded (total limit)",
    "billing hard limit has been reached",
]
OWNER = [
    "This organization has been disabled.",
    "Your account has been suspended",
    "This organization has been blocked.",
    "Your workspace is archived",
    "Your ANTHROPIC_API_KEY belongs to a disabled organization · Update or unset the environment variable",
    "Your organization has disabled Claude subscription access for Claude Code · Use an Anthropic API key instead",
    "Your organization does not have access to Claude. Please login again or contact your administrator.",
    "Your account does not have access to Claude Code. Please run /login.",
    "OAuth authentication is currently not allowed for this organization.",
    "Your subscription has expired",
    "Opus is not available with your current plan",
]
CREDENTIAL = [
    "OAuth token does not meet scope requirement user:inference",
    "OAuth token does not have the required scope",
    "This credential is only authorized for use with Claude Code and cannot be used for other API requests.",
    "Your API key does not have permission to use the specified resource",
]
PLACE = [
    "Your account does not have access to Claude in your region.",
    "Claude Code is not available in your country",
    "This service is currently not supported in your region",
    "unsupported_country_region_territory: Country, region, or territory not supported",
    "Failed to authenticate. API Error: 403 Request not allowed",
]
CLOUD = [
    "AccessDeniedException: You don't have access to the model with the specified model ID.",
    "User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel",
    "Model use case details have not been submitted for this account.",
    "Permission 'aiplatform.endpoints.predict' denied on resource (or it may not exist). PERMISSION_DENIED",
    "Vertex AI API has not been used in project 1 before or it is disabled. SERVICE_DISABLED",
]
LIMITS = [
    "You've hit your session limit · resets 3pm",
    "You've hit your limit · resets Oct 5 at 9am (UTC)",
    "5-hour limit reached ∙ resets 3pm",
    "Claude AI usage limit reached|1764087300",
    "Weekly limit reached ∙ resets Mon 9:00 AM",
    "Opus weekly limit reached",
    "You're out of extra usage · resets 3pm",
    "Claude usage limit reached. Your limit will reset at 3pm (America/Santiago).",
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    "Your organization's monthly spend limit is reached; it resets Dec 1, 12am (UTC)",
    "ThrottlingException: Too many tokens, please wait before trying again.",
    "RESOURCE_EXHAUSTED: You exceeded your current quota, please check your plan and billing. Please retry in 36s.",
    "API Error: Request rejected (429) · This request would exceed your organization's rate limit",
]
NEITHER = [
    "Prompt is too long",
    "Context limit reached · /compact or /clear to continue",
    "Claude's response exceeded the 32000 output token maximum.",
    "API Error: 500 Internal server error",
    "The file has been locked by another process",
    "I could not do it",
    "not a git repository",
    "",
]


def error_after(stdout: bytes, words: str, *, code: int = 1) -> AgentFailure:
    """An error reported in these words, after what was said before."""
    parser = ResponseParser()
    result = {"type": "result", "subtype": "success", "is_error": True, "result": words}
    parser.feed(stdout + json.dumps(result).encode() + b"\n")
    outcome = CommandExecutionResult(
        exit_code=code,
        reason=ExitReason.EXITED,
        stdout=b"",
        stderr=b"",
        truncated=False,
        duration_seconds=1.0,
    )
    failure = classify(Ending(outcome, parser.result, parser, ""))
    assert failure is not None
    return failure


def ended(words: str, *, status: int | None = None, is_error: bool = True) -> AgentFailure:
    parser = ResponseParser()
    fields = f'"api_error_status": {status},' if status else ""
    text = words.replace("\\", "").replace('"', "'")
    parser.feed(
        f'{{"type":"result","subtype":"success","is_error":{str(is_error).lower()},{fields}"result":"{text}"}}\n'.encode()
    )
    outcome = CommandExecutionResult(
        exit_code=1, reason=ExitReason.EXITED, stdout=b"", stderr=b"", truncated=False, duration_seconds=1.0
    )
    failure = classify(Ending(outcome, parser.result, parser, ""))
    assert failure is not None
    return failure


@pytest.mark.parametrize("status", [None, 400, 401, 402, 403, 429])
@pytest.mark.parametrize(
    ("words", "who"),
    [
        *((words, "Whoever pays") for words in PAYER),
        *((words, "Whoever owns") for words in OWNER),
        *((words, "Give the workers a credential") for words in CREDENTIAL),
        *((words, "The provider does not serve the place") for words in PLACE),
        *((words, "Whoever administers the cloud account") for words in CLOUD),
    ],
)
def test_a_refused_account_says_who_must_act_whatever_the_status(
    words: str, who: str, status: int | None
) -> None:
    failure = ended(words, status=status)
    assert failure.category is Category.ACCOUNT_REFUSED
    assert failure.advice.startswith(who)
    assert not failure.retryable


@pytest.mark.parametrize("status", [None, 400, 403, 429])
@pytest.mark.parametrize("words", LIMITS)
def test_what_time_cures_waits_whatever_the_status(words: str, status: int | None) -> None:
    failure = ended(words, status=status)
    assert (failure.category, failure.retryable) == (Category.RATE_LIMITED, True)


PROSE = [
    "I could not finish: Stripe's sandbox answers 402 'payment required', so the checkout tests cannot pass.",
    "The deploy step fails.\n\n- npm says: your account has been suspended\n- nothing else is wrong",
    "I'm stuck: the CI token does not have the required scope.",
    "## Blocked\nGitHub's API answers: secondary rate limit reached, resets 3pm",
    "We can't go on; Docker Hub says too many requests, try again in 6 hours.",
    "I ran the suite and test_quota fails with 'credit balance is too low' from the mock.",
]
OF_ITS_WORK = [
    *PROSE,
    "Blocked: the payment service says its account has been suspended.",
    "The test for AccessDeniedException still fails.",
    "Usage limit reached",
]


@pytest.mark.parametrize("words", PROSE)
@pytest.mark.parametrize("code", [0, 1])
def test_a_models_own_words_about_its_work_refuse_no_account(words: str, code: int) -> None:
    failure = error_after(b"", words, code=code)
    assert (failure.category, failure.retryable) == (Category.REPORTED_ERROR, False)
    assert words[:20] in failure.message


@pytest.mark.parametrize("words", OF_ITS_WORK)
def test_neither_do_words_that_the_model_was_heard_saying(words: str) -> None:
    content = [{"type": "text", "text": "So far so good."}, {"type": "text", "text": words}]
    line = {"type": "assistant", "message": {"model": "claude-sonnet-5", "content": content}}
    said = json.dumps(line).encode() + b"\n"
    assert error_after(said, words).category is Category.REPORTED_ERROR
    # what came after the model's last word is somebody else's
    later = said + b"Claude AI usage limit reached|4102444800\n"
    assert error_after(later, words).category is Category.RATE_LIMITED


@pytest.mark.parametrize("words", [*PAYER, *OWNER, *CREDENTIAL, *PLACE, *CLOUD, *LIMITS])
def test_no_refusal_reads_like_a_models_prose(words: str) -> None:
    assert not is_prose(words)
    synthetic = {"type": "assistant", "message": {"model": "<synthetic>", "content": words}}
    heard = error_after(json.dumps(synthetic).encode() + b"\n", words)
    assert heard.category in {Category.ACCOUNT_REFUSED, Category.RATE_LIMITED}


@pytest.mark.parametrize("words", NEITHER)
def test_other_words_are_left_to_the_status(words: str) -> None:
    assert refused_in_words(words) is None
    assert ended(words, status=400).category is Category.REQUEST_REJECTED


@pytest.mark.parametrize(
    ("status", "category"),
    [(401, Category.NOT_LOGGED_IN), (402, Category.ACCOUNT_REFUSED), (403, Category.REQUEST_REJECTED)],
)
def test_a_status_without_words(status: int, category: Category) -> None:
    assert ended("API Error", status=status).category is category


@pytest.mark.parametrize(
    "words",
    [
        "API Error: API returned an empty or malformed response (HTTP 200) — check for a proxy or gateway intercepting "
        "the request",
        "API Error: The socket connection was closed unexpectedly.",
        "API Error: Connection closed mid-response. The response above may be incomplete.",
        "API Error: fetch failed: getaddrinfo ENOTFOUND api.anthropic.com",
        "API Error: Self-signed certificate detected. Check your proxy or corporate SSL certificates",
    ],
)
def test_an_answer_that_did_not_arrive_is_no_fault_of_the_request(words: str) -> None:
    assert (ended(words).category, ended(words).retryable) == (Category.MODEL_UNREACHABLE, True)
    assert ended(f"I could not fix it: {words[11:]}").category is Category.REPORTED_ERROR


def test_the_gateways_own_refusals_are_no_account() -> None:
    budget = "API Error: 402 Work Orders: the step's budget of 1 USD is used up (1.0000 USD spent)."
    assert ended(budget, status=402).category is Category.BUDGET_EXCEEDED


@pytest.mark.parametrize("said", [Category.REPORTED_ERROR, Category.NO_RESULT, Category.EXIT_CODE])
def test_what_the_gateway_heard_explains_an_agent_that_does_not_say(said: Category) -> None:
    failure = AgentFailure(said, "Its words.", "Advice.", True, after_success=True)
    explained = explained_by_model(failure, 402, None)
    assert (explained.category, explained.retryable) == (Category.ACCOUNT_REFUSED, False)
    assert explained.after_success
    assert explained_by_model(AgentFailure(Category.RATE_LIMITED, "", "", True), 402, None).retryable
    limited = explained_by_model(failure, 429, 60.0)
    assert (limited.category, limited.after_success) == (Category.RATE_LIMITED, True)


def no_result(stdout: bytes, stderr: str = "", exit_code: int = 1) -> AgentFailure:
    parser = ResponseParser()
    parser.feed(stdout)
    parser.finish()
    outcome = CommandExecutionResult(
        exit_code=exit_code,
        reason=ExitReason.EXITED,
        stdout=b"",
        stderr=b"",
        truncated=False,
        duration_seconds=1.0,
    )
    failure = classify(Ending(outcome, None, parser, stderr))
    assert failure is not None
    return failure


@pytest.mark.parametrize(
    "stdout",
    [
        b"You've hit your session limit \xc2\xb7 resets 3pm\n",
        b"You've hit your session limit \xc2\xb7 resets 3pm",
        b'{"type":"assistant","error":"rate_limit","message":{"content":"5-hour limit reached"}}\n',
        b'{"type":"assistant","message":{"model":"<synthetic>","content":"Weekly limit reached"}}\n',
        b'{"type":"error","error":{"type":"rate_limit_error","message":"usage limit reached"}}\n',
        b'{"type":"error","error":"Usage limit reached|1764087300"}\n',
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_limit_outside_of_the_result_counts_too(stdout: bytes, exit_code: int) -> None:
    assert no_result(stdout, exit_code=exit_code).category is Category.RATE_LIMITED


def test_words_the_model_has_answered_since_do_not_count() -> None:
    said = b'warning: rate limit reached\n{"type":"assistant","message":{"content":"Go on."}}\n'
    assert no_result(said).category is Category.NO_RESULT
    models = b'{"type":"assistant","message":{"model":"m","content":"Usage limit reached"}}\n'
    assert no_result(models).category is Category.NO_RESULT


def test_the_message_has_the_words() -> None:
    assert "resets 3pm" in no_result(b"You've hit your limit \xc2\xb7 resets 3pm\n", "npm notice").message
