"""What is said of an order is so: whether somebody is at it, what comes next, what was tested, how long it took."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.factories import SHA, held, make_log, make_order, make_run
from tests.reading.pages.order_rows import add_commits
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models import AgentPrompt, AgentWorkOrder, WorkerProcess
from workorders.reading import progress
from workorders.reading.pages.order import order_state, position
from workorders.reading.pages.order_list import list_version

pytestmark = pytest.mark.django_db
PLANNING, IMPLEMENTING, TESTING, _ = AgentWorkflowPhase
SOON = timedelta(minutes=5)


def page_of(client: Client, order: object, name: str = "work-order") -> str:
    answer = client.get(reverse(name, args=[str(order)]))
    assert answer.status_code == 200
    return str(answer.content.decode())


def listed(client: Client, **query: str) -> str:
    return str(client.get("/", query).content.decode())


def a_worker() -> WorkerProcess:
    now = timezone.now()
    return WorkerProcess.objects.create(
        name="host:1:1", host="host", version="0", share=4, started_at=now, last_beat_at=now + SOON
    )


def statuses(order: AgentWorkOrder) -> dict[str, str]:
    return {line.key: line.status for line in order_state(str(order)).phases}


# --- queued, running, waiting ---


def between_two_steps(**values: Any) -> AgentWorkOrder:
    order = make_order(status="running", current_phase=PLANNING, **values)
    make_run(order, PLANNING)
    return order


def test_an_order_nobody_is_at_is_queued_whatever_its_status(client: Client) -> None:
    order = between_two_steps()
    page = page_of(client, order)
    assert "<title>Queued: " in page
    assert "favicon-idle" in page
    assert "next: Implementation" in page
    assert "Running for" not in page
    assert "loader-2" not in page
    assert statuses(order)["implementing"] == "queued"
    text = listed(client)
    assert re.search(r"</svg> queued</span><div class=\"wo-meta text-secondary\">next: Implementation", text)
    assert "1 running" not in text
    assert "<title>Work orders</title>" in text


def test_a_held_lease_is_running(client: Client) -> None:
    order = between_two_steps(**held())
    assert "<title>Running: " in page_of(client, order)
    assert "<title>Work orders · 1 running</title>" in listed(client)
    past = timezone.now() - timedelta(seconds=5)
    AgentWorkOrder.objects.update(lease_expires_at=past)
    assert "<title>Queued: " in page_of(client, order), "the lease is over"


def test_a_lease_that_ends_is_seen_by_a_poll(client: Client) -> None:
    order = between_two_steps(**held())
    a_worker()
    before = position(str(order)), list_version()
    AgentWorkOrder.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=5))
    assert position(str(order)) != before[0]
    assert list_version() != before[1]


def test_tabs_and_filters_follow_what_is_said(client: Client) -> None:
    shown = {
        "queued": between_two_steps(),
        "running": between_two_steps(**held()),
        "waiting": make_order(
            status="running", waiting_reason="model_quota", waiting_until=timezone.now() + SOON
        ),
        "tests_failed": make_order(status="completed", outcome="tests_failed"),
        "completed": make_order(status="completed"),
        "failed": make_order(status="failed"),
        "cancelled": make_order(status="cancelled"),
    }
    put_off = make_order(status="running", claimable_at=timezone.now() + SOON)
    text = listed(client)
    for state, order in shown.items():
        name = state.replace("_", " ").capitalize()
        number = 2 if state == "waiting" else 1
        for given in (text, listed(client, q="wo-")):
            assert f'{name} <span class="badge wo-count">{number}</span>' in given, state
        for given in (listed(client, status=state), listed(client, status=state, q="wo-")):
            found = set(re.findall(r'<tr id="(wo-[a-z0-9]{8})"', given))
            assert found == {str(order)} | ({str(put_off)} if state == "waiting" else set()), state
    assert str(shown["queued"]) in listed(client, status="pending"), "an old link"
    assert "to try again at" in text


@pytest.mark.parametrize("status", ["pending", "running"])
def test_the_api_says_it_beside_the_status(client: Client, status: str) -> None:
    order = make_order(status=status)
    busy = make_order(status="running", **held())
    answer = client.get(f"/api/agent-work-orders/{order}").json()["agent_work_order"]
    assert (answer["status"], answer["is_queued"]) == (status, True)
    rows = client.get("/api/agent-work-orders").json()["agent_work_orders"]
    assert {row["agent_work_order_id"]: row["is_queued"] for row in rows} == {
        str(order): True,
        str(busy): False,
    }


# --- no worker ---


def test_no_worker_is_said_where_somebody_waits_for_one(client: Client) -> None:
    order = make_order()
    before = position(str(order)), list_version()
    for text in (page_of(client, order), listed(client), str(client.get("/repositories/").content.decode())):
        assert text.count('id="no-worker"') == 1
        assert "No worker is running." in text
    a_worker()
    assert position(str(order)) != before[0]
    assert list_version() != before[1]
    for text in (page_of(client, order), listed(client), str(client.get("/repositories/").content.decode())):
        assert "no-worker" not in text


def test_a_created_order_is_only_said_to_be_queued(client: Client) -> None:
    fields = {
        "repository_url": "octo/spoon",
        "sandbox_type": "git_branch",
        "workflow_type": "agent_workflow_plan",
        "initial_prompt": "Do it",
    }
    form = {
        **fields,
        **dict(
            re.findall(
                r'type="hidden" name="([a-z_]+)" value="([^"]*)"',
                str(client.get("/work-orders/new/").content.decode()),
            )
        ),
    }
    answer = client.post("/work-orders/new/", form, follow=True)
    text = answer.content.decode()
    assert "is queued.</div>" in text
    assert "at once" not in text


# --- tests ---


def with_results(passed: int = 14, failed: int = 0, **values: Any) -> AgentWorkOrder:
    """A completed order whose tests ran at commit 3 of 3."""
    outcome = "tests_failed" if failed else "pull_request_opened"
    order = make_order(status="completed", outcome=outcome, **{"head_sha": f"{3:040x}", **values})
    add_commits(order, 3)
    for phase in (PLANNING, IMPLEMENTING):
        make_run(order, phase, end_sha=SHA)
    cases = [{"name": f"t{number}", "status": "failed"} for number in range(failed)]
    results = {"tests": cases}
    make_run(
        order, TESTING, end_sha=f"{3:040x}", tests_passed=passed, tests_failed=failed, test_results=results
    )
    return order


def test_failed_tests_are_not_green(client: Client) -> None:
    order = with_results(12, 2)
    page = page_of(client, order)
    assert "<title>Tests failed: " in page
    assert page.count("favicon-tests_failed") == 2
    assert re.search(r'bg-orange-lt"><svg[^>]*><use [^>]*#alert-triangle"></use></svg> tests failed', page)
    assert statuses(order)["testing"] == "tests_failed"
    assert re.search(r'Tests <span class="wo-phase-status">2 failed</span>', page)
    assert "12 passed, 2 failed" in page
    assert not re.search(r"</svg> completed</span>", page)
    assert not re.search(r"</svg> completed</span>", listed(client))


def test_results_of_what_is_there_are_said_as_they_are(client: Client) -> None:
    page = page_of(client, with_results())
    assert "all 14 passing" in page
    assert "not tested since" not in page + listed(client)


def test_results_of_another_commit_say_which(client: Client) -> None:
    order = with_results()
    words = f"14 passed at {f'{3:040x}'[:7]}, 2 commits ago, not tested since"
    add_commits_after(order, 2)
    page = page_of(client, order)
    assert f'<span class="text-secondary">{words}</span>' in page
    assert "all 14 passing" not in page
    assert words in listed(client)
    assert f"<title>Completed, tested at {f'{3:040x}'[:7]}: " in page
    assert page.count("favicon-idle") == 2
    assert statuses(order)["testing"] == "outdated"
    answer = client.get(f"/api/agent-work-orders/{order}").json()["agent_work_order"]["tests"]
    expected = {
        "passed": 14,
        "failed": 0,
        "git_commit_sha": f"{3:040x}",
        "is_current": False,
        "commits_since": 2,
    }
    assert answer == expected
    (row,) = client.get("/api/agent-work-orders").json()["agent_work_orders"]
    assert row["tests"] == expected


def add_commits_after(order: AgentWorkOrder, number: int) -> None:
    order.git_commits.all().delete()
    add_commits(order, 3 + number)
    AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha=f"{3 + number:040x}")


def test_the_same_files_in_another_commit_count_as_tested(client: Client) -> None:
    order = with_results()
    add_commits_after(order, 1)
    AgentWorkOrder.objects.update(tested_sha=f"{4:040x}")
    assert "all 14 passing" in page_of(client, order)
    shown = progress.work_order(str(order)).tests
    assert shown is not None
    assert shown.is_current


def test_a_rewritten_branch_does_not_know_how_many_commits_ago(client: Client) -> None:
    order = with_results(12, 2, head_sha="f" * 40)
    order.git_commits.all().delete()
    page = page_of(client, order)
    assert f"12 passed, 2 failed at {f'{3:040x}'[:7]}, not tested since" in page
    assert "but tests failed" in page
    assert f"<title>Tests failed at {f'{3:040x}'[:7]}: " in page


# --- durations ---


def test_durations_leave_out_what_was_waited(client: Client) -> None:
    start = timezone.now() - timedelta(minutes=20)
    order = make_order(
        status="completed", execution_started_at=start, execution_completed_at=start + timedelta(minutes=13)
    )
    make_run(order, PLANNING, started_at=start, completed_at=start + timedelta(seconds=20))
    make_run(order, IMPLEMENTING, started_at=start, completed_at=start + timedelta(seconds=31))
    late = start + timedelta(minutes=12)
    kind = StepKind.FOLLOW_UP
    make_run(order, IMPLEMENTING, kind=kind, started_at=late, completed_at=late + timedelta(seconds=11))
    page = page_of(client, order)
    assert "worked 1 min 2 s over 13 min 0 s" in page
    lines = {line.key: line.worked for line in order_state(str(order)).phases}
    assert lines["implementing"] == 42.0


def test_an_order_that_waits_or_is_queued_does_not_tick(client: Client) -> None:
    start = timezone.now() - timedelta(minutes=13)
    values: dict[str, Any] = {"status": "running", "execution_started_at": start}
    queued = make_order(claimable_at=timezone.now() - timedelta(seconds=30), **values)
    waiting = make_order(waiting_reason="model_quota", waiting_until=timezone.now() + SOON, **values)
    for order in (queued, waiting):
        make_run(order, PLANNING, PhaseRunStatus.INTERRUPTED, started_at=start, completed_at=start)
        assert "worked 0 s" in page_of(client, order)
        assert "order-elapsed" not in page_of(client, order)
    assert re.search(
        r'in the queue for <span data-elapsed-since="[^"]+" id="queued-for">3\d s</span>',
        page_of(client, queued),
    )
    assert "data-elapsed-since" not in page_of(client, waiting)


# --- the right step is blamed ---


@pytest.mark.parametrize(
    ("event", "kind", "fields", "words"),
    [
        ("workflow_phase_failed", "delivery", {"error": "no"}, "The delivery failed: no"),
        ("workflow_phase_failed", "follow_up", {"error": "no"}, "The follow-up failed: no"),
        ("workflow_phase_failed", "phase", {"error": "no"}, "Phase planning failed: no"),
        ("workflow_phase_failed", None, {"error": "no"}, "Phase planning failed: no"),
        (
            "workflow_phase_retry_scheduled",
            "delivery",
            {"delay_seconds": 2},
            "The delivery is tried again in 2 s",
        ),
        ("workflow_step_waiting", "delivery", {"message": "M"}, "The delivery waits: M"),
    ],
)
def test_the_feed_names_the_step(
    client: Client, event: str, kind: str | None, fields: dict[str, Any], words: str
) -> None:
    order = make_order(status="running")
    make_log(order, event, phase="planning", **fields, **({"kind": kind} if kind else {}))
    assert words in page_of(client, order)


def done(order: AgentWorkOrder, *phases: AgentWorkflowPhase) -> None:
    for phase in phases:
        make_run(order, phase, start_sha=SHA, end_sha=SHA)
    AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha=SHA)


def test_after_an_approval_nothing_is_called_interrupted() -> None:
    order = between_two_steps()
    make_run(order, IMPLEMENTING, PhaseRunStatus.INTERRUPTED, error_category="approval_required")
    assert statuses(order)["implementing"] == "queued"


def test_after_a_retry_the_failure_is_no_more_shown(client: Client) -> None:
    order = make_order(status="pending")
    make_run(order, PLANNING, PhaseRunStatus.FAILED, error_message="It broke in two.")
    assert statuses(order)["planning"] == "queued"
    assert "It broke in two." not in page_of(client, order)
    AgentWorkOrder.objects.update(status="running", claimable_at=timezone.now() + SOON)
    assert statuses(order)["planning"] == "waiting"
    assert "<strong>Last attempt:</strong> It broke in two." in page_of(client, order)


def test_while_a_follow_up_waits_not_everything_is_done(client: Client) -> None:
    order = make_order(status="pending")
    done(order, PLANNING, IMPLEMENTING, TESTING)
    make_run(order, TESTING, kind=StepKind.DELIVERY)
    AgentPrompt.objects.create(agent_work_order=order, prompt_text="More", by="ann")
    assert statuses(order) == {
        "planning": "succeeded",
        "implementing": "queued",
        "testing": "pending",
        "delivery": "pending",
    }
    assert "next: Follow-up" in page_of(client, order)
    assert "next: Follow-up" in listed(client)


def test_tests_that_are_to_be_run_again_come_next(client: Client) -> None:
    order = make_order(status="running")
    done(order, PLANNING, IMPLEMENTING, TESTING)
    make_run(order, IMPLEMENTING, kind=StepKind.FOLLOW_UP, start_sha=SHA, end_sha="b" * 40)
    AgentWorkOrder.objects.update(head_sha="b" * 40)
    assert statuses(order)["testing"] == "queued"
    assert "next: Tests" in listed(client)


def test_an_agent_that_was_stopped_has_not_failed(client: Client) -> None:
    order = make_order(status="cancelled")
    make_log(order, "agent_command_stopped", duration_seconds=4.2)
    page = page_of(client, order)
    assert "The agent was stopped after 4.2 s" in page
    assert "wo-problem" not in page
