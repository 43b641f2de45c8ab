"""What is old is removed: agents' HOMEs, unused mirrors, logs, the queue's leftovers. Work that is not in git never.

Every deletion is a rename to the trash first. Safe at any time, on any number of hosts at once; each host looks
after its own data folder, and all of them after the shared tables.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from django.db.models import Max, Q
from django.utils import timezone

from github_app.models import Repository
from sandboxes.files.disk import discard, in_units, newest_change, tree_bytes
from sandboxes.local.leftovers import kept_places
from workorders.domain.states import ACTIVE, FINISHED
from workorders.models import AgentWorkOrder, WorkOrderLog
from workorders.queueing import queue
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.place.salvage import kept_ref, salvaged_ref

logger = structlog.get_logger("workorders")
_ROWS_AT_ONCE = 1000
_EVERY_SECONDS = 3600.0


@dataclass(frozen=True)
class Retention:
    """Days after the last use; 0 keeps for ever. `queue_days` is for results of the queue's own tasks."""

    homes_days: int
    mirrors_days: int
    logs_days: int
    queue_days: int = 7


@dataclass(frozen=True)
class Pruned:
    """One thing that was removed, or with `dry_run` would be; rows of a table have no size."""

    what: str
    name: str
    size_bytes: int = 0


@dataclass(frozen=True)
class PruneReport:
    """`kept` says in words what is old but holds work that is nowhere else, `failed` what could not be looked after."""

    removed: tuple[Pruned, ...]
    kept: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.removed)


def prune(parts: EngineParts, retention: Retention, *, dry_run: bool = False) -> PruneReport:
    """One pass over this host's data folder and the shared tables."""
    return _Pass(parts, retention, dry_run).run()


def prune_when_due(parts: EngineParts, retention: Retention) -> PruneReport | None:
    """At most once an hour on each host; None where it was not due."""
    mark = parts.settings.data_dir / "run" / "pruned"
    if time.time() - newest_change(mark) < _EVERY_SECONDS:
        return None
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.touch()
    return prune(parts, retention)


