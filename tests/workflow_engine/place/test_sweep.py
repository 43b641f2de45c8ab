"""What of an agent's leftovers reaches the branch, by real git in real places: good work does, half-done work never.

Each case is an agent that ends well and leaves something behind. Its plan is the phase's evidence.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.fakes.git_http import branches, git
from tests.sandboxes.trusted_git.history import Entry, History
from tests.workflow_engine.engine import finished, local_order, running_engine, starts, wait_until
from tests.workflow_engine.places import kept_files, mirror_of
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.reading import progress
from workorders.reading.pages.order import order_state
from workorders.text import redaction

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
EVERYWHERE = pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
PLAN = (
    "mkdir -p specs && echo '# A plan' > specs/plan.md && git add -f specs && git commit -q -m 'docs: plan'"
)
SIDE = "git checkout -q -b side && echo theirs > README.md && git commit -q -a -m theirs && git checkout -q -"
OURS = "echo ours > README.md && git commit -q -a -m ours"


def order_with(folder: Path, *scripts: str, **values: object) -> AgentWorkOrder:
    """Its agent runs these and commits nothing of its own accord."""
    lines = "\n".join(f"agent: run {script}" for script in scripts)
    return local_order(folder, f"{lines}\nagent: nothing", **values)


def run_to_end(order: AgentWorkOrder) -> AgentWorkOrder:
    with running_engine():
        return finished(order)


def files(folder: Path, order: AgentWorkOrder) -> list[str]:
    listed = git("ls-tree", "-r", "-z", "--name-only", order.git_branch_name, folder=folder / "remote.git")
    return [name for name in listed.split("\0") if name]


def subjects(folder: Path, order: AgentWorkOrder) -> list[str]:
    """The branch's own commits, newest first."""
    return git(
        "log", "--format=%s", f"main..{order.git_branch_name}", folder=folder / "remote.git"
    ).splitlines()


def read(folder: Path, order: AgentWorkOrder, path: str) -> str:
    return git("show", f"{order.git_branch_name}:{path}", folder=folder / "remote.git")


def rules(order: AgentWorkOrder) -> list[str]:
    """Of what its runs left out, each once, by name."""
    return sorted({item["rule"] for run in order.phase_runs.all() for item in run.left_out})


def details(order: AgentWorkOrder, rule: str) -> str:
    found = [item for run in order.phase_runs.all() for item in run.left_out if item["rule"] == rule]
    return " ".join(f"{item['path']} {item['detail']}" for item in found)


@pytest.fixture(autouse=True)
def main_is_never_moved(tmp_path: Path) -> Iterator[None]:
    yield
    if (tmp_path / "remote.git").exists():
        assert git("rev-list", "--count", "main", folder=tmp_path / "remote.git").strip() == "1"


# --- operations nobody finished ---

UNFINISHED = {
    "merge": f"{SIDE}; {OURS}; {PLAN}; git merge side",
    "merge without commit": f"{SIDE}; {PLAN}; git merge -q --no-ff --no-commit side",
    "cherry-pick": f"{SIDE}; {OURS}; {PLAN}; git cherry-pick side",
    "revert": f"{OURS}; echo more > README.md; git commit -q -a -m more; {PLAN}; git revert --no-edit HEAD~2",
    "rebase": f"{SIDE}; {OURS}; {PLAN}; git rebase side",
    "stash": f"{PLAN}; echo mine > README.md; git stash -q; {OURS}; git stash pop",
    "squash": f"{SIDE}; {OURS}; {PLAN}; git merge -q --squash side > /dev/null",
    "checkout": f"{SIDE}; {PLAN}; echo mine > README.md; git checkout -q -m side",
    "am": f"{SIDE}; {OURS}; {PLAN}; git format-patch -q -1 side --stdout | git am -q",
    "bisect": f"{OURS}; {PLAN}; git bisect start -q HEAD HEAD~2",
}


@EVERYWHERE
@pytest.mark.parametrize("operation", UNFINISHED)
def test_what_was_begun_and_not_finished_is_never_committed(
    operation: str, sandbox_type: str, tmp_path: Path
) -> None:
    order = run_to_end(order_with(tmp_path, UNFINISHED[operation], sandbox_type=sandbox_type))
    assert (order.status, order.error_message) == ("completed", None)
    assert starts(tmp_path) == ["planning"], "good commits are there: nobody pays for another try"
    assert "specs/plan.md" in files(tmp_path, order)
    assert "<<<<<<<" not in read(tmp_path, order, "README.md")
    assert not [subject for subject in subjects(tmp_path, order) if subject.startswith("chore:")]
    assert "unfinished_operation" in rules(order)
    assert kept_files(tmp_path / "data", "README.md"), "the work is in no git"


