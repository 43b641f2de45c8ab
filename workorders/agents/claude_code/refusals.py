"""What the model's side and the agent's program say when they refuse, and who must act on it. Pure.

Words come before the status: providers send "your credit balance is too low" as 400, 402, 403 and 429 alike. They are
only looked at where a run reported an error or ended without a result. Shapes: the Messages API's and Claude Code's own
sentences, Bedrock's and Vertex AI's exceptions, and what gateways for several providers make of them.
"""

import re
from dataclasses import dataclass

from workorders.agents.base import AgentFailureCategory as Category

_READ_CHARACTERS = 8000


@dataclass(frozen=True)
class Refusal:
    """A refusal that was understood; `advice` is '' where the category's own fits."""

    category: Category
    advice: str = ""


_PAYER = (
    "Whoever pays for the model's account must add credit, settle its bill or raise its spend limit at the provider; "
    "then retry."
)
_OWNER = (
    "Whoever owns the model's account or organization must put it right with the provider, or give the workers another "
    "account's credential; then retry."
)
_CREDENTIAL = (
    "Give the workers a credential that may do this: another ANTHROPIC_API_KEY, or a CLAUDE_CODE_OAUTH_TOKEN made with "
    "`claude setup-token`; then retry."
)
_PLACE = (
    "The provider does not serve the place this server calls from: whoever runs it must let the workers call from a "
    "supported region, or use another provider; then retry."
)
_CLOUD = (
    "Whoever administers the cloud account must give the workers' identity access to the model; then retry."
)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_WHO = r"(?:organi[sz]ation|account|workspace|subscription|team|project|user|(?:api )?key)"
_IS = r"(?:has been|have been|was|is|has)(?: been)?(?: currently| temporarily| permanently)?"
_GONE = (
    r"(?:disabled|suspended|blocked|deactivated|banned|terminated|closed|locked|restricted|archived|on hold)"
)
# What a wait may cure where the refusal itself says when: see `_TELLS_TIME`.
_SPENT = _any(
    r"credit balance is too low",
    r"insufficient[_ ](?:credits?|funds|balance|quota)",
    r"out of (?:usage )?credits",
    r"\b(?:no|not enough)(?: remaining)? credits?\b",
    r"purchase (?:more )?credits|requires more credits",
    r"\bcredits? (?:(?:have|has|are|is|been) ){0,2}(?:depleted|exhausted|expired|used up)",
    r"(?:run|ran) out of (?:\w+ ){0,2}credits|top up your (?:account|balance)",
    r"\bbalance is (?:insufficient|exhausted|negative|empty)|insufficient (?:\w+ )?(?:balance|credits?|funds)",
    r"current cost: .{0,40}max budget:|key limit exceeded \(",
    r"spend(?:ing)? (?:limit|cap)",
    r"specified api usage limits?",
    r"check your plan and billing",
)
_ACCOUNT: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        _any(
            r"billing_(?:error|not_active|disabled|hard_limit_reached)",
            r"billing (?:is |has been |to be |account )?(?:disabled|not enabled|enabled|inactive|closed)",
            r"payment (?:is )?required|(?:payment )?card (?:was |has been |is )?(?:declined|expired)",
            r"billing hard limit",
            r"(?:free |your )+(?:trial|tier) (?:has |is |have )?(?:ended|expired|exhausted|over)",
            r"you have no active (?:plan|subscription)",
            r"invalid_payment_instrument|payment (?:method|instrument)",
            r"(?:invoice|payment|account|balance) is past due|past due (?:invoice|balance)|unpaid (?:invoice|bill)",
            _SPENT.pattern,
        ),
        _PAYER,
    ),
    (
        _any(
            r"not (?:currently )?(?:available|supported|offered|allowed|served) in (?:your|this) (?:\w+ )?"
            r"(?:country|region|location|territory|area)",
            r"unsupported[ _](?:country|region|location)",
            r"(?:access to|use) .{0,60}in your (?:country|region|location)",
            r"app-unavailable-in-region|country, region, or territory not supported",
            r"\brequest not allowed\b",
        ),
        _PLACE,
    ),
    (
        _any(
            r"accessdeniedexception|accessdenied\b",
            r"is not authorized to perform",
            r"access to the model with the specified model id",
            r"use case details have not been submitted",
            r"model access is denied",
            r"\bpermission_denied\b|permission '?aiplatform",
            r"\bservice_disabled\b|has not been used in project",
            r"authorizationfailed|does not have authorization to perform",
        ),
        _CLOUD,
    ),
    (
        _any(
            r"scope requirement|(?:required|missing|insufficient)[_ ]scopes?\b",
            r"only authorized for use with claude code",
            r"(?:key|token|credential) .{0,60}(?:does not|doesn't) have (?:the )?(?:required )?permission",
            r"does not have permission to (?:use|access)",
        ),
        _CREDENTIAL,
    ),
    (
        _any(
            rf"\b{_WHO} {_IS} {_GONE}\b",
            rf"\b{_GONE} (?:organi[sz]ation|account|workspace)\b",
            r"\baccount (?:suspended|disabled|blocked|deactivated|banned)\b",
            r"(?:organi[sz]ation|account|plan|subscription|workspace)\b.{0,40}(?:does not|doesn't|no longer) "
            r"(?:have|has|include|allow)s? (?:access to )?",
            r"(?:organi[sz]ation|admin\w*) has (?:disabled|blocked|turned off)",
            r"not (?:currently )?allowed for this organi[sz]ation",
            r"your subscription (?:has|is|was|does|ended|expired)|subscription (?:has )?(?:expired|ended)|"
            r"(?:no active|requires? an? (?:active|paid)) (?:\w+ )?subscription",
            r"not (?:included|available) (?:in|on|with|under|for) your (?:current )?(?:plan|subscription)",
        ),
        _OWNER,
    ),
)
_NAMED_LIMIT = (
    r"(?:usage|session|weekly|daily|monthly|hourly|\d{1,2}-hour|opus|sonnet|haiku|fable|request|token|rate)"
)
_LIMIT = _any(
    rf"{_NAMED_LIMIT} limits?\b",
    r"(?:hit|reached|exceeded) (?:your|the|its) .{0,40}\blimits?\b",
    r"regain access on",
    r"out of extra usage|used (?:up |all )(?:of )?your .{0,30}usage",
    r"rejected \(429\)|api error: 429",
    r"throttlingexception|too many (?:requests|tokens)|resource_exhausted|servicequotaexceeded",
    r"exceeded your current quota",
)
_TELLS_TIME = _any(
    r"\bregain access on\b",
    r"\b(?:resets?|reset at|resetting)\b",
    r"\b(?:retry|try again) (?:in|at|after|on) ",
    r"\|\s*1[0-9]{9}\b",
    r"retry-after",
)
_SIZE = (
    r"prompt is too long|context (?:window|limit|length)|input (?:is|length)[^\n]{0,40}(?:too long|exceed)"
)
_OTHERS: tuple[tuple[re.Pattern[str], Category], ...] = (
    (
        _any(r"no conversation found with session id", r"session id \S+ is already in use"),
        Category.SESSION_UNUSABLE,
    ),
    (
        _any(
            r"not logged in|please run /login|invalid (?:x-)?api[ -]key|invalid bearer token",
            r"oauth token (?:has )?(?:expired|been revoked)|failed to authenticate\. api error: 401",
            r"api error: 401|authentication_error|oauth authentication is currently not",
            r"expiredtoken|security token included in the request is (?:invalid|expired)|\bunauthenticated\b",
            r"could not load (?:the )?(?:default )?credentials|unable to locate credentials",
        ),
        Category.NOT_LOGGED_IN,
    ),
    (_any(r"api error: (?:529|5\d\d)|overloaded_error|\boverloaded\b"), Category.MODEL_OVERLOADED),
    (_any(_SIZE), Category.REQUEST_REJECTED),
    (_LIMIT, Category.RATE_LIMITED),
    (_any(r"api error: 402"), Category.ACCOUNT_REFUSED),
    (_any(r"api error: 4\d\d|issue with the selected model"), Category.REQUEST_REJECTED),
    (
        _any(
            r"unable to connect to api|connection error|api error: (?:connection|request timed)",
            r"api error: [^\n]{0,200}(?:empty or malformed response|connection (?:was )?(?:closed|reset|lost|refused)|"
            r"fetch failed|\beconn\w+|\betimedout|\benotfound|\beai_again|certificate|premature|"
            r"mid-(?:response|stream)|stream (?:ended|closed|stalled|error))",
        ),
        Category.MODEL_UNREACHABLE,
    ),
    (_any(r"maximum budget"), Category.BUDGET_EXCEEDED),
    (_any(r"maximum number of turns"), Category.TURN_LIMIT),
)


