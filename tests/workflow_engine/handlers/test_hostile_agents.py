"""Agents that leave traps: an order finishes through the real engine all the same, and nothing runs outside.

The canary lies in a folder no sandbox sees, so that only a process outside can touch it.
"""

import base64
import shlex
import subprocess
from pathlib import Path

import pytest
from django.conf import LazySettings

from sandboxes.kinds import SandboxType
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.support import require_program
from tests.workflow_engine.engine import finished, local_order, running_engine
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.e2e,  # whole orders, the same on every database: once is enough
]
LOCAL = pytest.mark.parametrize("sandbox_type", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])

# Each is a shell script in the workspace; $1 is the canary, $common the folder of git's shared files.
_PROGRAMS = """
mkdir -p .traps; printf '#!/bin/sh\\ntouch "%s"\\ncat 2>/dev/null\\nexit 0\\n' "$1" > .traps/run; chmod 755 .traps/run
"""
_HOOKS = """
for name in pre-commit post-commit commit-msg post-checkout post-merge post-rewrite reference-transaction pre-push \\
    post-index-change pre-auto-gc update post-update pre-receive fsmonitor-watchman sendemail-validate; do
  printf '#!/bin/sh\\ntouch "%s"\\nexit 0\\n' "$1" > "$common/hooks/$name"; chmod 755 "$common/hooks/$name"
done"""
_CONFIGURATION = f"""{_PROGRAMS}
for key in core.fsmonitor core.pager core.sshCommand core.editor core.askPass core.gitProxy core.alternateRefsCommand \\
    uploadpack.packObjectsHook filter.evil.clean filter.evil.smudge filter.evil.process diff.external \\
    diff.evil.textconv diff.evil.command merge.evil.driver gpg.program gpg.ssh.program gpg.x509.program \\
    credential.helper sequence.editor interactive.diffFilter trailer.x.command remote.origin.uploadpack \\
    remote.origin.receivepack pager.log pager.show man.evil.cmd; do
  git config "$key" "$PWD/.traps/run"
done
git config credential.helper "!touch '$1'"; git config alias.push "!touch '$1'"; git config alias.log "!touch '$1'"
git config protocol.ext.allow always; git config url."ext::sh -c touch% $1".insteadOf /
git config url."ext::sh -c touch% $1".pushInsteadOf /; git config init.templateDir "$PWD/.traps"
printf '[core]\\n\\tfsmonitor = touch %s\\n\\thooksPath = %s\\n' "$1" "$PWD/.traps" > .traps/included
git config include.path "$PWD/.traps/included"; git config includeIf.gitdir:/.path "$PWD/.traps/included"
git config diff.external ''; git config --unset diff.external; git config --unset core.fsmonitor
printf '* filter=evil diff=evil merge=evil\\n' > .gitattributes
mkdir -p "$common/info"; printf '* filter=evil diff=evil merge=evil text eol=crlf\\n' > "$common/info/attributes"
"""
_HOME = f"""{_PROGRAMS}
mkdir -p ~/.config/git ~/.ssh; cp .traps/run ~/run
for key in core.fsmonitor core.sshCommand core.pager core.editor credential.helper gpg.program diff.external; do
  git config --global "$key" "$HOME/run"
done
git config --global core.hooksPath ~/; git config --global url."ext::sh -c touch% $1".insteadOf /
git config --global protocol.ext.allow always; printf 'ProxyCommand touch %s\\n' "$1" > ~/.ssh/config
printf 'touch %s\\n' "$1" | tee ~/.profile ~/.bashrc ~/.zshenv > ~/.ssh/rc
printf '[alias]\\n\\tlog = !touch %s\\n' "$1" > ~/.config/git/config
"""
TRAPS: dict[str, str] = {
    "programs": _HOOKS + _CONFIGURATION + _HOME,
    "objects": """
git commit -q --allow-empty -m Fake; git update-ref "refs/replace/$(git rev-parse HEAD~1)" HEAD
mkdir -p "$common/info"; git rev-parse HEAD > "$common/info/grafts"
printf '%s\\n%s\\n' "$(cat "$common/objects/info/alternates")" "$1" > "$common/objects/info/alternates"
git update-ref refs/heads/main HEAD; git tag v9; git update-ref refs/remotes/origin/main HEAD
git update-ref refs/heads/feat-wo-aaaaaaaa HEAD; git notes add -m Note""",
    "files": """
ln -s /etc/passwd link; ln -s / root; ln -s ../../../../.. up; mkdir -p specs; ln -s /etc/shadow specs/secret.md
mkfifo pipe; mkfifo specs/pipe.md; mkdir -p deep; (cd deep; for n in $(seq 60); do mkdir d; cd d; done; echo x > x)
mkdir -p nested/sub; (cd nested; git init -q .; git commit -q --allow-empty -m Nested
  git config core.fsmonitor "touch $1"; printf '#!/bin/sh\\ntouch %s\\n' "$1" > .git/hooks/post-index-change
  chmod 755 .git/hooks/post-index-change)
mkdir many; (cd many; seq 1500 | while read n; do echo "$n" > "f$n"; done); git add -f many link root up
git update-index --add --cacheinfo "160000,$(git rev-parse HEAD),submodule"; git commit -qm Files
printf '\\033]0;title\\007\\n' > 'bad\\nname'; chmod 000 deep """,
    "the folder itself": """
mv .git "$HOME/moved-git"; ln -s "$HOME/moved-git" .git""",
}


