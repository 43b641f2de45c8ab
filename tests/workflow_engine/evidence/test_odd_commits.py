"""Commits that are odd and possible: taken, or refused once in words; nothing of them is a mistake of the server's."""

import tempfile
from pathlib import Path

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxes.errors import BundleRejected
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.factories import make_order
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.sandboxes.trusted_git.history import raw_commit
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.models import AgentWorkOrder, WorkOrderCommit
from workorders.text.redaction import Redactor
from workorders.workflow_engine.outward.push_gate import PushGate
from workorders.workflow_engine.planning.phase_tracker import StepSpan, track
from workorders.workflow_engine.record.git_cache import store_git_cache

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
RAW = "agent[#1]: run "


def making(header: str, message: str, *, attempt: str = "[#1]") -> str:
    """The agent makes a commit object of these bytes (printf's escapes) on top of its branch."""
    tree = "mkdir -p specs; echo x > specs/p.md; git add -A; t=$(git write-tree); p=$(git rev-parse HEAD)"
    text = f"printf 'tree %s\\nparent %s\\n{header}\\n\\n{message}' $t $p"
    write = f"c=$({text} | git hash-object -t commit -w --stdin --literally)"
    return f"agent{attempt}: run {tree}; {write}; git update-ref HEAD $c; git reset -q --hard"


def who(date: str = "1700000000 +0000", name: str = "A <a@example.com>") -> str:
    return f"author {name} {date}\\ncommitter {name} {date}"


TAKEN = {
    "year 10000": (who("253402300800 +0000"), "Far"),
    "the last second git knows": (who("9223372036854775807 +0000"), "Farther"),
    "a zone of 99 hours": (who("1700000000 +9999"), "Zone"),
    "before its own epoch": (who("5 -9999"), "Early"),
    "the zone -0000": (who("0 -0000"), "Zero"),
    "no name": (who(name=" <a@example.com>"), "Nameless"),
    "no e-mail": (who(name="A <>"), "Unreachable"),
    "a signature": (
        who() + "\\ngpgsig -----BEGIN PGP SIGNATURE-----\\n \\n x\\n -----END PGP SIGNATURE-----",
        "Signed",
    ),
    "a merged tag": (
        who() + "\\nmergetag object 1234567890123456789012345678901234567890\\n type commit",
        "Tagged",
    ),
    "Latin-1": (who() + "\\nencoding ISO-8859-1", "Caf\\351"),
    "an encoding that is none": (who() + "\\nencoding nonsense", "Caf\\351"),
    "an unknown header": (who() + "\\nHG:extra x", "Converted"),
    "carriage returns": (who(), "One\\r\\n\\r\\nTwo\\r\\n"),
    "no message": (who(), ""),
    "white space for a message": (who(), "\\n \\t\\n\\n"),
    "control characters": (who(), "\\033[31mred\\001\\013\\f\\b\\n"),
    "a divider": (who(), "Subject\\n\\nBefore\\n---\\nAfter\\n\\nWork-Order: x\\n"),
}
REFUSED = {
    "a date beyond all": (
        who("99999999999999999999999 +0000"),
        "M",
        "the date in its author or committer line is beyond",
    ),
    "a negative date": (who("-5 +0000"), "M", "the date in its author or committer line is beyond"),
    "a zone that is none": (who("5 +99999"), "M", "time zone"),
    "no name and no space": (who(name="<a@example.com>").replace("author ", "author "), "M", "holds no name"),
    "no author": ("committer A <a@example.com> 5 +0000", "M", "names no author"),
    "two authors": ("author A <a@e> 5 +0000\\n" + who(), "M", "more than one author"),
    "NUL in the message": (who(), "M\\000x", "NUL byte"),
    "NUL in the header": (who() + "\\nx \\000", "M", "NUL byte"),
    "a date that starts with zero": (who("05 +0000"), "M", "starts with a zero"),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_git_accepts_is_taken(what: str, tmp_path: Path) -> None:
    order = local_order(tmp_path, making(*TAKEN[what]))
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert starts(tmp_path) == ["planning"]
    assert order.git_commit_count == order.git_commits.count() == 2
    assert branches(tmp_path / "remote.git")[order.git_branch_name] == order.head_sha


@pytest.mark.parametrize("what", REFUSED)
def test_what_git_refuses_is_said_of_its_commit_and_done_again(what: str, tmp_path: Path) -> None:
    header, message, words = REFUSED[what]
    order = local_order(tmp_path, making(header, message))
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    first, second, *_ = order.phase_runs.order_by("sequence")
    assert (first.error_category, second.status) == ("commits_malformed", "succeeded")
    assert first.error_message.startswith("git does not accept commit ")
    assert words in first.error_message
    assert starts(tmp_path) == ["planning", "planning"]


def test_an_agent_that_insists_is_run_twice_and_no_more(tmp_path: Path) -> None:
    order = local_order(tmp_path, making(who("-5 +0000"), "M", attempt=""))
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "commits_malformed")
    assert len(starts(tmp_path)) == 2


