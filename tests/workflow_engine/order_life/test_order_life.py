"""The life of an order after its first end, cell by cell from order_life.toml, which docs/order-life.md shows."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from tests.workflow_engine.engine import finished, running_engine, wait_until
from tests.workflow_engine.order_life.life import COMMIT, QUESTION, Life, cancel, living, prompt, retry, run
from workorders.domain.errors import ConflictError
from workorders.models import AgentPrompt, AgentWorkOrder
from workorders.reading import progress
from workorders.reading.pages.order import order_state

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
TABLE = tomllib.loads(Path(__file__).with_name("order_life.toml").read_text())
PAGE = Path(__file__).parents[3] / "docs" / "order-life.md"
PULL_REQUESTS = ("open", "draft", "merged", "squash_merged", "closed", "retargeted")
BRANCHES = ("as_left", "forwarded", "rewritten", "deleted")
PROMPTS = ("queued", "running", "failed", "cancelled")
ACTIONS = ("follow_up", "retry", "cancel")


@dataclass(frozen=True)
class BranchCell:
    pull_request: str
    branch: str
    starts: str
    afterwards: list[str]
    unasked: list[str]
    says: str


@dataclass(frozen=True)
class PromptCell:
    prompt: str
    action: str
    after: str
    order: str
    says: str


BRANCH_CELLS = [BranchCell(**row) for row in TABLE["branch"]]
PROMPT_CELLS = [PromptCell(**row) for row in TABLE["prompt"]]


@pytest.fixture
def life(tmp_path: Path, engine_settings: LazySettings) -> Iterator[Life]:
    with living(tmp_path, engine_settings) as found:
        yield found


def test_every_cell_is_in_the_table_once() -> None:
    assert [(cell.pull_request, cell.branch) for cell in BRANCH_CELLS] == list(
        product(PULL_REQUESTS, BRANCHES)
    )
    assert [(cell.prompt, cell.action) for cell in PROMPT_CELLS] == list(product(PROMPTS, ACTIONS))


def words(name: str) -> str:
    return {"as_left": "as we left it"}.get(name, name.replace("_", " "))


def test_the_page_shows_the_table() -> None:
    rows = [f"| {words(cell.pull_request)} | {words(cell.branch)} | {cell.says} |" for cell in BRANCH_CELLS]
    rows += [
        f"| {cell.prompt} | {words(cell.action)} | {cell.after} | {cell.says} |" for cell in PROMPT_CELLS
    ]
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if row not in shown] == []


# --- branch and pull request ---


@dataclass
class Scene:
    """A cell's state, set up: `found` is what the remote branch is at, '' where it is gone; `base` its base branch."""

    order: AgentWorkOrder
    ours: str
    found: str
    base: str


def scene(life: Life, cell: BranchCell, **values: Any) -> Scene:
    base = "develop" if cell.pull_request == "retargeted" else "main"
    if base == "develop":
        life.person("push", "-q", "origin", "origin/main:refs/heads/develop")
    order = life.delivered(base=base, draft=cell.pull_request == "draft", **values)
    branch, item, ours = order.git_branch_name, life.pull_request(order), order.head_sha
    if cell.pull_request in {"merged", "squash_merged"}:
        life.merge(order, "squash" if cell.pull_request == "squash_merged" else "merge")
    elif cell.pull_request == "closed":
        item.state = "closed"
    elif cell.pull_request == "retargeted":
        item.base_branch = "main"
        life.delete("develop")
    match cell.branch:
        case "forwarded":
            life.commit(branch)
        case "rewritten":
            life.rewrite(branch)
        case "deleted":
            life.delete(branch)
    if cell.branch == "deleted":
        item.state = "closed"  # as GitHub does
    if cell.pull_request == "closed" and cell.branch in {"rewritten", "deleted"}:
        life.github.fail(
            "PATCH",
            "/pulls/",
            status=422,
            body={"message": f"state cannot be changed. The {branch} branch was moved."},
        )
    return Scene(order, ours, life.sha(branch), "main")


def states(life: Life, order: AgentWorkOrder) -> list[str]:
    return ["merged" if item.is_merged else item.state for item in life.pull_requests(order)]


def assert_stands(life: Life, cell: BranchCell, seen: Scene) -> None:
    """The branch afterwards, with one new file on top of where the cell says."""
    branch, head = seen.order.git_branch_name, life.sha(seen.order.git_branch_name)
    assert "more.txt" in life.files(head)
    assert not seen.found or life.contains(head, seen.found), "what was there was pushed over"
    assert life.lost() == []
    main = life.sha(seen.base)
    match cell.starts:
        case "ours":
            assert life.contains(head, seen.ours)
        case "remote":
            assert life.contains(head, seen.found)
            assert (cell.branch == "rewritten") == (not life.contains(head, seen.ours))
        case "base" | "both":
            assert life.contains(head, main)
            assert life.new_files(branch, seen.base) == {"more.txt"}
            assert cell.starts == "both" or not life.lost()
    assert seen.order.head_sha == head


