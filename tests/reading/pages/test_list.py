"""The list of work orders: filters, pages, polling, and what strangers write into it."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sandboxes.kinds import SandboxType
from tests.factories import held, make_order, make_repository
from workorders.domain.states import AgentWorkOrderStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.reading.pages.changes import changes
from workorders.reading.pages.order import order_state
from workorders.reading.pages.order_list import PAGE_SIZE, list_version, order_list
from workorders.reading.progress import WorkOrderQuery
from workorders.services import work_orders as services

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def text_of(response: Any, status: int = 200) -> str:
    assert response.status_code == status
    text: str = response.content.decode()
    return text


def shown(text: str) -> list[str]:
    return re.findall(r'<tr id="(wo-[a-z0-9]{8})"', text)


_COPIES = """WITH RECURSIVE numbers (number) AS (SELECT %s UNION ALL SELECT number + 1 FROM numbers WHERE number < %s)
INSERT INTO {table} (agent_work_order_id, git_branch_name, {columns})
SELECT 'wo-' || (10000000 + number), 'feat-wo-' || (10000000 + number), {columns}
FROM {table}, numbers WHERE {table}.id = %s"""


def many_orders(count: int) -> None:
    """Cancelled orders; copied by the database, which takes thousands in a moment."""
    order = make_order(
        initial_prompt="Do something",
        workflow_type=AgentWorkflowType.PLAN,
        status=AgentWorkOrderStatus.CANCELLED,
    )
    own = {"id", "agent_work_order_id", "git_branch_name"}
    columns = {field.attname for field in AgentWorkOrder._meta.concrete_fields} - own
    statement = _COPIES.format(table=AgentWorkOrder._meta.db_table, columns=", ".join(columns))
    before = AgentWorkOrder.objects.count()
    with connection.cursor() as cursor:
        cursor.execute(statement, [before + 1, before + count - 1, order.pk])


def test_without_orders_the_page_leads_to_a_repository_and_then_to_the_first_order(client: Client) -> None:
    assert 'href="/repositories/"' in text_of(client.get("/")).partition("No work orders yet")[2]
    make_repository()
    text = text_of(client.get("/")).partition("No work orders yet")[2]
    assert 'class="btn btn-primary" href="/work-orders/new/"' in text
    assert "Connect a repository" not in text


def test_a_row_shows_the_order(client: Client) -> None:
    order = make_order(
        status=AgentWorkOrderStatus.COMPLETED,
        initial_prompt="\n Add a flag \nand more",
        github_issue_number="42",
        git_commit_count=3,
        git_lines_added=245,
        git_lines_removed=12,
        cost_usd="1.25",
        github_pull_request_number=7,
        github_pull_request_url="https://github.com/octo/spoon/pull/7",
    )
    text = text_of(client.get("/"))
    for part in (
        "Add a flag</a>",
        f"/work-orders/{order.agent_work_order_id}/",
        "octo/spoon",
        "#42",
        "3 commits",
        "+245",
        "−12",
        "$1.25",
        "Pull request #7",
        'href="https://github.com/octo/spoon/pull/7"',
        order.git_branch_name,
        "completed",
    ):
        assert part in text
    assert "and more" not in text


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"github_issue_number": "7", "github_issue_title": "Broken"}, "Broken"),
        ({"github_issue_number": "7"}, "Issue #7"),
        ({}, "No request text"),
        ({"initial_prompt": "## Paint it\nblue", "github_issue_title": "Broken"}, "Broken"),
        ({"initial_prompt": "\n## Paint it\nblue"}, "Paint it"),
        ({"initial_prompt": "x" * 1000}, "x" * 119 + "…"),
        ({"initial_prompt": "\n" * 400 + "late words"}, "No request text"),
    ],
)
def test_an_order_has_the_same_title_on_every_page(values: dict[str, str], title: str) -> None:
    order = make_order(**values)
    assert order_list(WorkOrderQuery()).rows[0].title == title
    assert order_state(str(order)).title == changes(str(order)).title == title


def test_filters_narrow_the_list_and_its_counts(client: Client) -> None:
    wanted = make_order(
        repository="octo/other",
        status=AgentWorkOrderStatus.FAILED,
        sandbox_type=SandboxType.GIT_WORKTREE,
        workflow_type=AgentWorkflowType.PLAN,
        initial_prompt="Needle",
    )
    make_order(repository="octo/other")
    for number in range(3):
        make_order(initial_prompt=f"hay {number}")
    for query in (
        "status=failed",
        f"repository={wanted.repository_id}&status=failed",
        "workflow=agent_workflow_plan",
        "sandbox=git_worktree",
        "q=needle",
        f"q={wanted.agent_work_order_id}",
    ):
        assert shown(text_of(client.get(f"/?{query}"))) == [wanted.agent_work_order_id], query
    text = text_of(client.get(f"/?repository={wanted.repository_id}"))
    assert len(shown(text)) == 2
    assert re.search(r'All <span class="badge wo-count">2<', text)
    assert re.search(r'Failed <span class="badge wo-count">1<', text)
    assert "No work order matches" in text_of(client.get("/?q=nowhere"))


@pytest.mark.parametrize(
    "query",
    ["status=done", "repository=x", f"repository={10**30}", "workflow=%00", "page=-1", "page=zzz", "q=%00", "sandbox="],
)  # fmt: skip
def test_what_a_filter_does_not_understand_counts_as_not_given(client: Client, query: str) -> None:
    make_order()
    assert len(shown(text_of(client.get(f"/?{query}")))) == 1


def test_pages_of_the_list_keep_the_filters(client: Client) -> None:
    many_orders(PAGE_SIZE + 2)
    first = text_of(client.get("/?q=something"))
    assert len(shown(first)) == PAGE_SIZE
    assert 'href="/?q=something&amp;page=2"' in first
    second = text_of(client.get("/?q=something&page=2"))
    assert len(shown(second)) == 2
    assert set(shown(first)).isdisjoint(shown(second))
    assert shown(text_of(client.get("/?q=something&page=99"))) == shown(second)


def test_a_search_has_the_pages_and_counts_of_a_filter(client: Client) -> None:
    many_orders(PAGE_SIZE + 3)
    AgentWorkOrder.objects.filter(pk__in=AgentWorkOrder.objects.values("pk")[:4]).update(
        status="pending", execution_completed_at=None
    )
    for status in (
        None,
        AgentWorkOrderStatus.CANCELLED,
        AgentWorkOrderStatus.PENDING,
        AgentWorkOrderStatus.FAILED,
    ):
        for number in (-1, 1, 2, 3, 10**9):
            plain = order_list(WorkOrderQuery(status=status), page_number=number)
            for text in ("something", "OCTO/SPOON", "feat-wo-"):
                assert order_list(WorkOrderQuery(status=status, q=text), page_number=number) == plain
    assert order_list(WorkOrderQuery(q="100%")).total == order_list(WorkOrderQuery(q="wo_")).total == 0


def test_a_search_reads_the_newest_orders_and_older_ones_on_request(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workorders.reading.pages.order_list.SEARCHED_ORDERS", 3)
    old, *_newer = (make_order(initial_prompt="A needle") for _ in range(4))
    elsewhere = make_order(repository="octo/other", initial_prompt="Hay")
    text = text_of(client.get("/?q=needle"))
    assert len(shown(text)) == 2
    assert re.search(r'All <span class="badge wo-count">2<', text)
    older = re.search(r'href="([^"]*)"[^>]*>Search older ones too', text)
    assert older
    found = text_of(client.get(older[1].replace("&amp;", "&")))
    assert old.agent_work_order_id in shown(found)
    assert len(shown(found)) == 4
    assert "Search older" not in found
    assert "Search older" in text_of(client.get("/?q=nowhere"))
    for query in ("", f"repository={elsewhere.repository_id}&q=hay"):
        assert "Search older" not in text_of(client.get(f"/?{query}")), "nothing was left out"


def test_htmx_gets_the_list_alone_and_a_short_address(client: Client) -> None:
    make_order(initial_prompt="Needle")
    response = client.get("/?q=needle&repository=&status=", headers=HTMX)
    text = text_of(response)
    assert text.strip().startswith('<div id="orders"')
    assert "<html" not in text
    assert response["HX-Push-Url"] == "/?q=needle"
    assert "HX-Request" in response["Vary"]
    restored = client.get("/?q=needle", headers={**HTMX, "HX-History-Restore-Request": "true"})
    assert "<html" in text_of(restored)


def poll_address(text: str) -> str:
    found = re.search(r'hx-get="([^"]*version=[^"]*)" hx-trigger="poll"', text)
    assert found
    return found[1].replace("&amp;", "&")


@pytest.mark.parametrize("change", ["new", "running", "git", "cancelled"])
def test_a_poll_answers_204_until_something_changed(client: Client, change: str) -> None:
    order = make_order()
    address = poll_address(text_of(client.get("/?q=wo-")))
    assert client.get(address, headers=HTMX).status_code == 204
    changes: dict[str, Callable[[], object]] = {
        "new": make_order,
        "running": lambda: order.move(AgentWorkOrderStatus.RUNNING, by="test"),
        "git": lambda: AgentWorkOrder.objects.update(git_commit_count=2, version=order.version + 1),
        "cancelled": lambda: order.finish_cancelled(by="test"),
    }
    changes[change]()
    response = client.get(address, headers=HTMX)
    text = text_of(response)
    assert "HX-Push-Url" not in response
    assert client.get(poll_address(text), headers=HTMX).status_code == 204


def test_polling_goes_on_where_nothing_runs(client: Client) -> None:
    assert client.get(poll_address(text_of(client.get("/"))), headers=HTMX).status_code == 204


def test_an_address_with_a_version_is_a_page_for_people(client: Client) -> None:
    assert "<html" in text_of(client.get(f"/?version={list_version()}"))


def queries(client: Client, address: str, **headers: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        client.get(address, headers=headers)
    return len(captured)


def test_the_number_of_queries_does_not_grow(client: Client) -> None:
    many_orders(10)

    def counted() -> tuple[int, ...]:
        poll = poll_address(text_of(client.get("/")))
        list_alone = (
            queries(client, address, **HTMX) for address in ("/", "/?q=something", "/?q=nowhere", poll)
        )
        return (queries(client, "/"), *list_alone)

    few = counted()
    many_orders(10_000)
    assert counted() == few
    assert few == (7, 6, 4, 3, 1)
    started = time.perf_counter()
    client.get("/")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("values", [held(), {}], ids=["a worker is at it", "is there a worker?"])
def test_an_unchanged_list_answers_204_with_one_query(client: Client, values: dict[str, Any]) -> None:
    make_order(status="running", **values)
    poll = poll_address(text_of(client.get("/")))
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(poll, headers=HTMX)
    assert (answer.status_code, len(captured)) == (204, 1)


def test_hostile_text_is_only_text(client: Client) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\u202e"
    make_order(initial_prompt=hostile)
    text = text_of(client.get("/", {"q": "<script>"}))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert 'style="' not in text
    assert not re.search(r"\son\w+=", text)


def test_pages_are_for_people_who_signed_in(
    client: Client, settings: Any, django_user_model: type[User]
) -> None:
    settings.WORKORDERS_AUTH = "required"
    row = make_repository()
    paths = ("/", "/work-orders/new/", "/repositories/", f"/repositories/{row.pk}/state/")
    for path in (*paths, f"/repositories/{row.pk}/", f"/repositories/{row.pk}/issues/"):
        assert client.get(path).status_code == 302
    client.force_login(django_user_model.objects.create_user("ada"))
    for path in paths:
        assert client.get(path).status_code == 200


def test_the_age_is_said_in_its_largest_unit(client: Client) -> None:
    order = make_order()
    AgentWorkOrder.objects.update(created_at=order.created_at - timedelta(hours=50))
    assert "data-age>2 d</time>" in text_of(client.get("/"))
    assert services.get_agent_work_order(order.agent_work_order_id).pk == order.pk
