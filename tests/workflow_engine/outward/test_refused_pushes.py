"""Pushes that the remote, or the gate, refuses for their content: the agent hears why and does it again without."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from workorders.domain.states import EffectKind
from workorders.domain.workflows import AgentWorkflowType, steps_of
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services
from workorders.workflow_engine.handlers import agent as agent_step
from workorders.workflow_engine.handlers import prompts
from workorders.workflow_engine.place import salvage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
NO_PROGRAMS = """
names="$(git log --name-only --format= "$new" --not --all | grep '[.]exe$' | sort -u)"
[ -z "$names" ] || { echo "Policy 7: programs are not taken here:" >&2; echo "$names" >&2; exit 1; }
"""
CONVENTIONAL = """
git log --format=%s "$new" --not --all | grep -vE '^(feat|fix|chore)(\\([a-z]+\\))?: [a-z]' > /dev/null && {
  echo "Commit messages must follow Conventional Commits:" >&2; git log --format=%s "$new" --not --all >&2; exit 1; }
"""
NO_CHORES = """
git log --format=%s "$new" --not --all | grep '^chore' >&2 && {
  echo "Commit messages of chores are refused" >&2; exit 1; }
"""
SWEEP = "Work-Order-Sweep: leftovers"
PLAIN = "agent: run git config core.hooksPath /dev/null; mkdir -p specs; "


def refuse(remote: Path, rule: str) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nwhile read -r old new ref; do\n{rule}\ndone\nexit 0\n")
    hook.chmod(0o755)


def remote_of(folder: Path) -> Path:
    return folder / "remote.git"


def runs(order: AgentWorkOrder) -> list[tuple[str, str]]:
    return list(order.phase_runs.exclude(kind="delivery").values_list("status", "error_category"))


def subjects(folder: Path, order: AgentWorkOrder) -> list[str]:
    return git("log", "--format=%s", f"main..{order.git_branch_name}", folder=remote_of(folder)).splitlines()


def test_the_agent_hears_the_remotes_words_and_starts_from_what_was_pushed(tmp_path: Path) -> None:
    order = local_order(tmp_path, "agent[planning#1]: commit tool.exe")
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert runs(order) == [("failed", "push_content_refused"), ("succeeded", "")]
    told = order.phase_runs.order_by("sequence")[0].error_message
    assert "Policy 7: programs are not taken here: tool.exe" in told
    assert "remote:" not in told
    assert "tool.exe" not in git("log", "--name-only", str(order.git_branch_name), folder=remote_of(tmp_path))
    assert (order.git_commit_count, order.phase_runs.order_by("sequence")[1].commits) == (1, 1)
    refused = order.log_entries.get(event="git_push_refused")
    mirror = next((tmp_path / "data" / "mirrors").rglob("*.git"))
    assert refused.fields["git_commit_sha"] in git("for-each-ref", "refs/salvaged/", folder=mirror), (
        "it can be looked at"
    )


def test_what_the_next_attempt_is_told(tmp_path: Path) -> None:
    order = local_order(tmp_path, "agent: commit tool.exe")
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    seen: list[str] = []
    compose = prompts.compose_prompt

    def listen(command_text: str, texts: prompts.RequestTexts) -> str:
        seen.append(compose(command_text, texts))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_step, "compose_prompt", listen)
        with running_engine():
            finished(order)
    first, second, _third = seen
    assert "earlier_attempt" not in first
    section = second[second.index("<earlier_attempt>") : second.index("</earlier_attempt>")]
    assert "Policy 7: programs are not taken here: tool.exe" in section
    assert "None of that attempt's commits is on the branch any more" in section


def test_an_agent_that_does_it_again_fails_in_the_end_and_a_retry_runs_it_again(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        "agent: run [ -e {} ] || {{ echo x > tool.exe; git add -A; git commit -qm Tool; }}".format(
            tmp_path / "mended"
        ),
    )
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert (order.status, order.error_category, order.head_sha) == ("failed", "push_content_refused", "")
    assert runs(order) == [("failed", "push_content_refused")] * 3
    assert "follow-up" in (order.error_advice or "")
    assert order.git_commit_count == 0, "what was refused is none of the branch's"
    assert set(branches(remote_of(tmp_path))) == {"main"}
    (tmp_path / "mended").touch()
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert len(starts(tmp_path)) == 4, "the agent was run again; the same commit would be refused again"


def test_a_follow_up_is_possible_where_nothing_could_be_pushed(tmp_path: Path) -> None:
    words = tmp_path / "prompt"
    order = local_order(
        tmp_path, f"agent: run [ -e {words} ] || {{ echo x > tool.exe; git add -A; git commit -qm Tool; }}"
    )
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert order.status == "failed"
    words.touch()
    services.prompt_agent_work_order(
        agent_work_order_id=str(order), prompt_text="Leave the program out.\nagent: say heard", by="ann"
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert order.prompts.get().status == "done"
    failed = order.phase_runs.filter(status="succeeded").order_by("sequence").first()
    assert failed is not None
    assert failed.phase == "planning"
    assert failed.prompt_id is None
    said = [row for row in order.log_entries.all() if "heard" in str(row.fields.get("summary"))]
    assert len(said) == 2, "the phase that was refused heard it, too"


def test_a_follow_up_of_a_pushed_order_goes_back_to_what_was_pushed(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    with running_engine():
        finished(order)
    pushed = order.head_sha
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    services.prompt_agent_work_order(
        agent_work_order_id=str(order),
        prompt_text="agent[#1]: commit tool.exe\nagent[#2]: commit good.txt",
        by="ann",
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert git("rev-parse", f"{order.head_sha}~2", folder=remote_of(tmp_path)) == pushed
    assert "Add tool.exe" not in subjects(tmp_path, order)


def test_a_refusal_that_is_not_the_commits_runs_no_agent_again(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    refuse(remote_of(tmp_path), "echo 'You are not allowed to push code to protected branches' >&2; exit 1")
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "branch rules" in (order.error_advice or "")
    refuse(remote_of(tmp_path), ":")
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning"]


def test_unknown_words_that_name_nothing_of_the_commits_cost_no_agent(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    refuse(remote_of(tmp_path), "echo 'Computer says no, ask Anna first' >&2; exit 1")
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "Computer says no, ask Anna first" in (order.error_message or "")
    assert "follow-up" in (order.error_advice or "")
    assert starts(tmp_path) == ["planning"]
    refuse(remote_of(tmp_path), ":")
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning"], "the same commits were pushed"


def test_unknown_words_that_come_again_are_told_to_the_agent(tmp_path: Path) -> None:
    second = (
        f"[ $(wc -l < {tmp_path}/starts) -lt 2 ] || {{ echo g > good; git add good; git commit -qm good; }}"
    )
    order = local_order(tmp_path, f"agent: run {second}")
    refuse(
        remote_of(tmp_path),
        "git ls-tree --name-only $new | grep -q good || { echo 'No luck today' >&2; exit 1; }",
    )
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert runs(order) == [("failed", "push_rejected"), ("failed", "push_content_refused"), ("succeeded", "")]
    assert len(starts(tmp_path)) == 2


def test_trouble_of_the_remotes_own_is_tried_again_with_the_same_commits(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    once = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; echo 'fatal: No space left on device' >&2; exit 1; }}"
    refuse(remote_of(tmp_path), once)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert runs(order) == [("failed", "git_host_failed"), ("succeeded", "")]
    assert starts(tmp_path) == ["planning"]
    assert order.effects.get(kind=EffectKind.PUSH).requests == 2


def test_commit_messages_that_the_remote_refuses_are_written_again(tmp_path: Path) -> None:
    plan = "echo x > specs/p.md; git add -A; git commit -qm"
    order = local_order(tmp_path, f"{PLAIN}{plan} 'feat: plan it'\nagent[#1]: commit bad.txt\nagent: nothing")
    refuse(remote_of(tmp_path), CONVENTIONAL)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert "Add bad.txt" in order.phase_runs.order_by("sequence")[0].error_message
    assert subjects(tmp_path, order) == ["feat: plan it"]


# --- leftovers ---


def swept(file: str) -> str:
    """Good work, and the server's own commit of what was left beside it, as the sweep makes it."""
    message = f"chore: keep changes the agent left uncommitted\\n\\n{SWEEP}\\n"
    return (
        f"{PLAIN}echo x > specs/p.md; git add -A; git commit -qm 'feat: good'; echo y > {file}; git add -A; "
        f"printf '{message}' | git commit -qF -\nagent: nothing"
    )


