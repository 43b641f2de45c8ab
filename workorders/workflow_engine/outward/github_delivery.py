"""What an order leaves on GitHub: one pull request, kept up to date, and one comment on its issue.

Every request is an effect with a row (`effects`), looked for before it is asked for. What a person did to the pull
request counts: merged or closed ones are left alone, and their words in its text are kept.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from github_app.errors import GitHubError, GitHubRejected
from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest
from sandboxes.errors import ExpectedError
from workorders.domain.states import EffectKind, EffectState
from workorders.workflow_engine.claims.control import StepStopped, StopCause
from workorders.workflow_engine.outward.effects import Effect, EffectLedger, asking
from workorders.workflow_engine.outward.our_section import DRAFT_NOTE, READY_NOTE
from workorders.workflow_engine.outward.pull_request_text import comment_marker, renewed_body
from workorders.workflow_engine.outward.withdrawals import take_back
from workorders.workflow_engine.place.identity import RepositoryIdentity
from workorders.workflow_engine.planning.retries import decide
from workorders.workflow_engine.record.claimed_step import ClaimedStep


@dataclass(frozen=True)
class PullRequestTexts:
    """What a pull request is opened with."""

    title: str
    body: str
    draft: bool
    tests_fail: bool = False


class GitHubDelivery:
    """Publishes one claimed order."""

    def __init__(self, step: ClaimedStep) -> None:
        self._step = step
        self._ledger = EffectLedger(step.journal)
        self._order = step.plan.order

    @property
    def _reference(self) -> RepositoryReference:
        return self._step.parts.parse_reference(self._step.plan.repository.repository_url)

    def _send(self, effect: Effect, **columns: Any) -> None:
        self._step.control.check()
        if not self._ledger.send(effect, **columns):
            self._step.control.stop_because(StopCause.CANCEL)
            raise StepStopped

    # --- the pull request ---

    def pull_request(
        self,
        *,
        title: str,
        body: str,
        draft: bool,
        tests_pass: bool | None = None,
        after: int | None = None,
    ) -> GitHubPullRequest:
        """The order's one pull request, seen on GitHub, with this text. Raises `GitHubError`.

        `tests_pass`: None where none were run. What is said of a draft that is found is said only of one that we
        opened because of failing tests. `after`: the number of the one before, which was merged and takes no more.
        """
        texts = PullRequestTexts(title, body, draft, tests_fail=tests_pass is False)
        effect, found, created = self._ensure(texts, after=after)
        if created:
            return found
        note = READY_NOTE if draft and not found.is_draft else ""
        if effect.as_draft and found.is_draft and not draft and tests_pass is True:
            note = DRAFT_NOTE
        text = renewed_body(found.pull_request_body, body, note=note)
        return self._bring_up_to_date(effect, found, text, texts)

    def _ensure(
        self, texts: PullRequestTexts, *, after: int | None, replaces: int | None = None
    ) -> tuple[Effect, GitHubPullRequest, bool]:
        """The row, the pull request, and whether it was created here. `replaces`: one that cannot be opened again."""
        order = self._order
        number = order.github_pull_request_number
        effect = self._ledger.plan_pull_request(order.git_branch_name, number=number, after=after or replaces)
        found, created = asking(
            self._ledger,
            effect,
            lambda: self._step.parts.pull_requests.ensure_pull_request(
                self._reference,
                head_branch=order.git_branch_name,
                base_branch=order.base_branch,
                title=texts.title,
                body=texts.body,
                draft=texts.draft,
                head_sha=order.head_sha,
                known_number=effect.number or number,
                replaces=replaces,
                asked_before=effect.was_asked_for,
                about_to_post=lambda: self._send(effect, as_draft=texts.tests_fail),
            ),
        )
        self._step.crash_point("pull_request_posted")
        self._confirm(effect, found)
        self._step.crash_point("pull_request_stored")
        self._step.log.info(
            "github_pull_request_created" if created else "github_pull_request_found",
            pull_request_url=found.pull_request_url,
            pull_request_number=found.pull_request_number,
            state=found.state,
            draft=found.is_draft,
        )
        return effect, found, created

    def _confirm(self, effect: Effect, found: GitHubPullRequest) -> None:
        self._ledger.confirm(
            effect,
            number=found.pull_request_number,
            address=found.pull_request_url,
            github_pull_request_number=found.pull_request_number,
            github_pull_request_url=found.pull_request_url,
        )

    def _bring_up_to_date(
        self, effect: Effect, found: GitHubPullRequest, text: str, texts: PullRequestTexts
    ) -> GitHubPullRequest:
        if found.state == "merged":
            return found
        if found.state == "closed":
            has_news = self._step.plan.has_news and found.head_sha != self._order.head_sha
            if not effect.was_cancelled and not has_news:
                # a person closed it and nothing of ours is new
                self._step.log.warning(
                    "github_pull_request_left_closed", pull_request_url=found.pull_request_url
                )
                return found
            try:
                return self._reopen(effect, found, text)
            except GitHubRejected as error:
                return self._replace(found, texts, error)
        return self._update(found, text) if text != _same_lines(found.pull_request_body) else found

    def _replace(
        self, found: GitHubPullRequest, texts: PullRequestTexts, error: GitHubRejected
    ) -> GitHubPullRequest:
        """GitHub opens none again whose branch was rewritten or made anew, or whose base branch is gone."""
        self._step.log.warning(
            "github_pull_request_not_reopened",
            pull_request_url=found.pull_request_url,
            error=str(error)[:500],
        )
        return self._ensure(texts, after=None, replaces=found.pull_request_number)[1]

    def _reopen(self, effect: Effect, found: GitHubPullRequest, text: str) -> GitHubPullRequest:
        """Closed before the work that is to be seen in it; there must not be a second one."""
        self._send(effect)
        number = found.pull_request_number
        reopened = asking(
            self._ledger,
            effect,
            lambda: self._step.parts.pull_requests.update_pull_request(
                self._reference, number, body=text, state="open"
            ),
        )
        self._confirm(effect, reopened)
        self._step.log.info("github_pull_request_reopened", pull_request_url=found.pull_request_url)
        return reopened

    def _update(self, found: GitHubPullRequest, text: str) -> GitHubPullRequest:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        effect = self._ledger.plan(EffectKind.PULL_REQUEST_UPDATE, f"{found.pull_request_number} {digest}")
        if effect.state == EffectState.CONFIRMED:  # what a person has changed since stays
            return found
        self._send(effect)
        number = found.pull_request_number
        updated = asking(
            self._ledger,
            effect,
            lambda: self._step.parts.pull_requests.update_pull_request(self._reference, number, body=text),
        )
        self._ledger.confirm(effect, number=number, address=found.pull_request_url)
        self._step.log.info("github_pull_request_updated", pull_request_url=found.pull_request_url)
        return updated

    # --- the comment ---

    def comment(self, issue_number: str, body: str) -> None:
        """Once for an order. A comment that cannot be posted does not undo what was delivered."""
        marker = comment_marker(self._order.agent_work_order_id)
        effect = self._ledger.plan(EffectKind.COMMENT, f"#{issue_number}")
        if effect.state == EffectState.CONFIRMED:
            return
        try:
            url = asking(
                self._ledger,
                effect,
                lambda: self._step.parts.issues.comment_on_issue(
                    self._reference,
                    issue_number,
                    body=body,
                    marker=marker,
                    asked_before=effect.was_asked_for,
                    about_to_post=lambda: self._send(effect),
                ),
            )
        except GitHubError as error:
            if decide(error, attempt=self._step.plan.tries, waited=self._step.plan.waited) is not None:
                raise
            RepositoryIdentity(self._step).follow(error)  # there it can be posted
            self._step.log.warning("github_issue_comment_failed", issue_number=issue_number, error=str(error))
            return
        self._step.crash_point("commented")
        self._ledger.confirm(effect, address=url)
        self._step.log.info("github_issue_commented", issue_number=issue_number, comment_url=url)

    # --- a cancelled order ---

    def withdraw(self) -> None:
        """Close what a delivery opened that did not come to its end; where that cannot be now, it is owed."""
        for effect in self._ledger.open_pull_requests():
            try:
                url = take_back(self._step.parts, self._order, effect.number)
            except ExpectedError as error:
                self._owe(effect, error)
            else:
                self._ledger.undo(effect)
                if url:
                    self._step.log.info("github_pull_request_withdrawn", pull_request_url=url)

    def owe_withdrawal(self, reason: str) -> None:
        """Leave to others what `withdraw` does."""
        for effect in self._ledger.open_pull_requests():
            self._owe(effect, reason)

    def _owe(self, effect: Effect, reason: ExpectedError | str) -> None:
        error = self._ledger.owe(effect, reason)
        self._step.log.warning(
            "github_pull_request_not_withdrawn",
            git_branch_name=self._order.git_branch_name,
            error=str(error),
            error_advice=error.advice,
        )


def _same_lines(text: str) -> str:
    """GitHub's own editor ends lines as Windows does."""
    return text.replace("\r\n", "\n")
