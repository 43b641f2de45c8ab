"""The endpoints: each translates in, makes one call of the services or the read model, and translates out."""

from collections.abc import Callable
from functools import partial

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Query, Router

from workorders.api import verification
from workorders.api.answers import answer_once, json_answer, order_answer, versioned_answer
from workorders.api.auth import caller_of
from workorders.api.description import VERSIONED, once
from workorders.api.problems import invalid
from workorders.api.schemas import (
    AgentPromptResponse,
    GitHubRepositoryVerificationResponse,
    LogFilters,
    WorkOrderFilters,
)
from workorders.incoming import (
    AgentPromptRequest,
    ApprovalRequest,
    CreateAgentWorkOrderRequest,
    GitHubRepositoryVerificationRequest,
    as_given,
)
from workorders.models import AgentWorkOrder
from workorders.reading import progress
from workorders.reading.progress import GitProgressView, LogPage, WorkOrderAnswer, WorkOrderPage
from workorders.services import work_orders as services
from workorders.text.held_secrets import require_no_secrets

router = Router(tags=["Agent work orders"])


@router.post(
    "/github/verify-repository",
    response={200: GitHubRepositoryVerificationResponse},
    url_name="verify-repository",
    openapi_extra=once(200),
    tags=["GitHub"],
    summary="Verify access to a repository",
)
def verify_repository(request: HttpRequest, payload: GitHubRepositoryVerificationRequest) -> HttpResponse:
    """Whether the server can read from and push to the repository; where not, `error_message` says what to do."""
    finding = verification.ask(services.parse_repository(payload.repository_url))

    def produce() -> services.Answer:
        shown = verification.shown(
            finding.record(),
            repository_url=as_given(payload.repository_url),
            error_message=finding.error_message,
        )
        return services.Answer(200, shown.model_dump(mode="json"))

    return answer_once(request, payload=payload, produce=produce)


@router.post(
    "/agent-work-orders",
    response={201: WorkOrderAnswer},
    url_name="work-orders",
    openapi_extra=once(201, "Location", "ETag"),
    summary="Create a work order",
)
def create_agent_work_order(request: HttpRequest, payload: CreateAgentWorkOrderRequest) -> HttpResponse:
    """Accepts a request; a worker starts on it at once."""
    caller = caller_of(request)
    require_no_secrets(initial_prompt=payload.initial_prompt or "")  # also of a key that was used

    def produce() -> services.Answer:
        order = services.create_agent_work_order(
            request=payload.to_new_work_order(), by=caller.name, user=caller.user
        )
        return order_answer(progress.answer_for(order), status=201)

    return answer_once(request, payload=payload, produce=produce)


@router.get("/agent-work-orders", response=WorkOrderPage, url_name="work-orders", summary="List work orders")
def list_agent_work_orders(request: HttpRequest, filters: Query[WorkOrderFilters]) -> HttpResponse:  # noqa: ARG001  # ninja's signature
    """Newest first."""
    return json_answer(progress.work_orders(filters.to_query()))


@router.get(
    "/agent-work-orders/{agent_work_order_id}",
    response=WorkOrderAnswer,
    url_name="work-order",
    openapi_extra=VERSIONED,
    summary="Get a work order",
)
def get_agent_work_order(request: HttpRequest, agent_work_order_id: str) -> HttpResponseBase:
    """The order with its status and what git says of it."""
    order = progress.work_order(agent_work_order_id)
    return versioned_answer(request, progress.answer_for(order), order)


@router.get(
    "/agent-work-orders/{agent_work_order_id}/git-progress",
    response=GitProgressView,
    url_name="git-progress",
    openapi_extra=VERSIONED,
    summary="Get git progress",
)
def get_git_progress(request: HttpRequest, agent_work_order_id: str) -> HttpResponseBase:
    """Commits and changes so far, and the phases the order went through."""
    snapshot = progress.git_progress(agent_work_order_id)
    return versioned_answer(request, snapshot, snapshot)


