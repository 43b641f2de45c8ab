"""`git_branch`: a private clone on the order's branch, borrowing the mirror's objects read-only.

Not hard links, as docs/adr/0004 explains: a hard link shares a writable inode with the trusted mirror.
"""

from sandboxes.local.git_folder import GitFolder
from sandboxes.local.sandbox import LocalSandbox


class GitBranchSandbox(LocalSandbox):
    def _git_folder(self) -> GitFolder:
        return self._described(self._workspace / ".git", worktree=None)