# --- trailers ---

MESSAGES = {
    "a divider": "Subject\n\nBefore\n\n---\n\nAfter",
    "a divider at the end": "Subject\n\nText\n---",
    "a patch": "Subject\n\nText\n---\n a.txt | 1 +\n 1 file changed\n\ndiff --git a/a.txt b/a.txt\n",
    "signed off": "Subject\n\nSigned-off-by: A <a@example.com>",
    "others' trailers": "Subject\n\nCo-authored-by: A <a@example.com>\nReviewed-by: B <b@example.com>",
    "its own trailers already": "Subject\n\nWork-Order: {order}",
    "a subject like a trailer": "Fix: it",
    "many lines and a colon": "Subject\n\nNote: this is prose.\nAnd more prose that is no trailer.\nAnd more.",
    "one very long line": "x" * 100_000,
}


@pytest.mark.parametrize("how", MESSAGES)
def test_trailers_are_where_git_reads_them(how: str, tmp_path: Path) -> None:
    order = local_order(tmp_path)
    message = tmp_path / "message"
    message.write_text(MESSAGES[how].replace("{order}", str(order)))
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        initial_prompt=f"{order.initial_prompt}\nagent: run echo x > x.txt; git add -A; git commit -qF {message}"
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    remote = tmp_path / "remote.git"
    sha = git("rev-list", "--max-count=1", "--skip=1", order.git_branch_name, folder=remote)
    read = git("log", "-1", "--format=%(trailers:only,unfold)", sha, folder=remote).splitlines()
    assert f"Work-Order: {order}" in read
    assert "Work-Order-Phase: planning" in read
    body = git("log", "-1", "--format=%B", sha, folder=remote)
    assert body.count("Work-Order-Phase:") == body.count("Work-Order: ") == 1
    if "---" in MESSAGES[how]:
        assert body.index("---") < body.index("Work-Order-Phase"), "nothing is put into the middle"


def test_2500_commits_are_counted(tmp_path: Path) -> None:
    stream = (
        "b=$(git symbolic-ref HEAD); p=$(git rev-parse HEAD); { i=0; while [ $i -lt 2500 ]; do i=$((i+1)); "
        "printf 'commit %s\\ncommitter A <a@e> %d +0000\\ndata 2\\nc\\n' $b $((1700000000+i)); [ $i -gt "
        "1 ] || printf 'from %s\\n' $p; "
        "printf 'M 100644 inline f%d\\ndata 2\\nx\\n\\n' $((i % 7)); done; "
        "} | git fast-import --quiet --force; git reset -q --hard"
    )
    order = local_order(tmp_path, f"agent: run {stream}")
    with running_engine():
        finished(order, 60)
    assert order.status == "completed", order.error_message
    assert order.git_commit_count == 2501
    assert order.phase_runs.get(kind="phase").commits == 2501
    assert (
        git("rev-list", "--count", f"main..{order.git_branch_name}", folder=tmp_path / "remote.git") == "2501"
    )


# --- any commit ---

