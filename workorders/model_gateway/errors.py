"""The gateway's own answers, in the form of the Messages API's errors, so that any client of it understands them.

A status a client repeats (401, 429, 5xx) is used only where repeating may help: Claude Code repeats a 401 for minutes.
The executor recognises these words and turns them into categories of their own.
"""

from dataclasses import dataclass
from decimal import Decimal

BUDGET_WORDS = "Work Orders: the step's budget"
NO_CREDENTIAL_WORDS = "Work Orders: no credential for the model"
UNREACHABLE_WORDS = "Work Orders: the model's API cannot be reached"


@dataclass(frozen=True)
class Refusal:
    """An answer of the gateway itself."""

    status: int
    error_type: str
    message: str

    @property
    def body(self) -> dict[str, object]:
        return {"type": "error", "error": {"type": self.error_type, "message": self.message}}


NO_TOKEN = Refusal(401, "authentication_error", "Work Orders: this request carries no step token.")
NOT_FOUND = Refusal(404, "not_found_error", "Work Orders: the model gateway does not pass this path on.")
TOO_LARGE = Refusal(413, "request_too_large", "Work Orders: the request is larger than the model accepts.")

DATABASE_AWAY = Refusal(
    503,
    "overloaded_error",
    "Work Orders: the database is away, so the step's token cannot be checked; try again.",
)


def token_refused(reason: str, *, known: bool) -> Refusal:
    if known:
        return Refusal(403, "permission_error", f"Work Orders: {reason}.")
    return Refusal(401, "authentication_error", f"Work Orders: {reason}.")


def no_credential(hint: str) -> Refusal:
    return Refusal(403, "permission_error", f"{NO_CREDENTIAL_WORDS}: {hint}")


def over_budget(budget_usd: Decimal, spent_usd: Decimal) -> Refusal:
    return Refusal(
        402,
        "billing_error",
        f"{BUDGET_WORDS} of {budget_usd.normalize():f} USD is used up ({spent_usd:.4f} USD spent).",
    )


def no_price(model: str) -> Refusal:
    """With a budget set, a model without a price would be a way around it."""
    return Refusal(
        402,
        "billing_error",
        f"{BUDGET_WORDS} cannot be kept with {model[:100]}, whose price is not known; "
        "name it in the file of WORKORDERS_MODEL_PRICES.",
    )


def unreachable(error: Exception) -> Refusal:
    return Refusal(502, "api_error", f"{UNREACHABLE_WORDS} ({type(error).__name__}).")
