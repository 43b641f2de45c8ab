"""A repository that is renamed or transferred while an order works on it, and another one that takes its name."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from github_app.models import Repository
from github_app.references import RepositoryReference
from github_app.repositories import GitHubRepositoryClient
from github_app.types import GitHubRepository
from tests.factories import make_order, make_repository
from tests.fakes.git_http import branches
from tests.workflow_engine.handlers.test_delivery import COMMENTS, TOKEN, World, cancel, fall_due, withdraw
from tests.workflow_engine.rows import expire
from workorders.domain.states import AgentWorkOrderStatus, PhaseRunStatus
from workorders.models import AgentWorkOrder
from workorders.repositories import rows as repository_rows
from workorders.services import work_orders as services
from workorders.workflow_engine.parts.engine import EngineParts

pytestmark = pytest.mark.django_db
Status = AgentWorkOrderStatus


class MovingWorld(World):
    """Things happen at the engine's named points, too."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.at: dict[str, Callable[[], object]] = {}

    def parts(self, crash_at: str = "") -> EngineParts:
        parts = super().parts(crash_at)
        before = parts.crash_point

        def reached(name: str, branch: str) -> None:
            before(name, branch)
            if happening := self.at.pop(name, None):
                happening()

        return replace(
            parts,
            crash_point=reached,  # type: ignore[arg-type]  # a function does
            repositories=GitHubRepositoryClient(self.gh),
        )

    def rename(self, owner: str = "acme", name: str = "gadgets", *, git_follows: bool = True) -> None:
        """`git_follows`: as GitHub's git does, until another repository takes the name."""
        old = self.git.repository_path(self.repository.owner, self.repository.name)
        new = self.git.repository_path(owner, name)
        new.parent.mkdir(exist_ok=True)
        if old != new:
            shutil.move(old, new)
        if git_follows and old != new:
            old.symlink_to(new)
        self.github.rename(self.repository, owner, name)
        self.bare = new

    def replace(self) -> Path:
        """Renamed, and another one takes the name at once, with an issue and a branch like ours."""
        self.rename(git_follows=False)
        self.impostor = self.github.add_repository("acme", "widgets", id=4711)
        self.github.add_issue(self.impostor, "Another thing")
        return self.git.create_repository("acme", "widgets", {"README.md": "# Not yours\n"})

    @property
    def nothing_at_the_impostor(self) -> bool:
        folder = self.git.root / "acme" / "widgets.git"
        return (
            set(branches(folder)) == {"main"}
            and not self.impostor.pull_requests
            and not self.impostor.comments
        )


@pytest.fixture
def world(tmp_path: Path, settings: Any) -> Iterator[MovingWorld]:
    with ExitStack() as stack:
        found = MovingWorld(tmp_path, stack)
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        settings.WORKORDERS_DATA_DIR = found.data_dir
        yield found


def known(world: MovingWorld, order: AgentWorkOrder) -> AgentWorkOrder:
    """The order's row knows GitHub's id, as after any verification."""
    Repository.objects.filter(pk=order.repository_id).update(github_id=world.repository.id)
    order.refresh_from_db()
    return order


# --- at the delivery ---


@pytest.mark.parametrize(
    ("moment", "goal"),
    [
        ("before", ("acme", "gadgets")),
        ("unverified", ("other", "widgets")),
        ("git", ("acme", "gadgets")),
        ("POST pulls", ("other", "gadgets")),
        ("before the comment", ("acme", "gadgets")),
        ("POST comment", ("other", "widgets")),
    ],
)
def test_the_delivery_goes_on_under_the_new_name(
    world: MovingWorld, moment: str, goal: tuple[str, str]
) -> None:
    order = world.order()
    if moment != "unverified":
        known(world, order)

    def happens() -> None:
        world.rename(*goal, git_follows=moment != "git")

    hooks = {
        "POST pulls": ("POST", "pulls$"),
        "before the comment": ("GET", "issues/"),
        "POST comment": ("POST", "comments$"),
    }
    if moment in hooks:
        world.gh.before[hooks[moment]] = happens
    elif moment == "git":
        world.gh.after["GET", "^repos/acme/widgets$"] = happens
    else:
        happens()
    world.finish(order)
    world.law(order)
    row = order.repository
    assert (row.full_name, row.github_id) == ("/".join(goal), world.repository.id)
    assert row.repository_url == f"https://github.com/{'/'.join(goal)}"
    assert Repository.objects.count() == 1
    assert "github_repository_renamed" in world.events.names
    assert not order.phase_runs.filter(status=PhaseRunStatus.FAILED).exists(), "no attempt was counted"