def planting(trap: str, canary: Path) -> str:
    script = f"set +e\ncommon=$(git rev-parse --git-common-dir)\n{TRAPS[trap]}\n"
    encoded = base64.b64encode(script.encode()).decode()
    return (
        f"agent[planning]: run echo {encoded} | base64 -d | sh -s {shlex.quote(str(canary))} >/dev/null 2>&1"
    )


@pytest.fixture
def canary(tmp_path: Path, engine_settings: LazySettings) -> Path:
    require_program("bwrap")
    engine_settings.WORKORDERS_AGENT_ISOLATION = "bubblewrap"
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside" / "canary"


def inspected(order: AgentWorkOrder) -> list[str]:
    """What was found good at the end of each step, in order."""
    runs = order.phase_runs.exclude(end_sha="").order_by("sequence")
    return list(runs.values_list("planned_sha", flat=True))


@LOCAL
@pytest.mark.parametrize("trap", TRAPS)
def test_nothing_runs_outside_and_only_the_orders_ref_moves(
    trap: str, sandbox_type: SandboxType, tmp_path: Path, canary: Path
) -> None:
    remote = tmp_path / "remote.git"
    create_bare_repository(remote)
    before = branches(remote)
    order = local_order(
        tmp_path,
        planting(trap, canary),
        sandbox_type=sandbox_type,
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    with running_engine():
        finished(order, 60)
        if order.status == "completed":  # once more in the HOME that was kept
            services.prompt_agent_work_order(
                agent_work_order_id=str(order), prompt_text="agent: commit again.txt", by="ann"
            )
            finished(order, 60)
    assert order.status == "completed", (order.error_category, order.error_message)
    assert not canary.exists()
    after = branches(remote)
    assert after.pop(order.git_branch_name) == order.head_sha == inspected(order)[-1]
    assert after == before
    assert git("for-each-ref", "--format=%(refname)", folder=remote).splitlines() == [
        f"refs/heads/{order.git_branch_name}",
        *(f"refs/heads/{name}" for name in sorted(before)),
    ]
    assert git("merge-base", "main", str(order.head_sha), folder=remote) == before["main"]
    git("fsck", "--strict", folder=remote)


def test_the_traps_do_spring_where_git_runs_inside_them(tmp_path: Path) -> None:
    """The control: without the fence the same scripts reach the canary, so the tests above can fail."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": "t@example.com"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    sprung = set()
    for trap, script in TRAPS.items():
        place, canary = tmp_path / trap / "repository", tmp_path / trap / "canary"
        for folder in (place, tmp_path / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        start = (
            "git init -q . && git commit -q --allow-empty -m Start && git commit -q --allow-empty -m Second\n"
        )
        end = "\nchmod 755 deep; git add -A; git commit -qm End; git status; git log -p; cd nested && git status"
        whole = (
            f"{start}mkdir -p .git/objects/info; : > .git/objects/info/alternates; common=.git\n{script}{end}"
        )
        subprocess.run(
            ["sh", "-c", whole, "sh", str(canary)],
            cwd=place,
            env=environment,
            capture_output=True,
            timeout=60,
        )
        if canary.exists():
            sprung.add(trap)
        subprocess.run(["rm", "-rf", str(tmp_path / "home")], check=True)
    assert sprung == {"programs", "files"}, "the other traps move refs and files"


@LOCAL
def test_hooks_reach_no_neighbours_sandbox(sandbox_type: SandboxType, tmp_path: Path, canary: Path) -> None:
    hook = "#!/bin/sh\ntouch %s; git update-ref refs/heads/main HEAD; echo marked >> marked-by-neighbour; exit 0\n"
    plant = f"printf '{hook}' {canary} > $common/hooks/pre-commit; chmod 755 $common/hooks/pre-commit"
    first = local_order(
        tmp_path,
        f"agent: run common=$(git rev-parse --git-common-dir); {plant}".replace("\n", "\\n"),
        sandbox_type=sandbox_type,
    )
    with running_engine():
        finished(first)
        second = local_order(tmp_path, "agent: commit own.txt", sandbox_type=sandbox_type)
        finished(second)
    assert (first.status, second.status) == ("completed", "completed")
    assert not canary.exists()
    remote = branches(tmp_path / "remote.git")
    assert remote[second.git_branch_name] == second.head_sha == inspected(second)[-1]
    assert set(remote) == {"main", first.git_branch_name, second.git_branch_name}
    delivered = git("ls-tree", "--name-only", str(second.head_sha), folder=tmp_path / "remote.git")
    assert "marked-by-neighbour" not in delivered.split()


def test_an_agent_sees_nothing_of_the_server(
    tmp_path: Path, canary: Path, engine_settings: LazySettings
) -> None:
    """From inside a real step: environment, processes, data folder, database, other orders' folders, /tmp."""
    engine_settings.WORKORDERS_AGENT_PROVIDER_VARIABLES = {}
    neighbour = tmp_path / "data" / "sandboxes" / "git-branch-wo-neighbor" / "secret.txt"
    home = tmp_path / "data" / "homes" / "git-branch-wo-neighbor" / "secret.txt"
    for path in (neighbour, home):
        path.parent.mkdir(parents=True)
        path.write_text("NEIGHBOURS-SECRET")
    looks = [
        "env",
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'",
        "echo PROCESSES $(ls -d /proc/[0-9]* | wc -l)",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        f"cd {tmp_path}/data; ls . sandboxes homes mirrors; ls -a {tmp_path} /tmp",
        f"cat {neighbour} {home} {tmp_path}/data/workorders.sqlite3",
        "cat /etc/shadow /proc/1/root/etc/shadow /root/.bash_history",
        "mount -t proc proc /mnt; unshare -r true; cat /proc/sys/kernel/core_pattern",
    ]
    script = "\n".join(f"({look}) >> look.txt 2>&1" for look in looks)
    encoded = base64.b64encode(script.encode()).decode()
    order = local_order(
        tmp_path, f"agent: run echo {encoded} | base64 -d | sh; git add look.txt; git commit -qm Look"
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    seen = git("show", f"{order.head_sha}:look.txt", folder=tmp_path / "remote.git")
    for secret in (
        "NEIGHBOURS-SECRET",
        "WORKORDERS_SECRET_KEY",
        "for-tests-only",
        "SQLite format",
        "root:",
    ):
        assert secret not in seen.replace(str(tmp_path), ""), secret
    assert "WORKORDERS_AGENT_WORK_ORDER_ID" in seen, "it did look"
    assert int(seen.partition("PROCESSES ")[2].split()[0]) < 12
    assert "wo-neighbor" not in seen.replace(str(neighbour), "").replace(str(home), "")