def test_where_the_evidence_is_missing_the_next_try_hears_of_it(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        f"agent[#1]: run {SIDE}; {OURS}; git merge side\nagent[#1]: nothing\n"
        f"agent[#2]: run cat > {tmp_path}/nothing; {PLAN}\nagent[#2]: nothing",
    )
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning", "planning"]
    first = order.phase_runs.order_by("sequence")[0]
    assert "a merge (in conflict: README.md) was begun and not finished" in first.error_message


def test_the_failure_says_what_is_true_and_what_helps(tmp_path: Path) -> None:
    many = "mkdir g; cd g; for i in $(seq 600); do echo $i > $i.txt; done"
    order = run_to_end(order_with(tmp_path, many))
    assert (order.status, order.error_category) == ("failed", "evidence_missing")
    assert "600 new files (in g/)" in (order.error_message or "")
    assert ".gitignore" in (order.error_advice or "")
    assert "make the request clearer" not in (order.error_advice or "")
    assert len(starts(tmp_path)) == 2


# --- conflicts that were committed as they are ---


def test_committed_conflict_markers_cost_a_try_and_then_the_order_is_a_draft(tmp_path: Path) -> None:
    merge = f"{SIDE}; {OURS}; git merge side; git add -A; git commit -q -m merged; {PLAN}"
    script = f"[ -f specs/plan.md ] || {{ {merge}; }}"
    order = run_to_end(order_with(tmp_path, script))
    assert order.status == "completed"
    assert len(starts(tmp_path)) == 2
    assert "conflict_markers" in rules(order)


def test_an_agent_that_resolves_them_is_done(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        f"agent[#1]: run {SIDE}; {OURS}; git merge side; git add -A; git commit -q -m merged; {PLAN}\n"
        "agent[#2]: run echo both > README.md; git commit -q -a -m 'fix: resolve'\nagent: nothing",
    )
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert read(tmp_path, order, "README.md") == "both"
    last = order.phase_runs.filter(kind="phase").order_by("sequence").last()
    assert last is not None
    assert last.left_out == []


def test_markers_left_uncommitted_are_left_out(tmp_path: Path) -> None:
    """`git add` has made the index whole, and the file is as the merge left it."""
    script = (
        f"{PLAN}; echo mine > README.md; git stash -q; {OURS}; git stash pop; git add -A; echo good > good"
    )
    order = run_to_end(order_with(tmp_path, script))
    assert order.status == "completed"
    assert read(tmp_path, order, "README.md") == "ours"
    assert read(tmp_path, order, "good") == "good"
    assert "conflict_markers" in rules(order)
    assert kept_files(tmp_path / "data", "README.md")


def test_a_heading_is_no_conflict(tmp_path: Path) -> None:
    order = run_to_end(order_with(tmp_path, f"{PLAN}; printf 'Title\\n=======\\n' > a.rst"))
    assert order.status == "completed"
    assert rules(order) == []
    assert "a.rst" in files(tmp_path, order)


# --- repositories inside the checkout ---