@router.get(
    "/agent-work-orders/{agent_work_order_id}/logs", response=LogPage, url_name="logs", summary="Get the log"
)
def get_logs(request: HttpRequest, agent_work_order_id: str, filters: Query[LogFilters]) -> HttpResponse:  # noqa: ARG001  # ninja's signature
    """Oldest first; `after` with the last sequence seen tails it."""
    page = progress.log_page(
        agent_work_order_id,
        limit=filters.limit,
        offset=filters.offset,
        after=filters.after,
        level=filters.level or "",
    )
    return json_answer(page)


@router.post(
    "/agent-work-orders/{agent_work_order_id}/prompt",
    response=AgentPromptResponse,
    url_name="prompt",
    openapi_extra=once(200),
    summary="Send a prompt to the agent",
)
def prompt_agent(request: HttpRequest, agent_work_order_id: str, payload: AgentPromptRequest) -> HttpResponse:
    """Runs after the current step in the same session; on a finished order it starts a follow-up."""
    order_id, caller = progress.known_id(agent_work_order_id), caller_of(request)
    if payload.agent_work_order_id not in {None, order_id}:
        raise invalid("agent_work_order_id", "is not the id of the path")
    require_no_secrets(prompt_text=payload.prompt_text)  # also of a key that was used

    def produce() -> services.Answer:
        services.prompt_agent_work_order(
            agent_work_order_id=order_id, prompt_text=payload.prompt_text, by=caller.name
        )
        answer = AgentPromptResponse(
            agent_work_order_id=order_id, prompt_accepted=True, message="The prompt is queued for the agent."
        )
        return services.Answer(200, answer.model_dump(mode="json"))

    return answer_once(request, payload=payload, produce=produce)


@router.post(
    "/agent-work-orders/{agent_work_order_id}/cancel",
    response={202: WorkOrderAnswer},
    url_name="cancel",
    openapi_extra=once(202, "ETag"),
    summary="Cancel a work order",
)
def cancel_agent_work_order(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    """At once where nothing runs; else the worker ends the agent first."""
    return _act(request, agent_work_order_id, services.cancel_agent_work_order)


@router.post(
    "/agent-work-orders/{agent_work_order_id}/retry",
    response={202: WorkOrderAnswer},
    url_name="retry",
    openapi_extra=once(202, "ETag"),
    summary="Retry a work order",
)
def retry_agent_work_order(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    """Continues a failed or cancelled order from its first unfinished phase; branch and commits stay."""
    return _act(request, agent_work_order_id, services.retry_agent_work_order)


@router.post(
    "/agent-work-orders/{agent_work_order_id}/continue",
    response={202: WorkOrderAnswer},
    url_name="continue",
    openapi_extra=once(202, "ETag"),
    summary="Go on with a waiting work order now",
)
def continue_agent_work_order(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    """Ends a wait (`waiting_reason`) before its time; 409 where it waits for nothing, or for a decision."""
    return _act(request, agent_work_order_id, services.continue_agent_work_order)


@router.post(
    "/agent-work-orders/{agent_work_order_id}/approve",
    response={202: WorkOrderAnswer},
    url_name="approve",
    openapi_extra=once(202, "ETag"),
    summary="Approve a commit that changes protected paths",
)
def approve_agent_work_order(
    request: HttpRequest, agent_work_order_id: str, payload: ApprovalRequest
) -> HttpResponse:
    """Lets exactly this commit be pushed; 409 where the order waits for no approval, or for another commit's."""
    approve = partial(services.approve_agent_work_order, sha=payload.git_commit_sha)
    return _act(request, agent_work_order_id, approve, payload)


def _act(
    request: HttpRequest,
    agent_work_order_id: str,
    service: Callable[..., AgentWorkOrder],
    payload: ApprovalRequest | None = None,
) -> HttpResponse:
    """The caller does something to the order, once for each key; answers 202 with the order."""
    order_id, caller = progress.known_id(agent_work_order_id), caller_of(request)

    def produce() -> services.Answer:
        order = service(agent_work_order_id=order_id, by=caller.name)
        return order_answer(progress.answer_for(order), status=202)

    return answer_once(request, payload=payload, produce=produce)
