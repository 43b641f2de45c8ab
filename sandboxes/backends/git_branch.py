"""`git_branch`: a private clone on the order's branch, borrowing the mirror's objects read-only.

Not hard links, as docs/adr/0004 explains: a hard link shares a writable inode with the trusted mirror.
"""

from sandboxes.local import LocalSandbox

_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""


class GitBranchSandbox(LocalSandbox):
    def _make_checkout(self) -> None:
        """What `git init` and `git update-ref` would write, without starting them: nobody has been in there yet.

        The refs are written as packed ones, so that no name of theirs is ever a path.
        """
        spec, git_dir = self.spec, self._git_dir()
        (git_dir / "refs").mkdir(parents=True)
        refs = (
            f"{spec.start_sha} refs/heads/{spec.git_branch_name}\n"
            f"{spec.base_sha} refs/remotes/origin/{spec.base_branch}\n"
        )
        (git_dir / "packed-refs").write_text(refs)
        (git_dir / "HEAD").write_text(f"ref: refs/heads/{spec.git_branch_name}\n")
        (git_dir / "config").write_text(_CONFIG)
        self._borrow_mirror_objects(git_dir)
        self._install_hook(git_dir)
        self._check_out()
