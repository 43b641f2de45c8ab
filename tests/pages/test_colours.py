"""Colours of diffs are made once, by a worker, within bounds whatever a file holds; no page ever runs a lexer."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.factories import make_order
from workorders import colouring, colours
from workorders.colouring import _LANGUAGES, ALL_SECONDS, FILE_SECONDS
from workorders.models import AgentWorkOrder, WorkOrderFile
from workorders.models.git_cache import PatchState

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
        "from workorders import colouring\n"
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
        cwd=Path(colouring.__file__).parents[1],
        input=b'[["x.py", ""], ["y.py", ""]]',
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b'""\n""\n')
    assert time.monotonic() - started < 30


@pytest.mark.django_db
def test_a_file_is_coloured_once() -> None:
    order = make_order()
    file = stored(order, "x.py", patch_of(["def f():", "    return 1"]))
    plain = stored(order, "x.unknown", patch_of(["def f():"]), 1)
    assert colours.colour_changes(order.pk) == 1
    file.refresh_from_db()
    plain.refresh_from_db()
    assert '<span class="k">def</span>' in file.coloured
    assert (plain.coloured, plain.coloured_at is not None) == ("", True)
    first = file.coloured_at
    assert colours.colour_changes(order.pk) == 0
    file.refresh_from_db()
    assert file.coloured_at == first


@pytest.mark.django_db
def test_one_slow_file_keeps_no_other_from_its_colours() -> None:
    order = make_order()
    stored(order, "X.java", hostile_patch("a ", width=499))
    good = stored(order, "x.py", patch_of(["def f():"]), 1)
    started = time.monotonic()
    assert colours.colour_changes(order.pk) >= 1
    assert time.monotonic() - started < 30 * FILE_SECONDS
    good.refresh_from_db()
    assert "<span" in good.coloured


@pytest.mark.django_db
def test_a_child_that_dies_over_a_file_costs_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    order = make_order()
    files = [stored(order, f"{number}.py", patch_of([f"x = {number}"]), number) for number in range(3)]
    run = colours._run

    def dies_over_the_second(asked: Sequence[tuple[str, str]]) -> tuple[list[str], bool]:
        before = [item for item in asked if item[0] != "1.py"]
        if len(before) == len(asked):
            return run(asked)
        return run(asked[: [path for path, _ in asked].index("1.py")])[0], False

    monkeypatch.setattr(colours, "_run", dies_over_the_second)
    assert colours.colour_changes(order.pk) == 2
    found = [WorkOrderFile.objects.get(pk=file.pk).coloured for file in files]
    assert [bool(html) for html in found] == [True, False, True]
