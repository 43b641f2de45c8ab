"""Expected failures of the product itself; the shape is `sandboxes.errors.ExpectedError`."""

from sandboxes.errors import ExpectedError


class WorkOrderError(ExpectedError):
    """A request cannot be carried out."""

    category = "request_refused"


class NotFound(WorkOrderError):
    """What was asked for is not there, or not for this caller; each kind says where to look."""

    category = "not_found"
    advice = "Check what was asked for."


class WorkOrderNotFound(NotFound):
    """There is no such work order, or it is not for this caller."""

    advice = "Check the id; `GET /api/agent-work-orders` lists the orders you can see."


class ChangedFileNotFound(WorkOrderNotFound):
    """The order changed no such file, or no longer does."""

    advice = "Open the order's changes again; they list its files as they are now."


class RepositoryNotFound(NotFound):
    """There is no such repository here, or it is not for this caller."""

    advice = (
        "Look at the page of repositories: it lists those that are connected here; it may have been renamed."
    )


class ConflictError(WorkOrderError):
    """The work order's state does not allow this now."""

    category = "conflict"
    advice = "Read the order's status and try what it allows."


class IdempotencyConflict(ConflictError):
    """The same Idempotency-Key came with another request."""

    category = "idempotency_key_reused"
    advice = "Use a new Idempotency-Key for a new request."


class InvalidInput(WorkOrderError):
    """One field of a request is not acceptable; `field` is its name in the API."""

    category = "invalid_input"
    advice = "Correct the named field."

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class RequestHoldsSecret(InvalidInput):
    """A request holds a secret; it was refused, and nothing of it was stored."""

    category = "request_holds_secret"
    advice = (
        "Put a placeholder in the secret's place and send it again. Agents get credentials from no request: what a "
        "test needs belongs into its own set-up. If others may have seen the secret, replace it where it was made."
    )


class EvidenceMissing(WorkOrderError):
    """The agent says it is done, but git does not show what the phase must leave."""

    category = "evidence_missing"
    retryable = True
    advice = "Read the agent's last message in the log; make the request clearer, then retry."


class RepositoryRefused(WorkOrderError):
    """The server's settings no longer allow this repository."""

    category = "repository_refused"
    advice = (
        "Check WORKORDERS_GITHUB_HOST and WORKORDERS_ALLOW_LOCAL_REPOSITORIES on the workers, then retry."
    )


class PullRequestLeftOpen(WorkOrderError):
    """A cancelled order's pull request could not be closed yet; the order itself is cancelled."""

    category = "pull_request_left_open"
    retryable = True
    advice = "Close it on GitHub, or leave it to the server, which does so as soon as GitHub lets it."

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class WorkersLost(WorkOrderError):
    """A step has taken its worker down each time it was tried."""

    category = "worker_lost"
    advice = "Look at the worker's memory and system log at these times before you retry."


class LeaseLost(Exception):
    """Another process holds this step now; whoever sees this must write nothing more.

    Not an `ExpectedError`: it never reaches a person, it only ends the loser.
    """
