"""Submodules and Git LFS in the real engine; a stand-in of GitHub writes down which credential came where."""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from github_app.models import Repository
from sandboxes.trusted_git.git import TrustedGit
from tests.factories import make_order, make_repository
from tests.fakes.git_http import FakeGitServer, branches, create_bare_repository, git
from tests.fakes.github import FakeGitHub
from tests.fakes.lfs import pointer
from tests.support import require_program
from tests.workflow_engine.engine import finished, local_order, running_engine
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.handlers import agent as agent_step
from workorders.workflow_engine.handlers.prompts import RequestTexts, compose_prompt

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
TOKEN = "ghp_extrasTestToken0123456789abcdefghij"
PICTURE = b"\x89PNG\r\n\x1a\n\x00" + bytes(range(256)) * 40
ATTRIBUTES = "*.png filter=lfs diff=lfs merge=lfs -text\n"


class World:
    """acme/widgets on the stand-in, with an order's whole way; each repository has a `secret.txt` of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.git = stack.enter_context(FakeGitServer(folder / "remotes"))
        self.elsewhere = stack.enter_context(FakeGitServer(folder / "elsewhere"))
        self.github = stack.enter_context(FakeGitHub(branch_sha=self.git.branch_sha))
        for server in (self.git, self.elsewhere):
            server.add_token(TOKEN)
        self.github.add_token(TOKEN)
        self.github.add_repository("acme", "widgets")
        self.links: dict[str, str] = {}
        self.files: dict[str, str] = {"README.md": "# Widgets\n"}
        self.modules = ""
        self.row = connected("acme/widgets")

    def library(self, owner: str, name: str, *, public: bool = True) -> str:
        path = self.git.create_repository(owner, name, {"secret.txt": f"of {owner}/{name}\n"})
        if public:
            self.git.make_public(owner, name)
        return branches(path)["main"]

    def submodule(self, path: str, address: str, sha: str, *, name: str = "") -> None:
        self.modules += f'[submodule "{name or path}"]\n\tpath = {path}\n\turl = {address}\n'
        self.links[path] = sha

    def publish(self) -> Path:
        """The repository as it is described by now."""
        if self.modules:
            self.files[".gitmodules"] = self.modules
        bare = self.git.create_repository("acme", "widgets", self.files)
        if self.links:
            stream = b"commit refs/heads/main\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
            stream += b"from refs/heads/main^0\n"
            for path, sha in self.links.items():
                stream += f"M 160000 {sha} {path}\n".encode()
            git("fast-import", "--quiet", folder=bare, stdin=stream + b"\n")
        return bare

    def run(self, request: str, seconds: float = 60, **values: Any) -> AgentWorkOrder:
        fields = {"workflow_type": AgentWorkflowType.PLAN, **values}
        order = make_order(repository="acme/widgets", initial_prompt=request, **fields)
        with running_engine():
            finished(order, seconds)
        order.refresh_from_db()
        return order

    @property
    def credentials(self) -> dict[str, set[str]]:
        """Repository → the tokens it was shown; git asks without one first."""
        found: dict[str, set[str]] = {}
        for request in (*self.git.requests, *self.elsewhere.requests):
            name = request.path.partition(".git/")[0].lstrip("/")
            found.setdefault(name, set()).update({request.token} - {""})
        return found


def connected(name: str) -> Repository:
    return make_repository(
        name, default_branch="main", is_accessible=True, can_push=True, access_verified_at=timezone.now()
    )


@pytest.fixture
def world(tmp_path: Path, settings: Any) -> Iterator[World]:
    require_program("gh")
    with ExitStack() as stack:
        found = World(tmp_path, stack)
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        yield found


def seen_by_agent(folder: Path, *commands: str) -> str:
    """A line of a request: what these print, into a file outside."""
    script = "; ".join(commands)
    return f"agent: run ( {script} ) > {folder / 'seen'} 2>&1"


def said(world: World) -> str:
    return (world.folder / "seen").read_text()


def told(order: AgentWorkOrder, event: str) -> str:
    return " ".join(str(row.fields) for row in order.log_entries.filter(event=event))


LOOK = "find libs -not -path '*/.git*' -type f -exec cat {} +; git status --porcelain; git submodule status"


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_a_public_submodule_is_there_and_was_fetched_without_credential(
    world: World, sandbox_type: str
) -> None:
    sha = world.library("acme", "lib")
    world.submodule("libs/a", "https://github.com/acme/lib.git", sha)
    bare = world.publish()
    order = world.run(seen_by_agent(world.folder, LOOK), sandbox_type=sandbox_type)
    assert order.status == "completed", order.error_message
    assert said(world).startswith(f"of acme/lib\n {sha} libs/a")
    assert world.credentials == {"acme/widgets": {TOKEN}, "acme/lib": set()}
    assert sha[:12] in told(order, "git_submodules_fetched")
    assert not told(order, "git_submodules_left_out")
    changed = git("diff", "--name-only", "main", order.git_branch_name, folder=bare)
    assert changed.split() == [f"specs/plan-{order}.md"]


def test_addresses_of_the_same_repository(world: World) -> None:
    sha = world.library("acme", "lib")
    (world.git.root / "ACME").symlink_to(world.git.root / "acme")
    world.git.make_public("ACME", "lib")
    for number, address in enumerate(("../lib.git", "../../acme/lib", "https://github.com/ACME/lib/")):
        world.submodule(f"libs/{number}", address, sha)
    world.publish()
    world.run(seen_by_agent(world.folder, LOOK))
    assert said(world).startswith("of acme/lib\n" * 3)


class TestAPrivateSubmodule:
    def test_is_left_out_and_said_and_never_sees_the_credential(self, world: World) -> None:
        sha = world.library("acme", "secrets", public=False)
        world.submodule("libs/a", "https://github.com/acme/secrets.git", sha)
        world.publish()
        prompt = world.folder / "prompt"
        order = world.run(seen_by_agent(world.folder, LOOK) + "\nagent: say hello")
        assert order.status == "completed", order.error_message
        assert said(world) == f"-{sha} libs/a\n"
        assert world.credentials["acme/secrets"] == set()
        words = told(order, "git_submodules_left_out")
        assert "submodule libs/a (it is not public" in words
        assert not prompt.exists()

    def test_comes_where_it_is_connected_and_listed(self, world: World) -> None:
        sha = world.library("acme", "secrets", public=False)
        world.submodule("libs/a", "https://github.com/acme/secrets.git", sha)
        world.publish()
        connected("acme/Secrets")
        Repository.objects.filter(pk=world.row.pk).update(submodules_allowed="acme/secrets")
        order = world.run(seen_by_agent(world.folder, LOOK))
        assert said(world).startswith("of acme/secrets\n"), told(order, "git_submodules_left_out")
        assert world.credentials["acme/secrets"] == {TOKEN}

    def test_needs_both(self, world: World) -> None:
        names = ("listed", "connected", "inaccessible")
        for name in names:
            world.submodule(f"libs/{name}", f"../{name}.git", world.library("acme", name, public=False))
        world.publish()
        connected("acme/connected")
        row = connected("acme/inaccessible")
        Repository.objects.filter(pk=row.pk).update(is_accessible=False, can_push=False)
        allowed = "acme/listed\nacme/inaccessible"
        Repository.objects.filter(pk=world.row.pk).update(submodules_allowed=allowed)
        order = world.run(seen_by_agent(world.folder, "cat libs/*/secret.txt"))
        assert "of acme" not in said(world)
        assert all(world.credentials[f"acme/{name}"] == set() for name in names)
        assert told(order, "git_submodules_left_out").count("it is not public") == 3

    def test_what_another_order_fetched_with_the_credential_is_no_way_in(self, world: World) -> None:
        """It has the mirror of that repository on its disk by then."""
        sha = world.library("acme", "secrets", public=False)
        world.submodule("libs/a", "https://github.com/acme/secrets.git", sha)
        world.publish()
        connected("acme/secrets")
        Repository.objects.filter(pk=world.row.pk).update(submodules_allowed="acme/secrets")
        world.run(seen_by_agent(world.folder, LOOK))
        assert said(world).startswith("of acme/secrets\n")
        Repository.objects.filter(pk=world.row.pk).update(submodules_allowed="")
        objects = f"find {world.folder / 'data' / 'mirrors' / '_submodules'} -name signed-in"
        order = world.run(seen_by_agent(world.folder, LOOK, f"git cat-file -t {sha}", objects))
        assert said(world).startswith(f"-{sha} libs/a\n")
        assert "git_submodules_left_out" in {row.event for row in order.log_entries.all()}


def test_addresses_that_are_refused_reach_nobody(world: World) -> None:
    sha = world.library("acme", "lib")
    refused = (
        *("git@github.com:acme/lib.git", "ext::sh -c 'touch PWNED'", "file:///etc", "-u=touch PWNED"),
        *("https://evil.example/acme/lib.git", "https://x:y@github.com/acme/lib", "../../../evil/acme/lib"),
    )
    for number, address in enumerate(refused):
        world.submodule(f"libs/{number}", f'"{address}"', sha)
    world.submodule("libs/good", "../lib.git", sha)
    world.publish()
    order = world.run(seen_by_agent(world.folder, "cat libs/*/secret.txt"))
    assert order.status == "completed", order.error_message
    assert said(world) == "of acme/lib\n"
    words = told(order, "git_submodules_left_out")
    assert all(f"submodule libs/{number} (its " in words for number in range(len(refused)))
    assert set(world.credentials) == {"acme/widgets", "acme/lib"}
    assert not list(world.folder.rglob("PWNED"))


def test_a_redirect_is_not_followed(world: World) -> None:
    sha = world.library("acme", "lib")
    world.elsewhere.create_repository("acme", "lib")
    world.elsewhere.make_public("acme", "lib")
    world.submodule("libs/a", "https://github.com/acme/lib.git", sha)
    world.git.redirect("acme", "lib", world.elsewhere.base_url)
    world.publish()
    order = world.run(seen_by_agent(world.folder, LOOK))
    assert "could not be fetched" in told(order, "git_submodules_left_out")
    assert world.elsewhere.requests == []


def test_odd_names_and_paths_cost_only_themselves(world: World) -> None:
    sha = world.library("acme", "lib")
    lib = "https://github.com/acme/lib.git"
    world.submodule("libs/good", lib, sha, name="vendor/good name")
    world.submodule("libs/up", lib, sha, name="../../hooks")
    world.submodule("libs/in", lib, sha, name="vendor/good name/objects")
    world.submodule("libs/gone", lib, "1" * 40)
    world.submodule("libs/twice", lib, sha)
    world.modules += f'[submodule "again"]\n\tpath = libs/twice\n\turl = {lib}\n'
    world.modules += f'[submodule "nowhere"]\n\tpath = README.md\n\turl = {lib}\n'
    world.links["libs/unnamed"] = "2" * 40
    world.publish()
    order = world.run(
        seen_by_agent(world.folder, "cat libs/*/secret.txt; git status --porcelain 2> /dev/null")
    )
    assert said(world) == "of acme/lib\n"
    words = told(order, "git_submodules_left_out")
    for path in ("libs/up", "libs/in", "libs/gone", "libs/twice", "libs/unnamed"):
        assert f"submodule {path} (" in words
    assert order.status == "completed"


def test_hundreds_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = world.library("acme", "lib")
    for number in range(300):
        world.submodule(f"libs/{number:03}", "https://github.com/acme/lib.git", sha)
    world.publish()
    order = world.run(seen_by_agent(world.folder, "ls -d libs/*/secret.txt | wc -l; git status --porcelain"))
    assert said(world) == "50\n"
    words = told(order, "git_submodules_left_out")
    assert "there are more than 50" in words
    assert "240 more" in words
    assert len(words) < 3000


def test_what_a_submodule_itself_would_need_is_said(world: World) -> None:
    library = world.git.create_repository("acme", "lib", {".gitattributes": ATTRIBUTES, "secret.txt": "x\n"})
    world.git.make_public("acme", "lib")
    stream = b"commit refs/heads/main\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
    stream += b"from refs/heads/main^0\n" + f"M 160000 {'1' * 40} inner\n".encode()
    git("fast-import", "--quiet", folder=library, stdin=stream)
    world.submodule("libs/a", "../lib.git", branches(library)["main"])
    world.publish()
    order = world.run(seen_by_agent(world.folder, "ls libs/a; git status --porcelain"))
    assert said(world) == "inner\nsecret.txt\n"
    words = told(order, "git_submodules_left_out")
    assert "submodules of the submodule libs/a (" in words
    assert "files of Git LFS in the submodule libs/a (" in words


def test_too_large_is_left_out(world: World, settings: Any) -> None:
    settings.WORKORDERS_SUBMODULES_MAX_BYTES = 50_000
    noise = sha256(b"x").digest()
    blob = b"".join(sha256(noise + bytes([n % 256, n // 256])).digest() for n in range(20_000))
    path = world.git.create_repository("acme", "lib", {"big": blob})
    world.git.make_public("acme", "lib")
    world.submodule("libs/a", "../lib", branches(path)["main"])
    world.publish()
    order = world.run(seen_by_agent(world.folder, LOOK))
    assert "too large" in told(order, "git_submodules_left_out")
    assert not list((world.folder / "data" / "mirrors").rglob("tmp_*"))


def test_the_repository_itself_as_submodule_has_its_credential(world: World) -> None:
    bare = world.git.create_repository("acme", "widgets", {"secret.txt": "of itself\n"})
    sha = branches(bare)["main"]
    world.files |= {"secret.txt": "of itself\n"}
    world.modules = '[submodule "self"]\n\tpath = libs/a\n\turl = ./../widgets.git\n'
    stream = b"commit refs/heads/main\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
    stream += b"from refs/heads/main^0\n" + f"M 160000 {sha} libs/a\n".encode()
    stream += f"M 100644 inline .gitmodules\ndata {len(world.modules)}\n{world.modules}\n".encode()
    git("fast-import", "--quiet", folder=bare, stdin=stream + b"\n")
    world.run(seen_by_agent(world.folder, LOOK))
    assert said(world).startswith("of itself\n")
    assert world.credentials == {"acme/widgets": {TOKEN}}


BUMP = "cd libs/a; echo x >> secret.txt; git commit -qam Inside; cd ../..; git commit -qam Bump"


def test_a_commit_made_inside_a_submodule_is_not_pushed(world: World) -> None:
    sha = world.library("acme", "lib")
    world.submodule("libs/a", "../lib.git", sha)
    bare = world.publish()
    order = world.run(f"agent[planning#1]: run {BUMP}")
    assert order.status == "completed", order.error_message
    [failed] = order.phase_runs.filter(error_category="submodule_commit_missing")
    assert "the submodule libs/a, is not in that submodule's repository" in failed.error_message
    assert git("rev-parse", f"{order.git_branch_name}:libs/a", folder=bare) == sha


def test_a_commit_that_the_submodule_has_is(world: World) -> None:
    sha = world.library("acme", "lib")
    world.submodule("libs/a", "../lib.git", sha)
    bare = world.publish()
    library = world.git.repository_path("acme", "lib")
    stream = b"commit refs/heads/main\ncommitter S <s@example.com> 1767225600 +0000\ndata 1\nx\n"
    stream += b"from refs/heads/main^0\n"
    git("fast-import", "--quiet", folder=library, stdin=stream)
    newer = branches(library)["main"]
    bump = f"git update-index --cacheinfo 160000,{newer},libs/a; git commit -qm Bump"
    order = world.run(f"agent: run {bump}; git -C libs/a checkout -q {sha}")
    assert git("rev-parse", f"{order.git_branch_name}:libs/a", folder=bare) in {newer, sha}
    assert not order.phase_runs.filter(error_category="submodule_commit_missing").exists()


def test_only_the_base_commits_word_counts(world: World) -> None:
    """A first step's agent names a private repository; the next step's place does not get it."""
    world.library("acme", "secrets", public=False)
    world.library("acme", "lib")
    world.publish()
    planted = (
        "agent[planning]: run "
        "git config -f .gitmodules submodule.x.path libs/x; "
        "git config -f .gitmodules submodule.x.url https://github.com/acme/lib.git; "
        f"git add .gitmodules; git update-index --add --cacheinfo 160000,{'1' * 40},libs/x; git commit -qm Plant"
    )
    Repository.objects.filter(pk=world.row.pk).update(protected_paths="")
    order = world.run(planted, workflow_type=AgentWorkflowType.PLAN_BUILD)
    assert order.phase_runs.count() >= 2
    assert set(world.credentials) == {"acme/widgets"}


# --- Git LFS ---

HASHES = "sha256sum < a.png; git status --porcelain"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


class TestLfs:
    @pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
    def test_contents_are_there_and_nothing_is_changed(self, world: World, sandbox_type: str) -> None:
        world.files |= {
            "img/.gitattributes": ATTRIBUTES,
            "img/a.png": world.git.lfs.add("acme/widgets", PICTURE),
        }
        bare = world.publish()
        order = world.run(
            seen_by_agent(world.folder, "cd img", HASHES) + "\nagent: run touch img/a.png; touch left.txt",
            sandbox_type=sandbox_type,
        )
        assert order.status == "completed", order.error_message
        assert said(world) == f"{digest(PICTURE)}  -\n"
        assert "'files': 1" in told(order, "git_lfs_objects_fetched")
        changed = git("diff", "--name-only", "main", order.git_branch_name, folder=bare)
        assert sorted(changed.split()) == ["left.txt", f"specs/plan-{order}.md"]
        assert world.credentials == {"acme/widgets": {TOKEN}}

    def test_what_the_agent_changes_is_uploaded_before_the_push(self, world: World) -> None:
        world.files |= {".gitattributes": ATTRIBUTES, "a.png": world.git.lfs.add("acme/widgets", PICTURE)}
        bare = world.publish()
        order = world.run("agent: run printf new > a.png; git commit -qam New; printf left > b.png")
        assert order.status == "completed", order.error_message
        assert git("show", f"{order.git_branch_name}:a.png", folder=bare) == pointer(b"new").strip()
        assert git("show", f"{order.git_branch_name}:b.png", folder=bare) == pointer(b"left").strip()
        held = world.git.lfs.contents["acme/widgets"]
        assert (held[digest(b"new")], held[digest(b"left")]) == (b"new", b"left")
        assert set(world.git.lfs.verified) == {digest(b"new"), digest(b"left")}
        pushed = [request.service for request in world.git.requests if request.method in {"PUT", "POST"}]
        assert pushed.index("lfs") < pushed.index("git-receive-pack")

    def test_a_pointer_to_nothing_is_not_pushed_and_the_agent_may_do_better(self, world: World) -> None:
        world.files |= {".gitattributes": ATTRIBUTES}
        bare = world.publish()
        fake = pointer(b"nowhere").replace("\n", "\\n")
        order = world.run(f"agent[planning#1]: run printf '{fake}' > a.png; git add -A; git commit -qm Lie")
        assert order.status == "completed", order.error_message
        [failed] = order.phase_runs.filter(error_category="lfs_content_missing")
        assert "'a.png'" in failed.error_message
        assert "a.png" not in git("log", "--name-only", order.git_branch_name, folder=bare)

    def test_a_secret_in_a_content_is_neither_uploaded_nor_pushed(self, world: World) -> None:
        world.files |= {".gitattributes": ATTRIBUTES}
        world.publish()
        token = "ghp_" + "a1B2c3" * 6
        halves = f"printf %s '{token[:9]}' > a.png; printf %s '{token[9:]}' >> a.png"
        order = world.run(f"agent: run {halves}; git add -A; git commit -qm New")
        assert (order.status, order.error_category) == ("failed", "secret_in_commits")
        assert "the content of 'a.png'" in (order.error_message or "")
        assert world.git.lfs.uploads == []
        assert world.git.branch_sha("acme", "widgets", order.git_branch_name) is None

    def test_an_upload_that_fails_is_tried_again_without_the_agent(self, world: World) -> None:
        world.files |= {".gitattributes": ATTRIBUTES}
        bare = world.publish()
        world.git.lfs.refuses_upload = 503
        starts = world.folder / "starts"
        order = world.run(
            f"agent: run echo x >> {starts}; printf new > a.png; git add -A; git commit -qm New"
        )
        assert order.status == "completed", order.error_message
        [failed] = order.phase_runs.filter(error_category="lfs_unavailable")
        assert "HTTP 503" in failed.error_message
        assert starts.read_text() == "x\n"
        assert git("show", f"{order.git_branch_name}:a.png", folder=bare) == pointer(b"new").strip()

    @pytest.mark.parametrize("how", ["href", "redirect", "garbled", "missing", "url", "too large", "off"])
    def test_what_does_not_come_is_a_pointer_and_said(self, world: World, how: str, settings: Any) -> None:
        lfs, reason = world.git.lfs, ""
        text = lfs.add("acme/widgets", PICTURE)
        world.elsewhere.lfs.add("acme/widgets", PICTURE)
        if how == "href":
            lfs.href_base, reason = world.elsewhere.base_url, "on another host, 127.0.0.1"
        elif how == "redirect":
            lfs.redirect, reason = (
                f"{world.elsewhere.base_url}/acme/widgets.git/info/lfs/objects/batch",
                "redirects",
            )
        elif how == "garbled":
            lfs.garbled, reason = PICTURE[::-1], "not what the pointer names"
        elif how == "missing":
            lfs.contents.clear()
            reason = "does not have them"
        elif how == "url":
            lfs.contents.clear()
            address = f"{world.elsewhere.base_url}/acme/widgets.git/info/lfs"
            world.files[".lfsconfig"] = f"[lfs]\n\turl = {address}\n"
            reason = "address in .lfsconfig"
        elif how == "too large":
            settings.WORKORDERS_LFS_MAX_BYTES, reason = 1000, "WORKORDERS_LFS_MAX_MB"
        else:
            settings.WORKORDERS_LFS_MAX_BYTES, reason = 0, "turns LFS off"
        world.files |= {".gitattributes": ATTRIBUTES, "a.png": text}
        bare = world.publish()
        order = world.run(seen_by_agent(world.folder, "cat a.png; git status --porcelain"))
        assert order.status == "completed", order.error_message
        assert said(world) == text
        assert reason in told(order, "git_lfs_objects_left_out")
        assert world.elsewhere.requests == []
        changed = git("diff", "--name-only", "main", order.git_branch_name, folder=bare)
        assert changed.split() == [f"specs/plan-{order}.md"]

    def test_a_server_that_hands_the_credential_on_is_not_obeyed(self, world: World) -> None:
        lfs = world.git.lfs
        text = lfs.add("acme/widgets", PICTURE)
        lfs.href_base = "http://user@" + world.git.base_url.removeprefix("http://")
        world.files |= {".gitattributes": ATTRIBUTES, "a.png": text}
        world.publish()
        order = world.run(seen_by_agent(world.folder, "cat a.png"))
        assert "not accepted" in told(order, "git_lfs_objects_left_out")

    def test_a_folder_of_this_machine_has_its_own(self, tmp_path: Path) -> None:
        oid = digest(PICTURE)
        files = {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE)}
        create_bare_repository(tmp_path / "remote.git", files)
        place = tmp_path / "remote.git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        place.parent.mkdir(parents=True)
        place.write_bytes(PICTURE)
        request = (
            seen_by_agent(tmp_path, HASHES)
            + "\nagent: run printf new > b.png; git add -A; git commit -qm New"
        )
        order = local_order(tmp_path, request)
        with running_engine():
            finished(order)
        assert order.status == "completed", order.error_message
        assert (tmp_path / "seen").read_text() == f"{oid}  -\n"
        new = digest(b"new")
        assert (place.parents[2] / new[:2] / new[2:4] / new).read_bytes() == b"new"


def test_the_agent_hears_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = world.library("acme", "secrets", public=False)
    world.submodule("libs/a", "https://github.com/acme/secrets.git", sha)
    world.files |= {".gitattributes": ATTRIBUTES, "a.png": pointer(PICTURE)}
    world.publish()
    heard: list[str] = []

    def listening(command: str, texts: RequestTexts) -> str:
        heard.append(compose_prompt(command, texts))
        return heard[-1]

    monkeypatch.setattr(agent_step, "compose_prompt", listening)
    world.run("agent: say hello", workflow_type=AgentWorkflowType.PLAN_BUILD)
    assert len(heard) == 2
    for prompt in heard:
        [line] = [line for line in prompt.splitlines() if line.startswith("Not fetched: ")]
        assert "submodule libs/a (it is not public" in line
        assert "1 file of Git LFS (the server does not have them)" in line


def test_an_ordinary_repository_is_looked_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    asked: list[tuple[str, ...]] = []
    run = TrustedGit.run

    def counted(self: TrustedGit, *arguments: str, **values: Any) -> Any:
        if arguments[:2] == ("ls-tree", "-r") or arguments[0] in {"cat-file", "config"}:
            asked.append(arguments)
        return run(self, *arguments, **values)

    monkeypatch.setattr(TrustedGit, "run", counted)
    world.run("agent: say hello", workflow_type=AgentWorkflowType.PLAN_BUILD)
    # One listing for what is fetched besides, one for what instructs an agent: neither again per phase.
    assert len([one for one in asked if one[0] == "ls-tree"]) == 2
    assert not [one for one in asked if one[0] == "config"]
    assert not (world.folder / "data" / "lfs").exists()
