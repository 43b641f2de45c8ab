"""What only the E2B backend promises: faults of the service, what it is asked for, secrets, life and death."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxes.base import AgentSandbox, SandboxCommand, SandboxSpec, SweepScope
from sandboxes.errors import SandboxError, SandboxUnavailable, SandboxUnreachable, SandboxVanished
from sandboxes.findings import Mark
from sandboxes.kinds import SandboxType
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import E2BSettings, ProviderSettings
from sandboxes.registry import check_providers, create_sandbox, sweep_orphans
from sandboxes.remote import e2b
from sandboxes.remote import sandbox as remote
from tests.contracts.services import stand_in_settings
from tests.fakes.e2b import FakeE2B
from tests.sandboxes.trusted_git.history import History
from tests.support import require_program


@pytest.fixture
def service() -> Iterator[FakeE2B]:
    require_program("bwrap")
    with FakeE2B() as running:
        yield running


@pytest.fixture
def spec(tmp_path: Path, service: FakeE2B) -> SandboxSpec:
    history = History(tmp_path / "mirrors" / "shop.git")
    for number in range(25):
        history.commit(f"c{number}", f"Commit {number}\n", after=f"c{number - 1}" if number else ())
    shas = history.write()
    return SandboxSpec(
        sandbox_identifier="e2b-wo-00000001",
        repository_key="shop",
        git_branch_name="agent/x",
        base_branch="main",
        base_sha=shas["c24"],
        start_sha=shas["c24"],
        mirror_path=tmp_path / "mirrors" / "shop.git",
        data_dir=tmp_path / "data",
        trailers=("Work-Order: wo-00000001",),
        isolation=IsolationSettings("none"),
        providers=stand_in_settings(service),
    )


def ready(spec: SandboxSpec) -> AgentSandbox:
    sandbox = create_sandbox(SandboxType.E2B, spec)
    sandbox.setup()
    return sandbox


def shell(script: str, seconds: float = 60) -> SandboxCommand:
    return SandboxCommand(("bash", "-c", script), timeout_seconds=seconds, secrets={"MODEL_KEY": "sk-canary"})


def test_what_the_service_is_asked_for_and_what_its_logs_would_hold(
    service: FakeE2B, spec: SandboxSpec
) -> None:
    sandbox = ready(spec)
    (made,) = service.sandboxes.values()
    assert made.created["templateID"] == "work-orders"
    assert made.created["network"] == {
        "allowOut": ["localhost"],
        "denyOut": ["0.0.0.0/0"],
        "dnsServers": [],
        "allowPublicTraffic": False,
    }
    assert made.metadata["workorders-order"] == "wo-00000001"
    assert made.created["timeout"] == e2b.LIFE_SECONDS
    result = sandbox.execute_command(
        shell('echo "$MODEL_KEY"; cat /etc/hosts; git rev-list --count HEAD; ls -a ~/.. ')
    )
    said = result.stdout.decode()
    assert said.startswith("sk-canary\n127.0.0.1 localhost\n127.0.0.1 localhost\n20\n"), "a shallow history"
    left = sandbox.execute_command(
        shell("find ~/../.work-orders -name secrets; ls ~/../.work-orders/jobs | wc -l")
    )
    assert left.stdout == b"1\n", "read once, then gone; and nothing of earlier commands is kept"
    assert {item.path.partition("?")[0] for item in service.seen if b"sk-canary" in item.body} == {"/files"}


def test_a_dropped_stream_loses_nothing(service: FakeE2B, spec: SandboxSpec) -> None:
    sandbox = ready(spec)
    got: list[bytes] = []

    def receive(chunk: bytes) -> None:
        got.append(chunk)
        if len(got) % 5 == 1:
            service.drop_streams()

    script = "for i in {1..30}; do head -c 3000 /dev/zero | tr '\\0' x; echo $i; sleep 0.03; done"
    assert sandbox.execute_command(shell(script), on_stdout=receive).ok
    assert service.streams_dropped >= 2
    numbers = re.findall(r"x(\d+)\n", b"".join(got).decode())
    assert numbers == [str(number) for number in range(1, 31)]


def test_a_machine_that_vanishes_is_a_named_failure_and_the_next_attempt_starts_anew(
    service: FakeE2B, spec: SandboxSpec
) -> None:
    sandbox = ready(spec)
    (first,) = service.sandboxes
    with ThreadPoolExecutor(1) as pool:
        going = threading.Event()
        running = pool.submit(
            sandbox.execute_command, shell("echo here; sleep 60"), on_stdout=lambda _chunk: going.set()
        )
        assert going.wait(30)
        service.vanish(first)
        with pytest.raises(SandboxVanished) as caught:
            running.result(20)
    assert caught.value.retryable
    following = create_sandbox(SandboxType.E2B, spec)
    assert not following.attach(first)
    following.setup()
    assert following.execute_command(shell("git status --porcelain")).stdout == b""


def test_what_an_attempt_left_is_gone_with_the_next_and_others_stay(
    service: FakeE2B, spec: SandboxSpec
) -> None:
    ready(spec)
    ready(replace(spec, providers=replace(spec.providers, owner="another installation")))
    (first, foreign) = service.sandboxes
    other = replace(spec, sandbox_identifier="e2b-wo-00000002")
    ready(spec)
    neighbour = ready(other)
    assert first in service.killed
    assert len(service.sandboxes) == 3
    scope = SweepScope(
        data_dir=spec.data_dir,
        isolation=spec.isolation,
        providers=spec.providers,
        active_identifiers=lambda: frozenset({other.sandbox_identifier}),
        identifiers_at_work_here=frozenset,
        may_remove=lambda _identifier: True,
    )
    assert "of e2b-wo-00000001" in "".join(sweep_orphans(replace(scope, dry_run=True)))
    assert len(service.sandboxes) == 3
    sweep_orphans(scope)
    assert set(service.sandboxes) == {foreign, neighbour.handle}


def test_the_next_step_goes_on_from_another_host(
    service: FakeE2B, spec: SandboxSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by its name alone; and alive for as long as a step runs, no longer."""
    monkeypatch.setattr(e2b, "LIFE_SECONDS", 3)
    monkeypatch.setattr(remote, "KEEP_ALIVE_SECONDS", 0.5)
    sandbox = ready(spec)
    assert sandbox.execute_command(
        shell("mkdir -p ~/.claude/projects/x; touch ~/.claude/projects/x/s-1.jsonl; sleep 4")
    ).ok
    sandbox.mark_idle(spec.start_sha)
    assert sandbox.holds_session("s-1")
    elsewhere = create_sandbox(SandboxType.E2B, replace(spec, data_dir=tmp_path / "another host"))
    assert not elsewhere.holds_session("s-1")
    assert elsewhere.attach(sandbox.handle)
    assert elsewhere.execute_command(shell("ls ~/.claude/projects/x")).stdout == b"s-1.jsonl\n"
    (made,) = service.sandboxes.values()
    made.expires_at = time.monotonic() + 0.2
    deadline = time.monotonic() + 10
    while service.sandboxes and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not service.sandboxes


