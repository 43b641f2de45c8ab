"""An order's page: every status, the polled parts, what people can do, and hostile text."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.factories import SHA, held, make_log, make_order, make_run
from tests.reading.pages.order_rows import add_commits, add_files
from workorders.agents.base import AgentEventKind
from workorders.domain.errors import PullRequestLeftOpen
from workorders.domain.states import AgentWorkOrderStatus, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models import AgentPrompt, AgentWorkOrder
from workorders.reading.pages.feed import FEED_KINDS
from workorders.reading.pages.feed_entries import AGENT_EVENTS, TOOL_EVENTS
from workorders.reading.pages.order import order_state, position
from workorders.services import work_orders as services
from workorders.templatetags.pages import moment

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
HOSTILE = "<script>alert(1)</script>\x1b[31mred\u202ereversed"
PLANNING, IMPLEMENTING, TESTING, _ = AgentWorkflowPhase


def url(name: str, order: object, *more: object) -> str:
    return reverse(name, args=[str(order), *more])


def text_of(client: Client, address: str, **query: str | int) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def queries(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)


@pytest.mark.parametrize("status", AgentWorkOrderStatus)
def test_every_status_has_its_title_icon_and_actions(client: Client, status: AgentWorkOrderStatus) -> None:
    order = make_order(initial_prompt="Say goodbye", status=status, **(held() if status == "running" else {}))
    page = text_of(client, url("work-order", order))
    word = "queued" if status == "pending" else status
    title = f"{word.capitalize()}: Say goodbye · {order}"
    assert f"<title>{title}</title>" in page
    assert f'data-page-title="{title}"' in page
    icon = "idle" if status == "pending" else status
    assert len(re.findall(rf"favicon-{icon}\.(?:\w+\.)?svg", page)) == 2
    is_active = status in {"pending", "running"}
    assert (url("work-order-state", order) in page) is is_active
    assert (url("work-order-cancel", order) in page) is is_active
    assert (url("work-order-retry", order) in page) is (status in {"failed", "cancelled"})
    assert "<h1" in page
    assert "Say goodbye" in page


def test_polling_stops_when_the_order_has_been_finished_for_a_while(client: Client) -> None:
    order = make_order(status="completed", execution_completed_at=timezone.now() - timedelta(minutes=1))
    assert 'hx-trigger="poll"' not in text_of(client, url("work-order", order))
    state = text_of(client, url("work-order-state", order), v="0-0")
    assert "hx-trigger" not in state
    answer = client.get(url("work-order-feed", order), {"after": order.log_sequence})
    assert answer.status_code == 200
    assert b"hx-trigger" not in answer.content


def test_phases_show_what_was_done_runs_and_waits(client: Client) -> None:
    order = make_order(status="running", **held())
    started = timezone.now() - timedelta(minutes=5)
    make_run(order, PLANNING, commits=2, started_at=started, completed_at=started + timedelta(seconds=90))
    make_run(order, IMPLEMENTING, PhaseRunStatus.FAILED, error_message="no evidence")
    make_run(order, IMPLEMENTING, PhaseRunStatus.RUNNING, started_at=started)
    phases = order_state(str(order)).phases
    assert [(phase.title, phase.status, phase.attempts) for phase in phases] == [
        ("Plan", "succeeded", 1),
        ("Implementation", "running", 2),
        ("Tests", "pending", 0),
        ("Pull request", "pending", 0),
    ]
    page = text_of(client, url("work-order", order))
    assert "1 min 30 s · 2 commits" in page
    assert "2 attempts" in page


def test_a_phase_that_counts_although_its_agent_ended_badly_says_so(client: Client) -> None:
    order = make_order(status="running")
    make_run(
        order, PLANNING, error_message="It did not end as it should <b>", error_category="agent_exit_code"
    )
    page = text_of(client, url("work-order", order))
    assert "<strong>Warning:</strong> It did not end as it should &lt;b&gt;" in page


def test_a_failed_phase_says_how_long_it_took(client: Client) -> None:
    order = make_order(status="failed")
    started = timezone.now() - timedelta(minutes=5)
    ended = started + timedelta(seconds=75)
    make_run(order, PLANNING, PhaseRunStatus.FAILED, started_at=started, completed_at=ended)
    page = text_of(client, url("work-order", order))
    assert "1 min 15 s" in page
    assert "data-elapsed-since" not in page


def test_phases_that_never_will_run_are_not_called_pending() -> None:
    order = make_order(status="cancelled", repository="/srv/spoon")
    phases = order_state(str(order)).phases
    assert {phase.status for phase in phases} == {"not_started"}
    assert phases[-1].title == "Delivery"


def test_a_cancelled_order_says_what_it_left_open(client: Client) -> None:
    left = PullRequestLeftOpen("GitHub is away.")
    order = make_order(
        status="cancelled",
        error_message=str(left),
        error_category=left.category,
        error_advice=left.advice,
    )
    page = text_of(client, url("work-order", order))
    assert "Cancelled, with something left to do" in page
    assert left.advice in page
    assert "with something left" not in text_of(client, url("work-order", make_order(status="cancelled")))


def test_a_failure_says_what_to_do(client: Client) -> None:
    page = text_of(client, url("work-order", make_order(status="failed")))
    assert "It broke." in page
    assert "Retry." in page
    assert "agent_failed" in page


def test_waiting_for_the_next_attempt_is_said(client: Client) -> None:
    order = make_order(status="running", claimable_at=timezone.now() + timedelta(minutes=1))
    make_run(order, PLANNING, PhaseRunStatus.FAILED, error_message="overloaded")
    page = text_of(client, url("work-order", order))
    assert "Waiting to try again" in page
    assert "overloaded" in page


def test_the_result(client: Client) -> None:
    order = make_order(status="completed", outcome="tests_failed", github_issue_number="42")
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        github_pull_request_number=7, github_pull_request_url="https://github.com/octo/spoon/pull/7"
    )
    add_commits(order, 2)
    add_files(order, "src/a.py", "src/b.py")
    make_run(order, PLANNING, plan_path="specs/plan.md", plan_text="# The plan\n\n**bold**")
    results = {"tests": [{"name": "test_x", "status": "failed", "message": "1 != 2"}], "summary": "one"}
    make_run(order, TESTING, tests_passed=3, tests_failed=1, test_results=results)
    make_run(order, TESTING, kind=StepKind.DELIVERY)
    page = text_of(client, url("work-order", order))
    for part in (
        "specs/plan.md",
        "<strong>bold</strong>",
        "2 files",
        "1 failed",
        "test_x",
        "1 != 2",
        'href="https://github.com/octo/spoon/pull/7"',
        f'href="https://github.com/octo/spoon/tree/{order.git_branch_name}"',
        'href="https://github.com/octo/spoon/issues/42"',
        f'href="https://github.com/octo/spoon/commit/{1:040x}"',
        f'href="{reverse("work-order-new")}?repository=octo%2Fspoon"',
        url("work-order-changes", order),
    ):
        assert part in page, part


def test_a_local_repository_has_no_links_outside(client: Client) -> None:
    order = make_order(repository="/srv/spoon", status="completed", outcome="branch_pushed")
    add_commits(order, 1)
    page = text_of(client, url("work-order", order))
    assert 'href="https://' not in page


def test_only_https_addresses_become_links(client: Client) -> None:
    order = make_order(
        status="completed", github_pull_request_url="javascript:alert(1)", github_pull_request_number=1
    )
    assert "javascript:" not in text_of(client, url("work-order", order))


def test_hostile_text_is_harmless_everywhere(client: Client) -> None:
    order = make_order(
        initial_prompt=HOSTILE,
        model=HOSTILE[:90],
        status="failed",
        error_message=HOSTILE,
        error_category=HOSTILE[:50],
        error_advice=HOSTILE,
        github_issue_title=HOSTILE,
        head_sha=SHA,
    )
    add_commits(order, 1, f"{HOSTILE}\n\n{HOSTILE}")
    add_files(order, f"{HOSTILE}/{HOSTILE}.py", patch=f"diff --git\n@@ -1 +1 @@ {HOSTILE}\n+{HOSTILE}\n")
    results = {"tests": [{"name": HOSTILE, "status": "failed", "message": HOSTILE}], "summary": HOSTILE}
    make_run(order, PLANNING, plan_path=HOSTILE, plan_text=HOSTILE)
    make_run(order, IMPLEMENTING, PhaseRunStatus.FAILED, error_message=HOSTILE)
    make_run(order, TESTING, tests_passed=0, tests_failed=1, test_results=results)
    for event in ("agent_message", "agent_tool_called", "git_commit_created", "something_new"):
        make_log(order, event, summary=HOSTILE, tool=HOSTILE, message=HOSTILE, input={HOSTILE: HOSTILE * 2})
    AgentPrompt.objects.create(agent_work_order=order, prompt_text=HOSTILE, by=HOSTILE)
    for address in (
        url("work-order", order),
        url("work-order-state", order),
        url("work-order-feed", order),
        url("work-order-cancel", order),
        url("work-order-changes", order),
        url("work-order-changed-file", order, 0),
    ):
        page = text_of(client, address)
        assert "<script>alert" not in page, address
        assert "\x1b" not in page, address
        assert "\u202e" not in page, address


def test_content_security_policy_and_nothing_it_forbids(client: Client) -> None:
    order = make_order(status="running")
    add_files(order, "a.py")
    for address in (url("work-order", order), url("work-order-changes", order)):
        answer = client.get(address)
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        page = answer.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|hx-vals", page)


@pytest.mark.parametrize("head", ["", SHA])
@pytest.mark.parametrize("end", ["", SHA, "c" * 40])
@pytest.mark.parametrize("failed", [0, 3])
def test_results_of_tests_are_shown_whatever_is_known_of_their_commit(
    client: Client, head: str, end: str, failed: int
) -> None:
    order = make_order(status="running", head_sha=head)
    make_run(order, TESTING, end_sha=end, tests_passed=2, tests_failed=failed)
    page = text_of(client, url("work-order", order))
    lines = {line.key: line.status for line in order_state(str(order)).phases}
    is_current = bool(head) and end in {"", head}
    assert lines["testing"] == (
        "outdated" if head and not is_current else "tests_failed" if is_current and failed else "succeeded"
    )
    assert ("3 failed" in page) is (bool(head) and failed == 3)


# --- polling ---


@pytest.mark.parametrize("values", [held(), {}], ids=["a worker is at it", "is there a worker?"])
def test_an_unchanged_order_answers_204_with_one_query(client: Client, values: dict[str, Any]) -> None:
    order = make_order(status="running", **values)
    address = url("work-order-state", order)
    shown = position(str(order))
    assert f"{address}?v={shown}" in text_of(client, url("work-order", order))
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address, {"v": shown})
    assert (answer.status_code, answer.content, len(captured)) == (204, b"", 1)


def test_a_changed_order_answers_its_state_alone(client: Client) -> None:
    order = make_order(status="running")
    shown = position(str(order))
    make_log(order, "agent_message", summary="x")
    answer = client.get(url("work-order-state", order), {"v": shown})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert page.strip().startswith('<div id="order-state"')
    assert page.strip().endswith("</div>")
    assert "feed-entries" not in page
    assert "prompt_text" not in page


def test_element_ids_are_unique_and_stable(client: Client) -> None:
    order = make_order(status="running")
    add_commits(order, 3)
    add_files(order, "a/b/c.py", "a/d.py", "e.py")
    make_run(order, PLANNING, plan_text="# x")
    make_log(order, "agent_message", "agent_tool_called", summary="x")
    first = re.findall(r'\sid="([^"]+)"', text_of(client, url("work-order", order)))
    assert len(first) == len(set(first))
    assert first == re.findall(r'\sid="([^"]+)"', text_of(client, url("work-order", order)))


# --- the feed ---


def sequences(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<li id="e(\d+)"', page)]


def test_the_newest_hundred_come_first_and_earlier_ones_on_request(client: Client) -> None:
    order = make_order(status="running")
    make_log(order, *["agent_message"] * 150, summary="hello")
    page = text_of(client, url("work-order", order))
    assert sequences(page) == list(range(52, 152))
    assert f"{url('work-order', order)}?kind=all&amp;before=52#activity" in page
    assert sequences(text_of(client, url("work-order-feed", order), before=52)) == list(range(1, 52))
    older = text_of(client, url("work-order", order), before=52)
    assert sequences(older) == list(range(1, 52))
    assert "Back to the newest" in older
    assert 'id="feed-tail"' not in older


def test_the_feed_appends_only_what_is_new(client: Client) -> None:
    order = make_order(status="running")
    address = url("work-order-feed", order)
    assert client.get(address, {"after": 1}).status_code == 204
    make_log(order, "agent_message", "agent_message", summary="news")
    answer = text_of(client, address, after=1)
    assert sequences(answer) == [2, 3]
    assert 'id="feed-tail" hx-swap-oob="true"' in answer
    assert "after=3" in answer
    assert client.get(address, {"after": 3}).status_code == 204


def test_a_filtered_feed_moves_its_cursor_over_what_it_does_not_show(client: Client) -> None:
    order = make_order(status="running")
    make_log(order, "agent_message", summary="words")
    answer = text_of(client, url("work-order-feed", order), after=1, kind="tools")
    assert sequences(answer) == []
    assert "kind=tools&amp;after=2" in answer


def test_a_flood_arrives_in_pieces_without_gaps(client: Client) -> None:
    order = make_order(status="running")
    make_log(order, *["agent_message"] * 450, summary="x")
    seen: list[int] = []
    after = 1
    while (answer := client.get(url("work-order-feed", order), {"after": after})).status_code == 200:
        seen += sequences(answer.content.decode())
        after = int(re.findall(r"after=(\d+)", answer.content.decode())[-1])
    assert seen == list(range(2, 452))


def test_kinds(client: Client) -> None:
    order = make_order(status="running")
    make_log(order, "agent_message", summary="m")
    make_log(
        order, "agent_tool_called", summary="Bash: ls", tool="Bash", input={"command": "ls", "why": "look"}
    )
    make_log(order, "agent_tool_finished", summary="no", tool="Bash", is_error=True)
    make_log(order, "workflow_phase_retry_scheduled", level="warning", phase="planning", delay_seconds=2)
    shown = {
        kind: sequences(text_of(client, url("work-order-feed", order), kind=kind)) for kind in FEED_KINDS
    }
    assert shown == {
        "all": [1, 2, 3, 4, 5],
        "agent": [2],
        "tools": [3, 4],
        "server": [1, 5],
        "problems": [4, 5],
    }
    page = text_of(client, url("work-order", order), kind="tools")
    assert sequences(page) == [3, 4]
    assert re.search(r'href="\?kind=tools#activity" aria-current="true"', page)
    assert sequences(text_of(client, url("work-order", order), kind="nonsense")) == [1, 2, 3, 4, 5]


def test_a_rare_kind_is_looked_for_piece_by_piece(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workorders.reading.pages.feed.FEED_WINDOW", 10)
    order = make_order(status="running")
    make_log(order, "workflow_phase_retry_scheduled", level="warning", phase="planning", delay_seconds=2)
    make_log(order, *["agent_message"] * 23, summary="hello")
    found: list[list[int]] = []
    before: int | None = 26
    while before:
        text = text_of(client, url("work-order-feed", order), kind="problems", before=before)
        found.append(sequences(text))
        earlier = re.search(r"before=(\d+)", text)
        before = int(earlier[1]) if earlier else None
    assert found == [[], [], [2]]


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize("value", ["", "x", "-1", "1e3", "٣", "9" * 40])
def test_nonsense_as_a_cursor_is_no_cursor(client: Client, name: str, value: str) -> None:
    assert client.get(url("work-order-feed", make_order()), {name: value}).status_code == 200


@pytest.mark.parametrize(("commits", "words"), [(1, "1 commit in"), (2, "2 commits in")])
def test_counted_words_agree(client: Client, commits: int, words: str) -> None:
    order = make_order(status="running")
    make_log(order, "workflow_phase_completed", phase="planning", commits=commits, duration_seconds=3)
    assert words in text_of(client, url("work-order-feed", order))


def test_event_names_are_the_agents() -> None:
    assert {f"agent_{kind}" for kind in AgentEventKind} == AGENT_EVENTS | TOOL_EVENTS


# --- queries ---


def test_pages_cost_the_same_number_of_queries_whatever_they_show(client: Client) -> None:
    small, large = make_order(status="running"), make_order(status="running")
    for order, number in ((small, 2), (large, 200)):
        add_commits(order, number)
        add_files(order, *(f"src/{index % 7}/{index}.py" for index in range(number)))
        make_log(order, *["agent_message"] * number, summary="x")
        for _number in range(max(1, number // 20)):
            make_run(order, PLANNING, plan_text="x", tests_passed=1, tests_failed=0)
            AgentPrompt.objects.create(agent_work_order=order, prompt_text="x", by="x")
    for name in (
        "work-order",
        "work-order-state",
        "work-order-feed",
        "work-order-changes",
        "work-order-cancel",
    ):
        counted = [queries(lambda order=order: client.get(url(name, order))) for order in (small, large)]  # type: ignore[misc]  # noqa: B023  # called at once
        assert counted[0] == counted[1] <= 9, name


# --- what people do ---


def test_a_prompt_is_queued_and_the_page_says_so(client: Client) -> None:
    order = make_order(status="running")
    answer = client.post(url("work-order-prompt", order), {"prompt_text": "Do more"}, follow=True)
    assert answer.redirect_chain == [(url("work-order", order), 302)]
    page = answer.content.decode()
    assert "will get your prompt" in page
    assert "Do more" in page
    assert AgentPrompt.objects.get().by == "page"


def test_a_dropped_prompt_is_said_to_be(client: Client) -> None:
    order = make_order(head_sha=SHA)
    client.post(url("work-order-prompt", order), {"prompt_text": "Do more"})
    services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")
    page = text_of(client, url("work-order", order))
    assert "dropped" in page
    assert "It was not done, as the work order was cancelled; Retry does it." in page
    assert "Prompt dropped: Do more" in page


def test_a_prompt_by_htmx_leaves_a_page_that_polls_where_it_is(client: Client) -> None:
    order = make_order(status="running")
    answer = client.post(url("work-order-prompt", order), {"prompt_text": "Do more"}, headers=HTMX)
    assert answer.status_code == 200
    assert "Do more" not in answer.content.decode()
    assert json.loads(answer["HX-Trigger"])["toast"]["message"] == "The agent will get your prompt."
    assert "HX-Redirect" not in answer


def test_a_follow_up_by_htmx_loads_the_page_anew_so_that_it_polls(client: Client) -> None:
    order = make_order(status="completed")
    answer = client.post(url("work-order-prompt", order), {"prompt_text": "Do more"}, headers=HTMX)
    assert (answer.status_code, answer["HX-Redirect"]) == (200, url("work-order", order))


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_refused_prompt_keeps_its_text(client: Client, headers: dict[str, str]) -> None:
    order = make_order(status="failed")
    answer = client.post(url("work-order-prompt", order), {"prompt_text": "<b>again"}, headers=headers)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "before it had a commit" in page
    assert "&lt;b&gt;again</textarea>" in page
    assert 'aria-invalid="true"' in page
    assert ("<!doctype html>" in page) is not bool(headers)


def test_an_empty_prompt_is_refused(client: Client) -> None:
    answer = client.post(url("work-order-prompt", make_order()), {"prompt_text": "  "})
    assert answer.status_code == 422
    assert b"The prompt is empty." in answer.content


def test_cancel_asks_first_and_then_cancels(client: Client) -> None:
    order = make_order()
    assert "Keep it running" in text_of(client, url("work-order-cancel", order))
    order.refresh_from_db()
    assert order.status == "pending"
    answer = client.post(url("work-order-cancel", order), follow=True)
    order.refresh_from_db()
    assert order.status == "cancelled"
    assert b"being cancelled" in answer.content


@pytest.mark.parametrize(
    ("name", "status"), [("work-order-cancel", "failed"), ("work-order-retry", "running")]
)
def test_what_the_state_does_not_allow_becomes_a_message(client: Client, name: str, status: str) -> None:
    order = make_order(status=status)
    answer = client.post(url(name, order), follow=True)
    assert answer.status_code == 200
    assert b"alert-danger" in answer.content
    htmx = client.post(url(name, order), headers=HTMX)
    assert htmx["HX-Redirect"] == url("work-order", order)


def test_retry(client: Client) -> None:
    order = make_order(status="failed")
    client.post(url("work-order-retry", order))
    order.refresh_from_db()
    assert order.status == "pending"


@pytest.mark.parametrize("name", ["work-order-prompt", "work-order-retry"])
def test_actions_are_posts_with_a_token(name: str) -> None:
    order = make_order(status="failed")
    strict = Client(enforce_csrf_checks=True)
    assert strict.get(url(name, order)).status_code == 405
    assert strict.post(url(name, order), {"prompt_text": "x"}).status_code == 403


@pytest.mark.parametrize("order_id", ["wo-aaaaaaaa", "nonsense", "wo-AAAAAAAA"])
def test_an_unknown_order_is_a_404(client: Client, order_id: str) -> None:
    for name in (
        "work-order",
        "work-order-state",
        "work-order-feed",
        "work-order-cancel",
        "work-order-changes",
    ):
        assert client.get(url(name, order_id)).status_code == 404, name
    for name in ("work-order-prompt", "work-order-cancel", "work-order-retry", "work-order-continue"):
        assert client.post(url(name, order_id), {"prompt_text": "x"}).status_code == 404, name


def test_pages_need_a_sign_in_where_the_server_asks_for_it(client: Client, settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"
    order = make_order()
    for name in ("work-order", "work-order-state", "work-order-feed", "work-order-changes"):
        answer = client.get(url(name, order))
        assert answer.status_code == 302
        assert "login" in answer["Location"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s ago"), (65, "1 min ago"), (90_000, "1 d ago"), (-30, "in 29 s"), (-2 * 86400 - 9, "in 2 d")],
)
def test_times_are_told_in_their_largest_unit(seconds: int, text: str) -> None:
    assert text in moment(timezone.now() - timedelta(seconds=seconds))


def test_an_order_that_waits_is_not_said_to_run(client: Client) -> None:
    order = make_order(status="running", current_phase=PLANNING, waiting_reason="model_quota")
    make_run(order, PLANNING, PhaseRunStatus.INTERRUPTED)
    page = text_of(client, url("work-order", order))
    assert "<title>Waiting: " in page
    assert "favicon-idle" in page
    assert order_state(str(order)).phases[0].status == "waiting"
    for text in (page, text_of(client, "/")):
        assert re.search(r"</svg> waiting</span>", text)
        assert not re.search(r"</svg> running</span>", text)
