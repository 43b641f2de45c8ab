"""Colours of diffs are made once, by a worker, within bounds whatever a file holds; no page ever runs a lexer."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.conf import Conf
from django_q.models import OrmQ

from tests.factories import make_order
from workorders.management.cluster import housekeeping
from workorders.management.cluster.gateway import GatewayKeeper
from workorders.management.cluster.housekeeping import Housekeeper
from workorders.models import AgentWorkOrder, WorkOrderFile
from workorders.models.git_cache import MOST_COLOURED, PatchState
from workorders.queueing import queue
from workorders.workflow_engine.upkeep import colouring, colours
from workorders.workflow_engine.upkeep.colouring import _LANGUAGES, ALL_SECONDS, FILE_SECONDS

SIZE = 58_000
# What is slow for one lexer or the other: nesting, near-misses, long runs of one kind, openings that never close.
HOSTILE = (
    "a ",
    "a.a ",
    "(",
    "[",
    "{",
    "<",
    "<a ",
    "<?",
    "<!--",
    '"',
    "'''",
    "`",
    "/*",
    "//",
    "\\",
    "${",
    "{{",
    "{%",
    "@a ",
    "a<a<",
    "a::",
    "a,a ",
    "0x",
    "-",
    "#",
    "&",
    " \t",
    "a = (",
    "class a ",
    "<<A ",
    "%w(",
    "a:\n  ",
)


def patch_of(lines: Sequence[str]) -> str:
    return "diff --git a/x b/x\n@@ -0,0 +1,9 @@\n" + "".join(f"+{line}\n" for line in lines)


def hostile_patch(piece: str, *, width: int) -> str:
    flat = piece.replace("\n", "")
    line = (flat * (width // len(flat) + 1))[:width]
    return patch_of([line] * (SIZE // (width + 2)))


def stored(order: AgentWorkOrder, path: str, patch: str, position: int = 0) -> WorkOrderFile:
    return WorkOrderFile.objects.create(
        agent_work_order=order,
        position=position,
        path=path,
        status="A",
        lines_added=1,
        lines_removed=0,
        patch=patch,
        patch_state=PatchState.STORED,
    )


FILES = (*((piece, "wide") for piece in HOSTILE), *((piece, "one a line") for piece in HOSTILE[::3]))


def shaped(piece: str, shape: str) -> str:
    """The piece over and over: in lines as long as are coloured, and alone on each line."""
    if shape == "wide":
        return hostile_patch(piece, width=499)
    return patch_of([piece.replace("\n", "")] * (SIZE // (len(piece) + 2)))


def spent(pid: int) -> float:
    """Seconds of the processor a process has used; how long others keep it waiting is not in them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", sorted(set(_LANGUAGES.values())))
