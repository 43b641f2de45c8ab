"""A sweep is judged in the mirror, whatever the sandbox that made it says; and what of it all a pull request tells."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sandboxes.sweep.rules import LeftOut, SweepLimits
from sandboxes.trusted_git.git import GitSettings, TrustedGit
from sandboxes.trusted_git.rewriting import Signature, raw_changes
from tests.factories import make_order, make_run
from tests.fakes.git_http import git
from tests.sandboxes.trusted_git.history import Entry, History
from tests.workflow_engine.handlers.test_delivery import World, world  # noqa: F401  # a fixture
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.reading.left_out import of_delivery, of_runs
from workorders.text.redaction import Redactor
from workorders.workflow_engine.place.sweep_gate import Judged, SweepGate

SWEPT = "chore: keep changes the agent left uncommitted\n\nWork-Order-Sweep: leftovers\nWork-Order: wo-1\n"
CONFLICT = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> side\n"
SECRET = "aVery-Secret-Value-42"
LINK = Entry("160000", b"1" * 40)
BY = Signature("Agent", "agent@example.com", ("Work-Order: wo-1", "Work-Order-Sweep: gitlinks"))


class Repository:
    def __init__(self, folder: Path, **files: str | bytes | Entry | None) -> None:
        self.history = History(folder / "mirror.git")
        every: dict[str | bytes, str | bytes | Entry | None] = {"README.md": "hello\n"}
        for name, content in files.items():
            every[name] = content
        self.history.commit("base", "Base\n", files=every, branch="main")
        self.history.commit("work", "feat: work\n", after="base", files={"work.txt": "work\n"})
        self.git = TrustedGit(GitSettings())
        self.gate = SweepGate(
            self.git,
            self.history.path,
            redactor=Redactor({SECRET: "the key"}),
            limits=SweepLimits(file_bytes=1000, new_files=5),
        )
        self.shas: dict[str, str] = {}

    def judge(self, files: Mapping[str | bytes, str | bytes | Entry | None], message: str = SWEPT) -> Judged:
        self.history.commit("sweep", message, after="work", files=files)
        self.shas = self.history.write()
        return self.gate.judge(self.shas["sweep"], start=self.shas["base"])

    def tree(self, sha: str) -> set[str]:
        return set(git("ls-tree", "-r", "-z", "--name-only", sha, folder=self.history.path).split("\0")) - {
            ""
        }


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"vendor/x": LINK}, "nested_repository"),
        (
            {"v/x.git/HEAD": "ref: refs/heads/main", "v/x.git/config": "[core]", "v/x.git/a/b": ""},
            "nested_repository",
        ),
        ({"backup": "gitdir: ../elsewhere\n"}, "nested_repository"),
        ({"app/.env": "A=1", ".env.production": "A=1", "a.jks": "x"}, "secret_file"),
        ({"node_modules/a.js": "a"}, "cache"),
        ({"target/debug/a": "a", "Cargo.toml": "[package]"}, "cache"),
        ({"large": "x" * 1001}, "too_large"),
        ({"README.md": CONFLICT}, "conflict_markers"),
        ({"key": f"key = {SECRET}\n"}, "secret"),
        ({"key": "ghp_" + "a1" * 18}, "secret"),
        ({f"g/{number}": "x" for number in range(6)}, "too_many_files"),
    ],
)
def test_what_breaks_a_rule_is_taken_out_and_the_rest_stays(
    files: dict[str | bytes, str | bytes | Entry | None], rule: str, tmp_path: Path
) -> None:
    found = Repository(tmp_path)
    rest: dict[str | bytes, str | bytes | Entry | None] = (
        {"work.txt": "more\n"} if rule == "too_many_files" else {"fine.txt": "fine\n", b"odd\xff": "odd\n"}
    )
    judged = found.judge({**files, **rest})
    assert {item.rule for item in judged.left_out} == {rule}
    assert judged.head != found.shas["sweep"]
    changed = {
        change.path for change in raw_changes(found.git, found.history.path, found.shas["work"], judged.head)
    }
    kept = {"Cargo.toml"} & set(files)
    assert {name.encode("utf-8", "surrogateescape") for name in changed - kept} == {
        name if isinstance(name, bytes) else name.encode() for name in rest
    }
    said = "--format=%an %ad %cn %cd %P%n%B"
    for sha in (found.shas["sweep"], judged.head):
        assert "Work-Order: wo-1" in git("log", "-1", said, sha, folder=found.history.path)
    one, other = (
        git("log", "-1", said, sha, folder=found.history.path) for sha in (found.shas["sweep"], judged.head)
    )
    assert one == other, "the same but for its tree"


def test_a_sweep_of_nothing_else_is_dropped(tmp_path: Path) -> None:
    found = Repository(tmp_path)
    assert found.judge({"key": SECRET}).head == found.shas["work"]


def test_a_file_that_is_no_new_one_goes_back_to_what_it_was(tmp_path: Path) -> None:
    found = Repository(tmp_path)
    judged = found.judge({"README.md": f"hello {SECRET}\n", "fine": "x"})
    assert git("show", f"{judged.head}:README.md", folder=found.history.path) == "hello"


def test_a_good_sweep_and_any_other_commit_are_left_as_they_are(tmp_path: Path) -> None:
    found = Repository(tmp_path, example="ghp_" + "b2" * 18)
    good = found.judge(
        {"a": "ghp_" + "b2" * 18, "b": None, "run": Entry("100755", b"x"), "l": Entry("120000", b"a")}
    )
    assert good == Judged(found.shas["sweep"])
    other = Repository(tmp_path / "other")
    assert other.judge({"node_modules/a": "asked for"}, "feat: vendor\n") == Judged(other.shas["sweep"])


def test_links_nobody_can_follow_go_and_submodules_stay(tmp_path: Path) -> None:
    found = Repository(tmp_path, old=LINK)
    modules = '[submodule "s"]\n\tpath = s\n\turl = ../s\n'
    found.history.commit(
        "links", "feat: links\n", after="work", files={".gitmodules": modules, "s": LINK, "v/x": LINK}
    )
    shas = found.history.write()
    judged = found.gate.without_gitlinks(shas["links"], base=shas["base"], by=BY)
    assert judged.left_out == (LeftOut("new_gitlink", "v/x", "a repository of its own"),)
    assert found.tree(judged.head) == {"README.md", "old", ".gitmodules", "s", "work.txt"}
    [commit] = found.git.commits(found.history.path, head=judged.head, base=shas["links"])
    assert commit.subject.startswith("chore: ")
    assert commit.trailer("Work-Order-Sweep") == "gitlinks"
    assert found.gate.without_gitlinks(judged.head, base=shas["base"], by=BY).head == judged.head


# --- what a pull request tells ---

MERGE = LeftOut("unfinished_operation", "", "a merge (in conflict: README.md)")
CACHE = LeftOut("cache", "[x](y)/`node_modules`/")


@pytest.mark.django_db
def test_something_unfinished_makes_a_draft_that_says_so(world: World) -> None:  # noqa: F811  # the fixture
    order = world.order()
    run = order.phase_runs.get(phase=AgentWorkflowPhase.IMPLEMENTING)
    run.left_out = [MERGE.as_json()]
    run.save()
    last = order.phase_runs.get(phase=AgentWorkflowPhase.TESTING)
    last.left_out = [CACHE.as_json()]
    last.save()
    pull_request = world.law(world.finish(order))
    assert pull_request.is_draft
    body = pull_request.body or ""
    assert "[!WARNING]" in body
    assert "## Left out of this pull request" in body
    assert "- a merge \\(in conflict: README.md\\) was begun and not finished" in body
    assert "\\[x\\]\\(y\\)/\\`node\\_modules\\`/" in body
    [comment] = world.repository.comments
    assert "draft" in comment.body


@pytest.mark.django_db
def test_only_what_still_holds_is_told() -> None:
    order = make_order()
    found = [MERGE.as_json(), LeftOut("conflict_markers", "a", "1 conflict").as_json()]
    failed = make_run(order, status=PhaseRunStatus.FAILED, left_out=found)
    done = make_run(order, attempt=2, left_out=[CACHE.as_json()])
    earlier = make_run(order, AgentWorkflowPhase.IMPLEMENTING, left_out=found)
    last = make_run(order, AgentWorkflowPhase.TESTING)
    assert of_runs([failed, done]) == (CACHE,)
    assert of_runs([failed]) == (MERGE, LeftOut("conflict_markers", "a", "1 conflict"))
    assert of_delivery([failed, done, earlier, last]) == ((), (CACHE, MERGE))
    delivered = make_run(order, AgentWorkflowPhase.TESTING, kind=StepKind.DELIVERY)
    assert of_delivery([failed, done, earlier, last, delivered]) == ((), ())