def test_a_follow_up_finds_the_pull_request_under_the_new_name(world: MovingWorld) -> None:
    order = world.finish(known(world, world.order()))
    world.law(order)
    world.follow_up(order)
    world.gh.before["PATCH", "pulls"] = world.rename
    world.finish(order)
    world.law(order)
    assert len(world.github.recorded("PATCH", "/repos/acme/gadgets/pulls/.*")) == 1


def test_another_spelling_is_no_rename(world: MovingWorld) -> None:
    order = known(world, world.order())
    world.rename("Acme", "Widgets")
    world.step(order)
    world.law(order)
    assert order.phase_runs.filter(kind="delivery").count() == 1


# --- another repository has the name ---


@pytest.mark.parametrize("moment", ["before", "POST pulls", "POST comment"])
def test_nothing_goes_to_a_repository_that_took_the_name(world: MovingWorld, moment: str) -> None:
    order = known(world, world.order())
    if moment == "before":
        world.replace()
    else:
        world.gh.before["POST", f"{moment.split()[1]}s?$"] = world.replace
    world.finish(order)
    if moment == "POST comment":  # in the blink between looking and asking; no pull request is lost
        assert order.status == Status.COMPLETED
        return
    world.law(order)
    assert world.nothing_at_the_impostor
    assert order.repository.full_name == "acme/gadgets"


def test_an_order_whose_repository_is_gone_and_its_name_taken_says_so(world: MovingWorld) -> None:
    order = known(world, world.order())
    world.replace()
    world.github.repositories.pop("acme/gadgets")
    world.finish(order)
    assert (order.status, order.error_category) == (Status.FAILED, "repository_replaced")
    assert "another repository" in (order.error_message or "")
    assert "create a new work order" in (order.error_advice or "")
    assert world.nothing_at_the_impostor
    assert order.repository.replaced_at is not None
    fresh = make_order(repository="acme/widgets")
    assert fresh.repository_id != order.repository_id
    assert fresh.repository.mirror_key == "github.com/acme/widgets~2"
    assert (
        services.connect_repository(reference=services.parse_repository("acme/widgets"), by="ann")
        == fresh.repository
    )


def test_a_lost_name_is_found_by_the_id_later(world: MovingWorld) -> None:
    order = known(world, world.order())
    world.replace()
    named = services.parse_repository("acme/widgets")
    found = GitHubRepositoryClient(world.gh).verify_repository_access(named)
    other = services.record_repository_verification(named, found=found)
    assert (other.github_id, other.pk == order.repository_id) == (4711, False)
    assert Repository.objects.get(pk=order.repository_id).replaced_at is not None
    world.law(world.finish(order))
    assert order.repository.full_name == "acme/gadgets"
    assert order.repository.replaced_at is None
    assert world.nothing_at_the_impostor


def test_a_cancelled_orders_pull_request_is_closed_under_the_new_name(world: MovingWorld) -> None:
    order = known(world, world.order())
    world.github.fail("POST", COMMENTS, status=429, headers={"Retry-After": "0"})
    world.step(order)
    expire(order)
    cancel(order)
    world.gh.before["PATCH", "pulls"] = world.rename
    assert world.step(order).status == Status.CANCELLED
    assert [item.state for item in world.pull_requests] == ["closed"]


def test_no_strangers_pull_request_is_closed(world: MovingWorld) -> None:
    order = known(world, world.order())
    world.github.fail("POST", COMMENTS, status=429, headers={"Retry-After": "0"})
    world.step(order)
    expire(order)
    cancel(order)
    number = world.pull_requests[0].number
    world.replace()
    world.impostor.pull_requests[number] = replace(world.pull_requests[0], head_branch="theirs")
    world.step(order)
    fall_due(order)
    withdraw(world)
    assert world.impostor.pull_requests[number].state == "open"
    assert [item.state for item in world.pull_requests] == ["closed"]


