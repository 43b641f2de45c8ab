"""What an order leaves on GitHub: one pull request, kept up to date, and one comment on its issue.

Every request is an effect with a row (`effects`), looked for before it is asked for. What a person did to the pull
request counts: merged or closed ones are left alone, and their words in its text are kept.
"""

import hashlib
from typing import Any

from github_app.errors import GitHubError
from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest
from sandboxes.errors import ExpectedError
from workorders.states import EffectKind, EffectState
from workorders.workflow_engine.claimed_step import ClaimedStep
from workorders.workflow_engine.control import StepStopped, StopCause
from workorders.workflow_engine.effects import Effect, EffectLedger, asking
from workorders.workflow_engine.identity import RepositoryIdentity
from workorders.workflow_engine.pull_request_text import comment_marker, renewed_body
from workorders.workflow_engine.retries import decide
from workorders.workflow_engine.withdrawals import take_back


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
        self, *, title: str, body: str, draft: bool, tests_pass: bool = False
    ) -> GitHubPullRequest:
        """The order's one pull request, seen on GitHub, with this text. Raises `GitHubError`.

        `draft`: the order's tests fail; `tests_pass`: they were run and none does. What is said of a draft that is
        found is said only of one that we opened because of failing tests.
        """
        order = self._order
        effect = self._ledger.plan(EffectKind.PULL_REQUEST, order.git_branch_name)
        found, created = asking(
            self._ledger,
            effect,
            lambda: self._step.parts.pull_requests.ensure_pull_request(
                self._reference,
                head_branch=order.git_branch_name,
                base_branch=order.base_branch,
                title=title,
                body=body,
                draft=draft,
                head_sha=order.head_sha,
                known_number=effect.number or order.github_pull_request_number,
                asked_before=effect.was_asked_for,
                about_to_post=lambda: self._send(effect, as_draft=draft),
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
        if created:
            return found
        is_ours = effect.as_draft and found.is_draft
        text = renewed_body(found.pull_request_body, body, still_draft=is_ours and tests_pass)
        return self._bring_up_to_date(effect, found, text)

    def _confirm(self, effect: Effect, found: GitHubPullRequest) -> None:
        self._ledger.confirm(
            effect,
            number=found.pull_request_number,
            address=found.pull_request_url,
            github_pull_request_number=found.pull_request_number,
            github_pull_request_url=found.pull_request_url,
        )

    def _bring_up_to_date(self, effect: Effect, found: GitHubPullRequest, text: str) -> GitHubPullRequest:
        if found.state == "merged":
            return found
        if found.state == "closed":
            if not effect.was_cancelled and found.head_sha == self._order.head_sha:
                # a person closed it and nothing is new
                self._step.log.warning(
                    "github_pull_request_left_closed", pull_request_url=found.pull_request_url
                )
                return found
            return self._reopen(effect, found, text)
        return self._update(found, text) if text != _same_lines(found.pull_request_body) else found

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
            if decide(error, attempt=self._step.plan.attempt, waited=self._step.plan.waited) is not None:
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