@pytest.mark.parametrize("rule", [NO_CHORES, NO_PROGRAMS])
def test_good_commits_are_delivered_without_leftovers_that_are_refused(rule: str, tmp_path: Path) -> None:
    order = local_order(tmp_path, swept("tool.exe"))
    refuse(remote_of(tmp_path), rule)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert subjects(tmp_path, order) == ["feat: good"]
    assert order.head_sha == branches(remote_of(tmp_path))[order.git_branch_name]
    assert order.git_commit_count == 1
    said = order.log_entries.get(event="git_leftovers_dropped")
    assert said.fields["paths"] == ["tool.exe"]
    assert starts(tmp_path) == ["planning"]


def test_the_next_step_does_not_start_from_leftovers_that_were_dropped(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        swept("tool.exe").replace("agent:", "agent[planning]:"),
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert subjects(tmp_path, order) == ["Change it", "feat: good"]


def test_evidence_that_is_only_in_the_leftovers_is_done_again(tmp_path: Path) -> None:
    message = f"chore: keep changes the agent left uncommitted\\n\\n{SWEEP}\\n"
    only = (
        f"{PLAIN}git commit -q --allow-empty -m 'feat: nothing'; echo x > specs/p.md; echo > a.exe; git add -A; "
        f"printf '{message}' | git commit -qF -"
    )
    order = local_order(tmp_path, f"{only.replace('agent:', 'agent[#1]:')}\nagent[#1]: nothing")
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert runs(order) == [("failed", "push_content_refused"), ("succeeded", "")]
    assert "feat: nothing" not in subjects(tmp_path, order)


# --- the server's own commits that cannot be left out ---

EACH = 'for c in $(git rev-list "$new" --not --all); do git log -1 --format=%B $c | '
SIGNED = f"""{EACH} grep -q '^Signed-off-by:' || {{ echo "$c lacks Signed-off-by" >&2; exit 1; }}; done"""
TICKET = f"""{EACH} head -1 | grep -q 'ABC-[0-9]' || {{ echo "$c names no ticket" >&2; exit 1; }}; done"""
SHORT = (
    f"""{EACH} grep -q '^.\\{{73,\\}}' && {{ echo "$c has lines over 72 characters" >&2; exit 1; }}; done"""
)
BRIEF = f"""{EACH} head -1 | grep -q '^.\\{{51,\\}}' && {{ echo "$c has a subject over 50" >&2; exit 1; }}; done"""
LINEAR = """[ -z "$(git rev-list --merges "$new" --not --all)" ] || { echo "Merge commits are refused" >&2; exit 1; }"""
IN_RULE = "git commit -qm 'ABC-1 good' -m 'Signed-off-by: A <a@example.com>'"
AMEND = (
    "agent[planning]: run mkdir -p specs; echo x > specs/p.md; git add -A; {commit}\n"
    "agent[implementing]: run echo q > q.txt; git add -A; {commit} --amend\nagent: nothing"
)
LINK = (
    "agent: run mkdir -p specs; echo x > specs/p.md; git init -q sub; "
    "git -C sub -c user.name=a -c user.email=a@b commit -q --allow-empty -m x; git add -A 2>/dev/null; {commit}\n"
    "agent: nothing"
)


@pytest.mark.parametrize(
    ("request_text", "rule"),
    [(AMEND, SIGNED), (AMEND, SHORT), (AMEND, LINEAR), (LINK, TICKET), (LINK, BRIEF)],
    ids=["amended, signed off", "amended, short", "amended, linear", "a link, ticket", "a link, brief"],
)
def test_the_servers_own_commit_keeps_the_rule_that_the_agents_keep(
    request_text: str, rule: str, tmp_path: Path
) -> None:
    workflow = AgentWorkflowType.PLAN_BUILD if request_text == AMEND else AgentWorkflowType.PLAN
    order = local_order(tmp_path, request_text.format(commit=IN_RULE), workflow_type=workflow)
    refuse(remote_of(tmp_path), rule)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert starts(tmp_path) == [step.phase for step in steps_of(workflow)], "no run was for nothing"
    listed = git("ls-tree", "--name-only", order.git_branch_name, folder=remote_of(tmp_path)).splitlines()
    assert ("q.txt" in listed) is (request_text == AMEND)
    assert "sub" not in listed
    assert order.head_sha == branches(remote_of(tmp_path))[order.git_branch_name]
    assert order.git_commit_count == len(subjects(tmp_path, order))


# --- the gate ---


def test_a_file_that_no_host_takes_is_found_before_any_push(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    engine_settings.WORKORDERS_PUSH_FILE_MAX_BYTES = 1 << 20
    large = (
        "mkdir -p d; truncate -s 1048577 d/a.bin; truncate -s 2M d/b.bin; git add -A; git commit -qm Large"
    )
    order = local_order(tmp_path, f"agent[#1]: run {large}; git rm -q d/a.bin; git commit -qm Without")
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    first = order.phase_runs.order_by("sequence")[0]
    assert first.error_category == "push_too_large"
    for word in ("'d/a.bin' in commit", "'d/b.bin'", "has 2.0 MiB", "over 1 MiB"):
        assert word in first.error_message
    assert order.effects.filter(kind=EffectKind.PUSH).count() == 1, "it was not even tried"


def test_commits_too_large_to_be_taken_over_are_no_trouble_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "BUNDLE_LIMIT_BYTES", 100_000)
    large = "head -c 300000 /dev/urandom > big; git add big; git commit -qm Big"
    order = local_order(tmp_path, f"agent[#1]: run {large}")
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert [category for _status, category in runs(order)] == ["push_too_large", ""]
    assert starts(tmp_path) == ["planning"] * 2


def test_leftovers_that_are_too_large_cost_the_leftovers(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    engine_settings.WORKORDERS_PUSH_FILE_MAX_BYTES = 1 << 20
    order = local_order(tmp_path, swept("big.bin").replace("echo y >", "truncate -s 2M"))
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert subjects(tmp_path, order) == ["feat: good"]


def test_leftovers_that_hold_a_secret_cost_the_leftovers(tmp_path: Path) -> None:
    write = f"printf %s ghp_ > notes.txt; echo {'a1B2c3' * 6} >> notes.txt"
    order = local_order(tmp_path, swept("notes.txt").replace("echo y > notes.txt", write))
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert subjects(tmp_path, order) == ["feat: good"]
    assert "GitHub token" in order.log_entries.get(event="git_leftovers_dropped").fields["reason"]


def test_what_a_failed_attempt_left_and_is_refused_is_not_built_on(tmp_path: Path) -> None:
    order = local_order(tmp_path, "agent[#1]: commit tool.exe\nagent[#1]: nothing")
    refuse(remote_of(tmp_path), NO_PROGRAMS)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    first = order.phase_runs.order_by("sequence")[0]
    assert first.error_category == "evidence_missing"
    assert "programs are not taken here" in first.error_message
    assert "tool.exe" not in git("log", "--name-only", str(order.git_branch_name), folder=remote_of(tmp_path))


def test_a_follow_up_goes_on_from_kept_commits_that_the_remote_did_not_take(tmp_path: Path) -> None:
    order = local_order(tmp_path, "agent[planning]: commit specs/x.txt")
    missing = (
        '[ -n "$(git ls-tree "$new" ok.txt)" ] || { '
        "echo 'You do not have permission to push this' >&2; exit 1; }"
    )
    refuse(remote_of(tmp_path), missing)
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "repository_access_denied")
    services.prompt_agent_work_order(
        agent_work_order_id=str(order), prompt_text="agent: commit ok.txt\nagent: nothing", by="ann"
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert "Add ok.txt" in subjects(tmp_path, order)
    assert order.prompts.get().status == "done"
