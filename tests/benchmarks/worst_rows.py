"""Orders whose pages cost the most that what agents and people write can make them cost, up to every stored limit."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workorders.models import AgentWorkOrder

_PATCH = 200_000  # what is stored of a file's patch, the most
_INLINE = 4000  # twenty of these fill what the page of all changes shows at once
_HTML = 300_000
_PLAN = 200_000
_HEAD = "diff --git a/x b/x\n@@ -0,0 +1,9 @@\n"


def make(files: int, log_rows: int, others: int) -> dict[str, str]:
    """The worst pages' addresses by name. Django is set up, the database migrated; a worker runs or not."""
    lines, letters = _diffs("lines", files, "+\n"), _diffs("letters", files, f"+{chr(0x202E) * 1900}\n")
    plans = {name: _plan(name, text) for name, text in _plans().items()}
    log = _log(log_rows)
    _others(others)
    addresses: dict[str, str] = {}
    for order in (lines, letters):
        name = order.initial_prompt.partition(" ")[2]
        at = f"/work-orders/{order.agent_work_order_id}/"
        addresses |= {
            f"the changes, {name}": f"{at}changes/",
            f"a changed file, {name}": f"{at}changes/0/",
            f"an order with changes, {name}": at,
        }
    for name, order in plans.items():
        addresses[f"a plan of {name}"] = f"/work-orders/{order.agent_work_order_id}/"
    at = f"/work-orders/{log.agent_work_order_id}/"
    addresses |= {
        "a log": at,
        "a log's middle": f"{at}feed/?before={log_rows // 2}",
        "a log's two hundred": f"{at}feed/?after={log_rows - 200}",
        "a log's problems, of which there is none": f"{at}?kind=problems",
        "a log's words of the server, of which there is none": f"{at}feed/?kind=server&before={log_rows}",
        "a log's rows by the API": f"/api/agent-work-orders/{log.agent_work_order_id}/logs?limit=1000",
        "a search that matches all": "/?q=e",
        "a search that matches nothing": "/?q=nothingofthekind",
        "a search of all orders that matches nothing": "/?q=nothingofthekind&all=on",
        "a search of hostile letters": "/?q=" + "%25_" * 60,
        "the last page": "/?page=999999",
    }
    return addresses


def _diffs(name: str, files: int, line: str) -> "AgentWorkOrder":
    """The first file at its own address has the longest patch; those after it are the most that is shown at once."""
    from django.utils import timezone

    from tests.reading.pages.order_rows import add_commits
    from workorders.models import AgentWorkOrder, WorkOrderFile
    from workorders.models.git_cache import PatchState

    order = _finished(f"Diffs: {name}")
    add_commits(order, 500, "feat: " + "long words of a message " * 160)
    inline = _HEAD + line * (_INLINE // len(line))
    WorkOrderFile.objects.bulk_create(
        (
            WorkOrderFile(
                agent_work_order=order,
                position=position,
                path=f"{'very/deep/' * 10}{'long-name-' * 12}{position % 200}/{position}.java",
                status="A",
                lines_added=(_PATCH if position % 30 == 0 else _INLINE) // len(line),
                lines_removed=0,
                patch=(_HEAD + line * (_PATCH // len(line)))[:_PATCH] if position % 30 == 0 else inline,
                patch_state=PatchState.STORED,
                coloured="\n".join(['<span class="k">x</span>'] * (_HTML // 25))
                if name == "lines" and position < 60
                else "",
                coloured_at=timezone.now(),
            )
            for position in range(files)
        ),
        batch_size=50,
    )
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_files_changed=files)
    return order


def _plans() -> dict[str, str]:
    """Markdown that is slow to read: what nests, what nearly is something, what stands for much."""
    texts = {
        "quotes in quotes": "> " * 1000 + "x\n",
        "lists in lists": "".join(f"{'  ' * level}- x\n" for level in range(200)) * 3,
        "stars": "*a **b " * 8000,
        "ticks": "".join("`" * number + " " for number in range(1, 290)),
        "brackets": "[a](" * 1990 + "[" * 5,
        "tables": ("|" + "a|" * 90 + "\n|" + "-|" * 90 + "\n") + ("|" + "a|" * 90 + "\n") * 200,
        "short lines": "a\n\n" * 13_000,
        "letters that hide": "\u202e\x1b[1m" * 8000,
    }
    return {name: (text * (_PLAN // len(text) + 1))[:_PLAN] for name, text in texts.items()}


def _plan(name: str, text: str) -> "AgentWorkOrder":
    from tests.factories import make_run
    from workorders.domain.workflows import AgentWorkflowPhase

    order = _finished(f"Plan: {name}")
    make_run(order, AgentWorkflowPhase.PLANNING, plan_text=text, plan_path="specs/plan.md")
    failed = {"status": "failed", "name": "n" * 500, "message": "m " * 1000}
    results = {"tests": [failed] * 400}
    make_run(order, AgentWorkflowPhase.TESTING, tests_passed=1, tests_failed=400, test_results=results)
    return order


def _log(rows: int) -> "AgentWorkOrder":
    """Each entry as long as it is kept, none of them a problem, none of them the server's."""
    from django.utils import timezone

    from workorders.models import AgentWorkOrder, WorkOrderLog

    order = _finished("Log")
    words = "\u202e words of a tool \x1b[31m" * 100
    given = {f"name{number}": words[:1000] for number in range(10)}
    now = timezone.now()
    WorkOrderLog.objects.filter(agent_work_order=order).delete()

    def entries() -> Iterator[WorkOrderLog]:
        for sequence in range(1, rows + 1):
            fields = {"tool": "Bash", "summary": words[:1900], "is_error": False, "input": given}
            yield WorkOrderLog(
                agent_work_order=order,
                sequence=sequence,
                timestamp=now,
                level="info",
                event="agent_tool_called",
                fields=fields if sequence > rows - 1200 else {"summary": "words", "is_error": False},
            )

    WorkOrderLog.objects.bulk_create(entries(), batch_size=500)
    AgentWorkOrder.objects.filter(pk=order.pk).update(log_sequence=rows)
    return order


def _others(number: int) -> None:
    """So that a search has something to read: requests as long as people paste them."""
    from workorders.models import AgentWorkOrder
    from workorders.models.agent_work_order import new_agent_work_order_id

    model = _finished("e " * 2000)
    columns = [field.attname for field in model._meta.concrete_fields if not field.primary_key]
    same = {name: getattr(model, name) for name in columns}
    names = {new_agent_work_order_id() for _ in range(number)}
    copies = (
        AgentWorkOrder(**{**same, "agent_work_order_id": name, "git_branch_name": f"feat-{name}"})
        for name in names
    )
    AgentWorkOrder.objects.bulk_create(copies, batch_size=200)


def _finished(prompt: str) -> "AgentWorkOrder":
    from tests.factories import make_order

    return make_order(initial_prompt=prompt, status="completed")


def main(*, files: int, log_rows: int, others: int) -> None:
    print(json.dumps(make(files, log_rows, others)))