@EVERYWHERE
def test_a_worktree_inside_is_left_out_and_its_commits_are_named(sandbox_type: str, tmp_path: Path) -> None:
    inner = (
        "git worktree add -q .claude/worktrees/agent-1 -b agent-1; cd .claude/worktrees/agent-1; echo x > x; "
        "git add x; git commit -q -m inner; echo y > y; git add y; git commit -q -m inner2"
    )
    order = run_to_end(order_with(tmp_path, f"{PLAN}; echo w > work", inner, sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert [name for name in files(tmp_path, order) if "claude" in name] == []
    assert "work" in files(tmp_path, order)
    said = details(order, "nested_repository")
    assert ".claude/worktrees/agent-1 a worktree of this one, on agent-1: 2 commits (" in said
    assert kept_files(tmp_path / "data", ".claude/worktrees/agent-1/x")


@EVERYWHERE
@pytest.mark.parametrize("how", ["committed", "ignored", "outside"])
def test_commits_of_a_worktree_are_named_wherever_it_is(how: str, sandbox_type: str, tmp_path: Path) -> None:
    where = str(tmp_path / "outside") if how == "outside" else ".claude/agent-1"
    inner = (
        f"git worktree add -q {where} -b agent-1; (cd {where}; echo x > x; git add x; git commit -q -m inner); "
        + {"committed": "git add -A; git commit -q -m all", "outside": ":"}.get(
            how, "echo .claude > .gitignore; git add -A; git commit -q -m ignore"
        )
    )
    order = run_to_end(order_with(tmp_path, f"{PLAN}; {inner}", sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert [name for name in files(tmp_path, order) if "claude" in name] == []
    assert "branch agent-1 of another worktree 1 commit (" in details(order, "commits_elsewhere")
    assert ("new_gitlink" in rules(order)) == (how == "committed")


NESTED = {
    "init": "git init -q vendor/x; echo a > vendor/x/a",
    "with a commit": "git init -q vendor/x; cd vendor/x; echo a > a; git add a; git commit -q -m a",
    "clone": "git clone -q . vendor/x",
    "staged": "git init -q vendor/x; cd vendor/x; echo a > a; git add a; git commit -q -m a; cd ../..; git add vendor",
    "broken": "mkdir -p vendor/x; echo 'gitdir: /nowhere' > vendor/x/.git; echo a > vendor/x/a",
}


@EVERYWHERE
@pytest.mark.parametrize("how", NESTED)
def test_a_repository_inside_is_left_out(how: str, sandbox_type: str, tmp_path: Path) -> None:
    order = run_to_end(order_with(tmp_path, f"{PLAN}; echo w > work", NESTED[how], sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert [name for name in files(tmp_path, order) if name.startswith("vendor")] == []
    assert "work" in files(tmp_path, order)
    assert rules(order) == ["nested_repository"]


@EVERYWHERE
def test_a_link_the_agent_committed_is_taken_out_again(sandbox_type: str, tmp_path: Path) -> None:
    script = f"{PLAN}; {NESTED['with a commit']}; cd ../..; git add vendor; git commit -q -m 'feat: vendor'"
    order = run_to_end(order_with(tmp_path, script, sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert len(starts(tmp_path)) == 1
    tree = git("ls-tree", "-r", order.git_branch_name, folder=tmp_path / "remote.git")
    assert "160000" not in tree
    assert subjects(tmp_path, order)[0].startswith("chore: ")
    assert rules(order) == ["new_gitlink"]


def test_a_link_that_has_no_folder_at_all_is_taken_out_and_said(tmp_path: Path) -> None:
    link = "git rm -q README.md; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),README.md"
    order = run_to_end(order_with(tmp_path, f"{PLAN}; {link}; git commit -q -m link"))
    assert order.status == "completed"
    assert rules(order) == ["new_gitlink"]
    assert read(tmp_path, order, "README.md") == "# Sample"


def test_a_proper_submodule_stays(tmp_path: Path) -> None:
    modules = "printf '[submodule \"x\"]\\n\\tpath = vendor/x\\n\\turl = ../x\\n' > .gitmodules"
    script = f"{PLAN}; {NESTED['with a commit']}; cd ../..; {modules}; git add .gitmodules vendor"
    order = order_with(tmp_path, f"{script}; git commit -q -m 'feat: submodule'")
    with running_engine():
        wait_until(order, lambda row: row.waiting_reason == "approval_required")
    tree = git("ls-tree", "-r", order.approval_sha, folder=mirror_of(tmp_path / "data"))
    assert "160000" in tree
    assert rules(order) == []


# --- what nobody means, and what is too much ---


@EVERYWHERE
def test_caches_are_left_out_and_said_and_no_place_is_kept_for_them(
    sandbox_type: str, tmp_path: Path
) -> None:
    script = (
        "mkdir -p app/__pycache__ node_modules/a/b .venv/bin target/debug own/bin; touch app/__pycache__/a.pyc "
        "node_modules/a/b/c.js .venv/bin/python target/debug/x target/CACHEDIR.TAG own/pyvenv.cfg own/bin/py "
        ".DS_Store; for i in $(seq 700); do echo $i > node_modules/$i.js; done; echo p > app/a.py; "
        "mkdir dist; echo d > dist/d.js"
    )
    order = run_to_end(order_with(tmp_path, PLAN, script, sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert set(files(tmp_path, order)) == {"README.md", "specs/plan.md", "app/a.py", "dist/d.js"}
    assert rules(order) == ["cache"]
    said = details(order, "cache")
    for name in ("app/__pycache__/", "node_modules/", ".venv/", "target/", "own/", ".DS_Store"):
        assert f"{name} " in said
    assert not (tmp_path / "data" / "kept").exists()


def test_caches_that_were_asked_for_or_are_ignored_anyway_are_nobodys_business(tmp_path: Path) -> None:
    ignored = "echo node_modules/ > .gitignore; git add .gitignore; mkdir node_modules; touch node_modules/a"
    asked = "mkdir __pycache__; echo c > __pycache__/a.pyc; git add -f __pycache__; git commit -q -m 'feat: cache'"
    order = run_to_end(
        order_with(tmp_path, f"{PLAN}; {asked}; {ignored}; echo new > __pycache__/a.pyc; echo w > work")
    )
    assert read(tmp_path, order, "__pycache__/a.pyc") == "new", "it is the repository's by now"
    assert "work" in files(tmp_path, order)
    assert rules(order) == []


@EVERYWHERE
def test_one_large_file_costs_itself(
    sandbox_type: str, tmp_path: Path, engine_settings: LazySettings
) -> None:
    engine_settings.WORKORDERS_LEFTOVER_FILE_MAX_BYTES = 1024 * 1024
    script = f"{PLAN}; head -c 1100000 /dev/urandom > 'big file.bin'; echo w > work; echo k > README.md"
    order = run_to_end(order_with(tmp_path, script, sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert set(files(tmp_path, order)) == {"README.md", "specs/plan.md", "work"}
    assert details(order, "too_large").startswith("big file.bin 1.0 MB; the limit is 1 MB")
    assert kept_files(tmp_path / "data", "big file.bin")


def test_a_secret_costs_its_file_and_good_work_goes_out(tmp_path: Path) -> None:
    redaction.register(("the test's secret", "s3cret-Value-0123456789"))
    script = (
        f"{PLAN}; printf 's3cret-%s' Value-0123456789 > env.txt; echo w > work; printf ghp_%036d 7 > token"
    )
    order = run_to_end(order_with(tmp_path, script))
    assert (order.status, len(starts(tmp_path))) == ("completed", 1)
    assert set(files(tmp_path, order)) == {"README.md", "specs/plan.md", "work"}
    assert rules(order) == ["secret"]
    assert kept_files(tmp_path / "data", "env.txt")
    sweep = git("log", "-1", "--format=%an%n%B", order.git_branch_name, folder=tmp_path / "remote.git")
    assert (
        "chore: keep changes the agent left uncommitted\n\nWork-Order-Sweep: leftovers\nWork-Order: " in sweep
    )


def test_a_sweep_with_nothing_but_a_secret_is_dropped(tmp_path: Path) -> None:
    order = run_to_end(order_with(tmp_path, f"{PLAN}; printf ghp_%036d 7 > token"))
    assert subjects(tmp_path, order) == ["docs: plan"]


def test_odd_files_cost_nothing(tmp_path: Path) -> None:
    script = (
        f"{PLAN}; mkfifo pipe; echo q > \"$(printf 'odd \\303\\244 \\n name')\"; ln -s /nowhere link; echo w > work; "
        "rm README.md; echo h > -dash; mkdir e; echo x > 'e/*'"
    )
    order = run_to_end(order_with(tmp_path, script))
    assert order.status == "completed"
    names = files(tmp_path, order)
    assert {"-dash", "e/*", "link", "specs/plan.md", "work"} <= set(names)
    assert "README.md" not in names
    assert len(names) == 6


def test_what_git_refuses_costs_itself(tmp_path: Path) -> None:
    refused = "mkdir 'git~1'; echo x > 'git~1/config'; ln -s README.md .gitmodules"
    order = run_to_end(order_with(tmp_path, f"{PLAN}; {refused}; echo w > work; git mv README.md n"))
    assert order.status == "completed"
    assert set(files(tmp_path, order)) == {"n", "specs/plan.md", "work"}
    assert details(order, "refused") == ".gitmodules  git~1/config "
    assert kept_files(tmp_path / "data", "git~1/config")


# --- settings of the agent's have no say ---

SETTINGS = {
    "signing": "git config commit.gpgsign true; git config gpg.program false",
    "hooks": "mkdir .h; printf '#!/bin/sh\\nexit 1\\n' > .h/pre-commit; chmod 755 .h/*; git config core.hooksPath .h",
    "excludes": "echo '*' > ~/all; git config core.excludesFile ~/all",
    "info": 'd="$(git rev-parse --git-path info)"; mkdir -p "$d"; echo "*" > "$d/exclude"',
    "filter": "git config filter.x.clean rm; git config filter.x.required true; echo '* filter=x' > .gitattributes",
    "fsmonitor": "git config core.fsmonitor /bin/false",
    "worktree": "git config core.worktree /nowhere",
    "include": "git config include.path /nowhere/x; git config commit.template /nowhere",
    "broken": 'echo "[broken" >> "$(git rev-parse --git-path config)"',
    "extension": "git config core.repositoryformatversion 1; git config extensions.noSuchThing true",
    "bare": "git config core.bare true",
    "index": 'echo words > "$(git rev-parse --git-dir)/index"',
    "split index": "git update-index --split-index --untracked-cache",
    "sparse": "git sparse-checkout set specs",
    "replaced": "git replace HEAD $(git commit-tree -m x HEAD^{tree})",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_agents_settings_have_no_say_in_what_is_swept(setting: str, tmp_path: Path) -> None:
    order = run_to_end(
        order_with(tmp_path, f"{PLAN}; {SETTINGS[setting]}; echo w > work; echo r > README.md")
    )
    assert (order.status, order.error_message) == ("completed", None)
    assert read(tmp_path, order, "work") == "w"
    assert read(tmp_path, order, "README.md") == "r"
    assert len(starts(tmp_path)) == 1


# --- where the commits are ---

ELSEWHERE = {
    "a new branch": f"git checkout -q -b feature; {PLAN}",
    "and back": f"git checkout -q -b feature; {PLAN}; git checkout -q -",
    "renamed": f"{PLAN}; git branch -m mine",
    "detached": f"git checkout -q --detach; {PLAN}",
    "deleted": f'old="$(git symbolic-ref --short HEAD)"; git checkout -q -b feature; {PLAN}; git branch -q -D "$old"',
    "a tag": f"git checkout -q --detach; {PLAN}; git tag -m words v1; git checkout -q -",
    "nowhere": f"git checkout -q --detach; {PLAN}; git checkout -q -",
    "two in a line": f"git checkout -q -b one; {PLAN}; git checkout -q -b two; {OURS}; git checkout -q --detach HEAD~2",
}


@EVERYWHERE
@pytest.mark.parametrize("where", ELSEWHERE)
def test_commits_are_found_whatever_the_branch_is_called(
    where: str, sandbox_type: str, tmp_path: Path
) -> None:
    order = run_to_end(order_with(tmp_path, ELSEWHERE[where], sandbox_type=sandbox_type))
    assert (order.status, order.error_message) == ("completed", None)
    assert len(starts(tmp_path)) == 1
    assert "specs/plan.md" in files(tmp_path, order)
    assert branches(tmp_path / "remote.git").keys() == {"main", order.git_branch_name}


@EVERYWHERE
def test_commits_that_do_not_follow_are_named(sandbox_type: str, tmp_path: Path) -> None:
    script = f"{PLAN}; git checkout -q --orphan other; git commit -q -m other"
    order = run_to_end(order_with(tmp_path, script, sandbox_type=sandbox_type))
    assert order.status == "completed"
    assert "branch other 1 commit (" in details(order, "commits_elsewhere")
    assert kept_files(tmp_path / "data", "README.md")


def test_what_was_tried_and_left_without_a_branch_is_named_beside_good_commits(tmp_path: Path) -> None:
    tried = (
        "git checkout -q --detach; echo t > tried; git add tried; git commit -q -m tried; git checkout -q -"
    )
    order = run_to_end(order_with(tmp_path, f"{tried}; {PLAN}; git tag here HEAD"))
    assert order.status == "completed"
    assert files(tmp_path, order) == ["README.md", "specs/plan.md"]
    assert details(order, "commits_elsewhere").startswith("no branch 1 commit (")


# --- where it is said ---


def test_it_is_said_on_the_page_in_the_api_and_in_the_log(tmp_path: Path) -> None:
    order = run_to_end(
        order_with(tmp_path, f"{PLAN}; mkdir __pycache__; touch __pycache__/a.pyc; git init -q x")
    )
    page = order_state(order.agent_work_order_id)
    assert any("x is a git repository inside the checkout" in line for line in page.phases[0].left_out)
    [step] = progress.git_progress(order.agent_work_order_id).phase_history
    assert {item.rule for item in step.left_out} == {"cache", "nested_repository"}
    [entry] = order.log_entries.filter(event="sandbox_work_left_out")
    assert {item["rule"] for item in entry.fields["left_out"]} == {"cache", "nested_repository"}


def test_the_next_phase_starts_in_a_place_of_its_own_after_an_unfinished_merge(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        f"agent[planning]: run {UNFINISHED['merge']}\nagent[planning]: nothing\nagent[implementing]: leave late.txt",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning", "implementing"]
    assert "late.txt" in files(tmp_path, order)
    assert len(kept_files(tmp_path / "data", "README.md")) == 1


def test_what_was_put_away_is_said(tmp_path: Path) -> None:
    order = run_to_end(order_with(tmp_path, f"{PLAN}; echo mine > README.md; git stash -q"))
    assert order.status == "completed"
    assert rules(order) == ["stash"]
    assert kept_files(tmp_path / "data", "README.md")


# --- what checkout itself makes dirty ---

LINES = "printf 'one\\r\\ntwo\\r\\n'"


def repository_with(folder: Path, **contents: bytes) -> None:
    """The remote of `order_with`, whose files are these blobs as they are; `__` in a name is a dot."""
    history = History(folder / "remote.git")
    files: dict[str | bytes, str | bytes | Entry | None] = {"README.md": "# hello\n"}
    files |= {name.replace("__", "."): content for name, content in contents.items()}
    history.commit("base", "Base\n", files=files, branch="main")
    history.write()


DIRTY: dict[str, tuple[dict[str, bytes], str]] = {
    "crlf blobs under eol=lf": ({"__gitattributes": b"*.txt text eol=lf\n", "a__txt": b"1\r\n2\r\n"}, ""),
    "crlf blobs under eol=crlf": ({"__gitattributes": b"*.txt text eol=crlf\n", "a__txt": b"1\r\n2\r\n"}, ""),
    "expanded keywords": ({"__gitattributes": b"*.txt ident\n", "a__txt": b"$Id: 123 $\n"}, ""),
    "attributes changed": (
        {"__gitattributes": b"", "a__txt": b"1\r\n2\r\n"},
        "echo '*.txt text eol=lf' > .gitattributes; git add .gitattributes; git commit -q -m attributes",
    ),
    "attributes taken away": (
        {"__gitattributes": b"*.txt text eol=crlf\n", "a__txt": b"1\n2\n"},
        "git rm -q .gitattributes; git commit -q -m attributes",
    ),
    "staged": ({"__gitattributes": b"*.txt text eol=lf\n", "a__txt": b"1\r\n2\r\n"}, "git add -A"),
    "utf-16": (
        {"__gitattributes": b"*.txt text working-tree-encoding=UTF-16LE eol=crlf\n", "a__txt": b"1\r\n2\r\n"},
        "",
    ),
}


@pytest.mark.parametrize("kind", DIRTY)
@pytest.mark.parametrize("leaves", ["nothing", "another file", "a change to it"])
def test_files_nobody_touched_are_not_rewritten(kind: str, leaves: str, tmp_path: Path) -> None:
    contents, script = DIRTY[kind]
    repository_with(tmp_path, **contents)
    work = {"nothing": ":", "another file": "echo w > work", "a change to it": "echo 3 >> a.txt"}[leaves]
    refresh = "touch -d '2 hours ago' a.txt"
    order = run_to_end(order_with(tmp_path, f"{PLAN}; {refresh}; {script or ':'}; {work}"))
    assert (order.status, order.error_message) == ("completed", None)
    changed = git(
        "diff", "--name-only", "main", order.git_branch_name, folder=tmp_path / "remote.git"
    ).splitlines()
    assert ("a.txt" in changed) == (leaves == "a change to it")
    assert ("work" in changed) == (leaves == "another file")
