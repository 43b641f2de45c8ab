"""`git_worktree`: a worktree of an agent-side clone that the orders of one repository share.

The clone's git folder is writable for all of them, so the server never runs git on it outside isolation;
its metadata is changed under one lock per repository. Worktrees are locked in git's sense, because inside
one sandbox the others' folders cannot be seen and would look prunable.
"""

import shutil
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sandboxes.errors import SandboxError
from sandboxes.host_lock import exclusive_lock
from sandboxes.local import CHECK_OUT, HOOK, LocalSandbox, git_config

_DROP = """
[ ! -d "worktrees/$1" ] || chmod -R u+rwx -- "worktrees/$1"
rm -rf -- "worktrees/$1"
"""
_ADD = f"""set -e{_DROP}# The base branch is a comfort only, and an older `a` may be in the way of `a/b`.
printf 'update refs/heads/%s %s\\nupdate refs/remotes/origin/%s %s\\n' "$3" "$4" "$5" "$6" |
  git --git-dir=. update-ref --stdin || git --git-dir=. update-ref "refs/heads/$3" "$4"
git --git-dir=. worktree add --quiet --force --no-checkout --lock -- "$2" "$3"
echo added
cd -- "$2"
exec {CHECK_OUT}
"""
# Puts back what git needs to take the folder for a repository and clears what a killed git leaves. Of refs only
# the order's own goes, and packed ones that nobody can read any more; never an object. Other orders' agents work in it
# meanwhile, so a file that is there is never missing for a moment.
_MEND = """set -e
put() {
  if [ -L "$1" ] || [ ! -f "$1" ]; then rm -rf -- "$1"; fi
  rm -rf -- "$1.mended"
  printf '%s' "$2" > "$1.mended"
  case "$1" in hooks/*) chmod 755 "$1.mended" ;; esac
  mv -f -- "$1.mended" "$1"
}
for name in refs objects objects/info hooks; do
  if [ -L "$name" ] || [ ! -d "$name" ]; then rm -rf -- "$name"; mkdir -- "$name"; fi
done
rm -rf -- *.lock "refs/heads/$4" "refs/heads/$4.lock" "logs/refs/heads/$4"
[ ! -d refs/remotes ] || find refs/remotes -name '*.lock' -delete
put HEAD "ref: refs/heads/main
"
put config "$1"
put objects/info/alternates "$2
"
put hooks/prepare-commit-msg "$3"
git --git-dir=. for-each-ref > /dev/null 2>&1 || rm -rf -- packed-refs
"""
_FORGET = f"""{_DROP}exec git --git-dir=. update-ref -d "refs/heads/$2"
"""


@dataclass(frozen=True)
class _Added:
    """How making a worktree went; `filling`: it was made, and its files were being written."""

    ok: bool
    filling: bool
    reason: str


class GitWorktreeSandbox(LocalSandbox):
    def _make_checkout(self) -> None:
        with ExitStack() as lock:
            lock.enter_context(self._metadata_lock())
            self._ensure_shared_clone()
            added = self._add(lock)
            if not added.ok and not added.filling:
                self._mend()
                added = self._add(lock)
        if not added.ok:
            raise SandboxError(f"git worktree add failed: {added.reason}")

    def _add(self, lock: ExitStack) -> _Added:
        """Make and fill the worktree in one isolated command; other orders need not wait for the filling."""
        spec, filling = self.spec, False

        def on_stdout(_chunk: bytes) -> None:
            nonlocal filling
            filling = True
            lock.close()

        names = (spec.sandbox_identifier, self.workspace, spec.git_branch_name, spec.start_sha)
        result = self._run(
            ("sh", "-c", _ADD, "sh", *names, spec.base_branch, spec.base_sha),
            folder=self._shared_git_dir,
            more_writable=(self._workspace,),
            on_stdout=on_stdout,
        )
        return _Added(result.ok, filling, result.stderr.decode("utf-8", "replace")[-500:])

    def _mend(self) -> None:
        """Give the shared git folder back what an agent took from it, or a killed git left in it."""
        shell = ("sh", "-c", _MEND, "sh", git_config(bare=True))
        self._run(
            (*shell, str(self.spec.mirror_path / "objects"), HOOK, self.spec.git_branch_name),
            folder=self._shared_git_dir,
        )

    def _git_folders(self) -> tuple[Path, ...]:
        return (self._shared_git_dir,)

    def _git_dir(self) -> Path:
        return self._shared_git_dir / "worktrees" / self.sandbox_identifier

    def _common_dir(self) -> Path:
        return self._shared_git_dir

    def _forget_checkout(self) -> None:
        if not self._shared_git_dir.is_dir():
            return
        with self._metadata_lock():
            self._run(
                ("sh", "-c", _FORGET, "sh", self.sandbox_identifier, self.spec.git_branch_name),
                folder=self._shared_git_dir,
            )

    @property
    def _shared_git_dir(self) -> Path:
        return self.spec.data_dir / "clones" / f"{self.spec.repository_key}.git"

    def _metadata_lock(self) -> AbstractContextManager[None]:
        return exclusive_lock(self.spec.data_dir / "locks" / f"{self.spec.repository_key}.clone.lock")

    def _ensure_shared_clone(self) -> None:
        """Made outside isolation, complete, and only then moved to where agents reach it."""
        if self._shared_git_dir.is_dir():
            return
        fresh = self._shared_git_dir.with_name(uuid4().hex)
        fresh.mkdir(mode=0o700, parents=True)
        try:
            self._make_git_folder(fresh, branch="main", bare=True)
            fresh.rename(self._shared_git_dir)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
