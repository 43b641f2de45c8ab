"""What an order changed: the tree, the diffs that come at once, on request, or not at all."""

import gzip

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import make_order
from tests.reading.pages.order_rows import PATCH, add_commits, add_files
from workorders.models import AgentWorkOrder, WorkOrderFile
from workorders.models.git_cache import MAX_COMMITS, MAX_FILES, PatchState
from workorders.reading.pages.changes import INLINE_FILES, changes
from workorders.workflow_engine.upkeep.colours import colour_changes

pytestmark = pytest.mark.django_db


def page_of(client: Client, order: AgentWorkOrder) -> str:
    answer = client.get(reverse("work-order-changes", args=[str(order)]))
    assert answer.status_code == 200
    return str(answer.content.decode())


def file_address(order: AgentWorkOrder, position: int) -> str:
    return reverse("work-order-changed-file", args=[str(order), position])


def test_nothing_changed_yet(client: Client) -> None:
    assert "No changes yet" in page_of(client, make_order())


def test_the_tree_shares_rows_and_closes_what_it_opens(client: Client) -> None:
    order = make_order()
    add_files(order, "a/b/c/one.py", "a/b/d/two.py", "top.py", "z/x.py")
    rows = changes(str(order)).tree
    assert [(row.name, len(row.closes)) for row in rows] == [
        ("a/b/", 0),
        ("c/", 0),
        ("one.py", 1),
        ("d/", 0),
        ("two.py", 2),
        ("z/", 0),
        ("x.py", 1),
        ("top.py", 0),
    ]
    page = page_of(client, order)
    assert page.count("<ul>") == sum(row.is_folder for row in rows)
    assert page.count("<details") == page.count("</details>")
    assert (rows[0].files, rows[0].lines_added, rows[0].lines_removed) == (2, 2, 2)


def test_commits_beyond_those_listed_are_counted_and_said(client: Client) -> None:
    order = make_order()
    add_files(order, "x.py")
    add_commits(order, MAX_COMMITS)
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_commit_count=2501)
    page = page_of(client, order)
    assert "2501 commits" in page
    assert f"The newest {MAX_COMMITS} are listed." in page


def test_a_commit_without_a_message_is_called_so(client: Client) -> None:
    order = make_order()
    add_files(order, "x.py")
    add_commits(order, 1, "Work-Order: wo-12345678\nWork-Order-Phase: planning")
    assert "(no message)" in page_of(client, order)


def test_deep_paths_do_not_break_the_tree(client: Client) -> None:
    order = make_order()
    add_files(order, "/".join("d" * 2000) + "/x.py", "/".join("d" * 2000) + "/y.py")
    assert "x.py" in page_of(client, order)


def test_diffs_are_coloured_and_link_from_the_tree(client: Client) -> None:
    order = make_order(status="completed")
    add_files(order, "src/x.py")
    colour_changes()
    page = page_of(client, order)
    key = changes(str(order)).diffs[0].key
    assert f'href="#f-{key}"' in page
    assert f'id="f-{key}"' in page
    assert '<span class="k">import</span>' in page


def test_later_files_come_on_request(client: Client) -> None:
    order = make_order()
    add_files(order, *(f"{number:03}.py" for number in range(150)))
    page = page_of(client, order)
    assert page.count('<pre class="wo-diff">') == INLINE_FILES
    assert page.count(f'hx-get="{file_address(order, 20)}"') == 1
    assert f'<a class="wo-file" href="{file_address(order, 149)}"' in page


def test_large_diffs_wait_for_a_click(client: Client) -> None:
    order = make_order()
    add_files(order, "big.py", patch=PATCH + "+x = 1\n" * 10_000)
    assert '<pre class="wo-diff">' not in page_of(client, order)
    assert '<pre class="wo-diff">' in client.get(file_address(order, 0)).content.decode()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (PatchState.BINARY, "A binary file"),
        (PatchState.TOO_LARGE, "too large"),
        (PatchState.PENDING, "when the running step ends"),
    ],
)
def test_files_without_a_diff_say_why(client: Client, state: PatchState, words: str) -> None:
    order = make_order()
    add_files(order, "x.bin", state=state)
    assert words in page_of(client, order)
    assert words in client.get(file_address(order, 0)).content.decode()


def test_one_file_is_a_page_without_script_and_a_fragment_with(client: Client) -> None:
    order = make_order()
    add_files(order, "a.py", "b.py", "c.py")
    page = client.get(file_address(order, 1))
    assert "<!doctype html>" in page.content.decode()
    assert file_address(order, 0) in page.content.decode()
    assert file_address(order, 2) in page.content.decode()
    fragment = client.get(file_address(order, 1), headers={"HX-Request": "true"})
    assert fragment.content.decode().startswith('<div class="wo-body"><pre class="wo-diff">')
    assert "HX-Request" in fragment["Vary"]


@pytest.mark.parametrize("position", [7, 10**30])
def test_a_file_that_is_not_there(client: Client, position: int) -> None:
    order = make_order()
    add_files(order, "a.py")
    assert client.get(file_address(order, position)).status_code == 404


def test_the_largest_page_is_small_and_bounded(client: Client) -> None:
    order = make_order(status="completed")
    add_commits(order, MAX_COMMITS, "feat: " + "words " * 40)
    add_files(order, *(f"src/package_{n % 40}/module_{n * 7919 % 2003}_{n}.py" for n in range(MAX_FILES)))
    WorkOrderFile.objects.update(
        patch=PATCH + "".join(f"+value_{n} = call({n * 31 % 97})\n" for n in range(150))
    )
    page = page_of(client, order)
    assert len(gzip.compress(page.encode())) < 250_000
    assert page.count("<") / 2 < 45_000
    detail = client.get(reverse("work-order", args=[str(order)])).content
    assert len(gzip.compress(detail)) < 60_000


def test_only_so_many_lines_are_shown_at_once() -> None:
    order = make_order()
    patch = "diff --git a/x b/x\n@@ -0,0 +1,9 @@\n" + "+\n" * 1500
    add_files(order, *(f"{number}.txt" for number in range(5)), patch=patch)
    WorkOrderFile.objects.filter(agent_work_order=order).update(lines_added=1500, lines_removed=0)
    views = [file.view for file in changes(order.agent_work_order_id).diffs]
    assert views == ["diff", "diff", "on_request", "on_request", "on_request"]


def test_an_orders_page_reads_no_diff(client: Client) -> None:
    order = make_order()
    add_files(order, "a.py", "b.py")
    with CaptureQueriesContext(connection) as asked:
        assert client.get(reverse("work-order", args=[str(order)])).status_code == 200
    columns = [str(query["sql"]).partition(" FROM ")[0] for query in asked.captured_queries]
    assert any('"path"' in names for names in columns)
    assert not [names for names in columns if '"patch"' in names or '"coloured"' in names]
