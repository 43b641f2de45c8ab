"""What git says of an order: a table of histories, each made by real git and read by the real parser."""

from collections.abc import Sequence

import pytest

from sandboxes.trusted_git.git import GitSettings, TrustedGit
from sandboxes.trusted_git.objects import Commit, FileChange
from tests.sandboxes.trusted_git.history import Entry, History
from tests.workflow_engine.planning.histories import ORDER, B, Case, Files, P, Span, Story, T, trailers
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.workflow_engine.planning.phase_tracker import (
    GitProgress,
    StepSpan,
    changed_outside_plans,
    plan_path,
    says_no_change_needed,
    track,
    trailers_for,
)


def nothing(story: Story) -> list[Span]:
    return []


def an_empty_step(story: Story) -> list[Span]:
    return [(P, "base", "base")]


def plan_only(story: Story) -> list[Span]:
    story.add("p", P, files={"specs/plan.md": "# Plan\nDo it.\n"})
    return [(P, "base", "p")]


def all_three(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b1", B)
    story.add("b2", B)
    story.add("t", T)
    return [(P, "base", "p"), (B, "p", "b2"), (T, "b2", "t")]


def one_without(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b1", B)
    story.add("b2")
    story.add("b3", B)
    return [(P, "base", "p"), (B, "p", "b3")]


def all_without(story: Story) -> list[Span]:
    for name in ("p", "b1", "b2", "t"):
        story.add(name)
    return [(P, "base", "p"), (B, "p", "b2"), (T, "b2", "t")]


def without_and_not_recorded(story: Story) -> list[Span]:
    """A step that is being watched for the first time: its span ends where the last look ended."""
    story.add("p", P)
    story.add("b1")
    story.add("b2")
    return [(P, "base", "p"), (B, "p", "b1")]


def trailers_without_any_span(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b", B)
    return []


def trailers_against_the_position(story: Story) -> list[Span]:
    """A plan corrected while implementing, and said so."""
    story.add("p", P)
    story.add("p2", P)
    story.add("b", B)
    return [(P, "base", "p"), (B, "p", "b")]


def base_branch_merged(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("upstream1", after="base")
    story.add("upstream2")
    story.upstream = "upstream2"
    story.add("m", after=["p", "upstream2"], files={})
    story.add("b", B)
    return [(P, "base", "p"), (B, "p", "b")]


def base_branch_merged_twice(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("upstream1", after="base")
    story.add("m1", P, after=["p", "upstream1"], files={})
    story.add("upstream2", after="upstream1")
    story.upstream = "upstream2"
    story.add("m2", B, after=["m1", "upstream2"], files={})
    return [(P, "base", "m1"), (B, "m1", "m2")]


def base_branch_merged_by_fast_forward(story: Story) -> list[Span]:
    story.add("upstream1")
    story.upstream = "upstream1"
    story.add("b", B)
    return [(B, "base", "b")]


def side_branch_with_trailers(story: Story) -> list[Span]:
    story.add("b1", B)
    story.add("side1", B, after="base")
    story.add("side2", B)
    story.add("m", B, after=["b1", "side2"], files={})
    return [(B, "base", "m")]


def side_branch_without_trailers(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("side", after="p")
    story.add("b", B, after="p")
    story.add("m", after=["b", "side"], files={})
    return [(P, "base", "p"), (B, "p", "m")]


def side_branch_of_an_earlier_phase(story: Story) -> list[Span]:
    """Left lying while planning, merged while testing: its trailers say where it came from."""
    story.add("p", P)
    story.add("idea", P, after="base")
    story.add("b", B, after="p")
    story.add("m", after=["b", "idea"], files={})
    return [(P, "base", "p"), (B, "p", "b"), (T, "b", "m")]


def octopus(story: Story) -> list[Span]:
    for name in ("one", "two", "three"):
        story.add(name, B, after="base")
    story.add("m", after=["one", "two", "three"], files={})
    return [(B, "base", "m")]


def an_empty_commit(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b", B, files={})
    return [(P, "base", "p"), (B, "p", "b")]


def amended_within_a_step(story: Story) -> list[Span]:
    """The watcher saw `old`; then it was amended. Only what is reachable counts."""
    story.add("p", P)
    story.add("old", B)
    story.add("new", B, after="p")
    return [(P, "base", "p"), (B, "p", "new")]


def amended_without_trailers(story: Story) -> list[Span]:
    """An earlier attempt's end is unreachable; the retry's span covers what there is."""
    story.add("p", P)
    story.add("old")
    story.add("new", after="p")
    return [(P, "base", "p"), (B, "p", "old"), (B, "p", "new")]


def two_phase_trailers(story: Story) -> list[Span]:
    story.add("c", message=f"Two\n\n{trailers('planning')}Work-Order-Phase: testing\n")
    return [(P, "base", "c")]


def trailers_in_other_case(story: Story) -> list[Span]:
    story.add("c", message=f"Case\n\nwork-order: {ORDER}\nWORK-ORDER-PHASE: testing\n")
    return [(P, "base", "c")]


def phase_in_other_case(story: Story) -> list[Span]:
    story.add("c", message=f"Case\n\nWork-Order: {ORDER}\nWork-Order-Phase: Testing\n")
    return [(P, "base", "c")]


def trailers_in_the_middle(story: Story) -> list[Span]:
    story.add("c", message=f"Middle\n\n{trailers('testing')}\nAnd a last paragraph.\n")
    return [(B, "base", "c")]


def trailers_as_subject(story: Story) -> list[Span]:
    story.add("c", message="Work-Order-Phase: testing\n")
    return [(B, "base", "c")]


def trailers_with_spaces(story: Story) -> list[Span]:
    story.add("c", message=f"Spaces\n\nWork-Order:   {ORDER}  \nWork-Order-Phase:\ttesting \n")
    return [(B, "base", "c")]


def another_order_merged(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("o1", P, order="wo-99999999", after="base")
    story.add("o2", B, order="wo-99999999")
    story.add("b", B, after="p")
    story.add("m", B, after=["b", "o2"], files={})
    return [(P, "base", "p"), (B, "p", "m")]


def another_order_cherry_picked(story: Story) -> list[Span]:
    """Picked without the hook: interleaved with the order's own commits, and nobody's phase."""
    story.add("p", P)
    story.add("o1", T, order="wo-99999999")
    story.add("b", B)
    story.add("o2", T, order="wo-99999999")
    return [(P, "base", "p"), (B, "p", "o2")]


def another_order_cherry_picked_with_the_hook(story: Story) -> list[Span]:
    """The sandbox's hook added the order's own trailers below: it is this order's commit now."""
    story.add("p", P)
    story.add("b", message=f"Picked\n\n{trailers('testing', 'wo-99999999')}{trailers('implementing')}")
    return [(P, "base", "p"), (B, "p", "b")]


def another_order_was_the_base(story: Story) -> list[Span]:
    """The branch was started from another order's branch: those commits are below the base."""
    story.add("o1", B, order="wo-99999999")
    story.upstream = "o1"
    story.add("b", B)
    return [(B, "o1", "b")]


def two_agents_interleaved(story: Story) -> list[Span]:
    """Two lines of work with alternating times, merged at the end."""
    story.add("a1", P, after="base")
    story.add("x1", B, after="base")
    story.add("a2", P, after="a1")
    story.add("x2", B, after="x1")
    story.add("m", B, after=["a2", "x2"], files={})
    return [(B, "base", "m")]


def a_retry_continues(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b1")
    story.add("b2")
    return [(P, "base", "p"), (B, "p", "b1"), (B, "b1", "b2")]


def a_retry_afresh(story: Story) -> list[Span]:
    """The first attempt's commits were thrown away with its workspace."""
    story.add("p", P)
    story.add("lost")
    story.add("b", after="p")
    return [(P, "base", "p"), (B, "p", "lost"), (B, "p", "b")]


def an_attempt_that_did_nothing(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b")
    return [(P, "base", "p"), (B, "p", "p"), (B, "p", "b")]


def follow_up_after_tests(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("b", B)
    story.add("t", T)
    story.add("f1", B)
    story.add("f2")
    return [(P, "base", "p"), (B, "p", "b"), (T, "b", "t"), (B, "t", "f2")]


def a_person_between_steps(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("person", message="Fix the plan's wording\n")
    story.add("b", B)
    return [(P, "base", "p"), (B, "person", "b")]


def a_person_after_the_last_step(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("person", message="One more thing\n\nSigned-off-by: Someone <a@b>\n")
    return [(P, "base", "p")]


def a_person_merged_the_base_branch(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("upstream1", after="base")
    story.upstream = "upstream1"
    story.add("person", message="Merge branch 'main'\n", after=["p", "upstream1"], files={})
    story.add("b", after="person")
    return [(P, "base", "p"), (B, "person", "b")]


def a_person_rewrote_the_branch(story: Story) -> list[Span]:
    """Force-pushed: the steps' shas are gone, the trailers were kept by the rebase."""
    story.add("p-old", P)
    story.add("b-old", B)
    story.add("p-new", P, after="base")
    story.add("b-new", B)
    return [(P, "base", "p-old"), (B, "p-old", "b-old")]


def a_person_rewrote_the_last_commit(story: Story) -> list[Span]:
    """The second step's start is gone; the first step's commits stay the first step's."""
    story.add("p")
    story.add("gone")
    story.add("b", after="p")
    return [(P, "base", "p"), (B, "gone", "b")]


def reverted(story: Story) -> list[Span]:
    story.add("b", B)
    story.add(
        "r",
        B,
        message=f'Revert "Commit b"\n\nThis reverts it.\n\n{trailers("implementing")}',
        files={"b": None},
    )
    return [(B, "base", "r")]


def equal_subjects(story: Story) -> list[Span]:
    """As a rebase leaves them: the same words twice, told apart by sha."""
    story.add("p", message="Same\n")
    story.add("b", message="Same\n")
    return [(P, "base", "p"), (B, "p", "b")]


def an_unknown_phase(story: Story) -> list[Span]:
    story.add("c", "shipping")
    return [(B, "base", "c")]


def an_odd_phase(story: Story) -> list[Span]:
    story.add("c1", message=f"Odd\n\nWork-Order: {ORDER}\nWork-Order-Phase: \x1b[31mtesting\n")
    story.add("c2", message=f"Odd\n\nWork-Order: {ORDER}\nWork-Order-Phase:\n")
    return [(B, "base", "c2")]


def the_phase_completed(story: Story) -> list[Span]:
    """Completed is what the server says, never an agent."""
    story.add("c", "completed")
    return [(B, "base", "c")]


def completed_and_in_no_span(story: Story) -> list[Span]:
    story.add("p", P)
    story.add("c", "completed")
    return [(P, "base", "p")]


def order_without_phase(story: Story) -> list[Span]:
    story.add("c", message=f"Half\n\nWork-Order: {ORDER}\n")
    return [(T, "base", "c")]


def phase_without_order(story: Story) -> list[Span]:
    story.add("c", message="Half\n\nWork-Order-Phase: testing\n")
    return [(P, "base", "c")]


def order_in_other_case(story: Story) -> list[Span]:
    """Not the order's identifier, so somebody else's."""
    story.add("c", message=f"Case\n\nWork-Order: {ORDER.upper()}\nWork-Order-Phase: testing\n")
    return [(P, "base", "c")]


def a_carriage_return_forges_nothing(story: Story) -> list[Span]:
    story.add("c", message=f"Forged\n\nWork-Order: {ORDER}\nNote: x\rWork-Order-Phase: testing\n")
    return [(P, "base", "c")]


def a_record_separator_forges_nothing(story: Story) -> list[Span]:
    forged = "\x1e" + "0" * 40 + "\x1f\x1fEve\x1fnow\x1fnow\x1fForged\x1fWork-Order-Phase: testing\x1f"
    story.add("c", message=f"Forged {forged}\n\nbody {forged}\n\n{trailers('implementing')}")
    return [(P, "base", "c")]


def unicode_everywhere(story: Story) -> list[Span]:
    story.add(
        "c", message=f"Größe 世界 🎉 \u202e\n\n\u2028\n\n{trailers('planning')}", files={"ünï/世界": "ü\n"}
    )
    return [(B, "base", "c")]


def an_empty_message(story: Story) -> list[Span]:
    story.add("c", message="\n")
    return [(B, "base", "c")]


def a_root_of_its_own(story: Story) -> list[Span]:
    """An unrelated history merged in: all of it appeared in the step."""
    story.add("b", B)
    story.add("root", after=())
    story.add("m", B, after=["b", "root"], files={})
    return [(B, "base", "m")]


def binary_and_links(story: Story) -> list[Span]:
    story.add("b", B, files={"data": b"\0\1", "link": Entry("120000", b"/etc/passwd"), "README.md": None})
    return [(B, "base", "b")]


CASES = (
    Case("no commits", nothing, {}, None, (0, 0, 0)),
    Case("a step that started and ended at one commit", an_empty_step, {}, None, (0, 0, 0)),
    Case("plan only", plan_only, {P: "p"}, P, (1, 2, 0)),
    Case("plan, build, test", all_three, {P: "p", B: ["b1", "b2"], T: "t"}, T, (4, 4, 0)),
    Case("trailers dropped in one", one_without, {P: "p", B: ["b1", "b2", "b3"]}, B, (4, 4, 0)),
    Case("trailers dropped in all", all_without, {P: "p", B: ["b1", "b2"], T: "t"}, T),
    Case("newer than the last look", without_and_not_recorded, {P: "p", B: ["b1"], None: ["b2"]}, B),
    Case("trailers and no span known", trailers_without_any_span, {P: "p", B: "b"}, B),
    Case("trailers win over the position", trailers_against_the_position, {P: ["p", "p2"], B: "b"}, B),
    Case("base branch merged in", base_branch_merged, {P: "p", B: ["m", "b"]}, B, (2, 2, 0)),
    Case("base branch merged twice", base_branch_merged_twice, {P: ["p", "m1"], B: ["m2"]}, B, (1, 1, 0)),
    Case("base branch moved below", base_branch_merged_by_fast_forward, {B: "b"}, B, (1, 1, 0)),
    Case(
        "side branch with trailers",
        side_branch_with_trailers,
        {B: ["b1", "side1", "side2", "m"]},
        B,
        (3, 3, 0),
    ),
    Case("side branch without", side_branch_without_trailers, {P: "p", B: ["side", "b", "m"]}, B),
    Case(
        "side branch of an earlier phase",
        side_branch_of_an_earlier_phase,
        {P: ["p", "idea"], B: "b", T: "m"},
        T,
    ),
    Case("octopus merge", octopus, {B: ["one", "two", "three", "m"]}, B, (3, 3, 0)),
    Case("empty commit", an_empty_commit, {P: "p", B: "b"}, B, (1, 1, 0)),
    Case("amended within a step", amended_within_a_step, {P: "p", B: ["new"]}, B, (2, 2, 0)),
    Case("amended, without trailers", amended_without_trailers, {P: "p", B: ["new"]}, B, (2, 2, 0)),
    Case("two phase trailers", two_phase_trailers, {T: "c"}, T),
    Case("trailer names in other case", trailers_in_other_case, {T: "c"}, T),
    Case("phase in other case", phase_in_other_case, {P: "c"}, P),
    Case("trailers in the middle of a message", trailers_in_the_middle, {B: "c"}, B),
    Case("a trailer as subject", trailers_as_subject, {B: "c"}, B),
    Case("trailers with spaces", trailers_with_spaces, {T: "c"}, T),
    Case(
        "another order merged",
        another_order_merged,
        {P: "p", B: ["b", "m"], None: ["o1", "o2"]},
        B,
        (4, 4, 0),
    ),
    Case("another order picked", another_order_cherry_picked, {P: "p", B: "b", None: ["o1", "o2"]}, B),
    Case("another order picked by our agent", another_order_cherry_picked_with_the_hook, {P: "p", B: "b"}, B),
    Case("another order as base", another_order_was_the_base, {B: "b"}, B, (1, 1, 0)),
    Case("two agents interleaved", two_agents_interleaved, {P: ["a1", "a2"], B: ["x1", "x2", "m"]}, B),
    Case("a retry that continues", a_retry_continues, {P: "p", B: ["b1", "b2"]}, B),
    Case("a retry that starts afresh", a_retry_afresh, {P: "p", B: "b"}, B, (2, 2, 0)),
    Case("an attempt that did nothing", an_attempt_that_did_nothing, {P: "p", B: "b"}, B),
    Case("follow-up after tests", follow_up_after_tests, {P: "p", B: ["b", "f1", "f2"], T: "t"}, B),
    Case("a person between steps", a_person_between_steps, {P: "p", B: "b", None: ["person"]}, B, (3, 3, 0)),
    Case("a person after the last step", a_person_after_the_last_step, {P: "p", None: ["person"]}, P),
    Case("a person merged the base", a_person_merged_the_base_branch, {P: "p", B: "b", None: ["person"]}, B),
    Case("a person rewrote the branch", a_person_rewrote_the_branch, {P: ["p-new"], B: ["b-new"]}, B),
    Case("a person rewrote the last commit", a_person_rewrote_the_last_commit, {P: "p", B: "b"}, B),
    Case("reverted", reverted, {B: ["b", "r"]}, B, (0, 0, 0)),
    Case("equal subjects", equal_subjects, {P: "p", B: "b"}, B),
    Case("an unknown phase", an_unknown_phase, {B: "c"}, B),
    Case("an odd phase", an_odd_phase, {B: ["c1", "c2"]}, B),
    Case("the phase completed", the_phase_completed, {B: "c"}, B),
    Case("the phase completed, in no span", completed_and_in_no_span, {P: "p", None: "c"}, P),
    Case("order without phase", order_without_phase, {T: "c"}, T),
    Case("phase without order", phase_without_order, {P: "c"}, P),
    Case("order in other case", order_in_other_case, {None: "c"}, None),
    Case("a carriage return forges nothing", a_carriage_return_forges_nothing, {P: "c"}, P),
    Case("a record separator forges nothing", a_record_separator_forges_nothing, {B: "c"}, B, (1, 1, 0)),
    Case("unicode", unicode_everywhere, {P: "c"}, P, (1, 1, 0)),
    Case("an empty message", an_empty_message, {B: "c"}, B),
    Case("an unrelated history", a_root_of_its_own, {B: ["b", "root", "m"]}, B, (2, 2, 0)),
    Case("binary files and links", binary_and_links, {B: "b"}, B, (3, 1, 1)),
)


@pytest.fixture(scope="module")
def git() -> TrustedGit:
    return TrustedGit(GitSettings())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> History:
    """One for all histories of this module: they share no commit."""
    return History(tmp_path_factory.mktemp("histories") / "repository.git")


@pytest.fixture(scope="module")
def table(repository: History) -> dict[str, tuple[Story, Sequence[Span]]]:
    """All of the table's histories, written at once."""
    stories = {case.description: Story(repository, case.description) for case in CASES}
    made = {
        case.description: (stories[case.description], case.build(stories[case.description])) for case in CASES
    }
    repository.write()
    return made


@pytest.fixture
def story(repository: History, request: pytest.FixtureRequest) -> Story:
    return Story(repository, request.node.nodeid)


def progress_of(git: TrustedGit, story: Story, spans: Sequence[Span]) -> GitProgress:
    """As the engine reads it: commits without the base branch's, changes since both parted."""
    base, head, upstream = (story.sha(name) for name in ("base", story.head, story.upstream))
    commits = git.commits(story.path, base=base, head=head, without=[upstream])
    common = git.merge_base(story.path, upstream, head) or base
    return track(
        commits,
        git.changes(story.path, base=common, head=head),
        agent_work_order_id=ORDER,
        spans=[StepSpan(phase, story.sha(start), story.sha(end)) for phase, start, end in spans],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.description)
def test_history(case: Case, git: TrustedGit, table: dict[str, tuple[Story, Sequence[Span]]]) -> None:
    story, spans = table[case.description]
    progress = progress_of(git, story, spans)
    name_of = story.names()
    found: dict[AgentWorkflowPhase | None, set[str]] = {}
    for sha, phase in progress.phase_of.items():
        found.setdefault(phase, set()).add(name_of[sha])
    assert found == {
        phase: {names} if isinstance(names, str) else set(names) for phase, names in case.phases.items()
    }
    assert set(progress.phase_of) == {commit.sha for commit in progress.commits}
    for phase in (P, B, T):
        assert {name_of[commit.sha] for commit in progress.commits_of(phase)} == found.get(phase, set())
    assert progress.current_phase is case.current
    if progress.commits:
        assert progress.latest is not None
        assert name_of[progress.latest.sha] == story.head
    else:
        assert progress.latest is None
    if case.counts is not None:
        assert (progress.files_changed, progress.lines_added, progress.lines_removed) == case.counts


def test_the_table_is_large_and_its_names_are_its_own() -> None:
    assert len(CASES) >= 30
    assert len({case.description for case in CASES}) == len({case.build for case in CASES}) == len(CASES)


def test_300_commits(git: TrustedGit, story: Story) -> None:
    for number in range(300):
        story.add(f"c{number}", "" if number % 3 else B)
    story.write()
    progress = progress_of(git, story, [(P, "base", "c99"), (B, "c99", "c299")])
    assert [len(progress.commits_of(phase)) for phase in (P, B)] == [66, 234]
    assert (len(progress.commits), progress.files_changed, progress.current_phase) == (300, 300, B)


def test_more_commits_than_are_read(git: TrustedGit, story: Story) -> None:
    """Only the newest are known: what is known is right, the rest is left out."""
    for number in range(30):
        story.add(f"c{number}")
    story.write()
    commits = git.commits(story.path, base=story.sha("base"), head=story.sha("c29"), limit=10)
    spans = [StepSpan(P, story.sha("base"), story.sha("c4")), StepSpan(B, story.sha("c4"), story.sha("c24"))]
    spans.append(StepSpan(T, story.sha("c24"), story.sha("c29")))
    progress = track(commits, (), agent_work_order_id=ORDER, spans=spans)
    assert [len(progress.commits_of(phase)) for phase in (P, B, T)] == [0, 5, 5]


def test_the_engines_own_trailers_are_read_back(git: TrustedGit, story: Story) -> None:
    for phase in (P, B, T):
        story.add(phase, message="Work\n\n" + "\n".join(trailers_for(ORDER, phase, "s-1")) + "\n")
    story.write()
    progress = progress_of(git, story, [])
    assert [progress.phase_of[story.sha(phase)] for phase in (P, B, T)] == [P, B, T]


class TestPlanPath:
    def changes(self, git: TrustedGit, story: Story, *steps: Files) -> tuple[FileChange, ...]:
        """What lies between the first step and the last."""
        for number, files in enumerate(steps):
            story.add(f"c{number}", files=files)
        story.write()
        return git.changes(story.path, base=story.sha("c0"), head=story.sha(story.head))

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ({}, {}, None),
            ({}, {"src/app.py": "x"}, None),
            ({}, {"specs/plan.md": "x"}, "specs/plan.md"),
            ({"specs/plan.md": "old"}, {"specs/plan.md": "new"}, "specs/plan.md"),
            ({"specs/plan.md": "old"}, {"specs/plan.md": None}, None),
            ({"specs/old.md": "x\n"}, {"specs/old.md": None, "specs/new.md": "x\n"}, "specs/new.md"),
            ({"specs/old.md": "x\n"}, {"specs/old.md": None, "docs/old.md": "x\n"}, None),
            ({}, {"specs/deep/er/plan.md": "x"}, "specs/deep/er/plan.md"),
            ({}, {"specs/deep/a.md": "x", "specs/z.md": "x"}, "specs/z.md"),
            ({}, {"specs/b.md": "x", "specs/a.md": "x"}, "specs/a.md"),
            ({}, {"specs/plan.txt": "x", "specs/plan.md/file": "x"}, None),
            ({}, {"spec/plan.md": "x", "xspecs/plan.md": "x", "a/specs/plan.md": "x"}, None),
            ({}, {"specs": "a file of that name"}, None),
            ({}, {"specs/ünï 世界.md": "x"}, "specs/ünï 世界.md"),
            ({}, {'specs/a"b\tc.md': "x"}, 'specs/a"b\tc.md'),
            ({"specs/kept.md": "x"}, {"src/app.py": "x"}, None),
        ],
    )
    def test_plan_path(
        self,
        git: TrustedGit,
        story: Story,
        before: Files,
        after: Files,
        expected: str | None,
    ) -> None:
        assert plan_path(self.changes(git, story, before, after)) == expected

    def test_a_plan_that_came_and_went(self, git: TrustedGit, story: Story) -> None:
        assert plan_path(self.changes(git, story, {}, {"specs/a.md": "x"}, {"specs/a.md": None})) is None

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            ({}, False),
            ({"specs/plan.md": "x", "specs/deep/notes.txt": "x"}, False),
            ({"specs/plan.md": "x", "src/app.py": "x"}, True),
            ({"README.md": None}, True),
            ({"specs.md": "x"}, True),
            ({"specs": "a file of that name"}, True),
            ({"run.sh": Entry("100755", b"x")}, True),
            ({b"not utf-8 \xff": "x"}, True),
        ],
    )
    def test_changed_outside_plans(
        self,
        git: TrustedGit,
        story: Story,
        after: Files,
        expected: bool,
    ) -> None:
        assert changed_outside_plans(self.changes(git, story, {}, after)) is expected

    def test_a_plan_moved_out_of_its_folder_is_a_change_outside(self, git: TrustedGit, story: Story) -> None:
        changes = self.changes(git, story, {"specs/a.md": "x\n"}, {"specs/a.md": None, "docs/a.md": "x\n"})
        assert changed_outside_plans(changes)


class TestNoChangeNeeded:
    def commits(self, git: TrustedGit, story: Story, *messages: str) -> tuple[Commit, ...]:
        for number, message in enumerate(messages):
            story.add(f"c{number}", message=message, files={})
        story.write()
        return git.commits(story.path, base=story.sha("base"), head=story.sha(story.head))

    def test_the_first_commit_that_says_so(self, git: TrustedGit, story: Story) -> None:
        words = f"Nothing to do\n\nAlready done.\n\n{trailers('implementing')}Work-Order-Outcome: no_change_needed\n"
        commits = self.commits(git, story, "Before\n", words, words)
        assert says_no_change_needed(commits) == commits[1]
        assert commits[1].subject == "Nothing to do"

    @pytest.mark.parametrize(
        "message",
        [
            "no_change_needed\n",
            "Words\n\nWork-Order-Outcome: no_change_needed\n\nbut then more words\n",
            "Words\n\nWork-Order-Outcome: something else\n",
            "Words\n\nWork-Order-Outcome: no_change_needed\nWork-Order-Outcome: changed\n",
            "Words\n\nOutcome: no_change_needed\n",
        ],
    )
    def test_anything_else_does_not(self, git: TrustedGit, story: Story, message: str) -> None:
        assert says_no_change_needed(self.commits(git, story, message)) is None

    def test_nothing_says_nothing(self) -> None:
        assert says_no_change_needed(()) is None

    def test_another_orders_word_does_not_count_for_a_phase(self, git: TrustedGit, story: Story) -> None:
        """The engine asks among the commits of the phase."""
        foreign = trailers("implementing", "wo-99999999") + "Work-Order-Outcome: no_change_needed\n"
        story.add("o", message=f"Theirs\n\n{foreign}")
        story.write()
        progress = progress_of(git, story, [(B, "base", "o")])
        assert says_no_change_needed(progress.commits) is not None
        assert says_no_change_needed(progress.commits_of(B)) is None
