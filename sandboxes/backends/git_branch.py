"""`git_branch`: a private clone on the order's branch, borrowing the mirror's objects read-only.

Not hard links, as docs/adr/0004 explains: a hard link shares a writable inode with the trusted mirror.
"""

from sandboxes.local import LocalSandbox


class GitBranchSandbox(LocalSandbox):
    def _make_checkout(self) -> None:
        """The refs are written as packed ones, without starting git: so no name of theirs is ever a path."""
        spec, git_dir = self.spec, self._git_dir()
        self._make_git_folder(git_dir, branch=spec.git_branch_name, bare=False)
        refs = (
            f"{spec.start_sha} refs/heads/{spec.git_branch_name}\n"
            f"{spec.base_sha} refs/remotes/origin/{spec.base_branch}\n"
        )
        (git_dir / "packed-refs").write_text(refs)
        self._check_out()