DATES = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.integers(0, 2**33).map(str),
    st.sampled_from(["", "0", "-0", "00", "9223372036854775807", "9223372036854775808", "253402300799", "x"]),
)
ZONES = st.one_of(
    st.sampled_from(["+0000", "-0000", "+9999", "-9999", "+2400", "", "Z"]), st.from_regex(r"\A[+-]\d{4}\Z")
)
BYTES = st.binary(max_size=60).filter(lambda data: b"\n" not in data)
NAMES = st.one_of(st.just(b"A <a@example.com>"), BYTES)
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"encoding UTF-7",
                b"encoding UTF-16",
                b"encoding x",
                b"gpgsig a\n b",
                b"mergetag object x\n tag",
            ]
        ),
        BYTES,
    ),
    max_size=3,
)
MESSAGE = st.one_of(
    st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    create_bare_repository(folder / "remote.git")
    return folder / "remote.git"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    date=DATES,
    zone=ZONES,
    name=NAMES,
    headers=HEADERS,
    message=MESSAGE,
    parents=st.sampled_from(["base", "none", "twice"]),
)
def test_any_commit_object_is_taken_or_refused_in_words(
    date: str, zone: str, name: bytes, headers: list[bytes], message: bytes, parents: str, base: Path
) -> None:
    trusted = TrustedGit(GitSettings(allow_local=True))
    start = branches(base)["main"]
    tree = git("rev-parse", f"{start}^{{tree}}", folder=base)
    ident = name + f" {date} {zone}".encode()
    lines = [
        f"tree {tree}".encode(),
        *([f"parent {start}".encode()] * {"base": 1, "none": 0, "twice": 2}[parents]),
    ]
    lines += [b"author " + ident, b"committer " + ident, *headers]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        mirror = RepositoryMirror(data, "local-odd", trusted)
        mirror.refresh(RemoteRepository(str(base)), base_branch=None, git_branch_name="work")
        place = data / "place.git"
        git("clone", "--quiet", "--bare", "--shared", str(mirror.path), str(place))
        head = raw_commit(place, b"\n".join(lines) + b"\n\n" + message)
        (place / "refs" / "heads" / "work").write_text(f"{head}\n")
        bundle = data / "out.bundle"
        try:
            git("bundle", "create", "--quiet", str(bundle), "refs/heads/work", f"^{start}", folder=place)
        except AssertionError:
            return  # git itself cannot read it: it never leaves its sandbox
        try:
            head = mirror.accept_bundle(
                bundle,
                git_branch_name="work",
                descends_from=start,
                keep_as="refs/work-orders/x",
                may_be_rewritten=True,
            )
        except BundleRejected as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert "git does not accept" in refused or "cannot" in refused
            return
        kept = mirror.kept_on_top(
            head, start_sha=start, keep_as="refs/work-orders/x", message=lambda _head: "chore: join"
        )
        commits = trusted.commits(mirror.path, head=kept, base=start)
        changes = trusted.changes(mirror.path, base=start, head=kept)
        span = StepSpan(AgentWorkflowPhase.PLANNING, start, kept)
        progress = track(commits, changes, agent_work_order_id="wo-00000001", spans=[span])
        gate = PushGate(trusted, mirror.path, redactor=Redactor({}))
        gate.inspect(head=kept, known=[start], base_sha=start, patterns=(), commits=commits)
        order = make_order()
        store_git_cache(order.pk, progress, patches=())
        assert WorkOrderCommit.objects.filter(agent_work_order=order).count() == len(commits) > 0
        assert all(commit.subject == commit.message.split("\n")[0] for commit in commits)
        order.delete()


def test_a_very_long_message_is_bounded(tmp_path: Path, engine_settings: LazySettings) -> None:
    long = "head -c 30000000 /dev/zero | tr '\\0' 'x' > ../m; git commit -q --allow-empty -F ../m; rm ../m"
    order = local_order(tmp_path, f"agent[#1]: run {long}")
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    first = order.phase_runs.order_by("sequence").first()
    assert first is not None
    assert first.error_category == "push_too_large"
    assert "messages and paths" in first.error_message
