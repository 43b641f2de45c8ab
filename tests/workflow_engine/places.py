"""Places that workers left behind, and where their work is then."""

from pathlib import Path

import pytest

from tests.fakes.git_http import git
from tests.workflow_engine.engine import local_order, running_engine, wait_until
from tests.workflow_engine.rows import expire
from workorders import wiring
from workorders.domain.errors import LeaseLost
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.place import salvage
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.upkeep.recovery import recover


def head_of(data_dir: Path, order: AgentWorkOrder) -> str:
    """The order's newest commit that this host's mirror keeps."""
    return git(
        "for-each-ref",
        "--format=%(objectname)",
        salvage.kept_ref(str(order)),
        folder=mirror_of(data_dir),
    )


def mirror_of(data_dir: Path) -> Path:
    [mirror] = (data_dir / "mirrors").glob("*/*.git")
    return mirror


def in_mirror(data_dir: Path, order: AgentWorkOrder, name: str) -> str:
    """A file of the order's newest commit that this host's mirror keeps."""
    return git("show", f"{head_of(data_dir, order)}:{name}", folder=mirror_of(data_dir))


def kept_files(data_dir: Path, name: str) -> list[Path]:
    """Files of this name in places that were set aside."""
    return list((data_dir / "kept").glob(f"*/*/{name}"))


def wait_until_place(order: AgentWorkOrder, data_dir: Path, name: str) -> Path:
    """The order's place, once the agent has left this file there."""
    place = data_dir / "sandboxes" / order.expected_sandbox_identifier / order.expected_sandbox_identifier
    wait_until(order, lambda _row: (place / name).exists())
    return place


def abandoned(folder: Path, request: str, **values: object) -> tuple[AgentWorkOrder, Path]:
    """An order whose worker died while its agent was at work, after that had made `notes.txt`; and its place.

    The agent must not end by itself.
    """

    def die(_self: Workplace, _place: Place, *, final: bool = False) -> str | None:
        if final:
            raise LeaseLost
        return None

    order = local_order(folder, request, **values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workplace, "take_commits", die)
        with running_engine():
            place = wait_until_place(order, folder / "data", "notes.txt")
    order.refresh_from_db()
    assert order.status == "running"
    expire(order)
    return order, place


def cancelled(order: AgentWorkOrder) -> None:
    """What the recovery pass of another host may have done to it."""
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status="cancelled", claimable_at=None, claim_owner="", lease_expires_at=None
    )
    order.refresh_from_db()


def sweep(data_dir: Path) -> None:
    settings = wiring.engine_parts().settings
    recover(data_dir, settings.isolation, settings.providers, may_remove=wiring.may_remove_sandbox)
