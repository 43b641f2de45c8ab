"""`git_branch`: a private clone on the order's branch, borrowing the mirror's objects read-only.

Not hard links, as docs/adr/0004 explains: a hard link shares a writable inode with the trusted mirror.
"""

from pathlib import Path

from sandboxes.local import LocalSandbox


class GitBranchSandbox(LocalSandbox):
    def _make_checkout(self) -> None:
        spec = self.spec
        folder = Path(self.workspace)
        self._fresh_git(
            folder, "init", "--quiet", "--template=", f"--initial-branch={spec.git_branch_name}", "."
        )
        self._borrow_mirror_objects(self._git_dir())
        refs = (
            f"create refs/heads/{spec.git_branch_name} {spec.start_sha}\n"
            f"create refs/remotes/origin/{spec.base_branch} {spec.base_sha}\n"
        )
        self._fresh_git(folder, "update-ref", "--stdin", stdin=refs.encode())
        self._install_hook(self._git_dir())
        self._check_out()
