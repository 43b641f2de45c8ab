"""What an order's branch stands against: its pull request as GitHub shows it now, and the base branch that has.

A base branch can be deleted, or the pull request moved to another, at any time. The pull request's is followed; where
none is left the step fails in words, and a person's retry means: go on against the default branch.
"""

from functools import cached_property

from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest
from sandboxes.errors import BaseBranchMissing
from sandboxes.trusted_git.git import RemoteRefs, RemoteRepository
from sandboxes.trusted_git.mirror import RepositoryMirror, StartingPoint
from workorders.workflow_engine.place.branch_line import BranchRecord
from workorders.workflow_engine.place.salvage import kept_ref
from workorders.workflow_engine.planning.phase_tracker import ORDER_TRAILER
from workorders.workflow_engine.record.claimed_step import ClaimedStep


class Upstream:
    """Of one claimed step. Asks GitHub once, and only for an order that has a pull request."""

    def __init__(
        self,
        step: ClaimedStep,
        reference: RepositoryReference,
        mirror: RepositoryMirror,
        remote: RemoteRepository,
    ) -> None:
        self._step = step
        self._order = step.plan.order
        self._reference = reference
        self._mirror = mirror
        self._remote = remote

    @cached_property
    def pull_request(self) -> GitHubPullRequest | None:
        """None before there is one, and where GitHub shows none any more. Raises `GitHubError`."""
        number = self._order.github_pull_request_number
        if number is None or self._reference.is_local:
            return None
        return self._step.parts.pull_requests.read_pull_request(self._reference, number)

    def refresh(self, seen: RemoteRefs | None = None) -> StartingPoint:
        """Where the branches are, with what was missing fetched. Raises typed `GitError`s.

        `seen`: what the remote said a moment ago of the order's branch and its base branch, where somebody asked.
        """
        missing: BaseBranchMissing | None = None
        for name in self._candidates():
            try:
                point = self._refresh(name, seen if name == self._order.base_branch else None)
            except BaseBranchMissing as error:
                missing = missing or error
            else:
                self._tell(point)
                return point
        assert missing is not None
        if self._may_take_default and missing.default_branch:
            point = self._refresh("", None)
            self._tell(point)
            return point
        raise self._in_words(missing)

    def _refresh(self, base_branch: str, seen: RemoteRefs | None) -> StartingPoint:
        return self._mirror.refresh(
            self._remote,
            base_branch=base_branch or None,
            git_branch_name=self._order.git_branch_name,
            kept_as=kept_ref(self._order.agent_work_order_id),
            seen=seen,
        )

    def _candidates(self) -> tuple[str, ...]:
        """The pull request's base branch while it is open, or where it was merged; else the order's own first."""
        found, own = self.pull_request, self._order.base_branch
        if found is None:
            return (own,)
        names = (own, found.base_branch) if found.state == "closed" else (found.base_branch, own)
        return tuple(dict.fromkeys(name for name in names if name)) or ("",)

    @property
    def _may_take_default(self) -> bool:
        """Somebody was told that the base branch is gone, and has retried."""
        return bool(self._order.base_sha) and self._step.plan.failed_before == BaseBranchMissing.category

    def _tell(self, point: StartingPoint) -> None:
        if self._order.base_sha and self._order.base_branch != point.base_branch:
            self._step.log.warning(
                "git_base_branch_followed",
                from_branch=self._order.base_branch,
                base_branch=point.base_branch,
                base_sha=point.base_sha,
            )

    def _in_words(self, error: BaseBranchMissing) -> BaseBranchMissing:
        name, default = self._candidates()[0], error.default_branch
        where = self._reference.full_name
        if not name or not default:
            return error
        if self._order.base_sha:
            return BaseBranchMissing(
                f"The base branch {name} of {where} was deleted after the work order had begun.",
                advice=f"Retry to go on against the default branch {default}, or restore {name} first. Where the pull "
                "request is moved to another base branch on GitHub, that one is taken.",
                default_branch=default,
            )
        return BaseBranchMissing(
            f"The base branch {name} does not exist in {where}.",
            advice=f"Create a new work order from an existing branch, such as the default branch {default}; or push "
            f"{name} and retry this one.",
            default_branch=default,
        )

    def record(self, head_sha: str = "") -> BranchRecord:
        """What is known of the order's branch. `head_sha`: newer than the row's."""
        order, plan = self._order, self._step.plan
        return BranchRecord(
            git_branch_name=order.git_branch_name,
            base_sha=order.base_sha,
            head_sha=head_sha or order.head_sha,
            kept_ref=kept_ref(order.agent_work_order_id),
            pushed=plan.pushed_shas,
            sent=plan.sent_shas,
            pull_request=self.pull_request,
            delivered=plan.delivered,
            has_news=plan.has_news,
            is_settled=plan.is_settled,
            merge_message=f"chore: go on from {order.base_branch[:30] or 'the base branch'}\n\n"
            f"It has the work so far.\n\n{ORDER_TRAILER}: {order.agent_work_order_id}",
        )