@pytest.mark.parametrize(
    ("status", "message", "error", "word"),
    [
        (401, "no such key", SandboxUnavailable, "E2B_API_KEY"),
        (404, "template 'work-orders' not found", SandboxUnavailable, "deploy/e2b"),
        (500, "an internal error", SandboxError, "dashboard"),
    ],
)
def test_refusals_say_what_to_do(
    service: FakeE2B, spec: SandboxSpec, status: int, message: str, error: type[SandboxError], word: str
) -> None:
    sandbox = create_sandbox(SandboxType.E2B, spec)
    sandbox.cleanup()
    service.refuse = [(status, message)]
    with pytest.raises(error) as caught:
        sandbox.setup()
    assert word in caught.value.advice


def test_doctors_questions(service: FakeE2B, spec: SandboxSpec) -> None:
    good = check_providers(spec.providers)
    assert [finding.mark for finding in good] == [Mark.OK]
    absent = replace(spec.providers, e2b=replace(spec.providers.e2b, template="nowhere"))
    assert [finding.mark for finding in check_providers(absent)] == [Mark.OK, Mark.FAILED]
    wrong = replace(spec.providers, e2b=replace(spec.providers.e2b, api_key="e2b_wrong"))
    assert "E2B_API_KEY" in check_providers(wrong)[0].hint
    gone = ProviderSettings(e2b=E2BSettings("e2b_key", api_url="http://127.0.0.1:9"))
    (finding,) = check_providers(gone)
    assert finding.mark is Mark.FAILED
    assert check_providers(ProviderSettings()) == []
    with pytest.raises(SandboxUnreachable):
        e2b.check(gone)


def test_no_sdk_is_imported_where_none_is_configured() -> None:
    """Importing is what web, workers, recovery and doctor do, without an SDK's seconds."""
    script = """
import os, sys
os.environ.update(WORKORDERS_DEBUG="true", DJANGO_SETTINGS_MODULE="config.settings", WORKORDERS_DATA_DIR=sys.argv[1])
import django; django.setup()
import config.urls, config.wsgi, workorders.tasks, workorders.wiring, workorders.management.doctor.diagnosis
from workorders.management.doctor import diagnosis
diagnosis.sandbox_types()
found = {name.partition(".")[0] for name in sys.modules} & {"e2b", "dagger", "gql", "connectrpc", "opentelemetry"}
sys.exit(f"imported {found}" if found else 0)
"""
    root = Path(__file__).parents[3]
    argv = [sys.executable, "-c", script, "/nonexistent"]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