class _Pass:
    def __init__(self, parts: EngineParts, retention: Retention, dry_run: bool) -> None:
        self._parts = parts
        self._data_dir = parts.settings.data_dir
        self._retention = retention
        self._dry_run = dry_run
        self._removed: list[Pruned] = []
        self._kept: list[str] = []
        self._failed: list[str] = []

    def run(self) -> PruneReport:
        for part in (self._homes, self._mirrors, self._log_files, self._log_rows, self._queue, self._places):
            with self._guarded(part.__name__.strip("_")):
                part()
        for path in _children(self._data_dir / "trash"):
            self._remove("trash", path)
        report = PruneReport(tuple(self._removed), tuple(self._kept), tuple(self._failed))
        if (report.removed or report.failed) and not self._dry_run:
            logger.info(
                "old_data_pruned",
                count=len(report.removed),
                size_bytes=report.size_bytes,
                kept=list(report.kept),
                failed=list(report.failed),
            )
        return report

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """One item that cannot be looked after must not keep the pass from all others, hour after hour."""
        try:
            yield
        except Exception as error:  # whatever it is
            logger.exception("old_data_prune_failed", item=name)
            self._failed.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")

    def _remove(self, what: str, path: Path) -> None:
        name = str(path.relative_to(self._data_dir))
        with self._guarded(name):
            found = Pruned(what, name, tree_bytes(path))
            if not self._dry_run:
                discard(path, self._data_dir / "trash")
            self._removed.append(found)

    # --- folders ---

    def _homes(self) -> None:
        """Of finished orders; a follow-up after that starts a fresh agent session."""
        if not (limit := self._before(self._retention.homes_days)):
            return
        homes = {path.name: path for path in _children(self._data_dir / "homes")}
        orders = {name[-11:]: name for name in homes}
        active_or_recent = AgentWorkOrder.objects.filter(agent_work_order_id__in=list(orders)).exclude(
            status__in=FINISHED, updated_at__lt=limit
        )
        keep = set(active_or_recent.values_list("agent_work_order_id", flat=True))
        for order_id, name in orders.items():
            with self._guarded(f"homes/{name}"):
                if order_id not in keep and _older(homes[name], limit):
                    self._remove("agent's home", homes[name])

    def _mirrors(self) -> None:
        """Fetched again when an order needs them; one with commits that were never pushed stays."""
        if not (limit := self._before(self._retention.mirrors_days)):
            return
        used = self._repositories_in_use(limit)
        for folder in (
            "mirrors",
            "lfs",
        ):  # a clone of release 0.1 goes once no place needs it, not by its age
            root = self._data_dir / folder
            for path in sorted(root.glob("**/*.git")):
                key = str(path.relative_to(root)).removesuffix(".git")
                if any(part.endswith(".git") for part in path.relative_to(root).parent.parts) or key in used:
                    continue
                if not _older(path, limit):
                    continue
                with self._guarded(f"{folder}/{key}.git"):
                    if folder == "mirrors" and (unpushed := self._unpushed(path)):
                        self._kept.append(
                            f"mirrors/{key}.git: commits of {', '.join(unpushed)} are nowhere else"
                        )
                        continue
                    if folder == "lfs" and (self._data_dir / "mirrors" / f"{key}.git").is_dir():
                        continue  # kept for commits that are nowhere else: so are their contents
                    self._remove("repository", path)

    def _repositories_in_use(self, limit: datetime) -> set[str]:
        """Keys of repositories with an active order, or with one that changed since."""
        rows = Repository.objects.annotate(used_at=Max("agent_work_orders__updated_at"))
        busy = set(
            AgentWorkOrder.objects.filter(status__in=ACTIVE)
            .values_list("repository_id", flat=True)
            .distinct()
        )
        used = {
            row.mirror_key
            for row in rows
            if row.pk in busy or (row.used_at is not None and row.used_at >= limit)
        }
        former = AgentWorkOrder.objects.exclude(former_mirror_key="")
        recent = former.filter(Q(status__in=ACTIVE) | Q(updated_at__gte=limit))
        return used.union(recent.values_list("former_mirror_key", flat=True))

    def _unpushed(self, mirror: Path) -> list[str]:
        """Orders with commits in this mirror that are, as far as the rows know, on no remote."""
        listed = self._parts.git.run(
            *("for-each-ref", "--format=%(refname) %(objectname)", kept_ref(""), salvaged_ref("")),
            git_dir=mirror,
        )
        kept = [line.split() for line in listed.stdout.decode().splitlines()]
        ids = {(name.rpartition("/")[2][:11], sha) for name, sha in kept}
        pushed = dict(
            AgentWorkOrder.objects.filter(
                agent_work_order_id__in=[order_id for order_id, _sha in ids]
            ).values_list("agent_work_order_id", "head_sha")
        )

        def is_pushed(order_id: str, sha: str) -> bool:
            head = pushed[order_id]
            return sha == head or bool(head and self._parts.git.is_ancestor(mirror, sha, head))

        return sorted(
            {order_id for order_id, sha in ids if order_id in pushed and not is_pushed(order_id, sha)}
        )

    def _places(self) -> None:
        """Set aside with work that could not be brought into git: a person gives them up, nobody else."""
        for path in _children(kept_places(self._data_dir)):
            with self._guarded(f"kept/{path.name}"):
                size = in_units(tree_bytes(path))
                self._kept.append(f"kept/{path.name}: work that could not be brought into git, {size}")

    def _log_files(self) -> None:
        if not (limit := self._before(self._retention.logs_days)):
            return
        for day in _children(self._data_dir / "logs" / "agent_work_orders"):
            if day.name < f"{limit:%Y-%m-%d}" and day.is_dir():
                self._remove("log files", day)

    # --- tables ---

    def _log_rows(self) -> None:
        """Of orders that ended before; the order itself, its phases and its history stay."""
        if not (limit := self._before(self._retention.logs_days)):
            return
        old = WorkOrderLog.objects.filter(
            agent_work_order__status__in=FINISHED, agent_work_order__updated_at__lt=limit
        )
        count = old.count()
        if count:
            self._removed.append(Pruned("log entries", f"{count} rows"))
        while not self._dry_run and (some := list(old.values_list("pk", flat=True)[:_ROWS_AT_ONCE])):
            WorkOrderLog.objects.filter(pk__in=some).delete()

    def _queue(self) -> None:
        if not (limit := self._before(self._retention.queue_days)):
            return
        if count := queue.forget_old(limit, dry_run=self._dry_run):
            self._removed.append(Pruned("queue", f"{count} rows"))
        for path in _children(self._data_dir / "run"):
            if path.name.startswith("supervisor-") and _older(path, limit):
                self._remove("lock of a cluster that is gone", path)

    @staticmethod
    def _before(days: int) -> datetime | None:
        return timezone.now() - timedelta(days=days) if days else None


def _older(path: Path, limit: datetime) -> bool:
    """By what was last changed right in it, so that a folder made for an order nobody knows yet is young."""
    return datetime.fromtimestamp(max(map(newest_change, _with_children(path))), UTC) < limit


def _with_children(path: Path) -> Iterator[Path]:
    yield path
    with suppress(PermissionError):  # its agent locked it
        yield from _children(path)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
