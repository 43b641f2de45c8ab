"""What the two local backends share: folders, running commands in isolation, bundling, removal.

Trusted side and sandbox meet here. Once an agent has been in a workspace the server touches it only by
starting isolated commands in it and by renaming it away; it never runs git there itself and never follows a
path inside; what git needs to work there is put back without following one (`git_folder`).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from sandboxes.base import (
    SETTINGS_IN_HOME,
    CommandExecutionResult,
    Remains,
    SandboxCommand,
    SandboxSpec,
    SandboxState,
)
from sandboxes.errors import SandboxError, WorkspaceBusy
from sandboxes.exporting import ScriptRun, export
from sandboxes.files.disk import discard, open_up, set_aside
from sandboxes.git_texts import OPEN_UP, OWN_COMMANDS, TRAILERS_INSIDE
from sandboxes.local.borrowing import NOTHING_BORROWED, Borrowed, borrowing
from sandboxes.local.extras import LocalExtras
from sandboxes.local.git_folder import GitFolder, Worktree
from sandboxes.local.leftovers import kept_places, tag_prefix, workspace_lock_path
from sandboxes.local.place_note import PlaceNote, read_note
from sandboxes.local.workspace_lock import WorkspaceLock, remove_if_free
from sandboxes.processes import run as process
from sandboxes.processes.isolation import AGENT_UID, bounded_argv, isolated_argv
from sandboxes.processes.run import ExitReason, ProcessControl, ProcessLimits
from sandboxes.sweep.bundle_script import BUNDLE_SCRIPT, TAKE
from sandboxes.sweep.rules import Exported, LeftOut, merged, work_in

AGENT_NICENESS = 10
_SMALL_SECONDS = 120.0
_BUNDLE_SECONDS = 600.0
CHECK_OUT = "git -c checkout.workers=2 reset --quiet --hard --no-recurse-submodules"
_PASSWD = f"agent:x:{AGENT_UID}:{AGENT_UID}:agent:/:/bin/sh\n"


class LocalSandbox:
    """A folder on this host, `<data dir>/sandboxes/<identifier>`, with the agent's HOME elsewhere.

    The folder holds the checkout (named like the sandbox, so that worktrees have distinct names) and
    `trusted/`, which no agent sees: the trailers, and a note of whether all work is in git (`place_note`).

    Subclasses say where its git folder is (`_git_folder`), which is this order's alone: in the workspace, or beside it.
    """

    shares_host = True
    lfs_limit_bytes: int | None = None

    def __init__(self, spec: SandboxSpec) -> None:
        self.spec = spec
        self.sandbox_identifier = spec.sandbox_identifier
        self.left_out: tuple[LeftOut, ...] = ()
        self.last_export = Exported(False)
        self.unplaced: tuple[str, ...] = ()
        self._root = spec.data_dir / "sandboxes" / spec.sandbox_identifier
        self._workspace = self._root / spec.sandbox_identifier
        self._note = self._root / "trusted" / "note.json"
        self._home = spec.data_dir / "homes" / spec.sandbox_identifier
        self._tag = tag_prefix(spec.data_dir, spec.sandbox_identifier)
        path = workspace_lock_path(spec.data_dir, spec.sandbox_identifier)
        self._lock = WorkspaceLock(path, attempt=spec.attempt, tag_prefix=self._tag)

    # --- what differs between the backends ---

    def _git_folder(self) -> GitFolder:
        """The one that is there now, or will be."""
        raise NotImplementedError

    def _make_git_folder(self) -> None:
        self._git_folder().make()

    def _described(self, path: Path, *, worktree: Worktree | None, is_shared: bool = False) -> GitFolder:
        spec = self.spec
        return GitFolder(
            path=path,
            objects=spec.mirror_path / "objects",
            branch=spec.git_branch_name,
            start_sha=spec.start_sha,
            base_branch=spec.base_branch,
            base_sha=spec.base_sha,
            trash=spec.data_dir / "trash",
            replaced=self._root / "replaced",
            worktree=worktree,
            is_shared=is_shared,
        )

    # --- the Protocol ---

    @property
    def handle(self) -> str:
        return self.sandbox_identifier

    @property
    def workspace(self) -> str:
        return str(self._workspace)

    def setup(self) -> None:
        try:
            self._take_over()
            self._discard()
            for folder in (self._workspace, self._note.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open_home()
            self._write_trailers()
            self._extras.write(self.spec.extras)
            self._make_git_folder()
            self._check_out()
            self.unplaced = self._extras.place_submodules(self.spec.extras, self._run)
            self._forget_settings()
            PlaceNote(start_sha=self.spec.start_sha).write(self._note)
        except OSError as error:
            raise SandboxError(f"The workspace could not be made: {error}.") from error

    def attach(self, handle: str) -> bool:
        if handle != self.handle or not self._workspace.is_dir():
            return False
        self._take_over()
        note = read_note(self._note)
        fits = note.head_sha == self.spec.start_sha and self._stands_ready()
        try:
            if note.head_sha:  # whoever dies in here leaves no claim of order behind
                after = PlaceNote(start_sha=self.spec.start_sha) if fits else replace(note, head_sha="")
                after.write(self._note)
            if not fits:
                return False
            self._open_home()
            self._write_trailers()
            self._forget_settings()
        except OSError:
            return False
        return True

    def _put_back(self) -> bool:
        """Give git in the place back what it needs, and the server's settings, which an agent may have changed.

        Once nothing runs there any more. False where that cannot be done.
        """
        try:
            open_up(str(self._workspace))
            self._git_folder().put_back()
        except OSError:
            return False
        return True

    def _stands_ready(self) -> bool:
        """Whether the mended place is at `start_sha`, be it on another branch; it is on the order's own then."""
        folder = self._git_folder()
        if folder.is_shared or not self._put_back() or folder.head_sha() != self.spec.start_sha:
            return False
        try:
            folder.stand_on_branch()
        except OSError:
            return False
        return True

    def _take_over(self) -> None:
        self._lock.take_over(sweep=self.spec.isolation.mode == "none")

    def mark_idle(self, head_sha: str) -> None:
        if self._lock.is_ours():
            PlaceNote(head_sha=head_sha, left_out=work_in(self.left_out)).write(self._note)

    def mark_taken(self) -> None:
        if self._lock.is_ours():
            PlaceNote(left_out=work_in(self.left_out)).write(self._note)

    def reclaim(self, handle: str) -> Remains | None:  # noqa: ARG002  # there is but one place of that name
        note = read_note(self._note)
        if not note.holds_work:
            return None
        self._take_over()
        if note.start_sha:
            self.spec = replace(self.spec, start_sha=note.start_sha)
        return Remains(self.spec.start_sha, note.left_out)

    def set_aside(self) -> str:
        if not self._lock.is_ours():
            raise WorkspaceBusy(f"Another attempt has {self.sandbox_identifier} by now.")
        try:
            return str(set_aside(self._root, kept_places(self.spec.data_dir)))
        except OSError as error:
            raise SandboxError(f"The place could not be set aside: {error}.") from error

    def execute_command(
        self,
        command: SandboxCommand,
        *,
        control: ProcessControl | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> CommandExecutionResult:
        isolation = self.spec.isolation
        is_bounded = isolation.mode == "bubblewrap"
        return self._run(
            bounded_argv(command.argv, isolation) if is_bounded else command.argv,
            stdin=command.stdin,
            environment={**command.environment, **command.secrets},
            limits=ProcessLimits(
                total_seconds=command.timeout_seconds,
                silence_seconds=command.silence_seconds,
                output_bytes=command.output_limit_bytes,
            ),
            control=control,
            on_stdout=on_stdout,
            readable=command.program_folders,
        )

    def write_file(self, path: str, content: bytes) -> None:
        """Written by a process inside the sandbox, so that a planted link leads nowhere else."""
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
        target = str(self._home / path.removeprefix("~/")) if path.startswith("~/") else path
        result = self._run(("sh", "-c", script, "sh", target), stdin=content)
        if not result.ok:
            raise SandboxError(f"Could not write {path} in the sandbox: {_tail(result)}")

    def export_bundle(self, destination: Path, *, limit_bytes: int, leftovers_message: str = "") -> bool:
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        def run(arguments: Sequence[str], stdin: bytes) -> ScriptRun:
            is_first = bool(leftovers_message) and TAKE not in arguments
            before = self._before_leftovers() if is_first else ""
            with self._borrowing() if leftovers_message else nullcontext(NOTHING_BORROWED) as borrowed:
                result = self._run(
                    ("sh", "-c", f"{before}{BUNDLE_SCRIPT}", "sh", *arguments),
                    stdin=stdin,
                    stdout_path=destination,
                    environment={**OWN_COMMANDS, "LC_ALL": "C", **borrowed.variables},
                    limits=ProcessLimits(total_seconds=_BUNDLE_SECONDS, output_bytes=limit_bytes),
                    more_writable=borrowed.folders,
                )
            ended = result.reason is ExitReason.EXITED
            reason = "" if ended else f"it did not end by itself ({result.reason})"
            said = result.stderr.decode("utf-8", "replace")
            return ScriptRun(result.exit_code, said, reason, too_long=result.truncated)

        exported = export(
            run,
            destination,
            spec=self.spec,
            limit_bytes=limit_bytes,
            leftovers_message=leftovers_message,
        )
        self.last_export = exported
        if leftovers_message:
            self.left_out = merged(exported.left_out, self._extras.changed(self._run))
        return exported.has_commits

    def _borrowing(self) -> AbstractContextManager[Borrowed]:
        folder = self._git_folder()
        return borrowing(
            self._root,
            git_dir=folder.own_path,
            common_dir=folder.path,
            objects=self.spec.mirror_path / "objects",
        )

    def export_lfs(self, destination: Path, *, limit_bytes: int) -> bool:
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._extras.export_lfs(destination, self._run, limit_bytes=limit_bytes)

    def get_current_state(self) -> SandboxState:
        """HEAD's log grows by a line whenever HEAD moves; its size and time are read without following links."""
        if not self._workspace.is_dir():
            return SandboxState(exists=False)
        try:
            seen = os.lstat(self._git_folder().own_path / "logs" / "HEAD")
        except OSError:
            return SandboxState(exists=True)
        return SandboxState(exists=True, change_marker=f"{seen.st_size}-{seen.st_mtime_ns}")

    def holds_session(self, session_id: str) -> bool | None:
        transcripts = self._home / ".claude" / "projects"
        if not transcripts.is_dir():
            return None if self._home.is_dir() else False
        return any(transcripts.glob(f"*/{session_id}.jsonl"))

    def cleanup(self) -> None:
        self._take_over()
        self._discard()
        remove_if_free(workspace_lock_path(self.spec.data_dir, self.sandbox_identifier))

    # --- inside the place ---

    def _check_out(self) -> None:
        """Fill the workspace with the branch's files; in isolation, since attributes may name filters."""
        result = self._run(("sh", "-c", f"exec {CHECK_OUT}"))
        if not result.ok:
            raise SandboxError(f"The checkout failed: {_tail(result)}")

    def _before_leftovers(self) -> str:
        """Mend the place for the server's own git, and what of that is to be done inside, as a script.

        Where it cannot be mended git says so itself. Without an index git would take every file that is ignored, but
        in the commit all the same, for one that was removed.
        """
        if not self._put_back():
            with suppress(OSError):
                self._git_folder().make_anew()
        index = "" if self._git_folder().has_index() else "git read-tree HEAD 1>&2\n"
        return f"{OPEN_UP}{index}"

    def _run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = OWN_COMMANDS,
        limits: ProcessLimits | None = None,
        control: ProcessControl | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        stdout_path: Path | None = None,
        readable: Sequence[Path] = (),
        more_writable: Sequence[Path] = (),
    ) -> CommandExecutionResult:
        """One command in the workspace, isolated where so configured."""
        isolation = self.spec.isolation
        isolated = isolation.mode == "bubblewrap"
        if isolated:
            argv = isolated_argv(
                argv,
                settings=isolation,
                workspace=self._workspace,
                home=self._home if self._home.is_dir() else self._workspace,
                writable=(*self._git_folder().outside_workspace, *more_writable),
                readable=(*readable, self.spec.mirror_path / "objects", *self._extras.readable()),
                hidden=(self.spec.data_dir,),
                files={
                    Path("/etc/passwd"): self._passwd_file(),
                    **self._shown_trailers(),
                    **self._extras.files(),
                },
            )
        result = process.run(
            argv,
            env={**self._base_environment(), **self._trailers_variable(isolated), **environment},
            cwd=self._workspace,
            stdin=stdin,
            limits=limits or ProcessLimits(total_seconds=self._small_seconds, output_bytes=1024 * 1024),
            control=control,
            on_stdout=on_stdout,
            stdout_path=stdout_path,
            nice=AGENT_NICENESS,
            sweep=not isolated,
            hand_over=(self._lock.share(),),
            tag_prefix=self._tag,
        )
        return CommandExecutionResult(
            exit_code=result.exit_code,
            reason=result.reason,
            stdout=result.stdout,
            stderr=result.stderr,
            truncated=result.truncated,
            duration_seconds=result.duration_seconds,
        )

    def _passwd_file(self) -> Path:
        """A user database of one, shared by all sandboxes: programs fail when their uid has no entry."""
        path = self.spec.data_dir / "run" / "passwd"
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(uuid4().hex)
            fresh.write_text(_PASSWD)
            fresh.rename(path)
        return path

    def _base_environment(self) -> dict[str, str]:
        spec = self.spec
        return {
            "PATH": spec.isolation.search_path,
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp" if spec.isolation.mode == "bubblewrap" else str(self._temporary()),  # noqa: S108  # nosec B108  # private to the sandbox
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": spec.committer_name,
            "GIT_AUTHOR_EMAIL": spec.committer_email,
            "GIT_COMMITTER_NAME": spec.committer_name,
            "GIT_COMMITTER_EMAIL": spec.committer_email,
            **self._extras.environment(),
        }

    def _temporary(self) -> Path:
        """Where there is no isolation, and so no `/tmp` of the sandbox's own."""
        folder = self._root / "tmp"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _open_home(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_up(str(self._home))

    def _forget_settings(self) -> None:
        """HOME stays for the agent's transcript; what one step left there must not rule the next.

        Removed inside the sandbox: on the way there may be links.
        """
        left = [self._home / name for name in SETTINGS_IN_HOME]
        if any(os.path.lexists(path) for path in left):
            self._run(("rm", "-rf", "--", *map(str, left)))

    @property
    def _small_seconds(self) -> float:
        """A filter is started for each of LFS's files."""
        return _BUNDLE_SECONDS if self._extras.known_lfs else _SMALL_SECONDS

    @property
    def _extras(self) -> LocalExtras:
        isolated = self.spec.isolation.mode == "bubblewrap"
        return LocalExtras(self._note.parent, self._git_folder().own_path, isolated=isolated)

    @property
    def _trailers(self) -> Path:
        """On the trusted side; agents get to read it."""
        return self._note.parent / "trailers"

    def _write_trailers(self) -> None:
        self._trailers.write_text("".join(f"{line}\n" for line in self.spec.trailers))

    def _shown_trailers(self) -> dict[Path, Path]:
        return {TRAILERS_INSIDE: self._trailers} if self._trailers.is_file() else {}

    def _trailers_variable(self, isolated: bool) -> dict[str, str]:
        return {} if isolated else {"WORKORDERS_TRAILERS_FILE": str(self._trailers)}

    def _discard(self) -> None:
        """Rename first, so that a half-removed folder is never taken for a place to work."""
        if self._root.exists():
            discard(self._root, self.spec.data_dir / "trash")


def _tail(result: CommandExecutionResult) -> str:
    return result.stderr.decode("utf-8", "replace").strip()[-500:] or f"exit code {result.exit_code}"
