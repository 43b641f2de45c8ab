"""Colours of diffs are made once, by a worker, within bounds whatever a file holds; no page ever runs a lexer."""

import resource
import time
from collections.abc import Sequence

import pytest

from tests.factories import make_order
from workorders import colours
from workorders.colouring import _LANGUAGES, FILE_SECONDS
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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("language", sorted(set(_LANGUAGES.values())))
def test_every_lexer_ends_within_its_time_on_hostile_lines(language: str) -> None:
    """A few of the pieces for each language, others for the next one."""
    ending = next(ending for ending, name in _LANGUAGES.items() if name == language)
    first = sorted(set(_LANGUAGES.values())).index(language)
    pieces = ["a ", *(HOSTILE[(first + step) % len(HOSTILE)] for step in range(0, len(HOSTILE), 16))]
    files = [(f"X.{ending}", hostile_patch(piece, width=499)) for piece in pieces]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers, ended_well = colours._run(files)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (len(answers), ended_well) == (len(files), True)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < len(files) * (FILE_SECONDS + 0.2) + 2, "about what a file may take, and the start"


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
