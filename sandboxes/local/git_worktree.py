"""`git_worktree`: a worktree of a git folder of the order's own, which lies beside the workspace.

Like `git_branch` it borrows the mirror's objects read-only and shares nothing else (docs/adr/0014); here what an agent
does to its working tree leaves commits, refs and index alone. In release 0.1 the orders of one repository shared a git
folder: a place from then can be emptied, and is never gone on in.
"""

from sandboxes.local.git_folder import GitFolder, Worktree
from sandboxes.local.leftovers import OWN_GIT_FOLDER, is_of_shared_clone, shared_clone
from sandboxes.local.sandbox import LocalSandbox


class GitWorktreeSandbox(LocalSandbox):
    def _git_folder(self) -> GitFolder:
        own, name = self._root / OWN_GIT_FOLDER, self.sandbox_identifier
        clone = shared_clone(self.spec.data_dir, self.spec.repository_key)
        if is_of_shared_clone(self._root) and clone.is_dir():
            old = Worktree(self._workspace, name, f"{clone}/worktrees/{name}")
            return self._described(clone, worktree=old, is_shared=True)
        return self._described(
            own, worktree=Worktree(self._workspace, name, f"../{own.name}/worktrees/{name}")
        )

    def _make_git_folder(self) -> None:
        (self._root / OWN_GIT_FOLDER).mkdir(mode=0o700)
        super()._make_git_folder()
