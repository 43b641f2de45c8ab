"""One chaos run: orders in, faults on, until all are at rest; then the law and the numbers."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.clusters import ChaosServer
from tests.chaos.crashes import Crashes, points_for
from tests.chaos.disruptions import Disruptions
from tests.chaos.excuses import INFLICTED, WORKER_LOST, had_its_attempts
from tests.chaos.measures import lost_runs, percentile
from tests.chaos.outside import Dice, ShakyGit, ShakyGitHub
from tests.chaos.witness import Witness
from tests.e2e.harness import FINISHED, ROOT, Json, processes_with
from tests.e2e.law import Law

TOKEN = "ghp_chaosChaosChaosChaosChaosChaosChaos0"
STEPS = 4  # three phases and the delivery
AGENTS = 2.5  # that an order starts at the least, as the orders are mixed
REQUESTS = 6  # GitHub and git hear about so many requests in one step; its chance is spread over them
CANCEL_LIMIT_SECONDS = 15.0
TAKEOVER_EXTRA_SECONDS = 10.0
_SLOWEST = 8
_AGENT = Path(__file__).with_name("agent.py")
_REHEARSAL = ROOT / "workorders" / "agents" / "rehearsal.py"


@dataclass(frozen=True)
class ChaosOptions:
    """`faults` is the chance of each kind of fault at each step; given up after `timeout_seconds` without progress.

    Times tell of the machine, too: where others use it, they are printed and not judged.
    """

    orders: int
    workers: int = 4
    clusters: int = 2
    seed: str = "1"
    faults: float = 0.05
    lease_seconds: int = 10
    timeout_seconds: float = 240
    silence_seconds: int = 45
    judge_times: bool = True


@dataclass
class Summary:
    options: ChaosOptions
    lines: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.broken

    def text(self) -> str:
        width = max(len(name) for name, _ in self.lines)
        told = [f"{name:<{width}}  {words}" for name, words in self.lines]
        told += ["", "The law holds." if self.holds else "BROKEN:", *(f"  {line}" for line in self.broken)]
        return "\n".join(told)


def run_chaos(
    folder: Path, options: ChaosOptions, database_url: str, *, tell: Callable[[str], None]
) -> Summary:
    return _Run(folder, options, database_url, tell).run()


@dataclass
class _Cancel:
    order_id: str
    due_after_starts: int
    asked_at: float = 0.0
    seconds: float | None = None
    answer: int = 0


class _Run:
    def __init__(
        self, folder: Path, options: ChaosOptions, database_url: str, tell: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.options = options
        self.url = database_url
        self.tell = tell
        self.random = random.Random(f"{options.seed}/run")
        self.crashes = Crashes(
            folder / "crashed",
            points_for(options.orders, options.orders * STEPS, options.faults, self.random),
            starts=options.orders * AGENTS,
            dice=self.random,
        )
        self.ids: list[str] = []
        self.status: dict[str, str] = {}
        self.cancels: list[_Cancel] = []

    def run(self) -> Summary:
        options = self.options
        dice = [Dice(f"{options.seed}/{name}", options.faults / REQUESTS) for name in ("github", "git")]
        with ExitStack() as stack:
            git = stack.enter_context(ShakyGit(self.folder / "remotes", dice[1]))
            github = stack.enter_context(ShakyGitHub(git, dice[0]))
            witness = stack.enter_context(Witness())
            git.add_token(TOKEN)
            github.add_token(TOKEN)
            git.create_repository("acme", "widgets", {"README.md": "# Widgets\n"})
            repository = github.add_repository("acme", "widgets")
            for number in range(3):
                github.add_issue(repository, f"Widget {number} is missing", "Please add it.")
            server = ChaosServer(
                self.folder / "server",
                self._environment(git, github, witness),
                self.url,
                clusters=options.clusters,
                workers=options.workers,
            )
            stack.enter_context(server)
            started = time.monotonic()
            disruptions = Disruptions(server, options.seed, options.lease_seconds)
            self._ask(server)
            summary = Summary(options)
            self._until_rest(server, witness, disruptions, summary)
            wall = time.monotonic() - started
            for die in dice:
                die.resting = True
            law = Law(server, [repository], [git.repository_path("acme", "widgets")])
            server.manage("recover_work_orders")  # as the schedule does each minute
            orders = self._law(law, summary)
            self._orders(server, orders, repository.pull_requests, witness, summary)
            self._numbers(server, orders, witness, disruptions, dice, summary)
            summary.lines.append(("wall time", f"{wall:.0f} s, {wall / len(self.ids):.1f} s an order"))
        marker = str(self.folder / "server" / "data")
        if left := [pid for pid in processes_with(marker) if not _is_this(pid)]:
            summary.broken.append(f"processes left after the stop: {left}")
        return summary

    def _environment(self, git: ShakyGit, github: ShakyGitHub, witness: Witness) -> dict[str, str]:
        options = self.options
        agent = f"{sys.executable} {_AGENT} {witness.address} {options.seed} {options.faults} {_REHEARSAL}"
        return {
            "GH_TOKEN": TOKEN,
            "GH_CONFIG_DIR": str(github.gh_config_dir),
            "WORKORDERS_GITHUB_GIT_BASE_URL": git.base_url,
            "WORKORDERS_AGENT_COMMAND": agent,
            "WORKORDERS_LEASE_SECONDS": str(options.lease_seconds),
            "WORKORDERS_AGENT_SILENCE_SECONDS": str(options.silence_seconds),
            "WORKORDERS_AGENT_TIMEOUT_SECONDS": "300",
            "WORKORDERS_CRASH_AT": self.crashes.setting,
            "WORKORDERS_LOG_LEVEL": "INFO",
        }

    def _ask(self, server: ChaosServer) -> None:
        for number in range(self.options.orders):
            fields: Json = {
                "repository_url": "acme/widgets",
                "sandbox_type": "git_worktree" if number % 2 else "git_branch",
                "initial_prompt": f"Add widget {number}",
            }
            if number % 5 == 4:
                fields["github_issue_number"] = str(1 + number % 3)
            if number % 7 == 6:
                fields["workflow_type"] = "agent_workflow_plan"
            order_id = server.create(**fields)["agent_work_order_id"]
            self.ids.append(order_id)
            self.status[order_id] = "pending"
        count = max(1, round(self.options.orders * self.options.faults)) if self.options.faults else 0
        steps = self.options.orders * (STEPS - 1)
        chosen = self.random.sample(self.ids, count)
        self.cancels = [_Cancel(order_id, self.random.randrange(steps)) for order_id in chosen]

    def _until_rest(
        self, server: ChaosServer, witness: Witness, disruptions: Disruptions, summary: Summary
    ) -> None:
        options = self.options
        every = max(1, round(1 / options.faults)) if options.faults else 10**9
        next_disruption, told_at = every // 2 + 1, 0.0
        seen, seen_at = (0, 0), time.monotonic()
        while not all(status in FINISHED for status in self.status.values()):
            now = (witness.started, sum(status in FINISHED for status in self.status.values()))
            if now != seen:
                seen, seen_at = now, time.monotonic()
            if time.monotonic() - seen_at > options.timeout_seconds:
                summary.broken.append(f"nothing moved for {options.timeout_seconds:.0f} s")
                break
            for cluster in server.clusters:
                cluster.keep_up()
            if witness.started >= next_disruption:
                next_disruption += every
                self.tell(f"{witness.started:5} agents started: {disruptions.one_more()}")
            self._cancel(server, witness.started)
            self.crashes.arm(witness.started)
            self._look(server)
            if time.monotonic() - told_at > 10:
                told_at = time.monotonic()
                self.tell(f"{dict(Counter(self.status.values()))}, {len(witness.alive())} agents alive")
            time.sleep(0.1)
        disruptions.settle()
        for cluster in server.clusters:
            cluster.keep_up()

    def _look(self, server: ChaosServer) -> None:
        try:
            rows = server.query("SELECT agent_work_order_id, status FROM workorders_agentworkorder")
        except Exception as error:  # whatever a driver raises where the database is busy; asked again soon
            self.tell(f"the database did not answer: {error}")
            return
        now = time.monotonic()
        self.status.update(dict(rows))
        for cancel in self.cancels:
            if cancel.answer == 202 and cancel.seconds is None and self.status[cancel.order_id] in FINISHED:
                cancel.seconds = now - cancel.asked_at

    def _cancel(self, server: ChaosServer, starts: int) -> None:
        """At its time; whoever is left near the end is cancelled then."""
        running = sum(status not in FINISHED for status in self.status.values())
        for cancel in self.cancels:
            due = starts >= cancel.due_after_starts or running <= len(self.cancels)
            if cancel.answer or not due:
                continue
            try:
                cancel.asked_at = time.monotonic()
                answer = server.http.post(f"/api/agent-work-orders/{cancel.order_id}/cancel")
            except httpx.TransportError as error:
                self.tell(f"cancel: {error}")
                continue
            cancel.answer = answer.status_code

    # --- at rest ---

    def _law(self, law: Law, summary: Summary) -> list[Json]:
        try:
            return law.check(self.ids)
        except AssertionError as error:
            summary.broken += str(error).splitlines()
            return [law.server.order(order_id) for order_id in self.ids]

    def _orders(
        self,
        server: ChaosServer,
        orders: list[Json],
        pull_requests: Mapping[int, object],
        witness: Witness,
        summary: Summary,
    ) -> None:
        count = Counter(order["status"] for order in orders)
        summary.lines.append(("accepted", str(len(self.ids))))
        summary.lines.append(("ended", ", ".join(f"{count[name]} {name}" for name in sorted(FINISHED))))
        failed = [order for order in orders if order["status"] == "failed"]
        reasons = Counter(order["error_category"] for order in failed)
        if failed:
            summary.lines.append(
                ("failed because of", ", ".join(f"{n} {name}" for name, n in reasons.items()))
            )
        summary.broken += [
            f"{order['agent_work_order_id']} failed without an excuse: {order['error_category']}: "
            f"{order['error_message']}"
            for order in failed
            if not self._has_excuse(server, order, witness)
        ]
        summary.lines.append(
            ("pull requests", f"{len(pull_requests)} for {count['completed']} completed orders")
        )
        wanted = {cancel.order_id for cancel in self.cancels}
        summary.broken += [
            f"{order['agent_work_order_id']} was cancelled by nobody"
            for order in orders
            if order["status"] == "cancelled" and order["agent_work_order_id"] not in wanted
        ]

    @staticmethod
    def _has_excuse(server: ChaosServer, order: Json, witness: Witness) -> bool:
        """It was tried as often as it may be, and, where its agent failed, the last one that was seen was a bad one."""
        order_id, category = order["agent_work_order_id"], order["error_category"]
        if not had_its_attempts(server.runs(order_id), category):
            return False
        lives = [life for life in witness.lives if life.order_id == order_id]
        bad_agent = bool(lives) and lives[-1].kind != "honest" and category.startswith("agent_")
        return bad_agent or category in INFLICTED

    def _numbers(
        self,
        server: ChaosServer,
        orders: list[Json],
        witness: Witness,
        disruptions: Disruptions,
        dice: list[Dice],
        summary: Summary,
    ) -> None:
        limit = self.options.lease_seconds + TAKEOVER_EXTRA_SECONDS
        lost = lost_runs(server, disruptions.hits, self.crashes.worked())
        taken = sorted((run for run in lost if run.taken_over_at is not None), key=lambda run: run.seconds)
        for run in taken[-_SLOWEST:]:
            self.tell(f"takeover after {run}")
        for order_id in (
            one["agent_work_order_id"] for one in orders if one["error_category"] == WORKER_LOST
        ):
            deaths = [run.cause for run in lost if run.order_id == order_id]
            summary.lines.append((f"{order_id} lost its workers to", ", ".join(deaths)))
        found = [run.seconds for run in taken]
        summary.lines.append(("takeover", f"{_spread(found)}, limit {limit:.0f} s"))
        judged = self.options.judge_times
        if judged and percentile(found, 0.95) > limit:
            summary.broken.append(f"takeover p95 {percentile(found, 0.95):.1f} s is over {limit:.0f} s")
        cancels = [cancel.seconds for cancel in self.cancels if cancel.seconds is not None]
        summary.lines.append(("cancel", f"{_spread(cancels)}, limit {CANCEL_LIMIT_SECONDS:.0f} s"))
        if judged and cancels and max(cancels) > CANCEL_LIMIT_SECONDS:
            summary.broken.append(f"a cancel took {max(cancels):.1f} s")
        summary.lines.append(("agents", f"{witness.started}, of which {_counted(witness.kinds())}"))
        summary.lines.append(("overlaps", str(len(witness.overlaps))))
        summary.broken += [
            f"two attempts of {a.order_id} at once: {a.phase} #{a.attempt} ({a.kind}) and {b.phase} #{b.attempt}"
            for a, b in witness.overlaps
        ]
        orphans = witness.alive()
        summary.lines.append(("orphans", str(len(orphans))))
        summary.broken += [f"an agent of {life.order_id} is alive: {life.kind}" for life in orphans]
        summary.lines.append(("disruptions", _counted(Counter(hit.kind for hit in disruptions.hits))))
        crashed = Counter(crash.point for crash in self.crashes.worked())
        summary.lines.append(("crash points", _counted(crashed)))
        summary.lines.append(("GitHub", _counted(dice[0].thrown)))
        summary.lines.append(("git", _counted(dice[1].thrown)))
        summary.broken += disruptions.complaints


def _spread(values: list[float]) -> str:
    if not values:
        return "none"
    middle, high = percentile(values, 0.5), percentile(values, 0.95)
    return f"{len(values)}, p50 {middle:.1f} s, p95 {high:.1f} s, longest {max(values):.1f} s"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


def _is_this(pid: int) -> bool:
    try:
        return b"tests.chaos" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
