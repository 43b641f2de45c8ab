"""Expected failures: each says in words what happened, who must act, and what to do.

`ExpectedError` is the one shape every package's errors share; `category`, `retryable` and `advice` are what
reaches the work order's row and the API.
"""


class ExpectedError(Exception):
    """Something outside the code went wrong in a way the product knows.

    `category`: a short stable word shown as `error_category`. `retryable`: whether the same step may help if
    tried again without anybody acting. `advice`: what a person does once it has failed for good. `elsewhere`: its words
    are another machine's, and what they say of disks is not of this one.
    """

    category = "internal"
    retryable = False
    elsewhere = False
    advice = "Look at the work order's log, then retry."

    def __init__(self, message: str, *, advice: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice
        if retryable is not None:
            self.retryable = retryable


class SandboxError(ExpectedError):
    """The place to work could not be made, used or removed."""

    category = "sandbox_failed"
    retryable = True
    advice = "Check disk space and permissions of the data folder (`manage.py doctor`), then retry."


class CheckoutLost(SandboxError):
    """The agent removed the git folder of its place, where this server cannot make it anew."""

    category = "checkout_lost"
    retryable = True  # the agent hears of it
    advice = "Say in the request, or in the repository's CLAUDE.md, that the folder `.git` has to stay; then retry."


class SandboxUnavailable(SandboxError):
    """This sandbox type cannot run on this server as it is configured."""

    category = "sandbox_unavailable"
    retryable = False
    advice = "Run `manage.py doctor` on the worker's machine; it names the missing part."


class SandboxVanished(SandboxError):
    """The sandbox's provider ended it, or lost it, while it was needed."""

    category = "sandbox_vanished"
    retryable = True
    advice = "Retry: a new sandbox starts from the commits that are pushed."


class SandboxUnreachable(SandboxError):
    """The sandbox's provider did not answer, or asked to come back later."""

    category = "sandbox_unreachable"
    retryable = True
    advice = "Check the provider's status page and the worker's network, then retry."


class StreamDropped(SandboxUnreachable):
    """The connection to a command in a sandbox broke; the command itself may go on."""


class WorkspaceBusy(SandboxError):
    """Another attempt of the same step has the workspace, or something of it will not end."""

    category = "workspace_busy"
    advice = "Look for processes on the worker's machine that cannot be ended, then retry."


class ProgramMissing(SandboxError):
    """A program the server must start is not installed or not executable."""

    category = "program_missing"
    retryable = False
    advice = "Install the named program on every worker machine; `manage.py doctor` checks it."


class GitError(ExpectedError):
    """Git failed on the server's own copy of the repository."""

    category = "git_failed"
    retryable = True
    advice = "Retry; if it fails again, look at the disk and run `manage.py doctor`: the message has what git said."


class GitTimeout(GitError):
    """Git did not end in time on the server's own copy of the repository, or on its way to the git host."""

    category = "git_timeout"
    advice = "Check the network between the worker and the git host, then retry."


class RemoteAccessDenied(GitError):
    """The git host refused the credential."""

    category = "repository_access_denied"
    retryable = False
    advice = "Give GH_TOKEN read and write access to the repository's contents, then retry."


class RemoteNotFound(GitError):
    """The git host knows no such repository, or does not show it to this credential."""

    category = "repository_not_found"
    retryable = False
    advice = "Check owner and name, and that the token's account can see the repository."


class RepositoryEmpty(GitError):
    """The repository has no commit to start from."""

    category = "repository_empty"
    retryable = False
    advice = "Push a first commit to the default branch, then retry."


class BaseBranchMissing(GitError):
    """The branch to start from does not exist on the remote."""

    category = "base_branch_missing"
    retryable = False
    advice = "Choose an existing base branch; if it was deleted after the order had begun, retry to use the default."

    def __init__(self, message: str, *, advice: str | None = None, default_branch: str = "") -> None:
        super().__init__(message, advice=advice)
        self.default_branch = default_branch
        """The remote's default branch, '' where it has none."""


class PushRejected(GitError):
    """The remote refused the branch."""

    category = "push_rejected"
    retryable = False
    elsewhere = True
    advice = "The message holds the remote's reason; check branch rules and the token's write permission."


class PushContentRefused(PushRejected):
    """The remote refuses what the commits hold: a file, a size, a secret, a message. The agent hears its words."""

    category = "push_content_refused"
    retryable = True
    is_guess = False
    """Whether the words say nothing that this server knows, and may as well be about something else."""
    advice = (
        "Say in a follow-up what the remote's rule asks for, or change the rule; then retry: the agent "
        "starts again from "
        "what was pushed before."
    )


class GitHostFailed(GitError):
    """The git host could not take the push: trouble of its own, not of the commits."""

    category = "git_host_failed"
    retryable = True
    elsewhere = True
    advice = "Look at the git host's status, disk space and hooks, then retry: the same commits are pushed."


class PushTooLarge(GitError):
    """The new commits hold more than can be searched, or a file larger than git hosts take."""

    category = "push_too_large"
    retryable = True  # the agent hears what is too large
    advice = (
        "Ask for a change without large generated files; git is no place for them. A retry starts from "
        "what was pushed "
        "before."
    )


class BranchMoved(PushRejected):
    """Somebody else moved or deleted the order's branch on the remote. Nothing of theirs is overwritten."""

    elsewhere = True
    advice = "Retry to build on what is on the remote now."


class BundleRejected(ExpectedError):
    """The commits could not be taken over from the agent's place: they are incomplete, damaged, or not the order's."""

    category = "bundle_rejected"
    retryable = True
    advice = "Retry: the step starts afresh from the commits that were taken over before."


class CommitsMalformed(BundleRejected):
    """Git does not accept a commit, tree or file of the agent's making."""

    category = "commits_malformed"
    retryable = True  # the agent hears which, and what is wrong with it
    advice = (
        "Ask for commits made with plain `git commit`, then retry: the agent starts again from what was accepted "
        "before."
    )


class LockTimeout(SandboxError):
    """Another step held the repository's lock for too long."""

    category = "repository_busy"
    advice = "Many orders share this repository; retry in a moment."


class LockWaitStopped(LockTimeout):
    """The step was stopped while another step held the repository's lock."""