# --- rows that are one repository ---


def found(github_id: int | None, full_name: str, **values: Any) -> GitHubRepository:
    owner, name = full_name.split("/")
    url = f"https://github.com/{full_name}"
    return GitHubRepository(
        github_id=github_id,
        repository_owner=owner,
        repository_name=name,
        repository_url=url,
        is_accessible=True,
        can_push=True,
        **values,
    )


def verified(asked: str, github_id: int | None, full_name: str) -> Repository:
    return services.record_repository_verification(
        services.parse_repository(asked), found=found(github_id, full_name)
    )


def test_two_rows_that_are_one_repository_become_one_and_lose_nothing() -> None:
    old, new = make_order(repository="acme/widgets"), make_order(repository="acme/gadgets")
    Repository.objects.filter(pk=old.repository_id).update(protected_paths="infra/**", default_model="opus")
    new_row = verified("acme/gadgets", 7, "acme/gadgets")
    row = verified("acme/widgets", 7, "acme/gadgets")
    assert row.pk == new_row.pk
    assert Repository.objects.count() == 1
    for order in (old, new):
        order.refresh_from_db()
        assert order.repository_id == row.pk
    assert old.mirror_key == "github.com/acme/widgets"
    assert new.mirror_key == "github.com/acme/gadgets"
    assert set(row.protected_paths.split()) == {"infra/**", ".github/workflows/**", ".gitmodules"}
    assert row.default_model == "opus"
    third = make_order(repository="acme/gadgets")
    assert third.mirror_key == "github.com/acme/gadgets"
    assert make_order(repository="acme/widgets").mirror_key == "github.com/acme/widgets"


def test_two_rows_that_nobody_had_verified_become_one() -> None:
    old, new = make_order(repository="acme/widgets"), make_order(repository="acme/gadgets")
    row = verified("acme/widgets", 7, "acme/gadgets")
    assert (row.pk, row.full_name, row.github_id) == (new.repository_id, "acme/gadgets", 7)
    old.refresh_from_db()
    assert old.repository_id == row.pk


def test_a_row_follows_a_rename_and_back_and_a_swap() -> None:
    row = verified("acme/widgets", 7, "acme/widgets")
    assert verified("acme/widgets", 7, "acme/gadgets").pk == row.pk
    assert verified("acme/gadgets", 7, "acme/widgets").pk == row.pk
    other = verified("acme/gadgets", 8, "acme/gadgets")
    assert other.pk != row.pk
    swapped = verified("acme/widgets", 8, "acme/widgets")
    assert swapped.pk == other.pk
    row.refresh_from_db()
    assert row.replaced_at is not None
    again = repository_rows.record_repository(row.reference, found(7, "acme/gadgets"))
    assert (again.pk, again.full_name, again.replaced_at) == (row.pk, "acme/gadgets", None)


def test_an_answer_without_an_id_and_another_spelling() -> None:
    row = verified("acme/widgets", None, "acme/widgets")
    assert row.github_id is None
    assert verified("ACME/Widgets", 7, "Acme/Widgets").pk == row.pk
    row.refresh_from_db()
    assert (row.full_name, row.mirror_key) == ("Acme/Widgets", "github.com/acme/widgets")
    assert verified("acme/widgets", None, "acme/widgets").github_id == 7


def test_a_failed_verification_keeps_the_identity() -> None:
    row = verified("acme/widgets", 7, "acme/widgets")
    services.record_repository_verification(row.reference, found=None, error_message="No answer.")
    row.refresh_from_db()
    assert (row.github_id, row.is_accessible, row.verification_error) == (7, False, "No answer.")


def test_a_row_without_a_stored_key_is_where_its_name_says() -> None:
    row = make_repository("acme/widgets", stored_key="")
    assert row.mirror_key == "github.com/acme/widgets"
    reference = RepositoryReference("", "", "x", Path("/srv/x"))
    assert Repository(name="x", repository_url="/srv/x").mirror_key == str(reference.key)