def test_every_lexer_ends_within_a_second_on_every_hostile_line(language: str) -> None:
    """The program itself, which answers file by file: a few at a time, since it bounds them all together, too."""
    ending = next(ending for ending, name in _LANGUAGES.items() if name == language)
    slow, at_once = [], int(ALL_SECONDS / FILE_SECONDS / 2)
    for start in range(0, len(FILES), at_once):
        some = FILES[start : start + at_once]
        with subprocess.Popen(
            [sys.executable, "-I", colouring.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"LANG": "C.UTF-8"},
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(json.dumps([(f"X.{ending}", shaped(*file)) for file in some]).encode())
            program.stdin.close()
            before = 0.0
            for file in some:
                assert program.stdout.readline(), f"no answer to {file}"
                now = spent(program.pid)
                if now - before >= 1:
                    slow.append((file, now - before))
                before = now
    assert program.returncode == 0
    assert slow == []


def test_a_lexer_that_swallows_exceptions_is_ended_all_the_same() -> None:
    code = (
        "import sys; sys.argv = ['colouring']\n"
        "from workorders.workflow_engine.upkeep import colouring\n"
        "def stubborn(path, patch):\n"
        "    while True:\n"
        "        try:\n"
        "            while True: pass\n"
        "        except Exception: pass\n"
        "colouring.colours_of = stubborn\n"
        "colouring.main()\n"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(colouring.__file__).parents[3],
        input=b'[["x.py", ""], ["y.py", ""]]',
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b'""\n""\n')
    assert time.monotonic() - started < 30


def ended() -> AgentWorkOrder:
    return make_order(status="completed")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Instead of the one that colours; `files` are those it was given."""
    found = folder / "program.py"
    found.write_text(
        f"import json, os, sys, time\nfiles = [path for path, _ in json.load(sys.stdin)]\n{dedent(text)}"
    )
    monkeypatch.setattr(colours, "_PROGRAM", found)


@pytest.mark.django_db
def test_a_file_is_coloured_once() -> None:
    order = ended()
    file = stored(order, "x.py", patch_of(["def f():", "    return 1"]))
    plain = stored(order, "x.unknown", patch_of(["def f():"]), 1)
    assert colours.colour_changes() == 1
    file.refresh_from_db()
    plain.refresh_from_db()
    assert '<span class="k">def</span>' in file.coloured
    assert (plain.coloured, plain.coloured_at is not None) == ("", True)
    first = file.coloured_at
    assert colours.colour_changes() == 0
    file.refresh_from_db()
    assert file.coloured_at == first


@pytest.mark.django_db
def test_messages_of_earlier_releases_name_an_order() -> None:
    file = stored(ended(), "x.py", patch_of(["x = 1"]))
    task = import_string(colours.COLOUR_TASK)
    task(1)
    task()
    file.refresh_from_db()
    assert file.coloured


@pytest.mark.django_db
def test_one_slow_file_keeps_no_other_from_its_colours() -> None:
    order = ended()
    stored(order, "X.java", hostile_patch("a ", width=499))
    good = stored(order, "x.py", patch_of(["def f():"]), 1)
    started = time.monotonic()
    assert colours.colour_changes() >= 1
    assert time.monotonic() - started < 30 * FILE_SECONDS
    good.refresh_from_db()
    assert "<span" in good.coloured


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("overrides", "waits"),
    [
        ({"status": "completed"}, True),
        ({"status": "failed"}, True),
        ({"status": "cancelled"}, True),
        ({"status": "running", "waiting_reason": "approval_required"}, True),
        ({"status": "running", "waiting_reason": "model_quota"}, False),
        ({"status": "running"}, False),
        ({"status": "pending"}, False),
    ],
)
def test_orders_that_go_on_keep_theirs_for_later(overrides: dict[str, str], waits: bool) -> None:
    stored(make_order(**overrides), "x.py", patch_of(["x = 1"]))
    assert colours.waiting().exists() is waits
    assert colours.colour_changes() == waits


@pytest.mark.django_db
def test_only_what_is_stored_and_shown_waits() -> None:
    order = ended()
    last = stored(order, "last.py", patch_of(["x = 1"]), MOST_COLOURED - 1)
    stored(order, "beyond.py", patch_of(["x = 1"]), MOST_COLOURED)
    for position, state in enumerate(set(PatchState) - {PatchState.STORED}):
        stored(order, "x.py", "", position)
        WorkOrderFile.objects.filter(agent_work_order=order, position=position).update(patch_state=state)
    assert list(colours.waiting()) == [last]


@pytest.mark.django_db
def test_orders_share_a_child_and_the_newest_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        """
        open("started", "a").write(" ".join(files) + "\\n")
        for _ in files: print(json.dumps("<b>"))
        """,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(colours, "FILES_AT_ONCE", 4)
    for name in "abc":
        order = ended()
        for position in range(2):
            stored(order, f"{name}{position}", patch_of(["x"]), position)
    assert colours.colour_changes() == 6
    assert (tmp_path / "started").read_text() == "c0 c1 b0 b1\na0 a1\n"


@pytest.mark.django_db
def test_a_run_ends_after_a_while_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    order = ended()
    for position in range(2):
        stored(order, f"{position}.py", patch_of(["x = 1"]), position)
    monkeypatch.setattr(colours, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(colours, "_RUN_SECONDS", 0.001)
    assert [colours.colour_changes() for _ in range(3)] == [1, 1, 0]


@pytest.mark.django_db
def test_a_child_that_dies_over_a_file_costs_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        """
        for path in files:
            if path == "1.py": os.kill(os.getpid(), 9)
            print(json.dumps(f"<b>{path}"), flush=True)
        """,
    )
    order = ended()
    files = [stored(order, f"{number}.py", patch_of(["x"]), number) for number in range(3)]
    assert colours.colour_changes() == 2
    found = [WorkOrderFile.objects.get(pk=file.pk) for file in files]
    assert [file.coloured for file in found] == ["<b>0.py", "", "<b>2.py"]
    assert not colours.waiting().exists(), "the plain one was tried"


@pytest.mark.django_db
def test_a_child_that_gets_no_processor_costs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        monkeypatch,
        """
        print(json.dumps("<b>"), flush=True)
        time.sleep(60)
        """,
    )
    order = ended()
    files = [stored(order, f"{number}.py", patch_of(["x"]), number) for number in range(2)]
    monkeypatch.setattr(colours, "_SECONDS", 1.0)
    monkeypatch.setattr(colours, "_RUN_SECONDS", 0.5)
    assert colours.colour_changes() == 1
    assert list(colours.waiting()) == files[1:]


@pytest.mark.django_db
def test_a_file_that_was_replaced_meanwhile_waits_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ended()
    stored(order, "x.py", patch_of(["x = 1"]))

    def replaced(files: Sequence[tuple[str, str]]) -> list[str]:
        WorkOrderFile.objects.all().delete()
        stored(order, "x.py", patch_of(["y = 2"]))
        return ["<b>"] * len(files)

    monkeypatch.setattr(colours, "_RUN_SECONDS", 0.001)
    monkeypatch.setattr(colours, "_coloured", replaced)
    assert colours.colour_changes() == 0
    assert colours.waiting().exists()


@pytest.mark.django_db
class TestWhoAsks:
    """The housekeeping of each cluster, for all orders together."""

    def messages(self) -> list[str]:
        return [row.func() for row in OrmQ.objects.all() if row.func() != queue.WORK_TASK]

    def test_one_task_for_all_that_waits(self) -> None:
        assert not colours.issue_missing_task()
        for _ in range(3):
            stored(ended(), "x.py", patch_of(["x = 1"]))
        assert colours.issue_missing_task()
        assert not colours.issue_missing_task(), "a worker will come"
        assert self.messages() == [colours.COLOUR_TASK]
        assert OrmQ.objects.latest("pk").task["args"] == ()

    @pytest.mark.parametrize(("minutes_ago", "again"), [(0.5, False), (2, True), (7, False)])
    def test_again_when_its_worker_may_have_died(self, minutes_ago: float, again: bool) -> None:
        """Once the message's lock has ended it will be taken a second time."""
        stored(ended(), "x.py", patch_of(["x = 1"]))
        colours.issue_missing_task()
        taken = timezone.now() - timedelta(minutes=minutes_ago)
        OrmQ.objects.update(lock=taken + timedelta(seconds=Conf.RETRY))
        assert colours.issue_missing_task() is again

    def test_nobody_where_nothing_waits(self) -> None:
        stored(ended(), "x.py", patch_of(["x = 1"]))
        colours.colour_changes()
        assert not colours.issue_missing_task()

    def test_housekeeping_lets_orders_gather(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(GatewayKeeper, "state", lambda _: "down")
        monkeypatch.setattr(Housekeeper, "_beat", lambda *_: None)
        keeper = Housekeeper(GatewayKeeper())
        keeper._next_sweep = float("inf")
        stored(ended(), "x.py", patch_of(["x = 1"]))
        keeper._pass()
        assert self.messages() == [colours.COLOUR_TASK], "the first at once"
        OrmQ.objects.all().delete()
        keeper._pass()
        assert self.messages() == []
        monkeypatch.setattr(housekeeping, "COLOUR_SECONDS", 0.0)
        keeper._next_colours -= 60
        keeper._pass()
        assert self.messages() == [colours.COLOUR_TASK]


@pytest.mark.django_db
def test_the_look_for_what_waits_takes_its_own_index() -> None:
    """Every two seconds, however many files there are: the index holds those that nobody has tried."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # which is quicker over no rows
    for found in (colours.waiting(), colours.waiting().order_by()[:1]):
        assert "file_waits_for_colours" in found.explain()