IN_CI = {(state, BRANCHES[number % len(BRANCHES)]) for number, state in enumerate(PULL_REQUESTS)}
"""Every state of a pull request and of a branch; the next test goes through all cells."""


def slice_of(cell: BranchCell) -> Any:
    marks = () if (cell.pull_request, cell.branch) in IN_CI else (pytest.mark.whole,)
    return pytest.param(cell, id=f"{cell.pull_request}-{cell.branch}", marks=marks)


@pytest.mark.parametrize("cell", [slice_of(cell) for cell in BRANCH_CELLS])
def test_a_question_and_then_a_follow_up(life: Life, cell: BranchCell) -> None:
    seen = scene(life, cell)
    order = seen.order
    prompt(order, QUESTION)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert life.sha(order.git_branch_name) == seen.found, "nothing was to be pushed"
    assert states(life, order) == cell.unasked
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert_stands(life, cell, seen)
    assert states(life, order) == cell.afterwards
    assert order.github_pull_request_number == life.pull_requests(order)[-1].number
    assert life.pull_request(order).is_draft == (cell.pull_request == "draft")
    assert [item.status for item in order.prompts.all()] == ["done", "done"]
    assert life.starts() == 2


@pytest.mark.parametrize("cell", BRANCH_CELLS, ids=lambda cell: f"{cell.pull_request}-{cell.branch}")
def test_a_retry_of_a_follow_up_that_was_not_done(life: Life, cell: BranchCell) -> None:
    """The prompt's first try came to nothing; then somebody retries. In the other kind of local sandbox."""
    seen = scene(life, cell, sandbox_type="git_worktree")
    order = seen.order
    asked = prompt(order, COMMIT)
    cancel(order)
    assert life.sha(order.git_branch_name) == seen.found
    retry(order)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert_stands(life, cell, seen)
    assert states(life, order) == cell.afterwards
    asked.refresh_from_db()
    assert asked.status == "done"
    assert life.starts() == 1


# --- prompts ---


def told(order: AgentWorkOrder, asked: AgentPrompt) -> str:
    """What API, page and row say of a prompt, which must be the same."""
    asked.refresh_from_db()
    row = asked.status + (f" ({asked.dropped_because})" if asked.dropped_because else "")
    [shown] = [
        item
        for item in progress.answer_for(progress.work_order(str(order))).agent_work_order.prompts
        if item.prompt_id == asked.pk
    ]
    [line] = [item for item in order_state(str(order)).prompts if item.prompt_id == asked.pk]
    assert shown == line
    assert shown.status + (f" ({shown.dropped_because})" if shown.dropped_because else "") == row
    assert bool(shown.note) == (asked.status == "dropped")
    last = order.log_entries.filter(event__startswith="agent_prompt_", fields__prompt_id=asked.pk).last()
    assert last is None or last.event == {
        "done": "agent_prompt_completed",
        "dropped": "agent_prompt_dropped",
    }.get(asked.status, "agent_prompt_requeued")
    return row


SLOW = "agent: say here\nagent: run until test -e {folder}/quick; do sleep 0.1; done\n" + COMMIT
FAILS = "agent: need {folder}/quick It is beyond me\n" + COMMIT


@pytest.mark.parametrize("cell", PROMPT_CELLS, ids=lambda cell: f"{cell.prompt}-{cell.action}")
def test_what_becomes_of_a_prompt(life: Life, cell: PromptCell) -> None:
    order = life.delivered()
    text = {"running": SLOW, "failed": FAILS}.get(cell.prompt, COMMIT).format(folder=life.folder)
    asked, new = prompt(order, text), []

    def act() -> None:
        if cell.action == "follow_up":
            new.append(prompt(order, "agent: commit new.txt\nagent: nothing"))
        elif "409" in cell.says:
            with pytest.raises(ConflictError):
                {"retry": retry, "cancel": cancel}[cell.action](order)
        else:
            {"retry": retry, "cancel": cancel}[cell.action](order)

    def at_work(row: AgentWorkOrder) -> bool:
        return row.log_entries.filter(event="agent_message").exists()

    if cell.prompt == "running":
        with running_engine():
            wait_until(order, at_work)
            act()
            if cell.action != "cancel":
                (life.folder / "quick").touch()
            finished(order)
    else:
        if cell.prompt == "cancelled":
            cancel(order)
        elif cell.prompt == "failed":
            run(order)
            assert (order.status, told(order, asked)) == ("failed", "dropped (failed)")
            (life.folder / "quick").touch()
        act()
        order.refresh_from_db()
        if order.status in {"pending", "running"}:
            run(order)
    assert (order.status, told(order, asked)) == (cell.order, cell.after), order.error_message
    assert [told(order, item) for item in new] == ["done"] * len(new)
    there = life.files(order.git_branch_name)
    assert ("more.txt" in there) == (cell.after == "done")
    assert ("new.txt" in there) == bool(new)