# Of its own accord: neither a provider nor Claude Code says "I", or answers in Markdown.
_FIRST_PERSON = re.compile(r"(?<![\w`'\"/])(?:I|We)(?: [a-z]|['’](?:m|ve|d|ll|re) )")
_MARKDOWN = re.compile(r"^(?:#{1,4} |\s*[-*] |\s*\d{1,2}\. |```|\*\*)", re.MULTILINE)
_FROM_OUTSIDE = _any(r"^\s*(?:failed to authenticate\. )?api error\b", r"^\s*[{\[]", r"^\s*error code: ")


def is_prose(text: str) -> bool:
    """Whether a model says this of its work, so that what it quotes is no refusal of its own account."""
    text = text[:_READ_CHARACTERS]
    if _FROM_OUTSIDE.search(text):
        return False
    return bool(_FIRST_PERSON.search(text) or _MARKDOWN.search(text))


def refused_in_words(text: str) -> Refusal | None:
    """What counts for more than any status: who must act, or that time alone helps."""
    text = text[:_READ_CHARACTERS]
    is_limit = _LIMIT.search(text) is not None and re.search(_SIZE, text, re.IGNORECASE) is None
    if (is_limit or _SPENT.search(text)) and _TELLS_TIME.search(text):
        return Refusal(Category.RATE_LIMITED)
    for pattern, advice in _ACCOUNT:
        if pattern.search(text):
            return Refusal(Category.ACCOUNT_REFUSED, advice)
    return Refusal(Category.RATE_LIMITED) if is_limit else None


def explained_in_words(text: str) -> Refusal | None:
    """The same, and what else is known by its words alone, where there is no status."""
    found = _session(text) or refused_in_words(text)
    if found is not None:
        return found
    text = text[:_READ_CHARACTERS]
    return next((Refusal(category) for pattern, category in _OTHERS if pattern.search(text)), None)


def _session(text: str) -> Refusal | None:
    pattern, category = _OTHERS[0]
    return Refusal(category) if pattern.search(text[:_READ_CHARACTERS]) else None
